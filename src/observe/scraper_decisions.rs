//! What the API server said of scrapers, for as long as it counts.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long a scraper that is allowed is not asked about again. It may go on for so long after its right was taken.
const ALLOWED: Duration = Duration::from_secs(60);
/// How long one that is not allowed is not asked about again.
const DENIED: Duration = Duration::from_secs(30);
/// How many tokens are remembered.
const MOST: usize = 256;

/// What the API server says of a scraper's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ScraperDecision {
    /// Its user may get `/metrics`.
    Allowed,
    /// It belongs to no account.
    UnknownToken,
    /// Its user may not get `/metrics`.
    Forbidden {
        /// The user's name.
        user: String,
    },
}

/// The last decisions by the token's hash, with the time until which each counts.
#[derive(Debug, Default)]
pub(super) struct ScraperDecisions(BTreeMap<[u8; 32], (ScraperDecision, Instant)>);

impl ScraperDecisions {
    /// The decision about a token that counts at `now`.
    pub(super) fn of(&self, token: &str, now: Instant) -> Option<ScraperDecision> {
        let (decision, until) = self.0.get(&hash(token))?;
        (now < *until).then(|| decision.clone())
    }

    /// Remembers a decision that was made at `now`. If there is no room, the denied one that ends first is forgotten, so that
    /// invalid tokens, however many, replace each other only.
    pub(super) fn remember(&mut self, token: &str, decision: ScraperDecision, now: Instant) {
        if self.0.len() >= MOST {
            self.0.retain(|_, (_, until)| now < *until);
        }
        if self.0.len() >= MOST {
            let first = self
                .0
                .iter()
                .min_by_key(|(_, (decision, until))| (*decision == ScraperDecision::Allowed, *until));
            if let Some(first) = first.map(|(token, _)| *token) {
                self.0.remove(&first);
            }
        }
        let counts_for = if decision == ScraperDecision::Allowed { ALLOWED } else { DENIED };
        self.0.insert(hash(token), (decision, now + counts_for));
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decision_counts_for_its_time_and_no_longer() {
        let (mut decisions, start) = (ScraperDecisions::default(), Instant::now());
        decisions.remember("good", ScraperDecision::Allowed, start);
        decisions.remember("bad", ScraperDecision::UnknownToken, start);
        let moment = Duration::from_millis(1);
        assert_eq!(decisions.of("good", start + ALLOWED - moment), Some(ScraperDecision::Allowed));
        assert_eq!(decisions.of("good", start + ALLOWED), None);
        assert_eq!(decisions.of("bad", start + DENIED - moment), Some(ScraperDecision::UnknownToken));
        assert_eq!(decisions.of("bad", start + DENIED), None);
        assert_eq!(decisions.of("goo", start), None);
    }

    #[test]
    fn invalid_tokens_without_end_take_bounded_memory_and_the_place_of_no_scraper() {
        let (mut decisions, start) = (ScraperDecisions::default(), Instant::now());
        decisions.remember("prometheus", ScraperDecision::Allowed, start);
        for number in 0..10 * MOST {
            decisions.remember(
                &number.to_string(),
                ScraperDecision::UnknownToken,
                start + Duration::from_secs(1),
            );
            assert!(decisions.0.len() <= MOST);
        }
        assert_eq!(decisions.of("prometheus", start), Some(ScraperDecision::Allowed));
        for number in 0..10 * MOST {
            decisions.remember(
                &format!("valid {number}"),
                ScraperDecision::Allowed,
                start + Duration::from_secs(2),
            );
        }
        assert_eq!(decisions.0.len(), MOST);
        assert_eq!(decisions.of("prometheus", start), None, "there is no room for it");
    }

    #[test]
    fn decision_that_is_made_again_replaces_the_earlier_one() {
        let (mut decisions, start) = (ScraperDecisions::default(), Instant::now());
        decisions.remember("a", ScraperDecision::Allowed, start);
        let forbidden = ScraperDecision::Forbidden { user: "jane".to_owned() };
        decisions.remember("a", forbidden.clone(), start);
        assert_eq!(decisions.of("a", start), Some(forbidden));
    }
}
