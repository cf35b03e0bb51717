//! Listeners: each answers with its name, receives streams, and counts datagrams by sender.

use super::received::{Received, StreamCounter};
use super::{Endpoint, Netns, Port, TestbedError};
use crate::net::Protocol;
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

/// The first byte that a client sends.
pub(super) mod word {
    /// Asks for the listener's name.
    pub(in super::super) const WHO: u8 = b'?';
    /// Announces a stream that the client pushes; its number follows in 8 bytes.
    pub(in super::super) const TAKE: u8 = b'>';
    /// Asks for a stream that the server pushes; its number follows in 8 bytes.
    pub(in super::super) const GIVE: u8 = b'<';
    /// Ends a listener's name.
    pub(in super::super) const END: u8 = b'\n';
}

/// The interval of a stream's messages.
const BEAT: Duration = Duration::from_millis(5);
/// The timeout of an idle client.
const SILENCE: Duration = Duration::from_secs(10);

/// A port that is served; dropping it closes its sockets and the connections they accepted.
#[derive(Debug)]
pub(super) struct Listener(JoinSet<()>);

impl Listener {
    /// Waits until its sockets are closed, so that the port is free again.
    pub(super) async fn close(mut self) {
        self.0.shutdown().await;
    }
}

/// Serves a port of an address. Must run on the testbed's thread, and leaves that thread in the namespace.
///
/// Each address has its own socket, so that answers come from the address that was probed.
pub(super) fn listen(
    namespace: &Netns,
    who: &Endpoint,
    address: IpAddr,
    (protocol, port): Port,
    received: &Arc<Received>,
) -> Result<Listener, TestbedError> {
    namespace.hop()?;
    let address = SocketAddr::new(address, port);
    let failed = |source| TestbedError::Listen { endpoint: who.clone(), protocol, address, source };
    let (who, received) = (who.clone(), received.clone());
    let mut tasks = JoinSet::new();
    match protocol {
        Protocol::Udp => drop(tasks.spawn(serve_udp(udp(address).map_err(failed)?, who, received))),
        Protocol::Tcp | Protocol::Sctp => {
            let listener = listener(protocol, address).map_err(failed)?;
            tasks.spawn(serve_streams(listener, who, received));
        }
    }
    Ok(Listener(tasks))
}

/// A socket of TCP or SCTP for an address' family, in the namespace of the calling thread. A socket of SCTP with one
/// association behaves as one of TCP.
pub(super) fn stream_socket(protocol: Protocol, address: SocketAddr) -> io::Result<TcpSocket> {
    match protocol {
        Protocol::Sctp => {
            let socket =
                Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::SCTP))?;
            socket.set_nonblocking(true)?;
            Ok(TcpSocket::from_std_stream(socket.into()))
        }
        Protocol::Tcp | Protocol::Udp if address.is_ipv4() => TcpSocket::new_v4(),
        Protocol::Tcp | Protocol::Udp => TcpSocket::new_v6(),
    }
}

/// Whether the kernel has sockets of SCTP.
pub fn has_sctp() -> bool {
    Socket::new(Domain::IPV4, Type::STREAM, Some(socket2::Protocol::SCTP)).is_ok()
}

fn listener(protocol: Protocol, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = stream_socket(protocol, address)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

async fn serve_streams(listener: TcpListener, who: Endpoint, received: Arc<Received>) {
    let name = name(&who);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (name, received) = (name.clone(), received.clone());
                    connections.spawn(async move {
                        // A client that goes away is no error of the listener.
                        converse(stream, &name, &received).await.ok();
                    });
                }
                // Most likely no descriptor is free: other connections need time to close.
                Err(_) => sleep(BEAT).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

fn name(who: &Endpoint) -> Arc<[u8]> {
    let mut name = who.to_string().into_bytes();
    name.push(word::END);
    name.into()
}

async fn converse(mut stream: TcpStream, name: &[u8], received: &Received) -> io::Result<()> {
    match timeout(SILENCE, stream.read_u8()).await?? {
        word::WHO => {
            stream.write_all(name).await?;
            // The client closes first, with a reset: nothing stays in TIME_WAIT on either side.
            timeout(SILENCE, stream.read_u8()).await??;
        }
        word::TAKE => {
            let id = timeout(SILENCE, stream.read_u64()).await??;
            if let Some(counter) = received.stream(id) {
                counter.end(format!("server: {}", take(&mut stream, &counter).await));
            }
        }
        word::GIVE => {
            let id = timeout(SILENCE, stream.read_u64()).await??;
            if let Some(counter) = received.stream(id) {
                counter.end(format!("server: {}", give(&mut stream).await));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Counts the received messages, one byte each, until the stream ends; returns the reason.
pub(super) async fn take(stream: &mut TcpStream, counter: &StreamCounter) -> io::Error {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => return io::Error::other("the other end closed"),
            Ok(messages) => counter.count(messages as u64),
            Err(error) => return error,
        }
    }
}

/// Sends a message at every beat until sending fails; returns the reason.
pub(super) async fn give(stream: &mut TcpStream) -> io::Error {
    if let Err(error) = stream.set_nodelay(true) {
        return error;
    }
    let mut beat = beat();
    loop {
        beat.tick().await;
        if let Err(error) = stream.write_all(b".").await {
            return error;
        }
    }
}

/// Ticks at every beat; after a delay, it does not catch up.
pub(super) fn beat() -> Interval {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}

async fn serve_udp(socket: UdpSocket, who: Endpoint, received: Arc<Received>) {
    let name = name(&who);
    let socket = Arc::new(socket);
    let mut pushing = JoinSet::new();
    let mut buffer = [0; 2048];
    loop {
        tokio::select! {
            arrived = socket.recv_from(&mut buffer) => {
                // An error means that an earlier answer was denied.
                let Ok((length, from)) = arrived else { continue };
                received.count_datagram(&who, from.ip());
                match (buffer.first(), stream_id(&buffer[..length])) {
                    (Some(&word::WHO), None) if length == 1 => {
                        socket.send_to(&name, from).await.ok();
                    }
                    (Some(&word::TAKE), Some(id)) => {
                        if let Some(counter) = received.stream(id) {
                            counter.count(1);
                        }
                    }
                    (Some(&word::GIVE), Some(id)) => {
                        pushing.spawn(give_datagrams(socket.clone(), from, id, received.clone()));
                    }
                    _ => {}
                }
            }
            Some(_) = pushing.join_next() => {}
        }
    }
}

fn stream_id(datagram: &[u8]) -> Option<u64> {
    let id = datagram.get(1..)?;
    id.try_into().ok().map(u64::from_be_bytes)
}

async fn give_datagrams(socket: Arc<UdpSocket>, to: SocketAddr, id: u64, received: Arc<Received>) {
    let mut beat = beat();
    while received.stream(id).is_some() {
        beat.tick().await;
        // If it is denied, the receiver counts nothing.
        socket.send_to(b".", to).await.ok();
    }
}
