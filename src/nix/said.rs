//! What Nix says when it fails: the telling lines of it, and the few causes that change what to do next.

use super::exec::ExecOutput;
use crate::failure::{Failure, Reason, last_lines};

/// How many lines of a failed command are worth showing.
const SHOWN: usize = 14;

/// A failed command of Nix as a failure: the cause found in its text, or `reason`, and the telling lines.
pub(super) fn failure(reason: Reason, what: impl Into<String>, output: &ExecOutput) -> Failure {
    let text = plain(&output.err());
    let mut failure = Failure::failed(reason, what);
    failure.why = telling(&text);
    if failure.why.is_empty() {
        failure.why = last_lines(&output.out(), SHOWN);
    }
    if failure.why.is_empty() {
        failure
            .why
            .push(format!("exit status {}, and not a word", output.status));
    }
    match general(output.status, &text) {
        Some((found, next)) => {
            failure.reason = found;
            if next.is_empty() {
                failure
            } else {
                failure.next(next)
            }
        }
        None => failure,
    }
}

/// Causes that any command of Nix may meet.
fn general(status: i32, text: &str) -> Option<(Reason, &'static str)> {
    let has = |needle: &str| text.contains(needle);
    if status == 127 && (has("not found") || has("No such file")) {
        return Some((
            Reason::Store,
            "install Nix there, or put it on the PATH of a non-interactive shell",
        ));
    }
    if has("No space left on device") || has("database or disk is full") {
        return Some((
            Reason::Disk,
            "free space on the store's file system, for example by nix-collect-garbage",
        ));
    }
    if has("Cannot allocate memory") || has("Out of memory") || has("out of memory") {
        return Some((Reason::Memory, ""));
    }
    if has("cannot connect to socket at") || has("cannot connect to daemon") {
        return Some((
            Reason::Store,
            "see whether nix-daemon runs there: systemctl status nix-daemon.socket",
        ));
    }
    if has("Host key verification failed") || has("Permission denied (") {
        return Some((Reason::Auth, ""));
    }
    if lost_link(text) {
        return Some((Reason::Link, ""));
    }
    None
}

/// Whether the text tells of a connection that could not be made or broke.
pub(super) fn lost_link(text: &str) -> bool {
    [
        "Connection refused",
        "Connection reset by peer",
        "Connection closed by",
        "Connection timed out",
        "Connection to ",
        "No route to host",
        "Network is unreachable",
        "Could not resolve hostname",
        "Broken pipe",
        "client_loop: send disconnect",
        "Timeout, server ",
        "cannot open connection to remote store",
        "unexpected end-of-file",
        "failed to start SSH connection",
        "mux_client",
    ]
    .iter()
    .any(|needle| text.contains(needle))
}

/// The text without colours and other terminal sequences.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                if characters.next_if_eq(&'[').is_some() {
                    while characters.next_if(|c| !('@'..='~').contains(c)).is_some() {}
                    characters.next();
                }
            }
            '\r' => {}
            other => plain.push(other),
        }
    }
    plain
}

/// The lines that say why. A failed build: the block with its log, and how many others failed with it. Everything else:
/// the last `error:` with its position, because what comes before it are only the callers.
pub(super) fn telling(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.trim().is_empty())
        .collect();
    let is_error = |line: &str| {
        let line = line.trim_start();
        line.strip_prefix("error:")
            .is_some_and(|rest| !rest.trim().is_empty())
    };
    let failed_build = |line: &str| is_error(line) && is_build_failure(line);
    let start = match lines.iter().position(|line| failed_build(line)) {
        Some(first) => first,
        None => match lines.iter().rposition(|line| is_error(line)).or_else(|| {
            // Some messages begin on the next line.
            lines.iter().rposition(|line| line.trim() == "error:")
        }) {
            Some(last) => last,
            None => return last_lines(text, SHOWN),
        },
    };
    let length = lines[start + 1..]
        .iter()
        .position(|line| is_error(line))
        .map_or(lines.len() - start, |n| n + 1);
    let block = &lines[start..start + length];
    let block: Vec<&str> = block
        .iter()
        .copied()
        .filter(|line| !line.starts_with("(use '--show-trace'"))
        .collect();
    let indent = |line: &str| line.strip_prefix("       ").unwrap_or(line).to_string();
    let mut shown = beforehand(&lines[..start]);
    if block.len() <= SHOWN {
        shown.extend(block.iter().map(|line| indent(line)));
        return shown;
    }
    // The head names it, the end of its log says why.
    shown.extend(block[..2].iter().map(|line| indent(line)));
    shown.push("…".to_string());
    shown.extend(block[block.len() - (SHOWN - 3)..].iter().map(|line| indent(line)));
    shown
}

/// What ssh and git said before Nix drew its own conclusion: they know the reason, Nix only that there is none.
fn beforehand(lines: &[&str]) -> Vec<String> {
    let known = |line: &&&str| {
        ["ssh: ", "fatal: ", "Host key verification failed", "Load key "]
            .iter()
            .any(|start| line.starts_with(start))
            || line.contains("Permission denied (")
    };
    let mut said: Vec<String> = lines.iter().filter(known).map(ToString::to_string).collect();
    said.dedup();
    said.truncate(4);
    said
}

/// Whether a line tells of a derivation that could not be built.
pub(super) fn is_build_failure(line: &str) -> bool {
    line.contains("builder for '/")
        || line.contains("Cannot build '/")
        || line.contains("build of '/")
        || line.contains("hash mismatch in fixed-output derivation")
        || (line.contains("is required to build '/") && line.contains("but I am a"))
        || line.contains("dependencies of derivation '/")
        || line.contains("dependency of derivation '/")
        || line.contains("nable to start any build")
}
