//! `hook install`, `hook pre-push`, `hook pre-receive`: the two hooks are one decision ([`rules::judge`]) behind two
//! parsers. A push that touches no release costs a look at its lines and nothing else: no repository is opened.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Reason};
use crate::git::{Known, PushSide, Repo, RepoView, TagsThere, is_ours};
use crate::record::parse::oid;
use crate::record::rules::{self, Update};
use crate::record::{Oid, text};

const PRE_PUSH: &str = include_str!("../../hooks/pre-push");
const PRE_RECEIVE: &str = include_str!("../../hooks/pre-receive");

/// What `hook install` found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Installed {
    /// The hook is new.
    New { path: PathBuf, shared: bool },
    /// An older version of ours was replaced.
    Renewed { path: PathBuf, shared: bool },
    /// It was there already.
    Already { path: PathBuf, shared: bool },
    /// Somebody else's hook is there. Nothing was touched; these lines say what to do by hand.
    Foreign {
        path: PathBuf,
        shared: bool,
        by_hand: Vec<String>,
    },
}

/// Installs the client's hook, or the server's. A hook that is not ours is never overwritten, moved or edited.
pub fn install(repo: &Repo, server: bool) -> Result<Installed, Failure> {
    let (name, shim) = if server {
        ("pre-receive", PRE_RECEIVE)
    } else {
        ("pre-push", PRE_PUSH)
    };
    let dir = repo.hook_dir()?;
    let (path, shared) = (dir.path.join(name), dir.shared);
    let before = match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !path.is_symlink() => None,
        Err(error) => return Err(cannot(&path, &error)),
    };
    match before {
        Some(bytes) if bytes == shim.as_bytes() && is_executable(&path) => {
            Ok(Installed::Already { path, shared })
        }
        Some(bytes) if is_ours(&bytes) => {
            write(&path, shim, true)?;
            Ok(Installed::Renewed { path, shared })
        }
        Some(_) => {
            let by_hand = by_hand(repo, &path, name, server);
            Ok(Installed::Foreign {
                path,
                shared,
                by_hand,
            })
        }
        None => {
            write(&path, shim, false)?;
            Ok(Installed::New { path, shared })
        }
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o111 == 0o111)
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(Reason::Hook, format!("{} cannot be installed", path.display())).why(error.to_string())
}

/// Whole or not at all, and never over a file that appeared meanwhile.
#[expect(clippy::disallowed_methods, reason = "no run: installs a hook")]
fn write(path: &Path, shim: &str, replace: bool) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    let cannot = |error: std::io::Error| cannot(path, &error);
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).map_err(cannot)?;
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(cannot)?;
    file.write_all(shim.as_bytes()).map_err(cannot)?;
    file.as_file()
        .set_permissions(std::fs::Permissions::from_mode(0o755))
        .map_err(cannot)?;
    file.as_file().sync_all().map_err(cannot)?;
    let done = if replace {
        file.persist(path)
    } else {
        file.persist_noclobber(path)
    };
    done.map(|_| ()).map_err(|e| cannot(e.error))
}

fn by_hand(repo: &Repo, path: &Path, name: &str, server: bool) -> Vec<String> {
    let shown = path.display();
    let flag = if server { " --server" } else { "" };
    let mut lines = vec![
        format!("let ours call yours: mv {shown} {shown}.chained && git nixgate hook install{flag}"),
        format!("or call ours from yours, with the same input: git-nixgate hook {name} \"$@\" || exit"),
    ];
    if repo.git_version().is_ok_and(|version| version >= (2, 54)) {
        lines.push(format!(
            "or beside it: git config hook.nixgate.event {name} && git config hook.nixgate.command 'git-nixgate hook {name}'"
        ));
    }
    lines
}

/// Judges a push before it leaves, and returns what should be said although it passes. `remote` and `url` are the hook's two arguments; `secrets` gives the values that no
/// record may hold, and is asked only when a release is pushed.
pub fn pre_push(
    dir: &Path,
    remote: impl AsRef<OsStr>,
    url: impl AsRef<OsStr>,
    stdin: &[u8],
    secrets: impl FnOnce(&Repo) -> Known,
) -> Result<Vec<String>, Failure> {
    let updates = parse_pre_push(stdin)?;
    if !updates.iter().any(|u| rules::is_guarded(&u.ref_name)) {
        return Ok(Vec::new());
    }
    // Any bytes may name a folder. Refs are kept under a remote's name, so one that has those is a URL.
    let (url, remote) = (url.as_ref(), remote.as_ref());
    let (is_url, remote) = (remote == url, remote.to_string_lossy());
    let repo = Repo::open(dir)?;
    let side = PushSide::Sending {
        remote: remote.clone().into_owned(),
        url: Some(url.to_owned()),
    };
    let view = RepoView {
        repo: &repo,
        side,
        secrets: secrets(&repo),
        // What commits ask for is no matter here: they are what is judged.
        trust: repo.trust(false, "")?,
        tags: TagsThere::default(),
        warnings: Default::default(),
    };
    let to = if is_url || remote.is_empty() {
        "the remote".to_owned()
    } else {
        text::shown(&remote)
    };
    answer(&rules::judge(&updates, &view), &to)?;
    Ok(view.warnings.into_inner())
}

/// Judges a push where it arrives, and returns what should be said although it passes.
pub fn pre_receive(
    dir: &Path,
    stdin: &[u8],
    secrets: impl FnOnce(&Repo) -> Known,
) -> Result<Vec<String>, Failure> {
    let updates = parse_pre_receive(stdin)?;
    if !updates.iter().any(|u| rules::is_guarded(&u.ref_name)) {
        return Ok(Vec::new());
    }
    let repo = Repo::open(dir)?;
    let view = RepoView {
        repo: &repo,
        side: PushSide::Receiving,
        secrets: secrets(&repo),
        // What commits ask for is no matter here: they are what is judged.
        trust: repo.trust(false, "")?,
        tags: TagsThere::default(),
        warnings: Default::default(),
    };
    answer(&rules::judge(&updates, &view), "this repository")?;
    Ok(view.warnings.into_inner())
}

fn answer(refusals: &[rules::Refusal], to: &str) -> Result<(), Failure> {
    if refusals.is_empty() {
        return Ok(());
    }
    let mut failure = Failure::refused(format!("this push to {to} would break the record of a release"));
    for r in refusals {
        failure = failure.why(text::shown(&format!("{}: {} ({})", r.ref_name, r.why, r.rule)));
        if !failure.next.contains(&r.next) {
            failure = failure.next(r.next.clone());
        }
    }
    Err(failure)
}

/// Reads `<local-ref> SP <local-oid> SP <remote-ref> SP <remote-oid> LF`. The local ref is what the user typed and may
/// hold spaces, so lines are read from their end.
pub fn parse_pre_push(stdin: &[u8]) -> Result<Vec<Update>, Failure> {
    lines(stdin, |line| {
        let mut fields = line.rsplitn(4, ' ');
        let (old, ref_name, new, _) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        Some(Update {
            ref_name: ref_name.to_owned(),
            old: id(old)?,
            new: id(new)?,
        })
    })
}

/// Reads `<old-oid> SP <new-oid> SP <ref> LF`.
pub fn parse_pre_receive(stdin: &[u8]) -> Result<Vec<Update>, Failure> {
    lines(stdin, |line| {
        let mut fields = line.splitn(3, ' ');
        let (old, new, ref_name) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Update {
            ref_name: ref_name.to_owned(),
            old: id(old)?,
            new: id(new)?,
        })
    })
}

/// An object id; all zeros, 40 or 64 of them, is none.
fn id(hex: &str) -> Option<Option<Oid>> {
    let oid = oid(hex)?;
    Some((!oid.is_null()).then_some(oid))
}

fn lines(stdin: &[u8], read: impl Fn(&str) -> Option<Update>) -> Result<Vec<Update>, Failure> {
    let mut updates = Vec::new();
    for line in stdin.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        // Refs may hold any bytes; names that are guarded are ASCII, so a lossy reading mistakes none for another.
        let line = String::from_utf8_lossy(line);
        let update = read(&line).ok_or_else(|| {
            Failure::refused("git's list of refs cannot be read")
                .why(text::shown(&line))
                .next("git --version")
        })?;
        updates.push(update);
    }
    Ok(updates)
}
