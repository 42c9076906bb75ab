//! Which flake inputs moved between two `flake.lock` files, transitive ones included.
//!
//! A lock file is a graph of nodes; people know its inputs by their path from the root (`hyprland/nixpkgs`). An input
//! that only `follows` another one has no lock of its own and is not listed.

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// More input paths than any real flake has; a lock file that unfolds into more is made to hurt.
const MOST_PATHS: usize = 20_000;
/// Deeper than any real flake nests.
const MOST_DEEP: usize = 64;

/// What a lock file says about one input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedInput {
    /// The commit, where it is one.
    pub rev: Option<String>,
    pub nar_hash: Option<String>,
    /// `github:NixOS/nixpkgs`
    pub url: String,
    /// The branch or tag that is followed, if one is named.
    pub reference: Option<String>,
    /// Everything that is locked, except figures derived from it; what decides whether the input moved.
    #[serde(skip)]
    identity: BTreeMap<String, String>,
    /// Everything that is locked, without JSON's quotes.
    #[serde(skip)]
    locked: BTreeMap<String, String>,
}

/// A lock file that cannot be read, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("flake.lock: {0}")]
pub struct BadLock(String);

/// One input that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputChange {
    /// From the root, joined with slashes.
    pub path: String,
    pub old: Option<LockedInput>,
    pub new: Option<LockedInput>,
}

/// What differs between two lock files, each list in the order of paths.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputDiff {
    pub moved: Vec<InputChange>,
    pub added: Vec<InputChange>,
    pub removed: Vec<InputChange>,
}

/// Every input of a lock file with a lock of its own, by its path from the root.
pub fn lock_inputs(text: &str) -> Result<BTreeMap<String, LockedInput>, BadLock> {
    let lock: Value = serde_json::from_str(text).map_err(|error| BadLock(format!("not JSON: {error}")))?;
    let version = lock.get("version").and_then(Value::as_u64);
    if !matches!(version, Some(5..=7)) {
        return Err(BadLock("only versions 5 to 7 are known".into()));
    }
    let nodes = lock
        .get("nodes")
        .and_then(Value::as_object)
        .ok_or_else(|| BadLock("it has no `nodes`".into()))?;
    let root = lock
        .get("root")
        .and_then(Value::as_str)
        .ok_or_else(|| BadLock("it has no `root`".into()))?;
    let mut walk = Walk {
        nodes,
        inputs: BTreeMap::new(),
    };
    walk.node(root, "", &mut Vec::new())?;
    Ok(walk.inputs)
}

struct Walk<'a> {
    nodes: &'a Map<String, Value>,
    inputs: BTreeMap<String, LockedInput>,
}

impl<'a> Walk<'a> {
    /// Visits the inputs of the node `key`, which is at `path`; `above` are the keys on the way to it.
    fn node(&mut self, key: &'a str, path: &str, above: &mut Vec<&'a str>) -> Result<(), BadLock> {
        let node = self.nodes.get(key).and_then(Value::as_object);
        let node = node.ok_or_else(|| BadLock(format!("there is no node `{}`", key.escape_debug())))?;
        if above.contains(&key) || above.len() >= MOST_DEEP {
            return Err(BadLock(format!(
                "the inputs of `{}` never end",
                key.escape_debug()
            )));
        }
        if !path.is_empty() {
            self.inputs.insert(path.to_string(), locked(key, node)?);
            if self.inputs.len() > MOST_PATHS {
                return Err(BadLock(format!("more than {MOST_PATHS} inputs")));
            }
        }
        let inputs = match node.get("inputs") {
            None => return Ok(()),
            Some(inputs) => inputs.as_object(),
        };
        let inputs =
            inputs.ok_or_else(|| BadLock(format!("the inputs of `{}` are no map", key.escape_debug())))?;
        above.push(key);
        for (name, target) in inputs {
            match target {
                Value::String(next) => {
                    let path = if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}/{name}")
                    };
                    self.node(next, &path, above)?;
                }
                // It follows another input, which is listed under its own path.
                Value::Array(_) => {}
                _ => {
                    let (key, name) = (key.escape_debug(), name.escape_debug());
                    return Err(BadLock(format!(
                        "the input `{name}` of `{key}` is neither a node nor a path"
                    )));
                }
            }
        }
        above.pop();
        Ok(())
    }
}

fn locked(key: &str, node: &Map<String, Value>) -> Result<LockedInput, BadLock> {
    let locked = node.get("locked").and_then(Value::as_object);
    let locked = locked.ok_or_else(|| BadLock(format!("the node `{}` is not locked", key.escape_debug())))?;
    let text = |name: &str| locked.get(name).and_then(Value::as_str).map(ToString::to_string);
    let original = node
        .get("original")
        .and_then(|original| original.get("ref"))
        .and_then(Value::as_str);
    let identity = locked
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "lastModified" | "revCount"))
        .map(|(name, value)| (name.clone(), value.to_string()))
        .collect();
    let bare = locked.iter().map(|(name, value)| {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), ToString::to_string);
        (name.clone(), text)
    });
    Ok(LockedInput {
        locked: bare.collect(),
        rev: text("rev"),
        nar_hash: text("narHash"),
        url: url(&text),
        reference: original.map(ToString::to_string),
        identity,
    })
}

/// `github:NixOS/nixpkgs`, `git:https://…`, `path:/…`: where it comes from, without its revision.
fn url(text: &dyn Fn(&str) -> Option<String>) -> String {
    let kind = text("type").unwrap_or_default();
    match (text("owner"), text("repo"), text("url").or_else(|| text("path"))) {
        (Some(owner), Some(repo), _) => format!("{kind}:{owner}/{repo}"),
        (_, _, Some(place)) => format!("{kind}:{place}"),
        _ => kind,
    }
}

impl LockedInput {
    /// What is locked as Nix takes it on the command line: its contents where they are in the store, with what is known
    /// of the commit, which systems carry in their versions; else where they came from.
    pub fn references(&self, source: Option<&str>) -> Vec<String> {
        let get = |name: &str| self.locked.get(name);
        let query = |names: &[&str]| -> String {
            let known = names.iter().filter_map(|name| Some((name, get(name)?)));
            let parts: Vec<String> = known
                .map(|(name, value)| format!("{name}={}", percent_encode(value.as_bytes(), NON_ALPHANUMERIC)))
                .collect();
            parts.join("&")
        };
        let mut all = Vec::new();
        if let Some(source) = source {
            let with = query(&["lastModified", "narHash", "rev", "revCount"]);
            all.push(format!("path:{source}?{with}"));
        }
        let kind = get("type").map_or("", String::as_str);
        match (kind, get("owner"), get("repo"), get("rev"), get("url")) {
            ("github" | "gitlab" | "sourcehut", Some(owner), Some(repo), Some(rev), _) => {
                let host = query(&["host", "narHash"]);
                all.push(format!("{kind}:{owner}/{repo}/{rev}?{host}"));
            }
            ("git", _, _, Some(_), Some(url)) => {
                let joint = if url.contains('?') { '&' } else { '?' };
                all.push(format!("git+{url}{joint}{}", query(&["ref", "rev"])));
            }
            ("tarball" | "file", _, _, _, Some(url)) => {
                let joint = if url.contains('?') { '&' } else { '?' };
                all.push(format!("{kind}+{url}{joint}{}", query(&["narHash"])));
            }
            _ => {}
        }
        all
    }

    /// The commit's first digits, else those of the contents' hash.
    pub fn short(&self) -> String {
        let text = self.rev.as_deref().or(self.nar_hash.as_deref()).unwrap_or("?");
        text.strip_prefix("sha256-")
            .unwrap_or(text)
            .chars()
            .take(12)
            .collect()
    }
}

impl InputChange {
    /// Whether this is an input of an input.
    pub fn is_transitive(&self) -> bool {
        self.path.contains('/')
    }

    /// The root input it is, or is below.
    pub fn root(&self) -> &str {
        self.path.split('/').next().unwrap_or(&self.path)
    }

    /// `nixpkgs 0c19708cf035 → 8a21df4e21c3`
    pub fn text(&self) -> String {
        let path = &self.path;
        match (&self.old, &self.new) {
            (Some(old), Some(new)) if old.url != new.url => {
                format!("{path} {} {} → {} {}", old.url, old.short(), new.url, new.short())
            }
            (Some(old), Some(new)) => format!("{path} {} → {}", old.short(), new.short()),
            (None, Some(new)) => format!("{path} {} {}", new.url, new.short()),
            (Some(old), None) => format!("{path} {} {}", old.url, old.short()),
            (None, None) => path.clone(),
        }
    }
}

impl InputDiff {
    /// Compares two lock files; an empty text is a flake without one.
    pub fn new(old: &str, new: &str) -> Result<InputDiff, BadLock> {
        let read = |text: &str| {
            if text.trim().is_empty() {
                Ok(BTreeMap::new())
            } else {
                lock_inputs(text)
            }
        };
        let (mut before, after) = (read(old)?, read(new)?);
        let mut diff = InputDiff::default();
        for (path, input) in after {
            let earlier = before.remove(&path);
            let change = |old| InputChange {
                path: path.clone(),
                old,
                new: Some(input.clone()),
            };
            match earlier {
                Some(old) if old.identity == input.identity => {}
                Some(old) => diff.moved.push(change(Some(old))),
                None => diff.added.push(change(None)),
            }
        }
        diff.removed = before
            .into_iter()
            .map(|(path, old)| InputChange {
                path,
                old: Some(old),
                new: None,
            })
            .collect();
        Ok(diff)
    }

    pub fn is_empty(&self) -> bool {
        self.moved.is_empty() && self.added.is_empty() && self.removed.is_empty()
    }

    /// One line per input: `~ nixpkgs … → …`, `+ disko …`, `- nur …`.
    pub fn lines(&self) -> Vec<String> {
        [('~', &self.moved), ('+', &self.added), ('-', &self.removed)]
            .iter()
            .flat_map(|(mark, list)| list.iter().map(move |change| format!("{mark} {}", change.text())))
            .collect()
    }
}
