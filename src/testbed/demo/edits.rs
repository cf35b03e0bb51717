//! Follows edits of the directory: each is enforced, measured and reported, until the demo is stopped.

use super::changes::{awaited, differences};
use super::cluster::DemoCluster;
use super::dir::ManifestFiles;
use super::measure::SETTLE;
use super::network::DemoNetwork;
use super::output::Output;
use super::question::{ExpectedOutcome, Finding};
use super::stop::Stop;
use crate::source::read_manifests;
use crate::testbed::Probe;
use anyhow::Result;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// What is known before the next edit.
pub(super) struct LastGood {
    /// The files that are in force.
    pub(super) files: ManifestFiles,
    /// What was measured with them.
    pub(super) findings: Vec<Finding>,
    /// What is wrong with the current files, if anything.
    pub(super) problem: Option<String>,
}

/// Follows the directory.
///
/// # Errors
/// `Stopped` after a signal; otherwise a step failed.
pub(super) fn watch_edits<W: Write>(
    network: &mut DemoNetwork,
    directory: &Path,
    mut known: LastGood,
    output: &mut Output<'_, W>,
    stop: &Stop,
) -> Result<()> {
    let mut watch = stop.watch(directory)?;
    loop {
        // The directory may have changed before it was watched.
        follow(network, directory, &mut known, output, stop)?;
        stop.wait_for_edit(&mut watch)?;
    }
}

fn follow<W: Write>(
    network: &mut DemoNetwork,
    directory: &Path,
    known: &mut LastGood,
    output: &mut Output<'_, W>,
    stop: &Stop,
) -> Result<()> {
    let files = ManifestFiles::read(directory);
    let read = match &files {
        Ok(files) if *files == known.files && known.problem.is_none() => return Ok(()),
        Ok(_) => read_manifests(directory).map_err(|error| error.to_string()),
        Err(error) => Err(format!("{error:#}")),
    };
    let (files, manifests) = match (files, read) {
        (Ok(files), Ok(manifests)) => (files, manifests),
        (Ok(_), Err(problem)) => return complain(problem, known, output),
        (Err(error), _) => return complain(format!("{error:#}"), known, output),
    };
    known.problem = None;
    if files == known.files {
        output.report("edit", "the manifests can be read again; nothing is different")?;
        return Ok(());
    }
    for invalid in &manifests.invalid {
        output.report("warning", &invalid.to_string())?;
    }
    let cluster = DemoCluster::of(&manifests);
    for line in network.change_pods(&cluster) {
        output.report("edit", &line)?;
    }
    let questions = network.questions(&cluster.world)?;
    let awaited: Vec<&ExpectedOutcome> =
        awaited(&known.findings, &questions).into_iter().map(|place| &questions[place]).collect();
    let published = Instant::now();
    network.dir.publish(&files)?;
    network.check_agents()?;
    let took = wait(network, &awaited, published, stop)?;
    let findings = network.measure(&questions, stop)?;
    let differences = differences(&known.findings, &findings);
    let connections = if awaited.len() == 1 { "connection" } else { "connections" };
    let enforced = match took {
        _ if awaited.is_empty() => "no connection is affected".to_owned(),
        Some(took) => format!("in force at {} {connections} after {} ms", awaited.len(), took.as_millis()),
        None => format!("not in force at {} {connections} within {} s", awaited.len(), SETTLE.as_secs()),
    };
    output.report("edit", &enforced)?;
    for line in differences {
        output.report("", &line)?;
    }
    output.result(&findings)?;
    (known.files, known.findings) = (files, findings);
    Ok(())
}

fn complain<W: Write>(problem: String, known: &mut LastGood, output: &mut Output<'_, W>) -> Result<()> {
    if known.problem.as_ref() != Some(&problem) {
        output.report("edit", &problem)?;
        output.report("", "the last good state stays in force")?;
    }
    known.problem = Some(problem);
    Ok(())
}

/// Waits until all expected changes have been measured; returns how long that took, or `None` if it took too long.
fn wait(
    network: &DemoNetwork,
    awaited: &[&ExpectedOutcome],
    since: Instant,
    stop: &Stop,
) -> Result<Option<Duration>> {
    let mut waiting: Vec<&ExpectedOutcome> = awaited.to_vec();
    while since.elapsed() < SETTLE {
        let probes: Vec<Probe> = waiting.iter().map(|question| question.connection.probe()).collect();
        let outcomes = network.testbed.probe_all(&probes);
        let mut outcomes = outcomes.into_iter();
        waiting.retain(|question| {
            let measured = outcomes.next();
            let finding = measured.map(|measured| Finding { question: (*question).clone(), measured });
            !finding.is_some_and(|finding| finding.is_as_expected())
        });
        if waiting.is_empty() {
            return Ok(Some(since.elapsed()));
        }
        stop.sleep(Duration::from_millis(1))?;
    }
    Ok(None)
}
