//! What is refused, read from the kernel, gathered, and told: to the log, to metrics, and to whoever runs
//! `bridgewarden flows`. Enforcement never waits for it, and goes on without it.

use super::origin::Switch;
use crate::apply::KernelError;
use crate::apply::host::{Logged, PacketLog};
use crate::commands::flags::FLOWS_SOCKET;
use crate::controller::Inquiry;
use crate::flow::{
    Account, Aggregate, BYTES, Budget, Closed, Flow, Noted, Packet, Place, PortDrop, PortReason, Record,
};
use crate::model::Direction;
use crate::observe::{Health, Journal, Metrics, listen_at, serve_flows};
use crate::ownership::{
    DENIED_DISCOVERY, DENIED_EGRESS, DENIED_GROUP, DENIED_INGRESS, DENIED_LINK_LOCAL, DENIED_PROTOCOL,
    DENIED_SPOOFED, DENIED_TO_NODE, DENIED_UNASSIGNED,
};
use clap::Args;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, sleep_until};

/// The readiness check that tells how it fares; it never fails.
const CHECK: &str = "denied-flows";
/// How many flows a second are looked at; the rest is counted.
const LOOKED_AT: u32 = 50;
/// How many may wait to be looked at.
const WAITING: usize = 256;
/// How many the controller is asked about at once.
const ASKED: usize = 16;
/// How many batches of packets may wait.
const BATCHES: usize = 4;
/// How long to wait before the kernel is asked again to be read.
const AGAIN: Duration = Duration::from_secs(10);

/// How denied flows are told.
#[derive(Clone, Debug, Args)]
pub(super) struct Telling {
    /// Log each denied flow: source, destination, policies, and the rule that came nearest to allowing it
    #[arg(long, value_enum, default_value_t = Switch::Off)]
    log_denied: Switch,
    /// Serve denied flows to `bridgewarden flows` at this Unix socket. Empty for no socket
    #[arg(long, value_name = "PATH", default_value = FLOWS_SOCKET)]
    flows_socket: OsString,
}

/// Who is told, and about what.
pub(super) struct Denied {
    pub(super) telling: Telling,
    pub(super) node: String,
    pub(super) group: u16,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    /// Who writes Events, if anybody does.
    pub(super) events: Option<mpsc::Sender<Record>>,
}

impl Denied {
    /// Reads, asks and tells for as long as the program runs.
    pub(super) async fn watch(self, inquiries: mpsc::Sender<Inquiry>) {
        let journal = Journal::default();
        self.serve(&journal);
        self.health.set_check(CHECK, Ok(()));
        let log = self.telling.log_denied == Switch::On;
        let mut teller =
            Teller::new(self.node.clone(), log, journal, self.metrics.clone(), self.events.clone());
        let mut told = None;
        loop {
            match PacketLog::open(self.group, BYTES) {
                Ok(log) => {
                    self.remark(None, &mut told);
                    let error = teller.run(read(log), &inquiries).await;
                    self.remark(error, &mut told);
                }
                Err(error) => self.remark(Some(error), &mut told),
            }
            sleep(AGAIN).await;
        }
    }

    fn serve(&self, journal: &Journal) {
        if !self.telling.flows_socket.is_empty() {
            let path = PathBuf::from(&self.telling.flows_socket);
            tokio::spawn(serve_at(path, journal.clone(), self.health.clone()));
        }
    }

    fn remark(&self, error: Option<KernelError>, told: &mut Option<String>) {
        let problem = error.map(|error| error.to_string());
        if let Some(problem) = problem.as_ref().filter(|_| problem != *told) {
            tracing::warn!(problem, "cannot report denied packets; they are denied all the same");
        }
        self.health.remark(CHECK, "reader", problem.clone());
        *told = problem;
    }
}

/// Answers `bridgewarden flows` at a path, as soon as it can be had.
async fn serve_at(path: PathBuf, journal: Journal, health: Health) {
    let mut told = None;
    loop {
        let problem = match listen_at(&path) {
            Ok(listener) => {
                health.remark(CHECK, "socket", None);
                return serve_flows(listener, journal).await;
            }
            Err(error) => error.to_string(),
        };
        let (again, shown) = (AGAIN.as_secs(), path.display());
        let remark =
            format!("`bridgewarden flows` cannot be answered at {shown}: {problem}; see --flows-socket");
        if told.as_ref() != Some(&problem) {
            tracing::warn!(path = %shown, problem, again_in_s = again, "`bridgewarden flows` cannot be answered here; see --flows-socket");
        }
        health.remark(CHECK, "socket", Some(remark));
        told = Some(problem);
        sleep(AGAIN).await;
    }
}

/// What was read at once.
struct Batch {
    flows: Vec<Flow>,
    lost: u64,
}

/// Reads in a thread of its own, until the kernel fails or nobody listens. Whoever is slow lets the kernel drop: what it
/// queues has a bound, and it numbers what it sends.
fn read(mut log: PacketLog) -> mpsc::Receiver<Result<Batch, KernelError>> {
    let (outbox, inbox) = mpsc::channel(BATCHES);
    std::thread::spawn(move || {
        loop {
            let mut flows = Vec::new();
            let heard = log.read(|copy| flows.extend(flow_of(copy)));
            let failed = heard.is_err();
            let told = outbox.blocking_send(heard.map(|lost| Batch { flows, lost }));
            if failed || told.is_err() {
                return;
            }
        }
    });
    inbox
}

/// The flow of a packet, if a rule of ours copied it.
fn flow_of(copy: Logged<'_>) -> Option<Flow> {
    let place = match copy.prefix {
        DENIED_INGRESS => Place::Pod(Direction::Ingress),
        DENIED_EGRESS => Place::Pod(Direction::Egress),
        DENIED_TO_NODE => Place::ToNode,
        prefix => {
            let why = port_reason(prefix)?;
            let forwarded = copy.to_port.is_some() || copy.from_port.is_none();
            let direction = if forwarded { Direction::Ingress } else { Direction::Egress };
            // What is for all is refused to each: that is one flow, and not one for each of them.
            let to = copy.to_port.filter(|_| why != PortReason::Group);
            Place::Port(PortDrop { why, direction, from: copy.from_port, to })
        }
    };
    let packet = match place {
        Place::Pod(_) | Place::ToNode => Packet::read(copy.bytes),
        Place::Port(_) => Packet::of_frame(copy.kind, copy.bytes),
    };
    Some(Flow { place, packet: packet? })
}

/// What the prefix of a rule about ports says.
fn port_reason(prefix: &str) -> Option<PortReason> {
    Some(match prefix {
        DENIED_SPOOFED => PortReason::Spoofed,
        DENIED_DISCOVERY => PortReason::Discovery,
        DENIED_UNASSIGNED => PortReason::Unassigned,
        DENIED_LINK_LOCAL => PortReason::LinkLocal,
        DENIED_GROUP => PortReason::Group,
        DENIED_PROTOCOL => PortReason::Protocol,
        _ => return None,
    })
}

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
struct Teller {
    node: String,
    log: bool,
    journal: Journal,
    metrics: Metrics,
    events: Option<mpsc::Sender<Record>>,
    began: (Instant, SystemTime),
    flows: Aggregate,
    budget: Budget,
    fresh: VecDeque<Fresh>,
    asked: Option<Asked>,
    /// Flows that have ended before they were looked at.
    early: BTreeMap<u64, Closed>,
}

impl Teller {
    fn new(
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
            fresh: VecDeque::new(),
            asked: None,
            early: BTreeMap::new(),
        }
    }

    /// Tells of what is read, until that fails; tells why, if the kernel said so.
    async fn run(
        &mut self,
        mut batches: mpsc::Receiver<Result<Batch, KernelError>>,
        inquiries: &mpsc::Sender<Inquiry>,
    ) -> Option<KernelError> {
        loop {
            self.ask(inquiries);
            let due = self.flows.due().map(|due| self.began.0 + due);
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
            Noted::First(number) if self.fresh.len() < WAITING && self.budget.take(now) => {
                self.fresh.push_back(Fresh { number, flow, began: now });
            }
            Noted::First(_) | Noted::TooMany => {
                self.metrics.denied_untold();
                self.count_untold(&flow, 1);
            }
        }
    }

    /// Asks about the next flows, unless an answer is still waited for.
    fn ask(&mut self, inquiries: &mpsc::Sender<Inquiry>) {
        if self.asked.is_some() || self.fresh.is_empty() {
            return;
        }
        let flows: Vec<Fresh> = self.fresh.drain(..self.fresh.len().min(ASKED)).collect();
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
            if asked.chain(&self.fresh).any(|fresh| fresh.number == closed.number) {
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
    use crate::flow::{End, Payload, Reason, WINDOW};
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
        teller.ask(inquire);
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
        teller.ask(&inquire);
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
        let mut asked = 0;
        while !teller.fresh.is_empty() {
            let now = answer(&mut teller, &inquire, &mut inquiries);
            assert!(now <= ASKED);
            asked += now;
        }
        assert_eq!(asked, 50);
        assert_eq!((counted(&teller, "shop"), counted(&teller, "")), (Some(50), Some(950)));
        assert!(teller.metrics.text().contains("bridgewarden_denied_flows_untold_total 950"));
        teller.close(NOW + WINDOW);
        assert_eq!((counted(&teller, "shop"), counted(&teller, "")), (Some(100), Some(1900)));
    }

    #[test]
    fn only_what_our_rules_copied_is_taken_for_a_flow() {
        let mut bytes = [0; 24];
        (bytes[0], bytes[9]) = (0x45, 6);
        let copy = |prefix, bytes| Logged { prefix, kind: 0x0800, from_port: Some(7), to_port: None, bytes };
        let place = |prefix| flow_of(copy(prefix, &bytes)).map(|flow| flow.place);
        assert_eq!(place(DENIED_INGRESS), Some(Place::Pod(Direction::Ingress)));
        assert_eq!(place(DENIED_EGRESS), Some(Place::Pod(Direction::Egress)));
        assert_eq!((place(DENIED_TO_NODE), place("stranger")), (Some(Place::ToNode), None));
        let spoofed =
            PortDrop { why: PortReason::Spoofed, direction: Direction::Egress, from: Some(7), to: None };
        assert_eq!(place(DENIED_SPOOFED), Some(Place::Port(spoofed)));
        assert_eq!(flow_of(copy(DENIED_INGRESS, &bytes[..4])), None);
    }
}
