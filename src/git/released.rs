//! The one judgement behind everything that is done on behalf of a record or a commit. What runs something of a commit
//! wants a [`Released`], what acts on records wants a [`Trusted`]; neither can be had without passing it.

use std::path::Path;

use super::history::Commit;
use super::repo::Repo;
use super::trust::Trust;
use crate::config;
use crate::failure::Failure;
use crate::record::{Defect, Kind, Ledger, Record};

/// What a released commit asks of the signatures of later records: `require-signed` and `signers` of its file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demand {
    pub required: bool,
    pub signers: String,
}

impl Demand {
    /// Whether it asks for all that `other` asks for, of the same people.
    fn is_stricter(&self, other: &Demand) -> bool {
        (self.required || !other.required) && (other.signers.is_empty() || self.signers == other.signers)
    }
}

/// A chain that passed: its links hold, and its newest record is signed by whom it has to be and about its commit's tree.
#[derive(Debug, Clone)]
pub struct Trusted {
    ledger: Ledger,
    /// What is asked of the records behind the newest one.
    covered: Trust,
}

impl std::ops::Deref for Trusted {
    type Target = Ledger;

    fn deref(&self) -> &Ledger {
        &self.ledger
    }
}

/// A commit of which something may run: checks, hooks, an impure evaluation. A person released it.
#[derive(Debug, Clone)]
pub struct Released(Commit);

impl Released {
    pub fn commit(&self) -> &Commit {
        &self.0
    }

    /// The commit that a person releases now, or that of a run of this clone that goes on. Nothing else calls this:
    /// tests/boundaries.rs.
    pub fn by_hand(commit: Commit) -> Self {
        Released(commit)
    }
}

impl Trusted {
    /// The commit of one of its records. A record may be older than the demand for signatures: the newest one's covers
    /// every byte before it.
    ///
    /// # Errors
    /// Exit 3: signed by nobody who may, or about another tree than its commit's.
    pub fn released(&self, repo: &Repo, record: &Record) -> Result<Released, Failure> {
        if record.oid != self.head().oid {
            let known = self.by_oid(&record.oid).map(|_| ());
            let stranger = || Defect::new("record-unchained", format!("{} is in no ledger", record.name));
            known
                .ok_or_else(stranger)
                .and_then(|()| repo.vouched(record, &self.covered))
                .map_err(|defect| untrusted(record, &defect))?;
        }
        Ok(Released(repo.commit(&record.commit)?))
    }
}

impl Repo {
    /// Judges a chain by its newest record.
    ///
    /// # Errors
    /// Exit 3: unsigned although signatures are required, signed by nobody who may, or about another tree than its
    /// commit's. Exit 2: a signers file that cannot be used.
    pub fn judge(&self, ledger: Ledger) -> Result<Trusted, Failure> {
        let demand = self.demand_behind(ledger.records(), ledger.records().len() - 1)?;
        let trust = self.trust_by(&demand)?;
        let head = ledger.head();
        self.vouched(head, &trust)
            .map_err(|defect| untrusted(head, &defect))?;
        Ok(Trusted {
            covered: trust.covered(),
            ledger,
        })
    }

    /// What is asked of signatures: by git's configuration here, and by a demand of a released commit.
    ///
    /// # Errors
    /// A signers file that cannot be used (exit 2).
    pub fn trust_by(&self, demand: &Demand) -> Result<Trust, Failure> {
        self.trust(demand.required, &demand.signers)
    }

    /// What the first `count` records, oldest first, ask of the one that follows. What a release's commit asks for counts
    /// from the record after its own, so that none can speak for itself; and one that asks for less, or names other
    /// signers, counts only where its record passes what was asked before. Otherwise two unsigned records would undo the
    /// demand of a signed one.
    ///
    /// # Errors
    /// A signers file that cannot be used (exit 2).
    pub fn demand_behind(&self, records: &[Record], count: usize) -> Result<Demand, Failure> {
        let mut demand = Demand::default();
        let mut last: Option<(Vec<u8>, Demand)> = None;
        for record in records[..count].iter().filter(|r| r.kind == Kind::Release) {
            // A commit that is not here says nothing: the demand stays.
            let Ok(bytes) = self.read_file(&record.commit, Path::new(config::FILE)) else {
                continue;
            };
            let bytes = bytes.unwrap_or_default();
            let said = match last.take() {
                Some((known, said)) if known == bytes => said,
                _ => demand_of(&bytes, record),
            };
            last = Some((bytes, said.clone()));
            let counts = said.is_stricter(&demand) || self.vouched(record, &self.trust_by(&demand)?).is_ok();
            if said != demand && counts {
                demand = said;
            }
        }
        Ok(demand)
    }

    /// Whether a record counts by itself: it is about its commit's tree, and signed as asked.
    fn vouched(&self, record: &Record, trust: &Trust) -> Result<(), Defect> {
        self.on_its_tree(record)?;
        self.signed(record, trust).map(|_| ())
    }
}

fn demand_of(bytes: &[u8], record: &Record) -> Demand {
    let (config, _) = config::parse_leniently(&String::from_utf8_lossy(bytes));
    let settings = config.targets.get(record.target());
    settings.map_or_else(Demand::default, |settings| Demand {
        required: settings.require_signed,
        signers: settings.signers.clone(),
    })
}

fn untrusted(record: &Record, defect: &Defect) -> Failure {
    Failure::refused(format!("{} failed verification", record.name))
        .why(defect.to_string())
        .next(format!("git nixgate verify {}", record.target()))
}
