//! Errors of the testbed.

use super::Endpoint;
use crate::net::Protocol;
use std::io;
use std::net::SocketAddr;

/// An error of the testbed.
#[derive(Debug, thiserror::Error)]
pub enum TestbedError {
    /// The layout cannot be built.
    #[error("{object}: {problem}. {cure}")]
    Layout {
        /// The pod, node or id that causes it.
        object: String,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        cure: &'static str,
    },
    /// The system rejected a file, mount, thread or namespace.
    #[error("cannot {act} {object}: {source}. {cure}")]
    System {
        /// What was attempted.
        act: &'static str,
        /// The object.
        object: String,
        /// The system's error.
        source: io::Error,
        /// What to do.
        cure: &'static str,
    },
    /// The kernel rejected a link, an address or a route.
    #[error("cannot {act} in network namespace {namespace}: {source}")]
    Link {
        /// What was attempted, and on which object.
        act: String,
        /// The namespace.
        namespace: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// A port could not be served.
    #[error(
        "{endpoint} cannot listen on {protocol} {address}: {source}. Give each port of one address to one pod"
    )]
    Listen {
        /// The endpoint that should have listened.
        endpoint: Endpoint,
        /// The protocol.
        protocol: Protocol,
        /// The address and port.
        address: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
    /// A stream or a spoofed packet could not be sent.
    #[error("cannot {act} from {from} to {to}: {reason}")]
    Send {
        /// What was attempted.
        act: &'static str,
        /// The sender.
        from: Endpoint,
        /// The receiver.
        to: SocketAddr,
        /// The reason.
        reason: String,
    },
    /// There is no such pod or node.
    #[error("there is no {0} in the testbed: name one of its layout")]
    Unknown(Endpoint),
    /// Not everything could be removed; everything else is removed.
    #[error("cannot remove all of the testbed: {}. Remove what is left with ip netns delete NAME", left.join("; "))]
    Remains {
        /// Each thing left, with the reason.
        left: Vec<String>,
    },
}
