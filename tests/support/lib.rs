//! Code that the tests share: a common topology, scenarios with their truth tables, random worlds, and a real API
//! server with its etcd.
//!
//! Comes in: the crate's public items. Goes out: inputs and expectations for any judge. Nothing here depends on how
//! policies are compiled or enforced.

pub mod backends;
pub mod control_plane;
pub mod field;
pub mod frame;
pub mod golden;
pub mod http;
pub mod judge;
pub mod manifest;
pub mod outcome;
pub mod packets;
pub mod ports;
pub mod program;
pub mod reach;
pub mod scenario;
pub mod schema;
pub mod story_node;
pub mod topology;
pub mod worlds;
