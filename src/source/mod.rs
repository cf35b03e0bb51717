//! The sources of changes of the cluster: API objects, CNI results and bridge ports in, `model::Change` out.
//!
//! Comes in: the API server's watches, or a directory of Kubernetes YAML or JSON; this node's CNI results and bridge
//! ports. Goes out: the model's objects, and what could not be understood, with its position. This room knows every
//! default and rule of the API, and nothing of plans, chains or the kernel's rules.
//!
//! A folder imports only folders above it in this list, and neither `watch` nor `cni` imports `manifest`:
//!
//! 1. `convert`: from API fields to the model
//! 2. `watch`: watches of the API server
//! 3. `manifest`: manifests as documents
//! 4. `files`: directories of manifests, and inotify
//! 5. `cni`: CNI results, a directory of their own
//! 6. `snapshot`: all of a cluster at one time, for commands that enforce nothing
//!
//! `links`, the ports of the bridge and the node's tunnels as rtnetlink reports them, imports none of these.

mod cni;
pub mod convert;
mod files;
mod links;
mod manifest;
mod snapshot;
mod tunnel;
mod watch;

pub use cni::{CniResultError, CniResults, CniWatch, Found, parse_cni_result};
pub use files::{Changed, Directory, DirectoryWatch, Loaded, read_manifests};
pub use links::{LinkWatch, LinkWatchError};
pub use manifest::{
    ManifestError, Manifests, Object, Origin, Problem, parse as parse_manifests, read_document,
};
pub use snapshot::{
    ClusterAccess, ClusterError, ManifestInput, SnapshotInput, fetch_snapshot, read_snapshot,
};
pub use watch::{
    ConnectError, Liveness, Resource, UnreadableObject, Watch, WatchList, WatchTrouble, WatchUpdate, connect,
};
