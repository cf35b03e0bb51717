//! The `bridgewarden` program under a name of this package, so that Cargo builds the one that belongs to the suite.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    bridgewarden::commands::main(bridgewarden::commands::Cli::parse())
}
