//! Every scenario before every judge: `tests/scenarios/<case>/reach.txt` is what the program promises.
//!
//! To add a judge, implement [`Judge`] and list it in `judges`.

use bridgewarden::explain::oracle::{FlowQuery, QueryEnd, Ruling, decide, would_deny};
use bridgewarden::netfilter::BackendName;
use libtest_mimic::{Arguments, Failed, Trial};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use support::golden;
use support::judge::{Judge, compare};
use support::packets;
use support::reach::Name;
use support::scenario::{Probe, ProbeOutcome, Scenario, directories};

fn judges() -> [&'static dyn Judge; 3] {
    [&Oracle, &Trace(BackendName::IptablesNft), &Trace(BackendName::Nftables)]
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
                trials.push(Trial::test(format!("{case}::golden"), move || {
                    let scenario = Scenario::load(&directory).map_err(Failed::from)?;
                    golden::compare(&scenario).map_err(Failed::from)
                }));
            }
        }
        Err(problem) => trials.push(Trial::test("scenarios_are_there", move || Err(Failed::from(problem)))),
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The end that a name stands for.
fn end(scenario: &Scenario, name: &Name, address: IpAddr) -> Result<QueryEnd, String> {
    match name {
        Name::Pod { namespace, name } => {
            let is_it = |metadata: &bridgewarden::api::ObjectMeta| {
                metadata.namespace.as_ref() == Some(namespace) && metadata.name == *name
            };
            let index = scenario.world.pods.iter().position(|pod| is_it(&pod.metadata));
            index.map(QueryEnd::Pod).ok_or_else(|| format!("there is no pod {namespace}/{name}"))
        }
        Name::Service { .. } => Err(format!("{name} is no end of a connection")),
        Name::Node(node) => Ok(QueryEnd::Node { name: node.to_string(), address }),
        Name::Outside | Name::Stranger(_) => Ok(QueryEnd::Address(address)),
    }
}

fn flows(scenario: &Scenario) -> Result<Vec<FlowQuery>, String> {
    let flow = |probe: &Probe| {
        Ok(FlowQuery {
            source: end(scenario, &probe.source, probe.source_address)?,
            destination: end(scenario, &probe.destination, probe.destination_address)?,
            protocol: probe.protocol,
            port: probe.port,
            family: probe.family(),
        })
    };
    scenario.probes.iter().map(flow).collect()
}

/// The rules that a backend renders for both nodes as a judge.
struct Trace(BackendName);

impl Judge for Trace {
    fn name(&self) -> &'static str {
        match self.0 {
            BackendName::IptablesNft | BackendName::IptablesLegacy => "trace",
            BackendName::Nftables => "trace_nftables",
        }
    }

    fn answer(&self, scenario: &Scenario) -> Result<Vec<ProbeOutcome>, String> {
        let rules = packets::rules_of_both(self.0, &scenario.world);
        let judge = packets::Judge::new(&scenario.world, [&rules[0], &rules[1]]);
        let outcome = |flow: &FlowQuery| match judge.audits(flow).as_deref() {
            None => ProbeOutcome::Denied,
            Some([]) => ProbeOutcome::Arrives,
            Some(_) => ProbeOutcome::Reported,
        };
        Ok(flows(scenario)?.iter().map(outcome).collect())
    }
}

/// The oracle as a judge.
struct Oracle;

impl Judge for Oracle {
    fn name(&self) -> &'static str {
        "oracle"
    }

    fn answer(&self, scenario: &Scenario) -> Result<Vec<ProbeOutcome>, String> {
        let mut answers = Vec::new();
        for flow in flows(scenario)? {
            let verdict = decide(&scenario.world, &flow).map_err(|impossible| impossible.to_string())?;
            let audits = would_deny(&scenario.world, &flow).map_err(|impossible| impossible.to_string())?;
            answers.push(match verdict {
                Ruling::Allowed if audits.is_empty() => ProbeOutcome::Arrives,
                Ruling::Allowed => ProbeOutcome::Reported,
                Ruling::Denied { .. } => ProbeOutcome::Denied,
            });
        }
        Ok(answers)
    }
}
