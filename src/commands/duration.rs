//! How long something may take, on the command line.

use jiff::SignedDuration;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A duration such as `90s` or `5m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WaitTime(pub(super) Duration);

/// The longest one.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

impl FromStr for WaitTime {
    type Err = String;

    fn from_str(text: &str) -> Result<WaitTime, String> {
        let duration = text.parse::<SignedDuration>().ok();
        let duration = duration.and_then(|duration| Duration::try_from(duration).ok());
        let duration = duration.filter(|duration| *duration <= LONGEST);
        duration
            .map(WaitTime)
            .ok_or_else(|| format!("{text:?} is no duration up to a week, such as 90s or 5m"))
    }
}

impl fmt::Display for WaitTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SignedDuration::try_from(self.0) {
            Ok(duration) => write!(f, "{duration:#}"),
            Err(_) => write!(f, "{}s", self.0.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_is_a_number_with_a_unit_and_neither_negative_nor_endless() {
        for (text, seconds) in [("90s", 90), ("5m", 300), ("0s", 0), ("1h", 3600)] {
            assert_eq!(text.parse(), Ok(WaitTime(Duration::from_secs(seconds))), "{text}");
        }
        assert_eq!("90s".parse::<WaitTime>().map(|time| time.to_string()), Ok("1m 30s".to_owned()));
        for wrong in ["", "5", "-5m", "soon", "9000h"] {
            assert!(wrong.parse::<WaitTime>().is_err(), "{wrong}");
        }
    }
}
