//! Journals: what a run did, as a commit under `refs/nixgate/runs/<target>/<run>`, one commit per state. A ref keeps
//! them from being collected, and each state stands alone, so a crash leaves the last one whole.

use std::collections::BTreeMap;
use std::path::PathBuf;

use gix::objs::tree::{Entry, EntryKind};
use gix::refs::transaction::{Change, LogChange, PreviousValue, RefEdit, RefLog};

use super::repo::{Repo, broken};
use crate::failure::{Failure, Reason};
use crate::record::{Oid, Target, Utc};

/// A run that has a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalName {
    pub run: String,
    /// The newest state.
    pub commit: Oid,
    /// When it was written.
    pub time: Utc,
}

type Files = BTreeMap<String, Oid>;

fn run_ref(target: &Target, run: &str) -> Result<String, Failure> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if run.is_empty() || run.len() > 100 || run.starts_with('-') || !run.bytes().all(good) {
        return Err(Failure::usage(format!("{run:?} is no run id")));
    }
    Ok(format!("refs/nixgate/runs/{target}/{run}"))
}

impl Repo {
    /// Writes the run's next state at `now`: the files given, over those of the state before.
    #[expect(clippy::disallowed_methods, reason = "boundary: journal_write")]
    pub fn journal_write(
        &self,
        target: &Target,
        run: &str,
        now: Utc,
        files: &[(&str, Vec<u8>)],
    ) -> Result<Oid, Failure> {
        let name = run_ref(target, run)?;
        let what = || format!("the journal {name} cannot be written");
        let repo = self.gix();
        let previous = self.reference(&name)?;
        let mut all = match previous {
            Some(commit) => self.journal_files(&commit)?,
            None => Files::new(),
        };
        let mut written = Vec::new();
        for (path, bytes) in files {
            let plain = |part: &str| {
                !part.is_empty() && part != "." && part != ".." && !part.eq_ignore_ascii_case(".git")
            };
            if !path.split('/').all(plain) {
                return Err(Failure::failed(
                    Reason::Internal,
                    format!("{path:?} is no path for a journal"),
                ));
            }
            let oid = repo.write_blob(bytes).map_err(|e| broken(&what(), e))?.detach();
            written.push(oid);
            all.insert((*path).to_owned(), oid);
        }
        let tree = write_tree(&repo, &all, &mut written).map_err(|e| broken(&what(), e))?;
        let who = gix::actor::Signature {
            name: "git-nixgate".into(),
            email: "git-nixgate@localhost".into(),
            time: gix::date::Time {
                seconds: now.unix(),
                offset: 0,
            },
        };
        let commit = gix::objs::Commit {
            tree,
            parents: previous.into_iter().collect(),
            author: who.clone(),
            committer: who.clone(),
            encoding: None,
            message: format!("{target} {run}\n").into(),
            extra_headers: Vec::new(),
        };
        let commit = repo
            .write_object(&commit)
            .map_err(|e| broken(&what(), e))?
            .detach();
        written.push(commit);
        self.sync_objects(&written);
        let change = Change::Update {
            log: LogChange {
                mode: RefLog::AndReference,
                force_create_reflog: false,
                message: "git-nixgate".into(),
            },
            expected: match previous {
                Some(oid) => PreviousValue::MustExistAndMatch(gix::refs::Target::Object(oid)),
                None => PreviousValue::MustNotExist,
            },
            new: gix::refs::Target::Object(commit),
        };
        let full = name
            .as_str()
            .try_into()
            .map_err(|e: gix::refs::name::Error| broken(&what(), e))?;
        let mut buffer = gix::date::parse::TimeBuf::default();
        crate::boundary::cross("before", || format!("journal {run}"));
        repo.edit_references_as([RefEdit::new(full, change)], Some(who.to_ref(&mut buffer)))
            .map_err(|e| broken(&what(), e))?;
        sync(&self.common_dir().join(&name));
        crate::boundary::cross("after", || format!("journal {run}"));
        Ok(commit)
    }

    /// The newest state's files; `None` if there is no such run.
    pub fn journal_read(
        &self,
        target: &Target,
        run: &str,
    ) -> Result<Option<BTreeMap<String, Vec<u8>>>, Failure> {
        let Some(commit) = self.reference(&run_ref(target, run)?)? else {
            return Ok(None);
        };
        let mut files = BTreeMap::new();
        for (path, oid) in self.journal_files(&commit)? {
            let (_, data) = self.object(&oid)?.ok_or_else(|| {
                Failure::failed(
                    Reason::Internal,
                    format!("{path} of the journal {run} is missing"),
                )
            })?;
            files.insert(path, data);
        }
        Ok(Some(files))
    }

    /// One file of the newest state.
    pub fn journal_file(&self, target: &Target, run: &str, path: &str) -> Result<Option<Vec<u8>>, Failure> {
        let Some(commit) = self.reference(&run_ref(target, run)?)? else {
            return Ok(None);
        };
        match self.journal_files(&commit)?.get(path) {
            Some(oid) => Ok(self.object(oid)?.map(|(_, data)| data)),
            None => Ok(None),
        }
    }

    /// The ids of the target's runs, unordered; nothing but names is read.
    pub fn runs(&self, target: &Target) -> Result<Vec<String>, Failure> {
        let prefix = format!("refs/nixgate/runs/{target}/");
        let names = self.references(&prefix)?.into_iter();
        Ok(names.map(|(name, _)| name[prefix.len()..].to_owned()).collect())
    }

    /// The target's runs, oldest state first.
    pub fn journals(&self, target: &Target) -> Result<Vec<JournalName>, Failure> {
        let prefix = format!("refs/nixgate/runs/{target}/");
        let mut found = Vec::new();
        for (name, commit) in self.references(&prefix)? {
            let time = self.commit(&commit)?.time;
            found.push(JournalName {
                run: name[prefix.len()..].to_owned(),
                commit,
                time,
            });
        }
        found.sort_by(|a, b| (a.time, &a.run).cmp(&(b.time, &b.run)));
        Ok(found)
    }

    /// Forgets a run.
    pub fn journal_drop(&self, target: &Target, run: &str) -> Result<(), Failure> {
        let name = run_ref(target, run)?;
        match self.reference(&name)? {
            Some(old) => self.transaction(
                "the journal cannot be dropped",
                &[super::refs::change(&name, None, Some(old), self.zero())],
            ),
            None => Ok(()),
        }
    }

    fn journal_files(&self, commit: &Oid) -> Result<Files, Failure> {
        let tree = self.commit(commit)?.tree;
        let mut files = Files::new();
        self.tree_files(&tree, "", &mut files)?;
        Ok(files)
    }

    fn tree_files(&self, tree: &Oid, prefix: &str, files: &mut Files) -> Result<(), Failure> {
        let what = || format!("the journal's tree {tree} cannot be read");
        let repo = self.gix();
        let tree = repo.find_tree(*tree).map_err(|e| broken(&what(), e))?;
        for entry in tree.iter() {
            let entry = entry.map_err(|e| Failure::failed(Reason::Internal, what()).why(e.to_string()))?;
            let path = format!("{prefix}{}", entry.filename());
            if entry.mode().is_tree() {
                self.tree_files(&entry.object_id(), &format!("{path}/"), files)?;
            } else {
                files.insert(path, entry.object_id());
            }
        }
        Ok(())
    }

    /// A power cut must not leave a ref that points at an empty file.
    fn sync_objects(&self, oids: &[Oid]) {
        for oid in oids {
            let hex = oid.to_string();
            let path: PathBuf = self.common_dir().join("objects").join(&hex[..2]).join(&hex[2..]);
            sync(&path);
        }
    }
}

/// Best effort: an object that was there before stands in a pack.
fn sync(path: &std::path::Path) {
    if let Ok(file) = std::fs::File::open(path) {
        let _ = file.sync_data();
    }
}

fn write_tree(repo: &gix::Repository, files: &Files, written: &mut Vec<Oid>) -> Result<Oid, gix::Error> {
    let mut entries = Vec::new();
    let mut below: BTreeMap<&str, Files> = BTreeMap::new();
    for (path, oid) in files {
        match path.split_once('/') {
            Some((dir, rest)) => {
                below.entry(dir).or_default().insert(rest.to_owned(), *oid);
            }
            None => entries.push(Entry {
                mode: EntryKind::Blob.into(),
                filename: path.as_str().into(),
                oid: *oid,
            }),
        }
    }
    for (dir, files) in &below {
        let oid = write_tree(repo, files, written)?;
        entries.push(Entry {
            mode: EntryKind::Tree.into(),
            filename: (*dir).into(),
            oid,
        });
    }
    entries.sort();
    let oid = repo.write_object(gix::objs::Tree { entries })?.detach();
    written.push(oid);
    Ok(oid)
}
