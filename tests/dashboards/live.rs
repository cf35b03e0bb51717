//! What a real Prometheus answers to every panel and every rule.

use crate::board::{self, Board, Panel, PanelQuery};
use crate::draw::{self, Answers};
use crate::prometheus::{TimeSeries, promtool};
use crate::rules::{self, AlertRule};
use crate::scene::RecordedRun;
use crate::{complaints, test};
use libtest_mimic::Trial;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Alerts that no run of a minute can make fire; `charts/tests/alerts.yaml` does.
const BY_SERIES_ALONE: [(&str, &str); 9] = [
    ("BridgewardenUnreadableObject", "the manifests of this run are no objects of an API"),
    ("BridgewardenCniResultsMissing", "pods would have to run for half a minute without a result"),
    ("BridgewardenUnboundPods", "no pod of this run has a port of its own"),
    ("BridgewardenSpoofedSource", "no pod of this run forges its address"),
    ("BridgewardenAgentMissing", "kube-state-metrics reports DaemonSets"),
    ("BridgewardenWatchStale", "the API server would have to be silent for five minutes"),
    ("BridgewardenSyncStale", "no sync would have to end well for five minutes"),
    ("BridgewardenFallingBehind", "changes would have to take five seconds"),
    ("BridgewardenUnverified", "no comparison would have to end well for half an hour"),
];
/// Queries whose result is zero in this run.
const NOUGHT: [&str; 4] = [
    "bridgewarden_denied_packets_lost_total",
    "bridgewarden_denied_flows_untold_total",
    "bridgewarden_dropped_frames_total",
    "bridgewarden_bound_ports",
];

/// The run, made when it is first needed.
#[derive(Default)]
pub(crate) struct SharedRun(Mutex<Option<Result<RecordedRun, String>>>);

impl SharedRun {
    fn with<T>(&self, ask: impl FnOnce(&RecordedRun) -> Result<T, String>) -> Result<T, String> {
        let mut played = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboards");
        let scene = played.get_or_insert_with(|| match nix::unistd::geteuid().is_root() {
            true => RecordedRun::play(&directory),
            false => Err("network namespaces need root; run: sudo -E make test".to_owned()),
        });
        ask(scene.as_ref().map_err(Clone::clone)?)
    }

    /// Ends what still runs of it.
    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

pub(crate) fn tests(shared: &Arc<SharedRun>) -> Result<Vec<Trial>, String> {
    let mut trials = Vec::new();
    for board in board::all()? {
        for panel in &board.panels {
            let (shared, panel) = (Arc::clone(shared), panel.clone());
            let name =
                format!("{}::{}_{}", board.name, panel.id, panel.title.to_lowercase().replace(' ', "_"));
            trials.push(complaints(&name, move || shared.with(|scene| Ok(silent(&panel, scene)))));
        }
        let shared = Arc::clone(shared);
        trials.push(test(&format!("{}::picture", board.name), move || {
            shared.with(|scene| picture(&board, scene))
        }));
    }
    for rule in rules::all()? {
        let shared = Arc::clone(shared);
        match rule.alert.clone() {
            Some(alert) if !BY_SERIES_ALONE.iter().any(|(name, _)| *name == alert) => {
                trials.push(test(&format!("{alert}::fires_when_it_should_and_not_before"), move || {
                    shared.with(|scene| fires(&rule, scene))
                }));
            }
            alert => {
                let name = alert.unwrap_or_else(|| "recording_rule".to_owned());
                trials.push(test(&format!("{name}::can_be_asked"), move || {
                    shared
                        .with(|scene| scene.prometheus.range(&rule.expr, scene.before, scene.over).map(drop))
                }));
            }
        }
    }
    let shared = Arc::clone(shared);
    trials.push(test("promtool_finds_nothing_to_complain_of", move || {
        shared.with(|scene| match promtool(&["check", "metrics"], &scene.page)? {
            said if said.trim().is_empty() => Ok(()),
            said => Err(said),
        })
    }));
    Ok(trials)
}

fn answers(target: &PanelQuery, scene: &RecordedRun) -> Result<Vec<TimeSeries>, String> {
    let question = target.question((scene.end - scene.before).ceil() as u64);
    match target.instant {
        true => scene.prometheus.at(&question, scene.end),
        false => scene.prometheus.range(&question, scene.before, scene.end),
    }
}

/// The queries of a panel without a result, or with only zeros.
fn silent(panel: &Panel, scene: &RecordedRun) -> Vec<String> {
    let complaint = |target: &PanelQuery| {
        let question = &target.expr;
        let lines = match answers(target, scene) {
            Ok(lines) => lines,
            Err(problem) => return Some(problem),
        };
        let values = || lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value);
        if !values().any(f64::is_finite) {
            return Some(format!("no data: {question}"));
        }
        // What is healthy at the end is zero there. A counter grows at some time.
        let moves = panel.kind == "stat" || values().any(|value| value.is_finite() && value != 0.0);
        let excused = NOUGHT.iter().any(|metric| question.contains(metric));
        (moves == excused && panel.kind != "stat")
            .then(|| format!("always nought, or excused without need: {question}"))
    };
    panel.targets.iter().filter_map(complaint).collect()
}

fn picture(board: &Board, scene: &RecordedRun) -> Result<(), String> {
    let of = |panel: &Panel| -> Result<Answers, String> {
        let mut all = Vec::new();
        for target in &panel.targets {
            all.extend(answers(target, scene)?.into_iter().map(|line| (target.legend(&line.labels), line)));
        }
        Ok(all)
    };
    let answers = board.panels.iter().map(of).collect::<Result<Vec<_>, _>>()?;
    let svg = draw::picture(board, &answers, scene.before, scene.end).map_err(|error| error.to_string())?;
    if std::env::var_os("DRAW").is_some() {
        let path = crate::project("docs/dashboards").join(format!("{}.svg", board.name));
        std::fs::write(&path, svg).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn fires(rule: &AlertRule, scene: &RecordedRun) -> Result<(), String> {
    let question = &rule.expr;
    let early = scene.prometheus.at(question, scene.well)?;
    if !early.is_empty() {
        return Err(format!("{question}: it fires while all is well: {early:?}"));
    }
    let fires = scene.prometheus.range(question, scene.before, scene.over)?;
    if fires.is_empty() { Err(format!("{question}: it never fires")) } else { Ok(()) }
}
