//! The one decision behind every hook: may these refs change so? It sees all refs of a push together, because a pointer
//! is only as good as the record and the ledger that come with it. What cannot be proven is refused.

use std::collections::HashMap;

use super::Oid;
use super::ledger::{self, Ledger};
use super::name::{Kind, RecordName, Target};
use super::parse::{Defect, Record};

/// One ref of a push. `None` is the all-zero id: created from nothing, or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    pub ref_name: String,
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

/// What the decision needs to know of the world.
pub trait View {
    /// The raw content of a tag object; `Ok(None)` if the object is here and no tag, `Err` if it cannot be read.
    fn tag(&self, oid: &Oid) -> Result<Option<Vec<u8>>, String>;
    /// Whether `old` is an ancestor of `new`, or the same.
    fn ancestor(&self, old: &Oid, new: &Oid) -> Proof;
    /// What the receiving side has, as far as it is known here.
    fn present(&self, ref_name: &str) -> Present;
    /// Whether a record's signature counts, and its commit is what it says; `Err` is the rule that it breaks.
    fn trusted(&self, _record: &Record) -> Result<(), Defect> {
        Ok(())
    }
    /// How many places of a record hold a value that must not leave in it.
    fn leaks(&self, _record: &Record) -> usize {
        0
    }
}

/// What a guarded ref is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Guarded {
    Record(RecordName),
    Pointer(Target),
    Ledger(Target),
    /// Under a guarded name space, but no name that can stand there.
    Malformed(String),
}

/// Whether a ref is one that the rules are about. Everything else passes without a look.
pub fn is_guarded(ref_name: &str) -> bool {
    [
        "refs/tags/release/",
        "refs/heads/release/",
        "refs/nixgate/ledger/",
    ]
    .iter()
    .any(|p| ref_name.starts_with(p))
}

fn classify(ref_name: &str) -> Option<Guarded> {
    let target = |text: &str, make: fn(Target) -> Guarded| match text.parse() {
        Ok(target) => make(target),
        Err(why) => Guarded::Malformed(why),
    };
    if let Some(rest) = ref_name.strip_prefix("refs/tags/")
        && rest.starts_with("release/")
    {
        return Some(rest.parse().map_or_else(Guarded::Malformed, Guarded::Record));
    }
    if let Some(rest) = ref_name.strip_prefix("refs/heads/release/") {
        return Some(target(rest, Guarded::Pointer));
    }
    ref_name
        .strip_prefix("refs/nixgate/ledger/")
        .map(|rest| target(rest, Guarded::Ledger))
}

/// Judges all refs of one push. Empty: nothing stands against it.
pub fn judge(updates: &[Update], view: &dyn View) -> Vec<Refusal> {
    let guarded: Vec<(&Update, Guarded)> = updates
        .iter()
        .filter(|u| u.old != u.new)
        .filter_map(|u| classify(&u.ref_name).map(|guarded| (u, guarded)))
        .collect();
    if guarded.is_empty() {
        return Vec::new();
    }
    let mut judge = Judge {
        updates: updates.iter().map(|u| (u.ref_name.as_str(), u)).collect(),
        view,
        chains: HashMap::new(),
    };
    let mut refusals = Vec::new();
    for (update, what) in guarded {
        let verdict = match what {
            Guarded::Malformed(why) => refuse("name", why, "choose a name outside release/"),
            Guarded::Record(name) => judge.record(update, &name),
            Guarded::Pointer(target) => judge.pointer(update, &target),
            Guarded::Ledger(target) => judge.ledger(update, &target),
        };
        if let Err((rule, why, next)) = verdict {
            refusals.push(Refusal {
                ref_name: update.ref_name.clone(),
                rule,
                why,
                next,
            });
        }
    }
    refusals
}

type Judged = Result<(), (&'static str, String, String)>;

fn refuse(rule: &'static str, why: impl Into<String>, next: impl Into<String>) -> Judged {
    Err((rule, why.into(), next.into()))
}

/// A target's chain as far as it was walked: from the ledger that will stand after the push, back.
struct Chain {
    records: Vec<Record>,
    index: HashMap<Oid, usize>,
    end: End,
}

/// Why the walk stopped, or where it goes on.
#[derive(Clone)]
enum End {
    More(Oid),
    First,
    Broken(Defect),
    Unreadable(String),
}

struct Judge<'a> {
    updates: HashMap<&'a str, &'a Update>,
    view: &'a dyn View,
    chains: HashMap<Target, Chain>,
}

impl Judge<'_> {
    /// What the receiving side will have under a ref after the push.
    fn after(&self, ref_name: &str) -> Present {
        match self.updates.get(ref_name) {
            Some(update) => update.new.map_or(Present::Absent, Present::At),
            None => self.view.present(ref_name),
        }
    }

    fn record(&mut self, update: &Update, name: &RecordName) -> Judged {
        let target = &name.target;
        let Some(new) = update.new else {
            return refuse(
                "record-deleted",
                format!("{name} is a record: it is never deleted"),
                "leave it where it is",
            );
        };
        if update.old.is_some() {
            return refuse(
                "record-moved",
                format!("{name} is a record: it never moves"),
                "git fetch --tags, and keep theirs",
            );
        }
        let raw = match self.view.tag(&new) {
            Ok(Some(raw)) => raw,
            Ok(None) => {
                return refuse(
                    "record-malformed",
                    format!("{name} is no annotated tag"),
                    release(target),
                );
            }
            Err(why) => return refuse("unproven", why, fetch()),
        };
        let record = Record::parse(new, &raw, Some(&update.ref_name))
            .map_err(|defect| ("record-malformed", defect.to_string(), release(target)))?;
        let leaks = self.view.leaks(&record);
        if leaks > 0 {
            let why =
                format!("{name} holds in {leaks} place(s) what configuration or environment keep secret");
            return refuse(
                "leak",
                why,
                "git nixgate show, then report it: records are redacted when they are written",
            );
        }
        self.view
            .trusted(&record)
            .map_err(|defect| (defect.rule, defect.why, verify(target)))?;
        match self.after(&ledger_ref(target)) {
            Present::At(head) => {
                if self.find(target, head, |r| r.oid == new)?.is_some() {
                    return Ok(());
                }
                refuse(
                    "record-unchained",
                    format!("{name} is not in the ledger of {target}"),
                    publish(target),
                )
            }
            Present::Absent => refuse(
                "record-unchained",
                format!("{name} comes without the ledger of {target}"),
                publish(target),
            ),
            Present::Unknown => {
                let why = format!(
                    "the receiving side's ledger of {target} is not known here, and not in this push"
                );
                refuse("unproven", why, publish(target))
            }
        }
    }

    fn pointer(&mut self, update: &Update, target: &Target) -> Judged {
        let Some(new) = update.new else {
            let why = format!("release/{target} is a pointer: it is never deleted");
            return refuse("pointer-deleted", why, "leave it where it is");
        };
        if let Some(old) = update.old {
            match self.view.ancestor(&old, &new) {
                Proof::Yes => {}
                Proof::No => {
                    let why = format!(
                        "release/{target} only fast-forwards, and {} is not in the history of {}",
                        short(&old),
                        short(&new)
                    );
                    return refuse(
                        "pointer-rewound",
                        why,
                        format!(
                            "git nixgate rollback {target}, or git merge -s ours release/{target} and release again"
                        ),
                    );
                }
                Proof::Unknown(why) => return refuse("unproven", why, fetch()),
            }
        }
        let head = match self.after(&ledger_ref(target)) {
            Present::At(head) => head,
            Present::Absent => {
                let why = format!("no record says that {} was ever proven on {target}", short(&new));
                return refuse("pointer-unrecorded", why, release(target));
            }
            Present::Unknown => {
                let why = format!(
                    "the receiving side's ledger of {target} is not known here, and not in this push"
                );
                return refuse("unproven", why, publish(target));
            }
        };
        match self.find(target, head, |r| r.kind == Kind::Release && r.commit == new)? {
            Some(record) => self.tag_stands(target, record),
            None => {
                let why = format!(
                    "no release record says that {} was ever proven on {target}",
                    short(&new)
                );
                refuse("pointer-unrecorded", why, release(target))
            }
        }
    }

    fn ledger(&mut self, update: &Update, target: &Target) -> Judged {
        let Some(new) = update.new else {
            return refuse(
                "ledger-deleted",
                format!("the ledger of {target} is never deleted"),
                "leave it where it is",
            );
        };
        let reached = match update.old {
            Some(old) => self.find(target, new, |r| r.oid == old)?,
            None => {
                self.find(target, new, |_| false)?;
                None
            }
        };
        if let Some(old) = update.old
            && reached.is_none()
        {
            let why = format!("the new ledger of {target} does not continue {}", short(&old));
            return refuse("ledger-discontinued", why, fetch());
        }
        let until = reached.unwrap_or(usize::MAX);
        let links = self.chains.get(target).map_or(0, |c| c.records.len().min(until));
        for at in 0..links {
            self.tag_stands(target, at)?;
        }
        self.says_what_is_so(target, new, links)
    }

    /// What the newest `links` records say about earlier ones is true: only then could anybody read the ledger again. The
    /// whole chain is needed for it, so it is walked only where something is said.
    fn says_what_is_so(&mut self, target: &Target, head: Oid, links: usize) -> Judged {
        let says = |r: &Record| r.restores.is_some() || !r.withdraws.is_empty();
        let any = |chain: &Chain| chain.records.iter().take(links).any(says);
        if !self.chains.get(target).is_some_and(any) {
            return Ok(());
        }
        self.find(target, head, |_| false)?;
        let records = self
            .chains
            .get(target)
            .map_or_else(Vec::new, |c| c.records.clone());
        match Ledger::new(records) {
            Ok(_) => Ok(()),
            Err(defect) => refuse("ledger-malformed", defect.to_string(), verify(target)),
        }
    }

    /// The tag of a link stands on the receiving side, or comes with this push.
    fn tag_stands(&self, target: &Target, at: usize) -> Judged {
        let Some(record) = self.chains.get(target).and_then(|c| c.records.get(at)) else {
            return Ok(());
        };
        let Some(ledger) = self.updates.get(ledger_ref(target).as_str()) else {
            return Ok(());
        };
        // Behind the ledger that the other side has already: it was judged when it came.
        let old = ledger.old.and_then(|old| self.position(target, &old));
        if old.is_some_and(|old| old <= at) {
            return Ok(());
        }
        // Asked last: the other side may have to be asked for it.
        match self.after(&record.name.ref_name()) {
            Present::At(oid) if oid == record.oid => Ok(()),
            _ => refuse(
                "tag-missing",
                format!(
                    "{} is in the ledger, but its tag is not in this push",
                    record.name
                ),
                publish(target),
            ),
        }
    }

    fn position(&self, target: &Target, oid: &Oid) -> Option<usize> {
        self.chains.get(target).and_then(|c| c.index.get(oid)).copied()
    }

    /// Walks the chain from `head` until a record fits; every link on the way is checked.
    fn find(
        &mut self,
        target: &Target,
        head: Oid,
        fits: impl Fn(&Record) -> bool,
    ) -> Result<Option<usize>, (&'static str, String, String)> {
        let view = self.view;
        let chain = self.chains.entry(target.clone()).or_insert_with(|| Chain {
            records: Vec::new(),
            index: HashMap::new(),
            end: End::More(head),
        });
        if let Some(at) = chain.records.iter().position(&fits) {
            return Ok(Some(at));
        }
        loop {
            match chain.end.clone() {
                End::First => return Ok(None),
                End::Broken(defect) => {
                    return Err(("ledger-malformed", defect.to_string(), verify(target)));
                }
                End::Unreadable(why) => return Err(("unproven", why, fetch())),
                End::More(oid) => {
                    let at = chain.records.len();
                    match step(view, target, oid, chain.records.last()) {
                        Ok(record) => {
                            chain.end = record.previous.as_ref().map_or(End::First, |p| End::More(p.oid));
                            chain.index.insert(oid, at);
                            let found = fits(&record);
                            chain.records.push(record);
                            if found {
                                return Ok(Some(at));
                            }
                        }
                        Err(end) => chain.end = end,
                    }
                }
            }
        }
    }
}

fn step(view: &dyn View, target: &Target, oid: Oid, newer: Option<&Record>) -> Result<Record, End> {
    let raw = match view.tag(&oid) {
        Ok(Some(raw)) => raw,
        Ok(None) => {
            return Err(End::Broken(Defect::new(
                "header",
                format!("{} is no tag object", short(&oid)),
            )));
        }
        Err(why) => return Err(End::Unreadable(why)),
    };
    let record = Record::parse(oid, &raw, None).map_err(End::Broken)?;
    if record.target() != target {
        return Err(End::Broken(Defect::new(
            "target",
            format!("{} stands in the ledger of {target}", record.name),
        )));
    }
    if let Some(newer) = newer {
        ledger::link(newer, &record).map_err(End::Broken)?;
    }
    Ok(record)
}

/// The ledger's ref.
pub fn ledger_ref(target: &Target) -> String {
    format!("refs/nixgate/ledger/{target}")
}

/// The pointer's ref.
pub fn pointer_ref(target: &Target) -> String {
    format!("refs/heads/release/{target}")
}

fn short(oid: &Oid) -> String {
    oid.to_hex_with_len(12).to_string()
}

fn publish(target: &Target) -> String {
    format!("git nixgate publish {target}")
}

fn verify(target: &Target) -> String {
    format!("git nixgate verify {target}")
}

fn release(target: &Target) -> String {
    format!("git nixgate release {target}")
}

fn fetch() -> String {
    "git fetch, with --unshallow where history is cut".to_owned()
}
