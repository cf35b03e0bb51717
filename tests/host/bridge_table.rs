//! The table of family bridge: what is written is what is read back, whole and change by change.

use super::{in_namespace, run};
use bridgewarden::apply::{Fake, KernelError, PacketFilter, Step, TableRead};
use bridgewarden::controller::Enforcer;
use bridgewarden::kernel::Host;
use bridgewarden::model::{
    Bridge, BridgePort, Change, Labels, LinkChange, Namespace, NamespaceName, Pod, PodKey, Policy, PolicyKey,
    Sandbox, SandboxKey, Selector, TunnelInputs,
};
use bridgewarden::netfilter::iptables::Variant;
use bridgewarden::netfilter::nftables::{self, Batch, Elements, Table, TableFamily};
use bridgewarden::ownership::BRIDGE_TABLE;
use bridgewarden::render::Options;
use std::net::IpAddr;
use std::time::Duration;

const NODE: &str = "node-a";

fn pod(number: u8) -> Vec<Change> {
    let key = PodKey::new("shop", &format!("pod-{number}"));
    let addresses: Vec<IpAddr> =
        vec![[10, 244, 1, number].into(), [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)].into()];
    let sandbox = Sandbox {
        key: SandboxKey::new(key.clone(), "sandbox"),
        uid: None,
        addresses: addresses.clone(),
        made: Duration::from_secs(1),
        devices: vec!["cni0".into(), format!("veth{number}").into()],
        hardware: Some([2, 0, 0, 0, 0, number]),
    };
    let labels = Labels::new(&[("name".to_owned(), key.name.to_string())].into());
    let pod = Pod { node: Some(NODE.into()), labels, addresses, ..Pod::new(key) };
    let index = u32::from(number) + 200;
    let port = BridgePort { index, name: format!("veth{number}").into(), is_veth: true };
    vec![Change::Pod(pod), Change::Sandbox(sandbox), Change::Link(LinkChange::Port(port))]
}

fn closes_all(name: &str) -> Change {
    Change::Policy(Policy {
        key: PolicyKey::new("shop", name),
        uid: None,
        version: Default::default(),
        subject: Selector::everything(),
        ingress: Some(Vec::new()),
        egress: Some(Vec::new()),
        invalid_parts: Vec::new(),
        audit: Default::default(),
    })
}

fn node() -> Change {
    let link_local = vec!["fe80::1".parse().expect("an address")];
    Change::Link(LinkChange::Bridge(Bridge {
        hardware: Some([2, 0, 0, 0, 0, 1]),
        link_local,
        ..Bridge::default()
    }))
}

fn namespace(labels: &[(&str, &str)]) -> Change {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Change::Namespace(Namespace {
        name: NamespaceName::new("shop"),
        labels: Labels::new(&labels),
        terminating: false,
    })
}

fn read(host: &mut Host) -> Table {
    match host.read_nft_table(TableFamily::Bridge, BRIDGE_TABLE).expect("read") {
        TableRead::Ours { table, .. } => table,
        TableRead::Absent => panic!("no table"),
        TableRead::Foreign => panic!("not our table"),
    }
}

/// A story in which every kind of change of a port happens.
fn story() -> Vec<Vec<Change>> {
    vec![
        vec![node()],
        pod(10),
        pod(11),
        vec![closes_all("closed")],
        pod(12),
        vec![namespace(&[("bridgewarden.io/bind-addresses", "off")])],
        vec![namespace(&[])],
        vec![Change::Link(LinkChange::Port(BridgePort { index: 300, name: "veth99".into(), is_veth: true }))],
        vec![Change::Link(LinkChange::Port(BridgePort { index: 301, name: "eth1".into(), is_veth: false }))],
        vec![Change::SandboxGone(SandboxKey::new(PodKey::new("shop", "pod-11"), "sandbox"))],
        vec![Change::Link(LinkChange::PortGone(211))],
        vec![Change::PolicyGone(PolicyKey::new("shop", "closed"))],
        vec![Change::Link(LinkChange::Bridge(Bridge {
            hardware: Some([2, 0, 0, 0, 0, 7]),
            link_local: Vec::new(),
            tunnels: TunnelInputs { udp_ports: [8472, 4789].into(), protocols: [4, 47].into() },
        }))],
        vec![Change::Link(LinkChange::Bridge(Bridge {
            tunnels: TunnelInputs { udp_ports: [6081].into(), protocols: [4].into() },
            ..Bridge::default()
        }))],
        vec![Change::PodGone(PodKey::new("shop", "pod-12"))],
    ]
}

#[test]
fn table_is_read_back_as_it_was_written_after_every_change() {
    in_namespace(|| {
        let mut host = Host::new(Variant::Nft).expect("a host");
        assert_eq!(host.read_nft_table(TableFamily::Bridge, BRIDGE_TABLE).expect("read"), TableRead::Absent);
        let mut enforcer = Enforcer::new(NODE, Options::default());
        enforcer.apply(namespace(&[]));
        let flush = enforcer.adopt(&bridgewarden::apply::Actual::default());
        let transactions =
            |steps: Vec<Step>| steps.into_iter().filter(|step| matches!(step, Step::Transact(_)));
        transactions(flush.steps).for_each(|step| host.commit(&step).expect("written"));
        for changes in story() {
            changes.into_iter().for_each(|change| enforcer.apply(change));
            for step in transactions(enforcer.flush().steps) {
                host.commit(&step).unwrap_or_else(|error| panic!("{error}"));
            }
            let wanted = enforcer.ruleset().bridge.expect("a table");
            let found = read(&mut host);
            assert_eq!(found, wanted, "found {found}\nwanted {wanted}");
        }
        let batch = Batch::deleting(TableFamily::Bridge, BRIDGE_TABLE);
        host.commit(&Step::Transact(vec![batch])).expect("deleted");
        assert_eq!(host.read_nft_table(TableFamily::Bridge, BRIDGE_TABLE).expect("read"), TableRead::Absent);
    });
}

#[test]
fn kernel_in_memory_and_the_real_one_refuse_the_same_transactions() {
    in_namespace(|| {
        let mut host = Host::new(Variant::Nft).expect("a host");
        let mut fake = Fake::default();
        let mut enforcer = Enforcer::new(NODE, Options::default());
        pod(10).into_iter().for_each(|change| enforcer.apply(change));
        let table = enforcer.ruleset().bridge.expect("a table");
        let key: Box<[u8]> = 210u32.to_ne_bytes().as_slice().into();
        let other: Box<[u8]> = 7u32.to_ne_bytes().as_slice().into();
        let element = |key: &[u8], verdict| Elements::from([(key, verdict)]);
        use nftables::{Change, Rule, Verdict};
        let goto = |chain: &str| Some(Verdict::Goto(chain.into()));
        let attempts = [
            vec![Change::DeleteChain("from-210".into())],
            vec![Change::FlushChain("from-210".into()), Change::DeleteChain("from-210".into())],
            vec![Change::DeleteElements("from".into(), element(&other, None))],
            vec![Change::AddElements("from".into(), element(&key, goto("from-free")))],
            vec![Change::AddElements("from".into(), element(&key, goto("from-210")))],
            vec![Change::AddElements("from".into(), element(&other, goto("nowhere")))],
            vec![Change::AddRule("nowhere".into(), Rule::verdict(Verdict::Accept))],
            vec![Change::AddRule("from-210".into(), Rule::verdict(Verdict::Jump("nowhere".into())))],
            vec![Change::AddElements("nowhere".into(), element(&other, None))],
            vec![
                Change::AddElements("egress".into(), element(&other, None)),
                Change::DeleteChain("arp-bound".into()),
            ],
            vec![Change::DeleteTable, Change::AddChain("x".into(), None)],
            vec![
                Change::DeleteElements("from".into(), element(&key, None)),
                Change::FlushChain("from-210".into()),
                Change::DeleteChain("from-210".into()),
            ],
        ];
        let put =
            |kernel: &mut dyn PacketFilter, changes: Vec<nftables::Change>| -> Result<(), KernelError> {
                let batch = Batch { family: TableFamily::Bridge, table: BRIDGE_TABLE.into(), changes };
                kernel.commit(&Step::Transact(vec![batch]))
            };
        for kernel in [&mut host as &mut dyn PacketFilter, &mut fake] {
            kernel.commit(&Step::Transact(vec![Batch::replacing(&table)])).expect("written");
        }
        for changes in attempts {
            let (real, faked) = (put(&mut host, changes.clone()), put(&mut fake, changes.clone()));
            assert_eq!(real.is_ok(), faked.is_ok(), "{changes:?}: {real:?}, {faked:?}");
            let in_memory = fake.table_of_nft(TableFamily::Bridge, BRIDGE_TABLE).cloned().expect("a table");
            assert_eq!(read(&mut host), in_memory, "after {changes:?}");
        }
    });
}

#[test]
fn table_that_another_program_edited_is_not_taken_for_ours() {
    in_namespace(|| {
        let mut host = Host::new(Variant::Nft).expect("a host");
        let mut enforcer = Enforcer::new(NODE, Options::default());
        pod(10).into_iter().for_each(|change| enforcer.apply(change));
        let table = enforcer.ruleset().bridge.expect("a table");
        for edit in [
            "add rule bridge bridgewarden from-free ip saddr 10.0.0.1 counter accept",
            "insert rule bridge bridgewarden spoofed accept",
            "add chain bridge bridgewarden mine",
            "add set bridge bridgewarden mine { type ipv4_addr; flags interval; }",
            "flush map bridge bridgewarden to",
            "flush chain bridge bridgewarden group",
            "delete table bridge bridgewarden",
        ] {
            host.commit(&Step::Transact(vec![Batch::replacing(&table)])).expect("written");
            assert_eq!(read(&mut host), table);
            run(&format!("nft '{edit}'"));
            let found = host.read_nft_table(TableFamily::Bridge, BRIDGE_TABLE).expect("read");
            let same = matches!(&found, TableRead::Ours { table: found, .. } if *found == table);
            assert!(!same, "{edit}");
        }
    });
}

#[test]
fn bridge_tables_of_this_kernel_are_tried_and_leave_nothing_behind() {
    in_namespace(|| {
        let mut kernel = Host::new(Variant::Nft).expect("a netlink socket");
        kernel.try_bridge_table().expect("this kernel has them");
        assert_eq!(kernel.tally().transactions, 0, "it is no work of the agent");
        assert_eq!(run("nft list tables"), "");
    });
}
