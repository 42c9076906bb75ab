//! Where the roots of a difference come from: flake inputs that moved between two commits, and files of the repository.

use super::explain::Explained;
use super::inputs::{InputChange, InputDiff};
use super::names::parse_drv_name;
use super::root::{Root, RootKind};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};

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
    /// The input as the root names it; `files`; `texts` for files that are written for people.
    pub name: String,
    /// Which inputs moved, the transitive ones below it too; which files differ.
    pub what: Vec<String>,
    /// Whether it changes what is built: known where holding it back was tried, and where nothing came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<bool>,
    /// The names of the roots that go when it is held back.
    #[serde(skip)]
    pub proven: Option<BTreeSet<String>>,
    /// What would show in something that was changed because of it.
    #[serde(skip)]
    pub marks: Marks,
}

/// What a cause leaves in what it changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Store paths of an input's contents, before and after.
    pub sources: Vec<String>,
    /// Commits of an input, before and after.
    pub revs: Vec<String>,
    /// The lines that went from the files and came to them, without the blanks around them.
    pub gone: HashSet<String>,
    pub come: HashSet<String>,
}

/// A file of the repository that differs between two commits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangedFile {
    pub path: String,
    /// The lines that went and came; none where it is no text, or too long to be read.
    pub gone: Vec<String>,
    pub come: Vec<String>,
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
        files: &[ChangedFile],
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
                let sides = || changes.iter().flat_map(|(_, change)| [&change.old, &change.new]);
                let sources = sides().flatten();
                let marks = Marks {
                    sources: sources
                        .filter_map(|input| source_of(input.nar_hash.as_deref()?))
                        .collect(),
                    revs: sides().flatten().filter_map(|input| input.rev.clone()).collect(),
                    ..Marks::default()
                };
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
                    marks,
                }
            })
            .collect();
        let own = files
            .iter()
            .filter(|file| file.path != "flake.lock" && !file.path.ends_with("/flake.lock"));
        let (texts, own): (Vec<&ChangedFile>, Vec<&ChangedFile>) = own.partition(|file| is_text(&file.path));
        for (name, list) in [("files", own), (TEXTS, texts)] {
            if list.is_empty() {
                continue;
            }
            let lines = |of: fn(&ChangedFile) -> &Vec<String>| -> HashSet<String> {
                let lines = list.iter().flat_map(|file| of(file));
                lines.map(|line| line.trim().to_owned()).collect()
            };
            causes.push(Cause {
                kind: CauseKind::Files,
                name: name.to_owned(),
                what: list.iter().map(|file| file.path.clone()).collect(),
                effect: None,
                proven: None,
                marks: Marks {
                    gone: lines(|file| &file.gone),
                    come: lines(|file| &file.come),
                    ..Marks::default()
                },
            });
        }
        Between {
            causes,
            revs: revs.to_vec(),
        }
    }
}

/// Files that are written for people and forges.
const TEXTS: &str = "texts";

/// Whether a file is written for people or a forge, so that evaluation reads it only where somebody makes a point of it:
/// then what it makes shows it.
fn is_text(path: &str) -> bool {
    let (dir, base) = path.rsplit_once('/').unwrap_or(("", path));
    let ends = [".md", ".markdown", ".rst", ".adoc", ".txt"];
    let begins = [
        "README",
        "LICENSE",
        "LICENCE",
        "COPYING",
        "CHANGELOG",
        "CODEOWNERS",
    ];
    let whole = [
        ".gitignore",
        ".gitattributes",
        ".editorconfig",
        ".mailmap",
        ".envrc",
        ".gitlab-ci.yml",
    ];
    let dirs = [".github", ".gitlab", ".forgejo", ".gitea", ".vscode"];
    ends.iter().any(|end| base.to_ascii_lowercase().ends_with(end))
        || (begins.iter().any(|begin| base.starts_with(begin)) && !base.ends_with(".nix"))
        || whole.contains(&base)
        || base == ".nixgate.toml"
        || dir.split('/').next().is_some_and(|first| dirs.contains(&first))
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
    /// Numbers of the causes that nothing came of.
    pub idle: Vec<usize>,
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
        let idle = |(at, cause): &(usize, &Cause)| {
            let used = of_root.iter().any(|causes| causes.contains(at));
            let never = cause.effect == Some(false) || attribution.changed == 0;
            never || (cause.name == TEXTS && cause.kind == CauseKind::Files && !used)
        };
        let causes = between.causes.iter().enumerate();
        attribution.idle = causes.filter(idle).map(|(at, _)| at).collect();
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

/// The numbers of the causes that a root may have, by the best of what is known.
fn causes_of(root: &Root, between: &Between) -> Vec<usize> {
    let chosen = |is: &dyn Fn(&Cause) -> bool| -> Vec<usize> {
        let all = between.causes.iter().enumerate();
        all.filter(|(_, cause)| is(cause)).map(|(at, _)| at).collect()
    };
    let is_files = |cause: &Cause| cause.kind == CauseKind::Files;
    let proven = chosen(&|cause| {
        let names = cause.proven.as_ref();
        names.is_some_and(|names| names.contains(&root.name))
    });
    if !proven.is_empty() {
        return proven;
    }
    let shown = chosen(&|cause| match cause.kind {
        CauseKind::Input => shows_input(root, &cause.marks),
        CauseKind::Files => shows_files(root, cause),
    });
    if !shown.is_empty() {
        return shown;
    }
    // What may have an effect: files for people do only where nothing else differs.
    let able = chosen(&|cause| cause.effect != Some(false) && cause.name != TEXTS);
    let able = match able.is_empty() {
        true => chosen(&|cause| cause.effect != Some(false)),
        false => able,
    };
    let of_files: Vec<usize> = able
        .iter()
        .copied()
        .filter(|at| is_files(&between.causes[*at]))
        .collect();
    // A system may carry the commit that it was made from; and what is left where every input was held back in vain.
    let tried = |cause: &Cause| is_files(cause) || cause.proven.is_some() || cause.effect == Some(false);
    let theirs = has_rev(root, &between.revs) || between.causes.iter().all(tried);
    match theirs && !of_files.is_empty() {
        true => of_files,
        false => able,
    }
}

/// Whether what was changed names an input's contents, or its commit.
fn shows_input(root: &Root, marks: &Marks) -> bool {
    let source = |path: &String| {
        root.mentions
            .iter()
            .any(|mention| mention.starts_with(path.as_str()))
    };
    marks.sources.iter().any(source) || has_rev(root, &marks.revs)
}

/// Whether what was changed holds a file of the repository, lines of one, or a version or a package that they name.
fn shows_files(root: &Root, cause: &Cause) -> bool {
    let marks = &cause.marks;
    let is_file = |field: &str| {
        let name = field.strip_prefix("source ");
        let base = |file: &String| file.rsplit('/').next().map(str::to_owned);
        name.is_some_and(|name| cause.what.iter().any(|file| base(file).as_deref() == Some(name)))
    };
    let line = |line: &String| {
        let line = line.as_str();
        let (lines, text) = match (line.strip_prefix("+ "), line.strip_prefix("- ")) {
            (Some(text), _) => (&marks.come, text.trim()),
            (_, Some(text)) => (&marks.gone, text.trim()),
            _ => return false,
        };
        text.len() >= TELLING && lines.contains(text)
    };
    let fields = root.fields.iter();
    if fields.clone().any(|field| is_file(&field.field)) || fields.flat_map(|field| &field.lines).any(line) {
        return true;
    }
    let has = |lines: &HashSet<String>, word: &str, dots: bool| {
        lines
            .iter()
            .any(|line| words(line, dots).any(|known| known == word))
    };
    let (package, version) = parse_drv_name(&root.name);
    match (root.kind, root.was.as_deref().map(parse_drv_name)) {
        (RootKind::Added, _) => package.len() >= 3 && has(&marks.come, package, false),
        (RootKind::Removed, _) => package.len() >= 3 && has(&marks.gone, package, false),
        (RootKind::Changed, Some((_, older))) => {
            older != version
                && version.contains('.')
                && has(&marks.come, version, true)
                && !has(&marks.gone, version, true)
        }
        (RootKind::Changed, None) => false,
    }
}

/// A line that is shorter than this may stand anywhere.
const TELLING: usize = 6;

/// The words of a line of Nix: a version has full stops in it, a name in an attribute's path has not.
fn words(line: &str, dots: bool) -> impl Iterator<Item = &str> {
    line.split(move |c: char| !(c.is_ascii_alphanumeric() || "_+-".contains(c) || (dots && c == '.')))
}

/// Whether what was changed names one of these commits.
fn has_rev(root: &Root, revs: &[String]) -> bool {
    let lines = root.fields.iter().flat_map(|field| &field.lines);
    let texts = lines.chain([&root.name]).chain(&root.was);
    let mut words = texts.flat_map(|text| {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        words.filter(|word| word.len() >= 7)
    });
    words.any(|word| {
        revs.iter()
            .filter_map(|rev| rev.get(..7))
            .any(|rev| word.starts_with(rev))
    })
}

#[cfg(test)]
mod tests;
