//! Which set elements may be written before or during a change of rules without allowing what both the old and the new
//! rules deny.

use super::applier::Tables;
use crate::net::IpNet;
use crate::netfilter::ipset::{Element, Type};
use crate::netfilter::iptables::{Chains, Match, Rule, Target};
use crate::netfilter::{Edit, Role, SetEdit, SetName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Which elements of sets need not wait until the rules of an edit are in force.
///
/// Until then the old rules evaluate packets, with the current sets. Removing an element from a set that allows can
/// only deny more. Adding an address to such a set makes every rule that matches the set allow it. The new rules must
/// allow the same, so the address has to wait if
///
/// - the edit removes one of these rules or the jump to it, or puts a rule that denies before it;
/// - the address itself is isolated before or after the edit, because the rules of the other direction may change, too;
/// - the edit removes something else that these rules match, such as an address's named port.
///
/// Without an edit, all elements may be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConcurrentEdits {
    /// Sets that the edit creates, replaces or destroys: no other edit may write them meanwhile.
    whole: BTreeSet<SetName>,
    /// Elements that the edit changes in other sets: no other edit may write them either. Elements with different
    /// addresses are independent of each other.
    changed: BTreeMap<SetName, BTreeSet<Element>>,
    /// Sets that are matched by rules that the edit removes, or by rules that can no longer be reached after it.
    asked: BTreeSet<SetName>,
    /// Addresses that the edit makes no longer isolated.
    freed: BTreeSet<IpAddr>,
    /// Addresses that the edit removes from sets that allow.
    leaving: BTreeSet<IpAddr>,
    /// Whether the edit adds rules that deny to chains that are in use.
    refuses: bool,
    /// Whether the edit removes the named port of an isolated address from its set.
    port_leaves: bool,
}

impl ConcurrentEdits {
    /// For an edit of these tables. `is_isolated` answers for the state once the edit is in force.
    pub(super) fn beside(
        tables: &Tables,
        edit: &Edit,
        is_isolated: &dyn Fn(IpAddr) -> bool,
    ) -> ConcurrentEdits {
        let mut concurrent = ConcurrentEdits::default();
        for ((family, name), new) in &edit.chains {
            let Some(chains) = tables.get(family) else { continue };
            // A removed chain can be reached only by rules that are removed, too.
            if let (Some(old), Some(new)) = (chains.get(name), new) {
                concurrent.refuses |= new.iter().any(|rule| refuses(rule) && !old.contains(rule));
                gone(old, new).into_iter().for_each(|rule| ask(chains, rule, &mut concurrent.asked));
            }
        }
        for (set, change) in &edit.sets {
            let SetEdit::Elements { kind, role, elements } = change else {
                concurrent.whole.insert(set.clone());
                continue;
            };
            concurrent.changed.insert(set.clone(), elements.keys().copied().collect());
            let leaving = elements.iter().filter(|(_, comes)| !**comes);
            for address in leaving.filter_map(|(element, _)| address(element)) {
                match role {
                    Role::Isolates => concurrent.freed.insert(address),
                    Role::Allows | Role::Opens => concurrent.leaving.insert(address),
                };
                concurrent.port_leaves |= kind.of == Type::HashIpPort && is_isolated(address);
            }
        }
        concurrent
    }

    /// Whether an element of the edit itself may join a set that allows after its removals, but before its rules.
    pub(super) fn lets_join_early(
        &self,
        set: &SetName,
        element: &Element,
        is_isolated: &dyn Fn(IpAddr) -> bool,
    ) -> bool {
        let is_free = |address: IpAddr| !self.freed.contains(&address) && !is_isolated(address);
        !self.refuses && !self.asked.contains(set) && address(element).is_some_and(is_free)
    }

    /// Whether another edit may be carried out while this one is in progress.
    pub(super) fn lets_pass(&self, edit: &Edit, is_isolated: &dyn Fn(IpAddr) -> bool) -> bool {
        let lets_join = |set: &SetName, element: &Element| {
            let stays = address(element).is_some_and(|address| !self.leaving.contains(&address));
            !self.port_leaves && stays && self.lets_join_early(set, element, is_isolated)
        };
        let is_changed =
            |set: &SetName, element| self.changed.get(set).is_some_and(|changed| changed.contains(element));
        edit.chains.is_empty()
            && edit.sets.iter().all(|(set, change)| match change {
                SetEdit::Elements { role: Role::Allows, elements, .. } => {
                    !self.whole.contains(set)
                        && elements.iter().all(|(element, comes)| {
                            let may =
                                if *comes { lets_join(set, element) } else { address(element).is_some() };
                            may && !is_changed(set, element)
                        })
                }
                SetEdit::Elements { role: Role::Isolates | Role::Opens, .. }
                | SetEdit::Whole(_)
                | SetEdit::Remove => false,
            })
    }
}

/// The address of an element; blocks have none.
fn address(element: &Element) -> Option<IpAddr> {
    match element {
        Element::Address(address) | Element::AddressPort(address, ..) => Some(*address),
        Element::Net { .. } => None,
    }
}

/// The old rules whose effect may be missing from a chain's new content.
///
/// Rules that match single addresses are a dispatch: a packet is compared with all of them, and each can deny. So their
/// list counts as a whole, without the addresses that no rule matches any longer, as these are then allowed. Of other
/// rules, each can allow.
fn gone<'a>(old: &'a [Rule], new: &[Rule]) -> Vec<&'a Rule> {
    let new = by_address(new);
    let mut gone = Vec::new();
    for (about, old) in by_address(old) {
        match (about, new.get(&about)) {
            ((None, None), new) => {
                gone.extend(old.into_iter().filter(|rule| !new.is_some_and(|new| new.contains(rule))));
            }
            (_, Some(new)) if *new != old => gone.extend(old),
            (_, Some(_) | None) => {}
        }
    }
    gone
}

type About = (Option<IpNet>, Option<IpNet>);

fn by_address(rules: &[Rule]) -> BTreeMap<About, Vec<&Rule>> {
    let mut lists: BTreeMap<About, Vec<&Rule>> = BTreeMap::new();
    for rule in rules {
        lists.entry((rule.source, rule.destination)).or_default().push(rule);
    }
    lists
}

/// Collects the sets that a rule matches, or that the rules behind its jump match.
fn ask(chains: &Chains, rule: &Rule, asked: &mut BTreeSet<SetName>) {
    asked.extend(rule.matches.iter().filter_map(|condition| match condition {
        Match::Set(set, _) | Match::NotInSet(set, _) => Some(set.clone()),
        Match::ConnectionState(_)
        | Match::Bridged(_)
        | Match::Mark { .. }
        | Match::ConnectionMark { .. }
        | Match::SourceIsLocal(_)
        | Match::DestinationPort(_)
        | Match::DestinationPorts(_)
        | Match::Icmpv6Type(_)
        | Match::LimitPerSecond(_)
        | Match::Comment(_) => None,
    }));
    if let Target::Jump(chain) | Target::Goto(chain) = &rule.target {
        chains.get(chain).into_iter().flatten().for_each(|rule| ask(chains, rule, asked));
    }
}

fn refuses(rule: &Rule) -> bool {
    match rule.target {
        Target::Drop | Target::Reject(_) => true,
        Target::Jump(_)
        | Target::Goto(_)
        | Target::Return
        | Target::Accept
        | Target::SetMark { .. }
        | Target::Log { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Family, Protocol, host};
    use crate::netfilter::ChainName;
    use crate::netfilter::ipset::Kind;
    use crate::netfilter::iptables::SetSide;

    const WEB: [u8; 4] = [10, 0, 0, 1];
    const PEER: [u8; 4] = [10, 0, 0, 9];

    fn chain(name: &str) -> ChainName {
        ChainName::new(name).expect("a legal name")
    }

    fn set(name: &str) -> SetName {
        SetName::new(name).expect("a legal name")
    }

    fn jump(to: &str) -> Rule {
        Rule::new(Target::Jump(chain(to)))
    }

    fn to(address: [u8; 4], pod: &str) -> Rule {
        jump(pod).destination(host(address.into()))
    }

    fn allow(peers: &str) -> Rule {
        Rule::new(Target::SetMark { value: 1, mask: 1 }).matching(Match::Set(set(peers), SetSide::Source))
    }

    /// The traffic of pod `WEB` is evaluated by policies `ONE` and `TWO`, which match the sets `ones` and `twos`.
    fn tables() -> Tables {
        let refuse = Rule::new(Target::Drop);
        let chains = Chains::from([
            (chain("DISPATCH"), vec![to(WEB, "WEB")]),
            (chain("WEB"), vec![jump("ONE"), jump("TWO"), refuse]),
            (chain("ONE"), vec![allow("ones"), allow("more")]),
            (chain("TWO"), vec![allow("twos")]),
        ]);
        Tables::from([(Family::V4, chains)])
    }

    fn rules(changes: &[(&str, Option<Vec<Rule>>)]) -> Edit {
        let changes = changes.iter().map(|(name, rules)| ((Family::V4, chain(name)), rules.clone()));
        Edit { chains: changes.collect(), ..Edit::default() }
    }

    fn elements(of: Type, role: Role, name: &str, element: Element, comes: bool) -> Edit {
        let kind = Kind { of, family: Family::V4 };
        let change = SetEdit::Elements { kind, role, elements: BTreeMap::from([(element, comes)]) };
        Edit { sets: BTreeMap::from([(set(name), change)]), ..Edit::default() }
    }

    fn joins(name: &str) -> Edit {
        elements(Type::HashIp, Role::Allows, name, Element::Address(PEER.into()), true)
    }

    fn leaves(name: &str) -> Edit {
        elements(Type::HashIp, Role::Allows, name, Element::Address(PEER.into()), false)
    }

    fn nowhere(_: IpAddr) -> bool {
        false
    }

    /// Which of the sets a peer may join beside an edit.
    fn open_beside(edit: &Edit) -> Vec<&'static str> {
        let concurrent = ConcurrentEdits::beside(&tables(), edit, &nowhere);
        let sets = ["ones", "more", "twos"].into_iter();
        sets.filter(|name| concurrent.lets_pass(&joins(name), &nowhere)).collect()
    }

    #[test]
    fn nothing_waits_for_an_edit_that_only_allows_more() {
        let web = vec![jump("ONE"), jump("TWO"), jump("THREE"), Rule::new(Target::Drop)];
        let edit = rules(&[("WEB", Some(web)), ("THREE", Some(vec![allow("threes")]))]);
        assert_eq!(open_beside(&Edit::default()), ["ones", "more", "twos"]);
        assert_eq!(open_beside(&edit), ["ones", "more", "twos"]);
    }

    #[test]
    fn join_waits_for_a_rule_that_goes_and_for_the_way_to_it_that_goes() {
        assert_eq!(open_beside(&rules(&[("ONE", Some(vec![allow("more")]))])), ["more", "twos"]);
        let without_one = rules(&[("WEB", Some(vec![jump("TWO"), Rule::new(Target::Drop)])), ("ONE", None)]);
        assert_eq!(open_beside(&without_one), ["twos"]);
    }

    #[test]
    fn join_waits_for_another_judge_of_the_same_address_and_not_for_one_of_nobody() {
        let two_judges = vec![to(WEB, "WEB"), to(WEB, "HEIR")];
        let heir = ("HEIR", Some(vec![Rule::new(Target::Drop)]));
        assert_eq!(open_beside(&rules(&[("DISPATCH", Some(two_judges)), heir.clone()])), [""; 0]);
        let of_another = vec![to(WEB, "WEB"), to([10, 0, 0, 2], "HEIR")];
        assert_eq!(open_beside(&rules(&[("DISPATCH", Some(of_another)), heir])), ["ones", "more", "twos"]);
        let gone = rules(&[("DISPATCH", Some(Vec::new())), ("WEB", None), ("ONE", None), ("TWO", None)]);
        assert_eq!(open_beside(&gone), ["ones", "more", "twos"], "the address is open after it");
    }

    /// The dispatch to a pod's chain leads through the chain of its neighbourhood.
    #[test]
    fn join_waits_for_another_judge_behind_another_chain_and_not_for_a_chain_that_goes() {
        let mut tables = tables();
        let chains = tables.get_mut(&Family::V4).expect("there is one");
        let go = |to: &str, net: IpNet| Rule::new(Target::Goto(chain(to))).destination(net);
        chains.insert(chain("DISPATCH"), vec![go("BUCKET", "10.0.0.0/29".parse().expect("a prefix"))]);
        chains.insert(chain("BUCKET"), vec![go("WEB", host(WEB.into()))]);
        let beside = |changes: &[(&str, Option<Vec<Rule>>)]| {
            let concurrent = ConcurrentEdits::beside(&tables, &rules(changes), &nowhere);
            ["ones", "twos"].map(|name| concurrent.lets_pass(&joins(name), &nowhere))
        };
        let two_judges = vec![to(WEB, "WEB"), go("HEIR", host(WEB.into()))];
        let heir = ("HEIR", Some(vec![Rule::new(Target::Drop)]));
        assert_eq!(beside(&[("BUCKET", Some(two_judges)), heir]), [false, false]);
        let nobody_left = [("DISPATCH", Some(Vec::new())), ("BUCKET", None), ("WEB", None), ("ONE", None)];
        assert_eq!(beside(&nobody_left), [true, true], "the address is open after it");
    }

    #[test]
    fn join_waits_for_rules_that_refuse_anew() {
        let web = tables()[&Family::V4][&chain("WEB")].clone();
        let first = Rule::new(Target::Drop).protocol(crate::netfilter::iptables::Layer4::Icmpv6);
        let web = std::iter::once(first).chain(web).collect();
        assert_eq!(open_beside(&rules(&[("WEB", Some(web))])), [""; 0]);
    }

    #[test]
    fn nobody_else_writes_a_set_or_an_element_that_the_edit_writes() {
        let concurrent = ConcurrentEdits::beside(&tables(), &leaves("ones"), &nowhere);
        assert!(!concurrent.lets_pass(&leaves("ones"), &nowhere));
        assert!(concurrent.lets_pass(&leaves("twos"), &nowhere), "that can only refuse more");
        let another = elements(Type::HashIp, Role::Allows, "ones", Element::Address(WEB.into()), true);
        assert!(concurrent.lets_pass(&another, &nowhere), "it is another element");
        let removes = Edit { sets: BTreeMap::from([(set("ones"), SetEdit::Remove)]), ..Edit::default() };
        let concurrent = ConcurrentEdits::beside(&tables(), &removes, &nowhere);
        assert!(
            !concurrent.lets_pass(&joins("ones"), &nowhere) && concurrent.lets_pass(&joins("twos"), &nowhere)
        );
    }

    #[test]
    fn isolated_address_waits_as_does_one_that_no_longer_is() {
        let peer = |address| address == IpAddr::from(PEER);
        assert!(!ConcurrentEdits::default().lets_pass(&joins("ones"), &peer));
        assert!(ConcurrentEdits::default().lets_pass(&leaves("ones"), &peer), "that can only refuse more");
        let freed = elements(Type::HashIp, Role::Isolates, "isolated", Element::Address(PEER.into()), false);
        assert!(!ConcurrentEdits::beside(&tables(), &freed, &nowhere).lets_pass(&joins("ones"), &nowhere));
    }

    /// A rule may match two sets: one for the peer, and one for its named port.
    #[test]
    fn join_waits_for_what_the_same_rule_asks_and_is_on_its_way_out() {
        let concurrent = ConcurrentEdits::beside(&tables(), &leaves("ones"), &nowhere);
        assert!(!concurrent.lets_pass(&joins("twos"), &nowhere), "the address itself");
        let port = Element::AddressPort(WEB.into(), Protocol::Tcp, 80);
        let port_leaves = elements(Type::HashIpPort, Role::Allows, "http", port, false);
        let web = |address| address == IpAddr::from(WEB);
        assert!(!ConcurrentEdits::beside(&tables(), &port_leaves, &web).lets_pass(&joins("ones"), &web));
        assert!(
            ConcurrentEdits::beside(&tables(), &port_leaves, &nowhere).lets_pass(&joins("ones"), &nowhere)
        );
    }

    #[test]
    fn nothing_but_members_of_sets_that_allow_passes() {
        let isolates = elements(Type::HashIp, Role::Isolates, "isolated", Element::Address(WEB.into()), true);
        let removes = Edit { sets: BTreeMap::from([(set("ones"), SetEdit::Remove)]), ..Edit::default() };
        for edit in [isolates, removes, rules(&[("ONE", None)])] {
            assert!(!ConcurrentEdits::default().lets_pass(&edit, &nowhere), "{edit:?}");
        }
    }
}
