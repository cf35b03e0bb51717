//! A packet or frame of which the kernel decides otherwise than policies.

use std::fmt;

/// A packet or frame of which the kernel decides otherwise than policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterExample {
    /// The packet, in words: who sends it to whom, and how it comes.
    pub packet: String,
    /// Whether it must pass.
    pub must_pass: bool,
    /// Why it must, or must not.
    pub reason: String,
    /// What the kernel does with it: the rules that it meets, and its end.
    pub path: Vec<String>,
}

impl fmt::Display for CounterExample {
    /// One sentence, and below it the rules.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (is, must) = if self.must_pass { ("denies", "allow it") } else { ("allows", "deny it") };
        writeln!(f, "the kernel {is} what policies {}: {}", must.trim_end_matches(" it"), self.packet)?;
        writeln!(f, "  policies {must}: {}", self.reason)?;
        write!(f, "  the kernel {is} it:")?;
        self.path.iter().try_for_each(|step| write!(f, "\n    {step}"))
    }
}
