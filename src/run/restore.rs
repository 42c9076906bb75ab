//! `rollback` and `deploy`: a recorded closure goes back onto its host. No evaluation and no build, unless `--rebuild`
//! asks for it.

use super::deliver::{Delivery, Options, Outcome, deliver};
use super::early::{Host, guess, read};
use super::journal::Verb;
use super::rebuild::{Rebuilt, rebuild};
use super::rehearse::Home;
use super::{Run, World, reach, resolve};
use crate::config::Settings;
use crate::event::Gate;
use crate::failure::{Exit, Failure, Reason};
use crate::gate::diff::{self, Difference};
use crate::gate::known_good::RemoteSide;
use crate::gate::preflight::{self, Fit, Rules};
use crate::gate::{Place, store_of};
use crate::host::{Endpoint, Facts, RunDir, Session};
use crate::nix::{self, Closure, StorePath};
use crate::record::{Choice, Evidence, Kind, Ledger, OnHost, Record, Target};

/// `rollback`'s and `deploy`'s words.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// The record to go to; `rollback` without one takes the previous known-good release.
    pub to: Option<String>,
    pub host: Option<String>,
    pub keep: bool,
    pub accept_drift: bool,
    pub supersede: bool,
    /// Build the closure again, at its record's commit, where it is nowhere to be had.
    pub rebuild: bool,
}

/// How far a rollback goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Real,
    /// Up to dry-activate: proves that it would work (root there, closure intact), and changes nothing.
    Check,
    /// There, validated, and back, validated; nothing is recorded.
    Rehearse,
}

/// Back to the previous known-good closure, or to a named one.
pub async fn rollback(
    world: World<'_>,
    target: &Target,
    options: RestoreOptions,
    mode: Mode,
) -> Result<Outcome, Failure> {
    go(world, target, &options, Verb::Rollback, mode).await
}

/// A recorded closure: a withdrawn release, a reinstalled host, drift undone.
pub async fn deploy(world: World<'_>, target: &Target, options: RestoreOptions) -> Result<Outcome, Failure> {
    go(world, target, &options, Verb::Deploy, Mode::Real).await
}

async fn go(
    world: World<'_>,
    target: &Target,
    options: &RestoreOptions,
    verb: Verb,
    mode: Mode,
) -> Result<Outcome, Failure> {
    let repo = world.repo;
    let settings = reach::settings_now(&world, target, options.host.as_deref())?;
    let endpoint = reach::endpoint(target, &settings, world.asker)?;
    let dir = RunDir::new().map_err(Failure::from)?;
    repo.share_connections(dir.path());
    // The host is read while the remote is asked, by the records that are here. Where the remote's say something else,
    // it is read again.
    let early = resolve::own_ledger(repo, target)?.and_then(|ledger| guess(&ledger, options, verb).ok());
    let reading = async {
        let (remote, host) = tokio::join!(resolve::remote_side(repo, &settings.remote, target), async {
            let reached = preflight::reach(&endpoint, &dir).await;
            match early {
                None => Host::Reached(Box::new(reached)),
                Some(guess) => Host::Read {
                    of: guess.record,
                    result: Box::new(read(world, target, (reached, &endpoint), &settings, &guess).await),
                },
            }
        });
        Ok((remote?, host))
    };
    let (remote, host) = world.stop.unless(target.as_str(), reading).await?;
    let Some(ledger) = chain(world, target, &settings)? else {
        return Err(
            Failure::refused(format!("{target} has no record: there is nothing to go back to"))
                .next(format!("git nixgate release {target}")),
        );
    };
    let by = repo.committer()?.to_string();
    let journal = if mode == Mode::Check { Verb::Check } else { verb };
    let mut run = Run::new(world, target, journal, &ledger.head().commit.to_string(), by);
    run.state.verb = verb;
    run.state.rehearsal = mode == Mode::Rehearse;
    let host = (host, &endpoint, &dir);
    let result = drive(&mut run, &settings, &ledger, remote, host, options, verb, mode).await;
    match result {
        Ok(outcome) => Ok(outcome),
        Err(failure) if failure.exit == Exit::Unpublished && run.state.ending.is_some() => Err(failure),
        Err(failure) => Err(run.failed(failure)),
    }
}

/// The records, also in a clone that never heard of ledgers: what it reads there becomes its own.
fn chain(world: World<'_>, target: &Target, settings: &Settings) -> Result<Option<Ledger>, Failure> {
    let repo = world.repo;
    if let Some(ledger) = resolve::own_ledger(repo, target)? {
        return Ok(Some(ledger));
    }
    let Some(ledger) = resolve::ledger(repo, target, &settings.remote)? else {
        return Ok(None);
    };
    let head = ledger.head();
    repo.commit_local(target, &head.name, &head.oid, None, None, false)?;
    Ok(Some(ledger))
}

#[allow(clippy::too_many_arguments)]
async fn drive(
    run: &mut Run<'_>,
    settings: &Settings,
    ledger: &Ledger,
    remote: RemoteSide,
    (host, endpoint, dir): (Host, &Endpoint, &RunDir),
    options: &RestoreOptions,
    verb: Verb,
    mode: Mode,
) -> Result<Outcome, Failure> {
    let (repo, target) = (run.world.repo, run.target.clone());
    if let RemoteSide::Away { name, .. } = &remote {
        run.log.warn(format!(
            "{name} cannot be reached: going by the records that are here"
        ));
    }
    // What is asked for must make sense before the host is asked anything; without `--to` the host has a say in it.
    let asked = match (verb, &options.to) {
        (Verb::Deploy, Some(to)) => Some(ledger.deploy_choice(to)?),
        (_, Some(to)) => Some(ledger.rollback_choice(Some(to))?),
        (_, None) => None,
    };
    run.log.begin(Gate::Preflight);
    let guess = guess(ledger, options, verb)?;
    let commit = repo.commit(&guess.commit)?;
    let checked =
        resolve::checks_of(repo, &mut run.log, &commit, &target)?.unwrap_or_else(|| settings.clone());
    let (reading, known) = match host {
        Host::Read { of, result } if of == guess.record => (*result)?,
        Host::Read { result, .. } => {
            let reached = (*result)?.0.reached();
            read(run.world, &target, (reached, endpoint), settings, &guess).await?
        }
        Host::Reached(reached) => read(run.world, &target, (*reached, endpoint), settings, &guess).await?,
    };
    let (known, running) = known.unzip();
    let rules = Rules {
        limits: &settings.preflight,
        advisory: true,
        // A host that was switched by hand is what a rollback is there for.
        accept_drift: options.accept_drift || verb == Verb::Rollback,
        copies: false,
        horizon: super::release::horizon(settings),
        specialisation: &settings.specialisation,
        gc: false,
    };
    let fit = reading.judged(&mut run.log, target.as_str(), &rules).await?;
    if mode == Mode::Real {
        super::trust::refuse_unsigned(repo, settings, Some(ledger))?;
        repo.try_sign()?;
    }
    let carried = fit.facts.record_base64.as_deref();
    resolve::refuse_unknown_record(&target, Some(ledger), carried, options.supersede, &mut run.log)?;
    let choice = match asked {
        Some(choice) => choice,
        None => chosen(run, ledger, &fit.facts)?,
    };
    super::trust::refuse_untrusted(repo, ledger, choice.source)?;
    if let Some(text) = drifted(ledger, &fit.facts) {
        run.evidence.drift = Some(text);
    }
    // The commit that is restored may be another than was guessed.
    let commit = repo.commit(&choice.source.commit)?;
    let checked = match choice.source.oid == guess.record {
        true => checked,
        false => {
            resolve::checks_of(repo, &mut run.log, &commit, &target)?.unwrap_or_else(|| settings.clone())
        }
    };
    let files = resolve::files_of(repo, &commit.id, &checked.checks)?;
    run.state.commit = commit.id.to_string();
    run.log.pass(format!("to {}", choice.restores));
    if let Some(outcome) = already(run, ledger, &choice, &fit.facts, verb, mode) {
        fit.session.close().await;
        return Ok(outcome);
    }

    let home = match mode {
        Mode::Rehearse => {
            let head = repo.commit(&ledger.head().commit)?;
            let checked = resolve::checks_of(repo, &mut run.log, &head, &target)?;
            let checked = checked.unwrap_or_else(|| settings.clone());
            let files = resolve::files_of(repo, &head.id, &checked.checks)?;
            Some(Home { checked, files })
        }
        Mode::Real | Mode::Check => None,
    };

    if !options.rebuild {
        run.log
            .skip(Gate::Build, "a recorded closure: no evaluation, no build");
        run.log.begin(Gate::Diff);
    }
    let (toplevel, closure, supply) = match found(run, &choice, &fit, settings, dir, mode, known).await? {
        Found::There(toplevel, closure, supply) => {
            if options.rebuild {
                run.log
                    .skip(Gate::Build, "the recorded closure is there: nothing is built");
                run.log.begin(Gate::Diff);
            }
            (toplevel, closure, supply)
        }
        Found::Nowhere(failure) if !options.rebuild => return Err(failure),
        Found::Nowhere(failure) => {
            run.log.begin(Gate::Build);
            run.log.note(failure.to_string());
            let (toplevel, rebuilt) = rebuild(run, &choice, &fit, settings, (repo, dir)).await?;
            let closure = rebuilt.closure.clone();
            run.log.pass(toplevel.to_string());
            run.log.begin(Gate::Diff);
            (toplevel, closure, Some(Supply::Built(Box::new(rebuilt))))
        }
    };
    evidence(run, &choice, &closure, &commit);
    let detail = compared(run, &fit, running, &closure, settings).await;
    run.log.pass(detail);

    let delivery = Delivery {
        kind: if verb == Verb::Deploy {
            Kind::Deploy
        } else {
            Kind::Rollback
        },
        settings,
        checked: &checked,
        files: &files,
        endpoint,
        commit: &commit,
        toplevel,
        closure: &closure,
        supply: supply.as_ref().and_then(Supply::place),
        builder: match &supply {
            Some(Supply::Built(rebuilt)) => rebuilt.place(),
            _ => None,
        },
        workshop: None,
        built_on_target: supply.as_ref().and_then(Supply::link_on_target),
        restores: Some(choice.restores.clone()),
        withdraws: choice.withdraws.clone(),
        remote,
        home,
        options: Options {
            accept_drift: true,
            rehearse_only: mode == Mode::Check,
            sick: true,
            keep: options.keep,
            ..Options::default()
        },
    };
    let outcome = deliver(run, fit, &delivery).await;
    drop(delivery);
    match supply {
        Some(Supply::Host(session)) => session.close().await,
        Some(Supply::Built(rebuilt)) => {
            rebuilt.close().await;
        }
        Some(Supply::Here) | None => {}
    }
    outcome
}

/// Without `--to`: back to the record if somebody switched the host by hand, else to the release before.
fn chosen<'a>(run: &mut Run<'_>, ledger: &'a Ledger, facts: &Facts) -> Result<Choice<'a>, Failure> {
    match drifted(ledger, facts) {
        Some(text) => {
            run.log.note(format!(
                "{} {text}: going back to its current record; nothing is withdrawn",
                run.target
            ));
            Ok(ledger.return_choice())
        }
        None => ledger.rollback_choice(None),
    }
}

/// The host does not run what its current record says: in words.
fn drifted(ledger: &Ledger, facts: &Facts) -> Option<String> {
    let evidence = &ledger.head().evidence;
    let running = facts.here.running.as_deref().unwrap_or("nothing");
    let same = facts.runs(&evidence.toplevel, evidence.specialisation.as_deref());
    (!same).then(|| format!("runs {running}, recorded is {}", evidence.toplevel))
}

/// Nothing has to change on the host, and the records say so already.
fn already(
    run: &mut Run<'_>,
    ledger: &Ledger,
    choice: &Choice<'_>,
    facts: &Facts,
    verb: Verb,
    mode: Mode,
) -> Option<Outcome> {
    let toplevel = choice.toplevel();
    let here = &facts.here;
    let boots = here.boot_default.path().is_none_or(|path| path == toplevel);
    let there =
        here.running.as_deref() == Some(toplevel) && here.profile.as_deref() == Some(toplevel) && boots;
    if mode != Mode::Real || !there || ledger.on_host() != choice.restores || !choice.withdraws.is_empty() {
        return None;
    }
    let name = ledger.head().name.to_string();
    let verb = verb.name();
    Some(Outcome {
        exit: 0,
        target: run.target.to_string(),
        outcome: "unchanged",
        text: format!("{}: nothing to {verb}, {} runs\n", run.target, choice.restores),
        record: Some(name),
        toplevel: Some(toplevel.to_owned()),
        published: None,
    })
}

/// Where the closure comes from when it is not on the target.
enum Supply<'a> {
    Here,
    Host(Box<Session>),
    Built(Box<Rebuilt<'a>>),
}

impl Supply<'_> {
    /// `None`: the target built it for itself.
    fn place(&self) -> Option<Place<'_>> {
        match self {
            Supply::Here => Some(Place::Here),
            Supply::Host(session) => Some(Place::Host(session)),
            Supply::Built(rebuilt) => rebuilt.place(),
        }
    }

    fn link_on_target(&self) -> Option<String> {
        match self {
            Supply::Built(rebuilt) => rebuilt.link_on_target(),
            Supply::Here | Supply::Host(_) => None,
        }
    }
}

/// Where the recorded closure is.
enum Found<'a> {
    There(StorePath, Closure, Option<Supply<'a>>),
    /// Neither on the target nor on the builder: where was looked, and what was said there.
    Nowhere(Failure),
}

/// The recorded closure: on the target, by its own root; else on the builder, by its root there. Its digest must be the
/// recorded one.
async fn found<'a>(
    run: &mut Run<'_>,
    choice: &Choice<'_>,
    fit: &Fit,
    settings: &Settings,
    dir: &RunDir,
    mode: Mode,
    known: Option<Closure>,
) -> Result<Found<'a>, Failure> {
    let target = run.target.clone();
    let toplevel = StorePath::new(choice.toplevel()).map_err(|bad| {
        Failure::refused(format!(
            "{} records no closure that can be restored",
            choice.source.name
        ))
        .why(bad.to_string())
    })?;
    let limit = settings.timeouts.build;
    let root = rooted(&target, choice, &fit.facts);
    let there = match known.filter(|closure| closure.toplevel == toplevel) {
        Some(closure) => Ok(closure),
        None => nix::closure(&store_of(&fit.session), &toplevel, limit).await,
    };
    let trouble = match there {
        Ok(closure) => {
            intact(choice, &closure, &target)?;
            if root.is_none() {
                let text = format!("no root keeps {} on {target}", choice.restores);
                if mode == Mode::Check {
                    return Err(Failure::failed(Reason::Store, text)
                        .why("the next garbage collection there takes it away")
                        .next(format!("git nixgate deploy {target} --to {}", choice.restores)));
                }
                run.log.warn(text);
            }
            run.log.finding(format!("{} is on {target}", choice.restores));
            return Ok(Found::There(toplevel, closure, None));
        }
        Err(failure) if mode == Mode::Check => {
            let text = format!("{} is not on {target}: nothing kept it there", choice.restores);
            return Err(Failure::failed(Reason::Store, text)
                .why(failure.what)
                .why("a rollback would have to ask the builder for it"));
        }
        Err(failure) => failure,
    };
    run.log.note(format!(
        "{} is not on {target}: asking the builder",
        choice.restores
    ));
    let supply = match settings.builder.host.as_str() {
        "target" => None,
        "" => Some(Supply::Here),
        host => match Session::open(&reach::builder(settings), dir).await {
            Ok(session) => Some(Supply::Host(Box::new(session))),
            Err(error) => {
                return Ok(Found::Nowhere(
                    nowhere(&target, choice, &trouble).why(error.failure(host).what),
                ));
            }
        },
    };
    let Some(supply) = supply else {
        return Ok(Found::Nowhere(nowhere(&target, choice, &trouble)));
    };
    let place = supply.place().unwrap_or(Place::Here);
    let closure = match nix::closure(&place, &toplevel, limit).await {
        Ok(closure) => closure,
        Err(failure) => {
            let why = format!("{}: {}", place.name(), failure.what);
            let failure = nowhere(&target, choice, &trouble).why(why);
            if let Supply::Host(session) = supply {
                session.close().await;
            }
            return Ok(Found::Nowhere(failure));
        }
    };
    intact(choice, &closure, &target)?;
    run.log
        .finding(format!("{} comes from {}", choice.restores, place.name()));
    Ok(Found::There(toplevel, closure, Some(supply)))
}

fn nowhere(target: &Target, choice: &Choice<'_>, trouble: &Failure) -> Failure {
    let mut failure = Failure::failed(
        Reason::Store,
        format!("the closure of {} is nowhere to be had", choice.restores),
    );
    failure.why = std::iter::once(format!("{target}: {}", trouble.what))
        .chain(trouble.why.iter().map(|line| format!("  {line}")))
        .collect();
    if choice.restores == OnHost::BeforeFirst {
        return failure.next(format!(
            "git nixgate log {target}    # a release to go to instead"
        ));
    }
    let commit = choice.source.commit.to_hex_with_len(12);
    failure
        .next(format!(
            "the same with --rebuild    # builds it again at {commit}; it must come out as recorded"
        ))
        .next(format!("git nixgate log {target}    # another release to go to"))
}

/// The root that keeps the closure on the target.
fn rooted(target: &Target, choice: &Choice<'_>, facts: &Facts) -> Option<String> {
    let leaf = match &choice.restores {
        OnHost::BeforeFirst => "before-first".to_owned(),
        OnHost::Release(name) => name.leaf(),
    };
    facts
        .roots
        .get(&format!("{target}/{leaf}"))
        .filter(|path| path.as_str() == choice.toplevel())
        .cloned()
}

/// The closure found is the closure recorded. What ran before the first release has no digest to hold it against.
pub(super) fn intact(choice: &Choice<'_>, closure: &Closure, target: &Target) -> Result<(), Failure> {
    if choice.restores == OnHost::BeforeFirst {
        return Ok(());
    }
    let recorded = &choice.source.evidence.closure_digest;
    let digest = closure.digest();
    if digest == *recorded {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "the closure found is not the one that {} records",
        choice.restores
    ))
    .why(format!("recorded digest {recorded}"))
    .why(format!("found          {digest}"))
    .next(format!("git nixgate store check {target} --contents")))
}

/// What the new record says of the closure: what the restored one said.
fn evidence(run: &mut Run<'_>, choice: &Choice<'_>, closure: &Closure, commit: &crate::git::Commit) {
    let source: &Record = choice.source;
    let recorded = &source.evidence;
    let mut new = Evidence {
        commit: commit.id.to_string(),
        tree: commit.tree.to_string(),
        target: run.target.to_string(),
        by: run.evidence.by.clone(),
        drift: run.evidence.drift.clone(),
        toplevel: choice.toplevel().to_owned(),
        nar_hash: format!("sha256:{}", closure.toplevel_hash()),
        closure_digest: closure.digest(),
        paths: closure.count() as u64,
        bytes: closure.bytes(),
        ..Evidence::default()
    };
    if choice.restores != OnHost::BeforeFirst {
        new.drv = recorded.drv.clone();
        new.flake_lock_sha256 = recorded.flake_lock_sha256.clone();
        new.system = recorded.system.clone();
        new.nix_version = recorded.nix_version.clone();
        new.builder = recorded.builder.clone();
        new.impure = recorded.impure;
        new.specialisation = recorded.specialisation.clone();
    }
    run.evidence = new;
}

/// The diff against what runs; a host whose running closure cannot be read is no reason not to go back.
async fn compared(
    run: &mut Run<'_>,
    fit: &Fit,
    known: Option<Closure>,
    closure: &Closure,
    settings: &Settings,
) -> String {
    let running = fit.facts.here.running.as_deref();
    let Some(running) = running.and_then(|path| StorePath::new(path).ok()) else {
        return "what runs cannot be read".to_owned();
    };
    let old = match known.filter(|closure| closure.toplevel == running) {
        Some(closure) => Ok(closure),
        None => nix::closure(&store_of(&fit.session), &running, settings.timeouts.build).await,
    };
    match old {
        Ok(old) => {
            let (difference, _) = Difference::new((&old, closure), None, None);
            let (evidence, headline) = diff::shown(&mut run.log, &difference);
            run.evidence.diff = Some(evidence);
            headline
        }
        Err(failure) => {
            run.log.warn(failure.what);
            "what runs cannot be read".to_owned()
        }
    }
}
