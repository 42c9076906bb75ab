//! What a command says when it could not do what was asked: what happened, why, and what to type next.
//!
//! The exit code is part of it, because it states how the target was left (docs/exit-codes.md). Codes travel up as
//! values; only `main` ends the process.

use std::fmt;

use serde::Serialize;

/// How a command ends; each value says what state the target is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Done as asked, or nothing to do.
    Done = 0,
    /// A gate failed before the switch; the target is untouched. Also the "no" of `verify`, `status` and
    /// `rollback --check`.
    Failed = 1,
    /// Usage or configuration; the target is untouched.
    Usage = 2,
    /// Refused by a rule of the records; the target is untouched.
    Refused = 3,
    /// A gate failed after the switch began; the target is back on what ran before, and that was checked.
    Reverted = 4,
    /// The revert failed or the outcome is unknown; a person is needed.
    NeedsPerson = 5,
    /// Another run holds the target; untouched.
    Busy = 6,
    /// Profile and boot default are set; the target waits for a reboot.
    NeedsReboot = 7,
    /// The target runs the new closure, proven, but the record is not made or not published.
    Unpublished = 8,
}

impl Exit {
    /// The process exit status.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The worst of several targets' exits, in the order 5, 4, 8, 7, 3, 1, 2, 6, 0.
    pub fn worst(self, other: Exit) -> Exit {
        const ORDER: [Exit; 9] = [
            Exit::NeedsPerson,
            Exit::Reverted,
            Exit::Unpublished,
            Exit::NeedsReboot,
            Exit::Refused,
            Exit::Failed,
            Exit::Usage,
            Exit::Busy,
            Exit::Done,
        ];
        ORDER
            .into_iter()
            .find(|e| *e == self || *e == other)
            .unwrap_or(Exit::Done)
    }
}

/// Why something failed, as a word that programs can match on (`reason` in `--json` and in a failed run's journal).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    Usage,
    Config,
    Rule,
    Busy,
    /// Somebody wanted the run to end.
    Cancelled,
    /// No route, refused, reset, name not resolved.
    Link,
    /// Authentication or host key.
    Auth,
    Timeout,
    Disk,
    Memory,
    Oom,
    /// A preflight check, a validation check, a pre-switch check or an inhibitor.
    Check,
    Unit,
    Script,
    Lock,
    Eval,
    Build,
    Copy,
    Store,
    Boot,
    Reboot,
    Remote,
    Record,
    Hook,
    Internal,
}

impl fmt::Display for Reason {
    /// The word that programs match on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// What a complaint of a program outside is worth. Each outside world has one table of its own words (`nix/said.rs`,
/// `git/said.rs`, `host/said.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// Belongs to ordinary operation and decides nothing: a cache that was passed over, private or busy or away.
    Expected,
    /// It passes by itself; the same call may work a moment later: a dropped link, 429, 5xx.
    Passing,
    /// It stays until somebody does something.
    Failed,
}

/// A failure to show and to exit with.
#[derive(Debug, Clone)]
pub struct Failure {
    pub exit: Exit,
    pub reason: Reason,
    /// One sentence: what happened.
    pub what: String,
    /// Causes and the last lines of the program that failed, in the order in which they should be read.
    pub why: Vec<String>,
    /// What to type or do next.
    pub next: Vec<String>,
}

impl Failure {
    pub fn new(exit: Exit, reason: Reason, what: impl Into<String>) -> Self {
        Failure {
            exit,
            reason,
            what: what.into(),
            why: Vec::new(),
            next: Vec::new(),
        }
    }

    /// A gate failed before anything changed (exit 1).
    pub fn failed(reason: Reason, what: impl Into<String>) -> Self {
        Self::new(Exit::Failed, reason, what)
    }

    /// The command line is wrong (exit 2).
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, Reason::Usage, what)
    }

    /// `.nixgate.toml` is wrong (exit 2).
    pub fn config(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, Reason::Config, what)
    }

    /// A rule of the records forbids it (exit 3).
    pub fn refused(what: impl Into<String>) -> Self {
        Self::new(Exit::Refused, Reason::Rule, what)
    }

    /// Adds one cause.
    pub fn why(mut self, line: impl Into<String>) -> Self {
        self.why.push(line.into());
        self
    }

    /// What, why and what to type, for a line of its own.
    pub fn on_one_line(&self) -> String {
        let why = self.why.first().map_or(String::new(), |why| format!(": {why}"));
        let next = self
            .next
            .first()
            .map_or(String::new(), |next| format!("; {next}"));
        format!("{}{why}{next}", self.what)
    }

    /// Adds the last `most` non-empty lines of what a program printed.
    pub fn tail(mut self, output: &str, most: usize) -> Self {
        self.why.extend(last_lines(output, most));
        self
    }

    /// Adds one thing to type or do.
    pub fn next(mut self, line: impl Into<String>) -> Self {
        self.next.push(line.into());
        self
    }

    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for line in &self.why {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// An error nobody foresaw: exit 1, its chain of causes kept. Where the target may have been touched, the run turns it
/// into something more precise before it gets here.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Failure>() {
            Ok(failure) => failure,
            Err(error) => {
                let mut failure = Failure::failed(Reason::Internal, error.to_string());
                failure.why = error.chain().skip(1).map(ToString::to_string).collect();
                failure
            }
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::failed(Reason::Internal, error.to_string())
    }
}

/// The last `most` non-empty lines of a program's output, in order.
pub fn last_lines(output: &str, most: usize) -> Vec<String> {
    let lines: Vec<&str> = output
        .lines()
        .map(str::trim_end)
        .filter(|l| !l.is_empty())
        .collect();
    lines[lines.len().saturating_sub(most)..]
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_exit_follows_the_documented_order() {
        assert_eq!(Exit::Done.worst(Exit::Busy), Exit::Busy);
        assert_eq!(Exit::Busy.worst(Exit::Failed), Exit::Failed);
        assert_eq!(Exit::Unpublished.worst(Exit::Reverted), Exit::Reverted);
        assert_eq!(Exit::Reverted.worst(Exit::NeedsPerson), Exit::NeedsPerson);
        assert_eq!(Exit::NeedsReboot.worst(Exit::Unpublished), Exit::Unpublished);
        assert_eq!(Exit::NeedsReboot.worst(Exit::Refused), Exit::NeedsReboot);
    }

    #[test]
    fn the_tail_keeps_order_and_drops_blank_lines() {
        assert_eq!(last_lines("a\n\nb  \nc\n", 2), ["b", "c"]);
        assert!(last_lines("", 3).is_empty());
    }
}
