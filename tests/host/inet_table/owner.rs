//! Whose a table is, in the real kernel and in the one in memory.

use super::draft::NAME;
use super::everything::everything;
use super::{in_namespace, read, run, transact};
use bridgewarden::apply::{Fake, PacketFilter, Step, TableOwner, TableRead};
use bridgewarden::kernel::Host;
use bridgewarden::netfilter::BackendName;
use bridgewarden::netfilter::nftables::{Batch, Change, Hook, HookPoint, TableFamily};
use std::time::{Duration, Instant};

fn batch(changes: Vec<Change>) -> Batch {
    Batch { family: TableFamily::Inet, table: NAME.into(), changes }
}

/// The owner that is read; nothing if there is no table.
fn owner(kernel: &mut dyn PacketFilter) -> Option<TableOwner> {
    match kernel.read_nft_table(TableFamily::Inet, NAME).expect("read") {
        TableRead::Ours { owner, .. } => Some(owner),
        TableRead::Absent => None,
        TableRead::Foreign => panic!("not our table"),
    }
}

/// A host that owns its tables; nothing where the kernel has no owners of tables (before Linux 6.9).
fn owner_of_tables() -> Option<Host> {
    let mut host = Host::new(BackendName::Nftables).expect("a host");
    host.own_tables().is_ok().then_some(host)
}

/// Ends a host. A program that another test of this process is starting holds a copy of the host's socket until it is executed, so
/// this returns when others can change the table.
fn end(host: Host) {
    drop(host);
    let begin = Instant::now();
    while !run("nft 'add chain inet bridgewarden probe; delete chain inet bridgewarden probe' 2>&1 || true")
        .is_empty()
    {
        assert!(begin.elapsed() < Duration::from_secs(10), "the table still has an owner");
    }
}

#[test]
fn owned_table_is_changed_by_its_hosts_only_and_survives_them() {
    in_namespace(|| {
        let Some(mut host) = owner_of_tables() else { return };
        let mut beside = host.beside().expect("a second host");
        let mut another = Host::new(BackendName::Nftables).expect("a host");
        let table = everything();
        transact(&mut host, &[Batch::replacing(&table)]).expect("written");
        let flush = batch(vec![Change::FlushSet("plain4".into())]);
        for edit in [vec![flush.clone()], vec![Batch::deleting(TableFamily::Inet, NAME)]] {
            let error = transact(&mut another, &edit).expect_err("it has an owner").to_string();
            assert!(error.contains("another process that is running owns it"), "{error}");
        }
        let remove = Step::RemoveNftTable(format!("inet {NAME}"));
        let error = another.commit(&remove).expect_err("it has an owner").to_string();
        assert!(error.contains("another process that is running owns it"), "{error}");
        run("nft add table inet theirs; nft flush ruleset; ! nft delete table inet bridgewarden 2>&1");
        assert_eq!(run("nft list tables"), "table inet bridgewarden\n");
        assert_eq!(read(&mut host), table);
        transact(&mut beside, std::slice::from_ref(&flush)).expect("written with the same socket");
        drop(host);
        transact(&mut beside, &[Batch::replacing(&table)]).expect("the socket is still open");
        end(beside);
        assert_eq!(read(&mut another), table);
        another.commit(&remove).expect("its owner has ended");
        assert_eq!(run("nft list tables"), "");
    });
}

#[test]
fn kernel_in_memory_and_the_real_one_agree_on_owners() {
    in_namespace(|| {
        let Some(mut host) = owner_of_tables() else { return };
        let mut fake = Fake::default();
        let taking = || Batch::taking(TableFamily::Inet, NAME);
        let deleting = || Batch::deleting(TableFamily::Inet, NAME);
        let chain = |name: &str| batch(vec![Change::AddChain(name.into(), None)]);
        let hook = Hook { point: HookPoint::Forward, priority: 7 };
        let base = || batch(vec![Change::AddChain("base".into(), Some(hook))]);
        let failing = [taking().changes, vec![Change::DeleteChain("nowhere".into())]].concat();
        let transactions = [
            vec![taking()],
            vec![taking(), chain("one")],
            vec![deleting(), chain("one")],
            vec![deleting(), taking(), chain("two")],
            vec![batch(failing)],
            vec![taking(), base()],
            vec![deleting(), taking(), base()],
        ];
        let several = [None, Some(false), Some(true)];
        let (mut taken, mut refused) = (0, 0);
        for before in several {
            for transaction in &transactions {
                // An agent has ended and left the table, with an owner or without; or there is none.
                transact(&mut host, &[deleting()]).expect("deleted");
                fake.commit(&Step::Transact(vec![deleting()])).expect("deleted");
                if let Some(has_owner) = before {
                    transact(&mut host, &[taking()]).expect("taken");
                    fake.commit(&Step::Transact(vec![taking()])).expect("taken");
                    end(std::mem::replace(&mut host, owner_of_tables().expect("as before")));
                    fake.end_process();
                    if !has_owner {
                        run("nft delete table inet bridgewarden; nft add table inet bridgewarden");
                        fake.disown_tables();
                    }
                }
                assert_eq!(owner(&mut host), owner(&mut fake), "{before:?}");
                let real = transact(&mut host, transaction);
                let faked = fake.commit(&Step::Transact(transaction.clone()));
                assert_eq!(real.is_ok(), faked.is_ok(), "{before:?}, {transaction:?}: {real:?}, {faked:?}");
                *if real.is_ok() { &mut taken } else { &mut refused } += 1;
                assert_eq!(owner(&mut host), owner(&mut fake), "{before:?}, after {transaction:?}");
            }
        }
        assert!(taken > 8 && refused > 8, "{taken} taken, {refused} refused");
    });
}
