//! Trials that need a kind cluster: run if the environment names one (see `e2e/…`), otherwise listed as ignored.

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The cluster that trials run on.
#[derive(Debug)]
pub struct TestCluster {
    /// The file that describes how to reach it, as `e2e/cluster/up` printed it.
    pub environment: PathBuf,
    /// The image of the trials' own pods.
    pub image: String,
}

/// A trial's name and body.
pub type Promise = (&'static str, fn(&TestCluster) -> Result<()>);

/// Runs trials in sequence; `why` is the reason why they need a cluster.
pub fn play(promises: &[Promise], why: &str) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // There is only one cluster.
    arguments.test_threads = Some(1);
    let here = env::var("BRIDGEWARDEN_E2E_WORLD").as_deref() == Ok("kind");
    let trials = promises.iter().map(|&(name, promise)| {
        if here {
            Trial::test(format!("{name}::kind"), move || {
                cluster()
                    .and_then(|cluster| promise(&cluster))
                    .map_err(|error| Failed::from(format!("{error:#}")))
            })
        } else {
            Trial::test(format!("{name} (not here: {why})"), || Ok(())).with_ignored_flag(true)
        }
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn cluster() -> Result<TestCluster> {
    let environment =
        named("BRIDGEWARDEN_E2E_CLUSTER", "the file that e2e/cluster/up printed").map(PathBuf::from)?;
    let image = named("BRIDGEWARDEN_E2E_POD_IMAGE", "the image that e2e/probe-pods/image printed")?;
    Ok(TestCluster { environment, image: image.to_string_lossy().into_owned() })
}

fn named(variable: &str, what: &str) -> Result<OsString> {
    env::var_os(variable).with_context(|| format!("{variable} has to name {what}"))
}

/// A number from an environment variable.
///
/// # Errors
/// The value is not a number.
pub fn number(variable: &str, otherwise: usize) -> Result<usize> {
    match env::var(variable) {
        Ok(number) => number.parse().with_context(|| format!("{variable}={number} is no number")),
        Err(_) => Ok(otherwise),
    }
}

/// Adds a line to `figures` in a directory.
///
/// # Errors
/// When it cannot be written.
pub fn note(directory: &Path, figures: &str) -> Result<()> {
    let path = directory.join("figures");
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let file = File::options().create(true).append(true).open(&path);
    let mut file = file.with_context(|| format!("cannot open {}", path.display()))?;
    writeln!(file, "{figures}").with_context(|| format!("cannot write {}", path.display()))
}
