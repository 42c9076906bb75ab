//! Proving causes: what a commit evaluates to with one of the inputs that moved held back where it was.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use super::product::{Bench, Order};
use crate::diff::{CauseKind, InputDiff, walk::Walk};
use crate::gate::diff::Difference;
use crate::gate::{GateLog, Place};
use crate::nix::{self, StorePath, Unshared};

/// How many evaluations run at once: each may take gigabytes of memory.
const AT_ONCE: usize = 4;
/// How long derivations may take to be read.
const READ: Duration = Duration::from_secs(120);

/// What holding something back came to.
enum Held {
    /// The same derivation: no effect.
    Same,
    /// What differs, by the names of what was changed.
    Other(BTreeSet<String>),
    /// It does not evaluate like that, or cannot be read.
    Unknown(String),
}

/// One thing to hold back: its cause, and the inputs to take from where they were.
struct Trial {
    cause: usize,
    /// Each input's path with the ways to name what it was.
    inputs: Vec<(String, Vec<String>)>,
}

/// Evaluates the candidate with each moved input held back, and with all of them, and ties what was changed to what made
/// it go. An input that cannot be held back is said.
pub(super) async fn prove(
    log: &GateLog<'_>,
    difference: &mut Difference,
    (order, place, bench): (&Order<'_>, Place<'_>, &Bench),
    (old, new): (&StorePath, &StorePath),
    moved: &InputDiff,
) {
    let Some(between) = &difference.between else {
        return;
    };
    let mut trials: Vec<Trial> = Vec::new();
    let mut everything = Vec::new();
    for (cause, known) in between.causes.iter().enumerate() {
        if known.kind != CauseKind::Input {
            continue;
        }
        let below: Vec<_> = moved
            .moved
            .iter()
            .filter(|change| change.root() == known.name)
            .collect();
        // With the input itself come those below it.
        let own: Vec<_> = below.iter().filter(|change| !change.is_transitive()).collect();
        let chosen = if own.is_empty() {
            below.iter().collect()
        } else {
            own
        };
        let inputs: Vec<(String, Vec<String>)> = chosen
            .into_iter()
            .filter_map(|change| {
                let old = change.old.as_ref()?;
                let source = old.nar_hash.as_deref().and_then(nix::source_path);
                Some((change.path.clone(), old.references(source.as_deref())))
            })
            .collect();
        if !inputs.is_empty() {
            everything.extend(inputs.iter().cloned());
            trials.push(Trial { cause, inputs });
        }
    }
    let files = between
        .causes
        .iter()
        .position(|cause| cause.kind == CauseKind::Files);
    if let Some(cause) = files.filter(|_| !everything.is_empty()) {
        trials.push(Trial {
            cause,
            inputs: everything,
        });
    }
    let mut results = Vec::new();
    for some in trials.chunks(AT_ONCE) {
        let work = some.iter().map(|trial| async {
            let is_files = Some(trial.cause) == files;
            let held = match evaluated(order, place, bench, trial).await {
                Err(why) => Held::Unknown(why),
                // Without the inputs the files are what is left between what runs and this.
                Ok(drv) if is_files => compared(place, old, &drv).await,
                Ok(drv) => compared(place, &drv, new).await,
            };
            (trial.cause, held)
        });
        results.extend(all(work).await);
    }
    let Some(between) = &mut difference.between else {
        return;
    };
    for (at, held) in results {
        let cause = &mut between.causes[at];
        match held {
            Held::Same => cause.effect = Some(false),
            Held::Other(names) => {
                cause.effect = Some(true);
                cause.proven = Some(names);
            }
            Held::Unknown(why) => {
                let what = match cause.kind {
                    CauseKind::Input => format!("input {} cannot be held back", cause.name),
                    CauseKind::Files => "the inputs cannot be held back together".to_owned(),
                };
                log.note(format!("{what}: {why}"));
            }
        }
    }
    difference.attribute();
}

async fn evaluated(
    order: &Order<'_>,
    place: Place<'_>,
    bench: &Bench,
    trial: &Trial,
) -> Result<StorePath, String> {
    let most = trial.inputs.iter().map(|(_, ways)| ways.len()).max().unwrap_or(0);
    let mut why = "where it was is not known".to_owned();
    // First its contents in the store, then where they came from.
    for way in 0..most {
        let overrides = trial.inputs.iter().filter_map(|(path, ways)| {
            let from = ways.get(way).or(ways.last())?;
            Some((path.clone(), from.clone()))
        });
        match order.evaluated(place, bench, overrides.collect()).await {
            Ok(drv) => return Ok(drv),
            Err(error) => {
                let last = error.failure.why.last().cloned();
                why = last.unwrap_or(error.failure.what);
            }
        }
    }
    Err(why)
}

async fn compared(place: Place<'_>, old: &StorePath, new: &StorePath) -> Held {
    if old == new {
        return Held::Same;
    }
    match nix::unshared(&place, new, std::slice::from_ref(old), READ).await {
        Ok(Some(unshared)) => match changed(&unshared) {
            Ok(names) if names.is_empty() => Held::Same,
            Ok(names) => Held::Other(names),
            Err(why) => Held::Unknown(why),
        },
        Ok(None) => Held::Unknown("its derivations cannot be read".into()),
        Err(failure) => Held::Unknown(failure.what),
    }
}

/// The names of everything that was changed, added or dropped between two derivations.
fn changed(unshared: &Unshared) -> Result<BTreeSet<String>, String> {
    let texts = unshared.texts();
    let walk =
        Walk::new(&texts, unshared.old.as_str(), unshared.new.as_str()).map_err(|bad| bad.to_string())?;
    let own = walk
        .pairs
        .iter()
        .filter(|pair| !pair.own.is_empty())
        .map(|pair| pair.new);
    let nodes = own
        .chain(walk.added.keys().copied())
        .chain(walk.removed.keys().copied());
    Ok(nodes.map(|node| walk.nodes[node].name().to_owned()).collect())
}

/// Waits for all of them, which are at work side by side.
async fn all<F: Future>(work: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut open: Vec<Pin<Box<F>>> = work.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = open.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (one, done) in open.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            if let Poll::Ready(output) = one.as_mut().poll(context) {
                *done = Some(output);
            }
        }
        match done.iter().all(Option::is_some) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}
