//! Containers that know nothing of clusters: a hash index, an interner and a slab.
//!
//! They take less memory than those of the standard library where a node keeps one entry per pod of the cluster.

mod hash_index;
mod interner;
mod slab;

pub use hash_index::*;
pub use interner::*;
pub use slab::*;
