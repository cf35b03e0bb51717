//! What a node does over time, on the real kernel: connections cut, edits, restarts, strangers, cleanup, refusals to
//! be fooled. Needs root; everything happens in namespaces of its own.

use bridgewarden::model::PodKey;
use bridgewarden::net::Protocol;
use bridgewarden::playground::{Endpoint, Outcome, Patience, Probe, Push};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::field::{BACKENDS, DEADLINE, Field};
use support::manifest;

/// A directory of manifests that a test edits, and the cluster it describes.
struct Stage {
    field: Field,
    manifests: PathBuf,
    backend: &'static str,
}

const CLUSTER: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {kubernetes.io/metadata.name: shop}}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web, labels: {app: web}}
spec: {nodeName: node-a, containers: [{name: c, ports: [{containerPort: 80}, {containerPort: 80, protocol: UDP}]}]}
status: {podIPs: [{ip: 10.244.1.10}, {ip: 'fd00:10:244:1::10'}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: near, labels: {app: client}}
spec: {nodeName: node-a, containers: [{name: c, ports: [{containerPort: 80}]}]}
status: {podIPs: [{ip: 10.244.1.11}, {ip: 'fd00:10:244:1::11'}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: far, labels: {app: client}}
spec: {nodeName: node-b, containers: [{name: c, ports: [{containerPort: 80}]}]}
status: {podIPs: [{ip: 10.244.2.20}, {ip: 'fd00:10:244:2::20'}]}
";

const WEB_ALLOWS_CLIENTS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]
";

const WEB_ALLOWS_NOBODY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: web}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
";

const NEAR_REACHES_NOBODY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: near}
spec: {podSelector: {matchLabels: {app: client}}, policyTypes: [Egress]}
";

const WEB: [&str; 2] = ["10.244.1.10", "fd00:10:244:1::10"];

impl Stage {
    fn set(id: &str, backend: &'static str, policy: Option<&str>) -> Stage {
        assert!(nix::unistd::geteuid().is_root(), "network namespaces need root; run: sudo -E make test");
        let here = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("node-{id}"));
        let manifests = here.join("manifests");
        let _ = std::fs::remove_dir_all(&here);
        std::fs::create_dir_all(&manifests).expect("a directory of our own");
        let world = manifest::parse(CLUSTER).expect("the cluster reads");
        let program = Path::new(env!("CARGO_BIN_EXE_bridgewarden"));
        let field = Field::build(id, &world, program, &here).expect("the network stands");
        let stage = Stage { field, manifests, backend };
        stage.write("cluster.yaml", CLUSTER);
        if let Some(policy) = policy {
            stage.write("policy.yaml", policy);
        }
        stage
    }

    fn start(&mut self, more: &[&str]) {
        self.field.start(&self.manifests, self.backend, more).expect("the controllers start");
    }

    /// Writes a manifest in one instant, as a careful editor does.
    fn write(&self, name: &str, text: &str) {
        let draft = self.manifests.join(format!(".{name}.draft"));
        std::fs::write(&draft, text).expect("the manifest is written");
        std::fs::rename(&draft, self.manifests.join(name)).expect("the manifest is in place");
    }

    fn probe(&self, from: &str, to: &str, protocol: Protocol) -> Outcome {
        let to: IpAddr = to.parse().expect("an address");
        self.field.playground.probe(&Probe::new(Endpoint::pod("shop", from), to, protocol, 80))
    }

    fn waits_for(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            if start.elapsed() > DEADLINE {
                let pages = ["node-a", "node-b"].map(|node| self.get(node, "/readyz"));
                panic!("{what}: not within {DEADLINE:?}\n{pages:#?}\n{}", self.field.log());
            }
        }
    }

    fn enforces(&self) {
        self.waits_for("enforced", || self.get("node-a", "/readyz").starts_with("HTTP/1.1 200"));
        self.waits_for("enforced", || self.get("node-b", "/readyz").starts_with("HTTP/1.1 200"));
    }

    /// A page of a node's controller, head and body; empty when nobody answers.
    fn get(&self, node: &str, path: &str) -> String {
        use std::io::{Read, Write};
        let namespace = self.field.playground.node_namespace(node).expect("a node");
        let fetch = || {
            let mut stream = std::net::TcpStream::connect("127.0.0.1:20245")?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
            let mut page = String::new();
            stream.read_to_string(&mut page)?;
            std::io::Result::Ok(page)
        };
        namespace.enter(fetch).expect("the namespace is entered").unwrap_or_default()
    }

    fn metric(&self, node: &str, series: &str) -> f64 {
        let page = self.get(node, "/metrics");
        let line = page.lines().find(|line| line.starts_with(&format!("{series} ")));
        let value = line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("no {series} in {page}"))
    }

    fn on_node_a(&self, words: &[&str]) -> String {
        self.field.run("node-a", words).expect("the program runs")
    }
}

fn on_both(test: impl Fn(&'static str, &str)) {
    for backend in BACKENDS {
        test(backend, &backend["iptables-".len()..][..1]);
    }
}

#[test]
fn stream_of_either_side_is_cut_when_its_allowance_goes() {
    on_both(|backend, short| {
        let mut stage = Stage::set(&format!("cut{short}"), backend, Some(WEB_ALLOWS_CLIENTS));
        stage.start(&[]);
        stage.enforces();
        let mut streams = Vec::new();
        for from in ["near", "far"] {
            for to in WEB {
                for push in [Push::Client, Push::Server] {
                    let probe =
                        Probe::new(Endpoint::pod("shop", from), to.parse().unwrap(), Protocol::Tcp, 80);
                    let stream =
                        stage.field.playground.stream(&probe, push).expect("an allowed stream opens");
                    assert!(stream.moves_within(Duration::from_secs(2)), "{from} -> {to}, {push:?}");
                    streams.push((format!("{from} -> {to}, {push:?} pushes"), stream));
                }
            }
        }
        stage.write("policy.yaml", WEB_ALLOWS_NOBODY);
        for (what, stream) in &streams {
            assert!(
                stream.falls_silent(Duration::from_millis(300), DEADLINE),
                "{what} lives on after its allowance went\n{}",
                stage.field.log()
            );
        }
        assert!(stage.metric("node-a", "bridgewarden_connections_cut_total") >= 8.0);
        assert_eq!(stage.probe("near", WEB[0], Protocol::Tcp), Outcome::Refused);
    });
}

#[test]
fn stream_is_cut_when_its_client_may_no_longer_reach_anybody() {
    let mut stage = Stage::set("cute", BACKENDS[0], None);
    stage.start(&[]);
    stage.enforces();
    for push in [Push::Client, Push::Server] {
        let probe = Probe::new(Endpoint::pod("shop", "near"), WEB[0].parse().unwrap(), Protocol::Tcp, 80);
        let stream = stage.field.playground.stream(&probe, push).expect("an open stream");
        assert!(stream.moves_within(Duration::from_secs(2)));
        stage.write("policy.yaml", NEAR_REACHES_NOBODY);
        assert!(stream.falls_silent(Duration::from_millis(300), DEADLINE), "{push:?}\n{}", stage.field.log());
        std::fs::remove_file(stage.manifests.join("policy.yaml")).expect("the policy is there");
        stage.waits_for("open", || stage.probe("near", WEB[0], Protocol::Tcp) == Outcome::Open);
    }
}

#[test]
fn udp_flow_is_cut_when_its_allowance_goes() {
    let mut stage = Stage::set("cutu", BACKENDS[0], Some(WEB_ALLOWS_CLIENTS));
    stage.start(&[]);
    stage.enforces();
    let probe = Probe::new(Endpoint::pod("shop", "far"), WEB[0].parse().unwrap(), Protocol::Udp, 80);
    let stream = stage.field.playground.stream(&probe, Push::Client).expect("an allowed flow opens");
    assert!(stream.moves_within(Duration::from_secs(2)));
    stage.write("policy.yaml", WEB_ALLOWS_NOBODY);
    assert!(stream.falls_silent(Duration::from_millis(300), DEADLINE), "{}", stage.field.log());
}

#[test]
fn streams_that_stay_allowed_or_are_to_be_kept_are_not_cut() {
    let mut stage = Stage::set("keep", BACKENDS[0], Some(WEB_ALLOWS_CLIENTS));
    stage.start(&["--on-revoke", "keep"]);
    stage.enforces();
    let from =
        |name: &str| Probe::new(Endpoint::pod("shop", name), WEB[0].parse().unwrap(), Protocol::Tcp, 80);
    let kept = stage.field.playground.stream(&from("near"), Push::Server).expect("an allowed stream opens");
    stage.write("policy.yaml", WEB_ALLOWS_NOBODY);
    stage.waits_for("refused", || stage.probe("near", WEB[0], Protocol::Tcp) == Outcome::Refused);
    assert!(kept.moves_within(Duration::from_secs(2)));
    stage.field.stop(false);
    stage.write("policy.yaml", WEB_ALLOWS_CLIENTS);
    stage.start(&[]);
    stage.enforces();
    stage.waits_for("open", || stage.probe("far", WEB[0], Protocol::Tcp) == Outcome::Open);
    let other = stage.field.playground.stream(&from("far"), Push::Client).expect("an allowed stream opens");
    let only_far = WEB_ALLOWS_CLIENTS
        .replace("{podSelector: {matchLabels: {app: client}}}", "{ipBlock: {cidr: 10.244.2.0/24}}");
    stage.write("policy.yaml", &only_far);
    assert!(kept.falls_silent(Duration::from_millis(300), DEADLINE), "near's leave is gone");
    assert!(
        other.moves_within(Duration::from_secs(2)),
        "far's stream is still allowed\n{}",
        stage.field.log()
    );
}

#[test]
fn node_reaches_its_pods_and_its_own_connections_are_never_cut() {
    let mut stage = Stage::set("node", BACKENDS[0], None);
    stage.start(&[]);
    stage.enforces();
    let probe = Probe::new(Endpoint::node("node-a"), WEB[0].parse().unwrap(), Protocol::Tcp, 80);
    let stream = stage.field.playground.stream(&probe, Push::Client).expect("the node's stream opens");
    stage.write("policy.yaml", WEB_ALLOWS_NOBODY);
    stage.waits_for("refused", || stage.probe("near", WEB[0], Protocol::Tcp) == Outcome::Refused);
    assert_eq!(stage.field.playground.probe(&probe), Outcome::Open);
    assert!(stream.moves_within(Duration::from_secs(2)));
}

#[test]
fn forged_address_of_the_node_is_refused_like_any_other() {
    on_both(|backend, short| {
        let mut stage = Stage::set(&format!("forge{short}"), backend, Some(WEB_ALLOWS_NOBODY));
        let sends = |stage: &Stage, source: &str, count: usize| {
            let source: IpAddr = source.parse().expect("an address");
            for _ in 0..count {
                let to = SocketAddr::new(WEB[usize::from(source.is_ipv6())].parse().unwrap(), 80);
                let from = Endpoint::pod("shop", "near");
                stage.field.playground.forge(&from, source, to, b"forged").expect("the packet is sent");
            }
        };
        let seen = |stage: &Stage, source: &str| {
            let web = Endpoint::pod("shop", "web");
            stage.field.playground.received_from(&web, source.parse().expect("an address"))
        };
        let forged = ["10.244.1.1", "192.168.100.1", "fd00:10:244:1::1", "127.0.0.1"];
        for source in &forged[..3] {
            sends(&stage, source, 20);
            stage.waits_for("open before", || seen(&stage, source) == 20);
        }
        stage.start(&[]);
        stage.enforces();
        for source in forged {
            let before = seen(&stage, source);
            sends(&stage, source, 50);
            let probe = Probe::new(Endpoint::node("node-a"), WEB[0].parse().unwrap(), Protocol::Tcp, 80);
            assert_eq!(stage.field.playground.probe(&probe), Outcome::Open);
            assert_eq!(seen(&stage, source) - before, 0, "forged packets of {source} arrived");
        }
    });
}

/// What kube-proxy does for a Service of one pod, on the pod's node.
fn serve(stage: &Stage) {
    for (tables, service, pod) in
        [("iptables-nft", SERVICE[0], WEB[0]), ("ip6tables-nft", SERVICE[1], WEB[1])]
    {
        let to = if pod.contains(':') { format!("[{pod}]:80") } else { format!("{pod}:80") };
        let nat = [tables, "-t", "nat", "-A"];
        stage.on_node_a(
            &[&nat[..], &["PREROUTING", "-d", service, "-p", "tcp", "-j", "DNAT", "--to", &to]].concat(),
        );
        stage.on_node_a(&[&nat[..], &["POSTROUTING", "-s", pod, "-d", pod, "-j", "MASQUERADE"]].concat());
    }
}

const SERVICE: [&str; 2] = ["10.96.0.80", "fd00:96::80"];

#[test]
fn pod_reaches_itself_directly_and_through_a_service() {
    on_both(|backend, short| {
        let mut stage = Stage::set(&format!("hairpin{short}"), backend, Some(WEB_ALLOWS_NOBODY));
        serve(&stage);
        stage.start(&[]);
        stage.enforces();
        for to in SERVICE.into_iter().chain(WEB) {
            assert_eq!(stage.probe("web", to, Protocol::Tcp), Outcome::Open, "{to}");
        }
    });
}

#[test]
fn neighbour_that_dials_a_service_is_judged_by_the_pod_behind_it_and_told_at_once() {
    on_both(|backend, short| {
        let mut stage = Stage::set(&format!("service{short}"), backend, Some(WEB_ALLOWS_CLIENTS));
        let patience = Patience { tcp: Duration::from_secs(2), ..Patience::default() };
        stage.field.playground.set_patience(patience);
        serve(&stage);
        stage.start(&[]);
        stage.enforces();
        for service in SERVICE {
            assert_eq!(stage.probe("near", service, Protocol::Tcp), Outcome::Open, "{service}");
        }
        stage.write("policy.yaml", WEB_ALLOWS_NOBODY);
        for to in WEB {
            stage.waits_for("refused", || stage.probe("near", to, Protocol::Tcp) == Outcome::Refused);
        }
        for service in SERVICE {
            assert_eq!(stage.probe("near", service, Protocol::Tcp), Outcome::Refused, "{service}");
        }
    });
}

#[test]
fn neighbours_are_found_however_little_a_pod_may_reach() {
    let both = format!("{WEB_ALLOWS_NOBODY}---{NEAR_REACHES_NOBODY}");
    let mut stage = Stage::set("ndp", BACKENDS[0], Some(&both));
    stage.start(&[]);
    stage.enforces();
    let near = stage.field.playground.pod_namespace(&PodKey::new("shop", "near")).expect("a pod").clone();
    let ip = |words: &[&str]| {
        let mut command = std::process::Command::new("ip");
        command.args(words).stdout(std::process::Stdio::piped());
        let output = near.spawn(&mut command).expect("ip starts").wait_with_output().expect("ip ends");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    ip(&["neigh", "flush", "dev", "eth0"]);
    for to in WEB {
        assert_eq!(stage.probe("near", to, Protocol::Tcp), Outcome::Refused);
        let found = ip(&["neigh", "show", to]);
        assert!(found.contains("lladdr"), "{to}: {found:?}");
    }
}

#[test]
fn bridged_packet_passes_a_pod_chain_once() {
    on_both(|backend, short| {
        let mut stage = Stage::set(&format!("once{short}"), backend, Some(WEB_ALLOWS_NOBODY));
        stage.start(&[]);
        stage.enforces();
        for (from, expected) in [("near", 7), ("far", 11)] {
            for _ in 0..expected {
                assert_eq!(stage.probe(from, WEB[0], Protocol::Tcp), Outcome::Refused);
            }
        }
        let save = format!("{backend}-save");
        let saved = stage.on_node_a(&[&save, "-c", "-t", "filter"]);
        let line = saved.lines().find(|line| line.contains("ingress of pod shop/web"));
        let packets =
            line.and_then(|line| line.strip_prefix('[')?.split_once(':')).map(|(packets, _)| packets);
        assert_eq!(packets, Some("18"), "{saved}");
    });
}

#[test]
fn remote_pod_costs_one_element_and_no_process() {
    let mut stage = Stage::set("count", BACKENDS[0], Some(WEB_ALLOWS_CLIENTS));
    stage.start(&["--audit-interval-seconds", "3600"]);
    stage.enforces();
    let figures = |stage: &Stage| {
        [
            "bridgewarden_processes_started_total",
            "bridgewarden_kernel_writes_total{kind=\"rules\"}",
            "bridgewarden_kernel_writes_total{kind=\"set\"}",
            "bridgewarden_set_elements_written_total",
        ]
        .map(|series| stage.metric("node-a", series))
    };
    let pod = |labels: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, name: new, labels: {{{labels}}}}}\n\
             spec: {{nodeName: node-b}}\nstatus: {{podIPs: [{{ip: 10.244.2.30}}]}}\n"
        )
    };
    let changes = |stage: &Stage| stage.metric("node-a", "bridgewarden_changes_total{kind=\"pod\"}");
    let idle = |stage: &Stage, told: f64| {
        stage.waits_for("told", || changes(stage) == told);
        stage.waits_for("idle", || stage.metric("node-a", "bridgewarden_pending_changes") == 0.0);
    };
    let (before, told) = (figures(&stage), changes(&stage));
    stage.write("new.yaml", &pod("app: client"));
    idle(&stage, told + 1.0);
    let added = figures(&stage);
    assert_eq!(added, [before[0], before[1], before[2] + 1.0, before[3] + 1.0]);
    stage.write("new.yaml", &pod("app: client, color: red"));
    idle(&stage, told + 2.0);
    assert_eq!(figures(&stage), added, "a label that no policy asks for");
    std::fs::remove_file(stage.manifests.join("new.yaml")).expect("the manifest is there");
    idle(&stage, told + 3.0);
    let removed = figures(&stage);
    assert_eq!(removed, [added[0], added[1], added[2] + 1.0, added[3] + 1.0]);
}

#[test]
fn restart_after_a_kill_keeps_enforcing_and_writes_nothing() {
    on_both(|backend, short| {
        let mut stage = Stage::set(&format!("kill{short}"), backend, Some(WEB_ALLOWS_NOBODY));
        stage.start(&[]);
        stage.enforces();
        stage.field.stop(true);
        assert_eq!(stage.probe("near", WEB[0], Protocol::Tcp), Outcome::Refused);
        let save = format!("{backend}-save");
        let rules = |stage: &Stage| stage.on_node_a(&[&save, "-c"]);
        let count = |text: &str| text.lines().filter(|line| line.contains("ingress of pod shop/web")).count();
        let before = rules(&stage);
        assert_eq!(count(&before), 1);
        stage.start(&[]);
        stage.enforces();
        assert_eq!(stage.metric("node-a", "bridgewarden_kernel_writes_total{kind=\"rules\"}"), 0.0);
        assert_eq!(stage.metric("node-a", "bridgewarden_kernel_writes_total{kind=\"set\"}"), 0.0);
        assert_eq!(stage.probe("far", WEB[1], Protocol::Tcp), Outcome::Refused);
    });
}

/// What `render` prints is what `run` would write: a controller that finds it in the kernel has nothing to do.
#[test]
fn rendered_text_loads_and_is_what_a_controller_wants() {
    let mut stage = Stage::set("render", BACKENDS[0], Some(WEB_ALLOWS_CLIENTS));
    let program = env!("CARGO_BIN_EXE_bridgewarden");
    for node in ["node-a", "node-b"] {
        let render = format!("{program} render {} --node-name {node} | sh -e", stage.manifests.display());
        stage.field.run(node, &["sh", "-c", &render]).expect("the text loads");
    }
    assert_eq!(stage.probe("near", WEB[0], Protocol::Tcp), Outcome::Open);
    assert_eq!(stage.probe("web", WEB[0], Protocol::Tcp), Outcome::Open);
    stage.start(&[]);
    stage.enforces();
    for node in ["node-a", "node-b"] {
        assert_eq!(stage.metric(node, "bridgewarden_kernel_writes_total{kind=\"rules\"}"), 0.0);
        assert_eq!(stage.metric(node, "bridgewarden_kernel_writes_total{kind=\"set\"}"), 0.0);
    }
}

#[test]
fn cleanup_leaves_the_host_as_it_was_found() {
    on_both(|backend, short| {
        let mut stage = Stage::set(&format!("clean{short}"), backend, Some(WEB_ALLOWS_CLIENTS));
        let save = format!("{backend}-save");
        let save6 = save.replace("iptables", "ip6tables");
        let restore = format!("{backend}-restore");
        let theirs = "*filter\n:THEIRS - [0:0]\n-A FORWARD -j THEIRS\n-A THEIRS -s 198.51.100.0/24 -j DROP\nCOMMIT\n\
                      *nat\n-A POSTROUTING -s 198.51.100.0/24 -j MASQUERADE\nCOMMIT\n";
        let file = stage.manifests.parent().expect("a directory of our own").join("theirs");
        std::fs::write(&file, theirs).expect("their rules are written");
        let file = file.to_string_lossy().into_owned();
        stage.on_node_a(&["sh", "-c", &format!("{restore} < {file}")]);
        stage.on_node_a(&[&backend.replace("iptables", "ip6tables"), "-P", "FORWARD", "ACCEPT"]);
        stage.on_node_a(&["sh", "-c", "ipset create theirs hash:ip && ipset add theirs 198.51.100.7"]);
        let held = |stage: &Stage| {
            let text =
                [stage.on_node_a(&[&save]), stage.on_node_a(&[&save6]), stage.on_node_a(&["ipset", "save"])]
                    .concat();
            let bare = |line: &str| match line.split_once(" [") {
                Some((chain, _)) if line.starts_with(':') => chain.to_owned(),
                Some(_) | None => line.to_owned(),
            };
            text.lines().filter(|line| !line.starts_with('#')).map(bare).collect::<Vec<_>>()
        };
        let before = held(&stage);
        stage.start(&[]);
        stage.enforces();
        assert_ne!(held(&stage), before);
        stage.field.stop(false);
        stage.field.clean_up().expect("cleanup works");
        assert_eq!(held(&stage), before);
    });
}

#[test]
fn flushed_rules_and_foreign_edits_are_put_right_by_the_audit() {
    on_both(|backend, short| {
        let mut stage = Stage::set(&format!("drift{short}"), backend, Some(WEB_ALLOWS_NOBODY));
        stage.start(&["--audit-interval-seconds", "1"]);
        stage.enforces();
        stage.on_node_a(&[backend, "-A", "FORWARD", "-s", "198.51.100.9", "-j", "DROP"]);
        stage.on_node_a(&[backend, "-F", "KUBE-NWPLCY-INGRESS"]);
        stage.waits_for("put right", || stage.metric("node-a", "bridgewarden_drift_repairs_total") >= 1.0);
        stage.waits_for("refused", || stage.probe("near", WEB[0], Protocol::Tcp) == Outcome::Refused);
        let saved = stage.on_node_a(&[&format!("{backend}-save"), "-t", "filter"]);
        assert!(saved.contains("-A FORWARD -s 198.51.100.9/32 -j DROP"), "{saved}");
    });
}

#[test]
fn broken_manifest_keeps_the_last_good_state_and_says_where() {
    let mut stage = Stage::set("broken", BACKENDS[0], Some(WEB_ALLOWS_NOBODY));
    stage.start(&[]);
    stage.enforces();
    stage.write("policy.yaml", &WEB_ALLOWS_NOBODY.replace("podSelector", "podselector"));
    stage.waits_for("not ready", || stage.get("node-a", "/readyz").starts_with("HTTP/1.1 503"));
    let page = stage.get("node-a", "/readyz");
    assert!(page.contains("policy.yaml:5:") && page.contains("podSelector"), "{page}");
    assert!(stage.get("node-a", "/livez").starts_with("HTTP/1.1 200"));
    assert_eq!(stage.probe("near", WEB[0], Protocol::Tcp), Outcome::Refused);
    stage.write("policy.yaml", WEB_ALLOWS_CLIENTS);
    stage.enforces();
    stage.waits_for("open", || stage.probe("near", WEB[0], Protocol::Tcp) == Outcome::Open);
}

#[test]
fn node_without_bridge_filtering_is_not_ready_and_says_the_cure() {
    let mut stage = Stage::set("blind", BACKENDS[0], Some(WEB_ALLOWS_NOBODY));
    stage.start(&[]);
    stage.enforces();
    stage.on_node_a(&["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0"]);
    stage.waits_for("not ready", || stage.get("node-a", "/readyz").starts_with("HTTP/1.1 503"));
    let page = stage.get("node-a", "/readyz");
    assert!(page.contains("bridge-nf-call-iptables") && page.contains("sysctl -w"), "{page}");
    let check = "bridgewarden_preflight_ok{check=\"bridge-nf-call-iptables\"}";
    assert_eq!(stage.metric("node-a", check), 0.0);
    stage.on_node_a(&["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1"]);
    stage.enforces();
}

#[test]
fn deny_drop_is_silent_and_pod_to_node_can_be_governed() {
    let mut stage = Stage::set("choices", BACKENDS[0], Some(NEAR_REACHES_NOBODY));
    let listener = || std::net::TcpListener::bind("10.244.1.1:8080");
    let node = stage.field.playground.node_namespace("node-a").expect("a node").clone();
    let _listening = node.enter(listener).expect("the namespace is entered").expect("a port of the node");
    let near = stage.field.playground.pod_namespace(&PodKey::new("shop", "near")).expect("a pod").clone();
    let dial = move || {
        let to = "10.244.1.1:8080".parse().expect("an address");
        near.enter(|| std::net::TcpStream::connect_timeout(&to, Duration::from_secs(1)).map(drop))
            .expect("the namespace is entered")
    };
    stage.start(&["--deny", "drop"]);
    stage.enforces();
    assert!(dial().is_ok(), "a pod's traffic to its node is not governed");
    assert_eq!(stage.probe("near", WEB[0], Protocol::Tcp), Outcome::Timeout);
    for mode in ["policy", "drop"] {
        stage.field.stop(false);
        stage.start(&["--pod-to-node", mode]);
        stage.enforces();
        let refused = dial().expect_err("the node is out of reach");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{mode}");
    }
}

#[test]
fn allowed_packets_can_be_accepted_ahead_of_the_hosts_own_rules() {
    let mut stage = Stage::set("accept", BACKENDS[0], Some(WEB_ALLOWS_CLIENTS));
    stage.on_node_a(&["iptables-nft", "-P", "FORWARD", "DROP"]);
    stage.start(&[]);
    stage.enforces();
    assert_eq!(stage.probe("near", WEB[0], Protocol::Tcp), Outcome::Timeout, "left to the host, which drops");
    stage.field.stop(false);
    stage.start(&["--allowed", "accept"]);
    stage.enforces();
    assert_eq!(stage.probe("near", WEB[0], Protocol::Tcp), Outcome::Open);
    assert_eq!(
        stage.probe("web", "10.244.1.11", Protocol::Tcp),
        Outcome::Timeout,
        "not judged, so left to the host"
    );
}
