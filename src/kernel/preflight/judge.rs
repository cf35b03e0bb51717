//! Judges facts: what is missing for enforcement, and how to provide it. Without I/O.

use super::facts::{CALL_IP6TABLES, CALL_IPTABLES, FORWARD_V4, FORWARD_V6, Facts};
use super::others;
use super::{Check, Missing, OTHER_CONTROLLER, OTHER_VARIANT, Wanted};
use crate::net::Family;
use crate::netfilter::iptables::Variant;
use std::collections::BTreeSet;

/// The capabilities needed (linux/capability.h), and why: both variants look up sets through a raw socket.
const CAPABILITIES: [(u32, &str); 2] = [(12, "NET_ADMIN"), (13, "NET_RAW")];

/// What was found, or what is missing.
pub(super) type CheckResult = Result<String, Missing>;

pub(super) fn missing(problem: impl Into<String>, cure: impl Into<String>) -> CheckResult {
    Err(Missing { problem: problem.into(), cure: cure.into() })
}

/// All checks.
pub fn judge(facts: &Facts, wanted: &Wanted) -> Vec<Check> {
    let mut checks = vec![Check { name: "capabilities", result: capabilities(facts) }];
    checks.extend(judge_sysctls(facts, wanted));
    match wanted.backend.variant() {
        Some(variant) => checks.extend([
            Check { name: "programs", result: programs(facts, variant) },
            Check { name: "set-types", result: set_types(facts) },
            Check { name: "matches", result: matches(facts, variant) },
        ]),
        None => checks.push(Check { name: "nftables", result: inet_table(facts) }),
    }
    checks.extend([
        Check { name: "rules", result: others::rules(facts) },
        Check { name: OTHER_CONTROLLER, result: others::controller(facts) },
        Check { name: OTHER_VARIANT, result: others::variant(facts, wanted) },
        Check { name: "mark", result: others::mark(facts, wanted) },
        Check { name: "log-group", result: log_group(facts, wanted) },
        Check { name: "flowtables", result: Ok(flowtables(facts)) },
        Check { name: "bridge", result: bridge(facts, wanted) },
    ]);
    if let Some(tried) = &facts.table_owner {
        checks.push(Check { name: "table-owner", result: Ok(table_owner(tried)) });
    }
    if wanted.try_bridge_table {
        checks.push(Check { name: "port-binding", result: Ok(port_binding(facts)) });
    }
    checks
}

/// Which way of binding pods is possible. Without tables of family bridge, the agent only checks addresses.
fn port_binding(facts: &Facts) -> String {
    match &facts.bridge_table {
        Some(Ok(())) => {
            "the kernel supports tables of family bridge: pods can be bound to their ports".to_owned()
        }
        Some(Err(why)) => format!(
            "pods are bound by address alone, so a pod can take over the address of another pod on its bridge: {why}"
        ),
        None => "not tried: the agent writes nothing beside the rules of another NetworkPolicy controller"
            .to_owned(),
    }
}

/// Whether other programs can be kept from changing our tables. Where they cannot be, what they change is written again.
fn table_owner(tried: &Result<(), String>) -> String {
    match tried {
        Ok(()) => {
            "the kernel can keep other programs from changing or flushing Bridgewarden's nftables tables"
                .to_owned()
        }
        Err(why) => format!(
            "other programs can change or flush Bridgewarden's nftables tables, which the agent then writes again: the kernel has no \
             owners of tables that persist (Linux 6.9): {why}"
        ),
    }
}

/// The checks of what other programs may change while the agent runs.
pub fn judge_sysctls(facts: &Facts, wanted: &Wanted) -> Vec<Check> {
    vec![
        Check { name: "br-netfilter", result: bridge_netfilter(facts) },
        Check { name: "bridge-nf-call-iptables", result: bridge_calls(facts, Family::V4) },
        Check { name: "bridge-nf-call-ip6tables", result: bridge_calls(facts, Family::V6) },
        Check { name: "ip-forward", result: ip_forwarding(facts, wanted) },
        Check { name: "ipv6-forwarding", result: ipv6_forwarding(facts, wanted) },
    ]
}

fn capabilities(facts: &Facts) -> CheckResult {
    let lacking: Vec<&str> = CAPABILITIES
        .into_iter()
        .filter(|(bit, _)| facts.capabilities & 1 << bit == 0)
        .map(|(_, name)| name)
        .collect();
    if lacking.is_empty() {
        return Ok("the process has NET_ADMIN and NET_RAW".to_owned());
    }
    let names = lacking.join(", ");
    missing(
        format!("the process lacks {names}, which it needs to read and change iptables rules"),
        format!("run as root, in a pod with securityContext.capabilities.add: [{names}]"),
    )
}

fn bridge_netfilter(facts: &Facts) -> CheckResult {
    if facts.bridge_netfilter {
        return Ok("br_netfilter is loaded: iptables sees bridged packets".to_owned());
    }
    missing(
        "the module br_netfilter is not loaded: policies do not apply to packets between pods on one bridge",
        "modprobe br_netfilter && echo br_netfilter > /etc/modules-load.d/br_netfilter.conf",
    )
}

fn bridge_calls(facts: &Facts, family: Family) -> CheckResult {
    let name = match family {
        Family::V4 => CALL_IPTABLES,
        Family::V6 => CALL_IP6TABLES,
    };
    if !facts.bridge_netfilter {
        return missing(format!("there is no {name}: br_netfilter is not loaded"), set_sysctl(name));
    }
    if family == Family::V6 && !facts.ipv6 {
        return Ok("this kernel has no IPv6, so pods have none".to_owned());
    }
    if facts.sysctls.get(name).is_some_and(|value| value != "0") {
        return Ok(format!("{name} is on"));
    }
    missing(
        format!("{name} is off: policies do not apply to {family} packets between pods on one bridge"),
        set_sysctl(name),
    )
}

fn forwarding(facts: &Facts, name: &'static str) -> CheckResult {
    if facts.sysctls.get(name).is_some_and(|value| value != "0") {
        return Ok(format!("{name} is on"));
    }
    missing(format!("{name} is off: pods cannot reach anything beyond their bridge"), set_sysctl(name))
}

fn ip_forwarding(facts: &Facts, wanted: &Wanted) -> CheckResult {
    match forwarding(facts, FORWARD_V4) {
        Err(_) if !facts.devices.contains(&wanted.bridge) => Ok(format!(
            "{FORWARD_V4} is off; the CNI plugin turns it on when it creates {} for the first pod",
            wanted.bridge
        )),
        verdict => verdict,
    }
}

fn ipv6_forwarding(facts: &Facts, wanted: &Wanted) -> CheckResult {
    if !facts.ipv6 {
        return Ok("this kernel has no IPv6, so pods have none".to_owned());
    }
    match forwarding(facts, FORWARD_V6) {
        Err(_) if !facts.bridge_has_ipv6 => {
            Ok(format!("{FORWARD_V6} is off; {} has no IPv6 address, so nothing needs it", wanted.bridge))
        }
        verdict => verdict,
    }
}

fn set_sysctl(name: &str) -> String {
    format!("sysctl -w {name}=1 && echo '{name} = 1' >> /etc/sysctl.d/99-kubernetes.conf")
}

fn programs(facts: &Facts, variant: Variant) -> CheckResult {
    if facts.absent_programs.is_empty() {
        return Ok(format!("iptables-{} is installed for both families", variant.name()));
    }
    missing(
        format!("{} not found in PATH", facts.absent_programs.join(", ")),
        "apt install iptables (Debian), apk add iptables iptables-legacy (Alpine), or choose the other variant",
    )
}

/// Whether the kernel accepts the table that the backend `nftables` writes.
fn inet_table(facts: &Facts) -> CheckResult {
    match &facts.inet_table {
        None => Ok(BESIDE.to_owned()),
        Some(Ok(())) => Ok("the kernel accepts every statement and set that Bridgewarden uses".to_owned()),
        Some(Err(why)) => missing(
            format!("the kernel rejects the table that the backend nftables writes: {why}"),
            "modprobe -a nf_tables nf_reject_ipv4 nf_reject_ipv6 nft_ct nft_fib_inet nft_log nft_limit nft_objref \
             nft_reject_inet, or use --backend=iptables-nft",
        ),
    }
}

/// Whether flowtables prevent connections from being cut.
fn flowtables(facts: &Facts) -> String {
    if facts.flowtables.is_empty() {
        return "no flowtable takes packets past the forward hook".to_owned();
    }
    let names: Vec<&str> = facts.flowtables.iter().map(String::as_str).collect();
    format!(
        "flowtable {}: packets of connections in it pass no forward hook, so they are not cut when policies no longer allow them",
        names.join(", ")
    )
}

/// The result of checks that were not made.
const BESIDE: &str =
    "not tried: the agent writes nothing beside the rules of another NetworkPolicy controller";

fn set_types(facts: &Facts) -> CheckResult {
    if others::has_controller(facts) {
        return Ok(BESIDE.to_owned());
    }
    let refused: Vec<String> = facts
        .refused_sets
        .iter()
        .filter(|(kind, _)| facts.ipv6 || !kind.ends_with("IPv6"))
        .map(|(kind, complaint)| format!("{kind}: {complaint}"))
        .collect();
    if refused.is_empty() {
        return Ok("the kernel can create hash:ip, hash:net and hash:ip,port".to_owned());
    }
    missing(refused.join("; "), "modprobe -a ip_set ip_set_hash_ip ip_set_hash_net ip_set_hash_ipport xt_set")
}

fn matches(facts: &Facts, variant: Variant) -> CheckResult {
    if !facts.absent_programs.is_empty() || !facts.refused_sets.is_empty() {
        return missing("not tried: the checks programs and set-types fail", "fix those first");
    }
    if others::has_controller(facts) {
        return Ok(BESIDE.to_owned());
    }
    if !facts.tried_rules {
        return Ok(format!(
            "not tried: trying rules would load the filter table of iptables-{}, which nothing uses yet",
            variant.name()
        ));
    }
    let refused = facts.refused_rules.iter().filter(|rule| facts.ipv6 || rule.family == Family::V4);
    let refused: Vec<_> = refused.collect();
    let Some(first) = refused.first() else {
        return Ok(format!(
            "iptables-{} accepts every match and target that Bridgewarden uses",
            variant.name()
        ));
    };
    let modules: BTreeSet<&str> = refused.iter().filter_map(|rule| rule.module).collect();
    let modules: Vec<&str> = modules.into_iter().collect();
    let problem = format!(
        "the kernel rejects {} rules such as {:?}: {}",
        first.family,
        first.rule.unwrap_or("any"),
        first.complaint
    );
    let cure = if first.complaint.contains("lock") {
        "mount the host's /run/xtables.lock into the container (hostPath, type FileOrCreate)".to_owned()
    } else if modules.is_empty() {
        "use the other variant, or look in dmesg".to_owned()
    } else {
        format!("modprobe -a {}", modules.join(" "))
    };
    missing(problem, cure)
}

fn log_group(facts: &Facts, wanted: &Wanted) -> CheckResult {
    let Some(group) = wanted.log_group else {
        return Ok("no NFLOG group is configured".to_owned());
    };
    let Some(port) = facts.log_readers.get(&group) else {
        return Ok(format!("no other program reads NFLOG group {group}"));
    };
    let free = (101..=u16::MAX).find(|group| !facts.log_readers.contains_key(group)).unwrap_or_default();
    Ok(format!(
        "NFLOG group {group} has a reader already (netlink port {port}); if that is not Bridgewarden, denied packets \
         cannot be reported: use another group, for example --nflog-group {free}"
    ))
}

fn bridge(facts: &Facts, wanted: &Wanted) -> CheckResult {
    let name = &wanted.bridge;
    Ok(if facts.devices.contains(name) {
        format!("{name} exists")
    } else {
        format!("{name} does not exist yet; the CNI plugin creates it with the first pod")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::preflight::RefusedRule;
    use crate::kernel::preflight::fixture::{failing, healthy, wanted};

    #[test]
    fn healthy_host_lacks_nothing() {
        assert_eq!(failing(&healthy()).0, Vec::<&str>::new());
    }

    #[test]
    fn sysctl_that_is_off_is_reported_with_the_command_that_turns_it_on() {
        let mut facts = healthy();
        facts.sysctls.insert(CALL_IPTABLES, "0".to_owned());
        let (names, problem, cure) = failing(&facts);
        assert_eq!(names, ["bridge-nf-call-iptables"]);
        assert!(problem.contains("policies do not apply"), "{problem}");
        assert!(cure.starts_with("sysctl -w net.bridge.bridge-nf-call-iptables=1"), "{cure}");
    }

    #[test]
    fn flowtables_are_named_and_fail_nothing() {
        let said = |flowtables| {
            let checks = judge(&Facts { flowtables, ..healthy() }, &wanted());
            let check = checks.into_iter().find(|check| check.name == "flowtables");
            check.expect("it is among them").result.expect("enforcement goes on")
        };
        let text = said(BTreeSet::from(["antrea fast".to_owned()]));
        assert!(text.contains("antrea fast") && !said(BTreeSet::new()).contains("antrea"), "{text}");
    }

    #[test]
    fn host_without_tables_of_family_bridge_is_fit_and_what_it_lacks_is_reported() {
        let check = |facts: &Facts, wanted: &Wanted| {
            judge(facts, wanted).into_iter().find(|check| check.name == "port-binding")
        };
        let said = |bridge_table| {
            let check = check(&Facts { bridge_table, ..healthy() }, &wanted());
            check.expect("it is among them").result.expect("enforcement goes on")
        };
        assert!(said(Some(Ok(()))).contains("can be bound to their ports"));
        let text = said(Some(Err("Operation not supported".to_owned())));
        assert!(text.contains("by address alone") && text.ends_with("Operation not supported"), "{text}");
        assert!(said(None).contains("not tried"));
        assert_eq!(check(&healthy(), &Wanted { try_bridge_table: false, ..wanted() }), None);
    }

    #[test]
    fn without_br_netfilter_everything_that_hangs_on_it_fails() {
        let facts = Facts { bridge_netfilter: false, ..healthy() };
        let (names, _, cure) = failing(&facts);
        assert_eq!(names, ["br-netfilter", "bridge-nf-call-iptables", "bridge-nf-call-ip6tables"]);
        assert!(cure.starts_with("modprobe br_netfilter"), "{cure}");
    }

    #[test]
    fn ipv6_forwarding_matters_only_where_pods_have_global_addresses() {
        let mut facts = healthy();
        facts.sysctls.insert(FORWARD_V6, "0".to_owned());
        assert_eq!(failing(&facts).0, ["ipv6-forwarding"]);
        facts.bridge_has_ipv6 = false;
        assert_eq!(failing(&facts).0, Vec::<&str>::new());
    }

    #[test]
    fn kernel_without_ipv6_lacks_nothing_of_ipv6() {
        let mut facts = Facts { ipv6: false, bridge_has_ipv6: false, ..healthy() };
        facts.sysctls.retain(|name, _| ![CALL_IP6TABLES, FORWARD_V6].contains(name));
        facts.refused_sets = vec![("hash:ip of IPv6".to_owned(), "no".to_owned())];
        assert_eq!(failing(&facts).0, ["matches"], "rules are not tried when sets fail");
        facts.refused_sets.clear();
        facts.refused_rules =
            vec![RefusedRule { family: Family::V6, rule: None, module: None, complaint: "no".to_owned() }];
        assert_eq!(failing(&facts).0, Vec::<&str>::new());
    }

    #[test]
    fn process_without_raw_sockets_cannot_use_sets() {
        let (names, problem, cure) = failing(&Facts { capabilities: 0x1000, ..healthy() });
        assert_eq!(names, ["capabilities"]);
        assert!(problem.contains("NET_RAW") && cure.ends_with("add: [NET_RAW]"), "{problem} {cure}");
    }

    #[test]
    fn match_the_kernel_lacks_is_named_with_its_module() {
        let mut facts = healthy();
        facts.refused_rules = vec![RefusedRule {
            family: Family::V4,
            rule: Some("-m physdev --physdev-is-bridged -j RETURN"),
            module: Some("xt_physdev"),
            complaint: "Extension physdev is not supported".to_owned(),
        }];
        let (names, problem, cure) = failing(&facts);
        assert_eq!((names, cure.as_str()), (vec!["matches"], "modprobe -a xt_physdev"));
        assert!(problem.contains("--physdev-is-bridged"), "{problem}");
    }

    #[test]
    fn log_group_that_is_read_already_is_reported_with_a_free_one_and_is_no_miss() {
        let facts = Facts { log_readers: [(101, "7".to_owned())].into(), ..healthy() };
        let text = log_group(&facts, &wanted()).expect("enforcement can do without");
        assert!(text.contains("netlink port 7") && text.contains("--nflog-group 102"), "{text}");
        assert!(judge(&facts, &wanted()).iter().all(|check| check.result.is_ok()));
    }

    #[test]
    fn node_that_does_not_forward_to_its_bridge_is_reported() {
        let mut facts = healthy();
        facts.sysctls.insert(FORWARD_V4, "0".to_owned());
        assert_eq!(failing(&facts).0, ["ip-forward"]);
    }

    #[test]
    fn bridge_that_is_not_there_yet_is_only_a_note() {
        let mut facts = Facts { devices: BTreeSet::new(), ..healthy() };
        facts.sysctls.insert(FORWARD_V4, "0".to_owned());
        assert_eq!(failing(&facts).0, Vec::<&str>::new());
        let checks = judge(&facts, &wanted());
        let note =
            checks.iter().find(|check| check.name == "bridge").and_then(|check| check.result.clone().ok());
        assert!(note.is_some_and(|note| note.contains("does not exist yet")));
    }
}
