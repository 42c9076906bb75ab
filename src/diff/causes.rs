//! Where the roots of a difference come from: flake inputs that moved between two commits, and files of the repository.

use super::explain::{Explained, Root};
use super::inputs::{InputChange, InputDiff};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What kind of thing a cause is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CauseKind {
    /// A flake input, or one below it.
    Input,
    /// Files of the repository, `flake.lock` apart.
    Files,
}

/// One thing that differs between two commits and may change what is built from them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    pub kind: CauseKind,
    /// The input as the root names it; `files`.
    pub name: String,
    /// Which inputs moved, the transitive ones below it too; which files differ.
    pub what: Vec<String>,
    /// Whether holding it back changes what is evaluated; known only where that was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<bool>,
    /// The names of the roots that go when it is held back.
    #[serde(skip)]
    pub proven: Option<BTreeSet<String>>,
    /// Store paths of its sources, before and after.
    #[serde(skip)]
    pub sources: Vec<String>,
}

/// What lies between two commits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Between {
    pub causes: Vec<Cause>,
    /// The ids of the two commits.
    pub revs: Vec<String>,
}

impl Between {
    /// What may be a cause: each root input that moved itself or in what is below it, and the files that differ.
    /// `source_of` tells the store path of an input's contents by its NAR hash.
    pub fn new(
        inputs: &InputDiff,
        files: &[String],
        revs: [String; 2],
        source_of: impl Fn(&str) -> Option<String>,
    ) -> Between {
        let mut roots: BTreeMap<&str, Vec<(char, &InputChange)>> = BTreeMap::new();
        for (mark, list) in [('~', &inputs.moved), ('+', &inputs.added), ('-', &inputs.removed)] {
            for change in list {
                roots.entry(change.root()).or_default().push((mark, change));
            }
        }
        let mut causes: Vec<Cause> = roots
            .into_iter()
            .map(|(name, mut changes)| {
                changes.sort_by_key(|(_, change)| change.path.clone());
                let sides = changes.iter().flat_map(|(_, change)| [&change.old, &change.new]);
                let sources = sides
                    .flatten()
                    .filter_map(|input| source_of(input.nar_hash.as_deref()?))
                    .collect();
                let what = changes.iter().map(|(mark, change)| match mark {
                    '~' => change.text(),
                    mark => format!("{mark} {}", change.text()),
                });
                Cause {
                    kind: CauseKind::Input,
                    name: name.to_owned(),
                    what: what.collect(),
                    effect: None,
                    proven: None,
                    sources,
                }
            })
            .collect();
        let files: Vec<String> = files
            .iter()
            .filter(|file| file.as_str() != "flake.lock" && !file.ends_with("/flake.lock"))
            .cloned()
            .collect();
        if !files.is_empty() {
            causes.push(Cause {
                kind: CauseKind::Files,
                name: "files".into(),
                what: files,
                effect: None,
                proven: None,
                sources: Vec::new(),
            });
        }
        Between {
            causes,
            revs: revs.to_vec(),
        }
    }
}

/// Which causes each root may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attribution {
    /// Numbers of causes, by root. None: unexplained. Several: one of them, or several together.
    pub of_root: Vec<Vec<usize>>,
    /// Paths that differ.
    pub changed: usize,
    /// Those whose every root has a cause.
    pub explained: usize,
    /// The names of what has none: roots, and paths without roots.
    pub unexplained: Vec<String>,
}

impl Attribution {
    /// Ties each root to what lies between the commits: by evidence in what was changed, by proof where an input was held
    /// back, else to all that is left.
    pub fn new(explained: &Explained, between: &Between) -> Attribution {
        let of_root: Vec<Vec<usize>> = explained
            .roots
            .iter()
            .map(|root| causes_of(root, between))
            .collect();
        let mut attribution = Attribution {
            changed: explained.count_changed(),
            ..Attribution::default()
        };
        attribution.explained = explained.count_with(|root| !of_root[root].is_empty());
        let names = explained.roots.iter().zip(&of_root);
        let unexplained = names
            .filter(|(_, causes)| causes.is_empty())
            .map(|(root, _)| root.name.clone());
        attribution.unexplained = unexplained.chain(explained.lost.iter().cloned()).collect();
        attribution.of_root = of_root;
        attribution
    }

    /// `1.0` is written `100 %`: whole per cents, rounded down, so that only all of it is 100.
    pub fn per_cent(&self) -> usize {
        match self.changed {
            0 => 100,
            changed => self.explained * 100 / changed,
        }
    }
}

fn causes_of(root: &Root, between: &Between) -> Vec<usize> {
    let causes = || between.causes.iter().enumerate();
    let only = |found: Vec<usize>| (!found.is_empty()).then_some(found);
    let proven = || {
        let by = causes().filter(|(_, cause)| {
            cause
                .proven
                .as_ref()
                .is_some_and(|names| names.contains(&root.name))
        });
        only(by.map(|(at, _)| at).collect())
    };
    let mentioned = || {
        let by = causes().filter(|(_, cause)| {
            let source = |path: &String| {
                root.mentions
                    .iter()
                    .any(|mention| mention.starts_with(path.as_str()))
            };
            cause.sources.iter().any(source)
        });
        only(by.map(|(at, _)| at).collect())
    };
    let of_files = || {
        let (at, files) = causes().find(|(_, cause)| cause.kind == CauseKind::Files)?;
        let is_file = |field: &str| {
            let name = field.strip_prefix("source ");
            let base = |file: &String| file.rsplit('/').next().map(str::to_owned);
            name.is_some_and(|name| files.what.iter().any(|file| base(file).as_deref() == Some(name)))
        };
        // A system may carry the commit that it was made from.
        let has_rev = |line: &String| {
            let revs = between.revs.iter().filter_map(|rev| rev.get(..7));
            let words = line.split(|c: char| !c.is_ascii_alphanumeric());
            let words: Vec<&str> = words.filter(|word| word.len() >= 7).collect();
            revs.into_iter()
                .any(|rev| words.iter().any(|word| word.starts_with(rev)))
        };
        let told = root
            .fields
            .iter()
            .any(|field| is_file(&field.field) || field.lines.iter().any(has_rev));
        told.then(|| vec![at])
    };
    let left = || {
        causes()
            .filter(|(_, cause)| cause.effect != Some(false))
            .map(|(at, _)| at)
            .collect()
    };
    let rest = || {
        // Every input was held back, and none of them took it away.
        let tried = |cause: &Cause| {
            cause.kind == CauseKind::Files || cause.proven.is_some() || cause.effect == Some(false)
        };
        if between.causes.iter().all(tried) {
            only(
                causes()
                    .filter(|(_, c)| c.kind == CauseKind::Files && c.effect != Some(false))
                    .map(|(at, _)| at)
                    .collect(),
            )
        } else {
            None
        }
    };
    proven()
        .or_else(mentioned)
        .or_else(of_files)
        .or_else(rest)
        .unwrap_or_else(left)
}
