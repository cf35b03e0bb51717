//! The program that a pod runs to get past policies: see `bridgewarden_e2e::intrusion`.

use anyhow::Result;
use bridgewarden_e2e::intrusion::{Intruder, Link, Neighbour};
use clap::Parser;

/// Sends to a neighbour what policies do not allow, in all ways that it knows.
#[derive(Parser)]
struct Cli {
    /// Who receives it.
    #[arg(long, value_name = "MAC,IPV4,IPV6")]
    receiver: Neighbour,
    /// Whose address is claimed.
    #[arg(long, value_name = "MAC,IPV4,IPV6")]
    claimed: Neighbour,
    /// How often everything is tried.
    #[arg(long)]
    rounds: u32,
}

fn main() -> Result<()> {
    let Cli { receiver, claimed, rounds } = Cli::parse();
    let link = Link { own: Neighbour::here()?, receiver, claimed };
    Intruder { device: "eth0".to_owned(), link, rounds }.go()
}
