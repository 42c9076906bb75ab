//! Steps 4 to 9, the same for a release, a rollback and a deploy: hold, copy, rehearse, switch, validate, commit, mark.

use std::pin::pin;
use std::time::Instant;

use super::back::take_back;
use super::journal::{Ending, Step};
use super::mark::{self, Mark, Marked};
use super::prepare::{ahead, asked, overtaken, prepare};
use super::product::{Bench, Order};
use super::rehearse::{Home, and_back};
use super::resolve;
use super::supersede::{self, Newer};
use super::{Run, reach};
use crate::check::Files;
use crate::config::Settings;
use crate::event::Gate;
use crate::failure::{Exit, Failure, Reason};
use crate::gate::commit::{by_hand, ssh_line};
use crate::gate::health::Baseline;
use crate::gate::known_good::{RemoteSide, forget_on_builder, root_on_builder};
use crate::gate::preflight::Fit;
use crate::gate::validate::{self, Subject, Validated, validate};
use crate::gate::{Place, build, commit, switch_test};
use crate::git::Commit;
use crate::host::supervisor::{self, Held, HoldError, Plan};
use crate::host::{Endpoint, Facts, Session, Shell};
use crate::nix::{Closure, StorePath};
use crate::record::evidence::Before;
use crate::record::{Kind, OnHost, RecordName};
use tokio::sync::Notify;

/// How a run ended well enough to say so on standard output.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Outcome {
    pub exit: u8,
    pub target: String,
    /// What happened, in a word: `released`, `rolled-back`, `deployed`, `unchanged`, `needs-reboot`, `checked`, …
    pub outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toplevel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<bool>,
    #[serde(skip)]
    pub text: String,
}

/// What goes onto the host, and how.
pub(super) struct Delivery<'a> {
    pub kind: Kind,
    /// How to reach the host.
    pub settings: &'a Settings,
    /// What to check there: of the commit that is restored.
    pub checked: &'a Settings,
    pub files: &'a Files,
    pub endpoint: &'a Endpoint,
    pub commit: &'a Commit,
    pub toplevel: StorePath,
    pub closure: &'a Closure,
    /// Where it is copied from; `None`: it is on the target.
    pub supply: Option<Place<'a>>,
    /// The builder, to root the closure there; a rollback and a deploy leave its roots as they are, unless they built.
    pub builder: Option<Place<'a>>,
    /// What the run left on the builder, and where.
    pub workshop: Option<(&'a Order<'a>, &'a Bench)>,
    /// The target built it, and keeps it by this root for the length of the run.
    pub built_on_target: Option<String>,
    pub restores: Option<OnHost>,
    pub withdraws: Vec<RecordName>,
    pub remote: RemoteSide,
    /// `rollback --rehearse`: what the host is held against after it came back.
    pub home: Option<Home>,
    pub options: Options,
}

/// What the command line says about the way.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    pub accept_drift: bool,
    /// Stop after dry-activate: `check`, `rollback --check`.
    pub rehearse_only: bool,
    /// A person is asked before the switch.
    pub confirm: bool,
    pub boot: bool,
    pub skip_validation: bool,
    /// Checks that failed before do not count; a reachable host may stay.
    pub sick: bool,
    pub keep: bool,
    /// Garbage may be collected on the target where the closure does not fit.
    pub gc: bool,
    /// Older releases that have not begun to switch give way.
    pub cancel_older: bool,
}

/// Drives it to its end; the run's journal says how.
pub(super) async fn deliver(
    run: &mut Run<'_>,
    fit: Fit,
    delivery: &Delivery<'_>,
) -> Result<Outcome, Failure> {
    let Fit {
        mut session,
        facts,
        failing,
    } = fit;
    let result = drive(run, &mut session, &facts, failing, delivery).await;
    if let Some(link) = &delivery.built_on_target {
        build::tidy(Place::Host(&session), run.target.as_str(), run.id(), link).await;
    }
    session.close().await;
    result
}

async fn drive(
    run: &mut Run<'_>,
    session: &mut Session,
    facts: &Facts,
    failing: Vec<String>,
    delivery: &Delivery<'_>,
) -> Result<Outcome, Failure> {
    let target = run.target.to_string();
    let previous = facts.here.running.clone().unwrap_or_default();
    run.state.candidate = Some(delivery.toplevel.to_string());
    run.state.previous = Some(previous.clone());
    run.state.restores = delivery.restores.as_ref().map(ToString::to_string);
    run.state.withdraws = delivery.withdraws.iter().map(ToString::to_string).collect();
    run.evidence.toplevel = delivery.toplevel.to_string();
    run.evidence.generation_before = facts.here.generation;
    run.evidence.specialisation =
        Some(delivery.checked.specialisation.clone()).filter(|name| !name.is_empty());
    run.evidence.before = Some(Before {
        toplevel: previous,
        nar_hash: None,
        closure_digest: None,
    });
    run.step(Step::Holding)?;

    run.log.begin(Gate::Copy);
    let began = Instant::now();
    let plan = plan(run, facts, delivery);
    let own = run.target.clone();
    let newer = delivery.options.cancel_older.then_some(Newer {
        world: run.world,
        target: &own,
        commit: delivery.commit,
    });
    let prepared = {
        // Paths in the store and a rehearsal change nothing that the lock protects: they need not wait for it. A hold
        // that fails ends them.
        let judged = Notify::new();
        let ahead = async {
            let done = ahead((run.world.watcher, &judged), session, &target, delivery).await;
            judged.notify_one();
            done
        };
        let mut ahead = pin!(ahead);
        let mut early = None;
        let held = {
            // Room for the copy is judged first: that is short, and what is long waits for it.
            let mut hold = pin!(async {
                judged.notified().await;
                supersede::hold(session, &plan, newer).await
            });
            loop {
                tokio::select! {
                    held = &mut hold => break held,
                    done = &mut ahead, if early.is_none() => early = Some(done),
                }
            }
        };
        match held {
            Ok(held) => {
                let rest = async {
                    match early {
                        Some(done) => done,
                        None => ahead.await,
                    }
                };
                let stop = run.world.stop;
                let work = prepare(run, session, &held, (&facts.boot, began), delivery, rest);
                let done = stop.unless(&target, work).await;
                Ok((held, done))
            }
            Err(error) => Err(error),
        }
    };
    let (held, prepared) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            // A host that changed in the meantime may have been released: then its record says by whom.
            let changed = matches!(error, HoldError::Changed { .. });
            let now = match (&delivery.remote, changed) {
                (RemoteSide::Ready { name, .. }, true) => {
                    Some(resolve::remote_side(run.world.repo, name, &run.target).await?)
                }
                _ => None,
            };
            return Err(overtaken(run, delivery, now.as_ref())?.unwrap_or_else(|| error.failure(&target)));
        }
    };
    if !matches!(prepared, Ok(None)) {
        let_go(session, &held).await;
    }
    if let Some(outcome) = prepared? {
        return Ok(outcome);
    }

    let mut baseline = Baseline::of(facts, delivery.settings.preflight.usage_factor);
    if delivery.options.sick {
        baseline.excused = failing;
    }
    if let Err(failure) = run.step(Step::Switching) {
        let_go(session, &held).await;
        return Err(failure);
    }
    run.log.begin(Gate::SwitchTest);
    let stop = run.world.stop;
    stop.set_switching_here(delivery.settings.is_local());
    let switched = switch_test::switch(&mut run.log, session, &held, &baseline).await;
    stop.set_switching_here(false);
    let switched = match switched {
        Ok(switched) => switched,
        Err(bad) => {
            run.switch_log = bad.log;
            if !bad.touched {
                let _ = held.end(session).await;
                return Err(bad.failure);
            }
            // A word sends it back at once; without one the host waits for its lease to end.
            let shell = match bad.waiting {
                true => crate::host::fresh(delivery.endpoint).await.ok(),
                false => None,
            };
            let stay = bad.waiting && stays(delivery);
            return Err(take_back(run, session, shell, &held, None, stay, bad.failure).await);
        }
    };
    run.switch_log = format!("{}\n{}", switched.stdout, switched.stderr);
    run.log.pass("");
    if run.world.stop.asked() {
        let shell = crate::host::fresh(delivery.endpoint).await.ok();
        return Err(take_back(run, session, shell, &held, None, false, unwanted(&target)).await);
    }

    run.log.begin(Gate::Validate);
    let running = switched.state.here.running.clone().unwrap_or_default();
    let mut shell = validated(run, session, &held, &running, &baseline, delivery).await?;
    if let Some(home) = &delivery.home {
        let here = (&held, shell);
        return and_back(run, session, here, &baseline, (delivery, home), &facts.here).await;
    }

    // Named before the commit, so that the builder's root can be made beside it, and before the record.
    let builder = delivery.builder.filter(|_| !delivery.options.skip_validation);
    let named = mark::name(run, delivery.commit, None).ok();
    run.state.named = named.as_ref().map(RecordName::leaf);
    run.try_step(Step::Committing);
    run.log.begin(Gate::Commit);
    let root = named
        .as_ref()
        .map(|name| mark::root_name(delivery.restores.as_ref(), name));
    let drv = run.evidence.drv.clone();
    let rooting = async {
        let Some(root) = &root else { return Ok(()) };
        let path = (&delivery.toplevel, drv.as_deref());
        let link = delivery.workshop.map(|(order, _)| (order.link(), order.run));
        let left = link.as_ref().map(|(link, run)| (link.as_str(), *run));
        root_on_builder(builder, &own, root, path, left).await?;
        if let (Some(_), Some((_, bench))) = (builder, delivery.workshop) {
            bench.set_tidy();
        }
        Ok(())
    };
    let (committed, rooted) =
        tokio::join!(commit::commit(&mut run.log, &held, &mut shell, &running), rooting);
    mark::kept(run, rooted);
    let committed = match committed {
        Ok(committed) => committed,
        Err((failure, state)) => {
            if let (Some(root), None) = (&root, &delivery.restores) {
                forget_on_builder(builder, &own, root).await;
            }
            return Err(take_back(run, session, Some(shell), &held, state, false, failure).await);
        }
    };
    run.evidence.generation_after = committed.generation;
    run.log.pass("");
    if delivery.options.skip_validation {
        let _ = held.end(&mut shell).await;
        run.end(Ending {
            exit: 0,
            what: "not validated, not recorded".into(),
            ..Ending::default()
        });
        let text = format!(
            "{target} runs {}, unvalidated: it is not known-good and has no record\n",
            delivery.toplevel
        );
        return Ok(Outcome {
            exit: 0,
            target,
            outcome: "unvalidated",
            record: None,
            toplevel: Some(delivery.toplevel.to_string()),
            published: None,
            text,
        });
    }
    run.try_step(Step::Marking);
    run.log.begin(Gate::KnownGood);
    let marking = Mark {
        kind: delivery.kind,
        commit: delivery.commit,
        settings: delivery.settings,
        toplevel: &delivery.toplevel,
        builder: delivery.builder,
        restores: delivery.restores.clone(),
        withdraws: delivery.withdraws.clone(),
        remote: delivery.remote.clone(),
        kept: named.is_some(),
        named,
        roots: Some(&facts.roots),
        held: Some(&held),
    };
    let marked = mark::mark(run, &mut shell, &marking).await;
    if !matches!(marked, Ok(Marked::Done(_))) {
        // Whatever marking came to, the lock is not needed any more; a second end does no harm.
        let _ = held.end(&mut shell).await;
    }
    match marked? {
        Marked::Done(outcome) => Ok(outcome),
        Marked::Lost(failure) => Err(put_back(run, session, &held, delivery, failure).await),
    }
}

/// Somebody wanted the run to end, and the switch had begun by then.
pub(super) fn unwanted(target: &str) -> Failure {
    Failure::failed(
        Reason::Cancelled,
        format!("stopped: {target} does not stay on the candidate"),
    )
}

/// `auto-rollback = false` leaves a host that fails on the new system; a rehearsal never does.
fn stays(delivery: &Delivery<'_>) -> bool {
    !delivery.settings.auto_rollback && delivery.home.is_none()
}

/// Ends a hold without a switch, and leaves nothing behind.
async fn let_go(session: &mut Session, held: &Held) {
    // A supervisor that cannot be told lets go by itself when its lease ends; the next run sweeps.
    if held.end(session).await.is_err() {
        let _ = supervisor::release_leftover(session, &held.run).await;
    }
}

/// Somebody else's record won after this host was committed: it goes back to what ran before.
async fn put_back(
    run: &mut Run<'_>,
    session: &mut Session,
    held: &Held,
    delivery: &Delivery<'_>,
    mut failure: Failure,
) -> Failure {
    let target = run.target.to_string();
    run.log
        .note(format!("{}: going back to {}", failure.what, held.previous));
    let steps = by_hand(&target, &ssh_line(session), &held.previous);
    match switched_back(run, session, held, delivery).await {
        Ok(()) => {
            failure.why.push(format!(
                "{target} is back on what ran before, and that was checked"
            ));
            failure.exit(Exit::Reverted)
        }
        Err(error) => {
            failure
                .why
                .push(format!("{target} could not be taken back: {}", error.what));
            failure.why.extend(error.why);
            failure.next = steps;
            failure.exit(Exit::NeedsPerson)
        }
    }
}

async fn switched_back(
    run: &mut Run<'_>,
    session: &mut Session,
    held: &Held,
    delivery: &Delivery<'_>,
) -> Result<(), Failure> {
    let target = run.target.to_string();
    let facts = reach::read_facts(session, &run.target).await?;
    let plan = Plan {
        run: format!("{}-back", run.id()),
        candidate: held.previous.clone(),
        ..plan(run, &facts, delivery)
    };
    let back = supervisor::hold(session, &plan)
        .await
        .map_err(|error| error.failure(&target))?;
    let baseline = Baseline::of(&facts, delivery.settings.preflight.usage_factor);
    let switched = match switch_test::switch(&mut run.log, session, &back, &baseline).await {
        Ok(switched) => switched,
        Err(bad) => return Err(take_back(run, session, None, &back, None, false, bad.failure).await),
    };
    let running = switched.state.here.running.clone().unwrap_or_default();
    let mut shell = crate::host::fresh(delivery.endpoint)
        .await
        .map_err(|error| error.failure(&target))?;
    let committed = commit::commit(&mut run.log, &back, &mut shell, &running).await;
    let _ = back.end(&mut shell).await;
    committed.map(|_| ()).map_err(|(failure, _)| failure)
}

fn plan(run: &Run<'_>, facts: &Facts, delivery: &Delivery<'_>) -> Plan {
    let settings = delivery.settings;
    Plan {
        run: run.id().to_owned(),
        target: run.target.to_string(),
        verb: run.state.verb.name().to_owned(),
        commit: run.state.commit.clone(),
        who: run.state.by.clone(),
        candidate: delivery.toplevel.to_string(),
        seen: facts.here.clone(),
        failed: facts.failed_units.clone(),
        lease: settings.timeouts.confirm,
        activate: settings.timeouts.activate,
        reboot_on_failed_revert: settings.reboot_on_failed_revert,
        accept_drift: delivery.options.accept_drift,
        specialisation: Some(delivery.checked.specialisation.clone()).filter(|s| !s.is_empty()),
        container: facts.container.clone(),
        never_reboot: settings.is_local(),
    }
}

/// Validation, and what follows when it fails.
async fn validated(
    run: &mut Run<'_>,
    session: &mut Session,
    held: &Held,
    running: &str,
    baseline: &Baseline,
    delivery: &Delivery<'_>,
) -> Result<Shell, Failure> {
    let target = run.target.to_string();
    let mut settings = delivery.settings.clone();
    settings.preflight = delivery.checked.preflight.clone();
    let checks = if delivery.options.skip_validation {
        &[][..]
    } else {
        &delivery.checked.checks[..]
    };
    if delivery.options.skip_validation {
        settings.timeouts.soak = std::time::Duration::ZERO;
    }
    let subject = Subject {
        settings: &settings,
        target: &target,
        endpoint: delivery.endpoint,
        running,
        toplevel: delivery.toplevel.as_str(),
        checks,
        files: delivery.files,
        baseline,
    };
    let stop = run.world.stop;
    let validated = tokio::select! {
        validated = validate(&mut run.log, session, held, &subject) => Some(validated),
        () = stop.wait() => None,
    };
    let Some(Validated { shell, result }) = validated else {
        let shell = crate::host::fresh(delivery.endpoint).await.ok();
        return Err(take_back(run, session, shell, held, None, false, unwanted(&target)).await);
    };
    let failure = match (shell, result) {
        (Some(shell), Ok(_)) => {
            run.log.pass("");
            return Ok(shell);
        }
        (Some(shell), Err(failure)) if delivery.options.skip_validation => {
            run.log.skip(
                Gate::Validate,
                format!("skipped in an emergency: {}", failure.what),
            );
            return Ok(shell);
        }
        (Some(mut shell), Err(failure)) if delivery.options.sick && delivery.home.is_none() => {
            let question = format!(
                "{}\n{target} can be reached. Stay on the restored closure all the same? [y/N]",
                failure.what
            );
            let stay = delivery.options.keep || {
                let answer = asked(run.world.asker, question);
                validate::beside(held, &mut shell, async { Ok(answer.await) })
                    .await
                    .is_ok_and(|yes| yes == Some(true))
            };
            if stay {
                run.log
                    .warn(format!("kept although validation failed: {}", failure.what));
                run.log
                    .skip(Gate::Validate, format!("kept by the operator: {}", failure.what));
                return Ok(shell);
            }
            let failure = failure.next(format!(
                "git nixgate rollback {target} --keep    # stay there although it fails"
            ));
            take_back(run, session, Some(shell), held, None, false, failure).await
        }
        (shell, Err(failure)) => {
            let stay = stays(delivery);
            take_back(run, session, shell, held, None, stay, failure).await
        }
        (None, Ok(_)) => {
            let failure = Failure::failed(Reason::Link, format!("{target}: the fresh connection was lost"));
            take_back(run, session, None, held, None, false, failure).await
        }
    };
    Err(failure)
}
