//! Which names the API server accepts (RFC 1123 labels and subdomains).

/// What is wrong with the name of a namespace, if anything.
pub(in crate::source) fn label_fault(name: &str) -> Option<&'static str> {
    if name.len() > 63 {
        return Some("it must have at most 63 characters");
    }
    (!is_label(name))
        .then_some("it must consist of lower-case letters, digits and `-`, which may not stand first or last")
}

/// What is wrong with the name of a pod or policy, if anything.
pub(in crate::source) fn subdomain_fault(name: &str) -> Option<&'static str> {
    if name.len() > 253 {
        return Some("it must have at most 253 characters");
    }
    (!name.split('.').all(is_label)).then_some(
        "it must consist of lower-case letters, digits, `-` and `.`, and begin and end with a letter or digit",
    )
}

fn is_label(text: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
}
