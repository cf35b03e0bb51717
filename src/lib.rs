//! Bridgewarden.
pub mod api;
pub mod apply;
pub mod model;
pub mod net;
pub mod netfilter;
pub mod playground;
