//! Connections per second through the node to an isolated pod, compared with a node without rules.

use super::worked;
use crate::controller::ControllerProcess;
use crate::figure::{Figures, Unit};
use crate::setup::{BenchSetup, CONNECT_PORT, FIRST, LAST, OPEN};
use anyhow::{Context, Result};
use bridgewarden::testbed::{Endpoint, Netns};
use nix::sys::socket::sockopt::Linger;
use nix::sys::socket::{Backlog, listen, setsockopt};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use support::program::output;

/// How long connections are opened at a time: short, so that pods are compared before the machine's state changes.
const SPELL: Duration = Duration::from_millis(50);
/// How many connections may wait to be accepted (slightly below net.core.somaxconn).
const ROOM: u32 = 4_000;
/// How many times pods are connected to in turn.
const SPELLS: usize = 40;
/// How often the agent is restarted in between.
const TURNS: usize = 4;

/// Compares the first and the last of the isolated pods, in the order of the rules, with one that no policy selects,
/// and with a node without rules, which does not track connections either.
pub(crate) fn measure(
    setup: &BenchSetup,
    mut controller: ControllerProcess,
    figures: &mut Figures,
) -> Result<ControllerProcess> {
    let subject = controller.subject.clone();
    let pods = [FIRST, LAST, OPEN];
    let (mut ruled, mut bare) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3]);
    let spell = |rates: &mut [Vec<f64>; 3]| -> Result<()> {
        for _ in 0..SPELLS {
            for (pod, rates) in pods.iter().zip(&mut *rates) {
                rates.push(rate(setup, setup.pod(&subject, *pod)?, subject.address(pod.host))?);
            }
        }
        Ok(())
    };
    for _ in 0..TURNS {
        controller.wait_until_idle()?;
        spell(&mut ruled)?;
        controller.stop()?;
        let program = subject.program.display().to_string();
        output(&subject.namespace, &[&program, "cleanup"])?;
        spell(&mut bare)?;
        controller = subject.start()?;
        controller.wait_for_line("[+]sync ok")?;
    }
    let [first, last, open] = ruled;
    for (what, part) in [
        ("a guarded pod, against one that no policy selects", middle(parts(&first, &open))),
        ("the last guarded pod, against the first", middle(parts(&last, &first))),
        ("a pod that no policy selects, against a node without rules", middle(open) / middle(bare.concat())),
    ] {
        figures.add(&subject.name, &format!("connections: {what}"), Unit::Ratio, part);
    }
    let what = "connections through the node, by a second of processor time";
    figures.add_samples(&subject.name, what, Unit::PerSecond, first);
    Ok(controller)
}

/// The ratios of one pod's rates to another's, each pair measured at about the same time.
fn parts(above: &[f64], below: &[f64]) -> Vec<f64> {
    above.iter().zip(below).map(|(above, below)| above / below).collect()
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The rate of connections from outside the cluster to a pod, per second of processor time of the connecting thread.
/// The kernel does the work of the node and of the pod in this thread, too: connections are not accepted, so no process
/// is woken for them. Other work on this machine hardly affects the result.
fn rate(setup: &BenchSetup, pod: &Netns, address: Ipv4Addr) -> Result<f64> {
    let outside = setup.testbed.namespace(&Endpoint::Outside).context("there is no outside")?;
    let listener =
        pod.enter(|| TcpListener::bind((address, CONNECT_PORT)))?.context("cannot listen in a pod")?;
    // The backlog has room for all connections of a spell: a SYN that finds none is dropped, and retried a second
    // later.
    listen(&listener, Backlog::MAXALLOWABLE).context("cannot listen in a pod")?;
    outside.enter(|| {
        let (begun, before, mut count) = (Instant::now(), worked()?, 0_u32);
        while count < ROOM && begun.elapsed() < SPELL {
            reset(TcpStream::connect((address, CONNECT_PORT)).context("a connection is refused")?)?;
            count += 1;
        }
        Ok(f64::from(count) / (worked()? - before).as_secs_f64())
    })?
}

/// Ends a connection with a reset, so that neither side keeps state.
fn reset(stream: TcpStream) -> Result<()> {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&stream, Linger, &linger).context("cannot have a connection reset")
}
