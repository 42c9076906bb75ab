//! Gate 6: the real switch, under the supervisor.

use super::GateLog;
use super::dry_activate::{reason, word};
use super::health::Baseline;
use crate::failure::{Exit, Failure, Reason, last_lines};
use crate::host::Session;
use crate::host::state::Phase;
use crate::host::stc::Stc;
use crate::host::supervisor::{self, Held, SupervisorError, Switched};

/// How the switch went wrong.
pub struct Bad {
    pub failure: Failure,
    /// The candidate may run, or the host's state is not known: it has to be taken back.
    pub touched: bool,
    /// The candidate runs, and the supervisor waits for a word.
    pub waiting: bool,
    /// What `switch-to-configuration` printed.
    pub log: String,
}

/// Switches and judges the result against what had failed before.
pub async fn switch(
    log: &mut GateLog<'_>,
    session: &mut Session,
    held: &Held,
    baseline: &Baseline,
) -> Result<Switched, Box<Bad>> {
    let switched = held.switch(session).await;
    // Nobody heard that it should switch, and somebody else has the host by now.
    if let Err(SupervisorError::Gone) = &switched
        && let Some(why) = taken(held, session).await
    {
        return Err(Box::new(Bad {
            failure: let_go(&held.target, &why),
            touched: false,
            waiting: false,
            log: String::new(),
        }));
    }
    judge(log, held, baseline, switched)
}

/// Judges a switch that another process began.
pub async fn begun(
    log: &mut GateLog<'_>,
    session: &mut Session,
    held: &Held,
    baseline: &Baseline,
) -> Result<Switched, Box<Bad>> {
    judge(log, held, baseline, held.switched(session).await)
}

fn judge(
    log: &mut GateLog<'_>,
    held: &Held,
    baseline: &Baseline,
    switched: Result<Switched, SupervisorError>,
) -> Result<Switched, Box<Bad>> {
    let target = &held.target;
    let switched = match switched {
        Ok(switched) => switched,
        Err(error) => return Err(Box::new(lost(target, error))),
    };
    let printed = format!("{}\n{}", switched.stdout, switched.stderr);
    let new_failed: Vec<&String> = match &switched.outcome {
        Stc::Units { failed } => failed
            .iter()
            .filter(|unit| !baseline.failed.contains(unit))
            .collect(),
        _ => Vec::new(),
    };
    let waiting = switched.state.phase == Phase::Waiting;
    match &switched.outcome {
        Stc::Done if waiting => return Ok(switched),
        Stc::Units { failed } if waiting && new_failed.is_empty() && !failed.is_empty() => {
            log.finding(format!("failed before as well: {}", failed.join(", ")));
            return Ok(switched);
        }
        _ => {}
    }
    let touched = switched.outcome.touched() || waiting || switched.state.phase == Phase::RevertFailed;
    let what = match &switched.outcome {
        Stc::Units { .. } if !new_failed.is_empty() => {
            let units = new_failed
                .iter()
                .map(|u| u.as_str())
                .collect::<Vec<_>>()
                .join(", ");
            format!("{target}: the switch left failed units: {units}")
        }
        Stc::Done => format!("{target}: the switch ended well, and the host does not run the candidate"),
        other => format!("{target}: the switch failed: {}", word(other)),
    };
    let mut failure = Failure::failed(reason(&switched.outcome), what);
    failure.why = last_lines(&printed, 12);
    failure.why.extend(switched.state.reasons.iter().cloned());
    failure = match &switched.outcome {
        Stc::LockBusy => failure.exit(Exit::Busy),
        Stc::RebootNeeded => failure.next(format!("git nixgate release {target} --boot")),
        Stc::Refused { checks } if checks.iter().any(|c| c == "switchInhibitors") => {
            failure.next(format!("git nixgate release {target} --boot"))
        }
        Stc::Units { .. } => match new_failed.first() {
            Some(unit) => failure.next(format!("on {target}: journalctl -u {unit}")),
            None => failure,
        },
        Stc::TimedOut => failure.next("raise timeouts.activate if the activation needs longer"),
        _ => failure,
    };
    Err(Box::new(Bad {
        failure,
        touched,
        waiting,
        log: printed,
    }))
}

/// Who holds the target instead of the run that held it, in words.
pub async fn taken(held: &Held, session: &Session) -> Option<String> {
    let holder = supervisor::holder_now(session).await.ok().flatten()?;
    (holder.run != held.run).then(|| format!("superseded by {}, who holds it now", holder.who))
}

/// The target was let go before the switch, and is untouched: by silence, or because somebody wanted that.
pub fn let_go(target: &str, why: &str) -> Failure {
    let what = format!("{target} let go before the switch: {why}");
    if why.starts_with("superseded by ") {
        return Failure::failed(Reason::Cancelled, what).next(format!(
            "git nixgate log {target}    # the newer commit is released, or release this one again"
        ));
    }
    if why.starts_with("cancelled by ") {
        return Failure::failed(Reason::Cancelled, what).next("run it again when it is wanted");
    }
    Failure::failed(Reason::Timeout, what).next("run it again; a longer timeouts.confirm bears slower links")
}

fn lost(target: &str, error: SupervisorError) -> Bad {
    let touched = !matches!(&error, SupervisorError::Refused { state, .. } if state.phase == Phase::Released);
    let failure = match &error {
        SupervisorError::Refused { why, state } if state.phase == Phase::Released => let_go(target, why),
        other => other.failure(target),
    };
    Bad {
        failure,
        touched,
        waiting: false,
        log: String::new(),
    }
}
