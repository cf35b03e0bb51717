//! Datagrams of pods that leave a node by its own interface, before flannel encapsulates them.

use crate::first_instant::{Micros, PORT, ProbeDatagram};
use crate::link::packet_socket;
use anyhow::{Context, Result};
use bridgewarden::testbed::Netns;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use support::frame::{IPV4, UDP};

/// The interface by which the node reaches other nodes.
const DEVICE: &str = "eth0";
/// The interval at which the thread checks whether to stop.
const LOOKS_EVERY: Duration = Duration::from_millis(100);

/// A thread that reads the packets of this interface.
#[derive(Debug)]
pub(super) struct Uplink {
    left: Arc<Mutex<BTreeMap<String, Vec<Micros>>>>,
    over: Arc<AtomicBool>,
}

impl Uplink {
    /// Begins to watch a node's interface.
    pub(super) fn watch(node: &Netns) -> Result<Uplink> {
        let opened = node.enter(|| packet_socket(DEVICE, Some(LOOKS_EVERY)))?;
        let (_, mut frames) =
            opened.with_context(|| format!("cannot watch {DEVICE} of node {}", node.name()))?;
        let uplink = Uplink { left: Arc::default(), over: Arc::default() };
        let (left, over) = (Arc::clone(&uplink.left), Arc::clone(&uplink.over));
        let thread = std::thread::Builder::new().name("uplink".to_owned());
        let watch = move || {
            while !over.load(Ordering::Relaxed) {
                if let Some(found) = frames.next().ok().and_then(probe_datagram) {
                    let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
                    left.entry(found.from).or_default().push(found.sent);
                }
            }
        };
        thread.spawn(watch).context("cannot start a thread")?;
        Ok(uplink)
    }

    /// When the datagrams of a pod that were seen were sent.
    pub(super) fn left(&self, pod: &str) -> Vec<Micros> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).get(pod).cloned().unwrap_or_default()
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// The probe datagram in a frame of IPv4 and UDP.
fn probe_datagram(frame: &[u8]) -> Option<ProbeDatagram> {
    let packet = frame.get(14..).filter(|_| frame.get(12..14) == Some(&IPV4.to_be_bytes()))?;
    let header = usize::from(packet.first()? & 15) * 4;
    let datagram = packet.get(header..).filter(|_| packet.get(9) == Some(&UDP))?;
    ProbeDatagram::read(datagram.get(8..).filter(|_| datagram.get(2..4) == Some(&PORT.to_be_bytes()))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;
    use support::frame::{ethernet, ip, udp};

    #[test]
    fn probe_datagram_is_found_in_its_frame_and_nowhere_else() {
        let [from, to] = ["10.244.1.7", "10.244.0.9"].map(|text| text.parse::<IpAddr>().unwrap());
        let sent = ProbeDatagram { from: "denied-7".to_owned(), number: 3, sent: 1_700_000_000_000_000 };
        let frame = |port, text: &str| {
            let datagram = udp(from, to, [port, port], text.as_bytes());
            ethernet([2; 6], [4; 6], IPV4, &ip(from, to, UDP, &datagram))
        };
        let whole = frame(PORT, &sent.write());
        assert_eq!(probe_datagram(&whole), Some(sent.clone()));
        assert_eq!(probe_datagram(&frame(PORT + 1, &sent.write())), None);
        for length in 0..42 {
            assert_eq!(probe_datagram(&whole[..length]), None);
        }
    }
}
