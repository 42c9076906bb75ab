//! Step 9: the record, its roots, and its refs here and on the remote.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::{GateLog, Place};
use crate::event::Event;
use crate::failure::{Exit, Failure, Reason};
use crate::git::{PushError, RecordSet, RemoteRefs, Repo, Trusted};
use crate::host::{Remote, supervisor};
use crate::nix::{self, StorePath};
use crate::record::{
    Defect, Draft, Evidence, Kind, Ledger, Oid, OnHost, Record, RecordName, Secrets, Target, Utc,
};

/// What a record says beside its evidence.
pub struct Marking<'a> {
    pub repo: &'a Repo,
    pub target: Target,
    pub kind: Kind,
    pub commit: Oid,
    pub subject: &'a str,
    pub restores: Option<OnHost>,
    pub withdraws: Vec<RecordName>,
    /// Values that must not stand in the record.
    pub secrets: Secrets,
}

/// A record that is written, and kept as pending.
pub struct Made {
    pub name: RecordName,
    pub oid: Oid,
    pub seq: u64,
    pub raw: Vec<u8>,
}

/// Where the records of a run are published.
#[derive(Debug, Clone)]
pub enum RemoteSide {
    /// No remote: local only.
    None,
    /// It was reached, and this is what it has.
    Ready { name: String, refs: RemoteRefs },
    /// It cannot be reached.
    Away { name: String, failure: Failure },
}

/// How publishing ended.
pub enum Published {
    Everywhere,
    LocalOnly,
    /// Kept as pending: `publish` repeats the same object later.
    Later(Failure),
    /// Somebody else's record is on the remote instead.
    Lost(Failure),
}

impl Marking<'_> {
    /// Makes the tag object once, signs it as the user's tags are, and keeps it from being lost. `named`: its time, from
    /// [`name_after`].
    ///
    /// # Errors
    /// Exit 8: the host is on the proven closure, and `resume` makes the record.
    pub fn make(
        &self,
        log: &mut GateLog<'_>,
        ledger: Option<&Ledger>,
        named: Utc,
        mut evidence: Evidence,
    ) -> Result<Made, Failure> {
        let identity = self.repo.committer()?;
        let (seq, previous) = ledger.map_or((1, None), |ledger| {
            let (seq, link) = ledger.next();
            (seq, Some(link))
        });
        let now = OffsetDateTime::now_utc();
        let skew = Utc::behind(now, previous.as_ref().map(|link| link.name.utc)).map_or(0, |(_, skew)| skew);
        if skew > 60 {
            log.warn(format!("the clock here stands {skew} s behind the last record"));
        }
        evidence.skew = skew;
        evidence.previous = previous.as_ref().map(|link| link.name.to_string());
        evidence.by = identity.to_string();
        evidence.gates = log.gates().to_vec();
        evidence.warnings = log.warnings().to_vec();
        let draft = Draft {
            target: self.target.clone(),
            kind: self.kind,
            seq,
            commit: self.commit,
            tagger_name: identity.name,
            tagger_mail: identity.mail,
            time: named,
            subject: self.subject.to_owned(),
            evidence,
            previous,
            restores: self.restores.clone(),
            withdraws: self.withdraws.clone(),
            secrets: self.secrets.clone(),
        };
        let raw = self.repo.sign(&draft.payload())?;
        let oid = self.repo.write_tag(&raw)?;
        // What is written is read back with the reader's own strictness before anything points at it.
        let broken = |defect: Defect| {
            Failure::failed(Reason::Record, "the record that was made breaks a rule").why(defect.to_string())
        };
        let record = Record::parse(oid, &raw, Some(&draft.name().ref_name())).map_err(broken)?;
        let before = ledger.map_or(&[][..], Ledger::records);
        let chain = std::iter::once(&record).chain(before.iter().rev()).cloned();
        self.repo.judge(Ledger::new(chain.collect()).map_err(broken)?)?;
        self.repo.set_pending(&self.target, seq, &oid)?;
        Ok(Made {
            name: draft.name(),
            oid,
            seq,
            raw,
        })
    }

    /// Publishes, then sets the refs here.
    pub async fn publish(
        &self,
        log: &mut GateLog<'_>,
        made: &Made,
        side: &RemoteSide,
    ) -> Result<Published, Failure> {
        let mut set = None;
        let (published, remote) = match side {
            RemoteSide::None => (Published::LocalOnly, None),
            RemoteSide::Away { name, failure } => {
                let later = Failure {
                    what: format!("the record is made, and {name} cannot be reached"),
                    ..failure.clone()
                };
                (Published::Later(unpublished(later, &self.target)), None)
            }
            RemoteSide::Ready { name, refs } => {
                let waiting = self.repo.unpublished(&self.target, refs)?;
                // A chain that does not end with our record is no news of it: our push has to win or lose.
                let with_ours = waiting.filter(|set| set.ledger == made.oid);
                let all = set.insert(with_ours.unwrap_or(RecordSet {
                    records: vec![(made.name.clone(), made.oid)],
                    pointer: None,
                    ledger: made.oid,
                }));
                match self.repo.publish(name, &self.target, all, refs).await {
                    Ok(()) => (Published::Everywhere, Some(name.as_str())),
                    Err(error @ PushError::Race { .. }) => {
                        self.repo.drop_pending(&self.target, made.seq)?;
                        return Ok(Published::Lost(error.failure(name, &self.target)));
                    }
                    Err(error) => (
                        Published::Later(unpublished(error.failure(name, &self.target), &self.target)),
                        None,
                    ),
                }
            }
        };
        let keep = matches!(published, Published::Later(_));
        let local = match (&set, &published) {
            // Records that waited here went along.
            (Some(set), Published::Everywhere) => self.repo.commit_set(&self.target, set, remote, false)?,
            _ => {
                let pointer = (self.kind == Kind::Release).then_some(self.commit);
                self.repo
                    .commit_local(&self.target, &made.name, &made.oid, pointer, remote, keep)?
            }
        };
        if let Some(why) = local.pointer_left {
            log.note(format!("the local branch stays: {why}"));
        }
        log.see(&Event::Recorded {
            target: self.target.to_string(),
            record: made.name.to_string(),
            commit: self.commit.to_string(),
            published: remote.is_some(),
        });
        Ok(published)
    }
}

fn unpublished(mut failure: Failure, target: &Target) -> Failure {
    failure.why.push(format!(
        "{target} is on the proven closure; the record is kept here as pending"
    ));
    failure.next = vec![format!("git nixgate publish {target}")];
    failure.exit(Exit::Unpublished)
}

/// Leaves the record's bytes and the roots on the target: this closure's and, with the first release, that of what ran
/// before.
///
/// # Errors
/// Exit 8: `resume` does it again.
pub async fn root_on_target(
    remote: &mut impl Remote,
    target: &Target,
    made: &Made,
    root: &str,
    toplevel: &str,
    before_first: Option<&str>,
) -> Result<(), Failure> {
    let failed = |error: crate::host::HostError| error.failure(target.as_str()).exit(Exit::Unpublished);
    if let Some(before) = before_first {
        supervisor::store_record(remote, target.as_str(), &made.raw, Some(("before-first", before)))
            .await
            .map_err(failed)?;
    }
    supervisor::store_record(remote, target.as_str(), &made.raw, Some((root, toplevel)))
        .await
        .map_err(failed)
}

/// Which permanent roots go, by name: of known-good releases beyond the newest `keep`. What runs stays, where a rollback
/// would go to, and withdrawn ones.
pub fn superfluous(ledger: &Ledger, keep: u32) -> Vec<String> {
    let wanted = wanted(ledger, keep);
    let on_host = &ledger.head().evidence.toplevel;
    let good = ledger.known_good().into_iter();
    good.filter(|record| !wanted.contains(&&record.name) && record.evidence.toplevel != *on_host)
        .map(|record| record.name.leaf())
        .collect()
}

/// Which permanent roots of a host go when it is pruned: as [`superfluous`], and those of withdrawn releases. `roots` are
/// the host's, path by name; `in_use` is what it runs, has booted, has as its profile and boots next. A root that is no
/// release's stays.
pub fn prunable(
    ledger: &Ledger,
    keep: u32,
    roots: &BTreeMap<String, String>,
    in_use: &[&str],
) -> Vec<RecordName> {
    let wanted = wanted(ledger, keep);
    let on_host = ledger.head().evidence.toplevel.as_str();
    let stays = |path: &str| path == on_host || in_use.contains(&path);
    ledger
        .releases()
        .filter(|record| !wanted.contains(&&record.name))
        .filter(|record| roots.get(&record.name.leaf()).is_some_and(|path| !stays(path)))
        .map(|record| record.name.clone())
        .collect()
}

/// The releases whose roots stay whatever else goes: the newest that are known-good, what is on the host, and where a
/// rollback would go to.
fn wanted(ledger: &Ledger, keep: u32) -> Vec<&RecordName> {
    let good = ledger.known_good().into_iter().rev().take(keep as usize);
    let back = ledger.rollback_choice(None).ok().map(|choice| choice.source);
    good.chain(ledger.current())
        .chain(back)
        .map(|record| &record.name)
        .collect()
}

/// Takes back what [`root_on_target`] left of a record that lost its race; `standing` is the record that the host is to
/// carry instead.
///
/// # Errors
/// The host could not be told.
pub async fn forget_on_target(
    remote: &mut impl Remote,
    target: &Target,
    root: &str,
    standing: Option<&[u8]>,
) -> Result<(), Failure> {
    let failed = |error: crate::host::HostError| error.failure(target.as_str());
    supervisor::drop_permanent_root(remote, target.as_str(), &[root.to_owned()])
        .await
        .map_err(failed)?;
    match standing {
        Some(raw) => supervisor::store_record(remote, target.as_str(), raw, None)
            .await
            .map_err(failed),
        None => supervisor::drop_record(remote, target.as_str())
            .await
            .map_err(failed),
    }
}

/// The name of a record of `commit` that follows `ledger`: `named`, when it was chosen before and still follows; else
/// that of now.
///
/// # Errors
/// Exit 3: the newest record is of the last second that a name can hold.
pub fn name_after(
    ledger: Option<&Ledger>,
    target: &Target,
    commit: &Oid,
    named: Option<&RecordName>,
) -> Result<RecordName, Failure> {
    let previous = ledger.map(|ledger| ledger.head().name.utc);
    let (now, _) = Utc::behind(OffsetDateTime::now_utc(), previous).ok_or_else(|| {
        let head = ledger.map_or(String::new(), |ledger| ledger.head().name.to_string());
        Failure::refused(format!("no record of {target} can follow {head}: no later time can be named"))
            .why("its clock was wrong, or somebody made it by hand; whoever may write to the remote without its hooks takes it back")
            .next(format!("git nixgate show {head}"))
    })?;
    let utc = named
        .map(|name| name.utc)
        .filter(|utc| previous.is_none_or(|previous| previous < *utc));
    Ok(RecordName::new(target.clone(), utc.unwrap_or(now), commit))
}

/// Takes back what [`root_on_builder`] made for a record that there is not. Best effort: it costs disk.
pub async fn forget_on_builder(builder: Option<Place<'_>>, target: &Target, name: &str) {
    if let Some(place) = builder {
        let _ = nix::remove_roots(&place, target.as_str(), &[name.to_owned()], super::build::ROOT).await;
    }
}

/// Keeps the closure on the builder, for hosts that lose theirs, and its derivation, for the next diff. Done before the
/// record is made, which says so when it failed. `workshop`: the run's own root there and its id, which go with it.
///
/// # Errors
/// It costs a copy that could be spared one day, not the proof: the caller warns.
pub async fn root_on_builder(
    builder: Option<Place<'_>>,
    target: &Target,
    name: &str,
    closure: (&StorePath, Option<&str>),
    workshop: Option<(&str, &str)>,
) -> Result<(), Failure> {
    let Some(place) = builder else { return Ok(()) };
    let (dir, limit) = (target.as_str(), super::build::ROOT);
    match workshop {
        Some(left) => nix::settle_root(&place, dir, name, closure, left, limit).await,
        None => nix::add_root(&place, dir, name, closure, limit).await,
    }
    .map(|_| ())
}

/// Removes these roots of `records` from the target and the builder. A trouble here costs disk, not proof: a warning.
pub async fn drop_roots(
    log: &mut GateLog<'_>,
    remote: &mut impl Remote,
    builder: Option<Place<'_>>,
    records: &Trusted,
    gone: &[String],
) {
    let target = records.target();
    if let Err(error) = supervisor::drop_permanent_root(remote, target.as_str(), gone).await {
        log.warn(format!("old roots stay: {}", error.failure(target.as_str()).what));
    }
    let Some(place) = builder else { return };
    if let Err(failure) = nix::remove_roots(&place, target.as_str(), gone, super::build::ROOT).await {
        log.warn(format!("old roots stay on the builder: {}", failure.what));
    }
}
