//! Rules: both variants, both families.

use super::{in_namespace, many, name, refusal};
use bridgewarden::apply::{KernelError, PacketFilter, RestoreText, Step};
use bridgewarden::kernel::{Host, Variant};
use bridgewarden::net::Family;
use std::collections::BTreeSet;

fn restore(family: Family, lines: &str) -> Step {
    Step::Restore(
        family,
        RestoreText { text: format!("*filter\n{lines}\nCOMMIT\n"), writes: BTreeSet::new() },
    )
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
                let rules = ["-m set --match-set BW-one src -j RETURN", "-g KUBE-NWPLCY-B"];
                let [first, second] = rules.map(|rule| format!("-A KUBE-NWPLCY-A {rule}"));
                let chains = ":KUBE-NWPLCY-A - [0:0]\n:KUBE-NWPLCY-B - [0:0]";
                let hook = "-I FORWARD 1 -j KUBE-NWPLCY-A";
                host.commit(&restore(family, &format!("{chains}\n{first}\n{second}\n{hook}")))
                    .expect("restored");
                let table = host.read_table(family).expect("read");
                assert_eq!(table.chains["FORWARD"], ["-j KUBE-NWPLCY-A"]);
                assert_eq!(table.chains["KUBE-NWPLCY-A"], rules);

                assert_eq!(
                    refusal(host.commit(&Step::DestroySet(one.clone()))),
                    "cannot destroy set BW-one: a rule still refers to it"
                );
                assert_eq!(host.read_sets("BW-").expect("read")[&one], set);
                host.commit(&Step::ReplaceSet(one.clone(), many(family, 4))).expect("replaced in use");
                assert_eq!(host.read_table(family).expect("read"), table);

                host.commit(&restore(
                    family,
                    "-D FORWARD -j KUBE-NWPLCY-A\n-F KUBE-NWPLCY-A\n-X KUBE-NWPLCY-A\n-X KUBE-NWPLCY-B",
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
