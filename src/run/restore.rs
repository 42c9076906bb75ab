//! `rollback` and `deploy`: a recorded closure goes back onto its host. No evaluation and no build, unless `--rebuild`
//! asks for it.

mod compared;
mod found;

use self::compared::compared;
use self::found::{Found, Supply, found};
use super::carried::{self, Knowingly};
use super::deliver::{Delivery, Options, Outcome, deliver};
use super::early::{Host, guess, read};
use super::journal::Verb;
use super::rebuild::rebuild;
use super::refusals::{in_the_way, pending_broken};
use super::registered::Recorded;
use super::rehearse::Home;
use super::{Run, World, reach, resolve};
use crate::config::Settings;
use crate::event::Gate;
use crate::failure::{Exit, Failure};
use crate::gate::known_good::{self, RemoteSide};
use crate::gate::preflight::{self, Rules};
use crate::git::Trusted;
use crate::host::{Endpoint, Facts, RunDir};
use crate::record::{Choice, Evidence, Kind, Ledger, OnHost, Record, Target};

/// `rollback`'s and `deploy`'s words.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// The record to go to; `rollback` without one takes the previous known-good release.
    pub to: Option<String>,
    pub host: Option<String>,
    pub keep: bool,
    pub accept_drift: bool,
    pub accept_loader: bool,
    pub supersede: bool,
    /// The host may carry another target's record.
    pub take_over: bool,
    /// Build the closure again, at its record's commit, where it is nowhere to be had.
    pub rebuild: bool,
    /// Take a build of the recorded store path that no record has.
    pub accept_other_build: bool,
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
    let own = resolve::own_ledger(repo, target)?.and_then(|ledger| repo.judge(ledger).ok());
    let early = own.and_then(|ledger| guess(repo, &ledger, options, verb).ok());
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
    let ledger = repo.judge(ledger)?;
    if mode == Mode::Real {
        known_good::name_after(Some(&ledger), target, &ledger.head().commit, None)?;
    }
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
    ledger: &Trusted,
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
    let guess = guess(repo, ledger, options, verb)?;
    let checked = resolve::checks_of(repo, &mut run.log, &guess.released, &target, settings)?;
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
        boot: false,
        gc: false,
    };
    let fit = reading.judged(&mut run.log, target.as_str(), &rules).await?;
    if mode == Mode::Real {
        // The way back is not refused for what its record may meet.
        if let Some(failure) = in_the_way(repo, &target, &remote)? {
            run.log.warn(format!(
                "the record of this run will wait here: {}: {}",
                failure.what,
                failure.why.join(", ")
            ));
            failure.next.iter().for_each(|next| run.log.note(next.clone()));
        }
        pending_broken(run)?;
        super::trust::refuse_unsigned(repo, settings, Some(ledger))?;
        repo.try_sign()?;
    }
    let host = carried::Host {
        repo,
        target: &target,
        ledger: Some(ledger),
        facts: &fit.facts,
    };
    let answers = Knowingly {
        take_over: options.take_over,
        supersede: options.supersede,
    };
    host.judge(answers, &mut run.log)?;
    let choice = match asked {
        Some(choice) => choice,
        None => chosen(run, ledger, &fit.facts)?,
    };
    let released = ledger.released(repo, choice.source)?;
    if let Some(text) = drifted(ledger, &fit.facts) {
        run.evidence.drift = Some(text);
    }
    // The commit that is restored may be another than was guessed.
    let checked = match choice.source.oid == guess.record {
        true => checked,
        false => resolve::checks_of(repo, &mut run.log, &released, &target, settings)?,
    };
    let commit = released.commit();
    run.state.commit = commit.id.to_string();
    run.log.pass(format!("to {}", choice.restores));
    if let Some(outcome) = already(run, ledger, &choice, &fit.facts, verb, mode) {
        fit.session.close().await;
        return Ok(outcome);
    }

    let home = match mode {
        Mode::Rehearse => {
            let head = ledger.released(repo, ledger.head())?;
            let checked = resolve::checks_of(repo, &mut run.log, &head, &target, settings)?;
            Some(Home { checked })
        }
        Mode::Real | Mode::Check => None,
    };

    if !options.rebuild {
        run.log
            .skip(Gate::Build, "a recorded closure: no evaluation, no build");
        run.log.begin(Gate::Diff);
    }
    let accepting = accepting(&target, options, verb);
    let recorded = Recorded {
        ledger,
        choice: &choice,
        accepts: options.accept_other_build,
        accepting: &accepting,
    };
    let (toplevel, closure, supply) = match found(run, &recorded, &fit, settings, dir, mode, known).await? {
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
            let (toplevel, rebuilt) = rebuild(run, &recorded, &fit, settings, (repo, dir)).await?;
            let closure = rebuilt.closure.clone();
            run.log.pass(toplevel.to_string());
            run.log.begin(Gate::Diff);
            (toplevel, closure, Some(Supply::Built(Box::new(rebuilt))))
        }
    };
    evidence(run, &choice, commit);
    let sides = (running, &closure);
    let detail = compared(run, &fit, (ledger, &choice), sides, settings).await;
    run.log.pass(detail);

    let delivery = Delivery {
        kind: if verb == Verb::Deploy {
            Kind::Deploy
        } else {
            Kind::Rollback
        },
        settings,
        checked: &checked,
        endpoint,
        commit,
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
        recorded: Some(recorded),
        withdraws: choice.withdraws.clone(),
        remote,
        home,
        options: Options {
            accept_drift: true,
            accept_loader: options.accept_loader,
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
    let specialisation = match choice.restores {
        OnHost::BeforeFirst => None,
        OnHost::Release(_) => choice.source.evidence.specialisation.as_deref(),
    };
    let there = facts.system(toplevel, specialisation).is_committed(&facts.here);
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

/// The command as it was typed, which now takes a build that no record has.
fn accepting(target: &Target, options: &RestoreOptions, verb: Verb) -> String {
    let mut words = vec![format!("git nixgate {} {target}", verb.name())];
    words.extend(options.to.iter().map(|to| format!("--to {to}")));
    words.extend(options.rebuild.then(|| "--rebuild".to_owned()));
    words.push("--accept-other-build".to_owned());
    words.join(" ")
}

/// What the new record says of the closure: what the restored one said. What the target has of it is read there.
fn evidence(run: &mut Run<'_>, choice: &Choice<'_>, commit: &crate::git::Commit) {
    let source: &Record = choice.source;
    let recorded = &source.evidence;
    let mut new = Evidence {
        commit: commit.id.to_string(),
        tree: commit.tree.to_string(),
        target: run.target.to_string(),
        by: run.evidence.by.clone(),
        drift: run.evidence.drift.clone(),
        toplevel: choice.toplevel().to_owned(),
        ..Evidence::default()
    };
    if choice.restores != OnHost::BeforeFirst {
        new.nar_hash = recorded.nar_hash.clone();
        new.closure_digest = recorded.closure_digest.clone();
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
