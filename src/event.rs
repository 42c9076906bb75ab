//! What work tells whoever watches it. Types only: progress lines, tables and NDJSON are three readers of this stream.

use serde::Serialize;

/// The stages of a run that have a verdict, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    Preflight,
    Build,
    Diff,
    Copy,
    DryActivate,
    SwitchTest,
    Validate,
    Commit,
    KnownGood,
}

impl Gate {
    /// The gate's name in output, evidence and docs.
    pub fn name(self) -> &'static str {
        match self {
            Gate::Preflight => "preflight",
            Gate::Build => "build",
            Gate::Diff => "diff",
            Gate::Copy => "copy",
            Gate::DryActivate => "dry-activate",
            Gate::SwitchTest => "switch-test",
            Gate::Validate => "validate",
            Gate::Commit => "commit",
            Gate::KnownGood => "known-good",
        }
    }
}

/// What a gate or a check decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Passed,
    Failed,
    Skipped,
}

/// One line of a gate's checks: `[4/6] Disk space... ✅ (67% used)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct CheckLine {
    /// Position among the gate's numbered checks, from 1; 0 for a check outside the count.
    pub number: usize,
    /// How many numbered checks the gate has.
    pub of: usize,
    pub name: String,
    pub verdict: Verdict,
    /// The figure or the reason; may be empty.
    pub detail: String,
}

impl CheckLine {
    /// The check `number` of `of`; number 0 is outside the count.
    pub fn numbered(
        number: usize,
        of: usize,
        name: &str,
        verdict: Verdict,
        detail: impl Into<String>,
    ) -> Self {
        CheckLine {
            number,
            of: if number > 0 { of } else { 0 },
            name: name.to_owned(),
            verdict,
            detail: detail.into(),
        }
    }
}

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    RunStarted {
        run: String,
        target: String,
        verb: String,
        commit: String,
    },
    GateStarted {
        gate: Gate,
    },
    Check(CheckLine),
    /// A line of a gate's findings (one change, one unit, …).
    Finding {
        gate: Gate,
        text: String,
    },
    GateFinished {
        gate: Gate,
        verdict: Verdict,
        millis: u64,
        detail: String,
    },
    Note {
        text: String,
    },
    Warning {
        text: String,
    },
    /// The closure changed hands: `cortex: generation 141 → 142`.
    Generation {
        target: String,
        before: Option<u64>,
        after: u64,
    },
    Recorded {
        target: String,
        record: String,
        commit: String,
        published: bool,
    },
}

/// Whoever watches. Called from the run's own task; must not block.
pub trait Watcher: Send + Sync {
    fn see(&self, event: &Event);
}
