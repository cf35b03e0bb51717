//! The user's own kubectl. It ends with this program, and gets no input.

use super::AgentPlace;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// The program.
const KUBECTL: &str = "kubectl";
/// The most characters of a complaint that are repeated.
const LONGEST_COMPLAINT: usize = 600;

/// kubectl, with the flags that choose the cluster.
#[derive(Clone, Debug)]
pub(in crate::commands) struct Kubectl {
    flags: Vec<OsString>,
    namespace: String,
}

/// How a run of kubectl ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commands) struct KubectlOutput {
    /// The exit code, which is that of the command in the container; `None` if a signal ended it.
    pub(in crate::commands) code: Option<i32>,
    pub(in crate::commands) stdout: Vec<u8>,
    pub(in crate::commands) stderr: String,
}

impl KubectlOutput {
    /// What it complains of, in one line, and what to do about a right that is missing.
    pub(in crate::commands) fn complaint(&self) -> String {
        let own = |line: &&str| !line.is_empty() && !line.starts_with("command terminated with exit code");
        let lines: Vec<&str> = self.stderr.lines().map(str::trim).filter(own).collect();
        // kubectl logs each attempt to reach the server, and then says what is wrong.
        let (_logged, said): (Vec<&str>, Vec<&str>) = lines.iter().copied().partition(|line| is_logged(line));
        let lines = if said.is_empty() { lines } else { said };
        let code = || match self.code {
            Some(code) => format!("kubectl ended with exit code {code} and without a word"),
            None => "kubectl was ended by a signal".to_owned(),
        };
        let complaint = if lines.is_empty() { code() } else { lines.join("; ") };
        let shown: String = complaint.chars().take(LONGEST_COMPLAINT).collect();
        match missing_right(&complaint) {
            Some(cure) => format!("{shown}; {cure}"),
            None => shown,
        }
    }
}

/// Whether a line has the form of a log line: `E1130 16:32:36.174201   23974 memcache.go:265] …`.
fn is_logged(line: &str) -> bool {
    let digits = |text: &str| text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    line.split_once(' ').and_then(|(first, _)| first.strip_prefix(['E', 'W', 'I'])).is_some_and(digits)
}

/// What to do if the API server denies the user what agents are asked with.
fn missing_right(complaint: &str) -> Option<&'static str> {
    if !complaint.contains("(Forbidden)") {
        return None;
    }
    Some(if complaint.contains("networkpolicies") {
        "ask an administrator of the cluster for the right to get networkpolicies in that namespace"
    } else {
        "ask an administrator of the cluster to name you in rbac.operators of Bridgewarden's chart, which gives the right to list \
         the agents' pods and to run commands in them (docs/status.md)"
    })
}

impl Kubectl {
    /// The kubectl on PATH, for this context and kubeconfig; the agents are in `namespace`.
    pub(in crate::commands) fn new(
        context: Option<&str>,
        kubeconfig: Option<&Path>,
        namespace: &str,
    ) -> Kubectl {
        let flag = |name: &str, value: &OsStr| {
            let mut flag = OsString::from(name);
            flag.push(value);
            flag
        };
        let context = context.map(|context| flag("--context=", context.as_ref()));
        let kubeconfig = kubeconfig.map(|kubeconfig| flag("--kubeconfig=", kubeconfig.as_ref()));
        Kubectl { flags: context.into_iter().chain(kubeconfig).collect(), namespace: namespace.to_owned() }
    }

    /// The words that run a command of this program in an agent's container.
    pub(super) fn words_in(&self, place: &AgentPlace, command: Vec<String>) -> Vec<String> {
        let exec = ["exec", "--namespace", &self.namespace, &place.pod, "--container", "agent", "--"];
        exec.into_iter().map(str::to_owned).chain(["bridgewarden".to_owned()]).chain(command).collect()
    }

    /// The same for a command that runs until its input ends.
    pub(in crate::commands) fn follow(&self, place: &AgentPlace, command: Vec<String>) -> Command {
        let mut words = self.words_in(place, command);
        words.insert(1, "--stdin".to_owned());
        let mut kubectl = self.command(&words);
        kubectl.stdin(Stdio::piped());
        kubectl
    }

    /// Runs kubectl to its end.
    ///
    /// # Errors
    /// It cannot be started, or does not end in time.
    pub(in crate::commands) async fn run<W: AsRef<OsStr>>(
        &self,
        words: &[W],
        patience: Duration,
    ) -> Result<KubectlOutput, String> {
        let output = match timeout(patience, self.command(words).output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(not_started(&error)),
            Err(_) => return Err(format!("it did not answer within {} s", patience.as_secs_f64())),
        };
        Ok(KubectlOutput {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs kubectl to its end, and returns what it printed.
    ///
    /// # Errors
    /// As [`Kubectl::run`], or it fails.
    pub(in crate::commands) async fn get<W: AsRef<OsStr>>(
        &self,
        words: &[W],
        patience: Duration,
    ) -> anyhow::Result<Vec<u8>> {
        let output = self.run(words, patience).await.map_err(anyhow::Error::msg)?;
        if output.code != Some(0) {
            anyhow::bail!("{}", output.complaint());
        }
        Ok(output.stdout)
    }

    fn command<W: AsRef<OsStr>>(&self, words: &[W]) -> Command {
        let mut command = Command::new(KUBECTL);
        command.args(&self.flags).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }
}

/// Why kubectl could not be started.
pub(in crate::commands) fn not_started(error: &std::io::Error) -> String {
    format!("cannot start {KUBECTL}: {error}; is it installed and on PATH?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaint_is_what_kubectl_and_the_command_wrote_and_not_the_code_that_follows() {
        let finished = |code, stderr: &str| KubectlOutput { code, stdout: Vec::new(), stderr: stderr.into() };
        let both = finished(Some(2), "bridgewarden: cannot connect\n\ncommand terminated with exit code 2\n");
        assert_eq!(both.complaint(), "bridgewarden: cannot connect");
        let logged =
            "E1130 16:32:36.174201   23974 memcache.go:265] \"Unhandled Error\" err=\"connection refused\"\n";
        let refused = finished(Some(1), &format!("{logged}{logged}The connection was refused\n"));
        assert_eq!(refused.complaint(), "The connection was refused");
        assert_eq!(finished(Some(1), logged).complaint(), logged.trim());
        assert_eq!(finished(Some(1), "").complaint(), "kubectl ended with exit code 1 and without a word");
        assert_eq!(finished(None, "").complaint(), "kubectl was ended by a signal");
    }

    #[test]
    fn complaint_about_a_missing_right_says_who_can_give_it() {
        let denied = |what: &str| {
            let stderr = format!("Error from server (Forbidden): {what} is forbidden: User \"dev\" cannot\n");
            KubectlOutput { code: Some(1), stdout: Vec::new(), stderr }.complaint()
        };
        let exec = denied("pods \"bridgewarden-x\"");
        assert!(
            exec.starts_with("Error from server (Forbidden): pods") && exec.contains("rbac.operators"),
            "{exec}"
        );
        let policy = denied("networkpolicies.networking.k8s.io \"web\"");
        assert!(policy.contains("right to get networkpolicies") && !policy.contains("operators"), "{policy}");
    }
}
