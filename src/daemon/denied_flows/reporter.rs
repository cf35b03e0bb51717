//! Reports denied packets: aggregates them to flows, queries the controller for the policies and the nearest rule of
//! each new flow, and passes the records on.

use super::packets::PacketBatch;
use crate::account::account;
use crate::apply::KernelError;
use crate::controller::Query;
use crate::flow::{Account, Aggregate, Budget, Closed, DeniedFlow, FlowVerdict, Noted, Party, Record, Turns};
use crate::model::Direction;
use crate::observe::{Journal, Metrics};
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

/// How many flows a second the controller is queried about; the others are only counted.
const QUERIES_PER_SECOND: u32 = 50;
/// How many flows may wait for a query.
const MAX_WAITING: usize = 256;
/// How many flows one query contains at most.
const FLOWS_PER_QUERY: usize = 16;

/// A flow that waits for a query.
#[derive(Clone, Copy)]
struct NewFlow {
    number: u64,
    flow: DeniedFlow,
    began: Duration,
}

/// A query that the controller has not answered.
struct PendingQuery {
    flows: Vec<NewFlow>,
    answer: oneshot::Receiver<Vec<Account>>,
}

/// Makes records of denied packets, and reports them. Times are passed in, as the time since this was created.
pub(super) struct FlowReporter {
    node: String,
    log: bool,
    journal: Journal,
    metrics: Metrics,
    events: Option<mpsc::Sender<Record>>,
    began: (Instant, SystemTime),
    flows: Aggregate,
    budget: Budget,
    new_flows: Turns<Party, NewFlow>,
    pending: Option<PendingQuery>,
    /// Flows that ended before their query was answered.
    ended_early: BTreeMap<u64, Closed>,
}

impl FlowReporter {
    pub(super) fn new(
        node: String,
        log: bool,
        journal: Journal,
        metrics: Metrics,
        events: Option<mpsc::Sender<Record>>,
    ) -> FlowReporter {
        FlowReporter {
            node,
            log,
            journal,
            metrics,
            events,
            began: (Instant::now(), SystemTime::now()),
            flows: Aggregate::default(),
            budget: Budget::per_second(QUERIES_PER_SECOND),
            new_flows: Turns::new(MAX_WAITING),
            pending: None,
            ended_early: BTreeMap::new(),
        }
    }

    /// Reports what is read until reading fails; returns the error, if the kernel returned one.
    pub(super) async fn run(
        &mut self,
        mut batches: mpsc::Receiver<Result<PacketBatch, KernelError>>,
        queries: &mpsc::Sender<Query>,
    ) -> Option<KernelError> {
        loop {
            let now = self.began.0.elapsed();
            self.ask(queries, now);
            let due = self.due(now).map(|due| self.began.0 + due);
            tokio::select! {
                batch = batches.recv() => match batch {
                    Some(Ok(batch)) => {
                        self.metrics.denied_lost(batch.lost);
                        let now = self.began.0.elapsed();
                        batch.flows.into_iter().for_each(|flow| self.note(flow, now));
                    }
                    Some(Err(error)) => return Some(error),
                    None => return None,
                },
                accounts = answered(&mut self.pending) => self.answered(accounts),
                () = until(due) => self.close(self.began.0.elapsed()),
            }
        }
    }

    /// Counts a packet.
    fn note(&mut self, flow: DeniedFlow, now: Duration) {
        match self.flows.note(flow, now) {
            Noted::Again => {}
            Noted::First(number)
                if self.new_flows.push(flow.party(), NewFlow { number, flow, began: now }) => {}
            Noted::First(_) | Noted::TooMany => {
                self.metrics.denied_unreported();
                self.count_unreported(&flow, 1);
            }
        }
    }

    /// When something must be done if nothing happens before: a flow ends, or the next query may be sent.
    fn due(&self, now: Duration) -> Option<Duration> {
        let may_ask = self.pending.is_none() && !self.new_flows.is_empty();
        let next = may_ask.then(|| self.budget.next(now));
        self.flows.due().into_iter().chain(next).min()
    }

    /// Queries the controller about the next flows, of each pod in turn, unless a query is pending.
    fn ask(&mut self, queries: &mpsc::Sender<Query>, now: Duration) {
        if self.pending.is_some() {
            return;
        }
        let mut flows = Vec::new();
        while flows.len() < FLOWS_PER_QUERY
            && !self.new_flows.is_empty()
            && self.budget.take(now)
            && let Some(fresh) = self.new_flows.pop()
        {
            flows.push(fresh);
        }
        if flows.is_empty() {
            return;
        }
        let denied: Vec<DeniedFlow> = flows.iter().map(|fresh| fresh.flow).collect();
        let (query, answer) = Query::new(move |enforcer| {
            let account = |flow| account(enforcer.cluster(), enforcer.plan(), flow);
            denied.iter().map(account).collect()
        });
        // There is room: each sender has a place of its own. If the controller has ended, the agent is about to.
        if queries.try_send(query).is_ok() {
            self.pending = Some(PendingQuery { flows, answer });
        }
    }

    fn answered(&mut self, accounts: Vec<Account>) {
        let Some(PendingQuery { flows, .. }) = self.pending.take() else { return };
        for (fresh, account) in flows.into_iter().zip(accounts) {
            let time = self.clock(fresh.began);
            let record = Record {
                number: fresh.number,
                last: time.clone(),
                time,
                count: 1,
                node: self.node.clone(),
                account,
            };
            self.count(&record, 1);
            self.log_record(&record);
            if let Some(events) = &self.events {
                // If the queue is full, the Event is not written.
                events.try_send(record.clone()).ok();
            }
            self.journal.add(record);
            if let Some(closed) = self.ended_early.remove(&fresh.number) {
                self.end(closed);
            }
        }
    }

    fn close(&mut self, now: Duration) {
        for closed in self.flows.close(now) {
            let asked = self.pending.iter().flat_map(|asked| &asked.flows);
            if asked.chain(self.new_flows.iter()).any(|fresh| fresh.number == closed.number) {
                self.ended_early.insert(closed.number, closed);
            } else {
                self.end(closed);
            }
        }
    }

    /// Reports a flow's later packets.
    fn end(&mut self, closed: Closed) {
        if closed.count < 2 {
            return;
        }
        let last = self.clock(closed.last);
        let grown = self.journal.change(closed.number, |record| {
            record.count = closed.count;
            record.last = last;
        });
        match grown {
            Some(record) => {
                self.count(&record, closed.count - 1);
                self.log_record(&record);
            }
            None => self.count_unreported(&closed.flow, closed.count - 1),
        }
    }

    fn count(&self, record: &Record, packets: u64) {
        let account = &record.account;
        let namespace = account.refuser().namespace.as_deref();
        self.count_in(account.verdict, account.direction, namespace, packets);
    }

    fn count_unreported(&self, flow: &DeniedFlow, packets: u64) {
        self.count_in(flow.place.verdict(), flow.place.direction(), None, packets);
    }

    fn count_in(&self, verdict: FlowVerdict, direction: Direction, namespace: Option<&str>, packets: u64) {
        let direction = direction.to_string();
        match verdict {
            FlowVerdict::Denied => self.metrics.denied(&direction, namespace, packets),
            FlowVerdict::WouldBeDenied => self.metrics.would_be_denied(&direction, namespace, packets),
        }
    }

    fn log_record(&self, record: &Record) {
        if !self.log {
            return;
        }
        let account = &record.account;
        tracing::info!(
            direction = %account.direction,
            source = %account.source,
            source_address = %account.source.address,
            source_owner = account.source.owner.as_ref().map(ToString::to_string),
            destination = %account.destination,
            destination_address = %account.destination.address,
            destination_owner = account.destination.owner.as_ref().map(ToString::to_string),
            protocol = account.protocol,
            port = account.port,
            policies = account.policies.join(","),
            nearest = account.nearest.as_ref().map(|nearest| format!("{} of {}", nearest.rule, nearest.policy)),
            why = account.why(),
            count = record.count,
            "{}",
            account.verdict
        );
    }

    /// The time of day at a moment, to the millisecond (RFC 3339).
    fn clock(&self, moment: Duration) -> String {
        let time = jiff::Timestamp::try_from(self.began.1 + moment);
        time.map(|time| format!("{time:.3}")).unwrap_or_default()
    }
}

async fn answered(asked: &mut Option<PendingQuery>) -> Vec<Account> {
    match asked {
        // Without an answer, the controller has ended, and nothing more is reported.
        Some(asked) => (&mut asked.answer).await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

async fn until(then: Option<Instant>) {
    match then {
        Some(then) => sleep_until(then.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{DeniedPacket, DeniedPayload, FlowEnd, Place, Reason, WINDOW};
    use crate::net::Protocol;

    const NOW: Duration = Duration::from_secs(1);

    fn flow(port: u16) -> DeniedFlow {
        let payload = DeniedPayload::Transport(Protocol::Tcp, port);
        let packet =
            DeniedPacket { source: [10, 0, 0, 1].into(), destination: [10, 0, 0, 2].into(), payload };
        DeniedFlow { place: Place::Pod(Direction::Ingress), packet }
    }

    fn account() -> Account {
        let end = |host: u8| FlowEnd {
            address: [10, 0, 0, host].into(),
            namespace: Some("shop".into()),
            pod: Some(format!("pod-{host}")),
            owner: None,
        };
        Account {
            verdict: FlowVerdict::Denied,
            direction: Direction::Ingress,
            source: end(1),
            destination: end(2),
            protocol: "TCP".into(),
            port: Some(80),
            reason: Reason::NoRuleAllows,
            policies: vec!["shop/web".into()],
            nearest: None,
            bridge_port: None,
            uid: None,
        }
    }

    fn reporter() -> (FlowReporter, mpsc::Sender<Query>, mpsc::Receiver<Query>) {
        let metrics = Metrics::default();
        let (sender, queries) = mpsc::channel(1);
        (FlowReporter::new("node-a".into(), false, Journal::default(), metrics, None), sender, queries)
    }

    /// Sends and answers a query; returns about how many flows it was.
    fn answer(
        reporter: &mut FlowReporter,
        sender: &mpsc::Sender<Query>,
        queries: &mut mpsc::Receiver<Query>,
    ) -> usize {
        reporter.ask(sender, NOW);
        let sent = queries.try_recv().ok().and(reporter.pending.as_ref());
        let asked = sent.map_or(0, |query| query.flows.len());
        reporter.answered(vec![account(); asked]);
        asked
    }

    fn counts(reporter: &FlowReporter) -> Vec<u64> {
        reporter.journal.kept().iter().map(|record| record.count).collect()
    }

    fn counted(reporter: &FlowReporter, namespace: &str) -> Option<u64> {
        let series = format!("denied_packets_total{{direction=\"ingress\",pod_namespace=\"{namespace}\"}} ");
        let text = reporter.metrics.text();
        text.lines().find_map(|line| line.strip_prefix("bridgewarden_")?.strip_prefix(&series)?.parse().ok())
    }

    #[test]
    fn flow_is_reported_with_its_first_packet_and_counts_the_rest_when_it_ends() {
        let (mut reporter, sender, mut queries) = reporter();
        for _ in 0..3 {
            reporter.note(flow(80), NOW);
        }
        assert_eq!(answer(&mut reporter, &sender, &mut queries), 1);
        assert_eq!((counts(&reporter), counted(&reporter, "shop")), (vec![1], Some(1)));
        reporter.close(NOW + WINDOW);
        assert_eq!((counts(&reporter), counted(&reporter, "shop")), (vec![3], Some(3)));
        reporter.note(flow(80), NOW + WINDOW);
        answer(&mut reporter, &sender, &mut queries);
        assert_eq!(counts(&reporter), [3, 1]);
    }

    #[test]
    fn flow_that_ends_before_its_query_is_answered_is_reported_completely() {
        let (mut reporter, sender, mut queries) = reporter();
        reporter.note(flow(80), NOW);
        reporter.note(flow(80), NOW);
        reporter.ask(&sender, NOW);
        reporter.close(NOW + WINDOW);
        assert!(counts(&reporter).is_empty());
        assert!(queries.try_recv().is_ok());
        reporter.answered(vec![account()]);
        assert_eq!((counts(&reporter), counted(&reporter, "shop")), (vec![2], Some(2)));
        assert!(reporter.ended_early.is_empty());
    }

    #[test]
    fn no_more_flows_are_queried_than_the_budget_allows_and_the_rest_is_counted() {
        let (mut reporter, sender, mut queries) = reporter();
        for port in 0..1000 {
            reporter.note(flow(port), NOW);
            reporter.note(flow(port), NOW);
        }
        let looks = std::iter::from_fn(|| Some(answer(&mut reporter, &sender, &mut queries)));
        let asked: usize =
            looks.take_while(|asked| *asked > 0).inspect(|asked| assert!(*asked <= FLOWS_PER_QUERY)).sum();
        assert_eq!(asked, 50);
        let waiting = reporter.new_flows.iter().count();
        assert_eq!(waiting, 128 - 50, "one pod's fill half of the room");
        assert_eq!((counted(&reporter, "shop"), counted(&reporter, "")), (Some(50), Some(872)));
        assert!(reporter.metrics.text().contains("bridgewarden_denied_flows_untold_total 872"));
        let due = reporter.due(NOW).unwrap();
        assert!(due > NOW && due < NOW + Duration::from_millis(30), "{due:?}");
        reporter.close(NOW + WINDOW);
        assert_eq!((counted(&reporter, "shop"), counted(&reporter, "")), (Some(100), Some(872 * 2)));
    }

    #[test]
    fn flood_at_one_pod_does_not_hide_what_is_denied_at_another() {
        let (mut reporter, sender, mut queries) = reporter();
        let mut reported_of_quiet = 0;
        for second in 0..20_u16 {
            let now = NOW * u32::from(second + 1);
            (0..1000).for_each(|port| reporter.note(flow(1000 * second + port), now));
            let quiet = DeniedPacket { destination: [10, 0, 0, 9].into(), ..flow(second).packet };
            reporter.note(DeniedFlow { packet: quiet, ..flow(second) }, now);
            reporter.ask(&sender, now);
            let (Ok(_), Some(query)) = (queries.try_recv(), &reporter.pending) else {
                panic!("no query is sent")
            };
            let asked = query.flows.len();
            reported_of_quiet += query.flows.iter().filter(|fresh| fresh.flow.packet == quiet).count();
            reporter.answered(vec![account(); asked]);
            reporter.close(now);
        }
        assert_eq!(reported_of_quiet, 20);
    }
}
