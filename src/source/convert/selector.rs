//! metav1.LabelSelector.

use super::{FieldPath, InvalidParts, label, reason};
use crate::api;
use crate::model::{Demand, Requirement, Selector};
use std::collections::BTreeSet;

/// Converts a selector; `None` if any part is invalid, as a selector without one of its requirements would select too much.
pub(super) fn selector(
    from: &api::LabelSelector,
    path: &FieldPath<'_>,
    invalid: &mut InvalidParts,
) -> Option<Selector> {
    let mut sound = !invalid.add_unknown_fields(path, from);
    let mut requirements = Vec::new();
    let labels_path = path.field("matchLabels");
    for (key, value) in from.match_labels.iter().flatten() {
        let at = labels_path.key(key);
        sound &= is_key(key, &at, invalid) & is_value(value, &at, invalid);
        let demand = Demand::In(BTreeSet::from([value.as_str().into()]));
        requirements.push(Requirement { key: key.as_str().into(), demand });
    }
    let expressions_path = path.field("matchExpressions");
    for (index, expression) in from.match_expressions.iter().flatten().enumerate() {
        match requirement(expression, &expressions_path.index(index), invalid) {
            Some(requirement) => requirements.push(requirement),
            None => sound = false,
        }
    }
    sound.then(|| Selector::new(requirements))
}

fn requirement(
    from: &api::LabelSelectorRequirement,
    path: &FieldPath<'_>,
    invalid: &mut InvalidParts,
) -> Option<Requirement> {
    let known = !invalid.add_unknown_fields(path, from);
    let sound_key = is_key(&from.key, &path.field("key"), invalid);
    let demand = demand(from, path, invalid);
    let demand = demand.filter(|_| sound_key && known)?;
    Some(Requirement { key: from.key.as_str().into(), demand })
}

fn demand(
    from: &api::LabelSelectorRequirement,
    path: &FieldPath<'_>,
    invalid: &mut InvalidParts,
) -> Option<Demand> {
    let operator = from.operator.as_str();
    let values_path = path.field("values");
    let values = from.values.as_deref().unwrap_or_default();
    match operator {
        "In" | "NotIn" => {
            if values.is_empty() {
                let message = format!("`{operator}` needs values: list at least one");
                invalid.add(&values_path, reason::BAD_VALUES, message);
                return None;
            }
            let mut sound = true;
            for (index, value) in values.iter().enumerate() {
                sound &= is_value(value, &values_path.index(index), invalid);
            }
            let values = values.iter().map(|value| value.as_str().into()).collect();
            sound.then(|| if operator == "In" { Demand::In(values) } else { Demand::NotIn(values) })
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                let message = format!("`{operator}` takes no values: remove them, or write `In` or `NotIn`");
                invalid.add(&values_path, reason::BAD_VALUES, message);
                return None;
            }
            Some(if operator == "Exists" { Demand::Exists } else { Demand::DoesNotExist })
        }
        _ => {
            let words = "write `In`, `NotIn`, `Exists` or `DoesNotExist`";
            let message = match operator {
                "" => format!("the operator is missing: {words}"),
                _ => format!("unknown operator `{operator}`: {words}"),
            };
            invalid.add(&path.field("operator"), reason::UNKNOWN_OPERATOR, message);
            None
        }
    }
}

fn is_key(key: &str, path: &FieldPath<'_>, invalid: &mut InvalidParts) -> bool {
    let Some(fault) = label::key_fault(key) else { return true };
    invalid.add(path, reason::BAD_LABEL, format!("`{key}` cannot be a label's key: {fault}"));
    false
}

fn is_value(value: &str, path: &FieldPath<'_>, invalid: &mut InvalidParts) -> bool {
    let Some(fault) = label::value_fault(value) else { return true };
    invalid.add(path, reason::BAD_LABEL, format!("`{value}` cannot be a label's value: {fault}"));
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(from: Value) -> Result<Selector, Vec<String>> {
        let from = serde_json::from_value(from).unwrap();
        let mut invalid = InvalidParts::default();
        let selector = selector(&from, &FieldPath::Root.field("podSelector"), &mut invalid);
        assert_eq!(selector.is_none(), !invalid.0.is_empty());
        selector.ok_or_else(|| invalid.0.iter().map(ToString::to_string).collect())
    }

    fn requirement(key: &str, demand: Demand) -> Requirement {
        Requirement { key: key.into(), demand }
    }

    fn values(values: &[&str]) -> BTreeSet<Box<str>> {
        values.iter().map(|value| Box::from(*value)).collect()
    }

    #[test]
    fn empty_selector_selects_everything() {
        for from in [
            json!({}),
            json!({"matchLabels": {}}),
            json!({"matchExpressions": []}),
            json!({"matchLabels": null}),
        ] {
            assert_eq!(read(from), Ok(Selector::everything()));
        }
    }

    #[test]
    fn labels_and_expressions_must_all_hold() {
        let from = json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["a", "b", "a"]},
                {"key": "track", "operator": "NotIn", "values": ["canary"]},
                {"key": "team", "operator": "Exists"},
                {"key": "legacy", "operator": "DoesNotExist", "values": []},
            ],
        });
        let expected = Selector::new([
            requirement("app", Demand::In(values(&["web"]))),
            requirement("tier", Demand::In(values(&["a", "b"]))),
            requirement("track", Demand::NotIn(values(&["canary"]))),
            requirement("team", Demand::Exists),
            requirement("legacy", Demand::DoesNotExist),
        ]);
        assert_eq!(read(from), Ok(expected));
    }

    #[test]
    fn in_and_not_in_need_values() {
        for operator in ["In", "NotIn"] {
            for expression in [
                json!({"key": "app", "operator": operator}),
                json!({"key": "app", "operator": operator, "values": []}),
            ] {
                let expected = format!(
                    "podSelector.matchExpressions[0].values: `{operator}` needs values: list at least one"
                );
                assert_eq!(read(json!({"matchExpressions": [expression]})), Err(vec![expected]));
            }
        }
    }

    #[test]
    fn exists_and_does_not_exist_take_no_values() {
        for operator in ["Exists", "DoesNotExist"] {
            let from = json!({"matchExpressions": [{"key": "app", "operator": operator, "values": ["web"]}]});
            let expected = format!(
                "podSelector.matchExpressions[0].values: `{operator}` takes no values: remove them, or write `In` or `NotIn`"
            );
            assert_eq!(read(from), Err(vec![expected]));
        }
    }

    #[test]
    fn unknown_operator_makes_the_selector_invalid() {
        let from = json!({"matchExpressions": [{"key": "app", "operator": "in", "values": ["web"]}]});
        let expected = "podSelector.matchExpressions[0].operator: \
                        unknown operator `in`: write `In`, `NotIn`, `Exists` or `DoesNotExist`";
        assert_eq!(read(from), Err(vec![expected.to_owned()]));
    }

    #[test]
    fn impossible_label_makes_the_selector_invalid() {
        let from = json!({
            "matchLabels": {"app/web/x": "web", "app": "not a label"},
            "matchExpressions": [{"key": "", "operator": "Exists"}, {"key": "a", "operator": "In", "values": ["b", "-"]}],
        });
        let messages = read(from).unwrap_err();
        let paths: Vec<_> = messages.iter().filter_map(|message| message.split(": ").next()).collect();
        assert_eq!(paths, {
            [
                "podSelector.matchLabels[app]",
                "podSelector.matchLabels[app/web/x]",
                "podSelector.matchExpressions[0].key",
                "podSelector.matchExpressions[1].values[1]",
            ]
        });
    }

    #[test]
    fn unknown_field_makes_the_selector_invalid() {
        let from = json!({"matchLabels": {"app": "web"}, "matchlabels": {"tier": "x"}});
        let expected =
            "podSelector.matchlabels: unknown field `matchlabels`: remove it or correct its spelling";
        assert_eq!(read(from), Err(vec![expected.to_owned()]));
    }
}
