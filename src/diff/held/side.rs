//! The files of one system, as far as they were read: what its links lead to.

use super::super::units::Entry;
use super::{DEEP, Files, Node};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// A link that leads through more links leads nowhere.
const LINKS: usize = 16;

/// One system with those of its files that were read.
pub(super) struct Side<'a> {
    pub top: &'a str,
    pub files: &'a Files,
}

impl<'a> Side<'a> {
    /// What stands in a directory, by name.
    pub fn children(&self, dir: &str) -> impl Iterator<Item = (&'a str, &'a str, &'a Node)> + use<'a> {
        let from = format!("{dir}/");
        let length = from.len();
        let inside = self.files.range(from.clone()..);
        inside
            .take_while(move |(path, _)| path.starts_with(&from))
            .map(move |(path, node)| (path.as_str(), &path[length..], node))
            .filter(|(_, name, _)| !name.contains('/'))
    }

    /// Where a path leads, if that was read.
    pub fn resolve(&self, path: &str) -> Option<(&'a str, &'a Node)> {
        let mut path = path.to_owned();
        for _ in 0..LINKS {
            let at = self.linked(&path)?;
            match self.files.get_key_value(&at)? {
                (_, Node::Link(target)) => path = joined(&at, target),
                (key, node) => return Some((key, node)),
            }
        }
        None
    }

    /// The path with links on the way to it replaced.
    fn linked(&self, path: &str) -> Option<String> {
        let mut path = path.to_owned();
        for _ in 0..LINKS {
            if self.files.contains_key(&path) {
                return Some(path);
            }
            let (at, target) = path.match_indices('/').map(|(at, _)| at).find_map(|at| {
                match self.files.get(&path[..at]) {
                    Some(Node::Link(target)) => Some((at, target)),
                    _ => None,
                }
            })?;
            path = format!("{}{}", joined(&path[..at], target), &path[at..]);
        }
        None
    }

    /// Everything below a directory, links to what was read followed.
    pub fn entries(&self, dir: &str) -> BTreeMap<String, Found<'a>> {
        let mut all = BTreeMap::new();
        let mut open = vec![(dir.to_owned(), String::new(), 0)];
        while let Some((dir, prefix, depth)) = open.pop() {
            for (path, name, node) in self.children(&dir) {
                let key = format!("{prefix}{name}");
                let (path, node) = match node {
                    // What leads to a neighbour is told of the neighbour.
                    Node::Link(target) if target.starts_with('/') => {
                        self.resolve(target).unwrap_or((path, node))
                    }
                    node => (path, node),
                };
                match node {
                    Node::Directory if depth < DEEP => {
                        open.push((path.to_owned(), format!("{key}/"), depth + 1));
                    }
                    node => {
                        let at = matches!(node, Node::File(_)).then_some(path);
                        let entry = entry(node);
                        all.insert(key, Found { entry, at });
                    }
                }
            }
        }
        all
    }

    pub fn text(&self, path: &str) -> Option<(&'a str, String)> {
        match self.resolve(path)? {
            (at, Node::File(bytes)) => Some((at, text(bytes)?)),
            _ => None,
        }
    }
}

/// An entry, and where its contents were read.
pub(super) struct Found<'a> {
    pub entry: Entry,
    pub at: Option<&'a str>,
}

pub(super) fn entry(node: &Node) -> Entry {
    match node {
        Node::Directory => Entry::Directory,
        Node::Link(target) => Entry::Link(target.clone()),
        Node::File(bytes) => match text(bytes) {
            Some(text) => Entry::Text(text),
            None => {
                let sum = Sha256::digest(bytes);
                Entry::Hash(sum.iter().map(|byte| format!("{byte:02x}")).collect())
            }
        },
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.contains('\0')).then(|| text.to_owned())
}

/// Where a link at `at` leads.
fn joined(at: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    let mut parts: Vec<&str> = at.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}
