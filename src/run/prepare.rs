//! What comes before a switch: copy, rehearsal and the last questions, beside the taking of the lock and then under it.

use std::sync::Arc;
use std::time::Instant;

use super::deliver::{Delivery, Outcome};
use super::{Asker, Run, registered, resolve};
use crate::event::{Gate, Watcher};
use crate::failure::{Failure, Reason};
use crate::gate::known_good::RemoteSide;
use crate::gate::{As, GateLog, copy, dry_activate, pressure};
use crate::host::pressure::Pressure;
use crate::host::supervisor::{Held, Rehearsal};
use crate::host::{Privilege, Session};
use crate::nix;
use tokio::sync::Notify;

/// What is done beside the taking of the lock, and goes on under it.
pub(super) enum Ahead {
    Copied(&'static str),
    /// Nothing had to be copied, so that the rehearsal could begin.
    Rehearsed(Box<Rehearsal>),
    /// There is no room, and garbage may be collected: under the lock.
    Full(Box<Failure>),
}

/// `judged` hears when nothing but the long part is left to do.
pub(super) async fn ahead(
    (watcher, judged): (&dyn Watcher, &Notify),
    session: &Session,
    target: &str,
    delivery: &Delivery<'_>,
) -> Result<Ahead, Failure> {
    let Some(place) = delivery.supply else {
        judged.notify_one();
        return rehearse(session, target, delivery)
            .await
            .map(|seen| Ahead::Rehearsed(Box::new(seen)));
    };
    let demand = copy::demand(session, delivery.closure);
    let (demand, now) = tokio::join!(demand, Pressure::figures(session));
    let now = now.map_err(|error| error.failure(target))?;
    let demand = demand?;
    let limits = &delivery.settings.preflight;
    if pressure::is_short(now.memory_available_kib, now.memory_stalled, limits) {
        let now = Pressure::read(session).await;
        memory(target, delivery, &now.map_err(|error| error.failure(target))?)?;
    }
    if let Err(failure) = pressure::room(target, demand, &now, limits) {
        return match delivery.options.gc {
            true => Ok(Ahead::Full(Box::new(failure))),
            false => Err(failure),
        };
    }
    if demand.paths == 0 {
        return Ok(Ahead::Copied("already there"));
    }
    judged.notify_one();
    copy::copy(watcher, delivery.settings, place, session, &delivery.toplevel)
        .await
        .map(Ahead::Copied)
}

/// A sick host is taken back all the same: the little memory it has may be what the way back mends.
fn memory(target: &str, delivery: &Delivery<'_>, now: &Pressure) -> Result<(), Failure> {
    if delivery.options.sick {
        return Ok(());
    }
    pressure::memory(target, now, &delivery.settings.preflight)
}

/// Makes room under the lock, and copies.
async fn after_gc(
    (log, watcher): (&GateLog<'_>, &dyn Watcher),
    session: &Session,
    target: &str,
    run: &str,
    delivery: &Delivery<'_>,
    full: &Failure,
) -> Result<Ahead, Failure> {
    log.note(format!("{}: collecting garbage there", full.what));
    let root = As(Privilege::Root, session);
    let freed = nix::collect_garbage(&root, run, delivery.settings.timeouts.copy).await?;
    log.note(freed);
    match Box::pin(ahead((watcher, &Notify::new()), session, target, delivery)).await? {
        Ahead::Full(failure) => Err(*failure),
        done => Ok(done),
    }
}

async fn rehearse(session: &Session, target: &str, delivery: &Delivery<'_>) -> Result<Rehearsal, Failure> {
    let limit = delivery.settings.timeouts.activate;
    let specialisation = &delivery.checked.settings.specialisation;
    dry_activate::rehearse(session, target, specialisation, delivery.closure, limit).await
}

/// Copy and rehearsal under the lock. `Some` when the run ends here.
pub(super) async fn prepare(
    run: &mut Run<'_>,
    session: &Session,
    held: &Held,
    began: Instant,
    delivery: &Delivery<'_>,
    ahead: impl Future<Output = Result<Ahead, Failure>>,
) -> Result<Option<Outcome>, Failure> {
    let target = run.target.to_string();
    let (repo, watcher) = (run.world.repo, run.world.watcher);
    for left in &held.swept {
        run.log.note(format!("removed what a dead run left: {left}"));
    }
    // Under the lock the records are judged again, before anything is switched: another clone may have released while
    // this one built.
    let own = run.target.clone();
    let again = async {
        match &delivery.remote {
            RemoteSide::Ready { name, .. } => resolve::remote_side(repo, name, &own).await.map(Some),
            _ => Ok(None),
        }
    };
    let toplevel = delivery.toplevel.as_str();
    let log = &mut run.log;
    let steps = async {
        let mut done = ahead.await?;
        if let Ahead::Full(full) = &done {
            done = after_gc((log, watcher), session, &target, &held.run, delivery, full).await?;
        }
        let seen = match done {
            Ahead::Full(failure) => return Err(*failure),
            Ahead::Rehearsed(seen) => {
                log.pass("already there");
                log.begin_since(Gate::DryActivate, began);
                *seen
            }
            Ahead::Copied(from) => {
                log.pass(from);
                log.begin(Gate::DryActivate);
                rehearse(session, &target, delivery).await?
            }
        };
        if pressure::is_short(
            seen.memory_available_kib,
            seen.memory_stalled,
            &delivery.settings.preflight,
        ) {
            let now = Pressure::read(session)
                .await
                .map_err(|error| error.failure(&target))?;
            memory(&target, delivery, &now)?;
        }
        dry_activate::judged(log, &target, delivery.closure, seen)
    };
    let (rehearsed, again) = copy::while_held(held, session, async { tokio::join!(steps, again) }).await?;
    let again = again?;
    if let Some(failure) = overtaken(run, delivery, again.as_ref())? {
        return Err(failure);
    }
    let rehearsed = rehearsed?;
    run.evidence.plan = Some(rehearsed.plan);
    run.evidence.units_changed = rehearsed.units;
    registered::keep(run, delivery, &rehearsed.registered)?;
    if let Some(reboot) = &rehearsed.reboot
        && !delivery.options.boot
    {
        return Err(reboot.clone());
    }
    run.log.pass(rehearsed.detail);

    if delivery.options.rehearse_only {
        return Ok(Some(Outcome {
            exit: 0,
            outcome: "checked",
            record: None,
            toplevel: Some(toplevel.to_owned()),
            published: None,
            text: format!("{target}: every gate up to dry-activate passed; nothing was changed\n"),
            target,
        }));
    }
    if delivery.options.confirm && !delivery.options.boot {
        let question = format!("switch {target} to {toplevel}? [y/N]");
        let asker = run.world.asker;
        // A person may take longer than a lease; the question is bounded by patience, not by the link.
        match copy::while_held(held, session, asked(asker, question)).await? {
            Some(true) => {}
            Some(false) => {
                return Err(Failure::failed(
                    Reason::Usage,
                    format!("declined: {target} was not switched"),
                ));
            }
            None => {
                return Err(Failure::usage(
                    "--confirm needs a terminal: nobody is here to be asked",
                ));
            }
        }
    }
    Ok(None)
}

/// Asks a person yes or no without holding up the lease.
pub(super) async fn asked(asker: &Arc<dyn Asker + Send + Sync>, question: String) -> Option<bool> {
    let asker = Arc::clone(asker);
    let answer = tokio::task::spawn_blocking(move || asker.ask(&question))
        .await
        .ok()??;
    Some(matches!(answer.as_str(), "y" | "Y" | "yes"))
}

/// Another clone's record, published since this run began: who made it.
pub(super) fn overtaken(
    run: &Run<'_>,
    delivery: &Delivery<'_>,
    now: Option<&RemoteSide>,
) -> Result<Option<Failure>, Failure> {
    let (Some(RemoteSide::Ready { refs, .. }), RemoteSide::Ready { refs: before, .. }) =
        (now, &delivery.remote)
    else {
        return Ok(None);
    };
    if refs.ledger == before.ledger && refs.pointer == before.pointer {
        return Ok(None);
    }
    let target = &run.target;
    let who = resolve::own_ledger(run.world.repo, target)?.map(|ledger| {
        let head = ledger.head();
        format!(
            "{} made {} at {}",
            head.tagger_name,
            head.name,
            head.time.rfc3339()
        )
    });
    Ok(Some(
        Failure::refused(format!(
            "{target} was released by somebody else while this run prepared"
        ))
        .why(who.unwrap_or_default())
        .next(format!("git nixgate log {target}; then run it again")),
    ))
}
