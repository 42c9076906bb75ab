//! Gate 3: what changes, against what runs, and why.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustc_hash::FxHashMap;

use super::GateLog;
use crate::config::InputDrift;
use crate::diff::{
    Attribution, Between, Change, Chapter, Explained, InputChange, InputDiff, Kind, NameParts, PackageDiff,
    PathSize, RuntimePath, chapters, titles,
};
use crate::failure::Failure;
use crate::git::{CommitNote, Repo};
use crate::nix::{self, Closure, StorePath, Unshared};
use crate::plan::{Risk, risk_of};
use crate::record::Oid;
use crate::record::evidence::DiffEvidence;

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
        let Some(explained) = &self.explained else { return };
        let parts = explained
            .roots
            .iter()
            .map(|root| &root.part)
            .chain(&explained.following);
        self.risk = Some(risk_of(parts));
        self.attribution = self
            .between
            .as_ref()
            .map(|between| Attribution::new(explained, between));
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

/// Shows the causes, then the packages; what goes into the evidence, and the gate's last words.
pub fn shown(log: &mut GateLog<'_>, difference: &Difference) -> (DiffEvidence, String) {
    for line in difference.story(FOLDED) {
        log.finding(line);
    }
    let lines = [difference.risk_line(), difference.explained_line()];
    for line in lines.into_iter().flatten() {
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
        changed_paths: told.map(|told| told.changed as u64),
        explained_paths: told.map(|told| told.explained as u64),
        risk: difference.risk_line(),
        ..DiffEvidence::default()
    };
    (evidence, headline)
}

/// Refuses what no cause explains, where causes can be known.
///
/// # Errors
/// Exit 3: something is unexplained, and nobody accepted that.
pub fn unexplained(log: &mut GateLog<'_>, difference: &Difference, accepted: bool) -> Result<(), Failure> {
    let Some(told) = &difference.attribution else {
        return Ok(());
    };
    let missing = told.changed - told.explained;
    if missing == 0 {
        return Ok(());
    }
    let what = format!(
        "{missing} of {} changed paths are unexplained: neither a flake input nor a file that changed accounts for them",
        told.changed
    );
    if accepted {
        log.warn(format!("accepted: {what}"));
        return Ok(());
    }
    let mut failure = Failure::refused(what);
    failure.why = told.unexplained.iter().take(8).cloned().collect();
    if told.unexplained.len() > 8 {
        failure
            .why
            .push(format!("and {} more", told.unexplained.len() - 8));
    }
    Err(failure
        .next("does it evaluate to the same twice? --impure and what it reads outside the flake are usual reasons")
        .next("or accept it knowingly: --accept-unexplained"))
}

/// The flake inputs that moved, and the files that differ, between two commits.
///
/// # Errors
/// git cannot tell. A lock file that cannot be read is a warning.
pub fn between(
    log: &mut GateLog<'_>,
    repo: &Repo,
    flake: &str,
    (from, to): (&Oid, &Oid),
) -> Result<(InputDiff, Between), Failure> {
    let path = lock_file(flake);
    let read = |commit: &Oid| -> Result<String, Failure> {
        let bytes = repo.read_file(commit, &path)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let inputs = match InputDiff::new(&read(from)?, &read(to)?) {
        Ok(inputs) => inputs,
        Err(bad) => {
            log.warn(format!("flake.lock cannot be compared: {bad}"));
            InputDiff::default()
        }
    };
    let files = match from == to {
        true => Vec::new(),
        false => repo.changed_files(from, to)?,
    };
    let revs = [from.to_string(), to.to_string()];
    let between = Between::new(&inputs, &files, revs, nix::source_path);
    Ok((inputs, between))
}

/// `flake.lock` beside the flake.
pub fn lock_file(flake: &str) -> PathBuf {
    let path = Path::new(flake).join("flake.lock");
    path.strip_prefix(".").map(Path::to_path_buf).unwrap_or(path)
}

/// Judges the flake inputs that moved by the policy.
///
/// # Errors
/// Exit 3 when the policy is `deny` and an input moved undeclared.
pub fn inputs(
    log: &mut GateLog<'_>,
    repo: &Repo,
    diff: &InputDiff,
    (from, to): (&Oid, &Oid),
    (policy, accepted): (InputDrift, &[String]),
) -> Result<Vec<String>, Failure> {
    let lines = diff.lines();
    if policy == InputDrift::Ignore || diff.moved.is_empty() {
        return Ok(lines);
    }
    let notes = repo.commits_between(from, to)?;
    let undeclared: Vec<&InputChange> = diff
        .moved
        .iter()
        .filter(|c| !declared(c, &notes, accepted))
        .collect();
    let names: Vec<&str> = undeclared.iter().map(|change| change.path.as_str()).collect();
    if names.is_empty() {
        return Ok(lines);
    }
    let what = format!(
        "flake inputs moved although no commit message names them: {}",
        names.join(", ")
    );
    if policy == InputDrift::Deny {
        let flags: Vec<String> = names
            .iter()
            .map(|name| format!("--accept-input {name}"))
            .collect();
        return Err(Failure::refused(what)
            .why(format!("between {from} and {to}; input-drift = \"deny\""))
            .next("name them in a commit message (nix flake update --commit-lock-file does)")
            .next(format!("or accept them: {}", flags.join(" "))));
    }
    log.warn(what);
    Ok(lines)
}

/// A moved input is declared by a message that names it or, for a transitive one, the input that it sits below.
fn declared(change: &InputChange, notes: &[CommitNote], accepted: &[String]) -> bool {
    let parts: Vec<&str> = change.path.split('/').collect();
    (1..=parts.len()).any(|n| {
        let path = parts[..n].join("/");
        accepted.contains(&path) || notes.iter().any(|note| names(&note.message, &path))
    })
}

/// Whether a text holds `name` as a word of its own.
fn names(text: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + name.len()..].chars().next();
        !before.is_some_and(word) && !after.is_some_and(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_an_input_only_as_a_word() {
        assert!(names(
            "flake.lock: Update\n\n• Updated input 'nixpkgs':\n",
            "nixpkgs"
        ));
        assert!(names("bump nixpkgs", "nixpkgs"));
        assert!(!names("bump nixpkgs-stable", "nixpkgs"));
        assert!(!names("no inputs here", "nixpkgs"));
    }
}
