//! Every scenario on the real kernel: real controllers on two nodes, real TCP and UDP, each backend, bridged and routed,
//! IPv4 and IPv6. Open before, as promised while enforced, open again after cleanup.

use bridgewarden::source::Directory;
use libtest_mimic::{Arguments, Failed, Trial};
use std::path::Path;
use std::process::ExitCode;
use support::field::{Asked, BACKENDS, Field, asked, letter};
use support::scenario::{Scenario, directories};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut trials = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        let say = || Err(Failed::from("network namespaces need root; run: sudo -E make test"));
        trials.push(Trial::test("runs_as_root", say));
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    match directories(&root) {
        Ok(directories) => {
            for (number, directory) in directories.into_iter().enumerate() {
                let case = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
                for backend in BACKENDS {
                    let directory = directory.clone();
                    let id = format!("t{number}{}", letter(backend));
                    trials.push(Trial::test(format!("{case}::{backend}"), move || {
                        judge(&directory, backend, &id).map_err(Failed::from)
                    }));
                }
            }
        }
        Err(problem) => trials.push(Trial::test("scenarios_are_there", move || Err(Failed::from(problem)))),
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Scenarios with keys or names that the API does not have. A directory refuses to load such a file at all, which this
/// checks; what they mean, should an API server send them, is judged by trace.
const UNLOADABLE: [&str; 2] = ["hostile-names", "unknown-keys-allow-nothing"];

fn judge(directory: &Path, backend: &str, id: &str) -> Result<(), String> {
    let scenario = Scenario::load(directory)?;
    let manifests = directory.join("cluster.yaml");
    let error = Directory::new(&manifests).load().error;
    if UNLOADABLE.contains(&scenario.name.as_str()) {
        return error
            .map(drop)
            .ok_or_else(|| "a manifest that no API server would take was loaded".to_owned());
    }
    if let Some(error) = error {
        return Err(error.to_string());
    }
    let wanted = asked(&scenario);
    let open: Vec<Asked> = wanted.iter().cloned().map(|asked| Asked { open: true, ..asked }).collect();
    let logs = Path::new(env!("CARGO_TARGET_TMPDIR")).join(id);
    let program = Path::new(env!("CARGO_BIN_EXE_bridgewarden"));
    let mut field = Field::build(id, &scenario.world, program, &logs)?;
    field.add_outside_addresses(&scenario)?;
    field.hold(&open).map_err(|error| format!("before: {error}"))?;
    field.start(&manifests, backend, &[])?;
    field.await_ready()?;
    field.settle(&wanted).map_err(|error| format!("enforced: {error}"))?;
    field.hold(&wanted).map_err(|error| format!("enforced, a second time: {error}"))?;
    field.stop(false);
    field.hold(&wanted).map_err(|error| format!("after the controllers ended: {error}"))?;
    field.clean_up()?;
    field.hold(&open).map_err(|error| format!("after cleanup: {error}"))
}
