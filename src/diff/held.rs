//! What two systems really hold, by content: the parts of the toplevel, units, files of `/etc`, users. Unlike derivations
//! it can be told as long as the two closures are there.

mod follow;
mod side;
mod users;

use super::names::parse_drv_name;
use super::root::Part;
use super::units::{Entry, EntryDiff};
use follow::followed;
use serde::{Deserialize, Serialize};
use side::{Found, Side, entry};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use users::users;

/// One file of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    File(Vec<u8>),
    /// A symbolic link, by its target.
    Link(String),
    Directory,
}

/// Files of some store paths, by their full paths.
pub type Files = BTreeMap<String, Node>;

/// One path of a closure.
#[derive(Debug, Clone)]
pub struct HeldPath<'a> {
    pub path: &'a str,
    /// Its NAR size.
    pub bytes: u64,
    pub references: Vec<&'a str>,
}

/// A file in the toplevel that leads to a part of the system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartChange {
    #[serde(flatten)]
    pub part: Part,
    /// The store names that it led and leads to.
    pub old: Option<String>,
    pub new: Option<String>,
}

/// How two systems differ in what they hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub parts: Vec<PartChange>,
    /// `+ user alice`, `~ user bob: shell`, `- group web`: names of fields, never their values.
    pub users: Vec<String>,
    pub units: EntryDiff,
    /// By the path below `/etc`.
    pub etc: EntryDiff,
    /// The toplevel's own files.
    pub system: EntryDiff,
}

/// Files of a path that is bigger are not compared.
const BIG: u64 = 512 << 10;
/// More than this is not read of one side.
const ALL: u64 = 24 << 20;
/// A unit's file is 3 steps from the toplevel, what it names 4.
const DEEP: usize = 6;

/// The changed paths of one side whose files tell what it holds: configuration, as far as the toplevel's `/etc` refers to it,
/// and no package. `other` are the paths of the other side.
pub fn wanted<'a>(toplevel: &'a str, side: &[HeldPath<'a>], other: &HashSet<&str>) -> Vec<&'a str> {
    let known: HashMap<&str, &HeldPath<'a>> = side.iter().map(|path| (path.path, path)).collect();
    let mut seen = HashSet::from([toplevel]);
    let mut open = VecDeque::from([(toplevel, 0)]);
    let mut found = Vec::new();
    let mut bytes = 0;
    while let Some((path, depth)) = open.pop_front() {
        let Some(entry) = known.get(path) else { continue };
        if other.contains(path) || entry.bytes > BIG || bytes + entry.bytes > ALL {
            continue;
        }
        bytes += entry.bytes;
        found.push(path);
        if depth == DEEP {
            continue;
        }
        for reference in &entry.references {
            let name = store_name(reference);
            let chosen = match depth {
                0 => name == "etc" || name.starts_with(USERS),
                _ => !is_package(name),
            };
            if chosen && seen.insert(*reference) {
                open.push_back((*reference, depth + 1));
            }
        }
    }
    found
}

/// Packages have a version (nixpkgs); units and entries of `/etc` are called so (nixpkgs, `nixos/lib/systemd-lib.nix`,
/// `nixos/modules/system/etc/etc.nix`).
fn is_package(name: &str) -> bool {
    !["unit-", "etc-", "user-units", "system-units"]
        .iter()
        .any(|start| name.starts_with(start))
        && !parse_drv_name(name).1.is_empty()
}

/// The name of a store path, or of a file in one: `nginx.conf`.
fn store_name(path: &str) -> &str {
    let base = path.strip_prefix("/nix/store/").unwrap_or(path);
    let base = base.split('/').next().unwrap_or(base);
    base.split_at_checked(33).map_or(base, |(_, name)| name)
}

/// What the activation script is given of users and groups (nixpkgs, `nixos/modules/config/users-groups.nix`).
const USERS: &str = "users-groups.json";
/// The toplevel's links to parts (nixpkgs, `nixos/modules/system/activation/top-level.nix`).
const PARTS: [(&str, Part); 4] = [
    ("kernel", Part::Kernel),
    ("kernel-modules", Part::Kernel),
    ("initrd", Part::Initrd),
    ("systemd", Part::Systemd),
];
/// The toplevel's files that repeat what the others say, or label it.
const LABELS: [&str; 4] = [
    "boot.json",
    "nixos-version",
    "extra-dependencies",
    "configuration-name",
];

impl Held {
    /// Compares two toplevels by those of their files that were read: see [`wanted`]. `None`: a toplevel itself was not.
    pub fn new(old: (&str, &Files), new: (&str, &Files)) -> Option<Held> {
        let [old, new] = [old, new].map(|(top, files)| Side { top, files });
        let mut held = Held::default();
        if old.top == new.top {
            return Some(held);
        }
        if [&old, &new].iter().any(|side| side.resolve(side.top).is_none()) {
            return None;
        }
        held.parts = parts(&old, &new);
        held.users = users(&old, &new);
        let own = |side: &Side<'_>| -> BTreeMap<String, Entry> {
            let files = side.children(side.top);
            files
                .filter(|(_, name, node)| matches!(node, Node::File(_)) && !LABELS.contains(name))
                .map(|(_, name, node)| (name.to_owned(), entry(node)))
                .collect()
        };
        held.system = EntryDiff::new(&own(&old), &own(&new));
        // What they name is compared where it stands.
        held.system.changed.retain(|change| !change.only_store_paths);
        let trees = [&old, &new].map(|side| side.entries(&etc(side)));
        held.units = compared(&old, &new, &trees, true);
        held.etc = compared(&old, &new, &trees, false);
        Some(held)
    }

    pub fn is_empty(&self) -> bool {
        *self == Held::default()
    }

    /// Every part that differs, for whoever judges the risk.
    pub fn changed_parts(&self) -> Vec<Part> {
        let units = self.units.names().map(|name| Part::Unit(unit_of(name)));
        let etc = self.etc.names().map(|name| Part::Etc(name.to_owned()));
        let users = (!self.users.is_empty()).then_some(Part::Users);
        let parts = self.parts.iter().map(|change| change.part.clone());
        parts.chain(users).chain(units).chain(etc).collect()
    }

    /// How many units, files and users were changed, came or went; what was only rebuilt does not count.
    pub fn count(&self) -> usize {
        let all = [&self.units, &self.etc, &self.system];
        all.iter().map(|diff| diff.count()).sum::<usize>() + self.users.len()
    }

    /// One line for each kind of thing: `units: ~ nginx.service (nginx.conf), + web.service; 12 only rebuilt`. Of each kind at
    /// most `most` are named. Parts that are `told` elsewhere are left out.
    pub fn lines(&self, most: usize, told: &[&Part]) -> Vec<String> {
        let mut lines = Vec::new();
        for change in self.parts.iter().filter(|change| !told.contains(&&change.part)) {
            let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
            let (part, old, new) = (change.part.word(), name(&change.old), name(&change.new));
            lines.push(match old == new {
                true => format!("{part}: {new} rebuilt"),
                false => format!("{part}: {old} → {new}"),
            });
        }
        lines.extend(line("users", self.users.clone(), 0, most));
        let (wall, units): (Vec<String>, Vec<String>) = (
            self.units.named(is_firewall),
            self.units.named(|unit| !is_firewall(unit)),
        );
        lines.extend(line("firewall", wall, 0, most));
        lines.extend(line("units", units, self.units.rebuilt(), most));
        lines.extend(line("/etc", self.etc.named(|_| true), self.etc.rebuilt(), most));
        lines.extend(line("system", self.system.named(|_| true), 0, most));
        lines
    }

    /// Everything whose content changed with the lines that went and came: a name, then its lines.
    pub fn texts(&self) -> Vec<(String, Vec<String>)> {
        let kinds = [
            ("", &self.units),
            ("/etc/", &self.etc),
            ("system: ", &self.system),
        ];
        let mut all = Vec::new();
        for (prefix, diff) in kinds {
            for change in diff.changed.iter().filter(|change| !change.only_store_paths) {
                let mut lines = change.lines.clone();
                for file in &change.files {
                    lines.push(format!("{}:", file.name));
                    lines.extend(file.lines.iter().map(|line| format!("  {line}")));
                }
                all.push((format!("{prefix}{}", change.name), lines));
            }
        }
        all
    }
}

fn line(kind: &str, mut names: Vec<String>, rebuilt: usize, most: usize) -> Option<String> {
    if names.is_empty() && rebuilt == 0 {
        return None;
    }
    if names.len() > most {
        let more = names.len() - most;
        names.truncate(most);
        names.push(format!("… and {more} more"));
    }
    let rebuilt = (rebuilt > 0).then(|| format!("{rebuilt} only rebuilt"));
    let names = (!names.is_empty()).then(|| names.join(", "));
    let all: Vec<String> = names.into_iter().chain(rebuilt).collect();
    Some(format!("{kind}: {}", all.join("; ")))
}

/// The unit that a file below `systemd/system` is of: `nginx.service.d/limits.conf`, `multi-user.target.wants/nginx.service`.
fn unit_of(name: &str) -> String {
    match name.split_once('/') {
        Some((dir, _)) if dir.ends_with(".d") => dir[..dir.len() - 2].to_owned(),
        Some((_, unit)) => unit.to_owned(),
        None => name.to_owned(),
    }
}

fn is_firewall(name: &str) -> bool {
    let unit = unit_of(name);
    let stem = unit.split('.').next().unwrap_or_default();
    ["firewall", "nftables", "iptables"].contains(&stem)
}

/// Where the toplevel's `/etc` stands.
fn etc(side: &Side<'_>) -> String {
    let path = format!("{}/etc", side.top);
    side.resolve(&path).map_or(path, |(at, _)| at.to_owned())
}

fn parts(old: &Side<'_>, new: &Side<'_>) -> Vec<PartChange> {
    let of = |side: &Side<'_>, name: &str| match side.files.get(&format!("{}/{name}", side.top)) {
        Some(Node::Link(target)) => Some(target.clone()),
        _ => None,
    };
    let mut all = Vec::new();
    for (name, part) in PARTS {
        let (before, after) = (of(old, name), of(new, name));
        if before != after {
            let named = |target: Option<String>| target.map(|target| store_name(&target).to_owned());
            let (old, new) = (named(before), named(after));
            all.push(PartChange { part, old, new });
        }
    }
    all
}

/// Units, or everything else of `/etc`.
fn compared(
    old: &Side<'_>,
    new: &Side<'_>,
    [before, after]: &[BTreeMap<String, Found<'_>>; 2],
    units: bool,
) -> EntryDiff {
    let key = |path: &str| -> Option<String> {
        let unit = path
            .strip_prefix("systemd/system/")
            .map(str::to_owned)
            .or_else(|| {
                path.strip_prefix("systemd/user/")
                    .map(|name| format!("user/{name}"))
            });
        match units {
            true => unit,
            false => unit.is_none().then(|| path.to_owned()),
        }
    };
    let side = |found: &BTreeMap<String, Found<'_>>| -> BTreeMap<String, Entry> {
        let chosen = found.iter().filter_map(|(path, found)| Some((key(path)?, found)));
        chosen.map(|(key, found)| (key, found.entry.clone())).collect()
    };
    let at = |found: &BTreeMap<String, Found<'_>>| -> HashMap<String, String> {
        let chosen = found
            .iter()
            .filter_map(|(path, found)| Some((key(path)?, found.at?)));
        chosen.map(|(key, at)| (key, at.to_owned())).collect()
    };
    let mut diff = EntryDiff::new(&side(before), &side(after));
    let (from, to) = (at(before), at(after));
    for change in &mut diff.changed {
        if let (Some(from), Some(to)) = (from.get(&change.name), to.get(&change.name)) {
            followed(old, new, (from, to), change);
        }
    }
    // Whether a unit is wanted is told where it stays itself.
    let moved: BTreeSet<String> = diff.added.iter().chain(&diff.removed).cloned().collect();
    let is_news = |name: &String| !name.contains('/') || !moved.contains(&unit_of(name));
    diff.added.retain(is_news);
    diff.removed.retain(is_news);
    diff
}

#[cfg(test)]
mod tests;
