//! `docs/metrics.md` says of every metric what the code says of it. `BLESS=1` rewrites it.

use bridgewarden::observe::{Documentation, Metrics};
use std::fmt::Write;
use std::fs;
use std::path::Path;

const HEAD: &str = "\
# Metrics

`bridgewarden run` serves these at `/metrics` (`--http-addr`, by default `127.0.0.1:20245`), in the text format of
Prometheus. Durations are in seconds. No label ever holds the name of a pod, and without `--metrics-per-policy=on` none that of
a policy, and one alone that of a namespace, of which there are a hundred at most, so that the number of series does not grow
with the cluster: with 10,000 pods and 1,000 policies, a scrape is 18 kB and takes 0.2 ms (`make bench`). A hundred scrapes a
second, and 10,000 connections that say nothing and are made anew every five seconds, delay no sync by more than what other work
on the machine does, and each scrape is answered: 256 connections are open at most, each for ten seconds at most.

This page is written by `make bless` from what the program says of itself.

| Metric | Kind | Labels | Meaning |
|---|---|---|---|
";

const PER_POLICY: &str = "
## What each policy has allowed

With `--metrics-per-policy=on` (`metrics.perPolicy` of the chart) `bridgewarden_policy_allowed_packets_total` and
`bridgewarden_policy_allowed_bytes_total` tell it of the policies that are in force on the node. The numbers are the kernel's
own, from the rules that ask the policies. They are read in the background after a scrape, at most every two seconds, by
running `iptables-save` once for each family, so they are as old as the scrape before. They never fall while a policy is in
force: the kernel counts from nought in a pod's chain that is written anew, as when other policies select the pod, and what was
read before is kept; what it counted between the last reading and the writing is lost. A policy that is no longer in force on
the node loses its series, and begins at nought if it comes back, as it does when the daemon starts anew. What policies refuse
is told by `bridgewarden_denied_packets_total`, not by policy: it is all that select a pod which refuse together.
";

const KUBE_ROUTER: &str = "
## Under kube-router's names

With `--metrics-compat=kube-router` (`metrics.compat` of the chart) these are served too, for dashboards that were made for
kube-router. They say nothing that is not said above, and kube-router's other metrics have no like here.

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
    let page = page(&Metrics::with_names_of_kube_router("", None));
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
    let metrics = Metrics::with_names_of_kube_router("", None);
    let page = page(&metrics);
    let documentation = [metrics.documentation(), metrics.documentation_of_kube_router()].concat();
    for Documentation { name, labels, help, .. } in &documentation {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("{name} has no row"));
        assert!(labels.iter().all(|label| row.contains(&format!("`{label}`"))), "{row}");
        assert!(help.contains('|') || row.contains(help.as_str()), "{row}");
    }
}
