//! The last denied flows, and all who want to hear of the next: over a Unix socket, as lines of JSON.
//!
//! Whoever connects is sent the flows that are kept, an empty line, and then each as it is told. Nothing is read from
//! them, so there is nothing to get wrong. A flow told again, with the same number, has grown.

use crate::flow::{Record, Ring};
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, broadcast};
use tokio::time::{sleep, timeout};

/// How many may listen at once.
const LISTENERS: usize = 16;
/// How many flows a listener may be behind; then it misses some.
const BEHIND: usize = 256;
/// How long a listener may take to read what it is sent.
const PATIENCE: Duration = Duration::from_secs(30);
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
    /// Adds a flow; its number is higher than those of all before.
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

/// Tells whoever connects of denied flows. Never ends.
pub async fn serve_flows(listener: UnixListener, journal: Journal) {
    let places = Arc::new(Semaphore::new(LISTENERS));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Ok(place) = places.clone().try_acquire_owned() {
                    let journal = journal.clone();
                    tokio::spawn(async move {
                        tell(stream, &journal).await;
                        drop(place);
                    });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a listener for denied flows");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Tells one listener until it has gone, or does not read.
async fn tell(stream: UnixStream, journal: &Journal) {
    let (mut reader, mut writer) = stream.into_split();
    let (kept, mut news) = journal.listen();
    for line in kept {
        if !write(&mut writer, &line).await {
            return;
        }
    }
    if !write(&mut writer, "\n").await {
        return;
    }
    let mut nothing = [0];
    loop {
        let line = tokio::select! {
            line = news.recv() => line,
            // Whatever it says, or that it has gone: nobody who listens has anything to say.
            _ = reader.read(&mut nothing) => return,
        };
        match line {
            Ok(line) if write(&mut writer, &line).await => {}
            Err(RecvError::Lagged(_)) => {}
            Ok(_) | Err(RecvError::Closed) => return,
        }
    }
}

async fn write(writer: &mut OwnedWriteHalf, text: &str) -> bool {
    matches!(timeout(PATIENCE, writer.write_all(text.as_bytes())).await, Ok(Ok(())))
}
