//! The derivations of two systems: from the builder as long as it has them, else from the journals of the runs between them.
//!
//! A release's journal keeps what its gate read: the derivations that it does not share with the release before. One
//! that stands in one system and not in a later one came or went with a run in between, so that the journals on the way
//! from one to the other hold all that the two do not share.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::journal;
use crate::gate::Place;
use crate::git::Repo;
use crate::nix::{self, StorePath, Unshared};
use crate::record::Target;

/// Reads the derivations that `new` does not share with the first of `olds`. With them comes what has to be said of where
/// they are from; without them, why.
pub(super) async fn read(
    (repo, target): (&Repo, &Target),
    place: Result<Place<'_>, String>,
    olds: &[StorePath],
    new: &StorePath,
    limit: Duration,
) -> Result<(Unshared, Option<String>), String> {
    let Some(old) = olds.first() else {
        return Err("the derivation of what is compared with is not known".to_owned());
    };
    let why = match &place {
        Ok(place) => match nix::unshared(place, new, olds, limit).await {
            Ok(Some(unshared)) => return Ok((unshared, None)),
            Ok(None) => format!("{} has not all of the derivations", place.name()),
            Err(failure) => failure.what,
        },
        Err(why) => why.clone(),
    };
    let kept = Kept::of(repo, target, (old, new));
    let ways = kept.ways(old);
    let told = |steps: Vec<Unshared>| {
        let note = format!("{why}: read from the journals of earlier runs");
        (Unshared::joined(old.clone(), new.clone(), &steps), Some(note))
    };
    if let Some((_, way)) = ways.iter().find(|(to, _)| to == new) {
        return Ok(told(kept.steps(way)));
    }
    // A commit that was not released: from the nearest system that the builder still knows.
    let nearest: Vec<StorePath> = ways
        .iter()
        .map(|(to, _)| to.clone())
        .filter(|to| !olds.contains(to))
        .collect();
    if let (Ok(place), false) = (&place, nearest.is_empty())
        && let Ok(Some(last)) = nix::unshared(place, new, &nearest, limit).await
        && let Some((_, way)) = ways.iter().find(|(to, _)| *to == last.old)
    {
        let mut steps = kept.steps(way);
        steps.push(last);
        return Ok(told(steps));
    }
    Err(why)
}

/// What the journals of a target keep, each between two systems.
#[derive(Default)]
struct Kept(Vec<Step>);

/// What one of them keeps, still packed.
struct Step {
    old: StorePath,
    new: StorePath,
    packed: Vec<u8>,
}

impl Kept {
    /// From the newest run back, until there is a way from one to the other; all of them, if there is none.
    fn of(repo: &Repo, target: &Target, (from, to): (&StorePath, &StorePath)) -> Kept {
        let runs = repo.journals(target).unwrap_or_default();
        let steps = runs.iter().rev().filter_map(|run| {
            let file = repo.journal_file(target, &run.run, journal::DERIVATIONS);
            let packed = file.ok()??;
            let (old, new) = Unshared::kept_sides(&packed)?;
            Some(Step { old, new, packed })
        });
        let mut kept = Kept::default();
        for step in steps {
            kept.0.push(step);
            if kept.ways(from).iter().any(|(reached, _)| reached == to) {
                break;
            }
        }
        kept
    }

    /// The systems that can be reached from `old`, the nearest first, each with the numbers of what lies on the way.
    fn ways(&self, old: &StorePath) -> Vec<(StorePath, Vec<usize>)> {
        let mut ways: HashMap<&StorePath, Vec<usize>> = HashMap::from([(old, Vec::new())]);
        let mut open = VecDeque::from([old]);
        let mut found = Vec::new();
        while let Some(at) = open.pop_front() {
            let way = ways.get(at).cloned().unwrap_or_default();
            for (number, step) in self.0.iter().enumerate() {
                let next = match at {
                    at if *at == step.old => &step.new,
                    at if *at == step.new => &step.old,
                    _ => continue,
                };
                if !ways.contains_key(next) {
                    let mut longer = way.clone();
                    longer.push(number);
                    ways.insert(next, longer.clone());
                    found.push((next.clone(), longer));
                    open.push_back(next);
                }
            }
        }
        found
    }

    fn steps(&self, way: &[usize]) -> Vec<Unshared> {
        way.iter()
            .filter_map(|number| Unshared::kept(&self.0.get(*number)?.packed))
            .collect()
    }
}
