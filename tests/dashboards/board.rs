//! Dashboards as their files have them, and what is wrong with them.

use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Where they are.
const DIRECTORY: &str = "charts/bridgewarden/dashboards";
/// The data source that every panel asks: whichever the variable names.
const DATA_SOURCE: &str = "${datasource}";
/// What follows the name of each metric, so that the variables choose.
const CHOSEN: &str = r#"{cluster=~"$cluster", job=~"$job", node=~"$node", instance=~"$instance""#;
/// The kinds of panels.
const KINDS: [&str; 4] = ["heatmap", "stat", "table", "timeseries"];
/// The units.
const UNITS: [&str; 6] = ["bytes", "ops", "percentunit", "pps", "s", "short"];

/// A dashboard.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Board {
    /// The name of its file, without an ending.
    #[serde(skip)]
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) title: String,
    pub(crate) description: String,
    /// Of a dashboard in some Grafana. A file must not have one.
    id: Option<u64>,
    schema_version: u32,
    templating: Templating,
    pub(crate) panels: Vec<Panel>,
}

#[derive(Clone, Debug, Deserialize)]
struct Templating {
    list: Vec<Variable>,
}

#[derive(Clone, Debug, Deserialize)]
struct Variable {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

/// One picture of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Panel {
    pub(crate) id: u32,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) title: String,
    pub(crate) description: String,
    datasource: DataSource,
    pub(crate) grid_pos: GridPosition,
    field_config: FieldConfig,
    pub(crate) targets: Vec<PanelQuery>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct DataSource {
    uid: String,
}

/// Where it is, in Grafana's grid of 24 columns.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
pub(crate) struct GridPosition {
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) w: u32,
    pub(crate) h: u32,
}

#[derive(Clone, Debug, Deserialize)]
struct FieldConfig {
    defaults: Defaults,
}

#[derive(Clone, Debug, Deserialize)]
struct Defaults {
    unit: String,
}

/// One question.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PanelQuery {
    datasource: DataSource,
    pub(crate) expr: String,
    pub(crate) legend_format: String,
    /// Whether only the last value is asked for.
    #[serde(default)]
    pub(crate) instant: bool,
}

/// Every dashboard.
pub(crate) fn all() -> Result<Vec<Board>, String> {
    let directory = crate::project(DIRECTORY);
    let listed =
        std::fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let paths = listed.filter_map(Result::ok).map(|entry| entry.path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "json")).collect();
    paths.sort();
    paths.iter().map(|path| load(path)).collect()
}

fn load(path: &Path) -> Result<Board, String> {
    let wrong = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let mut board: Board = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    board.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(board)
}

impl Board {
    /// From its text, for tests of what is noticed.
    pub(crate) fn from_value(value: Value) -> Result<Board, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    /// What is wrong with its form.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |wrong: bool, what: String| faults.extend(wrong.then_some(what));
        fault(self.id.is_some(), "it has an id, which is Grafana's to give".to_owned());
        fault(!self.uid.starts_with("bridgewarden-"), format!("uid {:?}", self.uid));
        fault(self.schema_version < 36, format!("schemaVersion {} is before Grafana 9", self.schema_version));
        fault(!is_sentence(&self.description), "its description is no sentence".to_owned());
        let variables = ["cluster", "job", "node", "instance"].map(|name| (name, "query"));
        for (name, kind) in variables.into_iter().chain([("datasource", "datasource")]) {
            let has = self.templating.list.iter().any(|own| own.name == name && own.kind == kind);
            fault(!has, format!("there is no variable {name} of type {kind}"));
        }
        let ids: BTreeSet<u32> = self.panels.iter().map(|panel| panel.id).collect();
        fault(ids.len() != self.panels.len(), "two panels have one id".to_owned());
        for (number, panel) in self.panels.iter().enumerate() {
            for other in &self.panels[..number] {
                let both = format!("{:?} and {:?}", other.title, panel.title);
                fault(overlap(panel.grid_pos, other.grid_pos), format!("{both} overlap"));
            }
        }
        faults.extend(self.panels.iter().flat_map(|panel| {
            panel.faults().into_iter().map(|fault| format!("panel {} {:?}: {fault}", panel.id, panel.title))
        }));
        faults
    }
}

impl Panel {
    /// In what its values are.
    pub(crate) fn unit(&self) -> &str {
        &self.field_config.defaults.unit
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |wrong: bool, what: String| faults.extend(wrong.then_some(what));
        fault(!KINDS.contains(&self.kind.as_str()), format!("it is a {:?}", self.kind));
        fault(!UNITS.contains(&self.unit()), format!("its unit is {:?}", self.unit()));
        fault(self.title.is_empty(), "it has no title".to_owned());
        fault(!is_sentence(&self.description), "its description is no sentence".to_owned());
        fault(self.grid_pos.x + self.grid_pos.w > 24, "it is beyond the grid".to_owned());
        fault(self.targets.is_empty(), "it asks nothing".to_owned());
        let sources = self.targets.iter().map(|target| &target.datasource).chain([&self.datasource]);
        for source in sources {
            fault(source.uid != DATA_SOURCE, format!("it asks {:?}", source.uid));
        }
        for target in &self.targets {
            let unchosen = metric_names(&target.expr).any(|(_, rest)| !rest.starts_with(CHOSEN));
            fault(unchosen, format!("not every metric is chosen by {CHOSEN}}}: {}", target.expr));
            let nameless = target.legend_format.is_empty() && self.kind != "table";
            fault(nameless, format!("there is no legend for {}", target.expr));
        }
        faults
    }
}

impl PanelQuery {
    /// The question for a Prometheus that scrapes every second, over so many seconds.
    pub(crate) fn question(&self, seconds: u64) -> String {
        let words = [
            ("$cluster", ".*"),
            ("$job", ".+"),
            ("$node", ".*"),
            ("$instance", ".+"),
            ("$__rate_interval", "5s"),
        ];
        let filled = words.iter().fold(self.expr.clone(), |text, (word, value)| text.replace(word, value));
        filled.replace("$__range", &format!("{seconds}s"))
    }

    /// The legend of a series.
    pub(crate) fn legend(&self, labels: &BTreeMap<String, String>) -> String {
        let filled = labels.iter().fold(self.legend_format.clone(), |text, (name, value)| {
            text.replace(&format!("{{{{{name}}}}}"), value)
        });
        // A label that the series does not have is empty.
        match filled.split_once("{{") {
            Some((before, _)) => before.to_owned(),
            None => filled,
        }
    }
}

/// The names of our metrics in an expression, each with what follows it.
fn metric_names(expression: &str) -> impl Iterator<Item = (&str, &str)> {
    let part = |character: char| character.is_alphanumeric() || character == '_' || character == ':';
    let starts = ["bridgewarden_", "process_"].into_iter();
    let found = starts.flat_map(move |start| expression.match_indices(start));
    found.filter(move |(at, _)| !expression[..*at].ends_with(part)).map(move |(at, _)| {
        let end = expression[at..]
            .find(|character: char| !part(character))
            .map_or(expression.len(), |end| at + end);
        (&expression[at..end], &expression[end..])
    })
}

/// The metrics that an expression names, a histogram's by its own name.
pub(crate) fn metrics(expression: &str) -> BTreeSet<String> {
    let whole = |name: &str| {
        let parts = ["_bucket", "_sum", "_count"].iter();
        parts.fold(name.to_owned(), |name, part| name.strip_suffix(part).unwrap_or(&name).to_owned())
    };
    // What a rule records has colons in its name.
    let names = expression.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
    let own = names.filter(|name| name.starts_with("bridgewarden_") || name.starts_with("process_"));
    own.map(whole).collect()
}

fn is_sentence(text: &str) -> bool {
    text.ends_with('.')
}

fn overlap(one: GridPosition, other: GridPosition) -> bool {
    let apart = |start: u32, length: u32, other: u32, other_length: u32| {
        start + length <= other || other + other_length <= start
    };
    !apart(one.x, one.w, other.x, other.w) && !apart(one.y, one.h, other.y, other.h)
}
