//! Which packages differ between two closures.
//!
//! A line of the diff is about one version of one package: where a closure holds several versions of a package (two
//! openssl, a linux and its older sibling), the versions both sides have are compared with each other, and only what is
//! left is paired as a move from one version to another.

use super::names::{NameParts, compare_versions, components};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// One path of a closure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathSize<'a> {
    /// The full store path.
    pub path: &'a str,
    /// Its NAR size.
    pub bytes: u64,
    /// The full path of its derivation, where it is known.
    pub deriver: Option<&'a str>,
}

/// How a package changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Upgraded,
    Downgraded,
    Added,
    Removed,
    /// The same version at another path.
    Rebuilt,
}

/// One changed version of one package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    pub kind: Kind,
    pub name: String,
    /// Empty for a package without versions, absent where there was none before.
    pub old: Option<String>,
    pub new: Option<String>,
    /// Outputs that came and went, `out` included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs_added: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs_removed: Vec<String>,
    /// How many store paths this is about: the new ones, or the old ones of what was removed.
    pub paths: usize,
    /// How many bytes more (or fewer) it takes now.
    pub bytes: i64,
    /// Whether it stands in the system path itself: somebody chose it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub selected: bool,
}

/// Both closures in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Totals {
    pub paths_before: usize,
    pub paths_after: usize,
    pub bytes_before: u64,
    pub bytes_after: u64,
    /// Paths that only the new closure has.
    pub paths_new: usize,
    /// Paths that only the old closure had.
    pub paths_gone: usize,
}

/// The differences between two closures, each list in the order of names, then versions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageDiff {
    pub upgraded: Vec<Change>,
    pub downgraded: Vec<Change>,
    pub added: Vec<Change>,
    pub removed: Vec<Change>,
    pub rebuilt: Vec<Change>,
    pub totals: Totals,
}

/// A path whose name was taken apart; in the order of names, versions, outputs, paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Named<'a> {
    parts: NameParts<'a>,
    path: &'a str,
    bytes: u64,
}

/// One side in the order of paths, each once.
fn in_order<'a>(side: impl IntoIterator<Item = PathSize<'a>>) -> Vec<PathSize<'a>> {
    let mut side: Vec<PathSize<'a>> = side.into_iter().collect();
    side.sort_by(|a, b| a.path.cmp(b.path));
    side.dedup_by(|later, first| later.path == first.path);
    side
}

/// What both sides have under one key, in the order of keys; both lists are sorted by it.
fn beside<'l, T, K: Ord>(old: &'l [T], new: &'l [T], key: impl Fn(&T) -> K) -> Vec<(&'l [T], &'l [T])> {
    let mut groups = Vec::new();
    let (mut old, mut new) = (old, new);
    loop {
        let least = match (old.first().map(&key), new.first().map(&key)) {
            (None, None) => return groups,
            (Some(a), Some(b)) => a.min(b),
            (Some(one), None) | (None, Some(one)) => one,
        };
        let count = |side: &[T]| side.iter().take_while(|item| key(item) == least).count();
        let (before, others) = old.split_at(count(old));
        let (after, more) = new.split_at(count(new));
        groups.push((before, after));
        (old, new) = (others, more);
    }
}

impl PackageDiff {
    /// Compares the closure of what runs with that of the candidate.
    pub fn new<'a>(
        old: impl IntoIterator<Item = PathSize<'a>>,
        new: impl IntoIterator<Item = PathSize<'a>>,
    ) -> PackageDiff {
        let (old, new) = (in_order(old), in_order(new));
        let bytes = |side: &[PathSize<'_>]| side.iter().fold(0u64, |sum, e| sum.saturating_add(e.bytes));
        let mut diff = PackageDiff {
            totals: Totals {
                paths_before: old.len(),
                paths_after: new.len(),
                bytes_before: bytes(&old),
                bytes_after: bytes(&new),
                ..Totals::default()
            },
            ..PackageDiff::default()
        };
        let (mut before, mut after) = (Vec::with_capacity(old.len()), Vec::with_capacity(new.len()));
        // Only packages with a path that came or went differ.
        let mut moved: FxHashSet<&str> = FxHashSet::default();
        for (was, is) in beside(&old, &new, |entry| entry.path) {
            // The same path may come with a deriver on one side only; it must bear one name on both.
            let both = was.iter().chain(is);
            let Some(path) = both.clone().next().map(|entry| entry.path) else {
                continue;
            };
            let parts = NameParts::of_path(path, both.filter_map(|entry| entry.deriver).min());
            if was.is_empty() || is.is_empty() {
                moved.insert(parts.name);
                diff.totals.paths_gone += was.len();
                diff.totals.paths_new += is.len();
            }
            let named = |entry: &PathSize<'a>| Named {
                parts,
                path: entry.path,
                bytes: entry.bytes,
            };
            before.extend(was.iter().map(named));
            after.extend(is.iter().map(named));
        }
        for side in [&mut before, &mut after] {
            side.retain(|entry| moved.contains(entry.parts.name));
            side.sort_unstable();
        }
        for (was, is) in beside(&before, &after, |entry| entry.parts.name) {
            diff.package(was, is);
        }
        diff
    }

    fn package(&mut self, old: &[Named<'_>], new: &[Named<'_>]) {
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for (before, after) in beside(old, new, |entry| entry.parts.version) {
            match (before, after) {
                (before, []) => gone.push(before),
                ([], after) => come.push(after),
                (before, after) => self.push(same_version(before, after)),
            }
        }
        for (from, to) in pair(&mut gone, &mut come) {
            let kind = match compare_versions(version(from), version(to)) {
                Ordering::Less => Kind::Upgraded,
                Ordering::Greater => Kind::Downgraded,
                Ordering::Equal => Kind::Rebuilt,
            };
            self.push(Some(change(kind, from, to)));
        }
        for before in gone {
            self.push(Some(change(Kind::Removed, before, &[])));
        }
        for after in come {
            self.push(Some(change(Kind::Added, &[], after)));
        }
    }

    fn push(&mut self, change: Option<Change>) {
        let Some(change) = change else { return };
        match change.kind {
            Kind::Upgraded => self.upgraded.push(change),
            Kind::Downgraded => self.downgraded.push(change),
            Kind::Added => self.added.push(change),
            Kind::Removed => self.removed.push(change),
            Kind::Rebuilt => self.rebuilt.push(change),
        }
    }

    /// Marks the packages of these paths as selected.
    pub fn select<'a>(&mut self, paths: impl IntoIterator<Item = PathSize<'a>>) {
        let names = paths
            .into_iter()
            .map(|entry| NameParts::of_path(entry.path, entry.deriver));
        let chosen: FxHashSet<(&str, &str)> = names.map(|parts| (parts.name, parts.version)).collect();
        let lists = [
            &mut self.upgraded,
            &mut self.downgraded,
            &mut self.added,
            &mut self.removed,
            &mut self.rebuilt,
        ];
        for change in lists.into_iter().flatten() {
            let version = change.new.as_ref().or(change.old.as_ref());
            let version = version.map_or("", String::as_str);
            change.selected = chosen.contains(&(change.name.as_str(), version));
        }
    }

    /// Whether the closures are the same set of paths.
    pub fn is_empty(&self) -> bool {
        self.changes().next().is_none()
    }

    /// Every change: upgrades, downgrades, additions, removals, rebuilds.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        [
            &self.upgraded,
            &self.downgraded,
            &self.added,
            &self.removed,
            &self.rebuilt,
        ]
        .into_iter()
        .flatten()
    }

    /// The changes as people read them, one line each.
    pub fn lines(&self) -> Vec<String> {
        self.changes().map(Change::line).collect()
    }

    /// `12 upgraded, 1 added; 3577 → 3580 paths (+12 MiB)`
    pub fn headline(&self) -> String {
        let counts = [
            (self.upgraded.len(), "upgraded"),
            (self.downgraded.len(), "downgraded"),
            (self.added.len(), "added"),
            (self.removed.len(), "removed"),
            (self.rebuilt.len(), "rebuilt"),
        ];
        let counts: Vec<String> = counts
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, what)| format!("{n} {what}"))
            .collect();
        let counts = if counts.is_empty() {
            "no changes".to_string()
        } else {
            counts.join(", ")
        };
        let t = &self.totals;
        let delta = size_delta(difference(t.bytes_before, t.bytes_after));
        format!("{counts}; {} → {} paths ({delta})", t.paths_before, t.paths_after)
    }
}

/// The same version on both sides: nothing, rebuilt, or with more or fewer outputs.
fn same_version(old: &[Named<'_>], new: &[Named<'_>]) -> Option<Change> {
    if old.iter().map(|e| e.path).eq(new.iter().map(|e| e.path)) {
        return None;
    }
    let lacking = |side: &[Named<'_>], other: &[Named<'_>]| {
        let other: FxHashSet<&str> = other.iter().map(|entry| entry.path).collect();
        side.iter().filter(|entry| !other.contains(entry.path)).count()
    };
    let (come, gone) = (lacking(new, old), lacking(old, new));
    let kind = match (gone, come) {
        (0, _) => Kind::Added,
        (_, 0) => Kind::Removed,
        _ => Kind::Rebuilt,
    };
    let mut change = change(kind, old, new);
    change.paths = if kind == Kind::Removed { gone } else { come };
    Some(change)
}

/// The version that all of these are of.
fn version<'a>(side: &[Named<'a>]) -> &'a str {
    side.first().map_or("", |entry| entry.parts.version)
}

fn change(kind: Kind, old: &[Named<'_>], new: &[Named<'_>]) -> Change {
    let sum = |side: &[Named<'_>]| {
        side.iter()
            .fold(0u64, |sum, entry| sum.saturating_add(entry.bytes))
    };
    let lacking = |side: &[Named<'_>], other: &[Named<'_>]| -> Vec<String> {
        let mut outputs: Vec<&str> = side.iter().map(|entry| entry.parts.output).collect();
        outputs.dedup();
        outputs.retain(|output| other.iter().all(|entry| entry.parts.output != *output));
        outputs.into_iter().map(str::to_owned).collect()
    };
    let named = |side: &[Named<'_>]| side.first().map(|entry| entry.parts.version.to_owned());
    let name = old.first().or(new.first()).map_or("", |entry| entry.parts.name);
    Change {
        kind,
        name: name.to_owned(),
        old: named(old),
        new: named(new),
        outputs_added: lacking(new, old),
        outputs_removed: lacking(old, new),
        paths: if kind == Kind::Removed {
            old.len()
        } else {
            new.len()
        },
        bytes: difference(sum(old), sum(new)),
        selected: false,
    }
}

fn difference(before: u64, after: u64) -> i64 {
    let size = i64::try_from(before.abs_diff(after)).unwrap_or(i64::MAX);
    if after < before { -size } else { size }
}

/// All paths of one version.
type Version<'l, 'a> = &'l [Named<'a>];

/// Pairs old versions with new ones, most alike first, and takes them out of the lists; both lists end up in Nix's order.
fn pair<'l, 'a>(
    old: &mut Vec<Version<'l, 'a>>,
    new: &mut Vec<Version<'l, 'a>>,
) -> Vec<(Version<'l, 'a>, Version<'l, 'a>)> {
    let order = |a: &Version<'l, 'a>, b: &Version<'l, 'a>| {
        let (a, b) = (version(a), version(b));
        compare_versions(a, b).then_with(|| a.cmp(b))
    };
    old.sort_by(order);
    new.sort_by(order);
    let mut pairs = Vec::new();
    while !old.is_empty() && !new.is_empty() {
        let mut best = (0, 0, 0);
        for (i, a) in old.iter().enumerate() {
            for (j, b) in new.iter().enumerate() {
                let alike = 1 + components(version(a))
                    .zip(components(version(b)))
                    .take_while(|(x, y)| x == y)
                    .count();
                if alike > best.0 {
                    best = (alike, i, j);
                }
            }
        }
        pairs.push((old.remove(best.1), new.remove(best.2)));
    }
    pairs.sort_by(|a, b| order(&a.0, &b.0));
    pairs
}

impl Change {
    /// The change without its mark: `nginx 1.26.1 → 1.26.2 (+12 KiB)`.
    pub fn text(&self) -> String {
        let mut text = self.name.clone();
        let shown = |version: &str| {
            if version.is_empty() {
                "(no version)".to_string()
            } else {
                version.to_string()
            }
        };
        match (&self.old, &self.new) {
            (Some(old), Some(new)) if old != new => text += &format!(" {} → {}", shown(old), shown(new)),
            (_, Some(version)) | (Some(version), None) if !version.is_empty() => {
                text += &format!(" {version}")
            }
            _ => {}
        }
        if self.old.is_some() && self.new.is_some() {
            for (sign, outputs) in [('+', &self.outputs_added), ('-', &self.outputs_removed)] {
                for output in outputs {
                    text += &format!(" {sign}{output}");
                }
            }
        }
        let mut notes = Vec::new();
        if self.kind == Kind::Rebuilt {
            notes.push(if self.paths == 1 {
                "rebuilt".to_string()
            } else {
                format!("rebuilt, {} paths", self.paths)
            });
        }
        if self.bytes != 0 {
            notes.push(size_delta(self.bytes));
        }
        if !notes.is_empty() {
            text += &format!(" ({})", notes.join(", "));
        }
        if self.selected {
            text += ", selected";
        }
        text
    }

    /// The change as one line, with a mark for its kind.
    pub fn line(&self) -> String {
        let mark = match self.kind {
            Kind::Upgraded => '↑',
            Kind::Downgraded => '↓',
            Kind::Added => '+',
            Kind::Removed => '-',
            Kind::Rebuilt => '~',
        };
        format!("{mark} {}", self.text())
    }
}

/// A difference of sizes: `+12 KiB`, `-3.4 MiB`, `±0`.
pub fn size_delta(bytes: i64) -> String {
    if bytes == 0 {
        return "±0".to_string();
    }
    let sign = if bytes < 0 { '-' } else { '+' };
    let size = bytes.unsigned_abs();
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    // Tenths of a unit, rounded.
    let mut tenths = u128::from(size) * 10;
    while tenths >= 10_235 && unit + 1 < UNITS.len() {
        tenths = (tenths + 512) / 1024;
        unit += 1;
    }
    if unit == 0 || tenths >= 100 || tenths.is_multiple_of(10) {
        format!("{sign}{} {}", (tenths + 5) / 10, UNITS[unit])
    } else {
        format!("{sign}{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

#[cfg(test)]
#[path = "packages_tests.rs"]
mod tests;
