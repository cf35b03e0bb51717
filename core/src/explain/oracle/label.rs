//! Label selectors, as metav1.LabelSelector documents them and the API server validates them.

use crate::api::{LabelSelector, LabelSelectorRequirement};
use std::collections::BTreeMap;

/// Whether an object with these labels is selected; a selector that is not valid selects nothing.
pub(super) fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    // "The result of matchLabels and matchExpressions are ANDed. An empty label selector matches all objects."
    is_valid(selector)
        && selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
        && selector.match_expressions.iter().flatten().all(|requirement| holds(requirement, labels))
}

/// Whether the API server would accept the selector.
pub(super) fn is_valid(selector: &LabelSelector) -> bool {
    selector.unknown.first().is_none()
        && selector.match_labels.iter().flatten().all(|(key, value)| is_key(key) && is_value(value))
        && selector.match_expressions.iter().flatten().all(is_valid_requirement)
}

fn holds(requirement: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let listed = value.is_some_and(|value| requirement.values.iter().flatten().any(|listed| listed == value));
    // "operator represents a key's relationship to a set of values. Valid operators are In, NotIn, Exists and
    // DoesNotExist." An absent key is in no set.
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

fn is_valid_requirement(requirement: &LabelSelectorRequirement) -> bool {
    let mut values = requirement.values.iter().flatten().peekable();
    let values_fit = match requirement.operator.as_str() {
        // "If the operator is In or NotIn, the values array must be non-empty."
        "In" | "NotIn" => values.peek().is_some() && values.all(|value| is_value(value)),
        // "If the operator is Exists or DoesNotExist, the values array must be empty."
        "Exists" | "DoesNotExist" => values.peek().is_none(),
        _ => false,
    };
    requirement.unknown.first().is_none() && is_key(&requirement.key) && values_fit
}

/// "Valid label keys have two segments: an optional prefix and name, separated by a slash"; the name is "63
/// characters or less", the prefix "a DNS subdomain […] not longer than 253 characters in total".
fn is_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    !name.is_empty() && is_value(name) && prefix.is_none_or(is_subdomain)
}

/// "must be 63 characters or less (can be empty); unless empty, must begin and end with an alphanumeric character
/// ([a-z0-9A-Z]); could contain dashes (-), underscores (_), dots (.), and alphanumerics between."
fn is_value(value: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    bytes.len() <= 63
        && alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn is_subdomain(text: &str) -> bool {
    let lower_case = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 253
        && text.split('.').map(str::as_bytes).all(|part| {
            part.first().is_some_and(lower_case)
                && part.last().is_some_and(lower_case)
                && part.iter().all(|byte| lower_case(byte) || *byte == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(json: &str) -> LabelSelector {
        serde_json::from_str(json).unwrap()
    }

    fn selected(json: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        selects(&selector(json), &labels)
    }

    #[test]
    fn empty_selector_selects_everything() {
        assert!(selected("{}", &[]));
        assert!(selected(r#"{"matchLabels": {}, "matchExpressions": []}"#, &[("app", "web")]));
    }

    #[test]
    fn labels_and_expressions_are_anded() {
        let both =
            r#"{"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]}"#;
        assert!(selected(both, &[("app", "web"), ("tier", "")]));
        assert!(!selected(both, &[("app", "web")]));
        assert!(!selected(both, &[("tier", "")]));
    }

    #[test]
    fn not_in_selects_objects_without_the_label() {
        let not_in = r#"{"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}"#;
        assert!(selected(not_in, &[]));
        assert!(selected(not_in, &[("app", "db")]));
        assert!(!selected(not_in, &[("app", "web")]));
    }

    #[test]
    fn what_the_api_server_refuses_selects_nothing() {
        for invalid in [
            r#"{"matchExpressions": [{"key": "app", "operator": "In"}]}"#,
            r#"{"matchExpressions": [{"key": "app", "operator": "NotIn", "values": []}]}"#,
            r#"{"matchExpressions": [{"key": "app", "operator": "Exists", "values": ["web"]}]}"#,
            r#"{"matchExpressions": [{"key": "app", "operator": "DoesNotExist", "values": ["web"]}]}"#,
            r#"{"matchExpressions": [{"key": "app", "operator": "exists"}]}"#,
            r#"{"matchExpressions": [{"key": "", "operator": "DoesNotExist"}]}"#,
            r#"{"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["line\nbreak"]}]}"#,
            r#"{"matchExpressions": [{"key": "UPPER/app", "operator": "DoesNotExist"}]}"#,
            r#"{"matchLabels": {"-app": "web"}}"#,
            r#"{"matchLabels": {"app": "'web'"}}"#,
            r#"{"matchlabels": {"app": "web"}}"#,
        ] {
            assert!(!is_valid(&selector(invalid)), "{invalid}");
            assert!(!selected(invalid, &[("app", "web")]), "{invalid}");
            assert!(!selected(invalid, &[]), "{invalid}");
        }
    }

    #[test]
    fn keys_may_have_a_prefix_and_values_may_be_empty() {
        assert!(selected(
            r#"{"matchLabels": {"kubernetes.io/metadata.name": ""}}"#,
            &[("kubernetes.io/metadata.name", "")]
        ));
        assert!(!is_key("a/b/c"));
        assert!(!is_key("/b"));
        assert!(is_value(&"x".repeat(63)) && !is_value(&"x".repeat(64)));
    }
}
