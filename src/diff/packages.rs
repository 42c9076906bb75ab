//! Which packages differ between two closures.
//!
//! A line of the diff is about one version of one package: where a closure holds several versions of a package (two
//! openssl, a linux and its older sibling), the versions both sides have are compared with each other, and only what is
//! left is paired as a move from one version to another.

use super::names::{PackageName, compare_versions, components};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

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

/// One version of a package in one closure: output to its paths, with their sizes.
type Version<'a> = BTreeMap<String, BTreeMap<&'a str, u64>>;
/// Package name to version to that.
type Packages<'a> = BTreeMap<String, BTreeMap<String, Version<'a>>>;

/// Packages by name, those of `names` alone.
fn collect<'a>(named: &[(&'a str, u64, PackageName)], names: &BTreeSet<&str>) -> Packages<'a> {
    let mut packages = Packages::new();
    for (path, bytes, name) in named
        .iter()
        .filter(|(_, _, name)| names.contains(name.name.as_str()))
    {
        let name = name.clone();
        let version = packages
            .entry(name.name)
            .or_default()
            .entry(name.version)
            .or_default();
        version.entry(name.output).or_default().insert(path, *bytes);
    }
    packages
}

fn paths<'a>(version: &'a Version<'a>) -> impl Iterator<Item = (&'a str, u64)> {
    version.values().flatten().map(|(path, bytes)| (*path, *bytes))
}

impl PackageDiff {
    /// Compares the closure of what runs with that of the candidate.
    pub fn new<'a>(
        old: impl IntoIterator<Item = PathSize<'a>>,
        new: impl IntoIterator<Item = PathSize<'a>>,
    ) -> PackageDiff {
        let old: BTreeMap<&'a str, PathSize<'a>> = old.into_iter().map(|entry| (entry.path, entry)).collect();
        let new: BTreeMap<&'a str, PathSize<'a>> = new.into_iter().map(|entry| (entry.path, entry)).collect();
        let bytes = |side: &BTreeMap<&str, PathSize<'_>>| {
            side.values().fold(0u64, |sum, e| sum.saturating_add(e.bytes))
        };
        let mut diff = PackageDiff {
            totals: Totals {
                paths_before: old.len(),
                paths_after: new.len(),
                bytes_before: bytes(&old),
                bytes_after: bytes(&new),
                paths_new: new.keys().filter(|path| !old.contains_key(*path)).count(),
                paths_gone: old.keys().filter(|path| !new.contains_key(*path)).count(),
            },
            ..PackageDiff::default()
        };
        // The same path may come with a deriver on one side only; it must bear one name on both.
        let merged = |side: &BTreeMap<&'a str, PathSize<'a>>, other: &BTreeMap<&'a str, PathSize<'a>>| {
            let named = side.iter().map(|(path, entry)| {
                let known = match other.get(path) {
                    Some(twin) => entry.deriver.into_iter().chain(twin.deriver).min(),
                    None => entry.deriver,
                };
                (*path, entry.bytes, PackageName::of_path(path, known))
            });
            named.collect::<Vec<_>>()
        };
        let (before, after) = (merged(&old, &new), merged(&new, &old));
        // Only packages with a path that came or went differ.
        let came = after.iter().filter(|(path, ..)| !old.contains_key(path));
        let went = before.iter().filter(|(path, ..)| !new.contains_key(path));
        let moved: BTreeSet<&str> = came.chain(went).map(|(_, _, name)| name.name.as_str()).collect();
        let (before, after) = (collect(&before, &moved), collect(&after, &moved));
        let none = BTreeMap::new();
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names {
            diff.package(
                name,
                before.get(name).unwrap_or(&none),
                after.get(name).unwrap_or(&none),
            );
        }
        diff
    }

    fn package(
        &mut self,
        name: &str,
        old: &BTreeMap<String, Version<'_>>,
        new: &BTreeMap<String, Version<'_>>,
    ) {
        let mut gone: Vec<&str> = Vec::new();
        for (version, before) in old {
            match new.get(version) {
                Some(after) => self.push(same_version(name, version, before, after)),
                None => gone.push(version),
            }
        }
        let mut come: Vec<&str> = new
            .keys()
            .filter(|v| !old.contains_key(*v))
            .map(String::as_str)
            .collect();
        for (from, to) in pair(&mut gone, &mut come) {
            let kind = match compare_versions(from, to) {
                Ordering::Less => Kind::Upgraded,
                Ordering::Greater => Kind::Downgraded,
                Ordering::Equal => Kind::Rebuilt,
            };
            self.push(Some(change(
                kind,
                name,
                Some((from, &old[from])),
                Some((to, &new[to])),
            )));
        }
        for version in gone {
            self.push(Some(change(
                Kind::Removed,
                name,
                Some((version, &old[version])),
                None,
            )));
        }
        for version in come {
            self.push(Some(change(
                Kind::Added,
                name,
                None,
                Some((version, &new[version])),
            )));
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
            .map(|entry| PackageName::of_path(entry.path, entry.deriver));
        let chosen: BTreeSet<(String, String)> = names.map(|name| (name.name, name.version)).collect();
        let lists = [
            &mut self.upgraded,
            &mut self.downgraded,
            &mut self.added,
            &mut self.removed,
            &mut self.rebuilt,
        ];
        for change in lists.into_iter().flatten() {
            let version = change.new.as_ref().or(change.old.as_ref());
            let key = (change.name.clone(), version.cloned().unwrap_or_default());
            change.selected = chosen.contains(&key);
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
fn same_version(name: &str, version: &str, old: &Version<'_>, new: &Version<'_>) -> Option<Change> {
    let (before, after): (BTreeMap<&str, u64>, BTreeMap<&str, u64>) =
        (paths(old).collect(), paths(new).collect());
    if before.keys().eq(after.keys()) {
        return None;
    }
    let come = after.keys().filter(|path| !before.contains_key(*path)).count();
    let gone = before.keys().filter(|path| !after.contains_key(*path)).count();
    let kind = match (gone, come) {
        (0, _) => Kind::Added,
        (_, 0) => Kind::Removed,
        _ => Kind::Rebuilt,
    };
    let mut change = change(kind, name, Some((version, old)), Some((version, new)));
    change.paths = if kind == Kind::Removed { gone } else { come };
    Some(change)
}

fn change(
    kind: Kind,
    name: &str,
    old: Option<(&str, &Version<'_>)>,
    new: Option<(&str, &Version<'_>)>,
) -> Change {
    let none = Version::new();
    let (before, after) = (old.map_or(&none, |(_, v)| v), new.map_or(&none, |(_, v)| v));
    let sum = |version: &Version<'_>| paths(version).fold(0u64, |sum, (_, bytes)| sum.saturating_add(bytes));
    let lacking = |side: &Version<'_>, other: &Version<'_>| -> Vec<String> {
        side.keys()
            .filter(|output| !other.contains_key(*output))
            .cloned()
            .collect()
    };
    Change {
        kind,
        name: name.to_string(),
        old: old.map(|(version, _)| version.to_string()),
        new: new.map(|(version, _)| version.to_string()),
        outputs_added: lacking(after, before),
        outputs_removed: lacking(before, after),
        paths: if kind == Kind::Removed {
            paths(before).count()
        } else {
            paths(after).count()
        },
        bytes: difference(sum(before), sum(after)),
        selected: false,
    }
}

fn difference(before: u64, after: u64) -> i64 {
    let size = i64::try_from(before.abs_diff(after)).unwrap_or(i64::MAX);
    if after < before { -size } else { size }
}

/// Pairs old versions with new ones, most alike first, and takes them out of the lists; both lists end up in Nix's order.
fn pair<'a>(old: &mut Vec<&'a str>, new: &mut Vec<&'a str>) -> Vec<(&'a str, &'a str)> {
    let order = |a: &&str, b: &&str| compare_versions(a, b).then_with(|| a.cmp(b));
    old.sort_by(order);
    new.sort_by(order);
    let mut pairs = Vec::new();
    while !old.is_empty() && !new.is_empty() {
        let mut best = (0, 0, 0);
        for (i, a) in old.iter().enumerate() {
            for (j, b) in new.iter().enumerate() {
                let alike = 1 + components(a)
                    .zip(components(b))
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
