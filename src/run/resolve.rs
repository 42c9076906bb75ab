//! Step 0: which commit, with which settings, and how the records stand here and on the remote.

use std::path::Path;

use crate::check::CheckSet;
use crate::config::{self, Config, Settings};
use crate::failure::{Exit, Failure, Reason};
use crate::gate::GateLog;
use crate::gate::known_good::RemoteSide;
use crate::git::{Commit, Relation, Released, Repo, Trusted, Which};
use crate::record::{Ledger, Oid, Target};

/// `.nixgate.toml` of a commit; strictly read.
///
/// # Errors
/// Exit 2 with every problem, or that there is none.
pub fn at_commit(repo: &Repo, commit: &Commit) -> Result<Config, Failure> {
    let Some(bytes) = repo.read_file(&commit.id, Path::new(config::FILE))? else {
        let failure = Failure::config(format!("there is no {} in {}", config::FILE, commit.short));
        let only_here = repo
            .work_tree()
            .is_some_and(|tree| tree.join(config::FILE).exists());
        return Err(if only_here {
            failure
                .why("it is in the work tree, but not committed")
                .next(format!("git add {0} && git commit -m \"Add {0}\"", config::FILE))
        } else {
            failure.next("git nixgate init")
        });
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::config(format!("{} in {} is not UTF-8", config::FILE, commit.short)))?;
    config::parse(&text).map_err(|problems| {
        let count = problems.len();
        let what = format!(
            "{} in {} has {count} problem{}",
            config::FILE,
            commit.short,
            if count == 1 { "" } else { "s" }
        );
        let mut failure = Failure::config(what);
        failure.why = problems.iter().map(ToString::to_string).collect();
        failure.next(
            "mend and commit it; git nixgate config check --file .nixgate.toml looks at the work tree's",
        )
    })
}

/// One target's settings out of a configuration.
///
/// # Errors
/// Exit 2, with the targets that there are.
pub fn settings_of(config: &Config, target: &Target) -> Result<Settings, Failure> {
    config.targets.get(target).cloned().ok_or_else(|| {
        let names: Vec<&str> = config.targets.keys().map(Target::as_str).collect();
        let known = if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        };
        Failure::config(format!("there is no target {target} in {}", config::FILE))
            .why(format!("targets: {known}"))
            .next(format!("add [target.{target}] to {}", config::FILE))
    })
}

/// A released commit's settings for a target, and its checks.
pub struct Checked {
    pub settings: Settings,
    pub checks: CheckSet,
}

/// What to check on the system of a released commit: its own checks, services and limits, as far as they can be read. What
/// cannot is said and skipped: an old file must not stand in the way back. Where the file does not name the target, `now`
/// stands in, without its programs.
///
/// # Errors
/// The commit cannot be read.
pub fn checks_of(
    repo: &Repo,
    log: &mut GateLog<'_>,
    released: &Released,
    target: &Target,
    now: &Settings,
) -> Result<Checked, Failure> {
    let Some(found) = CheckSet::released(repo, released, target)? else {
        return Ok(Checked {
            checks: harmless(log, now),
            settings: now.clone(),
        });
    };
    for problem in found.problems {
        log.note(format!(
            "{} of {}: skipped: {problem}",
            config::FILE,
            released.commit().short
        ));
    }
    Ok(Checked {
        settings: found.settings,
        checks: found.checks,
    })
}

/// The checks of a file that nobody released: without the programs, which are named.
pub fn harmless(log: &GateLog<'_>, settings: &Settings) -> CheckSet {
    let (checks, left_out) = CheckSet::unreleased(&settings.checks);
    if !left_out.is_empty() {
        log.note(format!(
            "left out: {}: no program of a commit runs before the commit is released",
            left_out.join(", ")
        ));
    }
    checks
}

/// Whether a commit may be evaluated impurely, which lets it read files and environment of the machine that evaluates:
/// where its file wants that, and it was released, or a person says so (`--impure`).
///
/// # Errors
/// Exit 3: its file wants it, and neither is the case.
pub fn is_impure(
    settings: &Settings,
    ledger: Option<&Trusted>,
    commit: &Commit,
    (asked, again): (bool, &str),
) -> Result<bool, Failure> {
    let released = || ledger.is_some_and(|l| l.releases().any(|record| record.commit == commit.id));
    if !settings.impure || asked || released() {
        return Ok(settings.impure);
    }
    Err(Failure::refused(format!(
        "{} sets impure = true, and was not released yet",
        commit.short
    ))
    .why("an impure evaluation can read the files and the environment of the machine that evaluates")
    .next(format!("{again} --impure    # if you trust that commit")))
}

/// What must stand before any work on a release begins: whole history, nothing uncommitted.
///
/// # Errors
/// Exit 3 with the way out.
pub fn refuse_unclean(repo: &Repo, log: &GateLog<'_>, named: bool) -> Result<(), Failure> {
    if repo.is_shallow() {
        return Err(Failure::refused(
            "this clone is shallow: whether the commit follows the last release cannot be proven",
        )
        .next("git fetch --unshallow; in a CI checkout: fetch-depth: 0"));
    }
    if repo.is_bare() {
        return Ok(());
    }
    let tree = repo.tracked_changes()?;
    if !tree.untracked.is_empty() {
        let count = tree.untracked.len();
        let plural = if count == 1 { "file is" } else { "files are" };
        log.note(format!(
            "{count} untracked {plural} not part of the commit: {}",
            few(&tree.untracked)
        ));
    }
    if tree.changed.is_empty() || named {
        return Ok(());
    }
    Err(Failure::refused("there are changes that are not committed")
        .why(format!(
            "what is built is the commit, and it lacks them: {}",
            few(&tree.changed)
        ))
        .next("git commit -a, or git stash")
        .next("or name the commit on purpose: --rev HEAD"))
}

fn few(names: &[String]) -> String {
    let mut shown: Vec<&str> = names.iter().take(5).map(String::as_str).collect();
    let more = format!("and {} more", names.len().saturating_sub(5));
    if names.len() > 5 {
        shown.push(&more);
    }
    shown.join(", ")
}

/// Asks the remote for the target's records and takes them over where they continue ours.
///
/// # Errors
/// A fork, a record that was tampered with, or a remote that is not configured. That it cannot be reached is no error
/// here: see [`RemoteSide::Away`].
pub async fn remote_side(repo: &Repo, remote: &str, target: &Target) -> Result<RemoteSide, Failure> {
    if remote.is_empty() || !repo.has_remotes()? {
        repo.adopt_records(target, None)?;
        return Ok(RemoteSide::None);
    }
    let name = remote.to_owned();
    let side = match repo.fetch(remote, target).await {
        Ok(fetched) => {
            // A record that lost would be judged on, and pushed against, for ever: it goes before anything else.
            repo.refuse_fork(target, remote)?;
            repo.settle(target, remote, &fetched.refs)?;
            if fetched.relation == Relation::RemoteAhead {
                repo.take_remote_ledger(target, remote)?;
            }
            Ok(RemoteSide::Ready {
                name,
                refs: fetched.refs,
            })
        }
        Err(failure)
            if matches!(
                failure.reason,
                Reason::Remote | Reason::Timeout | Reason::Auth | Reason::Link
            ) =>
        {
            Ok(RemoteSide::Away { name, failure })
        }
        Err(failure) => Err(failure),
    }?;
    repo.adopt_records(target, Some(remote))?;
    Ok(side)
}

/// The target's chain as it stands here; in a clone that never ran `init`, as its tags say.
pub fn ledger(repo: &Repo, target: &Target, remote: &str) -> Result<Option<Ledger>, Failure> {
    let remote = (!remote.is_empty()).then_some(remote);
    let which = repo.best(target, remote)?;
    repo.ledger(target, which)
}

/// The same, judged: what acts on records goes by this one.
///
/// # Errors
/// Exit 3: it does not hold, or its newest record does not pass.
pub fn trusted(repo: &Repo, target: &Target, remote: &str) -> Result<Option<Trusted>, Failure> {
    ledger(repo, target, remote)?
        .map(|ledger| repo.judge(ledger))
        .transpose()
}

/// The chain that a new record continues, judged.
///
/// # Errors
/// As [`trusted`].
pub fn own_trusted(repo: &Repo, target: &Target) -> Result<Option<Trusted>, Failure> {
    own_ledger(repo, target)?
        .map(|ledger| repo.judge(ledger))
        .transpose()
}

/// The chain that a new record continues: the local one (the remote's was taken over, or there is none).
pub fn own_ledger(repo: &Repo, target: &Target) -> Result<Option<Ledger>, Failure> {
    match repo.own_head(target)? {
        Some(head) => repo.ledger(target, Which::At(head)),
        None => Ok(None),
    }
}

/// A release must descend from the furthest commit ever proven.
///
/// # Errors
/// Exit 3 with the ways out.
pub fn refuse_rewind(
    repo: &Repo,
    ledger: Option<&Ledger>,
    commit: &Commit,
    target: &Target,
) -> Result<(), Failure> {
    let Some(furthest) = ledger.and_then(Ledger::furthest_commit) else {
        return Ok(());
    };
    if repo.is_ancestor(&furthest, &commit.id)? {
        return Ok(());
    }
    let short = furthest.to_hex_with_len(12);
    let failure = Failure::refused(format!(
        "{} does not follow the last release of {target}",
        commit.short
    ))
    .why(format!(
        "the pointer release/{target} stands at {short}, which is no ancestor: it only fast-forwards"
    ));
    Err(if repo.is_ancestor(&commit.id, &furthest)? {
        failure
            .next(format!(
                "git nixgate rollback {target} --to TAG      # an older release: git nixgate log {target}"
            ))
            .next(format!(
                "git nixgate deploy {target} --to TAG        # a withdrawn one, knowingly"
            ))
    } else {
        failure
            .next(format!(
                "git merge release/{target}                  # a line that went its own way"
            ))
            .next(format!(
                "git merge -s ours release/{target}          # the same after a rebase: keeps your files"
            ))
    })
}

/// What the host itself carries: a record that the fetched ledger lacks means a lost clone, or a server that shows an
/// old ledger.
///
/// # Errors
/// Exit 3: who, when, and the way out.
pub fn refuse_unknown_record(
    repo: &Repo,
    target: &Target,
    ledger: Option<&Ledger>,
    carried: Option<&str>,
    supersede: bool,
    log: &mut GateLog<'_>,
) -> Result<(), Failure> {
    use base64::Engine as _;
    let Some(text) = carried else { return Ok(()) };
    let compact: String = text.split_ascii_whitespace().collect();
    let raw = base64::engine::general_purpose::STANDARD
        .decode(compact)
        .unwrap_or_default();
    let sha256 = crate::record::sha256_hex(&raw);
    let known = ledger.is_some_and(|l| l.records().iter().any(|record| record.sha256 == sha256));
    if known {
        return Ok(());
    }
    // Its id is not needed to say what it is.
    let null = Oid::null(gix::hash::Kind::Sha1);
    let record = crate::record::Record::parse(null, &raw, None);
    let tag = record.as_ref().ok().map(|record| record.name.ref_name());
    let here = tag.is_some_and(|tag| matches!(repo.reference(&tag), Ok(Some(_))));
    let what = match &record {
        Ok(record) => format!(
            "{target} carries the record {} by {}, which is {}",
            record.name,
            record.tagger_name,
            match here {
                true => format!("a tag here, but not in the ledger of {target}"),
                false => "not among the records here".to_owned(),
            }
        ),
        Err(_) => format!("{target} carries a record that cannot be read"),
    };
    if supersede {
        log.warn(format!("superseded: {what}"));
        return Ok(());
    }
    if here {
        return Err(Failure::new(Exit::Refused, Reason::Record, what)
            .why("its tag came without the ledger, or another record took its place")
            .next("git fetch")
            .next(format!("git nixgate verify {target}")));
    }
    Err(Failure::new(Exit::Refused, Reason::Record, what)
        .why("another clone released it and did not publish, or the remote shows an old state")
        .next(format!(
            "git nixgate publish {target}     # in the clone that made it"
        ))
        .next("or go on without it, knowingly: --supersede"))
}
