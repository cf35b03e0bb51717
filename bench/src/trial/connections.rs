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

/// For how long connections are made at a time: short, so that pods are compared with each other before the machine changes.
const SPELL: Duration = Duration::from_millis(50);
/// How many connections may wait to be accepted (net.core.somaxconn), less a few.
const ROOM: u32 = 4_000;
/// How often one pod after the other is connected to at a time.
const SPELLS: usize = 40;
/// How often the agent is restarted in between.
const TURNS: usize = 4;

/// Compares the first and the last of the guarded pods, in the order in which rules ask for them, with one that no policy
/// selects, and with a node without rules, which does not track connections either.
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

/// What one pod's rates are of another's, each compared with the one measured beside it.
fn parts(above: &[f64], below: &[f64]) -> Vec<f64> {
    above.iter().zip(below).map(|(above, below)| above / below).collect()
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Connections from outside the cluster to a pod, one after the other, by a second of the connecting thread's processor time.
/// The kernel does the node's part in it, too, and the pod's: nobody accepts them, so nobody is woken for them. Others who work
/// on this machine hardly change it.
fn rate(setup: &BenchSetup, pod: &Netns, address: Ipv4Addr) -> Result<f64> {
    let outside = setup.testbed.namespace(&Endpoint::Outside).context("there is no outside")?;
    let listener =
        pod.enter(|| TcpListener::bind((address, CONNECT_PORT)))?.context("cannot listen in a pod")?;
    // Room for all of a spell: a packet that finds none is dropped, and the next try is a second later.
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

/// Ends a connection so that neither side remembers it.
fn reset(stream: TcpStream) -> Result<()> {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&stream, Linger, &linger).context("cannot have a connection reset")
}
