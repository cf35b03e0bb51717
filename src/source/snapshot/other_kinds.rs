//! The kinds that a snapshot has besides those of policies: workloads, Services and nodes.

use super::snapshot_builder::SnapshotBuilder;
use crate::api::{self, IntOrString};
use crate::model::{Labels, Service, ServiceKey, ServicePort, TargetPort};
use crate::net::Protocol;
use crate::source::convert;
use crate::source::manifest::object::OtherObject;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Reads an object if it is of such a kind; returns whether it is.
///
/// # Errors
/// What is wrong with the object.
pub(super) fn read(object: &OtherObject<'_>, builder: &mut SnapshotBuilder) -> Result<bool, String> {
    let group = object.api_version.split_once('/').map_or("", |(group, _)| group);
    match (group, object.kind) {
        ("apps" | "extensions", kind @ ("Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet"))
        | ("batch", kind @ ("Job" | "CronJob"))
        | ("", kind @ "ReplicationController") => builder.workloads.add(kind, object.read()?)?,
        ("", "Service") => builder.service(service(&object.read()?)?),
        ("", "Node") => builder.node(&object.read()?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Converts a Service.
///
/// # Errors
/// Names a port that no Service can have.
pub(super) fn service(from: &api::Service) -> Result<Service, String> {
    let spec = &from.spec;
    let ports = spec.ports.iter().map(port).collect::<Result<_, _>>()?;
    let kind = spec.service_type.as_deref().unwrap_or("ClusterIP");
    let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty() && kind != "ExternalName");
    let balanced = from.status.load_balancer.ingress.iter().filter_map(|ingress| ingress.ip.as_ref());
    Ok(Service {
        key: ServiceKey::new(convert::namespace_of(&from.metadata), &from.metadata.name),
        selector: selector.map(Labels::new),
        ports,
        addresses: addresses(spec.cluster_ips.iter().chain(&spec.cluster_ip)),
        outer_addresses: addresses(spec.external_ips.iter().chain(balanced)),
        translates_source: matches!(kind, "NodePort" | "LoadBalancer")
            && spec.external_traffic_policy.as_deref() != Some("Local"),
    })
}

/// The addresses among some texts, each once.
fn addresses<'t>(texts: impl Iterator<Item = &'t String>) -> Vec<IpAddr> {
    let addresses = texts.filter_map(|text| text.parse::<IpAddr>().ok());
    BTreeSet::from_iter(addresses).into_iter().collect()
}

fn port(from: &api::ServicePort) -> Result<ServicePort, String> {
    let number = |number: i64| {
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        port.ok_or_else(|| format!("spec.ports: {number} is not a port: write a number from 1 to 65535"))
    };
    let word = from.protocol.as_deref().unwrap_or("TCP");
    let protocol = Protocol::parse(word)
        .ok_or_else(|| format!("spec.ports: unknown protocol `{word}`: write TCP, UDP or SCTP"))?;
    let port = number(from.port)?;
    let target = match &from.target_port {
        None => TargetPort::Number(port),
        // A headless Service may have 0 here: it translates nothing.
        Some(IntOrString::Int(0)) => TargetPort::Number(port),
        Some(IntOrString::Int(target)) => TargetPort::Number(number(*target)?),
        Some(IntOrString::String(name)) => TargetPort::Name(name.as_str().into()),
    };
    let node_port = from.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    Ok(ServicePort {
        name: from.name.as_deref().unwrap_or_default().into(),
        protocol,
        port,
        target,
        node_port,
    })
}
