//! What starting pods and observers write to each other.

use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since the Unix epoch. All pods of a test run on one machine, so they share its clock.
pub type Micros = u64;

/// What the clock says.
pub fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(Micros::MAX)
}

/// One datagram: `NAME NUMBER SENT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeDatagram {
    /// Who wrote first: a starting pod's name, or an observer's. An answer is the datagram itself.
    pub from: String,
    /// The how manieth it is, from 0.
    pub number: u32,
    /// When it was sent.
    pub sent: Micros,
}

impl ProbeDatagram {
    /// As a datagram.
    pub fn write(&self) -> String {
        format!("{} {} {}", self.from, self.number, self.sent)
    }

    /// From a datagram; `None` if it is none of ours.
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
