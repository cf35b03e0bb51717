//! The Unix sockets at which commands reach the agent.

use crate::observe::{Health, listen_at};
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::time::sleep;

/// How long to wait before a failed attempt is repeated.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Which socket it is.
#[derive(Clone, Copy)]
pub(super) struct SocketUse {
    /// The readiness check that gets a remark as long as the socket cannot be opened.
    pub(super) check: &'static str,
    /// The command that connects to it.
    pub(super) command: &'static str,
    /// The flag with its path.
    pub(super) flag: &'static str,
}

impl SocketUse {
    /// Listens at a path, as soon as that is possible.
    pub(super) async fn listen(self, path: &Path, health: &Health) -> UnixListener {
        let SocketUse { check, command, flag } = self;
        let mut logged = None;
        loop {
            let problem = match listen_at(path) {
                Ok(listener) => {
                    health.remark(check, "socket", None);
                    return listener;
                }
                Err(error) => error.to_string(),
            };
            let (again, shown) = (RETRY_AFTER.as_secs(), path.display());
            let remark = format!("`{command}` cannot be answered at {shown}: {problem}; see {flag}");
            if logged.as_ref() != Some(&problem) {
                tracing::warn!(path = %shown, problem, again_in_s = again, "`{command}` cannot be answered here; see {flag}");
            }
            health.remark(check, "socket", Some(remark));
            logged = Some(problem);
            sleep(RETRY_AFTER).await;
        }
    }
}
