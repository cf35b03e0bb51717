//! How many random worlds and stories a test checks, and the stories that once failed.

/// The number in the environment variable `BRIDGEWARDEN_WORLDS`, `BRIDGEWARDEN_PACKET_WORLDS` or
/// `BRIDGEWARDEN_STORIES`, or else `usual`.
///
/// # Panics
/// The variable is set to something that is not a number.
pub fn how_many(variable: &str, usual: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => usual,
    }
}

/// The seeds of stories that once failed, with the bug that each has found.
const REGRESSIONS: &str = include_str!("regressions.txt");

/// The seeds of the stories that a test checks: the first ones, as many as `BRIDGEWARDEN_STORIES` says, and the
/// regressions.
///
/// # Panics
/// The variable is set to something that is not a number, or a line of the list does not begin with one.
pub(super) fn story_seeds(usual: u64) -> impl Iterator<Item = u64> {
    let count = how_many("BRIDGEWARDEN_STORIES", usual);
    let lines = REGRESSIONS.lines().filter(|line| !line.starts_with('#'));
    let seeds = lines.map(|line| {
        let seed = line.split(' ').next().and_then(|seed| seed.parse::<u64>().ok());
        seed.unwrap_or_else(|| panic!("no seed in regressions.txt: {line}"))
    });
    (0..count).chain(seeds.filter(move |seed| *seed >= count))
}
