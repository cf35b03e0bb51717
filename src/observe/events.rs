//! Events on NetworkPolicies, about what of a policy cannot be enforced, and on pods, about denied connections.

use super::event_name;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a warning must hold before its Event is written: pods that are starting resolve many.
const SETTLED: Duration = Duration::from_secs(30);
/// How many bytes a note may have (events.k8s.io/v1 Event.note).
const NOTE: usize = 1024;

/// The time between two Events about denied flows of one pod.
const POD_INTERVAL: Duration = Duration::from_secs(3600);
/// How many Events an hour about denied flows one namespace may have: the first number while all namespaces have fewer than
/// [`SHARED_LIMIT`], and the second always. So a tenant with many pods, or with pods that restart again and again, leaves room for
/// others.
const NAMESPACE_LIMIT: usize = 100;
const NAMESPACE_GUARANTEE: usize = 10;
/// How many all namespaces may have beyond their guarantees, and at most.
const SHARED_LIMIT: usize = 1000;
const TOTAL_LIMIT: usize = 4000;

/// The reason of an Event about a connection that audited policies would have denied. It is not a warning: nothing was denied.
pub const WOULD_BE_DENIED: &str = "WouldBeDenied";

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

/// Warnings that hold, and whether their Events were written.
#[derive(Debug, Default)]
pub struct Warnings(BTreeMap<Warning, WarningState>);

#[derive(Clone, Copy, Debug)]
enum WarningState {
    Since(Instant),
    Written,
}

impl Warnings {
    /// These hold now, and no others. A warning that returns is written again.
    pub fn hold(&mut self, current: Vec<Warning>, now: Instant) {
        let mut before = std::mem::take(&mut self.0);
        self.0 = current
            .into_iter()
            .map(|warning| {
                let state = before.remove(&warning).unwrap_or(WarningState::Since(now));
                (warning, state)
            })
            .collect();
    }

    /// Those that have held for long enough and are not written yet.
    pub fn due(&self, now: Instant) -> Vec<Warning> {
        let due = self.0.iter().filter(|(_, state)| match state {
            WarningState::Since(since) => now.saturating_duration_since(*since) >= SETTLED,
            WarningState::Written => false,
        });
        due.map(|(warning, _)| warning.clone()).collect()
    }

    /// This one was written.
    pub fn written(&mut self, warning: &Warning) {
        if let Some(state) = self.0.get_mut(warning) {
            *state = WarningState::Written;
        }
    }
}

/// Limits Events about denied flows: one an hour for each pod and reason, and a share for each namespace.
#[derive(Debug, Default)]
pub struct EventLimiter {
    /// By namespace: the reasons and its pods, by uid if they have one, and when the last Event of each was written.
    written: BTreeMap<String, BTreeMap<(&'static str, String), Instant>>,
}

impl EventLimiter {
    /// Whether to write this one now. If so, it counts as written.
    pub fn allows(&mut self, warning: &Warning, now: Instant) -> bool {
        let is_recent = |written: &Instant| now.saturating_duration_since(*written) < POD_INTERVAL;
        self.written.retain(|_, pods| {
            pods.retain(|_, written| is_recent(written));
            !pods.is_empty()
        });
        let all: usize = self.written.values().map(BTreeMap::len).sum();
        let pods = self.written.get(&warning.namespace);
        let own = pods.map_or(0, BTreeMap::len);
        let has_room =
            own < NAMESPACE_GUARANTEE && all < TOTAL_LIMIT || own < NAMESPACE_LIMIT && all < SHARED_LIMIT;
        if !has_room || pods.is_some_and(|pods| pods.contains_key(&EventLimiter::pod(warning))) {
            return false;
        }
        let pods = self.written.entry(warning.namespace.clone()).or_default();
        pods.insert(EventLimiter::pod(warning), now);
        true
    }

    /// This one could not be written.
    pub fn not_written(&mut self, warning: &Warning) {
        if let Some(pods) = self.written.get_mut(&warning.namespace) {
            pods.remove(&EventLimiter::pod(warning));
        }
    }

    /// A pod that was recreated under its name is another pod. What would have been denied does not hide what is denied.
    fn pod(warning: &Warning) -> (&'static str, String) {
        (warning.reason, warning.uid.clone().unwrap_or_else(|| warning.name.clone()))
    }
}

/// Writes Events.
#[derive(Clone)]
pub struct EventWriter {
    client: Client,
    node: String,
}

impl EventWriter {
    /// A writer of Events that name the agent of this node as their reporter.
    pub fn new(client: Client, node: &str) -> EventWriter {
        EventWriter { client, node: node.to_owned() }
    }

    /// Writes a warning as an Event of its object.
    pub async fn write(&self, warning: &Warning) -> Result<(), kube::Error> {
        let now = Timestamp::now();
        self.create(&self.event(warning, event_name::unique(&warning.name, now), now)).await
    }

    /// Writes a warning that the agents of other nodes may write about the same pod: they write one Event in an hour together. The pod's
    /// uid is asked of the API server. If the pod is gone or its Event is there, nothing is written.
    pub async fn write_with_others(&self, warning: &Warning) -> Result<(), kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &warning.namespace);
        let named = ListParams::default().fields(&format!("metadata.name={}", warning.name)).limit(1);
        let found = pods.list_metadata(&named).await?.items.into_iter().next();
        let Some(uid) = found.and_then(|pod| pod.metadata.uid) else { return Ok(()) };
        let now = Timestamp::now();
        let name = event_name::common(&warning.name, &uid, warning.reason, now);
        let warning = Warning { uid: Some(uid), ..warning.clone() };
        match self.create(&self.event(&warning, name, now)).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            outcome => outcome,
        }
    }

    async fn create(&self, event: &Event) -> Result<(), kube::Error> {
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        events.create(&PostParams::default(), event).await.map(|_| ())
    }

    fn event(&self, warning: &Warning, name: String, now: Timestamp) -> Event {
        let (api_version, kind) = match warning.regarding {
            Regarding::NetworkPolicy => ("networking.k8s.io/v1", "NetworkPolicy"),
            Regarding::Pod => ("v1", "Pod"),
        };
        let type_ = if warning.reason == WOULD_BE_DENIED { "Normal" } else { "Warning" };
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(warning.namespace.clone()),
                ..ObjectMeta::default()
            },
            action: Some("Enforce".to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(shortened(&warning.note)),
            reason: Some(warning.reason.to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some(api_version.to_owned()),
                kind: Some(kind.to_owned()),
                name: Some(warning.name.clone()),
                namespace: Some(warning.namespace.clone()),
                uid: warning.uid.clone(),
                ..ObjectReference::default()
            }),
            reporting_controller: Some("bridgewarden".to_owned()),
            reporting_instance: Some(self.node.clone()),
            type_: Some(type_.to_owned()),
            ..Event::default()
        }
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
    fn warning_that_ends_within_half_a_minute_is_not_written() {
        let (mut warnings, start) = (Warnings::default(), Instant::now());
        warnings.hold(vec![warning("a")], start);
        assert_eq!(warnings.due(start + SETTLED - Duration::from_millis(1)), []);
        warnings.hold(Vec::new(), start + SETTLED);
        assert_eq!(warnings.due(start + 2 * SETTLED), []);
    }

    #[test]
    fn warning_that_stays_is_written_once_and_again_when_it_returns() {
        let (mut warnings, start) = (Warnings::default(), Instant::now());
        warnings.hold(vec![warning("a")], start);
        warnings.hold(vec![warning("a"), warning("b")], start + SETTLED);
        assert_eq!(warnings.due(start + SETTLED), [warning("a")]);
        warnings.written(&warning("a"));
        assert_eq!(warnings.due(start + 2 * SETTLED), [warning("b")]);
        warnings.hold(Vec::new(), start + 2 * SETTLED);
        warnings.hold(vec![warning("a")], start + 2 * SETTLED);
        assert_eq!(warnings.due(start + 3 * SETTLED), [warning("a")]);
    }

    #[test]
    fn pod_has_one_event_an_hour_however_much_it_denies() {
        let (mut limiter, start) = (EventLimiter::default(), Instant::now());
        let pod = |name: String| Warning { regarding: Regarding::Pod, name, ..warning("denied") };
        let web = pod("web".into());
        assert!(limiter.allows(&web, start));
        assert!(!limiter.allows(&web, start + POD_INTERVAL / 2));
        assert!(limiter.allows(&web, start + POD_INTERVAL));
        limiter.not_written(&web);
        assert!(limiter.allows(&web, start + POD_INTERVAL), "it was not written");
        let audited = Warning { reason: WOULD_BE_DENIED, ..web.clone() };
        assert!(
            limiter.allows(&audited, start + POD_INTERVAL),
            "it hides nothing that is denied, and is not hidden"
        );
        assert!(!limiter.allows(&audited, start + POD_INTERVAL));
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
    fn pod_recreated_under_its_name_has_its_own_event() {
        let (mut limiter, start) = (EventLimiter::default(), Instant::now());
        assert!(limiter.allows(&of("shop", 1), start));
        assert!(!limiter.allows(&of("shop", 1), start));
        assert!(limiter.allows(&of("shop", 8), start), "it has the same name and another uid");
    }

    #[test]
    fn tenant_whose_pods_deny_without_end_leaves_events_for_the_others() {
        let (mut limiter, start) = (EventLimiter::default(), Instant::now());
        let mut written = |namespace: &str, pods: usize, now: Instant| {
            (0..pods).filter(|number| limiter.allows(&of(namespace, *number), now)).count()
        };
        assert_eq!(written("greedy", 10_000, start), NAMESPACE_LIMIT);
        assert_eq!(written("shop", 3, start), 3);
        // Even many greedy namespaces together cannot use up the guarantee of another one.
        for number in 0..50 {
            written(&format!("greedy-{number}"), 1_000, start);
        }
        assert_eq!(written("late", 1_000, start), NAMESPACE_GUARANTEE);
        let all: usize = (0..1_000).map(|number| written(&format!("more-{number}"), 20, start)).sum();
        assert!(all < TOTAL_LIMIT, "{all}");
        assert_eq!(written("last", 1, start), 0, "memory has a bound");
        assert_eq!(written("last", 1, start + POD_INTERVAL), 1);
    }

    #[test]
    fn long_notes_are_cut_between_characters() {
        let note = shortened(&"é".repeat(NOTE));
        assert!(note.len() <= NOTE && note.ends_with("é ..."), "{note}");
        assert_eq!(shortened("short"), "short");
    }
}
