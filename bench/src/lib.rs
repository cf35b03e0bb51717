//! What the bench measures in: a generated cluster of any size.
//!
//! Comes in: a size. Goes out: the objects of a cluster, as an API server keeps them, and what a node would need of them.
//! Nothing here knows what is measured.

pub mod cluster;
pub mod reach;
