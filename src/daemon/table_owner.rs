//! Keeps other programs from changing or flushing our tables of nf_tables, where the kernel can, and logs it where it cannot.

use crate::kernel::Host;
use crate::netfilter::BackendName;
use crate::render::{Binding, Options};

/// Has this process own the tables that it writes with these options.
pub(super) fn own_tables(options: &Options, kernel: &mut Host) {
    if options.backend != BackendName::Nftables && options.binding != Binding::Ports {
        return;
    }
    if let Err(error) = kernel.own_tables() {
        tracing::info!(%error, "other programs can change or flush our nftables tables; what they change is written again at once");
    }
}
