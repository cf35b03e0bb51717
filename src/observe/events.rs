//! Events on NetworkPolicies, for their authors: what of a policy cannot be enforced.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// For how long something must be so before it is told: pods that are about to start resolve much.
const SETTLED: Duration = Duration::from_secs(30);
/// How many bytes a note may have (events.k8s.io/v1 Event.note).
const NOTE: usize = 1024;

/// A warning about a NetworkPolicy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// The policy's namespace.
    pub namespace: String,
    /// The policy's name.
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

    /// Writes a warning as an Event of its policy.
    pub async fn write(&self, warning: &Warning) -> Result<(), kube::Error> {
        let regarding = ObjectReference {
            api_version: Some("networking.k8s.io/v1".to_owned()),
            kind: Some("NetworkPolicy".to_owned()),
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
    fn long_notes_are_cut_between_characters() {
        let note = shortened(&"é".repeat(NOTE));
        assert!(note.len() <= NOTE && note.ends_with("é ..."), "{note}");
        assert_eq!(shortened("short"), "short");
    }
}
