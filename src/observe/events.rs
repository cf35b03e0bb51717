//! Events on NetworkPolicies, for their authors: what of a policy cannot be enforced; and on pods: what they refused.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// For how long something must be so before it is told: pods that are about to start resolve much.
const SETTLED: Duration = Duration::from_secs(30);
/// How many bytes a note may have (events.k8s.io/v1 Event.note).
const NOTE: usize = 1024;

/// For how long nothing more is told of a pod that has refused something.
const SELDOM: Duration = Duration::from_secs(3600);
/// How many Events an hour of denied flows one namespace may have: so many while there is room for others, and so many always. A
/// tenant with many pods, or with pods that start again and again, leaves room for those of the others.
const OF_ONE: usize = 100;
const OF_ONE_ALWAYS: usize = 10;
/// How many all namespaces may have before there is no room, and at most.
const ROOM: usize = 1000;
const MOST: usize = 4000;

/// What a warning is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Regarding {
    /// A NetworkPolicy.
    NetworkPolicy,
    /// A Pod.
    Pod,
}

/// A warning about an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// What kind of object.
    pub regarding: Regarding,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// metadata.uid, by which `kubectl describe` finds the Event.
    pub uid: Option<String>,
    /// Why, in one word.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub note: String,
}

/// Warnings that hold, and whether they were told.
#[derive(Debug, Default)]
pub struct Warnings(BTreeMap<Warning, State>);

#[derive(Clone, Copy, Debug)]
enum State {
    Since(Instant),
    Told,
}

impl Warnings {
    /// These hold now, and no others. One that comes back is told again.
    pub fn hold(&mut self, current: Vec<Warning>, now: Instant) {
        let mut before = std::mem::take(&mut self.0);
        self.0 = current
            .into_iter()
            .map(|warning| {
                let state = before.remove(&warning).unwrap_or(State::Since(now));
                (warning, state)
            })
            .collect();
    }

    /// Those that have held for long enough and are not told yet.
    pub fn due(&self, now: Instant) -> Vec<Warning> {
        let due = self.0.iter().filter(|(_, state)| match state {
            State::Since(since) => now.saturating_duration_since(*since) >= SETTLED,
            State::Told => false,
        });
        due.map(|(warning, _)| warning.clone()).collect()
    }

    /// This one was told.
    pub fn told(&mut self, warning: &Warning) {
        if let Some(state) = self.0.get_mut(warning) {
            *state = State::Told;
        }
    }
}

/// Lets each pod be told of once an hour, and shares what may be told between namespaces.
#[derive(Debug, Default)]
pub struct Seldom {
    /// By namespace: its pods, by uid if they have one, and when each was told of.
    told: BTreeMap<String, BTreeMap<String, Instant>>,
}

impl Seldom {
    /// Whether to tell of this one now. If so, it counts as told.
    pub fn may_tell(&mut self, warning: &Warning, now: Instant) -> bool {
        let is_recent = |told: &Instant| now.saturating_duration_since(*told) < SELDOM;
        self.told.retain(|_, pods| {
            pods.retain(|_, told| is_recent(told));
            !pods.is_empty()
        });
        let all: usize = self.told.values().map(BTreeMap::len).sum();
        let pods = self.told.get(&warning.namespace);
        let own = pods.map_or(0, BTreeMap::len);
        let has_room = own < OF_ONE_ALWAYS && all < MOST || own < OF_ONE && all < ROOM;
        if !has_room || pods.is_some_and(|pods| pods.contains_key(Seldom::pod(warning))) {
            return false;
        }
        let pods = self.told.entry(warning.namespace.clone()).or_default();
        pods.insert(Seldom::pod(warning).to_owned(), now);
        true
    }

    /// This one could not be told after all.
    pub fn forget(&mut self, warning: &Warning) {
        if let Some(pods) = self.told.get_mut(&warning.namespace) {
            pods.remove(Seldom::pod(warning));
        }
    }

    /// A pod that was made again under its name is another.
    fn pod(warning: &Warning) -> &str {
        warning.uid.as_deref().unwrap_or(&warning.name)
    }
}

/// Writes Events.
#[derive(Clone)]
pub struct EventWriter {
    client: Client,
    reporter: Reporter,
}

impl EventWriter {
    /// A writer that speaks for the daemon of this node.
    pub fn new(client: Client, node: &str) -> EventWriter {
        let reporter = Reporter { controller: "bridgewarden".to_owned(), instance: Some(node.to_owned()) };
        EventWriter { client, reporter }
    }

    /// Writes a warning as an Event of its object.
    pub async fn write(&self, warning: &Warning) -> Result<(), kube::Error> {
        let (api_version, kind) = match warning.regarding {
            Regarding::NetworkPolicy => ("networking.k8s.io/v1", "NetworkPolicy"),
            Regarding::Pod => ("v1", "Pod"),
        };
        let regarding = ObjectReference {
            api_version: Some(api_version.to_owned()),
            kind: Some(kind.to_owned()),
            name: Some(warning.name.clone()),
            namespace: Some(warning.namespace.clone()),
            uid: warning.uid.clone(),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: EventType::Warning,
            reason: warning.reason.to_owned(),
            note: Some(shortened(&warning.note)),
            action: "Enforce".to_owned(),
            secondary: None,
        };
        // A recorder takes events of one reason for one series, whatever they say; so each has its own.
        Recorder::new(self.client.clone(), self.reporter.clone()).publish(&event, &regarding).await
    }
}

fn shortened(note: &str) -> String {
    const MORE: &str = " ...";
    if note.len() <= NOTE {
        return note.to_owned();
    }
    let end = (0..=NOTE - MORE.len()).rev().find(|&end| note.is_char_boundary(end)).unwrap_or_default();
    format!("{}{MORE}", &note[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(note: &str) -> Warning {
        Warning {
            regarding: Regarding::NetworkPolicy,
            namespace: "shop".into(),
            name: "web".into(),
            uid: None,
            reason: "NamedPortUnresolved",
            note: note.into(),
        }
    }

    #[test]
    fn what_passes_within_half_a_minute_is_not_told() {
        let (mut warnings, start) = (Warnings::default(), Instant::now());
        warnings.hold(vec![warning("a")], start);
        assert_eq!(warnings.due(start + SETTLED - Duration::from_millis(1)), []);
        warnings.hold(Vec::new(), start + SETTLED);
        assert_eq!(warnings.due(start + 2 * SETTLED), []);
    }

    #[test]
    fn what_stays_is_told_once_and_again_after_it_was_gone() {
        let (mut warnings, start) = (Warnings::default(), Instant::now());
        warnings.hold(vec![warning("a")], start);
        warnings.hold(vec![warning("a"), warning("b")], start + SETTLED);
        assert_eq!(warnings.due(start + SETTLED), [warning("a")]);
        warnings.told(&warning("a"));
        assert_eq!(warnings.due(start + 2 * SETTLED), [warning("b")]);
        warnings.hold(Vec::new(), start + 2 * SETTLED);
        warnings.hold(vec![warning("a")], start + 2 * SETTLED);
        assert_eq!(warnings.due(start + 3 * SETTLED), [warning("a")]);
    }

    #[test]
    fn pod_is_told_of_once_an_hour_however_much_it_refuses() {
        let (mut seldom, start) = (Seldom::default(), Instant::now());
        let pod = |name: String| Warning { regarding: Regarding::Pod, name, ..warning("denied") };
        let web = pod("web".into());
        assert!(seldom.may_tell(&web, start));
        assert!(!seldom.may_tell(&web, start + SELDOM / 2));
        assert!(seldom.may_tell(&web, start + SELDOM));
        seldom.forget(&web);
        assert!(seldom.may_tell(&web, start + SELDOM), "it was not told");
    }

    fn of(namespace: &str, number: usize) -> Warning {
        let (namespace, name) = (namespace.into(), format!("pod-{}", number % 7));
        Warning {
            regarding: Regarding::Pod,
            namespace,
            name,
            uid: Some(number.to_string()),
            ..warning("denied")
        }
    }

    #[test]
    fn pod_made_again_under_its_name_is_told_of() {
        let (mut seldom, start) = (Seldom::default(), Instant::now());
        assert!(seldom.may_tell(&of("shop", 1), start));
        assert!(!seldom.may_tell(&of("shop", 1), start));
        assert!(seldom.may_tell(&of("shop", 8), start), "it has the same name and another uid");
    }

    #[test]
    fn tenant_whose_pods_refuse_without_end_leaves_events_for_the_others() {
        let (mut seldom, start) = (Seldom::default(), Instant::now());
        let mut told = |namespace: &str, pods: usize, now: Instant| {
            (0..pods).filter(|number| seldom.may_tell(&of(namespace, *number), now)).count()
        };
        assert_eq!(told("greedy", 10_000, start), OF_ONE);
        assert_eq!(told("shop", 3, start), 3);
        // Nor do many greedy ones together take what each other has for sure.
        for number in 0..50 {
            told(&format!("greedy-{number}"), 1_000, start);
        }
        assert_eq!(told("late", 1_000, start), OF_ONE_ALWAYS);
        let all: usize = (0..1_000).map(|number| told(&format!("more-{number}"), 20, start)).sum();
        assert!(all < MOST, "{all}");
        assert_eq!(told("last", 1, start), 0, "memory has a bound");
        assert_eq!(told("last", 1, start + SELDOM), 1);
    }

    #[test]
    fn long_notes_are_cut_between_characters() {
        let note = shortened(&"é".repeat(NOTE));
        assert!(note.len() <= NOTE && note.ends_with("é ..."), "{note}");
        assert_eq!(shortened("short"), "short");
    }
}
