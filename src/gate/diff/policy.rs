//! What lies between two commits, and what of it is refused.

use std::path::{Path, PathBuf};

use super::Difference;
use crate::config::InputDrift;
use crate::diff::units::changed_lines;
use crate::diff::{Between, ChangedFile, InputChange, InputDiff};
use crate::failure::Failure;
use crate::gate::GateLog;
use crate::git::{CommitNote, Repo};
use crate::nix;
use crate::record::Oid;

/// Refuses what no cause explains, where causes can be known.
///
/// # Errors
/// Exit 3: something is unexplained, and nobody accepted that.
pub fn unexplained(log: &mut GateLog<'_>, difference: &Difference, accepted: bool) -> Result<(), Failure> {
    let Some(told) = &difference.attribution else {
        return Ok(());
    };
    let missing = told.changed - told.explained;
    if missing == 0 {
        return Ok(());
    }
    let what = format!(
        "{missing} of {} changed paths are unexplained: neither a flake input nor a file that changed accounts for them",
        told.changed
    );
    if accepted {
        log.warn(format!("accepted: {what}"));
        return Ok(());
    }
    let mut failure = Failure::refused(what);
    failure.why = told.unexplained.iter().take(8).cloned().collect();
    if told.unexplained.len() > 8 {
        failure
            .why
            .push(format!("and {} more", told.unexplained.len() - 8));
    }
    Err(failure
        .next("does it evaluate to the same twice? --impure and what it reads outside the flake are usual reasons")
        .next("or accept it knowingly: --accept-unexplained"))
}

/// The flake inputs that moved, and the files that differ, between two commits.
///
/// # Errors
/// git cannot tell. A lock file that cannot be read is a warning.
pub fn between(
    log: &mut GateLog<'_>,
    repo: &Repo,
    flake: &str,
    (from, to): (&Oid, &Oid),
) -> Result<(InputDiff, Between), Failure> {
    let path = lock_file(flake);
    let read = |commit: &Oid| -> Result<String, Failure> {
        let bytes = repo.read_file(commit, &path)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let inputs = match InputDiff::new(&read(from)?, &read(to)?) {
        Ok(inputs) => inputs,
        Err(bad) => {
            log.warn(format!("flake.lock cannot be compared: {bad}"));
            InputDiff::default()
        }
    };
    let names = match from == to {
        true => Vec::new(),
        false => repo.changed_files(from, to)?,
    };
    let files: Vec<ChangedFile> = names
        .into_iter()
        .enumerate()
        .map(|(at, path)| changed_file(repo, path, (from, to), at < FILES))
        .collect();
    let revs = [from.to_string(), to.to_string()];
    let between = Between::new(&inputs, &files, revs, nix::source_path);
    Ok((inputs, between))
}

/// Of more files than this only the names are read, and of one longer than this.
const FILES: usize = 200;
const LONG: usize = 256 << 10;

/// What went from a file and came to it. One that cannot be read differs all the same.
fn changed_file(repo: &Repo, path: String, (from, to): (&Oid, &Oid), read: bool) -> ChangedFile {
    let text = |commit: &Oid| -> Option<String> {
        let bytes = repo.read_file(commit, Path::new(&path)).ok()?.unwrap_or_default();
        let short = bytes.len() <= LONG && !bytes.contains(&0);
        short.then(|| String::from_utf8(bytes).ok())?
    };
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    let texts = read.then(|| text(from).zip(text(to))).flatten();
    for line in texts.iter().flat_map(|(old, new)| changed_lines(old, new)) {
        match line.split_at_checked(2) {
            Some(("- ", line)) => gone.push(line.to_owned()),
            Some(("+ ", line)) => come.push(line.to_owned()),
            _ => {}
        }
    }
    ChangedFile { path, gone, come }
}

/// `flake.lock` beside the flake.
pub fn lock_file(flake: &str) -> PathBuf {
    let path = Path::new(flake).join("flake.lock");
    path.strip_prefix(".").map(Path::to_path_buf).unwrap_or(path)
}

/// Judges the flake inputs that moved by the policy.
///
/// # Errors
/// Exit 3 when the policy is `deny` and an input moved undeclared.
pub fn inputs(
    log: &mut GateLog<'_>,
    repo: &Repo,
    diff: &InputDiff,
    (from, to): (&Oid, &Oid),
    (policy, accepted): (InputDrift, &[String]),
) -> Result<Vec<String>, Failure> {
    let lines = diff.lines();
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

/// Whether a text holds `name` as a word of its own: `hyprland/nixpkgs` is another input than `nixpkgs`, and neither is
/// named by where it comes from, `github:NixOS/nixpkgs/…`.
fn names(text: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || "-_/".contains(c);
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
        let other = "• Updated input 'hyprland/nixpkgs':\n    'github:NixOS/nixpkgs/0c19708' (2026-10-01)\n";
        assert!(names(other, "hyprland/nixpkgs"));
        assert!(!names(other, "nixpkgs") && !names(other, "hyprland"));
        assert!(names("nixpkgs: newer. And disko.", "disko"));
    }
}
