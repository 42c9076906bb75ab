//! Gate 8: profile and boot loader, and beside them the builder's root.

use super::{Delivery, Outcome};
use crate::event::Gate;
use crate::failure::{Exit, Failure};
use crate::gate::commit;
use crate::gate::known_good::{forget_on_builder, root_on_builder};
use crate::host::supervisor::Held;
use crate::host::{Session, Shell};
use crate::record::RecordName;
use crate::run::Run;
use crate::run::back::take_back;
use crate::run::journal::{Ending, Step};
use crate::run::mark;

/// Makes what runs what boots. The connection is handed on, with the name that the record is to have.
pub(super) async fn committed(
    run: &mut Run<'_>,
    session: &mut Session,
    (held, mut shell): (&Held, Shell),
    delivery: &Delivery<'_>,
) -> Result<(Shell, Option<RecordName>), Failure> {
    // Named before the commit, so that the builder's root can be made beside it, and before the record.
    let builder = delivery.builder.filter(|_| !delivery.options.skip_validation);
    let named = mark::name(run, delivery.commit, None).ok();
    run.state.named = named.as_ref().map(RecordName::leaf);
    run.try_step(Step::Committing);
    run.log.begin(Gate::Commit);
    let root = named
        .as_ref()
        .map(|name| mark::root_name(delivery.restores.as_ref(), name));
    let (target, drv) = (run.target.clone(), run.evidence.drv.clone());
    let rooting = async {
        let Some(root) = &root else { return Ok(()) };
        let path = (&delivery.toplevel, drv.as_deref());
        let link = delivery.workshop.map(|(order, _)| (order.link(), order.run));
        let left = link.as_ref().map(|(link, run)| (link.as_str(), *run));
        root_on_builder(builder, &target, root, path, left).await?;
        if let (Some(_), Some((_, bench))) = (builder, delivery.workshop) {
            bench.set_tidy();
        }
        Ok(())
    };
    let (committed, rooted) = tokio::join!(commit::commit(&mut run.log, held, &mut shell), rooting);
    mark::kept(run, rooted);
    let committed = match committed {
        Ok(committed) => committed,
        Err((failure, state)) => {
            let mut failure = take_back(run, session, Some(shell), held, state, false, failure).await;
            if failure.exit == Exit::Unpublished {
                // It is committed after all, and can be reached: what is missing is what comes now.
                if let Ok(shell) = crate::host::fresh(delivery.endpoint).await {
                    run.log.note(format!("{}; it is reached again", failure.what));
                    run.log.pass("");
                    return Ok((shell, named));
                }
                if delivery.options.skip_validation {
                    // Nobody validated it, so there is no record to be made.
                    failure.next = vec![format!("git nixgate release {target} --again")];
                    failure = failure.exit(Exit::NeedsPerson);
                }
            }
            // A host that turns out to be committed gets its record later, by the same name.
            if let (Some(root), None) = (&root, &delivery.restores)
                && failure.exit != Exit::Unpublished
            {
                forget_on_builder(builder, &target, root).await;
            }
            return Err(failure);
        }
    };
    run.evidence.generation_after = committed.generation;
    run.log.pass("");
    Ok((shell, named))
}

/// The end of a run whose validation was skipped: it runs, and nothing says that it is known-good.
pub(in crate::run) fn unrecorded(run: &mut Run<'_>, toplevel: &str) -> Outcome {
    let target = run.target.to_string();
    run.end(Ending {
        exit: 0,
        what: "not validated, not recorded".into(),
        ..Ending::default()
    });
    let text = format!("{target} runs {toplevel}, unvalidated: it is not known-good and has no record\n");
    Outcome {
        exit: 0,
        target,
        outcome: "unvalidated",
        record: None,
        toplevel: Some(toplevel.to_owned()),
        published: None,
        text,
    }
}
