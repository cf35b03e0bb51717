//! What is known: the cluster's namespaces, pods and policies, this node's sandboxes and bridge ports, and what a
//! change of one affects.
//!
//! Comes in: `Change`, one fact at a time. Goes out: `Cluster`, and `Touched`, what a change may have affected. This
//! room knows nothing of Kubernetes' wire format, of chains, or of time.

mod audit;
mod cluster;
mod key;
mod label;
mod owner;
mod pod;
mod policy;
mod port;
mod sandbox;
mod snapshot;
mod touched;
mod workload;

pub use audit::*;
pub use cluster::*;
pub use key::*;
pub use label::*;
pub use owner::*;
pub use pod::*;
pub use policy::*;
pub use port::*;
pub use sandbox::*;
pub use snapshot::*;
pub use touched::*;
pub use workload::*;
