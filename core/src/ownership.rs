//! What is ours in a kernel we know nothing about: how a fresh process, with no memory, recognises its own.
//!
//! By the whole form of a name, not by how it begins: kube-router calls its chains `KUBE-NWPLCY-` and 16 characters of base32, too.

/// The prefix of every set, and of all chains that do not belong to pods.
pub const POLICY_PREFIX: &str = "KUBE-NWPLCY-";
/// The prefix of the chains that belong to pods.
pub const POD_PREFIX: &str = "KUBE-POD-SPECIFIC-FW-";
/// What every hash of ours begins with, and none of kube-router's: base32 has no such character.
pub const HASH_MARK: &str = "0";
/// The characters of the rest of a hash (RFC 4648 base32).
pub const HASH_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// What ends the name of a set that is filled to be swapped in; the rest is the beginning of that set's name.
pub const SPARE: &str = "-tmp";

/// The chain and the set that the preflight tries rules in and removes again. Not ours by its form, or it would be removed while
/// rules are tried in it.
pub const SCRATCH: &str = "BRIDGEWARDEN-PREFLIGHT";

/// The chains into which built-in chains jump, by what follows [`POLICY_PREFIX`].
pub const ENTRANCES: [&str; 3] = ["FORWARD", "OUTPUT", "INPUT"];
/// The other fixed chains but for buckets. A chain of this program that no hash names must be in one of these lists.
const FIXED_CHAINS: [&str; 5] = ["REVOKED", "ACCEPT", "INGRESS", "EGRESS", "UNASSIGNED"];
/// What the names of buckets begin with, before two hexadecimal digits.
const BUCKETS: [&str; 2] = ["INGRESS-", "EGRESS-"];
/// The fixed sets.
const FIXED_SETS: [&str; 6] = [
    "ISOLATED-INGRESS-4",
    "ISOLATED-INGRESS-6",
    "ISOLATED-EGRESS-4",
    "ISOLATED-EGRESS-6",
    "LOCAL-4",
    "LOCAL-6",
];
/// What the names of other sets begin with, before a hash.
const SETS: [&str; 6] = ["P4-", "P6-", "N4-", "N6-", "B4-", "B6-"];

/// How long a name with a hash is: as long as the kernel lets it be.
const CHAIN_LENGTH: usize = 28;
const SET_LENGTH: usize = 31;

/// What the copy of a packet says that a pod's ingress refused.
pub const DENIED_INGRESS: &str = "denied-ingress";
/// What the copy of a packet says that a pod's egress refused.
pub const DENIED_EGRESS: &str = "denied-egress";
/// What the copy of a packet says that a pod sent to its own node, where the operator lets nothing through.
pub const DENIED_TO_NODE: &str = "denied-to-node";

/// What the copy of a frame says that came from an address that is not its port's.
pub const DENIED_SPOOFED: &str = "denied-spoofed";
/// What the copy of a frame says that claims in neighbour discovery what its port is not.
pub const DENIED_DISCOVERY: &str = "denied-discovery";
/// What the copy of a packet says that is for an address which the pod that it would go to does not have.
pub const DENIED_UNASSIGNED: &str = "denied-unassigned";
/// What the copy of a frame says that is from or to a link-local address of an isolated pod.
pub const DENIED_LINK_LOCAL: &str = "denied-link-local";
/// What the copy of a frame says that is for several, from or to an isolated pod.
pub const DENIED_GROUP: &str = "denied-group";
/// What the copy of a frame says that is of a protocol of which policies know nothing, from or to an isolated pod.
pub const DENIED_PROTOCOL: &str = "denied-protocol";

/// The table of family inet that the backend `nftables` writes.
pub const INET_TABLE: &str = "bridgewarden";
/// The table of family bridge that binds pods to ports.
pub const BRIDGE_TABLE: &str = "bridgewarden";
/// The table of family bridge that stands beside it while an agent takes over from another: a frame must pass both.
pub const BRIDGE_TABLE_NEXT: &str = "bridgewarden-next";

/// Whether a chain is ours.
pub fn owns_chain(name: &str) -> bool {
    let fixed = |rest: &str| {
        ENTRANCES.contains(&rest)
            || FIXED_CHAINS.contains(&rest)
            || BUCKETS.iter().any(|bucket| {
                rest.strip_prefix(bucket).is_some_and(|digits| {
                    digits.len() == 2
                        && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F'))
                })
            })
    };
    is_hashed_chain(name, is_marked_hash) || name.strip_prefix(POLICY_PREFIX).is_some_and(fixed)
}

/// Whether a set is ours, of this version or of 0.1.0, whose hashes had no mark. No other program names sets so.
pub fn owns_set(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(POLICY_PREFIX) else { return false };
    let is_hash = |hash: &str| is_marked_hash(hash) || is_base32(hash);
    let hash = |rest| SETS.into_iter().find_map(|kind| str::strip_prefix(rest, kind));
    match rest.strip_suffix(SPARE) {
        Some(start) => {
            let of_fixed = FIXED_SETS.iter().any(|set| set.starts_with(start));
            name.len() <= SET_LENGTH && ((of_fixed && !start.is_empty()) || hash(start).is_some_and(is_hash))
        }
        None => FIXED_SETS.contains(&rest) || (name.len() == SET_LENGTH && hash(rest).is_some_and(is_hash)),
    }
}

/// Whether a chain may be one of version 0.1.0, or one of kube-router's: they look alike. Which of them it is, its rules tell and
/// those that lead to it.
pub fn may_be_of_0_1_0(name: &str) -> bool {
    is_hashed_chain(name, is_base32)
}

fn is_hashed_chain(name: &str, is_hash: fn(&str) -> bool) -> bool {
    let hash = name.strip_prefix(POD_PREFIX).or_else(|| name.strip_prefix(POLICY_PREFIX));
    name.len() == CHAIN_LENGTH && hash.is_some_and(is_hash)
}

fn is_marked_hash(hash: &str) -> bool {
    hash.strip_prefix(HASH_MARK).is_some_and(is_base32)
}

fn is_base32(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| HASH_ALPHABET.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_of_kube_router_are_not_ours() {
        for theirs in [
            "KUBE-NWPLCY-DEFAULT",
            "KUBE-NWPLCY-COMMON",
            "KUBE-NWPLCY-TAIL",
            "KUBE-NWPLCY-ABCDEFGHIJKLMNOP",
            "KUBE-NWPLCY-INGRESSINGRESSIN",
            "KUBE-POD-FW-ABCDEFGHIJKLMNOP",
            "KUBE-ROUTER-FORWARD",
        ] {
            assert!(!owns_chain(theirs), "{theirs}");
        }
        assert!(
            may_be_of_0_1_0("KUBE-NWPLCY-ABCDEFGHIJKLMNOP")
                && may_be_of_0_1_0("KUBE-POD-SPECIFIC-FW-ABCDEFG")
        );
        assert!(!may_be_of_0_1_0("KUBE-NWPLCY-DEFAULT") && !may_be_of_0_1_0("KUBE-POD-FW-ABCDEFGHIJKLMNOP"));
    }

    #[test]
    fn name_that_only_begins_like_ours_is_not_ours() {
        for ours in ["KUBE-NWPLCY-FORWARD", "KUBE-NWPLCY-EGRESS-0F", "KUBE-NWPLCY-0BCDEFGHIJKLMNOP"] {
            assert!(owns_chain(ours), "{ours}");
        }
        for theirs in [
            "",
            "KUBE-NWPLCY-",
            "KUBE-NWPLCY-0",
            "KUBE-NWPLCY-MINE",
            "KUBE-NWPLCY-FORWARD-2",
            "KUBE-NWPLCY-EGRESS-0f",
            "KUBE-NWPLCY-EGRESS-0FF",
            "KUBE-NWPLCY-0BCDEFGHIJKLMNO",
            "KUBE-NWPLCY-0bcdefghijklmnop",
            "KUBE-NWPLCY-00CDEFGHIJKLMNOP",
            "KUBE-POD-SPECIFIC-FW-ABCDEFG",
            "XKUBE-NWPLCY-FORWARD",
        ] {
            assert!(!owns_chain(theirs), "{theirs}");
        }
    }

    #[test]
    fn sets_are_ours_by_their_whole_name_and_spares_by_what_they_are_spares_of() {
        for ours in [
            "KUBE-NWPLCY-P4-0BCDEFGHIJKLMNOP",
            "KUBE-NWPLCY-B6-ABCDEFGHIJKLMNOP",
            "KUBE-NWPLCY-N4-0BCDEFGHIJKL-tmp",
            "KUBE-NWPLCY-ISOLATED-INGRESS-4",
            "KUBE-NWPLCY-ISOLATED-INGRES-tmp",
        ] {
            assert!(owns_set(ours), "{ours}");
        }
        for theirs in [
            "KUBE-NWPLCY-",
            "KUBE-NWPLCY--tmp",
            "KUBE-NWPLCY-MINE",
            "KUBE-NWPLCY-MINE-tmp",
            "KUBE-NWPLCY-P4-",
            "KUBE-NWPLCY-P5-0BCDEFGHIJKLMNOP",
            "KUBE-NWPLCY-P4-0BCDEFGHIJKLMN",
            "KUBE-NWPLCY-ISOLATED-BOTH-4",
            "KUBE-SRC-ABCDEFGHIJKLMNOP",
        ] {
            assert!(!owns_set(theirs), "{theirs}");
        }
    }
}
