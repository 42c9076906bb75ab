//! How holding and talking to a supervisor fail, and what to say then. Pure.

use super::super::HostError;
use super::super::facts::{self, Holder};
use super::super::said;
use super::super::state::{Phase, State};
use crate::failure::{Exit, Failure, Reason, Weight};

/// Why a target is not held.
#[derive(Debug)]
pub enum HoldError {
    /// Somebody else's run holds it (exit 6).
    Busy(Option<Holder>),
    /// It is not as preflight read it: back to the diff. Nothing is held any more.
    Changed {
        now: Box<State>,
        what: Vec<String>,
    },
    /// What a commit has to leave on the host cannot be written; where, and what the host says.
    Unwritable {
        place: String,
        why: String,
    },
    /// The supervisor did not start; what was printed.
    Failed(Vec<String>),
    Host(HostError),
}

impl HoldError {
    /// For `target`. Nothing on it was touched.
    pub fn failure(&self, target: &str) -> Failure {
        match self {
            HoldError::Busy(Some(holder)) => holder.failure(target),
            HoldError::Busy(None) => facts::busy(target),
            HoldError::Changed { what, .. } => {
                let mut failure =
                    Failure::failed(Reason::Check, format!("{target} changed while this run prepared"));
                failure.why = what.clone();
                failure.next("run it again: the differences are shown anew")
            }
            HoldError::Unwritable { place, why } => Failure::failed(
                Reason::Disk,
                format!(
                    "{target}: {place} cannot be written, and a release leaves its record and its root there"
                ),
            )
            .why(why.clone())
            .next(format!(
                "on {target}: findmnt --target {}; mount it read-write, or make room, then run it again",
                place.split("/nixgate").next().unwrap_or(place)
            )),
            HoldError::Failed(lines) => {
                let (weight, reason) = said::systemd(&lines.join("\n"));
                let mut failure = Failure::failed(reason, format!("{target}: the supervisor did not start"));
                failure.why = lines.clone();
                match weight {
                    Weight::Passing => failure.next("run it again: this mostly passes by itself"),
                    _ => failure,
                }
            }
            HoldError::Host(error) => error.failure(target),
        }
    }
}

/// Why a message to the supervisor has no good answer.
#[derive(Debug)]
pub enum SupervisorError {
    Host(HostError),
    /// There is no state file: the host rebooted, or the run was swept. Facts decide.
    Gone,
    /// Answered, but not done; the state says where things stand.
    Refused {
        why: String,
        state: Box<State>,
    },
    /// Nobody answered, and this is the state left.
    Silent {
        state: Box<State>,
    },
}

impl SupervisorError {
    /// The state, where one was read.
    pub fn state(&self) -> Option<&State> {
        match self {
            SupervisorError::Refused { state, .. } | SupervisorError::Silent { state } => Some(state),
            SupervisorError::Host(_) | SupervisorError::Gone => None,
        }
    }

    /// Whether the host may still be at what it was told: nobody heard how that ended.
    pub fn is_unheard(&self) -> bool {
        match self {
            SupervisorError::Host(HostError::Timeout { .. }) => true,
            SupervisorError::Host(error) => error.is_link(),
            SupervisorError::Silent { state } => !state.phase.is_final(),
            SupervisorError::Refused { .. } | SupervisorError::Gone => false,
        }
    }

    /// One sentence and the lines behind it; the exit is 5 (outcome unknown) until the caller knows better.
    pub fn failure(&self, target: &str) -> Failure {
        let unknown = |what: String| Failure::new(Exit::NeedsPerson, Reason::Link, what);
        match self {
            SupervisorError::Host(error) => error.failure(target).exit(Exit::NeedsPerson),
            SupervisorError::Gone => unknown(format!(
                "{target}: the supervisor's state is gone; did the host reboot?"
            ))
            .next(format!("git nixgate resume {target}")),
            SupervisorError::Refused { state, .. }
                if matches!(state.phase, Phase::Reverting | Phase::Reverted) =>
            {
                unknown(format!(
                    "{target} heard nothing for a whole lease, and went back by itself"
                ))
            }
            SupervisorError::Refused { why, .. } => Failure::new(
                Exit::NeedsPerson,
                Reason::Check,
                format!("{target}: its supervisor answers: {why}"),
            ),
            SupervisorError::Silent { state } => unknown(format!(
                "{target}: its supervisor does not answer; the last state it left is `{}`",
                state.phase.word()
            ))
            .next(format!("git nixgate resume {target}")),
        }
    }
}

/// From the line `unwritable=PLACE WHY`.
pub(super) fn unwritable(text: &str) -> Option<HoldError> {
    let line = text.lines().find_map(|line| line.strip_prefix("unwritable="))?;
    let (place, why) = line.split_once(' ').unwrap_or((line, ""));
    Some(HoldError::Unwritable {
        place: place.to_owned(),
        why: why.to_owned(),
    })
}

/// From `holder_key=value` lines.
pub(super) fn holder(text: &str) -> Option<Holder> {
    let one = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix("holder_")?.strip_prefix(key)?.strip_prefix('='))
    };
    let owned = |key: &str| one(key).unwrap_or_default().to_owned();
    Some(Holder {
        run: one("run")?.to_owned(),
        target: owned("target"),
        verb: owned("verb"),
        who: owned("who"),
        commit: owned("commit"),
        since: one("since").and_then(|value| value.parse().ok()).unwrap_or(0),
    })
}
