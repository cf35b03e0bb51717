//! Staying: every edit of the directory is enforced, measured and told, until somebody asks for the end.

use super::cast::Cast;
use super::change::{awaited, differences};
use super::measure::SETTLE;
use super::question::{Finding, Question};
use super::show::Show;
use super::stage::Stage;
use super::stop::Stop;
use super::workplace::Texts;
use crate::source::read_manifests;
use crate::testbed::Probe;
use anyhow::Result;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// What is known when the next edit comes.
pub(super) struct Known {
    /// The files as they are in force.
    pub(super) texts: Texts,
    /// What was measured with them.
    pub(super) findings: Vec<Finding>,
    /// What is wrong with the files as they are, if anything is.
    pub(super) problem: Option<String>,
}

/// Follows the directory.
///
/// # Errors
/// `Stopped` when the end was asked for; or something can no longer be done.
pub(super) fn stay<W: Write>(
    stage: &mut Stage,
    directory: &Path,
    mut known: Known,
    show: &mut Show<'_, W>,
    stop: &Stop,
) -> Result<()> {
    let mut watch = stop.watch(directory)?;
    loop {
        // First a look: the directory may have changed before it was watched.
        follow(stage, directory, &mut known, show, stop)?;
        stop.wait_for_edit(&mut watch)?;
    }
}

fn follow<W: Write>(
    stage: &mut Stage,
    directory: &Path,
    known: &mut Known,
    show: &mut Show<'_, W>,
    stop: &Stop,
) -> Result<()> {
    let texts = Texts::read(directory);
    let read = match &texts {
        Ok(texts) if *texts == known.texts && known.problem.is_none() => return Ok(()),
        Ok(_) => read_manifests(directory).map_err(|error| error.to_string()),
        Err(error) => Err(format!("{error:#}")),
    };
    let (texts, manifests) = match (texts, read) {
        (Ok(texts), Ok(manifests)) => (texts, manifests),
        (Ok(_), Err(problem)) => return complain(problem, known, show),
        (Err(error), _) => return complain(format!("{error:#}"), known, show),
    };
    known.problem = None;
    if texts == known.texts {
        show.tell("edit", "the manifests can be read again; nothing is different")?;
        return Ok(());
    }
    for refused in &manifests.refused {
        show.tell("warning", &refused.to_string())?;
    }
    let cast = Cast::of(&manifests);
    for line in stage.recast(&cast) {
        show.tell("edit", &line)?;
    }
    let questions = stage.questions(&cast.world)?;
    let awaited: Vec<&Question> =
        awaited(&known.findings, &questions).into_iter().map(|place| &questions[place]).collect();
    let published = Instant::now();
    stage.workplace.publish(&texts)?;
    stage.check_controllers()?;
    let took = wait(stage, &awaited, published, stop)?;
    let findings = stage.measure(&questions, stop)?;
    let differences = differences(&known.findings, &findings);
    let connections = if awaited.len() == 1 { "connection" } else { "connections" };
    let enforced = match took {
        _ if awaited.is_empty() => "no connection was to change".to_owned(),
        Some(took) => format!("in force at {} {connections} after {} ms", awaited.len(), took.as_millis()),
        None => format!("not in force at {} {connections} within {} s", awaited.len(), SETTLE.as_secs()),
    };
    show.tell("edit", &enforced)?;
    for line in differences {
        show.tell("", &line)?;
    }
    show.result(&findings)?;
    (known.texts, known.findings) = (texts, findings);
    Ok(())
}

fn complain<W: Write>(problem: String, known: &mut Known, show: &mut Show<'_, W>) -> Result<()> {
    if known.problem.as_ref() != Some(&problem) {
        show.tell("edit", &problem)?;
        show.tell("", "the last good state stays in force")?;
    }
    known.problem = Some(problem);
    Ok(())
}

/// Waits until all that must change has changed; how long that took, or nothing if it took too long.
fn wait(stage: &Stage, awaited: &[&Question], since: Instant, stop: &Stop) -> Result<Option<Duration>> {
    let mut waiting: Vec<&Question> = awaited.to_vec();
    while since.elapsed() < SETTLE {
        let probes: Vec<Probe> = waiting.iter().map(|question| question.connection.probe()).collect();
        let outcomes = stage.testbed.probe_all(&probes);
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
