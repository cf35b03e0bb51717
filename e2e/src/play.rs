//! Runs a scenario: first everything is open, after each step its table holds, and in the end, when enforcement is
//! removed, everything is open again.

use crate::cluster::{ScenarioCluster, outside_listens};
use crate::dns;
use crate::expectation::{Expectation, ProbeExpectation, expectations};
use crate::guarded::Guarded;
use crate::key::ObjectKey;
use crate::scenario::{Scenario, ScenarioConnection, ScenarioStep};
use crate::verb::Verb;
use crate::world::ScenarioWorld;
use anyhow::{Context, Result, bail, ensure};
use bridgewarden::net::Protocol;
use bridgewarden::testbed::{Endpoint, ProbeOutcome, Prober, Push, Stream};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use support::reach::{Cell, Name, Row, Table};

/// How often a matrix that is correct is measured again.
const HELD: usize = 3;
/// How long nothing may arrive for a connection to count as cut.
const SILENCE: Duration = Duration::from_millis(300);
/// The pause between two measurements, so that they do not take processor time from the agents.
const PAUSE: Duration = Duration::from_millis(10);

/// How long after a change the matrix was correct for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepLatency {
    /// The step.
    pub when: String,
    /// How long.
    pub after: Duration,
}

/// Runs a scenario in a world, and removes it. After a failure, logs, rules and sets are written below `records`.
///
/// # Errors
/// The first step whose expectations do not hold, and every pair that differs.
pub fn play(scenario: &Scenario, world: &mut dyn ScenarioWorld, records: &Path) -> Result<Vec<StepLatency>> {
    let played = Play::begin(scenario, world).and_then(|mut play| play.through(scenario));
    let explained = played.map_err(|error| {
        let dumped = match world.dump(records) {
            Ok(()) => format!("logs, rules and sets are in {}", records.display()),
            Err(problem) => format!("logs, rules and sets could not be had: {problem:#}"),
        };
        anyhow::anyhow!("{}\n{error:#}\n{dumped}", scenario.promise.trim())
    });
    let cleared = world.clear().context("the scenario could not be cleared away");
    let latencies = explained?;
    cleared.map(|()| latencies)
}

struct Play<'w> {
    world: &'w mut dyn ScenarioWorld,
    prober: Prober,
    cluster: ScenarioCluster,
    streams: BTreeMap<ScenarioConnection, Vec<Stream>>,
    promised: BTreeMap<ProbeExpectation, Expectation>,
}

impl Play<'_> {
    fn begin<'w>(scenario: &Scenario, world: &'w mut dyn ScenarioWorld) -> Result<Play<'w>> {
        world.set_up(&scenario.cluster).context("the cluster could not be made")?;
        let mut play = Play {
            world,
            prober: Prober::start()?,
            cluster: scenario.cluster.clone(),
            streams: BTreeMap::new(),
            promised: BTreeMap::new(),
        };
        let outside = play.world.find(&Name::Outside)?;
        if let Some(namespace) = &outside.namespace {
            let addresses: Vec<_> = bridgewarden::testbed::OUTSIDE
                .into_iter()
                .filter(|address| outside.addresses.iter().any(|own| own.is_ipv4() == address.is_ipv4()))
                .collect();
            play.prober.serve(&Endpoint::Outside, namespace, &addresses, &outside_listens())?;
        }
        play.serve(scenario.cluster.pods.keys())?;
        Ok(play)
    }

    fn through(&mut self, scenario: &Scenario) -> Result<Vec<StepLatency>> {
        let tables: Vec<Table> = scenario.steps.iter().flat_map(|step| step.tables.clone()).collect();
        self.is_open(&tables).context("before")?;
        self.world.enforce()?;
        self.is_open(&tables).context("before the first policy")?;
        let mut latencies = Vec::new();
        for step in &scenario.steps {
            let reported = || format!("step {:?}", step.when);
            if let Some(after) = self.take(step).with_context(reported)? {
                latencies.push(StepLatency { when: step.when.clone(), after });
            }
        }
        self.streams.clear();
        self.world.remove_enforcement().context("enforcement could not be ended")?;
        self.is_open(&tables).context("after enforcement was ended")?;
        Ok(latencies)
    }

    /// Waits until all connections of all tables are open.
    fn is_open(&self, tables: &[Table]) -> Result<()> {
        let mut open = BTreeMap::new();
        for one in expectations(&*self.world, &self.cluster, &opened(&self.cluster, tables))? {
            open.insert(one.question.clone(), one);
        }
        let open: Vec<Expectation> = open.into_values().collect();
        self.settle(&open, &Guarded::default()).map(drop)
    }

    fn take(&mut self, step: &ScenarioStep) -> Result<Option<Duration>> {
        if let Some(verb) = &step.verb {
            self.change(verb, step)?;
        }
        let wanted = self.wanted(&step.tables)?;
        let guarded = self.guarded(step, &wanted);
        let changed = Instant::now();
        self.settle(&wanted, &guarded)?;
        let after = changed.elapsed();
        for _ in 0..HELD {
            std::thread::sleep(PAUSE);
            self.hold(&wanted)?;
        }
        self.resolve(&step.resolves)?;
        if !step.tables.is_empty() {
            self.promised = wanted.into_iter().map(|one| (one.question.clone(), one)).collect();
        }
        self.follow_connections(step)?;
        Ok((!step.tables.is_empty() && step.verb.is_some()).then_some(after))
    }

    /// Makes a change, and checks meanwhile the pairs that it must not affect.
    fn change(&mut self, verb: &Verb, step: &ScenarioStep) -> Result<()> {
        let pods: Vec<ObjectKey> = self.cluster.pods.keys().cloned().collect();
        for pod in pods.iter().filter(|pod| verb.ends(pod)) {
            self.prober.stop_listening(&pod.endpoint());
            let goes = |name: &Name| matches!(name, Name::Pod { namespace, name } if ObjectKey::new(namespace, name) == *pod);
            self.promised.retain(|question, _| !goes(&question.source) && !goes(&question.destination));
        }
        if step.tables.is_empty() && !verb.leaves_others_alone() {
            self.promised.clear();
        }
        let refused = self.promised.values().filter(|one| steady_cell(&step.tables, &one.question, one.open));
        let guarded = Guarded::new(refused.cloned(), matches!(verb, Verb::Agents(_)));
        let (world, prober) = (&mut *self.world, &self.prober);
        std::thread::scope(|scope| {
            let acting = scope.spawn(|| world.act(verb));
            let mut watched = Ok(());
            while !acting.is_finished() {
                watched = watched.and_then(|()| guarded.look(prober));
                std::thread::sleep(PAUSE);
            }
            acting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).and(watched)
        })?;
        self.cluster.follow(verb)?;
        if let Verb::Create(pods) = verb {
            self.serve(pods.keys())?;
        }
        Ok(())
    }

    fn wanted(&self, tables: &[Table]) -> Result<Vec<Expectation>> {
        expectations(&*self.world, &self.cluster, tables)
    }

    /// The pairs that are expected to be the same before and after the step.
    fn guarded(&self, step: &ScenarioStep, wanted: &[Expectation]) -> Guarded {
        let same = |one: &&Expectation| {
            self.promised.get(&one.question).is_some_and(|before| before.open == one.open)
        };
        let open_too = matches!(step.verb, Some(Verb::Agents(_)) | None);
        Guarded::new(wanted.iter().filter(same).cloned(), open_too)
    }

    /// Opens listeners of pods.
    fn serve<'k>(&mut self, pods: impl IntoIterator<Item = &'k ObjectKey>) -> Result<()> {
        for key in pods {
            let name = Name::Pod { namespace: key.namespace.clone(), name: key.name.clone() };
            let place = self.world.find(&name)?;
            let namespace = place.namespace.with_context(|| format!("pod {key} has no network"))?;
            let ports: Vec<_> = self.cluster.pods.get(key).into_iter().flat_map(|pod| &pod.ports).collect();
            let ports: Vec<_> = ports.into_iter().map(|port| (port.protocol, port.number)).collect();
            self.prober.serve(&key.endpoint(), &namespace, &place.addresses, &ports)?;
        }
        Ok(())
    }

    /// Probes pairs that differ until none does, and returns how long that took.
    fn settle(&self, wanted: &[Expectation], guarded: &Guarded) -> Result<Duration> {
        let start = Instant::now();
        let mut left: Vec<&Expectation> = wanted.iter().collect();
        loop {
            left = self.differing(&left).into_iter().map(|(one, _)| one).collect();
            if left.is_empty() {
                return Ok(start.elapsed());
            }
            guarded.look(&self.prober)?;
            if start.elapsed() > self.world.deadline() {
                bail!("after {:?}:\n{}", self.world.deadline(), reported(&self.differing(&left)));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Tries everything once more. A datagram may have the ports of a flow that is not cut yet, so it is tried twice.
    fn hold(&self, wanted: &[Expectation]) -> Result<()> {
        let mut differing = self.differing(&wanted.iter().collect::<Vec<_>>());
        if differing.iter().all(|(one, _)| one.question.protocol == Protocol::Udp || one.open) {
            differing = self.differing(&differing.into_iter().map(|(one, _)| one).collect::<Vec<_>>());
        }
        ensure!(differing.is_empty(), "it was right and did not stay so:\n{}", reported(&differing));
        Ok(())
    }

    fn differing<'a>(&self, wanted: &[&'a Expectation]) -> Vec<(&'a Expectation, ProbeOutcome)> {
        let probes = wanted.iter().map(|one| Ok(one.probe.clone())).collect();
        let pairs = wanted.iter().copied().zip(self.prober.try_all(probes));
        pairs.filter(|(one, outcome)| !one.is_met_by(outcome)).collect()
    }

    fn resolve(&self, wanted: &BTreeMap<ObjectKey, bool>) -> Result<()> {
        for (key, wanted) in wanted {
            let server = self.world.resolver()?.context("this world has no DNS")?;
            let name = Name::Pod { namespace: key.namespace.clone(), name: key.name.clone() };
            let namespace = self.world.find(&name)?.namespace.with_context(|| format!("{key} is nowhere"))?;
            let start = Instant::now();
            while dns::resolves(&namespace, server)? != *wanted {
                let wish = if *wanted { "should" } else { "should not" };
                ensure!(start.elapsed() < self.world.deadline(), "{key} {wish} be able to ask the DNS");
            }
        }
        Ok(())
    }

    fn follow_connections(&mut self, step: &ScenarioStep) -> Result<()> {
        for connection in &step.cut {
            let deadline = self.world.deadline();
            for stream in
                self.streams.remove(connection).with_context(|| format!("{connection} is not open"))?
            {
                ensure!(stream.falls_silent(SILENCE, deadline), "{connection} lives and should be cut");
            }
        }
        for connection in &step.live {
            let streams =
                self.streams.get(connection).with_context(|| format!("{connection} is not open"))?;
            let live = streams.iter().all(|stream| stream.moves_within(Duration::from_secs(2)));
            ensure!(live, "{connection} should live and is silent");
        }
        for connection in &step.open {
            let streams = self.streams(connection)?;
            let live = streams.iter().all(|stream| stream.moves_within(Duration::from_secs(2)));
            ensure!(live, "{connection} was opened and is silent");
            self.streams.insert(connection.clone(), streams);
        }
        Ok(())
    }

    /// Over TCP two connections: one over which the client sends, and one over which the server does. What a server
    /// sends over UDP is a separate flow once conntrack has forgotten the client's.
    fn streams(&self, connection: &ScenarioConnection) -> Result<Vec<Stream>> {
        let name = |key: &ObjectKey| Name::Pod { namespace: key.namespace.clone(), name: key.name.clone() };
        let table = Table {
            line: 0,
            port: connection.port,
            protocol: connection.protocol,
            destinations: vec![name(&connection.to)],
            rows: vec![Row { line: 0, source: name(&connection.from), cells: vec![Cell::Allowed] }],
        };
        let pushes: &[Push] = match connection.protocol {
            Protocol::Tcp => &[Push::Client, Push::Server],
            Protocol::Udp | Protocol::Sctp => &[Push::Client],
        };
        let mut streams = Vec::new();
        for one in self.wanted(&[table])? {
            for push in pushes {
                streams.push(self.prober.stream(&connection.from.endpoint(), one.probe.clone(), *push)?);
            }
        }
        Ok(streams)
    }
}

/// Whether tables expect the same as before; without tables, no change is expected.
fn steady_cell(tables: &[Table], question: &ProbeExpectation, open: bool) -> bool {
    let asked = |table: &&Table| (table.protocol, table.port) == (question.protocol, question.port);
    let cells = tables.iter().filter(asked).flat_map(|table| {
        let rows = table.rows.iter().filter(|row| row.source == question.source);
        rows.flat_map(|row| table.destinations.iter().zip(&row.cells))
    });
    let mut cells = cells.filter(|(name, _)| **name == question.destination).map(|(_, cell)| match cell {
        Cell::Allowed | Cell::Reported => open,
        Cell::Denied => !open,
        Cell::Only(family) => (*family == question.family) == open,
        Cell::Unasked => false,
    });
    tables.is_empty() || cells.next().unwrap_or(false)
}

/// The tables without endpoints that do not exist, and with every tested cell allowed.
fn opened(cluster: &ScenarioCluster, tables: &[Table]) -> Vec<Table> {
    let mut opened = Vec::new();
    for table in tables {
        let port = Some((table.protocol, table.port));
        let there: Vec<bool> =
            table.destinations.iter().map(|name| cluster.check(name, port).is_ok()).collect();
        let keep = |index: usize| there.get(index).copied().unwrap_or_default();
        let destinations: Vec<Name> = (table.destinations.iter().cloned().enumerate())
            .filter(|(index, _)| keep(*index))
            .map(|(_, name)| name)
            .collect();
        let cells = |row: &Row| {
            let kept = row.cells.iter().enumerate().filter(|(index, _)| keep(*index));
            kept.map(|(_, cell)| if *cell == Cell::Unasked { Cell::Unasked } else { Cell::Allowed }).collect()
        };
        let rows = table.rows.iter().filter(|row| cluster.check(&row.source, None).is_ok());
        let rows = rows.map(|row| Row { cells: cells(row), ..row.clone() }).collect();
        opened.push(Table { destinations, rows, ..table.clone() });
    }
    opened
}

fn reported(differing: &[(&Expectation, ProbeOutcome)]) -> String {
    differing.iter().map(|(one, outcome)| one.mismatch(outcome)).collect::<Vec<_>>().join("\n")
}
