//! The command line. The only room that prints and that decides exit codes. Each command is a file; `flags` contains
//! the flags that several share.

mod cleanup;
mod demo;
mod diff;
mod explain;
mod flags;
mod flows;
mod input;
mod preflight;
mod reach;
mod render;
mod run;
mod verify;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Enforces Kubernetes NetworkPolicies on a node whose pods are attached to a Linux bridge.
#[derive(Debug, Parser)]
#[command(name = "bridgewarden", version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Enforces policies on this node until it is stopped; the rules stay in force afterwards.
    Run(run::Run),
    /// Prints the rules and sets that an agent would write on a node. Needs no root and changes nothing.
    Render(render::Render),
    /// Checks what enforcement needs on this node, and says how to repair what is missing.
    Preflight(preflight::Preflight),
    /// Removes everything that Bridgewarden added to this node's kernel, and nothing else.
    Cleanup(cleanup::Cleanup),
    /// Explains whether policies let one end reach another, and what would have to change.
    Explain(explain::Explain),
    /// Shows who can reach whom, on which ports, as the policies of a cluster or of manifests allow it.
    Reach(reach::ReachCommand),
    /// Shows which connections open and close between two states of a cluster.
    Diff(diff::Diff),
    /// Prints which flows were denied on this node, by which policies, and which rule came nearest to allowing them.
    Flows(flows::Flows),
    /// Compares what this node's kernel does with what policies say, decision by decision. Changes nothing.
    Verify(verify::Verify),
    /// Builds a cluster of network namespaces, enforces policies in it, and measures every connection.
    Demo(demo::Demo),
}

/// Executes the command.
///
/// Exit codes: 0 success, 1 a check failed or something differs, 2 the command could not be executed.
pub fn main(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Run(run) => run.execute(),
        Command::Render(render) => render.execute(&mut std::io::stdout().lock()),
        Command::Preflight(preflight) => preflight.execute(&mut std::io::stdout().lock()),
        Command::Cleanup(cleanup) => cleanup.execute(&mut std::io::stdout().lock()),
        Command::Explain(explain) => explain.execute(&mut std::io::stdout().lock()),
        Command::Reach(reach) => reach.execute(&mut std::io::stdout().lock()),
        Command::Diff(diff) => diff.execute(&mut std::io::stdout().lock()),
        Command::Flows(flows) => flows.execute(&mut std::io::stdout().lock()),
        Command::Verify(verify) => verify.execute(&mut std::io::stdout().lock()),
        Command::Demo(demo) => demo.execute(&mut std::io::stdout().lock()),
    };
    done.unwrap_or_else(|error| {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "bridgewarden: {error:#}");
        ExitCode::from(2)
    })
}
