//! `cancel`: a run ends at its next safe boundary, asked through its process where that is here, else through the
//! supervisor on its host.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::deliver::Outcome;
use super::journal::{self, Ending, State};
use super::running::{self, Process, Runner};
use super::{World, reach, unboot};
use crate::config::Settings;
use crate::event::Event;
use crate::failure::{Exit, Failure, Reason};
use crate::host::state::{self, Phase};
use crate::host::supervisor::{self, SupervisorError};
use crate::host::{RunDir, Session};
use crate::record::Target;

/// How often an ending is looked for.
const BEAT: Duration = Duration::from_millis(200);

/// Stops the run that is at work on a target.
///
/// # Errors
/// It was too late, or how the host is is not known: with the exit that says how it is.
pub async fn cancel(world: World<'_>, target: &Target, host: Option<&str>) -> Result<Outcome, Failure> {
    let settings = reach::settings_now(&world, target, host)?;
    match running::here(world.repo, target) {
        Some((runner, process)) => by_process(world, target, &settings, &runner, &process).await,
        None => by_supervisor(world, target, &settings).await,
    }
}

fn note(world: World<'_>, text: String) {
    world.watcher.see(&Event::Note { text });
}

// --- a run of this machine ------------------------------------------------------------------------------------------

pub(super) fn journal_of(world: World<'_>, target: &Target, run: &str) -> Result<Option<State>, Failure> {
    let bytes = world.repo.journal_file(target, run, journal::STATE)?;
    // What cannot be read is nobody's to stop; `resume` says what is wrong with it.
    Ok(bytes.and_then(|bytes| State::parse(&bytes).ok()))
}

async fn by_process(
    world: World<'_>,
    target: &Target,
    settings: &Settings,
    runner: &Runner,
    process: &Process,
) -> Result<Outcome, Failure> {
    let run = &runner.run;
    ask(world, target, settings, runner, process).await?;
    match journal_of(world, target, run)? {
        // Its journal begins with the first thing that it does on the host.
        None => Ok(done(
            target,
            format!("run {run} has ended: {target} was not touched"),
        )),
        Some(state) => match state.ending {
            Some(ending) if state.rehearsal && ending.exit == 0 => Ok(done(
                target,
                format!("run {run} has ended: a rehearsal, and {target} is as it was"),
            )),
            Some(ending) => ended(target, run, &ending),
            None => Err(Failure::new(
                Exit::NeedsPerson,
                Reason::Cancelled,
                format!("run {run} ended without saying how"),
            )
            .next(format!("git nixgate resume {target}"))),
        },
    }
}

/// Asks a run of this machine to end at its next safe boundary, and waits until its process has.
#[expect(clippy::disallowed_methods, reason = "boundary: ask")]
pub(super) async fn ask(
    world: World<'_>,
    target: &Target,
    settings: &Settings,
    runner: &Runner,
    process: &Process,
) -> Result<(), Failure> {
    let run = &runner.run;
    let unheard = |why: String| {
        Failure::failed(Reason::Internal, format!("run {run} could not be told to stop"))
            .why(why)
            .next(format!("kill -INT {}", process.pid))
    };
    let pid = Pid::from_raw(process.pid).ok_or_else(|| unheard("no such process".to_owned()))?;
    crate::boundary::cross("before", || format!("asks run {run} to end"));
    kill_process(pid, Signal::INT).map_err(|error| unheard(error.to_string()))?;
    note(
        world,
        format!(
            "run {run} of {} (process {}) stops at its next safe boundary; waiting for it",
            runner.by, process.pid
        ),
    );
    let t = &settings.timeouts;
    let give_up = Instant::now() + t.activate * 3 + t.validate + t.confirm * 2 + Duration::from_secs(60);
    while process.lives() {
        if Instant::now() > give_up {
            return Err(not_yet(target, run));
        }
        tokio::time::sleep(BEAT).await;
    }
    Ok(())
}

/// What a run's own ending means for whoever wanted it to stop.
///
/// # Errors
/// It was too late, or the host is left in a state that somebody has to look at.
pub fn ended(target: &Target, run: &str, ending: &Ending) -> Result<Outcome, Failure> {
    if let Some(record) = &ending.record {
        return Err(too_late(target, run, &format!("it recorded {record}")));
    }
    match ending.exit {
        0 => Err(too_late(target, run, &ending.what)),
        1 | 2 | 3 | 4 | 6 => Ok(done(target, format!("run {run} has ended: {}", ending.what))),
        _ => {
            let exit = match ending.exit {
                7 => Exit::NeedsReboot,
                8 => Exit::Unpublished,
                _ => Exit::NeedsPerson,
            };
            let mut failure = Failure::new(exit, Reason::Cancelled, format!("run {run}: {}", ending.what));
            failure.why = ending.why.clone();
            failure.next = ending.next.clone();
            Err(failure)
        }
    }
}

/// The run was told to stop and is still at work when nobody waits any longer.
pub fn not_yet(target: &Target, run: &str) -> Failure {
    Failure::new(
        Exit::NeedsPerson,
        Reason::Timeout,
        format!("run {run} has not ended yet"),
    )
    .next(format!("git nixgate status {target} --live"))
}

fn too_late(target: &Target, run: &str, why: &str) -> Failure {
    Failure::failed(Reason::Cancelled, format!("too late to stop run {run}"))
        .why(why)
        .next(format!("git nixgate rollback {target}"))
}

fn done(target: &Target, text: String) -> Outcome {
    Outcome {
        exit: 0,
        target: target.to_string(),
        outcome: "cancelled",
        record: None,
        toplevel: None,
        published: None,
        text: format!("{text}\n"),
    }
}

// --- somebody else's run, by its supervisor ------------------------------------------------------------------------

async fn by_supervisor(world: World<'_>, target: &Target, settings: &Settings) -> Result<Outcome, Failure> {
    let endpoint = reach::endpoint(target, settings, world.asker)?;
    let dir = RunDir::new().map_err(Failure::from)?;
    let mut session = Session::open(&endpoint, &dir)
        .await
        .map_err(|error| error.failure(target.as_str()))?;
    let result = on_host(world, target, settings, &mut session).await;
    session.close().await;
    result
}

async fn on_host(
    world: World<'_>,
    target: &Target,
    settings: &Settings,
    session: &mut Session,
) -> Result<Outcome, Failure> {
    let facts = reach::read_facts(session, target).await?;
    let Some(holder) = &facts.holder else {
        return match unboot::take_back(world, target, settings, session, &facts).await? {
            Some(text) => Ok(done(target, text)),
            None => Ok(Outcome {
                outcome: "unchanged",
                ..done(target, format!("{target}: no run is at work, here or there"))
            }),
        };
    };
    if holder.target != target.as_str() {
        return Err(holder
            .failure(target.as_str())
            .next(format!("git nixgate cancel {}", holder.target)));
    }
    let who = world.repo.committer()?.to_string();
    note(
        world,
        format!("asking {target} to end run {} of {}", holder.run, holder.who),
    );
    let activate = settings.timeouts.activate;
    let told = supervisor::cancel(session, &holder.run, &who, activate).await;
    let state = match told {
        Ok(state) => state,
        Err(SupervisorError::Refused { state, .. }) if matches!(state.phase, Phase::Reverting) => *state,
        Err(SupervisorError::Refused { state, .. })
            if matches!(state.phase, Phase::Committing | Phase::Committed) =>
        {
            return Err(too_late(target, &holder.run, "its commit has begun"));
        }
        Err(error) => return Err(error.failure(target.as_str())),
    };
    let patience = activate * 3 + settings.timeouts.confirm * 2 + Duration::from_secs(60);
    match follow(session, target, &holder.run, patience).await? {
        Some(state) => judged(target, &holder.run, &state),
        // Its operator is alive and has cleared up: the host itself tells.
        None => {
            let facts = reach::read_facts(session, target).await?;
            cleared(target, &holder.run, &state, facts.here.running.as_deref())
        }
    }
}

/// How a run ended whose supervisor is gone: by what the host runs.
///
/// # Errors
/// Exit 5: the host runs something else than before.
pub fn cleared(
    target: &Target,
    run: &str,
    state: &state::State,
    running: Option<&str>,
) -> Result<Outcome, Failure> {
    if running == Some(state.previous.as_str()) {
        let text = format!("run {run} has ended: {target} is back on {}", state.previous);
        return Ok(done(target, text));
    }
    Err(Failure::new(
        Exit::NeedsPerson,
        Reason::Cancelled,
        format!("run {run} has ended, and {target} does not run what ran before"),
    )
    .why(format!("it runs {}", running.unwrap_or("nothing")))
    .next(format!("git nixgate status {target} --live")))
}

/// Waits for the end of what the supervisor does; `None` when it is gone.
async fn follow(
    session: &mut Session,
    target: &Target,
    run: &str,
    patience: Duration,
) -> Result<Option<state::State>, Failure> {
    let give_up = Instant::now() + patience;
    loop {
        match supervisor::reattach(session, run).await {
            Ok(Some(state)) if state.phase.is_final() => return Ok(Some(state)),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(error) if error.is_link() => {
                // Still away: the next round says so.
                let _ = session.reopen().await;
            }
            Err(error) => return Err(error.failure(target.as_str())),
        }
        if Instant::now() > give_up {
            return Err(not_yet(target, run));
        }
        tokio::time::sleep(BEAT).await;
    }
}

/// How a run ended, by the last word of its supervisor.
///
/// # Errors
/// It was committed before it could be stopped, or could not be taken back.
pub fn judged(target: &Target, run: &str, state: &state::State) -> Result<Outcome, Failure> {
    match state.phase {
        Phase::Released | Phase::Busy => Ok(done(
            target,
            format!("run {run} has ended: {target} was not switched"),
        )),
        Phase::Reverted => Ok(done(
            target,
            format!("run {run} has ended: {target} is back on {}", state.previous),
        )),
        Phase::Committed => Err(too_late(target, run, "it is committed")),
        _ => {
            let mut failure = Failure::new(
                Exit::NeedsPerson,
                Reason::Cancelled,
                format!("{target} could not be taken back"),
            );
            failure.why = state.reasons.clone();
            Err(failure.next(format!("git nixgate resume {target}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_recorded_was_not_stopped() {
        let target: Target = "cortex".parse().expect("a target");
        let ending = |exit| Ending {
            exit,
            what: "stopped".into(),
            ..Ending::default()
        };
        assert_eq!(
            ended(&target, "r", &ending(1)).map(|done| done.exit).ok(),
            Some(0)
        );
        assert_eq!(
            ended(&target, "r", &ending(4)).map(|done| done.exit).ok(),
            Some(0)
        );
        let late = ended(
            &target,
            "r",
            &Ending::recorded(Exit::Done, "release/cortex/x".into()),
        );
        assert_eq!(late.expect_err("too late").exit, Exit::Failed);
        for (code, exit) in [
            (0, Exit::Failed),
            (5, Exit::NeedsPerson),
            (7, Exit::NeedsReboot),
            (8, Exit::Unpublished),
        ] {
            let failure = ended(&target, "r", &ending(code)).expect_err("not stopped");
            assert_eq!(failure.exit, exit);
        }
    }
}
