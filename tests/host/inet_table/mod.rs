//! Tables of family inet: what is written is what is read back, what nft shows, and what nft loads of our text.

mod by_hand;
mod changes;
mod draft;
mod everything;
mod owner;

use super::{in_namespace, run};
use bridgewarden::apply::{KernelError, PacketFilter, Step, TableRead};
use bridgewarden::kernel::Host;
use bridgewarden::netfilter::iptables::Variant;
use bridgewarden::netfilter::nftables::{Batch, Table, TableFamily};
use by_hand::{BY_HAND, by_hand};
use draft::NAME;
use everything::everything;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::mpsc;

fn read(host: &mut Host) -> Table {
    match host.read_nft_table(TableFamily::Inet, NAME).expect("read") {
        TableRead::Ours { table, .. } => table,
        TableRead::Absent => panic!("no table"),
        TableRead::Foreign => panic!("not our table: {}", run("nft --debug=netlink list ruleset")),
    }
}

fn transact(host: &mut Host, batches: &[Batch]) -> Result<(), KernelError> {
    host.commit(&Step::Transact(batches.to_vec()))
}

fn load(text: &str) {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nft");
    nft.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
    let output = nft.wait_with_output().expect("nft ends");
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_statement_and_set_is_read_back_as_it_was_written() {
    in_namespace(|| {
        let mut host = Host::new(Variant::Nft).expect("a host");
        let table = everything();
        let mut in_memory = None;
        Batch::replacing(&table).apply(&mut in_memory).expect("the kernel in memory takes it");
        assert_eq!(in_memory.as_ref(), Some(&table));
        for _ in 0..2 {
            transact(&mut host, &[Batch::replacing(&table)]).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(read(&mut host), table);
        }
        let listed = run("nft list ruleset");
        assert!(!listed.contains("unknown") && !listed.contains("invalid type"), "{listed}");
        for word in [
            "fib saddr type local",
            "tcp dport 8000-8100",
            "ct state established,related",
            "reject with tcp reset",
        ] {
            assert!(listed.contains(word), "{word}: {listed}");
        }
    });
}

/// What nft makes of a text, in a network namespace of its own.
fn loaded(text: String) -> Table {
    let (send, receive) = mpsc::channel();
    in_namespace(move || {
        load(&text);
        send.send(read(&mut Host::new(Variant::Nft).expect("a host"))).expect("the test waits");
    });
    receive.recv().expect("a table")
}

#[test]
fn text_loads_with_nft_to_the_same_table() {
    let table = everything();
    let found = loaded(table.to_string());
    assert_eq!(found, table, "found {found}\nwritten {table}");
}

#[test]
fn table_written_by_hand_is_read_as_the_one_that_was_meant() {
    let (found, table) = (loaded(BY_HAND.to_owned()), by_hand());
    assert_eq!(found, table, "found {found}\nmeant {table}");
    in_namespace(move || {
        let mut host = Host::new(Variant::Nft).expect("a host");
        transact(&mut host, &[Batch::replacing(&table)]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read(&mut host), table);
    });
}
