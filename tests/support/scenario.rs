//! A scenario: a cluster, and expectations about it, as questions for any judge.

use crate::manifest;
use crate::reach::{self, Cell, Name, Row, Table, Unreadable};
use crate::topology::{self, Node};
use bridgewarden::api::Pod;
use bridgewarden::explain::oracle::World;
use bridgewarden::net::{Family, Protocol};
use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// One directory under `tests/scenarios`.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The directory's name: the feature.
    pub name: String,
    /// The directory.
    pub directory: PathBuf,
    /// `cluster.yaml`, read.
    pub world: World,
    /// `reach.txt`, one question per cell and family, in the order of its lines.
    pub probes: Vec<Probe>,
}

/// One question: is this connection established?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The line of `reach.txt`.
    pub line: usize,
    /// The sender.
    pub source: Name,
    /// The source address.
    pub source_address: IpAddr,
    /// The destination, which listens on the port.
    pub destination: Name,
    /// The destination address.
    pub destination_address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination's port.
    pub port: u16,
    /// The expected outcome in `reach.txt`.
    pub expected: ProbeOutcome,
}

/// The outcome of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// It is established.
    Arrives,
    /// It is established, and reported as one that audited policies would deny.
    Reported,
    /// It is not established.
    Denied,
}

impl Probe {
    /// The family of the connection.
    pub fn family(&self) -> Family {
        Family::of(self.destination_address)
    }
}

/// The directories of all scenarios, by name.
///
/// # Errors
/// A sentence, when the directory can't be listed.
pub fn directories(root: &Path) -> Result<Vec<PathBuf>, String> {
    let listed = fs::read_dir(root).map_err(|error| format!("cannot list {}: {error}", root.display()))?;
    let mut directories: Vec<PathBuf> =
        listed.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    directories.sort();
    Ok(directories)
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// A sentence that begins with the file, and the line where there is one.
    pub fn load(directory: &Path) -> Result<Scenario, String> {
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let read = |file: &str| {
            let path = directory.join(file);
            fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
        };
        let cluster = read("cluster.yaml")?;
        if !cluster.starts_with("# ") {
            return Err(format!("{name}/cluster.yaml: begin with a comment that says what is promised"));
        }
        let world = manifest::parse(&cluster).map_err(|problem| format!("{name}/cluster.yaml: {problem}"))?;
        check(&world).map_err(|problem| format!("{name}/cluster.yaml: {problem}"))?;
        let tables = reach::parse(&read("reach.txt")?);
        let probes = tables.and_then(|tables| probes(&world, &tables));
        let probes = probes.map_err(|unreadable| format!("{name}/reach.txt: {unreadable}"))?;
        Ok(Scenario { name, directory: directory.to_path_buf(), world, probes })
    }
}

/// Checks that the shared topology can contain the cluster.
fn check(world: &World) -> Result<(), String> {
    let mut taken = BTreeSet::new();
    for pod in world.pods.iter().filter(|pod| !has_finished(pod)) {
        let name = &pod.metadata.name;
        let node = pod.spec.node_name.as_deref().and_then(Node::named);
        let node = node.ok_or_else(|| format!("pod {name} is on neither node-a nor node-b"))?;
        for address in addresses(pod) {
            let family = Family::of(address);
            if pod.spec.host_network == Some(true) {
                if address != node.address(family) {
                    return Err(format!(
                        "pod {name} is on its node's network, but {address} is not the node's"
                    ));
                }
            } else if !(2..250).any(|host| node.pod_address(family, host) == address) {
                return Err(format!(
                    "pod {name} has the address {address}, which is not of {}'s range",
                    node.name
                ));
            } else if !taken.insert(address) {
                return Err(format!("pod {name} has the address {address}, and so has another"));
            }
        }
    }
    let namespaces: BTreeSet<&str> =
        world.namespaces.iter().map(|object| object.metadata.name.as_str()).collect();
    let objects = world
        .pods
        .iter()
        .map(|pod| &pod.metadata)
        .chain(world.policies.iter().map(|policy| &policy.metadata));
    for metadata in objects {
        if !metadata.namespace.as_deref().is_some_and(|namespace| namespaces.contains(namespace)) {
            return Err(format!("{} is in no namespace of the cluster", metadata.name));
        }
    }
    Ok(())
}

fn probes(world: &World, tables: &[Table]) -> Result<Vec<Probe>, Unreadable> {
    let mut probes = Vec::new();
    for table in tables {
        let at_head = |problem: String| Unreadable { line: table.line, problem };
        for destination in &table.destinations {
            if !listens(world, destination, table.protocol, table.port).map_err(at_head)? {
                let Table { port, protocol, .. } = table;
                return Err(at_head(format!("nothing of {destination} listens on {port}/{protocol}")));
            }
        }
        for row in &table.rows {
            let at_row = |problem: String| Unreadable { line: row.line, problem };
            find(world, &row.source).map_err(at_row)?;
            for (destination, cell) in table.destinations.iter().zip(&row.cells) {
                probes.extend(cell_probes(world, table, row, destination, *cell).map_err(at_row)?);
            }
        }
    }
    Ok(probes)
}

/// The questions of one cell: one for each family that both ends have.
fn cell_probes(
    world: &World,
    table: &Table,
    row: &Row,
    destination: &Name,
    cell: Cell,
) -> Result<Vec<Probe>, String> {
    let mut probes = Vec::new();
    for family in Family::BOTH {
        let source_address = address(world, &row.source, family)?;
        let destination_address = address(world, destination, family)?;
        if let (Some(source_address), Some(destination_address), Some(expected)) =
            (source_address, destination_address, expected(cell, family))
        {
            probes.push(Probe {
                line: row.line,
                source: row.source.clone(),
                source_address,
                destination: destination.clone(),
                destination_address,
                protocol: table.protocol,
                port: table.port,
                expected,
            });
        }
    }
    let source = &row.source;
    match (cell, probes.len()) {
        (Cell::Allowed | Cell::Reported | Cell::Denied, 0) => {
            Err(format!("{source} and {destination} share no family: write -"))
        }
        (Cell::Only(_), 0 | 1) => Err(format!("{source} and {destination} share one family: write . or X")),
        (Cell::Allowed | Cell::Reported | Cell::Denied | Cell::Only(_) | Cell::Unasked, _) => Ok(probes),
    }
}

fn expected(cell: Cell, family: Family) -> Option<ProbeOutcome> {
    match cell {
        Cell::Allowed => Some(ProbeOutcome::Arrives),
        Cell::Reported => Some(ProbeOutcome::Reported),
        Cell::Denied => Some(ProbeOutcome::Denied),
        Cell::Only(only) => Some(if only == family { ProbeOutcome::Arrives } else { ProbeOutcome::Denied }),
        Cell::Unasked => None,
    }
}

/// The pod of this name; `None` for a name that is not a pod's.
fn find<'w>(world: &'w World, name: &Name) -> Result<Option<&'w Pod>, String> {
    match name {
        Name::Pod { namespace, name } => world
            .pods
            .iter()
            .find(|pod| pod.metadata.namespace.as_ref() == Some(namespace) && pod.metadata.name == *name)
            .map(Some)
            .ok_or_else(|| format!("there is no pod {namespace}/{name}")),
        Name::Service { .. } => Err(format!("{name}: a scenario of manifests has no Services")),
        Name::Node(_) | Name::Outside | Name::Stranger(_) => Ok(None),
    }
}

fn address(world: &World, name: &Name, family: Family) -> Result<Option<IpAddr>, String> {
    Ok(match name {
        Name::Pod { .. } => find(world, name)?
            .filter(|pod| !has_finished(pod))
            .and_then(|pod| addresses(pod).find(|address| Family::of(*address) == family)),
        Name::Node(node) => Node::named(node).map(|node| node.address(family)),
        Name::Service { .. } => None,
        Name::Outside => Some(topology::outside(family)),
        Name::Stranger(address) => Some(*address).filter(|address| Family::of(*address) == family),
    })
}

/// Whether an end listens on a port. Pods listen on every port that a running container declares; the outside on a few.
fn listens(world: &World, name: &Name, protocol: Protocol, port: u16) -> Result<bool, String> {
    let Some(pod) = find(world, name)? else {
        return Ok(protocol != Protocol::Sctp && topology::OUTSIDE_PORTS.contains(&port));
    };
    let sidecars =
        pod.spec.init_containers.iter().filter(|init| init.restart_policy.as_deref() == Some("Always"));
    let mut ports = pod.spec.containers.iter().chain(sidecars).flat_map(|container| &container.ports);
    Ok(ports.any(|declared| {
        declared.container_port == i64::from(port)
            && Protocol::parse(declared.protocol.as_deref().unwrap_or("TCP")) == Some(protocol)
    }))
}

fn has_finished(pod: &Pod) -> bool {
    matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

fn addresses(pod: &Pod) -> impl Iterator<Item = IpAddr> {
    pod.status.pod_ips.iter().filter_map(|pod_ip| pod_ip.ip.parse().ok())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const CLUSTER: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web}
spec: {nodeName: node-a, containers: [{name: main, ports: [{containerPort: 80}]}]}
status: {podIPs: [{ip: 10.244.1.10}, {ip: \"fd00:10:244:1::10\"}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: four}
spec: {nodeName: node-b, containers: [{name: main, ports: [{containerPort: 80}]}]}
status: {podIPs: [{ip: 10.244.2.20}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: job}
spec: {nodeName: node-b}
status: {phase: Succeeded, podIPs: [{ip: 10.244.2.20}]}
";

    fn asked(table: &str) -> Result<Vec<Probe>, String> {
        let world = manifest::parse(CLUSTER)?;
        check(&world)?;
        reach::parse(table).and_then(|tables| probes(&world, &tables)).map_err(|error| error.to_string())
    }

    /// A scenario of the cluster above.
    pub(crate) fn scenario(table: &str) -> Scenario {
        let world = manifest::parse(CLUSTER).expect("the cluster above can be read");
        let probes = asked(table).expect("the test's table can be read");
        Scenario { name: "case".to_string(), directory: PathBuf::new(), world, probes }
    }

    #[test]
    fn cell_is_one_question_a_family_that_both_ends_have() {
        let families = |table: &str| asked(table).unwrap().iter().map(Probe::family).collect::<Vec<_>>();
        assert_eq!(families("80/TCP shop/web\nnode-b .\n"), Family::BOTH);
        assert_eq!(families("80/TCP shop/four\nshop/web X\n"), [Family::V4]);
        assert_eq!(families("80/TCP shop/web\n64:ff9b::7 .\n"), [Family::V6]);
        assert_eq!(families("80/TCP shop/web\noutside -\n"), []);
    }

    #[test]
    fn table_that_asks_what_cannot_be_answered_is_rejected() {
        for (table, problem) in [
            ("80/TCP shop/db\nnode-a .\n", "line 1: there is no pod shop/db"),
            ("443/TCP shop/web\nnode-a .\n", "line 1: nothing of shop/web listens on 443/TCP"),
            ("80/UDP shop/web\nnode-a .\n", "line 1: nothing of shop/web listens on 80/UDP"),
            ("8080/TCP outside\nshop/web .\n", "line 1: nothing of outside listens on 8080/TCP"),
            ("80/TCP shop/web\nshop/db -\n", "line 2: there is no pod shop/db"),
            (
                "80/TCP svc:shop/web\nnode-a .\n",
                "line 1: svc:shop/web: a scenario of manifests has no Services",
            ),
            (
                "80/TCP shop/four\n2001:db8::1 X\n",
                "line 2: 2001:db8::1 and shop/four share no family: write -",
            ),
            ("80/TCP shop/web\nshop/job .\n", "line 2: shop/job and shop/web share no family: write -"),
            (
                "80/TCP shop/four\nshop/web 4\n",
                "line 2: shop/web and shop/four share one family: write . or X",
            ),
        ] {
            assert_eq!(asked(table).unwrap_err(), problem);
        }
    }

    #[test]
    fn cluster_that_the_topology_cannot_carry_is_rejected() {
        for (right, wrong, problem) in [
            ("node-b", "node-c", "pod four is on neither node-a nor node-b"),
            (
                "10.244.1.10",
                "10.244.2.10",
                "pod web has the address 10.244.2.10, which is not of node-a's range",
            ),
            ("Succeeded", "Running", "pod job has the address 10.244.2.20, and so has another"),
            ("{name: shop}", "{name: other}", "web is in no namespace of the cluster"),
        ] {
            let world = manifest::parse(&CLUSTER.replace(right, wrong)).unwrap();
            assert_eq!(check(&world).unwrap_err(), problem);
        }
    }
}
