//! Opening a repository, and reading single refs and objects.

use std::path::{Path, PathBuf};

use gix::bstr::ByteSlice;

use super::program::{Program, absolute};
use crate::failure::{Failure, Reason};
use crate::record::rules::{Raw, Stands};
use crate::record::{Oid, parse};

/// How the repository names its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectFormat {
    Sha1,
    Sha256,
}

/// A repository, opened. Cheap to clone, and may cross threads.
#[derive(Clone)]
pub struct Repo {
    inner: gix::ThreadSafeRepository,
    git_dir: PathBuf,
    common_dir: PathBuf,
    work_tree: Option<PathBuf>,
    pub(super) program: Program,
    /// Where the objects of a push wait until the hooks have spoken.
    quarantine: Option<PathBuf>,
    /// How long one conversation with a remote may take.
    pub(super) network: std::time::Duration,
    /// Where each remote is pushed to, once git was asked.
    pub(super) push_urls: std::sync::Arc<std::sync::Mutex<std::collections::BTreeMap<String, String>>>,
    /// Its work trees, once git was asked, without symbolic links.
    pub(super) trees: std::sync::Arc<std::sync::OnceLock<Vec<PathBuf>>>,
    /// Who makes records, once git was asked.
    pub(super) who: std::sync::Arc<std::sync::OnceLock<super::sign::Identity>>,
}

impl std::fmt::Debug for Repo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repo")
            .field("git_dir", &self.git_dir)
            .field("work_tree", &self.work_tree)
            .finish()
    }
}

/// An unforeseen error of gix, with its causes.
pub(super) fn broken(what: &str, error: impl std::error::Error) -> Failure {
    let mut failure = Failure::failed(Reason::Internal, what.to_owned()).why(error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        failure.why.push(cause.to_string());
        source = cause.source();
    }
    failure.why.dedup();
    failure
}

impl Repo {
    /// The repository around `dir`, or the one that `GIT_DIR` names.
    pub fn open(dir: &Path) -> Result<Repo, Failure> {
        let options = || {
            gix::open::Options::default()
                .config_overrides(["core.useReplaceRefs=false", "core.logAllRefUpdates=false"])
                .bail_if_untrusted(true)
        };
        let map = gix::sec::trust::Mapping {
            full: options(),
            reduced: options(),
        };
        // What git tells a hook of the receiving side, in a repository with a work tree too; gix (0.90) looks for `./.git`
        // then.
        let own = std::env::var_os("GIT_DIR").filter(|git_dir| git_dir == ".");
        let inner = match own.and_then(|_| dir.canonicalize().ok()) {
            Some(git_dir) => gix::ThreadSafeRepository::open_opts(git_dir, options().open_path_as_is(true))
                .map_err(|error| not_a_repository(dir, &error))?,
            None => {
                let none = Default::default();
                gix::ThreadSafeRepository::discover_with_environment_overrides_opts(dir, none, map)
                    .map_err(|error| not_a_repository(dir, &error))?
            }
        };
        let local = inner.to_thread_local();
        if let Some(storage) = local.config_snapshot().string("extensions.refStorage")
            && storage.as_bstr() != "files"
        {
            return Err(Failure::new(
                crate::failure::Exit::Usage,
                Reason::Config,
                "the repository keeps its refs as reftable",
            )
            .why("reftable cannot be read here yet")
            .next("git refs migrate --ref-format=files    # git 2.48 or later, no linked work trees")
            .next("git clone --ref-format=files URL    # or a clone of its own"));
        }
        let git_dir = absolute(local.git_dir());
        let work_tree = local.workdir().map(absolute);
        let quarantine = std::env::var_os("GIT_QUARANTINE_PATH").map(PathBuf::from);
        Ok(Repo {
            program: Program::new(git_dir.clone(), work_tree.clone()),
            common_dir: absolute(local.common_dir()),
            git_dir,
            work_tree,
            inner,
            quarantine,
            network: super::program::NETWORK,
            push_urls: std::sync::Arc::default(),
            trees: Default::default(),
            who: Default::default(),
        })
    }

    /// The same repository, with another deadline for each conversation with a remote.
    pub fn with_network_limit(mut self, limit: std::time::Duration) -> Repo {
        self.network = limit;
        self
    }

    /// Lets what follows share one ssh connection to each remote; `dir` is the run's own directory.
    pub fn share_connections(&self, dir: &Path) {
        self.program.share_connections(dir);
    }

    /// The top of the work tree; `None` in a bare repository.
    pub fn work_tree(&self) -> Option<&Path> {
        self.work_tree.as_deref()
    }

    /// `.git`, or the directory of a linked work tree in it.
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// `.git` of the main work tree.
    pub fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    pub fn is_bare(&self) -> bool {
        self.work_tree.is_none()
    }

    /// Whether history was cut when the repository was cloned.
    pub fn is_shallow(&self) -> bool {
        std::fs::metadata(self.common_dir.join("shallow")).is_ok_and(|m| m.len() > 0)
    }

    pub fn object_format(&self) -> ObjectFormat {
        match self.kind() {
            gix::hash::Kind::Sha256 => ObjectFormat::Sha256,
            _ => ObjectFormat::Sha1,
        }
    }

    pub(super) fn kind(&self) -> gix::hash::Kind {
        self.gix().object_hash()
    }

    pub(super) fn gix(&self) -> gix::Repository {
        self.inner.to_thread_local()
    }

    /// What a full ref name points at, not peeled.
    pub fn reference(&self, name: &str) -> Result<Option<Oid>, Failure> {
        let repo = self.gix();
        let found = repo
            .try_find_reference(name)
            .map_err(|e| broken(&format!("{name} cannot be read"), e))?;
        // `try_find_reference` also finds `refs/heads/<name>` for short names: only the whole name counts.
        Ok(found
            .filter(|r| r.name().as_bstr() == name)
            .and_then(|r| r.try_id().map(|id| id.detach())))
    }

    /// What stands under a full ref name, and what a symbolic one leads to.
    pub fn stands(&self, name: &str) -> Stands {
        let repo = self.gix();
        match repo.try_find_reference(name) {
            Err(error) => Stands::Unreadable(format!("{name} cannot be read: {error}")),
            Ok(found) => match found.filter(|r| r.name().as_bstr() == name) {
                None => Stands::Absent,
                Some(found) => match found.target() {
                    gix::refs::TargetRef::Object(oid) => Stands::At(oid.to_owned()),
                    gix::refs::TargetRef::Symbolic(to) => {
                        Stands::Symbolic(to.as_bstr().to_str_lossy().into_owned())
                    }
                },
            },
        }
    }

    /// Every ref under a prefix that ends with `/`, sorted by name, not peeled.
    pub fn references(&self, prefix: &str) -> Result<Vec<(String, Oid)>, Failure> {
        let what = || format!("the refs under {prefix} cannot be listed");
        let repo = self.gix();
        let platform = repo.references().map_err(|e| broken(&what(), e))?;
        let mut found = Vec::new();
        for reference in platform.prefixed(prefix).map_err(|e| broken(&what(), e))? {
            let reference =
                reference.map_err(|e| Failure::failed(Reason::Internal, what()).why(e.to_string()))?;
            if let Some(id) = reference.try_id() {
                found.push((
                    reference.name().as_bstr().to_str_lossy().into_owned(),
                    id.detach(),
                ));
            }
        }
        Ok(found)
    }

    /// An object's kind and raw content; `None` if it is not here.
    pub(super) fn object(&self, oid: &Oid) -> Result<Option<(gix::objs::Kind, Vec<u8>)>, Failure> {
        self.object_in(&self.gix(), oid)
    }

    /// The same for many objects in turn: what `repo` has open stays open.
    pub(super) fn object_in(
        &self,
        repo: &gix::Repository,
        oid: &Oid,
    ) -> Result<Option<(gix::objs::Kind, Vec<u8>)>, Failure> {
        if oid.kind() != repo.object_hash() {
            return Ok(None);
        }
        let what = || format!("object {oid} cannot be read");
        if let Some(object) = repo.try_find_object(*oid).map_err(|e| broken(&what(), e))? {
            let object = object.detach();
            return Ok(Some((object.kind, object.data)));
        }
        let Some(quarantine) = &self.quarantine else {
            return Ok(None);
        };
        let store = gix::odb::at(quarantine, repo.object_hash()).map_err(|e| broken(&what(), e))?;
        let mut buffer = Vec::new();
        let found = gix::objs::Find::try_find(&store, oid, &mut buffer)
            .map_err(|e| Failure::failed(Reason::Internal, what()).why(e.to_string()))?;
        let kind = found.map(|data| data.kind);
        Ok(kind.map(|kind| (kind, buffer)))
    }

    /// Kind and size of an object, without reading the rest of it.
    fn header_in(
        &self,
        repo: &gix::Repository,
        oid: &Oid,
    ) -> Result<Option<(gix::objs::Kind, u64)>, Failure> {
        if oid.kind() != repo.object_hash() {
            return Ok(None);
        }
        let what = || format!("object {oid} cannot be read");
        if let Some(header) = repo.try_find_header(*oid).map_err(|e| broken(&what(), e))? {
            return Ok(Some((header.kind(), header.size())));
        }
        let Some(quarantine) = &self.quarantine else {
            return Ok(None);
        };
        let store = gix::odb::at(quarantine, repo.object_hash()).map_err(|e| broken(&what(), e))?;
        let found = gix::odb::Header::try_header(&store, oid)
            .map_err(|e| Failure::failed(Reason::Internal, what()).why(e.to_string()))?;
        Ok(found.map(|header| (header.kind(), header.size())))
    }

    /// What may be a record: read only where it is no larger than one. `None` if the object is not here.
    pub(super) fn record_object(&self, repo: &gix::Repository, oid: &Oid) -> Result<Option<Raw>, Failure> {
        Ok(match self.header_in(repo, oid)? {
            None => None,
            Some((gix::objs::Kind::Tag, size)) if size > parse::LARGEST as u64 => {
                Some(Raw::Large(parse::too_large(size)))
            }
            Some((gix::objs::Kind::Tag, _)) => self.object_in(repo, oid)?.map(|(_, data)| Raw::Tag(data)),
            Some(_) => Some(Raw::Other),
        })
    }

    /// The raw content of a tag object; `None` if the object is not here or no tag.
    ///
    /// # Errors
    /// It is larger than a record may be (exit 3), or cannot be read.
    pub fn tag(&self, oid: &Oid) -> Result<Option<Vec<u8>>, Failure> {
        match self.record_object(&self.gix(), oid)? {
            Some(Raw::Tag(raw)) => Ok(Some(raw)),
            Some(Raw::Large(defect)) => {
                Err(Failure::refused(format!("{oid} is no good record")).why(defect.to_string()))
            }
            Some(Raw::Other) | None => Ok(None),
        }
    }
}

fn not_a_repository(dir: &Path, error: &dyn std::error::Error) -> Failure {
    // Git takes no other for safe than the whole path of the repository itself.
    let whole = absolute(dir);
    let around = whole.ancestors().find(|dir| dir.join(".git").exists());
    let whole = around.unwrap_or(&whole);
    let mut causes = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        causes.push(cause.to_string());
        source = cause.source();
    }
    causes.dedup();
    let text = causes.join("\n");
    let failure = if text.contains("not owned") || text.contains("unsafe") || text.contains("untrusted") {
        Failure::usage(format!(
            "the repository at {} belongs to another user",
            whole.display()
        ))
        .next(format!(
            "git config --global --add safe.directory {}",
            shlex::try_quote(&whole.to_string_lossy()).unwrap_or_default()
        ))
    } else {
        Failure::usage(format!(
            "{} is in no git repository that can be opened",
            match dir.to_str() {
                Some(".") => "this folder".into(),
                _ => dir.to_string_lossy(),
            }
        ))
        .next("cd into the repository that holds .nixgate.toml, or git init")
    };
    // The innermost cause is often a bare word of the program's own.
    causes.retain(|cause| cause.contains(' '));
    Failure {
        why: causes,
        ..failure
    }
}
