//! Runs `iptables-save` and `iptables-restore`, and parses their output.

use super::exec::{Finished, Runner, command_line};
use super::table_list;
use crate::apply::{KernelError, TableText};
use crate::net::Family;
use crate::netfilter::ChainName;
use crate::netfilter::iptables::{Count, CountedChains, Variant, parse_rule};
use crate::ownership::owns_chain;
use std::collections::BTreeMap;

/// The Debian package that contains the programs.
pub(super) const PACKAGE: &str = "iptables";

/// How long to wait for the lock of the legacy tables, in seconds.
const LOCK_WAIT: &str = "10";

/// The only table to which this program writes.
pub(super) const TABLE: &str = "filter";
/// What `iptables-nft-save` prints, with exit status 0, instead of a table with rules that only `nft` can write.
const INCOMPATIBLE: &str = "# Table `filter' is incompatible";
/// What `iptables-save` complains of if a set was destroyed after the program had read a rule that refers to it.
const SET_IS_GONE: &str = "in kernel doesn't exist";
/// How often tables are read in that case, before the failure is returned.
const READ_ATTEMPTS: u64 = 3;

/// Reads the filter table of a family.
pub(super) fn save(runner: &mut Runner, variant: Variant, family: Family) -> Result<TableText, KernelError> {
    let output = saved_text(runner, variant.save(family), &["-t", TABLE])?;
    Ok(parse(&output).remove(TABLE).unwrap_or_default())
}

/// Reads every table of a family that is in use.
pub(super) fn save_all(
    runner: &mut Runner,
    variant: Variant,
    family: Family,
) -> Result<BTreeMap<String, TableText>, KernelError> {
    Ok(parse(&saved_text(runner, variant.save(family), &[])?))
}

/// Reads the counts of the rules of our chains in the filter table of a family.
pub(super) fn save_counts(
    runner: &mut Runner,
    variant: Variant,
    family: Family,
) -> Result<CountedChains, KernelError> {
    Ok(parse_counts(&saved_text(runner, variant.save(family), &["-c", "-t", TABLE])?))
}

/// The legacy tables of a family that are in use in this network namespace. Reading any other table makes the kernel
/// load it.
pub(super) fn legacy_tables(family: Family) -> Vec<String> {
    let names = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    // Without the file, the kernel has no such tables.
    std::fs::read_to_string(names).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Whether reading the filter table of a family changes nothing in the kernel. `iptables-nft-save` never creates a
/// table.
pub(super) fn may_read(variant: Variant, family: Family) -> bool {
    variant == Variant::Nft || legacy_tables(family).iter().any(|table| table == TABLE)
}

/// Reads the filter table of a family if it exists; starts no program otherwise.
pub(super) fn look(
    runner: &mut Runner,
    variant: Variant,
    family: Family,
) -> Result<Option<TableText>, KernelError> {
    let is_there = match variant {
        Variant::Nft => table_list::has_filter(family)?,
        Variant::Legacy => may_read(variant, family),
    };
    is_there.then(|| save(runner, variant, family)).transpose()
}

fn saved_text(runner: &mut Runner, program: &str, arguments: &[&str]) -> Result<String, KernelError> {
    let mut finished = runner.run(program, PACKAGE, arguments, "")?;
    for _ in 1..READ_ATTEMPTS {
        if finished.status.success() || !finished.complaint.contains(SET_IS_GONE) {
            break;
        }
        finished = runner.run(program, PACKAGE, arguments, "")?;
    }
    let readable = !finished.output.lines().any(|line| line.starts_with(INCOMPATIBLE));
    if finished.status.success() && readable {
        return Ok(finished.output);
    }
    let stderr = if readable {
        finished.complaint
    } else {
        "the filter table holds rules that only nft can show; find them with `nft list ruleset` and move them \
         to a table of their own"
            .to_owned()
    };
    Err(KernelError::Program {
        program: command_line(program, arguments),
        status: finished.status.to_string(),
        stderr,
        line: None,
    })
}

/// Commits one text to a family, without changing what the text does not name.
pub(super) fn restore(
    runner: &mut Runner,
    variant: Variant,
    family: Family,
    text: &str,
) -> Result<(), KernelError> {
    let program = variant.restore(family);
    let arguments = ["--noflush", "-w", LOCK_WAIT];
    let Finished { status, complaint, .. } = runner.run(program, PACKAGE, &arguments, text)?;
    // Only an agent writes again. iptables-legacy-restore could hold the lock of the tables while it waits.
    if variant == Variant::Nft && runner.monitor.is_some() {
        runner.start_ahead(program, &arguments);
    }
    if status.success() {
        return Ok(());
    }
    let line = failed_line(&complaint)
        .and_then(|number| text.lines().nth(number.checked_sub(1)?))
        .map(str::to_owned);
    Err(KernelError::Program {
        program: command_line(program, &arguments),
        status: status.to_string(),
        stderr: complaint,
        line,
    })
}

/// The input line that an error message names: `line 3 failed`, `line 3: CHAIN_DEL failed`, `at line: 3`.
fn failed_line(complaint: &str) -> Option<usize> {
    complaint.match_indices("line").find_map(|(at, word)| {
        let behind = complaint[at + word.len()..].trim_start_matches([':', ' ']);
        let digits = behind.find(|character: char| !character.is_ascii_digit()).unwrap_or(behind.len());
        behind[..digits].parse().ok()
    })
}

/// The tables in the output of `iptables-save`, by name.
pub(super) fn parse(text: &str) -> BTreeMap<String, TableText> {
    let mut tables: BTreeMap<String, TableText> = BTreeMap::new();
    let mut table: Option<&mut TableText> = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = Some(tables.entry(name.trim().to_owned()).or_default());
        } else if let Some(table) = &mut table {
            if let Some(chain) = line.strip_prefix(':') {
                let name = chain.split(' ').next().unwrap_or_default();
                table.chains.entry(name.to_owned()).or_default();
            } else if let Some(appended) = line.strip_prefix("-A ") {
                let (chain, rule) = appended.split_once(' ').unwrap_or((appended, ""));
                table.chains.entry(chain.to_owned()).or_default().push(rule.trim_end().to_owned());
            }
        }
    }
    tables
}

/// Our chains in the output of `iptables-save -c` for one table, without those that contain a rule which this program
/// never writes.
fn parse_counts(text: &str) -> CountedChains {
    let mut chains: BTreeMap<ChainName, Option<Vec<_>>> = BTreeMap::new();
    for line in text.lines() {
        let Some((count, appended)) = line.strip_prefix('[').and_then(|line| line.split_once("] -A ")) else {
            continue;
        };
        let (name, rule) = appended.split_once(' ').unwrap_or((appended, ""));
        let Some(name) = Some(name).filter(|name| owns_chain(name)).and_then(ChainName::new) else {
            continue;
        };
        let chain = chains.entry(name).or_insert_with(|| Some(Vec::new()));
        let read = parse_rule(rule.trim_end()).ok().zip(parse_count(count));
        *chain = chain.take().zip(read).map(|(mut rules, read)| {
            rules.push(read);
            rules
        });
    }
    chains.into_iter().filter_map(|(name, rules)| Some((name, rules?))).collect()
}

/// Parses `packets:bytes`.
fn parse_count(text: &str) -> Option<Count> {
    let (packets, bytes) = text.split_once(':')?;
    Some(Count { packets: packets.parse().ok()?, bytes: bytes.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn saved_text_becomes_chains_with_their_rules_in_order() {
        let text = "# Generated by iptables-save v1.8.9\n*mangle\n:FORWARD ACCEPT [0:0]\nCOMMIT\n*filter\n\
                    :FORWARD ACCEPT [12:3]\n:KUBE-NWPLCY-A - [0:0]\n\
                    -A FORWARD -j KUBE-NWPLCY-A\n-A KUBE-NWPLCY-A -s 10.0.0.1/32 -j DROP\n-A KUBE-NWPLCY-A\nCOMMIT\n";
        let tables = parse(text);
        assert_eq!(tables.keys().collect::<Vec<_>>(), ["filter", "mangle"]);
        let filter = &tables["filter"].chains;
        assert_eq!(filter["FORWARD"], ["-j KUBE-NWPLCY-A"]);
        assert_eq!(filter["KUBE-NWPLCY-A"], ["-s 10.0.0.1/32 -j DROP", ""]);
    }

    #[test]
    fn counts_are_read_with_our_rules_and_chains_that_say_what_we_never_write_are_left_out() {
        let text = "*filter\n:FORWARD ACCEPT [9:999]\n:KUBE-NWPLCY-ACCEPT - [0:0]\n[9:999] -A FORWARD -j KUBE-NWPLCY-ACCEPT\n\
                    [3:180] -A KUBE-NWPLCY-ACCEPT -j KUBE-NWPLCY-REVOKED\n[2:120] -A KUBE-NWPLCY-ACCEPT -j RETURN\n\
                    [1:60] -A KUBE-NWPLCY-REVOKED -j RETURN\n[1:60] -A KUBE-NWPLCY-REVOKED -j WHATEVER --x\n\
                    [1:60] -A KUBE-NWPLCY-REVOKED -j RETURN\nCOMMIT\n";
        let chains = parse_counts(text);
        let counts: Vec<_> = chains
            .iter()
            .map(|(name, rules)| (name.as_str(), rules.iter().map(|(_, count)| *count).collect::<Vec<_>>()))
            .collect();
        let count = |packets, bytes| Count { packets, bytes };
        assert_eq!(counts, [("KUBE-NWPLCY-ACCEPT", vec![count(3, 180), count(2, 120)])]);
        assert_eq!((parse_count("3"), parse_count("3:x"), parse_count("-1:3")), (None, None, None));
    }

    #[test]
    fn tables_are_read_again_if_a_set_was_destroyed_meanwhile_and_not_for_ever() {
        let read = |script: &str| {
            let mut runner = Runner::new();
            (saved_text(&mut runner, "sh", &["-c", script]).is_ok(), runner.started)
        };
        let fail = |complaint: &str| format!("{{ echo \"{complaint}\" >&2; exit 2; }}");
        let gone = fail("ip6tables-save v1.8.9 (legacy): Set with index 5 in kernel doesn't exist.");
        let first = std::env::temp_dir().join(format!("bridgewarden-first-read-{}", std::process::id()));
        std::fs::create_dir(&first).expect("a directory that the first read removes");
        assert_eq!(
            read(&format!("rmdir {} 2>/dev/null && {gone}; echo '*filter'", first.display())),
            (true, 2)
        );
        assert_eq!(read(&gone), (false, READ_ATTEMPTS));
        assert_eq!(read(&fail("Permission denied")), (false, 1));
    }

    #[test]
    fn complaint_of_either_variant_names_its_line() {
        let complaints = [
            "iptables-restore: line 3 failed",
            "iptables-nft-restore: line 3 failed: No chain/target/match by that name.",
            "iptables-nft-restore v1.8.9 (nf_tables): \nline 3: CHAIN_DEL failed (Device or resource busy): chain A",
            "iptables-restore v1.8.9 (legacy): Set NOPE doesn't exist.\n\nError occurred at line: 3\nTry `iptables",
        ];
        for complaint in complaints {
            assert_eq!(failed_line(complaint), Some(3), "{complaint}");
        }
        assert_eq!(failed_line("Another app is currently holding the xtables lock."), None);
        assert_eq!(failed_line("line 99999999999999999999999 failed on a line"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(\\*|:|-A |\\[1:2\\] -A |KUBE-NWPLCY-ACCEPT|line|[ -~é]|\n){0,80}") {
            let _ = (parse(&text), parse_counts(&text), failed_line(&text));
        }
    }
}
