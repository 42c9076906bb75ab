//! What Nix says when it fails: the telling lines of it, and the few causes that change what to do next.

use super::exec::ExecOutput;
use crate::failure::{Failure, Reason, Weight, last_lines};

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

const ROOM: &str = "free space on the store's file system, for example by nix-collect-garbage";
const TOKEN: &str = "the server wants to know who asks: a token in the netrc-file of whoever asks it";
const PATIENCE: &str = "the server is busy or away: run it again later";

/// What Nix, and ssh below it, say of causes that any of its commands may meet, in the order in which they are looked for.
const TABLE: &[(&str, Weight, Reason, &str)] = &[
    ("No space left on device", Weight::Failed, Reason::Disk, ROOM),
    ("database or disk is full", Weight::Failed, Reason::Disk, ROOM),
    ("Disk quota exceeded", Weight::Failed, Reason::Disk, ROOM),
    ("Cannot allocate memory", Weight::Failed, Reason::Memory, ""),
    ("Out of memory", Weight::Failed, Reason::Memory, ""),
    ("out of memory", Weight::Failed, Reason::Memory, ""),
    (
        "cannot connect to socket at",
        Weight::Failed,
        Reason::Store,
        DAEMON,
    ),
    ("cannot connect to daemon", Weight::Failed, Reason::Store, DAEMON),
    ("Host key verification failed", Weight::Failed, Reason::Auth, ""),
    ("Permission denied (", Weight::Failed, Reason::Auth, ""),
    ("HTTP error 401", Weight::Failed, Reason::Auth, TOKEN),
    ("HTTP error 403", Weight::Failed, Reason::Auth, TOKEN),
    ("HTTP error 407", Weight::Failed, Reason::Auth, TOKEN),
    ("HTTP error 429", Weight::Passing, Reason::Remote, PATIENCE),
    ("HTTP error 5", Weight::Passing, Reason::Remote, PATIENCE),
    ("HTTP error ", Weight::Failed, Reason::Remote, ""),
    (
        "does not appear to be a binary cache",
        Weight::Failed,
        Reason::Remote,
        "",
    ),
    ("Connection refused", Weight::Passing, Reason::Link, ""),
    ("Connection reset by peer", Weight::Passing, Reason::Link, ""),
    ("Connection closed by", Weight::Passing, Reason::Link, ""),
    ("Connection timed out", Weight::Passing, Reason::Link, ""),
    ("Connection to ", Weight::Passing, Reason::Link, ""),
    ("No route to host", Weight::Passing, Reason::Link, ""),
    ("Network is unreachable", Weight::Passing, Reason::Link, ""),
    ("Could not resolve host", Weight::Passing, Reason::Link, ""),
    ("Could not connect to server", Weight::Passing, Reason::Link, ""),
    ("Couldn't connect to server", Weight::Passing, Reason::Link, ""),
    ("Server returned nothing", Weight::Passing, Reason::Link, ""),
    ("Timeout was reached", Weight::Passing, Reason::Link, ""),
    ("Broken pipe", Weight::Passing, Reason::Link, ""),
    ("client_loop: send disconnect", Weight::Passing, Reason::Link, ""),
    ("Timeout, server ", Weight::Passing, Reason::Link, ""),
    (
        "cannot open connection to remote store",
        Weight::Passing,
        Reason::Link,
        "",
    ),
    ("unexpected end-of-file", Weight::Passing, Reason::Link, ""),
    (
        "failed to start SSH connection",
        Weight::Passing,
        Reason::Link,
        "",
    ),
    ("mux_client", Weight::Passing, Reason::Link, ""),
];

const DAEMON: &str = "see whether nix-daemon runs there: systemctl status nix-daemon.socket";

/// Something that Nix complained of, and what it is worth.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Complaint {
    pub weight: Weight,
    pub reason: Reason,
    /// The line, without `warning:` and `error:`.
    pub line: String,
}

/// The complaints in what Nix printed that the table knows, each once. What it only warns of it got over: that is
/// expected.
pub fn complaints(text: &str) -> Vec<Complaint> {
    let mut found: Vec<Complaint> = Vec::new();
    for line in plain(text).lines().map(str::trim) {
        let Some((_, weight, reason, _)) = TABLE.iter().find(|(words, ..)| line.contains(words)) else {
            continue;
        };
        let warned = line.starts_with("warning:");
        let bare = line.trim_start_matches("warning: ").trim_start_matches("error: ");
        let bare = bare.split("; retrying in ").next().unwrap_or(bare).to_owned();
        if !found.iter().any(|complaint| complaint.line == bare) {
            found.push(Complaint {
                weight: if warned { Weight::Expected } else { *weight },
                reason: *reason,
                line: bare,
            });
        }
    }
    found
}

/// The text without its warnings: what Nix got over is not why it failed.
pub(super) fn counted(text: &str) -> String {
    let mut warning = false;
    let kept = text.lines().filter(|line| {
        // A warning goes on in lines that are indented or empty.
        warning = line.starts_with("warning:") || (warning && (line.starts_with(' ') || line.is_empty()));
        !warning
    });
    kept.flat_map(|line| [line, "\n"]).collect()
}

/// Causes that any command of Nix may meet.
fn general(status: i32, text: &str) -> Option<(Reason, &'static str)> {
    let text = counted(text);
    if status == 127 && (text.contains("not found") || text.contains("No such file")) {
        return Some((
            Reason::Store,
            "install Nix there, or put it on the PATH of a non-interactive shell",
        ));
    }
    let (_, _, reason, next) = TABLE.iter().find(|(words, ..)| text.contains(words))?;
    Some((*reason, next))
}

/// What the cause found in a failed command's text is worth. One that is not known stays until somebody looks.
pub(super) fn weight(text: &str) -> Weight {
    let text = counted(text);
    TABLE
        .iter()
        .find(|(words, ..)| text.contains(words))
        .map_or(Weight::Failed, |(_, weight, ..)| *weight)
}

/// Whether the text tells of a connection that could not be made or broke.
pub(super) fn lost_link(text: &str) -> bool {
    let text = counted(text);
    TABLE
        .iter()
        .any(|(words, _, reason, _)| *reason == Reason::Link && text.contains(words))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(name: &str) -> String {
        let file = format!("{}/tests/data/nix-said/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(file).expect("a recording")
    }

    #[test]
    fn s3_38_a_cache_that_nix_passed_over_is_no_reason_to_fail() {
        let table = [
            ("2.26-cache-401", Reason::Auth),
            ("2.26-cache-403", Reason::Auth),
            ("2.26-cache-404", Reason::Remote),
            ("2.26-cache-429", Reason::Remote),
            ("2.26-cache-503", Reason::Remote),
            ("2.26-cache-cut", Reason::Link),
            ("2.26-cache-refused", Reason::Link),
            ("2.26-cache-dns", Reason::Link),
            ("2.26-built-cache-401", Reason::Auth),
            ("2.26-build-cache-429", Reason::Remote),
        ];
        for (name, reason) in table {
            let text = recorded(name);
            let found = complaints(&text);
            assert_eq!(found.len(), 1, "{name}: {found:?}");
            assert_eq!(
                (found[0].weight, found[0].reason),
                (Weight::Expected, reason),
                "{name}"
            );
            assert_eq!(general(1, &text), None, "{name}: the warning decided");
            assert!(!lost_link(&text), "{name}");
        }
    }

    #[test]
    fn s3_38_what_ended_the_command_is_told_apart_from_what_passes() {
        let unable = "error: unable to download 'https://c.example.org/nix-cache-info'";
        let table = [
            (format!("{unable}: HTTP error 401"), Weight::Failed, Reason::Auth),
            (
                format!("{unable}: HTTP error 429"),
                Weight::Passing,
                Reason::Remote,
            ),
            (
                format!("{unable}: HTTP error 503"),
                Weight::Passing,
                Reason::Remote,
            ),
            (
                format!("{unable}: HTTP error 404"),
                Weight::Failed,
                Reason::Remote,
            ),
            (
                "error: unexpected end-of-file".into(),
                Weight::Passing,
                Reason::Link,
            ),
            (
                "client_loop: send disconnect: Broken pipe".into(),
                Weight::Passing,
                Reason::Link,
            ),
            (
                "error: writing to file: No space left on device".into(),
                Weight::Failed,
                Reason::Disk,
            ),
            (
                "op@forge: Permission denied (publickey).".into(),
                Weight::Failed,
                Reason::Auth,
            ),
        ];
        for (text, weight, reason) in table {
            let found = complaints(&text);
            assert_eq!(found.len(), 1, "{text}");
            assert_eq!((found[0].weight, found[0].reason), (weight, reason), "{text}");
            assert_eq!(super::weight(&text), weight, "{text}");
            assert_eq!(
                general(1, &text).map(|(reason, _)| reason),
                Some(reason),
                "{text}"
            );
        }
        assert!(complaints("error: attribute 'bar' missing").is_empty());
    }
}
