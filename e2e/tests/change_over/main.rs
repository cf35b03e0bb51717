//! A change of controller while the other one really runs: kube-router, with a real API server, from it to Bridgewarden
//! and back by the steps of docs/migrating.md, while real connections are attempted without a pause. Listed as ignored
//! unless BRIDGEWARDEN_E2E_PROGRAMS and BRIDGEWARDEN_E2E_KUBE_ROUTER name the programs, as `e2e/change-over` does.

mod connection_pair;
mod gap;
mod kube_router;
mod process;
mod round_trip;
mod test;

use anyhow::{Result, ensure};
use bridgewarden::netfilter::BackendName;
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use test::{ChangeSettings, ChangeTest};

/// What happens in a trial.
type ChangeTrial = fn(&mut ChangeTest) -> Result<()>;
/// Its name, Bridgewarden's packet filter, and kube-router's, which is the variant of iptables on its PATH.
type TrialRow = (&'static str, BackendName, &'static str, ChangeTrial);

const TRIALS: [TrialRow; 4] = [
    ("kube_router_to_iptables_nft_and_back", BackendName::IptablesNft, "nft", round_trip::show),
    ("kube_router_to_iptables_legacy_and_back", BackendName::IptablesLegacy, "legacy", round_trip::show),
    ("kube_router_to_nftables_and_back", BackendName::Nftables, "nft", round_trip::show),
    ("gap_between_two_controllers_is_noticed", BackendName::IptablesNft, "nft", gap::show),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The trials share the names of their namespaces.
    arguments.test_threads = Some(1);
    run(&arguments).exit_code()
}

fn run(arguments: &Arguments) -> Conclusion {
    let path = |name| env::var_os(name).map(PathBuf::from);
    let programs = path("BRIDGEWARDEN_E2E_PROGRAMS").zip(path("BRIDGEWARDEN_E2E_KUBE_ROUTER"));
    let Some((programs, kube_router)) = programs else {
        let reason = "needs kube-apiserver and kube-router: run e2e/change-over";
        let ignored = |(name, ..): TrialRow| {
            Trial::test(format!("{name} ({reason})"), || Ok(())).with_ignored_flag(true)
        };
        return libtest_mimic::run(arguments, TRIALS.map(ignored).into());
    };
    let trials = TRIALS.map(|(name, backend, variant, show)| {
        let settings = ChangeSettings {
            program: PathBuf::from(env!("CARGO_BIN_EXE_bridgewarden-e2e-agent")),
            programs: programs.clone(),
            kube_router: kube_router.clone(),
            directory: Path::new(env!("CARGO_TARGET_TMPDIR")).join("change-over").join(name),
            backend,
            variant,
        };
        Trial::test(name, move || play(settings, show).map_err(|error| Failed::from(format!("{error:#}"))))
    });
    libtest_mimic::run(arguments, trials.into())
}

fn play(settings: ChangeSettings, show: ChangeTrial) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "network namespaces need root; run: sudo -E e2e/change-over");
    let mut test = ChangeTest::start(settings)?;
    show(&mut test)?;
    test.remove()
}
