//! CNI results: the files in which libcni caches the network that it set up for each pod of this node.
//!
//! Comes in: the directory of these files, read and watched by inotify. Goes out: changes of `model::Sandbox`, and the
//! problems of each file. This folder knows nothing of the API server.

mod result;
mod results;
mod watch;

pub use result::{CniResultError, parse as parse_cni_result};
pub use results::{CniResults, Found};
pub use watch::CniWatch;
