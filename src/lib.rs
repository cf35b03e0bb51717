//! Bridgewarden.
pub mod api;
pub mod apply;
pub mod explain;
pub mod model;
pub mod net;
pub mod netfilter;
