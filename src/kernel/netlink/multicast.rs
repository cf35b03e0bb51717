//! One socket that receives the kernel's notifications, in the order of the changes.

use super::message::{MessageFrame, frames};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use socket2::{SockFilter, SockRef};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

/// The receive queue of the socket, in bytes: enough for some ten thousand rules that change in one instant.
const QUEUE: usize = 8 * 1024 * 1024;
/// The receive buffer, in bytes. The kernel's messages have at most 32 KiB.
const BUFFER: usize = 64 * 1024;

/// Classic BPF (linux/filter.h): load 32 bits in network byte order, jump if equal, return.
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// The offset of nlmsg_pid in `struct nlmsghdr`.
const PORT: u32 = 12;

/// A receiver of one group, in the network namespace of the thread that opened it.
pub(in crate::kernel) struct Multicast {
    socket: Socket,
}

impl Multicast {
    /// Joins a group (NFNLGRP_*), without the messages about what the socket with the port `own` changes: the kernel drops them
    /// before they wake a reader.
    ///
    /// While that socket is open, no other of this network namespace can have its port.
    pub(in crate::kernel) fn join(group: u32, own: u32) -> io::Result<Multicast> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        SockRef::from(&socket).attach_filter(&filter(own))?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        if setsockopt(&socket, RcvBufForce, &QUEUE).is_err() {
            socket.set_rx_buf_sz(libc::c_int::try_from(QUEUE).unwrap_or(libc::c_int::MAX))?;
        }
        socket.add_membership(group)?;
        Ok(Multicast { socket })
    }

    /// A buffer for [`Multicast::drain`].
    pub(in crate::kernel) fn buffer() -> Vec<u8> {
        vec![0; BUFFER]
    }

    /// Returns all messages that have arrived, without waiting, and whether some were lost.
    pub(in crate::kernel) fn drain(
        &self,
        buffer: &mut [u8],
        mut each: impl FnMut(&MessageFrame<'_>),
    ) -> io::Result<bool> {
        let mut lost = false;
        loop {
            match self.socket.recv_from(&mut &mut buffer[..], libc::MSG_TRUNC) {
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok((length, _)) => match buffer.get(..length) {
                    Some(datagram) => frames(datagram).for_each(|frame| each(&frame)),
                    None => lost = true,
                },
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(lost),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => lost = true,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Drops each datagram whose first message names this port. All messages of a transaction name the port of its sender, and no
/// datagram has messages of two transactions (`nft_commit_notify`, linux/net/netfilter/nf_tables_api.c).
fn filter(port: u32) -> [SockFilter; 4] {
    [
        SockFilter::new(LOAD, 0, 0, PORT),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, u32::from_be_bytes(port.to_ne_bytes())),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}

impl AsFd for Multicast {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
