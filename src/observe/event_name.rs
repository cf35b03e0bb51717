//! Names of Events.

use k8s_openapi::jiff::Timestamp;
use sha2::{Digest, Sha256};

/// How many bytes the name of an object may have.
const MAX_NAME: usize = 253;
/// The time in which all agents write one Event of a name, in seconds.
const WINDOW: u64 = 3600;

/// A name for an Event about this object that no other Event has.
pub(super) fn unique(object: &str, now: Timestamp) -> String {
    named(object, &format!("{:x}", now.as_nanosecond()))
}

/// The name that every agent gives an Event about this pod, for this reason and in this hour. The API server accepts one of each
/// name. Hours begin at another time for each pod, so that agents do not write about all pods at once.
pub(super) fn common(pod: &str, uid: &str, reason: &str, now: Timestamp) -> String {
    let digest: [u8; 32] =
        Sha256::new().chain_update(uid).chain_update("/").chain_update(reason).finalize().into();
    let digest = digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
    let hour = (now.as_second().unsigned_abs() + digest % WINDOW) / WINDOW;
    named(pod, &format!("{digest:016x}-{hour:x}"))
}

/// The object's name, cut if it is long, and a suffix.
fn named(object: &str, suffix: &str) -> String {
    let object = object.get(..MAX_NAME - 1 - suffix.len()).unwrap_or(object);
    format!("{}.{suffix}", object.trim_end_matches(['.', '-']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASON: &str = "FlowDeniedByDestination";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn agents_give_an_event_about_a_pod_one_name_in_an_hour() {
        let begin = (1_800_000_000..1_800_003_601)
            .find(|second| {
                common("web", "u", REASON, at(second - 1)) != common("web", "u", REASON, at(*second))
            })
            .unwrap();
        let name = common("web", "u", REASON, at(begin));
        assert_eq!(common("web", "u", REASON, at(begin + 3599)), name);
        assert_ne!(common("web", "u", REASON, at(begin + 3600)), name, "an hour later it is written again");
        assert_ne!(
            common("web", "another", REASON, at(begin)),
            name,
            "a pod that was created again is another"
        );
        assert_ne!(common("web", "u", "FlowDenied", at(begin)), name, "each reason has its own");
    }

    #[test]
    fn hours_of_pods_begin_at_different_times() {
        let changed = |uid: &str| {
            common("web", uid, REASON, at(1_800_000_000)) != common("web", uid, REASON, at(1_800_001_800))
        };
        let pods = (0..1000).filter(|uid| changed(&uid.to_string())).count();
        assert!((400..600).contains(&pods), "{pods} of 1000 hours begin in half an hour");
    }

    #[test]
    fn name_of_an_event_is_a_name_however_long_that_of_its_object() {
        for object in ["web".to_owned(), "a".repeat(253), format!("{}.{}", "a".repeat(226), "b".repeat(26))] {
            for name in [common(&object, "u", REASON, at(1_800_000_000)), unique(&object, at(1_800_000_000))]
            {
                assert!(name.len() <= MAX_NAME && name.starts_with(&object[..3]), "{name}");
                let is_label = |label: &str| {
                    !label.is_empty()
                        && !label.starts_with('-')
                        && !label.ends_with('-')
                        && label
                            .bytes()
                            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                };
                assert!(name.split('.').all(is_label), "{name}");
            }
        }
    }
}
