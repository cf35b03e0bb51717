//! NetworkPolicyPort.

use super::ResolvedQuery;
use crate::api::{Container, IntOrString, NetworkPolicyPort, Pod};
use crate::net::Protocol;

/// Whether a rule with these ports accepts the connection.
pub(super) fn any(ports: Option<&[NetworkPolicyPort]>, connection: &ResolvedQuery<'_>) -> bool {
    match ports {
        // "If this field is empty or missing, this rule matches all ports (traffic not restricted by port)."
        None | Some([]) => true,
        // "Each item in this list is combined using a logical OR."
        Some(ports) => ports.iter().any(|port| matches(port, connection)),
    }
}

fn matches(port: &NetworkPolicyPort, connection: &ResolvedQuery<'_>) -> bool {
    if port.unknown.first().is_some() || protocol(port.protocol.as_deref()) != Some(connection.protocol) {
        return false;
    }
    match (&port.port, port.end_port) {
        // port: "If this field is not provided, this matches all port names and numbers."
        (None, None) => true,
        (Some(IntOrString::Int(number)), None) => is_port(*number) && *number == i64::from(connection.port),
        // endPort: "indicates that the range of ports from port to endPort if set, inclusive, should be allowed".
        // "The endPort must be equal or greater than port."
        (Some(IntOrString::Int(first)), Some(last)) => {
            is_port(*first) && is_port(last) && (*first..=last).contains(&i64::from(connection.port))
        }
        // port: "This can either be a numerical or named port on a pod."
        (Some(IntOrString::String(name)), None) => {
            connection.destination.is(|pod| declares(pod, name, connection.protocol, connection.port))
        }
        // endPort: "This field cannot be defined if the port field is not defined or if the port field is defined
        // as a named (string) port."
        (None | Some(IntOrString::String(_)), Some(_)) => false,
    }
}

/// Whether a container that keeps running declares this port under this name.
fn declares(pod: &Pod, name: &str, protocol: Protocol, number: u16) -> bool {
    // Container.restartPolicy: an init container with Always "will be continually restarted […] until all regular
    // containers have terminated": it runs, and listens, beside them.
    let sidecars =
        pod.spec.init_containers.iter().filter(|init| init.restart_policy.as_deref() == Some("Always"));
    let running: Vec<&Container> = pod.spec.containers.iter().chain(sidecars).collect();
    running.iter().flat_map(|container| &container.ports).any(|port| {
        port.name.as_deref() == Some(name)
            && port.container_port == i64::from(number)
            && self::protocol(port.protocol.as_deref()) == Some(protocol)
    })
}

/// "If not specified, this field defaults to TCP."
fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text {
        None | Some("TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(_) => None,
    }
}

fn is_port(number: i64) -> bool {
    (1..=65535).contains(&number)
}
