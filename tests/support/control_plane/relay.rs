//! A TCP relay that cuts connections in mid-stream.

use crate::worlds::Random;
use anyhow::{Context, Result};
use bridgewarden::testbed::Netns;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Forwards connections to a server until it is dropped.
#[derive(Debug)]
pub struct Relay {
    schedule: Arc<Mutex<CutSchedule>>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// When to cut.
#[derive(Debug)]
struct CutSchedule {
    random: Random,
    /// After how many bytes from the server, counted from the beginning of the cuts; `None` for never.
    after: Option<Range<usize>>,
    cuts: u64,
}

impl Relay {
    /// Starts a relay that listens in a namespace and connects to a server from there. `seed` determines where it cuts.
    ///
    /// # Errors
    /// It cannot listen on the address.
    pub fn start(namespace: &Netns, listen: SocketAddr, server: SocketAddr, seed: u64) -> Result<Relay> {
        let schedule = Arc::new(Mutex::new(CutSchedule { random: Random::new(seed), after: None, cuts: 0 }));
        let listener = namespace
            .enter(|| std::net::TcpListener::bind(listen))?
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .with_context(|| format!("cannot listen on {listen}"))?;
        let (stop, stopped) = oneshot::channel();
        let (namespace, own) = (namespace.clone(), Arc::clone(&schedule));
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener)?;
                tokio::select! {
                    served = accept(listener, server, own) => served,
                    _ = stopped => Ok(()),
                }
            })
        };
        // Its connections to the server are opened on this thread, and so in the namespace.
        let thread = std::thread::spawn(move || {
            let served = namespace.enter(serve);
            assert!(matches!(served, Ok(Ok(()))), "the relay ended: {served:?}");
        });
        Ok(Relay { schedule, running: Some((stop, thread)) })
    }

    /// Cuts every connection, existing and new, each after a number of bytes from the server in this range.
    pub fn cut_after(&self, bytes: Range<usize>) {
        lock(&self.schedule).after = Some(bytes);
    }

    /// Stops cutting connections.
    pub fn spare(&self) {
        lock(&self.schedule).after = None;
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> u64 {
        lock(&self.schedule).cuts
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    schedule: Arc<Mutex<CutSchedule>>,
) -> io::Result<()> {
    loop {
        let (client, _) = listener.accept().await?;
        tokio::spawn(pass(client, server, Arc::clone(&schedule)));
    }
}

/// Forwards one connection. When it ends for any reason, both sides get a reset.
async fn pass(mut client: TcpStream, server: SocketAddr, schedule: Arc<Mutex<CutSchedule>>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let _ = client.set_zero_linger().and_then(|()| server.set_zero_linger());
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let _ = tokio::select! {
        done = tokio::io::copy(&mut from_client, &mut to_server) => done.map(drop),
        done = answer(&mut from_server, &mut to_client, &schedule) => done,
    };
}

async fn answer(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    schedule: &Mutex<CutSchedule>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    let mut left = None;
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        left = lock(schedule).left(left);
        match left {
            Some(bytes) if bytes <= length => {
                to.write_all(&buffer[..bytes]).await?;
                lock(schedule).cuts += 1;
                return Ok(());
            }
            Some(bytes) => left = Some(bytes - length),
            None => {}
        }
        to.write_all(&buffer[..length]).await?;
    }
}

impl CutSchedule {
    /// How many more bytes a connection may receive; the number is drawn from the range when it is first needed.
    fn left(&mut self, left: Option<usize>) -> Option<usize> {
        let after = self.after.clone()?;
        Some(left.unwrap_or_else(|| after.start + self.random.below(after.len())))
    }
}

fn lock(schedule: &Mutex<CutSchedule>) -> MutexGuard<'_, CutSchedule> {
    schedule.lock().unwrap_or_else(PoisonError::into_inner)
}
