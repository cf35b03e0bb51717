//! The datagrams that starting pods and observers send to each other.

use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since the Unix epoch. All pods of a test run on one machine, so they share its clock.
pub type Micros = u64;

/// The current time.
pub fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(Micros::MAX)
}

/// One datagram: `NAME NUMBER SENT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeDatagram {
    /// The name of the starting pod or observer that sent it first. An answer is the same datagram.
    pub from: String,
    /// Its number, from 0.
    pub number: u32,
    /// When it was sent.
    pub sent: Micros,
}

impl ProbeDatagram {
    /// Its text.
    pub fn write(&self) -> String {
        format!("{} {} {}", self.from, self.number, self.sent)
    }

    /// Parses a datagram; `None` if it has another form.
    pub fn read(bytes: &[u8]) -> Option<ProbeDatagram> {
        let mut words = std::str::from_utf8(bytes).ok()?.split(' ');
        let datagram = ProbeDatagram {
            from: words.next().filter(|name| !name.is_empty())?.to_owned(),
            number: words.next()?.parse().ok()?,
            sent: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(datagram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagram_is_read_as_it_was_written_and_nothing_else_is_one() {
        let datagram =
            ProbeDatagram { from: "starting-7".to_owned(), number: 3, sent: 1_700_000_000_000_000 };
        assert_eq!(ProbeDatagram::read(datagram.write().as_bytes()), Some(datagram));
        for other in [&b""[..], b" 1 2", b"a 1", b"a 1 2 3", b"a x 2", b"\xff 1 2"] {
            assert_eq!(ProbeDatagram::read(other), None);
        }
    }
}
