//! The program of pods whose node reboots: see `bridgewarden_e2e::first_instant`.

use anyhow::Result;
use bridgewarden_e2e::first_instant::Sender;
use clap::Parser;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Sends to an observer from its first instruction on, and keeps a report of what it received.
#[derive(Parser)]
struct Cli {
    /// Its pod's name.
    #[arg(long)]
    name: String,
    /// Its pod's address.
    #[arg(long)]
    address: IpAddr,
    /// Whom to write to.
    #[arg(long)]
    observer: IpAddr,
    /// Between two datagrams.
    #[arg(long)]
    pace_ms: u64,
    /// Where to keep the report.
    #[arg(long)]
    reports: PathBuf,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    Sender {
        name: cli.name,
        address: cli.address,
        observer: cli.observer,
        pace: Duration::from_millis(cli.pace_ms),
        reports: cli.reports,
    }
    .run()
}
