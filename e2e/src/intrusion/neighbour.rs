//! The addresses of pods on a link.

use crate::link::interface;
use anyhow::{Context, Result, ensure};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use support::frame::Mac;

/// The interface of every pod.
const DEVICE: &str = "eth0";

/// A pod on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its link-local IPv6 address.
    pub link_local: Ipv6Addr,
}

impl Neighbour {
    /// The pod whose network the calling thread is in, by its `eth0`.
    ///
    /// # Errors
    /// An interface or an address is missing.
    pub fn here() -> Result<Neighbour> {
        let interface = interface(DEVICE)?;
        let mac = interface.mac.with_context(|| format!("{DEVICE} has no Ethernet address"))?;
        let mut v4 = None;
        let mut link_local = None;
        for net in &interface.ips {
            match net.ip() {
                IpAddr::V4(address) => v4 = Some(address),
                IpAddr::V6(address) if address.is_unicast_link_local() => link_local = Some(address),
                IpAddr::V6(_) => {}
            }
        }
        Ok(Neighbour {
            mac: mac.octets(),
            v4: v4.with_context(|| format!("{DEVICE} has no IPv4 address"))?,
            link_local: link_local.with_context(|| {
                format!("{DEVICE} has no link-local address: is net.ipv6.conf.{DEVICE}.disable_ipv6 1?")
            })?,
        })
    }
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mac = self.mac.map(|octet| format!("{octet:02x}")).join(":");
        write!(f, "{mac},{},{}", self.v4, self.link_local)
    }
}

impl FromStr for Neighbour {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Neighbour> {
        let wanted = || format!("{text:?} is not MAC,IPV4,IPV6");
        let parts: Vec<&str> = text.split(',').collect();
        let &[mac, v4, link_local] = &parts[..] else { return Err(anyhow::anyhow!(wanted())) };
        let octets = mac.split(':').map(|octet| u8::from_str_radix(octet, 16));
        let octets = octets.collect::<Result<Vec<u8>, _>>().with_context(wanted)?;
        ensure!(octets.len() == 6, wanted());
        let mut mac = [0; 6];
        mac.copy_from_slice(&octets);
        Ok(Neighbour {
            mac,
            v4: v4.parse().with_context(wanted)?,
            link_local: link_local.parse().with_context(wanted)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbour_is_read_as_it_was_written() {
        let neighbour = Neighbour {
            mac: [2, 0, 0, 0xab, 0, 9],
            v4: Ipv4Addr::new(10, 244, 1, 9),
            link_local: "fe80::ab:9".parse().unwrap(),
        };
        assert_eq!(neighbour.to_string().parse::<Neighbour>().unwrap(), neighbour);
        for other in ["", "02:00,10.0.0.1,fe80::1", "02:00:00:ab:00:09,10.0.0.1"] {
            assert!(other.parse::<Neighbour>().is_err(), "{other}");
        }
    }
}
