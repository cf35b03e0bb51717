//! Labels, and selectors that match them (metav1.LabelSelector).

use super::NamespaceName;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The label that the API server sets on every namespace to its name.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The labels of an object, with unique keys. Keys and values are stored in one string, as there are many labels and
/// each is short.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels {
    text: Box<str>,
    /// Where in the string each key and its value end.
    ends: Box<[[u32; 2]]>,
}

impl Labels {
    /// Takes labels as the API gives them.
    pub fn new(labels: &BTreeMap<String, String>) -> Labels {
        Labels::of(labels.iter().map(|(key, value)| (key.as_str(), value.as_str())))
    }

    /// The labels of a namespace of which only the name is known: the one that every namespace has.
    pub fn of_unknown_namespace(name: &NamespaceName) -> Labels {
        Labels::of([(NAMESPACE_NAME_LABEL, name.as_str())].into_iter())
    }

    /// Takes labels in the order of their keys.
    fn of<'a>(labels: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Labels {
        let mut text =
            String::with_capacity(labels.clone().map(|(key, value)| key.len() + value.len()).sum());
        let mut end = |part: &str| {
            text.push_str(part);
            u32::try_from(text.len()).expect("an object has less than 4 GiB of labels")
        };
        let ends = labels.map(|(key, value)| [end(key), end(value)]).collect();
        Labels { text: text.into(), ends }
    }

    /// Those of the labels whose keys are wanted.
    pub fn restricted_to(&self, wants: impl Fn(&str) -> bool) -> Labels {
        let kept: Vec<(&str, &str)> = self.iter().filter(|(key, _)| wants(key)).collect();
        Labels::of(kept.into_iter())
    }

    /// The value of `key`, if the object has that label.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(own, _)| *own == key).map(|(_, value)| value)
    }

    /// The labels in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        self.ends.iter().map(move |&[key, value]| {
            let (key, value) = (key as usize, value as usize);
            (&self.text[std::mem::replace(&mut start, value)..key], &self.text[key..value])
        })
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// What a requirement of a selector demands of a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Demand {
    /// The label exists with one of these values, of which there is at least one.
    In(BTreeSet<Box<str>>),
    /// The label is absent, or has none of these values, of which there is at least one.
    NotIn(BTreeSet<Box<str>>),
    /// The label exists.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

/// One requirement of a selector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: Box<str>,
    /// What it demands of the label.
    pub demand: Demand,
}

impl Requirement {
    /// Whether an object with these labels meets the requirement.
    pub fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.demand {
            Demand::In(values) => value.is_some_and(|value| values.contains(value)),
            Demand::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Demand::Exists => value.is_some(),
            Demand::DoesNotExist => value.is_none(),
        }
    }
}

impl fmt::Display for Requirement {
    /// In the syntax of `kubectl -l`: `app=web`, `app in (api,web)`, `app notin (web)`, `app`, `!app`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let list =
            |values: &BTreeSet<Box<str>>| values.iter().map(|value| &**value).collect::<Vec<_>>().join(",");
        match &self.demand {
            Demand::In(values) if values.len() == 1 => write!(f, "{key}={}", list(values)),
            Demand::In(values) => write!(f, "{key} in ({})", list(values)),
            Demand::NotIn(values) => write!(f, "{key} notin ({})", list(values)),
            Demand::Exists => write!(f, "{key}"),
            Demand::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

/// A label selector, parsed once. All its requirements must be met; a selector without requirements selects everything.
///
/// Two selectors with the same requirements in different order are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector(Box<[Requirement]>);

impl Selector {
    /// A selector with these requirements.
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Selector {
        let in_order: BTreeSet<Requirement> = requirements.into_iter().collect();
        Selector(in_order.into_iter().collect())
    }

    /// The selector that selects everything.
    pub fn everything() -> Selector {
        Selector::default()
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels))
    }

    /// Whether it selects a namespace of which only the name is known: if it asks for the name alone, and the name is one of
    /// those that it lists. Nothing else is known of the namespace, not even which labels are absent.
    pub fn selects_unknown_namespace(&self, name: &NamespaceName) -> bool {
        let asks_for_the_name_alone = self.0.iter().all(|asked| *asked.key == *NAMESPACE_NAME_LABEL);
        let names_it = self.0.iter().any(|asked| matches!(asked.demand, Demand::In(_)));
        asks_for_the_name_alone && names_it && self.matches(&Labels::of_unknown_namespace(name))
    }

    /// Its requirements, in a fixed order.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::new(&pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
    }

    fn selector(key: &str, demand: Demand) -> Selector {
        Selector::new([Requirement { key: key.into(), demand }])
    }

    fn values(values: &[&str]) -> BTreeSet<Box<str>> {
        values.iter().map(|value| Box::from(*value)).collect()
    }

    #[test]
    fn empty_selector_selects_everything() {
        assert!(Selector::everything().matches(&labels(&[])));
        assert!(Selector::everything().matches(&labels(&[("app", "web")])));
    }

    #[test]
    fn in_needs_the_label_with_one_of_the_values() {
        let selector = selector("app", Demand::In(values(&["web", "api"])));
        assert!(selector.matches(&labels(&[("app", "api")])));
        assert!(!selector.matches(&labels(&[("app", "db")])));
        assert!(!selector.matches(&labels(&[("tier", "web")])));
    }

    #[test]
    fn not_in_holds_where_the_label_is_missing() {
        let selector = selector("app", Demand::NotIn(values(&["web"])));
        assert!(selector.matches(&labels(&[])));
        assert!(selector.matches(&labels(&[("app", "db")])));
        assert!(!selector.matches(&labels(&[("app", "web")])));
    }

    #[test]
    fn exists_and_does_not_exist_are_opposites() {
        for pairs in [vec![], vec![("app", "")], vec![("other", "x")]] {
            let labels = labels(&pairs);
            let exists = selector("app", Demand::Exists).matches(&labels);
            assert_ne!(exists, selector("app", Demand::DoesNotExist).matches(&labels));
        }
    }

    #[test]
    fn requirement_reads_as_kubectl_takes_it() {
        let text = |demand| Requirement { key: "app".into(), demand }.to_string();
        assert_eq!(text(Demand::In(values(&["web"]))), "app=web");
        assert_eq!(text(Demand::In(values(&["web", "api"]))), "app in (api,web)");
        assert_eq!(text(Demand::NotIn(values(&["web"]))), "app notin (web)");
        assert_eq!((text(Demand::Exists), text(Demand::DoesNotExist)), ("app".into(), "!app".into()));
    }

    #[test]
    fn all_requirements_must_hold() {
        let both = Selector::new([
            Requirement { key: "app".into(), demand: Demand::In(values(&["web"])) },
            Requirement { key: "canary".into(), demand: Demand::DoesNotExist },
        ]);
        assert!(both.matches(&labels(&[("app", "web")])));
        assert!(!both.matches(&labels(&[("app", "web"), ("canary", "true")])));
    }
}
