//! Records that lost: another one has their number on the remote. What says so also prints the one command that takes
//! the remote's line and lets go of everything that points at the losers.

use std::collections::BTreeMap;

use super::ledger::{Relation, Which};
use super::refs::{Pending, change, pending_ref};
use super::repo::Repo;
use crate::failure::Failure;
use crate::record::{Kind, Ledger, Oid, Record, RecordName, Target, rules};

/// Records here that lost to the remote's line.
struct Fork {
    theirs: Ledger,
    /// The ledger here.
    local: Option<Oid>,
    /// By their number.
    lost: BTreeMap<u64, Record>,
    dropped: Vec<Pending>,
}

impl Repo {
    /// The pending records on one line with the ledger here, lowest number first. The others lost to a record that was
    /// taken over since: nothing continues them.
    pub fn waiting(&self, target: &Target) -> Result<Vec<Pending>, Failure> {
        let pending = self.pending(target)?;
        let local = match pending.is_empty() {
            true => None,
            false => self.ledger_head(target, Which::Local)?,
        };
        let mut waiting = Vec::new();
        for p in pending {
            if self.ledger(target, Which::At(p.oid)).is_err() {
                continue;
            }
            let Some(local) = local else {
                waiting.push(p);
                continue;
            };
            if self.continues(target, p.oid, local)? || self.continues(target, local, p.oid)? {
                waiting.push(p);
            }
        }
        Ok(waiting)
    }

    /// The pending records whose chain does not hold: none of them can ever be published, and no command goes by them.
    /// Each with the command that lets go of it.
    ///
    /// # Errors
    /// The refs cannot be listed.
    pub fn broken_pending(&self, target: &Target) -> Result<Vec<(Pending, Failure)>, Failure> {
        let broken = |p: Pending| {
            let failure = self.ledger(target, Which::At(p.oid)).err()?;
            let name = pending_ref(target, p.seq);
            let mut said = Failure::refused(format!(
                "the pending record {} of {target} does not hold: it cannot be published",
                p.seq
            ));
            said.why = failure.why;
            Some((
                p.clone(),
                said.next(format!("git update-ref -d {name} {}", p.oid)),
            ))
        };
        Ok(self.pending(target)?.into_iter().filter_map(broken).collect())
    }

    /// The ledger here; in a clone that has records and no ledger, the head of their chain.
    fn known_head(&self, target: &Target) -> Result<Option<Oid>, Failure> {
        match self.ledger_head(target, Which::Local)? {
            Some(head) => Ok(Some(head)),
            None => self.ledger_head(target, Which::Tags),
        }
    }

    /// The newest record made here: what the next one continues, published or not.
    pub fn own_head(&self, target: &Target) -> Result<Option<Oid>, Failure> {
        let local = self.known_head(target)?;
        let Some(newest) = self.waiting(target)?.pop() else {
            return Ok(local);
        };
        Ok(match local {
            Some(local) if !self.continues(target, newest.oid, local)? => Some(local),
            _ => Some(newest.oid),
        })
    }

    /// Refuses a fork, by name: who made which record on which side. A pending record whose number the remote gave to
    /// another one is a fork too, wherever the ledger here stands.
    pub fn refuse_fork(&self, target: &Target, remote: &str) -> Result<(), Failure> {
        let Some(fork) = self.fork(target, remote)? else {
            return Ok(());
        };
        let mut failure = Failure::refused(format!(
            "the ledger of {target} here and the one of {remote} went different ways (fork)"
        ));
        let newest = fork.lost.values().next_back();
        let sides = newest.map(|record| ("here", record)).into_iter();
        for (side, r) in sides.chain([(remote, fork.theirs.head())]) {
            let who = format!("{} <{}>", r.tagger_name, r.tagger_mail);
            failure = failure.why(format!("{side}: {} by {who} at {}", r.name, r.time.rfc3339()));
        }
        Err(failure.next(format!("git nixgate log {target}")).next(format!(
            "git nixgate publish {target} --take-theirs    # gives up the records here that lost"
        )))
    }

    /// Takes the remote's line, as last fetched, in place of the records here that lost to it, all at once. Returns their
    /// names, oldest first; none where nothing lost.
    ///
    /// # Errors
    /// A ledger that does not hold (exit 3), or refs that cannot be set.
    pub fn take_theirs(&self, target: &Target, remote: &str) -> Result<Vec<RecordName>, Failure> {
        let Some(fork) = self.fork(target, remote)? else {
            return Ok(Vec::new());
        };
        self.transaction(
            &format!("the records of {target} that lost cannot be given up"),
            &self.give_way(&fork)?,
        )?;
        Ok(fork.lost.into_values().map(|record| record.name).collect())
    }

    /// The records here that lost to the remote's as last fetched; `None` where none did.
    fn fork(&self, target: &Target, remote: &str) -> Result<Option<Fork>, Failure> {
        let pending = self.pending(target)?;
        if pending.is_empty() && self.relation(target, remote)? != Relation::Fork {
            return Ok(None);
        }
        let Some(theirs) = self.ledger(target, Which::Remote(remote))? else {
            return Ok(None);
        };
        let local = self.ledger_head(target, Which::Local)?;
        let mut lost: BTreeMap<u64, Record> = BTreeMap::new();
        let mut dropped: Vec<Pending> = Vec::new();
        for (oid, waits) in pending
            .iter()
            .map(|p| (p.oid, Some(p)))
            .chain(local.map(|oid| (oid, None)))
        {
            let ours = match (self.ledger(target, Which::At(oid)), waits) {
                (Ok(Some(ours)), _) => ours,
                (Ok(None), _) | (Err(_), Some(_)) => continue,
                (Err(failure), None) => return Err(failure),
            };
            let losers = losers(&ours, &theirs);
            if !losers.is_empty() {
                dropped.extend(waits.cloned());
            }
            lost.extend(losers.into_iter().map(|record| (record.seq, record.clone())));
        }
        Ok((!lost.is_empty()).then_some(Fork {
            theirs,
            local,
            lost,
            dropped,
        }))
    }

    /// The lines of `git update-ref --stdin` after which the remote's line is the only one here.
    fn give_way(&self, fork: &Fork) -> Result<Vec<String>, Failure> {
        let Fork {
            theirs,
            local,
            lost,
            dropped,
        } = fork;
        let (target, zero) = (theirs.target(), self.zero());
        let mut lines = Vec::new();
        let head = theirs.head().oid;
        if *local != Some(head) {
            lines.push(change(&rules::ledger_ref(target), Some(head), *local, zero));
        }
        for p in dropped {
            lines.push(change(&pending_ref(target, p.seq), None, Some(p.oid), zero));
        }
        for record in lost.values() {
            let tag = record.name.ref_name();
            if self.reference(&tag)? == Some(record.oid) {
                lines.push(change(&tag, None, Some(record.oid), zero));
            }
        }
        // The branch that a loser moved goes where theirs is; where a work tree has it checked out, that is left alone.
        let pointer = rules::pointer_ref(target);
        let released = |r: &Record, at: Oid| r.kind == Kind::Release && r.commit == at;
        if let Some(at) = self.reference(&pointer)?
            && lost.values().any(|r| released(r, at))
            && !theirs.records().iter().any(|r| released(r, at))
            && self.checked_out(&pointer)?.is_none()
        {
            lines.push(change(&pointer, theirs.furthest_commit(), Some(at), zero));
        }
        Ok(lines)
    }
}

/// The records of ours that cannot be published any more: from the first number on at which theirs is another.
fn losers<'a>(ours: &'a Ledger, theirs: &Ledger) -> Vec<&'a Record> {
    let mut both = ours.records().iter().zip(theirs.records());
    match both.position(|(a, b)| a.oid != b.oid) {
        Some(first) => ours.records().iter().skip(first).collect(),
        None => Vec::new(),
    }
}
