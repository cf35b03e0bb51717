//! Audit mode: policies that are evaluated and reported, and not enforced.

use super::Labels;

/// The label of a NetworkPolicy, or of a Namespace for all its policies. A pod's label of this name has no meaning.
pub const AUDIT_LABEL: &str = "bridgewarden.io/audit";

/// What the label [`AUDIT_LABEL`] of an object says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum AuditLabel {
    /// It is absent or `false`: the object's policies are enforced.
    #[default]
    Enforced,
    /// It is `true`: the object's policies neither isolate nor allow anything, and what they would deny is reported.
    Audited,
    /// It has this other value. The object's policies are enforced, and the value is reported, as its author may mean
    /// the opposite.
    NotUnderstood(Box<str>),
}

impl AuditLabel {
    /// What a value of the label says; `None` if the object has no such label.
    pub fn of_value(value: Option<&str>) -> AuditLabel {
        match value {
            None | Some("false") => AuditLabel::Enforced,
            Some("true") => AuditLabel::Audited,
            Some(value) => AuditLabel::NotUnderstood(value.into()),
        }
    }

    /// What the labels of an object say.
    pub fn of(labels: &Labels) -> AuditLabel {
        AuditLabel::of_value(labels.get(AUDIT_LABEL))
    }
}

/// What to do about a value of the label for audit mode that is not understood. The owner is the kind of object that has it.
pub fn audit_label_note(owner: &str, value: &str) -> String {
    format!(
        "the label {AUDIT_LABEL} of the {owner} is `{value}`, so it is enforced: for audit mode write \"true\""
    )
}
