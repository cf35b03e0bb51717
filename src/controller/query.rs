//! Queries of other parts of the agent: the controller owns the cluster and the plan, so only it can read them.

use super::Enforcer;
use tokio::sync::{mpsc, oneshot};

/// Reads something from the enforcer and sends it to the waiting receiver. The controller runs one query at a time,
/// when it has nothing else to do, so a query must be short.
pub struct Query(Box<dyn FnOnce(&Enforcer) + Send>);

impl Query {
    /// A query, and where its answer arrives. No answer comes if the controller has ended.
    pub fn new<A: Send + 'static>(
        read: impl FnOnce(&Enforcer) -> A + Send + 'static,
    ) -> (Query, oneshot::Receiver<A>) {
        let (send, answer) = oneshot::channel();
        let query = move |enforcer: &Enforcer| {
            // An error means that the receiver no longer waits.
            send.send(read(enforcer)).ok();
        };
        (Query(Box::new(query)), answer)
    }

    /// Runs it.
    pub fn answer(self, enforcer: &Enforcer) {
        (self.0)(enforcer);
    }
}

/// The next query. Waits forever once there is no sender.
pub(super) async fn next(queries: &mut Option<mpsc::Receiver<Query>>) -> Query {
    if let Some(receiver) = queries {
        match receiver.recv().await {
            Some(query) => return query,
            None => *queries = None,
        }
    }
    std::future::pending().await
}
