//! Publishing: one atomic push of tags, pointer and ledger, each against the value that the remote had when it was
//! asked. The remote decides races; what happened is read from the remote, not guessed from an error text.

use super::ledger::{Relation, Which};
use super::program::Broken;
use super::remote::RemoteRefs;
use super::repo::Repo;
use super::trust::Trust;
use super::view::{Known, PushSide, RepoView, TagsThere};
use crate::failure::{Exit, Failure, Reason};
use crate::record::rules::{self, Update};
use crate::record::{Oid, RecordName, Target, Utc};

/// What one push makes known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSet {
    /// Oldest first; more than one after working offline.
    pub records: Vec<(RecordName, Oid)>,
    /// The newest release's commit, if the pointer has to move.
    pub pointer: Option<Oid>,
    /// The newest record's tag object.
    pub ledger: Oid,
}

/// Why a push did not publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushError {
    /// Somebody else was first.
    Race {
        who: String,
        when: Option<Utc>,
        record: Option<RecordName>,
    },
    /// The remote could not be reached, or did not answer; whether it has the record is unknown.
    Unreachable(Vec<String>),
    /// The remote, or a hook, said no; or the push would break a rule.
    Refused(Vec<String>),
    /// The record's tag is there, and its ledger is not.
    Hidden,
}

impl PushError {
    /// What to show; the caller sets the exit that says how the target was left.
    pub fn failure(&self, remote: &str, target: &Target) -> Failure {
        match self {
            PushError::Race { who, when, record } => {
                let when = when.map_or_else(|| "just now".to_owned(), Utc::rfc3339);
                let what = record
                    .as_ref()
                    .map_or_else(|| "a record".to_owned(), ToString::to_string);
                Failure::refused(format!("{who} was first: {what} is on {remote} since {when}"))
                    .next(format!("git nixgate log {target}"))
            }
            PushError::Unreachable(lines) => {
                let mut failure = super::remote::unreachable(remote, lines.clone()).exit(Exit::Unpublished);
                failure.next = vec![format!("git nixgate publish {target}")];
                failure
            }
            PushError::Refused(lines) => {
                let mut failure = Failure::new(
                    Exit::Unpublished,
                    Reason::Remote,
                    format!("{remote} did not take the record"),
                );
                failure.why = lines.clone();
                failure.next(format!("git nixgate publish {target}"))
            }
            PushError::Hidden => hidden(remote, target).exit(Exit::Unpublished),
        }
    }
}

/// A remote that has the records' tags and not their ledger.
fn hidden(remote: &str, target: &Target) -> Failure {
    Failure::failed(
        Reason::Remote,
        format!(
            "{remote} has the records of {target} and not their ledger: it hides or refuses refs/nixgate"
        ),
    )
    .why(
        "there: git config --get-all transfer.hideRefs; git config --get-all receive.hideRefs; and its hooks",
    )
    .next(format!(
        "git nixgate publish {target}    # once the remote takes refs/nixgate/ledger/*"
    ))
}

impl RemoteRefs {
    /// Records that were published have their ledger there too. Asked before a host is touched: the next record could not be
    /// published either.
    ///
    /// # Errors
    /// Exit 1 where the tags are there and the ledger is not.
    pub fn refuse_hidden(&self, remote: &str, target: &Target) -> Result<(), Failure> {
        match self.ledger.is_none() && !self.records.is_empty() {
            true => Err(hidden(remote, target).why("or it is a copy that was made without them")),
            false => Ok(()),
        }
    }
}

impl Repo {
    /// What the remote lacks of the local chain, or of the pending one; `None` if it has everything.
    pub fn unpublished(&self, target: &Target, expected: &RemoteRefs) -> Result<Option<RecordSet>, Failure> {
        let Some(head) = self
            .own_head(target)?
            .filter(|head| Some(*head) != expected.ledger)
        else {
            return Ok(None);
        };
        let Some(ledger) = self.ledger(target, Which::At(head))? else {
            return Ok(None);
        };
        let known = match expected.ledger {
            None => 0,
            Some(oid) => match ledger.by_oid(&oid) {
                Some(record) => record.seq,
                None => {
                    return Err(Failure::refused(format!(
                        "the remote's ledger of {target} is not part of the one here"
                    ))
                    .next(format!("git nixgate log {target}")));
                }
            },
        };
        Ok(Some(RecordSet {
            records: ledger
                .records()
                .iter()
                .filter(|r| r.seq > known)
                .map(|r| (r.name.clone(), r.oid))
                .collect(),
            pointer: ledger
                .furthest_commit()
                .filter(|commit| Some(*commit) != expected.pointer),
            ledger: head,
        }))
    }

    /// Finishes what a crash between the push and the local transaction left: pending records that the remote has. Returns
    /// their names.
    pub fn settle(
        &self,
        target: &Target,
        remote: &str,
        refs: &RemoteRefs,
    ) -> Result<Vec<RecordName>, Failure> {
        let pending = self.pending(target)?;
        let (Some(head), false) = (refs.ledger, pending.is_empty()) else {
            return Ok(Vec::new());
        };
        let Some(ledger) = self.ledger(target, Which::At(head))? else {
            return Ok(Vec::new());
        };
        let landed = pending.iter().filter_map(|p| ledger.by_oid(&p.oid));
        let records: Vec<(RecordName, Oid)> = landed.map(|r| (r.name.clone(), r.oid)).collect();
        let names = records.iter().map(|(name, _)| name.clone()).collect();
        if !records.is_empty() {
            let set = RecordSet {
                records,
                pointer: ledger.furthest_commit(),
                ledger: head,
            };
            self.commit_set(target, &set, Some(remote), false)?;
        }
        Ok(names)
    }

    /// Pushes a record set, all of it or nothing. Pushing the same set again is harmless.
    pub async fn publish(
        &self,
        remote: &str,
        target: &Target,
        set: &RecordSet,
        expected: &RemoteRefs,
    ) -> Result<(), PushError> {
        let mut updates: Vec<Update> = set
            .records
            .iter()
            .map(|(name, oid)| Update {
                ref_name: name.ref_name(),
                old: expected.records.get(name).copied(),
                new: Some(*oid),
            })
            .collect();
        let mut add = |ref_name: String, old: Option<Oid>, new: Oid| {
            updates.push(Update {
                ref_name,
                old,
                new: Some(new),
            });
        };
        if let Some(pointer) = set.pointer {
            add(rules::pointer_ref(target), expected.pointer, pointer);
        }
        add(rules::ledger_ref(target), expected.ledger, set.ledger);

        // A lease that matches forces the update, so what would be refused is refused before.
        let view = RepoView {
            repo: self,
            side: PushSide::Sending {
                remote: remote.to_owned(),
                // All of them are among the updates.
                url: None,
            },
            secrets: Known::default(),
            // What was made here was judged when it was made; the other side has its own mind.
            trust: Trust::default(),
            tags: TagsThere::default(),
            warnings: Default::default(),
        };
        let refusals = rules::judge(&updates, &view);
        if !refusals.is_empty() {
            let lines = refusals
                .iter()
                .map(|r| format!("{}: {} ({})", r.ref_name, r.why, r.rule))
                .collect();
            return Err(self
                .race(remote, target, set, expected, PushError::Refused(lines))
                .await);
        }

        let plain = super::remote::not_a_mirror(remote);
        let mut args: Vec<String> = [
            "-c",
            &plain,
            "push",
            "--porcelain",
            "--atomic",
            "--no-follow-tags",
            "--no-signed",
            "--recurse-submodules=no",
        ]
        .map(ToOwned::to_owned)
        .to_vec();
        for u in &updates {
            let old = u.old.map_or_else(String::new, |oid| oid.to_string());
            args.push(format!("--force-with-lease={}:{old}", u.ref_name));
        }
        args.push(remote.to_owned());
        let specs: Vec<String> = updates
            .iter()
            .filter_map(|u| u.new.map(|new| format!("{new}:{}", u.ref_name)))
            .collect();
        args.extend(specs.iter().cloned());
        // A hook of the user's own runs in the push, within the same time: what it does is not the remote's doing.
        let other_hook = || {
            let hook = self.other_pre_push()?;
            Some(format!(
                "{} runs in this push too; if it is the reason, this waits for it: git push --atomic {remote} {}",
                hook.display(),
                specs.join(" ")
            ))
        };

        let output = match self.program.talk(&args, None, self.network).await {
            Ok(output) => output,
            Err(Broken::Late(after)) => {
                let error = match other_hook() {
                    Some(line) => {
                        PushError::Refused(vec![format!("no end within {} s", after.as_secs()), line])
                    }
                    None => PushError::Unreachable(vec![format!("no answer within {} s", after.as_secs())]),
                };
                return self.landed(remote, target, set, expected, error).await;
            }
            Err(broken) => return Err(PushError::Refused(vec![broken.failure("the push").to_string()])),
        };
        let flags = porcelain(&output.text());
        if output.ok() && flags.iter().all(|(flag, _)| *flag != '!') {
            return Ok(());
        }
        let mut lines: Vec<String> = flags
            .into_iter()
            .filter(|(flag, _)| *flag == '!')
            .map(|(_, line)| line)
            .collect();
        lines.extend(output.lines());
        lines.extend(other_hook());
        // 128 and a signal: git gave up on the connection. Anything else is an answer.
        let error = match output.code {
            Some(code) if code != 128 => PushError::Refused(lines),
            _ => PushError::Unreachable(lines),
        };
        self.landed(remote, target, set, expected, error).await
    }

    /// What the remote has after a push that did not say "done".
    async fn landed(
        &self,
        remote: &str,
        target: &Target,
        set: &RecordSet,
        expected: &RemoteRefs,
        error: PushError,
    ) -> Result<(), PushError> {
        match self.remote_state(remote, target).await {
            Ok(now)
                if now.ledger == Some(set.ledger)
                    && set.records.iter().all(|(n, o)| now.records.get(n) == Some(o)) =>
            {
                Ok(())
            }
            // A remote that hides refs/nixgate takes the rest of an atomic push.
            Ok(now)
                if now.ledger == expected.ledger
                    && !set.records.is_empty()
                    && set.records.iter().all(|(n, o)| now.records.get(n) == Some(o)) =>
            {
                Err(PushError::Hidden)
            }
            Ok(_) => Err(self.race(remote, target, set, expected, error).await),
            Err(_) => Err(match error {
                PushError::Refused(lines) | PushError::Unreachable(lines) => PushError::Unreachable(lines),
                race => race,
            }),
        }
    }

    /// Turns an error into a race, with the winner's name, if the remote is no longer what was expected.
    async fn race(
        &self,
        remote: &str,
        target: &Target,
        set: &RecordSet,
        expected: &RemoteRefs,
        error: PushError,
    ) -> PushError {
        let unknown = || PushError::Race {
            who: "somebody".to_owned(),
            when: None,
            record: None,
        };
        let Ok(now) = self.remote_state(remote, target).await else {
            return error;
        };
        let moved = now.ledger != expected.ledger || now.pointer != expected.pointer;
        let ours = now.ledger == Some(set.ledger);
        if !moved || ours {
            return error;
        }
        let fetched = self.fetch(remote, target).await;
        let winner = now.ledger.and_then(|oid| self.record(&oid, None).ok());
        match (fetched, winner) {
            (Ok(fetched), Some(_)) if fetched.relation == Relation::Same => error,
            (_, Some(record)) => PushError::Race {
                who: format!("{} <{}>", record.tagger_name, record.tagger_mail),
                when: Some(record.time),
                record: Some(record.name),
            },
            (_, None) => unknown(),
        }
    }
}

/// Reads `git push --porcelain`: flag, and what it says about the ref.
pub(super) fn porcelain(text: &str) -> Vec<(char, String)> {
    text.lines()
        .filter_map(|line| {
            let (flag, rest) = line.split_once('\t')?;
            let mut flag = flag.chars();
            match (flag.next(), flag.next()) {
                (Some(c @ (' ' | '+' | '-' | '*' | '!' | '=')), None) => Some((c, rest.replace('\t', " "))),
                _ => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_of_a_push_are_read_and_done_is_not_believed() {
        let text = "To ../r.git\n!\tabc:refs/heads/release/x\t[rejected] (stale info)\n*\tdef:refs/tags/a\t[new tag]\nDone\n";
        let flags = porcelain(text);
        assert_eq!(flags.len(), 2);
        assert_eq!(
            flags[0],
            ('!', "abc:refs/heads/release/x [rejected] (stale info)".to_owned())
        );
    }
}
