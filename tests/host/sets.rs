//! Sets: every kind, every step, and what the kernel refuses.

use super::{address, in_namespace, many, name, refusal, run};
use bridgewarden::apply::{PacketFilter, Step};
use bridgewarden::kernel::Host;
use bridgewarden::net::{Family, IpNet, Protocol};
use bridgewarden::netfilter::ipset::{Element, Kind, Set, Type};
use bridgewarden::netfilter::iptables::Variant;
use bridgewarden::netfilter::{Role, SetName};
use std::collections::BTreeSet;
use std::time::Instant;

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
                host.commit(&Step::RemoveElements(one.clone(), kind, Role::Allows, gone.clone()))
                    .expect("removed twice");
            }
            let left = &set.elements - &gone;
            assert_eq!(host.read_sets("BW-").expect("read")[&one].elements, left);
            for _ in 0..2 {
                host.commit(&Step::AddElements(one.clone(), kind, Role::Allows, set.elements.clone()))
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
            refusal(host.commit(&Step::AddElements(
                name("BW-none"),
                set.kind,
                Role::Allows,
                set.elements.clone()
            ))),
            "cannot add to set BW-none: there is no set of that name"
        );
        let foreign = BTreeSet::from([Element::Address(address(Family::V6, 1))]);
        assert_eq!(
            refusal(host.commit(&Step::AddElements(one.clone(), set.kind, Role::Allows, foreign.clone()))),
            "cannot add to set BW-one: 2001:db8::1 is no element of a hash:ip set of IPv4"
        );

        for bad in [
            Step::ReplaceSet(name("BW-none"), set.clone()),
            Step::ReplaceSet(one.clone(), Set { kind: set.kind, elements: foreign }),
            Step::ReplaceSet(one.clone(), many(Family::V6, 3)),
        ] {
            refusal(host.commit(&bad));
            let sets = host.read_sets("").expect("read");
            assert_eq!(sets.into_iter().collect::<Vec<_>>(), [(one.clone(), set.clone())], "{bad:?}");
        }
    });
}

#[test]
fn members_of_many_sets_go_together_and_one_set_that_refuses_is_named_and_stops_none() {
    in_namespace(|| {
        let mut host = Host::new(Variant::Nft).expect("a host");
        let names = [1, 2, 3].map(|number| name(&format!("BW-{number}")));
        let set = |count| many(Family::V4, count);
        for own in &names {
            host.commit(&Step::CreateSet(own.clone(), set(0))).expect("created");
        }
        let add = |own: &SetName, count| {
            Step::AddElements(own.clone(), set(0).kind, Role::Allows, set(count).elements)
        };
        let remove = |own: &SetName, count| {
            Step::RemoveElements(own.clone(), set(0).kind, Role::Allows, set(count).elements)
        };
        let held = |host: &mut Host| {
            host.read_sets("").expect("read").into_values().map(|set| set.elements.len()).collect::<Vec<_>>()
        };
        let none = name("BW-none");

        let refused = host.commit_all(&[add(&names[0], 3), add(&none, 3), add(&names[1], 4)]);
        assert_eq!(refusal(refused), "cannot add to set BW-none: there is no set of that name");
        assert_eq!(held(&mut host), [3, 4, 0]);

        let before = host.tally();
        let steps = [remove(&names[0], 2), remove(&names[1], 1), add(&names[1], 1), add(&names[2], 5000)];
        host.commit_all(&steps).expect("each in its turn, however many messages it takes");
        assert_eq!(held(&mut host), [1, 4, 5000]);
        assert_eq!(host.tally().elements - before.elements, 2 + 1 + 1 + 5000);

        run("ipset create BW-full hash:ip maxelem 2");
        let refused =
            refusal(host.commit_all(&[add(&names[0], 2), add(&name("BW-full"), 70), add(&names[1], 5)]));
        assert!(refused.starts_with("cannot add to set BW-full: 10."), "an element is named: {refused}");
        run("ipset destroy BW-full");
        assert_eq!(held(&mut host), [3, 5, 5000], "ipset names a failed element in its own way");

        let isolate = Step::AddElements(none.clone(), set(0).kind, Role::Isolates, set(1).elements);
        refusal(host.commit_all(&[isolate, add(&names[0], 4)]));
        assert_eq!(held(&mut host), [3, 5, 5000], "nothing is added when something cannot be isolated");

        let refused = host.commit_all(&[remove(&none, 1), add(&names[0], 4)]);
        assert_eq!(refusal(refused), "cannot remove from set BW-none: there is no set of that name");
        assert_eq!(held(&mut host), [3, 5, 5000], "nothing joins when something cannot leave");
    });
}

#[test]
fn element_that_fails_deep_in_a_batch_is_named() {
    in_namespace(|| {
        let mut host = Host::new(Variant::Nft).expect("a host");
        run("ipset create BW-small hash:ip maxelem 70");
        let set = many(Family::V4, 5000);
        let step = Step::AddElements(name("BW-small"), set.kind, Role::Allows, set.elements);
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
fn kernel_is_fast_enough_for_every_change() {
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
            .map(|elements| Step::AddElements(one.clone(), set.kind, Role::Allows, elements))
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
