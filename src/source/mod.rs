//! Where facts come from: the Kubernetes API's words in, `model::Change` out.
//!
//! Comes in: a cluster's API, or a directory of ordinary Kubernetes YAML or JSON; and this node's CNI results. Goes out:
//! the model's objects, what could not be understood and where it stands. This room knows every default and rule of the
//! API, and nothing of plans, chains or the kernel.

mod cni_result;
mod cni_results;
mod cni_watch;
mod collect;
mod decode;
mod directory;
mod directory_watch;
mod fact;
mod fingerprint;
mod kind;
mod links;
pub mod lower;
mod manifest;
mod name;
mod partial;
mod path;
mod problem;
mod protobuf;
mod register;
mod salvage;
mod scalar;
mod schema;
#[cfg(test)]
mod scratch;
mod tree;
mod walk;
mod watch;
mod yaml;

pub use cni_result::{CniResultError, parse as parse_cni_result};
pub use cni_results::{CniResults, Found};
pub use cni_watch::CniWatch;
pub use directory::{Changed, Directory, Loaded, read_manifests};
pub use directory_watch::DirectoryWatch;
pub use links::{LinkWatch, LinkWatchError};
pub use manifest::{Manifests, Object, parse as parse_manifests};
pub use problem::{ManifestError, Origin, Problem};
pub use watch::{ConnectError, Heard, News, Resource, Trouble, Unreadable, Watch, WatchList, connect};
