//! The cost of an established packet between two pods of the node, with and without binding pods to their ports.

use super::worked;
use crate::controller::ControllerProcess;
use crate::figure::{Figures, Unit};
use crate::setup::{BenchSetup, FIRST, OPEN};
use anyhow::{Context, Result};
use std::net::UdpSocket;
use std::time::Duration;

/// How many datagrams are sent at a time: the receiver's socket has room for them.
const AT_A_TIME: usize = 100;
/// How many times.
const TIMES: usize = 400;
/// How many times agents with and without the binding take turns.
const TURNS: usize = 4;
const PORT: u16 = 9_001;
/// A small datagram: 64 bytes with its UDP and IPv4 headers.
const DATAGRAM: [u8; 36] = [0; 36];

/// Sends from a pod that a policy isolates to one on the same node that nothing isolates. Measures the processor time
/// of the sending thread, in which the kernel forwards the whole way.
pub(crate) fn measure(
    setup: &BenchSetup,
    mut controller: ControllerProcess,
    figures: &mut Figures,
) -> Result<ControllerProcess> {
    let subject = controller.subject.clone();
    let mut unbound = subject.clone();
    unbound.arguments.extend(["--bind-addresses", "off"].map(str::to_owned));
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        // The last one leaves the state as it was at the beginning.
        for (subject, costs) in [(&unbound, &mut without), (&subject, &mut with)] {
            controller.stop()?;
            controller = subject.start()?;
            controller.wait_for_line("[+]sync ok")?;
            controller.wait_until_idle()?;
            costs.extend(sent(setup, &controller)?);
        }
    }
    let what = "an established datagram between two pods of the node";
    figures.add_samples(&subject.name, &format!("{what}, bound to their ports"), Unit::Microseconds, with);
    figures.add_samples(&subject.name, &format!("{what}, not bound"), Unit::Microseconds, without);
    Ok(controller)
}

/// The cost of a datagram in microseconds, for each group of datagrams.
fn sent(setup: &BenchSetup, controller: &ControllerProcess) -> Result<Vec<f64>> {
    let subject = &controller.subject;
    let (from, to) = (subject.address(FIRST.host), subject.address(OPEN.host));
    let receiver = setup.pod(subject, OPEN)?.enter(|| UdpSocket::bind((to, PORT)))?;
    let receiver = receiver.context("cannot listen in a pod")?;
    let sender = setup.pod(subject, FIRST)?.enter(|| UdpSocket::bind((from, PORT)))?;
    let sender = sender.context("cannot send from a pod")?;
    sender.connect((to, PORT)).context("cannot send to a pod")?;
    receiver.connect((from, PORT)).context("cannot answer a pod")?;
    let patience = Some(Duration::from_secs(5));
    receiver.set_read_timeout(patience)?;
    sender.set_read_timeout(patience)?;
    let mut bytes = DATAGRAM;
    // The answer makes the connection an established one.
    sender.send(&bytes)?;
    receiver.recv(&mut bytes).context("the first datagram does not arrive")?;
    receiver.send(&bytes)?;
    sender.recv(&mut bytes).context("the answer does not arrive")?;
    let mut costs = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let before = worked()?;
        for _ in 0..AT_A_TIME {
            sender.send(&bytes)?;
        }
        costs.push((worked()? - before).as_secs_f64() * 1e6 / AT_A_TIME as f64);
        for _ in 0..AT_A_TIME {
            receiver.recv(&mut bytes).context("a datagram is lost")?;
        }
    }
    Ok(costs)
}
