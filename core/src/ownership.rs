//! How an agent without any memory recognises the chains, sets and tables of this program in a kernel, and the prefixes
//! of its NFLOG copies.
//!
//! Names are recognised by their whole form, not by their prefix alone: kube-router's chains are also named
//! `KUBE-NWPLCY-` and 16 characters of base32.

/// The prefix of every set, and of all chains that do not belong to a pod.
pub const POLICY_PREFIX: &str = "KUBE-NWPLCY-";
/// The prefix of the chains that belong to pods.
pub const POD_PREFIX: &str = "KUBE-POD-SPECIFIC-FW-";
/// The first character of every hash in this program's names. kube-router's hashes never begin with it, as base32 does
/// not contain it.
pub const HASH_MARK: &str = "0";
/// The other characters of a hash (RFC 4648 base32).
pub const HASH_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// The suffix of a set that is filled to be swapped in, after the beginning of the name of the set to replace.
pub const SPARE: &str = "-tmp";

/// The chain and the set in which the preflight tries rules, and which it removes again. Their name does not have the
/// form of our names, as otherwise an agent could remove them meanwhile.
pub const SCRATCH: &str = "BRIDGEWARDEN-PREFLIGHT";

/// The chains to which built-in chains jump, without [`POLICY_PREFIX`].
pub const ENTRANCES: [&str; 3] = ["FORWARD", "OUTPUT", "INPUT"];
/// The other fixed chains, except for buckets. Every chain whose name has no hash must be in one of these lists.
const FIXED_CHAINS: [&str; 6] = ["REVOKED", "ACCEPT", "INGRESS", "EGRESS", "UNASSIGNED", "AUDIT"];
/// The beginnings of the names of buckets, before two hexadecimal digits.
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
/// The beginnings of the names of other sets, before a hash.
const SETS: [&str; 6] = ["P4-", "P6-", "N4-", "N6-", "B4-", "B6-"];

/// The length of a chain name with a hash: the longest that the kernel allows.
const CHAIN_LENGTH: usize = 28;
const SET_LENGTH: usize = 31;

/// The NFLOG prefix of a packet that was denied by a pod's ingress policies.
pub const DENIED_INGRESS: &str = "denied-ingress";
/// The NFLOG prefix of a packet that was denied by a pod's egress policies.
pub const DENIED_EGRESS: &str = "denied-egress";
/// The NFLOG prefix of an allowed packet that a pod's audited ingress policies would have denied.
pub const AUDITED_INGRESS: &str = "audited-ingress";
/// The NFLOG prefix of an allowed packet that a pod's audited egress policies would have denied.
pub const AUDITED_EGRESS: &str = "audited-egress";
/// The NFLOG prefix of a packet from a pod to its own node, denied because of `--pod-to-node=drop`.
pub const DENIED_TO_NODE: &str = "denied-to-node";

/// The NFLOG prefix of a frame whose source is not an address of the pod at its port.
pub const DENIED_SPOOFED: &str = "denied-spoofed";
/// The NFLOG prefix of a frame that in neighbour discovery claims an address of another pod, or the role of a router.
pub const DENIED_DISCOVERY: &str = "denied-discovery";
/// The NFLOG prefix of a packet to an address that the pod to which it would be sent does not have.
pub const DENIED_UNASSIGNED: &str = "denied-unassigned";
/// The NFLOG prefix of a frame from or to a link-local address of an isolated pod.
pub const DENIED_LINK_LOCAL: &str = "denied-link-local";
/// The NFLOG prefix of a broadcast or multicast frame from or to an isolated pod.
pub const DENIED_GROUP: &str = "denied-group";
/// The NFLOG prefix of a frame from or to an isolated pod, of a protocol that policies cannot name.
pub const DENIED_PROTOCOL: &str = "denied-protocol";
/// What the copy of a frame says that carries a packet to a tunnel of the nodes.
pub const DENIED_TUNNEL: &str = "denied-tunnel";
/// What the copy of a packet says that came in a frame to an address that bridges keep for themselves.
pub const DENIED_RESERVED: &str = "denied-reserved";

/// The table of family inet that the backend `nftables` writes.
pub const INET_TABLE: &str = "bridgewarden";
/// The table of family inet that is in force in its place while it is made again.
pub const INET_TABLE_NEXT: &str = "bridgewarden-next";
/// The table of family bridge that binds pods to ports.
pub const BRIDGE_TABLE: &str = "bridgewarden";
/// The table of family bridge that exists beside it while an agent takes over from another: a frame must pass both.
pub const BRIDGE_TABLE_NEXT: &str = "bridgewarden-next";
/// The table of family inet that drops frames which a bridge delivers to a port's own device.
pub const RESERVED_TABLE: &str = "bridgewarden-reserved";

/// The table of family inet that denies all traffic of pods while an agent starts on a kernel without rules.
pub const START_TABLE: &str = "bridgewarden-start";

/// Our tables of nf_tables, named as in `nft`, but for the one of the start, which ends with its agent.
pub fn own_tables() -> [String; 5] {
    let of = |family: &str, name: &str| format!("{family} {name}");
    [
        of("inet", INET_TABLE),
        of("inet", INET_TABLE_NEXT),
        of("inet", RESERVED_TABLE),
        of("bridge", BRIDGE_TABLE),
        of("bridge", BRIDGE_TABLE_NEXT),
    ]
}

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

/// Whether a set is ours, of this version or of 0.1.0, whose hashes had no mark. No other program uses such names.
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

/// Whether a chain may belong to version 0.1.0 or to kube-router, whose names look alike. Its rules, and the rules that
/// jump to it, show which.
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
