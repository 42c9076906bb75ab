//! `store check` and `store repair`: the store of a host against its own database, and against the records.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;

use super::{Asker, World, reach, registered, resolve};
use crate::config::Settings;
use crate::failure::{Exit, Failure, Reason};
use crate::gate::{As, GateLog, Place, copy, store};
use crate::git::Trusted;
use crate::host::supervisor::{self, Plan};
use crate::host::{Facts, Privilege, RunDir, Session};
use crate::nix::{self, Closure, Comparison, Database, Examined, Fault, Keeper, StoreHealth, StorePath};
use crate::record::Target;

/// How long changing the database may take.
const SURGERY: Duration = Duration::from_secs(300);
/// How long reading the databases may take when no file is read.
const LOOK: Duration = Duration::from_secs(180);

/// `store check`'s words.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    pub host: Option<String>,
    /// Read every file, not only its name.
    pub contents: bool,
}

/// `store repair`'s words.
#[derive(Debug, Clone, Default)]
pub struct RepairOptions {
    pub look: StoreOptions,
    /// Nobody is asked before paths are replaced.
    pub yes: bool,
    /// Nobody is asked before the database is changed.
    pub surgery: bool,
}

/// What a check found, or how a repair ended.
#[derive(Debug, Clone, Serialize)]
pub struct StoreReport {
    pub target: String,
    pub whole: bool,
    #[serde(flatten)]
    pub health: StoreHealth,
    /// Paths that were broken and are whole now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repaired: Vec<String>,
    /// Where the database's backup is, on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<String>,
}

/// Compares the target's store with its database; reads only, takes no lock.
///
/// # Errors
/// What keeps it from being looked at. A store that is not whole is an answer.
pub async fn check(
    world: World<'_>,
    target: &Target,
    options: &StoreOptions,
) -> Result<StoreReport, Failure> {
    let desk = Desk::open(world, target, options).await?;
    let health = desk.look().await.map(|(_, health)| health);
    desk.session.close().await;
    let health = health?;
    let next = match health.is_whole() {
        true => Vec::new(),
        false => vec![format!("git nixgate store repair {target}")],
    };
    Ok(StoreReport {
        target: target.to_string(),
        whole: health.is_whole(),
        health,
        repaired: Vec::new(),
        backup: None,
        next,
    })
}

/// Repairs what [`check`] finds: from the host's own caches, from the builder or this machine, and as the last resort by
/// changing the database. Holds the target, so that no run is at work meanwhile.
///
/// # Errors
/// Exit 2: nobody said yes. Exit 6: somebody's run holds the target. Otherwise what kept it from being tried; a store
/// that is still not whole afterwards is an answer.
pub async fn repair(
    world: World<'_>,
    target: &Target,
    options: &RepairOptions,
) -> Result<StoreReport, Failure> {
    let desk = Desk::open(world, target, &options.look).await?;
    let report = desk.repair(options).await;
    desk.session.close().await;
    report
}

/// A target, reached, with what its records say.
pub(super) struct Desk<'a> {
    world: World<'a>,
    pub log: GateLog<'a>,
    target: Target,
    pub settings: Settings,
    pub ledger: Option<Trusted>,
    /// Why the target's records are left out.
    pub unfit: Option<Failure>,
    contents: bool,
    pub session: Session,
    dir: RunDir,
}

impl<'a> Desk<'a> {
    pub async fn open(world: World<'a>, target: &Target, options: &StoreOptions) -> Result<Self, Failure> {
        let settings = reach::settings_now(&world, target, options.host.as_deref())?;
        let mut log = GateLog::new(world.watcher);
        let (ledger, unfit) = match resolve::trusted(world.repo, target, &settings.remote) {
            Ok(ledger) => (ledger, None),
            Err(failure) => {
                let why = failure
                    .why
                    .first()
                    .map_or(String::new(), |why| format!(": {why}"));
                log.warn(format!(
                    "the records of {target} are left out: {}{why}",
                    failure.what
                ));
                (None, Some(failure))
            }
        };
        let endpoint = reach::endpoint(target, &settings, world.asker)?;
        let dir = RunDir::new().map_err(Failure::from)?;
        let session = Session::open(&endpoint, &dir)
            .await
            .map_err(|error| error.failure(target.as_str()))?;
        Ok(Desk {
            world,
            log,
            target: target.clone(),
            settings,
            ledger,
            unfit,
            contents: options.contents,
            session,
            dir,
        })
    }

    /// A closure that is kept, against the records.
    fn compared(&self, keeper: &Keeper, closure: &Closure) -> Comparison {
        match &self.ledger {
            Some(ledger) => registered::compare(self.world.repo, ledger, &keeper.name, closure),
            None => Comparison::Same,
        }
    }

    pub async fn look(&self) -> Result<(Examined, StoreHealth), Failure> {
        let record = self.ledger.as_ref().and_then(|ledger| {
            // A record that cannot be read is `verify`'s business.
            StorePath::new(&ledger.head().evidence.toplevel).ok()
        });
        let deadline = match self.contents {
            true => self.settings.timeouts.copy,
            false => LOOK,
        };
        let root = As(Privilege::RootIfPossible, &self.session);
        let target = self.target.as_str();
        let examined = nix::examine(&root, target, record.as_ref(), self.contents, deadline).await?;
        let health = examined.judge(|keeper, closure| self.compared(keeper, closure));
        Ok((examined, health))
    }

    async fn repair(&self, options: &RepairOptions) -> Result<StoreReport, Failure> {
        let target = &self.target;
        let (examined, before) = self.look().await?;
        // Whole, but not as recorded: what is there is a build like any other, and nothing of it is broken.
        if before.broken.is_empty() && !matches!(before.database, Database::Violations(_)) {
            return Ok(self.report(before, Vec::new(), None));
        }
        for broken in &before.broken {
            self.log.note(format!(
                "{}: {}, needed by {}",
                broken.path,
                broken.fault.words(),
                broken.needed_by.join(", ")
            ));
        }
        let question = format!(
            "replace {} paths in the store of {target}? [y/N]",
            before.broken.len()
        );
        self.agreed(options.yes, question, "--yes").await?;
        let facts = reach::read_facts(&self.session, target).await?;
        let plan = self.plan(&facts, "store repair")?;
        let held = supervisor::hold(&self.session, &plan)
            .await
            .map_err(|error| error.failure(target.as_str()))?;
        let work = self.mend(options, &plan.run, &examined, &before);
        let mended = copy::keeping(&held, &self.session, work).await;
        // Silence would free it too.
        if held.end(&mut &self.session).await.is_err() {
            let _ = supervisor::release_leftover(&mut &self.session, &held.run).await;
        }
        let backup = mended?;
        let (_, after) = self.look().await?;
        let still: Vec<&StorePath> = after.broken.iter().map(|broken| &broken.path).collect();
        let repaired = before
            .broken
            .iter()
            .filter(|broken| !still.contains(&&broken.path))
            .map(|broken| broken.path.to_string())
            .collect();
        Ok(self.report(after, repaired, backup))
    }

    /// The steps of S3.5, each for what the one before left; where the backup of the database is, if it was changed.
    async fn mend(
        &self,
        options: &RepairOptions,
        run: &str,
        examined: &Examined,
        before: &StoreHealth,
    ) -> Result<Option<String>, Failure> {
        let of = |faults: &[Fault]| -> Vec<StorePath> {
            let broken = before.broken.iter().filter(|b| faults.contains(&b.fault));
            broken.map(|b| b.path.clone()).collect()
        };
        let mut left = of(&[Fault::Gone, Fault::Changed]);
        let mut replaced: Vec<StorePath> = Vec::new();
        let unregistered = of(&[Fault::Unregistered]);
        let root = As(Privilege::Root, &self.session);
        if !left.is_empty() {
            self.log
                .note("asking the host's own caches (nix-store --repair-path)");
            let had = left.len();
            match nix::repair_paths(&root, &left, None, self.settings.timeouts.copy).await {
                Ok((failed, words)) => {
                    left = self.unlike(examined, left, &failed).await?;
                    replaced.extend(left.iter().filter(|path| !failed.contains(path)).cloned());
                    let words = words.first().filter(|_| !left.is_empty());
                    self.log.note(format!(
                        "they gave {} of {had} paths{}",
                        had - left.len(),
                        words.map_or(String::new(), |words| format!(": {words}"))
                    ));
                }
                Err(failure) => self.log.note(format!("they cannot help: {failure}")),
            }
        }
        let builder = self.builder().await;
        let sources = || {
            let host = builder.as_ref().map(Place::Host);
            host.into_iter().chain([Place::Here])
        };
        let mut elsewhere: Vec<StorePath> = Vec::new();
        for source in sources() {
            if left.is_empty() && unregistered.is_empty() {
                break;
            }
            let name = source.name().to_owned();
            match store::repair_from(source, &self.session, &self.settings, examined, &left).await {
                Ok(given) => {
                    self.log.note(format!(
                        "{name} gave {} of {} paths",
                        given.repaired.len(),
                        left.len()
                    ));
                    left.retain(|path| !given.repaired.contains(path));
                    elsewhere.extend(given.other_builds);
                }
                Err(failure) => self.log.note(format!("{name} cannot help: {failure}")),
            }
            if !unregistered.is_empty() {
                let sent = store::send_missing(source, &self.session, &self.settings, &unregistered).await;
                if let Err(failure) = sent {
                    self.log.note(format!("{name} cannot help: {failure}"));
                }
            }
        }
        // What nobody has, forgetting would not bring back; it would only hide it. And what a cache has made whole is whole.
        elsewhere.retain(|path| left.contains(path) && !replaced.contains(path));
        elsewhere.sort();
        elsewhere.dedup();
        let rows = match before.database {
            Database::Violations(rows) => rows,
            _ => 0,
        };
        let result = if elsewhere.is_empty() && rows == 0 {
            Ok(None)
        } else {
            self.operate(options, run, &elsewhere, rows, sources).await
        };
        if let Some(session) = builder {
            session.close().await;
        }
        result
    }

    /// Of `paths`, those that failed, and those that a cache replaced by another build.
    async fn unlike(
        &self,
        examined: &Examined,
        paths: Vec<StorePath>,
        failed: &[StorePath],
    ) -> Result<Vec<StorePath>, Failure> {
        let now = nix::have(&As(Privilege::Root, &self.session), &paths, LOOK).await?;
        let as_before = |path: &StorePath| {
            now.iter().any(|entry| {
                entry.path == *path
                    && examined
                        .entries
                        .get(path)
                        .is_some_and(|registered| registered.nar_hash == entry.nar_hash)
            })
        };
        Ok(paths
            .into_iter()
            .filter(|path| failed.contains(path) || !as_before(path))
            .collect())
    }

    /// The last resort: the database forgets `paths` and every row that refers to nothing, they are copied again, and
    /// the references to them are put back. Where the backup is; `None`: nobody said yes.
    async fn operate<'s, I: Iterator<Item = Place<'s>>>(
        &self,
        options: &RepairOptions,
        run: &str,
        paths: &[StorePath],
        rows: u64,
        sources: impl Fn() -> I,
    ) -> Result<Option<String>, Failure> {
        let target = &self.target;
        let mut what = Vec::new();
        if !paths.is_empty() {
            what.push(format!(
                "{} paths are to be had only as other builds: their closures will no longer be the recorded ones",
                paths.len()
            ));
        }
        if rows > 0 {
            what.push(format!("rows of the database that refer to nothing: {rows}"));
        }
        let what = what.join("; ");
        let question = format!(
            "{what}\nchange {target}'s Nix database by hand? Its daemon is stopped meanwhile, and the database is \
             backed up first [y/N]"
        );
        if self
            .agreed(options.surgery, question, "--yes --surgery")
            .await
            .is_err()
        {
            self.log.note(format!(
                "{what}; the database stays as it is: nobody said yes (git nixgate store repair {target} --surgery)"
            ));
            return Ok(None);
        }
        let root = As(Privilege::Root, &self.session);
        let folder = format!("/var/lib/nixgate/{target}");
        let name = format!("nix-db-{run}.sqlite");
        let backup = format!("{folder}/{name}");
        let forget = nix::forget_sql(paths);
        let unit = format!("nixgate-{run}-forget");
        nix::surgery(&root, &unit, &folder, Some(&name), &forget, SURGERY).await?;
        self.log
            .note(format!("the database is backed up at {backup}, on {target}"));
        if paths.is_empty() {
            return Ok(Some(backup));
        }
        let mut away = paths.to_vec();
        let mut trouble = None;
        for source in sources() {
            match store::send_missing(source, &self.session, &self.settings, &away).await {
                Ok(sent) => away.retain(|path| !sent.contains(path)),
                Err(failure) => trouble = Some(failure),
            }
        }
        if let Some(path) = away.first() {
            let what = format!("{target}: {path} is forgotten and could not be copied again");
            trouble.get_or_insert(Failure::failed(Reason::Copy, what));
        } else {
            trouble = None;
        }
        let unit = format!("nixgate-{run}-rejoin");
        let rejoin = nix::rejoin_sql(paths, &backup);
        let joined = nix::surgery(&root, &unit, &folder, None, &rejoin, SURGERY).await;
        match trouble.or(joined.err()) {
            None => Ok(Some(backup)),
            Some(failure) => Err(failure
                .exit(Exit::NeedsPerson)
                .why(format!("the database as it was: {backup}, on {target}"))
                .next(format!("git nixgate store repair {target}"))),
        }
    }

    /// The builder, where it can be reached.
    pub async fn builder(&self) -> Option<Session> {
        let host = self.settings.builder.host.as_str();
        if host.is_empty() || host == "target" {
            return None;
        }
        match Session::open(&reach::builder(&self.settings), &self.dir).await {
            Ok(session) => Some(session),
            Err(error) => {
                self.log
                    .note(format!("the builder cannot help: {}", error.failure(host).what));
                None
            }
        }
    }

    /// Asks, unless the command line has answered; the hold is renewed meanwhile by whoever waits.
    async fn agreed(&self, already: bool, question: String, flag: &str) -> Result<(), Failure> {
        if already {
            return Ok(());
        }
        let asker: Arc<dyn Asker + Send + Sync> = Arc::clone(self.world.asker);
        let answer = tokio::task::spawn_blocking(move || asker.ask(&question)).await;
        match answer.ok().flatten().as_deref() {
            Some("y" | "Y" | "yes") => Ok(()),
            Some(_) => Err(Failure::usage("declined: nothing more was done")),
            None => Err(Failure::usage(
                "this needs a yes, and nobody is here to be asked: nothing more was done",
            )
            .next(format!("git nixgate store repair {} … {flag}", self.target))),
        }
    }

    /// A hold without a switch: candidate and previous system are what runs. `why` is what others are told of it.
    pub fn plan(&self, facts: &Facts, why: &str) -> Result<Plan, Failure> {
        let running = facts.here.running.clone().ok_or_else(|| {
            Failure::failed(
                Reason::Check,
                format!("{}: there is no /run/current-system to hold on to", self.target),
            )
        })?;
        Ok(Plan {
            run: super::run_id(OffsetDateTime::now_utc()),
            target: self.target.to_string(),
            verb: why.to_owned(),
            commit: why.to_owned(),
            who: self.world.repo.committer()?.to_string(),
            candidate: running,
            seen: facts.here.clone(),
            failed: facts.failed_units.clone(),
            lease: self.settings.timeouts.confirm,
            activate: self.settings.timeouts.activate,
            reboot_on_failed_revert: false,
            accept_drift: true,
            accept_loader: false,
            specialisation: None,
            container: facts.container.clone(),
            never_reboot: true,
        })
    }

    fn report(&self, health: StoreHealth, repaired: Vec<String>, backup: Option<String>) -> StoreReport {
        let target = &self.target;
        let mut next = Vec::new();
        if !health.broken.is_empty() {
            next.push(format!(
                "git nixgate check {target}    # builds what the builder has lost; then: git nixgate store repair {target}"
            ));
        }
        if matches!(health.database, Database::Violations(_)) {
            next.push(format!(
                "git nixgate store repair {target} --yes --surgery    # changes the host's Nix database, after a backup"
            ));
        }
        if !health.unlike.is_empty() && health.broken.is_empty() {
            next.push(format!(
                "git nixgate release {target} --again    # proves what runs as it is now, and records it"
            ));
        }
        if !repaired.is_empty() || backup.is_some() {
            let record = self.ledger.as_ref().map(|ledger| ledger.on_host().to_string());
            if let Some(record) = record {
                next.push(format!(
                    "git nixgate deploy {target} --to {record}    # the known-good system again"
                ));
            }
            next.push(
                "then secrets and tokens: what a service reads at its start may have been gone".to_owned(),
            );
            next.push(format!("git nixgate health {target}"));
            next.push(format!("garbage collection on {target} only after that"));
        }
        StoreReport {
            target: target.to_string(),
            whole: health.is_whole(),
            health,
            repaired,
            backup,
            next,
        }
    }
}
