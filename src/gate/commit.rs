//! Step 8: profile and boot default become the candidate. And the way back, when a gate after the switch fails.

use std::time::{Duration, Instant};

use super::preflight::connect_word;
use super::{GateLog, validate};
use crate::event::Event;
use crate::failure::{Exit, Failure, Reason};
use crate::host::state::{Phase, State};
use crate::host::supervisor::{Committed, Held, SupervisorError, put_profile_back, release_leftover};
use crate::host::{Facts, Privilege, Script, Session, Shell, facts};

/// Lets a commit pass whose boot loader does not tell what it boots, where the one before did.
pub const ACCEPT_LOADER: &str = "--accept-boot-loader";
/// The supervisor's words for that, in `finish_commit`.
const UNTOLD: &str = "afterwards the boot default is not-verifiable";

/// How long a look at a host that went back may take.
const LOOK: Duration = Duration::from_secs(10);

/// Commits over the fresh connection and proves it: running = profile = boot default = candidate.
///
/// # Errors
/// The failure, and whether the supervisor has already taken the host back.
pub async fn commit(
    log: &mut GateLog<'_>,
    held: &Held,
    shell: &mut Shell,
) -> Result<Committed, (Failure, Option<State>)> {
    let target = &held.target;
    let told = match held.commit(shell).await {
        Err(error) if error.is_unheard() => {
            let what = error.failure(target).what;
            log.note(format!(
                "{what}; the host goes on, and is asked how its commit ends"
            ));
            held.commit_unheard(shell, error).await
        }
        told => told,
    };
    let committed = match told {
        Ok(committed) => committed,
        Err(error) => {
            let state = error.state().cloned();
            let mut failure = Failure::failed(Reason::Boot, format!("{target}: the commit failed"));
            if error.is_unheard() {
                failure = Failure::failed(
                    Reason::Link,
                    format!("{target}: nobody heard how the commit ended"),
                );
            }
            match &error {
                SupervisorError::Refused { why, state } => {
                    failure.why.push(why.clone());
                    failure.why.extend(state.reasons.iter().cloned());
                    if state.reasons.iter().any(|reason| reason.starts_with(UNTOLD)) {
                        failure.next.push(format!(
                            "the same with {ACCEPT_LOADER}    # where the new boot loader cannot tell"
                        ));
                    }
                }
                other => failure.why.push(other.failure(target).what),
            }
            return Err((failure, state));
        }
    };
    let wrong = committed.state.system().disagreements(&committed.state.here);
    if !wrong.is_empty() {
        let mut failure = Failure::failed(Reason::Boot, format!("{target}: committed, and yet not proven"));
        failure.why = wrong;
        return Err((failure, Some(committed.state)));
    }
    if committed.boot_unverified {
        let loader = &committed.state.here.boot_loader;
        log.warn(format!(
            "the boot default is not verifiable (boot loader: {loader})"
        ));
    }
    if let Some(after) = committed.generation {
        log.see(&Event::Generation {
            target: target.clone(),
            before: committed.generation_before,
            after,
        });
    }
    Ok(committed)
}

/// How to go back by hand, for this host.
pub fn by_hand(target: &str, ssh: &str, previous: &str) -> Vec<String> {
    let width = format!("git nixgate status {target} --live").len();
    let step = |command: String, what: &str| format!("{command:width$}  # {what}");
    vec![
        step(
            format!("git nixgate status {target} --live"),
            "what runs there now",
        ),
        step(format!("git nixgate log {target}"), "the releases"),
        step(
            format!("git nixgate rollback {target}"),
            "back to the last known-good closure; --to TAG names another",
        ),
        format!("or by hand: {ssh}"),
        format!("  sudo nix-env -p /nix/var/nix/profiles/system --set {previous}"),
        format!("  sudo {previous}/bin/switch-to-configuration switch"),
        "or at the console: log in as root and type the same two lines".to_owned(),
    ]
}

/// A way to log in, as a person types it.
pub fn ssh_line(session: &Session) -> String {
    use crate::host::Address;
    let endpoint = session.endpoint();
    let Address::Ssh(host) = &endpoint.host else {
        return "sudo -i".to_owned();
    };
    let mut words = vec!["ssh"];
    words.extend(endpoint.ssh_options.iter().map(String::as_str));
    let login = match endpoint.user.as_deref().filter(|user| !user.is_empty()) {
        Some(user) => format!("{user}@{host}"),
        None => host.clone(),
    };
    words.push(&login);
    shlex::try_join(words).unwrap_or_else(|_| format!("ssh {login}"))
}

/// Sends a switched host back, or waits until it went back by itself; the failure returned says how the host was left.
///
/// `stay`: `auto-rollback = false`; a host that can be reached is then left on the new system.
pub async fn take_back(
    log: &GateLog<'_>,
    session: &mut Session,
    shell: Option<Shell>,
    held: &Held,
    known: Option<State>,
    stay: bool,
    mut failure: Failure,
) -> Failure {
    let target = held.target.clone();
    let steps = by_hand(&target, &ssh_line(session), &held.previous);
    let mut shell = shell;
    if let Some(state) = known.filter(|state| state.phase.is_final()) {
        return settled(log, session, shell, held, state, failure, &steps).await;
    }
    if stay && let Some(shell) = shell.as_mut() {
        return match held.leave(shell).await {
            Ok(_) => {
                // Best effort: the next run sweeps what is left.
                let _ = release_leftover(shell, &held.run).await;
                let note = "auto-rollback is off: the host stays on the new system, unrecorded; profile and boot \
                            default are the old ones";
                failure.why.push(note.to_owned());
                failure.next = steps;
                failure.exit(Exit::NeedsPerson)
            }
            Err(error) => {
                failure.why.push(error.failure(&target).what);
                failure.next = steps;
                failure.exit(Exit::NeedsPerson)
            }
        };
    }
    if let Some(open) = shell.as_mut() {
        log.note(format!("{}: going back to {}", failure.what, held.previous));
        match held.revert(open).await {
            Ok(reverted) => return settled(log, session, shell, held, reverted.state, failure, &steps).await,
            Err(error) => {
                if let Some(state) = error.state().filter(|state| state.phase.is_final()).cloned() {
                    return settled(log, session, shell, held, state, failure, &steps).await;
                }
                drop(shell.take());
            }
        }
    }
    let lease = held.lease.as_secs();
    log.note(failure.what.clone());
    log.note(format!(
        "{target} goes back by itself within {lease} s of silence and the time a switch takes; waiting for it"
    ));
    for step in &steps {
        log.note(format!("  {step}"));
    }
    let patience = held.lease * 2 + held.activate * 2 + Duration::from_secs(60);
    match held.wait_final(session, patience).await {
        Ok(state) => settled(log, session, None, held, state, failure, &steps).await,
        Err(SupervisorError::Gone) if booted_back(session, held).await => {
            // The reboot took everything of the run along but the root that the next run sweeps.
            let _ = release_leftover(session, &held.run).await;
            log.note(format!("{target} has rebooted into {}", held.previous));
            failure.why.push(format!(
                "{target} has rebooted and is back on what ran before: running system, profile and boot default were checked"
            ));
            failure.next = vec![
                format!("git nixgate health {target}"),
                format!("git nixgate release {target}"),
            ];
            failure.exit(Exit::Reverted)
        }
        Err(error) => {
            failure.why.push(error.failure(&target).what);
            failure
                .why
                .push("the outcome on the host is not known".to_owned());
            failure.next = std::iter::once(format!("git nixgate resume {target}"))
                .chain(steps)
                .collect();
            failure.exit(Exit::NeedsPerson)
        }
    }
}

/// Whether a host whose supervisor is gone, as after a reboot, is as it was when it was held: running system, profile and
/// boot default. One that still boots is waited for; a profile that half of a commit set is put back.
async fn booted_back(session: &mut Session, held: &Held) -> bool {
    let patience = Duration::from_secs(60);
    let mut put_back = false;
    let asked = async {
        loop {
            let script = facts::facts_script(&held.target);
            match session
                .run(&script, Privilege::RootIfPossible, Duration::from_secs(20))
                .await
            {
                Ok(output) => {
                    let facts = Facts::parse(&output.text());
                    if !["", "initializing", "starting"].contains(&facts.system_state.as_str()) {
                        let (now, before) = (&facts.here, &held.state.here);
                        // The reset came between the profile and the boot loader.
                        let half = now.profile.as_deref() == Some(held.candidate.as_str())
                            && now.running == before.running
                            && now.profile != before.profile;
                        if half && !put_back {
                            put_back = true;
                            let generation = before.generation;
                            let back = put_profile_back(session, &held.candidate, &held.previous, generation);
                            if back.await.is_err() {
                                return false;
                            }
                            continue;
                        }
                        return now.running == before.running
                            && now.profile == before.profile
                            && now.boot_default == before.boot_default;
                    }
                }
                Err(error) if error.is_link() => {
                    let _ = session.reopen().await;
                }
                Err(_) => return false,
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::time::timeout(patience, asked).await.unwrap_or(false)
}

/// The host is committed after all, and nobody heard it in time. Its supervisor is left to its lease: `resume` finds there
/// that only the record is missing.
fn proven(held: &Held, mut failure: Failure) -> Failure {
    let target = &held.target;
    let heard = std::mem::replace(
        &mut failure.what,
        format!("{target} is committed, and the run did not hear it in time"),
    );
    failure.why.insert(0, heard);
    failure
        .why
        .push(format!("{target} runs and boots {}", held.candidate));
    failure.next = vec![format!("git nixgate resume {target}    # makes the record")];
    failure.exit(Exit::Unpublished)
}

/// Whether a host that has gone back lets somebody in who comes now, makes them root, and is what it says. What a candidate
/// left outside of all units, a rule of the firewall or a route, the host itself cannot see.
async fn found_back(session: &mut Session, held: &Held) -> Result<(), Vec<String>> {
    let give_up = Instant::now() + held.lease + LOOK * 3;
    let mut shell = loop {
        let error = match validate::connect(session.endpoint(), LOOK).await {
            Ok((shell, _)) => break shell,
            Err(error) => error,
        };
        // A link that is down says nothing of the host; one over which the old connection answers does.
        let old = session.run(&Script::new(":"), Privilege::User, LOOK).await;
        if old.is_ok() || Instant::now() >= give_up {
            let mut lines = vec![format!(
                "it lets nobody in who comes now: {}",
                connect_word(error.class)
            )];
            lines.extend(error.lines);
            return Err(lines);
        }
    };
    let script = facts::how_it_fares(&held.target, "");
    match shell.run(&script, Privilege::Root, LOOK * 2).await {
        Ok(output) => wrong_with(&Facts::parse(&output.text()), &held.previous),
        Err(error) => Err(vec![error.failure(&held.target).what]),
    }
}

/// What is not as a host that went back to `previous` says. Pure.
fn wrong_with(facts: &Facts, previous: &str) -> Result<(), Vec<String>> {
    let mut wrong = Vec::new();
    if facts.here.running.as_deref() != Some(previous) {
        let running = facts.here.running.as_deref().unwrap_or("nothing");
        wrong.push(format!("it runs {running}"));
    }
    if !facts.complete || !facts.units_read {
        wrong.push("its units cannot be read".to_owned());
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// What a final state means for the exit; ends the supervisor, which has nothing more to do.
async fn settled(
    log: &GateLog<'_>,
    session: &mut Session,
    shell: Option<Shell>,
    held: &Held,
    state: State,
    mut failure: Failure,
    steps: &[String],
) -> Failure {
    let target = &held.target;
    if state.phase == Phase::Committed && state.system().is_committed(&state.here) {
        return proven(held, failure);
    }
    let last = match shell {
        Some(mut shell) => held.end(&mut shell).await,
        None => held.end(session).await,
    };
    let state = last.unwrap_or(state);
    match state.phase {
        Phase::Reverted => {
            log.note(format!("{target} is back on {}", held.previous));
            if let Err(wrong) = found_back(session, held).await {
                failure.why.extend(state.reasons.iter().cloned());
                failure.why.push(format!(
                    "{target} says that it is back on what ran before, and that was not found so:"
                ));
                failure.why.extend(wrong.iter().map(|line| format!("  {line}")));
                failure.next = steps.to_vec();
                return failure.exit(Exit::NeedsPerson);
            }
            if failure.reason == Reason::Link {
                // It answers again: what was to be looked for while it did not is no help now.
                failure.next = vec![format!(
                    "see what the candidate changes that cuts {target} off: `risky` under dry-activate, and the diff"
                )];
            }
            for reason in &state.reasons {
                if !failure.why.contains(reason) {
                    failure.why.push(reason.clone());
                }
            }
            failure.why.push(format!(
                "{target} is back on what ran before, and that was checked"
            ));
            let show = format!("git nixgate show {}    # what the switch printed", held.run);
            failure.next.push(show);
            failure.exit(Exit::Reverted)
        }
        Phase::Released => {
            failure.why.push(format!(
                "{target} was let go: it runs {}",
                state.here.running.unwrap_or_default()
            ));
            failure.next = steps.to_vec();
            failure.exit(Exit::NeedsPerson)
        }
        _ => {
            failure.why.push(format!("{target} could not be taken back:"));
            failure
                .why
                .extend(state.reasons.iter().map(|reason| format!("  {reason}")));
            failure.next = steps.to_vec();
            failure.exit(Exit::NeedsPerson)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s0_18_back_is_who_runs_it_and_can_say_so() {
        let wrong = |text: &str| {
            wrong_with(&Facts::parse(text), "/nix/store/a")
                .err()
                .unwrap_or_default()
        };
        assert!(wrong("running=/nix/store/a\nunits_read=1\ncomplete=1\n").is_empty());
        assert_eq!(
            wrong("running=/nix/store/b\nunits_read=1\ncomplete=1\n"),
            ["it runs /nix/store/b"]
        );
        assert_eq!(
            wrong("running=/nix/store/a\ncomplete=1\n"),
            ["its units cannot be read"]
        );
        assert_eq!(wrong("").len(), 2);
    }
}
