//! A target's chain, walked from the ledger that will stand after the push, back.

use std::collections::HashMap;

use super::super::Oid;
use super::super::ledger;
use super::super::name::Target;
use super::super::parse::{Defect, Record};
use super::judge::{Broken, fetch, short, verify};
use super::{Raw, View};

/// The most that the new records of one target have together in one push: what they hold is kept while they are judged,
/// and a pack of a few kilobytes may unfold to any size.
pub(super) const MOST_BYTES: u64 = 64 << 20;
/// The most new records of one target in one push.
pub(super) const MOST_RECORDS: u64 = 10_000;

/// A target's chain as far as it was walked.
pub(super) struct Chain {
    /// Newest first, without what is told to people: a long chain fits into memory.
    pub records: Vec<Record>,
    pub index: HashMap<Oid, usize>,
    end: End,
    bytes: u64,
    /// As long as what is walked is new.
    bounded: bool,
}

/// Why the walk stopped, or where it goes on.
#[derive(Clone)]
enum End {
    More(Oid),
    First,
    Broken(Defect),
    Unreadable(String),
}

impl Chain {
    pub fn new(head: Oid) -> Chain {
        Chain {
            records: Vec::new(),
            index: HashMap::new(),
            end: End::More(head),
            bytes: 0,
            bounded: false,
        }
    }

    /// Walks until a record fits; every link on the way is checked, and no more is read than may come with one push.
    pub fn find_new(
        &mut self,
        view: &dyn View,
        target: &Target,
        fits: impl Fn(&Record) -> bool,
    ) -> Result<Option<usize>, Broken> {
        self.bounded = true;
        let found = self.find(view, target, fits);
        self.bounded = false;
        found
    }

    /// Walks until a record fits; every link on the way is checked.
    pub fn find(
        &mut self,
        view: &dyn View,
        target: &Target,
        fits: impl Fn(&Record) -> bool,
    ) -> Result<Option<usize>, Broken> {
        if let Some(at) = self.records.iter().position(&fits) {
            return Ok(Some(at));
        }
        loop {
            match self.end.clone() {
                End::First => return Ok(None),
                End::Broken(defect) => {
                    return Err(Broken::new(
                        "ledger-malformed",
                        defect.to_string(),
                        verify(target),
                    ));
                }
                End::Unreadable(why) => return Err(Broken::new("unproven", why, fetch())),
                End::More(oid) => match self.step(view, target, oid) {
                    Ok(record) => {
                        self.end = record.previous.as_ref().map_or(End::First, |p| End::More(p.oid));
                        let (at, found) = (self.records.len(), fits(&record));
                        self.index.insert(oid, at);
                        self.records.push(record);
                        if found {
                            return Ok(Some(at));
                        }
                    }
                    Err(end) => self.end = end,
                },
            }
        }
    }

    fn step(&mut self, view: &dyn View, target: &Target, oid: Oid) -> Result<Record, End> {
        let raw = match view.tag(&oid).map_err(End::Unreadable)? {
            Raw::Tag(raw) => raw,
            Raw::Large(defect) => return Err(End::Broken(defect)),
            Raw::Other => {
                let why = format!("{} is no tag object", short(&oid));
                return Err(End::Broken(Defect::new("header", why)));
            }
        };
        self.bytes = self.bytes.saturating_add(raw.len() as u64);
        if self.bounded && (self.bytes > MOST_BYTES || self.records.len() as u64 >= MOST_RECORDS) {
            let why = format!(
                "the new records of {target} are more than one push may bring: {MOST_RECORDS}, or {} MiB",
                MOST_BYTES >> 20
            );
            return Err(End::Broken(Defect::new("size", why)));
        }
        let record = Record::parse(oid, &raw, None).map_err(End::Broken)?;
        if record.target() != target {
            let why = format!("{} stands in the ledger of {target}", record.name);
            return Err(End::Broken(Defect::new("target", why)));
        }
        if let Some(newer) = self.records.last() {
            ledger::link(newer, &record).map_err(End::Broken)?;
        }
        Ok(record.without_what_is_told())
    }
}
