//! The program in a pod that makes the attempts.

use super::attempt::PORT;
use super::{Attempt, Link};
use crate::link::packet_socket;
use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;
use std::net::{Ipv6Addr, SocketAddrV6, TcpStream, UdpSocket};
use std::time::Duration;

/// The pause between two attempts: the kernel reports at most ten dropped frames per second and pod to the agent.
const PAUSE: Duration = Duration::from_millis(150);
/// How long to wait for an answer to a connection.
const PATIENCE: Duration = Duration::from_millis(300);

/// What to try.
#[derive(Debug)]
pub struct Intruder {
    /// The interface.
    pub device: String,
    /// The pods that take part.
    pub link: Link,
    /// How often to try everything.
    pub rounds: u32,
}

impl Intruder {
    /// Makes all attempts.
    ///
    /// # Errors
    /// Frames cannot be sent: the pod lacks CAP_NET_RAW, or an interface.
    pub fn go(&self) -> Result<()> {
        let index = if_nametoindex(self.device.as_str())
            .with_context(|| format!("there is no interface {}", self.device))?;
        let to = SocketAddrV6::new(self.link.receiver.link_local, PORT, 0, index);
        let datagrams =
            UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).context("cannot open a UDP socket of IPv6")?;
        let (mut frames, _) = packet_socket(&self.device, None).context("has the pod CAP_NET_RAW?")?;
        for _ in 0..self.rounds {
            for attempt in Attempt::ALL {
                // A send may return the ICMP error of an earlier datagram; this one was sent anyway.
                match (attempt, attempt.frame(&self.link)) {
                    (_, Some(frame)) => {
                        let sent = frames.send_to(&frame, None).context("the interface takes no frames")?;
                        sent.with_context(|| format!("cannot send {attempt:?} by {}", self.device))?;
                    }
                    (Attempt::LinkLocalTcp, None) => {
                        let _ = TcpStream::connect_timeout(&to.into(), PATIENCE);
                    }
                    (_, None) => {
                        let _ = datagrams.send_to(&attempt.token(), to);
                    }
                }
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }
}
