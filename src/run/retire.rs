//! `retire` and `rename`: what a target keeps on its host and its builder is let go; its records stay in git.
//!
//! A record carries its target's name and is never moved, so a new name begins a chain of its own: `rename` releases the
//! host under the new name first, through every gate, and lets go of the old name's things when that is proven.

use serde::Serialize;

use super::release::{CheckOptions, ReleaseOptions, release};
use super::store::{Desk, StoreOptions};
use super::{World, carried, reach, resolve};
use crate::config::Settings;
use crate::failure::{Exit, Failure, Reason};
use crate::gate::{GateLog, Place, build};
use crate::git::Trusted;
use crate::host::supervisor;
use crate::host::{Facts, RunDir, Session};
use crate::nix;
use crate::record::{Ledger, RecordName, Target};

/// `retire`'s and `rename`'s words.
#[derive(Debug, Clone, Default)]
pub struct RetireOptions {
    pub host: Option<String>,
    /// Say what would go, and change nothing.
    pub dry_run: bool,
    /// The host is no more: only the builder is cleared.
    pub gone: bool,
}

/// What was let go.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Retired {
    pub target: String,
    /// The record whose copy the host carried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// Names of the roots on the host, and on the builder.
    pub host_roots: Vec<String>,
    pub builder_roots: Vec<String>,
    pub dry_run: bool,
    #[serde(skip)]
    pub text: String,
}

/// How a rename ended.
#[derive(Debug, Clone, Serialize)]
pub struct Renamed {
    pub from: String,
    pub to: String,
    /// The new name's newest record; none in a dry run that has yet to make it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    pub retired: Retired,
    pub dry_run: bool,
    #[serde(skip)]
    pub text: String,
    /// 7: a reboot comes first.
    #[serde(skip)]
    pub exit: u8,
}

impl Retired {
    fn is_nothing(&self) -> bool {
        self.record.is_none() && self.host_roots.is_empty() && self.builder_roots.is_empty()
    }
}

/// Lets go of a target. Doing it again finds nothing to do.
///
/// # Errors
/// Exit 1: the host cannot be reached. Exit 3: no record, or the host carries one that is not here. Exit 6: a run holds it.
pub async fn retire(world: World<'_>, target: &Target, options: &RetireOptions) -> Result<Retired, Failure> {
    let mut retired = if options.gone {
        let settings = reach::settings_now(&world, target, options.host.as_deref())?;
        let ledger = resolve::trusted(world.repo, target, &settings.remote)?;
        chain(ledger.as_ref(), target)?;
        let mut log = GateLog::new(world.watcher);
        let mut retired = Retired::default();
        let dir = RunDir::new().map_err(Failure::from)?;
        retired.builder_roots = on_builder(&mut log, &settings, &dir, target, options.dry_run).await?;
        retired
    } else {
        let look = StoreOptions {
            host: options.host.clone(),
            ..StoreOptions::default()
        };
        let mut desk = Desk::open(world, target, &look).await?;
        let ledger = desk.ledger.clone();
        let chained = match desk.unfit.take() {
            Some(failure) => Err(failure),
            None => chain(ledger.as_ref(), target),
        };
        let done = match chained {
            Ok(ledger) => let_go(world, &mut desk, target, ledger, options.dry_run).await,
            Err(failure) => Err(failure),
        };
        desk.session.close().await;
        done?
    };
    retired.target = target.to_string();
    retired.dry_run = options.dry_run;
    retired.text = told(world, &retired, target);
    Ok(retired)
}

fn chain<'a>(ledger: Option<&'a Trusted>, target: &Target) -> Result<&'a Trusted, Failure> {
    ledger.ok_or_else(|| {
        Failure::refused(format!("{target} has no record: there is nothing to let go of"))
            .next("git nixgate status")
    })
}

/// Removes what `target` keeps on the host of `desk`, which may be another name's by now, and on its builder.
async fn let_go(
    world: World<'_>,
    desk: &mut Desk<'_>,
    target: &Target,
    ledger: &Ledger,
    dry_run: bool,
) -> Result<Retired, Failure> {
    let facts = reach::read_facts(&desk.session, target).await?;
    let carried = facts.record_base64.as_deref();
    // The only copy of a record that nobody has published is not thrown away.
    resolve::refuse_unknown_record(world.repo, target, Some(ledger), carried, false, &mut desk.log)?;
    let mut retired = Retired {
        record: facts
            .carried
            .iter()
            .find(|own| own.target == *target.as_str())
            .map(|own| own.tag.clone()),
        host_roots: roots(&facts, target),
        ..Retired::default()
    };
    if !dry_run && (retired.record.is_some() || !retired.host_roots.is_empty()) {
        let plan = desk.plan(&facts, "retire")?;
        let held = supervisor::hold(&desk.session, &plan)
            .await
            .map_err(|error| error.failure(target.as_str()))?;
        let gone = remove(&desk.session, target, &retired.host_roots).await;
        if held.end(&mut &desk.session).await.is_err() {
            let _ = supervisor::release_leftover(&mut &desk.session, &held.run).await;
        }
        gone?;
    }
    let dir = RunDir::new().map_err(Failure::from)?;
    retired.builder_roots = match desk.settings.builder.host.as_str() {
        // What is on the target was removed there.
        "target" => Vec::new(),
        _ => on_builder(&mut desk.log, &desk.settings, &dir, target, dry_run).await?,
    };
    Ok(retired)
}

/// Those of records, and `before-first`; not what a run that is at work keeps.
fn roots(facts: &Facts, target: &Target) -> Vec<String> {
    let prefix = format!("{target}/");
    let all = facts.roots.keys().chain(facts.dangling_roots.keys());
    all.filter_map(|name| name.strip_prefix(&prefix))
        .filter(|leaf| is_ours(target, leaf))
        .map(str::to_owned)
        .collect()
}

fn is_ours(target: &Target, leaf: &str) -> bool {
    let leaf = leaf.strip_suffix(".drv").unwrap_or(leaf);
    leaf == "before-first" || RecordName::from_leaf(target, leaf).is_ok()
}

/// The record's copy goes last: as long as it is there, doing it again finds what is left.
async fn remove(session: &Session, target: &Target, roots: &[String]) -> Result<(), Failure> {
    let failed = |error: crate::host::HostError| error.failure(target.as_str());
    supervisor::drop_permanent_root(&mut &*session, target.as_str(), roots)
        .await
        .map_err(failed)?;
    supervisor::drop_record(&mut &*session, target.as_str())
        .await
        .map_err(failed)
}

/// The target's roots on its builder. One that cannot be reached keeps them, which is said.
async fn on_builder(
    log: &mut GateLog<'_>,
    settings: &Settings,
    dir: &RunDir,
    target: &Target,
    dry_run: bool,
) -> Result<Vec<String>, Failure> {
    let host = settings.builder.host.as_str();
    let session = match host {
        "target" => return Ok(Vec::new()),
        "" => None,
        _ => match Session::open(&reach::builder(settings), dir).await {
            Ok(session) => Some(session),
            Err(error) => {
                log.note(format!(
                    "the roots on the builder stay: {}",
                    error.failure(host).what
                ));
                return Ok(Vec::new());
            }
        },
    };
    let place = session.as_ref().map_or(Place::Here, Place::Host);
    let found = nix::list_roots(&place, target.as_str(), build::ROOT).await?;
    let names: Vec<String> = found
        .into_iter()
        .map(|root| root.name)
        .filter(|name| is_ours(target, name))
        .collect();
    if !dry_run && !names.is_empty() {
        nix::remove_roots(&place, target.as_str(), &names, build::ROOT).await?;
    }
    if let Some(session) = session {
        session.close().await;
    }
    Ok(names)
}

fn told(world: World<'_>, retired: &Retired, target: &Target) -> String {
    if retired.is_nothing() {
        return format!("{target}: nothing is kept for it; its records stay in git\n");
    }
    let mut text = kept(retired, target);
    if retired.dry_run {
        return text;
    }
    text.push_str(&format!(
        "{target} is retired; its records stay in git: git nixgate log {target}\n"
    ));
    let head = world.repo.resolve("HEAD");
    let config = head.and_then(|head| resolve::at_commit(world.repo, &head));
    if config.is_ok_and(|config| config.targets.contains_key(target)) {
        text.push_str(&format!(
            "next: remove [target.{target}] from {}\n",
            crate::config::FILE
        ));
    }
    text
}

fn kept(retired: &Retired, target: &Target) -> String {
    let word = if retired.dry_run { "would go" } else { "gone" };
    let count = |roots: &[String]| match roots.len() {
        1 => "1 root".to_owned(),
        n => format!("{n} roots"),
    };
    let mut text = String::new();
    if let Some(record) = &retired.record {
        text.push_str(&format!("on the host, {word}: the copy of {record}\n"));
    }
    if !retired.host_roots.is_empty() {
        text.push_str(&format!(
            "on the host, {word}: {} of {target}\n",
            count(&retired.host_roots)
        ));
    }
    if !retired.builder_roots.is_empty() {
        let roots = count(&retired.builder_roots);
        text.push_str(&format!("on the builder, {word}: {roots} of {target}\n"));
    }
    text
}

/// Releases the host of `old` as `new`, and lets go of what `old` keeps there. Doing it again finishes what is left.
///
/// # Errors
/// What a release of `new` is refused or fails for; exit 3: the host of `new` is not that of `old`.
pub async fn rename(
    world: World<'_>,
    (old, new): (&Target, &Target),
    options: &RetireOptions,
) -> Result<Renamed, Failure> {
    if old == new {
        return Err(Failure::usage(format!("{old} has that name already")));
    }
    let mut renamed = Renamed {
        from: old.to_string(),
        to: new.to_string(),
        record: None,
        retired: Retired::default(),
        dry_run: options.dry_run,
        text: String::new(),
        exit: 0,
    };
    let look = StoreOptions {
        host: options.host.clone(),
        ..StoreOptions::default()
    };
    let desk = Desk::open(world, new, &look).await?;
    let facts = reach::read_facts(&desk.session, new).await;
    let remote = desk.settings.remote.clone();
    desk.session.close().await;
    let facts = facts?;
    let ledger = resolve::trusted(world.repo, old, &remote)?;
    let ledger = chain(ledger.as_ref(), old)?;
    if still_old(old, new, &facts)? {
        match options.dry_run {
            true => renamed.text = format!("{new} would be released, through every gate\n"),
            false => {
                let check = CheckOptions {
                    host: options.host.clone(),
                    take_over: true,
                    ..CheckOptions::default()
                };
                let options = ReleaseOptions {
                    check,
                    ..ReleaseOptions::default()
                };
                let outcome = release(world, new, options).await?;
                renamed.text = outcome.text;
                renamed.record = outcome.record;
                renamed.exit = outcome.exit;
                if outcome.exit != 0 {
                    renamed
                        .text
                        .push_str(&format!("then: git nixgate rename {old} {new}\n"));
                    return Ok(renamed);
                }
            }
        }
    } else {
        renamed.record = facts.carried.first().map(|newest| newest.tag.clone());
    }
    let mut desk = Desk::open(world, new, &look).await?;
    let done = let_go(world, &mut desk, old, ledger, options.dry_run).await;
    desk.session.close().await;
    renamed.retired = Retired {
        target: old.to_string(),
        dry_run: options.dry_run,
        ..done?
    };
    renamed.text.push_str(&kept(&renamed.retired, old));
    if !options.dry_run {
        renamed.text.push_str(&format!(
            "{old} is {new} now; the records of {old} stay in git, and {new} begins its own\n"
        ));
    }
    Ok(renamed)
}

/// Whether the newest record on the host is the old name's; the new name's is there already where not.
fn still_old(old: &Target, new: &Target, facts: &Facts) -> Result<bool, Failure> {
    match carried::another(facts, new) {
        Some(newest) if newest.target == *old.as_str() => Ok(true),
        None if !facts.carried.is_empty() => Ok(false),
        other => {
            let what = format!("the host of {new} is not that of {old}");
            let why = match other {
                Some(newest) => format!("its newest record is {}", newest.tag),
                None => "it carries no record".to_owned(),
            };
            Err(Failure::new(Exit::Refused, Reason::Record, what)
                .why(why)
                .next(format!(
                    "git nixgate config show     # [target.{new}] must lead to that host"
                ))
                .next(format!(
                    "git nixgate release {new}     # if it is a host of its own"
                )))
        }
    }
}
