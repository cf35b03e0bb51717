//! The `bridgewarden` program.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    bridgewarden::commands::main(bridgewarden::commands::Cli::parse())
}
