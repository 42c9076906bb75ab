//! The ledger: the hash chain of a target's records. Order is the sequence number; every link is checked before
//! anything is decided from it.

use std::collections::{BTreeSet, HashMap};

use super::name::{Kind, OnHost, RecordName, Target};
use super::parse::{Defect, Record};
use super::{Link, Oid};

/// Checks that `newer` continues `older`.
pub fn link(newer: &Record, older: &Record) -> Result<(), Defect> {
    let no = |rule, why: String| Err(Defect::new(rule, why));
    let Some(previous) = &newer.previous else {
        return no("sequence", format!("{} has no previous record", newer.name));
    };
    if previous.oid != older.oid {
        return no(
            "previous",
            format!("{} does not follow {}", newer.name, older.name),
        );
    }
    if previous.sha256 != older.sha256 {
        return no(
            "previous-digest",
            format!("{} names another content of {}", newer.name, older.name),
        );
    }
    if newer.target() != older.target() {
        return no(
            "target",
            format!(
                "{} follows a record of another target, {}",
                newer.name, older.name
            ),
        );
    }
    if older.seq.checked_add(1) != Some(newer.seq) {
        return no(
            "sequence",
            format!(
                "{} is number {} after number {}",
                newer.name, newer.seq, older.seq
            ),
        );
    }
    if newer.time <= older.time {
        return no("time", format!("{} is not later than {}", newer.name, older.name));
    }
    Ok(())
}

/// The chain of one target, whole and verified.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// Oldest first; `records[n - 1]` has sequence number n.
    records: Vec<Record>,
    by_name: HashMap<RecordName, usize>,
    withdrawn: BTreeSet<RecordName>,
}

impl Ledger {
    /// From the newest record back to sequence number 1.
    pub fn new(newest_first: Vec<Record>) -> Result<Ledger, Defect> {
        let mut records = newest_first;
        records.reverse();
        let Some(first) = records.first() else {
            return Err(Defect::new("empty", "a ledger has at least one record"));
        };
        if first.seq != 1 {
            return Err(Defect::new(
                "sequence",
                format!("the oldest record, {}, is number {}", first.name, first.seq),
            ));
        }
        for pair in records.windows(2) {
            link(&pair[1], &pair[0])?;
        }
        let by_name = records
            .iter()
            .enumerate()
            .map(|(i, r)| (r.name.clone(), i))
            .collect();
        let mut ledger = Ledger {
            records,
            by_name,
            withdrawn: BTreeSet::new(),
        };
        for i in 0..ledger.records.len() {
            ledger.judge(i)?;
        }
        Ok(ledger)
    }

    /// What record `i` says about earlier ones is true, and is taken over.
    fn judge(&mut self, i: usize) -> Result<(), Defect> {
        let record = &self.records[i];
        let no = |rule, why: String| Err(Defect::new(rule, why));
        let earlier = |name: &RecordName| {
            self.by_name
                .get(name)
                .filter(|at| **at < i)
                .map(|at| &self.records[*at])
                .filter(|r| r.kind == Kind::Release)
        };
        match &record.restores {
            None => {}
            Some(OnHost::BeforeFirst) => {
                let before = self.records[0]
                    .evidence
                    .before
                    .as_ref()
                    .map(|b| b.toplevel.as_str());
                if before != Some(record.evidence.toplevel.as_str()) {
                    return no(
                        "restores",
                        format!("{} is not what ran before the first release", record.name),
                    );
                }
                let first = &self.records[0];
                if record.commit != first.commit {
                    return no(
                        "restores",
                        format!("{} is on another commit than {}", record.name, first.name),
                    );
                }
            }
            Some(OnHost::Release(name)) => {
                let Some(release) = earlier(name) else {
                    return no(
                        "restores",
                        format!("{} restores {name}, no earlier release", record.name),
                    );
                };
                if release.commit != record.commit {
                    return no(
                        "restores",
                        format!("{} is on another commit than {name}", record.name),
                    );
                }
                let (a, b) = (&release.evidence, &record.evidence);
                if (&a.toplevel, &a.nar_hash, &a.closure_digest)
                    != (&b.toplevel, &b.nar_hash, &b.closure_digest)
                {
                    return no(
                        "restores",
                        format!("{} holds another closure than {name}", record.name),
                    );
                }
            }
        }
        if let Some(name) = record.withdraws.iter().find(|name| earlier(name).is_none()) {
            return no(
                "withdraws",
                format!("{} withdraws {name}, no earlier release", record.name),
            );
        }
        let on_host = record.on_host();
        if let OnHost::Release(name) = &on_host
            && record.withdraws.contains(name)
        {
            return no("withdraws", format!("{} withdraws what it restores", record.name));
        }
        match record.kind {
            Kind::Rollback => self.withdrawn.extend(record.withdraws.iter().cloned()),
            Kind::Deploy => {
                if let OnHost::Release(name) = &on_host {
                    self.withdrawn.remove(name);
                }
            }
            Kind::Release => {}
        }
        Ok(())
    }

    /// The newest record.
    pub fn head(&self) -> &Record {
        &self.records[self.records.len() - 1]
    }

    pub fn target(&self) -> &Target {
        self.head().target()
    }

    /// Oldest first.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    pub fn get(&self, name: &RecordName) -> Option<&Record> {
        self.by_name.get(name).map(|i| &self.records[*i])
    }

    pub fn by_oid(&self, oid: &Oid) -> Option<&Record> {
        self.records.iter().rev().find(|r| r.oid == *oid)
    }

    /// The next record's sequence number and its link.
    pub fn next(&self) -> (u64, Link) {
        (self.head().seq.saturating_add(1), self.head().link())
    }

    /// P(head): what the records say is on the host.
    pub fn on_host(&self) -> OnHost {
        self.head().on_host()
    }

    /// The release record of what is on the host; `None` if it is what ran before the first.
    pub fn current(&self) -> Option<&Record> {
        match self.on_host() {
            OnHost::Release(name) => self.get(&name),
            OnHost::BeforeFirst => None,
        }
    }

    pub fn withdrawn(&self) -> &BTreeSet<RecordName> {
        &self.withdrawn
    }

    pub fn is_withdrawn(&self, name: &RecordName) -> bool {
        self.withdrawn.contains(name)
    }

    /// The last rollback that withdrew this release.
    pub fn withdrawn_by(&self, name: &RecordName) -> Option<&Record> {
        self.records.iter().rev().find(|r| r.withdraws.contains(name))
    }

    /// Every release, oldest first.
    pub fn releases(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.records.iter().filter(|r| r.kind == Kind::Release)
    }

    /// Releases that are not withdrawn, oldest first.
    pub fn known_good(&self) -> Vec<&Record> {
        self.releases().filter(|r| !self.is_withdrawn(&r.name)).collect()
    }

    /// The commit that the pointer stands at: the newest release's. `None` before the first release (an adopted
    /// application may begin with a deploy).
    pub fn furthest_commit(&self) -> Option<Oid> {
        self.releases().next_back().map(|r| r.commit)
    }

    /// The newest record with this toplevel whose commit it was built from: what ran before the first release was not.
    pub fn newest_with_toplevel(&self, toplevel: &str) -> Option<&Record> {
        let is_it = |record: &&Record| {
            record.evidence.toplevel == toplevel && record.restores != Some(OnHost::BeforeFirst)
        };
        self.records.iter().rev().find(is_it)
    }

    /// The withdrawn releases whose closure is `toplevel`.
    pub fn withdrawn_with_toplevel(&self, toplevel: &str) -> Vec<&Record> {
        self.releases()
            .filter(|r| self.is_withdrawn(&r.name) && r.evidence.toplevel == toplevel)
            .collect()
    }
}
