//! The cluster in which the bench measures, of any size.
//!
//! Comes in: a size. Goes out: the objects of a cluster, as an API server stores them, and what a node needs of them.
//! Nothing here depends on what is measured.

pub mod cluster;
pub mod manifests;
pub mod reach;
