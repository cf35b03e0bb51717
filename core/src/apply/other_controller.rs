//! Other NetworkPolicy controllers, recognised by their rules and tables in a packet filter, and the removal of what
//! they left.

use super::{RestoreText, Step, TableText, own_chains};
use crate::net::Family;
use crate::netfilter::iptables::{Variant, asked_sets, target};
use crate::netfilter::{ChainName, SetName};
use crate::ownership::ENTRANCES;
use std::collections::BTreeSet;
use std::fmt::Write;

/// A NetworkPolicy controller that is not this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OtherController {
    /// kube-router, as a program of its own or inside k3s.
    KubeRouter,
    /// kube-network-policies of the Kubernetes project, which Flannel's chart can install.
    KubeNetworkPolicies,
    /// Calico, also as a part of Canal.
    Calico,
    /// Weave Net's controller.
    WeaveNpc,
    /// Cilium.
    Cilium,
    /// Antrea.
    Antrea,
    /// Azure's controller.
    AzureNpm,
}

use OtherController::{Antrea, AzureNpm, Calico, Cilium, KubeNetworkPolicies, KubeRouter, WeaveNpc};

/// The beginnings of the names of chains to which a built-in chain of the filter table jumps.
const HOOKS: [(&str, OtherController); 6] = [
    ("cali-", Calico),
    ("WEAVE-NPC", WeaveNpc),
    ("CILIUM_", Cilium),
    ("ANTREA-", Antrea),
    ("AZURE-NPM", AzureNpm),
    ("KUBE-ROUTER-", KubeRouter),
];
/// The chains by which kube-router evaluates policies; its other chains are about Services.
const OF_KUBE_ROUTER: [&str; 3] = ["KUBE-ROUTER-INPUT", "KUBE-ROUTER-FORWARD", "KUBE-ROUTER-OUTPUT"];
/// By this mark it lets packets pass that its policies allow. It writes the rule into each of the chains above, in the
/// transaction in which it first writes the chains of pods.
const PASSES_KUBE_ROUTER: &str = "-m mark --mark 0x20000/0x20000 -j ACCEPT";
/// The names of kube-router's chains that begin with `KUBE-NWPLCY-` and have no hash.
const FIXED_OF_KUBE_ROUTER: [&str; 3] = ["KUBE-NWPLCY-DEFAULT", "KUBE-NWPLCY-COMMON", "KUBE-NWPLCY-TAIL"];
/// Tables of nf_tables, as `nft` names them.
const TABLES: [(&str, OtherController); 6] = [
    ("inet kube-network-policies", KubeNetworkPolicies),
    ("ip kube-router-filter-ipv4", KubeRouter),
    ("ip6 kube-router-filter-ipv6", KubeRouter),
    ("ip calico", Calico),
    ("ip6 calico", Calico),
    ("inet antrea", Antrea),
];

/// The beginnings of the names of further sets of theirs.
const SETS: [&str; 6] = ["kube-router-", "cali", "weave-", "cilium", "ANTREA-", "azure-npm-"];

impl OtherController {
    /// All of them.
    pub const ALL: [OtherController; 7] =
        [KubeRouter, KubeNetworkPolicies, Calico, WeaveNpc, Cilium, Antrea, AzureNpm];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            KubeRouter => "kube-router",
            KubeNetworkPolicies => "kube-network-policies",
            Calico => "Calico",
            WeaveNpc => "Weave Net",
            Cilium => "Cilium",
            Antrea => "Antrea",
            AzureNpm => "Azure NPM",
        }
    }

    /// How to stop it on this node. Contains no `;`.
    pub fn cure(self, is_k3s: bool) -> &'static str {
        match self {
            KubeRouter if is_k3s => {
                "k3s runs it: set `disable-network-policy: true` in /etc/rancher/k3s/config.yaml of every server and restart k3s"
            }
            KubeRouter => {
                "kubectl -n kube-system delete daemonset kube-router (k3s runs its own: start its servers with \
                 --disable-network-policy)"
            }
            KubeNetworkPolicies => {
                "kubectl -n kube-system delete daemonset kube-network-policies (of Flannel's chart: netpol.enabled=false)"
            }
            Calico => {
                "kubectl -n kube-system delete daemonset canal (or calico-node, or of the operator: kubectl delete installation \
                 default), and install Flannel alone"
            }
            WeaveNpc => "kubectl -n kube-system set env daemonset/weave-net EXPECT_NPC=0",
            Cilium => {
                "cilium config set enable-policy never (where Cilium is also the network, its pods sit on no bridge)"
            }
            Antrea => "kubectl -n kube-system delete daemonset antrea-agent",
            AzureNpm => "kubectl -n kube-system delete daemonset azure-npm",
        }
    }

    /// The name of its process (/proc/PID/comm).
    pub fn process(self) -> &'static [&'static str] {
        match self {
            KubeRouter => &["kube-router"],
            KubeNetworkPolicies => &["kube-network-po", "netpol"],
            Calico => &["calico-node"],
            WeaveNpc => &["weave-npc"],
            Cilium => &["cilium-agent"],
            Antrea => &["antrea-agent"],
            AzureNpm => &["azure-npm"],
        }
    }

    /// Whether `--takeover` can remove what it leaves behind.
    pub fn is_removable(self) -> bool {
        match self {
            KubeRouter | KubeNetworkPolicies => true,
            Calico | WeaveNpc | Cilium | Antrea | AzureNpm => false,
        }
    }

    /// Whether its rules decide as before when it is stopped. kube-network-policies decides itself, and deletes its table
    /// when it ends; if it cannot, the kernel drops or passes all that the table sends to it, by `--fail-open`.
    pub fn leaves_its_rules(self) -> bool {
        self != KubeNetworkPolicies
    }

    /// The controller to which a rule of a built-in chain of the filter table belongs, by the chain that it jumps to.
    pub fn of_hook(rule: &str) -> Option<OtherController> {
        let target = target(rule)?;
        let own = HOOKS.into_iter().find(|(prefix, _)| target.starts_with(prefix)).map(|(_, own)| own)?;
        (own != KubeRouter || OF_KUBE_ROUTER.contains(&target)).then_some(own)
    }

    /// Whether a set of ipset may belong to one of them.
    pub fn may_own_set(name: &str) -> bool {
        let plain = name.strip_prefix("inet6:").unwrap_or(name);
        is_set_of_kube_router(name) || SETS.into_iter().any(|prefix| plain.starts_with(prefix))
    }

    /// The controller to which a table of nf_tables belongs.
    pub fn of_table(table: &str) -> Option<OtherController> {
        TABLES.into_iter().find(|(name, _)| *name == table).map(|(_, own)| own)
    }
}

/// What other controllers have in this kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherControllers {
    /// Controllers whose rules evaluate packets.
    pub at_work: BTreeSet<OtherController>,
    /// Those of them that have made their hooks and have not written the rules for pods yet, so that nothing is denied.
    pub unfinished: BTreeSet<OtherController>,
    /// Controllers whose process was found. k3s is not looked for: its process is the kubelet, too.
    pub running: BTreeSet<OtherController>,
    /// Steps that remove their rules, unless a program writes these again.
    removal: Vec<Step>,
    sets: BTreeSet<SetName>,
}

impl OtherControllers {
    /// Whether there is something that can be removed.
    pub fn left_something(&self) -> bool {
        !self.removal.is_empty()
    }

    /// The steps that remove it: hooks and chains in one transaction for each family, then sets that no rule matches
    /// any more.
    pub fn removal(&self) -> impl Iterator<Item = Step> {
        self.removal.iter().cloned().chain(self.sets.iter().cloned().map(Step::DestroySet))
    }

    /// Evaluates one filter table.
    pub(super) fn see(&mut self, variant: Variant, family: Family, table: &TableText) {
        let hooks = || {
            let built_in = table.chains.iter().filter(|(name, _)| ENTRANCES.contains(&name.as_str()));
            built_in.flat_map(|(name, rules)| rules.iter().map(move |rule| (name.as_str(), rule.as_str())))
        };
        self.at_work.extend(hooks().filter_map(|(_, rule)| OtherController::of_hook(rule)));
        let hooked =
            hooks().filter_map(|(_, rule)| target(rule)).filter(|name| OF_KUBE_ROUTER.contains(name));
        let is_finished = |name: &str| {
            table.chains.get(name).into_iter().flatten().any(|rule| rule.ends_with(PASSES_KUBE_ROUTER))
        };
        if hooked.into_iter().any(|name| !is_finished(name)) {
            self.unfinished.insert(KubeRouter);
        }
        let chains = chains_of_kube_router(table);
        if chains.is_empty() {
            return;
        }
        let own_hook = |(_, rule): &(&str, &str)| OtherController::of_hook(rule) == Some(KubeRouter);
        let hooks: Vec<(&str, &str)> = hooks().filter(own_hook).collect();
        for rule in chains.iter().filter_map(|chain| table.chains.get(*chain)).flatten() {
            self.sets
                .extend(asked_sets(rule).filter(|name| is_set_of_kube_router(name)).filter_map(SetName::new));
        }
        let text = removal_text(table, &chains, &hooks);
        let writes = chains.iter().copied().filter_map(ChainName::new).collect();
        self.removal.push(Step::Restore(variant, family, RestoreText { text, writes }));
    }

    /// Evaluates the tables of nf_tables.
    pub(super) fn see_tables<'a>(&mut self, tables: impl Iterator<Item = &'a String>) {
        for (table, own) in tables.filter_map(|table| Some((table, OtherController::of_table(table)?))) {
            self.at_work.insert(own);
            if own.is_removable() {
                self.removal.push(Step::RemoveNftTable(table.clone()));
            }
        }
    }
}

/// Removes the hooks, empties the chains, and removes those that no rule of another program jumps to.
fn removal_text(table: &TableText, chains: &BTreeSet<&str>, hooks: &[(&str, &str)]) -> String {
    let others = table.chains.iter().filter(|(name, _)| !chains.contains(name.as_str()));
    let rules = others.flat_map(|(name, rules)| rules.iter().map(|rule| (name.as_str(), rule.as_str())));
    let held: BTreeSet<&str> =
        rules.filter(|rule| !hooks.contains(rule)).filter_map(|(_, rule)| target(rule)).collect();
    let mut text = String::from("*filter\n");
    for chain in chains {
        let _ = writeln!(text, ":{chain} - [0:0]");
    }
    for (builtin, rule) in hooks {
        let _ = writeln!(text, "-D {builtin} {rule}");
    }
    for chain in chains.iter().filter(|chain| !held.contains(*chain)) {
        let _ = writeln!(text, "-X {chain}");
    }
    text.push_str("COMMIT\n");
    text
}

/// The chains by which kube-router evaluates policies. Their names may look like those of this program's version 0.1.0.
pub fn chains_of_kube_router(table: &TableText) -> BTreeSet<&str> {
    let own = own_chains(table);
    let is_theirs = |name: &&str| {
        let hashed =
            ["KUBE-POD-FW-", "KUBE-NWPLCY-"].into_iter().find_map(|prefix| name.strip_prefix(prefix));
        let is_hash = |hash: &str| {
            hash.len() == 16 && hash.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'))
        };
        OF_KUBE_ROUTER.contains(name) || FIXED_OF_KUBE_ROUTER.contains(name) || hashed.is_some_and(is_hash)
    };
    table.chains.keys().map(String::as_str).filter(is_theirs).filter(|name| !own.contains(name)).collect()
}

fn is_set_of_kube_router(name: &str) -> bool {
    let name = name.strip_prefix("inet6:").unwrap_or(name);
    name.starts_with("KUBE-SRC-") || name.starts_with("KUBE-DST-") || name == "kube-router-local-pods"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(passes: [&str; 2]) -> OtherControllers {
        let mut found = OtherControllers::default();
        for (family, own) in Family::BOTH.into_iter().zip(passes) {
            let hook = "-m comment --comment \"kube-router netpol - A\" -j KUBE-ROUTER-FORWARD";
            let mut table = TableText::default();
            table.chains.insert("FORWARD".to_owned(), vec![hook.to_owned()]);
            let rules = [own].into_iter().filter(|rule| !rule.is_empty()).map(str::to_owned).collect();
            table.chains.insert("KUBE-ROUTER-FORWARD".to_owned(), rules);
            found.see(Variant::Nft, family, &table);
        }
        found
    }

    #[test]
    fn hooks_of_kube_router_are_unfinished_until_its_rules_are_written_in_both_families() {
        let passes = "-m comment --comment \"rule to explicitly ACCEPT traffic that comply to network policies\" \
                      -m mark --mark 0x20000/0x20000 -j ACCEPT";
        let router = BTreeSet::from([KubeRouter]);
        for unfinished in [["", ""], [passes, ""], ["", passes], [passes, "-j KUBE-NWPLCY-TAIL"]] {
            let found = seen(unfinished);
            assert_eq!((&found.at_work, &found.unfinished), (&router, &router), "{unfinished:?}");
        }
        let found = seen([passes, passes]);
        assert_eq!((found.at_work, found.unfinished), (router, BTreeSet::new()));
    }
}
