//! A pod with a service mesh's sidecar: its redirects happen inside the pod, so policies apply to the pod's real ports.

use crate::setup::*;
use bridgewarden::model::PodKey;
use bridgewarden::net::Protocol;
use bridgewarden::testbed::{Endpoint, Netns, Probe, ProbeOutcome};
use nix::sys::socket::{Shutdown, shutdown};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

const OUTBOUND: u16 = 15001;
const INBOUND: u16 = 15006;
const HBONE: u16 = 15008;
/// Where the sidecar answers kubelet's probes in the application's place.
const PROBES: u16 = 15021;
/// The user that a sidecar runs as, whose packets are not redirected.
const SIDECAR: u32 = 1337;

/// The addresses that ambient mode gives kubelet's probes on the node.
const ZTUNNEL: [&str; 2] = ["169.254.7.127", "fd16:9254:7127:1337:ffff:ffff:ffff:ffff"];

/// What a sidecar's init container writes inside the pod, `$T` being the program of a family.
const REDIRECTS: &str = "
$T -t nat -N MESH_INBOUND; $T -t nat -N MESH_OUTPUT
$T -t nat -A PREROUTING -p tcp -j MESH_INBOUND
for port in 15008 15020 15021 15090; do $T -t nat -A MESH_INBOUND -p tcp --dport $port -j RETURN; done
$T -t nat -A MESH_INBOUND -p tcp -j REDIRECT --to-ports 15006
$T -t nat -A OUTPUT -p tcp -j MESH_OUTPUT
$T -t nat -A MESH_OUTPUT -m owner --uid-owner 1337 -j RETURN
$T -t nat -A MESH_OUTPUT -o lo -j RETURN
$T -t nat -A MESH_OUTPUT -p tcp -j REDIRECT --to-ports 15001
";

/// A port of a sidecar, which answers with its name like the testbed's own listeners.
struct Proxy {
    listener: Arc<TcpListener>,
    serving: Option<JoinHandle<()>>,
}

impl Proxy {
    fn listen(pod: &Netns, port: u16, name: &'static str) -> Proxy {
        let bind = || TcpListener::bind(("::", port));
        let listener = pod.enter(bind).expect("the namespace is entered").expect("a free port");
        let listener = Arc::new(listener);
        let own = listener.clone();
        let serving = std::thread::spawn(move || {
            while let Ok((mut stream, _)) = own.accept() {
                // A client that goes away is no error of the listener.
                let mut byte = [0];
                stream.read_exact(&mut byte).and_then(|()| writeln!(stream, "{name}")).ok();
            }
        });
        Proxy { listener, serving: Some(serving) }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        shutdown(self.listener.as_raw_fd(), Shutdown::Both).ok();
        self.serving.take().map(JoinHandle::join);
    }
}

struct Mesh {
    test: NodeTest,
    _proxies: Vec<Proxy>,
}

/// web and near with a sidecar each, web serving 8080 itself.
fn mesh(id: &str, backend: &'static str, policy: &str) -> Mesh {
    let cluster = CLUSTER
        .replace("[{containerPort: 80}, {containerPort: 80, protocol: UDP}]", "[{containerPort: 8080}]");
    let test = NodeTest::build_with(id, backend, &cluster, Some(policy));
    let mut proxies = Vec::new();
    for pod in ["web", "near"] {
        let namespace = test.field.testbed.pod_namespace(&PodKey::new("shop", pod)).expect("a pod").clone();
        for (port, name) in
            [(OUTBOUND, "outbound"), (INBOUND, "inbound"), (HBONE, "hbone"), (PROBES, "probes")]
        {
            proxies.push(Proxy::listen(&namespace, port, name));
        }
        let program = iptables_beside(backend);
        for program in [program, &program.replace("iptables", "ip6tables")] {
            let mut command = Command::new("sh");
            command.args(["-ec", &format!("T={program}\n{REDIRECTS}")]);
            let status = namespace.spawn(&mut command).expect("sh starts").wait().expect("sh ends");
            assert!(status.success(), "{program}");
        }
    }
    Mesh { test, _proxies: proxies }
}

impl Mesh {
    fn ask(&self, from: Endpoint, to: &str, port: u16) -> ProbeOutcome {
        let probe = Probe::new(from, to.parse().expect("an address"), Protocol::Tcp, port);
        self.test.field.testbed.probe(&probe)
    }

    /// The answer that near's sidecar receives when it opens a connection for the application.
    fn sidecar_asks(&self, to: &str, port: u16) -> String {
        let near = self.test.field.testbed.pod_namespace(&PodKey::new("shop", "near")).expect("a pod");
        let script =
            format!("exec 3<>/dev/tcp/{to}/{port} && printf '?' >&3 && read -r line <&3 && echo \"$line\"");
        let mut command = Command::new("bash");
        command
            .args(["-c", &script])
            .uid(SIDECAR)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let said = near.spawn(&mut command).expect("bash starts").wait_with_output().expect("bash ends");
        let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
        if said.status.success() { text(&said.stdout) } else { text(&said.stderr) }
    }
}

fn answered_by(who: &str) -> ProbeOutcome {
    ProbeOutcome::AnsweredBy(who.to_owned())
}

fn web_allows(port: u16) -> String {
    WEB_ALLOWS_CLIENTS.replace("{from: [", &format!("{{ports: [{{port: {port}}}], from: ["))
}

#[test]
fn policy_decides_by_the_port_that_was_dialled_and_the_sidecar_answers() {
    on_each_backend(|backend, short| {
        let mut mesh = mesh(&format!("mesh{short}"), backend, &web_allows(8080));
        mesh.test.start(&[]);
        mesh.test.wait_until_enforced();
        let far = || Endpoint::pod("shop", "far");
        for to in WEB {
            assert_eq!(
                mesh.ask(far(), to, 8080),
                answered_by("inbound"),
                "allowed, and redirected in the pod"
            );
            for port in [HBONE, INBOUND, OUTBOUND, PROBES, 9999] {
                assert_eq!(mesh.ask(far(), to, port), ProbeOutcome::Refused, "{port}");
            }
            for (port, who) in [(8080, "inbound"), (PROBES, "probes"), (HBONE, "hbone")] {
                let node = Endpoint::node("node-a");
                assert_eq!(mesh.ask(node, to, port), answered_by(who), "its node, as kubelet, on {port}");
            }
        }
        for (program, to, from) in [("iptables", WEB[0], ZTUNNEL[0]), ("ip6tables", WEB[1], ZTUNNEL[1])] {
            let program = iptables_beside(backend).replace("iptables", program);
            let snat =
                ["-t", "nat", "-A", "POSTROUTING", "-d", to, "-p", "tcp", "-j", "SNAT", "--to-source", from];
            mesh.test.on_node_a(&[&[program.as_str()], &snat[..]].concat());
            assert_eq!(mesh.ask(Endpoint::node("node-a"), to, 8080), answered_by("inbound"), "{from}");
        }
        mesh.test.write("policy.yaml", &web_allows(HBONE));
        for to in WEB {
            mesh.test.wait_for("refused", || mesh.ask(far(), to, 8080) == ProbeOutcome::Refused);
            assert_eq!(mesh.ask(far(), to, HBONE), answered_by("hbone"));
        }
    });
}

#[test]
fn egress_is_judged_by_the_address_that_the_sidecar_dials_for_its_application() {
    let denied = format!("{NEAR_DENIES_EGRESS}---{}", web_allows(8080));
    on_each_backend(|backend, short| {
        let mut mesh = mesh(&format!("meshout{short}"), backend, &denied);
        mesh.test.start(&[]);
        mesh.test.wait_until_enforced();
        for to in WEB {
            let near = Endpoint::pod("shop", "near");
            assert_eq!(
                mesh.ask(near, to, 8080),
                answered_by("outbound"),
                "the application never leaves the pod"
            );
            let said = mesh.sidecar_asks(to, 8080);
            assert!(said.contains("Connection refused"), "{said}");
        }
        let web = NEAR_DENIES_EGRESS.replace(
        "policyTypes: [Egress]",
        "policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 8080}]}]",
    );
        mesh.test.write("policy.yaml", &format!("{web}---{}", web_allows(8080)));
        for to in WEB {
            mesh.test.wait_for("let out", || mesh.sidecar_asks(to, 8080) == "inbound");
            assert!(mesh.sidecar_asks(to, HBONE).contains("Connection refused"), "another port");
        }
    });
}
