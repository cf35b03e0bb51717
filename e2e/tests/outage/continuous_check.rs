//! What must hold throughout a trial: connections that are probed continuously.

use crate::cluster::PairCheck;
use anyhow::{Result, bail};
use bridgewarden::testbed::{ProbeOutcome, Prober, ResolvedProbe, Testbed};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The pause between two rounds, which leaves the processors to the agents.
const PAUSE: Duration = Duration::from_millis(20);

/// A thread that probes pairs of pods until it is stopped.
pub(crate) struct ContinuousCheck {
    stop: Arc<AtomicBool>,
    looking: JoinHandle<Result<u64>>,
}

impl ContinuousCheck {
    /// Starts probing. The pods it probes must not be removed until it ends.
    pub(crate) fn over(testbed: &Testbed, questions: Vec<PairCheck>) -> Result<ContinuousCheck> {
        let prober = Prober::start()?;
        let probes: Vec<ResolvedProbe> = questions.iter().map(|question| question.resolve(testbed)).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let look = move || {
            let mut asked = 0;
            while !stopped.load(Ordering::Relaxed) {
                let outcomes = prober.try_all(probes.iter().cloned().map(Ok).collect());
                let wrong: Vec<String> = questions
                    .iter()
                    .zip(&outcomes)
                    .filter_map(|(question, outcome)| breach(question, outcome))
                    .collect();
                if !wrong.is_empty() {
                    bail!("meanwhile:\n{}", wrong.join("\n"));
                }
                asked += outcomes.len() as u64;
                std::thread::sleep(PAUSE);
            }
            Ok(asked)
        };
        Ok(ContinuousCheck { stop, looking: std::thread::spawn(look) })
    }

    /// Whether it has stopped because an outcome was wrong.
    pub(crate) fn has_ended(&self) -> bool {
        self.looking.is_finished()
    }

    /// Stops, and returns the number of correct outcomes.
    ///
    /// # Errors
    /// The pairs that were open and had to be denied, or the reverse.
    pub(crate) fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.looking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// What is wrong about an outcome, if anything. A timeout is not wrong.
fn breach(question: &PairCheck, outcome: &ProbeOutcome) -> Option<String> {
    let wrong = match outcome {
        ProbeOutcome::Open => !question.open,
        ProbeOutcome::Refused => question.open,
        ProbeOutcome::Timeout => false,
        ProbeOutcome::Failed(_) | ProbeOutcome::AnsweredBy(_) => true,
    };
    wrong.then(|| report(question, outcome))
}

/// Describes a wrong outcome in one line.
pub(crate) fn report(question: &PairCheck, outcome: &ProbeOutcome) -> String {
    let wanted = if question.open { "open" } else { "refused" };
    let PairCheck { from, to, source, destination, .. } = question;
    format!("{from} ({source}) -> {to} ({destination}) should be {wanted} and is {outcome}")
}
