//! Every scenario before every judge: `tests/scenarios/<case>/reach.txt` is what the program promises.
//!
//! To add a judge, implement [`Judge`] and list it in `judges`.

use bridgewarden::explain::oracle::{End, Flow, Verdict, decide};
use libtest_mimic::{Arguments, Failed, Trial};
use std::path::Path;
use std::process::ExitCode;
use support::judge::{Judge, compare};
use support::reach::Name;
use support::scenario::{Outcome, Scenario, directories};

fn judges() -> [&'static dyn Judge; 1] {
    [&Oracle]
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut trials = Vec::new();
    match directories(&root) {
        Ok(directories) => {
            for directory in directories {
                let case = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
                for judge in judges() {
                    let directory = directory.clone();
                    let name = format!("{case}::{}", judge.name());
                    trials.push(Trial::test(name, move || {
                        let scenario = Scenario::load(&directory).map_err(Failed::from)?;
                        compare(judge, &scenario).map_err(Failed::from)
                    }));
                }
            }
        }
        Err(problem) => trials.push(Trial::test("scenarios_are_there", move || Err(Failed::from(problem)))),
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The oracle as a judge.
struct Oracle;

impl Judge for Oracle {
    fn name(&self) -> &'static str {
        "oracle"
    }

    fn answer(&self, scenario: &Scenario) -> Result<Vec<Option<Outcome>>, String> {
        let end = |name: &Name, address| match name {
            Name::Pod { namespace, name } => {
                let is_it = |metadata: &bridgewarden::api::ObjectMeta| {
                    metadata.namespace.as_ref() == Some(namespace) && metadata.name == *name
                };
                let index = scenario.world.pods.iter().position(|pod| is_it(&pod.metadata));
                index.map(End::Pod).ok_or_else(|| format!("there is no pod {namespace}/{name}"))
            }
            Name::Node(node) => Ok(End::Node { name: node.to_string(), address }),
            Name::Outside | Name::Stranger(_) => Ok(End::Address(address)),
        };
        let mut answers = Vec::new();
        for probe in &scenario.probes {
            let flow = Flow {
                source: end(&probe.source, probe.source_address)?,
                destination: end(&probe.destination, probe.destination_address)?,
                protocol: probe.protocol,
                port: probe.port,
                family: probe.family(),
            };
            let verdict = decide(&scenario.world, &flow).map_err(|impossible| impossible.to_string())?;
            answers.push(Some(match verdict {
                Verdict::Allowed => Outcome::Arrives,
                Verdict::Refused { .. } => Outcome::Refused,
            }));
        }
        Ok(answers)
    }
}
