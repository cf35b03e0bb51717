//! The demo on this host: it measures, its exit code has the result, and it leaves nothing behind.
//! Needs root, and fails without.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, mpsc};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// The latency that the demo reports needs a host with spare processor time: one demo at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A fresh id, so that several runs can happen at the same time.
fn id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests make network namespaces and need root: run them with sudo --preserve-env=PATH"
    );
    format!("d{:x}x{:x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn demo(id: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bridgewarden"));
    command.args(["demo", "--id", id]);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("a demo");
    (status.code(), text(&stdout), text(&stderr))
}

/// What the host's own network is: its links, and whether it forwards.
fn host() -> (String, String) {
    let links = Command::new("ip").args(["-o", "link"]).output().expect("iproute2");
    assert!(links.status.success());
    (text(&links.stdout), fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("a setting"))
}

/// The namespaces of a demo.
fn namespaces(id: &str) -> BTreeSet<String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten();
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&format!("bw-{id}-"))).collect()
}

/// The controllers that read from a directory of a demo.
fn controllers(directory: &Path) -> usize {
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let directory = directory.to_str().expect("text");
    lines.filter(|line| String::from_utf8_lossy(line).contains(directory)).count()
}

/// The directory of manifests that a demo prints.
fn directory(report: &str) -> PathBuf {
    let line = report.lines().find_map(|line| line.strip_prefix("manifests    ")).expect("a directory");
    PathBuf::from(line.split(' ').next().unwrap_or(line))
}

/// A demo that keeps running, and its report line by line.
struct Staying {
    child: Child,
    lines: mpsc::Receiver<String>,
    report: String,
}

impl Staying {
    fn start(id: &str) -> Staying {
        let mut child = demo(id).stdout(Stdio::piped()).spawn().expect("a demo");
        let (send, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        std::thread::spawn(move || {
            for line in output.lines() {
                send.send(line.expect("text")).ok();
            }
        });
        Staying { child, lines, report: String::new() }
    }

    /// Waits for a line that begins like this, and returns it.
    fn wait_for(&mut self, beginning: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(SOON);
            let line = line.unwrap_or_else(|_| panic!("no line begins with {beginning:?}:\n{}", self.report));
            self.report.push_str(&format!("{line}\n"));
            if line.starts_with(beginning) {
                return line;
            }
        }
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().expect("a process"));
        nix::sys::signal::kill(pid, signal).expect("a process to signal");
    }
}

impl Drop for Staying {
    /// Only a test that failed comes here with a demo that still runs.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(nix::sys::signal::Signal::SIGTERM);
        }
        self.child.wait().ok();
    }
}

fn assert_measured(backend: &str) {
    let _alone = alone();
    let (id, before) = (id(), host());
    let (code, report, complaints) = output(demo(&id).args(["--once", "--backend", backend]));
    assert_eq!(code, Some(0), "{report}{complaints}");
    let result: Vec<&str> = report.lines().filter(|line| line.starts_with("result")).collect();
    assert_eq!(result, ["result       648 connections measured, 648 as expected, 0 not"], "{report}");
    assert!(report.contains("policy edit → first refused connection: "), "{report}");
    assert!(report.contains(&format!("--backend {backend}")), "{report}");
    assert!(
        report.ends_with("removed      all controllers, namespaces and files of this demo\n"),
        "{report}"
    );
    assert!(report.lines().all(|line| line.chars().count() <= 120), "{report}");
    assert_eq!((namespaces(&id), complaints), (BTreeSet::new(), String::new()));
    assert_eq!(controllers(directory(&report).parent().expect("a parent")), 0);
    assert!(!directory(&report).exists());
    assert_eq!(host(), before);
}

#[test]
fn shop_is_enforced_as_its_policies_say_with_nf_tables() {
    assert_measured("iptables-nft");
}

#[test]
fn shop_is_enforced_as_its_policies_say_with_x_tables() {
    assert_measured("iptables-legacy");
}

#[test]
fn shop_is_enforced_as_its_policies_say_with_a_table_of_its_own() {
    assert_measured("nftables");
}

#[test]
fn manifest_that_cannot_be_read_is_reported_and_nothing_is_created() {
    let (id, before) = (id(), host());
    let root = std::env::temp_dir().join(format!("bridgewarden-test-{id}"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.yaml"), "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {nodename: a}\n")
        .unwrap();
    let (code, report, complaints) = output(demo(&id).arg("--once").arg(&root));
    fs::remove_dir_all(&root).unwrap();
    assert_eq!((code, report.as_str()), (Some(2), ""), "{complaints}");
    assert!(complaints.contains("a.yaml:4:8: spec.nodename: unknown field"), "{complaints}");
    assert_eq!((namespaces(&id), host()), (BTreeSet::new(), before));
}

#[test]
fn layout_that_no_network_can_have_is_reported_and_everything_removed() {
    let (id, before) = (id(), host());
    let root = std::env::temp_dir().join(format!("bridgewarden-test-{id}"));
    fs::create_dir(&root).unwrap();
    let pod = |name: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{nodeName: a}}\nstatus: {{podIP: 10.244.1.9}}\n"
        )
    };
    fs::write(root.join("a.yaml"), pod("one") + &pod("two")).unwrap();
    let (code, _, complaints) = output(demo(&id).arg("--once").arg(&root));
    fs::remove_dir_all(&root).unwrap();
    assert_eq!(code, Some(2), "{complaints}");
    assert!(complaints.contains("10.244.1.9 belongs to pod default/one already"), "{complaints}");
    assert_eq!((namespaces(&id), host()), (BTreeSet::new(), before));
}

#[test]
fn edit_is_enforced_and_measured_until_the_demo_is_stopped() {
    let _alone = alone();
    let (id, before) = (id(), host());
    let mut demo = Staying::start(&id);
    demo.wait_for("staying");
    let shop = directory(&demo.report);
    assert_eq!((namespaces(&id).len(), controllers(shop.parent().unwrap())), (16, 2));

    // The data guards itself no more.
    let policies = fs::read_to_string(shop.join("policies-data.yaml")).unwrap();
    fs::remove_file(shop.join("policies-data.yaml")).unwrap();
    let edit = demo.wait_for("edit");
    assert!(edit.contains("in force at 132 connections after "), "{edit}");
    let result = demo.wait_for("result");
    assert!(result.ends_with("648 connections measured, 648 as expected, 0 not"), "{result}");
    assert!(demo.report.contains("shop-data/redis-0:6379/TCP  refused → open  from "), "{}", demo.report);

    // What cannot be read changes nothing.
    fs::write(shop.join("broken.yaml"), "[").unwrap();
    demo.wait_for("edit");
    fs::write(shop.join("policies-data.yaml"), policies).unwrap();
    fs::remove_file(shop.join("broken.yaml")).unwrap();
    let result = demo.wait_for("result");
    assert!(result.ends_with("648 connections measured, 648 as expected, 0 not"), "{result}");

    // Pods come and go.
    let pods = fs::read_to_string(shop.join("pods-node-b.yaml")).unwrap();
    fs::write(shop.join(".pods"), pods.replace("name: frontend-2", "name: frontend-9")).unwrap();
    fs::rename(shop.join(".pods"), shop.join("pods-node-b.yaml")).unwrap();
    let result = demo.wait_for("result");
    assert!(result.ends_with("648 connections measured, 648 as expected, 0 not"), "{result}");
    assert!(namespaces(&id).contains(&format!("bw-{id}-pod-shop-web-frontend-9")));

    demo.signal(nix::sys::signal::Signal::SIGINT);
    demo.wait_for("removed");
    assert_eq!(demo.child.wait().unwrap().code(), Some(0));
    assert_eq!((namespaces(&id), controllers(shop.parent().unwrap())), (BTreeSet::new(), 0));
    assert!(!shop.exists());
    assert_eq!(host(), before);
}

#[test]
fn demo_that_was_killed_is_swept_by_the_next_of_its_id() {
    let _alone = alone();
    let id = id();
    let mut killed = Staying::start(&id);
    killed.wait_for("staying");
    let left = directory(&killed.report).parent().unwrap().to_owned();
    let (code, _, complaints) = output(demo(&id).arg("--once"));
    assert_eq!(code, Some(2), "two demos of one id");
    assert!(complaints.contains("take another name with --id"), "{complaints}");
    killed.signal(nix::sys::signal::Signal::SIGKILL);
    killed.child.wait().unwrap();
    assert_eq!((namespaces(&id).len(), controllers(&left)), (16, 2));

    let (code, report, complaints) = output(demo(&id).arg("--once"));
    assert_eq!(code, Some(0), "{report}{complaints}");
    assert!(report.starts_with("swept        16 namespaces"), "{report}");
    assert_eq!((namespaces(&id), controllers(&left)), (BTreeSet::new(), 0));
    assert!(!left.exists());
}
