//! How much of one policy, and of all policies of a namespace, a node takes on, so that no object and no tenant can cost more.

use crate::model::Direction;
use std::fmt;
use std::str::FromStr;

/// What one policy, and all of a namespace, may cost a node. What is beyond it allows nothing, and is reported.
///
/// Sets cost: each may hold the address of every pod of the cluster, and each address of each set is written to the kernel. So do
/// rules: each peer that needs a set is combined with each of the ports, and a new connection is compared with all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Peers that select pods.
    pub peers: usize,
    /// Sets: a peer or a named port needs one, as does a block with exceptions, and all other blocks of a rule
    /// together.
    pub sets: usize,
    /// Ports, each range counted once.
    pub ports: usize,
    /// Prefixes of blocks, including exceptions.
    pub blocks: usize,
    /// Rules in the kernel, in both families and directions together.
    pub rules: usize,
    /// Rules of all policies of one namespace. Of many policies those come first that are there first.
    pub namespace_rules: usize,
    /// Members of all its sets together, counted when the policy changes and when the agent starts; afterwards a set
    /// grows with the cluster.
    pub members: usize,
    /// Members that the sets of all policies of one namespace have together, each set once, counted in the same way. Of many policies
    /// those come first that are there first.
    pub namespace_members: usize,
    /// How many peers of a direction may have a set each. If there are more, the pods of all peers of a rule are one
    /// set, and rules with the same ports are one rule.
    pub peers_apart: usize,
    /// About how many members new sets may have together in one flush. Further ones are created in later flushes, and
    /// until then the policy does not allow what is new.
    pub slice: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            peers: 4096,
            sets: 256,
            ports: 1024,
            blocks: 16_384,
            rules: 2048,
            namespace_rules: 16_384,
            members: 1_000_000,
            namespace_members: 4_000_000,
            peers_apart: 16,
            slice: 20_000,
        }
    }
}

impl fmt::Display for Limits {
    /// In the form that [`Limits::from_str`] parses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Limits { peers, sets, ports, blocks, rules, namespace_rules, members, namespace_members, .. } =
            self;
        write!(
            f,
            "peers={peers},sets={sets},ports={ports},blocks={blocks},rules={rules},namespace-rules={namespace_rules},\
             members={members},namespace-members={namespace_members}"
        )
    }
}

impl FromStr for Limits {
    type Err = String;

    /// Parses `peers=4096,sets=256`: limits that are not named keep their defaults.
    fn from_str(text: &str) -> Result<Limits, String> {
        let mut limits = Limits::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let wrong = || {
                let names =
                    "peers, sets, ports, blocks, rules, namespace-rules, members and namespace-members";
                format!("{part:?} is not one of {names} with a number, as in sets=256")
            };
            let (name, number) = part.split_once('=').ok_or_else(wrong)?;
            let number = number.parse().map_err(|_| wrong())?;
            match name {
                "peers" => limits.peers = number,
                "sets" => limits.sets = number,
                "ports" => limits.ports = number,
                "blocks" => limits.blocks = number,
                "rules" => limits.rules = number,
                "namespace-rules" => limits.namespace_rules = number,
                "members" => limits.members = number,
                "namespace-members" => limits.namespace_members = number,
                _ => return Err(wrong()),
            }
        }
        Ok(limits)
    }
}

/// The resource of which a part of a policy would have needed more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitedResource {
    /// Peers that select pods.
    Peers,
    /// Sets.
    Sets,
    /// Ports.
    Ports,
    /// Prefixes of blocks.
    Blocks,
    /// Rules.
    Rules,
    /// Rules of all policies of its namespace.
    NamespaceRules,
    /// Members of sets.
    Members,
    /// Members of the sets of all policies of its namespace.
    NamespaceMembers,
}

impl LimitedResource {
    fn of(self, limits: &Limits) -> (&'static str, usize) {
        match self {
            LimitedResource::Peers => ("peers", limits.peers),
            LimitedResource::Sets => ("sets", limits.sets),
            LimitedResource::Ports => ("ports", limits.ports),
            LimitedResource::Blocks => ("blocks", limits.blocks),
            LimitedResource::Rules => ("rules", limits.rules),
            LimitedResource::NamespaceRules => ("rules", limits.namespace_rules),
            LimitedResource::Members => ("members", limits.members),
            LimitedResource::NamespaceMembers => ("members of sets", limits.namespace_members),
        }
    }
}

/// Parts of a policy's rules that exceed the limits for one policy. They allow nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Surplus {
    /// The direction of the rules.
    pub direction: Direction,
    /// The index of the first of these rules in its policy's list, from 0.
    pub rule: usize,
    /// What they would have needed.
    pub resource: LimitedResource,
    /// The number of parts: peers, ports or sets.
    pub parts: usize,
}

impl Surplus {
    /// What is beyond the limits and what to do, in words.
    pub fn note(&self, limits: &Limits) -> String {
        let Surplus { direction, rule, parts, .. } = self;
        let (name, limit) = self.resource.of(limits);
        let (whose, cure) = match self.resource {
            LimitedResource::Peers
            | LimitedResource::Sets
            | LimitedResource::Ports
            | LimitedResource::Blocks
            | LimitedResource::Rules
            | LimitedResource::Members => {
                ("one policy", "select more pods with fewer peers, split the policy")
            }
            LimitedResource::NamespaceRules | LimitedResource::NamespaceMembers => {
                ("all policies of one namespace", "let policies share peers, delete those that nothing needs")
            }
        };
        format!(
            "spec.{direction}[{rule}] and on: {parts} peers or ports allow nothing, because a node enforces at most {limit} {name} \
             of {whose}: {cure}, or raise --policy-limits"
        )
    }
}

/// What is left of the limits for one policy.
#[derive(Clone, Debug)]
pub(super) struct Left {
    limits: Limits,
    surplus: Vec<Surplus>,
}

impl Left {
    pub(super) fn new(limits: &Limits) -> Left {
        Left { limits: *limits, surplus: Vec::new() }
    }

    /// Returns those of the `parts` of a rule that are within the limits; each has the same cost.
    pub(super) fn keep<T>(
        &mut self,
        (direction, rule): (Direction, usize),
        resource: LimitedResource,
        parts: &mut Vec<T>,
        mut cost: impl FnMut(&T) -> usize,
    ) {
        let left = match resource {
            LimitedResource::Peers => &mut self.limits.peers,
            LimitedResource::Sets => &mut self.limits.sets,
            LimitedResource::Ports => &mut self.limits.ports,
            LimitedResource::Blocks => &mut self.limits.blocks,
            LimitedResource::Rules => &mut self.limits.rules,
            LimitedResource::NamespaceRules => &mut self.limits.namespace_rules,
            LimitedResource::Members => &mut self.limits.members,
            LimitedResource::NamespaceMembers => &mut self.limits.namespace_members,
        };
        let before = parts.len();
        parts.retain(|part| match left.checked_sub(cost(part)) {
            Some(less) => {
                *left = less;
                true
            }
            None => false,
        });
        let surplus = before - parts.len();
        let same = |own: &&mut Surplus| own.direction == direction && own.resource == resource;
        match self.surplus.iter_mut().find(same) {
            Some(before) => before.parts += surplus,
            None if surplus > 0 => self.surplus.push(Surplus { direction, rule, resource, parts: surplus }),
            None => {}
        }
    }

    pub(super) fn into_surplus(self) -> Vec<Surplus> {
        self.surplus
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_they_are_shown() {
        let (peers, sets, ports, blocks, members, namespace_members) = (1, 2, 3, 4, 5, 6);
        let (rules, namespace_rules) = (7, 8);
        let limits = Limits {
            peers,
            sets,
            ports,
            blocks,
            members,
            namespace_members,
            rules,
            namespace_rules,
            ..Limits::default()
        };
        assert_eq!(limits.to_string().parse(), Ok(limits));
        assert_eq!("".parse(), Ok(Limits::default()));
        assert_eq!("sets=7".parse(), Ok(Limits { sets: 7, ..Limits::default() }));
        for wrong in ["sets", "sets=", "sets=-1", "slice=1", "sets=1;ports=2"] {
            assert!(wrong.parse::<Limits>().is_err(), "{wrong}");
        }
    }
}
