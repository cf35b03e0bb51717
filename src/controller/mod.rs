//! One task, one loop, no locks: takes facts from the sources and keeps the kernel equal to them.

mod enforcer;

pub use enforcer::*;
