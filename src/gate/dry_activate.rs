//! Gate 5: the closure is whole on the target, and what the switch would do is known.

use std::time::Duration;

use super::GateLog;
use crate::failure::{Exit, Failure, Reason};
use crate::host::Session;
use crate::host::stc::Stc;
use crate::host::supervisor::{self, Rehearsal};
use crate::host::system::NoSwitch;
use crate::nix::Closure;
use crate::plan::risky;
use crate::record::evidence::PlanEvidence;

/// What the gate found.
pub struct Rehearsed {
    pub plan: PlanEvidence,
    pub units: Vec<String>,
    /// The init interface changed or an inhibitor stands in the way: only a reboot gets there.
    pub reboot: Option<Failure>,
    /// The closure as it is registered on the target, by its own references.
    pub registered: Closure,
    pub detail: String,
}

/// Verifies every path and rehearses the switch, to the specialisation where one is named; unit states stay as they are.
///
/// # Errors
/// What the connection says.
pub async fn rehearse(
    session: &Session,
    target: &str,
    specialisation: &str,
    closure: &Closure,
    deadline: Duration,
) -> Result<Rehearsal, Failure> {
    let paths: Vec<String> = closure.paths().map(ToString::to_string).collect();
    let (toplevel, digest) = (closure.toplevel.as_str(), closure.digest());
    let wanted = (toplevel, specialisation);
    supervisor::dry_activate(&mut &*session, wanted, (&paths, &digest), deadline)
        .await
        .map_err(|error| error.failure(target))
}

/// Judges and shows what a rehearsal of `closure` found.
///
/// # Errors
/// Exit 1, or 6 when another switch holds the lock. Nothing was changed.
pub fn judged(
    log: &mut GateLog<'_>,
    target: &str,
    closure: &Closure,
    seen: Rehearsal,
) -> Result<Rehearsed, Failure> {
    whole(target, closure.toplevel.as_str(), &seen)?;
    let registered = registered(target, closure, &seen)?;
    let reboot = verdict(target, &seen)?;
    let plan = &seen.plan;
    let mut evidence = PlanEvidence {
        stop: plan.stop.clone(),
        restart: plan.restart.clone(),
        reload: plan.reload.clone(),
        start: plan.start.clone(),
        risky: Vec::new(),
        more: 0,
    };
    for (verb, units) in [
        ("stop", &plan.stop),
        ("restart", &plan.restart),
        ("reload", &plan.reload),
        ("start", &plan.start),
    ] {
        if !units.is_empty() {
            log.finding(format!("would {verb}: {}", units.join(", ")));
        }
    }
    if plan.restart_systemd {
        log.finding("would restart systemd itself");
        evidence.risky.push("systemd (re-executed)".to_owned());
    }
    for unit in plan.stop.iter().chain(&plan.restart).chain(&plan.reload) {
        if let Some(why) = risky(unit)
            && !evidence
                .risky
                .iter()
                .any(|known| known.starts_with(unit.as_str()))
        {
            evidence.risky.push(format!("{unit} ({why})"));
        }
    }
    if !evidence.risky.is_empty() {
        log.finding(format!("risky: {}", evidence.risky.join(", ")));
    }
    for line in &plan.other {
        log.finding(line.clone());
    }
    let mut units: Vec<String> = [&plan.stop, &plan.restart, &plan.reload, &plan.start]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    units.sort();
    units.dedup();
    let detail = match units.len() {
        0 => "no unit changes".to_owned(),
        1 => "1 unit changes".to_owned(),
        n => format!("{n} units change"),
    };
    Ok(Rehearsed {
        plan: evidence,
        units,
        reboot,
        registered,
        detail,
    })
}

/// The closure that the target has registered, where it is whole.
fn registered(target: &str, expected: &Closure, seen: &Rehearsal) -> Result<Closure, Failure> {
    if seen.digest == expected.digest() {
        return Ok(expected.clone());
    }
    let listed = Closure::listed(&expected.toplevel, &seen.registered.join("\n"));
    listed
        .map(|closure| closure.with_derivers_of(expected))
        .ok_or_else(|| {
            Failure::failed(
                Reason::Store,
                format!(
                    "{target}: cannot read what is registered of {}",
                    expected.toplevel
                ),
            )
            .next(format!("git nixgate store check {target}"))
        })
}

fn whole(target: &str, toplevel: &str, seen: &Rehearsal) -> Result<(), Failure> {
    if seen.closure_intact() {
        return Ok(());
    }
    if let Some(failure) = made_otherwise(target, toplevel, seen) {
        return Err(failure);
    }
    let gone = seen
        .missing_files
        .iter()
        .filter(|path| !seen.invalid.contains(path))
        .map(|path| format!("{path}: valid in the database, but its files are gone"));
    let invalid = seen
        .invalid
        .iter()
        .map(|path| format!("{path}: not in the store"));
    let parts = seen
        .missing_parts
        .iter()
        .map(|part| format!("{toplevel} has no {part}"));
    let all: Vec<String> = gone.chain(invalid).chain(parts).collect();
    let count = all.len();
    let what = format!("{target}: the closure is not whole there: {count} paths are missing or damaged");
    let mut failure = Failure::failed(Reason::Store, what);
    failure.why = all.into_iter().take(10).collect();
    if count > 10 {
        failure.why.push(format!("… and {} more", count - 10));
    }
    Err(match seen.missing_files.first() {
        Some(path) => failure.next(format!(
            "git nixgate store repair {target}    # {path} and what else is gone"
        )),
        None => failure.next("run it again: what is missing is copied"),
    })
}

/// Nothing is damaged: the closure was made without what a switch needs.
fn made_otherwise(target: &str, toplevel: &str, seen: &Rehearsal) -> Option<Failure> {
    let [part] = seen.missing_parts.as_slice() else {
        return None;
    };
    if !seen.missing_files.is_empty() || !seen.invalid.is_empty() {
        return None;
    }
    if part.ends_with("bin/switch-to-configuration") && seen.no_switch == Some(NoSwitch::Without) {
        let what = format!("{target}: this system cannot be switched to: it has no {part}");
        return Some(
            Failure::failed(Reason::Check, what)
                .why(format!("{toplevel} was built with system.switch.enable = false"))
                .next(format!(
                    "remove that from its configuration, or take another release: git nixgate log {target}"
                )),
        );
    }
    let name = part
        .strip_prefix("specialisation/")
        .filter(|name| !name.contains('/'))?;
    let what = format!("{target}: this system has no specialisation {name}");
    Some(
        Failure::failed(Reason::Check, what)
            .why(format!("specialisation = \"{name}\" is set in [target.{target}]"))
            .next("name one that its configuration has, or none"),
    )
}

fn verdict(target: &str, seen: &Rehearsal) -> Result<Option<Failure>, Failure> {
    let printed = format!("{}\n{}", seen.stdout, seen.stderr);
    let failed = |reason, what: String| Failure::failed(reason, what).tail(&printed, 8);
    match &seen.outcome {
        Some(Stc::Done) => Ok(None),
        Some(Stc::RebootNeeded) => {
            let failure = failed(
                Reason::Reboot,
                format!("{target}: this closure cannot be switched to, only booted"),
            );
            Ok(Some(failure.next(format!("git nixgate release {target} --boot"))))
        }
        Some(Stc::Refused { checks }) if checks.iter().any(|check| check == "switchInhibitors") => {
            let failure = failed(
                Reason::Reboot,
                format!("{target}: a switch inhibitor stands in the way"),
            );
            Ok(Some(failure.next(format!("git nixgate release {target} --boot"))))
        }
        Some(Stc::Refused { checks }) => Err(failed(
            Reason::Check,
            format!("{target}: pre-switch checks failed: {}", checks.join(", ")),
        )),
        Some(Stc::LockBusy) => {
            let failure = failed(
                Reason::Lock,
                format!("{target}: another switch-to-configuration holds its lock"),
            );
            Err(failure.exit(Exit::Busy).next(format!(
                "on {target}: fuser -v /run/nixos/switch-to-configuration.lock"
            )))
        }
        Some(Stc::NotNixos) => Err(failed(
            Reason::Check,
            format!("{target}: this is no NixOS installation"),
        )),
        Some(other) => Err(failed(
            Reason::Script,
            format!("{target}: dry-activate failed: {}", word(other)),
        )),
        None => Err(failed(
            Reason::Script,
            format!("{target}: dry-activate did not run"),
        )),
    }
}

/// An outcome of `switch-to-configuration` in a few words.
pub fn word(outcome: &Stc) -> String {
    match outcome {
        Stc::Done => "done".into(),
        Stc::Refused { checks } => format!("refused by {}", checks.join(", ")),
        Stc::BootLoader => "the boot loader could not be installed".into(),
        Stc::NotStarted => "it did not start".into(),
        Stc::Script { snippets } if snippets.is_empty() => "the activation script failed".into(),
        Stc::Script { snippets } => format!("the activation script failed: {}", snippets.join(", ")),
        Stc::NotNixos => "no NixOS installation".into(),
        Stc::Units { failed } if failed.is_empty() => "units failed".into(),
        Stc::Units { failed } => format!("units failed: {}", failed.join(", ")),
        Stc::LockBusy => "another switch holds the lock".into(),
        Stc::RebootNeeded => "a reboot is needed".into(),
        Stc::LostOutput => "its output was closed in the middle".into(),
        Stc::Killed { signal } => format!("killed by signal {signal}"),
        Stc::TimedOut => "not done at its deadline".into(),
        Stc::Other { status } => format!("exit status {status}"),
    }
}

/// The reason class of an outcome.
pub fn reason(outcome: &Stc) -> Reason {
    match outcome {
        Stc::Units { .. } => Reason::Unit,
        Stc::Script { .. } | Stc::LostOutput | Stc::Other { .. } => Reason::Script,
        Stc::LockBusy => Reason::Lock,
        Stc::TimedOut => Reason::Timeout,
        Stc::BootLoader => Reason::Boot,
        Stc::RebootNeeded => Reason::Reboot,
        Stc::Killed { .. } => Reason::Oom,
        Stc::Done | Stc::Refused { .. } | Stc::NotStarted | Stc::NotNixos => Reason::Check,
    }
}
