//! `docs/metrics.md` says of every metric what the code says of it. `BLESS=1` rewrites it.

use bridgewarden::observe::{Build, Documentation, Metrics};
use std::fmt::Write;
use std::fs;
use std::path::Path;

const HEAD: &str = "\
# Metrics

`bridgewarden run` serves these at `/metrics` (`--http-addr`, by default `127.0.0.1:20245`), in the text format of
Prometheus. Durations are in seconds.

The number of series does not grow with the cluster: no label contains a pod name, policy names appear only with
`--metrics-per-policy=on`, and one label contains namespaces, at most 100 of them. With 10,000 pods and 1,000 policies a scrape
is 18 kB and takes 0.2 ms (`make bench`). The server keeps at most 256 connections open, each for at most ten seconds. 100
scrapes a second beside 10,000 idle connections, renewed every five seconds, did not measurably delay syncs, and every scrape was
answered.

`make bless` generates this page from the code.

| Metric | Kind | Labels | Meaning |
|---|---|---|---|
";

const PER_POLICY: &str = "
## What each policy has allowed

With `--metrics-per-policy=on` (chart: `metrics.perPolicy`), `bridgewarden_policy_allowed_packets_total` and
`bridgewarden_policy_allowed_bytes_total` count what each policy that is in force on the node has allowed.

- The values are the kernel's counters of the rules that jump to the policies' chains. After a scrape the agent reads them in
  the background with one `iptables-save` per family, at most every two seconds. So a scrape returns the values that were read
  after the previous one.
- The values do not decrease while a policy is in force. When the agent rewrites a pod's chain, the kernel's counters restart at
  zero; the agent keeps what it has read, and loses what was counted since.
- When a policy is no longer in force on the node, its series ends. It starts at zero if the policy returns or the agent
  restarts.
- Denied packets are not counted by policy, because a packet is denied when none of the policies that select the pod allows it:
  see `bridgewarden_denied_packets_total`.
";

const KUBE_ROUTER: &str = "
## Under kube-router's names

With `--metrics-compat=kube-router` (chart: `metrics.compat`) the agent also serves these, for dashboards made for kube-router.
They repeat metrics above. kube-router's other metrics have no equivalent.

| Metric | Kind | Labels | Meaning |
|---|---|---|---|
";

/// The page of a program that has them all.
fn page(metrics: &Metrics) -> String {
    let own = table(&metrics.documentation());
    let kube_router = table(&metrics.documentation_of_kube_router());
    [HEAD, &own, PER_POLICY, KUBE_ROUTER, &kube_router].concat()
}

fn table(documentation: &[Documentation]) -> String {
    let mut page = String::new();
    for Documentation { name, kind, labels, help } in documentation {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let help = help.replace('|', "\\|").replace('\n', " ");
        writeln!(page, "| `{name}` | {kind} | {} | {help} |", labels.join(", "))
            .expect("a String takes any text");
    }
    page
}

#[test]
fn page_of_metrics_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = page(&Metrics::with_names_of_kube_router(Build::default()));
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &page).expect("the page can be written");
    }
    let committed = fs::read_to_string(&path).expect("the page is there; make bless writes it");
    assert!(
        committed == page,
        "docs/metrics.md is not what the code says: make bless, and read what changed"
    );
}

#[test]
fn every_metric_and_its_labels_are_on_the_page() {
    let metrics = Metrics::with_names_of_kube_router(Build::default());
    let page = page(&metrics);
    let documentation = [metrics.documentation(), metrics.documentation_of_kube_router()].concat();
    for Documentation { name, labels, help, .. } in &documentation {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("{name} has no row"));
        assert!(labels.iter().all(|label| row.contains(&format!("`{label}`"))), "{row}");
        assert!(help.contains('|') || row.contains(help.as_str()), "{row}");
    }
}
