//! A real etcd and a real API server with ten thousand pods, which are killed, cut off, made to forget and cut in
//! mid-stream, while real packets are asked what is enforced. Listed as ignored unless BRIDGEWARDEN_E2E_PROGRAMS names the
//! directory of both programs, as `e2e/outage` does.

mod daemon;
mod guard;
mod stage;
mod town;
mod trials;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use stage::{Settings, Stage};
use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

/// A promise, and what shows that it is kept.
type Show = fn(&mut Stage) -> Result<()>;

const TRIALS: [(&str, Show); 6] = [
    ("api_server_that_is_killed_changes_nothing_and_is_followed_when_it_is_back", trials::killed::show),
    ("cluster_that_changed_behind_a_partition_is_relisted_once_and_enforced_at_once", trials::parted::show),
    ("watch_cut_in_mid_stream_again_and_again_loses_nothing_and_lists_nothing_anew", trials::cut::show),
    ("what_is_denied_and_what_cannot_be_enforced_is_told_by_one_event_each", trials::told::show),
    ("pod_with_bytes_that_are_no_text_is_known_and_stops_nothing_else", trials::no_text::show),
    ("what_opens_closes_or_changes_meanwhile_is_noticed", trials::noticed::show),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // There is one stage.
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
    let stage = Arc::new(Mutex::new(None));
    let trials = TRIALS.map(|(name, show)| {
        let (stage, programs) = (Arc::clone(&stage), programs.clone());
        Trial::test(name, move || {
            let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
            play(&mut stage, &programs, show).map_err(|error| Failed::from(format!("{error:#}")))
        })
    });
    libtest_mimic::run(arguments, trials.into())
}

/// Shows one thing on the stage, which is raised for the first. After a failure it is raised anew.
fn play(stage: &mut Option<Stage>, programs: &Path, show: Show) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "network namespaces need root; run: sudo -E e2e/outage");
    let mut own = match stage.take() {
        Some(stage) => stage,
        None => Stage::raise(Settings {
            program: PathBuf::from(env!("CARGO_BIN_EXE_bridgewarden-e2e-agent")),
            programs: programs.to_owned(),
            directory: Path::new(env!("CARGO_TARGET_TMPDIR")).join("outage"),
        })
        .context("the stage could not be raised")?,
    };
    show(&mut own)?;
    *stage = Some(own);
    Ok(())
}
