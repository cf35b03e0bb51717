//! Rules: both variants, both families.

use super::{in_namespace, many, name, refusal, run};
use bridgewarden::apply::iptables::removal;
use bridgewarden::apply::{Actual, ActualTable, KernelError, PacketFilter, RestoreText, Step};
use bridgewarden::controller::Enforcer;
use bridgewarden::kernel::Host;
use bridgewarden::net::Family;
use bridgewarden::netfilter::iptables::Variant;
use bridgewarden::render::Options;
use std::collections::{BTreeMap, BTreeSet};
use support::packets::facts;
use support::worlds;

fn restore(variant: Variant, family: Family, lines: &str) -> Step {
    Step::Restore(
        variant,
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
                let empty = host.read_table(variant, family).expect("read");
                assert_eq!(empty.chains.keys().collect::<Vec<_>>(), ["FORWARD", "INPUT", "OUTPUT"]);
                let one = name("BW-one");
                let set = many(family, 3);
                host.commit(&Step::CreateSet(one.clone(), set.clone())).expect("created");
                let rules = ["-m set --match-set BW-one src -j RETURN", "-g KUBE-NWPLCY-B"];
                let [first, second] = rules.map(|rule| format!("-A KUBE-NWPLCY-A {rule}"));
                let chains = ":KUBE-NWPLCY-A - [0:0]\n:KUBE-NWPLCY-B - [0:0]";
                let hook = "-I FORWARD 1 -j KUBE-NWPLCY-A";
                host.commit(&restore(variant, family, &format!("{chains}\n{first}\n{second}\n{hook}")))
                    .expect("restored");
                let table = host.read_table(variant, family).expect("read");
                assert_eq!(table.chains["FORWARD"], ["-j KUBE-NWPLCY-A"]);
                assert_eq!(table.chains["KUBE-NWPLCY-A"], rules);

                assert_eq!(
                    refusal(host.commit(&Step::DestroySet(one.clone()))),
                    "cannot destroy set BW-one: a rule still refers to it"
                );
                assert_eq!(host.read_sets("BW-").expect("read")[&one], set);
                host.commit(&Step::ReplaceSet(one.clone(), many(family, 4))).expect("replaced in use");
                assert_eq!(host.read_table(variant, family).expect("read"), table);

                host.commit(&restore(
                    variant,
                    family,
                    "-D FORWARD -j KUBE-NWPLCY-A\n-F KUBE-NWPLCY-A\n-X KUBE-NWPLCY-A\n-X KUBE-NWPLCY-B",
                ))
                .expect("restored");
                host.commit(&Step::DestroySet(one)).expect("destroyed as soon as no rule refers to it");
                assert_eq!(host.read_table(variant, family).expect("read"), empty);
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
                let step = restore(variant, family, &format!(":KUBE-NWPLCY-A - [0:0]\n{bad}"));
                let error = host.commit(&step).expect_err("there is no such set");
                let KernelError::Program { line, .. } = &error else { panic!("{error}") };
                assert_eq!(line.as_deref(), Some(bad));
                assert!(error.to_string().contains("BW-none"), "{error}");
                assert!(
                    !host.read_table(variant, family).expect("read").chains.contains_key("KUBE-NWPLCY-A")
                );
                assert_eq!(host.tally().restores, 0);
            }
        }
    });
}

/// The rules as the crate `iptables` reads them: chain by chain, without `-A CHAIN`.
fn read_by_another(variant: Variant, family: Family) -> BTreeMap<String, Vec<String>> {
    let mut reader = iptables::new(family == Family::V6).expect("iptables is there");
    reader.cmd = match (variant, family) {
        (Variant::Nft, Family::V4) => "iptables-nft",
        (Variant::Nft, Family::V6) => "ip6tables-nft",
        (Variant::Legacy, Family::V4) => "iptables-legacy",
        (Variant::Legacy, Family::V6) => "ip6tables-legacy",
    };
    let chains = reader.list_chains("filter").expect("chains are listed");
    let rules = |chain: &str| -> Vec<String> {
        let lines = reader.list("filter", chain).expect("rules are listed");
        let begin = format!("-A {chain} ");
        lines.iter().filter_map(|line| line.strip_prefix(&begin)).map(str::to_owned).collect()
    };
    chains.iter().map(|chain| (chain.clone(), rules(chain))).collect()
}

#[test]
fn another_reader_sees_the_rules_that_were_written_and_none_of_ours_after_their_removal() {
    in_namespace(|| {
        for variant in Variant::BOTH {
            let mut rules = 0;
            for seed in 0..3 {
                let mut host = Host::new(variant).expect("a host");
                let mut enforcer =
                    Enforcer::new("node-a", Options { backend: variant.into(), ..Options::default() });
                facts(&worlds::world(seed)).into_iter().for_each(|fact| enforcer.apply(fact));
                let before = Actual::read(&mut host).expect("read");
                host.commit_all(&enforcer.adopt(&before).steps).expect("written");
                for family in Family::BOTH {
                    let table = host.read_table(variant, family).expect("read");
                    assert_eq!(
                        read_by_another(variant, family),
                        table.chains,
                        "{variant:?}, {family}, world {seed}"
                    );
                    rules += table.chains.values().map(Vec::len).sum::<usize>();
                }
                for family in Family::BOTH {
                    let table = ActualTable::of(&host.read_table(variant, family).expect("read"));
                    let step = removal(variant, family, &table, &[]).expect("there is something to remove");
                    host.commit(&step).expect("removed");
                    let left = read_by_another(variant, family);
                    let built_in = ["FORWARD", "INPUT", "OUTPUT"].map(|chain| (chain.to_owned(), Vec::new()));
                    assert_eq!(left, built_in.into(), "{variant:?}, {family}, world {seed}");
                }
                for set in host.read_sets("").expect("read").into_keys() {
                    host.commit(&Step::DestroySet(set)).expect("no rule refers to it");
                }
                assert_eq!(run("ipset list -n"), "");
            }
            assert!(rules > 200, "only {rules} rules were compared");
        }
    });
}
