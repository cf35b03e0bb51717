//! What must hold during a change: pairs that are denied before and after are never open.

use crate::expectation::Expectation;
use anyhow::{Result, bail};
use bridgewarden::net::Protocol;
use bridgewarden::testbed::{ProbeOutcome, Prober};

/// Pairs to check. Only TCP, because a UDP datagram with the ports of a flow that was allowed may belong to that flow.
#[derive(Debug, Default)]
pub(crate) struct Guarded {
    watched: Vec<Expectation>,
    open_too: bool,
}

impl Guarded {
    /// Checks pairs that are denied; with `open_too`, also that the others are never denied.
    pub(crate) fn new(steady: impl IntoIterator<Item = Expectation>, open_too: bool) -> Guarded {
        let watched = |it: &Expectation| it.question.protocol == Protocol::Tcp && (open_too || !it.open);
        Guarded { watched: steady.into_iter().filter(watched).collect(), open_too }
    }

    /// Tries all of them once.
    ///
    /// # Errors
    /// The pairs that were open and had to be denied, or the reverse.
    pub(crate) fn look(&self, prober: &Prober) -> Result<()> {
        let probes = self.watched.iter().map(|watched| Ok(watched.probe.clone())).collect();
        let outcomes = prober.try_all(probes);
        let breach = |(watched, outcome): &(&Expectation, ProbeOutcome)| match outcome {
            ProbeOutcome::Open => !watched.open,
            ProbeOutcome::Refused => watched.open && self.open_too,
            // A slow answer is no wrong one.
            ProbeOutcome::Timeout | ProbeOutcome::Failed(_) => false,
            ProbeOutcome::AnsweredBy(_) => true,
        };
        let breaches: Vec<String> = (self.watched.iter().zip(outcomes).filter(breach))
            .map(|(watched, outcome)| watched.mismatch(&outcome))
            .collect();
        if !breaches.is_empty() {
            bail!("meanwhile:\n{}", breaches.join("\n"));
        }
        Ok(())
    }
}
