//! What must hold all through: connections tried again and again while something else happens.

use crate::cluster::PairCheck;
use anyhow::{Result, bail};
use bridgewarden::testbed::{Outcome, Prober, ResolvedProbe, Testbed};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks, so that looking leaves the processors to those who work.
const PAUSE: Duration = Duration::from_millis(20);

/// Questions that are asked all the time, on a thread of their own.
pub(crate) struct ContinuousCheck {
    stop: Arc<AtomicBool>,
    looking: JoinHandle<Result<u64>>,
}

impl ContinuousCheck {
    /// Begins to ask. Until it ends, nobody may remove the pods that it asks about.
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

    /// Whether it has seen enough: something was wrong.
    pub(crate) fn has_ended(&self) -> bool {
        self.looking.is_finished()
    }

    /// Ends, and tells how many answers were right.
    ///
    /// # Errors
    /// What was open and had to be refused, or was refused and had to be open.
    pub(crate) fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.looking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// What is wrong about an outcome. Slow is not wrong.
fn breach(question: &PairCheck, outcome: &Outcome) -> Option<String> {
    let wrong = match outcome {
        Outcome::Open => !question.open,
        Outcome::Refused => question.open,
        Outcome::Timeout => false,
        Outcome::Failed(_) | Outcome::AnsweredBy(_) => true,
    };
    wrong.then(|| told(question, outcome))
}

/// A question whose answer is another than it should be, as a line.
pub(crate) fn told(question: &PairCheck, outcome: &Outcome) -> String {
    let wanted = if question.open { "open" } else { "refused" };
    let PairCheck { from, to, source, destination, .. } = question;
    format!("{from} ({source}) -> {to} ({destination}) should be {wanted} and is {outcome}")
}
