//! Which label keys and values the API server accepts (apimachinery's IsQualifiedName and IsValidLabelValue).

use super::name::subdomain_fault;

/// What is wrong with a label's key, if anything.
pub(super) fn key_fault(key: &str) -> Option<&'static str> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_some_and(|prefix| subdomain_fault(prefix).is_some()) {
        return Some("the part before `/` must be a lower-case DNS name of at most 253 characters");
    }
    if name.len() > 63 {
        return Some("the name must have at most 63 characters");
    }
    if !is_word(name) {
        return Some("the name must begin and end with a letter or digit, with `-`, `_` and `.` between");
    }
    None
}

/// What is wrong with a label's value, if anything.
pub(super) fn value_fault(value: &str) -> Option<&'static str> {
    if value.len() > 63 {
        return Some("a label's value must have at most 63 characters");
    }
    if !value.is_empty() && !is_word(value) {
        return Some(
            "a label's value must begin and end with a letter or digit, with `-`, `_` and `.` between",
        );
    }
    None
}

fn is_word(text: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    ends(text.as_bytes().first())
        && ends(text.as_bytes().last())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_labels_are_accepted() {
        for key in ["app", "app.kubernetes.io/name", "A_b.c-d", "1", "k8s-app"] {
            assert_eq!(key_fault(key), None, "{key}");
        }
        for value in ["", "web", "v1.2_3-4", "X"] {
            assert_eq!(value_fault(value), None, "{value}");
        }
    }

    #[test]
    fn invalid_labels_are_rejected() {
        for key in ["", "/", "a/", "/a", "-a", "a-", "a b", "Example.com/a", "a/b/c", "ä", "a..b/c"] {
            assert!(key_fault(key).is_some(), "{key}");
        }
        assert!(key_fault(&"a".repeat(64)).is_some());
        assert!(key_fault(&format!("{}/a", "a".repeat(254))).is_some());
        for value in ["-a", "a-", ".", "a b", "a/b", "ä"] {
            assert!(value_fault(value).is_some(), "{value}");
        }
        assert!(value_fault(&"a".repeat(64)).is_some());
    }
}
