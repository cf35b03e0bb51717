//! Whether other programs that write rules have to wait.

use super::policy::shut;
use crate::controller::ControllerProcess;
use crate::figure::{Figures, Unit};
use crate::setup::BenchSetup;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The lock that programs of the legacy variant hold while they write; those of the nft variant hold none.
const LOCK: &str = "/run/xtables.lock";
/// The pause between two attempts to take it.
const TRY: Duration = Duration::from_millis(1);
/// The interval at which policies are created or deleted, and how many.
const EVERY: Duration = Duration::from_millis(100);
const CHANGES: usize = 50;

/// The share of the time in which another program could not take the lock while ten policies a second change.
pub(crate) fn measure(
    setup: &BenchSetup,
    controller: &mut ControllerProcess,
    figures: &mut Figures,
) -> Result<()> {
    let objects = setup.objects()?;
    let lock = File::options()
        .create(true)
        .append(true)
        .open(LOCK)
        .with_context(|| format!("cannot open {LOCK}"))?;
    controller.wait_until_idle()?;
    let before = controller.metrics()?;
    let stop = AtomicBool::new(false);
    let contend = || {
        let (mut tries, mut refused) = (0_u32, 0_u32);
        while !stop.load(Ordering::Relaxed) {
            tries += 1;
            match lock.try_lock() {
                Ok(()) => drop(lock.unlock()),
                Err(_) => refused += 1,
            }
            std::thread::sleep(TRY);
        }
        f64::from(refused) / f64::from(tries) * 100.0
    };
    let share = std::thread::scope(|scope| {
        let contender = scope.spawn(contend);
        let changed = (0..CHANGES).try_for_each(|index| {
            let begun = Instant::now();
            let policy = [shut(&format!("lock-{}", index / 2))];
            if index % 2 == 0 {
                objects.create(&policy)?
            } else {
                objects.delete(&policy)?
            }
            std::thread::sleep(EVERY.saturating_sub(begun.elapsed()));
            anyhow::Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        let share = contender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        changed.map(|()| share)
    })?;
    let name = &controller.subject.name;
    let written = controller.metrics()?.growth(&before, "kernel_writes_total{kind=\"rules\"}");
    ensure!(written > 0.0, "no rules were written");
    figures.add(name, "ten policies a second: xtables lock not to be had", Unit::Percent, share);
    Ok(())
}
