//! The real kernel, in network namespaces of our own. Needs root, and says so.

mod bridge_table;
mod connections;
mod fake;
mod inet_table;
mod preflight;
mod rules;
mod sets;
mod start_table;

use bridgewarden::apply::KernelError;
use bridgewarden::net::Family;
use bridgewarden::netfilter::SetName;
use bridgewarden::netfilter::ipset::{Element, Kind, Set, Type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Runs a test on a thread of its own, in a network namespace that ends with it.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    assert!(nix::unistd::geteuid().is_root(), "these tests make network namespaces: run them as root");
    let thread = std::thread::Builder::new().name("bw-host-namespace".to_owned());
    let test = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
        test();
    };
    if let Err(panic) = thread.spawn(test).expect("a thread").join() {
        std::panic::resume_unwind(panic);
    }
}

fn run(command: &str) -> String {
    let output = std::process::Command::new("sh").args(["-ec", command]).output().expect("sh runs");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn name(text: &str) -> SetName {
    SetName::new(text).expect("a legal name")
}

fn address(family: Family, number: u32) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(0x0a00_0000 + number).into(),
        Family::V6 => Ipv6Addr::from_bits((0x2001_0db8 << 96) + u128::from(number)).into(),
    }
}

fn many(family: Family, count: u32) -> Set {
    let elements = (0..count).map(|number| Element::Address(address(family, number + 1))).collect();
    Set { kind: Kind { of: Type::HashIp, family }, elements }
}

fn refusal(result: Result<(), KernelError>) -> String {
    result.expect_err("the kernel refuses").to_string()
}
