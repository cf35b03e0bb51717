//! A stream of datagrams to a pod, which shows when they begin or cease to pass.

use anyhow::{Context, Result, ensure};
use bridgewarden::testbed::Netns;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The destination port.
pub(crate) const PORT: u16 = 7_000;
/// The interval at which the receiver checks whether to stop.
const LOOK: Duration = Duration::from_millis(20);
/// Without a datagram for this long, nothing passes.
const QUIET: Duration = Duration::from_millis(100);
/// Each stream has its own source port, so that conntrack entries of streams differ.
static SOURCE_PORT: AtomicU16 = AtomicU16::new(20_000);

/// Datagrams from one address to one pod. They are not answered, so each is evaluated like the first packet of a
/// connection.
pub(crate) struct UdpProbeStream {
    stop: Arc<AtomicBool>,
    arrived: Arc<Mutex<Vec<Instant>>>,
    threads: Vec<JoinHandle<()>>,
}

impl UdpProbeStream {
    /// Starts sending from the namespace `from`. The source address need not belong to a pod.
    pub(crate) fn start(
        from: &Netns,
        source: Ipv4Addr,
        into: &Netns,
        to: Ipv4Addr,
        pace: Duration,
    ) -> Result<UdpProbeStream> {
        let raw = || socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw);
        let raw = from.enter(raw)?.context("cannot open a raw socket")?;
        let receiver = into.enter(|| UdpSocket::bind((to, PORT)))?.context("cannot listen in a pod")?;
        receiver.set_read_timeout(Some(LOOK)).context("cannot set a patience")?;
        let (stop, arrived) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<Instant>>>::default());
        let packet = packet(source, SOURCE_PORT.fetch_add(1, Ordering::Relaxed), to);
        let is_off = Arc::clone(&stop);
        let sending = std::thread::spawn(move || send(&raw, &packet, to, pace, &is_off));
        let (is_off, note) = (Arc::clone(&stop), Arc::clone(&arrived));
        let receiving = std::thread::spawn(move || {
            while !is_off.load(Ordering::Relaxed) {
                if receiver.recv(&mut [0; 64]).is_ok() {
                    note.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
                }
            }
        });
        Ok(UdpProbeStream { stop, arrived, threads: vec![sending, receiving] })
    }

    /// Waits for the first datagram that passes, and returns when it arrived.
    pub(crate) fn first(&self, patience: Duration) -> Result<Instant> {
        let begun = Instant::now();
        loop {
            if let Some(first) = self.look(|arrived| arrived.first().copied()) {
                return Ok(first);
            }
            ensure!(begun.elapsed() < patience, "nothing passes after {patience:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until nothing passes any more, and returns when the last datagram arrived.
    pub(crate) fn last(&self, patience: Duration) -> Result<Instant> {
        let begun = Instant::now();
        loop {
            let last = self.look(|arrived| arrived.last().copied()).context("nothing ever passed")?;
            if last.elapsed() > QUIET {
                return Ok(last);
            }
            ensure!(begun.elapsed() < patience, "datagrams still pass after {patience:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether anything has passed yet.
    pub(crate) fn has_passed(&self) -> bool {
        self.look(|arrived| !arrived.is_empty())
    }

    fn look<T>(&self, look: impl FnOnce(&Vec<Instant>) -> T) -> T {
        look(&self.arrived.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for UdpProbeStream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A datagram without a checksum (RFC 768); the kernel fills in the rest of the header's (raw(7)).
fn packet(source: Ipv4Addr, port: u16, to: Ipv4Addr) -> [u8; 32] {
    let mut packet = [0; 32];
    packet[..12].copy_from_slice(&[0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0]);
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&to.octets());
    packet[20..22].copy_from_slice(&port.to_be_bytes());
    packet[22..24].copy_from_slice(&PORT.to_be_bytes());
    packet[24..26].copy_from_slice(&12_u16.to_be_bytes());
    packet
}

fn send(raw: &OwnedFd, packet: &[u8], to: Ipv4Addr, pace: Duration, is_off: &AtomicBool) {
    let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
    let mut next = Instant::now();
    while !is_off.load(Ordering::Relaxed) {
        // If the queue is full, one datagram is lost, as in any network.
        let _ = sendto(raw.as_raw_fd(), packet, &to, MsgFlags::empty());
        next = (next + pace).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
