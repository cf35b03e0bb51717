//! Bridgewarden.
pub mod api;
pub mod apply;
pub mod compile;
pub mod model;
pub mod net;
pub mod netfilter;
pub mod observe;
pub mod ownership;
pub mod render;
