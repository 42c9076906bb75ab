//! Writing refs. A record is made in three moves, each of which leaves something that the next run understands: the
//! tag object under `pending`, the push, and one local transaction that ends with `pending` gone.

use super::ledger::Which;
use super::publish::RecordSet;
use super::repo::Repo;
use crate::failure::{Failure, Reason};
use crate::record::{Oid, RecordName, Target, parse, rules};

/// A record that is made and not yet everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    pub seq: u64,
    pub oid: Oid,
}

/// What the local transaction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalCommit {
    /// Why the local pointer was left where it is.
    pub pointer_left: Option<String>,
}

pub(super) fn pending_ref(target: &Target, seq: u64) -> String {
    format!("refs/nixgate/pending/{target}/{seq}")
}

/// One line of `git update-ref --stdin`.
pub(super) fn change(name: &str, new: Option<Oid>, old: Option<Oid>, zero: Oid) -> String {
    match new {
        Some(new) => format!("update {name} {new} {}\n", old.unwrap_or(zero)),
        None => format!("delete {name} {}\n", old.unwrap_or(zero)),
    }
}

/// Names that leave no room for the refs of a target below them.
pub(super) fn bare(target: &Target) -> [String; 5] {
    [
        "refs/heads/release".to_owned(),
        "refs/tags/release".to_owned(),
        format!("refs/tags/release/{target}"),
        "refs/nixgate".to_owned(),
        "refs/nixgate/ledger".to_owned(),
    ]
}

impl Repo {
    /// Stores a tag object, checked by git's own rules. It is reachable from nothing until [`Repo::set_pending`].
    pub fn write_tag(&self, raw: &[u8]) -> Result<Oid, Failure> {
        let what = "the record's tag object cannot be written";
        let output = self
            .program
            .need(what, &["hash-object", "-t", "tag", "-w", "--stdin"], raw)?;
        let text = output.text();
        parse::oid(text.trim()).ok_or_else(|| Failure::failed(Reason::Internal, what).why(text))
    }

    /// Several refs at once, each against the value that it has now.
    pub(super) fn transaction(&self, what: &str, changes: &[String]) -> Result<(), Failure> {
        let mut script = String::from("start\n");
        changes.iter().for_each(|line| script.push_str(line));
        script.push_str("prepare\ncommit\n");
        let args = ["update-ref", "--no-deref", "--stdin", "-m", "git-nixgate"];
        self.program
            .need(what, &args, script.as_bytes())
            .map(|_| ())
            .map_err(|failure| {
                let lock = failure
                    .why
                    .iter()
                    .find_map(|line| line.split('\'').find(|part| part.ends_with(".lock")));
                match lock.map(ToOwned::to_owned) {
                    Some(lock) => failure.next(format!("if no git runs here any more: rm {lock}")),
                    None => failure,
                }
            })
    }

    pub(super) fn zero(&self) -> Oid {
        Oid::null(self.kind())
    }

    /// Keeps a record that is not published yet from being lost.
    pub fn set_pending(&self, target: &Target, seq: u64, oid: &Oid) -> Result<(), Failure> {
        let name = pending_ref(target, seq);
        let old = self.reference(&name)?;
        if old == Some(*oid) {
            return Ok(());
        }
        // One that does not hold can never be published: it makes room.
        if let Some(old) = old
            && self.ledger(target, Which::At(old)).is_ok()
        {
            return Err(Failure::refused(format!(
                "record {seq} of {target} is made already and waits to be published"
            ))
            .why(format!("{name} is {old}"))
            .next(format!("git nixgate publish {target}")));
        }
        self.transaction(
            "the record cannot be kept as pending",
            &[change(&name, Some(*oid), old, self.zero())],
        )
    }

    /// The records that are made and not published, lowest number first.
    pub fn pending(&self, target: &Target) -> Result<Vec<Pending>, Failure> {
        let mut found = Vec::new();
        for (name, oid) in self.references(&format!("refs/nixgate/pending/{target}/"))? {
            found.extend(
                name.rsplit('/')
                    .next()
                    .and_then(|n| n.parse().ok())
                    .map(|seq| Pending { seq, oid }),
            );
        }
        found.sort_by_key(|p| p.seq);
        Ok(found)
    }

    /// Forgets a pending record: the remote has it, or it lost the race for good.
    pub fn drop_pending(&self, target: &Target, seq: u64) -> Result<(), Failure> {
        let name = pending_ref(target, seq);
        match self.reference(&name)? {
            Some(old) => self.transaction(
                "the pending record cannot be dropped",
                &[change(&name, None, Some(old), self.zero())],
            ),
            None => Ok(()),
        }
    }

    /// One record's tag, ledger and pointer: see [`Repo::commit_set`].
    pub fn commit_local(
        &self,
        target: &Target,
        name: &RecordName,
        oid: &Oid,
        pointer: Option<Oid>,
        remote: Option<&str>,
        keep_pending: bool,
    ) -> Result<LocalCommit, Failure> {
        let set = RecordSet {
            records: vec![(name.clone(), *oid)],
            pointer,
            ledger: *oid,
        };
        self.commit_set(target, &set, remote, keep_pending)
    }

    /// Tags, ledger and pointer in one transaction against the local values as they are; then `pending` is gone, unless
    /// `keep_pending` says that the remote still lacks it. Doing it again changes nothing; a ledger that does not
    /// continue the one here is refused.
    ///
    /// `remote`: the remote that has the records now; its tracked ledger moves along.
    pub fn commit_set(
        &self,
        target: &Target,
        records: &RecordSet,
        remote: Option<&str>,
        keep_pending: bool,
    ) -> Result<LocalCommit, Failure> {
        let zero = self.zero();
        let mut changes = Vec::new();
        let mut set = |name: String, new: Oid, old: Option<Oid>| {
            if old != Some(new) {
                changes.push(change(&name, Some(new), old, zero));
            }
        };
        for (name, oid) in &records.records {
            let tag = name.ref_name();
            match self.reference(&tag)? {
                Some(old) if old != *oid => {
                    return Err(Failure::refused(format!(
                        "the tag {name} is here already, with other content"
                    ))
                    .next(format!("git nixgate verify {target}")));
                }
                old => set(tag, *oid, old),
            }
        }
        let ledger = rules::ledger_ref(target);
        let old = self.reference(&ledger)?;
        if let Some(old) = old
            && !self.continues(target, records.ledger, old)?
        {
            return Err(Failure::refused(format!(
                "the ledger of {target} here is not continued by the new record"
            ))
            .next(format!("git nixgate log {target}")));
        }
        set(ledger, records.ledger, old);
        if let Some(remote) = remote {
            let tracking = super::ledger::tracking_ref(remote, target);
            let old = self.reference(&tracking)?;
            set(tracking, records.ledger, old);
        }
        let mut pointer_left = None;
        if let Some(new) = records.pointer {
            let name = rules::pointer_ref(target);
            let old = self.reference(&name)?;
            match self.pointer_stays(&name, old, new)? {
                Some(why) => pointer_left = Some(why),
                None => set(name, new, old),
            }
        }
        if !keep_pending {
            let done = |oid: &Oid| records.ledger == *oid || records.records.iter().any(|(_, o)| o == oid);
            for pending in self.pending(target)?.iter().filter(|p| done(&p.oid)) {
                changes.push(change(
                    &pending_ref(target, pending.seq),
                    None,
                    Some(pending.oid),
                    zero,
                ));
            }
        }
        if !changes.is_empty() {
            self.transaction(&format!("the refs of {target} cannot be set here"), &changes)?;
        }
        Ok(LocalCommit { pointer_left })
    }

    /// Why the local branch is not to be moved. It is a convenience: it never fails a run.
    fn pointer_stays(&self, name: &str, old: Option<Oid>, new: Oid) -> Result<Option<String>, Failure> {
        let branch = name.trim_start_matches("refs/heads/");
        if let Some(old) = old
            && old != new
        {
            if let Some(place) = self.checked_out(name)? {
                return Ok(Some(format!(
                    "{branch} is checked out in {place}: git merge --ff-only there"
                )));
            }
            if !self.is_ancestor(&old, &new).unwrap_or(false) {
                return Ok(Some(format!("the local branch {branch} has commits of its own")));
            }
        }
        if old.is_none() && self.reference("refs/heads/release")?.is_some() {
            return Ok(Some(format!("a branch named release is in the way of {branch}")));
        }
        Ok(None)
    }

    /// The work tree that has a branch checked out.
    pub(super) fn checked_out(&self, ref_name: &str) -> Result<Option<String>, Failure> {
        let output = self.program.need(
            "the work trees cannot be listed",
            &["worktree", "list", "--porcelain", "-z"],
            b"",
        )?;
        let text = output.text();
        let mut place = "";
        for line in text.split('\0') {
            if let Some(path) = line.strip_prefix("worktree ") {
                place = path;
            }
            if line.strip_prefix("branch ") == Some(ref_name) {
                return Ok(Some(place.to_owned()));
            }
        }
        Ok(None)
    }

    /// Takes the remote's ledger as last fetched as our own; the caller has seen that it continues ours.
    pub fn take_remote_ledger(&self, target: &Target, remote: &str) -> Result<(), Failure> {
        let name = rules::ledger_ref(target);
        let theirs = self.reference(&super::ledger::tracking_ref(remote, target))?;
        let ours = self.reference(&name)?;
        if theirs == ours || theirs.is_none() {
            return Ok(());
        }
        self.transaction(
            "the remote's ledger cannot be taken",
            &[change(&name, theirs, ours, self.zero())],
        )
    }

    /// Makes the ledger here where this clone has the target's records and no ledger: the remote's as last fetched, or the
    /// chain of the tags, as in a copy made by a plain `git clone`. Without it a new record would begin a second chain.
    ///
    /// # Errors
    /// A chain that does not hold (exit 3).
    pub fn adopt_records(&self, target: &Target, remote: Option<&str>) -> Result<(), Failure> {
        if self.ledger_head(target, Which::Local)?.is_some() {
            return Ok(());
        }
        let which = self.best(target, remote)?;
        let Some(head) = self.ledger(target, which)?.map(|ledger| ledger.head().oid) else {
            return Ok(());
        };
        self.transaction(
            &format!("the ledger of {target} cannot be made"),
            &[change(&rules::ledger_ref(target), Some(head), None, self.zero())],
        )
    }

    /// Local refs that stand in the way of the target's refs, by name.
    pub fn blocking_refs(&self, target: &Target) -> Result<Vec<String>, Failure> {
        let mut found = Vec::new();
        for name in bare(target) {
            if self.reference(&name)?.is_some() {
                found.push(name);
            }
        }
        for name in [
            "refs/nixgate/pending".to_owned(),
            format!("refs/nixgate/pending/{target}"),
        ] {
            if self.reference(&name)?.is_some() {
                found.push(name);
            }
        }
        for below in [rules::pointer_ref(target), rules::ledger_ref(target)] {
            let refs = self.references(&format!("{below}/"))?;
            found.extend(refs.into_iter().map(|(name, _)| name));
        }
        Ok(found)
    }
}
