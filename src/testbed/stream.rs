//! Long-lived connections, which show when an allowance is revoked.

use super::listen::{beat, give, take, word};
use super::probe::{ProbeTimeouts, ResolvedProbe, outcome};
use super::received::{Received, StreamCounter};
use super::{ProbeOutcome, TestbedError};
use crate::net::Protocol;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// The side of a stream that sends; the other only receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Push {
    /// The one that connected.
    Client,
    /// The one that was connected to.
    Server,
}

/// A connection over which one side sends a message every 5 ms. Dropping it closes it.
#[derive(Debug)]
pub struct Stream {
    id: u64,
    counter: Arc<StreamCounter>,
    received: Arc<Received>,
    task: AbortHandle,
}

impl Stream {
    /// How many messages have arrived.
    pub fn received(&self) -> u64 {
        self.counter.progress().received
    }

    /// When the last message arrived.
    pub fn last_received(&self) -> Option<Instant> {
        self.counter.progress().last
    }

    /// The first error of either side. Over TCP it ends the stream; over UDP it need not.
    pub fn error(&self) -> Option<String> {
        self.counter.progress().ended
    }

    /// Waits for the next message; returns `false` if none arrives within `patience`.
    pub fn moves_within(&self, patience: Duration) -> bool {
        self.counter.moves_within(patience)
    }

    /// Waits until no message has arrived for `quiet`; returns `false` if that does not happen within `patience`.
    pub fn falls_silent(&self, quiet: Duration, patience: Duration) -> bool {
        self.counter.falls_silent(quiet, patience)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
        self.received.close(self.id);
    }
}

/// Opens a stream. Must run on the testbed's thread.
pub(super) async fn open(
    probe: ResolvedProbe,
    push: Push,
    received: Arc<Received>,
    timeouts: ProbeTimeouts,
) -> Result<Stream, ProbeOutcome> {
    let (id, counter) = received.open();
    let begun = match probe.protocol {
        Protocol::Tcp => open_tcp(&probe, push, id, &counter, timeouts.tcp).await,
        Protocol::Udp => open_udp(&probe, push, id, &counter).await,
        Protocol::Sctp => Err(ProbeOutcome::Failed("streams are of TCP or UDP".to_owned())),
    };
    match begun {
        Ok(task) => Ok(Stream { id, counter, received, task }),
        Err(refused) => {
            received.close(id);
            Err(refused)
        }
    }
}

fn greeting(push: Push, id: u64) -> Vec<u8> {
    let first = match push {
        Push::Client => word::TAKE,
        Push::Server => word::GIVE,
    };
    [[first].as_slice(), &id.to_be_bytes()].concat()
}

async fn open_tcp(
    probe: &ResolvedProbe,
    push: Push,
    id: u64,
    counter: &Arc<StreamCounter>,
    patience: Duration,
) -> Result<AbortHandle, ProbeOutcome> {
    let begin = async {
        let mut stream = probe.connect().await?;
        stream.write_all(&greeting(push, id)).await?;
        Ok(stream)
    };
    let stream: TcpStream = match timeout(patience, begin).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(outcome(&error)),
        Err(_) => return Err(ProbeOutcome::Timeout),
    };
    Ok(tokio::spawn(keep_tcp(stream, push, counter.clone())).abort_handle())
}

async fn keep_tcp(mut stream: TcpStream, push: Push, counter: Arc<StreamCounter>) {
    let error = match push {
        Push::Client => give(&mut stream).await,
        Push::Server => take(&mut stream, &counter).await,
    };
    counter.end(format!("client: {error}"));
}

async fn open_udp(
    probe: &ResolvedProbe,
    push: Push,
    id: u64,
    counter: &Arc<StreamCounter>,
) -> Result<AbortHandle, ProbeOutcome> {
    let begin = async {
        let socket = probe.udp()?;
        socket.send(&greeting(push, id)).await?;
        Ok(socket)
    };
    let socket = begin.await.map_err(|error: io::Error| outcome(&error))?;
    Ok(tokio::spawn(keep_udp(socket, push, id, counter.clone())).abort_handle())
}

async fn keep_udp(socket: UdpSocket, push: Push, id: u64, counter: Arc<StreamCounter>) {
    let greeting = greeting(push, id);
    let mut beat = beat();
    let mut buffer = [0; 64];
    loop {
        let done = match push {
            Push::Client => {
                beat.tick().await;
                socket.send(&greeting).await.map(drop)
            }
            Push::Server => socket.recv(&mut buffer).await.map(|_| counter.count(1)),
        };
        if let Err(error) = done {
            counter.end(format!("client: {error}"));
        }
    }
}

/// The error for a stream that could not be opened.
pub(super) fn refused(
    from: &super::Endpoint,
    to: std::net::SocketAddr,
    outcome: &ProbeOutcome,
) -> TestbedError {
    TestbedError::Send { act: "open a stream", from: from.clone(), to, reason: outcome.to_string() }
}
