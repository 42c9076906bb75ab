//! `check` and `release`.

mod compared;

use std::pin::pin;
use std::time::Instant;

use self::compared::{Compared, compared, recorded_drv};
use super::carried::{self, Knowingly};
use super::deliver::{Delivery, Options, Outcome, deliver};
use super::journal::Verb;
use super::product::{self, Bench, Order};
use super::refusals::{away, marking_possible, pending_broken, refuse_unfixed};
use super::supersede::Newer;
use super::{Run, World, hooks, reach, resolve};
use crate::check::CheckSet;
use crate::config::{Config, Settings};
use crate::event::Gate;
use crate::failure::{Exit, Failure, Reason};
use crate::gate::known_good::{self, RemoteSide};
use crate::gate::preflight::{self, Fit, Rules};
use crate::gate::{GateLog, Place, build, store_of};
use crate::git::{Commit, Released, Repo, Trusted};
use crate::host::{Facts, RunDir};
use crate::nix::{self, Closure, StorePath};
use crate::record::{Kind, Ledger, Target};

/// `check`'s words.
#[derive(Debug, Clone, Default)]
pub struct CheckOptions {
    pub rev: Option<String>,
    pub host: Option<String>,
    pub accept_drift: bool,
    pub accept_loader: bool,
    pub accept_input: Vec<String>,
    /// Go on although no cause explains some of the changes.
    pub accept_unexplained: bool,
    /// Prove the causes: evaluate with each moved input held back.
    pub explain: bool,
    /// The host may carry another target's record.
    pub take_over: bool,
    /// `check`: evaluate impurely where the commit's file wants it, although it was not released.
    pub impure: bool,
}

/// `release`'s words.
#[derive(Debug, Clone, Default)]
pub struct ReleaseOptions {
    pub check: CheckOptions,
    pub again: bool,
    pub offline: bool,
    pub fixes: Vec<String>,
    pub supersede: bool,
    pub boot: bool,
    pub confirm: bool,
    pub skip_validation: bool,
    /// Collect garbage on the target where the closure does not fit.
    pub gc: bool,
    /// Older releases that have not begun to switch give way.
    pub cancel_older: bool,
}

/// Every gate up to dry-activate; nothing is changed, nothing is recorded.
pub async fn check(world: World<'_>, target: &Target, options: CheckOptions) -> Result<Outcome, Failure> {
    let options = ReleaseOptions {
        check: options,
        offline: true,
        ..ReleaseOptions::default()
    };
    go(world, target, &options, Verb::Check).await
}

/// Every gate, then the record.
pub async fn release(world: World<'_>, target: &Target, options: ReleaseOptions) -> Result<Outcome, Failure> {
    go(world, target, &options, Verb::Release).await
}

/// What step 0 found.
struct Resolved {
    commit: Commit,
    config: Config,
    settings: Settings,
    /// It is evaluated impurely.
    impure: bool,
}

async fn go(
    world: World<'_>,
    target: &Target,
    options: &ReleaseOptions,
    verb: Verb,
) -> Result<Outcome, Failure> {
    let repo = world.repo;
    let log = GateLog::new(world.watcher);
    if verb == Verb::Release {
        hooks::before(repo, &log, &Released::by_hand(repo.resolve("HEAD")?)).await?;
    }
    let resolved = resolved(repo, &log, target, &options.check, verb)?;
    if options.skip_validation {
        emergency(&world, target)?;
    }
    let by = repo.committer()?.to_string();
    let mut run = Run::new(world, target, verb, &resolved.commit.id.to_string(), by);
    run.evidence.commit = resolved.commit.id.to_string();
    run.evidence.tree = resolved.commit.tree.to_string();
    run.evidence.impure = resolved.impure;
    let outcome = match drive(&mut run, &resolved, options, verb).await {
        Ok(outcome) => outcome,
        Err(failure) if failure.exit == Exit::Unpublished && run.state.ending.is_some() => {
            return Err(failure);
        }
        Err(failure) => return Err(run.failed(failure)),
    };
    if verb == Verb::Release && outcome.record.is_some() {
        hooks::after(repo, &run.log, &resolved.config, &outcome).await;
    }
    Ok(outcome)
}

fn resolved(
    repo: &Repo,
    log: &GateLog<'_>,
    target: &Target,
    options: &CheckOptions,
    verb: Verb,
) -> Result<Resolved, Failure> {
    let commit = repo.resolve(options.rev.as_deref().unwrap_or("HEAD"))?;
    let config = resolve::at_commit(repo, &commit)?;
    let mut settings = resolve::settings_of(&config, target)?;
    reach::reach_at(&mut settings, options.host.as_deref())?;
    build::taken_by_nix(repo)?;
    resolve::refuse_unclean(repo, log, options.rev.is_some())?;
    let impure = match verb {
        Verb::Check => {
            let ledger = resolve::own_trusted(repo, target).ok().flatten();
            let again = format!("git nixgate check {target}");
            resolve::is_impure(&settings, ledger.as_ref(), &commit, (options.impure, &again))?
        }
        _ => settings.impure,
    };
    Ok(Resolved {
        commit,
        config,
        settings,
        impure,
    })
}

/// An emergency is confirmed by typing the target's name.
fn emergency(world: &World<'_>, target: &Target) -> Result<(), Failure> {
    let question =
        format!("{target} will be switched without validation and not recorded. Type its name to go on:");
    match world.asker.ask(&question) {
        Some(text) if text == target.as_str() => Ok(()),
        Some(_) => Err(Failure::usage("that is not the target's name: nothing was done")),
        None => Err(Failure::usage(
            "--skip-validation needs a terminal: the target's name must be typed",
        )),
    }
}

async fn drive(
    run: &mut Run<'_>,
    resolved: &Resolved,
    options: &ReleaseOptions,
    verb: Verb,
) -> Result<Outcome, Failure> {
    let repo = run.world.repo;
    let target = run.target.clone();
    let (settings, commit) = (&resolved.settings, &resolved.commit);
    let endpoint = reach::endpoint(&target, settings, run.world.asker)?;
    let dir = RunDir::new().map_err(Failure::from)?;
    repo.share_connections(dir.path());
    let id = run.id().to_owned();
    let order = Order {
        repo,
        commit,
        settings,
        run: &id,
        target: &target,
        dir: &dir,
        impure: resolved.impure,
        before: recorded_drv(repo, &target),
    };
    let bench = Bench::default();

    // The host, the remote and the builder are at work side by side; the verdicts come in their order. Building leaves
    // the target alone, and a preflight that fails ends it.
    run.log.begin(Gate::Preflight);
    let asked = Instant::now();
    let push = async {
        match verb {
            Verb::Release if !settings.remote.is_empty() && repo.has_remotes()? => {
                repo.push_probe(&settings.remote, &target, &commit.id).await
            }
            _ => Ok(()),
        }
    };
    let wanted = preflight::Asked {
        services: &settings.preflight.services,
        checks: &CheckSet::NONE,
        trust: copies(settings),
    };
    let records = async {
        bench.begun().await;
        // One after the other over one connection: a second one would take its time from the build.
        let remote = resolve::remote_side(repo, &settings.remote, &target).await;
        let push = match &remote {
            Ok(RemoteSide::Ready { .. }) => push.await,
            _ => Ok(()),
        };
        (remote, push)
    };
    let newer = Newer {
        world: run.world,
        target: &target,
        commit,
    };
    if options.cancel_older {
        newer.here(run, settings).await?;
    }
    let asking = async {
        let ((remote, push), mut reading) =
            tokio::join!(records, preflight::read(&endpoint, &dir, wanted, bench.begun()));
        if let Some(reading) = reading.as_mut().ok().filter(|reading| reading.wants_signatures())
            && let Ok((builder, signs)) = order.signs(&bench).await
        {
            reading.set_signer(&builder, signs);
        }
        (remote, reading, push)
    };
    // A build that is not wanted any more ends with this block.
    let stop = run.world.stop;
    let begun = async {
        let mut building = pin!(product::early(&order, &bench));
        let mut early = None;
        let answers = {
            let mut asking = pin!(asking);
            loop {
                tokio::select! {
                    biased;
                    product = &mut building, if early.is_none() => early = Some(product),
                    answers = &mut asking => break answers,
                }
            }
        };
        let (side, reading, push) = answers;
        let reading = match (options.cancel_older, reading) {
            (true, Ok(reading)) => newer.at(reading, &endpoint, wanted).await,
            (_, reading) => reading,
        };
        match judged(run, resolved, options, verb, (side, reading, push)).await {
            Err(failure) => Err(failure),
            Ok(mut ready) => {
                run.log.begin_since(Gate::Build, asked);
                let machine = ready.fit.facts.machine.clone();
                let product = match early {
                    Some(product) => product,
                    // While it builds, whether this builder can, and what gate 3 wants to know of the target.
                    None => {
                        let building = async {
                            tokio::select! {
                                Err(failure) = order.suited(&bench, &machine) => Err(failure),
                                product = &mut building => product,
                            }
                        };
                        let (product, running) = tokio::join!(building, what_runs(&ready.fit, settings));
                        ready.running = running;
                        product
                    }
                };
                // Nix may have stumbled over it first; this says what it means, and what to do.
                let product = match product {
                    Err(failure) if bench.is_ready() => {
                        Err(order.suited(&bench, &machine).await.err().unwrap_or(failure))
                    }
                    product => product,
                };
                Ok((ready, product))
            }
        }
    };
    let begun = stop.unless(target.as_str(), begun).await;
    let (mut ready, product) = match begun {
        Ok(begun) => begun,
        Err(failure) => {
            order.abandon(&bench).await;
            order.clear(bench).await;
            return Err(failure);
        }
    };
    let product = match product {
        Ok(None) => {
            let place = Place::Host(&ready.fit.session);
            let product = stop.unless(target.as_str(), order.build(place, &bench)).await;
            if product.is_err() {
                build::abandon(place, &order.link()).await;
            }
            product
        }
        Ok(Some(product)) => Ok(product),
        Err(failure) => Err(failure),
    };
    let on_target = order.on_target();
    // Nothing is held while it builds: a host that rebooted meanwhile, or a link that came back, is reached anew.
    let product = match product {
        Ok(product) => match ready.fit.session.revive().await {
            Ok(()) => Ok(product),
            Err(error) => Err(error.failure(target.as_str())),
        },
        failed => failed,
    };
    let compared = match product {
        Ok(product) => {
            let running = ready.running.take();
            let place = order.place(&bench, &ready.fit.session);
            let work = (&order, place, &bench);
            compared(run, (resolved, options, verb), (&ready, running), work, product).await
        }
        Err(failure) => Err(failure),
    };
    let (toplevel, closure) = match compared {
        Ok(Compared::New(toplevel, closure)) => (toplevel, closure),
        Ok(Compared::Same(_)) | Err(_) => {
            if on_target {
                build::tidy(
                    Place::Host(&ready.fit.session),
                    target.as_str(),
                    &id,
                    &order.link(),
                )
                .await;
            }
            tokio::join!(order.clear(bench), ready.fit.session.close());
            return match compared {
                Ok(Compared::Same(outcome)) => Ok(outcome),
                Err(failure) => Err(failure),
                Ok(Compared::New(..)) => Err(Failure::failed(Reason::Internal, "a closure went astray")),
            };
        }
    };
    let released = Released::by_hand(commit.clone());
    let checked = resolve::checks_of(repo, &mut run.log, &released, &target, settings)?;
    let place = order.keeper(&bench);
    let delivery = Delivery {
        kind: Kind::Release,
        settings,
        checked: &checked,
        endpoint: &endpoint,
        commit,
        toplevel,
        closure: &closure,
        supply: place,
        builder: place,
        workshop: Some((&order, &bench)),
        built_on_target: on_target.then(|| order.link()),
        restores: None,
        recorded: None,
        withdraws: Vec::new(),
        remote: ready.remote,
        home: None,
        options: Options {
            accept_drift: options.check.accept_drift,
            accept_loader: options.check.accept_loader,
            rehearse_only: verb == Verb::Check,
            confirm: options.confirm,
            boot: options.boot,
            skip_validation: options.skip_validation,
            sick: false,
            keep: false,
            gc: options.gc,
            cancel_older: options.cancel_older,
        },
    };
    let outcome = deliver(run, ready.fit, &delivery).await;
    drop(delivery);
    order.clear(bench).await;
    outcome
}

/// What a target that may be released gives to the rest of the run.
struct Ready {
    fit: Fit,
    remote: RemoteSide,
    ledger: Option<Trusted>,
    /// The closure that runs, where it was read already.
    running: Option<Closure>,
}

/// The closure that runs on the target. One that cannot be read is asked for again, by gate 3, which says why.
async fn what_runs(fit: &Fit, settings: &Settings) -> Option<Closure> {
    let running = StorePath::new(fit.facts.here.running.as_deref()?).ok()?;
    nix::closure(&store_of(&fit.session), &running, settings.timeouts.build)
        .await
        .ok()
}

/// Step 0's rules and gate 1, over what was asked.
async fn judged(
    run: &mut Run<'_>,
    resolved: &Resolved,
    options: &ReleaseOptions,
    verb: Verb,
    (remote, reading, push): (
        Result<RemoteSide, Failure>,
        Result<preflight::Reading, Failure>,
        Result<(), Failure>,
    ),
) -> Result<Ready, Failure> {
    let (repo, target) = (run.world.repo, run.target.clone());
    let (settings, commit) = (&resolved.settings, &resolved.commit);
    let remote = remote?;
    if let RemoteSide::Away { name, failure } = &remote {
        away(run, name, failure, options, verb)?;
    }
    let trusted = resolve::own_trusted(repo, &target)?;
    let ledger = trusted.as_deref();
    if verb == Verb::Release {
        pending_broken(run)?;
        known_good::name_after(ledger, &target, &commit.id, None)?;
        super::trust::refuse_unsigned(repo, settings, ledger)?;
    }
    resolve::refuse_rewind(repo, ledger, commit, &target)?;
    if verb == Verb::Release {
        refuse_unfixed(run, ledger, commit, &options.fixes)?;
    }
    let rules = Rules {
        limits: &settings.preflight,
        advisory: false,
        accept_drift: options.check.accept_drift,
        copies: copies(settings),
        horizon: horizon(settings),
        specialisation: &settings.specialisation,
        boot: options.boot,
        gc: options.gc,
    };
    let fit = reading?.judged(&mut run.log, target.as_str(), &rules).await?;
    if verb == Verb::Release {
        marking_possible(repo, &target, &remote, push)?;
    }
    let host = carried::Host {
        repo,
        target: &target,
        ledger,
        facts: &fit.facts,
    };
    let answers = Knowingly {
        take_over: options.check.take_over,
        supersede: options.supersede,
    };
    host.judge(answers, &mut run.log)?;
    drift(run, ledger, &fit.facts);
    run.log.pass("");
    Ok(Ready {
        fit,
        remote,
        ledger: trusted,
        running: None,
    })
}

/// The closure comes from elsewhere, as the login user.
fn copies(settings: &Settings) -> bool {
    settings.builder.host != "target" && !settings.is_local()
}

/// How long a run may be at work on the host, in seconds.
pub(super) fn horizon(settings: &Settings) -> u64 {
    let t = &settings.timeouts;
    (t.activate + t.validate + t.soak + t.confirm).as_secs()
}

/// A host that does not run what its record says.
fn drift(run: &mut Run<'_>, ledger: Option<&Ledger>, facts: &Facts) {
    let Some(head) = ledger.map(Ledger::head) else {
        return;
    };
    let running = facts.here.running.as_deref().unwrap_or("nothing");
    if !facts.runs(&head.evidence.toplevel, head.evidence.specialisation.as_deref()) {
        let text = format!("runs {running}, recorded is {}", head.evidence.toplevel);
        run.log.note(format!("{} has drifted: it {text}", run.target));
        run.evidence.drift = Some(text);
    }
}
