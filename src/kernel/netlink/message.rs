//! Builds netlink messages and attributes from values, and parses them without trusting any length in them.

use crate::net::Family;

/// NLM_F_REQUEST.
pub(in crate::kernel) const REQUEST: u16 = 0x1;
/// NLM_F_ACK: request an acknowledgement.
pub(in crate::kernel) const ACKNOWLEDGE: u16 = 0x4;
/// NLM_F_EXCL: fail if the object exists.
pub(in crate::kernel) const EXCLUSIVE: u16 = 0x200;
/// NLM_F_CREATE.
pub(in crate::kernel) const CREATE: u16 = 0x400;
/// NLM_F_ROOT and NLM_F_MATCH: return everything, in several messages if needed.
pub(in crate::kernel) const DUMP: u16 = 0x300;

const NESTED: u16 = 0x8000;
const NETWORK_ORDER: u16 = 0x4000;

/// The length of a `struct nlmsghdr` and the following `struct nfgenmsg`.
const HEADER: usize = 16;
const GENERIC: usize = 4;
const ATTRIBUTE: usize = 4;

/// The kernel's number of a family (AF_INET, AF_INET6; NFPROTO_IPV4 and NFPROTO_IPV6 are the same).
pub(in crate::kernel) fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// A request that is being built.
pub(in crate::kernel) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A request without attributes: a subsystem (NFNL_SUBSYS_*), its command, flags, and a family.
    pub(in crate::kernel) fn new(subsystem: u8, command: u8, flags: u16, family: u8) -> Message {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&u16::from_be_bytes([subsystem, command]).to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&[family, 0, 0, 0]);
        Message { bytes }
    }

    /// Sets the resource id (nfgenmsg.res_id).
    pub(in crate::kernel) fn about(mut self, number: u16) -> Message {
        self.bytes[HEADER + 2..HEADER + GENERIC].copy_from_slice(&number.to_be_bytes());
        self
    }

    /// Its length in bytes so far.
    pub(in crate::kernel) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Its attributes so far.
    #[cfg(test)]
    pub(in crate::kernel) fn attributes(&self) -> &[u8] {
        behind_generic(&self.bytes[HEADER..])
    }

    /// Adds an attribute whose payload is raw bytes.
    pub(in crate::kernel) fn put(&mut self, kind: u16, payload: &[u8]) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(payload);
        self.close(start);
    }

    /// Adds an attribute in network byte order, with the flag for that (NLA_F_NET_BYTEORDER).
    pub(in crate::kernel) fn put_network(&mut self, kind: u16, payload: &[u8]) {
        self.put(kind | NETWORK_ORDER, payload);
    }

    /// Adds a text with a terminating NUL.
    pub(in crate::kernel) fn put_text(&mut self, kind: u16, text: &str) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.close(start);
    }

    /// Adds an attribute that contains attributes.
    pub(in crate::kernel) fn nest<T>(&mut self, kind: u16, fill: impl FnOnce(&mut Message) -> T) -> T {
        let start = self.open(kind | NESTED);
        let filled = fill(self);
        self.close(start);
        filled
    }

    /// Adds attributes that are already encoded.
    pub(in crate::kernel) fn append(&mut self, attributes: &[u8]) {
        self.bytes.extend_from_slice(attributes);
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        let length = u16::try_from(self.bytes.len() - start).expect("requests are kept under 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Requests that are sent together, in this order.
#[derive(Default)]
pub(in crate::kernel) struct Datagram {
    bytes: Vec<u8>,
    /// The offset of each request.
    starts: Vec<usize>,
}

impl Datagram {
    /// The number of requests.
    pub(in crate::kernel) fn count(&self) -> usize {
        self.starts.len()
    }

    /// Their length in bytes.
    pub(in crate::kernel) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a request, with its length in its header.
    pub(in crate::kernel) fn push(&mut self, message: &Message) {
        let length = u32::try_from(message.bytes.len()).expect("requests are kept under 64 KiB");
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&message.bytes[size_of::<u32>()..]);
    }

    /// Requests an acknowledgement of the last request (NLM_F_ACK).
    pub(in crate::kernel) fn demand_acknowledgement(&mut self) {
        let Some(start) = self.starts.last() else { return };
        let flags = &mut self.bytes[start + 6..start + 8];
        let demanding = u16::from_ne_bytes([flags[0], flags[1]]) | ACKNOWLEDGE;
        flags.copy_from_slice(&demanding.to_ne_bytes());
    }

    /// Writes consecutive sequence numbers to the headers, `first` to the first. Returns the bytes to send.
    pub(in crate::kernel) fn number(&mut self, first: u32) -> &[u8] {
        let mut sequence = first;
        for start in &self.starts {
            self.bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
            sequence = sequence.wrapping_add(1);
        }
        &self.bytes
    }
}

impl From<Message> for Datagram {
    fn from(message: Message) -> Datagram {
        let mut datagram = Datagram::default();
        datagram.push(&message);
        datagram
    }
}

/// One message from the kernel.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernel) struct MessageFrame<'a> {
    /// nlmsg_type: a subsystem and its command.
    pub(in crate::kernel) kind: u16,
    /// nlmsg_seq: the number of the request that it answers.
    pub(super) sequence: u32,
    /// nlmsg_pid: the port of the socket whose request is answered.
    pub(in crate::kernel) port: u32,
    /// The bytes after the header.
    pub(in crate::kernel) payload: &'a [u8],
}

/// The messages in a received datagram; ends at the first truncated one.
pub(in crate::kernel) fn frames(datagram: &[u8]) -> impl Iterator<Item = MessageFrame<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
        let frame = rest.get(..length)?;
        let header: &[u8; HEADER] = frame.first_chunk()?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(MessageFrame {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            port: u32::from_ne_bytes([header[12], header[13], header[14], header[15]]),
            payload: &frame[HEADER..],
        })
    })
}

/// The number at the beginning of an error message or of a dump's end: 0, or a negated errno.
pub(super) fn errno(payload: &[u8]) -> i32 {
    payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes).saturating_neg())
}

/// The attributes after a `struct nfgenmsg`.
pub(in crate::kernel) fn behind_generic(payload: &[u8]) -> &[u8] {
    payload.get(GENERIC..).unwrap_or_default()
}

/// The attributes of the request that an error message contains: after the errno, the header and the nfgenmsg.
pub(super) fn echoed(payload: &[u8]) -> &[u8] {
    payload.get(size_of::<i32>() + HEADER + GENERIC..).unwrap_or_default()
}

/// One attribute (`struct nlattr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) struct Attribute<'a> {
    /// nla_type, without the flags in its two highest bits.
    pub(in crate::kernel) kind: u16,
    /// Its payload.
    pub(in crate::kernel) payload: &'a [u8],
    /// The complete attribute, header and payload, without padding.
    pub(in crate::kernel) bytes: &'a [u8],
}

/// The attributes in some bytes; ends at the first truncated one.
pub(in crate::kernel) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header: &[u8; ATTRIBUTE] = rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let bytes = rest.get(..length)?;
        let payload = bytes.get(ATTRIBUTE..)?;
        let kind = u16::from_ne_bytes([header[2], header[3]]) & !(NESTED | NETWORK_ORDER);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, payload, bytes })
    })
}

/// The payload of the first attribute of a kind.
pub(in crate::kernel) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|attribute| attribute.kind == kind).map(|attribute| attribute.payload)
}

/// A payload as an array of exactly this length.
pub(in crate::kernel) fn exact<const N: usize>(payload: &[u8]) -> Option<[u8; N]> {
    payload.try_into().ok()
}

/// A payload as a text, up to its NUL.
pub(in crate::kernel) fn text(payload: &[u8]) -> Option<&str> {
    std::str::from_utf8(payload.split(|byte| *byte == 0).next()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_put_comes_back_padded_and_nested() {
        let mut message = Message::new(6, 9, ACKNOWLEDGE, 2);
        message.put(1, &[7]);
        message.put_text(2, "S4");
        message.nest(7, |data| data.put_network(4, &80u16.to_be_bytes()));
        let bytes = Datagram::from(message).number(42).to_vec();
        assert_eq!(bytes.len() % 4, 0);

        let frame = frames(&bytes).next().expect("one frame");
        assert_eq!((frame.kind, frame.sequence), (0x0609, 42));
        let read: Vec<_> = attributes(behind_generic(frame.payload)).collect();
        assert_eq!(read.iter().map(|attribute| attribute.kind).collect::<Vec<_>>(), [1, 2, 7]);
        assert_eq!(read[0].payload, [7]);
        assert_eq!(text(read[1].payload), Some("S4"));
        assert_eq!(find(read[2].payload, 4), Some(&[0, 80][..]));
    }

    #[test]
    fn lengths_that_lie_end_the_reading() {
        assert_eq!(attributes(&[3, 0, 1, 0, 9, 9]).count(), 0);
        assert_eq!(attributes(&[200, 0, 1, 0, 9]).count(), 0);
        assert_eq!(attributes(&[5, 0, 1, 0, 9]).count(), 1);
        let mut short = 4u32.to_ne_bytes().to_vec();
        short.extend([0; 20]);
        assert_eq!(frames(&short).count(), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_run_forever(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            for frame in frames(&bytes) {
                let _ = (errno(frame.payload), echoed(frame.payload));
                for attribute in attributes(behind_generic(frame.payload)) {
                    let _ = text(attribute.payload);
                }
            }
            prop_assert!(attributes(&bytes).count() <= bytes.len() / ATTRIBUTE + 1);
        }
    }
}
