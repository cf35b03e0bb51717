//! `bridgewarden explain`: whether one thing can reach another, why, and the smallest change that would allow it.

mod change;
mod fix_yaml;
mod json;
mod live;
mod text;
mod words;

use super::input::{InputFlags, print_warnings};
use super::progress::ProgressDisplay;
use crate::explain::{Answer, DestinationName, EndName, Fix, LookupError, NoFix, SnapshotJudge, ask, fix};
use crate::model::{NamespaceName, Snapshot};
use crate::net::Verdict;
use anyhow::{Context, Result, anyhow, bail};
use change::few;
use clap::{Args, ValueEnum};
use live::{LiveFlags, LiveReport, live_json, print_live};
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use text::TextStyle;

/// How the answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum AnswerFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object: see docs/explanation.schema.json.
    Json,
}

/// Explains whether policies let one end reach another, and what would have to change.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Explain {
    /// What opens the connection: NAMESPACE/POD, NAMESPACE/KIND/NAME such as shop/deploy/web or shop/svc/web, node/NAME, an
    /// address, or a block such as 10.0.0.0/8
    #[arg(value_name = "SOURCE")]
    source: EndName,
    /// What it is for, written in the same way, with its port by number or by name, and its protocol unless that is TCP:
    /// shop/db:5432, kube-system/svc/kube-dns:53/UDP, 192.0.2.1:443, [2001:db8::1]:443. Without a port: whether any port is
    /// open, and which
    #[arg(value_name = "DESTINATION[:PORT][/PROTOCOL]")]
    destination: DestinationName,
    #[command(flatten)]
    input: InputFlags,
    /// The namespace of ends that are written without one
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// Print the answer in this format
    #[arg(short, long, value_enum, default_value_t)]
    output: AnswerFormat,
    /// Print policies that allow the connection and nothing else, as YAML, instead of the explanation. The exit code is then 0
    #[arg(long)]
    fix: bool,
    #[command(flatten, next_help_heading = "This node's kernel")]
    live: LiveFlags,
}

const EXAMPLES: &str = "Examples:
  bridgewarden explain shop/web shop/db:5432                            in the cluster of the kubeconfig
  bridgewarden explain -f manifests/ shop/deploy/web shop/svc/db        before anything is applied
  kubectl get ns,pods,netpol,svc -A -o yaml | bridgewarden explain -f - shop/web 192.0.2.1:443
  bridgewarden explain -f manifests/ shop/web shop/db:5432 --fix | kubectl apply -f -
  bridgewarden explain shop/web shop/db:5432 --live                     on the node of either, as root

Exit code: 0 allowed, 1 denied, 2 the question cannot be answered, or kernel and policies do not certainly agree (--live)";

impl Explain {
    /// Exit code 1 when the connection is denied.
    pub(super) fn execute(&self, out: &mut impl Write) -> Result<ExitCode> {
        let progress = ProgressDisplay::begin(self.input.phase());
        let input = self.input.read()?;
        progress.aside(|| print_warnings(&input));
        progress.now("judging");
        let judge = SnapshotJudge::new(&input.snapshot);
        let namespace = NamespaceName::new(&self.namespace);
        let answer = ask(&judge, &namespace, &self.source, &self.destination).map_err(|error| {
            let skipped = Some(&input.skipped)
                .filter(|skipped| matches!(error, LookupError::NoSuch { .. }) && !skipped.is_empty());
            let kinds = skipped.map(|skipped| format!(". Not read: {}", few(skipped.keys())));
            anyhow!("{error}{}", kinds.unwrap_or_default())
        })?;
        for note in &answer.notes {
            let _ = progress.aside(|| writeln!(std::io::stderr(), "note: {note}"));
        }
        let allowed = answer.verdict() == Verdict::Allowed;
        if self.live.live {
            progress.now("reading this node's kernel");
        }
        let live = self
            .live
            .live
            .then(|| self.live.compare(&input.snapshot, &answer, names_service(&self.destination)));
        let (live, failure) = match live.transpose() {
            Ok(report) => (report, None),
            Err(error) => (None, Some(error)),
        };
        let fix = fix(&input.snapshot, &answer);
        drop(progress);
        let printed = match self.fix {
            true => print_fix(&fix, out)?,
            false => self.print(&input.snapshot, &answer, &fix, live.as_ref(), out),
        };
        let printed = printed.and_then(|()| out.flush());
        // What reads the output may have seen enough.
        let printed =
            printed.or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) });
        printed.context("cannot print the answer")?;
        match (failure, live) {
            (Some(error), _) => Err(error.context("--live")),
            (None, Some(report)) if !report.agrees() => {
                let what = match report.disagrees() {
                    true => "kernel and policies disagree",
                    false => "it is not known whether kernel and policies agree",
                };
                let _ = writeln!(std::io::stderr(), "warning: {what}");
                Ok(ExitCode::from(2))
            }
            (None, _) => Ok(ExitCode::from(u8::from(!allowed && !self.fix))),
        }
    }

    fn print(
        &self,
        snapshot: &Snapshot,
        answer: &Answer<'_>,
        fix: &Result<Fix, NoFix>,
        live: Option<&LiveReport>,
        out: &mut impl Write,
    ) -> std::io::Result<()> {
        let style = TextStyle::of_stdout();
        match self.output {
            AnswerFormat::Text => {
                text::print(snapshot, answer, fix, style, out)?;
                live.map_or(Ok(()), |report| print_live(report, style, out))
            }
            AnswerFormat::Json => {
                let source = self.source.to_string();
                let mut value = json::of(snapshot, &source, &self.destination, answer, fix);
                value["live"] = live.map(live_json).into();
                writeln!(out, "{value:#}")
            }
        }
    }
}

/// Whether a destination is a Service, whose address is translated on the way.
fn names_service(destination: &DestinationName) -> bool {
    matches!(&destination.end, EndName::Object { kind: Some(kind), .. } if kind == "service")
}

/// Prints the policies that allow what was asked for.
fn print_fix(fix: &Result<Fix, NoFix>, out: &mut impl Write) -> Result<std::io::Result<()>> {
    match fix {
        Ok(fix) => {
            if !fix.also.is_empty() {
                let also = few(fix.also.iter());
                let _ = writeln!(
                    std::io::stderr(),
                    "note: these pods have the same labels, so the policies concern them as well: {also}"
                );
            }
            Ok(fix.policies.iter().try_for_each(|policy| fix_yaml::write(policy, out)))
        }
        Err(NoFix::Allowed) => {
            let _ = writeln!(std::io::stderr(), "note: it is allowed already, so no policy is printed");
            Ok(Ok(()))
        }
        Err(error) => bail!("cannot print a policy: {error}"),
    }
}

impl TextStyle {
    /// Coloured on a terminal, unless NO_COLOR is set.
    fn of_stdout() -> TextStyle {
        let colour =
            std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
        if colour { TextStyle::Colour } else { TextStyle::Plain }
    }
}
