//! Gate 3: what changes, against what runs.

use std::path::Path;

use super::GateLog;
use crate::config::InputDrift;
use crate::diff::{InputChange, InputDiff, PackageDiff};
use crate::failure::Failure;
use crate::git::{CommitNote, Repo};
use crate::nix::Closure;
use crate::record::Oid;
use crate::record::evidence::DiffEvidence;

/// How many lines are shown; all that fit go into the record.
const SHOWN: usize = 40;

/// Compares packages and shows them.
pub fn packages(log: &mut GateLog<'_>, running: &Closure, candidate: &Closure) -> (DiffEvidence, String) {
    let diff = PackageDiff::new(running.sizes(), candidate.sizes());
    let lines = diff.lines();
    for line in lines.iter().take(SHOWN) {
        log.finding(line.clone());
    }
    if lines.len() > SHOWN {
        log.finding(format!("… and {} more", lines.len() - SHOWN));
    }
    let (before, after) = (diff.totals.bytes_before, diff.totals.bytes_after);
    let bytes_delta = i64::try_from(i128::from(after) - i128::from(before)).unwrap_or(0);
    let count = |list: &[crate::diff::Change]| list.len() as u64;
    let headline = format!("{}, {} of them new", diff.headline(), diff.totals.paths_new);
    let evidence = DiffEvidence {
        added: count(&diff.added),
        removed: count(&diff.removed),
        upgraded: count(&diff.upgraded),
        downgraded: count(&diff.downgraded),
        rebuilt: count(&diff.rebuilt),
        bytes_delta,
        lines,
        inputs: Vec::new(),
        more: 0,
    };
    (evidence, headline)
}

/// Which flake inputs moved between two commits, shown and judged by the policy.
///
/// # Errors
/// Exit 3 when the policy is `deny` and an input moved undeclared.
pub fn inputs(
    log: &mut GateLog<'_>,
    repo: &Repo,
    flake: &str,
    (from, to): (&Oid, &Oid),
    policy: InputDrift,
    accepted: &[String],
) -> Result<Vec<String>, Failure> {
    let path = Path::new(flake).join("flake.lock");
    let path = path.strip_prefix(".").unwrap_or(&path);
    let read = |commit: &Oid| -> Result<String, Failure> {
        let bytes = repo.read_file(commit, path)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let diff = match InputDiff::new(&read(from)?, &read(to)?) {
        Ok(diff) => diff,
        Err(bad) => {
            log.warn(format!("flake.lock cannot be compared: {bad}"));
            return Ok(Vec::new());
        }
    };
    let lines = diff.lines();
    for line in &lines {
        log.finding(format!("input {line}"));
    }
    if policy == InputDrift::Ignore || diff.moved.is_empty() {
        return Ok(lines);
    }
    let notes = repo.commits_between(from, to)?;
    let undeclared: Vec<&InputChange> = diff
        .moved
        .iter()
        .filter(|c| !declared(c, &notes, accepted))
        .collect();
    let names: Vec<&str> = undeclared.iter().map(|change| change.path.as_str()).collect();
    if names.is_empty() {
        return Ok(lines);
    }
    let what = format!(
        "flake inputs moved although no commit message names them: {}",
        names.join(", ")
    );
    if policy == InputDrift::Deny {
        let flags: Vec<String> = names
            .iter()
            .map(|name| format!("--accept-input {name}"))
            .collect();
        return Err(Failure::refused(what)
            .why(format!("between {from} and {to}; input-drift = \"deny\""))
            .next("name them in a commit message (nix flake update --commit-lock-file does)")
            .next(format!("or accept them: {}", flags.join(" "))));
    }
    log.warn(what);
    Ok(lines)
}

/// A moved input is declared by a message that names it or, for a transitive one, the input that it sits below.
fn declared(change: &InputChange, notes: &[CommitNote], accepted: &[String]) -> bool {
    let parts: Vec<&str> = change.path.split('/').collect();
    (1..=parts.len()).any(|n| {
        let path = parts[..n].join("/");
        accepted.contains(&path) || notes.iter().any(|note| names(&note.message, &path))
    })
}

/// Whether a text holds `name` as a word of its own.
fn names(text: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + name.len()..].chars().next();
        !before.is_some_and(word) && !after.is_some_and(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_an_input_only_as_a_word() {
        assert!(names(
            "flake.lock: Update\n\n• Updated input 'nixpkgs':\n",
            "nixpkgs"
        ));
        assert!(names("bump nixpkgs", "nixpkgs"));
        assert!(!names("bump nixpkgs-stable", "nixpkgs"));
        assert!(!names("no inputs here", "nixpkgs"));
    }
}
