//! Reading a target's records from the repository, and comparing what is here with what a remote has.

use super::remote::RemoteRefs;
use super::repo::{ObjectFormat, Repo};
use crate::failure::Failure;
use crate::record::rules::Raw;
use crate::record::{Defect, Ledger, Oid, Record, RecordName, Target, ledger, rules};

/// Where a chain's newest record is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which<'a> {
    /// `refs/nixgate/ledger/<target>`.
    Local,
    /// The remote's ledger as last fetched.
    Remote(&'a str),
    /// The newest of the target's tags: in a clone that never heard of ledgers.
    Tags,
    /// This record.
    At(Oid),
}

/// How the ledger here stands to the remote's as last fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// Neither side has one, or both have the same.
    Same,
    /// The remote's continues ours.
    RemoteAhead,
    /// Ours continues the remote's by so many records.
    Unpublished(u64),
    /// Each has records that the other lacks.
    Fork,
}

/// Where the remote's ledger is kept.
pub(super) fn tracking_ref(remote: &str, target: &Target) -> String {
    format!("refs/nixgate/remotes/{remote}/ledger/{target}")
}

impl Repo {
    /// The chain, whole and verified; `None` if there is none. A defect anywhere in it is a failure (exit 3).
    pub fn ledger(&self, target: &Target, which: Which<'_>) -> Result<Option<Ledger>, Failure> {
        let Some(head) = self.ledger_head(target, which)? else {
            return Ok(None);
        };
        let records = self.chain(target, head, usize::MAX)?;
        Ledger::new(records)
            .map(Some)
            .map_err(|defect| bad_record(target, &defect))
    }

    /// The newest `n` records, newest first, their links checked.
    pub fn recent(&self, target: &Target, which: Which<'_>, n: usize) -> Result<Vec<Record>, Failure> {
        match self.ledger_head(target, which)? {
            Some(head) => self.chain(target, head, n),
            None => Ok(Vec::new()),
        }
    }

    /// The ledger to answer from: the one here, or the remote's where that continues it, or the tags' in a clone that
    /// has neither.
    pub fn best<'a>(&self, target: &Target, remote: Option<&'a str>) -> Result<Which<'a>, Failure> {
        let theirs = match remote {
            Some(remote) => self.ledger_head(target, Which::Remote(remote))?.map(|_| remote),
            None => None,
        };
        Ok(match (self.ledger_head(target, Which::Local)?, theirs) {
            (Some(_), Some(remote)) if self.relation(target, remote)? == Relation::RemoteAhead => {
                Which::Remote(remote)
            }
            (Some(_), _) => Which::Local,
            (None, Some(remote)) => Which::Remote(remote),
            (None, None) => Which::Tags,
        })
    }

    /// The tag object of the newest record.
    pub fn ledger_head(&self, target: &Target, which: Which<'_>) -> Result<Option<Oid>, Failure> {
        match which {
            Which::Local => self.reference(&rules::ledger_ref(target)),
            Which::Remote(remote) => self.reference(&tracking_ref(remote, target)),
            Which::At(oid) => Ok(Some(oid)),
            Which::Tags => self.newest_tag(target),
        }
    }

    /// The newest of the target's tags, if it is the head of a chain that can hold all of them: a tag that somebody put
    /// there with a later name must not become the ledger.
    fn newest_tag(&self, target: &Target) -> Result<Option<Oid>, Failure> {
        let tags = self.record_tags(target)?;
        let Some((name, oid)) = tags.last() else {
            return Ok(None);
        };
        let seq = self.record(oid, Some(&name.ref_name()))?.seq;
        if seq != tags.len() as u64 {
            return Err(
                Failure::refused(format!("the tags of {target} are not one chain"))
                    .why(format!(
                        "there are {}, and the newest, {name}, is number {seq}",
                        tags.len()
                    ))
                    .next("git fetch --tags")
                    .next(format!("git nixgate verify {target}")),
            );
        }
        Ok(Some(*oid))
    }

    /// Where the remote's pointer and tags do not agree with its ledger as last fetched.
    pub fn remote_defects(&self, target: &Target, refs: &RemoteRefs) -> Result<Vec<Defect>, Failure> {
        let mut defects = Vec::new();
        let ledger = match refs.ledger {
            Some(head) => self.ledger(target, Which::At(head))?,
            None => None,
        };
        let furthest = ledger.as_ref().and_then(Ledger::furthest_commit);
        if refs.pointer != furthest {
            let said = |commit: Option<Oid>| {
                commit.map_or_else(|| "nothing".to_owned(), |c| c.to_hex_with_len(12).to_string())
            };
            let why = format!(
                "release/{target} is {} there, the newest release is {}",
                said(refs.pointer),
                said(furthest)
            );
            defects.push(Defect::new("pointer", why));
        }
        for record in ledger.iter().flat_map(Ledger::records) {
            match refs.records.get(&record.name) {
                Some(oid) if *oid == record.oid => {}
                Some(_) => defects.push(Defect::new(
                    "record-moved",
                    format!("the tag {} was moved there", record.name),
                )),
                None => defects.push(Defect::new(
                    "tag-missing",
                    format!("the tag {} is not there", record.name),
                )),
            }
        }
        let strange = refs.strange.iter().chain(&refs.blocking);
        defects.extend(strange.map(|name| {
            Defect::new(
                "name",
                format!("{name} there is the name of no record, pointer or ledger"),
            )
        }));
        let known = |name: &RecordName| ledger.as_ref().is_some_and(|l| l.get(name).is_some());
        let strangers = refs.records.keys().filter(|name| !known(name));
        defects.extend(strangers.map(|name| {
            Defect::new(
                "record-unchained",
                format!("the tag {name} is in no ledger there"),
            )
        }));
        Ok(defects)
    }

    /// The target's record tags, oldest name first. A name that no record has is [`Repo::strange_refs`]'.
    pub fn record_tags(&self, target: &Target) -> Result<Vec<(RecordName, Oid)>, Failure> {
        let mut tags = Vec::new();
        for (name, oid) in self.references(&format!("refs/tags/release/{target}/"))? {
            let name = name.strip_prefix("refs/tags/").unwrap_or(&name);
            tags.extend(name.parse().ok().map(|name: RecordName| (name, oid)));
        }
        tags.sort();
        Ok(tags)
    }

    /// Refs among those of records that are no record's, pointer's or ledger's: of this target, or, with none, of nobody
    /// who can be a target. They stand in nobody's way while they are here, so no command but `verify` is kept from its
    /// work by them.
    ///
    /// # Errors
    /// The refs cannot be listed.
    pub fn strange_refs(&self, target: Option<&Target>) -> Result<Vec<Defect>, Failure> {
        let mut strange = Vec::new();
        for space in ["refs/tags/release", "refs/heads/release", "refs/nixgate/ledger"] {
            if target.is_none() && self.reference(space)?.is_some() {
                strange.push(space.to_owned());
            }
            for (name, _) in self.references(&format!("{space}/"))? {
                let rest = &name[space.len() + 1..];
                let (owner, below) = rest.split_once('/').map_or((rest, None), |(a, b)| (a, Some(b)));
                let owner = owner.parse::<Target>().ok();
                let good = match (&owner, below) {
                    (None, _) => false,
                    (Some(owner), Some(leaf)) => {
                        space == "refs/tags/release" && RecordName::from_leaf(owner, leaf).is_ok()
                    }
                    (Some(_), None) => space != "refs/tags/release",
                };
                if !good && owner.as_ref() == target {
                    strange.push(name);
                }
            }
        }
        let defect = |name: String| {
            let why = format!("{name} is the name of no record, pointer or ledger: git update-ref -d {name}");
            Defect::new("name", why)
        };
        Ok(strange.into_iter().map(defect).collect())
    }

    /// Every target that has a ledger or a record here, published or not.
    pub fn targets(&self) -> Result<Vec<Target>, Failure> {
        let mut targets = std::collections::BTreeSet::new();
        for (name, _) in self.references("refs/nixgate/ledger/")? {
            let name = name.strip_prefix("refs/nixgate/ledger/");
            targets.extend(name.and_then(|t| t.parse::<Target>().ok()));
        }
        for (name, _) in self.references("refs/nixgate/remotes/")? {
            targets.extend(
                name.rsplit_once("/ledger/")
                    .and_then(|(_, t)| t.parse::<Target>().ok()),
            );
        }
        if targets.is_empty() {
            for (name, _) in self.references("refs/tags/release/")? {
                targets.extend(name.split('/').nth(3).and_then(|t| t.parse::<Target>().ok()));
            }
        }
        for (name, _) in self.references("refs/nixgate/pending/")? {
            targets.extend(name.split('/').nth(3).and_then(|t| t.parse::<Target>().ok()));
        }
        Ok(targets.into_iter().collect())
    }

    /// Every tag of the target stands where its record says, and every record of the ledger has its tag.
    pub fn tag_defects(&self, ledger: &Ledger) -> Result<Vec<Defect>, Failure> {
        let links: Vec<(RecordName, Oid)> =
            ledger.records().iter().map(|r| (r.name.clone(), r.oid)).collect();
        self.tags_against(ledger.target(), &links)
    }

    /// The same for a chain that is known by its records' names and tag objects.
    pub fn tags_against(&self, target: &Target, links: &[(RecordName, Oid)]) -> Result<Vec<Defect>, Failure> {
        let mut defects = Vec::new();
        let mut tags: std::collections::BTreeMap<RecordName, Oid> =
            self.record_tags(target)?.into_iter().collect();
        for (name, wanted) in links {
            match tags.remove(name) {
                Some(oid) if oid == *wanted => {}
                Some(_) => defects.push(Defect::new("record-moved", format!("the tag {name} was moved"))),
                None => defects.push(Defect::new("tag-missing", format!("the tag {name} is not here"))),
            }
        }
        let strangers = tags.keys();
        defects.extend(
            strangers.map(|name| Defect::new("record-unchained", format!("the tag {name} is in no ledger"))),
        );
        Ok(defects)
    }

    /// One record by the object id of its tag.
    pub fn record(&self, oid: &Oid, ref_name: Option<&str>) -> Result<Record, Failure> {
        let raw = self.tag(oid)?.ok_or_else(|| {
            Failure::refused(format!("{oid} is no tag object that is here")).next("git fetch --tags")
        })?;
        Record::parse(*oid, &raw, ref_name)
            .map_err(|defect| Failure::refused(format!("{oid} is no good record")).why(defect.to_string()))
    }

    fn chain(&self, target: &Target, head: Oid, most: usize) -> Result<Vec<Record>, Failure> {
        let mut records: Vec<Record> = Vec::new();
        let mut next = Some(head);
        let repo = self.gix();
        while let Some(oid) = next.filter(|_| records.len() < most) {
            let raw = match self.record_object(&repo, &oid)? {
                Some(Raw::Tag(raw)) => raw,
                Some(Raw::Large(defect)) => return Err(bad_record(target, &defect)),
                Some(Raw::Other) | None => return Err(missing_link(target, &oid, records.last())),
            };
            let record = Record::parse(oid, &raw, None).map_err(|defect| bad_record(target, &defect))?;
            if record.target() != target {
                let defect = Defect::new(
                    "target",
                    format!("{} stands in the ledger of {target}", record.name),
                );
                return Err(bad_record(target, &defect));
            }
            if let Some(newer) = records.last() {
                ledger::link(newer, &record).map_err(|defect| bad_record(target, &defect))?;
            }
            next = record.previous.as_ref().map(|p| p.oid);
            records.push(record);
        }
        Ok(records)
    }

    /// How the ledger here stands to the remote's as last fetched.
    pub fn relation(&self, target: &Target, remote: &str) -> Result<Relation, Failure> {
        let ours = self.ledger_head(target, Which::Local)?;
        let theirs = self.ledger_head(target, Which::Remote(remote))?;
        let (ours, theirs) = match (ours, theirs) {
            (ours, theirs) if ours == theirs => return Ok(Relation::Same),
            (None, _) => return Ok(Relation::RemoteAhead),
            (Some(ours), None) => {
                let seq = self.chain(target, ours, 1)?.first().map_or(0, |r| r.seq);
                return Ok(Relation::Unpublished(seq));
            }
            (Some(ours), Some(theirs)) => (ours, theirs),
        };
        let seq = |oid: Oid| -> Result<u64, Failure> {
            Ok(self.chain(target, oid, 1)?.first().map_or(0, |r| r.seq))
        };
        let (here, there) = (seq(ours)?, seq(theirs)?);
        if here > there && self.continues(target, ours, theirs)? {
            return Ok(Relation::Unpublished(here - there));
        }
        if there > here && self.continues(target, theirs, ours)? {
            return Ok(Relation::RemoteAhead);
        }
        Ok(Relation::Fork)
    }

    /// Whether the chain from `new` reaches `old`: no more links are read than the two differ by.
    pub(super) fn continues(&self, target: &Target, new: Oid, old: Oid) -> Result<bool, Failure> {
        let seq = |oid: Oid| -> Result<u64, Failure> {
            Ok(self.chain(target, oid, 1)?.first().map_or(0, |r| r.seq))
        };
        let Some(steps) = seq(new)?.checked_sub(seq(old)?) else {
            return Ok(false);
        };
        let steps = usize::try_from(steps).unwrap_or(usize::MAX);
        let records = self.chain(target, new, steps.saturating_add(1))?;
        Ok(records.get(steps).is_some_and(|r| r.oid == old))
    }

    /// Length of an object id in hex digits.
    pub fn hex_len(&self) -> usize {
        match self.object_format() {
            ObjectFormat::Sha1 => 40,
            ObjectFormat::Sha256 => 64,
        }
    }
}

fn bad_record(target: &Target, defect: &Defect) -> Failure {
    Failure::refused(format!("the ledger of {target} does not hold"))
        .why(defect.to_string())
        .next(format!("git nixgate verify {target}"))
}

fn missing_link(target: &Target, oid: &Oid, newer: Option<&Record>) -> Failure {
    let after = newer.map_or_else(String::new, |r| format!(", which {} follows,", r.name));
    Failure::refused(format!("the ledger of {target} is not whole here"))
        .why(format!("record {oid}{after} is missing (missing)"))
        .next("git fetch --tags")
}
