//! What the kernel does for the backend `nftables`: how long changes take as the table grows, what rules and sets occupy, and what a
//! policy costs a packet. Each measurement is made in network namespaces of its own; needs root.

mod changes;
mod memory;
mod packets;

use std::fmt;
use std::io::Write;

/// A measurement by its name, which prints what it finds.
const MEASUREMENTS: [(&str, fn()); 3] =
    [("changes", changes::measure), ("memory", memory::measure), ("packets", packets::measure)];

fn main() {
    assert!(nix::unistd::geteuid().is_root(), "network namespaces need root");
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    for (name, measure) in MEASUREMENTS {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            print(format_args!("{name}"));
            measure();
        }
    }
}

/// Prints a line.
fn print(line: fmt::Arguments<'_>) {
    writeln!(std::io::stdout(), "{line}").expect("standard output takes it");
}

/// Runs something on a thread of its own in a network namespace that ends with it.
fn in_namespace<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    let run = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
        act()
    };
    std::thread::spawn(run).join().expect("it ends well")
}
