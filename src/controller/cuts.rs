//! Decides about live connections: those that are no longer allowed are cut, those that were cut and are allowed again are
//! unmarked, and those of pods that have ended are deleted. The time is passed in.

use super::{Enforcer, Pace, Reconciler};
use crate::apply::{Connection, KernelError};
use crate::net::{Flow, Protocol, Verdict};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Instant, SystemTime};

/// Whether a live connection could be opened now; `None` while policies for it are still coming into force. Policies do
/// not apply to the node's own connections.
pub(super) fn verdict(enforcer: &Enforcer, connection: &Connection) -> Option<Verdict> {
    if connection.is_of_this_host || enforcer.decide(&first_packet(connection)).is_allowed() {
        return Some(Verdict::Allowed);
    }
    let ends = [connection.source, connection.destination];
    let is_undecided = ends.into_iter().any(|end| enforcer.is_undecided(end));
    (!is_undecided).then_some(Verdict::Denied)
}

/// The connection's first packet, as the FORWARD hook saw it.
fn first_packet(connection: &Connection) -> Flow {
    let protocol = Protocol::from_number(connection.protocol);
    Flow {
        source: connection.source,
        destination: connection.destination,
        port: protocol.map(|protocol| (protocol, connection.destination_port)),
    }
}

/// Connections to cut and to unmark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MarkChanges {
    /// Connections that are no longer allowed.
    pub cut: Vec<Connection>,
    /// Connections that were cut and are allowed again.
    pub unmark: Vec<Connection>,
    /// Connections of pods that have ended.
    pub forget: Vec<Connection>,
}

/// Connections that could not be cut or unmarked, with the kernel's errors.
pub type Failures = Vec<(Connection, KernelError)>;

/// Summarises failures for the log: the kind of the first error, and all of them in words.
pub(super) fn problem(failures: &Failures) -> Option<(&'static str, String)> {
    let (Connection { source, destination, destination_port, .. }, error) = failures.first()?;
    let count = failures.len();
    let problem = format!(
        "{count} connections could not be cut or unmarked, such as {source} to {destination} port {destination_port}: {error}"
    );
    tracing::error!(problem, "cannot cut every connection; the agent tries the failed ones again");
    Some((error.kind(), problem))
}

impl Reconciler {
    /// Handles the end of cutting and unmarking connections, with the failures.
    pub(super) fn cut(&mut self, failures: &Failures, at: SystemTime, now: Instant) {
        self.cuts.done(failures, now);
        let problem = problem(failures);
        if let Some((kind, _)) = &problem {
            self.metrics.sync_ended(at, Err(kind));
        }
        self.health.set_check("connections", problem.map_or(Ok(()), |(_, problem)| Err(problem)));
    }
}

/// Which connections to cut or unmark, and which attempts failed.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    next: MarkChanges,
    /// The ends of connections that carry our bit, as far as is known: only these can be unmarked.
    marked: BTreeSet<IpAddr>,
    /// The ends of connections that could not be cut, and when to check them again.
    failed: BTreeSet<IpAddr>,
    pace: Pace,
}

impl Cuts {
    /// Deletes the connections of addresses that pods have left, and returns the others. The next packet of such a connection is then
    /// evaluated by the policies of the pod that has the address now.
    pub(super) fn forget(
        &mut self,
        left: &BTreeSet<IpAddr>,
        connections: Vec<Connection>,
    ) -> Vec<Connection> {
        let is_left = |own: &Connection| left.contains(&own.source) || left.contains(&own.destination);
        let (of_earlier_pods, others) =
            connections.into_iter().partition(|own| is_left(own) && !own.is_of_this_host);
        self.next.forget.extend::<Vec<Connection>>(of_earlier_pods);
        others
    }

    /// Decides about the connections of the addresses that were checked; `mark` is our bit.
    pub(super) fn decide(
        &mut self,
        looked_at: &BTreeSet<IpAddr>,
        connections: Vec<Connection>,
        mark: u32,
        verdict: impl Fn(&Connection) -> Option<Verdict>,
    ) {
        self.marked.retain(|address| !looked_at.contains(address));
        for connection in connections {
            let is_marked = connection.mark & mark != 0;
            match verdict(&connection) {
                Some(Verdict::Allowed) if is_marked => self.next.unmark.push(connection),
                Some(Verdict::Denied) => {
                    self.marked.extend([connection.source, connection.destination]);
                    if !is_marked {
                        self.next.cut.push(connection);
                    }
                }
                None if is_marked => {
                    self.marked.extend([connection.source, connection.destination]);
                }
                Some(Verdict::Allowed) | None => {}
            }
        }
    }

    /// The next changes to make, if there are any.
    pub(super) fn take(&mut self) -> Option<MarkChanges> {
        Some(std::mem::take(&mut self.next)).filter(|next| *next != MarkChanges::default())
    }

    /// Called when changes were made, except for these failures. Their ends are checked again, after a wait that grows
    /// with each failure.
    pub(super) fn done(&mut self, failures: &Failures, now: Instant) {
        if failures.is_empty() {
            self.pace.succeeded();
            return;
        }
        self.failed
            .extend(failures.iter().flat_map(|(connection, _)| [connection.source, connection.destination]));
        self.pace.failed(now);
    }

    /// Whether all connections that could not be cut have ended or are allowed again, now that their ends were checked
    /// again.
    pub(super) fn are_resolved(&self) -> bool {
        let failed = self.pace.not_before().is_some();
        failed && self.failed.is_empty() && self.next == MarkChanges::default()
    }

    /// When to check the ends of failed connections; `None` if there are none.
    pub(super) fn due(&self) -> Option<Instant> {
        self.pace.not_before().filter(|_| !self.failed.is_empty())
    }

    /// The ends of failed connections, if it is time to check them.
    pub(super) fn again(&mut self, now: Instant) -> BTreeSet<IpAddr> {
        if self.pace.may_try(now) { std::mem::take(&mut self.failed) } else { BTreeSet::new() }
    }

    /// Those of these addresses that are ends of connections that were cut.
    pub(super) fn may_return<'a>(
        &'a self,
        granted: &'a BTreeSet<IpAddr>,
    ) -> impl Iterator<Item = IpAddr> + 'a {
        granted.intersection(&self.marked).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::Actual;
    use crate::compile::Limits;
    use crate::model::{
        Change, Demand, NamespaceScope, Peer, Peers, Pod, PodKey, Policy, PolicyKey, Ports, Requirement,
        Rule, Selector,
    };
    use crate::render::Options;

    const MARK: u32 = 0x10000;

    fn address(host: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, host])
    }

    fn connection(source: u8, mark: u32) -> Connection {
        Connection {
            protocol: 6,
            source: address(source),
            source_port: 40_000,
            dialled: address(1),
            dialled_port: 80,
            destination: address(1),
            destination_port: 80,
            is_of_this_host: false,
            mark,
            tuple: Vec::new(),
        }
    }

    /// Whether a connection with this mark is to be cut, and whether it is to be unmarked, each as a number of
    /// connections.
    fn sentence(mark: u32, verdict: Option<Verdict>) -> (usize, usize) {
        let mut cuts = Cuts::default();
        cuts.decide(&BTreeSet::new(), vec![connection(2, mark)], MARK, |_| verdict);
        let MarkChanges { cut, unmark, .. } = cuts.take().unwrap_or_default();
        (cut.len(), unmark.len())
    }

    #[test]
    fn refused_connection_is_cut_once_and_pardoned_when_it_is_allowed_again() {
        for others in [0, 0x4000] {
            assert_eq!(sentence(others, Some(Verdict::Denied)), (1, 0));
            assert_eq!(sentence(others | MARK, Some(Verdict::Denied)), (0, 0), "it is cut");
            assert_eq!(sentence(others | MARK, Some(Verdict::Allowed)), (0, 1));
            assert_eq!(sentence(others, Some(Verdict::Allowed)), (0, 0));
            assert_eq!(sentence(others, None), (0, 0));
            assert_eq!(sentence(others | MARK, None), (0, 0));
        }
    }

    /// Those of the node itself are exempt, as is all its traffic.
    #[test]
    fn connections_of_an_address_that_a_pod_has_left_are_deleted_and_no_others() {
        let mut cuts = Cuts::default();
        let of_the_host = Connection { is_of_this_host: true, ..connection(2, 0) };
        let all = vec![connection(2, 0), connection(3, 0), of_the_host.clone()];
        let others = cuts.forget(&BTreeSet::from([address(2)]), all.clone());
        assert_eq!(others, [connection(3, 0), of_the_host.clone()]);
        assert_eq!(cuts.take().map(|next| next.forget), Some(vec![connection(2, 0)]));
        assert_eq!(cuts.forget(&BTreeSet::from([address(1)]), all), [of_the_host], "either end");
        assert_eq!(cuts.take().map(|next| next.forget.len()), Some(2));
    }

    /// The plan does not know what a policy allows until all its sets are made.
    #[test]
    fn connection_of_a_pod_whose_policy_waits_for_its_sets_is_undecided() {
        let limits = Limits { slice: 1, ..Limits::default() };
        let mut enforcer = Enforcer::new("node-a", Options::default()).with_limits(limits);
        enforcer.apply(Change::Pod(Pod {
            node: Some("node-a".into()),
            addresses: vec![address(1)],
            ..Pod::new(PodKey::new("shop", "web"))
        }));
        enforcer.adopt(&Actual::default());
        assert_eq!(verdict(&enforcer, &connection(2, 0)), Some(Verdict::Allowed));
        let peers = ["one", "two"].map(|app| {
            let demand = Demand::In(BTreeSet::from([app.into()]));
            let pods = Selector::new([Requirement { key: "app".into(), demand }]);
            Peer::Pods { namespaces: NamespaceScope::Own, pods }
        });
        enforcer.apply(Change::Policy(Policy {
            key: PolicyKey::new("shop", "web"),
            uid: None,
            version: Default::default(),
            subject: Selector::everything(),
            ingress: Some(vec![Rule { index: 0, peers: Peers::Listed(peers.into()), ports: Ports::All }]),
            egress: None,
            invalid_parts: Vec::new(),
            audit: Default::default(),
        }));
        assert_eq!(verdict(&enforcer, &connection(2, 0)), None);
        while enforcer.is_behind() {
            enforcer.flush();
        }
        assert_eq!(verdict(&enforcer, &connection(2, 0)), Some(Verdict::Denied));
    }

    #[test]
    fn those_that_failed_are_looked_at_again_later_each_time_and_no_others() {
        let (mut cuts, now) = (Cuts::default(), Instant::now());
        let error = || KernelError::Netlink { act: "cut", source: std::io::Error::other("no") };
        assert_eq!((cuts.due(), cuts.again(now)), (None, BTreeSet::new()));
        cuts.done(&vec![(connection(2, 0), error())], now);
        let first = cuts.due().expect("it is tried again");
        assert_eq!(cuts.again(now), BTreeSet::new());
        assert_eq!(cuts.again(first), BTreeSet::from([address(1), address(2)]));
        assert_eq!(cuts.due(), None);
        cuts.done(&vec![(connection(2, 0), error())], first);
        assert!(cuts.due().expect("again") - first > first - now);
        cuts.done(&Vec::new(), first);
        assert!(cuts.again(first).contains(&address(2)), "a success of others makes the next try soon");
    }

    #[test]
    fn connection_that_could_not_be_cut_and_has_ended_needs_nothing_more() {
        let (mut cuts, now) = (Cuts::default(), Instant::now());
        assert!(!cuts.are_resolved(), "nothing failed");
        let error = KernelError::Netlink { act: "cut", source: std::io::Error::other("no") };
        cuts.done(&vec![(connection(2, 0), error)], now);
        assert!(!cuts.are_resolved(), "it was not looked at again");
        let ends = cuts.again(cuts.due().expect("it is tried again"));
        cuts.decide(&ends, vec![connection(2, 0)], MARK, |_| Some(Verdict::Denied));
        assert!(!cuts.are_resolved(), "it is still there");
        cuts.take();
        cuts.decide(&ends, Vec::new(), MARK, |_| Some(Verdict::Denied));
        assert!(cuts.are_resolved());
        cuts.done(&Failures::new(), now);
        assert!(!cuts.are_resolved());
    }

    #[test]
    fn address_that_is_allowed_more_is_looked_at_only_while_a_connection_of_it_is_condemned() {
        let granted = BTreeSet::from([address(2), address(3)]);
        let returning = |cuts: &Cuts| cuts.may_return(&granted).collect::<Vec<_>>();
        let mut cuts = Cuts::default();
        assert!(returning(&cuts).is_empty());
        cuts.decide(&BTreeSet::new(), vec![connection(2, 0)], MARK, |_| Some(Verdict::Denied));
        assert_eq!(returning(&cuts), [address(2)]);
        cuts.decide(&BTreeSet::from([address(2)]), vec![connection(2, MARK)], MARK, |_| {
            Some(Verdict::Allowed)
        });
        assert!(returning(&cuts).is_empty(), "it was pardoned");
    }
}
