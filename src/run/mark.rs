//! Step 9 for every run: the record, its roots, its refs. The host is committed by now, so that a failure here is exit
//! 8, and `resume` does the rest.

use std::collections::BTreeMap;

use super::journal::Ending;
use super::secrets::secrets_of;
use super::{Outcome, Run, resolve, stale};
use crate::config::Settings;
use crate::failure::{Exit, Failure};
use crate::gate::Place;
use crate::gate::known_good::{self, Made, Marking, Published, RemoteSide, root_on_builder};
use crate::git::Commit;
use crate::host::Remote;
use crate::host::supervisor::Held;
use crate::nix::StorePath;
use crate::record::{Kind, OnHost, RecordName};

/// What to mark.
pub(super) struct Mark<'a> {
    pub kind: Kind,
    pub commit: &'a Commit,
    pub settings: &'a Settings,
    pub toplevel: &'a StorePath,
    /// To root the closure there; `None`: the target's root is all there is.
    pub builder: Option<Place<'a>>,
    pub restores: Option<OnHost>,
    pub withdraws: Vec<RecordName>,
    pub remote: RemoteSide,
    /// The record's name, where it was chosen before the commit.
    pub named: Option<RecordName>,
    /// The builder was asked for a root of that name already.
    pub kept: bool,
    /// The host's roots at preflight, `<target>/<name>`; `None`: not known.
    pub roots: Option<&'a BTreeMap<String, String>>,
    /// The hold that ends once the host carries the record: from then on whoever has not fetched it is refused there.
    pub held: Option<&'a Held>,
}

/// How marking ended.
pub(super) enum Marked {
    Done(Outcome),
    /// Somebody else's record is on the remote, and ours cannot follow it.
    Lost(Failure),
}

/// Makes and publishes the record. If another record won the race and its commit is on our line, it is chained once
/// more.
///
/// # Errors
/// Exit 8.
pub(super) async fn mark(
    run: &mut Run<'_>,
    host: &mut impl Remote,
    mark: &Mark<'_>,
) -> Result<Marked, Failure> {
    let target = run.target.clone();
    let after = |failure: Failure| {
        let resume = format!("git nixgate resume {target}");
        let failure = failure.why(format!(
            "{target} is on the proven closure; what is missing is its record"
        ));
        let failure = if failure.next.is_empty() {
            failure.next(resume)
        } else {
            failure
        };
        failure.exit(Exit::Unpublished)
    };
    let mut remote = mark.remote.clone();
    for again in [false, true] {
        let named = mark.named.as_ref().filter(|_| !again);
        let name = name(run, mark.commit, named).map_err(after)?;
        let root = root_name(mark.restores.as_ref(), &name);
        if !(mark.kept && named == Some(&name)) {
            let drv = run.evidence.drv.clone();
            let path = (mark.toplevel, drv.as_deref());
            kept(
                run,
                root_on_builder(mark.builder, &target, &root, path, None).await,
            );
        }
        let (made, before) = made(run, mark, &name, again).map_err(after)?;
        let marking = marking(run, mark);
        // Neither the remote nor the target waits for the other.
        let (published, rooted) = tokio::join!(marking.publish(&mut run.log, &made, &remote), async {
            known_good::root_on_target(
                host,
                &target,
                &made,
                &root,
                mark.toplevel.as_str(),
                before.as_deref(),
            )
            .await?;
            if let Some(held) = mark.held {
                // Whatever is left of it goes with its lease.
                let _ = held.end(host).await;
            }
            Ok(())
        },);
        let published = published.map_err(after)?;
        if let Published::Lost(failure) = published {
            if mark.restores.is_none() {
                known_good::forget_on_builder(mark.builder, &target, &root).await;
            }
            match follow(run, mark, &remote, again).await {
                Some(next) => remote = next,
                None => {
                    unmarked(run, host, &made).await;
                    return Ok(Marked::Lost(failure));
                }
            }
            continue;
        }
        rooted.map_err(after)?;
        drop_superfluous(run, host, mark).await;
        if let Published::Later(failure) = published {
            run.log.pass("kept here as pending");
            run.end(Ending {
                record: Some(made.name.to_string()),
                ..Ending::of(&failure, None)
            });
            return Err(failure);
        }
        run.log.pass("");
        let everywhere = matches!(published, Published::Everywhere);
        if !everywhere {
            run.log.note("no remote is configured: the record is here only");
        }
        run.end(Ending::recorded(Exit::Done, made.name.to_string()));
        return Ok(Marked::Done(outcome(run, mark, &made.name, everywhere)));
    }
    Ok(Marked::Lost(Failure::refused(format!(
        "records of {target} keep appearing on the remote"
    ))))
}

fn marking<'a>(run: &Run<'a>, mark: &'a Mark<'_>) -> Marking<'a> {
    // The run's own target, not a borrow of it: the log is written to while this is in use.
    Marking {
        repo: run.world.repo,
        target: run.target.clone(),
        kind: mark.kind,
        commit: mark.commit.id,
        subject: &mark.commit.subject,
        restores: mark.restores.clone(),
        withdraws: mark.withdraws.clone(),
        secrets: secrets_of(run.world.repo, &run.target, mark.settings, &mark.commit.id),
    }
}

/// The name of the record that would be made now; `named` is kept to where it can be.
pub(super) fn name(
    run: &Run<'_>,
    commit: &Commit,
    named: Option<&RecordName>,
) -> Result<RecordName, Failure> {
    let ledger = resolve::own_ledger(run.world.repo, &run.target)?;
    known_good::name_after(ledger.as_ref(), &run.target, &commit.id, named)
}

/// What came of the root on the builder: without one the run goes on, and its record says so.
pub(super) fn kept(run: &mut Run<'_>, rooted: Result<(), Failure>) {
    if let Err(failure) = rooted {
        run.log.warn(format!("no root on the builder: {}", failure.what));
    }
}

/// The record, and what ran before the first one.
fn made(
    run: &mut Run<'_>,
    mark: &Mark<'_>,
    name: &RecordName,
    again: bool,
) -> Result<(Made, Option<String>), Failure> {
    // What our record follows it covers: it must not cover one that does not pass.
    let ledger = resolve::own_trusted(run.world.repo, &run.target)?;
    if again {
        run.log
            .warn("another record was published first; this one follows it");
    }
    let marking = marking(run, mark);
    let made = marking.make(&mut run.log, ledger.as_deref(), name.utc, run.evidence.clone())?;
    let before = run.evidence.before.as_ref().map(|before| before.toplevel.clone());
    Ok((made, before.filter(|path| ledger.is_none() && !path.is_empty())))
}

/// A record that lost for good leaves nothing on the host: its root goes, and the host carries the newest record that
/// stands.
async fn unmarked(run: &mut Run<'_>, host: &mut impl Remote, made: &Made) {
    let (repo, target) = (run.world.repo, run.target.clone());
    let head = resolve::own_ledger(repo, &target)
        .ok()
        .flatten()
        .map(|ledger| ledger.head().oid);
    let raw = head.and_then(|oid| repo.tag(&oid).ok().flatten());
    if let Err(error) = known_good::forget_on_target(host, &target, &made.name.leaf(), raw.as_deref()).await {
        run.log
            .note(format!("the lost record is still on the host: {}", error.what));
    }
}

/// A release's root bears its own name; a rollback's and a deploy's is that of the release restored.
pub(super) fn root_name(restores: Option<&OnHost>, own: &RecordName) -> String {
    match restores {
        None => own.leaf(),
        Some(OnHost::BeforeFirst) => "before-first".to_owned(),
        Some(OnHost::Release(name)) => name.leaf(),
    }
}

/// After a lost race: the remote as it is now, if our record can follow the winner's.
async fn follow(run: &Run<'_>, mark: &Mark<'_>, remote: &RemoteSide, again: bool) -> Option<RemoteSide> {
    let RemoteSide::Ready { name, .. } = remote else {
        return None;
    };
    if again {
        return None;
    }
    let repo = run.world.repo;
    let side = resolve::remote_side(repo, name, &run.target).await.ok()?;
    let ledger = resolve::own_trusted(repo, &run.target).ok()??;
    let furthest = ledger.furthest_commit()?;
    let follows = mark.kind == Kind::Release && repo.is_ancestor(&furthest, &mark.commit.id).ok()?;
    follows.then_some(side)
}

/// `keep`: roots of known-good releases beyond the newest go.
pub(super) async fn drop_superfluous(run: &mut Run<'_>, host: &mut impl Remote, mark: &Mark<'_>) {
    let target = run.target.clone();
    let Ok(Some(ledger)) = resolve::own_trusted(run.world.repo, &target) else {
        return;
    };
    stale::drop_old(run.world.repo, &target, Some(&ledger));
    if mark.kind != Kind::Release {
        return;
    }
    let mut gone = known_good::superfluous(&ledger, mark.settings.keep);
    if let Some(there) = mark.roots {
        // Most of them went with earlier releases.
        gone.retain(|name| there.contains_key(&format!("{target}/{name}")));
    }
    if !gone.is_empty() {
        known_good::drop_roots(&mut run.log, host, mark.builder, &ledger, &gone).await;
    }
}

/// What is said on standard output of a record that is made.
pub(super) fn outcome(run: &Run<'_>, mark: &Mark<'_>, name: &RecordName, published: bool) -> Outcome {
    let word = match mark.kind {
        Kind::Release => "released",
        Kind::Rollback => "rolled-back",
        Kind::Deploy => "deployed",
    };
    Outcome {
        exit: 0,
        target: run.target.to_string(),
        outcome: word,
        record: Some(name.to_string()),
        toplevel: Some(mark.toplevel.to_string()),
        published: Some(published),
        text: format!("{name}\n"),
    }
}
