//! Waits for datagrams with a precise timeout.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::Instant;

/// Waits until there is something to receive; returns false at `until`.
///
/// A socket's own timeout counts the kernel's ticks: with 250 per second, a timeout of 2 ms takes 8 ms.
///
/// # Errors
/// Waiting fails.
pub(super) fn arrives(socket: &UdpSocket, until: Instant) -> Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut sockets = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut sockets, Some(TimeSpec::from_duration(left)), None) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error).context("cannot wait for datagrams"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn datagram_is_waited_for_and_nothing_for_ever() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let soon = || Instant::now() + Duration::from_millis(1);
        assert!(!arrives(&socket, soon()).expect("it can be waited"));
        socket.send_to(b"x", socket.local_addr().expect("an address")).expect("loopback");
        assert!(arrives(&socket, Instant::now() + Duration::from_secs(5)).expect("it can be waited"));
    }
}
