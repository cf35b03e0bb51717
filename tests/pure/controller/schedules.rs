//! Random schedules: facts, the ends of work, failures, external changes, restarts and the time come in any order, and the node
//! ends up right, opens nothing on the way, and never spins.

use super::driven::{DrivenNode, Seen};
use super::kernel::Shared;
use super::{NODE, is_member, labelled, namespace, web_takes};
use bridgewarden::apply::Connection;
use bridgewarden::controller::{Event, NamespaceWatch};
use bridgewarden::model::{Change, PodKey};
use bridgewarden::net::{Family, Flow, Protocol};
use bridgewarden::netfilter::BackendName;
use bridgewarden::render::Options;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use support::outcome::assert_same_content;
use support::story_node::{Order, StoryNode, fact, first_lists};
use support::worlds::{self, Random, Scene, Story, check_stories};

/// How long after the last event the node is left alone: longer than any pause, and than two audits.
const CALM: [Duration; 4] = [Duration::from_secs(31); 4];

#[test]
fn whatever_the_schedule_the_kernel_ends_up_as_facts_say_and_nothing_opens_on_the_way() {
    let mut seen = Seen::default();
    let (mut restarts, mut edits, mut cuts, mut uncuttable) = (0, 0, 0, 0);
    check_stories(worlds::stories(200), |seed, story| {
        let mut schedule = Schedule::new(seed, story);
        schedule.play(story);
        schedule.end();
        let node = &schedule.node;
        seen.concurrent_writes += node.seen.concurrent_writes;
        seen.verified += node.seen.verified;
        seen.failures += node.seen.failures;
        seen.settled += node.seen.settled;
        seen.judged += node.seen.judged;
        restarts += schedule.restarts;
        edits += schedule.edits;
        cuts += node.kernel.state().marked.len();
        uncuttable += usize::from(node.health.ready().is_err());
    });
    let Seen { concurrent_writes, failures, settled, judged, verified } = seen;
    assert!(
        concurrent_writes > 10 && failures > 100 && settled > 200 && judged > 10_000,
        "{concurrent_writes} concurrent writes, {failures} failures, {settled} times settled, {judged} open flows judged"
    );
    assert!(verified > 50, "{verified} verifications");
    assert!(
        restarts > 50 && edits > 100 && cuts > 15 && uncuttable > 2,
        "{restarts} restarts, {edits} edits, {cuts} cuts, {uncuttable} schedules with one that cannot be cut"
    );
}

/// What is read may be older than a set update that was written meanwhile.
#[test]
fn member_that_joins_and_leaves_while_the_kernel_is_read_is_in_no_set_afterwards() {
    let mut node = DrivenNode::new(Shared::default(), Instant::now(), None);
    let web = labelled("web", "web", NODE, 10);
    node.deliver(vec![namespace(false), web, web_takes(&[80, 443])], true);
    node.finish_all();
    node.on(Event::ExternalChange);
    assert!(node.is_at_work(), "the kernel is read");
    node.proceed(0);
    node.deliver(vec![labelled("client", "client", "node-b", 20)], false);
    assert!(is_member(&node.kernel, 20), "it is written concurrently");
    let gone = Change::PodGone(PodKey::new("shop", "client"));
    node.deliver(vec![web_takes(&[443]), gone], false);
    node.finish_all();
    assert!(!is_member(&node.kernel, 20));
}

/// A node, and what happens around it.
struct Schedule {
    node: DrivenNode,
    scene: Scene,
    random: Random,
    watch: Option<NamespaceWatch>,
    /// Whether other programs change the kernel.
    is_edited: bool,
    /// Whether the kernel rejects things.
    fails: bool,
    /// Facts that no source has delivered yet.
    undelivered: Vec<Change>,
    ports: u16,
    restarts: usize,
    edits: usize,
}

impl Schedule {
    fn new(seed: u64, story: &Story) -> Schedule {
        // Of its own, so that a story is the same here as elsewhere.
        let mut random = Random::new(seed.rotate_left(32));
        let watch = random.chance(50).then(NamespaceWatch::default);
        Schedule {
            node: DrivenNode::new(Shared::default(), Instant::now(), watch.as_ref()),
            scene: story.start.clone(),
            watch,
            is_edited: random.chance(40),
            fails: random.chance(40),
            random,
            undelivered: Vec::new(),
            ports: 40_000,
            restarts: 0,
            edits: 0,
        }
    }

    fn play(&mut self, story: &Story) {
        self.first_lists();
        for change in &story.changes {
            change.apply(&mut self.scene);
            self.undelivered.extend(fact(change, NODE));
            if self.random.chance(70) {
                self.deliver();
            }
            for _ in 0..self.random.below(6).saturating_sub(1) {
                self.happen();
            }
            if self.random.chance(2) {
                self.restart();
            }
        }
        if self.random.chance(20) {
            self.restart();
        }
        self.deliver();
    }

    fn deliver(&mut self) {
        for _ in 0..self.random.below(4) {
            self.connect();
        }
        let changes = std::mem::take(&mut self.undelivered);
        self.node.deliver(changes, false);
        if self.random.chance(15) {
            self.node.judge(&self.scene, &mut self.random);
        }
    }

    /// The sources deliver all that is, in pieces.
    fn first_lists(&mut self) {
        let mut facts = first_lists(NODE, &self.scene);
        while !facts.is_empty() {
            let piece = facts.split_off(self.random.below(facts.len()));
            self.node.deliver(piece, facts.is_empty());
            for _ in 0..self.random.below(3) {
                self.happen();
            }
        }
    }

    fn restart(&mut self) {
        self.restarts += 1;
        self.undelivered.clear();
        self.node.restart(self.watch.as_ref());
        self.first_lists();
    }

    /// Anything but a fact.
    fn happen(&mut self) {
        match self.random.below(16) {
            0..=4 => self.node.finish(false),
            5..=7 => {
                self.node.proceed(self.random.below(6));
                self.node.judge(&self.scene, &mut self.random);
            }
            8 if self.fails => self.node.finish(true),
            9 if self.fails => self.fail_soon(),
            8..=9 => self.node.finish(false),
            10..=11 => self.node.passes(Duration::from_millis(self.random.below(300) as u64)),
            12 => self.node.on(Event::Heartbeat),
            13 => {
                self.node.passes(Duration::from_secs(self.random.below(70) as u64));
                self.node.on(Event::Heartbeat);
            }
            14 if self.is_edited => self.edit(),
            _ => self.node.on(Event::ExternalChange),
        }
    }

    /// The kernel rejects one of the next steps, lists or cuts.
    fn fail_soon(&mut self) {
        let mut state = self.node.kernel.state();
        match self.random.below(4) {
            0..=1 => state.fake.fail_after(self.random.below(5)),
            2 => state.hides_connections = 1,
            _ => state.rejects_cuts = 1 + self.random.below(3),
        }
    }

    /// A connection begins that policies allow, at a moment when they are in force. Of one address none can be cut.
    fn connect(&mut self) {
        let enforcer = self.node.reconciler.enforcer();
        if self.node.is_at_work() || enforcer.is_behind() {
            return;
        }
        let addresses: Vec<IpAddr> = self.scene.pods.iter().flat_map(worlds::addresses).collect();
        let Some(destination) = (!addresses.is_empty()).then(|| *self.random.pick(&addresses)) else {
            return;
        };
        let alike =
            |address: &&IpAddr| address.is_ipv4() == destination.is_ipv4() && **address != destination;
        let others: Vec<IpAddr> = addresses.iter().filter(alike).copied().collect();
        let Some(source) = (!others.is_empty()).then(|| *self.random.pick(&others)) else { return };
        let (protocol, port) = *self.random.pick(&worlds::PORTS);
        if !enforcer.decide(&Flow { source, destination, port: Some((protocol, port)) }).is_allowed() {
            return;
        }
        self.ports += 1;
        let mut state = self.node.kernel.state();
        state.live.push(Connection {
            protocol: protocol.number(),
            source,
            source_port: self.ports,
            dialled: destination,
            dialled_port: port,
            destination,
            destination_port: port,
            is_of_this_host: false,
            mark: 0,
            tuple: Vec::new(),
        });
        if self.random.chance(10) {
            state.uncuttable = Some(source);
        }
    }

    /// Another program changes our rules or sets, and may or may not be noticed.
    fn edit(&mut self) {
        self.edits += 1;
        self.node.was_edited = true;
        let mut state = self.node.kernel.state();
        let family = *self.random.pick(&Family::BOTH);
        match self.random.below(3) {
            0 => {
                let table = state.fake.table(family);
                let chains: Vec<String> =
                    table.keys().filter(|name| !table[*name].is_empty()).cloned().collect();
                if let Some(rules) =
                    (!chains.is_empty()).then(|| table.get_mut(self.random.pick(&chains))).flatten()
                {
                    rules.remove(self.random.below(rules.len()));
                }
            }
            1 => drop(state.fake.table(family).insert("FORWARD".into(), Vec::new())),
            _ => {
                let sets = state.fake.sets();
                let names: Vec<_> = sets.keys().cloned().collect();
                if let Some(set) =
                    (!names.is_empty()).then(|| sets.get_mut(self.random.pick(&names))).flatten()
                {
                    set.elements.pop_first();
                }
            }
        }
        drop(state);
        if self.random.chance(50) {
            self.node.on(Event::ExternalChange);
        }
    }

    /// Nothing more happens: the kernel is right, and so is what is reported of it. Then the sources end.
    fn end(&mut self) {
        let mut state = self.node.kernel.state();
        state.fake.fail_after(usize::MAX);
        (state.hides_connections, state.rejects_cuts) = (0, 0);
        drop(state);
        for calm in CALM {
            self.node.finish_all();
            self.node.passes(calm);
            self.node.on(Event::Heartbeat);
        }
        self.node.finish_all();
        self.node.on(Event::Heartbeat);
        let scratch = StoryNode::start(BackendName::default(), NODE, &self.scene, Order::Usual).kernel;
        assert_same_content(&self.node.kernel.state().fake, &scratch, "in the end");
        self.assert_connections();
        self.assert_gauges();
        self.node.on(Event::SourcesEnded);
        self.node.finish_all();
        assert!(self.node.has_stopped(), "it does not stop after the sources");
    }

    /// Each connection is cut exactly if it is denied, but for those that cannot be cut, which are reported.
    fn assert_connections(&self) {
        let state = self.node.kernel.state();
        let bit = Options::default().mark;
        let mut fails = false;
        for live in &state.live {
            let port = Protocol::from_number(live.protocol).map(|protocol| (protocol, live.destination_port));
            let flow = Flow { source: live.source, destination: live.destination, port };
            let is_denied = !self.node.reconciler.enforcer().decide(&flow).is_allowed();
            let is_cut = live.mark & bit != 0;
            let is_spared = is_denied && !is_cut && state.uncuttable == Some(live.source);
            fails |= is_spared;
            assert!(is_denied == is_cut || is_spared, "denied: {is_denied}, cut: {is_cut}: {live:?}");
        }
        let reasons = self.node.health.ready().err().unwrap_or_default();
        let named: Vec<&str> = reasons.iter().map(|(check, _)| *check).collect();
        assert_eq!(named, if fails { vec!["connections"] } else { Vec::new() }, "{reasons:?}");
    }

    /// The metrics say what the kernel holds, and that nothing waits.
    fn assert_gauges(&self) {
        let text = self.node.metrics.text();
        let value = |name: &str| -> Option<usize> {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("bridgewarden_{name} ")))?;
            line.parse().ok()
        };
        assert_eq!(value("policies"), Some(self.scene.policies.len()), "policies");
        assert_eq!(value("pending_changes"), Some(0), "pending changes");
        if !self.is_edited {
            assert_eq!(value("drift_repairs_total"), Some(0), "no other program changed the kernel");
        }
        let mut kernel = self.node.kernel.state().fake.clone();
        for family in Family::BOTH {
            let chains = kernel.chains(family);
            let sets: Vec<_> = kernel.sets().values().filter(|set| set.kind.family == family).collect();
            let word = format!("{family:?}").replace('V', "ipv");
            for (name, count) in [
                ("chains", chains.len()),
                ("rules", chains.values().map(Vec::len).sum()),
                ("sets", sets.len()),
                ("set_members", sets.iter().map(|set| set.elements.len()).sum()),
            ] {
                let name = format!("{name}{{family=\"{word}\"}}");
                assert_eq!(value(&name), Some(count), "{name}");
            }
        }
    }
}
