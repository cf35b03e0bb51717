//! The names of namespaces.

use super::TestbedError;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// The longest readable part of a namespace's name.
const LONGEST_NAME: usize = 100;

/// Rejects an id that would make ambiguous names.
pub(super) fn check_id(id: &str) -> Result<(), TestbedError> {
    let fits = (1..=12).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if fits {
        return Ok(());
    }
    Err(TestbedError::Layout {
        object: format!("testbed id {id:?}"),
        problem: "it would make ambiguous namespace names".to_owned(),
        cure: "Use 1 to 12 lower-case letters and digits",
    })
}

/// Reserves the file name `wanted`. If it is not valid, too long or already used, a fingerprint is appended to make it
/// unique.
pub(super) fn claim(names: &mut BTreeSet<String>, wanted: &str) -> String {
    let legal = |char: char| char.is_ascii_alphanumeric() || "-._".contains(char);
    let mut name: String =
        wanted.chars().map(|char| if legal(char) { char } else { '_' }).take(LONGEST_NAME).collect();
    let mut salt = 0;
    while name != wanted && salt == 0 || names.contains(&name) {
        let cut: String = name.chars().take(LONGEST_NAME).collect();
        name = format!("{cut}-{}", fingerprint(&format!("{salt} {wanted}")));
        salt += 1;
    }
    names.insert(name.clone());
    name
}

/// Eight hexadecimal digits that identify a text.
pub(super) fn fingerprint(text: &str) -> String {
    Sha256::digest(text).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_names_are_readable_where_they_can_be_and_never_shared() {
        let mut names = BTreeSet::new();
        assert_eq!(claim(&mut names, "bw-x-pod-shop-web"), "bw-x-pod-shop-web");
        let second = claim(&mut names, "bw-x-pod-shop-web");
        assert!(second.starts_with("bw-x-pod-shop-web-"));
        assert_ne!(claim(&mut names, "bw-x-pod-shop-web"), second);
        let long = claim(&mut names, &format!("bw-x-pod-shop-{}", "w".repeat(253)));
        assert!(long.len() <= LONGEST_NAME + 9);
        assert!(!claim(&mut names, "bw-x-node-../../etc").contains('/'));
    }

    #[test]
    fn ids_that_could_be_the_beginning_of_another_are_refused() {
        assert!(check_id("demo1").is_ok());
        for id in ["", "a-b", "A", "averylongname1", "ä"] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }
}
