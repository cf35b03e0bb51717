//! The rules that were read from a kernel, as something that evaluates packets.

use super::{AddressSet, AskedFacts, Evidence};
use crate::apply::{ActualTable, TableRead};
use crate::model::Direction;
use crate::net::{Family, Protocol};
use crate::netfilter::iptables::{self, Chains, Packet, Rule, SetLookup, Target, Variant, parse_rule};
use crate::netfilter::nftables::{self, Frame, HookPoint, Table, trace_packet};
use crate::netfilter::{ChainName, SetName};
use crate::ownership::{BRIDGE_TABLE, INET_TABLE};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The rules that were read from a kernel.
pub(super) struct KernelRules<'a> {
    pub(super) rules: FilterRules<'a>,
    /// The sets and maps that rules ask about addresses, by name.
    pub(super) sets: BTreeMap<Box<str>, AddressSet>,
    /// Whether the bridge shows bridged packets of a family to the packet filter.
    sees_bridged: [bool; 2],
}

/// Which rules of other programs before ours are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OthersAhead {
    /// Those that may let a packet pass: what others deny, policies need not.
    Accepting,
    /// All that can be evaluated.
    All,
}

/// The rules of the backend.
pub(super) enum FilterRules<'a> {
    Iptables(Box<[FilterChains; 2]>),
    Nftables {
        /// Nothing if no rule of it is in force.
        table: Option<&'a Table>,
        /// Why none is.
        absence: String,
        /// The mark that the table of family bridge gives to bridged packets.
        bridged_mark: u32,
    },
}

/// The chains of one family's filter table.
pub(super) struct FilterChains {
    pub(super) chains: Chains,
    /// Why a built-in chain does not lead to ours.
    pub(super) absences: BTreeMap<&'static str, String>,
    /// Why chains could not be understood.
    pub(super) doubts: BTreeMap<Box<str>, String>,
    /// By chain, the rules of others before ours that are not understood and let nothing pass: they drop or reject.
    pub(super) skipped: BTreeMap<Box<str>, Vec<String>>,
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Passage {
    /// Whether it passed.
    pub(super) passes: bool,
    /// The rules that it met, and its end.
    pub(super) path: Vec<String>,
}

/// Why it cannot be said what becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unjudged(pub(super) String);

impl<'a> KernelRules<'a> {
    pub(super) fn of(evidence: &'a Evidence, others: OthersAhead) -> Result<KernelRules<'a>, Unjudged> {
        let (rules, sets) = match evidence.options.backend.variant() {
            Some(variant) => {
                let families = Family::BOTH.map(|family| FilterChains::of(evidence, variant, family, others));
                let sets = evidence.actual.sets.iter();
                let sets =
                    sets.map(|(name, set)| (name.as_str().into(), AddressSet::of_ipset(set))).collect();
                (FilterRules::Iptables(Box::new(families)), sets)
            }
            None => {
                let (table, absence) = inet_table(evidence)?;
                let sets = table.into_iter().flat_map(|table| &table.sets);
                let sets = sets.map(|(name, set)| (name.clone(), AddressSet::of_nftables(set))).collect();
                (FilterRules::Nftables { table, absence, bridged_mark: bridged_mark(evidence) }, sets)
            }
        };
        Ok(KernelRules { rules, sets, sees_bridged: evidence.sees_bridged })
    }

    /// What becomes of a packet at a hook. `explained` asks for the rules that it meets.
    pub(super) fn pass(
        &self,
        point: HookPoint,
        packet: &Packet,
        explained: bool,
    ) -> Result<Passage, Unjudged> {
        let family = packet.family();
        if let Some(why) = self.unseen(packet) {
            return Ok(Passage { passes: true, path: vec![why, "passed".into()] });
        }
        match &self.rules {
            FilterRules::Iptables(families) => {
                self.pass_chains(&families[place(family)], point, packet, explained)
            }
            FilterRules::Nftables { table: None, absence, .. } => {
                Ok(Passage { passes: true, path: vec![absence.clone(), "passed".into()] })
            }
            FilterRules::Nftables { table: Some(table), bridged_mark, .. } => {
                let mark = if packet.bridged { *bridged_mark } else { 0 };
                let packet = nftables::Packet { mark, ..nftables::Packet::from(packet) };
                let traced = trace_packet(table, point, &packet);
                let mut path = Vec::new();
                if explained {
                    path.extend(met_rules(table, &traced));
                    path.push(match traced.outcome {
                        nftables::Outcome::Accepted => "passed".to_owned(),
                        nftables::Outcome::Dropped => "dropped".to_owned(),
                        nftables::Outcome::Rejected(_) => "rejected".to_owned(),
                    });
                }
                Ok(Passage { passes: traced.is_accepted(), path })
            }
        }
    }

    /// Why no rule sees a packet, if the bridge shows it to none.
    pub(super) fn unseen(&self, packet: &Packet) -> Option<String> {
        let sysctl = match packet.family() {
            Family::V4 => "net.bridge.bridge-nf-call-iptables",
            Family::V6 => "net.bridge.bridge-nf-call-ip6tables",
        };
        let unseen = packet.bridged && !self.sees_bridged[place(packet.family())];
        unseen.then(|| format!("the bridge shows it to no rule, because {sysctl} is not 1"))
    }

    fn pass_chains(
        &self,
        family: &FilterChains,
        point: HookPoint,
        packet: &Packet,
        explained: bool,
    ) -> Result<Passage, Unjudged> {
        let name = built_in(point);
        let entry = ChainName::new(name).expect("a built-in chain's name is legal");
        if let Some(absence) = family.absences.get(name) {
            return Ok(Passage { passes: true, path: vec![absence.clone(), "passed".into()] });
        }
        let traced = iptables::trace(&family.chains, &entry, self, packet);
        let traced = traced.map_err(|error| family.unjudged(&error))?;
        let mut path = Vec::new();
        if explained {
            path.extend(traced.met.iter().map(|(chain, rule)| {
                let text = family.chains.get(chain).and_then(|rules| rules.get(*rule));
                format!("{chain} rule {}: {}", rule + 1, text.map(ToString::to_string).unwrap_or_default())
            }));
            path.push(match traced.verdict {
                iptables::Verdict::Passed => "passed".to_owned(),
                iptables::Verdict::Accepted => "accepted".to_owned(),
                iptables::Verdict::Dropped => "dropped".to_owned(),
                iptables::Verdict::Rejected(_) => "rejected".to_owned(),
            });
        }
        Ok(Passage { passes: traced.verdict.allows(), path })
    }

    /// What rules may ask about the peers and ports of an address of this node in a direction.
    pub(super) fn asked(&self, direction: Direction, own: IpAddr) -> AskedFacts {
        let mut facts = AskedFacts::default();
        match &self.rules {
            FilterRules::Iptables(families) => {
                let chains = &families[place(Family::of(own))].chains;
                facts.ask_chains(chains, &self.sets, direction, own);
            }
            FilterRules::Nftables { table: Some(table), .. } => {
                facts.ask_table(table, &self.sets, direction, own);
            }
            FilterRules::Nftables { table: None, .. } => {}
        }
        facts
    }
}

impl SetLookup for KernelRules<'_> {
    fn contains(&self, name: &SetName, address: IpAddr, port: Option<(Protocol, u16)>) -> bool {
        self.sets.get(name.as_str()).is_some_and(|set| set.contains(address, port))
    }
}

pub(super) fn place(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

pub(super) fn built_in(point: HookPoint) -> &'static str {
    match point {
        HookPoint::Forward => "FORWARD",
        HookPoint::Output => "OUTPUT",
        HookPoint::Input => "INPUT",
        HookPoint::Prerouting => "PREROUTING",
    }
}

impl FilterChains {
    /// Why a packet that led to this error cannot be judged.
    pub(super) fn unjudged(&self, error: &iptables::TraceError) -> Unjudged {
        let chain = match error {
            iptables::TraceError::NoChain(chain) | iptables::TraceError::Loop(chain) => chain.as_str(),
        };
        Unjudged(self.doubts.get(chain).cloned().unwrap_or_else(|| error.to_string()))
    }

    fn of(evidence: &Evidence, variant: Variant, family: Family, others: OthersAhead) -> FilterChains {
        let nothing = ActualTable::default();
        let table = evidence.actual.tables.get(&(variant, family)).unwrap_or(&nothing);
        let (mut chains, mut doubts, mut skipped) = (Chains::new(), BTreeMap::new(), BTreeMap::new());
        for (name, rules) in &table.chains {
            match rules {
                Some(rules) => drop(chains.insert(name.clone(), rules.clone())),
                None => drop(doubts.insert(
                    name.as_str().into(),
                    format!("chain {name} ({family}) holds a rule that this program does not write and cannot evaluate"),
                )),
            }
        }
        let mut absences = BTreeMap::new();
        let filter = match family {
            Family::V4 => "ip filter",
            Family::V6 => "ip6 filter",
        };
        for name in ["FORWARD", "OUTPUT", "INPUT"] {
            let Some(entry) = ChainName::new(name) else { continue };
            if variant == Variant::Nft && evidence.actual.dormant.contains(filter) {
                absences.insert(
                    name,
                    format!("table {filter} is dormant: the kernel evaluates none of its rules"),
                );
            }
            let hook = table.jumps.get(name).and_then(|jumps| jumps.first());
            let hook = hook.and_then(|(_, text)| parse_rule(text).ok());
            if hook.is_none() {
                absences.entry(name).or_insert_with(|| {
                    format!(
                        "{name} ({family}) does not jump to KUBE-NWPLCY-{name}: none of our rules sees it"
                    )
                });
            }
            // Without the chain, whatever comes to it cannot be judged.
            match read_ahead(table.ahead.get(name), name, (family, others)) {
                Ok(ahead) => {
                    chains.insert(entry, ahead.rules.into_iter().chain(hook).collect());
                    skipped.insert(name.into(), ahead.skipped);
                }
                Err(doubt) => drop(doubts.insert(name.into(), doubt)),
            }
        }
        for (name, rules) in &table.ahead {
            let Some(chain) = ChainName::new(name).filter(|chain| !chains.contains_key(chain)) else {
                continue;
            };
            if ["FORWARD", "OUTPUT", "INPUT"].contains(&name.as_str()) {
                continue;
            }
            match read_ahead(Some(rules), name, (family, others)) {
                Ok(ahead) => {
                    chains.insert(chain, ahead.rules);
                    skipped.insert(name.as_str().into(), ahead.skipped);
                }
                Err(doubt) => drop(doubts.insert(name.as_str().into(), doubt)),
            }
        }
        FilterChains { chains, absences, doubts, skipped }
    }
}

/// The rules of others before ours in one chain.
#[derive(Default)]
struct RulesAhead {
    rules: Vec<Rule>,
    /// Those that are not understood and let nothing pass.
    skipped: Vec<String>,
}

/// The rules of others before ours; an error if one is not understood that may let a packet pass.
fn read_ahead(
    rules: Option<&Vec<String>>,
    chain: &str,
    (family, others): (Family, OthersAhead),
) -> Result<RulesAhead, String> {
    let mut read = RulesAhead::default();
    for text in rules.into_iter().flatten() {
        match parse_rule(text) {
            Ok(Rule { target: Target::Drop | Target::Reject(_), .. }) if others == OthersAhead::Accepting => {
            }
            Ok(rule) => read.rules.push(rule),
            Err(_) => match iptables::target(text) {
                Some("LOG") => {}
                Some("DROP" | "REJECT") => read.skipped.push(format!("{chain} ({family}): {text}")),
                Some(_) | None => {
                    return Err(format!(
                        "{chain} ({family}) has a rule of another program before ours that cannot be evaluated: {text}"
                    ));
                }
            },
        }
    }
    Ok(read)
}

/// The rules that a packet or a frame met in a table.
pub(super) fn met_rules(table: &Table, traced: &nftables::Traced) -> impl Iterator<Item = String> {
    traced.met.iter().map(|(chain, rule)| {
        let text = table.chains.get(chain).and_then(|chain| chain.rules.get(*rule));
        let text = text.map(ToString::to_string).unwrap_or_default();
        format!("chain {chain} rule {}: {text}", rule + 1)
    })
}

/// The table of family inet, if its rules are in force, and otherwise why they are not.
fn inet_table(evidence: &Evidence) -> Result<(Option<&Table>, String), Unjudged> {
    let name = format!("inet {INET_TABLE}");
    table_in_force(evidence, &name, &evidence.actual.inet, "no rule of ours is in force")
}

/// The table of family bridge, if its rules are in force, and otherwise why they are not.
pub(super) fn bridge_table(evidence: &Evidence) -> Result<(Option<&Table>, String), Unjudged> {
    let name = format!("bridge {BRIDGE_TABLE}");
    table_in_force(evidence, &name, &evidence.actual.bridge, "no port is bound to its pod")
}

fn table_in_force<'a>(
    evidence: &Evidence,
    name: &str,
    read: &'a TableRead,
    without_it: &str,
) -> Result<(Option<&'a Table>, String), Unjudged> {
    if evidence.actual.dormant.contains(name) {
        return Ok((None, format!("table {name} is dormant: the kernel evaluates none of its rules")));
    }
    match read {
        TableRead::Ours { table, .. } => Ok((Some(table), String::new())),
        TableRead::Absent => Ok((None, format!("table {name} is missing: {without_it}"))),
        TableRead::Foreign => Err(Unjudged(format!(
            "table {name} holds something that this program does not write and cannot evaluate"
        ))),
    }
}

fn bridged_mark(evidence: &Evidence) -> u32 {
    let frame = Frame { bytes: vec![0; 60], input: 0, output: 0, mark: 0 };
    match bridge_table(evidence) {
        Ok((Some(table), _)) => nftables::trace(table, HookPoint::Forward, &frame).mark,
        Ok((None, _)) | Err(_) => 0,
    }
}
