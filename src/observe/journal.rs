//! The last denied flows, and the stream of the next: over a Unix socket, as lines of JSON.
//!
//! A client is sent the flows that are kept, an empty line, and then each new flow. Nothing is read from clients. A flow that is
//! sent again, with the same number, has grown. A line that begins with an exclamation mark says why no more follows.

use crate::flow::{Record, Ring};
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::{sleep, timeout};

/// How many clients may follow new flows at once, and how many may be sent those that are kept.
const FOLLOWERS: usize = 16;
const READERS: usize = 64;
/// How long a follower's slot is guaranteed. After that, a new follower takes it over if no other is free: a client whose output
/// is no longer read cannot always notice that.
const LEASE: Duration = Duration::from_secs(3600);
/// How many flows a follower may be behind before it misses some.
const BEHIND: usize = 256;
/// How long a client may take to read what it is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client that does not follow may take to disconnect.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(200);
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The last denied flows. Clones share them.
#[derive(Clone)]
pub struct Journal {
    ring: Arc<Mutex<Ring>>,
    updates: broadcast::Sender<Arc<str>>,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal { ring: Arc::default(), updates: broadcast::channel(BEHIND).0 }
    }
}

impl Journal {
    /// Adds a flow.
    pub fn add(&self, record: Record) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        self.publish(&record);
        ring.add(record);
    }

    /// Changes a flow that is still kept, and returns it. `None` if it is no longer kept.
    pub fn change(&self, number: u64, change: impl FnOnce(&mut Record)) -> Option<Record> {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let record = ring.flow(number)?;
        change(record);
        self.publish(record);
        Some(record.clone())
    }

    /// The flows that are kept, the oldest first.
    pub fn kept(&self) -> Vec<Record> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.iter().cloned().collect()
    }

    /// The last of the flows that are kept, at most so many, the newest first.
    pub fn latest(&self, most: usize) -> Vec<Record> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.iter().rev().take(most).cloned().collect()
    }

    fn publish(&self, record: &Record) {
        // An error means that there are no followers.
        self.updates.send(line(record)).ok();
    }

    /// The flows that are kept, and all that follow.
    fn subscribe(&self) -> (Vec<Arc<str>>, broadcast::Receiver<Arc<str>>) {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        (ring.iter().map(line).collect(), self.updates.subscribe())
    }
}

fn line(record: &Record) -> Arc<str> {
    let json = serde_json::to_string(record).expect("a record is JSON");
    format!("{json}\n").into()
}

/// Listens at a path, for root only. A missing directory is created; a socket without a listener is replaced.
///
/// # Errors
/// The directory cannot be created or written, or another program listens there.
pub fn listen_at(path: &Path) -> io::Result<UnixListener> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !directory.exists() {
        DirBuilder::new().mode(0o755).create(directory)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers there"));
        }
        Ok(_) | Err(_) => {}
    }
    // Under another name until it has its mode, so that no other user can ever open it.
    let draft = path.with_extension("new");
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) | Ok(()) => {}
    }
    let listener = UnixListener::bind(&draft)?;
    std::fs::set_permissions(&draft, Permissions::from_mode(0o600))?;
    std::fs::rename(&draft, path)?;
    Ok(listener)
}

/// The first character of a line that says why no more follows.
pub const END_MARK: char = '!';

/// The slots of followers, with the time when each was taken.
#[derive(Debug, Default)]
struct FollowerSlots {
    taken: Vec<(Instant, Arc<Notify>)>,
}

impl FollowerSlots {
    /// A slot, if one is free or its follower has had it for long enough. Its follower is notified when it must give it up.
    fn take(&mut self, now: Instant) -> Option<Arc<Notify>> {
        if self.taken.len() >= FOLLOWERS {
            // The first was taken first.
            let (since, _) = self.taken.first()?;
            if now.saturating_duration_since(*since) < LEASE {
                return None;
            }
            let (_, slot) = self.taken.remove(0);
            slot.notify_one();
        }
        let slot = Arc::new(Notify::new());
        self.taken.push((now, slot.clone()));
        Some(slot)
    }

    fn release(&mut self, slot: &Arc<Notify>) {
        self.taken.retain(|(_, own)| !Arc::ptr_eq(own, slot));
    }
}

/// Sends denied flows to clients that connect. Never ends.
pub async fn serve_flows(listener: UnixListener, journal: Journal) {
    let readers = Arc::new(Semaphore::new(READERS));
    let slots = Arc::new(Mutex::new(FollowerSlots::default()));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (reader, slots) = (readers.clone().try_acquire_owned().ok(), slots.clone());
                let journal = journal.clone();
                tokio::spawn(async move {
                    match reader {
                        Some(reader) => send(stream, &journal, &slots, reader).await,
                        None => reject(stream, "too many clients are connected; try again").await,
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a listener for denied flows");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn reject(mut stream: UnixStream, why: &str) {
    let line = format!("{END_MARK} {why}\n");
    // A client that does not read it has disconnected.
    timeout(CLOSE_TIMEOUT, stream.write_all(line.as_bytes())).await.ok();
}

/// Sends flows to one client until it disconnects or stops reading.
async fn send(
    stream: UnixStream,
    journal: &Journal,
    slots: &Mutex<FollowerSlots>,
    reader: OwnedSemaphorePermit,
) {
    let (mut reader_half, mut writer) = stream.into_split();
    let (kept, updates) = journal.subscribe();
    for line in kept {
        if !write(&mut writer, &line).await {
            return;
        }
    }
    if !write(&mut writer, "\n").await {
        return;
    }
    let mut nothing = [0];
    // A client that wants no more has disconnected by now.
    let stays = timeout(CLOSE_TIMEOUT, reader_half.read(&mut nothing)).await.is_err();
    drop(reader);
    let slot = stays.then(|| lock(slots).take(Instant::now()));
    match slot {
        Some(Some(slot)) => {
            let why = tokio::select! {
                () = follow(&mut writer, updates) => None,
                // It sent something, which no client should, or disconnected.
                _ = reader_half.read(&mut nothing) => None,
                () = slot.notified() => Some("closed in favour of a newer listener; connect again"),
            };
            lock(slots).release(&slot);
            if let Some(why) = why {
                write(&mut writer, &format!("{END_MARK} {why}\n")).await;
            }
        }
        Some(None) => {
            let why = format!(
                "{FOLLOWERS} listeners are connected, which is the limit: end one of them, or use the command without --follow"
            );
            write(&mut writer, &format!("{END_MARK} {why}\n")).await;
        }
        None => {}
    }
}

fn lock(slots: &Mutex<FollowerSlots>) -> MutexGuard<'_, FollowerSlots> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends new flows until the client stops reading.
async fn follow(writer: &mut OwnedWriteHalf, mut updates: broadcast::Receiver<Arc<str>>) {
    loop {
        match updates.recv().await {
            Ok(line) if write(writer, &line).await => {}
            Err(RecvError::Lagged(_)) => {}
            Ok(_) | Err(RecvError::Closed) => return,
        }
    }
}

async fn write(writer: &mut OwnedWriteHalf, text: &str) -> bool {
    matches!(timeout(WRITE_TIMEOUT, writer.write_all(text.as_bytes())).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt, BufReader, Lines};

    /// Long enough for a slow machine; nothing waits for it to pass.
    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn slot_is_guaranteed_for_an_hour_and_then_until_another_needs_it() {
        let (mut slots, start) = (FollowerSlots::default(), Instant::now());
        let taken: Vec<_> = (0..FOLLOWERS).map(|_| slots.take(start).expect("there is room")).collect();
        assert!(slots.take(start + LEASE / 2).is_none());
        slots.release(&taken[3]);
        assert!(slots.take(start + LEASE / 2).is_some(), "a released slot is free");
        assert!(slots.take(start + LEASE / 2).is_none());
        for _ in 0..FOLLOWERS - 1 {
            assert!(slots.take(start + LEASE).is_some());
        }
        assert!(slots.take(start + LEASE).is_none(), "the other slots were taken recently");
    }

    async fn follower(path: &Path) -> Lines<BufReader<UnixStream>> {
        let stream = UnixStream::connect(path).await.expect("the server accepts");
        let mut lines = BufReader::new(stream).lines();
        assert_eq!(next(&mut lines).await.as_deref(), Some(""));
        lines
    }

    async fn next(lines: &mut Lines<BufReader<UnixStream>>) -> Option<String> {
        timeout(LONG, lines.next_line()).await.expect("something is sent").expect("it is text")
    }

    #[tokio::test]
    async fn follower_beyond_the_limit_is_rejected_and_one_that_ends_makes_room() {
        let directory = std::env::temp_dir().join(format!("bridgewarden-journal-{}", std::process::id()));
        let path = directory.join("flows.sock");
        let server = tokio::spawn(serve_flows(listen_at(&path).expect("a socket"), Journal::default()));
        let mut followers = Vec::new();
        for _ in 0..FOLLOWERS {
            followers.push(follower(&path).await);
        }
        // They have their slots once they have not disconnected for a while.
        let mut too_many = follower(&path).await;
        let line = next(&mut too_many).await.expect("it is sent the reason");
        assert!(line.starts_with(END_MARK) && line.contains("16 listeners are connected"), "{line}");
        assert_eq!(next(&mut too_many).await, None);
        // Clients that do not follow are still sent what is kept.
        drop(follower(&path).await);
        followers.pop();
        let start = Instant::now();
        loop {
            let mut another = follower(&path).await;
            // Only a rejected client is sent a line.
            if timeout(CLOSE_TIMEOUT * 3, another.next_line()).await.is_err() {
                break;
            }
            assert!(start.elapsed() < LONG, "the slot of a follower that ended is not free");
        }
        server.abort();
        std::fs::remove_dir_all(directory).expect("it can be removed");
    }
}
