//! NetworkPolicyPort.

use super::{FieldPath, InvalidParts, reason};
use crate::api::{self, IntOrString};
use crate::model::PortMatch;
use crate::net::{PortRange, Protocol};

/// Converts one port of a rule; `None` if it is invalid.
pub(super) fn port(
    from: &api::NetworkPolicyPort,
    path: &FieldPath<'_>,
    invalid: &mut InvalidParts,
) -> Option<PortMatch> {
    let known = !invalid.add_unknown_fields(path, from);
    let protocol = protocol(from.protocol.as_deref(), path, invalid);
    let numbers = match (&from.port, from.end_port) {
        (None, None) => Some(Numbers::All),
        (Some(IntOrString::Int(first)), None) => {
            number(*first, &path.field("port"), invalid).and_then(PortRange::single).map(Numbers::Range)
        }
        (Some(IntOrString::Int(first)), Some(last)) => range(*first, last, path, invalid).map(Numbers::Range),
        (Some(IntOrString::String(name)), None) => name_of(name, path, invalid).map(Numbers::Named),
        (Some(IntOrString::String(name)), Some(_)) => {
            let message = format!("endPort cannot follow the port name `{name}`: write the port as a number");
            invalid.add(&path.field("endPort"), reason::BAD_END_PORT, message);
            None
        }
        (None, Some(_)) => {
            let message = "endPort ends a range that `port` must begin: add a numeric `port`".to_owned();
            invalid.add(&path.field("endPort"), reason::BAD_END_PORT, message);
            None
        }
    };
    let (protocol, numbers) = protocol.zip(numbers).filter(|_| known)?;
    Some(match numbers {
        Numbers::All => PortMatch::Protocol(protocol),
        Numbers::Range(range) => PortMatch::Numbered(protocol, range),
        Numbers::Named(name) => PortMatch::Named(protocol, name),
    })
}

enum Numbers {
    All,
    Range(PortRange),
    Named(Box<str>),
}

/// The protocol at `path`; TCP when none is given.
pub(super) fn protocol(
    from: Option<&str>,
    path: &FieldPath<'_>,
    invalid: &mut InvalidParts,
) -> Option<Protocol> {
    let Some(text) = from else { return Some(Protocol::Tcp) };
    let protocol = Protocol::parse(text);
    if protocol.is_none() {
        let message = format!("unknown protocol `{text}`: write `TCP`, `UDP` or `SCTP`");
        invalid.add(&path.field("protocol"), reason::UNKNOWN_PROTOCOL, message);
    }
    protocol
}

/// The port number at `path`.
pub(super) fn number(from: i64, path: &FieldPath<'_>, invalid: &mut InvalidParts) -> Option<u16> {
    let number = u16::try_from(from).ok().filter(|number| *number > 0);
    if number.is_none() {
        invalid.add(path, reason::BAD_PORT, format!("{from} is not a port: write a number from 1 to 65535"));
    }
    number
}

fn range(first: i64, last: i64, path: &FieldPath<'_>, invalid: &mut InvalidParts) -> Option<PortRange> {
    let begin = number(first, &path.field("port"), invalid);
    if last < first {
        let message = format!("endPort {last} is below port {first}: endPort must not be less than port");
        invalid.add(&path.field("endPort"), reason::BAD_END_PORT, message);
        return None;
    }
    let end = number(last, &path.field("endPort"), invalid);
    let (begin, end) = begin.zip(end)?;
    PortRange::new(begin, end)
}

fn name_of(name: &str, path: &FieldPath<'_>, invalid: &mut InvalidParts) -> Option<Box<str>> {
    let Some(fault) = name_fault(name) else { return Some(name.into()) };
    invalid.add(&path.field("port"), reason::BAD_PORT, format!("`{name}` cannot be a port's name: {fault}"));
    None
}

/// What is wrong with a port's name, if anything (apimachinery's IsValidPortName, IANA_SVC_NAME).
pub(super) fn name_fault(name: &str) -> Option<&'static str> {
    let bytes = name.as_bytes();
    if name.len() > 15 {
        return Some("it must have at most 15 characters");
    }
    if !bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-') {
        return Some("it must consist of lower-case letters, digits and `-`");
    }
    if bytes.iter().all(u8::is_ascii_digit) && !bytes.is_empty() {
        return Some("a name needs a letter; write a number without quotes");
    }
    if !bytes.iter().any(u8::is_ascii_lowercase) {
        return Some("it must have at least one letter");
    }
    if name.starts_with('-') || name.ends_with('-') || name.contains("--") {
        return Some("a `-` must stand alone between letters or digits");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(from: Value) -> Result<PortMatch, Vec<String>> {
        let from = serde_json::from_value(from).unwrap();
        let mut invalid = InvalidParts::default();
        let port = port(&from, &FieldPath::Root.field("ports").index(0), &mut invalid);
        assert_eq!(port.is_none(), !invalid.0.is_empty());
        port.ok_or_else(|| invalid.0.iter().map(ToString::to_string).collect())
    }

    fn range(first: u16, last: u16) -> PortRange {
        PortRange::new(first, last).unwrap()
    }

    #[test]
    fn protocol_is_tcp_unless_given() {
        assert_eq!(read(json!({"port": 80})), Ok(PortMatch::Numbered(Protocol::Tcp, range(80, 80))));
        assert_eq!(read(json!({"port": 80, "protocol": null})), read(json!({"port": 80, "protocol": "TCP"})));
        assert_eq!(
            read(json!({"port": 53, "protocol": "UDP"})),
            Ok(PortMatch::Numbered(Protocol::Udp, range(53, 53)))
        );
        assert_eq!(read(json!({})), Ok(PortMatch::Protocol(Protocol::Tcp)));
    }

    #[test]
    fn protocol_alone_means_all_its_ports() {
        assert_eq!(read(json!({"protocol": "SCTP"})), Ok(PortMatch::Protocol(Protocol::Sctp)));
    }

    #[test]
    fn unknown_protocol_makes_the_port_invalid() {
        for word in ["tcp", "ICMP", ""] {
            let expected =
                format!("ports[0].protocol: unknown protocol `{word}`: write `TCP`, `UDP` or `SCTP`");
            assert_eq!(read(json!({"port": 80, "protocol": word})), Err(vec![expected]));
        }
    }

    #[test]
    fn end_port_makes_an_inclusive_range() {
        let all = json!({"port": 1, "endPort": 65535});
        assert_eq!(read(all), Ok(PortMatch::Numbered(Protocol::Tcp, range(1, 65535))));
        let one = json!({"port": 80, "endPort": 80});
        assert_eq!(read(one), Ok(PortMatch::Numbered(Protocol::Tcp, range(80, 80))));
    }

    #[test]
    fn number_outside_the_ports_is_invalid() {
        for number in [0, 70000, 65536, -1, i64::MAX, i64::MIN] {
            let expected = format!("ports[0].port: {number} is not a port: write a number from 1 to 65535");
            assert_eq!(read(json!({"port": number})), Err(vec![expected]));
        }
        let expected = "ports[0].endPort: 70000 is not a port: write a number from 1 to 65535";
        assert_eq!(read(json!({"port": 1, "endPort": 70000})), Err(vec![expected.to_owned()]));
    }

    #[test]
    fn end_port_below_port_is_refused() {
        let expected = "ports[0].endPort: endPort 79 is below port 80: endPort must not be less than port";
        assert_eq!(read(json!({"port": 80, "endPort": 79})), Err(vec![expected.to_owned()]));
    }

    #[test]
    fn end_port_needs_a_number_to_begin_with() {
        let expected =
            "ports[0].endPort: endPort cannot follow the port name `http`: write the port as a number";
        assert_eq!(read(json!({"port": "http", "endPort": 90})), Err(vec![expected.to_owned()]));
        let expected = "ports[0].endPort: endPort ends a range that `port` must begin: add a numeric `port`";
        assert_eq!(read(json!({"endPort": 90})), Err(vec![expected.to_owned()]));
    }

    #[test]
    fn name_is_kept_whether_or_not_any_pod_declares_it() {
        for name in ["http", "a", "8080-tcp", "abcdefghijklmno"] {
            assert_eq!(read(json!({"port": name})), Ok(PortMatch::Named(Protocol::Tcp, name.into())));
        }
    }

    #[test]
    fn impossible_name_is_refused() {
        for name in ["", "HTTP", "-a", "a-", "a--b", "a_b", "1-2", "abcdefghijklmnop", "é"] {
            let messages = read(json!({"port": name})).unwrap_err();
            assert!(messages.iter().all(|text| text.starts_with("ports[0].port: `")), "{messages:?}");
        }
        let expected = "ports[0].port: `80` cannot be a port's name: a name needs a letter; write a number without quotes";
        assert_eq!(read(json!({"port": "80"})), Err(vec![expected.to_owned()]));
    }

    #[test]
    fn unknown_field_makes_the_port_invalid() {
        let expected = "ports[0].endport: unknown field `endport`: remove it or correct its spelling";
        assert_eq!(read(json!({"port": 80, "endport": 90})), Err(vec![expected.to_owned()]));
    }
}
