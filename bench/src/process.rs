//! What /proc reports about a process.

use anyhow::{Context, Result, ensure};
use nix::unistd::{SysconfVar, sysconf};
use std::fs;
use std::time::Duration;

/// How much memory a process has, in MiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) resident: f64,
    pub(crate) highest: f64,
}

/// The processor time of a process, including the programs that it started and waited for.
pub(crate) fn cpu(process: u32) -> Result<Duration> {
    let stat = read(process, "stat")?;
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default().split(' ');
    let ticks: Vec<u64> = fields.skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
    ensure!(ticks.len() == 4, "/proc does not report a process's processor time");
    let per_second = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100) as f64;
    Ok(Duration::from_secs_f64(ticks.iter().sum::<u64>() as f64 / per_second))
}

/// Its memory.
pub(crate) fn memory(process: u32) -> Result<Memory> {
    let status = read(process, "status")?;
    let mebibytes = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kibibytes| kibibytes / 1024.0)
    };
    let unknown = "/proc does not report a process's memory";
    Ok(Memory {
        resident: mebibytes("VmRSS").context(unknown)?,
        highest: mebibytes("VmHWM").context(unknown)?,
    })
}

fn read(process: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{process}/{file}");
    fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
}
