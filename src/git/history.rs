//! Commits: what a revision means, what a commit holds, what lies between two of them.

use std::path::Path;

use super::repo::{Repo, broken};
use crate::failure::{Failure, Reason};
use crate::record::{Oid, Utc};

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub id: Oid,
    pub tree: Oid,
    /// The first 12 hex digits of the id.
    pub short: String,
    /// The first line of its message.
    pub subject: String,
    /// When it was committed.
    pub time: Utc,
}

/// A commit's message, for those who look for words in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitNote {
    pub id: Oid,
    pub subject: String,
    /// The whole message.
    pub message: String,
    /// The trailers of the message, unfolded: key and value.
    pub trailers: Vec<(String, String)>,
}

/// What differs from HEAD.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkTree {
    /// Tracked paths that are changed, staged or not, or in conflict.
    pub changed: Vec<String>,
    pub untracked: Vec<String>,
}

impl Repo {
    /// The commit that a revision names.
    pub fn resolve(&self, rev: &str) -> Result<Commit, Failure> {
        let unknown = |why: String| {
            let mut failure =
                Failure::usage(format!("{rev:?} names no commit here")).next("git log --oneline, git fetch");
            // That says no more than the sentence does.
            if !why.starts_with("couldn't parse revision") {
                failure.why.push(why);
            }
            failure
        };
        if rev.starts_with('-') || rev.is_empty() {
            return Err(unknown("a revision does not start with '-'".into()));
        }
        let repo = self.gix();
        let id = repo.rev_parse_single(rev).map_err(|e| unknown(e.to_string()))?;
        let object = id.object().map_err(|e| unknown(e.to_string()))?;
        let commit = object
            .peel_to_kind(gix::objs::Kind::Commit)
            .map_err(|e| unknown(e.to_string()))?;
        self.commit(&commit.id)
    }

    /// A commit by its id.
    pub fn commit(&self, id: &Oid) -> Result<Commit, Failure> {
        let repo = self.gix();
        let what = || format!("commit {id} cannot be read");
        let commit = repo.find_commit(*id).map_err(|e| broken(&what(), e))?;
        let decoded = commit
            .decode()
            .map_err(|e| Failure::failed(Reason::Internal, what()).why(e.to_string()))?;
        let time = decoded
            .committer()
            .map_err(|e| Failure::failed(Reason::Internal, what()).why(e.to_string()))?;
        let seconds = time
            .time()
            .map_err(|e| Failure::failed(Reason::Internal, what()).why(e.to_string()))?
            .seconds;
        let message = String::from_utf8_lossy(decoded.message).into_owned();
        Ok(Commit {
            id: *id,
            tree: decoded.tree(),
            short: id.to_hex_with_len(12).to_string(),
            subject: message.lines().next().unwrap_or_default().trim().to_owned(),
            time: Utc::from_unix(seconds)
                .ok_or_else(|| Failure::failed(Reason::Internal, what()).why("its date is out of range"))?,
        })
    }

    /// The first line of a commit's message, in a hook that receives the commit too; `None` where it is not here.
    pub(super) fn subject_of(&self, commit: &Oid) -> Option<String> {
        let (kind, data) = self.object(commit).ok()??;
        let at = data.windows(2).position(|pair| pair == b"\n\n")?;
        let message = String::from_utf8_lossy(data.get(at + 2..)?).into_owned();
        let subject = message.lines().next().unwrap_or_default().trim().to_owned();
        (kind == gix::objs::Kind::Commit).then_some(subject)
    }

    /// Whether the commit is here.
    pub fn has_commit(&self, id: &Oid) -> Result<bool, Failure> {
        Ok(self
            .object(id)?
            .is_some_and(|(kind, _)| kind == gix::objs::Kind::Commit))
    }

    /// A file's content at a commit; `None` if there is no such file. A symbolic link or a submodule is no file.
    pub fn read_file(&self, commit: &Oid, path: &Path) -> Result<Option<Vec<u8>>, Failure> {
        self.read_here(commit, path).or_else(|failure| {
            // A partial clone leaves objects at the remote; git brings them when it is asked.
            let mut spec = std::ffi::OsString::from(format!("{commit}:"));
            spec.push(path);
            let args: [&std::ffi::OsStr; 3] = ["cat-file".as_ref(), "blob".as_ref(), &spec];
            let output = self
                .program
                .run(&args, b"")
                .map_err(|b| b.failure(&failure.what))?;
            if output.ok() {
                Ok(Some(output.stdout))
            } else {
                Err(failure)
            }
        })
    }

    fn read_here(&self, commit: &Oid, path: &Path) -> Result<Option<Vec<u8>>, Failure> {
        let repo = self.gix();
        let what = || format!("{} cannot be read at {commit}", path.display());
        let tree = repo
            .find_commit(*commit)
            .and_then(|c| c.tree())
            .map_err(|e| broken(&what(), e))?;
        let Some(entry) = tree.lookup_entry_by_path(path).map_err(|e| broken(&what(), e))? else {
            return Ok(None);
        };
        if !entry.mode().is_blob() {
            return Ok(None);
        }
        let object = entry.object().map_err(|e| broken(&what(), e))?;
        Ok(Some(object.detach().data))
    }

    /// Whether a file of a commit may be executed; `None` if there is no such file.
    pub fn is_executable(&self, commit: &Oid, path: &Path) -> Result<Option<bool>, Failure> {
        let repo = self.gix();
        let what = || format!("{} cannot be read at {commit}", path.display());
        let tree = repo
            .find_commit(*commit)
            .and_then(|c| c.tree())
            .map_err(|e| broken(&what(), e))?;
        let entry = tree.lookup_entry_by_path(path).map_err(|e| broken(&what(), e))?;
        Ok(entry
            .filter(|e| e.mode().is_blob())
            .map(|e| e.mode().is_executable()))
    }

    /// Whether `old` is in the history of `new`, or the same. A "no" out of a shallow clone proves nothing, so there it
    /// is a failure.
    pub fn is_ancestor(&self, old: &Oid, new: &Oid) -> Result<bool, Failure> {
        if old == new && self.has_commit(old)? {
            return Ok(true);
        }
        let what = format!(
            "whether {} is in the history of {} is unknown",
            old.to_hex_with_len(12),
            new.to_hex_with_len(12)
        );
        let args = ["merge-base", "--is-ancestor", &old.to_string(), &new.to_string()];
        let output = self.program.run(&args, b"").map_err(|b| b.failure(&what))?;
        match output.code {
            Some(0) => Ok(true),
            Some(1) if self.is_shallow() => Err(Failure::refused(what)
                .why("history is cut here (a shallow clone)")
                .next("git fetch --unshallow, or fetch-depth: 0 in the CI's checkout")),
            Some(1) => Ok(false),
            _ => Err(Failure {
                exit: crate::failure::Exit::Refused,
                ..super::program::failed(&what, &output)
            }
            .next("git fetch")),
        }
    }

    /// What differs from HEAD in the work tree; nothing in a bare repository.
    pub fn tracked_changes(&self) -> Result<WorkTree, Failure> {
        let mut tree = WorkTree::default();
        if self.is_bare() {
            return Ok(tree);
        }
        let args = [
            "status",
            "--porcelain=v2",
            "-z",
            "--untracked-files=normal",
            "--ignore-submodules=none",
            "--no-renames",
        ];
        let output = self
            .program
            .need("the work tree's changes cannot be listed", &args, b"")?;
        for entry in output.stdout.split(|b| *b == 0).filter(|e| !e.is_empty()) {
            let entry = String::from_utf8_lossy(entry);
            let path = |fields: usize| entry.splitn(fields, ' ').last().unwrap_or_default().to_owned();
            match entry.as_bytes()[0] {
                b'1' => tree.changed.push(path(9)),
                b'2' => tree.changed.push(path(10)),
                b'u' => tree.changed.push(path(11)),
                b'?' => tree.untracked.push(path(2)),
                _ => {}
            }
        }
        Ok(tree)
    }

    /// The commits of `to` that are not in `from`, newest first, with their messages.
    pub fn commits_between(&self, from: &Oid, to: &Oid) -> Result<Vec<CommitNote>, Failure> {
        let range = format!("{from}..{to}");
        let format = "--format=%H%x01%B%x01%(trailers:only,unfold)";
        let args = [
            "log",
            "-z",
            "--no-decorate",
            "--no-notes",
            "--no-show-signature",
            format,
            &range,
            "--",
        ];
        let output = self
            .program
            .need(&format!("the commits in {range} cannot be listed"), &args, b"")?;
        let mut notes = Vec::new();
        for entry in output.stdout.split(|b| *b == 0).filter(|e| !e.is_empty()) {
            let entry = String::from_utf8_lossy(entry);
            let mut parts = entry.splitn(2, '\u{1}');
            let (Some(id), Some(rest)) = (parts.next(), parts.next()) else {
                continue;
            };
            let (message, trailers) = rest.rsplit_once('\u{1}').unwrap_or((rest, ""));
            let Some(id) = crate::record::parse::oid(id) else {
                continue;
            };
            notes.push(CommitNote {
                id,
                subject: message.lines().next().unwrap_or_default().to_owned(),
                message: message.to_owned(),
                trailers: trailers
                    .lines()
                    .filter_map(|line| line.split_once(": "))
                    .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
                    .collect(),
            });
        }
        Ok(notes)
    }

    /// Paths that differ between two commits; a rename is its two paths.
    pub fn changed_files(&self, from: &Oid, to: &Oid) -> Result<Vec<String>, Failure> {
        let (from, to) = (from.to_string(), to.to_string());
        let args = [
            "diff",
            "--name-only",
            "-z",
            "--no-renames",
            "--no-ext-diff",
            "--no-textconv",
            &from,
            &to,
            "--",
        ];
        let output = self.program.need(
            &format!("the files between {from} and {to} cannot be listed"),
            &args,
            b"",
        )?;
        let paths = output.stdout.split(|b| *b == 0).filter(|p| !p.is_empty());
        Ok(paths.map(|p| String::from_utf8_lossy(p).into_owned()).collect())
    }
}
