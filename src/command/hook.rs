//! `hook pre-push`, `hook pre-receive`, `hook reference-transaction`: one decision ([`rules::judge`]) behind three parsers,
//! and `hook install`. A push that touches no release costs a look at its lines and nothing else: no repository is opened.

mod install;

use std::ffi::OsStr;
use std::path::Path;

pub use self::install::{Installed, install};
use crate::failure::Failure;
use crate::git::{Known, Landing, PushSide, Repo, RepoView, TagsThere};
use crate::record::parse::oid;
use crate::record::rules::{self, Update};
use crate::record::{Oid, text};

/// Judges a push before it leaves, and returns what should be said although it passes. `remote` and `url` are the hook's two
/// arguments; `secrets` gives the values that no record may hold, and is asked only when a release is pushed.
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
    let mut updates = parse_pre_receive(stdin)?;
    aliased(dir, &mut updates)?;
    if !updates.iter().any(|u| rules::is_guarded(&u.ref_name)) {
        return Ok(Vec::new());
    }
    if std::env::var_os("GIT_NAMESPACE").is_some_and(|space| !space.is_empty()) {
        return Err(Failure::refused("this push touches a release in a namespace of git (unproven)")
            .why("records, pointers and ledgers are judged where they stand, and not under refs/namespaces/")
            .next("push to the repository itself, without GIT_NAMESPACE"));
    }
    let repo = Repo::open(dir)?;
    let view = receiving(&repo, secrets(&repo))?;
    answer(&rules::judge(&updates, &view), "this repository")?;
    Ok(view.warnings.into_inner())
}

/// Judges what git is about to write where a push arrives, in the one state in which it can be stopped. What a push names
/// lands ref by ref, or in part, unless it is atomic: here each of these parts has to be good by itself.
///
/// # Errors
/// A refusal (exit 3), upon which git drops the transaction.
pub fn reference_transaction(
    dir: &Path,
    state: &str,
    stdin: &[u8],
    secrets: impl FnOnce(&Repo) -> Known,
) -> Result<(), Failure> {
    if state != "prepared" {
        return Ok(());
    }
    let lines = parse_transaction(stdin)?;
    if lines.is_empty() {
        return Ok(());
    }
    let repo = Repo::open(dir)?;
    let mut updates = Vec::new();
    for update in lines {
        match repo.landing(&update.ref_name, update.old, update.new) {
            Landing::Same => {}
            Landing::Changes(now) => updates.push(Update { old: now, ..update }),
            // Judged, and refused for what it is.
            Landing::Unclear => updates.push(update),
        }
    }
    if updates.is_empty() {
        return Ok(());
    }
    let refusals = rules::judge(&updates, &receiving(&repo, secrets(&repo))?);
    answer(&refusals, "this repository").map_err(|failure| {
        failure.next("push record, ledger and pointer together: git push --atomic, git fetch --atomic")
    })
}

fn receiving(repo: &Repo, secrets: Known) -> Result<RepoView<'_>, Failure> {
    Ok(RepoView {
        repo,
        side: PushSide::Receiving,
        secrets,
        // What commits ask for is no matter here: they are what is judged.
        trust: repo.trust(false, "")?,
        tags: TagsThere::default(),
        warnings: Default::default(),
    })
}

/// A ref that only leads to another, which an administrator made: what is pushed to it lands there.
fn aliased(dir: &Path, updates: &mut [Update]) -> Result<(), Failure> {
    let git_dir = std::env::var_os("GIT_DIR").map_or_else(|| dir.to_owned(), |git_dir| dir.join(git_dir));
    for update in updates {
        let mut name = update.ref_name.clone();
        // Git follows no more (SYMREF_MAXDEPTH in its refs-internal.h).
        for _ in 0..5 {
            let plain = name.split('/').all(|part| !part.is_empty() && part != "..");
            let text = plain
                .then(|| std::fs::read_to_string(git_dir.join(&name)).ok())
                .flatten();
            let Some(to) = text.as_deref().and_then(|text| text.strip_prefix("ref:")) else {
                break;
            };
            name = to.trim().to_owned();
        }
        if name != update.ref_name && rules::is_guarded(&name) {
            return Err(Failure::refused(format!(
                "{} leads to {}, which is part of a release (symbolic)",
                text::shown(&update.ref_name),
                text::shown(&name)
            ))
            .next(format!("push {} itself", text::shown(&name))));
        }
    }
    Ok(())
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

/// Reads `<old> SP <new> SP <ref> LF` of a transaction, where either value may be `ref:<name>` (git 2.46 and later): the
/// lines of refs that are guarded. Of all others nothing is asked, so that no form that they may have stops git.
///
/// # Errors
/// A guarded ref that becomes a symbolic one, or a line about one that cannot be read (exit 3).
pub fn parse_transaction(stdin: &[u8]) -> Result<Vec<Update>, Failure> {
    let guarded = |line: &&[u8]| {
        let name = line.splitn(3, |b| *b == b' ').nth(2).unwrap_or_default();
        rules::is_guarded(&String::from_utf8_lossy(name))
    };
    let mut kept = Vec::new();
    for line in stdin.split(|b| *b == b'\n').filter(guarded) {
        let text = String::from_utf8_lossy(line);
        if text.split(' ').take(2).any(|value| value.starts_with("ref:")) {
            return Err(Failure::refused(format!(
                "{} would be, or is, a symbolic ref (symbolic)",
                text::shown(text.rsplit(' ').next().unwrap_or_default())
            ))
            .next("records, pointers and ledgers are refs of their own: choose a name outside release/"));
        }
        kept.extend_from_slice(line);
        kept.push(b'\n');
    }
    parse_pre_receive(&kept)
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
