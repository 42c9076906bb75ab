//! Which systemd units and `/etc` entries differ between two systems.
//!
//! The caller reads both sides; links into the store are best given as the contents they lead to, because every rebuild
//! changes where they lead.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What stands under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file's text.
    Text(String),
    /// A file that is too big or no text, by its hash.
    Hash(String),
    /// A symbolic link, by its target.
    Link(String),
    Directory,
}

/// How an entry differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EntryChange {
    pub name: String,
    /// Nothing differs but the hashes of store paths: what it refers to was rebuilt, or is too big to be read.
    pub only_store_paths: bool,
    /// The lines that went (`- …`) and came (`+ …`), where it is a text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// Files that it names and that were changed themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileChange>,
}

/// A file that an entry names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    pub name: String,
    pub lines: Vec<String>,
}

/// The differences between two directories, each list in the order of names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryDiff {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub changed: Vec<EntryChange>,
}

impl EntryDiff {
    /// Compares what runs with the candidate.
    pub fn new(old: &BTreeMap<String, Entry>, new: &BTreeMap<String, Entry>) -> EntryDiff {
        let mut diff = EntryDiff::default();
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            match (old.get(name), new.get(name)) {
                (Some(_), None) => diff.removed.push(name.clone()),
                (None, Some(_)) => diff.added.push(name.clone()),
                (Some(before), Some(after)) if before != after => diff.changed.push(EntryChange {
                    name: name.clone(),
                    only_store_paths: same_but_for_hashes(before, after),
                    lines: entry_lines(before, after),
                    files: Vec::new(),
                }),
                _ => {}
            }
        }
        diff
    }

    /// The names of all that differs.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let changed = self.changed.iter().map(|change| &change.name);
        changed
            .chain(&self.added)
            .chain(&self.removed)
            .map(String::as_str)
    }

    /// How many were changed, came or went; what was only rebuilt does not count.
    pub fn count(&self) -> usize {
        self.changed.len() - self.rebuilt() + self.added.len() + self.removed.len()
    }

    /// How many were only rebuilt.
    pub fn rebuilt(&self) -> usize {
        self.changed
            .iter()
            .filter(|change| change.only_store_paths)
            .count()
    }

    /// Of those chosen by name each in a few words: `~ nginx.service (nginx.conf)`, `+ …`, `- …`; none that was only
    /// rebuilt.
    pub fn named(&self, chosen: impl Fn(&str) -> bool) -> Vec<String> {
        let changed = self.changed.iter().filter(|change| !change.only_store_paths);
        let changed = changed.map(|change| {
            let files: Vec<&str> = change.files.iter().map(|file| file.name.as_str()).collect();
            let note = match files.is_empty() {
                true => String::new(),
                false => format!(" ({})", files.join(", ")),
            };
            ('~', &change.name, note)
        });
        let added = self.added.iter().map(|name| ('+', name, String::new()));
        let removed = self.removed.iter().map(|name| ('-', name, String::new()));
        let all = changed.chain(added).chain(removed);
        all.filter(|(_, name, _)| chosen(name))
            .map(|(mark, name, note)| format!("{mark} {name}{note}"))
            .collect()
    }
}

fn same_but_for_hashes(old: &Entry, new: &Entry) -> bool {
    match (old, new) {
        (Entry::Text(old), Entry::Text(new)) | (Entry::Link(old), Entry::Link(new)) => {
            masked(old) == masked(new)
        }
        _ => false,
    }
}

/// The text with every store path's hash blanked.
pub fn masked(text: &str) -> String {
    const STORE: &str = "/nix/store/";
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(STORE) {
        let (before, after) = rest.split_at(at + STORE.len());
        masked += before;
        rest = match after.split_at_checked(32) {
            Some((hash, tail)) if hash.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()) => {
                masked += "…";
                tail
            }
            _ => after,
        };
    }
    masked + rest
}

/// The lines of two entries that only one of them has.
fn entry_lines(old: &Entry, new: &Entry) -> Vec<String> {
    match (old, new) {
        (Entry::Text(old), Entry::Text(new)) | (Entry::Link(old), Entry::Link(new)) => {
            changed_words(old, new)
        }
        _ => Vec::new(),
    }
}

/// Lines that only one side has, in the order in which they stand there: those that went (`- …`), those that came (`+ …`).
pub fn changed_lines(old: &str, new: &str) -> Vec<String> {
    let lines = |text: &'_ str| -> Vec<(String, String)> {
        text.lines()
            .map(|line| (line.to_owned(), line.to_owned()))
            .collect()
    };
    changed_parts(&lines(old), &lines(new))
}

/// A text of one line that is longer than this is taken for a list.
const LINE: usize = 80;

/// The same where hashes of store paths do not count; a long text of one line, as lists are written, is taken word by word.
pub fn changed_words(old: &str, new: &str) -> Vec<String> {
    let listed = !old.contains('\n') && !new.contains('\n') && old.len().max(new.len()) > LINE;
    let parts = |text: &'_ str| -> Vec<(String, String)> {
        let parts: Vec<&str> = match listed {
            true => text.split_whitespace().collect(),
            false => text.lines().collect(),
        };
        parts
            .into_iter()
            .map(|part| (masked(part), part.to_owned()))
            .collect()
    };
    changed_parts(&parts(old), &parts(new))
}

/// The parts whose keys only one side has.
fn changed_parts(old: &[(String, String)], new: &[(String, String)]) -> Vec<String> {
    fn only<'a>(side: &'a [(String, String)], other: &'a [(String, String)]) -> Vec<&'a str> {
        let mut left: BTreeMap<&'a str, usize> = BTreeMap::new();
        for (key, _) in other {
            *left.entry(key).or_default() += 1;
        }
        let mut take = |key: &'a str| match left.get_mut(key) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        };
        side.iter()
            .filter(|(key, _)| take(key))
            .map(|(_, part)| part.as_str())
            .collect()
    }
    let gone = only(old, new).into_iter().map(|part| format!("- {part}"));
    let come = only(new, old).into_iter().map(|part| format!("+ {part}"));
    gone.chain(come).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(entries: &[(&str, Entry)]) -> BTreeMap<String, Entry> {
        entries
            .iter()
            .map(|(name, entry)| (name.to_string(), entry.clone()))
            .collect()
    }

    fn text(text: &str) -> Entry {
        Entry::Text(text.to_string())
    }

    #[test]
    fn units_come_go_and_change() {
        let store = |digit: &str| format!("/nix/store/{}-nginx/bin/nginx", digit.repeat(32));
        let unit = |digit: &str, port: &str| text(&format!("[Service]\nExecStart={} {port}\n", store(digit)));
        let old = side(&[
            ("gone.service", text("")),
            ("nginx.service", unit("a", "80")),
            ("port.service", unit("a", "80")),
            ("same.service", text("x")),
            ("mask.service", Entry::Link("/dev/null".into())),
        ]);
        let new = side(&[
            ("come.service", text("")),
            ("nginx.service", unit("b", "80")),
            ("port.service", unit("a", "81")),
            ("same.service", text("x")),
            ("mask.service", text("x")),
        ]);
        let diff = EntryDiff::new(&old, &new);
        assert_eq!(
            diff.named(|_| true),
            [
                "~ mask.service",
                "~ port.service",
                "+ come.service",
                "- gone.service",
            ]
        );
        let before = format!("- ExecStart={} 80", store("a"));
        let after = format!("+ ExecStart={} 81", store("a"));
        assert_eq!(diff.changed[2].lines, [before, after]);
        assert_eq!((diff.count(), diff.rebuilt()), (4, 1));
        assert_eq!(EntryDiff::new(&old, &old), EntryDiff::default());
    }

    #[test]
    fn a_list_is_compared_word_by_word_and_a_text_line_by_line() {
        let path = |digit: &str, name: &str| format!("/nix/store/{}-{name}", digit.repeat(32));
        let (old, new) = (
            format!("{} b {}", path("a", "x"), path("a", "y")),
            format!("{} c", path("b", "x")),
        );
        let gone = format!("- {}", path("a", "y"));
        assert_eq!(changed_words(&old, &new), ["- b", &*gone, "+ c"]);
        assert_eq!(changed_words("a b\nc", "a b\nd e"), ["- c", "+ d e"]);
        assert_eq!(changed_lines("a b\nc", "a b\nd e"), ["- c", "+ d e"]);
    }

    #[test]
    fn hashes_are_masked_wherever_a_store_path_stands() {
        let hash = "0".repeat(32);
        assert_eq!(
            masked(&format!("a=/nix/store/{hash}-x:/nix/store/{hash}-y")),
            "a=/nix/store/…-x:/nix/store/…-y"
        );
        for text in ["", "/nix/store/", "/nix/store/short", "/nix/store/ü", "no path"] {
            assert_eq!(masked(text), text);
        }
    }
}
