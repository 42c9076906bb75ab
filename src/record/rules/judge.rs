//! The judgement of one push: each ref against what stands there, what comes with it, and the chain.

use std::collections::{HashMap, HashSet};

use super::super::Oid;
use super::super::ledger::Ledger;
use super::super::name::{Kind, RecordName, Target};
use super::super::parse::{Defect, Record};
use super::chain::Chain;
use super::guarded::Guarded;
use super::{AHEAD, Present, Proof, Raw, Stands, Update, View, ledger_ref};

/// What is broken: the rule, why, and what to do instead.
pub(super) struct Broken {
    pub rule: &'static str,
    pub why: String,
    pub next: String,
}

impl Broken {
    pub fn new(rule: &'static str, why: impl Into<String>, next: impl Into<String>) -> Broken {
        Broken {
            rule,
            why: why.into(),
            next: next.into(),
        }
    }
}

pub(super) type Judged = Result<(), Broken>;

fn refuse(rule: &'static str, why: impl Into<String>, next: impl Into<String>) -> Judged {
    Err(Broken::new(rule, why, next))
}

pub(super) struct Judge<'a> {
    updates: HashMap<&'a str, &'a Update>,
    /// What is under each ref of the push now.
    stands: HashMap<&'a str, Option<Oid>>,
    view: &'a dyn View,
    chains: HashMap<Target, Chain>,
    /// Records whose content was judged.
    admitted: HashSet<Oid>,
}

impl<'a> Judge<'a> {
    pub fn new(view: &'a dyn View) -> Judge<'a> {
        Judge {
            updates: HashMap::new(),
            stands: HashMap::new(),
            view,
            chains: HashMap::new(),
            admitted: HashSet::new(),
        }
    }

    /// Judges one of the updates that were taken on.
    pub fn one(&mut self, update: &Update, what: &Guarded) -> Judged {
        match what {
            // What can be neither record, pointer nor ledger may go.
            Guarded::Malformed(_) if update.new.is_none() => Ok(()),
            Guarded::Malformed(why) => refuse("name", why, "choose a name outside release/"),
            Guarded::Record(name) => self.record(update, name),
            Guarded::Pointer(target) => self.pointer(update, target),
            Guarded::Ledger(target) => self.ledger(update, target),
        }
    }

    /// Takes an update on, if it is about what stands there.
    pub fn take(&mut self, update: &'a Update) -> Judged {
        let name = update.ref_name.as_str();
        if self.updates.insert(name, update).is_some() {
            self.stands.remove(name);
            return refuse("twice", "one push names it more than once", "name it once");
        }
        let now = match self.view.stands(name) {
            None => update.old,
            Some(Stands::At(oid)) => Some(oid),
            Some(Stands::Absent) => None,
            Some(Stands::Symbolic(to)) => {
                return refuse(
                    "symbolic",
                    format!("it is a symbolic ref to {to} there, which no record, pointer or ledger is"),
                    format!("on the server: git -c core.hooksPath=/dev/null symbolic-ref --delete {name}"),
                );
            }
            Some(Stands::Unreadable(why)) => return refuse("unproven", why, "git fsck, on the server"),
        };
        // What is to be deleted is refused for that, whatever is said to be there.
        if now != update.old && update.new.is_some() {
            let said = |oid: Option<Oid>| oid.map_or_else(|| "nothing".to_owned(), |oid| short(&oid));
            let why = format!(
                "the push says that {} is there, and it is {}",
                said(update.old),
                said(now)
            );
            return refuse("stale", why, "git fetch, and push again");
        }
        self.stands.insert(name, now);
        Ok(())
    }

    /// What is under a ref of the push now.
    fn now(&self, ref_name: &str) -> Option<Oid> {
        self.stands.get(ref_name).copied().flatten()
    }

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
        match self.now(&update.ref_name) {
            Some(old) if old != new => {
                return refuse(
                    "record-moved",
                    format!("{name} is a record: it never moves"),
                    "git fetch --tags, and keep theirs",
                );
            }
            Some(_) => {}
            None => self.admit(new, name)?,
        }
        let head = match self.after(&ledger_ref(target)) {
            Present::At(head) => head,
            Present::Absent => {
                let why = format!("{name} comes without the ledger of {target}");
                return refuse("record-unchained", why, publish(target));
            }
            Present::Unknown => return refuse("unproven", unknown_ledger(target), publish(target)),
        };
        match self.find(target, head, |r| r.oid == new)? {
            // A link under another name than its own would stand under both.
            Some(at) if self.named(target, at) == Some(name) => Ok(()),
            _ => {
                let why = format!("{name} is not in the ledger of {target}");
                refuse("record-unchained", why, publish(target))
            }
        }
    }

    fn named(&self, target: &Target, at: usize) -> Option<&RecordName> {
        Some(&self.chains.get(target)?.records.get(at)?.name)
    }

    /// What a new record says of itself is judged, once.
    fn admit(&mut self, oid: Oid, name: &RecordName) -> Judged {
        if !self.admitted.insert(oid) {
            return Ok(());
        }
        let target = &name.target;
        let malformed = |defect: Defect| Broken::new("record-malformed", defect.to_string(), release(target));
        let raw = match self.view.tag(&oid) {
            Ok(Raw::Tag(raw)) => raw,
            Ok(Raw::Large(defect)) => return Err(malformed(defect)),
            Ok(Raw::Other) => {
                let why = format!("{name} is no annotated tag");
                return refuse("record-malformed", why, release(target));
            }
            Err(why) => return refuse("unproven", why, fetch()),
        };
        let record = Record::parse(oid, &raw, Some(&name.ref_name())).map_err(malformed)?;
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
        record.seen().map_err(malformed)?;
        record
            .told(self.view.subject(&record.commit).as_deref())
            .map_err(malformed)?;
        self.view
            .trusted(&record)
            .map_err(|defect| Broken::new(defect.rule, defect.why, verify(target)))
    }

    fn pointer(&mut self, update: &Update, target: &Target) -> Judged {
        let Some(new) = update.new else {
            let why = format!("release/{target} is a pointer: it is never deleted");
            return refuse("pointer-deleted", why, "leave it where it is");
        };
        if let Some(old) = self.now(&update.ref_name) {
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
        let unrecorded = |what: &str| {
            let why = format!("{what} says that {} was ever proven on {target}", short(&new));
            refuse("pointer-unrecorded", why, release(target))
        };
        let head = match self.after(&ledger_ref(target)) {
            Present::At(head) => head,
            Present::Absent => return unrecorded("no record"),
            Present::Unknown => return refuse("unproven", unknown_ledger(target), publish(target)),
        };
        match self.find(target, head, |r| r.kind == Kind::Release && r.commit == new)? {
            Some(record) => self.tag_stands(target, record),
            None => unrecorded("no release record"),
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
        let now = self.now(&update.ref_name);
        let view = self.view;
        let chain = self.chain(target, new);
        let reached = chain.find_new(view, target, |r| now == Some(r.oid))?;
        if let Some(old) = now
            && reached.is_none()
        {
            let why = format!("the new ledger of {target} does not continue {}", short(&old));
            return refuse("ledger-discontinued", why, fetch());
        }
        let links = reached.unwrap_or(chain.records.len());
        for at in 0..links {
            self.tag_stands(target, at)?;
            self.in_time(target, at)?;
        }
        self.says_what_is_so(target, new, links)?;
        for at in 0..links {
            if let Some((oid, name)) = self.link(target, at) {
                self.admit(oid, &name)?;
            }
        }
        Ok(())
    }

    fn link(&self, target: &Target, at: usize) -> Option<(Oid, RecordName)> {
        let record = self.chains.get(target)?.records.get(at)?;
        Some((record.oid, record.name.clone()))
    }

    /// No new record is of a time that has yet to come. Behind one that is, and was taken somehow, the next second is as
    /// good as it can be.
    fn in_time(&self, target: &Target, at: usize) -> Judged {
        let (Some(chain), Some(now)) = (self.chains.get(target), self.view.clock()) else {
            return Ok(());
        };
        let Some(record) = chain.records.get(at) else {
            return Ok(());
        };
        let before = chain.records.get(at + 1).map(|before| before.time.unix());
        let next = before.map_or(i64::MIN, |before| before.saturating_add(1));
        let most = now.unix().saturating_add(AHEAD).max(next);
        if record.time.unix() <= most {
            return Ok(());
        }
        let why = format!(
            "{} is of {}, and it is {}",
            record.name,
            record.time.rfc3339(),
            now.rfc3339()
        );
        refuse("future", why, "date -u, here and where the record was made")
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
        let ledger = ledger_ref(target);
        if !self.updates.contains_key(ledger.as_str()) {
            return Ok(());
        }
        // Behind the ledger that the other side has already: it was judged when it came.
        let old = self.now(&ledger).and_then(|old| self.position(target, &old));
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

    fn chain(&mut self, target: &Target, head: Oid) -> &mut Chain {
        self.chains
            .entry(target.clone())
            .or_insert_with(|| Chain::new(head))
    }

    fn find(
        &mut self,
        target: &Target,
        head: Oid,
        fits: impl Fn(&Record) -> bool,
    ) -> Result<Option<usize>, Broken> {
        let view = self.view;
        self.chain(target, head).find(view, target, fits)
    }
}

pub(super) fn short(oid: &Oid) -> String {
    oid.to_hex_with_len(12).to_string()
}

fn unknown_ledger(target: &Target) -> String {
    format!("the receiving side's ledger of {target} is not known here, and not in this push")
}

fn publish(target: &Target) -> String {
    format!("git nixgate publish {target}")
}

pub(super) fn verify(target: &Target) -> String {
    format!("git nixgate verify {target}")
}

fn release(target: &Target) -> String {
    format!("git nixgate release {target}")
}

pub(super) fn fetch() -> String {
    "git fetch, with --unshallow where history is cut".to_owned()
}
