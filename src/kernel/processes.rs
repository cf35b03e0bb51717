//! Finds running programs in /proc: all of the host with hostPID, otherwise only those of this container.

use super::preflight::read;
use std::path::Path;

/// Whether a process with one of these names runs in our network namespace, or in one that cannot be determined.
pub(super) fn is_running(names: &[&str]) -> bool {
    let Ok(listed) = std::fs::read_dir("/proc") else { return false };
    let own = std::fs::read_link("/proc/thread-self/ns/net").ok();
    listed.filter_map(Result::ok).any(|entry| {
        let process = entry.path();
        names.contains(&read(&process.join("comm").to_string_lossy()).trim_end())
            && is_beside_us(&process, own.as_deref())
    })
}

fn is_beside_us(process: &Path, own: Option<&Path>) -> bool {
    std::fs::read_link(process.join("ns/net")).ok().is_none_or(|namespace| Some(&*namespace) == own)
}
