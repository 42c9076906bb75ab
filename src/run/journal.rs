//! What a run knows of itself, kept in git so that another process can finish it or read why it failed.

use serde::{Deserialize, Serialize};

use crate::event::Gate;
use crate::failure::{Exit, Failure, Reason};
use crate::git::Repo;
use crate::nix::{Closure, StorePath};
use crate::record::{RecordName, Secrets};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    Check,
    Release,
    Rollback,
    Deploy,
}

impl Verb {
    pub fn name(self) -> &'static str {
        match self {
            Verb::Check => "check",
            Verb::Release => "release",
            Verb::Rollback => "rollback",
            Verb::Deploy => "deploy",
        }
    }
}

/// How far a run came. Each is written before the step that it names begins, so that the last one written bounds what
/// may have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Nothing on the target was changed.
    Begun,
    /// The supervisor may hold the target; the closure may be there.
    Holding,
    /// The candidate may run.
    Switching,
    /// Profile and boot default are set; the host waits for its reboot.
    NeedsReboot,
    /// The candidate was validated; profile and boot default may be set.
    Committing,
    /// The target is committed; roots, record and refs may be missing.
    Marking,
    /// Over; see the outcome.
    Ended,
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The exit code.
    pub exit: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The gate that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub what: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<String>,
    /// The record that was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
}

impl Ending {
    pub fn of(failure: &Failure, gate: Option<Gate>) -> Self {
        Ending {
            exit: failure.exit.code(),
            reason: Some(failure.reason),
            gate,
            what: failure.what.clone(),
            why: failure.why.clone(),
            next: failure.next.clone(),
            record: None,
        }
    }

    pub fn recorded(exit: Exit, record: String) -> Self {
        Ending {
            exit: exit.code(),
            reason: None,
            gate: None,
            what: String::new(),
            why: vec![],
            next: vec![],
            record: Some(record),
        }
    }
}

/// A run's `state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub schema: u32,
    pub run: String,
    pub verb: Verb,
    pub target: String,
    /// Full id of the commit.
    pub commit: String,
    /// RFC 3339, UTC.
    pub started: String,
    /// The git committer, `Name <mail>`.
    pub by: String,
    pub step: Step,
    /// The toplevel that the run wants on the target, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<String>,
    /// What ran before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// What a rollback or deploy restores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdraws: Vec<String>,
    /// Boot id and start time of PID 1 before the reboot that is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booted: Option<String>,
    /// The leaf of the record's name, chosen before the commit; the builder may have a root by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<String>,
    /// `rollback --rehearse`: whatever becomes of the run, the host goes back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rehearsal: bool,
    /// `release --skip-validation`: whoever ends the run, it gets no record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unvalidated: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

/// The major version of `state.json`.
pub const SCHEMA: u32 = 1;
/// The state's file in a journal's tree.
pub const STATE: &str = "state.json";
/// The evidence so far, in a journal's tree.
pub const EVIDENCE: &str = "evidence.json";
/// What `switch-to-configuration` printed, in a journal's tree.
pub const SWITCH_LOG: &str = "switch.log";
/// What the host said of the trouble: failing units and the kernel's log, in the tree of a run that failed after its
/// switch began.
pub const HOST_LOG: &str = "host.log";

/// The candidate's closure as it is registered on the target, in a release's journal: [`crate::nix::Closure::list`].
pub const CLOSURE: &str = "closure";

/// The derivations that the candidate does not share with what ran before, in the journal of a release that came to its
/// commit: see `Unshared::packed`.
pub const DERIVATIONS: &str = "derivations";

/// The closure of a record as the journal of the run that made it has it; `None`: that journal is not here, or another
/// toplevel's.
pub(super) fn closure_of(repo: &Repo, record: &RecordName, toplevel: &StorePath) -> Option<Closure> {
    let (target, name) = (&record.target, record.to_string());
    let file = |run: &str, file| repo.journal_file(target, run, file).ok().flatten();
    let runs = repo.journals(target).ok()?;
    let run = runs.iter().rev().find(|run| {
        let state = file(&run.run, STATE).and_then(|bytes| State::parse(&bytes).ok());
        state.is_some_and(|state| state.ending.and_then(|ending| ending.record).as_ref() == Some(&name))
    })?;
    let bytes = file(&run.run, CLOSURE)?;
    Closure::listed(toplevel, &String::from_utf8_lossy(&bytes))
}

impl State {
    /// Reads `state.json`; a newer schema is an error that says so.
    pub fn parse(bytes: &[u8]) -> Result<State, String> {
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|e| format!("{STATE} is not JSON: {e}"))?;
        match value.get("schema").and_then(serde_json::Value::as_u64) {
            Some(1) => serde_json::from_value(value).map_err(|e| format!("{STATE} is incomplete: {e}")),
            Some(other) => Err(format!("{STATE} has schema {other}; this version reads {SCHEMA}")),
            None => Err(format!("{STATE} has no schema")),
        }
    }

    /// Without values that are not to be kept. The next command is to be typed as it stands: users and addresses stay in
    /// it, tokens and passwords do not.
    #[must_use]
    pub fn redacted(&self, secrets: &Secrets) -> State {
        let mut state = self.clone();
        if let Some(ending) = &mut state.ending {
            ending.what = secrets.redact(&ending.what);
            ending
                .why
                .iter_mut()
                .for_each(|line| *line = secrets.redact(line));
            let keys = secrets.keys();
            ending.next.iter_mut().for_each(|line| *line = keys.redact(line));
        }
        state
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        // Only strings, numbers and lists of them: serialisation cannot fail.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_reads_back_and_a_newer_one_is_named() {
        let state = State {
            schema: SCHEMA,
            run: "r".into(),
            verb: Verb::Release,
            target: "cortex".into(),
            commit: "c".into(),
            started: "2026-11-20T03:14:02Z".into(),
            by: "A <a@b>".into(),
            step: Step::Holding,
            candidate: Some("/nix/store/x".into()),
            previous: None,
            restores: None,
            withdraws: vec![],
            booted: None,
            named: None,
            rehearsal: false,
            unvalidated: false,
            ending: Some(Ending::of(&Failure::refused("no").next("x"), Some(Gate::Diff))),
        };
        assert_eq!(State::parse(&state.to_bytes()), Ok(state));
        assert!(State::parse(b"{\"schema\":2}").unwrap_err().contains("schema 2"));
        assert!(State::parse(b"[]").is_err());
    }
}
