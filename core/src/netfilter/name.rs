//! Names and comments that the kernel accepts. A value of these types is always valid.

use std::fmt;
use std::sync::Arc;

/// The longest chain name, in bytes: XT_EXTENSION_MAXNAMELEN without its NUL (linux/netfilter/x_tables.h).
pub const CHAIN_NAME_MAX: usize = 28;
/// The longest set name, in bytes: IPSET_MAXNAMELEN without its NUL (linux/netfilter/ipset/ip_set.h).
pub const SET_NAME_MAX: usize = 31;
/// The longest rule comment, in bytes: XT_MAX_COMMENT_LEN without its NUL (linux/netfilter/xt_comment.h).
pub const COMMENT_MAX: usize = 255;

fn is_name(text: &str, max: usize) -> bool {
    !text.is_empty()
        && text.len() <= max
        && !text.starts_with('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || byte == b'.')
}

/// The name of a chain: 1 to 28 of `A-Z a-z 0-9 . _ -`, not beginning with a dash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainName(Arc<str>);

impl ChainName {
    /// Accepts a valid name; `None` for any other.
    pub fn new(name: &str) -> Option<ChainName> {
        is_name(name, CHAIN_NAME_MAX).then(|| ChainName(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an ipset: 1 to 31 of `A-Z a-z 0-9 . _ - :`, not beginning with a dash. Names of this program's sets
/// contain no colon.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetName(Arc<str>);

impl SetName {
    /// Accepts a valid name; `None` for any other.
    pub fn new(name: &str) -> Option<SetName> {
        is_name(&name.replace(':', "_"), SET_NAME_MAX).then(|| SetName(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The comment of a rule. It contains only characters that need no escaping.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Comment(Box<str>);

impl Comment {
    /// Makes a comment of any text: characters that could end a quoted word or a line become `?`, and the rest beyond
    /// 255 bytes is cut off.
    pub fn new(text: &str) -> Comment {
        let safe = |character: char| {
            if character.is_ascii_alphanumeric() || " ./:_-[]#=,()".contains(character) {
                character
            } else {
                '?'
            }
        };
        Comment(text.chars().map(safe).take(COMMENT_MAX).collect::<String>().trim().into())
    }

    /// The comment.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Comment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_long_as_the_kernel_takes_and_no_longer() {
        assert!(ChainName::new(&"A".repeat(28)).is_some());
        assert!(ChainName::new(&"A".repeat(29)).is_none());
        assert!(SetName::new(&"A".repeat(31)).is_some());
        assert!(SetName::new(&"A".repeat(32)).is_none());
    }

    #[test]
    fn names_cannot_carry_options_lines_or_nothing() {
        for bad in ["", "-j", "A B", "A\nB", "A\"B", "Ä", "A;B"] {
            assert!(ChainName::new(bad).is_none(), "{bad:?}");
            assert!(SetName::new(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn comment_of_hostile_text_stays_one_quoted_word() {
        let comment = Comment::new("a\" -j ACCEPT\n-A FORWARD \\\u{0}é");
        assert_eq!(comment.as_str(), "a? -j ACCEPT?-A FORWARD ???");
        assert_eq!(Comment::new(&"x".repeat(999)).as_str().len(), COMMENT_MAX);
    }
}
