//! The scenarios of `e2e/scenarios`, in network namespaces, or, with BRIDGEWARDEN_E2E_WORLD=kind, on a cluster; with
//! BRIDGEWARDEN_E2E_SCENARIOS=NAME,NAME only these.

use anyhow::{Context, Result, bail};
use bridgewarden_e2e::kind::OnKind;
use bridgewarden_e2e::namespaces::{InNamespaces, NamespacesSettings};
use bridgewarden_e2e::play::{StepLatency, play};
use bridgewarden_e2e::scenario::{Scenario, WorldName, files};
use bridgewarden_e2e::world::ScenarioWorld;
use libtest_mimic::{Arguments, Failed, Trial};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{env, fs};
use support::field::{BACKENDS, letter};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let trials = match world() {
        Ok(_) if !nix::unistd::geteuid().is_root() => Ok(vec![failing(
            "runs_as_root",
            "network namespaces need root; run: sudo -E make test".to_owned(),
        )]),
        Ok(WorldName::Namespaces) => in_namespaces(),
        Ok(WorldName::Kind) => {
            // There is one cluster.
            arguments.test_threads = Some(1);
            on_kind()
        }
        Err(error) => Err(error),
    };
    let trials = trials.unwrap_or_else(|error| vec![failing("suite_can_begin", format!("{error:#}"))]);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn world() -> Result<WorldName> {
    match env::var("BRIDGEWARDEN_E2E_WORLD").as_deref() {
        Err(_) | Ok("namespaces") => Ok(WorldName::Namespaces),
        Ok("kind") => Ok(WorldName::Kind),
        Ok(other) => bail!("BRIDGEWARDEN_E2E_WORLD={other}: there are the worlds namespaces and kind"),
    }
}

fn failing(name: &str, problem: String) -> Trial {
    Trial::test(name, move || Err(Failed::from(problem)))
}

fn scenarios() -> Result<Vec<Scenario>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let all = files(&root)?.iter().map(|path| Scenario::load(path)).collect::<Result<Vec<_>>>()?;
    let Ok(names) = env::var("BRIDGEWARDEN_E2E_SCENARIOS") else { return Ok(all) };
    let of_name = |name: &str| {
        let scenario = all.iter().find(|scenario| scenario.name == name).cloned();
        scenario.with_context(|| format!("BRIDGEWARDEN_E2E_SCENARIOS={names}: there is no scenario {name:?}"))
    };
    names.split(',').map(of_name).collect()
}

fn in_namespaces() -> Result<Vec<Trial>> {
    let mut trials = Vec::new();
    for (number, scenario) in scenarios()?.into_iter().enumerate() {
        if let Some(reason) = scenario.reason_against(WorldName::Namespaces) {
            trials.push(not_here(&scenario.name, reason));
            continue;
        }
        for backend in BACKENDS {
            let scenario = scenario.clone();
            let name = format!("{}::namespaces::{backend}", scenario.name);
            let id = format!("e{number}{}", letter(backend));
            trials.push(Trial::test(name, move || {
                let (mut world, directory) =
                    small_world(&scenario, id, backend, DEADLINE).map_err(reported)?;
                put(&scenario, &mut world, &directory)
            }));
        }
    }
    for (number, (name, text, said)) in BROKEN.into_iter().enumerate() {
        trials.push(Trial::test(name, move || {
            let scenario = Scenario::parse(name, &format!("{CLUSTER}{text}")).map_err(reported)?;
            let short = Duration::from_millis(500);
            let (mut world, directory) =
                small_world(&scenario, format!("x{number}"), BACKENDS[0], short).map_err(reported)?;
            match put(&scenario, &mut world, &directory) {
                Ok(()) => Err(Failed::from("it was not noticed")),
                Err(problem) if problem.message().is_some_and(|reported| reported.contains(said)) => Ok(()),
                Err(problem) => Err(problem),
            }
        }));
    }
    Ok(trials)
}

/// How long a change may take to be enforced.
const DEADLINE: Duration = Duration::from_secs(10);

fn small_world(
    scenario: &Scenario,
    id: String,
    backend: &'static str,
    deadline: Duration,
) -> Result<(InNamespaces, PathBuf)> {
    let directory = directory("namespaces").join(format!("{}.{backend}", scenario.name));
    let program = PathBuf::from(env!("CARGO_BIN_EXE_bridgewarden-e2e-agent"));
    let settings = NamespacesSettings { id, program, backend, directory: directory.clone(), deadline };
    Ok((InNamespaces::new(settings)?, directory))
}

/// Scenarios that fail, which the suite must detect: name, steps, and a part of the error.
const BROKEN: [(&str, &str, &str); 4] = [
    (
        "pair_that_is_open_and_should_not_be_is_noticed",
        "reach: \"80/TCP shop/web\\nshop/far X\"}\n",
        "shop/far -> shop/web 80/TCP over IPv6 should be refused and is open",
    ),
    (
        "pair_that_is_refused_and_should_not_be_is_noticed",
        "apply: {shop/deny: {podSelector: {}}}, reach: \"80/TCP shop/web\\nshop/far X\"}
  - {when: nothing happens, reach: \"80/TCP shop/web\\nshop/far .\"}\n",
        "shop/far -> shop/web 80/TCP over IPv4 should be open and is refused",
    ),
    (
        "pair_that_opens_while_a_change_is_made_is_noticed",
        "apply: {shop/deny: {podSelector: {}}}, reach: \"80/TCP shop/web\\nshop/far X\"}
  - {when: rules go, agents: cleanup, reach: \"80/TCP shop/web\\nshop/far X\"}\n",
        "meanwhile:\nshop/far -> shop/web 80/TCP over IPv4 should be refused and is open",
    ),
    (
        "connection_that_is_not_cut_is_noticed",
        "reach: \"80/TCP shop/web\\nshop/far .\", open: [shop/far -> shop/web 80/TCP]}
  - {when: nothing happens, cut: [shop/far -> shop/web 80/TCP]}\n",
        "shop/far -> shop/web 80/TCP lives and should be cut",
    ),
];
const CLUSTER: &str = "
promise: It is noticed.
namespaces: {shop: {}}
pods:
  shop/web: {node: node-a, ports: [80/TCP]}
  shop/far: {node: node-b}
steps:
  - {when: something happens, ";

fn on_kind() -> Result<Vec<Trial>> {
    let cluster = env::var_os("BRIDGEWARDEN_E2E_CLUSTER");
    let cluster =
        cluster.context("BRIDGEWARDEN_E2E_CLUSTER has to name the file that e2e/cluster/up printed")?;
    let world = Arc::new(Mutex::new(OnKind::new(Path::new(&cluster))?));
    let mut trials = Vec::new();
    for scenario in scenarios()? {
        if let Some(reason) = scenario.reason_against(WorldName::Kind) {
            trials.push(not_here(&scenario.name, reason));
            continue;
        }
        let world = Arc::clone(&world);
        trials.push(Trial::test(format!("{}::kind", scenario.name), move || {
            let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
            let directory = directory("kind").join(&scenario.name);
            let _ = fs::remove_dir_all(&directory);
            fs::create_dir_all(&directory)?;
            put(&scenario, &mut *world, &directory)
        }));
    }
    Ok(trials)
}

/// The directory of a world's records.
fn directory(world: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(world)
}

/// Plays a scenario, and notes how long its changes took to be enforced.
fn put(scenario: &Scenario, world: &mut dyn ScenarioWorld, directory: &Path) -> Result<(), Failed> {
    let latencies = play(scenario, world, &directory.join("failure")).map_err(reported)?;
    Ok(fs::write(directory.join("latency"), table(&latencies))?)
}

/// A scenario that is not for this world is listed as ignored, with the reason.
fn not_here(name: &str, reason: &str) -> Trial {
    Trial::test(format!("{name} (not here: {})", reason.trim()), || Ok(())).with_ignored_flag(true)
}

fn reported(error: anyhow::Error) -> Failed {
    Failed::from(format!("{error:#}"))
}

fn table(latencies: &[StepLatency]) -> String {
    let mut table = String::new();
    for StepLatency { when, after } in latencies {
        writeln!(table, "{:>8.1} ms  {when}", after.as_secs_f64() * 1e3).expect("a String takes any text");
    }
    table
}
