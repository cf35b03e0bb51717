//! Bridgewarden.
pub mod api;
pub mod apply;
pub mod commands;
pub mod compile;
pub mod controller;
pub mod explain;
pub mod model;
pub mod net;
pub mod netfilter;
pub mod observe;
pub mod ownership;
pub mod playground;
pub mod render;
pub mod source;
