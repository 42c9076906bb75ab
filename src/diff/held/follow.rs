//! What a changed file names is part of it: a unit's program, the configuration that it is told to read.

use super::super::units::{EntryChange, FileChange, changed_words, masked};
use super::side::Side;
use super::{DEEP, Node, store_name};
use std::collections::{HashMap, HashSet, VecDeque};

/// Looks into the files that two versions of a text name: what a unit is told to read is part of it.
pub(super) fn followed(old: &Side<'_>, new: &Side<'_>, (from, to): (&str, &str), change: &mut EntryChange) {
    let mut open = vec![(from.to_owned(), to.to_owned(), 0)];
    let mut seen: HashSet<String> = HashSet::from([to.to_owned()]);
    while let Some((from, to, depth)) = open.pop() {
        let (Some((_, before)), Some((_, after))) = (old.text(&from), new.text(&to)) else {
            continue;
        };
        if depth > 0 && masked(&before) != masked(&after) {
            change.files.push(FileChange {
                name: file_name(&to),
                lines: changed_words(&before, &after),
            });
        }
        if depth == DEEP {
            continue;
        }
        for (from, to) in paired(&before, &after) {
            let inside = |side: &Side<'_>, path: &str| -> Vec<(String, String)> {
                match side.resolve(path) {
                    Some((at, Node::Directory)) => side
                        .children(at)
                        .map(|(path, name, _)| (name.to_owned(), path.to_owned()))
                        .collect(),
                    _ => Vec::new(),
                }
            };
            let theirs: HashMap<String, String> = inside(old, &from).into_iter().collect();
            let below = inside(new, &to).into_iter();
            let mut more: Vec<(String, String)> = below
                .filter_map(|(name, path)| Some((theirs.get(&name)?.clone(), path)))
                .collect();
            more.push((from, to));
            for (from, to) in more {
                if from != to && seen.insert(to.clone()) {
                    open.push((from, to, depth + 1));
                }
            }
        }
    }
    change.files.sort_by(|a, b| a.name.cmp(&b.name));
    change.only_store_paths &= change.files.is_empty();
}

/// `nginx.conf`, `firewall-start`: the store path's name where the file is all of it, else the file's own.
fn file_name(path: &str) -> String {
    path.rsplit_once('/')
        .map_or(path, |(dir, base)| match dir {
            "/nix/store" => store_name(path),
            _ => base,
        })
        .to_owned()
}

/// The store paths in two texts that differ in their hashes alone, in the order in which they stand.
fn paired(old: &str, new: &str) -> Vec<(String, String)> {
    let mut theirs: HashMap<String, VecDeque<String>> = HashMap::new();
    for path in paths_in(old) {
        theirs.entry(masked(&path)).or_default().push_back(path);
    }
    let mut pairs = Vec::new();
    for path in paths_in(new) {
        let other = theirs.get_mut(&masked(&path)).and_then(VecDeque::pop_front);
        if let Some(other) = other.filter(|other| *other != path) {
            pairs.push((other, path));
        }
    }
    pairs
}

/// Paths into the store, each once.
fn paths_in(text: &str) -> Vec<String> {
    let mut seen = HashSet::new();
    let found = text.match_indices("/nix/store/").map(|(at, _)| {
        let rest = &text[at..];
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "+-._?=/@".contains(c)))
            .unwrap_or(rest.len());
        rest[..end].trim_end_matches(['.', '/']).to_owned()
    });
    found.filter(|path| seen.insert(path.clone())).collect()
}
