//! The backends with which tests without a kernel run.

use crate::worlds::{Story, check_stories};
use bridgewarden::netfilter::BackendName;
use bridgewarden::render::Options;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One backend for each packet filter: both variants of iptables get the same rules.
pub const BACKENDS: [BackendName; 2] = [BackendName::IptablesNft, BackendName::Nftables];

/// The default options, with this backend.
pub fn options(backend: BackendName) -> Options {
    Options { backend, ..Options::default() }
}

/// Runs a check on every story with each of [`BACKENDS`].
///
/// # Panics
/// A check fails, as in [`check_stories`]; the message names the backend.
pub fn check_backends(
    stories: impl IntoIterator<Item = (u64, Story)>,
    mut check: impl FnMut(BackendName, u64, &Story),
) {
    let stories: Vec<_> = stories.into_iter().collect();
    for backend in BACKENDS {
        let stories = stories.iter().cloned();
        let all = || check_stories(stories, |seed, story| check(backend, seed, story));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(all)) {
            let why = panic.downcast_ref::<String>().map_or("it panics without a message", String::as_str);
            panic!("with the backend {}: {why}", backend.name());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worlds::story;

    #[test]
    #[should_panic(expected = "with the backend nftables: story 3 fails")]
    fn backend_with_which_a_check_fails_is_named() {
        check_backends([(3, story(3, 4))], |backend, _, _| assert_ne!(backend, BackendName::Nftables));
    }
}
