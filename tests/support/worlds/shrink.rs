//! Runs a check on stories, and reports a story that fails in its shortest form.

use super::Story;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether panics of this thread are caught and not printed, and the place and message of the last one.
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<Failure>> = const { RefCell::new(None) };
}

/// The place and message of a failed check.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    place: String,
    message: String,
}

/// Runs a check on every story. A story that fails is reduced to the fewest changes with which it still fails at the
/// same place of the source.
///
/// # Panics
/// A check fails: the message has the seed, the numbers of the remaining changes, the changes, and the reason.
pub fn check_stories(stories: impl IntoIterator<Item = (u64, Story)>, mut check: impl FnMut(u64, &Story)) {
    for (seed, story) in stories {
        let Some(failure) = failure_of(|| check(seed, &story)) else { continue };
        let (kept, failure) = shrink(story.changes.len(), failure, |kept| {
            let shorter = story.only(kept);
            failure_of(|| check(seed, &shorter))
        });
        let changes = story.only(&kept).changes;
        let shown: Vec<String> =
            kept.iter().zip(&changes).map(|(at, change)| format!("  {at}: {change:?}")).collect();
        panic!(
            "story {seed} fails with {} of its {} changes, {kept:?}:\n{}\n{} at {}",
            kept.len(),
            story.changes.len(),
            shown.join("\n"),
            failure.message,
            failure.place,
        );
    }
}

/// The fewest of this many changes that fail in the same way as all of them, found by halves, quarters and so on.
fn shrink(
    count: usize,
    first: Failure,
    mut fails: impl FnMut(&[usize]) -> Option<Failure>,
) -> (Vec<usize>, Failure) {
    let mut kept: Vec<usize> = (0..count).collect();
    let mut failure = first;
    let mut size = count.div_ceil(2).max(1);
    loop {
        let mut start = 0;
        while start < kept.len() {
            let fewer: Vec<usize> = kept
                .iter()
                .enumerate()
                .filter(|(at, _)| !(start..start + size).contains(at))
                .map(|(_, own)| *own)
                .collect();
            match fails(&fewer).filter(|own| own.place == failure.place) {
                Some(own) => (kept, failure) = (fewer, own),
                None => start += size,
            }
        }
        if size == 1 {
            return (kept, failure);
        }
        size = size.div_ceil(2);
    }
}

impl Story {
    /// The same story with only these of its changes.
    pub fn only(&self, kept: &[usize]) -> Story {
        let changes = kept.iter().filter_map(|at| self.changes.get(*at)).cloned().collect();
        Story { changes, ..self.clone() }
    }
}

fn failure_of(check: impl FnOnce()) -> Option<Failure> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                return loud(panic);
            }
            let message = panic.payload_as_str().unwrap_or("it panics without a message").to_owned();
            let place = panic.location().map_or_else(String::new, ToString::to_string);
            LAST.set(Some(Failure { place, message }));
        }));
    });
    let was_quiet = QUIET.replace(true);
    let done = catch_unwind(AssertUnwindSafe(check));
    QUIET.set(was_quiet);
    done.err().and_then(|_| LAST.take())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worlds::{Change, story};

    /// Fails if a story has two or more policies.
    fn check(story: &Story) {
        let policies = story.changes.iter().filter(|change| matches!(change, Change::Policy(_))).count();
        assert!(policies < 2, "{policies} policies");
    }

    #[test]
    fn story_that_fails_is_reported_with_the_fewest_changes_that_fail() {
        let stories = (0..20).map(|seed| (seed, story(seed, 14)));
        let failure =
            failure_of(|| check_stories(stories, |_, story| check(story))).expect("one of them fails");
        assert!(failure.message.contains(" fails with 2 of its "), "{}", failure.message);
        assert!(failure.message.contains("2 policies at "), "{}", failure.message);
    }

    #[test]
    fn stories_that_hold_are_all_checked() {
        let mut checked = 0;
        check_stories((0..5).map(|seed| (seed, story(seed, 3))), |_, _| checked += 1);
        assert_eq!(checked, 5);
    }
}
