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

const TLS: &str = "
## Over TLS

With `--metrics-addr`, `--metrics-cert` and `--metrics-key` (chart: `metrics.tls`) the agent serves `/metrics` over TLS 1.2 and 1.3 at an
address of its own, and no longer at `--http-addr`. The pages of health stay there in plain HTTP, for the kubelet's probes.

- The files of the certificate and its key are read again within a second when they change, at the next connection. If what they then
  hold cannot be used, the earlier certificate stays, and the log says why. While there is none, the readiness check `metrics` fails.
- With `--metrics-auth=on`, the default, a client needs the header `Authorization: Bearer TOKEN`. The agent asks the API server whose
  token it is (TokenReview), and whether that user may `get` the URL `/metrics` (SubjectAccessReview): the same rule that Kubernetes' own
  components and kube-rbac-proxy apply. Without a token or with an unknown one the answer is 401, without the right 403.
- An answer of the API server counts for 60 seconds if it allows the client, otherwise for 30. At most 256 are kept, and at most four
  tokens are reviewed at once. When the API server does not answer within five seconds, the client is answered 503: for up to a minute,
  an outage of the API server does not keep out a client that was allowed before.

```yaml
# Prometheus without its operator
scrape_configs:
  - job_name: bridgewarden
    scheme: https
    authorization: {credentials_file: /var/run/secrets/kubernetes.io/serviceaccount/token}
    tls_config: {ca_file: /etc/prometheus/bridgewarden/ca.crt, server_name: bridgewarden.kube-system.svc}
    kubernetes_sd_configs: [{role: pod, namespaces: {names: [kube-system]}}]
    relabel_configs:
      - {action: keep, source_labels: [__meta_kubernetes_pod_container_port_name], regex: metrics}
      - {action: keep, source_labels: [__meta_kubernetes_pod_label_app_kubernetes_io_name], regex: bridgewarden}
      - {source_labels: [__meta_kubernetes_pod_node_name], target_label: node}
```
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
    [HEAD, &own, PER_POLICY, TLS, KUBE_ROUTER, &kube_router].concat()
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
