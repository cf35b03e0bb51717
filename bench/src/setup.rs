//! The setup: a node with a few running pods for each controller, and a control plane that has the objects of all
//! others.

use crate::controller::{ControllerKind, ControllerProcess, ControllerUnderTest};
use crate::metrics;
use anyhow::{Context, Result, ensure};
use bridgewarden::model::PodKey;
use bridgewarden::testbed::{Layout, Netns, PodPlacement, Testbed};
use bridgewarden_bench::cluster::{GeneratedCluster, LOCAL_ADDRESS, LOCAL_NODE};
use serde_json::{Value, json};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::control_plane::{ControlPlane, Objects, PORT, Who};

const ID: &str = "bench";
/// The nodes of Bridgewarden and of the other controller.
const OWN: &str = "own";
const PEER: &str = "peer";
const CONTROL_PLANE: &str = "control-plane";
/// The namespace of the running pods.
pub(crate) const SCENE: &str = "scene";
/// An address that no policy allows.
pub(crate) const UNKNOWN_SENDER: Ipv4Addr = Ipv4Addr::new(10, 251, 0, 1);
/// The port on which the first and the last pod listen.
pub(crate) const CONNECT_PORT: u16 = 9_000;
/// The running pods.
pub(crate) const GUARDED: BenchPod = BenchPod { namespace: SCENE, app: "guarded", host: 10 };
pub(crate) const OPEN: BenchPod = BenchPod { namespace: SCENE, app: "open", host: 11 };
pub(crate) const STARTING: BenchPod = BenchPod { namespace: SCENE, app: "starting", host: 12 };
/// The first and the last pod in the order of namespaces, which is the order of the agent's rules.
pub(crate) const FIRST: BenchPod = BenchPod { namespace: "a-first", app: "server", host: 13 };
pub(crate) const LAST: BenchPod = BenchPod { namespace: "z-last", app: "server", host: 14 };
const BENCH_PODS: [BenchPod; 5] = [GUARDED, OPEN, STARTING, FIRST, LAST];

/// A pod that runs on each node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BenchPod {
    pub(crate) namespace: &'static str,
    /// The value of its label `app`.
    pub(crate) app: &'static str,
    /// The last number of its address.
    pub(crate) host: u8,
}

/// The programs and directories of the setup.
pub(crate) struct BenchSettings {
    /// Our program.
    pub(crate) bridgewarden: PathBuf,
    /// The packet filter to which it writes, as the value of its flag.
    pub(crate) backend: String,
    /// The directory of `etcd` and `kube-apiserver`.
    pub(crate) programs: PathBuf,
    /// Another controller's command.
    pub(crate) peer: Option<String>,
    /// The directory for logs and the data of the control plane.
    pub(crate) directory: PathBuf,
}

/// The setup. Fields are dropped in this order.
pub(crate) struct BenchSetup {
    pub(crate) own: ControllerUnderTest,
    pub(crate) peer: Option<ControllerUnderTest>,
    pub(crate) control_plane: ControlPlane,
    pub(crate) testbed: Testbed,
    pub(crate) cluster: GeneratedCluster,
}

impl BenchSetup {
    /// Builds everything and loads the cluster, without starting a controller.
    pub(crate) fn build(settings: &BenchSettings, cluster: GeneratedCluster) -> Result<BenchSetup> {
        let directory = &settings.directory;
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Testbed::sweep(ID)?;
        let blocks = [(OWN, Ipv4Addr::new(10, 32, 0, 0)), (PEER, Ipv4Addr::new(10, 33, 0, 0))];
        let blocks = &blocks[..if settings.peer.is_some() { 2 } else { 1 }];
        let nodes = blocks.iter().map(|(node, _)| *node).chain([CONTROL_PLANE]).map(str::to_owned).collect();
        let places = blocks.iter().flat_map(|(node, block)| BENCH_PODS.map(|real| real.place(node, *block)));
        let testbed = Testbed::build(ID, &Layout::new(nodes, places.collect()))?;
        let namespace = testbed.node_namespace(CONTROL_PLANE).context("there is no control plane")?;
        let address = testbed.node_addresses(CONTROL_PLANE).into_iter().find(IpAddr::is_ipv4);
        let address = address.context("the control plane has no address")?;
        let kept = directory.join(CONTROL_PLANE);
        let control_plane = ControlPlane::start(namespace, address, &settings.programs, &kept)?;
        let subject =
            |(node, block): &(&str, Ipv4Addr)| subject(node, *block, settings, &testbed, &control_plane);
        let mut subjects = blocks.iter().map(subject).collect::<Result<Vec<_>>>()?.into_iter();
        let own = subjects.next().context("there is no node")?;
        let setup = BenchSetup { own, peer: subjects.next(), control_plane, testbed, cluster };
        setup.load(blocks)?;
        Ok(setup)
    }

    fn load(&self, blocks: &[(&str, Ipv4Addr)]) -> Result<()> {
        let objects = self.objects()?;
        let is_there = |object: &Value| object["metadata"]["name"] == "kube-system";
        let (there, rest): (Vec<Value>, Vec<Value>) = self.cluster.objects()?.into_iter().partition(is_there);
        objects.patch(&there.into_iter().map(|object| (object.clone(), object)).collect::<Vec<_>>())?;
        objects.create(&[node()])?;
        objects.create(&scene(blocks))?;
        let begun = Instant::now();
        objects.create(&rest)?;
        crate::say(&format!("loaded {} objects in {:.0} s", rest.len(), begun.elapsed().as_secs_f64()));
        Ok(())
    }

    /// Writes objects as an administrator.
    pub(crate) fn objects(&self) -> Result<&Objects> {
        self.control_plane.objects()
    }

    /// The namespace of one of a controller's own pods.
    pub(crate) fn pod(&self, subject: &ControllerUnderTest, real: BenchPod) -> Result<&Netns> {
        let node = match subject.kind {
            ControllerKind::Own => OWN,
            ControllerKind::Peer => PEER,
        };
        let key = real.key(node);
        self.testbed.pod_namespace(&key).with_context(|| format!("{key} is not there"))
    }

    /// The namespace from which datagrams from outside the node are sent.
    pub(crate) fn elsewhere(&self) -> &Netns {
        self.testbed.router_namespace()
    }

    /// Waits until the agent has read everything that was written.
    pub(crate) fn settle(&self, controller: &ControllerProcess) -> Result<()> {
        let mut before = controller.metrics()?;
        let mut since = Instant::now();
        while since.elapsed() < Duration::from_millis(300) {
            std::thread::sleep(Duration::from_millis(20));
            let now = controller.metrics()?;
            let changes = |kind| now.growth(&before, &format!("changes_total{{kind=\"{kind}\"}}"));
            if changes("pod") + changes("policy") + now.get("pending_changes") > 0.0 {
                (before, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// Removes everything.
    pub(crate) fn remove(self) -> Result<()> {
        let BenchSetup { control_plane, testbed, .. } = self;
        drop(control_plane);
        Ok(testbed.remove()?)
    }
}

fn subject(
    node: &str,
    block: Ipv4Addr,
    settings: &BenchSettings,
    testbed: &Testbed,
    control_plane: &ControlPlane,
) -> Result<ControllerUnderTest> {
    let namespace = testbed.node_namespace(node).context("there is no such node")?.clone();
    let results = settings.directory.join(format!("{node}-results"));
    fs::create_dir_all(&results).with_context(|| format!("cannot make {}", results.display()))?;
    let given = testbed.cni_results_dir(node);
    let starting = json!(["K8S_POD_NAME", STARTING.key(node).name.to_string()]);
    let mut starting_result = None;
    for file in fs::read_dir(&given).with_context(|| format!("cannot list {}", given.display()))? {
        let file = file?;
        let text = fs::read_to_string(file.path())?;
        let result: Value = serde_json::from_str(&text).context("a CNI result is JSON")?;
        // The file of the pod that is started later is written at its start.
        match result["cniArgs"].as_array().is_some_and(|arguments| arguments.contains(&starting)) {
            true => starting_result = Some(result),
            false => fs::write(results.join(file.file_name()), text).context("cannot write a CNI result")?,
        }
    }
    let starting_result = starting_result.context("the pod that is yet to start has no CNI result")?;
    let log = settings.directory.join(format!("{node}.log"));
    Ok(match settings.peer.as_ref().filter(|_| node == PEER) {
        None => {
            let kubeconfig = control_plane.kubeconfig(Who::Daemon, PORT)?.display().to_string();
            let results_flag = results.display().to_string();
            let address = metrics::ADDRESS.to_string();
            let flags = [
                ["--kubeconfig", &kubeconfig],
                ["--node-name", LOCAL_NODE],
                ["--backend", &settings.backend],
                ["--http-addr", &address],
                ["--cni-results-dir", &results_flag],
                ["--flows-socket", ""],
                ["--status-socket", ""],
                // A pod that starts is probed at an address that no pod had before, and that must be allowed until
                // then.
                ["--unknown-pods", "allow"],
                ["--log-format", "text"],
                // So rarely that no audit coincides with a measurement.
                ["--audit-interval-seconds", "86400"],
            ];
            let arguments =
                ["run"].into_iter().chain(flags.into_iter().flatten()).map(str::to_owned).collect();
            let program = settings.bridgewarden.clone();
            let name = "bridgewarden".to_owned();
            let kind = ControllerKind::Own;
            ControllerUnderTest {
                kind,
                name,
                namespace,
                program,
                arguments,
                log,
                results,
                starting_result,
                block,
            }
        }
        Some(command) => {
            let kubeconfig = control_plane.kubeconfig(Who::Admin, PORT)?.display().to_string();
            let command = command.replace("{kubeconfig}", &kubeconfig).replace("{node}", LOCAL_NODE);
            let program =
                Path::new(command.split_whitespace().next().context("the peer's command is empty")?);
            let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let arguments = vec!["-c".to_owned(), format!("exec {command}")];
            ControllerUnderTest {
                kind: ControllerKind::Peer,
                name,
                namespace,
                program: "sh".into(),
                arguments,
                log,
                results,
                starting_result,
                block,
            }
        }
    })
}

impl BenchPod {
    fn key(self, node: &str) -> PodKey {
        PodKey::new(self.namespace, &format!("{}-{node}", self.app))
    }

    fn address(self, block: Ipv4Addr) -> Ipv4Addr {
        let [a, b, c, _] = block.octets();
        Ipv4Addr::new(a, b, c, self.host)
    }

    fn place(self, node: &str, block: Ipv4Addr) -> PodPlacement {
        PodPlacement {
            pod: self.key(node),
            node: node.to_owned(),
            addresses: vec![self.address(block).into()],
            listens: Vec::new(),
            host_network: false,
        }
    }
}

/// The Node object of all controllers.
fn node() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": LOCAL_NODE}, "spec": {"podCIDR": "10.64.0.0/24", "podCIDRs": ["10.64.0.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": LOCAL_ADDRESS}]},
    })
}

/// The object of a running pod.
pub(crate) fn scene_pod(namespace: &str, name: &str, app: &str, address: Option<Ipv4Addr>) -> Value {
    let status = match address {
        Some(address) => running(address),
        None => json!({"phase": "Pending"}),
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": app}},
        "spec": {"nodeName": LOCAL_NODE, "containers": [{"name": "main"}]},
        "status": status,
    })
}

/// The status of a running pod of the node.
pub(crate) fn running(address: Ipv4Addr) -> Value {
    json!({"phase": "Running", "hostIP": LOCAL_ADDRESS, "hostIPs": [{"ip": LOCAL_ADDRESS}],
           "podIP": address, "podIPs": [{"ip": address}]})
}

/// A policy of the scene.
pub(crate) fn scene_policy(namespace: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
           "metadata": {"namespace": namespace, "name": name}, "spec": spec})
}

/// The permanent objects: pods that run, policies that isolate most of them, and one for the pod that is started later.
fn scene(blocks: &[(&str, Ipv4Addr)]) -> Vec<Value> {
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let clients = json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"bench": "client"}}});
    let guard = |real: BenchPod, name: &str, ingress: Value| {
        let subject = json!({"matchLabels": {"app": real.app}});
        let spec = json!({"podSelector": subject, "policyTypes": ["Ingress"], "ingress": ingress});
        scene_policy(real.namespace, name, spec)
    };
    let outside =
        json!([{"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"port": CONNECT_PORT}]}]);
    let mut objects = vec![
        namespace(SCENE),
        namespace(FIRST.namespace),
        namespace(LAST.namespace),
        guard(GUARDED, "clients", json!([{"from": [clients]}])),
        guard(STARTING, "nobody", json!([])),
        guard(FIRST, "outside", outside.clone()),
        guard(LAST, "outside", outside),
    ];
    for (node, block) in blocks {
        for real in BENCH_PODS.into_iter().filter(|real| *real != STARTING) {
            let PodKey { namespace, name } = real.key(node);
            objects.push(scene_pod(&namespace.to_string(), &name, real.app, Some(real.address(*block))));
        }
    }
    objects
}

/// Checks that a program exists.
pub(crate) fn require(program: &Path, cure: &str) -> Result<()> {
    ensure!(program.exists(), "{} is not there: {cure}", program.display());
    Ok(())
}
