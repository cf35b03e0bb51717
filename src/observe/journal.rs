//! The last denied flows, and all who want to hear of the next: over a Unix socket, as lines of JSON.
//!
//! Whoever connects is sent the flows that are kept, an empty line, and then each as it is told. Nothing is read from
//! them, so there is nothing to get wrong. A flow told again, with the same number, has grown. A line that begins with an
//! exclamation mark says why no more follows.

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

/// How many may listen at once for what comes, and how many may be sent what is kept.
const LISTENERS: usize = 16;
const READERS: usize = 64;
/// How long a listener has its place for sure. One that has had it for longer gives it up to the next one if no other is free:
/// a program that nobody reads any more cannot always notice that.
const LEASE: Duration = Duration::from_secs(3600);
/// How many flows a listener may be behind; then it misses some.
const BEHIND: usize = 256;
/// How long a listener may take to read what it is sent.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long is waited for those who want only what is kept to go.
const FAREWELL: Duration = Duration::from_millis(200);
/// How long to wait after a listener could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The last denied flows. Clones share them.
#[derive(Clone)]
pub struct Journal {
    ring: Arc<Mutex<Ring>>,
    news: broadcast::Sender<Arc<str>>,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal { ring: Arc::default(), news: broadcast::channel(BEHIND).0 }
    }
}

impl Journal {
    /// Adds a flow.
    pub fn add(&self, record: Record) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        self.tell(&record);
        ring.add(record);
    }

    /// Changes a flow that is still kept, and tells how it is now. `None` if it is kept no longer.
    pub fn change(&self, number: u64, change: impl FnOnce(&mut Record)) -> Option<Record> {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let record = ring.flow(number)?;
        change(record);
        self.tell(record);
        Some(record.clone())
    }

    /// The flows that are kept, the oldest first.
    pub fn kept(&self) -> Vec<Record> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.iter().cloned().collect()
    }

    fn tell(&self, record: &Record) {
        // An error means that nobody listens.
        self.news.send(line(record)).ok();
    }

    /// What is kept, and all that is told after it.
    fn listen(&self) -> (Vec<Arc<str>>, broadcast::Receiver<Arc<str>>) {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        (ring.iter().map(line).collect(), self.news.subscribe())
    }
}

fn line(record: &Record) -> Arc<str> {
    let json = serde_json::to_string(record).expect("a record is JSON");
    format!("{json}\n").into()
}

/// Listens at a path, for root alone. The directory is made if it is missing; a socket that nobody answers at is replaced.
///
/// # Errors
/// The directory cannot be made or written, or somebody answers there.
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
    // Under another name until it has its mode, so that nobody else can ever open it.
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

/// With what a line begins that says why no more follows.
pub const REFUSAL: char = '!';

/// The places of those who listen for what comes, with when each was taken.
#[derive(Debug, Default)]
struct Places {
    taken: Vec<(Instant, Arc<Notify>)>,
}

impl Places {
    /// A place, if one is free or its listener has had it for long enough. It is to be given up when it is notified.
    fn take(&mut self, now: Instant) -> Option<Arc<Notify>> {
        if self.taken.len() >= LISTENERS {
            // The first has had it for longest.
            let (since, _) = self.taken.first()?;
            if now.saturating_duration_since(*since) < LEASE {
                return None;
            }
            let (_, place) = self.taken.remove(0);
            place.notify_one();
        }
        let place = Arc::new(Notify::new());
        self.taken.push((now, place.clone()));
        Some(place)
    }

    fn give_back(&mut self, place: &Arc<Notify>) {
        self.taken.retain(|(_, own)| !Arc::ptr_eq(own, place));
    }
}

/// Tells whoever connects of denied flows. Never ends.
pub async fn serve_flows(listener: UnixListener, journal: Journal) {
    let readers = Arc::new(Semaphore::new(READERS));
    let places = Arc::new(Mutex::new(Places::default()));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (reader, places) = (readers.clone().try_acquire_owned().ok(), places.clone());
                let journal = journal.clone();
                tokio::spawn(async move {
                    match reader {
                        Some(reader) => tell(stream, &journal, &places, reader).await,
                        None => refuse(stream, "too many ask at once; try again").await,
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

async fn refuse(mut stream: UnixStream, why: &str) {
    let line = format!("{REFUSAL} {why}\n");
    // Whoever does not read it has gone.
    timeout(FAREWELL, stream.write_all(line.as_bytes())).await.ok();
}

/// Tells one listener until it has gone, or does not read.
async fn tell(stream: UnixStream, journal: &Journal, places: &Mutex<Places>, reader: OwnedSemaphorePermit) {
    let (mut gone, mut writer) = stream.into_split();
    let (kept, news) = journal.listen();
    for line in kept {
        if !write(&mut writer, &line).await {
            return;
        }
    }
    if !write(&mut writer, "\n").await {
        return;
    }
    let mut nothing = [0];
    // Who wanted no more than that has gone by now, or goes now.
    let stays = timeout(FAREWELL, gone.read(&mut nothing)).await.is_err();
    drop(reader);
    let place = stays.then(|| lock(places).take(Instant::now()));
    match place {
        Some(Some(place)) => {
            let why = tokio::select! {
                () = follow(&mut writer, news) => None,
                // Whatever it says, or that it has gone: nobody who listens has anything to say.
                _ = gone.read(&mut nothing) => None,
                () = place.notified() => Some("this listener's place was needed for another; listen again"),
            };
            lock(places).give_back(&place);
            if let Some(why) = why {
                write(&mut writer, &format!("{REFUSAL} {why}\n")).await;
            }
        }
        Some(None) => {
            let why = format!(
                "{LISTENERS} listen already, and that is as many as may: end one of them, or ask without --follow"
            );
            write(&mut writer, &format!("{REFUSAL} {why}\n")).await;
        }
        None => {}
    }
}

fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells of what comes, until the listener does not read.
async fn follow(writer: &mut OwnedWriteHalf, mut news: broadcast::Receiver<Arc<str>>) {
    loop {
        match news.recv().await {
            Ok(line) if write(writer, &line).await => {}
            Err(RecvError::Lagged(_)) => {}
            Ok(_) | Err(RecvError::Closed) => return,
        }
    }
}

async fn write(writer: &mut OwnedWriteHalf, text: &str) -> bool {
    matches!(timeout(PATIENCE, writer.write_all(text.as_bytes())).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt, BufReader, Lines};

    /// Long enough for a slow machine; nothing waits for it to pass.
    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn place_is_for_an_hour_and_then_until_another_needs_it() {
        let (mut places, start) = (Places::default(), Instant::now());
        let taken: Vec<_> = (0..LISTENERS).map(|_| places.take(start).expect("there is room")).collect();
        assert!(places.take(start + LEASE / 2).is_none());
        places.give_back(&taken[3]);
        assert!(places.take(start + LEASE / 2).is_some(), "a place that was given back is free");
        assert!(places.take(start + LEASE / 2).is_none());
        for _ in 0..LISTENERS - 1 {
            assert!(places.take(start + LEASE).is_some());
        }
        assert!(places.take(start + LEASE).is_none(), "the others have not had theirs for long");
    }

    async fn listener(path: &Path) -> Lines<BufReader<UnixStream>> {
        let stream = UnixStream::connect(path).await.expect("the daemon answers");
        let mut lines = BufReader::new(stream).lines();
        assert_eq!(next(&mut lines).await.as_deref(), Some(""));
        lines
    }

    async fn next(lines: &mut Lines<BufReader<UnixStream>>) -> Option<String> {
        timeout(LONG, lines.next_line()).await.expect("something is told").expect("it is text")
    }

    #[tokio::test]
    async fn listener_too_many_is_told_so_and_one_that_ends_makes_room() {
        let directory = std::env::temp_dir().join(format!("bridgewarden-journal-{}", std::process::id()));
        let path = directory.join("flows.sock");
        let server = tokio::spawn(serve_flows(listen_at(&path).expect("a socket"), Journal::default()));
        let mut listeners = Vec::new();
        for _ in 0..LISTENERS {
            listeners.push(listener(&path).await);
        }
        // They have their places once they have stayed for a while.
        let mut too_many = listener(&path).await;
        let refused = next(&mut too_many).await.expect("it is told why");
        assert!(refused.starts_with(REFUSAL) && refused.contains("16 listen already"), "{refused}");
        assert_eq!(next(&mut too_many).await, None);
        // What is kept is still told to whoever asks.
        drop(listener(&path).await);
        listeners.pop();
        let start = Instant::now();
        loop {
            let mut another = listener(&path).await;
            // Only one that was refused is told anything.
            if timeout(FAREWELL * 3, another.next_line()).await.is_err() {
                break;
            }
            assert!(start.elapsed() < LONG, "the place of one that ended is not free");
        }
        server.abort();
        std::fs::remove_dir_all(directory).expect("it goes");
    }
}
