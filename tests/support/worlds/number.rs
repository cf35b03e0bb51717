//! How many random worlds and stories are asked.

/// The number in the environment variable `BRIDGEWARDEN_WORLDS`, `BRIDGEWARDEN_PACKET_WORLDS` or `BRIDGEWARDEN_STORIES`, or else the usual one.
///
/// # Panics
/// When the variable is set to something that is no number.
pub fn how_many(variable: &str, usual: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => usual,
    }
}
