//! The command line. The only room that prints and that decides exit codes. Each command is a file; `flags` contains
//! the flags that several share.

mod agent_socket;
mod agents;
mod cleanup;
mod completions;
mod connections;
mod container;
mod demo;
mod diff;
mod duration;
mod endpoint_flags;
mod explain;
mod flags;
mod flow_filter;
mod flows;
mod input;
mod man;
mod migrate;
mod policy_name;
mod preflight;
mod progress;
mod reach;
mod render;
mod run;
mod status;
mod verify;
mod wait;

use crate::observe::Build;
use clap::{Arg, ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

/// Enforces Kubernetes NetworkPolicies on a node whose pods are attached to a Linux bridge.
#[derive(Debug, Parser)]
#[command(name = "bridgewarden", version, about, propagate_version = true, after_help = VARIABLES)]
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
    /// Says which steps are left to change over from another NetworkPolicy controller on this node, or back. Changes nothing.
    Migrate(migrate::Migrate),
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
    /// Prints what an agent holds: whether it is ready, and which version of each policy is in force.
    Status(status::Status),
    /// Waits until a NetworkPolicy is in force, or until its deletion is.
    Wait(wait::Wait),
    /// Compares what this node's kernel does with what policies say, decision by decision. Changes nothing.
    Verify(verify::Verify),
    /// Builds a cluster of network namespaces, enforces policies in it, and measures every connection.
    Demo(demo::Demo),
    /// Prints a script with which a shell completes the command line.
    Completions(completions::Completions),
    /// Prints the manual page, or writes one for each command.
    Man(man::ManPages),
    /// Does what the chart's other containers need, so that the image needs no shell.
    #[command(hide = true)]
    Container(container::ContainerCommand),
}

/// The name under which kubectl finds the program as a plugin, and runs it for `kubectl bridgewarden`.
const PLUGIN: &str = "kubectl-bridgewarden";

/// The version of the documents that commands print and read.
const API_VERSION: &str = "bridgewarden.io/v1alpha1";

const VARIABLES: &str = "A flag can also be given by a variable of the environment: BRIDGEWARDEN_HTTP_ADDR for --http-addr. If a \
    flag is given more than once, the last one counts.";

impl Cli {
    /// Parses a command line and the environment; the first word is the program.
    ///
    /// # Errors
    /// What clap prints to the user, which is also the help and the version.
    pub fn read<T: Into<OsString> + Clone>(words: impl IntoIterator<Item = T>) -> Result<Cli, clap::Error> {
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        let mut program = program();
        if words.first().is_some_and(|name| Path::new(name).file_stem() == Some(PLUGIN.as_ref())) {
            program = program.bin_name("kubectl bridgewarden");
        }
        let mut matches = program.try_get_matches_from_mut(words)?;
        Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut program))
    }
}

/// All commands with their flags.
fn program() -> clap::Command {
    let program = Cli::command().version(version());
    let names: Vec<String> = program.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    names.into_iter().fold(program, |program, name| {
        program.mut_subcommand(name, |command| command.args_override_self(true).mut_args(with_variable))
    })
}

/// The version; of a release also the commit and its date.
fn version() -> String {
    let Build { version, revision, date } = Build::THIS;
    let parts: Vec<&str> = [revision, date].into_iter().flatten().collect();
    match parts.as_slice() {
        [] => version.to_owned(),
        parts => format!("{version} ({})", parts.join(", ")),
    }
}

/// Kubernetes sets BRIDGEWARDEN_PORT in pods beside a Service of that name, so this flag has no variable.
const NO_VARIABLE: [&str; 3] = ["port", "help", "version"];

fn with_variable(flag: Arg) -> Arg {
    let name = flag.get_long().filter(|name| !NO_VARIABLE.contains(name)).map(str::to_owned);
    match name {
        Some(name) if flag.get_env().is_none() && !matches!(flag.get_action(), ArgAction::Append) => {
            let variable = format!("BRIDGEWARDEN_{}", name.to_uppercase().replace('-', "_"));
            flag.env(variable).hide_env(true)
        }
        _ => flag,
    }
}

/// Executes the command.
///
/// Exit codes: 0 success, 1 a check failed or something differs, 2 the command could not be executed.
pub fn main(cli: Cli) -> ExitCode {
    let out = &mut CommandOutput { to: std::io::stdout().lock(), reader_has_closed: false };
    let done = match cli.command {
        Command::Run(run) => run.execute(),
        Command::Render(render) => render.execute(out),
        Command::Preflight(preflight) => preflight.execute(out),
        Command::Migrate(migrate) => migrate.execute(out),
        Command::Cleanup(cleanup) => cleanup.execute(out),
        Command::Explain(explain) => explain.execute(out),
        Command::Reach(reach) => reach.execute(out),
        Command::Diff(diff) => diff.execute(out),
        Command::Flows(flows) => flows.execute(out),
        Command::Status(status) => status.execute(out),
        Command::Wait(wait) => wait.execute(out),
        Command::Verify(verify) => verify.execute(out),
        Command::Demo(demo) => demo.execute(out),
        Command::Completions(completions) => completions.execute(out),
        Command::Man(pages) => pages.execute(out),
        Command::Container(container) => container.execute(out),
    };
    done.unwrap_or_else(|error| {
        if out.reader_has_closed {
            return ExitCode::SUCCESS;
        }
        let _ = writeln!(io::stderr(), "bridgewarden: {error:#}");
        ExitCode::from(2)
    })
}

/// The standard output, which remembers that what is printed goes nowhere any more, as with `bridgewarden render … | head`. Any
/// other pipe or socket that breaks is an error: `wait` must not end with 0 because its agent has closed the connection.
struct CommandOutput<W> {
    to: W,
    reader_has_closed: bool,
}

impl<W> CommandOutput<W> {
    fn noted<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        self.reader_has_closed |= matches!(&done, Err(error) if error.kind() == ErrorKind::BrokenPipe);
        done
    }
}

impl<W: Write> Write for CommandOutput<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = self.to.write(bytes);
        self.noted(done)
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = self.to.flush();
        self.noted(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_an_output_that_nobody_reads_any_more_ends_a_command_without_an_error() {
        for (kind, closed) in [(ErrorKind::BrokenPipe, true), (ErrorKind::StorageFull, false)] {
            let mut output = CommandOutput { to: Failing(kind), reader_has_closed: false };
            assert_eq!(writeln!(output, "a line").unwrap_err().kind(), kind);
            assert_eq!(output.reader_has_closed, closed);
        }
    }
}
