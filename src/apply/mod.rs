//! The only hands: keeps the kernel equal to what was rendered. Knows chains and sets, never policies.

mod kernel;

pub use kernel::*;
