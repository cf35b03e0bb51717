//! Whether the rules in a kernel do what policies say: every decision about this node's pods, made by the rules that were read back
//! and by what is known of the cluster, and compared.
//!
//! Comes in: [`Evidence`], what was read from a kernel, and [`Expectation`], what must hold. Goes out: [`Verification`], with the
//! number of decisions that agree, or the first that does not. It must not know how `compile` and `render` make rules of policies:
//! it follows packets through the rules as they are.
//!
//! [`FollowedRules`] does the same for one connection, and returns its way rule by rule.

mod address_sets;
mod asked;
mod cause;
mod counter_example;
mod evidence;
mod expectation;
mod follow;
mod followed_rules;
mod frames;
mod kernel_rules;
mod peers;
mod ports;
mod question;
mod read_binding;
mod reason;
mod sides;
mod verification;

use address_sets::AddressSet;
use asked::AskedFacts;
pub use cause::differences;
pub use counter_example::CounterExample;
pub use evidence::Evidence;
pub use expectation::Expectation;
use expectation::{Holder, SideRuling};
pub use follow::*;
use kernel_rules::{KernelRules, OthersAhead, Passage, Unjudged, place};
pub use read_binding::{ReadBinding, read_binding};
pub use verification::{Verification, VerificationOutcome, verify};
