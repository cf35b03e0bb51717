//! A question as its author writes it: `shop/web shop/db:5432`.

use crate::net::{IpNet, Protocol};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use thiserror::Error;

/// The name of one end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndName {
    /// `NAMESPACE/POD`, or `POD` in the namespace of the question, or `node/NODE`, or the name of a node alone.
    Object {
        /// The namespace, if it is written.
        namespace: Option<String>,
        /// The kind in lower case, such as `deployment`, `service` or `node`; `None` for a pod.
        kind: Option<String>,
        /// The name.
        name: String,
    },
    /// An address.
    Address(IpAddr),
    /// All addresses of a prefix.
    Block(IpNet),
}

/// The port that a question names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortName {
    /// Its number.
    Number(u16),
    /// Its name in the Service, or in the pod.
    Name(String),
}

/// The destination that a question names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationName {
    /// The end.
    pub end: EndName,
    /// The port, if it is named.
    pub port: Option<PortName>,
    /// The protocol, if it is named.
    pub protocol: Option<Protocol>,
}

/// Why a text names no end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// It does not have the form of any.
    #[error(
        "`{0}` names neither a pod nor an address: write NAMESPACE/POD, NAMESPACE/KIND/NAME (such as shop/deploy/web or \
         shop/svc/web), the name of a node, an address or a block such as 10.0.0.0/8"
    )]
    Form(String),
    /// Its port is none.
    #[error("`{port}` in `{text}` is not a port: write a number from 1 to 65535, or the name of a port")]
    Port {
        /// The text.
        text: String,
        /// Its part after the colon.
        port: String,
    },
}

/// The kinds that have short names in kubectl, with these names.
const SHORT: [(&str, &[&str]); 10] = [
    ("pod", &["po", "pods"]),
    ("service", &["svc", "services"]),
    ("deployment", &["deploy", "deployments"]),
    ("replicaset", &["rs", "replicasets"]),
    ("statefulset", &["sts", "statefulsets"]),
    ("daemonset", &["ds", "daemonsets"]),
    ("job", &["jobs"]),
    ("cronjob", &["cj", "cronjobs"]),
    ("replicationcontroller", &["rc", "replicationcontrollers"]),
    ("node", &["no", "nodes"]),
];

/// A kind in lower case and in full, from how kubectl may write it: `deployment` for `deploy`.
pub fn kind_in_full(word: &str) -> String {
    let word = word.to_lowercase();
    let known = SHORT.iter().find(|(kind, short)| *kind == word || short.contains(&&*word));
    known.map_or(word, |(kind, _)| (*kind).to_owned())
}

/// Whether a word is one of the kinds that kubectl knows.
fn is_kind(word: &str) -> bool {
    SHORT.iter().any(|(kind, short)| *kind == word || short.contains(&word))
}

impl FromStr for EndName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<EndName, NameError> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(EndName::Address(address.to_canonical()));
        }
        if let Ok(block) = bare.parse::<IpNet>() {
            return Ok(EndName::Block(block.trunc()));
        }
        let object = |namespace: Option<&str>, kind: Option<String>, name: &str| EndName::Object {
            namespace: namespace.map(str::to_owned),
            kind: kind.filter(|kind| kind != "pod"),
            name: name.to_owned(),
        };
        let parts: Vec<&str> = text.split('/').collect();
        let is_address = parts.first().is_some_and(|first| first.parse::<IpAddr>().is_ok());
        if is_address || parts.iter().any(|part| !is_name(part)) {
            return Err(NameError::Form(text.to_owned()));
        }
        match parts[..] {
            [name] => Ok(object(None, None, name)),
            [word, name] if is_kind(word) => Ok(object(None, Some(kind_in_full(word)), name)),
            [namespace, name] => Ok(object(Some(namespace), None, name)),
            [namespace, word, name] => Ok(object(Some(namespace), Some(kind_in_full(word)), name)),
            _ => Err(NameError::Form(text.to_owned())),
        }
    }
}

/// Whether a text can be a part of a name.
fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    !text.is_empty() && text.bytes().all(fits)
}

impl FromStr for DestinationName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<DestinationName, NameError> {
        let (rest, protocol) = match text.rsplit_once('/') {
            Some((rest, word)) => match Protocol::parse(&word.to_uppercase()) {
                // A pod may be called `tcp`.
                Some(protocol) if Protocol::parse(word).is_some() || rest.contains(':') => {
                    (rest, Some(protocol))
                }
                Some(_) | None => (text, None),
            },
            None => (text, None),
        };
        let is_bare_v6 = rest.split('/').next().is_some_and(|first| first.parse::<Ipv6Addr>().is_ok());
        let split = match rest.split_once(']') {
            Some((inside, after)) => after.strip_prefix(':').map(|port| (format!("{inside}]"), port)),
            None if is_bare_v6 => None,
            None => rest.rsplit_once(':').map(|(end, port)| (end.to_owned(), port)),
        };
        let (end, port) = match split {
            Some((end, port)) => (end, Some(port)),
            None => (rest.to_owned(), None),
        };
        let port = port.map(|port| port_name(text, port)).transpose()?;
        Ok(DestinationName { end: end.parse()?, port, protocol })
    }
}

fn port_name(text: &str, port: &str) -> Result<PortName, NameError> {
    let error = || NameError::Port { text: text.to_owned(), port: port.to_owned() };
    if port.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = port.parse().ok().filter(|number| *number > 0);
        return number.map(PortName::Number).ok_or_else(error);
    }
    if is_name(port) { Ok(PortName::Name(port.to_owned())) } else { Err(error()) }
}

impl fmt::Display for EndName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndName::Address(address) => write!(f, "{address}"),
            EndName::Block(block) => write!(f, "{block}"),
            EndName::Object { namespace, kind, name } => {
                let parts = [namespace, kind].into_iter().flatten();
                parts.into_iter().try_for_each(|part| write!(f, "{part}/"))?;
                f.write_str(name)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(text: &str) -> String {
        match text.parse::<DestinationName>() {
            Ok(DestinationName { end, port, protocol }) => format!("{end:?} {port:?} {protocol:?}"),
            Err(error) => error.to_string(),
        }
    }

    fn object(namespace: Option<&str>, kind: Option<&str>, name: &str) -> EndName {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        EndName::Object { namespace: owned(namespace), kind: owned(kind), name: name.to_owned() }
    }

    #[test]
    fn end_is_named_as_in_kubectl() {
        for (text, expected) in [
            ("web", object(None, None, "web")),
            ("shop/web", object(Some("shop"), None, "web")),
            ("shop/pod/web", object(Some("shop"), None, "web")),
            ("shop/deploy/web", object(Some("shop"), Some("deployment"), "web")),
            ("shop/Deployment/web", object(Some("shop"), Some("deployment"), "web")),
            ("deploy/web", object(None, Some("deployment"), "web")),
            ("shop/rollout/web", object(Some("shop"), Some("rollout"), "web")),
            ("shop/svc/web", object(Some("shop"), Some("service"), "web")),
            ("node/a", object(None, Some("node"), "a")),
            ("10.0.0.1", EndName::Address("10.0.0.1".parse().unwrap())),
            ("[2001:db8::1]", EndName::Address("2001:db8::1".parse().unwrap())),
            ("::ffff:10.0.0.1", EndName::Address("10.0.0.1".parse().unwrap())),
            ("10.0.0.7/8", EndName::Block("10.0.0.0/8".parse().unwrap())),
            ("2001:db8::/32", EndName::Block("2001:db8::/32".parse().unwrap())),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["", "/", "shop/", "a/b/c/d", "a b", "10.0.0.0/33", "shop//web"] {
            assert!(matches!(text.parse::<EndName>(), Err(NameError::Form(_))), "{text}");
        }
    }

    #[test]
    fn destination_has_a_port_and_a_protocol_if_they_are_written() {
        let parsed = |end, port, protocol| format!("{:?} {port:?} {protocol:?}", end);
        let number = |number| Some(PortName::Number(number));
        let pod = || object(Some("shop"), None, "db");
        let address = |text: &str| EndName::Address(text.parse().unwrap());
        for (text, expected) in [
            ("shop/db", parsed(pod(), None, None)),
            ("shop/db:5432", parsed(pod(), number(5432), None)),
            ("shop/db:53/udp", parsed(pod(), number(53), Some(Protocol::Udp))),
            ("shop/db/UDP", parsed(pod(), None, Some(Protocol::Udp))),
            ("shop/udp", parsed(object(Some("shop"), None, "udp"), None, None)),
            ("shop/db:pg", parsed(pod(), Some(PortName::Name("pg".to_owned())), None)),
            ("10.0.0.1:443", parsed(address("10.0.0.1"), number(443), None)),
            ("10.0.0.0/8:443/TCP", {
                parsed(EndName::Block("10.0.0.0/8".parse().unwrap()), number(443), Some(Protocol::Tcp))
            }),
            ("2001:db8::1", parsed(address("2001:db8::1"), None, None)),
            ("[2001:db8::1]:443", parsed(address("2001:db8::1"), number(443), None)),
            ("[2001:db8::/32]:443", {
                parsed(EndName::Block("2001:db8::/32".parse().unwrap()), number(443), None)
            }),
        ] {
            assert!(destination(text).starts_with(&expected), "{text}: {}", destination(text));
        }
        for text in ["shop/db:0", "shop/db:65536", "shop/db:", "shop/db:a b"] {
            assert!(destination(text).contains("is not a port"), "{text}: {}", destination(text));
        }
    }
}
