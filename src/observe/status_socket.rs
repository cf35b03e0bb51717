//! The status of the agent over a Unix socket: a client sends a line with its question and is sent one line of JSON. A line that
//! begins with an exclamation mark says why there is no answer.

use super::END_MARK;
use crate::flow::LiveFlows;
use crate::status::{AgentStatus, StatusQuestion};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// How many clients are answered at once; others wait.
const CLIENTS: usize = 16;
/// The longest question in bytes. A namespace has up to 63 characters, a policy up to 253.
const LONGEST: u64 = 1024;
/// How long a client may take to send its question.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take to read its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What a client is sent.
pub enum StatusAnswer {
    /// What the agent says of itself and of policies.
    Status(Box<AgentStatus>),
    /// The live connections, or why they are not known.
    Connections(Result<LiveFlows, String>),
}

impl StatusAnswer {
    /// The line that is sent.
    fn line(&self) -> String {
        let json = match self {
            StatusAnswer::Status(status) => serde_json::to_string(status),
            StatusAnswer::Connections(Ok(flows)) => serde_json::to_string(flows),
            StatusAnswer::Connections(Err(why)) => return format!("{END_MARK} {why}\n"),
        };
        format!("{}\n", json.expect("an answer is JSON"))
    }
}

/// Answers clients that connect. Never ends.
pub async fn serve_status<A: Future<Output = StatusAnswer> + Send>(
    listener: UnixListener,
    answer: impl Fn(StatusQuestion) -> A + Clone + Send + 'static,
) {
    let clients = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok(client) = clients.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let answer = answer.clone();
                tokio::spawn(async move {
                    serve_client(stream, answer).await;
                    drop(client);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client that asks for the status");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_client<A: Future<Output = StatusAnswer>>(
    stream: UnixStream,
    answer: impl Fn(StatusQuestion) -> A,
) {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(LONGEST));
    // A client that sends no question has disconnected, or is none of ours.
    if !matches!(timeout(READ_TIMEOUT, reader.read_line(&mut line)).await, Ok(Ok(read)) if read > 0) {
        return;
    }
    let text = match line.parse() {
        Ok(question) => answer(question).await.line(),
        Err(why) => format!("{END_MARK} {why}\n"),
    };
    // A client that does not read it has disconnected.
    timeout(WRITE_TIMEOUT, writer.write_all(text.as_bytes())).await.ok();
}
