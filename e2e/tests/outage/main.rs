//! A real etcd and a real API server with ten thousand pods, which are killed, partitioned, compacted and cut in
//! mid-stream, while real packets show what is enforced. Listed as ignored unless BRIDGEWARDEN_E2E_PROGRAMS names the
//! directory of both programs, as `e2e/outage` does.

mod agent;
mod cluster;
mod continuous_check;
mod test;
mod trials;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use test::{OutageSettings, OutageTest};

/// A trial.
type Show = fn(&mut OutageTest) -> Result<()>;

const TRIALS: [(&str, Show); 6] = [
    ("api_server_that_is_killed_changes_nothing_and_is_followed_when_it_is_back", trials::killed::show),
    (
        "cluster_that_changed_behind_a_partition_is_relisted_once_and_enforced_at_once",
        trials::partition::show,
    ),
    ("watch_cut_in_mid_stream_again_and_again_loses_nothing_and_lists_nothing_again", trials::cut::show),
    ("what_is_denied_and_what_cannot_be_enforced_is_reported_by_one_event_each", trials::events::show),
    ("pod_with_bytes_that_are_no_text_is_known_and_stops_nothing_else", trials::no_text::show),
    ("what_opens_closes_or_changes_meanwhile_is_noticed", trials::noticed::show),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // There is one cluster.
    arguments.test_threads = Some(1);
    run(&arguments).exit_code()
}

fn run(arguments: &Arguments) -> Conclusion {
    let Some(programs) = env::var_os("BRIDGEWARDEN_E2E_PROGRAMS").map(PathBuf::from) else {
        let reason = "needs etcd and kube-apiserver: run e2e/outage";
        let ignored =
            |(name, _)| Trial::test(format!("{name} ({reason})"), || Ok(())).with_ignored_flag(true);
        return libtest_mimic::run(arguments, TRIALS.map(ignored).into());
    };
    let test = Arc::new(Mutex::new(None));
    let trials = TRIALS.map(|(name, show)| {
        let (test, programs) = (Arc::clone(&test), programs.clone());
        Trial::test(name, move || {
            let mut test = test.lock().unwrap_or_else(PoisonError::into_inner);
            play(&mut test, &programs, show).map_err(|error| Failed::from(format!("{error:#}")))
        })
    });
    libtest_mimic::run(arguments, trials.into())
}

/// Runs one trial. The first one starts the cluster; after a failure it is started again.
fn play(test: &mut Option<OutageTest>, programs: &Path, show: Show) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "network namespaces need root; run: sudo -E e2e/outage");
    let mut own = match test.take() {
        Some(test) => test,
        None => OutageTest::start(OutageSettings {
            program: PathBuf::from(env!("CARGO_BIN_EXE_bridgewarden-e2e-agent")),
            programs: programs.to_owned(),
            directory: Path::new(env!("CARGO_TARGET_TMPDIR")).join("outage"),
        })
        .context("the test could not be started")?,
    };
    show(&mut own)?;
    *test = Some(own);
    Ok(())
}
