//! The offsets of the headers of a frame or packet, found as nft_set_pktinfo does.

const ETHERNET: usize = 14;
const TAG: usize = 4;
const TAGS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// The offsets of headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headers {
    /// Whether there is an Ethernet header.
    pub(super) has_link: bool,
    pub(super) network: usize,
    /// The transport protocol and the offset of its header; `None` for the header of a later fragment.
    pub(super) transport: Option<(u8, Option<usize>)>,
}

impl Headers {
    /// The headers of a packet, which begins with its IP header.
    pub(super) fn of_packet(bytes: &[u8]) -> Headers {
        let transport = match bytes.first().map(|first| first >> 4) {
            Some(4) => ipv4_transport(bytes),
            Some(6) => ipv6_transport(bytes),
            Some(_) | None => None,
        };
        Headers { has_link: false, network: 0, transport }
    }

    /// The headers of a frame, which begins with its Ethernet header.
    pub(super) fn of_frame(bytes: &[u8]) -> Headers {
        let kind = |at: usize| bytes.get(at..at + 2);
        let tagged = TAGS.iter().any(|tag| kind(12) == Some(tag));
        // The kernel removes one tag before a bridge sees the frame.
        let network = ETHERNET + if tagged { TAG } else { 0 };
        let packet = bytes.get(network..).unwrap_or_default();
        let transport = match kind(network - 2) {
            Some(kind) if kind == IPV4 => ipv4_transport(packet),
            Some(kind) if kind == IPV6 => ipv6_transport(packet),
            Some(_) | None => None,
        };
        let transport = transport.map(|(protocol, at)| (protocol, at.map(|at| network + at)));
        Headers { has_link: true, network, transport }
    }
}

fn ipv4_transport(packet: &[u8]) -> Option<(u8, Option<usize>)> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let length = usize::from(header[0] & 0xf) * 4;
    if header[0] >> 4 != 4 || length < 20 {
        return None;
    }
    let later = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
    Some((header[9], (!later).then_some(length)))
}

fn ipv6_transport(packet: &[u8]) -> Option<(u8, Option<usize>)> {
    let header: &[u8; 40] = packet.first_chunk()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let (mut next, mut at) = (header[6], 40);
    loop {
        let length = match (next, packet.get(at..at + 4)) {
            (0 | 43 | 60, Some(extension)) => (usize::from(extension[1]) + 1) * 8,
            (51, Some(extension)) => (usize::from(extension[1]) + 2) * 4,
            (44, Some(extension)) if u16::from_be_bytes([extension[2], extension[3]]) & 0xfff8 == 0 => 8,
            // What an extension header in a later fragment says is not known (ipv6_find_hdr).
            (44, Some([0 | 43 | 44 | 51 | 60, ..])) => return None,
            (44, Some(extension)) => return Some((extension[0], None)),
            (0 | 43 | 44 | 51 | 60, None) => return None,
            _ => return Some((next, Some(at))),
        };
        next = packet[at];
        at += length;
    }
}
