//! How a policy is named on the command line.

use crate::status::StatusQuestion;
use std::fmt;
use std::str::FromStr;

/// The resource names of NetworkPolicies, as kubectl takes them.
const RESOURCES: [&str; 4] =
    ["networkpolicy", "networkpolicies", "netpol", "networkpolicies.networking.k8s.io"];

/// A policy: `NAMESPACE/NAME`, or the same behind `networkpolicy/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PolicyName {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl PolicyName {
    /// The question about it.
    pub(super) fn question(&self) -> StatusQuestion {
        StatusQuestion::Policy { namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for PolicyName {
    type Err = String;

    fn from_str(text: &str) -> Result<PolicyName, String> {
        let words: Vec<&str> = text.split('/').collect();
        let (namespace, name) = match words.as_slice() {
            [namespace, name] => (namespace, name),
            [resource, namespace, name] if RESOURCES.contains(resource) => (namespace, name),
            _ => return Err(format!("{text:?} is no NAMESPACE/NAME and no networkpolicy/NAMESPACE/NAME")),
        };
        let is_name = |name: &str| {
            let legal =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
            let first = name.as_bytes().first();
            first.is_some_and(u8::is_ascii_alphanumeric) && name.len() <= 253 && name.bytes().all(legal)
        };
        match (is_name(namespace), is_name(name)) {
            (true, true) => Ok(PolicyName { namespace: (*namespace).into(), name: (*name).into() }),
            (false, _) => Err(format!("{namespace:?} is no name of a namespace")),
            (true, false) => Err(format!("{name:?} is no name of a policy")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_is_named_with_its_namespace_and_with_or_without_the_resource() {
        let web = PolicyName { namespace: "shop".into(), name: "web".into() };
        for text in ["shop/web", "networkpolicy/shop/web", "netpol/shop/web"] {
            assert_eq!(text.parse(), Ok(web.clone()), "{text}");
        }
        for wrong in ["web", "shop/", "/web", "pod/shop/web", "a/b/c/d", "shop/--all", "Shop/web", ""] {
            assert!(wrong.parse::<PolicyName>().is_err(), "{wrong}");
        }
    }
}
