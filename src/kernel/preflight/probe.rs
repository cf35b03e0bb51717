//! Tries what this program uses: a temporary set of every kind, and every match and target in a temporary chain.
//!
//! `iptables-restore --test` does not consult the kernel, and neither does a transaction that fills a chain and flushes
//! it. So one transaction creates the chain and the next removes it; no packet ever enters it. The next check removes
//! what a crash leaves behind. A table that did not exist before is removed again.

use crate::apply::KernelError;
use crate::kernel::exec::Runner;
use crate::kernel::ipset::Ipset;
use crate::kernel::{iptables, table_list};
use crate::net::Family;
use crate::netfilter::SetName;
use crate::netfilter::ipset::{Kind, Set, Type};
use crate::netfilter::iptables::Variant;
use crate::ownership::SCRATCH;
use std::collections::BTreeSet;

/// A kernel module and a rule that needs it.
type ModuleProbe = (&'static str, &'static str);

const PROBES: [ModuleProbe; 18] = [
    ("xt_conntrack", "-m conntrack --ctstate INVALID,NEW,RELATED,ESTABLISHED,UNTRACKED -j RETURN"),
    ("xt_set", "-m set --match-set BRIDGEWARDEN-PREFLIGHT src -j RETURN"),
    ("xt_physdev", "-m physdev --physdev-is-bridged -j RETURN"),
    ("xt_physdev", "-m physdev ! --physdev-is-bridged -j RETURN"),
    ("xt_mark", "-m mark --mark 0x1/0x1 -j RETURN"),
    ("xt_mark", "-j MARK --set-xmark 0x0/0x1"),
    ("xt_connmark", "-m connmark --mark 0x1/0x1 -j RETURN"),
    ("xt_addrtype", "-m addrtype --src-type LOCAL -j RETURN"),
    ("xt_tcpudp", "-p tcp -m tcp --dport 80 -j RETURN"),
    ("xt_tcpudp", "-p udp -m udp --dport 80:90 -j RETURN"),
    ("xt_sctp", "-p sctp -m sctp --dport 80:90 -j RETURN"),
    ("xt_multiport", "-p tcp -m multiport --dports 80,443:445 -j RETURN"),
    ("xt_multiport", "-p sctp -m multiport --dports 80,443:445 -j RETURN"),
    ("xt_limit", "-m limit --limit 10/sec -j RETURN"),
    ("xt_comment", "-m comment --comment \"a b\" -j RETURN"),
    ("xt_NFLOG", "-j NFLOG --nflog-group 101"),
    ("nf_conntrack", "-j ACCEPT"),
    ("nf_conntrack", "-i lo -j DROP"),
];
const PROBES_V4: [ModuleProbe; 2] = [
    ("ipt_REJECT", "-p tcp -j REJECT --reject-with tcp-reset"),
    ("ipt_REJECT", "-j REJECT --reject-with icmp-port-unreachable"),
];
const PROBES_V6: [ModuleProbe; 3] = [
    ("ip6t_REJECT", "-p tcp -j REJECT --reject-with tcp-reset"),
    ("ip6t_REJECT", "-j REJECT --reject-with icmp6-port-unreachable"),
    ("ip6_tables", "-p ipv6-icmp -m icmp6 --icmpv6-type 135 -j RETURN"),
];

/// A rule that the kernel or the program rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRule {
    /// The family.
    pub family: Family,
    /// The rule; `None` if no rule was accepted.
    pub rule: Option<&'static str>,
    /// The kernel module that it needs; `None` if no rule was accepted.
    pub module: Option<&'static str>,
    /// The error message.
    pub complaint: String,
}

/// The kinds of sets that cannot be created, and why.
pub(super) fn refused_sets() -> Vec<(String, String)> {
    let mut ipset = match Ipset::open() {
        Ok(ipset) => ipset,
        Err(error) => return vec![("ipset".to_owned(), error.to_string())],
    };
    let types = [Type::HashIp, Type::HashNet, Type::HashIpPort];
    let kinds = Family::BOTH.into_iter().flat_map(|family| types.map(|of| Kind { of, family }));
    let refused = kinds.filter_map(|kind| {
        let error = with_scratch_set(&mut ipset, kind, || ()).err()?;
        Some((format!("{} of {}", kind.of.name(), kind.family), error.to_string()))
    });
    refused.collect()
}

/// The rules that the kernel does not accept.
pub(super) fn refused_rules(runner: &mut Runner, variant: Variant) -> Vec<RefusedRule> {
    let mut refused = Vec::new();
    for family in Family::BOTH {
        let had_table = variant == Variant::Legacy || table_list::has_filter(family).unwrap_or(true);
        let tried = Ipset::open().and_then(|mut ipset| {
            let kind = Kind { of: Type::HashIp, family };
            with_scratch_set(&mut ipset, kind, || try_rules(runner, variant, family))
        });
        match tried {
            Ok(found) => refused.extend(found),
            Err(error) => {
                refused.push(RefusedRule { family, rule: None, module: None, complaint: error.to_string() })
            }
        }
        if !had_table {
            // If the kernel rejects this, the empty table stays: that does not prevent enforcement.
            table_list::remove_empty_filter(family).ok();
        }
    }
    refused
}

fn with_scratch_set<T>(ipset: &mut Ipset, kind: Kind, during: impl FnOnce() -> T) -> Result<T, KernelError> {
    let name = SetName::new(SCRATCH).expect("a legal name");
    ipset.destroy(&name)?;
    ipset.create(&name, &Set { kind, elements: BTreeSet::new() })?;
    let result = during();
    ipset.destroy(&name)?;
    Ok(result)
}

/// Tries all rules at once, and each separately only if that fails, to find out which.
fn try_rules(runner: &mut Runner, variant: Variant, family: Family) -> Vec<RefusedRule> {
    let probes = probes(family);
    let mut attempt =
        |probes: &[ModuleProbe]| iptables::restore(runner, variant, family, &scratch_text(probes));
    let Err(overall) = attempt(&probes) else { return Vec::new() };
    let refused: Vec<RefusedRule> = probes
        .iter()
        .filter_map(|probe| {
            let complaint = attempt(&[*probe]).err()?.to_string();
            Some(RefusedRule { family, rule: Some(probe.1), module: Some(probe.0), complaint })
        })
        .collect();
    if refused.is_empty() || refused.len() == probes.len() {
        return vec![RefusedRule { family, rule: None, module: None, complaint: overall.to_string() }];
    }
    refused
}

fn probes(family: Family) -> Vec<ModuleProbe> {
    let own: &[ModuleProbe] = match family {
        Family::V4 => &PROBES_V4,
        Family::V6 => &PROBES_V6,
    };
    PROBES.iter().chain(own).copied().collect()
}

fn scratch_text(probes: &[ModuleProbe]) -> String {
    let rules: String = probes.iter().map(|(_, rule)| format!("-A {SCRATCH} {rule}\n")).collect();
    format!("*filter\n:{SCRATCH} - [0:0]\n{rules}COMMIT\n*filter\n:{SCRATCH} - [0:0]\n-X {SCRATCH}\nCOMMIT\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::ChainName;

    #[test]
    fn scratch_chain_is_filled_by_one_transaction_and_removed_by_the_next() {
        assert!(ChainName::new(SCRATCH).is_some());
        assert_eq!(
            scratch_text(&PROBES_V4[..1]),
            "*filter\n:BRIDGEWARDEN-PREFLIGHT - [0:0]\n\
             -A BRIDGEWARDEN-PREFLIGHT -p tcp -j REJECT --reject-with tcp-reset\nCOMMIT\n\
             *filter\n:BRIDGEWARDEN-PREFLIGHT - [0:0]\n-X BRIDGEWARDEN-PREFLIGHT\nCOMMIT\n"
        );
    }
}
