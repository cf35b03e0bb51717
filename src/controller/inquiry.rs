//! What is known of flows that the kernel refused, and of its chains: only the loop knows, as it owns the cluster and the plan.

use super::Enforcer;
use crate::account::account;
use crate::flow::{Account, Flow};
use crate::model::{Direction, PolicyKey};
use crate::netfilter::ChainName;
use std::collections::BTreeMap;
use tokio::sync::{mpsc, oneshot};

/// Something that somebody wants to know.
#[derive(Debug)]
pub enum Inquiry {
    /// What is known of flows that were refused.
    Flows {
        /// Which. Few: the loop answers all at once.
        flows: Vec<Flow>,
        /// Who waits for what is known of each, in their order.
        answer: oneshot::Sender<Vec<Account>>,
    },
    /// Whose each policy's chain is.
    PolicyChains {
        /// Who waits for it.
        answer: oneshot::Sender<BTreeMap<ChainName, (PolicyKey, Direction)>>,
    },
}

impl Inquiry {
    pub(super) fn answer(self, enforcer: &Enforcer) {
        // An error means that nobody waits any longer.
        match self {
            Inquiry::Flows { flows, answer } => {
                answer
                    .send(
                        flows.iter().map(|flow| account(enforcer.cluster(), enforcer.plan(), flow)).collect(),
                    )
                    .ok();
            }
            Inquiry::PolicyChains { answer } => {
                answer.send(enforcer.policy_chains()).ok();
            }
        }
    }
}

/// The next inquiry; never, once nobody asks any more.
pub(super) async fn next(inquiries: &mut Option<mpsc::Receiver<Inquiry>>) -> Inquiry {
    if let Some(receiver) = inquiries {
        match receiver.recv().await {
            Some(inquiry) => return inquiry,
            None => *inquiries = None,
        }
    }
    std::future::pending().await
}
