//! `verify`: every record of a chain, every link, every signature, every ref. What held once is known again by the id of
//! the newest record; the refs are looked at each time.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::records::{Remotes, targets, which};
use super::{person, repository, wait, world};
use crate::cli;
use crate::failure::{Exit, Failure};
use crate::git::{Repo, Signed, Signing, Verified, Which};
use crate::record::{Defect, Oid, RecordName, Signature, Target};
use crate::run;
use crate::ui::{self, Ui};

pub(super) fn verify(args: &cli::Verify, ui: &Ui) -> ui::Outcome {
    let repo = repository()?;
    let asker = person(ui);
    let remotes = Remotes::read(&repo)?;
    let mut names: Vec<String> = Vec::new();
    let mut wanted: Vec<RecordName> = Vec::new();
    for what in &args.what {
        let what = what.strip_prefix("refs/tags/").unwrap_or(what);
        match what.parse::<RecordName>() {
            Ok(name) => {
                names.push(name.target.to_string());
                wanted.push(name);
            }
            Err(_) => names.push(what.to_owned()),
        }
    }
    names.sort();
    names.dedup();
    let targets = targets(&repo, &names)?;
    // A remote that is asked may know more.
    if !args.remote {
        refuse_strangers(&repo, &targets)?;
    }
    let question = |target| Question {
        repo: &repo,
        target,
        remote: remotes.of(target),
        wanted: &wanted,
        args,
        json: ui.is_json(),
    };
    let answers = match args.remote || args.live {
        // Others are asked, one at a time.
        true => targets
            .iter()
            .map(|target| {
                let question = question(target);
                let mut beyond = run::Live::default();
                question.asked(&mut beyond.defects)?;
                if args.live {
                    let stop = run::Stop::default();
                    let world = world(&repo, ui, &asker, &stop);
                    let live = wait(run::look_live(world, target))?;
                    beyond.defects.extend(live.defects);
                    beyond.notes = live.notes;
                }
                question.answer(&beyond)
            })
            .collect(),
        false => side_by_side(&targets, |target| question(target).answer(&run::Live::default())),
    };
    let mut text = String::new();
    let mut values = Vec::new();
    let mut exit = Exit::Done;
    for (target, answer) in targets.iter().zip(answers) {
        match answer {
            Ok((lines, value)) => {
                text.push_str(&lines);
                values.push(value);
            }
            Err(failure) => {
                exit = Exit::Failed;
                text.push_str(&format!(
                    "{target}: BROKEN: {}\n",
                    ui::escape::one_line(&failure.what)
                ));
                for why in &failure.why {
                    text.push_str(&format!("  {}\n", ui::escape::one_line(why)));
                }
                values.push(json!({
                    "target": target.as_str(), "ok": false, "what": failure.what, "why": failure.why,
                }));
            }
        }
    }
    refuse_strangers(&repo, &targets)?;
    let strange = match args.what.is_empty() {
        true => repo.strange_refs(None)?,
        false => Vec::new(),
    };
    for defect in &strange {
        exit = Exit::Failed;
        text.push_str(&format!(
            "BROKEN: {}\n",
            ui::escape::one_line(&defect.to_string())
        ));
        values.push(json!({ "ok": false, "what": defect.to_string() }));
    }
    ui.answer(&text, json!({ "ok": exit == Exit::Done, "targets": values }));
    Ok(exit)
}

/// A name that neither the file nor a record knows is a slip of the fingers: that it has no record would be no answer.
fn refuse_strangers(repo: &Repo, asked: &[Target]) -> Result<(), Failure> {
    let known = targets(repo, &[]).unwrap_or_default();
    for target in asked {
        if !known.contains(target) && repo.record_tags(target)?.is_empty() {
            let names: Vec<&str> = known.iter().map(Target::as_str).collect();
            return Err(
                Failure::usage(format!("neither .nixgate.toml nor a record knows {target}"))
                    .why(format!(
                        "targets: {}",
                        if names.is_empty() {
                            "none".to_owned()
                        } else {
                            names.join(", ")
                        }
                    ))
                    .next("git nixgate status"),
            );
        }
    }
    Ok(())
}

/// The answers in the targets' order, each found by one of a few threads: a chain is read from its newest record on, but
/// no chain waits for another.
fn side_by_side<'a, T: Send>(targets: &'a [Target], answer: impl Fn(&'a Target) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        while let Some((n, target)) = {
            let n = next.fetch_add(1, Ordering::Relaxed);
            targets.get(n).map(|target| (n, target))
        } {
            found.push((n, answer(target)));
        }
        found
    };
    let mut all: Vec<(usize, T)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(targets.len()))
            .map(|_| scope.spawn(work))
            .collect();
        let mut all = work();
        for other in others {
            match other.join() {
                Ok(found) => all.extend(found),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_by_key(|(n, _)| *n);
    all.into_iter().map(|(_, answer)| answer).collect()
}

/// One target's chain.
struct Question<'a> {
    repo: &'a Repo,
    target: &'a Target,
    remote: &'a str,
    /// The records that were named; none: all.
    wanted: &'a [RecordName],
    args: &'a cli::Verify,
    /// The answer is wanted as JSON: it is large.
    json: bool,
}

impl Question<'_> {
    /// `beyond` is what does not agree on the remote and on the host.
    fn answer(&self, beyond: &run::Live) -> Result<(String, Value), Failure> {
        let (repo, target) = (self.repo, self.target);
        let from = which(repo, target, self.remote)?;
        let Some(head) = repo.ledger_head(target, from)? else {
            return self.nothing();
        };
        let recent = repo.recent(target, from, 1)?;
        let known = match self.args.full {
            true => None,
            false => repo.verified(target, &head),
        };
        let (chain, mut problems) = match known {
            Some(chain) => (chain, Vec::new()),
            None => self.walked(from)?,
        };
        let named = |name: &RecordName| chain.records.iter().any(|link| link.name == *name);
        let mut here = self.wanted.iter().filter(|name| name.target == *target);
        if let Some(name) = here.find(|name| !named(name)) {
            return Err(Failure::refused(format!("{name} is not in the ledger")));
        }
        problems.extend(self.refs(&chain)?);
        problems.extend(self.beside()?);
        problems.extend(beyond.defects.iter().map(ToString::to_string));
        // The next record covers every byte of the one before it; the newest has none.
        let signed = recent.first().map_or(Signature::None, |head| head.signature);
        if let Some(head) = recent.first() {
            let subject = repo.commit(&head.commit).ok().map(|commit| commit.subject);
            let told = head.told(subject.as_deref());
            problems.extend(told.err().map(|defect| defect.to_string()));
        }
        if !problems.is_empty() {
            let mut failure = Failure::refused("the refs do not say what the records say");
            failure.why = problems;
            return Err(failure);
        }
        let signs = matches!(repo.signing(), Ok(Signing::On { .. }));
        Ok(self.shown(&chain, signs && signed == Signature::None, &beyond.notes))
    }

    /// Reads every record.
    fn walked(&self, from: Which<'_>) -> Result<(Verified, Vec<String>), Failure> {
        let (repo, target) = (self.repo, self.target);
        let Some(ledger) = repo.ledger(target, from)? else {
            return Err(Failure::refused(format!("the ledger of {target} has gone")));
        };
        let records = ledger.records();
        let demand = repo.demand_behind(records, records.len() - 1)?;
        let trust = &repo.trust_by(&demand)?;
        let covered = trust.covered();
        let mut problems = Vec::new();
        let mut signed = Vec::new();
        for record in ledger.records() {
            let newest = record.oid == ledger.head().oid;
            let asked = if newest { trust } else { &covered };
            match repo.on_its_tree(record).and_then(|()| repo.signed(record, asked)) {
                Ok(found) => signed.push(crate::record::text::shown(&found.to_string())),
                Err(defect) => {
                    problems.push(defect.to_string());
                    signed.push(String::new());
                }
            }
        }
        let chain = Verified::of(&ledger, &signed, demand);
        if problems.is_empty() {
            repo.set_verified(&ledger, &chain, trust);
        }
        Ok((chain, problems))
    }

    fn nothing(&self) -> Result<(String, Value), Failure> {
        let target = self.target;
        let tags = self.repo.record_tags(target)?;
        let beside = self.beside()?;
        if tags.is_empty() && !beside.is_empty() {
            let mut failure = Failure::refused(format!("{target} has no record, and refs that are none"));
            failure.why = beside;
            return Err(failure);
        }
        match tags.is_empty() && !self.wanted.iter().any(|name| name.target == *target) {
            true => Ok((
                format!("{target}: no record\n"),
                json!({ "target": target.as_str(), "ok": true, "records": 0 }),
            )),
            false => Err(Failure::refused(format!(
                "{target} has record tags, but no ledger that holds them"
            ))),
        }
    }

    /// What stands beside the records and is none: strange names, and pending records that do not hold.
    fn beside(&self) -> Result<Vec<String>, Failure> {
        let strange = self.repo.strange_refs(Some(self.target))?;
        let pending = self.repo.broken_pending(self.target)?;
        let pending = pending.iter().map(|(_, failure)| failure.on_one_line());
        Ok(strange.iter().map(ToString::to_string).chain(pending).collect())
    }

    /// What the refs here say against the chain.
    fn refs(&self, chain: &Verified) -> Result<Vec<String>, Failure> {
        let (repo, target) = (self.repo, self.target);
        let links: Vec<(RecordName, Oid)> = chain
            .records
            .iter()
            .map(|link| (link.name.clone(), link.oid))
            .collect();
        let defects = repo.tags_against(target, &links)?;
        let mut problems: Vec<String> = defects.iter().map(ToString::to_string).collect();
        if let Some(pointer) = repo.reference(&format!("refs/heads/release/{target}"))?
            && !chain.records.iter().any(|link| link.released == Some(pointer))
        {
            problems.push(format!(
                "release/{target} points at {pointer}, which no release record names (pointer)"
            ));
        }
        if !self.remote.is_empty()
            && let Err(fork) = repo.refuse_fork(target, self.remote)
        {
            problems.push(fork.what);
            problems.extend(fork.why);
        }
        Ok(problems)
    }

    /// What does not agree on the remote, if it is to be asked.
    fn asked(&self, defects: &mut Vec<Defect>) -> Result<(), Failure> {
        let (repo, target) = (self.repo, self.target);
        if !self.args.remote || self.remote.is_empty() || !repo.has_remotes()? {
            return Ok(());
        }
        let fetched = wait(repo.fetch(self.remote, target))?;
        defects.extend(repo.remote_defects(target, &fetched.refs)?);
        Ok(())
    }

    fn shown(&self, chain: &Verified, lacks: bool, notes: &[String]) -> (String, Value) {
        let target = self.target;
        let count = chain.records.len();
        let mut text = format!(
            "{target}: {count} record{} verified, on the host is {}{}\n",
            if count == 1 { "" } else { "s" },
            chain.on_host,
            match lacks {
                true => "; the newest is not signed, although tags are signed here",
                false => "",
            }
        );
        for note in notes {
            text.push_str(&format!("  note: {}\n", ui::escape::one_line(note)));
        }
        let unsigned = Signed::Unsigned.to_string();
        let newest_first = || {
            let all = chain.records.iter().rev();
            all.filter(|link| self.wanted.is_empty() || self.wanted.contains(&link.name))
        };
        // Where nobody signs there is nothing to tell apart.
        if !self.wanted.is_empty() || newest_first().any(|link| link.signed != unsigned) {
            for link in newest_first() {
                text.push_str(&format!("  {} {}\n", link.name.leaf(), link.signed));
            }
        }
        if !self.json {
            return (text, Value::Null);
        }
        let records: Vec<Value> = newest_first()
            .map(|link| json!({ "record": link.name.to_string(), "signature": link.signed }))
            .collect();
        let mut value =
            json!({ "target": target.as_str(), "ok": true, "records": count, "signatures": records });
        if !notes.is_empty() {
            value["notes"] = json!(notes);
        }
        (text, value)
    }
}
