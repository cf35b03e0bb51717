//! The Unix sockets at which commands reach the agent.

use super::listening::{Retry, listen};
use crate::observe::{Health, listen_at};
use std::future::ready;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixListener;

/// How long to wait before a failed attempt is repeated.
const RETRY: Retry = Retry { first: Duration::from_secs(10), longest: Duration::from_secs(10) };

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
        let (again, shown) = (RETRY.first.as_secs(), path.display());
        let failed = |problem: &str, is_new: bool| {
            if is_new {
                tracing::warn!(path = %shown, problem, again_in_s = again, "`{command}` cannot be answered here; see {flag}");
            }
            let remark = format!("`{command}` cannot be answered at {shown}: {problem}; see {flag}");
            health.remark(check, "socket", Some(remark));
        };
        let (listener, _) = listen(RETRY, || ready(listen_at(path)), failed).await;
        health.remark(check, "socket", None);
        listener
    }
}
