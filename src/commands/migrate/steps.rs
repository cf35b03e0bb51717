//! The steps of a change between NetworkPolicy controllers, and which of them are done on a node. Pure.

use super::daemon_sets::{DaemonSet, Helm};
use crate::apply::OtherController;
use std::collections::BTreeSet;

/// The chart's usual release and namespace.
const RELEASE: &str = "bridgewarden";
const NAMESPACE: &str = "kube-system";

/// What was found on a node and in its cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct MigrationState {
    /// The other controllers whose rules evaluate packets.
    pub(super) at_work: BTreeSet<OtherController>,
    /// Those of them that have not written their rules for pods yet.
    pub(super) unfinished: BTreeSet<OtherController>,
    /// The other controllers whose process runs.
    pub(super) running: BTreeSet<OtherController>,
    /// Whether something of other controllers can be removed.
    pub(super) has_leftovers: bool,
    /// Whether this is a node of k3s, whose process contains kube-router.
    pub(super) is_k3s: bool,
    /// How to provide what the node lacks for enforcement.
    pub(super) cures: Vec<String>,
    /// Whether an agent runs.
    pub(super) agent_runs: bool,
    /// Whether rules of Bridgewarden are in force.
    pub(super) is_in_force: bool,
    /// The DaemonSets of controllers in the cluster; empty if it was not asked.
    pub(super) daemon_sets: Vec<DaemonSet>,
    /// The chart's release, if Bridgewarden is installed.
    pub(super) own_release: Option<Helm>,
    /// The name of the node.
    pub(super) node: String,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MigrationStep {
    /// What to do, or what is so once it is done.
    pub(super) what: String,
    /// Whether it is done; `None` if this cannot be seen.
    pub(super) done: Option<bool>,
    /// What to run.
    pub(super) commands: Vec<String>,
}

impl MigrationState {
    /// What is there, in one sentence.
    pub(super) fn summary(&self) -> String {
        let others: BTreeSet<OtherController> = self.others();
        let other = |controller: &OtherController| {
            let rules = if self.unfinished.contains(controller) {
                "it has not written its rules yet"
            } else if self.at_work.contains(controller) {
                "its rules are in force"
            } else {
                "it has no rules here"
            };
            let runs = match (self.running.contains(controller), self.daemon_set(*controller)) {
                (true, _) => ", and it runs",
                (false, Some(_)) => ", and the cluster has its DaemonSet",
                (false, None) => "",
            };
            format!("{}: {rules}{runs}", controller.name())
        };
        let mut parts: Vec<String> = others.iter().map(other).collect();
        if others.is_empty() {
            let left = if self.has_leftovers { ", but something that one left" } else { "" };
            parts.push(format!("no other controller{left}"));
        }
        parts.push(
            match (self.agent_runs, self.is_in_force) {
                (true, true) => "Bridgewarden: its rules are in force, and it runs",
                (true, false) => "Bridgewarden: it runs, and has no rules in force",
                (false, true) => "Bridgewarden: its rules are in force, and it does not run",
                (false, false) => "Bridgewarden: it does not run, and has no rules here",
            }
            .to_owned(),
        );
        parts.join("; ")
    }

    /// The steps from the other controllers to Bridgewarden.
    pub(super) fn steps(&self) -> Vec<MigrationStep> {
        let mut steps = vec![MigrationStep {
            what: "The node has what enforcement needs".to_owned(),
            done: Some(self.cures.is_empty()),
            commands: self.cures.clone(),
        }];
        // One that takes its rules along is stopped once Bridgewarden's are in force.
        let (first, last): (Vec<_>, Vec<_>) =
            self.others().into_iter().partition(|other| other.leaves_its_rules());
        steps.extend(first.into_iter().map(|controller| self.stop(controller)));
        let helm = self.helm();
        // Until it is stopped, it may write its rules again; the agents are not ready then.
        let until_installed = match last.is_empty() {
            true => format!("kubectl -n {} rollout status daemonset/{}", helm.namespace, helm.release),
            false => format!(
                "kubectl -n {} logs -l app.kubernetes.io/name=bridgewarden --tail=-1 --prefix | grep enforcing:     # a line for each node",
                helm.namespace
            ),
        };
        steps.push(MigrationStep {
            what: "Install Bridgewarden, which removes what is left once its own rules are in force"
                .to_owned(),
            done: Some(self.agent_runs && (last.is_empty() || self.is_in_force)),
            commands: vec![
                format!(
                    "helm upgrade --install {} charts/bridgewarden -n {} --set takeover=true",
                    helm.release, helm.namespace
                ),
                until_installed,
            ],
        });
        steps.extend(last.into_iter().map(|controller| self.stop(controller)));
        steps.extend([
            MigrationStep {
                what: "Bridgewarden's rules alone are in force".to_owned(),
                done: Some(self.is_in_force && self.at_work.is_empty() && !self.has_leftovers),
                commands: vec![format!("kubectl -n {} logs daemonset/{} | tail", helm.namespace, helm.release)],
            },
            MigrationStep {
                what: "Prove that the kernel decides as the policies do".to_owned(),
                done: None,
                commands: vec![format!(
                    "bridgewarden verify --kubeconfig /etc/kubernetes/admin.conf --node-name {}",
                    self.node
                )],
            },
            MigrationStep {
                what: "Leave takeover off from then on".to_owned(),
                done: None,
                commands: vec![format!(
                    "helm upgrade {} charts/bridgewarden -n {} --reset-then-reuse-values --set takeover=false",
                    helm.release, helm.namespace
                )],
            },
        ]);
        steps
    }

    /// The steps from Bridgewarden back to another controller.
    pub(super) fn steps_back(&self) -> Vec<MigrationStep> {
        let helm = self.helm();
        let on_release = |command: &str| format!("{command} -n {}", helm.namespace);
        vec![
            MigrationStep {
                what: "Install and start the other controller. Beside it, Bridgewarden goes on to enforce, and is not ready".to_owned(),
                done: Some(!self.at_work.is_empty() && self.unfinished.is_empty()),
                commands: Vec::new(),
            },
            MigrationStep {
                what: "Remove Bridgewarden's rules from every node, then Bridgewarden".to_owned(),
                done: Some(!self.is_in_force && !self.agent_runs && self.own_release.is_none()),
                commands: vec![
                    on_release(&format!(
                        "helm upgrade {} charts/bridgewarden --reset-then-reuse-values --set cleanup.enabled=true",
                        helm.release
                    )),
                    on_release(&format!("kubectl rollout status daemonset/{}", helm.release)),
                    on_release(&format!("helm uninstall {}", helm.release)),
                ],
            },
        ]
    }

    fn helm(&self) -> Helm {
        let usual = || Helm { release: RELEASE.to_owned(), namespace: NAMESPACE.to_owned() };
        self.own_release.clone().unwrap_or_else(usual)
    }

    fn others(&self) -> BTreeSet<OtherController> {
        let in_cluster = self.daemon_sets.iter().map(|set| set.controller);
        self.at_work.iter().chain(&self.running).copied().chain(in_cluster).collect()
    }

    fn daemon_set(&self, controller: OtherController) -> Option<&DaemonSet> {
        self.daemon_sets.iter().find(|set| set.controller == controller)
    }

    /// Stops a controller so that its rules stay. Those of one that Bridgewarden cannot remove go with the node's reboot.
    fn stop(&self, controller: OtherController) -> MigrationStep {
        let name = controller.name();
        let set = self.daemon_set(controller);
        // The process of k3s is found under another name, so the rules say whether kube-router is at work in it.
        let may_run_inside = self.is_k3s
            && controller == OtherController::KubeRouter
            && self.at_work.contains(&controller)
            && set.is_none();
        let runs = self.running.contains(&controller) || set.is_some() || may_run_inside;
        let stop = set.map_or_else(|| controller.cure(self.is_k3s).to_owned(), DaemonSet::stop);
        if controller.is_removable() {
            let what = match controller.leaves_its_rules() {
                true => format!("Stop {name} and keep its rules, without its clean-up and without a reboot"),
                false => format!("Stop {name}, which takes its rules along"),
            };
            return MigrationStep { what, done: Some(!runs), commands: vec![stop] };
        }
        MigrationStep {
            what: format!(
                "Replace {name}, which is the network too, node by node: there is no way without a gap"
            ),
            done: Some(!runs && !self.at_work.contains(&controller)),
            commands: vec![
                stop,
                format!("kubectl drain {} --ignore-daemonsets --delete-emptydir-data", self.node),
                format!("reboot     # on {}: removes the rules of {name}", self.node),
                format!("kubectl uncordon {}", self.node),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OtherController::{Calico, KubeNetworkPolicies, KubeRouter};

    fn next(found: &MigrationState) -> Option<String> {
        found.steps().into_iter().find(|step| step.done == Some(false)).map(|step| step.what)
    }

    fn beside_kube_router() -> MigrationState {
        let router = BTreeSet::from([KubeRouter]);
        MigrationState {
            at_work: router.clone(),
            running: router,
            has_leftovers: true,
            node: "node-a".to_owned(),
            ..MigrationState::default()
        }
    }

    #[test]
    fn change_goes_from_what_is_missing_to_rules_of_bridgewarden_alone() {
        let mut found =
            MigrationState { cures: vec!["modprobe br_netfilter".to_owned()], ..beside_kube_router() };
        let mut order = Vec::new();
        let mut see = |found: &MigrationState| order.push(next(found).unwrap_or_default());
        see(&found);
        found.cures.clear();
        see(&found);
        found.running.clear();
        see(&found);
        found.agent_runs = true;
        see(&found);
        found.is_in_force = true;
        see(&found);
        found.at_work.clear();
        found.has_leftovers = false;
        see(&found);
        let starts = [
            "The node has",
            "Stop kube-router",
            "Install",
            "Bridgewarden's rules",
            "Bridgewarden's rules",
            "",
        ];
        assert!(order.iter().zip(starts).all(|(step, start)| step.starts_with(start)), "{order:?}");
        assert_eq!(order[5], "");
    }

    #[test]
    fn kube_router_inside_k3s_counts_as_running_while_its_rules_are_there() {
        let found = MigrationState { is_k3s: true, running: BTreeSet::new(), ..beside_kube_router() };
        let step = &found.steps()[1];
        assert_eq!(step.done, Some(false));
        assert!(step.commands[0].contains("disable-network-policy"), "{step:?}");
    }

    #[test]
    fn controller_that_takes_its_rules_along_is_stopped_once_ours_are_in_force() {
        let theirs = BTreeSet::from([KubeNetworkPolicies]);
        let mut found = MigrationState {
            at_work: theirs.clone(),
            running: theirs,
            has_leftovers: true,
            ..MigrationState::default()
        };
        let mut order = Vec::new();
        let mut see = |found: &MigrationState| order.push(next(found).unwrap_or_default());
        see(&found);
        found.agent_runs = true;
        see(&found);
        found.is_in_force = true;
        (found.at_work, found.has_leftovers) = (BTreeSet::new(), false);
        see(&found);
        found.running.clear();
        see(&found);
        let starts = ["Install", "Install", "Stop kube-network-policies", ""];
        assert!(order.iter().zip(starts).all(|(step, start)| step.starts_with(start)), "{order:?}");
        assert_eq!(order[3], "");
    }

    #[test]
    fn network_that_is_the_controller_too_is_replaced_node_by_node() {
        let found = MigrationState { at_work: BTreeSet::from([Calico]), ..beside_kube_router() };
        let steps = found.steps();
        let step = steps.iter().find(|step| step.what.starts_with("Replace Calico")).expect("a step");
        assert!(step.commands[1].starts_with("kubectl drain node-a"), "{step:?}");
    }

    #[test]
    fn way_back_ends_when_nothing_of_bridgewarden_is_there() {
        let done =
            |found: &MigrationState| found.steps_back().iter().map(|step| step.done).collect::<Vec<_>>();
        let mut found = MigrationState { agent_runs: true, is_in_force: true, ..MigrationState::default() };
        assert_eq!(done(&found), [Some(false), Some(false)]);
        found.at_work.insert(KubeRouter);
        found.unfinished.insert(KubeRouter);
        assert_eq!(done(&found), [Some(false), Some(false)], "its hooks deny nothing yet");
        found.unfinished.clear();
        assert_eq!(done(&found), [Some(true), Some(false)]);
        (found.agent_runs, found.is_in_force) = (false, false);
        assert_eq!(done(&found), [Some(true), Some(true)]);
    }
}
