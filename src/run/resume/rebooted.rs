//! What `resume` does with a host that was to boot the candidate, or that has booted since the run began.

use super::on_host::{ended_untouched, half_committed, put_back, wanted};
use crate::config::Settings;
use crate::event::Gate;
use crate::failure::{Exit, Failure, Reason};
use crate::gate::health::{Baseline, Stage};
use crate::gate::validate::{self, Patience, Subject};
use crate::git::{Commit, Released};
use crate::host::state::State;
use crate::host::stc::Stc;
use crate::host::supervisor::{self, Held};
use crate::host::system::System;
use crate::host::{Endpoint, Facts, Session};
use crate::record::Target;
use crate::run::journal::Step;
use crate::run::reboot::{self, Next};
use crate::run::{Run, reach, resolve};

/// How the host is reached and what it is held against.
pub(super) struct Way<'a> {
    pub settings: &'a Settings,
    pub git: &'a Commit,
    pub endpoint: &'a Endpoint,
}

fn not_rebooted(target: &Target) -> Failure {
    Failure::new(
        Exit::NeedsReboot,
        Reason::Reboot,
        format!("{target} has not rebooted yet"),
    )
    .next(format!("reboot {target}, then: git nixgate resume {target}"))
    .next(format!("or take it back: git nixgate cancel {target}"))
}

/// The run was cut off while what boots next was being set: the host has ended that by itself, or is about to.
pub(super) async fn cut_off(
    run: &mut Run<'_>,
    way: &Way<'_>,
    session: &mut Session,
    found: Option<State>,
) -> Result<(), Failure> {
    let (target, id) = (run.target.clone(), run.id().to_owned());
    let limit = way.settings.timeouts.activate * 2;
    let set = supervisor::boot_set(session, &id, limit)
        .await
        .map_err(|error| error.failure(target.as_str()).exit(Exit::NeedsPerson))?;
    if let Some(state) = found {
        let held = Held::from_state(
            state,
            way.settings.timeouts.confirm,
            way.settings.timeouts.activate,
        );
        let _ = held.release(session).await;
    }
    let facts = reach::read_facts(session, &target).await?;
    let system = wanted(run, &facts);
    let over = if run.state.booted.as_deref() != Some(facts.boot.as_str()) {
        match has_booted(&system, &facts) {
            true => return after_reboot(run, way, session, &facts).await,
            false if half_committed(run, &facts) => put_back(run, session, &facts).await,
            false => ended_untouched(&target),
        }
    } else {
        match (reboot::next(&facts.here, &system), set) {
            (Next::Candidate, _) => {
                run.evidence.generation_after = facts.here.generation;
                not_rebooted(&target)
            }
            (Next::Previous, Some(set)) if set.outcome != Stc::Done || set.elsewhere.is_some() => {
                reboot::refused(target.as_str(), &set)
            }
            (Next::Previous, _) => ended_untouched(&target),
            (Next::Half, _) => put_back(run, session, &facts).await,
        }
    };
    let _ = supervisor::release_leftover(session, &id).await;
    Err(over)
}

fn has_booted(system: &System, facts: &Facts) -> bool {
    facts
        .booted
        .as_deref()
        .is_some_and(|path| system.is_booted_by(path))
}

/// After `--boot`: a new boot, the booted system is the candidate, and it is well.
pub(super) async fn after_reboot(
    run: &mut Run<'_>,
    way: &Way<'_>,
    session: &mut Session,
    facts: &Facts,
) -> Result<(), Failure> {
    let target = run.target.clone();
    let system = wanted(run, facts);
    if run.state.booted.as_deref() == Some(facts.boot.as_str()) {
        return Err(not_rebooted(&target));
    }
    if !has_booted(&system, facts) || !system.runs(&facts.here) {
        let booted = facts.booted.as_deref().unwrap_or("nothing");
        let mut failure = Failure::new(
            Exit::NeedsPerson,
            Reason::Boot,
            format!("{target} booted {booted}"),
        );
        failure.why.push(format!("the run wanted {}", system.effective));
        if has_booted(&system, facts) {
            // The plain system, where a specialisation of it is to run.
            failure.next.push(format!(
                "on {target}: {}/bin/switch-to-configuration test, then: git nixgate resume {target}",
                system.effective
            ));
        }
        // On what ran before there is nothing to go back from.
        let out = match facts.here.running == run.state.previous {
            true => format!("git nixgate cancel {target}    # takes back what was to boot, and ends the run"),
            false => format!("git nixgate rollback {target}"),
        };
        return Err(failure
            .next(format!("git nixgate status {target} --live"))
            .next(out));
    }
    let once = facts.here.boot_loader == "systemd-boot" && system.boots(&facts.here) == Some(false);
    let stage = if once { Stage::BootedOnce } else { Stage::Committed };
    booted_well(run, way, session, &system, stage).await?;
    if once {
        by_default(run, way, session, &system).await?;
    }
    run.evidence.generation_after = facts.here.generation;
    run.step(Step::Marking)
}

/// What booted once and is well becomes the boot default.
async fn by_default(
    run: &mut Run<'_>,
    way: &Way<'_>,
    session: &mut Session,
    system: &System,
) -> Result<(), Failure> {
    let target = run.target.clone();
    let candidate = system.toplevel.as_str();
    run.log.begin(Gate::Commit);
    let limit = way.settings.timeouts.activate;
    let bad = |what: String| {
        Failure::new(Exit::NeedsPerson, Reason::Boot, what)
            .why(format!(
                "{target} runs {candidate} and is well; its next boot is another system's"
            ))
            .next(format!("git nixgate resume {target}"))
    };
    match supervisor::make_default(session, candidate, limit).await {
        Ok(boot) if boot.path().is_some_and(|path| system.is_booted_by(path)) => {
            run.log.pass("boots the candidate by default");
            Ok(())
        }
        Ok(boot) => Err(bad(format!(
            "{target}: the boot default is {} after the candidate's `boot`",
            boot.path().unwrap_or("not verifiable")
        ))),
        Err(error) => {
            let failure = error.failure(target.as_str());
            let mut bad = bad(format!(
                "{target}: the candidate could not be made the boot default"
            ));
            bad.why.push(failure.what);
            bad.why.extend(failure.why);
            Err(bad)
        }
    }
}

/// Validates what a new boot brought up: what was proven before it says nothing of that.
pub(super) async fn booted_well(
    run: &mut Run<'_>,
    way: &Way<'_>,
    session: &mut Session,
    system: &System,
    stage: Stage,
) -> Result<(), Failure> {
    let repo = run.world.repo;
    let target = run.target.clone();
    run.log.begin(Gate::Validate);
    let git = way.git;
    let mut settings = way.settings.clone();
    let released = Released::by_hand(git.clone());
    let checked = resolve::checks_of(repo, &mut run.log, &released, &target, &settings)?;
    settings.preflight = checked.settings.preflight;
    let baseline = Baseline::default();
    let subject = Subject {
        settings: &settings,
        target: target.as_str(),
        endpoint: way.endpoint,
        system,
        checks: &checked.checks,
        baseline: &baseline,
    };
    let patience = Patience::after_boot(&settings, &checked.checks);
    let health = validate::look_once(&mut run.log, session, &subject, (stage, patience)).await?;
    if let Some(failure) = health.failure(target.as_str()) {
        return Err(failure
            .exit(Exit::NeedsPerson)
            .next(format!("git nixgate rollback {target}")));
    }
    run.log.pass("after the boot");
    Ok(())
}
