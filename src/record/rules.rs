//! The one decision behind every hook: may these refs change so? It sees all refs of a push together, because a pointer
//! is only as good as the record and the ledger that come with it. What stands now is read where the push arrives, and
//! never taken from the client's word for it. What cannot be proven is refused.

mod chain;
mod guarded;
mod judge;

pub use self::guarded::is_guarded;
use self::guarded::{Guarded, classify};
use self::judge::Judge;
use super::Oid;
use super::name::{Target, Utc};
use super::parse::{Defect, Record};

/// How many seconds later than the clock here a new record may be: clocks of good machines differ by less.
pub const AHEAD: i64 = 300;

/// One ref of a push. `None` is the all-zero id: created from nothing, or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    pub ref_name: String,
    /// What the client says is there.
    pub old: Option<Oid>,
    pub new: Option<Oid>,
}

/// Why a ref may not change so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub ref_name: String,
    /// A word that stays the same over versions: see docs/hook.md.
    pub rule: &'static str,
    pub why: String,
    /// What to do instead.
    pub next: String,
}

/// Whether one commit is an ancestor of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    Yes,
    No,
    /// Objects are missing or history is cut: the reason.
    Unknown(String),
}

/// What the receiving side has under a ref before the push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Present {
    At(Oid),
    Absent,
    Unknown,
}

/// What stands under a ref, read where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stands {
    At(Oid),
    Absent,
    /// It leads to another ref.
    Symbolic(String),
    /// It cannot be read: the reason.
    Unreadable(String),
}

/// An object that should be a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    /// The raw content of a tag object.
    Tag(Vec<u8>),
    /// A tag object that is larger than any record, and was not read.
    Large(Defect),
    /// An object that is no tag.
    Other,
}

/// What the decision needs to know of the world.
pub trait View {
    /// An object; `Err` if it cannot be read or is not here.
    fn tag(&self, oid: &Oid) -> Result<Raw, String>;
    /// Whether `old` is an ancestor of `new`, or the same.
    fn ancestor(&self, old: &Oid, new: &Oid) -> Proof;
    /// What the receiving side has, as far as it is known here.
    fn present(&self, ref_name: &str) -> Present;
    /// What stands there now, where this is the receiving side. `None`: it is not, and git's word is all there is.
    fn stands(&self, _ref_name: &str) -> Option<Stands> {
        None
    }
    /// Whether a record's signature counts, and its commit is what it says; `Err` is the rule that it breaks.
    fn trusted(&self, _record: &Record) -> Result<(), Defect> {
        Ok(())
    }
    /// The first line of a commit's message, if the commit is here.
    fn subject(&self, _commit: &Oid) -> Option<String> {
        None
    }
    /// How many places of a record hold a value that must not leave in it.
    fn leaks(&self, _record: &Record) -> usize {
        0
    }
    /// The time, where there is a clock.
    fn clock(&self) -> Option<Utc> {
        None
    }
}

/// Judges all refs of one push. Empty: nothing stands against it.
pub fn judge(updates: &[Update], view: &dyn View) -> Vec<Refusal> {
    let guarded: Vec<(&Update, Guarded)> = updates
        .iter()
        .filter_map(|u| classify(&u.ref_name).map(|guarded| (u, guarded)))
        .collect();
    let mut judge = Judge::new(view);
    // First what stands there, of all of them: the rest believes it.
    let mut verdicts: Vec<_> = guarded.iter().map(|(update, _)| judge.take(update)).collect();
    // Then the ledgers: what is new in them is judged there, within bounds, and found there by the others.
    let ledger = |(_, what): &(&Update, Guarded)| matches!(what, Guarded::Ledger(_));
    for wanted in [true, false] {
        for (at, (update, what)) in guarded.iter().enumerate() {
            if ledger(&guarded[at]) == wanted && verdicts[at].is_ok() {
                verdicts[at] = judge.one(update, what);
            }
        }
    }
    let refusal = |((update, _), verdict): (&(&Update, Guarded), Result<(), judge::Broken>)| {
        let broken = verdict.err()?;
        Some(Refusal {
            ref_name: update.ref_name.clone(),
            rule: broken.rule,
            why: broken.why,
            next: broken.next,
        })
    };
    guarded.iter().zip(verdicts).filter_map(refusal).collect()
}

/// The ledger's ref.
pub fn ledger_ref(target: &Target) -> String {
    format!("refs/nixgate/ledger/{target}")
}

/// The pointer's ref.
pub fn pointer_ref(target: &Target) -> String {
    format!("refs/heads/release/{target}")
}
