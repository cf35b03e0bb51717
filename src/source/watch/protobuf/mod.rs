//! Pods in protocol buffers, which have seven tenths of the bytes of JSON and need a fraction of the processor time at
//! both ends.
//!
//! Comes in: a frame of a watch. Goes out: the same event as a line of JSON, which kube can read, with those fields
//! that are read here; nothing if none of them changed. Field numbers are those of `generated.proto` in
//! k8s.io/api/core/v1 and k8s.io/apimachinery.

mod event;
mod pod;
mod session;
mod wire;

pub(super) use event::status;
pub(super) use session::Session;
pub(super) use wire::Malformed;
