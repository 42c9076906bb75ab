//! `resume`: finish what an interrupted run left, or say how it ended. The journal says how far it came, the host says
//! where it is; where the two disagree, the host is right.

mod on_host;
mod rebooted;

use self::on_host::on_host;
use super::deliver::{Outcome, unrecorded};
use super::finish::{finish, named};
use super::journal::{self, State, Step, Verb};
use super::product::{Bench, Order};
use super::{Run, World, publish, reach, resolve, running};
use crate::config::Settings;
use crate::event::{Event, Verdict};
use crate::failure::{Exit, Failure, Reason};
use crate::gate::known_good::forget_on_builder;
use crate::gate::{Place, build};
use crate::git::Commit;
use crate::host::{RunDir, Session};
use crate::record::{Evidence, Target};

/// Finishes the newest unfinished run of a target.
///
/// # Errors
/// How the run ended, if not well; with the exit that says how the host is.
pub async fn resume(world: World<'_>, target: &Target, host: Option<&str>) -> Result<Outcome, Failure> {
    let repo = world.repo;
    running::sweep(repo, target);
    let settings = reach::settings_now(&world, target, host)?;
    let Some((state, mut evidence)) = unfinished(world, target)? else {
        return pending_only(world, target, &settings).await;
    };
    if let Some((runner, process)) = running::living(repo, target).find(|(runner, _)| runner.run == state.run)
    {
        return Err(at_work(target, &runner.run, &runner.by, process.pid));
    }
    let commit = repo.resolve(&state.commit)?;
    // What failed in an earlier attempt is done again, and what comes of that is the evidence.
    evidence.gates.retain(|gate| gate.verdict != Verdict::Failed);
    // It may be back since an earlier attempt.
    evidence.warnings.retain(|text| !text.starts_with(AWAY));
    let mut run = Run::continued(world, target, state, evidence);
    run.evidence.commit = commit.id.to_string();
    run.evidence.tree = commit.tree.to_string();
    run.log.see(&Event::RunStarted {
        run: run.id().to_owned(),
        target: target.to_string(),
        verb: "resume".to_owned(),
        commit: run.state.commit.clone(),
    });
    match drive(&mut run, &settings, &commit).await {
        Ok(outcome) => Ok(outcome),
        Err(failure) if failure.exit == Exit::Unpublished && is_recorded(&run) => Err(failure),
        Err(failure) => Err(run.failed(failure)),
    }
}

/// The run is not cut off: somebody drives it.
fn at_work(target: &Target, run: &str, by: &str, pid: i32) -> Failure {
    Failure::new(
        Exit::Busy,
        Reason::Busy,
        format!("run {run} on {target} is at work: it was not interrupted"),
    )
    .why(format!("{by} runs it on this machine, process {pid}"))
    .next(format!("wait for its end, or: git nixgate cancel {target}"))
}

/// The newest run that has not ended, with its evidence.
fn unfinished(world: World<'_>, target: &Target) -> Result<Option<(State, Evidence)>, Failure> {
    let repo = world.repo;
    let mut names = repo.journals(target)?;
    names.sort_by(|a, b| b.run.cmp(&a.run));
    for name in names.into_iter().take(20) {
        let Some(bytes) = repo.journal_file(target, &name.run, journal::STATE)? else {
            continue;
        };
        let state = match State::parse(&bytes) {
            Ok(state) => state,
            Err(why) => {
                return Err(Failure::failed(
                    Reason::Record,
                    format!("the journal of {} cannot be read", name.run),
                )
                .why(why));
            }
        };
        match state.step {
            // What came of older runs does not matter any more: this one is what the host was brought to since.
            Step::Ended if is_recorded_by(&state) => return Ok(None),
            Step::Ended => continue,
            _ => {}
        }
        let line = repo
            .journal_file(target, &name.run, journal::EVIDENCE)?
            .unwrap_or_default();
        let evidence = serde_json::from_slice(&line).unwrap_or_else(|_| Evidence {
            target: target.to_string(),
            by: state.by.clone(),
            ..Evidence::default()
        });
        return Ok(Some((state, evidence)));
    }
    Ok(None)
}

async fn pending_only(world: World<'_>, target: &Target, settings: &Settings) -> Result<Outcome, Failure> {
    let names = match world.repo.pending(target)?.is_empty() {
        true => Vec::new(),
        false => publish::publish(world, target, &settings.remote).await?,
    };
    let text = match names.as_slice() {
        [] => format!("{target}: no run is unfinished\n"),
        names => names.iter().map(|name| format!("{name}\n")).collect(),
    };
    Ok(Outcome {
        exit: 0,
        target: target.to_string(),
        outcome: if names.is_empty() {
            "unchanged"
        } else {
            "published"
        },
        record: names.last().cloned(),
        toplevel: None,
        published: (!names.is_empty()).then_some(true),
        text,
    })
}

async fn drive(run: &mut Run<'_>, settings: &Settings, commit: &Commit) -> Result<Outcome, Failure> {
    let target = run.target.clone();
    let endpoint = reach::endpoint(&target, settings, run.world.asker)?;
    let dir = RunDir::new().map_err(Failure::from)?;
    let mut session = Session::open(&endpoint, &dir)
        .await
        .map_err(|error| error.failure(target.as_str()).exit(Exit::NeedsPerson))?;
    let built = built_with(run, settings, commit);
    let id = run.id().to_owned();
    let order = Order {
        repo: run.world.repo,
        commit,
        settings: &built,
        run: &id,
        target: &target,
        dir: &dir,
        impure: built.impure,
        before: Vec::new(),
    };
    let bench = Bench::default();
    let ready = on_host(run, settings, commit, &endpoint, &mut session).await;
    let is_ready = ready.is_ok();
    if is_ready {
        reached(
            run,
            &order,
            &bench,
            ", and the closure gets no root there that it does not have yet",
        )
        .await;
    }
    let result = match ready {
        // What nobody validated is never known-good, whoever ends the run.
        Ok(held) if run.state.unvalidated => {
            if let Some(held) = held {
                let _ = held.end(&mut session).await;
            }
            let candidate = run.state.candidate.clone().unwrap_or_default();
            Ok(unrecorded(run, &candidate))
        }
        Ok(held) => {
            let keeper = order.keeper(&bench);
            let outcome = finish(run, settings, commit, &mut session, keeper).await;
            if let Some(held) = held {
                let _ = held.end(&mut session).await;
            }
            outcome
        }
        Err(failure) => Err(failure),
    };
    if is_over(run, &result) {
        if !is_ready {
            reached(run, &order, &bench, "").await;
        }
        if run.state.verb == Verb::Release && order.on_target() {
            build::tidy(Place::Host(&session), target.as_str(), &id, &order.link()).await;
        }
        if result.is_err()
            && !is_recorded(run)
            && run.state.restores.is_none()
            && let Some(name) = named(run)
        {
            forget_on_builder(order.keeper(&bench), &target, &name.leaf()).await;
        }
        order.clear(bench).await;
    }
    session.close().await;
    result
}

/// The settings that the run built with: its commit's. `now` where they cannot be read any more.
fn built_with(run: &Run<'_>, now: &Settings, commit: &Commit) -> Settings {
    resolve::at_commit(run.world.repo, commit)
        .and_then(|config| resolve::settings_of(&config, &run.target))
        .unwrap_or_else(|_| now.clone())
}

/// Connects to the builder of a release. One that is out of reach costs a root there and a few leftovers, not the
/// proof: a warning, said once a run.
async fn reached(run: &mut Run<'_>, order: &Order<'_>, bench: &Bench, also: &str) {
    if run.state.verb == Verb::Release
        && let Err(failure) = order.connect(bench).await
    {
        run.log.warn(format!("{AWAY}{also}: {}", failure.what));
    }
}

/// What a builder out of reach comes to.
const AWAY: &str = "what the run left on the builder stays";

/// Whether nobody will come back to this run: until then its leftovers may be needed.
fn is_over(run: &Run<'_>, result: &Result<Outcome, Failure>) -> bool {
    match result {
        Ok(_) => true,
        Err(failure) => match failure.exit {
            Exit::NeedsReboot | Exit::NeedsPerson => false,
            Exit::Unpublished => is_recorded(run),
            _ => true,
        },
    }
}

/// Whether the record is made: what is missing is its publication, and that is `publish`'s.
fn is_recorded(run: &Run<'_>) -> bool {
    is_recorded_by(&run.state)
}

fn is_recorded_by(state: &State) -> bool {
    state
        .ending
        .as_ref()
        .is_some_and(|ending| ending.record.is_some())
}
