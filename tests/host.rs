//! The real kernel, in network namespaces of our own. Needs root, and says so.

use bridgewarden::apply::host::preflight::{self, Missing, Wanted};
use bridgewarden::apply::host::{Host, Variant};
use bridgewarden::apply::{Connection, Kernel, KernelError, RestoreText, Step};
use bridgewarden::net::{Family, IpNet, Protocol};
use bridgewarden::netfilter::SetName;
use bridgewarden::netfilter::ipset::{Element, Kind, Set, Type};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Instant;

/// Runs a test on a thread of its own, in a network namespace that ends with it.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    assert!(nix::unistd::geteuid().is_root(), "these tests make network namespaces: run them as root");
    let thread = std::thread::Builder::new().name("bw-host-namespace".to_owned());
    let test = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
        test();
    };
    if let Err(panic) = thread.spawn(test).expect("a thread").join() {
        std::panic::resume_unwind(panic);
    }
}

fn run(command: &str) -> String {
    let output = std::process::Command::new("sh").args(["-ec", command]).output().expect("sh runs");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn name(text: &str) -> SetName {
    SetName::new(text).expect("a legal name")
}

fn address(family: Family, number: u32) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(0x0a00_0000 + number).into(),
        Family::V6 => Ipv6Addr::from_bits((0x2001_0db8 << 96) + u128::from(number)).into(),
    }
}

/// A few elements of every shape the kind has.
fn elements(kind: Kind) -> BTreeSet<Element> {
    let nets = match kind.family {
        Family::V4 => ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "128.0.0.0/1"],
        Family::V6 => ["2001:db8::/32", "2001:db8:1::/48", "2001:db8::1/128", "8000::/1"],
    };
    match kind.of {
        Type::HashIp => (1..=5).map(|number| Element::Address(address(kind.family, number))).collect(),
        Type::HashNet => (nets.into_iter().zip([false, true, false, false]))
            .map(|(net, nomatch)| Element::Net { net: net.parse::<IpNet>().expect("a prefix"), nomatch })
            .collect(),
        Type::HashIpPort => Protocol::ALL
            .into_iter()
            .zip([53, 80, 65535])
            .map(|(protocol, port)| Element::AddressPort(address(kind.family, 1), protocol, port))
            .collect(),
    }
}

fn kinds() -> impl Iterator<Item = Kind> {
    let types = [Type::HashIp, Type::HashNet, Type::HashIpPort];
    Family::BOTH.into_iter().flat_map(move |family| types.map(|of| Kind { of, family }))
}

fn many(family: Family, count: u32) -> Set {
    let elements = (0..count).map(|number| Element::Address(address(family, number + 1))).collect();
    Set { kind: Kind { of: Type::HashIp, family }, elements }
}

fn restore(family: Family, lines: &str) -> Step {
    Step::Restore(
        family,
        RestoreText { text: format!("*filter\n{lines}\nCOMMIT\n"), writes: BTreeSet::new() },
    )
}

fn refusal(result: Result<(), KernelError>) -> String {
    result.expect_err("the kernel refuses").to_string()
}

#[test]
fn set_of_every_kind_is_created_edited_replaced_read_and_destroyed() {
    in_namespace(|| {
        let mut host = Host::new(Variant::Nft).expect("a host");
        for kind in kinds() {
            let set = Set { kind, elements: elements(kind) };
            let one = name("BW-one");
            host.commit(&Step::CreateSet(one.clone(), set.clone())).expect("created");
            assert_eq!(host.read_sets("BW-").expect("read")[&one], set);

            let gone: BTreeSet<Element> = set.elements.iter().take(2).copied().collect();
            for _ in 0..2 {
                host.commit(&Step::RemoveElements(one.clone(), kind, gone.clone())).expect("removed twice");
            }
            let left = &set.elements - &gone;
            assert_eq!(host.read_sets("BW-").expect("read")[&one].elements, left);
            for _ in 0..2 {
                host.commit(&Step::AddElements(one.clone(), kind, set.elements.clone()))
                    .expect("added twice");
            }
            assert_eq!(host.read_sets("BW-").expect("read")[&one], set);

            let less = Set { kind, elements: left };
            host.commit(&Step::ReplaceSet(one.clone(), less.clone())).expect("replaced");
            let sets = host.read_sets("").expect("read");
            assert_eq!(sets.len(), 1, "no spare set is left: {sets:?}");
            assert_eq!(sets[&one], less);

            host.commit(&Step::DestroySet(one)).expect("destroyed");
            assert!(host.read_sets("").expect("read").is_empty());
        }
        assert_eq!(host.tally().processes, 0);
    });
}

#[test]
fn sets_read_the_same_in_the_ipset_program() {
    in_namespace(|| {
        let mut host = Host::new(Variant::Nft).expect("a host");
        for kind in kinds() {
            let one = name("BW-one");
            let set = Set { kind, elements: elements(kind) };
            host.commit(&Step::CreateSet(one.clone(), set.clone())).expect("created");
            let saved: BTreeSet<String> =
                run("ipset save").lines().map(|line| line.trim().to_owned()).collect();
            for line in set.text(&one).lines().filter(|line| line.starts_with("add ")) {
                assert!(saved.contains(line), "{line} in {saved:?}");
            }
            host.commit(&Step::DestroySet(one.clone())).expect("destroyed");

            let mut child = std::process::Command::new("ipset")
                .arg("restore")
                .stdin(std::process::Stdio::piped())
                .spawn()
                .expect("ipset runs");
            std::io::Write::write_all(child.stdin.as_mut().expect("a pipe"), set.text(&one).as_bytes())
                .expect("written");
            assert!(child.wait().expect("it ends").success());
            assert_eq!(host.read_sets("BW-").expect("read")[&one], set);
            host.commit(&Step::DestroySet(one)).expect("destroyed");
        }
    });
}

#[test]
fn foreign_sets_of_any_shape_are_left_alone() {
    in_namespace(|| {
        run("ipset create other hash:ip timeout 60 comment counters
             ipset add other 10.0.0.1 comment 'a b c'
             ipset create list list:set
             ipset add list other
             ipset create BW-strange bitmap:port range 1-1000
             ipset create BW-timed hash:ip timeout 60 comment counters skbinfo
             ipset add BW-timed 10.0.0.1 comment 'a b c'");
        let mut host = Host::new(Variant::Nft).expect("a host");
        let sets = host.read_sets("BW-").expect("read");
        let one = Element::Address(address(Family::V4, 1));
        assert_eq!(sets.keys().map(SetName::as_str).collect::<Vec<_>>(), ["BW-timed"]);
        assert_eq!(sets[&name("BW-timed")].elements, BTreeSet::from([one]));
    });
}

#[test]
fn what_cannot_be_is_refused_in_words_and_leaves_nothing_behind() {
    in_namespace(|| {
        let mut host = Host::new(Variant::Nft).expect("a host");
        let set = many(Family::V4, 3);
        let one = name("BW-one");
        let create = Step::CreateSet(one.clone(), set.clone());
        host.commit(&create).expect("created");
        assert_eq!(
            refusal(host.commit(&create)),
            "cannot create set BW-one: a set of that name is there already"
        );
        host.commit(&Step::DestroySet(name("BW-none"))).expect("what is gone needs no destroying");
        assert_eq!(
            refusal(host.commit(&Step::AddElements(name("BW-none"), set.kind, set.elements.clone()))),
            "cannot add to set BW-none: there is no set of that name"
        );
        let strangers = BTreeSet::from([Element::Address(address(Family::V6, 1))]);
        assert_eq!(
            refusal(host.commit(&Step::AddElements(one.clone(), set.kind, strangers.clone()))),
            "cannot add to set BW-one: 2001:db8::1 is no element of a hash:ip set of IPv4"
        );

        for bad in [
            Step::ReplaceSet(name("BW-none"), set.clone()),
            Step::ReplaceSet(one.clone(), Set { kind: set.kind, elements: strangers }),
            Step::ReplaceSet(one.clone(), many(Family::V6, 3)),
        ] {
            refusal(host.commit(&bad));
            let sets = host.read_sets("").expect("read");
            assert_eq!(sets.into_iter().collect::<Vec<_>>(), [(one.clone(), set.clone())], "{bad:?}");
        }
    });
}

#[test]
fn element_that_fails_deep_in_a_batch_is_named() {
    in_namespace(|| {
        let mut host = Host::new(Variant::Nft).expect("a host");
        run("ipset create BW-small hash:ip maxelem 70");
        let set = many(Family::V4, 5000);
        let step = Step::AddElements(name("BW-small"), set.kind, set.elements);
        let text = refusal(host.commit(&step));
        assert!(text.starts_with("cannot add to set BW-small: 10.0.") && text.contains("full"), "{text}");
    });
}

#[test]
fn replacing_clears_away_what_a_killed_process_left() {
    in_namespace(|| {
        let mut host = Host::new(Variant::Nft).expect("a host");
        let long = name("BW-A-NAME-OF-31-CHARACTERS-LONG");
        host.commit(&Step::CreateSet(long.clone(), many(Family::V4, 3))).expect("created");
        run("ipset create BW-A-NAME-OF-31-CHARACTERS--tmp hash:net family inet6");
        host.commit(&Step::ReplaceSet(long.clone(), many(Family::V4, 4))).expect("replaced");
        let sets = host.read_sets("").expect("read");
        assert_eq!(sets.into_iter().collect::<Vec<_>>(), [(long, many(Family::V4, 4))]);
    });
}

#[test]
fn seventy_thousand_elements_fit() {
    in_namespace(|| {
        let mut host = Host::new(Variant::Nft).expect("a host");
        for family in Family::BOTH {
            let one = name("BW-one");
            let set = many(family, 70_000);
            host.commit(&Step::CreateSet(one.clone(), set.clone())).expect("created");
            host.commit(&Step::ReplaceSet(one.clone(), set.clone())).expect("replaced");
            assert_eq!(host.read_sets("BW-").expect("read")[&one], set);
            host.commit(&Step::DestroySet(one)).expect("destroyed");
        }
    });
}

#[test]
fn rules_of_both_variants_and_families_are_read_back_and_hold_their_sets() {
    in_namespace(|| {
        for variant in Variant::BOTH {
            for family in Family::BOTH {
                let mut host = Host::new(variant).expect("a host");
                let empty = host.read_table(family).expect("read");
                assert_eq!(empty.chains.keys().collect::<Vec<_>>(), ["FORWARD", "INPUT", "OUTPUT"]);
                let one = name("BW-one");
                let set = many(family, 3);
                host.commit(&Step::CreateSet(one.clone(), set.clone())).expect("created");
                let rules = "-m set --match-set BW-one src -j RETURN";
                host.commit(&restore(
                    family,
                    &format!(
                        ":KUBE-NWPLCY-A - [0:0]\n-A KUBE-NWPLCY-A {rules}\n-I FORWARD 1 -j KUBE-NWPLCY-A"
                    ),
                ))
                .expect("restored");
                let table = host.read_table(family).expect("read");
                assert_eq!(table.chains["FORWARD"], ["-j KUBE-NWPLCY-A"]);
                assert_eq!(table.chains["KUBE-NWPLCY-A"], [rules]);

                assert_eq!(
                    refusal(host.commit(&Step::DestroySet(one.clone()))),
                    "cannot destroy set BW-one: a rule still refers to it"
                );
                assert_eq!(host.read_sets("BW-").expect("read")[&one], set);
                host.commit(&Step::ReplaceSet(one.clone(), many(family, 4))).expect("replaced in use");
                assert_eq!(host.read_table(family).expect("read"), table);

                host.commit(&restore(
                    family,
                    "-D FORWARD -j KUBE-NWPLCY-A\n-F KUBE-NWPLCY-A\n-X KUBE-NWPLCY-A",
                ))
                .expect("restored");
                host.commit(&Step::DestroySet(one)).expect("destroyed as soon as no rule refers to it");
                assert_eq!(host.read_table(family).expect("read"), empty);
                assert!(host.read_sets("").expect("read").is_empty());
                let tally = host.tally();
                assert_eq!(
                    (tally.processes, tally.restores, tally.elements),
                    (6, 2, 7),
                    "{variant:?} {family}"
                );
            }
        }
    });
}

#[test]
fn transaction_with_a_bad_line_changes_nothing_and_names_it() {
    in_namespace(|| {
        for variant in Variant::BOTH {
            for family in Family::BOTH {
                let mut host = Host::new(variant).expect("a host");
                let bad = "-A KUBE-NWPLCY-A -m set --match-set BW-none src -j RETURN";
                let step = restore(family, &format!(":KUBE-NWPLCY-A - [0:0]\n{bad}"));
                let error = host.commit(&step).expect_err("there is no such set");
                let KernelError::Program { line, .. } = &error else { panic!("{error}") };
                assert_eq!(line.as_deref(), Some(bad));
                assert!(error.to_string().contains("BW-none"), "{error}");
                assert!(!host.read_table(family).expect("read").chains.contains_key("KUBE-NWPLCY-A"));
                assert_eq!(host.tally().restores, 0);
            }
        }
    });
}

#[test]
fn kernel_is_fast_enough_to_be_told_every_change() {
    in_namespace(|| {
        let mut host = Host::new(Variant::Nft).expect("a host");
        let one = name("BW-one");
        let set = many(Family::V4, 100_000);
        let create = Step::CreateSet(one.clone(), set.clone());
        let begun = Instant::now();
        host.commit(&create).expect("created");
        let filling = begun.elapsed();
        let begun = Instant::now();
        assert_eq!(host.read_sets("BW-").expect("read")[&one].elements.len(), 100_000);
        let reading = begun.elapsed();

        let single: Vec<Step> = (200_000..210_000)
            .map(|number| BTreeSet::from([Element::Address(address(Family::V4, number))]))
            .map(|elements| Step::AddElements(one.clone(), set.kind, elements))
            .collect();
        let begun = Instant::now();
        for step in &single {
            host.commit(step).expect("added");
        }
        let adding = begun.elapsed() / 10_000;
        println!("100,000 elements: filled in {filling:?}, read in {reading:?}; one element: {adding:?}");
        assert!(filling.max(reading).as_millis() < 1000 && adding.as_micros() < 100, "ten times too slow");
    });
}

fn watch_connections() {
    run("ip link set lo up
         ip address add 10.0.0.1/8 dev lo
         ip -6 address add 2001:db8::1/64 dev lo nodad
         iptables-nft -A OUTPUT -m conntrack --ctstate NEW
         ip6tables-nft -A OUTPUT -m conntrack --ctstate NEW");
}

#[test]
fn connection_of_either_family_is_listed_and_forgotten_alone() {
    in_namespace(|| {
        watch_connections();
        let mut host = Host::new(Variant::Nft).expect("a host");
        for family in Family::BOTH {
            let here = address(family, 1);
            let server = UdpSocket::bind((here, 0)).expect("a server");
            let clients = [(); 2].map(|()| UdpSocket::bind((here, 0)).expect("a client"));
            let port = |socket: &UdpSocket| socket.local_addr().expect("an address").port();
            for client in &clients {
                client.send_to(b"x", (here, port(&server))).expect("sent");
            }
            let dialled = |host: &mut Host| {
                let mut found = host.connections(family).expect("listed");
                found.retain(|connection| connection.dialled_port == port(&server));
                found
            };
            let found = dialled(&mut host);
            assert_eq!(found.len(), 2, "{found:?}");
            let first = found.iter().find(|known| known.source_port == port(&clients[0])).expect("listed");
            assert_eq!(first.protocol, Protocol::Udp.number());
            assert_eq!([first.source, first.dialled, first.destination], [here; 3]);
            assert_eq!(first.destination_port, port(&server));

            let empty = Connection { tuple: Vec::new(), ..first.clone() };
            host.forget(&empty).expect_err("without a tuple it would mean all of them");
            assert_eq!(dialled(&mut host).len(), 2);

            host.forget(first).expect("forgotten");
            let left = dialled(&mut host);
            assert_eq!(left.iter().map(|known| known.source_port).collect::<Vec<_>>(), [port(&clients[1])]);
            host.forget(first).expect("what is gone is fine");
        }
        assert_eq!(host.tally().cut, 2);
    });
}

#[test]
fn connection_through_a_service_names_the_service_and_who_answers() {
    in_namespace(|| {
        watch_connections();
        run("iptables-nft -t nat -A OUTPUT -p tcp -d 10.96.0.10 --dport 80 -j DNAT --to 10.0.0.1:8080");
        let _server = TcpListener::bind("10.0.0.1:8080").expect("a server");
        let client = TcpStream::connect("10.96.0.10:80").expect("connected");
        let mut host = Host::new(Variant::Nft).expect("a host");
        let found = host.connections(Family::V4).expect("listed");
        let connection = found.iter().find(|known| known.dialled_port == 80).expect("listed");
        assert_eq!(connection.protocol, Protocol::Tcp.number());
        assert_eq!(connection.source_port, client.local_addr().expect("an address").port());
        assert_eq!(connection.dialled, IpAddr::from([10, 96, 0, 10]));
        assert_eq!((connection.destination, connection.destination_port), ([10, 0, 0, 1].into(), 8080));
        host.forget(connection).expect("forgotten");
        let left = host.connections(Family::V4).expect("listed");
        assert!(left.iter().all(|known| known.dialled_port != 80), "{left:?}");
    });
}

#[test]
fn connection_in_a_zone_is_forgotten_too() {
    in_namespace(|| {
        watch_connections();
        run("iptables-nft -t raw -A OUTPUT -p udp --dport 7 -j CT --zone 9
             iptables-nft -t raw -A PREROUTING -p udp --dport 7 -j CT --zone 9
             iptables-nft -t raw -A OUTPUT -p udp --dport 8 -j CT --zone-orig 9");
        let socket = UdpSocket::bind("10.0.0.1:0").expect("a socket");
        let mut host = Host::new(Variant::Nft).expect("a host");
        for port in [7, 8] {
            socket.send_to(b"x", ("10.0.0.1", port)).expect("sent");
        }
        for port in [7, 8] {
            let known = |host: &mut Host| {
                let mut found = host.connections(Family::V4).expect("listed");
                found.retain(|connection| connection.dialled_port == port);
                found
            };
            let found = known(&mut host);
            assert!(!found.is_empty());
            for connection in &found {
                host.forget(connection).expect("forgotten");
            }
            assert_eq!(known(&mut host), [], "port {port}");
        }
    });
}

#[test]
fn twenty_thousand_connections_are_listed() {
    in_namespace(|| {
        watch_connections();
        let socket = UdpSocket::bind("10.0.0.1:0").expect("a socket");
        for port in 1..=20_000 {
            // An ICMP answer to an earlier datagram is told to a later one.
            while socket.send_to(b"x", ("10.0.0.1", port)).is_err() {}
        }
        let mut host = Host::new(Variant::Nft).expect("a host");
        let begun = Instant::now();
        let found = host.connections(Family::V4).expect("listed");
        let listing = begun.elapsed();
        let udp = found.iter().filter(|known| known.protocol == Protocol::Udp.number());
        assert_eq!(udp.count(), 20_000);
        let begun = Instant::now();
        for connection in &found {
            host.forget(connection).expect("forgotten");
        }
        println!(
            "20,000 connections: listed in {listing:?}, forgotten in {:?} each",
            begun.elapsed() / 20_000
        );
        assert_eq!(host.connections(Family::V4).expect("listed"), []);
    });
}

fn wanted(variant: Variant) -> Wanted {
    let owns_chain = |chain: &str| chain.starts_with("KUBE-NWPLCY-");
    Wanted { variant, bridge: "cni0".to_owned(), mark: 0x10000, log_group: Some(101), owns_chain }
}

fn failing(variant: Variant) -> Vec<(&'static str, Missing)> {
    let checks = preflight::check(&wanted(variant)).into_iter();
    checks.filter_map(|check| Some((check.name, check.result.err()?))).collect()
}

#[test]
fn preflight_finds_a_ready_host_ready_and_leaves_it_as_it_was() {
    in_namespace(|| {
        run("sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1
             sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        for variant in Variant::BOTH {
            let mut host = Host::new(variant).expect("a host");
            let before = Family::BOTH.map(|family| host.read_table(family).expect("read"));
            assert_eq!(failing(variant), [], "{variant:?}");
            assert_eq!(Family::BOTH.map(|family| host.read_table(family).expect("read")), before);
            assert!(host.read_sets("").expect("read").is_empty());
        }
    });
}

#[test]
fn preflight_tells_what_is_wrong_in_this_namespace() {
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
        assert_eq!(names, ["mark"], "the cures cure");
        let sysctls = preflight::check_sysctls(&wanted(Variant::Nft));
        assert!(sysctls.iter().all(|check| check.result.is_ok()), "{sysctls:?}");
    });
}

#[test]
fn variant_is_that_of_kube_proxy_and_looking_loads_no_legacy_tables() {
    in_namespace(|| {
        let legacy_tables =
            || std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
        assert_eq!(preflight::detect_variant(|_| false).0, Variant::Nft);
        assert_eq!(legacy_tables(), "");
        run("iptables-legacy -t nat -N KUBE-SERVICES");
        assert_eq!(preflight::detect_variant(|_| false).0, Variant::Legacy);
        run("ip6tables-nft -t mangle -N KUBE-IPTABLES-HINT");
        assert_eq!(preflight::detect_variant(|_| false).0, Variant::Nft);
    });
}

#[test]
fn table_that_iptables_cannot_show_is_an_error_and_not_an_empty_table() {
    in_namespace(|| {
        run("iptables-nft -N THEIRS
             nft add rule ip filter THEIRS ct state new accept");
        let error = Host::new(Variant::Nft).expect("a host").read_table(Family::V4).expect_err("unreadable");
        assert!(error.to_string().contains("rules that only nft can show"), "{error}");
        let names: Vec<&str> = failing(Variant::Nft).into_iter().map(|(name, _)| name).collect();
        assert!(names.contains(&"rules"), "{names:?}");
    });
}
