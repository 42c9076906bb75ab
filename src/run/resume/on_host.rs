//! What `resume` finds on the host, and does there before a record can be made.

use std::time::Duration;

use super::rebooted::{Way, after_reboot, booted_well, cut_off};
use crate::config::Settings;
use crate::event::{Gate, Verdict};
use crate::failure::{Exit, Failure, Reason};
use crate::gate::commit::{by_hand, commit, ssh_line};
use crate::gate::health::{Baseline, Stage};
use crate::gate::switch_test;
use crate::gate::validate::{self, Subject, Validated};
use crate::git::{Commit, Released};
use crate::host::state::{self, Phase};
use crate::host::supervisor::{self, Held};
use crate::host::system::System;
use crate::host::{Endpoint, Facts, Session};
use crate::record::Target;
use crate::record::evidence::GateEvidence;
use crate::run::back::take_back;
use crate::run::deliver::unwanted;
use crate::run::journal::{Step, Verb};
use crate::run::reboot::{self, Next};
use crate::run::{Run, reach, resolve};

/// Brings the host to where the record is all that is missing; with the supervisor, where one still holds it.
pub(super) async fn on_host(
    run: &mut Run<'_>,
    settings: &Settings,
    git: &Commit,
    endpoint: &Endpoint,
    session: &mut Session,
) -> Result<Option<Held>, Failure> {
    let target = run.target.clone();
    let id = run.id().to_owned();
    let found = supervisor::reattach(session, &id)
        .await
        .map_err(|error| error.failure(target.as_str()))?;
    let facts = reach::read_facts(session, &target).await?;
    let way = Way {
        settings,
        git,
        endpoint,
    };
    if run.state.step == Step::NeedsReboot {
        after_reboot(run, &way, session, &facts).await?;
        return Ok(None);
    }
    if run.state.step == Step::Committing && run.state.booted.is_some() {
        cut_off(run, &way, session, found).await?;
        return Ok(None);
    }
    let Some(state) = found else {
        let judged = match half_committed(run, &facts) {
            true => Err(put_back(run, session, &facts).await),
            false => without_supervisor(run, &way, session, &facts).await,
        };
        // A reboot took its directory along; its temporary roots outlive that. What was committed is the profile's.
        let _ = supervisor::release_leftover(session, &id).await;
        return judged.map(|()| None);
    };
    let held = Held::from_state(
        state.clone(),
        settings.timeouts.confirm,
        settings.timeouts.activate,
    );
    match state.phase {
        Phase::Holding | Phase::Busy | Phase::Released => {
            let _ = held.release(session).await;
            let _ = supervisor::release_leftover(session, &id).await;
            Err(ended_untouched(&target))
        }
        Phase::Committed => Ok(Some(held)),
        Phase::Waiting => {
            waiting(run, settings, git, endpoint, session, &held, &state).await?;
            Ok(Some(held))
        }
        Phase::Reverted | Phase::RevertFailed => {
            let failure = Failure::failed(
                Reason::Timeout,
                format!("{target}: the run was cut off and taken back"),
            );
            Err(take_back(run, session, None, &held, Some(state), false, failure).await)
        }
        Phase::Switching | Phase::Committing | Phase::CommitFailed | Phase::Reverting => {
            run.log.note(format!(
                "{target} is still at work ({}); waiting for it",
                phase(state.phase)
            ));
            let patience = settings.timeouts.activate * 3 + settings.timeouts.confirm * 2;
            match settle(&held, session, patience).await? {
                state if state.phase == Phase::Waiting => {
                    waiting(run, settings, git, endpoint, session, &held, &state).await?;
                    Ok(Some(held))
                }
                state if state.phase == Phase::Committed => Ok(Some(held)),
                state => {
                    let failure = Failure::failed(Reason::Timeout, format!("{target}: the run was cut off"));
                    Err(take_back(run, session, None, &held, Some(state), false, failure).await)
                }
            }
        }
    }
}

fn phase(phase: Phase) -> String {
    serde_json::to_value(phase)
        .ok()
        .and_then(|v| v.as_str().map(str::to_owned))
        .unwrap_or_default()
}

pub(super) fn ended_untouched(target: &Target) -> Failure {
    Failure::failed(
        Reason::Timeout,
        format!("the run was cut off before {target} was switched"),
    )
    .why(format!(
        "{target} is untouched, and nothing of the run is left there"
    ))
    .next(format!("git nixgate release {target}"))
}

/// The switch may have begun; whoever knew is gone, and the host is as it was.
fn found_back(run: &Run<'_>) -> Failure {
    let target = &run.target;
    Failure::new(
        Exit::Reverted,
        Reason::Timeout,
        format!("the run was cut off, and {target} is on what ran before"),
    )
    .why("running system, profile and boot default were looked at; nothing of the run is left there")
    .next(format!("git nixgate health {target}"))
    .next(again(run))
}

/// What the run was, to be typed once more.
fn again(run: &Run<'_>) -> String {
    let target = &run.target;
    match &run.state.restores {
        Some(name) if run.state.verb == Verb::Deploy => format!("git nixgate deploy {target} --to {name}"),
        _ => format!("git nixgate {} {target}", run.state.verb.name()),
    }
}

/// Waits until the supervisor is in a state that something can be decided from.
async fn settle(held: &Held, session: &mut Session, patience: Duration) -> Result<state::State, Failure> {
    let until = std::time::Instant::now() + patience;
    loop {
        let state = held
            .status(session)
            .await
            .map_err(|error| error.failure(&held.target))?;
        if state.phase.is_final() || state.phase == Phase::Waiting {
            return Ok(state);
        }
        if std::time::Instant::now() > until {
            let what = format!(
                "{}: still {} after {} s",
                held.target,
                phase(state.phase),
                patience.as_secs()
            );
            return Err(Failure::new(Exit::NeedsPerson, Reason::Timeout, what));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The candidate runs and waits for a word: validate it and commit.
async fn waiting(
    run: &mut Run<'_>,
    settings: &Settings,
    git: &Commit,
    endpoint: &Endpoint,
    session: &mut Session,
    held: &Held,
    state: &state::State,
) -> Result<(), Failure> {
    let target = run.target.clone();
    if run.state.rehearsal || run.state.unvalidated {
        let what = match run.state.rehearsal {
            true => "the rehearsal was cut off",
            false => "the run was cut off before its commit, and was to validate nothing",
        };
        let failure = Failure::failed(Reason::Timeout, format!("{target}: {what}"));
        let shell = crate::host::fresh(endpoint).await.ok();
        return Err(take_back(run, session, shell, held, None, false, failure).await);
    }
    let system = state.system();
    let baseline = Baseline {
        failed: supervisor::failed_before(session, &held.run)
            .await
            .map_err(|error| error.failure(target.as_str()))?,
        ..Baseline::default()
    };
    if !run.log.gates().iter().any(|gate| gate.gate == Gate::SwitchTest) {
        // Whoever began the switch did not live to see how it ended.
        run.log.begin(Gate::SwitchTest);
        match switch_test::begun(&mut run.log, session, held, &baseline).await {
            Ok(switched) => run.switch_log = format!("{}\n{}", switched.stdout, switched.stderr),
            Err(bad) => {
                run.switch_log = bad.log;
                return Err(take_back(run, session, None, held, None, false, bad.failure).await);
            }
        }
        run.log.pass("");
    }
    run.log.begin(Gate::Validate);
    let stop = run.world.stop;
    let looked = tokio::select! {
        looked = validated(run, settings, git, endpoint, session, held, &system, &baseline) => Some(looked?),
        () = stop.wait() => None,
    };
    let Some(Validated { shell, result }) = looked else {
        let shell = crate::host::fresh(endpoint).await.ok();
        let failure = unwanted(target.as_str());
        return Err(take_back(run, session, shell, held, None, false, failure).await);
    };
    let mut shell = match (shell, result) {
        (Some(shell), Ok(_)) => shell,
        (shell, Err(failure)) => {
            return Err(take_back(run, session, shell, held, None, false, failure).await);
        }
        (None, Ok(_)) => {
            let failure = Failure::failed(Reason::Link, format!("{target}: the fresh connection was lost"));
            return Err(take_back(run, session, None, held, None, false, failure).await);
        }
    };
    run.log.pass("");
    run.step(Step::Committing)?;
    run.log.begin(Gate::Commit);
    match commit(&mut run.log, held, &mut shell).await {
        Ok(committed) => run.evidence.generation_after = committed.generation,
        Err((failure, state)) => {
            return Err(take_back(run, session, Some(shell), held, state, false, failure).await);
        }
    }
    run.log.pass("");
    Ok(())
}

#[allow(clippy::too_many_arguments)]
async fn validated(
    run: &mut Run<'_>,
    settings: &Settings,
    git: &Commit,
    endpoint: &Endpoint,
    session: &mut Session,
    held: &Held,
    system: &System,
    baseline: &Baseline,
) -> Result<Validated, Failure> {
    let repo = run.world.repo;
    let target = run.target.clone();
    let mut settings = settings.clone();
    let released = Released::by_hand(git.clone());
    let checked = resolve::checks_of(repo, &mut run.log, &released, &target, &settings)?;
    settings.preflight = checked.settings.preflight;
    let subject = Subject {
        settings: &settings,
        target: target.as_str(),
        endpoint,
        system,
        checks: &checked.checks,
        baseline,
    };
    Ok(validate::validate(&mut run.log, session, held, &subject).await)
}

/// What the run wants on the host.
pub(super) fn wanted(run: &Run<'_>, facts: &Facts) -> System {
    let candidate = run.state.candidate.as_deref().unwrap_or_default();
    facts.system(candidate, run.evidence.specialisation.as_deref())
}

/// A reset came between the profile and the boot loader: the host booted what ran before, and its profile is the candidate.
pub(super) fn half_committed(run: &Run<'_>, facts: &Facts) -> bool {
    let (candidate, previous) = (&run.state.candidate, &run.state.previous);
    run.state.step >= Step::Committing
        && candidate != previous
        && candidate.is_some()
        && facts.here.profile == *candidate
        && facts.here.running == *previous
}

pub(super) async fn put_back(run: &Run<'_>, session: &mut Session, facts: &Facts) -> Failure {
    let target = &run.target;
    let candidate = run.state.candidate.clone().unwrap_or_default();
    let previous = run.state.previous.clone().unwrap_or_default();
    let generation = run.evidence.generation_before;
    // `booted`: a run that only sets what boots next.
    let what = match run.state.booted.as_deref() == Some(facts.boot.as_str()) {
        true => format!("{target} was left with half of what was to boot next"),
        false => format!("{target} was reset in its commit and booted what ran before"),
    };
    let back = supervisor::put_profile_back(session, &candidate, &previous, generation).await;
    let home = facts.running().filter(|running| running.effective == previous);
    let home = home.unwrap_or_else(|| System::plain(&previous));
    match (back, facts.here.boot_default.path()) {
        (Ok(()), boot) if boot.is_none_or(|boot| home.is_booted_by(boot)) => {
            Failure::new(Exit::Reverted, Reason::Reboot, what)
                .why("its profile was the candidate already, and is what ran before again")
                .next(format!("git nixgate health {target}"))
                .next(again(run))
        }
        (back, boot) => {
            let mut failure = Failure::new(Exit::NeedsPerson, Reason::Boot, what);
            if let Err(error) = back {
                failure.why.push(format!(
                    "its profile could not be put back: {}",
                    error.failure(target.as_str()).what
                ));
            }
            failure.why.push(format!(
                "its boot default is {}",
                boot.unwrap_or("not verifiable")
            ));
            failure.next = by_hand(target.as_str(), &ssh_line(session), &previous);
            failure
        }
    }
}

/// No supervisor knows the run any more: the host rebooted, or the run was swept. Facts decide.
async fn without_supervisor(
    run: &mut Run<'_>,
    way: &Way<'_>,
    session: &mut Session,
    facts: &Facts,
) -> Result<(), Failure> {
    let target = run.target.clone();
    let candidate = run.state.candidate.clone().unwrap_or_default();
    let here = &facts.here;
    let system = wanted(run, facts);
    if !candidate.is_empty() && system.is_committed(here) && run.state.step >= Step::Committing {
        // An emergency validates nothing; whoever kept a host that fails has seen it fail.
        let skipped = |gate: &GateEvidence| gate.gate == Gate::Validate && gate.verdict == Verdict::Skipped;
        if !run.state.unvalidated && !run.log.gates().iter().any(skipped) {
            booted_well(run, way, session, &system, Stage::Committed).await?;
        }
        return Ok(());
    }
    let previous = run.state.previous.clone().unwrap_or_default();
    if run.state.step <= Step::Holding {
        return Err(ended_untouched(&target));
    }
    if here.running.as_deref() == Some(previous.as_str()) && reboot::next(here, &system) == Next::Previous {
        return Err(found_back(run));
    }
    let mut failure = Failure::new(
        Exit::NeedsPerson,
        Reason::Boot,
        format!("{target} runs {}", here.running.as_deref().unwrap_or("nothing")),
    );
    failure
        .why
        .push(format!("the run wanted {candidate}; before it ran {previous}"));
    failure.next = by_hand(target.as_str(), &ssh_line(session), &previous);
    Err(failure)
}
