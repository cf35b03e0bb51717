//! What an administrator and a developer are answered by the commands that ask all agents, on a cluster: `e2e/operators` runs it.
//! Elsewhere it is listed as ignored. What was answered is noted in `target/tmp/operators/figures`.

use anyhow::{Context, Result, ensure};
use bridgewarden::flow::Record;
use bridgewarden_e2e::kind::{ClusterUser, OperatorTrial, UserAnswer};
use bridgewarden_e2e::trials::{Promise, TestCluster, note, play};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const PROMISES: [Promise; 1] =
    [("who_is_named_in_the_chart_can_ask_all_agents_and_others_are_told_what_to_do", right_decides)];
/// How long a change of rights, and a report of a flow, may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The commands that ask all agents.
const QUESTIONS: [&[&str]; 4] = [
    &["status", "--all"],
    &["flows", "-A", "--output=json"],
    &["verify", "--all"],
    &["wait", OperatorTrial::POLICY, "--all", "--timeout=10s"],
];

fn main() -> ExitCode {
    play(&PROMISES, "a cluster's users and rights are on kind only")
}

fn right_decides(cluster: &TestCluster) -> Result<()> {
    let begun = Instant::now();
    let program = Path::new(env!("CARGO_BIN_EXE_bridgewarden-e2e-agent"));
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("operators");
    let trial = OperatorTrial::open(&cluster.environment, &cluster.image, program, &directory)?;
    is_denied(&trial)?;
    is_answered(&trial, ClusterUser::Administrator)?;
    trial.admit_developer()?;
    eventually(|| is_answered(&trial, ClusterUser::Developer))?;
    trial.withdraw_rights()?;
    eventually(|| is_denied(&trial))?;
    trial.close()?;
    let seconds = begun.elapsed().as_secs_f64();
    note(&directory, &format!("both users were answered as their rights say, in {seconds:.0} s"))
}

/// The answer to the developer has nothing of the cluster, but names the missing right and who can give it.
fn is_denied(trial: &OperatorTrial) -> Result<()> {
    for words in QUESTIONS {
        let answer = trial.ask(ClusterUser::Developer, words)?;
        let cured = answer.stderr.contains("(Forbidden)") && answer.stderr.contains("rbac.operators");
        ensure!(answer.code == Some(2) && answer.stdout.is_empty() && cured, "{}", differs(words, &answer));
    }
    // Without --live too, an answer needs the whole cluster's policies.
    let words = [&["explain"][..], &OperatorTrial::ENDS].concat();
    let answer = trial.ask(ClusterUser::Developer, &words)?;
    let cured = ["cannot list namespaces", "forbidden"].iter().all(|part| answer.stderr.contains(part));
    ensure!(answer.code == Some(2) && answer.stdout.is_empty() && cured, "{}", differs(&words, &answer));
    let answer = trial.ask_on_worker(ClusterUser::Developer, &live())?;
    ensure!(
        answer.code == Some(1) && answer.stdout.is_empty() && answer.stderr.contains("(Forbidden)"),
        "{}",
        differs(&live(), &answer)
    );
    Ok(())
}

/// Each command answers for every node.
fn is_answered(trial: &OperatorTrial, user: ClusterUser) -> Result<()> {
    let nodes = trial.nodes()?;
    let names_all = |text: &str, ending: &str| {
        nodes
            .iter()
            .all(|node| text.lines().any(|line| line.starts_with(node.as_str()) && line.contains(ending)))
    };
    let [status, flows, verify, wait] = QUESTIONS;
    let answered = |words: &[&str], holds: &dyn Fn(&str) -> bool| {
        let answer = trial.ask(user, words)?;
        ensure!(answer.code == Some(0) && holds(&answer.stdout), "{user:?}: {}", differs(words, &answer));
        anyhow::Ok(())
    };
    let in_force = format!("is in force on {} nodes; pods that it selects are on 1 of them", nodes.len());
    answered(wait, &|text| text.contains(&in_force))?;
    answered(status, &|text| names_all(text, " yes "))?;
    answered(verify, &|text| names_all(text, " decisions verified: "))?;
    eventually(|| {
        trial.connect_in_vain()?;
        answered(flows, &|text| text.lines().any(reports_client))
    })?;
    let answer = trial.ask_on_worker(user, &live())?;
    let parts = ["DENIED  operators/client → operators/server on 80/TCP", "operators/locked"];
    let agrees = !answer.stderr.contains("kernel and policies disagree");
    ensure!(
        answer.code == Some(1) && agrees && parts.iter().all(|part| answer.stdout.contains(part)),
        "{user:?}: {}",
        differs(&live(), &answer)
    );
    Ok(())
}

/// The question about the denied connection and the kernel of its node.
fn live() -> Vec<&'static str> {
    [&["explain"][..], &OperatorTrial::ENDS, &["--live"]].concat()
}

/// Whether a line is a record of the denied connection.
fn reports_client(line: &str) -> bool {
    serde_json::from_str(line).is_ok_and(|record: Record| {
        let ends = [&record.account.source.pod, &record.account.destination.pod].map(Option::as_deref);
        ends == [Some("client"), Some("server")] && record.account.policies == ["operators/locked"]
    })
}

fn differs(words: &[&str], UserAnswer { code, stdout, stderr }: &UserAnswer) -> String {
    format!("{}: exit code {code:?}\nstdout: {stdout}\nstderr: {stderr}", words.join(" "))
}

/// Repeats a check until it holds: the API server learns of changed rights a moment after they are written.
fn eventually(holds: impl Fn() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    loop {
        match holds() {
            Err(error) if start.elapsed() > PATIENCE => return Err(error).context("not in time"),
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
            Ok(()) => return Ok(()),
        }
    }
}
