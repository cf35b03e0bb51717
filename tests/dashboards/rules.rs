//! The chart's rules of alerting and recording, and their tests.

use serde::Deserialize;
use std::collections::BTreeSet;

/// Where the rules are.
pub(crate) const FILE: &str = "charts/bridgewarden/alerts.yaml";
/// Where promtool's tests of them are.
pub(crate) const TESTS: &str = "charts/tests/alerts.yaml";

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<RuleGroup>,
}

#[derive(Deserialize)]
struct RuleGroup {
    rules: Vec<AlertRule>,
}

/// A rule.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AlertRule {
    /// The alert's name; a recording rule has none.
    pub(crate) alert: Option<String>,
    /// What a recording rule is asked for by.
    pub(crate) record: Option<String>,
    pub(crate) expr: String,
}

#[derive(Deserialize)]
struct Tests {
    tests: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    alert_rule_test: Vec<AlertExpectation>,
}

#[derive(Deserialize)]
struct AlertExpectation {
    alertname: String,
    #[serde(default)]
    exp_alerts: Vec<serde_json::Value>,
}

/// Every rule.
pub(crate) fn all() -> Result<Vec<AlertRule>, String> {
    let file: RuleFile = read(FILE)?;
    Ok(file.groups.into_iter().flat_map(|group| group.rules).collect())
}

/// The alerts that promtool's tests see fire, and those that they see rest.
pub(crate) fn tested() -> Result<[BTreeSet<String>; 2], String> {
    let tests: Tests = read(TESTS)?;
    let expectations = tests.tests.into_iter().flat_map(|case| case.alert_rule_test);
    let (fire, rest): (Vec<_>, Vec<_>) = expectations.partition(|expected| !expected.exp_alerts.is_empty());
    Ok([fire, rest].map(|some| some.into_iter().map(|expected| expected.alertname).collect()))
}

fn read<T: serde::de::DeserializeOwned>(path: &str) -> Result<T, String> {
    let wrong = |problem: &dyn std::fmt::Display| format!("{path}: {problem}");
    let text = std::fs::read_to_string(crate::project(path)).map_err(|error| wrong(&error))?;
    serde_yaml_ng::from_str(&text).map_err(|error| wrong(&error))
}
