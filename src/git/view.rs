//! What a hook sees of the world: this repository, and what it knows of the receiving side.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::ledger::tracking_ref;
use super::repo::Repo;
use super::trust::Trust;
use crate::record::rules::{Present, Proof, Raw, Stands, View};
use crate::record::{Defect, Oid, Record, RecordName, Secrets, Target, Utc};

/// On which side of a push the hook runs.
#[derive(Debug, Clone)]
pub enum PushSide {
    /// `pre-push`: the receiving side is a remote, known as far as it was fetched. `url`: where its tags can be asked for.
    Sending { remote: String, url: Option<OsString> },
    /// `pre-receive`, `reference-transaction`: the receiving side is here.
    Receiving,
}

/// The view of a hook that runs in `repo`.
pub struct RepoView<'a> {
    pub repo: &'a Repo,
    pub side: PushSide,
    pub secrets: Known,
    pub trust: Trust,
    pub tags: TagsThere,
    /// What is no reason to refuse the push, and should be said.
    pub warnings: RefCell<Vec<String>>,
}

/// The values that a record may not hold.
pub struct Known {
    /// What is known here: by the environment, git's configuration and Nix's.
    pub here: Secrets,
    /// What the configuration of a record's own commit says. Today's configuration is no judge of an old record.
    pub at: fn(&Repo, &Oid) -> Secrets,
}

impl Default for Known {
    fn default() -> Self {
        Known {
            here: Secrets::default(),
            at: |_, _| Secrets::default(),
        }
    }
}

/// The record tags of a remote, asked for once a target. Git does not tell a hook of tags that are there already, so a
/// ledger may come without them.
#[derive(Debug, Default)]
pub struct TagsThere(RefCell<BTreeMap<Target, Option<BTreeMap<RecordName, Oid>>>>);

impl TagsThere {
    fn present(&self, repo: &Repo, url: &OsStr, name: &RecordName) -> Present {
        let mut known = self.0.borrow_mut();
        let there = known
            .entry(name.target.clone())
            .or_insert_with(|| repo.tags_at(url, &name.target));
        match there {
            Some(tags) => tags.get(name).map_or(Present::Absent, |oid| Present::At(*oid)),
            None => Present::Unknown,
        }
    }
}

impl View for RepoView<'_> {
    fn tag(&self, oid: &Oid) -> Result<Raw, String> {
        match self.repo.record_object(&self.repo.gix(), oid) {
            Ok(Some(raw)) => Ok(raw),
            Ok(None) => Err(format!("object {oid} is not here")),
            Err(failure) => Err(failure.to_string()),
        }
    }

    fn ancestor(&self, old: &Oid, new: &Oid) -> Proof {
        match self.repo.is_ancestor(old, new) {
            Ok(true) => Proof::Yes,
            Ok(false) => Proof::No,
            Err(failure) => {
                let why = failure
                    .why
                    .last()
                    .map_or(String::new(), |line| format!(": {line}"));
                Proof::Unknown(format!("{}{why}", failure.what))
            }
        }
    }

    fn present(&self, ref_name: &str) -> Present {
        let looked = match &self.side {
            PushSide::Receiving => ref_name.to_owned(),
            PushSide::Sending { remote, url } => {
                if let Some(url) = url
                    && let Some(Ok(name)) = ref_name.strip_prefix("refs/tags/").map(str::parse)
                {
                    return self.tags.present(self.repo, url, &name);
                }
                let target = ref_name
                    .strip_prefix("refs/nixgate/ledger/")
                    .and_then(|t| t.parse::<Target>().ok());
                match target {
                    Some(target) => tracking_ref(remote, &target),
                    // Pointers of the other side are not tracked.
                    None => return Present::Unknown,
                }
            }
        };
        match (self.repo.reference(&looked), &self.side) {
            (Ok(Some(oid)), _) => Present::At(oid),
            (Ok(None), PushSide::Receiving) => Present::Absent,
            _ => Present::Unknown,
        }
    }

    fn stands(&self, ref_name: &str) -> Option<Stands> {
        match self.side {
            PushSide::Sending { .. } => None,
            PushSide::Receiving => Some(self.repo.stands(ref_name)),
        }
    }

    fn subject(&self, commit: &Oid) -> Option<String> {
        self.repo.subject_of(commit)
    }

    fn clock(&self) -> Option<Utc> {
        Some(Utc::new(time::OffsetDateTime::now_utc()))
    }

    fn trusted(&self, record: &Record) -> Result<(), Defect> {
        self.repo
            .on_its_tree(record)
            .map_err(|defect| Defect::new("record-malformed", defect.to_string()))?;
        let signed = self.repo.signed(record, &self.trust)?;
        match self.side {
            PushSide::Sending { .. } => Ok(()),
            // Who left may still hold a key, and date a record back.
            PushSide::Receiving => self.repo.signed_by_now(record, &signed, &self.trust),
        }
    }

    /// Tokens and passwords that are known here, and all but words of what the record's commit configures. Users, hosts
    /// and folders are words that a text may hold for other reasons: a warning.
    fn leaks(&self, record: &Record) -> usize {
        let mut all = (self.secrets.at)(self.repo, &record.commit);
        let mut refused = all.without_words();
        refused.extend(self.secrets.here.keys());
        let leaks = record.leaks(&refused);
        all.extend(self.secrets.here.clone());
        let words = record.leaks(&all).saturating_sub(leaks);
        if leaks == 0 && words > 0 {
            self.warnings.borrow_mut().push(format!(
                "{} holds in {words} place(s) what configuration or environment know as a user, a host or a folder",
                record.name
            ));
        }
        leaks
    }
}
