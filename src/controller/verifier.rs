//! The thread that compares the kernel with what policies say.

use super::VerificationTask;
use crate::verify::Verification;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A thread that compares, if there is one.
#[derive(Default)]
pub(super) struct Verifier {
    under_way: Option<(Instant, oneshot::Receiver<Verification>)>,
}

impl Verifier {
    /// Starts a comparison on a thread of its own.
    pub(super) fn start(&mut self, comparison: Box<VerificationTask>) {
        let (answer, answered) = oneshot::channel();
        self.under_way = Some((Instant::now(), answered));
        // An error means that the controller is gone.
        std::thread::spawn(move || answer.send(comparison.perform()).ok());
    }

    /// What came of it, and how long it took. Waits forever if there is none. Loses nothing if it is dropped.
    pub(super) async fn returned(&mut self) -> (Verification, Duration) {
        let Some((started, answered)) = &mut self.under_way else { return std::future::pending().await };
        let verification = answered.await.expect("a comparison does not panic");
        let took = started.elapsed();
        self.under_way = None;
        (verification, took)
    }
}
