//! `cancel` of a run that has set what boots next and waits for the reboot: it is taken back.

use super::journal::{self, Ending, State, Step};
use super::{Run, World};
use crate::config::Settings;
use crate::failure::{Exit, Failure, Reason};
use crate::host::supervisor::{self, Unset};
use crate::host::{Facts, Session};
use crate::record::{Evidence, Target};

/// Takes back what the runs of this target that wait for a reboot have set, and ends them; what came of it, in words. A pending
/// boot of another clone's run is taken back too. `None`: nothing waits.
///
/// # Errors
/// Exit 1: the host has booted the candidate, or could not be changed; exit 5: what it boots now is not what it runs.
pub(super) async fn take_back(
    world: World<'_>,
    target: &Target,
    settings: &Settings,
    session: &mut Session,
    facts: &Facts,
) -> Result<Option<String>, Failure> {
    let waiting = waiting(world, target)?;
    let once = facts.here.boot_once.as_ref();
    let strange = once.filter(|_| facts.here.boot_loader == "systemd-boot");
    let candidate = match waiting.first() {
        Some((state, _)) => state.candidate.clone(),
        None => strange.and_then(|once| once.path.clone()),
    };
    let (Some(candidate), Some(running)) = (candidate, facts.running()) else {
        return Ok(None);
    };
    let generation = waiting
        .first()
        .and_then(|(_, evidence)| evidence.generation_before);
    let specialisation = waiting
        .first()
        .and_then(|(_, evidence)| evidence.specialisation.as_deref());
    if facts
        .system(&candidate, specialisation)
        .is_booted_by(&running.effective)
    {
        let what = format!("too late: {target} has booted {candidate}");
        return Err(Failure::failed(Reason::Cancelled, what)
            .next(format!("git nixgate resume {target}"))
            .next(format!("git nixgate rollback {target}")));
    }
    let limit = settings.timeouts.activate * 2;
    let on_host = (candidate.as_str(), running.effective.as_str());
    let unset = supervisor::unset_boot(session, on_host, generation, limit)
        .await
        .map_err(|error| {
            let mut failure = error.failure(target.as_str());
            failure.what = format!(
                "{target}: what boots next could not be taken back: {}",
                failure.what
            );
            failure.next(format!("git nixgate status {target} --live"))
        })?;
    for (state, evidence) in waiting {
        let mut run = Run::continued(world, target, state, evidence);
        run.end(Ending {
            exit: Exit::Failed.code(),
            reason: Some(Reason::Cancelled),
            what: format!("cancelled: {target} does not boot {candidate} any more"),
            ..Ending::default()
        });
    }
    told(target, &running.toplevel, &unset, |path| {
        running.is_booted_by(path)
    })
    .map(Some)
}

/// The host as it is now, in words.
fn told(
    target: &Target,
    running: &str,
    unset: &Unset,
    is_running: impl Fn(&str) -> bool,
) -> Result<String, Failure> {
    let text = format!(
        "{target} is not to boot another system any more: it boots {}",
        unset.boot_default
    );
    let same = unset.boot_default.path().is_none_or(is_running);
    if same && unset.boot_once.is_none() {
        return Ok(text);
    }
    let mut failure = Failure::new(
        Exit::NeedsPerson,
        Reason::Boot,
        format!("{target} runs {running}, and boots {}", unset.boot_default),
    );
    if let Some(once) = &unset.boot_once {
        failure.why.push(format!("its next boot is that of {once}, once"));
    }
    Err(failure.next(format!("git nixgate status {target} --live")))
}

/// The runs that wait for a reboot, newest first; those before the newest record do not any more.
fn waiting(world: World<'_>, target: &Target) -> Result<Vec<(State, Evidence)>, Failure> {
    let repo = world.repo;
    let mut names = repo.journals(target)?;
    names.sort_by(|a, b| b.run.cmp(&a.run));
    let mut found = Vec::new();
    for name in names {
        let Some(bytes) = repo.journal_file(target, &name.run, journal::STATE)? else {
            continue;
        };
        let Ok(state) = State::parse(&bytes) else {
            continue;
        };
        if state
            .ending
            .as_ref()
            .is_some_and(|ending| ending.record.is_some())
        {
            break;
        }
        let cut_off = state.step == Step::Committing && state.booted.is_some();
        if state.step == Step::NeedsReboot || cut_off {
            let line = repo.journal_file(target, &name.run, journal::EVIDENCE)?;
            let evidence = line.and_then(|line| serde_json::from_slice(&line).ok());
            found.push((state, evidence.unwrap_or_default()));
        }
    }
    Ok(found)
}
