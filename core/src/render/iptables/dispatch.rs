//! How an isolated address finds its pod's chain without a comparison with every other pod's address.
//!
//! Addresses that differ only in their last bits are a neighbourhood, and belong to the same bucket: a packet is
//! compared with every neighbourhood, and then with the addresses of one bucket.

use crate::compile::{Plan, Subject};
use crate::model::Direction;
use crate::net::{Family, IpNet, host};
use crate::netfilter::ChainName;
use crate::netfilter::iptables::{Chains, Match, Rule, Target};
use crate::render::{Names, bucket_chain, dispatch_chain};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The number of last bits in which neighbours differ. A node's addresses are assigned consecutively: a hundred pods
/// are fourteen neighbourhoods of eight addresses. Each pod needs two rules.
const LAST_BITS: u8 = 3;

/// All chains of a direction.
pub(super) fn chains(names: &mut Names, plan: &Plan, direction: Direction, family: Family) -> Chains {
    let buckets = buckets(names, plan, direction, family, |_| true).into_iter();
    let buckets = buckets.map(|(bucket, rules)| (bucket_chain(direction, bucket), rules));
    buckets.chain([(dispatch_chain(direction), neighbourhoods(plan, direction, family))]).collect()
}

/// Those of these chains that change with the pods at these addresses; `None` for one that is removed.
pub(super) fn changes(
    names: &mut Names,
    plan: &Plan,
    direction: Direction,
    family: Family,
    judged: &BTreeSet<(Direction, IpAddr)>,
) -> Vec<(ChainName, Option<Vec<Rule>>)> {
    let own = judged.iter().filter(|(own, address)| *own == direction && Family::of(*address) == family);
    let changed: BTreeSet<u8> = own.map(|(_, address)| bucket(*address)).collect();
    if changed.is_empty() {
        return Vec::new();
    }
    let mut rules = buckets(names, plan, direction, family, |bucket| changed.contains(&bucket));
    let buckets = changed.iter().map(|bucket| (bucket_chain(direction, *bucket), rules.remove(bucket)));
    let list = (dispatch_chain(direction), Some(neighbourhoods(plan, direction, family)));
    buckets.chain([list]).collect()
}

/// The rules of those of the wanted buckets that contain an isolated address.
fn buckets(
    names: &mut Names,
    plan: &Plan,
    direction: Direction,
    family: Family,
    wanted: impl Fn(u8) -> bool,
) -> BTreeMap<u8, Vec<Rule>> {
    let mut buckets: BTreeMap<u8, Vec<Rule>> = BTreeMap::new();
    let isolated: Vec<_> = isolated(plan, direction, family).collect();
    for here in isolated.chunk_by(|(one, _), (next, _)| one == next) {
        let [(address, _), ..] = here else { continue };
        let bucket = bucket(*address);
        if wanted(bucket) {
            buckets.entry(bucket).or_default().extend(judges(names, direction, here));
        }
    }
    buckets
}

fn isolated(plan: &Plan, direction: Direction, family: Family) -> impl Iterator<Item = (IpAddr, &Subject)> {
    plan.isolated(direction).filter(move |(address, _)| Family::of(*address) == family)
}

/// The rules that send each neighbourhood to its bucket.
fn neighbourhoods(plan: &Plan, direction: Direction, family: Family) -> Vec<Rule> {
    let all: BTreeSet<IpNet> =
        isolated(plan, direction, family).map(|(address, _)| neighbourhood(address)).collect();
    let chain = |net: IpNet| bucket_chain(direction, bucket(net.addr()));
    all.into_iter().map(|net| about(Rule::new(Target::Goto(chain(net))), direction, net)).collect()
}

/// The rules that send an address to the chains of all pods that have it. The last one is a `goto`, as no later rule is
/// about this address. Most packets are routed, so these are compared first.
fn judges(names: &mut Names, direction: Direction, here: &[(IpAddr, &Subject)]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (place, (address, subject)) in here.iter().enumerate() {
        let chain = names.pod(subject, direction);
        let to: fn(ChainName) -> Target = if place + 1 == here.len() { Target::Goto } else { Target::Jump };
        rules.extend([false, true].map(|bridged| {
            about(Rule::new(to(chain.clone())).matching(Match::Bridged(bridged)), direction, host(*address))
        }));
    }
    rules
}

fn about(rule: Rule, direction: Direction, net: IpNet) -> Rule {
    match direction {
        Direction::Ingress => rule.destination(net),
        Direction::Egress => rule.source(net),
    }
}

/// The addresses that differ from this one only in the last bits.
fn neighbourhood(address: IpAddr) -> IpNet {
    let length = Family::of(address).bits() - LAST_BITS;
    IpNet::new_assert(address, length).trunc()
}

/// The bucket of an address: the eight bits before the last three. Neighbourhoods of different networks may share a
/// bucket.
fn bucket(address: IpAddr) -> u8 {
    let bits = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    u8::try_from(bits >> LAST_BITS & 0xff).expect("eight bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Change, Cluster, Demand, Labels, Peers, Pod, PodKey, Policy, PolicyKey, Ports, Requirement,
        Rule as Allow, Selector,
    };
    use crate::net::Protocol;
    use crate::netfilter::iptables::{Packet, Payload, SetLookup, State, trace};
    use crate::netfilter::{Ruleset, SetName};
    use crate::render::iptables::Renderer;
    use crate::render::{Allowed, Options, forward_chain};

    const DIRECTION: Direction = Direction::Ingress;

    fn pod(address: [u8; 4]) -> Change {
        Change::Pod(Pod {
            node: Some("node-a".into()),
            addresses: vec![address.into()],
            ..Pod::new(PodKey::new("shop", &format!("{address:?}")))
        })
    }

    fn gone(address: [u8; 4]) -> Change {
        Change::PodGone(PodKey::new("shop", &format!("{address:?}")))
    }

    /// Neighbourhoods of two networks share a bucket; a change in one must keep the rules of the other.
    #[test]
    fn changes_lead_from_all_chains_before_to_all_chains_after() {
        let (one, its_neighbour, other) = ([10, 244, 1, 16], [10, 244, 1, 17], [10, 244, 17, 16]);
        assert_eq!(bucket(one.into()), bucket(other.into()));
        let (mut cluster, mut plan, mut names) = (Cluster::new("node-a"), Plan::default(), Names::default());
        let isolate = Change::Policy(Policy {
            key: PolicyKey::new("shop", "isolate"),
            uid: None,
            version: Default::default(),
            subject: Selector::everything(),
            ingress: Some(Vec::new()),
            egress: None,
            invalid_parts: Vec::new(),
            audit: Default::default(),
        });
        let mut before = chains(&mut names, &plan, DIRECTION, Family::V4);
        let mut lengths = Vec::new();
        for change in
            [isolate, pod(one), pod(other), pod(its_neighbour), gone(one), gone(its_neighbour), gone(other)]
        {
            let touched = cluster.apply(change);
            plan.update(&cluster, &touched);
            let judged = plan.take(&cluster).judged;
            for (name, rules) in changes(&mut names, &plan, DIRECTION, Family::V4, &judged) {
                match rules {
                    Some(rules) => before.insert(name, rules),
                    None => before.remove(&name),
                };
            }
            assert_eq!(before, chains(&mut names, &plan, DIRECTION, Family::V4));
            lengths.push(before.values().map(Vec::len).collect::<Vec<_>>());
        }
        let of_each = [vec![0], vec![1, 2], vec![2, 4], vec![2, 6], vec![2, 4], vec![1, 2], vec![0]];
        assert_eq!(lengths, of_each, "rules of the list of neighbourhoods, and of the bucket");
    }

    struct Sets(Ruleset);

    impl SetLookup for Sets {
        fn contains(&self, name: &SetName, address: IpAddr, port: Option<(Protocol, u16)>) -> bool {
            self.0.sets.get(name).is_some_and(|desired| desired.set.contains(address, port))
        }
    }

    #[test]
    fn packet_to_an_address_of_two_pods_passes_only_if_both_would_let_it_in() {
        let address = IpAddr::from([10, 244, 1, 16]);
        let labelled = |name: &str| {
            let labels = Labels::new(&BTreeMap::from([("app".to_owned(), name.to_owned())]));
            let Change::Pod(pod) = pod([10, 244, 1, 16]) else { panic!("it is a pod") };
            Change::Pod(Pod { key: PodKey::new("shop", name), labels, ..pod })
        };
        let policy = |app: &str, ingress| {
            let demand = Demand::In(BTreeSet::from([app.into()]));
            Change::Policy(Policy {
                key: PolicyKey::new("shop", app),
                uid: None,
                version: Default::default(),
                subject: Selector::new([Requirement { key: "app".into(), demand }]),
                ingress: Some(ingress),
                egress: None,
                invalid_parts: Vec::new(),
                audit: Default::default(),
            })
        };
        let everybody = || vec![Allow { index: 0, peers: Peers::Anywhere, ports: Ports::All }];
        for (of_one, of_other, allows) in [
            (everybody(), everybody(), true),
            (everybody(), Vec::new(), false),
            (Vec::new(), everybody(), false),
        ] {
            for allowed in [Allowed::Return, Allowed::Accept] {
                let (mut cluster, mut plan) = (Cluster::new("node-a"), Plan::default());
                for change in [
                    labelled("one"),
                    labelled("other"),
                    policy("one", of_one.clone()),
                    policy("other", of_other.clone()),
                ] {
                    let touched = cluster.apply(change);
                    plan.update(&cluster, &touched);
                }
                let ruleset =
                    Renderer::new(Options { allowed, ..Options::default() }).ruleset(&cluster, &plan);
                let chains = ruleset.tables[&Family::V4].chains.clone();
                for bridged in [true, false] {
                    let packet = Packet {
                        source: [192, 0, 2, 1].into(),
                        destination: address,
                        payload: Payload::Transport { protocol: Protocol::Tcp, port: 80 },
                        state: State::New,
                        connection_mark: 0,
                        bridged,
                        in_interface: "eth0".into(),
                        out_interface: "cni0".into(),
                        translated: false,
                        source_is_local: false,
                    };
                    let trace = trace(&chains, &forward_chain(), &Sets(ruleset.clone()), &packet);
                    assert_eq!(trace.expect("a table that is whole").verdict.allows(), allows);
                }
            }
        }
    }

    #[test]
    fn everyone_at_an_address_is_asked() {
        let address = IpAddr::from([10, 244, 1, 16]);
        let targets = |subjects: &[&str]| {
            let isolated: BTreeSet<_> =
                subjects.iter().map(|name| Subject::Pod(PodKey::new("shop", name))).collect();
            let mut names = Names::default();
            let here: Vec<_> = isolated.iter().map(|subject| (address, subject)).collect();
            let rules = judges(&mut names, DIRECTION, &here);
            rules.into_iter().map(|rule| matches!(rule.target, Target::Goto(_))).collect::<Vec<_>>()
        };
        assert_eq!(targets(&["a"]), [true, true]);
        assert_eq!(targets(&["a", "b"]), [false, false, true, true]);
    }

    #[test]
    fn neighbours_share_a_bucket_whatever_the_family() {
        for (address, net, number) in [
            ("10.244.1.16", "10.244.1.16/29", 0x22),
            ("10.244.1.23", "10.244.1.16/29", 0x22),
            ("10.244.1.24", "10.244.1.24/29", 0x23),
            ("10.244.18.23", "10.244.18.16/29", 0x42),
            ("255.255.255.255", "255.255.255.248/29", 0xff),
            ("fd00:10:244:1::10", "fd00:10:244:1::10/125", 0x02),
            ("fd00:10:244:1::fff", "fd00:10:244:1::ff8/125", 0xff),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!((neighbourhood(address).to_string(), bucket(address)), (net.to_owned(), number));
        }
    }
}
