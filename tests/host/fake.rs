//! The kernel in memory refuses what the real one refuses, and ends up holding the same.

use super::{address, in_namespace, many, name, run};
use bridgewarden::apply::{Fake, PacketFilter, RestoreText, Step};
use bridgewarden::kernel::Host;
use bridgewarden::net::{Family, Protocol};
use bridgewarden::netfilter::ipset::{Element, Kind, Set, Type};
use bridgewarden::netfilter::iptables::Variant;
use bridgewarden::netfilter::{Role, SetName};
use std::collections::BTreeSet;
use std::net::IpAddr;

fn restore(variant: Variant, family: Family, lines: &str) -> Step {
    Step::Restore(
        variant,
        family,
        RestoreText { text: format!("*filter\n{lines}\nCOMMIT\n"), writes: BTreeSet::new() },
    )
}

fn zero(family: Family) -> IpAddr {
    match family {
        Family::V4 => [0; 4].into(),
        Family::V6 => [0u16; 8].into(),
    }
}

/// Steps in a sequence, each with whether the kernel takes it.
fn sequence(variant: Variant, family: Family) -> Vec<(Step, bool)> {
    let other = if family == Family::V4 { Family::V6 } else { Family::V4 };
    let rules = |lines: &str| restore(variant, family, lines);
    let kind = |of| Kind { of, family };
    let add = |set: &str, of, element: Element| {
        Step::AddElements(name(set), kind(of), Role::Allows, BTreeSet::from([element]))
    };
    let net = |address: IpAddr, length: u8| Element::Net {
        net: format!("{address}/{length}").parse().expect("a prefix"),
        nomatch: false,
    };
    let empty = |set: &str, of| Step::CreateSet(name(set), Set { kind: kind(of), elements: BTreeSet::new() });
    let bits = if family == Family::V4 { 32 } else { 128 };
    let one = Element::Address(address(family, 1));
    let asks = "-m set --match-set BW-ip src -j RETURN";
    vec![
        // Chains.
        (rules(":A - [0:0]\n:B - [0:0]\n-A A -j B"), true),
        (rules("-X B"), false),
        (rules(":B - [0:0]\n-X B"), false),
        (rules("-X A"), false),
        (rules("-X NONE"), false),
        (rules("-A NONE -j RETURN"), false),
        (rules("-A A -j NONE"), false),
        (rules("-A A -g NONE"), false),
        (rules("-D A -j RETURN"), false),
        (rules("-I FORWARD 1 -j A"), true),
        (rules("-A B -j A"), false),
        (rules("-A B -j B"), false),
        (rules(":A - [0:0]\n-X A"), false),
        (rules(":A - [0:0]\n:B - [0:0]\n-D FORWARD -j A\n-X A\n-X B"), true),
        (rules(":C - [0:0]\n-A C -j RETURN\n-X C"), false),
        // Sets.
        (empty("BW-ip", Type::HashIp), true),
        (empty("BW-ip", Type::HashIp), false),
        (empty("BW-net", Type::HashNet), true),
        (empty("BW-port", Type::HashIpPort), true),
        (add("BW-ip", Type::HashIp, one), true),
        (add("BW-ip", Type::HashIp, one), true),
        (add("BW-ip", Type::HashIp, Element::Address(zero(family))), false),
        (add("BW-net", Type::HashNet, net(zero(family), bits)), true),
        (add("BW-net", Type::HashNet, net(zero(family), 0)), false),
        (add("BW-port", Type::HashIpPort, Element::AddressPort(zero(family), Protocol::Tcp, 0)), false),
        (add("BW-none", Type::HashIp, one), false),
        (
            Step::RemoveElements(name("BW-none"), kind(Type::HashIp), Role::Allows, BTreeSet::from([one])),
            false,
        ),
        (
            Step::RemoveElements(
                name("BW-ip"),
                kind(Type::HashIp),
                Role::Allows,
                BTreeSet::from([Element::Address(address(family, 9))]),
            ),
            true,
        ),
        (Step::ReplaceSet(name("BW-none"), many(family, 2)), false),
        (Step::ReplaceSet(name("BW-ip"), many(other, 2)), false),
        (Step::ReplaceSet(name("BW-net"), many(family, 2)), false),
        (Step::DestroySet(name("BW-none")), true),
        // Rules that ask sets.
        (rules(":D - [0:0]\n-A D -m set --match-set BW-none src -j RETURN"), false),
        (restore(variant, other, &format!(":D - [0:0]\n-A D {asks}")), false),
        (rules(&format!(":D - [0:0]\n-A D {asks}")), true),
        (Step::DestroySet(name("BW-ip")), false),
        (Step::ReplaceSet(name("BW-ip"), many(family, 3)), true),
        (rules(":D - [0:0]"), true),
        (Step::DestroySet(name("BW-ip")), true),
        // A set with room for four.
        (
            Step::AddElements(name("BW-small"), kind(Type::HashIp), Role::Allows, many(family, 4).elements),
            true,
        ),
        (add("BW-small", Type::HashIp, Element::Address(address(family, 5))), false),
        (add("BW-small", Type::HashIp, Element::Address(address(family, 4))), true),
    ]
}

#[test]
fn kernel_in_memory_gives_the_verdicts_of_the_real_one() {
    in_namespace(|| {
        for variant in Variant::BOTH {
            for family in Family::BOTH {
                let (mut host, mut fake) = (Host::new(variant).expect("a host"), Fake::default());
                let word = if family == Family::V4 { "inet" } else { "inet6" };
                run(&format!("ipset create BW-small hash:ip family {word} maxelem 4"));
                let small = Set { kind: Kind { of: Type::HashIp, family }, elements: BTreeSet::new() };
                fake.sets().insert(name("BW-small"), small);
                fake.limit_sets(4);
                for family in Family::BOTH {
                    // So that both have the built-in chains.
                    host.commit(&restore(variant, family, ":FIRST - [0:0]\n-X FIRST")).expect("taken");
                }
                let mut wrong = Vec::new();
                for (step, is_taken) in sequence(variant, family) {
                    let verdicts = (host.commit(&step).is_ok(), fake.commit(&step).is_ok());
                    if verdicts != (is_taken, is_taken) {
                        wrong.push(format!("{step:?}: the real one and that in memory: {verdicts:?}"));
                    }
                }
                assert!(wrong.is_empty(), "{variant:?} {family}: {wrong:#?}");
                for family in Family::BOTH {
                    let chains = |kernel: &mut dyn PacketFilter| {
                        let mut chains = kernel.read_table(variant, family).expect("read").chains;
                        // iptables-nft makes a built-in chain only when it is asked for.
                        chains.retain(|name, rules| {
                            !["FORWARD", "INPUT", "OUTPUT"].contains(&name.as_str()) || !rules.is_empty()
                        });
                        chains
                    };
                    assert_eq!(chains(&mut host), chains(&mut fake), "{variant:?} {family}");
                }
                let sets = |kernel: &mut dyn PacketFilter| kernel.read_sets("BW-").expect("read");
                assert_eq!(sets(&mut host), sets(&mut fake), "{variant:?} {family}");
                let left: Vec<SetName> = sets(&mut host).into_keys().collect();
                for set in left {
                    host.commit(&Step::DestroySet(set)).expect("nothing asks it");
                }
                for family in Family::BOTH {
                    let scratch: Vec<String> =
                        host.read_table(variant, family).expect("read").chains.into_keys().collect();
                    for chain in scratch
                        .iter()
                        .filter(|chain| !["FORWARD", "INPUT", "OUTPUT"].contains(&chain.as_str()))
                    {
                        host.commit(&restore(variant, family, &format!(":{chain} - [0:0]\n-X {chain}")))
                            .expect("removed");
                    }
                }
            }
        }
    });
}
