//! UDP packets with any source address, built byte by byte and sent over a raw socket.

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6};
use nix::sys::socket::{sendto, socket};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

/// The source port of a spoofed packet: in the dynamic range, without a listener.
const SOURCE_PORT: u16 = 54_321;
const UDP: u8 = 17;
const TIME_TO_LIVE: u8 = 64;

/// A complete UDP packet, including its IP header.
pub(super) fn packet(source: IpAddr, to: SocketAddr, payload: &[u8]) -> io::Result<Vec<u8>> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "the payload does not fit one packet");
    let mixed = || io::Error::new(io::ErrorKind::InvalidInput, "source and destination differ in family");
    let length = u16::try_from(8 + payload.len()).map_err(|_| too_long())?;
    let mut udp = Vec::new();
    for field in [SOURCE_PORT, to.port(), length, 0] {
        udp.extend(field.to_be_bytes());
    }
    udp.extend(payload);
    match (source, to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(to)) => {
            let total = length.checked_add(20).ok_or_else(too_long)?;
            let pseudo = [&source.octets()[..], &to.octets(), &[0, UDP], &length.to_be_bytes()].concat();
            Ok([header_v4(source, to, total), checksummed(udp, &pseudo)].concat())
        }
        (IpAddr::V6(source), IpAddr::V6(to)) => {
            let pseudo =
                [&source.octets()[..], &to.octets(), &u32::from(length).to_be_bytes(), &[0, 0, 0, UDP]]
                    .concat();
            Ok([header_v6(source, to, length), checksummed(udp, &pseudo)].concat())
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Err(mixed()),
    }
}

/// The kernel fills in the checksum and identification of the header (raw(7)).
fn header_v4(source: Ipv4Addr, to: Ipv4Addr, total: u16) -> Vec<u8> {
    let [high, low] = total.to_be_bytes();
    let fixed = [0x45, 0, high, low, 0, 0, 0, 0, TIME_TO_LIVE, UDP, 0, 0];
    [&fixed[..], &source.octets(), &to.octets()].concat()
}

fn header_v6(source: Ipv6Addr, to: Ipv6Addr, length: u16) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    let fixed = [0x60, 0, 0, 0, high, low, UDP, TIME_TO_LIVE];
    [&fixed[..], &source.octets(), &to.octets()].concat()
}

/// Fills in a UDP checksum (RFC 768).
fn checksummed(mut udp: Vec<u8>, pseudo: &[u8]) -> Vec<u8> {
    let sum: u32 = [pseudo, &udp]
        .into_iter()
        .flat_map(|part| part.chunks(2))
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let [high, low] = match !(folded as u16) {
        // Zero would mean that there is none.
        0 => [0xff, 0xff],
        sum => sum.to_be_bytes(),
    };
    udp[6] = high;
    udp[7] = low;
    udp
}

/// Sends a packet from the namespace of the calling thread.
pub(super) fn send(packet: &[u8], to: IpAddr) -> io::Result<()> {
    let family = match to {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    // IPPROTO_RAW means that the packet brings its own IP header, in both families.
    let raw = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
    let flags = MsgFlags::empty();
    match to {
        IpAddr::V4(to) => {
            sendto(raw.as_raw_fd(), packet, &SockaddrIn::from(SocketAddrV4::new(to, 0)), flags)?;
        }
        IpAddr::V6(to) => {
            sendto(raw.as_raw_fd(), packet, &SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0)), flags)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums a segment with its pseudo header, checksum included: all ones when it is right.
    fn sum(bytes: &[u8]) -> u32 {
        let sum: u32 =
            bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
        (sum & 0xffff) + (sum >> 16)
    }

    #[test]
    fn checksums_cover_the_pseudo_header() {
        let v4 = packet("10.0.0.1".parse().unwrap(), "10.0.0.2:53".parse().unwrap(), b"odd").unwrap();
        assert_eq!(v4.len(), 31);
        assert_eq!(sum(&[&v4[12..20], &[0, UDP, 0, 11], &v4[20..]].concat()), 0xffff);
        let v6 = packet("fd00::1".parse().unwrap(), "[fd00::2]:53".parse().unwrap(), b"even").unwrap();
        assert_eq!(v6.len(), 52);
        assert_eq!(sum(&[&v6[8..40], &[0, 0, 0, 12, 0, 0, 0, UDP], &v6[40..]].concat()), 0xffff);
    }

    #[test]
    fn packet_of_two_families_is_refused() {
        assert!(packet("10.0.0.1".parse().unwrap(), "[fd00::2]:53".parse().unwrap(), b"").is_err());
        assert!(packet("10.0.0.1".parse().unwrap(), "10.0.0.2:53".parse().unwrap(), &[0; 65_530]).is_err());
    }
}
