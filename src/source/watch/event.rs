//! The events of a watch, whatever the resource.

use crate::model::Change;
use crate::source::convert::object_key::ObjectKey;

/// An event about one resource.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum WatchEvent {
    /// A list begins. Only a list that completes shows which objects were deleted.
    ListStarted,
    /// An object was listed, added or modified.
    Applied(Box<Change>),
    /// An object cannot be read completely: the change that represents it, and what is wrong with it.
    Unreadable(Box<Change>, String),
    /// An event cannot be read, not even which object it is about.
    Unidentified,
    /// An object was deleted.
    Deleted(ObjectKey),
    /// The list is complete.
    ListCompleted,
}
