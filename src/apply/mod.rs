//! The only hands: keeps the kernel equal to what was rendered. Knows chains and sets, never policies.

pub mod host;
mod kernel;

pub use kernel::*;
