//! A difference as a person reads it: the causes first, then what was changed for each, folded.

use super::causes::{Attribution, Between, CauseKind};
use super::explain::Explained;
use super::names::{compare_versions, parse_drv_name};
use super::root::{Part, Root, RootKind};
use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

/// A cause with what came from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chapter {
    pub title: String,
    /// What moved or differs below the title: transitive inputs, further files.
    pub more: Vec<String>,
    /// One for each root, the weightiest first.
    pub lines: Vec<Line>,
}

/// A root in one line, and what was changed in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub text: String,
    pub part: Part,
    /// Each field that was changed with its lines, `- …` and `+ …`, indented.
    pub details: Vec<String>,
}

/// More files than this are not in a title.
const FILES: usize = 3;

/// The story of a difference between two known commits; without them there is one chapter.
pub fn chapters(explained: &Explained, told: Option<(&Between, &Attribution)>) -> Vec<Chapter> {
    let Some((between, attribution)) = told else {
        let all: Vec<usize> = (0..explained.roots.len()).collect();
        return match all.is_empty() {
            true => Vec::new(),
            false => vec![Chapter {
                title: "what was changed".into(),
                more: Vec::new(),
                lines: lines(explained, &all),
            }],
        };
    };
    let mut by: BTreeMap<&[usize], Vec<usize>> = BTreeMap::new();
    for (root, causes) in attribution.of_root.iter().enumerate() {
        by.entry(causes).or_default().push(root);
    }
    let mut chapters: Vec<Chapter> = Vec::new();
    let mut unexplained = by.remove(&[][..]).unwrap_or_default();
    for (causes, roots) in by {
        let titles: Vec<String> = causes.iter().map(|at| title(between, *at)).collect();
        let several = titles.len() > 1;
        chapters.push(Chapter {
            title: titles.join(" or "),
            more: match several {
                true => vec!["(one of them, or both: --explain tells)".to_owned()],
                false => more(between, causes[0]),
            },
            lines: lines(explained, &roots),
        });
    }
    for at in &attribution.idle {
        chapters.push(Chapter {
            title: format!("{}: no effect", title(between, *at)),
            more: Vec::new(),
            lines: Vec::new(),
        });
    }
    if !unexplained.is_empty() || !explained.lost.is_empty() {
        unexplained.sort_unstable();
        let mut lines = lines(explained, &unexplained);
        lines.extend(explained.lost.iter().map(|path| Line {
            text: path.clone(),
            part: Part::Package,
            details: Vec::new(),
        }));
        chapters.push(Chapter {
            title: "unexplained".into(),
            more: Vec::new(),
            lines,
        });
    }
    chapters
}

/// What lies between two commits, where nothing tells what came from which.
pub fn titles(between: &Between) -> Vec<Chapter> {
    let chapter = |at| Chapter {
        title: title(between, at),
        more: more(between, at),
        lines: Vec::new(),
    };
    (0..between.causes.len()).map(chapter).collect()
}

fn title(between: &Between, at: usize) -> String {
    let cause = &between.causes[at];
    match cause.kind {
        CauseKind::Input => {
            let own = cause
                .what
                .iter()
                .find(|what| what.split(' ').next() == Some(cause.name.as_str()));
            match own {
                Some(own) => format!("input {own}"),
                None => format!("input {}", cause.what.first().unwrap_or(&cause.name)),
            }
        }
        CauseKind::Files if cause.what.len() <= FILES => cause.what.join(", "),
        CauseKind::Files => {
            let first = cause.what[..FILES].join(", ");
            format!("{first} and {} more files", cause.what.len() - FILES)
        }
    }
}

fn more(between: &Between, at: usize) -> Vec<String> {
    let cause = &between.causes[at];
    match cause.kind {
        CauseKind::Input => {
            let own = title(between, at);
            let below = cause.what.iter().filter(|what| format!("input {what}") != own);
            below.map(|what| format!("with {what}")).collect()
        }
        CauseKind::Files => Vec::new(),
    }
}

/// A line for each root, those that read the same as one.
fn lines(explained: &Explained, roots: &[usize]) -> Vec<Line> {
    struct Same<'a> {
        weight: u8,
        times: usize,
        brings: usize,
        first: &'a Root,
    }
    let mut all: BTreeMap<String, Same<'_>> = BTreeMap::new();
    for root in roots {
        let root = &explained.roots[*root];
        let same = all.entry(root.text()).or_insert(Same {
            weight: weight(&root.part),
            times: 0,
            brings: 0,
            first: root,
        });
        same.times += 1;
        same.brings = same.brings.max(root.brings);
    }
    let mut all: Vec<(String, Same<'_>)> = all.into_iter().collect();
    all.sort_by_key(|(_, same)| (Reverse(same.weight), Reverse(same.brings)));
    all.into_iter()
        .map(|(text, same)| {
            let times = match same.times {
                1 => String::new(),
                n => format!(", {n} times"),
            };
            let paths = match same.brings {
                1 => "1 path".to_owned(),
                n => format!("{n} paths"),
            };
            let fields = same.first.fields.iter().filter(|field| !field.lines.is_empty());
            let details = fields.flat_map(|field| {
                let lines = field.lines.iter().map(|line| format!("  {line}"));
                std::iter::once(format!("{}:", field.field)).chain(lines)
            });
            Line {
                text: format!("{text} ({paths}{times})"),
                part: same.first.part.clone(),
                details: details.collect(),
            }
        })
        .collect()
}

/// What a reader wants to see first.
fn weight(part: &Part) -> u8 {
    match part {
        Part::Kernel | Part::Initrd => 9,
        Part::Systemd => 8,
        Part::Users | Part::Firewall => 7,
        Part::Unit(_) => 6,
        Part::Etc(_) => 5,
        Part::Package => 4,
        Part::System => 3,
        Part::Source => 2,
    }
}

impl Part {
    /// Whether this, told by a derivation, is what `held` tells by a file: NixOS names the derivation of an entry of `/etc`
    /// by its path with dashes, or by its base name.
    pub fn covers(&self, held: &Part) -> bool {
        match (self, held) {
            (Part::Etc(name), Part::Etc(path)) => {
                name == path
                    || *name == path.replace('/', "-")
                    || Some(name.as_str()) == path.rsplit('/').next()
            }
            _ => self == held,
        }
    }

    /// The part in a word or two; empty for what its own name says.
    pub fn word(&self) -> String {
        match self {
            Part::Kernel => "kernel".into(),
            Part::Initrd => "initrd".into(),
            Part::Systemd => "systemd".into(),
            Part::Users => "users".into(),
            Part::Firewall => "firewall".into(),
            Part::Unit(unit) => unit.clone(),
            Part::Etc(entry) => format!("/etc: {entry}"),
            Part::System => "system".into(),
            Part::Source => "source".into(),
            Part::Package => String::new(),
        }
    }
}

impl Root {
    /// `↑ nginx 1.26.1 → 1.26.2`, `~ nginx.service (text)`, `+ ripgrep 15.1.0`
    pub fn text(&self) -> String {
        let (package, version) = parse_drv_name(&self.name);
        let before = self.was.as_deref().map(parse_drv_name);
        let mark = match (self.kind, before) {
            (RootKind::Added, _) => '+',
            (RootKind::Removed, _) => '-',
            (RootKind::Changed, Some((was, older))) if was == package => {
                match compare_versions(older, version) {
                    Ordering::Less => '↑',
                    Ordering::Greater => '↓',
                    Ordering::Equal => '~',
                }
            }
            (RootKind::Changed, _) => '~',
        };
        let named = |package: &str, version: &str| match version {
            "" => package.to_owned(),
            version => format!("{package} {version}"),
        };
        let name = match before {
            Some((was, older)) if was == package && !older.is_empty() && !version.is_empty() => {
                format!("{package} {older} → {version}")
            }
            Some((was, older)) => format!("{} → {}", named(was, older), named(package, version)),
            None => named(package, version),
        };
        let text = match &self.part {
            Part::Package => name,
            Part::Unit(_) | Part::Etc(_) => self.part.word(),
            part => format!("{}: {name}", part.word()),
        };
        let fields: Vec<&str> = self.fields.iter().map(|field| field.field.as_str()).collect();
        let told = self.kind != RootKind::Changed || before.is_some() || fields.is_empty();
        if told {
            return format!("{mark} {text}");
        }
        let mut shown = fields.iter().take(FILES).copied().collect::<Vec<_>>().join(", ");
        if fields.len() > FILES {
            shown += ", …";
        }
        format!("{mark} {text}: {shown}")
    }
}
