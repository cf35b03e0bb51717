//! Measures each connection, with time to settle.

use super::question::{ExpectedOutcome, Finding};
use super::stop::{Stop, Stopped};
use crate::testbed::{Probe, ProbeOutcome, Testbed};
use std::time::{Duration, Instant};

/// How long a connection may have an unexpected outcome before it counts as a mismatch.
pub(super) const SETTLE: Duration = Duration::from_secs(2);
/// How often it is measured at least, however long that takes: a slow machine needs more than one second for a connection
/// while it opens hundreds.
const LEAST: usize = 5;
/// The pause before unsettled connections are measured again.
const PAUSE: Duration = Duration::from_millis(10);
/// The most connections between two checks for a signal.
const AT_ONCE: usize = 5000;

/// Measures every connection. A connection with an unexpected outcome is measured again until the outcome is as
/// expected, or time is up and it was measured five times.
///
/// # Errors
/// [`Stopped`] after a signal.
pub(super) fn measure(
    testbed: &Testbed,
    questions: &[ExpectedOutcome],
    stop: &Stop,
) -> Result<Vec<Finding>, Stopped> {
    settle(
        questions,
        |probes| {
            let mut outcomes = Vec::with_capacity(probes.len());
            for probes in probes.chunks(AT_ONCE) {
                stop.check()?;
                outcomes.extend(testbed.probe_all(probes));
            }
            Ok(outcomes)
        },
        || stop.sleep(PAUSE),
        SETTLE,
    )
}

fn settle<E>(
    questions: &[ExpectedOutcome],
    mut ask: impl FnMut(&[Probe]) -> Result<Vec<ProbeOutcome>, E>,
    mut pause: impl FnMut() -> Result<(), E>,
    within: Duration,
) -> Result<Vec<Finding>, E> {
    let deadline = Instant::now() + within;
    let mut findings: Vec<Finding> = questions
        .iter()
        .map(|question| Finding { question: question.clone(), measured: ProbeOutcome::Timeout })
        .collect();
    let mut unsettled: Vec<usize> = (0..findings.len()).collect();
    for measured in 1.. {
        let probes: Vec<Probe> =
            unsettled.iter().map(|&index| findings[index].question.connection.probe()).collect();
        for (&index, outcome) in unsettled.iter().zip(ask(&probes)?) {
            findings[index].measured = outcome;
        }
        unsettled.retain(|&index| !findings[index].is_as_expected());
        if unsettled.is_empty() || measured >= LEAST && Instant::now() >= deadline {
            break;
        }
        pause()?;
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::demo::question::tests::{TWO, findings};
    use std::convert::Infallible;

    fn questions() -> Vec<ExpectedOutcome> {
        findings(TWO).into_iter().map(|finding| finding.question).collect()
    }

    #[test]
    fn what_settles_in_time_is_no_mismatch_and_the_rest_is_asked_once() {
        let questions = questions();
        let mut asked = Vec::new();
        let ask = |probes: &[Probe]| {
            asked.push(probes.len());
            let refused = asked.len() > 2;
            Ok::<_, Infallible>(
                probes
                    .iter()
                    .map(|probe| {
                        let guarded = probe.port == 5432 && probe.from == crate::testbed::Endpoint::Outside;
                        if guarded && refused { ProbeOutcome::Refused } else { ProbeOutcome::Open }
                    })
                    .collect(),
            )
        };
        let Ok(findings) = settle(&questions, ask, || Ok(()), Duration::from_secs(60));
        assert!(findings.iter().all(Finding::is_as_expected));
        assert_eq!(asked, [questions.len(), 2, 2]);
    }

    #[test]
    fn however_slow_the_machine_is_each_connection_is_measured_five_times() {
        let questions = questions();
        let mut asked = Vec::new();
        let ask = |probes: &[Probe]| {
            asked.push(probes.len());
            Ok::<_, Infallible>(vec![ProbeOutcome::Timeout; probes.len()])
        };
        let Ok(_) = settle(&questions, ask, || Ok(()), Duration::ZERO);
        assert_eq!(asked, [questions.len(); LEAST]);
    }

    #[test]
    fn what_does_not_settle_counts() {
        let silence = |probes: &[Probe]| Ok::<_, Infallible>(vec![ProbeOutcome::Timeout; probes.len()]);
        let Ok(findings) = settle(&questions(), silence, || Ok(()), Duration::ZERO);
        assert!(findings.iter().all(|finding| finding.measured == ProbeOutcome::Timeout));
    }
}
