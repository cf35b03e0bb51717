//! One HTTP exchange from inside a network namespace, with a daemon or with etcd.

use anyhow::{Context, Result};
use bridgewarden::testbed::Netns;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long the answer to a post may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Requests a page, with a timeout.
///
/// # Errors
/// There is no answer, or it is not HTTP.
pub fn get(from: &Netns, at: SocketAddr, path: &str, timeout: Duration) -> Result<Answer> {
    exchange(from, at, timeout, &format!("GET {path} HTTP/1.0\r\nHost: {at}\r\n\r\n"))
        .with_context(|| format!("cannot get {path} of {at}"))
}

/// Posts JSON.
///
/// # Errors
/// There is no answer, or it is not HTTP.
pub fn post(from: &Netns, at: SocketAddr, path: &str, body: &str) -> Result<Answer> {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.0\r\nHost: {at}\r\nContent-Type: application/json");
    exchange(from, at, TIMEOUT, &format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}"))
        .with_context(|| format!("cannot post to {path} of {at}"))
}

/// HTTP/1.0, so that an answer ends with its connection.
fn exchange(from: &Netns, at: SocketAddr, timeout: Duration, request: &str) -> Result<Answer> {
    let speak = || {
        let mut stream = TcpStream::connect_timeout(&at, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        io::Result::Ok(answer)
    };
    let text = from.enter(speak)??;
    let (head, body) = text.split_once("\r\n\r\n").context("the answer has no end of its head")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(Answer { status: status.context("the answer has no status")?, body: body.to_owned() })
}
