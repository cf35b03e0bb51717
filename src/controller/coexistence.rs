//! Decides whether to write while another NetworkPolicy controller has rules here, and whether to remove what it left.
//! Without I/O.

use crate::apply::{Actual, OtherController};
use std::collections::BTreeSet;

/// What to do with the rules that another NetworkPolicy controller has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Takeover {
    /// Keep them, and write nothing beside them.
    #[default]
    Off,
    /// Remove them once this agent's rules are in force.
    On,
}

/// How this agent treats other controllers in its kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// There are none.
    #[default]
    Alone,
    /// Writes nothing, as the rules of these are in force.
    Waits(BTreeSet<OtherController>),
    /// Our rules were in force already, and are kept up to date beside those of these controllers: otherwise, new pods
    /// would not be isolated.
    Keeps(BTreeSet<OtherController>),
    /// Removes what these left.
    Removes(BTreeSet<OtherController>),
    /// These have rewritten their rules after the removal, so they still run.
    WrittenAgain(BTreeSet<OtherController>),
}

/// How often the removal is tried, because an attempt may fail although no other program rewrites the rules.
const ATTEMPTS: u32 = 3;

/// Decides how to treat other controllers, and remembers what was removed.
#[derive(Clone, Debug, Default)]
pub(super) struct Coexistence {
    takeover: Takeover,
    attempts: u32,
    /// Whether nothing was left after an attempt.
    was_removed: bool,
    standing: Standing,
}

impl Coexistence {
    pub(super) fn new(takeover: Takeover) -> Coexistence {
        Coexistence { takeover, ..Coexistence::default() }
    }

    /// Evaluates what was read from the kernel.
    pub(super) fn look(&mut self, actual: &Actual) -> &Standing {
        let others = &actual.controllers;
        let there = others.at_work.clone();
        // Of one that takes its rules along when it is stopped, ours have to be in force before that.
        let must_end_first = others.running.iter().any(|controller| controller.leaves_its_rules());
        let may_remove = self.takeover == Takeover::On
            && !must_end_first
            && there.iter().all(|controller| controller.is_removable());
        self.standing = if !others.left_something() && there.is_empty() {
            self.was_removed = self.attempts > 0;
            Standing::Alone
        } else if may_remove && !self.was_removed && self.attempts < ATTEMPTS {
            self.attempts += 1;
            Standing::Removes(there)
        } else if there.is_empty() {
            // Only chains that no packet reaches.
            Standing::Alone
        } else if may_remove && self.was_removed {
            Standing::WrittenAgain(there)
        } else if actual.is_in_force() {
            Standing::Keeps(there)
        } else {
            Standing::Waits(there)
        };
        &self.standing
    }

    pub(super) fn standing(&self) -> &Standing {
        &self.standing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::{Fake, PacketFilter, TableText};
    use crate::net::Family;
    use crate::netfilter::iptables::Variant;

    const HOOK: &str = "-m comment --comment \"kube-router netpol - A\" -j KUBE-ROUTER-FORWARD";

    fn actual(rules: &[&str]) -> Actual {
        let mut fake = Fake::default();
        let table = fake.table(Family::V4);
        let forward = table.get_mut("FORWARD").expect("a built-in chain");
        forward.extend(rules.iter().map(|rule| (*rule).to_owned()));
        for chain in ["KUBE-ROUTER-FORWARD", "KUBE-NWPLCY-FORWARD", "cali-FORWARD"] {
            if rules.iter().any(|rule| rule.ends_with(chain)) {
                table.insert(chain.to_owned(), Vec::new());
            }
        }
        assert!(fake.read_table(Variant::Nft, Family::V4).is_ok_and(|text| text != TableText::default()));
        Actual::read(&mut fake).expect("it is read")
    }

    fn set(controllers: &[OtherController]) -> BTreeSet<OtherController> {
        controllers.iter().copied().collect()
    }

    const ROUTER: [OtherController; 1] = [OtherController::KubeRouter];

    #[test]
    fn start_waits_for_another_controller_and_an_agent_whose_rules_hold_keeps_them() {
        let mut coexistence = Coexistence::new(Takeover::Off);
        assert_eq!(*coexistence.look(&actual(&[])), Standing::Alone);
        assert_eq!(*coexistence.look(&actual(&[HOOK])), Standing::Waits(set(&ROUTER)));
        assert_eq!(
            *coexistence.look(&actual(&["-j KUBE-NWPLCY-FORWARD", HOOK])),
            Standing::Keeps(set(&ROUTER))
        );
        assert_eq!(*coexistence.look(&actual(&[])), Standing::Alone);
    }

    #[test]
    fn what_is_written_again_is_removed_once_and_not_again() {
        let mut coexistence = Coexistence::new(Takeover::On);
        assert_eq!(*coexistence.look(&actual(&[HOOK])), Standing::Removes(set(&ROUTER)));
        assert_eq!(*coexistence.look(&actual(&[])), Standing::Alone);
        for _ in 0..5 {
            assert_eq!(*coexistence.look(&actual(&[HOOK])), Standing::WrittenAgain(set(&ROUTER)));
        }
    }

    #[test]
    fn removal_that_never_works_is_given_up() {
        let mut coexistence = Coexistence::new(Takeover::On);
        let removals =
            (0..9).filter(|_| matches!(coexistence.look(&actual(&[HOOK])), Standing::Removes(_))).count();
        assert_eq!(removals, 3);
    }

    #[test]
    fn controller_that_runs_or_that_nobody_knows_to_remove_is_waited_for() {
        let mut running = actual(&[HOOK]);
        running.controllers.running = set(&ROUTER);
        assert_eq!(*Coexistence::new(Takeover::On).look(&running), Standing::Waits(set(&ROUTER)));
        running.controllers.at_work = set(&[OtherController::KubeNetworkPolicies]);
        running.controllers.running = running.controllers.at_work.clone();
        assert_eq!(
            *Coexistence::new(Takeover::On).look(&running),
            Standing::Removes(set(&[OtherController::KubeNetworkPolicies])),
            "it takes its rules along when it is stopped"
        );
        let both = actual(&[HOOK, "-j cali-FORWARD"]);
        let wanted = set(&[OtherController::KubeRouter, OtherController::Calico]);
        assert_eq!(*Coexistence::new(Takeover::On).look(&both), Standing::Waits(wanted));
    }
}
