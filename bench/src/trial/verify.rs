//! `bridgewarden verify` beside the agent: how soon it has compared the node's kernel with the API server's objects.

use crate::answer::note;
use crate::figure::Figures;
use crate::one_run::OneRun;
use crate::setup::BenchSetup;
use anyhow::Result;

/// The flags that it has in common with the agent of the setup.
const SHARED: [&str; 5] = ["--kubeconfig", "--node-name", "--backend", "--cni-results-dir", "--unknown-pods"];
const RUNS: usize = 5;

/// Verifies the node several times. All decisions must agree.
pub(crate) fn measure(setup: &BenchSetup, figures: &mut Figures) -> Result<()> {
    let own = &setup.own;
    let given = own.arguments.windows(2).filter(|pair| SHARED.iter().any(|flag| pair[0] == *flag));
    let words: Vec<&str> = ["verify"].into_iter().chain(given.flatten().map(String::as_str)).collect();
    for _ in 0..RUNS {
        let run = OneRun::of(Some(&own.namespace), &own.program, &words, &[0])?;
        note("verify of the node", run, figures);
    }
    Ok(())
}
