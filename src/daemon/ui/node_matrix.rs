//! The page with the matrix of this node: made when somebody asks for it, in a thread of its own, and not again at once.

use super::known_cluster;
use crate::daemon::status::{StatusReporter, clock};
use crate::matrix::{node_page, node_page_without_matrix};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

/// How long the main loop may take to answer with all it knows. It answers nothing before the first lists are complete.
const READ_PATIENCE: Duration = Duration::from_secs(5);
/// How long a request waits for a page that is being made; the page is kept for the next.
const PAGE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a page is served again at least.
const LEAST_AGE: Duration = Duration::from_secs(2);
/// How many times as long as it took to make a page no other is made after it: it may take a twentieth of a processor.
const REST: u32 = 19;
/// How many requests wait for a page at once.
const WAITING: usize = 16;

/// Makes the page, and keeps the last.
pub(super) struct NodeMatrix {
    node: String,
    reporter: StatusReporter,
    last: Mutex<Option<MadePage>>,
    waiting: Arc<Semaphore>,
}

/// A page, and until when it is served again.
struct MadePage {
    html: Arc<str>,
    until: Instant,
}

impl NodeMatrix {
    pub(super) fn new(node: String, reporter: StatusReporter) -> NodeMatrix {
        NodeMatrix { node, reporter, last: Mutex::new(None), waiting: Arc::new(Semaphore::new(WAITING)) }
    }

    /// The page of now, or of a moment ago.
    pub(super) async fn page(self: Arc<Self>) -> Arc<str> {
        let Ok(place) = self.waiting.clone().try_acquire_owned() else {
            return self.without("Many others are waiting for the matrix. Reload in a moment.");
        };
        // It goes on without a client, so that a matrix that takes long is there for the next.
        let own = self.clone();
        let making = tokio::spawn(async move {
            let html = own.recent().await;
            drop(place);
            html
        });
        match timeout(PAGE_PATIENCE, making).await {
            Ok(Ok(html)) => html,
            Ok(Err(_)) | Err(_) => self.without("The matrix is being made. Reload in a moment."),
        }
    }

    async fn recent(&self) -> Arc<str> {
        let mut last = self.last.lock().await;
        if let Some(page) = last.as_ref().filter(|page| Instant::now() < page.until) {
            return page.html.clone();
        }
        let (html, took) = self.made().await;
        let until = Instant::now() + LEAST_AGE.max(took * REST);
        *last = Some(MadePage { html: html.clone(), until });
        html
    }

    /// Makes a page, and says how long that kept a processor.
    async fn made(&self) -> (Arc<str>, Duration) {
        let why = match timeout(READ_PATIENCE, known_cluster::snapshot(&self.reporter)).await {
            Ok(Ok(snapshot)) => {
                let (node, began) = (self.node.clone(), Instant::now());
                let time = clock(SystemTime::now()).unwrap_or_default();
                let page = move || node_page(&node, &time, &snapshot);
                match tokio::task::spawn_blocking(page).await {
                    Ok(html) => return (html.into(), began.elapsed()),
                    Err(_) => "The matrix cannot be made: see the agent's log.".to_owned(),
                }
            }
            Ok(Err(none)) => none.why(),
            Err(_) => "The agent has not received its first complete lists yet, or has much to do. Reload in a moment.".to_owned(),
        };
        (self.without(&why), Duration::ZERO)
    }

    fn without(&self, why: &str) -> Arc<str> {
        node_page_without_matrix(&self.node, why).into()
    }
}
