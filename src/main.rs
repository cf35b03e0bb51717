//! The `bridgewarden` program.

use bridgewarden::commands::{self, Cli};
use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main(Cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit()))
}
