//! `diff`: any two of a record, a commit and what runs, compared; nothing is changed on the target.

use time::OffsetDateTime;
use tokio::sync::OnceCell;

use super::hold::hold;
use super::product::{Bench, Order, early};
use super::{World, derivations, explain, journal, reach, resolve, run_id};
use crate::config::Settings;
use crate::diff::{Between, InputDiff};
use crate::failure::Failure;
use crate::gate::diff::{self, Difference};
use crate::gate::{GateLog, Place, store_of};
use crate::git::{Commit, Repo, Trusted};
use crate::host::{Facts, RunDir, Session};
use crate::nix::{self, Closure, StorePath, Unshared};
use crate::record::{Ledger, Oid, OnHost, Record, RecordName, Target};

/// `diff`'s words.
#[derive(Debug, Clone, Default)]
pub struct CompareOptions {
    /// A record, a commit, or `live`.
    pub from: String,
    pub to: String,
    pub host: Option<String>,
    pub explain: bool,
    pub impure: bool,
}

/// How a comparison is made.
pub(super) struct How {
    /// Evaluate with each moved input held back.
    pub explain: bool,
    /// A person says that a commit that was not released may be evaluated impurely.
    pub impure: bool,
    /// The command that was given.
    pub again: String,
}

/// One of the two systems.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Side {
    /// As it was named: `live`, a record, a commit.
    pub name: String,
    pub toplevel: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drv: Option<String>,
    /// The commit it was built from, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// Both systems, and how they differ.
#[derive(Debug)]
pub struct Compared {
    pub from: Side,
    pub to: Side,
    pub difference: Difference,
    /// What the host said, where one of the two is what runs there.
    pub facts: Option<Facts>,
}

/// The word for what runs on the target, and the link to it.
const LIVE: &str = "live";
const RUNNING: &str = "/run/current-system";

enum Named {
    Live,
    Record(Box<Record>),
    Commit(Box<Commit>),
}

/// Compares two systems of a target. Commits are built on the builder; records and what runs are read where they are.
///
/// # Errors
/// A name that means nothing, a host or builder that cannot be reached, a commit that does not build.
pub async fn compare(
    world: World<'_>,
    target: &Target,
    options: &CompareOptions,
) -> Result<Compared, Failure> {
    let repo = world.repo;
    let settings = reach::settings_now(&world, target, options.host.as_deref())?;
    let ledger = resolve::trusted(repo, target, &settings.remote)?;
    let from = named(repo, target, ledger.as_deref(), &options.from)?;
    let to = named(repo, target, ledger.as_deref(), &options.to)?;
    let how = How {
        explain: options.explain,
        impure: options.impure,
        again: format!("git nixgate diff {target} {} {}", options.from, options.to),
    };
    let known = (&settings, ledger.as_ref());
    let (compared, _) = between(world, target, known, (&from, &to), &how).await?;
    Ok(compared)
}

/// The same for what runs and a commit; with the inputs that moved, where both commits are known.
///
/// # Errors
/// As [`compare`].
pub(super) async fn with_live(
    world: World<'_>,
    target: &Target,
    known: (&Settings, Option<&Trusted>),
    commit: Commit,
    how: &How,
) -> Result<(Compared, Option<InputDiff>), Failure> {
    let to = Named::Commit(Box::new(commit));
    between(world, target, known, (&Named::Live, &to), how).await
}

async fn between(
    world: World<'_>,
    target: &Target,
    (settings, ledger): (&Settings, Option<&Trusted>),
    (from, to): (&Named, &Named),
    how: &How,
) -> Result<(Compared, Option<InputDiff>), Failure> {
    let repo = world.repo;
    let head = repo.resolve("HEAD")?;
    // Each has a connection to the builder of its own: each sends its commit.
    let dirs = [
        RunDir::new().map_err(Failure::from)?,
        RunDir::new().map_err(Failure::from)?,
    ];
    let ids = ["a", "b"].map(|side| format!("{}-{side}", run_id(OffsetDateTime::now_utc())));
    let of = [from, to].map(|named| settings_of(repo, target, named, settings));
    let mut impure = [false; 2];
    for (side, named) in [from, to].into_iter().enumerate() {
        if let Named::Commit(commit) = named {
            impure[side] = resolve::is_impure(&of[side], ledger, commit, (how.impure, &how.again))?;
        }
    }
    let order = |side: usize| Order {
        repo,
        commit: match [from, to][side] {
            Named::Commit(commit) => commit,
            _ => &head,
        },
        settings: &of[side],
        run: &ids[side],
        target,
        dir: &dirs[side],
        impure: impure[side],
        before: Vec::new(),
    };
    let orders = (order(0), order(1));
    let work = Work {
        world,
        target,
        settings,
        ledger: ledger.map(|ledger| &**ledger),
        log: GateLog::new(world.watcher),
        session: OnceCell::new(),
        facts: OnceCell::new(),
    };
    let benches = (Bench::default(), Bench::default());
    let sides = ((from, &orders.0, &benches.0), (to, &orders.1, &benches.1));
    let result = work.compared(sides, &dirs[1], how.explain).await;
    tokio::join!(orders.0.clear(benches.0), orders.1.clear(benches.1));
    if let Some(session) = work.session.into_inner() {
        session.close().await;
    }
    result.map(|(compared, moved)| {
        let facts = work.facts.into_inner();
        (Compared { facts, ..compared }, moved)
    })
}

/// A commit is built with its own settings, as far as it has some.
fn settings_of(repo: &Repo, target: &Target, named: &Named, now: &Settings) -> Settings {
    let Named::Commit(commit) = named else {
        return now.clone();
    };
    let own = resolve::at_commit(repo, commit).and_then(|config| resolve::settings_of(&config, target));
    match own {
        Ok(own) => Settings {
            builder: now.builder.clone(),
            ..own
        },
        Err(_) => now.clone(),
    }
}

fn named(repo: &Repo, target: &Target, ledger: Option<&Ledger>, word: &str) -> Result<Named, Failure> {
    if word == LIVE {
        return Ok(Named::Live);
    }
    let bare = word.strip_prefix("refs/tags/").unwrap_or(word);
    let name = bare
        .parse::<RecordName>()
        .ok()
        .filter(|name| name.target == *target)
        .or_else(|| RecordName::from_leaf(target, bare).ok());
    if let Some(name) = name {
        let record = ledger.and_then(|ledger| ledger.get(&name));
        return match record {
            Some(record) => Ok(Named::Record(Box::new(record.clone()))),
            None => Err(Failure::usage(format!("there is no record {name}"))
                .next(format!("git nixgate log {target}"))),
        };
    }
    repo.resolve(word)
        .map(|commit| Named::Commit(Box::new(commit)))
        .map_err(|failure| {
            failure.next(format!(
                "or a record of {target} (git nixgate log {target}), or `live`"
            ))
        })
}

/// One system with everything that is read of it.
struct Whole {
    side: Side,
    toplevel: StorePath,
    drv: Option<StorePath>,
    commit: Option<Oid>,
    closure: Closure,
}

type Place3<'a, 'o> = (&'a Named, &'a Order<'o>, &'a Bench);

struct Work<'a> {
    world: World<'a>,
    target: &'a Target,
    settings: &'a Settings,
    ledger: Option<&'a Ledger>,
    log: GateLog<'a>,
    session: OnceCell<Session>,
    facts: OnceCell<Facts>,
}

impl Work<'_> {
    async fn compared(
        &self,
        (from, to): (Place3<'_, '_>, Place3<'_, '_>),
        dir: &RunDir,
        prove: bool,
    ) -> Result<(Compared, Option<InputDiff>), Failure> {
        let (old, new) = tokio::join!(self.whole(from, dir), self.whole(to, dir));
        let (mut old, mut new) = (old?, new?);
        // What the host has already stays as it is there, whatever the builder has under the same path.
        match (from.0, to.0) {
            (Named::Live, _) => new.closure = new.closure.copied_beside(&old.closure),
            (_, Named::Live) => old.closure = old.closure.copied_beside(&new.closure),
            _ => {}
        }
        let between = match (&old.commit, &new.commit) {
            (Some(from), Some(to)) => {
                let log = &mut GateLog::new(self.world.watcher);
                Some(diff::between(
                    log,
                    self.world.repo,
                    &self.settings.flake,
                    (from, to),
                )?)
            }
            _ => None,
        };
        let (moved, between): (Option<InputDiff>, Option<Between>) = between.unzip();
        let same = old.toplevel == new.toplevel;
        let derivations = match same {
            true => None,
            false => self.derivations((&old, &new), to, dir).await,
        };
        let between = between.map(|mut between| {
            if same {
                // Whatever lies between them, nothing came of it.
                between
                    .causes
                    .iter_mut()
                    .for_each(|cause| cause.effect = Some(false));
            }
            between
        });
        let (mut difference, bad) =
            Difference::new((&old.closure, &new.closure), derivations.as_ref(), between);
        if let Some(bad) = bad {
            self.log
                .note(format!("the derivations do not fit together: {bad}"));
        }
        let is_commit = matches!(to.0, Named::Commit(_));
        if prove && !is_commit {
            self.log
                .note("--explain evaluates a commit, and there is none to evaluate");
        }
        if let (true, Some(derivations), Some(moved)) = (prove && is_commit, &derivations, &moved) {
            let place = self.builder(to, dir).await?;
            let sides = (&derivations.old, &derivations.new);
            explain::prove(&self.log, &mut difference, (to.1, place, to.2), sides, moved).await;
        }
        if !same {
            let live = [from, to]
                .iter()
                .any(|(named, _, _)| matches!(named, Named::Live));
            let builder = self.builder(to, dir).await.ok();
            // The host is asked where it was asked before.
            let host = match live || builder.is_none() || self.session.initialized() {
                true => self.host(dir).await.ok().map(Place::Host),
                false => None,
            };
            let places: Vec<Place<'_>> = builder.into_iter().chain(host).collect();
            let closures = (&old.closure, &new.closure);
            hold(&self.log, &mut difference, closures, &places).await;
        }
        let compared = Compared {
            from: old.side,
            to: new.side,
            difference,
            facts: None,
        };
        Ok((compared, moved))
    }

    /// The connection to the target, made when something is asked of it.
    async fn host(&self, dir: &RunDir) -> Result<&Session, Failure> {
        let open = || async {
            let endpoint = reach::endpoint(self.target, self.settings, self.world.asker)?;
            let opened = Session::open(&endpoint, dir).await;
            opened.map_err(|error| error.failure(self.target.as_str()))
        };
        self.session.get_or_try_init(open).await
    }

    /// Where closures of records and derivations are kept.
    async fn builder<'b>(
        &'b self,
        (_, order, bench): Place3<'b, '_>,
        dir: &RunDir,
    ) -> Result<Place<'b>, Failure> {
        if order.on_target() {
            return Ok(Place::Host(self.host(dir).await?));
        }
        Ok(match order.connect(bench).await? {
            Some(session) => Place::Host(session),
            None => Place::Here,
        })
    }

    async fn whole(&self, (named, order, bench): Place3<'_, '_>, dir: &RunDir) -> Result<Whole, Failure> {
        let limit = self.settings.timeouts.build;
        match named {
            Named::Live => {
                let session = self.host(dir).await?;
                let place = store_of(session);
                let (closure, facts) = tokio::join!(
                    nix::closure_linked(&place, RUNNING, limit),
                    reach::read_facts(session, self.target)
                );
                let closure = closure?;
                // They say whose host it is; a comparison needs no more than the closure.
                if let Ok(facts) = facts {
                    let _ = self.facts.set(facts);
                }
                let record = self
                    .ledger
                    .and_then(|ledger| ledger.newest_with_toplevel(closure.toplevel.as_str()));
                let drv = record.and_then(|record| record.evidence.drv.clone());
                Ok(whole(
                    LIVE.to_owned(),
                    closure,
                    drv,
                    record.map(|record| record.commit),
                ))
            }
            Named::Record(record) => {
                let toplevel = StorePath::new(&record.evidence.toplevel).map_err(|bad| {
                    Failure::refused(format!("{} names no toplevel", record.name)).why(bad.to_string())
                })?;
                let closure = self.kept((named, order, bench), record, &toplevel, dir).await?;
                let built = record.restores != Some(OnHost::BeforeFirst);
                let commit = built.then_some(record.commit);
                Ok(whole(
                    record.name.to_string(),
                    closure,
                    record.evidence.drv.clone(),
                    commit,
                ))
            }
            Named::Commit(commit) => {
                let product = match early(order, bench).await? {
                    Some(product) => product,
                    None => {
                        order
                            .build(self.builder((named, order, bench), dir).await?, bench)
                            .await?
                    }
                };
                let name = format!("{} {}", commit.short, commit.subject);
                Ok(whole(name, product.closure, Some(product.drv), Some(commit.id)))
            }
        }
    }

    /// The closure of a record: from the builder, which roots it, else from the journal of the run that made it, else from
    /// the target.
    async fn kept(
        &self,
        at: Place3<'_, '_>,
        record: &Record,
        toplevel: &StorePath,
        dir: &RunDir,
    ) -> Result<Closure, Failure> {
        let limit = self.settings.timeouts.build;
        let built = match self.builder(at, dir).await {
            Ok(place) => nix::closure(&place, toplevel, limit).await,
            Err(failure) => Err(failure),
        };
        let failure = match built {
            Ok(closure) => return Ok(closure),
            Err(failure) => failure,
        };
        if let Some(closure) = journal::closure_of(self.world.repo, &record.name, toplevel) {
            self.log
                .note(format!("{}: read from the journal of its run", failure.what));
            return Ok(closure);
        }
        let host = self.host(dir).await?;
        nix::closure(&store_of(host), toplevel, limit).await
    }

    async fn derivations(
        &self,
        (old, new): (&Whole, &Whole),
        to: Place3<'_, '_>,
        dir: &RunDir,
    ) -> Option<Unshared> {
        let drv = new.drv.as_ref().or(new.closure.deriver())?;
        let olds: Vec<StorePath> = old.drv.iter().chain(old.closure.deriver()).cloned().collect();
        let place = self.builder(to, dir).await.map_err(|failure| failure.what);
        let of = (self.world.repo, self.target);
        match derivations::read(of, place, &olds, drv, self.settings.timeouts.build).await {
            Ok((unshared, note)) => {
                note.into_iter().for_each(|note| self.log.note(note));
                Some(unshared)
            }
            Err(why) => {
                self.log.note(format!("{why}: told by names alone"));
                None
            }
        }
    }
}

fn whole(name: String, closure: Closure, drv: Option<String>, commit: Option<Oid>) -> Whole {
    let side = Side {
        name,
        toplevel: closure.toplevel.to_string(),
        drv: drv.clone(),
        commit: commit.map(|commit| commit.to_string()),
    };
    Whole {
        side,
        toplevel: closure.toplevel.clone(),
        drv: drv.and_then(|drv| StorePath::new(&drv).ok()),
        commit,
        closure,
    }
}
