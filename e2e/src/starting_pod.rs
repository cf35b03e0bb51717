//! The program of a starting pod: see `bridgewarden_e2e::first_instant`.

use anyhow::Result;
use bridgewarden_e2e::first_instant::StartingPod;
use clap::Parser;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Sends to observers from its first instruction on.
#[derive(Parser)]
struct Cli {
    /// Its pod's name.
    #[arg(long)]
    name: String,
    /// Whom to write to.
    #[arg(long = "observer")]
    observers: Vec<IpAddr>,
    /// For how long.
    #[arg(long)]
    lifetime_ms: u64,
    /// Whether to end as soon as every observer has answered.
    #[arg(long, action = clap::ArgAction::Set)]
    until_answered: bool,
    /// Where to leave the report.
    #[arg(long)]
    reports: PathBuf,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    StartingPod {
        name: cli.name,
        observers: cli.observers,
        lifetime: Duration::from_millis(cli.lifetime_ms),
        until_answered: cli.until_answered,
        reports: cli.reports,
    }
    .run()
}
