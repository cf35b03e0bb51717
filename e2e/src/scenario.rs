//! The file of a scenario: a cluster, steps that change it, and who reaches whom after each.

use crate::cluster::{Labels, ScenarioCluster, ScenarioPod, Service};
use crate::key::ObjectKey;
use crate::verb::{AgentAct, RelabelTarget, Verb};
use anyhow::{Context, Result, ensure};
use bridgewarden::net::Protocol;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use support::reach::{self, Cell, Name, Table};

/// One file of `e2e/scenarios`.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file's name without its ending.
    pub name: String,
    /// What the scenario guarantees.
    pub promise: String,
    /// The one world it is for, if not both, and why.
    pub only: Option<Only>,
    /// The cluster before the first step.
    pub cluster: ScenarioCluster,
    /// The steps.
    pub steps: Vec<ScenarioStep>,
}

/// Why a scenario is not for every world.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Only {
    /// The world it is for.
    pub world: WorldName,
    /// Why it is not for the other one.
    pub because: String,
}

/// Where scenarios are played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorldName {
    /// A small network in network namespaces, with manifests in a directory.
    Namespaces,
    /// A kind cluster.
    Kind,
}

/// A change, and the expectations after it.
#[derive(Clone, Debug)]
pub struct ScenarioStep {
    /// A description of the change.
    pub when: String,
    /// The change; `None` if the step only checks who reaches whom.
    pub verb: Option<Verb>,
    /// Who reaches whom afterwards.
    pub tables: Vec<Table>,
    /// Which pods can query the cluster's DNS afterwards.
    pub resolves: BTreeMap<ObjectKey, bool>,
    /// Connections that are opened afterwards, and stay open.
    pub open: Vec<ScenarioConnection>,
    /// Connections opened before that must still be alive.
    pub live: Vec<ScenarioConnection>,
    /// Connections opened before that must be cut.
    pub cut: Vec<ScenarioConnection>,
}

/// `shop/client -> shop/web 80/TCP`: a connection that stays open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct ScenarioConnection {
    /// The pod that opened it.
    pub from: ObjectKey,
    /// The destination pod.
    pub to: ObjectKey,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination port.
    pub port: u16,
}

impl TryFrom<String> for ScenarioConnection {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<ScenarioConnection> {
        let form = || format!("`{text}` is no connection: write shop/client -> shop/web 80/TCP");
        let words: Vec<&str> = text.split_whitespace().collect();
        let [from, "->", to, port] = words[..] else { return Err(anyhow::anyhow!(form())) };
        let (port, protocol) = port.split_once('/').with_context(form)?;
        Ok(ScenarioConnection {
            from: from.parse()?,
            to: to.parse()?,
            protocol: Protocol::parse(protocol).with_context(form)?,
            port: port.parse().with_context(form)?,
        })
    }
}

impl fmt::Display for ScenarioConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} {}/{}", self.from, self.to, self.port, self.protocol)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioFile {
    promise: String,
    only: Option<Only>,
    namespaces: BTreeMap<String, Labels>,
    pods: BTreeMap<ObjectKey, ScenarioPod>,
    #[serde(default)]
    services: BTreeMap<ObjectKey, Service>,
    steps: Vec<FileStep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileStep {
    when: String,
    apply: Option<BTreeMap<ObjectKey, Value>>,
    delete: Option<Vec<ObjectKey>>,
    create: Option<BTreeMap<ObjectKey, ScenarioPod>>,
    remove: Option<Vec<ObjectKey>>,
    terminate: Option<Vec<ObjectKey>>,
    finish: Option<Vec<ObjectKey>>,
    relabel: Option<BTreeMap<RelabelTarget, Labels>>,
    terminate_namespaces: Option<Vec<String>>,
    remove_namespaces: Option<Vec<String>>,
    agents: Option<AgentAct>,
    reach: Option<String>,
    #[serde(default)]
    resolves: BTreeMap<ObjectKey, bool>,
    #[serde(default)]
    open: Vec<ScenarioConnection>,
    #[serde(default)]
    live: Vec<ScenarioConnection>,
    #[serde(default)]
    cut: Vec<ScenarioConnection>,
}

/// The files of all scenarios, by name.
///
/// # Errors
/// When the directory can't be listed.
pub fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let listed = fs::read_dir(root).with_context(|| format!("cannot list {}", root.display()))?;
    let paths = listed.filter_map(Result::ok).map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")).collect();
    files.sort();
    Ok(files)
}

impl Scenario {
    /// Reads a file, and applies its changes without a cluster to check that everything they refer to exists by then.
    ///
    /// # Errors
    /// A message that begins with the file.
    pub fn load(path: &Path) -> Result<Scenario> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Scenario::parse(&name, &text).with_context(|| format!("{}", path.display()))
    }

    /// Parses a scenario's text.
    ///
    /// # Errors
    /// A message that says which step, or which line, is wrong.
    pub fn parse(name: &str, text: &str) -> Result<Scenario> {
        // Parsed twice: a map type accepts a key that occurs twice, this value type does not.
        serde_yaml_ng::from_str::<serde_yaml_ng::Value>(text)?;
        let file: ScenarioFile = serde_yaml_ng::from_str(text)?;
        let mut cluster =
            ScenarioCluster { namespaces: file.namespaces, pods: BTreeMap::new(), services: file.services };
        cluster.follow(&Verb::Create(file.pods))?;
        let (mut paper, mut steps) = (cluster.clone(), Vec::new());
        for step in file.steps {
            let when = step.when.clone();
            steps.push(step.read(&mut paper).with_context(|| format!("the step {when:?}"))?);
        }
        ensure!(!steps.is_empty(), "there are no steps");
        Ok(Scenario { name: name.to_owned(), promise: file.promise, only: file.only, cluster, steps })
    }

    /// Why it is not for a world; `None` if it is.
    pub fn reason_against(&self, world: WorldName) -> Option<&str> {
        self.only.as_ref().filter(|only| only.world != world).map(|only| only.because.as_str())
    }
}

impl FileStep {
    fn read(self, paper: &mut ScenarioCluster) -> Result<ScenarioStep> {
        let verbs = [
            self.apply.map(Verb::Apply),
            self.delete.map(Verb::Delete),
            self.create.map(Verb::Create),
            self.remove.map(Verb::Remove),
            self.terminate.map(Verb::Terminate),
            self.finish.map(Verb::Finish),
            self.relabel.map(Verb::Relabel),
            self.terminate_namespaces.map(Verb::TerminateNamespaces),
            self.remove_namespaces.map(Verb::RemoveNamespaces),
            self.agents.map(Verb::Agents),
        ];
        let mut verbs = verbs.into_iter().flatten();
        let verb = verbs.next();
        ensure!(verbs.next().is_none(), "one step makes one change");
        if let Some(verb) = &verb {
            paper.follow(verb)?;
        }
        let tables = match self.reach {
            Some(text) => reach::parse(&text).context("reach")?,
            None => Vec::new(),
        };
        for table in &tables {
            check(paper, table)?;
        }
        for connection in self.open.iter().chain(&self.live).chain(&self.cut) {
            let to =
                Name::Pod { namespace: connection.to.namespace.clone(), name: connection.to.name.clone() };
            paper.check(&to, Some((connection.protocol, connection.port)))?;
        }
        Ok(ScenarioStep {
            when: self.when,
            verb,
            tables,
            resolves: self.resolves,
            open: self.open,
            live: self.live,
            cut: self.cut,
        })
    }
}

fn check(paper: &ScenarioCluster, table: &Table) -> Result<()> {
    for name in &table.destinations {
        let asked = table.rows.iter().flat_map(|row| table.destinations.iter().zip(&row.cells));
        let is_asked = asked.into_iter().any(|(own, cell)| own == name && *cell != Cell::Unasked);
        ensure!(is_asked, "reach, line {}: the column {name} asks nothing", table.line);
        paper
            .check(name, Some((table.protocol, table.port)))
            .with_context(|| format!("reach, line {}", table.line))?;
    }
    let sources = table.rows.iter().map(|row| (row.line, &row.source));
    sources
        .into_iter()
        .try_for_each(|(line, name)| paper.check(name, None).with_context(|| format!("reach, line {line}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
promise: No pod reaches web.
namespaces: {shop: {}}
pods:
  shop/web: {node: node-a, ports: [80/TCP]}
  shop/far: {node: node-b, labels: {app: far}}
steps:
  - when: a policy comes
    apply: {shop/deny: {podSelector: {}}}
    reach: |
      80/TCP    shop/web
      shop/far  X
";

    fn problem(from: &str, to: &str) -> String {
        assert!(TEXT.contains(from), "{from}");
        format!("{:#}", Scenario::parse("case", &TEXT.replace(from, to)).unwrap_err())
    }

    #[test]
    fn scenario_is_read_as_it_looks() {
        let scenario = Scenario::parse("case", TEXT).unwrap();
        assert_eq!(scenario.cluster.pods.len(), 2);
        assert_eq!(scenario.steps[0].tables[0].rows[0].cells, [Cell::Denied]);
        assert_eq!(scenario.reason_against(WorldName::Kind), None);
        let only = "only: {world: namespaces, because: reasons}\npromise";
        let scenario = Scenario::parse("case", &TEXT.replacen("promise", only, 1)).unwrap();
        assert_eq!(scenario.reason_against(WorldName::Kind), Some("reasons"));
        assert_eq!(scenario.reason_against(WorldName::Namespaces), None);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (from, to, said) in [
            ("when:", "wen:", "wen"),
            ("node: node-b", "node: node-c", "node-c"),
            ("[80/TCP]", "[80]", "80/TCP or http=80/TCP"),
            ("shop/far: {", "shop/web: {", "duplicate"),
            ("shop/far  X", "shop/near  X", "line 2: there is no pod shop/near"),
            ("80/TCP    shop/web", "81/TCP    shop/web", "shop/web does not listen"),
            ("shop/far  X", "shop/far  -", "asks nothing"),
            ("apply: {shop/", "apply: {mall/", "a policy comes\": there is no namespace mall"),
            ("apply:", "remove: [shop/web]\n    apply:", "one change"),
        ] {
            assert!(problem(from, to).contains(said), "{}", problem(from, to));
        }
    }
}
