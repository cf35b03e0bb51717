//! Policies as teams write them: deny all, then allow by app, by namespace, by prefix.

use super::GeneratedNamespace;
use support::worlds::Random;

/// The percentage of policies for an app that select one with a pod on this node. Together with the two policies for
/// all pods, a third of the policies select pods of this node.
const LOCAL: usize = 26;

/// The policies of a namespace.
pub(super) fn policies(
    random: &mut Random,
    all: &[GeneratedNamespace],
    own: usize,
    count: usize,
) -> Vec<String> {
    let Some(namespace) = all.get(own) else { return Vec::new() };
    let policy = |index: usize| match index {
        0 => manifest(&namespace.name, "default-deny", "{}", "  policyTypes: [Ingress]\n"),
        1 => manifest(&namespace.name, "allow-dns", "{}", DNS),
        _ => for_app(random, all, namespace, index),
    };
    (0..count).map(policy).collect()
}

const DNS: &str = "  policyTypes: [Egress]\n  egress:\n  - to:\n    - namespaceSelector:\n        matchLabels:\n          \
                   kubernetes.io/metadata.name: kube-system\n      podSelector:\n        matchLabels:\n          \
                   app: kube-dns\n    ports:\n    - port: 53\n      protocol: UDP\n    - port: 53\n      \
                   protocol: TCP\n";

fn manifest(namespace: &str, name: &str, subject: &str, rest: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
         spec:\n  podSelector: {subject}\n{rest}"
    )
}

fn selector(app: &str) -> String {
    format!("{{matchLabels: {{app: {app}}}}}")
}

fn for_app(
    random: &mut Random,
    all: &[GeneratedNamespace],
    own: &GeneratedNamespace,
    index: usize,
) -> String {
    let local: Vec<&str> = own.local_apps().collect();
    let others: Vec<&str> = own
        .workloads
        .iter()
        .filter(|workload| !workload.local)
        .map(|workload| workload.app.as_str())
        .collect();
    let from = if random.chance(LOCAL) || others.is_empty() { &local } else { &others };
    let app = if from.is_empty() { "none" } else { random.pick(from) };
    let rest = if random.chance(75) {
        let ports =
            ports(random, &["port: 8080", "port: http", "port: metrics", "port: 8000\n      endPort: 8100"]);
        format!("  policyTypes: [Ingress]\n  ingress:\n  - from:\n{}{ports}", peers(random, all, own))
    } else {
        let ports = ports(random, &["port: 443", "port: 5432", "port: 6379", "port: http"]);
        format!("  policyTypes: [Egress]\n  egress:\n  - to:\n{}{ports}", peers(random, all, own))
    };
    manifest(&own.name, &format!("{app}-{index}"), &selector(app), &rest)
}

fn ports(random: &mut Random, ports: &[&str]) -> String {
    format!("    ports:\n    - {}\n", random.pick(ports))
}

/// One to three peers.
fn peers(random: &mut Random, all: &[GeneratedNamespace], own: &GeneratedNamespace) -> String {
    let mut text = String::new();
    for _ in 0..=random.below(3) {
        let other = random.pick(all);
        let app = |random: &mut Random, namespace: &GeneratedNamespace| match namespace.workloads.len() {
            0 => "none".to_owned(),
            count => namespace.workloads[random.below(count)].app.clone(),
        };
        text += &match random.below(100) {
            0..50 => format!("    - podSelector: {}\n", selector(&app(random, own))),
            50..55 => "    - podSelector: {}\n".to_owned(),
            55..80 => format!(
                "    - namespaceSelector: {{matchLabels: {{team: {}, env: {}}}}}\n      podSelector: {}\n",
                other.team,
                other.env,
                selector(&app(random, other))
            ),
            80..85 => format!("    - namespaceSelector: {{matchLabels: {{team: {}}}}}\n", other.team),
            85..92 => {
                "    - podSelector: {matchExpressions: [{key: tier, operator: In, values: [front, back]}]}\n"
                    .to_owned()
            }
            _ => format!(
                "    - ipBlock:\n        cidr: 192.168.{0}.0/24\n        except: [192.168.{0}.128/25]\n",
                random.below(256)
            ),
        };
    }
    text
}
