//! Whose records a host carries. Each release leaves its record's bytes on its host: a host whose newest record is
//! another target's, or another repository's, is not the one that was meant, unless somebody says so.

use super::resolve;
use crate::failure::{Exit, Failure, Reason};
use crate::gate::GateLog;
use crate::git::Repo;
use crate::host::Facts;
use crate::host::facts::Carried;
use crate::record::{Ledger, Oid, Record, Target, sha256_hex};

/// What is judged: a target, its chain, and what its host says.
#[derive(Clone, Copy)]
pub(super) struct Host<'a> {
    pub repo: &'a Repo,
    pub target: &'a Target,
    pub ledger: Option<&'a Ledger>,
    pub facts: &'a Facts,
}

/// The knowing answers on the command line.
#[derive(Clone, Copy, Default)]
pub(super) struct Knowingly {
    /// `--take-over`: the host is to be this target's from now on.
    pub take_over: bool,
    /// `--supersede`: its last record was lost.
    pub supersede: bool,
}

impl Host<'_> {
    /// # Errors
    /// Exit 3: another target's, another repository's, or a record that nobody here knows; with the ways out.
    pub fn judge(&self, answers: Knowingly, log: &mut GateLog<'_>) -> Result<(), Failure> {
        if let Some((what, failure)) = self.another_target() {
            taken_over(answers, &what, failure, log)?;
        }
        if let Some((what, failure)) = self.another_repository() {
            return taken_over(answers, &what, failure, log);
        }
        let carried = self.facts.record_base64.as_deref();
        let supersede = answers.supersede;
        resolve::refuse_unknown_record(self.repo, self.target, self.ledger, carried, supersede, log)
    }

    /// The newest record there is another target's: in words, and as a refusal.
    fn another_target(&self) -> Option<(String, Failure)> {
        let target = self.target;
        let newest = another(self.facts, target)?;
        let other = &newest.target;
        let what = format!("the host of {target} carries the record of {other}");
        let own = self
            .facts
            .carried
            .iter()
            .find(|carried| carried.target == *target.as_str());
        let mut failure = Failure::new(Exit::Refused, Reason::Record, what.clone()).why(match own {
            None => format!("there is {}, and no record of {target}", newest.tag),
            Some(own) => format!("{} was put there after {}", newest.tag, own.tag),
        });
        let known = other
            .parse::<Target>()
            .is_ok_and(|other| self.knows(&other, &newest.sha256));
        failure = match known {
            true => failure
                .next(format!(
                    "git nixgate config show     # is `host` of {target} the right one?"
                ))
                .next(format!(
                    "git nixgate rename {other} {target}     # if it is the same host under another name"
                )),
            false => failure
                .why("that record is not in this repository: another repository releases this host")
                .next(format!(
                    "git nixgate config show     # is `host` of {target} the right one?"
                )),
        };
        Some((format!("{what}: {}", newest.tag), failure.next(take_over(target))))
    }

    /// Whether a record with these bytes is in the other target's chain here.
    fn knows(&self, other: &Target, sha256: &str) -> bool {
        let ledger = resolve::ledger(self.repo, other, "origin").ok().flatten();
        ledger.is_some_and(|ledger| ledger.records().iter().any(|record| record.sha256 == sha256))
    }

    /// The record there has this target's name, and neither its commit nor the record before it is in this repository.
    fn another_repository(&self) -> Option<(String, Failure)> {
        let target = self.target;
        let raw = self.facts.record()?;
        let sha256 = sha256_hex(&raw);
        let ours = |record: &Record| record.sha256 == sha256;
        if self
            .ledger
            .is_some_and(|ledger| ledger.records().iter().any(ours))
        {
            return None;
        }
        let record = Record::parse(Oid::null(gix::hash::Kind::Sha1), &raw, None).ok()?;
        let follows = record.previous.as_ref().is_some_and(|previous| {
            self.ledger
                .is_some_and(|ledger| ledger.by_oid(&previous.oid).is_some())
        });
        if follows || self.repo.commit(&record.commit).is_ok() {
            return None;
        }
        let what = format!(
            "{target} carries the record {} by {} of another repository",
            record.name, record.tagger_name
        );
        let failure = Failure::new(Exit::Refused, Reason::Record, what.clone())
            .why("neither its commit nor the record before it is in this one")
            .next("git fetch --all     # if it is only missing here")
            .next(take_over(target));
        Some((what, failure))
    }
}

fn take_over(target: &Target) -> String {
    format!("or, if this host is to be {target} from now on: --take-over     # no record is deleted")
}

fn taken_over(
    answers: Knowingly,
    what: &str,
    failure: Failure,
    log: &mut GateLog<'_>,
) -> Result<(), Failure> {
    if !answers.take_over {
        return Err(failure);
    }
    log.warn(format!("taken over: {what}"));
    Ok(())
}

/// The newest record on the host, where it is another target's.
pub(super) fn another<'a>(facts: &'a Facts, target: &Target) -> Option<&'a Carried> {
    facts
        .carried
        .first()
        .filter(|newest| newest.target != *target.as_str())
}
