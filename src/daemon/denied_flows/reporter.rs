//! Records of denied flows: which flow is new, what the controller says of it, and where it is reported.

use super::packets::Batch;
use crate::apply::KernelError;
use crate::controller::Inquiry;
use crate::flow::{Account, Aggregate, Budget, Closed, Flow, Noted, Party, Record, Turns};
use crate::observe::{Journal, Metrics};
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

/// How many flows a second are looked at; the rest is counted.
const LOOKED_AT: u32 = 50;
/// How many may wait to be looked at.
const WAITING: usize = 256;
/// How many the controller is asked about at once.
const ASKED: usize = 16;

/// A flow that waits to be looked at.
#[derive(Clone, Copy)]
struct Fresh {
    number: u64,
    flow: Flow,
    began: Duration,
}

/// Flows that the controller was asked about.
struct Asked {
    flows: Vec<Fresh>,
    answer: oneshot::Receiver<Vec<Account>>,
}

/// Makes records of packets, and tells them. The time is passed in, as what has passed since it was made.
pub(super) struct Teller {
    node: String,
    log: bool,
    journal: Journal,
    metrics: Metrics,
    events: Option<mpsc::Sender<Record>>,
    began: (Instant, SystemTime),
    flows: Aggregate,
    budget: Budget,
    fresh: Turns<Party, Fresh>,
    asked: Option<Asked>,
    /// Flows that have ended before they were looked at.
    early: BTreeMap<u64, Closed>,
}

impl Teller {
    pub(super) fn new(
        node: String,
        log: bool,
        journal: Journal,
        metrics: Metrics,
        events: Option<mpsc::Sender<Record>>,
    ) -> Teller {
        Teller {
            node,
            log,
            journal,
            metrics,
            events,
            began: (Instant::now(), SystemTime::now()),
            flows: Aggregate::default(),
            budget: Budget::new(LOOKED_AT),
            fresh: Turns::new(WAITING),
            asked: None,
            early: BTreeMap::new(),
        }
    }

    /// Tells of what is read, until that fails; tells why, if the kernel said so.
    pub(super) async fn run(
        &mut self,
        mut batches: mpsc::Receiver<Result<Batch, KernelError>>,
        inquiries: &mpsc::Sender<Inquiry>,
    ) -> Option<KernelError> {
        loop {
            let now = self.began.0.elapsed();
            self.ask(inquiries, now);
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
                accounts = answered(&mut self.asked) => self.answered(accounts),
                () = until(due) => self.close(self.began.0.elapsed()),
            }
        }
    }

    /// Takes in a packet.
    fn note(&mut self, flow: Flow, now: Duration) {
        match self.flows.note(flow, now) {
            Noted::Again => {}
            Noted::First(number) if self.fresh.push(flow.party(), Fresh { number, flow, began: now }) => {}
            Noted::First(_) | Noted::TooMany => {
                self.metrics.denied_untold();
                self.count_untold(&flow, 1);
            }
        }
    }

    /// When there is something to do, if nothing comes before: a flow ends, or the next may be asked about.
    fn due(&mut self, now: Duration) -> Option<Duration> {
        let may_ask = self.asked.is_none() && !self.fresh.is_empty();
        let next = may_ask.then(|| self.budget.next(now));
        self.flows.due().into_iter().chain(next).min()
    }

    /// Asks about the next flows, of each pod in turn, unless an answer is still waited for.
    fn ask(&mut self, inquiries: &mpsc::Sender<Inquiry>, now: Duration) {
        if self.asked.is_some() {
            return;
        }
        let mut flows = Vec::new();
        while flows.len() < ASKED
            && !self.fresh.is_empty()
            && self.budget.take(now)
            && let Some(fresh) = self.fresh.pop()
        {
            flows.push(fresh);
        }
        if flows.is_empty() {
            return;
        }
        let (answer, answered) = oneshot::channel();
        let inquiry = Inquiry::Flows { flows: flows.iter().map(|fresh| fresh.flow).collect(), answer };
        // There is room: whoever asks has a place of its own. If the controller has gone, so has the program, soon.
        if inquiries.try_send(inquiry).is_ok() {
            self.asked = Some(Asked { flows, answer: answered });
        }
    }

    fn answered(&mut self, accounts: Vec<Account>) {
        let Some(Asked { flows, .. }) = self.asked.take() else { return };
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
            self.tell(&record);
            if let Some(events) = &self.events {
                // An Event that there is no room for is not written.
                events.try_send(record.clone()).ok();
            }
            self.journal.add(record);
            if let Some(closed) = self.early.remove(&fresh.number) {
                self.end(closed);
            }
        }
    }

    fn close(&mut self, now: Duration) {
        for closed in self.flows.close(now) {
            let asked = self.asked.iter().flat_map(|asked| &asked.flows);
            if asked.chain(self.fresh.iter()).any(|fresh| fresh.number == closed.number) {
                self.early.insert(closed.number, closed);
            } else {
                self.end(closed);
            }
        }
    }

    /// Tells of a flow's later packets.
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
                self.tell(&record);
            }
            None => self.count_untold(&closed.flow, closed.count - 1),
        }
    }

    fn count(&self, record: &Record, packets: u64) {
        let account = &record.account;
        let namespace = account.refuser().namespace.as_deref();
        self.metrics.denied(&account.direction.to_string(), namespace, packets);
    }

    fn count_untold(&self, flow: &Flow, packets: u64) {
        self.metrics.denied(&flow.place.direction().to_string(), None, packets);
    }

    fn tell(&self, record: &Record) {
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
            "denied"
        );
    }

    /// The time of day at a moment, to the millisecond (RFC 3339).
    fn clock(&self, moment: Duration) -> String {
        let time = jiff::Timestamp::try_from(self.began.1 + moment);
        time.map(|time| format!("{time:.3}")).unwrap_or_default()
    }
}

async fn answered(asked: &mut Option<Asked>) -> Vec<Account> {
    match asked {
        // Without an answer, the controller has gone, and nothing more is to be told.
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
    use crate::flow::{End, Packet, Payload, Place, Reason, WINDOW};
    use crate::model::Direction;
    use crate::net::Protocol;

    const NOW: Duration = Duration::from_secs(1);

    fn flow(port: u16) -> Flow {
        let payload = Payload::Transport(Protocol::Tcp, port);
        let packet = Packet { source: [10, 0, 0, 1].into(), destination: [10, 0, 0, 2].into(), payload };
        Flow { place: Place::Pod(Direction::Ingress), packet }
    }

    fn account() -> Account {
        let end = |host: u8| End {
            address: [10, 0, 0, host].into(),
            namespace: Some("shop".into()),
            pod: Some(format!("pod-{host}")),
            owner: None,
        };
        Account {
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

    fn teller() -> (Teller, mpsc::Sender<Inquiry>, mpsc::Receiver<Inquiry>) {
        let metrics = Metrics::new("", None);
        let (inquire, inquiries) = mpsc::channel(1);
        (Teller::new("node-a".into(), false, Journal::default(), metrics, None), inquire, inquiries)
    }

    /// Asks, and answers what was asked; tells about how many flows.
    fn answer(
        teller: &mut Teller,
        inquire: &mpsc::Sender<Inquiry>,
        inquiries: &mut mpsc::Receiver<Inquiry>,
    ) -> usize {
        teller.ask(inquire, NOW);
        let asked = match inquiries.try_recv() {
            Ok(Inquiry::Flows { flows, .. }) => flows.len(),
            Ok(Inquiry::PolicyChains { .. }) | Err(_) => 0,
        };
        teller.answered(vec![account(); asked]);
        asked
    }

    fn counts(teller: &Teller) -> Vec<u64> {
        teller.journal.kept().iter().map(|record| record.count).collect()
    }

    fn counted(teller: &Teller, namespace: &str) -> Option<u64> {
        let series = format!("denied_packets_total{{direction=\"ingress\",pod_namespace=\"{namespace}\"}} ");
        let text = teller.metrics.text();
        text.lines().find_map(|line| line.strip_prefix("bridgewarden_")?.strip_prefix(&series)?.parse().ok())
    }

    #[test]
    fn flow_is_told_with_its_first_packet_and_counts_the_rest_when_it_ends() {
        let (mut teller, inquire, mut inquiries) = teller();
        for _ in 0..3 {
            teller.note(flow(80), NOW);
        }
        assert_eq!(answer(&mut teller, &inquire, &mut inquiries), 1);
        assert_eq!((counts(&teller), counted(&teller, "shop")), (vec![1], Some(1)));
        teller.close(NOW + WINDOW);
        assert_eq!((counts(&teller), counted(&teller, "shop")), (vec![3], Some(3)));
        teller.note(flow(80), NOW + WINDOW);
        answer(&mut teller, &inquire, &mut inquiries);
        assert_eq!(counts(&teller), [3, 1]);
    }

    #[test]
    fn flow_that_ends_before_it_is_looked_at_is_told_whole() {
        let (mut teller, inquire, mut inquiries) = teller();
        teller.note(flow(80), NOW);
        teller.note(flow(80), NOW);
        teller.ask(&inquire, NOW);
        teller.close(NOW + WINDOW);
        assert!(counts(&teller).is_empty());
        assert!(inquiries.try_recv().is_ok());
        teller.answered(vec![account()]);
        assert_eq!((counts(&teller), counted(&teller, "shop")), (vec![2], Some(2)));
        assert!(teller.early.is_empty());
    }

    #[test]
    fn no_more_flows_are_looked_at_than_the_budget_allows_and_the_rest_is_counted() {
        let (mut teller, inquire, mut inquiries) = teller();
        for port in 0..1000 {
            teller.note(flow(port), NOW);
            teller.note(flow(port), NOW);
        }
        let looks = std::iter::from_fn(|| Some(answer(&mut teller, &inquire, &mut inquiries)));
        let asked: usize =
            looks.take_while(|asked| *asked > 0).inspect(|asked| assert!(*asked <= ASKED)).sum();
        assert_eq!(asked, 50);
        let waiting = teller.fresh.iter().count();
        assert_eq!(waiting, 128 - 50, "one pod's fill half of the room");
        assert_eq!((counted(&teller, "shop"), counted(&teller, "")), (Some(50), Some(872)));
        assert!(teller.metrics.text().contains("bridgewarden_denied_flows_untold_total 872"));
        let due = teller.due(NOW).unwrap();
        assert!(due > NOW && due < NOW + Duration::from_millis(30), "{due:?}");
        teller.close(NOW + WINDOW);
        assert_eq!((counted(&teller, "shop"), counted(&teller, "")), (Some(100), Some(872 * 2)));
    }

    #[test]
    fn flood_at_one_pod_does_not_hide_what_is_denied_at_another() {
        let (mut teller, inquire, mut inquiries) = teller();
        let mut told_of_quiet = 0;
        for second in 0..20_u16 {
            let now = NOW * u32::from(second + 1);
            (0..1000).for_each(|port| teller.note(flow(1000 * second + port), now));
            let quiet = Packet { destination: [10, 0, 0, 9].into(), ..flow(second).packet };
            teller.note(Flow { packet: quiet, ..flow(second) }, now);
            teller.ask(&inquire, now);
            let Ok(Inquiry::Flows { flows, .. }) = inquiries.try_recv() else { panic!("nothing is asked") };
            told_of_quiet += flows.iter().filter(|flow| flow.packet == quiet).count();
            teller.answered(vec![account(); flows.len()]);
            teller.close(now);
        }
        assert_eq!(told_of_quiet, 20);
    }
}
