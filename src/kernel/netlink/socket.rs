//! A netlink socket to netfilter, with one request at a time.

use super::message::{Datagram, Message, behind_generic, echoed, errno, frames};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout, sockopt::SndBufForce};
use nix::sys::time::TimeVal;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// The longest request, in bytes. An error message contains the whole request, so the receive buffer is larger.
pub(in crate::kernel) const REQUEST_MAX: usize = 32 * 1024;
/// The receive buffer, in bytes. The kernel's messages of a dump have at most 32 KiB.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// The receive queue of the socket, in bytes.
const RECEIVE_QUEUE: libc::c_int = 1024 * 1024;
/// How long the kernel may take for one request, in seconds.
const PATIENCE: i64 = 30;
/// How often a dump is started before its losses are reported as an error.
const DUMP_ATTEMPTS: usize = 3;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_MIN_TYPE: u16 = 16;

/// Why a request failed.
#[derive(Debug)]
pub(in crate::kernel) enum Failure {
    /// The kernel rejected the request.
    Refused {
        /// Its error number, positive.
        code: i32,
        /// The attributes of the request, if the kernel returned them.
        request: Vec<u8>,
    },
    /// The kernel dropped a response for lack of space (ENOBUFS); the request may have been executed.
    Overrun,
    /// The socket failed.
    System(io::Error),
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> io::Error {
        match failure {
            Failure::Refused { code, .. } => io::Error::from_raw_os_error(code),
            Failure::Overrun => io::Error::from_raw_os_error(libc::ENOBUFS),
            Failure::System(error) => error,
        }
    }
}

/// A connection to the kernel, in the network namespace of the thread that opened it.
pub(in crate::kernel) struct Netlink {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Netlink {
    /// Opens the socket.
    pub(in crate::kernel) fn open() -> io::Result<Netlink> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        socket.set_rx_buf_sz(RECEIVE_QUEUE)?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
        Ok(Netlink { socket, buffer: vec![0; RECEIVE_BUFFER], sequence: 0 })
    }

    /// Permits one request, or a batch of them, to have this many bytes (SO_SNDBUFFORCE).
    pub(in crate::kernel) fn may_send(&self, bytes: usize) -> io::Result<()> {
        Ok(setsockopt(&self.socket, SndBufForce, &bytes)?)
    }

    /// The netlink port of this socket (nlmsg_pid).
    pub(in crate::kernel) fn port(&self) -> io::Result<u32> {
        let mut address = SocketAddr::new(0, 0);
        self.socket.get_address(&mut address)?;
        Ok(address.port_number())
    }

    /// Sends one request and reads until its acknowledgement, or the end of its dump. `each` is called with the
    /// attributes of every message.
    pub(in crate::kernel) fn ask(
        &mut self,
        request: Message,
        each: impl FnMut(&[u8]),
    ) -> Result<(), Failure> {
        self.exchange(request.into(), 1, each).map_err(|(_, failure)| failure)
    }

    /// Sends requests together, which the kernel carries out in their order, and reads until all are done. One that fails stops
    /// none that follow. Returns the index of the first that failed.
    ///
    /// All together may be as long as one request. They are acknowledged together, so none of them may ask for that by itself.
    pub(in crate::kernel) fn write_all(&mut self, mut requests: Datagram) -> Result<(), (usize, Failure)> {
        requests.demand_acknowledgement();
        match requests.count() {
            0 => Ok(()),
            all => self.exchange(requests, all, |_| {}),
        }
    }

    /// Sends the requests of a transaction. The last one only ends it and is not acknowledged; the one before it
    /// requests an acknowledgement. Returns the index of the first that failed.
    pub(in crate::kernel) fn write_batch(&mut self, requests: Datagram) -> Result<(), (usize, Failure)> {
        let awaited = requests.count().saturating_sub(1);
        self.exchange(requests, awaited, |_| {})
    }

    /// Sends the requests and reads until the last of the first `awaited` is answered. Returns the index of the first that failed.
    fn exchange(
        &mut self,
        mut requests: Datagram,
        awaited: usize,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), (usize, Failure)> {
        let (first, count) = (self.sequence.wrapping_add(1), requests.count());
        self.sequence = self.sequence.wrapping_add(count as u32);
        let sent = self.send(requests.number(first));
        // The kernel has copied them.
        drop(requests);
        sent.map_err(|failure| (0, failure))?;
        let mut failed = None;
        loop {
            let length = self.receive().inspect_err(|_| self.drain()).map_err(|failure| (0, failure))?;
            for frame in frames(&self.buffer[..length]) {
                let place = frame.sequence.wrapping_sub(first) as usize;
                if place >= count {
                    continue;
                }
                match frame.kind {
                    NLMSG_ERROR | NLMSG_DONE => {
                        let code = errno(frame.payload);
                        if code != 0 && failed.is_none() {
                            let given_back =
                                if frame.kind == NLMSG_ERROR { echoed(frame.payload) } else { &[] };
                            failed = Some((place, Failure::Refused { code, request: given_back.to_vec() }));
                        }
                        if place + 1 == awaited {
                            return failed.map_or(Ok(()), Err);
                        }
                    }
                    NLMSG_MIN_TYPE.. => each(behind_generic(frame.payload)),
                    0..NLMSG_MIN_TYPE => {}
                }
            }
        }
    }

    /// Reads one datagram of what the kernel sends unasked, if there is one; `each` is handed the attributes of every
    /// message in it. Returns whether there was one.
    pub(in crate::kernel) fn receive_each(&mut self, mut each: impl FnMut(&[u8])) -> Result<bool, Failure> {
        let length = match self.socket.recv(&mut &mut self.buffer[..], libc::MSG_DONTWAIT | libc::MSG_TRUNC) {
            Ok(length) => length.min(self.buffer.len()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Err(Failure::Overrun),
            Err(error) => return Err(Failure::System(error)),
        };
        let messages = frames(&self.buffer[..length]).filter(|frame| frame.kind >= NLMSG_MIN_TYPE);
        messages.for_each(|frame| each(behind_generic(frame.payload)));
        Ok(true)
    }

    /// Discards everything that still arrives: the kernel starts no dump before the last one has ended.
    fn drain(&mut self) {
        while self.socket.recv(&mut &mut self.buffer[..], libc::MSG_DONTWAIT).is_ok() {}
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Failure> {
        loop {
            match self.socket.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::System(error)),
            }
        }
    }

    fn receive(&mut self) -> Result<usize, Failure> {
        loop {
            match self.socket.recv_from(&mut &mut self.buffer[..], libc::MSG_TRUNC) {
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok((length, _)) if length > self.buffer.len() => return Err(Failure::Overrun),
                Ok((length, _)) => return Ok(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let text = format!("the kernel did not answer within {PATIENCE} s");
                    return Err(Failure::System(io::Error::new(io::ErrorKind::TimedOut, text)));
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Err(Failure::Overrun),
                Err(error) => return Err(Failure::System(error)),
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until the kernel has sent something, or a signal arrives.
pub(in crate::kernel) fn wait(socket: &impl AsFd) -> io::Result<()> {
    let mut sockets = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    match poll(&mut sockets, PollTimeout::NONE) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Repeats a dump that lost a part of its response, a few times.
pub(in crate::kernel) fn whole<T>(mut dump: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    for _ in 1..DUMP_ATTEMPTS {
        match dump() {
            Err(Failure::Overrun) => {}
            result => return result,
        }
    }
    dump()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dump_that_lost_a_part_is_begun_anew_and_not_for_ever() {
        let mut attempts = 0;
        let second = whole(|| {
            attempts += 1;
            if attempts < 2 { Err(Failure::Overrun) } else { Ok(attempts) }
        });
        assert_eq!(second.expect("the second went well"), 2);

        let mut attempts = 0;
        let lost = whole(|| {
            attempts += 1;
            Err::<(), _>(Failure::Overrun)
        });
        assert!(matches!(lost, Err(Failure::Overrun)));
        assert_eq!(attempts, DUMP_ATTEMPTS);
    }
}
