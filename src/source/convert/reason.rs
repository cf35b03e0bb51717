//! Reasons why a part of an object is invalid, as metrics and Events name them.

/// A key that the API does not have.
pub const UNKNOWN_FIELD: &str = "unknown_field";
/// A policyType other than Ingress and Egress, or too many of them.
pub const BAD_POLICY_TYPE: &str = "bad_policy_type";
/// A label key or value that no object can carry.
pub const BAD_LABEL: &str = "bad_label";
/// A selector operator that the API does not have.
pub const UNKNOWN_OPERATOR: &str = "unknown_operator";
/// Values that do not fit the selector's operator.
pub const BAD_VALUES: &str = "bad_values";
/// A peer without a selector or block.
pub const EMPTY_PEER: &str = "empty_peer";
/// A peer with both an ipBlock and a selector.
pub const MIXED_PEER: &str = "mixed_peer";
/// A cidr that is not a prefix.
pub const BAD_CIDR: &str = "bad_cidr";
/// An exception that is not a prefix strictly inside its block.
pub const BAD_EXCEPT: &str = "bad_except";
/// A protocol other than TCP, UDP and SCTP.
pub const UNKNOWN_PROTOCOL: &str = "unknown_protocol";
/// A port number outside 1 to 65535, or a name that no port can have.
pub const BAD_PORT: &str = "bad_port";
/// An endPort that does not end a range.
pub const BAD_END_PORT: &str = "bad_end_port";
/// A pod's address that is not an IP address.
pub const BAD_ADDRESS: &str = "bad_address";
/// A policy that does not have the API's shape.
pub const UNREADABLE: &str = "unreadable";

/// All of them, in alphabetical order.
pub const ALL: [&str; 14] = [
    BAD_ADDRESS,
    BAD_CIDR,
    BAD_END_PORT,
    BAD_EXCEPT,
    BAD_LABEL,
    BAD_POLICY_TYPE,
    BAD_PORT,
    BAD_VALUES,
    EMPTY_PEER,
    MIXED_PEER,
    UNKNOWN_FIELD,
    UNKNOWN_OPERATOR,
    UNKNOWN_PROTOCOL,
    UNREADABLE,
];
