//! The packets that rules copy to an NFLOG group (NFNL_SUBSYS_ULOG), of which only one process can be the reader.
//!
//! Returns prefixes and bytes; their meaning is up to the caller.

use super::netlink::{ACKNOWLEDGE, Failure, Message, Netlink, attributes, exact, text, wait};
use crate::apply::KernelError;
use nix::libc;
use std::io;

const SUBSYSTEM: u8 = 4;
/// NFULNL_MSG_CONFIG.
const CONFIGURE: u8 = 1;

/// NFULA_CFG_*.
const COMMAND: u16 = 1;
const MODE: u16 = 2;
const BUFFER: u16 = 3;
const TIMEOUT: u16 = 4;
const THRESHOLD: u16 = 5;
const FLAGS: u16 = 6;
/// NFULNL_CFG_CMD_BIND.
const BIND: u8 = 1;
/// NFULNL_COPY_PACKET.
const COPY_PACKET: u8 = 2;
/// NFULNL_CFG_F_SEQ: number the messages, so that a gap shows how many were lost.
const NUMBERED: u16 = 1;

/// NFULA_*.
const HEADER: u16 = 1;
const FROM_DEVICE: u16 = 4;
const FROM_PORT: u16 = 6;
const TO_PORT: u16 = 7;
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;
const SEQUENCE: u16 = 12;

/// How much the kernel collects before it wakes the reader: bytes, messages, and hundredths of a second.
const GATHERED_BYTES: u32 = 16 * 1024;
const GATHERED_MESSAGES: u32 = 64;
const GATHERED_FOR: u32 = 10;
/// How many datagrams are read in one call.
const AT_ONCE: usize = 64;

/// The attempted action, for errors.
const ACT: &str = "read the denied packets";

/// The reader of one NFLOG group.
pub struct PacketLog {
    netlink: Netlink,
    next: Sequence,
}

impl PacketLog {
    /// Becomes the reader of a group, and requests this many bytes of each packet.
    ///
    /// # Errors
    /// The group has another reader, or the kernel has no NFLOG.
    pub fn open(group: u16, bytes: u32) -> Result<PacketLog, KernelError> {
        let failed = |source| KernelError::Netlink { act: ACT, source };
        let mut netlink = Netlink::open().map_err(failed)?;
        // No family: the packets of a group belong to both.
        let mut request = Message::new(SUBSYSTEM, CONFIGURE, ACKNOWLEDGE, 0).about(group);
        request.put(COMMAND, &[BIND]);
        let [a, b, c, d] = bytes.to_be_bytes();
        request.put(MODE, &[a, b, c, d, COPY_PACKET, 0]);
        request.put(BUFFER, &GATHERED_BYTES.to_be_bytes());
        request.put(TIMEOUT, &GATHERED_FOR.to_be_bytes());
        request.put(THRESHOLD, &GATHERED_MESSAGES.to_be_bytes());
        request.put(FLAGS, &NUMBERED.to_be_bytes());
        netlink.ask(request, |_| {}).map_err(|failure| failed(refused(group, failure)))?;
        Ok(PacketLog { netlink, next: Sequence::default() })
    }

    /// Waits until there are messages, and reads them, up to a limit. `each` is called with every copy. Returns how
    /// many messages were lost before those that were read, for lack of space. Blocks.
    ///
    /// # Errors
    /// The socket failed and must be opened again.
    pub fn read(&mut self, mut each: impl FnMut(Logged<'_>)) -> Result<u64, KernelError> {
        let failed = |source| KernelError::Netlink { act: ACT, source };
        wait(&self.netlink).map_err(failed)?;
        let mut lost = 0;
        for _ in 0..AT_ONCE {
            let next = &mut self.next;
            let received = self.netlink.receive_each(|message| {
                let copy = Copied::of(message);
                lost += copy.sequence.map_or(0, |sequence| next.lost_before(sequence));
                if let (Some(prefix), Some(bytes)) = (copy.prefix, copy.payload) {
                    let Copied { kind, from_device, from_port, to_port, .. } = copy;
                    each(Logged { prefix, kind, from_device, from_port, to_port, bytes });
                }
            });
            match received {
                // Lost messages show as a gap before the next message.
                Ok(true) | Err(Failure::Overrun) => {}
                Ok(false) => break,
                Err(failure) => return Err(failed(failure.into())),
            }
        }
        Ok(lost)
    }
}

fn refused(group: u16, failure: Failure) -> io::Error {
    match failure {
        // The kernel returns EPERM if another socket reads the group (nfulnl_recv_config).
        Failure::Refused { code: libc::EPERM | libc::EBUSY, .. } => io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!(
                "NFLOG group {group} has another reader (see /proc/net/netfilter/nfnetlink_log), and only one is possible: \
                 choose another with --nflog-group"
            ),
        ),
        Failure::Refused { code: libc::EINVAL, .. } => io::Error::new(
            io::ErrorKind::Unsupported,
            "the kernel has no NFLOG for programs; load it: modprobe nfnetlink_log",
        ),
        Failure::Refused { .. } | Failure::Overrun | Failure::System(_) => failure.into(),
    }
}

/// The number that the next message should have.
#[derive(Clone, Copy, Debug, Default)]
struct Sequence(u32);

impl Sequence {
    /// How many messages are missing before this one.
    fn lost_before(&mut self, sequence: u32) -> u64 {
        let gap = sequence.wrapping_sub(self.0);
        self.0 = sequence.wrapping_add(1);
        u64::from(gap)
    }
}

/// A copy of a packet, made by a rule.
#[derive(Clone, Copy, Debug, Default)]
pub struct Logged<'a> {
    /// The prefix of the rule.
    pub prefix: &'a str,
    /// The Ethernet type (NFULA_PACKET_HDR).
    pub kind: u16,
    /// The index of the device at which it arrived (NFULA_IFINDEX_INDEV): the bridge, if it arrived at a port.
    pub from_device: Option<u32>,
    /// The index of the bridge port at which it arrived (NFULA_IFINDEX_PHYSINDEV).
    pub from_port: Option<u32>,
    /// The index of the bridge port by which it was to leave (NFULA_IFINDEX_PHYSOUTDEV).
    pub to_port: Option<u32>,
    /// Its first bytes after the Ethernet header.
    pub bytes: &'a [u8],
}

/// What a message contains about a packet.
#[derive(Default)]
struct Copied<'a> {
    prefix: Option<&'a str>,
    payload: Option<&'a [u8]>,
    sequence: Option<u32>,
    kind: u16,
    from_device: Option<u32>,
    from_port: Option<u32>,
    to_port: Option<u32>,
}

impl<'a> Copied<'a> {
    fn of(message: &'a [u8]) -> Copied<'a> {
        let mut copied = Copied::default();
        for attribute in attributes(message) {
            match attribute.kind {
                PREFIX => copied.prefix = text(attribute.payload),
                PAYLOAD => copied.payload = Some(attribute.payload),
                HEADER => {
                    copied.kind = attribute.payload.first_chunk().map_or(0, |kind| u16::from_be_bytes(*kind))
                }
                FROM_DEVICE => copied.from_device = exact(attribute.payload).map(u32::from_be_bytes),
                FROM_PORT => copied.from_port = exact(attribute.payload).map(u32::from_be_bytes),
                TO_PORT => copied.to_port = exact(attribute.payload).map(u32::from_be_bytes),
                SEQUENCE => copied.sequence = exact(attribute.payload).map(u32::from_be_bytes),
                _ => {}
            }
        }
        copied
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn message_tells_prefix_bytes_and_number() {
        let mut message = Message::new(SUBSYSTEM, 0, 0, 2);
        message.put_text(PREFIX, "denied-ingress");
        message.put(PAYLOAD, &[0x45, 0, 0]);
        message.put(SEQUENCE, &7u32.to_be_bytes());
        let copied = Copied::of(message.attributes());
        assert_eq!(copied.prefix, Some("denied-ingress"));
        assert_eq!((copied.payload, copied.sequence), (Some(&[0x45, 0, 0][..]), Some(7)));
    }

    #[test]
    fn gap_in_the_numbers_is_what_was_lost() {
        let mut next = Sequence::default();
        assert_eq!([0, 1, 5, 6].map(|sequence| next.lost_before(sequence)), [0, 0, 3, 0]);
        let mut next = Sequence(u32::MAX);
        assert_eq!([u32::MAX, 0, 2].map(|sequence| next.lost_before(sequence)), [0, 0, 1]);
    }

    #[test]
    fn group_of_another_reader_is_reported_with_the_way_out() {
        let received = |code| refused(101, Failure::Refused { code, request: Vec::new() }).to_string();
        assert!(
            received(libc::EPERM).contains("NFLOG group 101 has another reader")
                && received(libc::EBUSY).contains("--nflog-group")
        );
        assert!(received(libc::EINVAL).contains("modprobe nfnetlink_log"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Copied::of(&bytes);
        }
    }
}
