//! Pods as the API server sends them to those who watch for protocol buffers: seven tenths of the bytes of JSON, for a
//! fraction of the work at both ends.
//!
//! Comes in: a frame of a watch. Goes out: the same event as a line of JSON with those fields that are read here, which is what
//! kube takes; nothing, if none of these changed. Numbers of fields are those of k8s.io/api/core/v1 and k8s.io/apimachinery, `generated.proto`.

mod event;
mod pod;
mod session;
mod wire;

pub(super) use event::status;
pub(super) use session::Session;
pub(super) use wire::Malformed;
