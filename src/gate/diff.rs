//! Gate 3: what changes, against what runs, and why.

mod policy;

use std::collections::{BTreeSet, HashSet};

use rustc_hash::FxHashMap;

use super::GateLog;
use crate::diff::{
    Attribution, Between, Change, Chapter, Explained, Held, HeldPath, Kind, NameParts, PackageDiff, Part,
    PathSize, RuntimePath, chapters, titles, wanted,
};
use crate::nix::{Closure, StorePath, Unshared};
use crate::plan::{Risk, risk_of};
use crate::record::evidence::DiffEvidence;

pub use policy::{between, inputs, lock_file, unexplained};

/// How many lines are shown; all that fit go into the record.
const SHOWN: usize = 40;
/// How many roots of one cause are shown.
const FOLDED: usize = 8;

/// Everything that is known of how two systems differ.
#[derive(Debug)]
pub struct Difference {
    pub packages: PackageDiff,
    /// What was changed, and what follows; `None` where derivations are unknown.
    pub explained: Option<Explained>,
    /// What lies between the two commits; `None` where one is unknown.
    pub between: Option<Between>,
    /// Both of them brought together.
    pub attribution: Option<Attribution>,
    /// What the two systems hold, by content; `None` where their files could not be read.
    pub held: Option<Held>,
    pub risk: Option<(Risk, Vec<String>)>,
    /// The roots of each package's change, in the order of the changes; at most [`ROOTS`] of each.
    pub roots: Vec<Vec<usize>>,
}

/// More roots of one package are counted with the causes, not listed.
const ROOTS: usize = 20;

impl Difference {
    /// Compares two closures: by their paths and, where they are known, by derivations and commits.
    ///
    /// # Errors
    /// The derivations do not fit together; the rest can still be told.
    pub fn new(
        (old, new): (&Closure, &Closure),
        unshared: Option<&Unshared>,
        between: Option<Between>,
    ) -> (Difference, Option<String>) {
        // Neither asks the other anything.
        let (packages, explained) = std::thread::scope(|scope| {
            let packages = scope.spawn(|| {
                let mut packages = PackageDiff::new(old.sizes(), new.sizes());
                packages.select(selected(old).chain(selected(new)));
                packages
            });
            let explained = unshared.map(|unshared| {
                let roots = (unshared.old.as_str(), unshared.new.as_str());
                Explained::new(&unshared.texts(), roots, &runtime(old), &runtime(new))
            });
            match packages.join() {
                Ok(packages) => (packages, explained),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        });
        let (explained, bad) = match explained {
            Some(Ok(explained)) => (Some(explained), None),
            Some(Err(bad)) => (None, Some(bad.to_string())),
            None => (None, None),
        };
        let mut difference = Difference {
            packages,
            explained,
            between,
            attribution: None,
            held: None,
            risk: None,
            roots: Vec::new(),
        };
        difference.attribute();
        difference.find_roots(old, new);
        (difference, bad)
    }

    fn find_roots(&mut self, old: &Closure, new: &Closure) {
        let Some(explained) = &self.explained else { return };
        let roots: FxHashMap<&str, Vec<usize>> = explained
            .each()
            .map(|(path, roots)| (path, roots.take(ROOTS).collect()))
            .collect();
        let mut by_name: FxHashMap<(&str, &str), Vec<&[usize]>> = FxHashMap::default();
        for entry in old.sizes().chain(new.sizes()) {
            if let Some(roots) = roots.get(entry.path) {
                let parts = NameParts::of_path(entry.path, entry.deriver);
                by_name
                    .entry((parts.name, parts.version))
                    .or_default()
                    .push(roots);
            }
        }
        let of = |change: &Change| -> Vec<usize> {
            let versions = change.old.iter().chain(&change.new);
            let found = versions.filter_map(|version| by_name.get(&(change.name.as_str(), version.as_str())));
            let roots: BTreeSet<usize> = found.flatten().copied().flatten().copied().collect();
            roots.into_iter().take(ROOTS).collect()
        };
        self.roots = self.packages.changes().map(of).collect();
    }

    /// Ties what was changed to what lies between the commits, again after that has become clearer.
    pub fn attribute(&mut self) {
        self.risk = self.judged();
        let Some(explained) = &self.explained else { return };
        self.attribution = self
            .between
            .as_ref()
            .map(|between| Attribution::new(explained, between));
    }

    /// What the two systems hold is known now.
    pub fn hold(&mut self, held: Held) {
        self.held = Some(held);
        self.risk = self.judged();
    }

    fn judged(&self) -> Option<(Risk, Vec<String>)> {
        if self.explained.is_none() && self.held.is_none() {
            return None;
        }
        let explained = self.explained.iter();
        let mut parts: Vec<Part> = explained
            .flat_map(|told| told.roots.iter().map(|root| &root.part).chain(&told.following))
            .cloned()
            .collect();
        let held = self.held.iter().flat_map(Held::changed_parts);
        let more: Vec<Part> = held
            .filter(|part| !parts.iter().any(|known| known.covers(part)))
            .collect();
        parts.extend(more);
        Some(risk_of(&parts))
    }

    /// What is changed by content, one line for each kind of thing, as far as the causes do not tell it; of each at most
    /// `most` are named.
    pub fn held_lines(&self, most: usize) -> Vec<String> {
        let roots = self.explained.iter().flat_map(|told| &told.roots);
        let told: Vec<&Part> = roots.map(|root| &root.part).collect();
        self.held
            .iter()
            .flat_map(|held| held.lines(most, &told))
            .collect()
    }

    /// How many packages moved, and how many units, files and users were changed.
    pub fn counts(&self) -> (usize, usize) {
        // To Nix a unit and an entry of /etc are packages too.
        const PARTS: [&str; 4] = ["unit-", "etc-", "X-Restart-Triggers-", "X-Reload-Triggers-"];
        let moved = self
            .packages
            .changes()
            .filter(|change| change.kind != Kind::Rebuilt);
        let packages = moved.filter(|change| !PARTS.iter().any(|start| change.name.starts_with(start)));
        (packages.count(), self.held.as_ref().map_or(0, Held::count))
    }

    /// The causes with what came from each.
    pub fn chapters(&self) -> Vec<Chapter> {
        let told = self.between.as_ref().zip(self.attribution.as_ref());
        match (&self.explained, &self.between) {
            (Some(explained), _) => chapters(explained, told),
            (None, Some(between)) => titles(between),
            (None, None) => Vec::new(),
        }
    }

    /// The same as lines, at most `most` below each cause.
    pub fn story(&self, most: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for chapter in self.chapters() {
            lines.push(chapter.title);
            let below = chapter.lines.into_iter().map(|line| line.text);
            let below: Vec<String> = chapter.more.into_iter().chain(below).collect();
            lines.extend(below.iter().take(most).map(|line| format!("  {line}")));
            if below.len() > most {
                lines.push(format!("  … and {} more", below.len() - most));
            }
        }
        lines
    }

    /// `risk: HIGH (kernel)`
    pub fn risk_line(&self) -> Option<String> {
        let (risk, why) = self.risk.as_ref()?;
        let why = match why.as_slice() {
            [] => String::new(),
            few if few.len() <= 5 => format!(" ({})", few.join(", ")),
            many => format!(" ({} and {} more)", many[..5].join(", "), many.len() - 5),
        };
        Some(format!("risk: {risk}{why}"))
    }

    /// `explained: all of 12 changed paths`
    pub fn explained_line(&self) -> Option<String> {
        if let Some(told) = &self.attribution {
            return Some(match told.changed - told.explained {
                0 => format!("explained: all of {} changed paths", told.changed),
                _ => format!(
                    "explained: {} of {} changed paths ({} %)",
                    told.explained,
                    told.changed,
                    told.per_cent()
                ),
            });
        }
        let explained = self.explained.as_ref()?;
        let known = explained.count_changed() - explained.lost.len();
        Some(format!(
            "{known} of {} changed paths follow from these; a commit is not known, so neither is why",
            explained.count_changed()
        ))
    }
}

/// The packages that stand in the system path itself (nixpkgs, `nixos/modules/config/system-path.nix`).
fn selected(closure: &Closure) -> impl Iterator<Item = PathSize<'_>> {
    let chosen: BTreeSet<&StorePath> = closure
        .entries
        .iter()
        .filter(|entry| entry.path.name() == "system-path")
        .flat_map(|entry| &entry.references)
        .collect();
    closure
        .sizes()
        .zip(closure.paths())
        .filter(move |(_, path)| chosen.contains(path))
        .map(|(size, _)| size)
}

fn runtime(closure: &Closure) -> Vec<RuntimePath<'_>> {
    closure
        .entries
        .iter()
        .map(|entry| RuntimePath {
            path: entry.path.as_str(),
            deriver: entry.deriver.as_ref().map(StorePath::as_str),
            references: entry.references.iter().map(StorePath::as_str).collect(),
        })
        .collect()
}

/// The paths whose files tell what two systems hold otherwise: of the old one, then of the new one.
pub fn to_hold<'a>(old: &'a Closure, new: &'a Closure) -> [Vec<&'a str>; 2] {
    let known = |side: &'a Closure| -> HashSet<&'a str> { side.paths().map(StorePath::as_str).collect() };
    let (before, after) = (known(old), known(new));
    let of = |side: &'a Closure, other: &HashSet<&str>| {
        let paths = side.entries.iter().map(|entry| HeldPath {
            path: entry.path.as_str(),
            bytes: entry.nar_size,
            references: entry.references.iter().map(StorePath::as_str).collect(),
        });
        wanted(side.toplevel.as_str(), &paths.collect::<Vec<_>>(), other)
    };
    [of(old, &after), of(new, &before)]
}

/// Shows the causes, then the packages; what goes into the evidence, and the gate's last words.
pub fn shown(log: &mut GateLog<'_>, difference: &Difference) -> (DiffEvidence, String) {
    for line in difference.story(FOLDED) {
        log.finding(line);
    }
    let lines = [difference.risk_line(), difference.explained_line()];
    for line in lines.into_iter().flatten().chain(difference.held_lines(FOLDED)) {
        log.finding(line);
    }
    let diff = &difference.packages;
    let lines = diff.lines();
    // What was only rebuilt is what the causes brought; their number is in the gate's last words.
    let told = difference.explained.is_some();
    let moved: Vec<String> = diff
        .changes()
        .filter(|change| !told || change.kind != Kind::Rebuilt)
        .map(Change::line)
        .collect();
    for line in moved.iter().take(SHOWN) {
        log.finding(line.clone());
    }
    if moved.len() > SHOWN {
        log.finding(format!("… and {} more", moved.len() - SHOWN));
    }
    let (before, after) = (diff.totals.bytes_before, diff.totals.bytes_after);
    let bytes_delta = i64::try_from(i128::from(after) - i128::from(before)).unwrap_or(0);
    let count = |list: &[Change]| list.len() as u64;
    let headline = format!("{}, {} of them new", diff.headline(), diff.totals.paths_new);
    let told = difference.attribution.as_ref();
    let evidence = DiffEvidence {
        added: count(&diff.added),
        removed: count(&diff.removed),
        upgraded: count(&diff.upgraded),
        downgraded: count(&diff.downgraded),
        rebuilt: count(&diff.rebuilt),
        bytes_delta,
        lines,
        causes: difference.story(usize::MAX),
        holds: difference
            .held
            .iter()
            .flat_map(|held| held.lines(usize::MAX, &[]))
            .collect(),
        changed_paths: told.map(|told| told.changed as u64),
        explained_paths: told.map(|told| told.explained as u64),
        risk: difference.risk_line(),
        ..DiffEvidence::default()
    };
    (evidence, headline)
}
