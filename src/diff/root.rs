//! What somebody changed, added or dropped: a root of a difference, and which part of a system it is.

use super::drv::{self, Derivation};
use super::names::name_of;
use super::units::{changed_lines, changed_words};
use super::walk::{Field, Walk};
use serde::{Deserialize, Serialize};

/// How a root differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootKind {
    Changed,
    Added,
    Removed,
}

/// What part of a system a derivation makes, by the names that NixOS gives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "part", content = "of")]
pub enum Part {
    Kernel,
    Initrd,
    Systemd,
    Users,
    Firewall,
    /// A unit's file, or a script that it runs; the unit's name.
    Unit(String),
    /// An entry of `/etc`, by its base name.
    Etc(String),
    /// The toplevel itself.
    System,
    /// A download.
    Source,
    Package,
}

/// One field of a derivation that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// `text`, `version`, `source nginx.conf`, …
    pub field: String,
    /// The lines that went (`- …`) and came (`+ …`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

/// Something that was changed, added or dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    pub kind: RootKind,
    #[serde(flatten)]
    pub part: Part,
    /// The derivation's name: the new one, or that of what is gone.
    pub name: String,
    /// What it was called before, where that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
    /// How many of the closures' changed paths follow from it, its own among them.
    pub brings: usize,
    /// Store paths that the changed fields name: evidence of where the change comes from.
    #[serde(skip)]
    pub mentions: Vec<String>,
}

/// The longest text of a changed field that is kept, in lines.
const MOST_LINES: usize = 400;

/// The root that a pair of derivations is; `needs` came or went for its build alone.
pub(super) fn changed(walk: &Walk<'_>, at: usize, needs: &[String]) -> Root {
    let pair = &walk.pairs[at];
    let (old, new) = (&walk.nodes[pair.old], &walk.nodes[pair.new]);
    let renamed = pair.own.contains(&Field::Name);
    let mut fields = Vec::new();
    let mut mentions = Vec::new();
    for field in &pair.own {
        // The name says it all.
        if renamed
            && matches!(field, Field::Variable(name) if matches!(name.as_str(), "name" | "pname" | "version"))
        {
            continue;
        }
        let (before, after) = values(&old.drv, &new.drv, field);
        let lines = changed_lines(&before, &after);
        for line in &lines {
            mentions.extend(paths_in(line));
        }
        // Some fields stand in the environment too.
        let told = fields
            .iter()
            .any(|known: &FieldChange| known.field == word(field));
        if *field != Field::Name && !told {
            let lines = match field {
                Field::Source(_) | Field::Inputs => lines,
                _ => changed_words(&before, &after),
            };
            let cut = lines.len().saturating_sub(MOST_LINES);
            let mut lines: Vec<String> = lines.into_iter().take(MOST_LINES).collect();
            if cut > 0 {
                lines.push(format!("… {cut} more lines"));
            }
            fields.push(FieldChange {
                field: word(field),
                lines,
            });
        }
    }
    if !needs.is_empty() {
        let field = word(&Field::Inputs);
        fields.retain(|known: &FieldChange| known.field != field);
        fields.push(FieldChange {
            field,
            lines: needs.to_vec(),
        });
    }
    mentions.sort();
    mentions.dedup();
    let part = part(&new.drv, new.name());
    if part == Part::Users {
        // Hashes of passwords are among them.
        fields.iter_mut().for_each(|field| field.lines.clear());
    }
    Root {
        kind: RootKind::Changed,
        part,
        name: new.name().to_owned(),
        was: renamed.then(|| old.name().to_owned()),
        fields,
        brings: 0,
        mentions,
    }
}

/// The root that a derivation is which came or went.
pub(super) fn alone(walk: &Walk<'_>, node: usize, new: bool) -> Root {
    let node = &walk.nodes[node];
    Root {
        kind: if new { RootKind::Added } else { RootKind::Removed },
        part: part(&node.drv, node.name()),
        name: node.name().to_owned(),
        was: None,
        fields: Vec::new(),
        brings: 0,
        mentions: node.drv.sources.iter().map(|path| (*path).to_owned()).collect(),
    }
}

/// A field in a word.
fn word(field: &Field) -> String {
    match field {
        Field::Name => "name".into(),
        Field::Outputs => "outputs".into(),
        Field::Hash => "hash".into(),
        Field::System => "system".into(),
        Field::Builder => "builder".into(),
        Field::Arguments => "arguments".into(),
        Field::Variable(name) => name.clone(),
        Field::Source(name) => format!("source {name}"),
        Field::Inputs => "inputs".into(),
    }
}

/// A field's two values as text.
fn values(old: &Derivation<'_>, new: &Derivation<'_>, field: &Field) -> (String, String) {
    let of = |drv: &Derivation<'_>| -> String {
        // It was read when it was compared.
        let body = drv.body().unwrap_or_default();
        match field {
            Field::Name => String::new(),
            Field::Outputs => drv.outputs.iter().map(|o| format!("{}\n", o.name)).collect(),
            Field::Hash => drv
                .outputs
                .iter()
                .map(|o| format!("{} {}:{}\n", o.name, o.algorithm, o.hash))
                .collect(),
            Field::System => drv::plain(body.system).into_owned(),
            Field::Builder => drv::plain(body.builder).into_owned(),
            Field::Arguments => body
                .arguments
                .iter()
                .map(|a| format!("{}\n", drv::plain(a)))
                .collect(),
            Field::Variable(name) => body
                .environment
                .iter()
                .find(|(key, _)| drv::plain(key) == name.as_str())
                .map(|(_, value)| drv::plain(value).into_owned())
                .unwrap_or_default(),
            Field::Source(name) => drv
                .sources
                .iter()
                .filter(|path| name_of(path) == name)
                .map(|path| format!("{path}\n"))
                .collect(),
            Field::Inputs => drv
                .inputs
                .iter()
                .map(|(path, wanted)| format!("{path} {}\n", String::from_utf8_lossy(wanted)))
                .collect(),
        }
    };
    (of(old), of(new))
}

/// The store paths in a line.
fn paths_in(line: &str) -> impl Iterator<Item = String> + '_ {
    line.match_indices("/nix/store/").map(|(at, _)| {
        let rest = &line[at..];
        let end = rest["/nix/store/".len()..]
            .find(|c: char| !(c.is_ascii_alphanumeric() || "+-._?=".contains(c)))
            .map_or(rest.len(), |end| end + "/nix/store/".len());
        rest[..end].to_owned()
    })
}

/// Which part of a NixOS system a derivation makes, by its name (nixpkgs, `nixos/lib/systemd-lib.nix`,
/// `nixos/modules/system/etc/etc.nix`, `…/config/users-groups.nix`, `…/system/activation/top-level.nix`).
pub(super) fn part(drv: &Derivation<'_>, name: &str) -> Part {
    const SCRIPTS: [&str; 6] = [
        "-pre-start",
        "-post-start",
        "-start",
        "-reload",
        "-pre-stop",
        "-post-stop",
    ];
    if let Some(script) = name.strip_prefix("unit-script-") {
        let stem = SCRIPTS
            .iter()
            .find_map(|end| script.strip_suffix(end))
            .unwrap_or(script);
        return Part::Unit(format!("{stem}.service"));
    }
    if let Some(unit) = name.strip_prefix("unit-")
        && unit.contains('.')
    {
        return Part::Unit(unit.to_owned());
    }
    if let Some(entry) = name.strip_prefix("etc-")
        && !entry.is_empty()
    {
        return Part::Etc(entry.to_owned());
    }
    if name.starts_with("nixos-system-") {
        return Part::System;
    }
    if drv.is_fixed() {
        return Part::Source;
    }
    let (package, _) = super::names::parse_drv_name(name);
    const KERNELS: [&str; 9] = [
        "linux",
        "linux-config",
        "linux-hardened",
        "linux-libre",
        "linux-lqx",
        "linux-modules",
        "linux-rt",
        "linux-xanmod",
        "linux-zen",
    ];
    match package {
        _ if KERNELS.contains(&package) => Part::Kernel,
        _ if package == "initrd" || package.starts_with("initrd-") => Part::Initrd,
        "systemd" => Part::Systemd,
        _ if name.starts_with("users-groups") => Part::Users,
        _ if package.starts_with("firewall") || package.starts_with("nftables-rules") => Part::Firewall,
        _ => Part::Package,
    }
}
