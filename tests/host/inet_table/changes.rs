//! Changes of tables of family inet: what the kernel refuses, counts and takes at once.

use super::draft::*;
use super::everything::everything;
use super::{in_namespace, read, run, transact};
use bridgewarden::apply::{PacketFilter, TableRead};
use bridgewarden::kernel::{CountedRules, Counters, Host};
use bridgewarden::netfilter::BackendName;
use bridgewarden::netfilter::iptables::Count;
use bridgewarden::netfilter::iptables::Variant;
use bridgewarden::netfilter::nftables::{
    Batch, Change, Elements, Hook, HookPoint, KeyPart, RejectWith, Rule, SetKind, SetPurpose, Statement,
    Table, TableFamily, Verdict,
};
use std::net::{Ipv6Addr, UdpSocket};

fn batch(changes: Vec<Change>) -> Batch {
    Batch { family: TableFamily::Inet, table: NAME.into(), changes }
}

fn none(keys: &[Box<[u8]>]) -> Elements {
    keys.iter().map(|key| (key.clone(), None)).collect()
}

/// A chain that leads through so many others.
fn staircase(steps: usize) -> Vec<Change> {
    let name = |step: usize| -> Box<str> { format!("step-{step}").into() };
    let chains = (0..steps).map(|step| Change::AddChain(name(step), None));
    let jumps = (1..steps).map(|step| Change::AddRule(name(step - 1), Rule::when().jump(&name(step))));
    let base = Change::AddRule("input".into(), Rule::when().jump(&name(0)));
    chains.chain(jumps).chain([base]).collect()
}

fn attempts() -> Vec<Vec<Change>> {
    let range = |first: &str, last: &str| none(&[addresses(&[first, last])]);
    let add = |first: &str, last: &str| vec![Change::AddRanges("blocks4".into(), range(first, last))];
    let kind = |purpose, size| SetKind { key: vec![KeyPart::Ipv4], purpose, size };
    let base = |priority| Some(Hook { point: HookPoint::Forward, priority });
    vec![
        // Counters.
        vec![Change::DeleteCounter("c-first".into())],
        vec![Change::DeleteCounter("nowhere".into())],
        vec![Change::AddCounter("c-first".into())],
        vec![Change::AddCounter("c-new".into()), Change::AddCounter("c-new".into())],
        vec![Change::AddRule("refuse".into(), Rule::when().count_in("nowhere"))],
        vec![
            Change::AddRule("refuse".into(), Rule::when().count_in("late")),
            Change::AddCounter("late".into()),
        ],
        vec![Change::DeleteCounter("c-new".into())],
        // Ranges; there are 0.0.0.0-9.255.255.255, 10.0.0.0, 10.0.0.1-10.0.0.7 and 200.0.0.0-255.255.255.255.
        add("10.0.0.1", "10.0.0.7"),
        add("10.0.0.2", "10.0.0.3"),
        add("10.0.0.5", "10.0.0.9"),
        add("10.0.0.0", "10.0.0.9"),
        add("9.0.0.0", "10.0.0.0"),
        add("10.0.0.7", "10.0.0.7"),
        add("10.0.0.8", "10.0.0.8"),
        add("10.0.0.10", "199.255.255.255"),
        vec![Change::DeleteRanges("blocks4".into(), range("10.0.0.1", "10.0.0.6"))],
        vec![Change::DeleteRanges("blocks4".into(), range("11.0.0.1", "11.0.0.6"))],
        vec![
            Change::DeleteRanges("blocks4".into(), range("10.0.0.1", "10.0.0.7")),
            Change::AddRanges("blocks4".into(), range("10.0.0.2", "10.0.0.4")),
            Change::AddRanges("blocks4".into(), range("10.0.0.5", "10.0.0.7")),
        ],
        vec![Change::DeleteRanges("blocks4".into(), range("200.0.0.0", "255.255.255.255"))],
        vec![Change::FlushSet("blocks4".into())],
        add("0.0.0.0", "255.255.255.255"),
        // Sets.
        vec![Change::DeleteSet("plain4".into())],
        vec![Change::DeleteSet("nowhere".into())],
        vec![Change::DeleteSet("all4".into())],
        vec![Change::AddSet("plain4".into(), kind(SetPurpose::Set, 4))],
        vec![Change::AddElements(
            "plain4".into(),
            none(&[addresses(&["10.0.0.2"]), addresses(&["10.0.0.3"]), addresses(&["10.0.0.4"])]),
        )],
        vec![Change::AddElements("plain4".into(), none(&[addresses(&["fd00::1"])]))],
        vec![Change::AddElements("empty6".into(), none(&[addresses(&["fd00::1"]), addresses(&["::"])]))],
        vec![
            Change::AddRule("refuse".into(), Rule::when().within(&[SOURCE4], "late")),
            Change::AddSet("late".into(), kind(SetPurpose::Set, 0)),
        ],
        vec![Change::AddRule("refuse".into(), ipv4().within(&[SOURCE4], "map4"))],
        vec![Change::AddRule("refuse".into(), ipv4().verdict_of(&[SOURCE4], "plain4"))],
        // Chains.
        vec![Change::DeleteChain("refuse".into())],
        vec![Change::AddRule("facts".into(), Rule::when().jump("input"))],
        vec![
            Change::AddRule("facts".into(), Rule::when().jump("late")),
            Change::AddChain("late".into(), None),
        ],
        vec![Change::AddElements(
            "map4".into(),
            Elements::from([(addresses(&["10.0.0.9"]), Some(Verdict::Goto("output".into())))]),
        )],
        vec![Change::AddRule("refuse".into(), Rule::when().jump("deny"))],
        vec![Change::AddChain("input".into(), base(3))],
        vec![
            Change::AddChain("forward-second".into(), base(-8)),
            Change::AddRule("forward-second".into(), Rule::when().goto("deny")),
        ],
        staircase(16),
        staircase(15),
        vec![Change::AddRule("step-14".into(), Rule::when().jump("deny"))],
        vec![Change::AddRule(
            "forward-second".into(),
            Rule::when().reject(RejectWith::TcpReset).comment("last"),
        )],
    ]
}

#[test]
fn kernel_in_memory_and_the_real_one_refuse_the_same_changes() {
    in_namespace(|| {
        let mut host = Host::new(Variant::Nft).expect("a host");
        let mut in_memory = None;
        let whole = Batch::replacing(&everything());
        transact(&mut host, std::slice::from_ref(&whole)).expect("written");
        whole.apply(&mut in_memory).expect("written");
        let (mut taken, mut refused) = (0, 0);
        for changes in attempts() {
            let batch = batch(changes);
            let (real, faked) =
                (transact(&mut host, std::slice::from_ref(&batch)), batch.apply(&mut in_memory));
            assert_eq!(real.is_ok(), faked.is_ok(), "{:?}: {real:?}, {faked:?}", batch.changes);
            let (found, in_memory) = (read(&mut host), in_memory.as_ref().expect("a table"));
            assert!(found == *in_memory, "after {:?}: {found}\n{in_memory}", batch.changes);
            *if real.is_ok() { &mut taken } else { &mut refused } += 1;
        }
        assert!(taken > 10 && refused > 20, "{taken} taken, {refused} refused");
    });
}

#[test]
fn table_that_another_program_edited_is_not_taken_for_the_one_that_was_written() {
    in_namespace(|| {
        let mut host = Host::new(Variant::Nft).expect("a host");
        let table = everything();
        for edit in [
            "add rule inet bridgewarden refuse ip ttl 3 accept",
            "insert rule inet bridgewarden forward-egress accept",
            "add rule inet bridgewarden refuse limit rate 1/second accept",
            "add rule inet bridgewarden refuse log prefix \"x\" group 101 snaplen 20",
            "add rule inet bridgewarden refuse reject with icmpx type admin-prohibited",
            "add rule inet bridgewarden refuse ct direction reply accept",
            "add rule inet bridgewarden refuse fib daddr type local accept",
            "add rule inet bridgewarden refuse ip saddr 10.0.0.0/8 accept",
            "add rule inet bridgewarden refuse ct state new accept comment \"mine\"",
            "add rule inet bridgewarden refuse update @reported4 { ip saddr timeout 5s limit rate 10/second burst 5 packets }",
            "add counter inet bridgewarden mine",
            "add quota inet bridgewarden mine { over 20 mbytes }",
            "add set inet bridgewarden mine { type ipv4_addr; flags timeout; }",
            "add set inet bridgewarden mine { type mark; }",
            "add map inet bridgewarden mine { type ipv4_addr : mark; }",
            "add chain inet bridgewarden mine",
            "add chain inet bridgewarden input { policy drop; }",
            "add chain inet bridgewarden nat { type nat hook prerouting priority -100; }",
            "add element inet bridgewarden plain4 { 10.0.0.7 }",
            "add element inet bridgewarden blocks4 { 10.0.0.9-10.0.0.11 }",
            "delete element inet bridgewarden blocks4 { 0.0.0.0-9.255.255.255 }",
            "delete element inet bridgewarden map4 { 10.0.0.1 }",
            "flush map inet bridgewarden map6",
            "flush chain inet bridgewarden deny",
            "add table inet bridgewarden { flags dormant; }",
            "delete table inet bridgewarden",
        ] {
            transact(&mut host, &[Batch::replacing(&table)]).expect("written");
            assert_eq!(read(&mut host), table);
            run(&format!("nft '{edit}'"));
            let found = host.read_nft_table(TableFamily::Inet, NAME).expect("read");
            let same = matches!(&found, TableRead::Ours { table: found, .. } if *found == table);
            assert!(!same, "{edit}");
        }
    });
}

#[test]
fn batches_for_several_tables_are_one_transaction() {
    in_namespace(|| {
        let mut host = Host::new(Variant::Nft).expect("a host");
        let bridge = Table { family: TableFamily::Bridge, ..Table::new(TableFamily::Bridge, NAME) };
        let inet = Table::new(TableFamily::Inet, NAME);
        let missing = batch(vec![Change::DeleteChain("nowhere".into())]);
        let error = transact(&mut host, &[Batch::replacing(&bridge), Batch::replacing(&inet), missing])
            .expect_err("there is no such chain");
        assert!(error.to_string().contains("nowhere"), "{error}");
        assert_eq!(run("nft list tables"), "");
        transact(&mut host, &[Batch::replacing(&bridge), Batch::replacing(&inet)]).expect("written");
        assert_eq!(run("nft list tables"), "table bridge bridgewarden\ntable inet bridgewarden\n");
        transact(
            &mut host,
            &[Batch::deleting(TableFamily::Bridge, NAME), Batch::deleting(TableFamily::Inet, NAME)],
        )
        .expect("deleted");
        assert_eq!(run("nft list tables"), "");
    });
}

#[test]
fn counters_outlive_the_rules_that_count_in_them() {
    in_namespace(|| {
        let mut host = Host::new(Variant::Nft).expect("a host");
        let counters = || match Counters::new(BackendName::Nftables).read().expect("read") {
            CountedRules::Nftables(counters) => counters,
            CountedRules::Iptables(_) => panic!("not of nf_tables"),
        };
        assert!(counters().is_empty(), "there is no table");
        let mut draft = Draft::new();
        draft.0.counters.extend(["asked".into(), "unasked".into()]);
        let rule = protocol(UDP).count_in("asked").and(Statement::Counter);
        draft.base("output", HookPoint::Output, -10, vec![rule.clone()]);
        transact(&mut host, &[Batch::replacing(&draft.0)]).expect("written");

        run("ip link set lo up");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for _ in 0..3 {
            socket.send_to(&[0; 100], socket.local_addr().expect("its address")).expect("sent");
        }
        let after_three = [
            ("asked".into(), Count { packets: 3, bytes: 3 * 128 }),
            ("unasked".into(), Count { packets: 0, bytes: 0 }),
        ];
        assert_eq!(counters(), after_three.clone().into());
        let TableRead::Ours { table, counted, .. } =
            host.read_nft_table(TableFamily::Inet, NAME).expect("read")
        else {
            panic!("not our table");
        };
        assert_eq!((table, counted), (draft.0, [("output".into(), 3)].into()));

        transact(
            &mut host,
            &[batch(vec![
                Change::AddCounter("asked".into()),
                Change::FlushChain("output".into()),
                Change::AddRule("output".into(), rule),
            ])],
        )
        .expect("rewritten");
        assert_eq!(counters(), after_three.into());
    });
}

#[test]
fn sixteen_mebibytes_go_in_one_transaction() {
    in_namespace(|| {
        let mut host = Host::new(Variant::Nft).expect("a host");
        let mut draft = Draft::new();
        // An element with an IPv6 address has 28 bytes.
        for number in 0..61u128 {
            let address = |place| Ipv6Addr::from_bits((0xfd00 << 112) + (number << 64) + place);
            let keys = (0..10_000).map(|place| address(place).octets());
            *draft.set(&format!("set-{number}"), &[KeyPart::Ipv6], SetPurpose::Set, 0) =
                keys.map(|key| (key, None)).collect();
        }
        transact(&mut host, &[Batch::replacing(&draft.0)]).expect("written");
        // While the kernel still makes the table of a new set larger (rhashtable), a dump of it may lack elements.
        assert!((0..50).any(|_| read(&mut host) == draft.0));
    });
}
