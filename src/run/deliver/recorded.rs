//! Gate 9: the record; and the way back for a host whose record lost a race.

use super::{Delivery, Outcome, plan};
use crate::event::Gate;
use crate::failure::{Exit, Failure};
use crate::gate::commit::{by_hand, ssh_line};
use crate::gate::health::Baseline;
use crate::gate::{commit, switch_test};
use crate::host::supervisor::{self, Held, Plan};
use crate::host::{Facts, Session, Shell};
use crate::record::RecordName;
use crate::run::back::take_back;
use crate::run::journal::Step;
use crate::run::mark::{self, Mark, Marked};
use crate::run::{Run, reach};

/// Marks what was committed known-good, by the name that it was given before.
pub(super) async fn recorded(
    run: &mut Run<'_>,
    session: &mut Session,
    (held, shell): (&Held, &mut Shell),
    (facts, named): (&Facts, Option<RecordName>),
    delivery: &Delivery<'_>,
) -> Result<Outcome, Failure> {
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
        held: Some(held),
    };
    let marked = mark::mark(run, shell, &marking).await;
    if !matches!(marked, Ok(Marked::Done(_))) {
        // Whatever marking came to, the lock is not needed any more; a second end does no harm.
        let _ = held.end(shell).await;
    }
    match marked? {
        Marked::Done(outcome) => Ok(outcome),
        Marked::Lost(failure) => Err(put_back(run, session, (held, facts), delivery, failure).await),
    }
}

/// Somebody else's record won after this host was committed: it goes back to what ran before.
async fn put_back(
    run: &mut Run<'_>,
    session: &mut Session,
    (held, before): (&Held, &Facts),
    delivery: &Delivery<'_>,
    mut failure: Failure,
) -> Failure {
    let target = run.target.to_string();
    run.log
        .note(format!("{}: going back to {}", failure.what, held.previous));
    let steps = by_hand(&target, &ssh_line(session), &held.previous);
    match switched_back(run, session, (held, before), delivery).await {
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
    (held, before): (&Held, &Facts),
    delivery: &Delivery<'_>,
) -> Result<(), Failure> {
    let target = run.target.to_string();
    let facts = reach::read_facts(session, &run.target).await?;
    // What ran before may be a specialisation: its toplevel is what the profile led to.
    let (candidate, specialisation) = match before.specialisation() {
        Some(known) => (known.toplevel.clone(), Some(known.name.clone())),
        None => (held.previous.clone(), None),
    };
    let plan = Plan {
        run: format!("{}-back", run.id()),
        candidate,
        specialisation,
        ..plan(run, &facts, delivery)
    };
    let back = supervisor::hold(session, &plan)
        .await
        .map_err(|error| error.failure(&target))?;
    let baseline = Baseline::of(&facts, delivery.settings.preflight.usage_factor);
    if let Err(bad) = switch_test::switch(&mut run.log, session, &back, &baseline).await {
        return Err(take_back(run, session, None, &back, None, false, bad.failure).await);
    }
    let mut shell = crate::host::fresh(delivery.endpoint)
        .await
        .map_err(|error| error.failure(&target))?;
    let committed = commit::commit(&mut run.log, &back, &mut shell).await;
    let _ = back.end(&mut shell).await;
    committed.map(|_| ()).map_err(|(failure, _)| failure)
}
