//! Chooses how pods are bound on this node's kernel, to ports of the bridge or by address alone, and reports it.

use crate::kernel::Host;
use crate::observe::Health;
use crate::render::{Binding, Options};

/// The readiness check that says how pods are bound; it never fails.
const CHECK: &str = "port-binding";

/// The options for this node's kernel. If it has no tables of family bridge, packets are checked by address alone, and
/// the log and `/readyz` say so.
pub(super) fn options_here(options: Options, kernel: &mut Host, health: &Health) -> Options {
    health.set_check(CHECK, Ok(()));
    let (mode, binding) = match options.binding {
        Binding::Off => ("off (--bind-addresses=off)".to_owned(), Binding::Off),
        Binding::Addresses => {
            ("by address alone (--bind-addresses=addresses)".to_owned(), Binding::Addresses)
        }
        Binding::Ports => match kernel.try_bridge_table() {
            Ok(()) => ("by port, in a table of family bridge".to_owned(), Binding::Ports),
            Err(error) => {
                tracing::warn!(%error, "cannot bind pods to their ports; on the bridge, only addresses of this node's pods pass");
                (format!("by address alone: {error}"), Binding::Addresses)
            }
        },
    };
    health.remark(CHECK, "mode", Some(mode));
    Options { binding, ..options }
}
