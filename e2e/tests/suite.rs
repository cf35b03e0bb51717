//! The scenarios of `e2e/scenarios`, in network namespaces, or, with BRIDGEWARDEN_E2E_WORLD=kind, on a cluster.

use bridgewarden_e2e::namespaces::{InNamespaces, Settings};
use bridgewarden_e2e::play::{Latency, play};
use bridgewarden_e2e::scenario::{Scenario, WorldName, files};
use libtest_mimic::{Arguments, Failed, Trial};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use support::field::BACKENDS;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    if nix::unistd::geteuid().is_root() {
        match in_namespaces() {
            Ok(all) => trials = all,
            Err(error) => trials.push(failing("scenarios_can_be_read", format!("{error:#}"))),
        }
    } else {
        trials
            .push(failing("runs_as_root", "network namespaces need root; run: sudo -E make test".to_owned()));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn failing(name: &str, problem: String) -> Trial {
    Trial::test(name, move || Err(Failed::from(problem)))
}

fn scenarios() -> anyhow::Result<Vec<Scenario>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    files(&root)?.iter().map(|path| Scenario::load(path)).collect()
}

fn in_namespaces() -> anyhow::Result<Vec<Trial>> {
    let mut trials = Vec::new();
    for (number, scenario) in scenarios()?.into_iter().enumerate() {
        if let Some(reason) = scenario.reason_against(WorldName::Namespaces) {
            trials.push(not_here(&scenario.name, reason));
            continue;
        }
        for backend in BACKENDS {
            let scenario = scenario.clone();
            let name = format!("{}::namespaces::{backend}", scenario.name);
            let id = format!("e{number}{}", &backend["iptables-".len()..][..1]);
            trials.push(Trial::test(name, move || {
                let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&id);
                let program = PathBuf::from(env!("CARGO_BIN_EXE_bridgewarden-e2e-agent"));
                let records = directory.join("failure");
                let settings = Settings { id, program, backend, directory: directory.clone() };
                let mut world = InNamespaces::new(settings).map_err(told)?;
                let latencies = play(&scenario, &mut world, &records).map_err(told)?;
                Ok(std::fs::write(directory.join("latency"), table(&latencies))?)
            }));
        }
    }
    Ok(trials)
}

/// A scenario that this world can't play is listed as ignored, with the reason.
fn not_here(name: &str, reason: &str) -> Trial {
    Trial::test(format!("{name} (not here: {})", reason.trim()), || Ok(())).with_ignored_flag(true)
}

fn told(error: anyhow::Error) -> Failed {
    Failed::from(format!("{error:#}"))
}

fn table(latencies: &[Latency]) -> String {
    let mut table = String::new();
    for Latency { when, after } in latencies {
        writeln!(table, "{:>8.1} ms  {when}", after.as_secs_f64() * 1e3).expect("a String takes any text");
    }
    table
}
