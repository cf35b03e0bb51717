//! Where the kernel has owners of tables, other programs cannot change ours, whatever becomes of the agent; elsewhere, what they do is
//! put right at once.

use crate::cleanup::{PROGRAM, tried};
use crate::setup::*;
use crate::switch::{ConnectionProbe, WEB_ALLOWS_ITS_NODE};
use crate::table_edits::NO_AUDITS;
use bridgewarden::apply::{PacketFilter, Step};
use bridgewarden::kernel::Host;
use bridgewarden::net::Protocol;
use bridgewarden::netfilter::BackendName;
use bridgewarden::netfilter::nftables::{Batch, TableFamily};
use bridgewarden::testbed::ProbeOutcome;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

const REPAIRS: &str = "bridgewarden_drift_repairs_total";

/// What another program has in the kernel.
const THEIRS: &str =
    "nft add table inet theirs; nft add chain inet theirs forward '{ type filter hook forward priority 5; }'
                      nft add rule inet theirs forward ip saddr 198.51.100.9 drop";

/// How often the ruleset is flushed: a few times without a pause, or as often as BRIDGEWARDEN_FLUSHES says, once a second.
fn flushes() -> (u32, Duration) {
    let wanted = std::env::var("BRIDGEWARDEN_FLUSHES").ok().and_then(|count| count.parse().ok());
    wanted.map_or((5, Duration::ZERO), |count| (count, Duration::from_secs(1)))
}

/// Whether this kernel has owners of tables.
fn has_owners(test: &NodeTest) -> bool {
    let said = tried(test, &format!("{PROGRAM} preflight --backend nftables")).0;
    said.contains("the kernel can keep other programs from changing")
}

/// What connections found while the ruleset was flushed.
struct Flushes {
    /// How many connections reached web that may.
    reached: usize,
    /// How many reached it that may not, and for how long after each flush.
    let_in: usize,
    open: Vec<Duration>,
    /// How many were refused.
    refused: usize,
    /// How the others ended, which the agent cut.
    cut: Vec<ErrorKind>,
}

/// Flushes the ruleset of node-a again and again while near, which may, and far, which may not, dial web.
fn flush_again_and_again(test: &NodeTest, mut after_each: impl FnMut()) -> Flushes {
    let (allowed, denied) = (ConnectionProbe::from(test, "near"), ConnectionProbe::from(test, "far"));
    let (count, pause) = flushes();
    let mut begun = Vec::new();
    for _ in 0..count {
        let begin = Instant::now();
        test.on_node_a(&["nft", "flush", "ruleset"]);
        assert_eq!(test.on_node_a(&["sh", "-c", "nft list tables inet | grep theirs || true"]), "");
        begun.push(begin);
        test.on_node_a(&["sh", "-ec", THEIRS]);
        after_each();
        std::thread::sleep(pause.saturating_sub(begin.elapsed()));
    }
    let theirs = test.on_node_a(&["nft", "list", "table", "inet", "theirs"]);
    assert!(theirs.contains("198.51.100.9"), "{theirs}");
    let (reached, failed) = allowed.end();
    let (let_in, refused) = denied.end_with_instants();
    assert_eq!(failed, [], "allowed connections");
    assert!(reached > 0 && !refused.is_empty());
    let (refused, cut) =
        refused.into_iter().partition::<Vec<_>, _>(|kind| *kind == ErrorKind::ConnectionRefused);
    let ends = begun.iter().skip(1).map(Some).chain([None]);
    let open = begun.iter().zip(ends).map(|(begin, end)| {
        let within = |end_of: &Instant| end_of >= begin && end.is_none_or(|end| end_of < end);
        let begun = let_in.iter().filter(|[_, end]| within(end)).map(|[begin, _]| *begin);
        let (first, last) = (begun.clone().min(), begun.max());
        first.zip(last).map_or(Duration::ZERO, |(first, last)| last - first)
    });
    let mut open: Vec<Duration> = open.collect();
    open.sort();
    Flushes { reached, let_in: let_in.len(), open, refused: refused.len(), cut }
}

/// Lets node-a track connections while no nftables rule asks for it, as a rule of legacy iptables does that another program has. Without
/// one, a flush ends the tracking: the end of a connection goes unseen, and the kernel calls the next one of the same ports invalid.
fn keep_connection_tracking(test: &NodeTest) {
    for program in ["iptables-legacy", "ip6tables-legacy"] {
        test.on_node_a(&[program, "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED"]);
    }
}

#[test]
fn flush_of_the_ruleset_opens_nothing_where_the_kernel_has_owners_of_tables() {
    let mut test = NodeTest::build("flushown", "nftables", Some(WEB_ALLOWS_ITS_NODE));
    if !has_owners(&test) {
        return;
    }
    test.start(&[]);
    test.wait_until_enforced();
    let Flushes { reached, let_in, open, refused, cut } = flush_again_and_again(&test, || {});
    println!("{} flushes: {reached} allowed and {refused} denied connections", open.len());
    assert_eq!((let_in, cut), (0, Vec::new()));
    assert_eq!(test.metric("node-a", REPAIRS), 0.0);
}

#[test]
fn flush_of_the_ruleset_is_put_right_at_once_where_tables_have_no_owner() {
    let mut test = NodeTest::build("flushnot", "nftables", Some(WEB_ALLOWS_ITS_NODE));
    test.start(&NO_AUDITS);
    test.wait_until_enforced();
    keep_connection_tracking(&test);
    let mut repairs = 0.0;
    let Flushes { reached, let_in, open, refused, cut } = flush_again_and_again(&test, || {
        test.wait_for("put right", || test.metric("node-a", REPAIRS) > repairs);
        repairs = test.metric("node-a", REPAIRS);
    });
    let [median, p99] = [50, 99].map(|part| open[(open.len() - 1) * part / 100]);
    let is_cut = |kind: &ErrorKind| matches!(kind, ErrorKind::ConnectionReset | ErrorKind::TimedOut);
    assert!(cut.iter().all(is_cut) && cut.len() <= let_in, "{cut:?}");
    println!(
        "{} flushes: {reached} allowed connections, {refused} denied, {let_in} let in; open for {median:?} (median), {p99:?} (p99), \
         {:?} (longest)",
        open.len(),
        open.last()
    );
    test.wait_for("refused", || test.probe("far", WEB[0], Protocol::Tcp) == ProbeOutcome::Refused);
}

/// Each rule, set and chain with its number, which another of the same content does not have.
fn numbered(test: &NodeTest) -> String {
    let tables =
        "nft -a list table bridge bridgewarden; nft -a list table inet bridgewarden 2>/dev/null || true";
    let listed = test.on_node_a(&["sh", "-ec", tables]);
    let is_content = |line: &&str| line.contains("# handle") && !line.contains("table ");
    let numbered =
        listed.lines().filter(is_content).map(|line| line.rsplit("# handle").next().unwrap_or_default());
    numbered.collect::<Vec<_>>().join(" ")
}

#[test]
fn tables_of_a_killed_agent_stay_and_its_successor_owns_them() {
    for (backend, id) in [("nftables", "ownkillt"), ("iptables-nft", "ownkilln")] {
        let mut test = NodeTest::build(id, backend, Some(WEB_ALLOWS_ITS_NODE));
        if !has_owners(&test) {
            return;
        }
        test.start(&[]);
        test.wait_until_enforced();
        let before = numbered(&test);
        let (allowed, denied) = (ConnectionProbe::from(&test, "near"), ConnectionProbe::from(&test, "far"));
        for _ in 0..5 {
            test.field.stop(true);
            test.start(&[]);
            test.wait_until_enforced();
            let deletion = "nft delete table bridge bridgewarden";
            let (said, code) = tried(&test, deletion);
            assert!(code != 0 && said.contains("not permitted"), "{said}");
            assert_eq!(numbered(&test), before, "nothing is written again");
            let log = test.field.log();
            assert!(!log.contains("another process that is running owns it"), "{log}");
        }
        let ((reached, failed), (let_in, refused)) = (allowed.end(), denied.end());
        assert!(reached > 0 && !refused.is_empty());
        assert_eq!((failed, let_in), (Vec::new(), 0), "{backend}");
        test.field.stop(true);
        assert_eq!(tried(&test, "nft delete table bridge bridgewarden"), (String::new(), 0), "an orphan");
    }
}

#[test]
fn table_that_another_live_process_owns_is_reported_by_agent_and_cleanup() {
    let mut test = NodeTest::build("ownother", "nftables", Some(WEB_DENIES_INGRESS));
    if !has_owners(&test) {
        return;
    }
    let namespace = test.field.testbed.node_namespace("node-a").expect("a node").clone();
    let other = namespace.enter(|| {
        let mut host = Host::new(BackendName::Nftables).expect("a host");
        host.own_tables().expect("it is possible");
        let table = Batch::taking(TableFamily::Inet, "bridgewarden");
        host.commit(&Step::Transact(vec![table])).expect("written");
        host
    });
    let other = other.expect("the namespace is entered");
    let (said, code) = tried(&test, &format!("{PROGRAM} cleanup"));
    assert!(code == 1 && said.contains("table inet bridgewarden"), "{said}");
    assert!(said.contains("another process that is running owns it"), "{said}");
    test.start(&[]);
    test.wait_for("reported", || {
        test.get("node-a", "/readyz").contains("another process that is running owns it")
    });
    drop(other);
    test.wait_until_enforced();
    assert_eq!(test.probe("near", WEB[0], Protocol::Tcp), ProbeOutcome::Refused);
}
