//! What is ours in a kernel we know nothing about: how a fresh process, with no memory, recognises its own.

/// The prefix of every set, and of all chains that do not belong to pods.
pub const POLICY_PREFIX: &str = "KUBE-NWPLCY-";
/// The prefix of the chains that belong to pods.
pub const POD_PREFIX: &str = "KUBE-POD-SPECIFIC-FW-";
/// The characters of the hashes that follow a prefix (RFC 4648 base32).
pub const HASH_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// What the copy of a packet says that a pod's ingress refused.
pub const DENIED_INGRESS: &str = "denied-ingress";
/// What the copy of a packet says that a pod's egress refused.
pub const DENIED_EGRESS: &str = "denied-egress";
/// What the copy of a packet says that a pod sent to its own node, where the operator lets nothing through.
pub const DENIED_TO_NODE: &str = "denied-to-node";

/// Whether a chain is ours.
pub fn owns_chain(name: &str) -> bool {
    name.starts_with(POLICY_PREFIX) || name.starts_with(POD_PREFIX)
}

/// Whether a set is ours.
pub fn owns_set(name: &str) -> bool {
    name.starts_with(POLICY_PREFIX)
}
