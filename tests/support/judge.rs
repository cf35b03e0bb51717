//! Judges that decide whether a connection passes: the oracle, and a tracer over rendered rules.

use crate::scenario::{ProbeOutcome, Scenario};
use std::fmt::Write;

/// Answers a scenario's questions.
pub trait Judge: Sync {
    /// Its name in test names.
    fn name(&self) -> &'static str;

    /// Answers all of the scenario's probes, in order. All at once, because setting up a cluster may be expensive.
    ///
    /// # Errors
    /// A message for people, if the judge cannot answer at all.
    fn answer(&self, scenario: &Scenario) -> Result<Vec<ProbeOutcome>, String>;
}

/// Compares a judge's answers with `reach.txt`.
///
/// # Errors
/// Every difference, one per line.
pub fn compare(judge: &dyn Judge, scenario: &Scenario) -> Result<(), String> {
    let answers = judge.answer(scenario)?;
    if answers.len() != scenario.probes.len() {
        return Err(format!(
            "{} gave {} answers to {} probes",
            judge.name(),
            answers.len(),
            scenario.probes.len()
        ));
    }
    let mut differences = String::new();
    for (probe, answer) in scenario.probes.iter().zip(answers) {
        if answer == probe.expected {
            continue;
        }
        let word = match answer {
            ProbeOutcome::Arrives => "arrives",
            ProbeOutcome::Reported => "arrives and is reported",
            ProbeOutcome::Denied => "is denied",
        };
        let promised = match probe.expected {
            ProbeOutcome::Arrives => "allowed",
            ProbeOutcome::Reported => "allowed and reported",
            ProbeOutcome::Denied => "denied",
        };
        writeln!(
            differences,
            "{}/reach.txt:{}: {} -> {} {}/{} over {} ({} -> {}): promised {promised}, but by {} it {word}",
            scenario.name,
            probe.line,
            probe.source,
            probe.destination,
            probe.port,
            probe.protocol,
            probe.family(),
            probe.source_address,
            probe.destination_address,
            judge.name(),
        )
        .expect("a String takes any text");
    }
    if differences.is_empty() { Ok(()) } else { Err(differences) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::tests::scenario;

    struct Always(ProbeOutcome);

    impl Judge for Always {
        fn name(&self) -> &'static str {
            "always"
        }

        fn answer(&self, scenario: &Scenario) -> Result<Vec<ProbeOutcome>, String> {
            Ok(vec![self.0; scenario.probes.len()])
        }
    }

    const TABLE: &str = "80/TCP shop/web\noutside 4\n";

    #[test]
    fn every_difference_is_named_with_its_line_and_addresses() {
        let differences = compare(&Always(ProbeOutcome::Arrives), &scenario(TABLE)).unwrap_err();
        assert_eq!(
            differences,
            "case/reach.txt:2: outside -> shop/web 80/TCP over IPv6 (2001:db8:ffff::10 -> fd00:10:244:1::10): \
             promised denied, but by always it arrives\n"
        );
        let differences = compare(&Always(ProbeOutcome::Denied), &scenario(TABLE)).unwrap_err();
        assert!(differences.contains("promised allowed, but by always it is denied"), "{differences}");
    }
}
