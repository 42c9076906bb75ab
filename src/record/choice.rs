//! Which recorded closure a rollback or a deploy takes. Pure: it reads the ledger and nothing else.

use super::ledger::Ledger;
use super::name::{OnHost, RecordName};
use super::parse::Record;
use crate::failure::Failure;

/// What a rollback or a deploy puts on the host, and what that withdraws.
#[derive(Debug, Clone)]
pub struct Choice<'a> {
    pub restores: OnHost,
    /// The record whose evidence names the closure: the release itself; for `before-first` the first record, whose
    /// `before` it is.
    pub source: &'a Record,
    /// Releases that this withdraws, oldest first.
    pub withdraws: Vec<RecordName>,
}

impl Choice<'_> {
    /// The toplevel that goes onto the host.
    pub fn toplevel(&self) -> &str {
        match (&self.restores, &self.source.evidence.before) {
            (OnHost::BeforeFirst, Some(before)) => &before.toplevel,
            _ => &self.source.evidence.toplevel,
        }
    }
}

impl Ledger {
    /// `rollback` and `rollback --to TAG`.
    pub fn rollback_choice(&self, to: Option<&str>) -> Result<Choice<'_>, Failure> {
        let here = self.place(&self.on_host());
        let Some(to) = to else {
            let earlier = self
                .releases()
                .rev()
                .find(|r| r.seq < here && !self.is_withdrawn(&r.name));
            return match earlier {
                Some(release) => Ok(self.choose(OnHost::Release(release.name.clone()), release, here)),
                None => Err(self.nothing_earlier()),
            };
        };
        let (restores, source) = self.named(to)?;
        let target = self.target();
        if let OnHost::Release(name) = &restores {
            if self.is_withdrawn(name) {
                return Err(Failure::refused(format!("{name} is withdrawn"))
                    .why(self.why_withdrawn(name))
                    .next(format!("git nixgate deploy {target} --to {}", name.leaf())));
            }
            if self.place(&restores) > here {
                return Err(Failure::refused(format!(
                    "{name} is later than what is on {target}: that is no way back"
                ))
                .next(format!("git nixgate deploy {target} --to {}", name.leaf())));
            }
        }
        Ok(self.choose(restores, source, here))
    }

    /// Back to what the records say is on the host, after somebody switched it by hand. Withdraws nothing.
    pub fn return_choice(&self) -> Choice<'_> {
        let restores = self.on_host();
        let source = self.current().unwrap_or(&self.records()[0]);
        Choice {
            restores,
            source,
            withdraws: Vec::new(),
        }
    }

    /// `deploy --to TAG`: forward, sideways, or the same again; never back.
    pub fn deploy_choice(&self, to: &str) -> Result<Choice<'_>, Failure> {
        let (restores, source) = self.named(to)?;
        let back = match &restores {
            OnHost::Release(name) => {
                !self.is_withdrawn(name) && self.place(&restores) < self.place(&self.on_host())
            }
            OnHost::BeforeFirst => self.on_host() != OnHost::BeforeFirst,
        };
        if back {
            let (target, leaf) = (self.target(), leaf(&restores));
            return Err(
                Failure::refused(format!("{restores} is earlier than what is on {target}"))
                    .why("going back withdraws what came after, so it is a rollback of its own")
                    .next(format!("git nixgate rollback {target} --to {leaf}")),
            );
        }
        Ok(Choice {
            restores,
            source,
            withdraws: Vec::new(),
        })
    }

    /// Finds what `--to` names: a full record name, the part after `release/<target>/`, or `before-first`. A rollback
    /// or a deploy stands for the release that it restored.
    pub fn named(&self, to: &str) -> Result<(OnHost, &Record), Failure> {
        let target = self.target();
        if to == "before-first" {
            return self.before_first();
        }
        let full = to.strip_prefix("refs/tags/").unwrap_or(to);
        let name = full
            .parse()
            .or_else(|_| RecordName::from_leaf(target, full))
            .map_err(|_: String| {
                Failure::usage(format!("{to:?} names no record of {target}"))
                    .next(format!("git nixgate log {target}"))
            })?;
        let unknown = || {
            Failure::refused(format!("{name} is not in the ledger of {target}"))
                .next(format!("git nixgate log {target}"))
        };
        let record = self.get(&name).ok_or_else(unknown)?;
        match record.on_host() {
            OnHost::BeforeFirst => self.before_first(),
            OnHost::Release(name) => {
                let source = self.get(&name).ok_or_else(unknown)?;
                Ok((OnHost::Release(name), source))
            }
        }
    }

    fn before_first(&self) -> Result<(OnHost, &Record), Failure> {
        let first = &self.records()[0];
        match first.evidence.before {
            Some(_) => Ok((OnHost::BeforeFirst, first)),
            None => Err(Failure::refused(format!(
                "nothing is recorded from before the first release of {}",
                self.target()
            ))
            .why("the first release was the host's first system, or adopted what ran already")),
        }
    }

    /// Where something stands in the order: its release's sequence number, 0 for what ran before the first.
    fn place(&self, on_host: &OnHost) -> u64 {
        match on_host {
            OnHost::BeforeFirst => 0,
            OnHost::Release(name) => self.get(name).map_or(0, |r| r.seq),
        }
    }

    fn choose<'a>(&self, restores: OnHost, source: &'a Record, here: u64) -> Choice<'a> {
        let from = self.place(&restores);
        let withdraws = self
            .releases()
            .filter(|r| r.seq > from && r.seq <= here && !self.is_withdrawn(&r.name))
            .map(|r| r.name.clone())
            .collect();
        Choice {
            restores,
            source,
            withdraws,
        }
    }

    fn nothing_earlier(&self) -> Failure {
        let target = self.target();
        let failure = Failure::refused(format!(
            "{target} has no earlier known-good release to go back to"
        ));
        if self.on_host() != OnHost::BeforeFirst && self.records()[0].evidence.before.is_some() {
            failure.next(format!("git nixgate rollback {target} --to before-first"))
        } else {
            failure.next(format!("git nixgate log {target}"))
        }
    }

    fn why_withdrawn(&self, name: &RecordName) -> String {
        match self.withdrawn_by(name) {
            Some(r) => format!(
                "{} <{}> withdrew it at {} by {}",
                r.tagger_name,
                r.tagger_mail,
                r.time.rfc3339(),
                r.name
            ),
            None => "a rollback withdrew it".to_owned(),
        }
    }
}

fn leaf(on_host: &OnHost) -> String {
    match on_host {
        OnHost::BeforeFirst => "before-first".to_owned(),
        OnHost::Release(name) => name.leaf(),
    }
}
