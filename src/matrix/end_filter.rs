//! Which ends of connections a user asks about.

use crate::explain::kind_in_full;
use crate::model::{Pod, PodKey, Snapshot, Workload};
use crate::net::IpNet;
use crate::reach::ReachName;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Ends as a user names them: `shop`, `shop/web`, `shop/deploy/web`, `shop/*`, `outside`, `192.0.2.1`, `10.0.0.0/8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReachFilter {
    /// Every end.
    Everything,
    /// All addresses that no pod has.
    Outside,
    /// The addresses outside that overlap a prefix.
    Addresses(IpNet),
    /// The pods that have an address.
    Holders { address: IpAddr, pods: BTreeSet<PodKey> },
    /// Workloads.
    Workloads {
        namespace: String,
        /// In lower case and in full: `deployment`.
        kind: Option<String>,
        name: Option<String>,
    },
}

impl FromStr for ReachFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<ReachFilter, String> {
        if let Ok(prefix) = text.parse::<IpNet>() {
            return Ok(ReachFilter::Addresses(prefix.trunc()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(ReachFilter::Addresses(IpNet::from(address.to_canonical())));
        }
        let any = |part: &str| (part != "*").then(|| part.to_owned());
        let parts: Vec<&str> = text.split('/').collect();
        let is_name = |part: &&str| {
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'*');
            !part.is_empty() && part.bytes().all(legal)
        };
        let workloads = |namespace: &str, kind: Option<String>, name: Option<String>| {
            ReachFilter::Workloads { namespace: namespace.to_owned(), kind, name }
        };
        match parts[..] {
            ["*"] => Ok(ReachFilter::Everything),
            ["outside"] => Ok(ReachFilter::Outside),
            _ if !parts.iter().all(is_name) => Err(wrong(text)),
            [namespace] => Ok(workloads(namespace, None, None)),
            [namespace, name] => Ok(workloads(namespace, None, any(name))),
            [namespace, word, name] => {
                Ok(workloads(namespace, any(word).map(|word| kind_in_full(&word)), any(name)))
            }
            _ => Err(wrong(text)),
        }
    }
}

fn wrong(text: &str) -> String {
    format!(
        "`{text}` names no end of a connection: write a namespace, NAMESPACE/NAME, NAMESPACE/KIND/NAME (such as \
         shop/deploy/web), `outside`, an address or a block"
    )
}

impl fmt::Display for ReachFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReachFilter::Everything => f.write_str("*"),
            ReachFilter::Outside => f.write_str("outside"),
            ReachFilter::Addresses(prefix) => write!(f, "{prefix}"),
            ReachFilter::Holders { address, .. } => write!(f, "{address}"),
            ReachFilter::Workloads { namespace, kind, name } => {
                f.write_str(namespace)?;
                if let Some(kind) = kind {
                    write!(f, "/{kind}")?;
                }
                if kind.is_some() || name.is_some() {
                    write!(f, "/{}", name.as_deref().unwrap_or("*"))?;
                }
                Ok(())
            }
        }
    }
}

impl ReachFilter {
    /// What it means in a snapshot: an address that pods have means these pods.
    ///
    /// # Errors
    /// It is the address of a Service, which is no end of a connection.
    pub(crate) fn within(&self, snapshot: &Snapshot) -> Result<ReachFilter, String> {
        let ReachFilter::Addresses(asked) = self else { return Ok(self.clone()) };
        if asked.prefix_len() < asked.max_prefix_len() {
            return Ok(self.clone());
        }
        let address = asked.addr();
        let holds = |pod: &&Pod| pod.networked && !pod.finished && pod.addresses.contains(&address);
        let pods: BTreeSet<PodKey> =
            snapshot.pods.values().filter(holds).map(|pod| pod.key.clone()).collect();
        if !pods.is_empty() {
            return Ok(ReachFilter::Holders { address, pods });
        }
        match snapshot.services.values().find(|service| service.addresses.contains(&address)) {
            Some(service) => Err(format!(
                "{address} is the address of Service {}, and connections to it end at its pods: name these, or ask \
                 `bridgewarden explain` about the Service",
                service.key
            )),
            None => Ok(self.clone()),
        }
    }

    /// Whether an end is one of these. `pods` are those that it consists of: one of a workload may be named by its own name.
    pub(crate) fn takes(&self, end: &ReachName, pods: &[PodKey]) -> bool {
        match (self, end) {
            (ReachFilter::Everything, _) | (ReachFilter::Outside, ReachName::Outside { .. }) => true,
            (ReachFilter::Addresses(asked), ReachName::Outside { prefixes, .. }) => {
                prefixes.iter().any(|prefix| prefix.contains(asked) || asked.contains(prefix))
            }
            (ReachFilter::Holders { pods: holders, .. }, _) => pods.iter().any(|pod| holders.contains(pod)),
            (ReachFilter::Workloads { namespace, kind, name }, ReachName::Workload { workload, .. }) => {
                let in_namespace = namespace == "*" || *namespace == *workload.namespace.as_str();
                in_namespace && self.names(workload, kind.as_deref(), name.as_deref(), pods)
            }
            (ReachFilter::Outside | ReachFilter::Addresses(_), ReachName::Workload { .. })
            | (ReachFilter::Workloads { .. }, ReachName::Outside { .. }) => false,
        }
    }

    fn names(&self, workload: &Workload, kind: Option<&str>, name: Option<&str>, pods: &[PodKey]) -> bool {
        let of_kind = kind.is_none_or(|kind| workload.kind.eq_ignore_ascii_case(kind));
        let named = name.is_none_or(|name| *workload.name == *name);
        let is_pod =
            |name: &str| pods.iter().any(|pod| pod.namespace == workload.namespace && *pod.name == *name);
        let names_a_pod = kind.is_none_or(|kind| kind == "pod") && name.is_some_and(is_pod);
        of_kind && named || names_a_pod
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NamespaceName;

    fn workload(kind: &str, name: &str) -> ReachName {
        let namespace = NamespaceName::new("shop");
        let workload = Workload { namespace, kind: kind.into(), name: name.into() };
        ReachName::Workload { workload, part: Vec::new() }
    }

    fn takes(filter: &str, end: &ReachName, pods: &[PodKey]) -> bool {
        filter.parse::<ReachFilter>().unwrap_or_else(|error| panic!("{error}")).takes(end, pods)
    }

    #[test]
    fn workload_is_named_by_namespace_kind_name_and_the_names_of_its_pods() {
        let web = workload("Deployment", "web");
        let pods = [PodKey::new("shop", "web-5d9c-x7k")];
        for filter in [
            "*",
            "shop",
            "shop/web",
            "shop/deploy/web",
            "shop/deployments/*",
            "*/web",
            "shop/web-5d9c-x7k",
            "shop/po/web-5d9c-x7k",
        ] {
            assert!(takes(filter, &web, &pods), "{filter}");
        }
        for filter in
            ["other", "shop/db", "shop/sts/web", "outside", "10.0.0.0/8", "shop/deploy/web-5d9c-x7k"]
        {
            assert!(!takes(filter, &web, &pods), "{filter}");
        }
    }

    #[test]
    fn addresses_are_named_by_what_they_overlap() {
        let outside =
            |prefix: &str| ReachName::Outside { prefixes: vec![prefix.parse().unwrap()], rest: false };
        for (filter, prefix, taken) in [
            ("outside", "10.0.0.0/8", true),
            ("*", "10.0.0.0/8", true),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("10.0.0.0/7", "10.0.0.0/8", true),
            ("11.0.0.1", "10.0.0.0/8", false),
            ("::/0", "10.0.0.0/8", false),
            ("shop", "10.0.0.0/8", false),
        ] {
            assert_eq!(takes(filter, &outside(prefix), &[]), taken, "{filter} {prefix}");
        }
    }

    #[test]
    fn address_that_a_pod_has_names_the_pod() {
        let (key, address) = (PodKey::new("shop", "web-5d9c-x7k"), "10.244.0.10");
        let mut snapshot = Snapshot::default();
        let pod = Pod { addresses: vec![address.parse().unwrap()], ..Pod::new(key.clone()) };
        snapshot.pods.insert(key.clone(), pod.clone());
        let web = workload("Deployment", "web");
        let rest = ReachName::Outside { prefixes: vec!["0.0.0.0/0".parse().unwrap()], rest: true };
        let within = |filter: &str, snapshot: &Snapshot| {
            filter.parse::<ReachFilter>().unwrap_or_else(|error| panic!("{error}")).within(snapshot)
        };
        for filter in [address, "10.244.0.10/32", "::ffff:10.244.0.10"] {
            let found = within(filter, &snapshot).unwrap();
            assert!(found.takes(&web, std::slice::from_ref(&key)) && !found.takes(&rest, &[]), "{filter}");
            assert_eq!(found.to_string(), address);
        }
        for filter in ["10.244.0.11", "10.244.0.0/16"] {
            let found = within(filter, &snapshot).unwrap();
            assert!(!found.takes(&web, std::slice::from_ref(&key)) && found.takes(&rest, &[]), "{filter}");
        }
        for left_out in [Pod { finished: true, ..pod.clone() }, Pod { networked: false, ..pod }] {
            snapshot.pods.insert(key.clone(), left_out);
            assert!(
                within(address, &snapshot).unwrap().takes(&rest, &[]),
                "the address is free, or the node's"
            );
        }
    }

    #[test]
    fn text_that_names_no_end_is_refused() {
        for text in ["", "a b", "a/b/c/d", "a//b", "/", "10.0.0.0/33/x y"] {
            assert!(text.parse::<ReachFilter>().is_err(), "{text}");
        }
    }
}
