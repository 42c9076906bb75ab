//! The end of a run that another process began: the host is on the proven closure, and what is missing is the record, or
//! something around it.

use super::deliver::Outcome;
use super::journal::{Ending, Verb};
use super::mark::{Mark, Marked, drop_superfluous, mark, outcome, root_name};
use super::{Run, publish, resolve};
use crate::config::Settings;
use crate::event::Gate;
use crate::failure::{Exit, Failure, Reason};
use crate::gate::Place;
use crate::gate::commit::{by_hand, ssh_line};
use crate::gate::known_good::{self, Made, RemoteSide};
use crate::git::Commit;
use crate::host::Session;
use crate::nix::StorePath;
use crate::record::{Kind, OnHost, Record, RecordName};

/// Makes the record, or, where the dead run made it, does again what may be missing around it.
///
/// # Errors
/// Exit 8: the next `resume` does it; exit 5: somebody else's record won, and the host is on ours.
pub(super) async fn finish(
    run: &mut Run<'_>,
    settings: &Settings,
    git: &Commit,
    session: &mut Session,
    builder: Option<Place<'_>>,
) -> Result<Outcome, Failure> {
    let target = run.target.clone();
    let bad = |what: String| Failure::new(Exit::NeedsPerson, Reason::Record, what);
    let candidate = run.state.candidate.clone().unwrap_or_default();
    let toplevel = StorePath::new(&candidate).map_err(|error| bad(error.to_string()))?;
    if run.evidence.closure_digest.is_empty() {
        return Err(
            bad(format!("the journal of {} does not hold its evidence", run.id()))
                .next(format!("git nixgate release {target} --again")),
        );
    }
    run.log.begin(Gate::KnownGood);
    let remote = resolve::remote_side(run.world.repo, &settings.remote, &target).await?;
    let parsed: Result<Vec<RecordName>, String> =
        run.state.withdraws.iter().map(|name| name.parse()).collect();
    let restores: Option<OnHost> = run.state.restores.as_ref().and_then(|text| text.parse().ok());
    // A crash after the record was made: it stays the one that it is, wherever it has got to.
    let head = resolve::own_ledger(run.world.repo, &target)?.map(|ledger| ledger.head().clone());
    let own = head.filter(|record| {
        record.evidence.toplevel == candidate
            && record.commit == git.id
            && record.time.rfc3339() >= run.state.started
    });
    let marking = Mark {
        kind: match run.state.verb {
            Verb::Rollback => Kind::Rollback,
            Verb::Deploy => Kind::Deploy,
            Verb::Release | Verb::Check => Kind::Release,
        },
        commit: git,
        settings,
        toplevel: &toplevel,
        builder: builder.filter(|_| run.state.verb == Verb::Release),
        restores,
        withdraws: parsed.map_err(bad)?,
        remote,
        named: named(run),
        kept: false,
        roots: None,
        held: None,
    };
    if let Some(record) = own {
        rooted(run, session, &record, &marking).await?;
        return published(run, &marking, &record.name).await;
    }
    match mark(run, session, &marking).await? {
        Marked::Done(outcome) => Ok(outcome),
        Marked::Lost(failure) => {
            let previous = run.state.previous.clone().unwrap_or_default();
            let mut failure = failure.exit(Exit::NeedsPerson);
            failure.next = by_hand(target.as_str(), &ssh_line(session), &previous);
            Err(failure)
        }
    }
}

/// The name that the dead run chose for its record; the builder may have a root by it.
pub(super) fn named(run: &Run<'_>) -> Option<RecordName> {
    RecordName::from_leaf(&run.target, run.state.named.as_deref()?).ok()
}

/// The roots and the record's bytes on the target, once more.
async fn rooted(
    run: &mut Run<'_>,
    session: &mut Session,
    record: &Record,
    mark: &Mark<'_>,
) -> Result<(), Failure> {
    let Some(raw) = run.world.repo.tag(&record.oid)? else {
        return Ok(());
    };
    let before = run
        .evidence
        .before
        .as_ref()
        .map(|before| before.toplevel.as_str());
    let made = Made {
        name: record.name.clone(),
        oid: record.oid,
        seq: record.seq,
        raw,
    };
    let root = root_name(record.restores.as_ref(), &record.name);
    let before = before.filter(|path| record.seq == 1 && !path.is_empty());
    let (target, toplevel) = (&run.target, mark.toplevel);
    known_good::root_on_target(session, target, &made, &root, toplevel.as_str(), before).await?;
    // The record is made: it says what was known of the builder's root then.
    let drv = record.evidence.drv.as_deref();
    let kept =
        known_good::root_on_builder(mark.builder, target, &record.name.leaf(), (toplevel, drv), None).await;
    super::mark::kept(run, kept);
    drop_superfluous(run, session, mark).await;
    Ok(())
}

async fn published(run: &mut Run<'_>, mark: &Mark<'_>, name: &RecordName) -> Result<Outcome, Failure> {
    let remote = !matches!(mark.remote, RemoteSide::None);
    if remote {
        publish::publish(run.world, &run.target, &mark.settings.remote).await?;
    }
    run.log.pass("");
    run.end(Ending::recorded(Exit::Done, name.to_string()));
    Ok(outcome(run, mark, name, remote))
}
