//! Gates 4 and 5 under the lock: the lock itself, the copy and the rehearsal, side by side where nothing forbids it.

use std::pin::pin;
use std::time::Instant;

use tokio::sync::Notify;

use super::{Delivery, Outcome, let_go, plan};
use crate::event::Gate;
use crate::failure::Failure;
use crate::gate::known_good::RemoteSide;
use crate::host::supervisor::{Held, HoldError};
use crate::host::{Facts, Session};
use crate::run::prepare::{ahead, overtaken, prepare};
use crate::run::supersede::{self, Newer};
use crate::run::{Run, reboot, resolve};

/// What is before the switch.
pub(super) enum Ready {
    /// The host is held, and has the candidate.
    Held(Box<Held>),
    /// The run goes no further, and the host is let go.
    Ended(Box<Outcome>),
}

/// Holds the host, brings the closure there and rehearses the switch.
pub(super) async fn held(
    run: &mut Run<'_>,
    session: &mut Session,
    facts: &Facts,
    delivery: &Delivery<'_>,
) -> Result<Ready, Failure> {
    let target = run.target.to_string();
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
                let work = prepare(run, session, &held, began, delivery, rest);
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
    // What boots next is written to its end, whoever wants the run to stop meanwhile.
    let prepared = match prepared {
        Ok(None) if delivery.options.boot => {
            reboot::set(run, session, &held, facts, delivery).await.map(Some)
        }
        prepared => prepared,
    };
    if !matches!(prepared, Ok(None)) {
        let_go(session, &held).await;
    }
    Ok(match prepared? {
        None => Ready::Held(Box::new(held)),
        Some(outcome) => Ready::Ended(Box::new(outcome)),
    })
}
