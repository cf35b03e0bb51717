//! What a client asks an agent.

use std::fmt;
use std::str::FromStr;

/// A question: one line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusQuestion {
    /// Everything.
    All,
    /// The same with one policy at most.
    Policy {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The live connections of the node's pods, and nothing else.
    Connections,
}

impl fmt::Display for StatusQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StatusQuestion::All => f.write_str("status"),
            StatusQuestion::Connections => f.write_str("connections"),
            StatusQuestion::Policy { namespace, name } => write!(f, "status {namespace}/{name}"),
        }
    }
}

impl FromStr for StatusQuestion {
    type Err = String;

    fn from_str(line: &str) -> Result<StatusQuestion, String> {
        let mut words = line.split_ascii_whitespace();
        let unknown = || format!("{line:?} is no question that this version answers");
        match (words.next(), words.next(), words.next()) {
            (Some("status"), None, None) => Ok(StatusQuestion::All),
            (Some("connections"), None, None) => Ok(StatusQuestion::Connections),
            (Some("status"), Some(policy), None) => match policy.split_once('/') {
                Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                    Ok(StatusQuestion::Policy { namespace: namespace.into(), name: name.into() })
                }
                Some(_) | None => Err(unknown()),
            },
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_is_read_as_it_is_written_and_no_other_line_is_one() {
        let one = StatusQuestion::Policy { namespace: "shop".into(), name: "web".into() };
        for question in [StatusQuestion::All, StatusQuestion::Connections, one] {
            assert_eq!(question.to_string().parse(), Ok(question));
        }
        for wrong in [
            "",
            "flows",
            "connections shop/web",
            "status shop",
            "status shop/",
            "status /web",
            "status shop/web more",
        ] {
            assert!(wrong.parse::<StatusQuestion>().is_err(), "{wrong}");
        }
    }
}
