//! Where facts come from: the Kubernetes API's words in, `model::Change` out.
//!
//! Comes in: a directory of ordinary Kubernetes YAML or JSON. Goes out: the model's objects, what could not be
//! understood and where it stands. This room knows every default and rule of the API, and nothing of plans, chains
//! or the kernel.

pub mod lower;
mod path;
