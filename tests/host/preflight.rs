//! The checks, on namespaces that lack something.

use super::{in_namespace, run};
use bridgewarden::apply::PacketFilter;
use bridgewarden::kernel::Host;
use bridgewarden::kernel::preflight::{self, Missing, Wanted};
use bridgewarden::net::Family;
use bridgewarden::netfilter::BackendName;
use bridgewarden::netfilter::iptables::Variant;

fn wanted(backend: BackendName) -> Wanted {
    let (bridge, log_group) = ("cni0".to_owned(), Some(101));
    Wanted { backend, bridge, mark: 0x10000, log_group, try_bridge_table: true, may_load_tables: false }
}

fn failing(backend: impl Into<BackendName>) -> Vec<(&'static str, Missing)> {
    let checks = preflight::check(&wanted(backend.into())).into_iter();
    checks.filter_map(|check| Some((check.name, check.result.err()?))).collect()
}

#[test]
fn preflight_finds_a_ready_host_ready_and_leaves_it_as_it_was() {
    in_namespace(|| {
        run("sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1
             sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        for variant in Variant::BOTH {
            let mut host = Host::new(variant).expect("a host");
            let before = Family::BOTH.map(|family| host.read_table(variant, family).expect("read"));
            assert_eq!(failing(variant), [], "{variant:?}");
            assert_eq!(Family::BOTH.map(|family| host.read_table(variant, family).expect("read")), before);
            assert!(host.read_sets("").expect("read").is_empty());
        }
        let mut host = Host::new(BackendName::Nftables).expect("a host");
        let before = host.read_nft_tables().expect("read");
        assert_eq!(failing(BackendName::Nftables), []);
        assert_eq!(host.read_nft_tables().expect("read"), before);
    });
}

#[test]
fn preflight_for_nftables_tries_a_table_and_asks_for_no_program() {
    in_namespace(|| {
        let checks = preflight::check(&wanted(BackendName::Nftables));
        let names: Vec<&str> = checks.iter().map(|check| check.name).collect();
        assert!(names.contains(&"nftables"), "{names:?}");
        for of_iptables in ["programs", "set-types", "matches"] {
            assert!(!names.contains(&of_iptables), "{of_iptables} in {names:?}");
        }
    });
}

#[test]
fn preflight_reports_what_is_wrong_in_this_namespace() {
    in_namespace(|| {
        run("sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0
             ip link add cni0 type bridge
             ip link set cni0 up
             ip -6 address add fd00::1/64 dev cni0 nodad
             iptables-legacy -N KUBE-ROUTER-FORWARD
             iptables-legacy -A FORWARD -j KUBE-ROUTER-FORWARD
             iptables-nft -t mangle -A PREROUTING -j MARK --set-mark 0x10000/0x10000");
        let names: Vec<&str> = failing(Variant::Nft).into_iter().map(|(name, _)| name).collect();
        let sysctls =
            ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "ip-forward", "ipv6-forwarding"];
        assert_eq!(names[..4], sysctls);
        assert_eq!(names[4..], ["other-controller", "mark"]);
        for (name, missing) in failing(Variant::Nft) {
            if name == "other-controller" {
                run(missing.cure.split_once("; ").expect("two commands").1);
            } else if missing.cure.starts_with("sysctl") {
                run(missing.cure.split(" && ").next().expect("a command"));
            }
        }
        let names: Vec<&str> = failing(Variant::Nft).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["mark"], "the fixes work");
        let sysctls = preflight::check_sysctls(&wanted(BackendName::IptablesNft));
        assert!(sysctls.iter().all(|check| check.result.is_ok()), "{sysctls:?}");
    });
}

#[test]
fn variant_is_that_of_kube_proxy_and_looking_loads_no_legacy_tables() {
    in_namespace(|| {
        let legacy_tables =
            || std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
        assert_eq!(preflight::detect_backend().0, BackendName::IptablesNft);
        assert_eq!(legacy_tables(), "");
        run("iptables-legacy -t nat -N KUBE-SERVICES");
        assert_eq!(preflight::detect_backend().0, BackendName::IptablesLegacy);
        run("ip6tables-nft -t mangle -N KUBE-IPTABLES-HINT");
        assert_eq!(preflight::detect_backend().0, BackendName::IptablesNft);
        run("nft add table ip6 kube-proxy");
        let (backend, reason) = preflight::detect_backend();
        assert_eq!(backend, BackendName::Nftables);
        assert_eq!(reason, "kube-proxy uses nftables: table ip6 kube-proxy");
    });
}

#[test]
fn table_that_iptables_cannot_show_is_an_error_and_not_an_empty_table() {
    in_namespace(|| {
        run("iptables-nft -N THEIRS
             nft add rule ip filter THEIRS ct state new accept");
        let error = Host::new(Variant::Nft)
            .expect("a host")
            .read_table(Variant::Nft, Family::V4)
            .expect_err("unreadable");
        assert!(error.to_string().contains("rules that only nft can show"), "{error}");
        let names: Vec<&str> = failing(Variant::Nft).into_iter().map(|(name, _)| name).collect();
        assert!(names.contains(&"rules"), "{names:?}");
    });
}
