//! Reaching a target: its endpoint, and the two questions that need no run, `health` and `status --live`.

use std::sync::Arc;
use std::time::Duration;

use super::{Asker, World, carried, resolve};
use crate::check::CheckSet;
use crate::config::{self, Host, Settings};
use crate::event::Gate;
use crate::failure::{Exit, Failure, Reason};
use crate::gate::health::{Baseline, Stage};
use crate::gate::validate::{self, Patience, Subject};
use crate::gate::{GateLog, preflight};
use crate::git::Trusted;
use crate::host::state::BootDefault;
use crate::host::system::System;
use crate::host::{Address, ConnectError, Endpoint, Facts, Privilege, RunDir, Secret, Session, Sudo, facts};
use crate::record::{Record, Target};
use crate::ui::records::Live;

/// A name for a file that holds the sudo password, for runs without a terminal.
const PASSWORD_FILE: &str = "NIXGATE_SUDO_PASSWORD_FILE";

/// The target's endpoint. Asks for the sudo password where it is wanted.
///
/// # Errors
/// Exit 2: a password is wanted and nobody can give it.
pub fn endpoint(
    target: &Target,
    settings: &Settings,
    asker: &Arc<dyn Asker + Send + Sync>,
) -> Result<Endpoint, Failure> {
    let login = (&settings.host, settings.user.as_str());
    let mut endpoint = named(target.as_str(), login, &settings.ssh_options, settings);
    endpoint.sudo = match settings.sudo {
        config::Sudo::Auto => Sudo::Auto,
        config::Sudo::None => Sudo::None,
        config::Sudo::Nopasswd => Sudo::Nopasswd,
        config::Sudo::Ask => Sudo::Ask,
    };
    if settings.sudo == config::Sudo::Ask {
        endpoint.password = Some(password(target, asker)?);
    }
    Ok(endpoint)
}

fn password(target: &Target, asker: &Arc<dyn Asker + Send + Sync>) -> Result<Secret, Failure> {
    if let Some(path) = std::env::var_os(PASSWORD_FILE) {
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Failure::config(format!(
                "the file that {PASSWORD_FILE} names cannot be read: {error}"
            ))
        })?;
        let empty = || Failure::config(format!("the file that {PASSWORD_FILE} names is empty"));
        return written(&text).ok_or_else(empty);
    }
    match asker.secret(&format!("sudo password on {target}:")) {
        Some(text) if !text.is_empty() => Ok(Secret::new(text)),
        _ => Err(
            Failure::config(format!("{target} has sudo = \"ask\", and nobody is here to ask")).next(format!(
                "set {PASSWORD_FILE} to a file that holds the password, or use NOPASSWD"
            )),
        ),
    }
}

/// What a file holds that somebody wrote a secret to: editors and `echo` end it with a line feed.
fn written(text: &str) -> Option<Secret> {
    let text = text.trim_end_matches(['\n', '\r']);
    (!text.is_empty()).then(|| Secret::new(text))
}

/// The builder's endpoint; never with sudo, and without the target's ssh options: a port or key alias of one host is
/// wrong for the other.
pub fn builder(settings: &Settings) -> Endpoint {
    let host = &settings.builder.host;
    named(host.as_str(), (host, &settings.builder.user), &[], settings)
}

fn named(name: &str, (host, user): (&Host, &str), options: &[String], settings: &Settings) -> Endpoint {
    let mut endpoint = Endpoint::local(name);
    if host != "local" {
        endpoint.host = Address::Ssh(host.as_str().to_owned());
    }
    endpoint.user = (!user.is_empty()).then(|| user.to_owned());
    let port = host.port().map(|port| format!("Port={port}"));
    let options = port.into_iter().chain(options.iter().cloned());
    endpoint.ssh_options = options.flat_map(|option| ["-o".to_owned(), option]).collect();
    endpoint.connect_timeout = settings.timeouts.ssh;
    endpoint
}

/// The settings to reach a target now: HEAD's file, with `--host` over it. Where HEAD has none that can be read, the
/// current record's: a broken file must not stand in the way back.
///
/// # Errors
/// Exit 2: neither names the target.
pub fn settings_now(world: &World<'_>, target: &Target, host: Option<&str>) -> Result<Settings, Failure> {
    let head = world.repo.resolve("HEAD")?;
    let config =
        resolve::at_commit(world.repo, &head).and_then(|config| resolve::settings_of(&config, target));
    let mut settings = match config {
        Ok(settings) => settings,
        Err(failure) => recorded_settings(world, target).ok_or(failure)?,
    };
    reach_at(&mut settings, host)?;
    Ok(settings)
}

/// `--host` over what the file says.
///
/// # Errors
/// Exit 2: it is no host.
pub fn reach_at(settings: &mut Settings, host: Option<&str>) -> Result<(), Failure> {
    let refused = |why: String| Failure::usage(format!("--host: {why}"));
    host.map_or(Ok(()), |host| settings.reach_at(host).map_err(refused))
}

fn recorded_settings(world: &World<'_>, target: &Target) -> Option<Settings> {
    let repo = world.repo;
    let ledger = resolve::trusted(repo, target, "origin").ok()??;
    let released = ledger.released(repo, ledger.head()).ok()?;
    let found = CheckSet::released(repo, &released, target).ok()??;
    GateLog::new(world.watcher).note(format!(
        "HEAD has no {} that names {target}: taken from its record's commit {}",
        config::FILE,
        released.commit().short
    ));
    Some(found.settings)
}

/// The host's health now, with the checks of its current record. Before the first release those of HEAD's file that run no
/// program.
///
/// # Errors
/// What keeps it from being looked at; exit 3: its newest record does not pass. An unhealthy host is `Exit::Failed`.
pub async fn health(world: World<'_>, target: &Target, host: Option<&str>) -> Result<Exit, Failure> {
    let repo = world.repo;
    let mut settings = settings_now(&world, target, host)?;
    let mut log = GateLog::new(world.watcher);
    let ledger = resolve::trusted(repo, target, &settings.remote)?;
    let checks = match &ledger {
        Some(ledger) => {
            let released = ledger.released(repo, ledger.head())?;
            let recorded = resolve::checks_of(repo, &mut log, &released, target, &settings)?;
            settings.preflight = recorded.settings.preflight;
            recorded.checks
        }
        None => resolve::harmless(&log, &settings),
    };
    let endpoint = endpoint(target, &settings, world.asker)?;
    let dir = RunDir::new().map_err(Failure::from)?;
    log.begin(Gate::Validate);
    let mut session = match Session::open(&endpoint, &dir).await {
        Ok(session) => session,
        Err(error) => return Err(unreachable(&mut log, target, &error)),
    };
    let system = match &ledger {
        Some(ledger) => {
            let evidence = &ledger.head().evidence;
            match evidence.specialisation.as_deref() {
                None => System::plain(&evidence.toplevel),
                // A specialisation is a store path of its own, which only the host can resolve.
                name => read_facts(&session, target)
                    .await?
                    .system(&evidence.toplevel, name),
            }
        }
        None => {
            log.note(format!(
                "{target} has no release yet: its running system is taken as it is"
            ));
            let facts = read_facts(&session, target).await?;
            facts.running().unwrap_or_else(|| System::plain(""))
        }
    };
    let baseline = Baseline::default();
    let subject = Subject {
        settings: &settings,
        target: target.as_str(),
        endpoint: &endpoint,
        system: &system,
        checks: &checks,
        baseline: &baseline,
    };
    let looked = validate::look_once(
        &mut log,
        &mut session,
        &subject,
        (Stage::Committed, Patience::default()),
    )
    .await;
    session.close().await;
    let health = looked?;
    for warning in &health.warnings {
        log.note(warning.clone());
    }
    let failure = health.failure(target.as_str());
    match failure {
        None if health.is_good() => {
            log.pass("healthy");
            Ok(Exit::Done)
        }
        failure => {
            let failure =
                failure.unwrap_or_else(|| Failure::failed(Reason::Check, format!("{target} is not settled")));
            log.fail(&failure);
            Err(failure)
        }
    }
}

fn unreachable(log: &mut GateLog<'_>, target: &Target, error: &ConnectError) -> Failure {
    log.check(&crate::event::CheckLine {
        number: 1,
        of: 5,
        name: "SSH connectivity".into(),
        verdict: crate::event::Verdict::Failed,
        detail: preflight::connect_word(error.class).into(),
    });
    let failure = error.failure(target.as_str());
    log.fail(&failure);
    failure
}

pub(super) async fn read_facts(session: &Session, target: &Target) -> Result<Facts, Failure> {
    let script = facts::facts_script(target.as_str());
    let output = session
        .run(&script, Privilege::RootIfPossible, Duration::from_secs(30))
        .await
        .map_err(|error| error.failure(target.as_str()))?;
    Ok(Facts::parse(&output.text()))
}

/// What a target's host says, against its records. Never fails: a host out of reach is an answer.
pub async fn live(world: World<'_>, target: &Target, ledger: Option<&Trusted>) -> Live {
    match look(world, target, ledger).await {
        Ok(live) => live,
        Err(failure) => Live {
            unreachable: Some(failure.what),
            ..Live::default()
        },
    }
}

async fn look(world: World<'_>, target: &Target, ledger: Option<&Trusted>) -> Result<Live, Failure> {
    let settings = settings_now(&world, target, None)?;
    let endpoint = endpoint(target, &settings, world.asker)?;
    let dir = RunDir::new().map_err(Failure::from)?;
    let session = Session::open(&endpoint, &dir)
        .await
        .map_err(|error| error.failure(target.as_str()))?;
    let facts = read_facts(&session, target).await;
    session.close().await;
    let facts = facts?;
    let boot = facts.here.boot_default.path().map(str::to_owned);
    let mut drift = Vec::new();
    if let Some(other) = carried::another(&facts, target) {
        let (tag, other) = (&other.tag, &other.target);
        drift.push(format!("the host carries the record of {other}: {tag}"));
    }
    if let Some(ledger) = ledger {
        let head: &Record = ledger.head();
        let toplevel = head.evidence.toplevel.as_str();
        let system = facts.system(toplevel, head.evidence.specialisation.as_deref());
        if !system.runs(&facts.here) {
            drift.push(format!(
                "runs {}, recorded is {}",
                facts.here.running.as_deref().unwrap_or("nothing"),
                system.effective
            ));
        }
        if !system.is_profile(&facts.here) {
            drift.push(format!(
                "the profile is {}",
                facts.here.profile.as_deref().unwrap_or("nothing")
            ));
        }
        if let BootDefault::Path(path) = &facts.here.boot_default
            && !system.is_booted_by(path)
        {
            drift.push(format!("the boot default is {path}"));
        }
    } else if let Some(text) = preflight::boot_drift(&facts) {
        drift.push(text);
    }
    Ok(Live {
        running: facts.here.running.clone(),
        booted: facts.booted.clone(),
        profile: facts.here.profile.clone(),
        boot_default: boot.or_else(|| Some(format!("not verifiable ({})", facts.here.boot_loader))),
        boot_once: facts.here.boot_once.as_ref().map(ToString::to_string),
        system_state: facts.system_state.clone(),
        record: carried(&facts),
        drift,
        unreachable: None,
        held_by: facts
            .holder
            .as_ref()
            .map(|holder| format!("{} (run {})", holder.who, holder.run)),
    })
}

/// The name of the record that the host carries.
fn carried(facts: &Facts) -> Option<String> {
    use base64::Engine as _;
    let compact: String = facts.record_base64.as_deref()?.split_ascii_whitespace().collect();
    let raw = base64::engine::general_purpose::STANDARD.decode(compact).ok()?;
    let null = crate::record::Oid::null(gix::hash::Kind::Sha1);
    Record::parse(null, &raw, None)
        .ok()
        .map(|record| record.name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_8_a_secrets_file_loses_its_last_line_feed_and_must_not_be_empty() {
        let read = |text: &str| written(text).map(|secret| secret.expose().to_owned());
        for text in ["p a\t", "p a\t\n", "p a\t\r\n"] {
            assert_eq!(read(text).as_deref(), Some("p a\t"));
        }
        for text in ["", "\n", "\r\n\n"] {
            assert_eq!(read(text), None);
        }
    }
}
