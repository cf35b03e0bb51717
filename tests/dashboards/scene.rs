//! The run whose numbers the dashboards show: the shop of `examples/shop` on two nodes, with load and with faults.
//!
//! node-a reads manifests and the results of CNI, node-b watches an API server. First all is well; then, one after the
//! other, something goes wrong that an alert is for, until Prometheus has seen it.

use crate::agent::{ObjectSource, ScrapedAgent};
use crate::api::Api;
use crate::objects::TestObjects;
use crate::prometheus::PrometheusServer;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::{Endpoint, Probe, Push, Stream};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use support::field::Field;
use support::topology::NODES;

/// How long anything waited for may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How many rounds of load there are while all is well, and how long each takes at least.
const ROUNDS: u32 = 100;
/// How many there are in the end, with more that is denied.
const LAST_ROUNDS: u32 = 160;
const ROUND: Duration = Duration::from_millis(100);
/// What is denied then: who dials, whom, and at which port.
const SPIKE: [(&str, &str, u16); 5] = [
    ("client", "10.244.1.20", 8080),
    ("frontend-1", "10.244.2.30", 6379),
    ("frontend-1", "fd00:10:244:2::30", 6379),
    ("frontend-2", "10.244.1.30", 5432),
    ("frontend-2", "fd00:10:244:1::30", 5432),
];
/// What is allowed all the time.
const ALLOWED: (&str, &str, u16) = ("client", FRONTEND, 8080);
/// Where the frontend answers.
const FRONTEND: &str = "10.244.1.10";

/// What is left of the run: a Prometheus that has seen it, and when what was, in seconds since the Unix epoch.
pub(crate) struct RecordedRun {
    pub(crate) prometheus: PrometheusServer,
    /// Before the first agent.
    pub(crate) before: f64,
    /// All is well until here.
    pub(crate) well: f64,
    /// All that went wrong is behind.
    pub(crate) end: f64,
    /// Then an agent ended, and Prometheus has seen that too.
    pub(crate) over: f64,
    /// What an agent served last.
    pub(crate) page: String,
    // Dropped last: the others live in it.
    _field: Field,
}

struct MonitoringRun {
    field: Field,
    objects: TestObjects,
    api: Api,
    agents: Vec<ScrapedAgent>,
    prometheus: PrometheusServer,
    results: PathBuf,
    broken: PathBuf,
    rounds: u32,
}

impl RecordedRun {
    /// Plays it all, in a directory of its own.
    pub(crate) fn play(directory: &Path) -> Result<RecordedRun, String> {
        let before = now();
        let mut run = MonitoringRun::begin(directory)?;
        run.until("both agents enforce", "count(bridgewarden_ready == 1) == 2")?;
        for _ in 0..ROUNDS {
            run.stir(&[("client", "10.244.1.20", 8080)])?;
        }
        let well = now();
        run.drift()?;
        run.connections_cut()?;
        run.kernel_that_rejects()?;
        run.unfit_node()?;
        run.what_cannot_be_read()?;
        run.outage()?;
        for _ in 0..LAST_ROUNDS {
            run.stir(&SPIKE)?;
        }
        let end = now();
        let page = run.agents[0].page("/metrics")?;
        drop(run.agents.pop());
        run.until("an agent is down", "count_over_time((up == 0)[10s:1s]) > 2")?;
        let over = now();
        run.agents.clear();
        let MonitoringRun { prometheus, field, .. } = run;
        Ok(RecordedRun { prometheus, before, well, end, over, page, _field: field })
    }
}

impl MonitoringRun {
    fn begin(directory: &Path) -> Result<MonitoringRun, String> {
        let _ = std::fs::remove_dir_all(directory);
        let results = directory.join("results");
        std::fs::create_dir_all(&results).map_err(|error| format!("{}: {error}", results.display()))?;
        let broken = directory.join("broken");
        let (world, objects) = TestObjects::shop(&directory.join("manifests"))?;
        let program = Path::new(env!("CARGO_BIN_EXE_bridgewarden"));
        let field = Field::build("see", &world, program, directory)?;
        let node = |name: &str| field.testbed.node_namespace(name).ok_or("a node is missing");
        let api = Api::start(node("node-b")?, directory, &objects.all())?;
        let addresses = NODES.map(|node| (node.name, node.address(bridgewarden::net::Family::V4)));
        let prometheus = PrometheusServer::start(field.testbed.router_namespace(), directory, &addresses)?;
        let manifests =
            ObjectSource::Manifests { directory: objects.directory().into(), results: results.clone() };
        let cluster = ObjectSource::Cluster { kubeconfig: api.kubeconfig.clone() };
        let agents = vec![
            ScrapedAgent::start(node("node-a")?, directory, "node-a", &manifests, Some(&broken))?,
            ScrapedAgent::start(node("node-b")?, directory, "node-b", &cluster, None)?,
        ];
        Ok(MonitoringRun { field, objects, api, agents, prometheus, results, broken, rounds: 0 })
    }

    /// Waits until Prometheus has seen something.
    fn until(&self, what: &str, expression: &str) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            // Until it listens, it does not answer.
            match self.prometheus.at(expression, now()) {
                Ok(lines) if !lines.is_empty() => return Ok(()),
                answer if begun.elapsed() > TIMEOUT => {
                    let logs: Vec<String> = self.agents.iter().map(ScrapedAgent::log).collect();
                    return Err(format!("{what}: not within {TIMEOUT:?}: {answer:?}\n{}", logs.join("\n")));
                }
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// A round of load: a pod is created and deleted, now and then a policy too, and denied connections are tried.
    fn stir(&mut self, denied: &[(&str, &str, u16)]) -> Result<(), String> {
        let begun = Instant::now();
        let guest = guest(self.rounds / 2 % 5);
        let policy = welcome();
        match self.rounds % 2 {
            0 => self.apply(&guest)?,
            _ => self.delete(&guest)?,
        }
        match self.rounds % 20 {
            5 => self.apply(&policy)?,
            15 => self.delete(&policy)?,
            _ => {}
        }
        let probe = |(from, to, port): &(&str, &str, u16)| {
            let to = to.parse().expect("an address");
            Probe::new(Endpoint::pod("shop-web", from), to, Protocol::Tcp, *port)
        };
        self.field.testbed.probe_all(&denied.iter().chain([&ALLOWED]).map(probe).collect::<Vec<_>>());
        self.rounds += 1;
        std::thread::sleep(ROUND.saturating_sub(begun.elapsed()));
        Ok(())
    }

    fn apply(&mut self, object: &Value) -> Result<(), String> {
        self.api.apply(object);
        self.objects.apply(object)
    }

    fn delete(&mut self, object: &Value) -> Result<(), String> {
        self.api.delete(object);
        self.objects.delete(object)
    }

    /// Flushes the agent's chain again and again.
    fn drift(&mut self) -> Result<(), String> {
        for times in 1..=4 {
            self.field.run("node-a", &["iptables-nft", "-F", "KUBE-NWPLCY-INGRESS"])?;
            self.until("drift is repaired", &format!("bridgewarden_drift_repairs_total >= {times}"))?;
        }
        Ok(())
    }

    /// A connection lives on whose leave is taken away.
    fn connections_cut(&mut self) -> Result<(), String> {
        let stream = self.connection()?;
        let frontend = self.objects.find("NetworkPolicy", "frontend")?;
        let mut closed = frontend.clone();
        closed["spec"]["ingress"] = json!([]);
        self.apply(&closed)?;
        self.until("a connection is cut", "bridgewarden_connections_cut_total > 0")?;
        drop(stream);
        self.apply(&frontend)
    }

    fn connection(&self) -> Result<Stream, String> {
        let to = FRONTEND.parse().map_err(|error| format!("{FRONTEND}: {error}"))?;
        let along = Probe::new(Endpoint::pod("shop-web", "client"), to, Protocol::Tcp, 8080);
        let stream = self.field.testbed.stream(&along, Push::Client).map_err(|error| error.to_string())?;
        if stream.moves_within(TIMEOUT) { Ok(stream) } else { Err("a connection does not move".to_owned()) }
    }

    /// iptables fails for a while, and changes wait.
    fn kernel_that_rejects(&mut self) -> Result<(), String> {
        std::fs::write(&self.broken, "").map_err(|error| error.to_string())?;
        self.apply(&welcome())?;
        self.until("syncs fail", "increase(bridgewarden_syncs_total{result!=\"ok\"}[10m]) > 3")?;
        self.until("a change waits", "bridgewarden_pending_changes > 0")?;
        std::fs::remove_file(&self.broken).map_err(|error| error.to_string())?;
        self.until("nothing waits", "bridgewarden_pending_changes{instance=\"node-a\"} == 0")?;
        self.delete(&welcome())
    }

    /// Turns off bridge-nf-call-iptables.
    fn unfit_node(&mut self) -> Result<(), String> {
        let switch = |value: &str| format!("net.bridge.bridge-nf-call-iptables={value}");
        self.field.run("node-b", &["sysctl", "-qw", &switch("0")])?;
        self.until("a node is unfit", "bridgewarden_preflight_ok == 0")?;
        self.until("an agent is not ready", "bridgewarden_ready == 0")?;
        self.field.run("node-b", &["sysctl", "-qw", &switch("1")])?;
        self.until("both agents enforce", "count(bridgewarden_ready == 1) == 2")
    }

    /// A policy with an invalid part, a broken manifest and CNI result, and a sandbox of no known pod.
    fn what_cannot_be_read(&mut self) -> Result<(), String> {
        let wrong = |error: std::io::Error| error.to_string();
        let mut odd = welcome();
        odd["metadata"]["name"] = "odd".into();
        odd["spec"]["ingress"][0]["from"][0] = json!({"ipBlock": {"cidr": "10.0.0.0/99"}});
        self.apply(&odd)?;
        self.until("a part is invalid", "bridgewarden_refused_parts > 0")?;
        let manifest = self.objects.directory().join("broken.yaml");
        std::fs::write(&manifest, "kind: [").map_err(wrong)?;
        self.until("a manifest cannot be read", "bridgewarden_manifest_errors > 0")?;
        std::fs::remove_file(&manifest).map_err(wrong)?;
        std::fs::write(self.results.join("cbr0-c0ffee-eth0"), "{").map_err(wrong)?;
        self.until("a CNI result cannot be read", "bridgewarden_cni_result_errors > 0")?;
        std::fs::write(self.results.join("cbr0-c0ffee-eth0"), sandbox().to_string()).map_err(wrong)?;
        self.until("a sandbox is unknown", "bridgewarden_sandboxes{state=\"unknown\"} > 0")?;
        self.delete(&odd)
    }

    /// The API server does not answer for a while, and has lost its watch history when it does again.
    fn outage(&mut self) -> Result<(), String> {
        self.api.set_down(true);
        let errors = "sum by (reason) (bridgewarden_watch_errors_total{reason=\"unreachable\"}) > 5";
        self.until("watches fail", errors)?;
        self.api.set_down(false);
        self.until("resources are listed again", "bridgewarden_watch_lists_total{resource=\"pods\"} > 1")
    }
}

/// Seconds since the Unix epoch.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A pod of node-b that policies select.
fn guest(number: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "shop-web", "name": format!("guest-{number}"), "labels": {"app": "frontend", "tier": "web"}},
        "spec": {"nodeName": "node-b", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": format!("10.244.2.{}", 200 + number)}, {"ip": format!("fd00:10:244:2::{}", 200 + number)}]},
    })
}

/// One more policy on the frontend.
fn welcome() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": "shop-web", "name": "welcome"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "frontend"}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"ipBlock": {"cidr": "198.51.100.0/24"}}], "ports": [{"port": 8080}]}],
        },
    })
}

/// The result of CNI for a pod that the API does not know (libcni's cachedInfo).
fn sandbox() -> Value {
    json!({
        "kind": "cniCacheV1", "containerId": "c0ffee", "config": "e30=", "ifName": "eth0", "networkName": "cbr0",
        "cniArgs": [["K8S_POD_NAMESPACE", "shop-web"], ["K8S_POD_NAME", "ghost"], ["K8S_POD_UID", "1"]],
        "result": {
            "cniVersion": "1.0.0", "interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/x"}],
            "ips": [{"interface": 1, "address": "10.244.1.99/24"}],
        },
    })
}
