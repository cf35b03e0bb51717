//! IPBlock.

use super::{FieldPath, InvalidParts, reason};
use crate::api;
use crate::model::Block;
use crate::net::{Family, IpNet};
use std::net::IpAddr;

/// Converts a block; `None` if any part is invalid, as a block without one of its exceptions would allow too much.
pub(super) fn block(from: &api::IpBlock, path: &FieldPath<'_>, invalid: &mut InvalidParts) -> Option<Block> {
    let known = !invalid.add_unknown_fields(path, from);
    let cidr = match cidr(&from.cidr) {
        Ok(cidr) => Some(cidr),
        Err(fault) => {
            invalid.add(&path.field("cidr"), reason::BAD_CIDR, fault);
            None
        }
    };
    let except_path = path.field("except");
    let mut except = Vec::new();
    let mut sound = known;
    for (index, text) in from.except.iter().flatten().enumerate() {
        match exception(text, cidr) {
            Ok(net) => except.push(net),
            Err(fault) => {
                invalid.add(&except_path.index(index), reason::BAD_EXCEPT, fault);
                sound = false;
            }
        }
    }
    cidr.filter(|_| sound).map(|cidr| Block { cidr, except })
}

/// Reads one exception; `outer` is the block it belongs to, if that could be read.
fn exception(text: &str, outer: Option<IpNet>) -> Result<IpNet, String> {
    let net = cidr(text)?;
    match outer {
        Some(outer) if !outer.contains(&net) || outer.prefix_len() >= net.prefix_len() => {
            Err(format!("`{text}` does not lie strictly inside `{outer}`: except only parts of the block"))
        }
        Some(_) | None => Ok(net),
    }
}

/// Reads a prefix and clears its host bits, as the API server reads it.
fn cidr(text: &str) -> Result<IpNet, String> {
    let fault = |what: &str| format!("`{text}` is not a CIDR: {what}");
    if text.is_empty() {
        return Err("cidr is missing: write an address and a prefix length, such as 10.0.0.0/24".to_owned());
    }
    let Some((address, length)) = text.split_once('/') else {
        return Err(match text.parse::<IpAddr>() {
            Ok(address) => {
                fault(&format!("write `{address}/{}` for this one address", Family::of(address).bits()))
            }
            Err(_) => fault("write an address and a prefix length, such as 10.0.0.0/24"),
        });
    };
    let address =
        address_of(address).ok_or_else(|| fault("the part before `/` must be an IPv4 or IPv6 address"))?;
    let bits = Family::of(address).bits();
    let length = Some(length)
        .filter(|length| length.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|length| length.parse::<u8>().ok())
        .filter(|length| *length <= bits)
        .ok_or_else(|| fault(&format!("the prefix length must be a number from 0 to {bits}")))?;
    let (address, length) = match (address, length.checked_sub(MAPPED)) {
        (IpAddr::V6(mapped), Some(rest)) => match mapped.to_ipv4_mapped() {
            Some(address) => (IpAddr::V4(address), rest),
            None => (address, length),
        },
        (IpAddr::V4(_) | IpAddr::V6(_), _) => (address, length),
    };
    IpNet::new(address, length).map(|net| net.trunc()).map_err(|error| fault(&error.to_string()))
}

/// The length of the prefix that marks an IPv6 address as a mapped IPv4 address. To Go, and so to the API, a longer prefix is an IPv4
/// prefix.
const MAPPED: u8 = 96;

/// Reads an address as apimachinery does (ParseCIDRSloppy): leading zeros of a decimal number are ignored.
fn address_of(text: &str) -> Option<IpAddr> {
    let before = text.rfind(':').map_or(0, |colon| colon + 1);
    let (head, tail) = text.split_at_checked(before)?;
    if !tail.contains('.') {
        return text.parse().ok();
    }
    let numbers = tail.split('.').map(|number| {
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| match number.trim_start_matches('0') {
            "" => "0",
            number => number,
        })
    });
    let numbers: Vec<&str> = numbers.collect::<Option<_>>()?;
    format!("{head}{}", numbers.join(".")).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cidr: &str, except: &[&str]) -> Result<String, Vec<String>> {
        let from = api::IpBlock {
            cidr: cidr.to_owned(),
            except: Some(except.iter().map(|text| text.to_string()).collect()),
            ..api::IpBlock::default()
        };
        let mut invalid = InvalidParts::default();
        match block(&from, &FieldPath::Root.field("ipBlock"), &mut invalid) {
            Some(block) => {
                assert_eq!(invalid.0, vec![]);
                let except: Vec<_> = block.except.iter().map(ToString::to_string).collect();
                Ok(format!("{} - {}", block.cidr, except.join(" ")))
            }
            None => Err(invalid.0.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn host_bits_are_cleared() {
        assert_eq!(read("10.1.2.3/8", &["10.1.2.3/16"]), Ok("10.0.0.0/8 - 10.1.0.0/16".to_owned()));
        assert_eq!(read("FD00::1/64", &["fd00::1/128"]), Ok("fd00::/64 - fd00::1/128".to_owned()));
        assert_eq!(read("0.0.0.0/0", &["10.0.0.0/8"]), Ok("0.0.0.0/0 - 10.0.0.0/8".to_owned()));
        assert_eq!(read("::/0", &[]), Ok("::/0 - ".to_owned()));
    }

    #[test]
    fn cidr_is_read_as_kubernetes_1_34_reads_it() {
        for (text, expected) in [
            ("010.0.0.0/8", "10.0.0.0/8"),
            ("10.000.0.09/032", "10.0.0.9/32"),
            ("::ffff:10.1.0.0/104", "10.0.0.0/8"),
            ("::ffff:0a01:0/112", "10.1.0.0/16"),
            ("::ffff:10.0.0.0/96", "0.0.0.0/0"),
            ("::ffff:10.0.0.0/90", "::ffc0:0:0/90"),
            ("64:ff9b::010.0.0.1/128", "64:ff9b::a00:1/128"),
        ] {
            assert_eq!(read(text, &[]), Ok(format!("{expected} - ")), "{text}");
        }
    }

    #[test]
    fn cidr_that_is_none_makes_the_block_invalid() {
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "/8",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0/8",
            "10..0.0/8",
            "10.0.0.0256/8",
            "0x10.0.0.0/8",
            "10.0.0.0/8/8",
            " 10.0.0.0/8",
            "10.0.0.0/255.0.0.0",
            "fe80::1%eth0/64",
            "example.org/8",
            "10.0.0.1",
        ] {
            let messages = read(text, &[]).unwrap_err();
            assert_eq!(messages.len(), 1, "{text}");
            assert!(messages.iter().all(|message| message.starts_with("ipBlock.cidr: ")), "{messages:?}");
        }
    }

    #[test]
    fn complaint_about_a_cidr_says_what_to_write() {
        assert_eq!(
            read("10.0.0.0/33", &[]).unwrap_err(),
            ["ipBlock.cidr: `10.0.0.0/33` is not a CIDR: the prefix length must be a number from 0 to 32"]
        );
        assert_eq!(
            read("10.0.0.1", &[]).unwrap_err(),
            ["ipBlock.cidr: `10.0.0.1` is not a CIDR: write `10.0.0.1/32` for this one address"]
        );
        assert_eq!(
            read("", &[]).unwrap_err(),
            ["ipBlock.cidr: cidr is missing: write an address and a prefix length, such as 10.0.0.0/24"]
        );
    }

    #[test]
    fn bad_exception_makes_the_whole_block_invalid() {
        for except in ["11.0.0.0/16", "10.0.0.0/8", "10.0.0.0/7", "fd00::/64", "nonsense", ""] {
            let messages = read("10.0.0.0/8", &["10.1.0.0/16", except]).unwrap_err();
            assert_eq!(messages.len(), 1, "{except}");
            assert!(
                messages.iter().all(|message| message.starts_with("ipBlock.except[1]: ")),
                "{messages:?}"
            );
        }
        assert_eq!(
            read("10.0.0.0/8", &["11.0.0.0/16"]).unwrap_err(),
            [
                "ipBlock.except[0]: `11.0.0.0/16` does not lie strictly inside `10.0.0.0/8`: except only parts of the block"
            ]
        );
    }
}
