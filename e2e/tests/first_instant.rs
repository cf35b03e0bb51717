//! What passes in a pod's first instants, on a cluster: `e2e/first-instant` runs it. Elsewhere it is listed as ignored.
//!
//! How many pods are started for each promise, BRIDGEWARDEN_E2E_STARTS says (20), and how many of them at once,
//! BRIDGEWARDEN_E2E_WAVE (20). What was counted is noted in
//! `target/tmp/first-instant/figures`.

use anyhow::{Context, Result, ensure};
use bridgewarden_e2e::first_instant::Micros;
use bridgewarden_e2e::kind::{Life, Nursery, Upbringing};
use bridgewarden_e2e::trials::{self, Place, Promise, number};
use std::path::Path;
use std::process::ExitCode;

const PROMISES: [Promise; 3] = [
    ("denied_pod_sends_and_receives_nothing_from_its_first_instruction_on", |place| {
        keep(place, nothing_passes)
    }),
    ("allowed_pod_and_its_peers_wait_for_nothing_but_its_address", |place| keep(place, nobody_waits)),
    ("what_passes_without_the_guard_is_noticed", |place| keep(place, noticed_without_the_guard)),
];

fn main() -> ExitCode {
    trials::play(&PROMISES, "kubelets start pods on kind only")
}

fn keep(place: &Place, promise: fn(&mut Nursery, Starts) -> Result<()>) -> Result<()> {
    let starts = Starts {
        number: number("BRIDGEWARDEN_E2E_STARTS", 20)?,
        wave: number("BRIDGEWARDEN_E2E_WAVE", 20)?.max(1),
    };
    let mut nursery = Nursery::open(&place.cluster, &place.image)?;
    promise(&mut nursery, starts)?;
    nursery.close()
}

/// How many pods to start, and how many of them at once.
#[derive(Clone, Copy)]
struct Starts {
    number: usize,
    wave: usize,
}

/// What passed of one newborn, in packets.
struct Passed {
    out: u32,
    into: u32,
    /// How long after its first instruction the last one arrived at a witness.
    last: Micros,
}

/// Counts what passed; each newborn must have written, and been knocked at while it listened.
fn passed(lives: &[Life]) -> Result<Vec<Passed>> {
    lives
        .iter()
        .map(|life| {
            let report = &life.report;
            ensure!(!report.sent.is_empty(), "{} wrote nothing", life.name);
            let knocks = life.heard.values().flat_map(|heard| &heard.knocks);
            let tried = knocks.filter(|knock| (report.began..report.ended).contains(&knock.sent)).count();
            ensure!(tried > 100, "{} was knocked at {tried} times only", life.name);
            let last = life.heard.values().map(|heard| heard.last).max().unwrap_or(0);
            Ok(Passed {
                out: life.heard.values().map(|heard| heard.letters).sum(),
                into: report.knocks,
                last: last.saturating_sub(report.began),
            })
        })
        .collect()
}

/// Notes what was counted.
fn note(figures: &str) -> Result<()> {
    trials::note(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("first-instant"), figures)
}

fn tell(what: &str, passed: &[Passed]) -> Result<usize> {
    let through = passed.iter().filter(|one| one.out + one.into > 0);
    let (out, into) = passed.iter().fold((0, 0), |(out, into), one| (out + one.out, into + one.into));
    let mut last: Vec<Micros> = through.map(|one| one.last).collect();
    note(&format!(
        "{what}: {} starts, {} of them with packets beyond policy: {out} sent, {into} received; the last sent one {}",
        passed.len(),
        last.len(),
        spread(&mut last)
    ))?;
    Ok(last.len())
}

fn nothing_passes(nursery: &mut Nursery, starts: Starts) -> Result<()> {
    let passed = passed(&nursery.raise(starts.number, starts.wave, Upbringing::Denied)?)?;
    ensure!(tell("with the guard", &passed)? == 0, "packets passed beyond policy");
    Ok(())
}

fn noticed_without_the_guard(nursery: &mut Nursery, starts: Starts) -> Result<()> {
    nursery.guard(false)?;
    let lives = nursery.raise(starts.number, starts.wave, Upbringing::Denied);
    nursery.guard(true)?;
    ensure!(
        tell("without the guard", &passed(&lives?)?)? > 0,
        "nothing passed: can this test notice anything?"
    );
    Ok(())
}

fn nobody_waits(nursery: &mut Nursery, starts: Starts) -> Result<()> {
    let lives = nursery.raise(starts.number, starts.wave, Upbringing::Welcome)?;
    let (mut own, mut beside, mut afar) = (Vec::new(), Vec::new(), Vec::new());
    for life in &lives {
        for (witness, heard) in &life.heard {
            let (first, _) =
                heard.first.as_ref().with_context(|| format!("{} never reached {witness}", life.name))?;
            ensure!(
                life.report.answered.len() == life.heard.len(),
                "{} was answered by {} of {} witnesses",
                life.name,
                life.report.answered.len(),
                life.heard.len()
            );
            // All letters before the first that arrived were refused.
            let refused = life.report.sent.get(..first.number as usize);
            let refused = refused.with_context(|| format!("{}'s report lacks letters", life.name))?;
            let refused_for = |since: Micros| match refused.last() {
                Some(last) => (last.saturating_sub(since), first.sent.saturating_sub(since)),
                None => (0, 0),
            };
            let same_node = usize::from(witness.ends_with("far")) == life.node;
            match (witness.starts_with("strict"), same_node) {
                (false, _) => own.push(refused_for(life.report.began)),
                (true, true) => beside.push(refused_for(life.report.began)),
                (true, false) => {
                    let told = life.told.with_context(|| format!("the API never told of {}", life.name))?;
                    afar.push(refused_for(told));
                }
            }
        }
    }
    note(&format!(
        "allowed pods: {} starts; the last letter that was refused, and the first after it, were sent\n  \
         to open witnesses, after its first instruction: {}\n  \
         to isolated ones of its node, after its first instruction: {}\n  \
         to isolated ones of the other node, after the API told its address: {}",
        lives.len(),
        spreads(&own),
        spreads(&beside),
        spreads(&afar)
    ))
}

/// Of both ends of refusals: for so long at least, and for so long at most.
fn spreads(refused: &[(Micros, Micros)]) -> String {
    let (mut least, mut most): (Vec<Micros>, Vec<Micros>) = refused.iter().copied().unzip();
    let any = most.iter().filter(|most| **most > 0).count();
    format!("{any} of {} refused at all; {}; then {}", refused.len(), spread(&mut least), spread(&mut most))
}

fn spread(times: &mut [Micros]) -> String {
    times.sort_unstable();
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
    match (at(50), at(99), times.last()) {
        (Some(half), Some(most), Some(last)) => {
            let ms = |micros: &Micros| format!("{}.{} ms", micros / 1000, micros % 1000 / 100);
            format!("p50 {}, p99 {}, at most {}", ms(half), ms(most), ms(last))
        }
        _ => "never".to_owned(),
    }
}
