//! Which ends of connections a user asks about.

use crate::explain::kind_in_full;
use crate::model::{PodKey, Workload};
use crate::net::IpNet;
use crate::reach::ReachName;
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
            return Ok(ReachFilter::Addresses(IpNet::from(address)));
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
    /// Whether an end is one of these. `pods` are those that it consists of: one of a workload may be named by its own name.
    pub(crate) fn takes(&self, end: &ReachName, pods: &[PodKey]) -> bool {
        match (self, end) {
            (ReachFilter::Everything, _) | (ReachFilter::Outside, ReachName::Outside { .. }) => true,
            (ReachFilter::Addresses(asked), ReachName::Outside { prefixes, .. }) => {
                prefixes.iter().any(|prefix| prefix.contains(asked) || asked.contains(prefix))
            }
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
    fn text_that_names_no_end_is_refused() {
        for text in ["", "a b", "a/b/c/d", "a//b", "/", "10.0.0.0/33/x y"] {
            assert!(text.parse::<ReachFilter>().is_err(), "{text}");
        }
    }
}
