//! The way of a candidate that only a reboot proves: profile and boot default are set, and `resume` looks after the boot.

use std::time::{Duration, Instant};

use super::Run;
use super::deliver::{Delivery, Outcome};
use super::journal::{Ending, Step};
use crate::event::Gate;
use crate::failure::{Exit, Failure, Reason};
use crate::gate::commit::ACCEPT_LOADER;
use crate::gate::{copy, dry_activate};
use crate::host::state::Where;
use crate::host::stc::Stc;
use crate::host::supervisor::{self, BootSet, Held};
use crate::host::system::System;
use crate::host::{Facts, HostError, Session};

/// What `--boot` means where the boot loader cannot boot a system once.
pub(super) const UNPROVEN: &str = "an unproven system is the boot default until `resume` has validated it";

/// Sets what the host boots next. Nothing interrupts it, and the host goes on with
/// it without us; the journal says before that it may have begun.
///
/// # Errors
/// Exit 1: it was taken back; exit 5: nobody knows, `resume` finds out.
pub(super) async fn set(
    run: &mut Run<'_>,
    session: &mut Session,
    held: &Held,
    facts: &Facts,
    delivery: &Delivery<'_>,
) -> Result<Outcome, Failure> {
    let target = run.target.to_string();
    let limit = delivery.settings.timeouts.activate * 2;
    run.state.booted = Some(facts.boot.clone()).filter(|boot| !boot.is_empty());
    run.step(Step::Committing)?;
    run.log.begin(Gate::Commit);
    let options = (
        delivery.checked.settings.specialisation.as_str(),
        delivery.options.accept_loader,
    );
    let asked = async { supervisor::set_boot(&mut &*session, held, options, limit).await };
    let set = match copy::keeping(held, session, asked).await {
        Ok(set) => set,
        Err(error) => followed(session, held, limit, error).await?,
    };
    if set.outcome != Stc::Done || set.elsewhere.is_some() {
        return Err(refused(&target, &set));
    }
    run.log.pass(match (set.oneshot, set.here.boot_default.path()) {
        (true, _) => "boots the candidate once",
        (false, Some(_)) => "boots the candidate",
        (false, None) => "set; what boots is not verifiable",
    });
    // Preflight has said so where it could be foreseen.
    if !set.oneshot && facts.can_boot_once {
        run.log.warn(UNPROVEN);
    }
    run.evidence.generation_after = set.here.generation;
    let next = [
        format!("reboot {target}"),
        format!("git nixgate resume {target}"),
        format!("or take it back: git nixgate cancel {target}"),
    ];
    run.end(Ending {
        exit: Exit::NeedsReboot.code(),
        reason: Some(Reason::Reboot),
        what: "waits for its reboot".into(),
        next: next.to_vec(),
        ..Ending::default()
    });
    Ok(Outcome {
        exit: Exit::NeedsReboot.code(),
        outcome: "needs-reboot",
        record: None,
        toplevel: Some(delivery.toplevel.to_string()),
        published: None,
        text: format!("{target} waits for a reboot; then: {}\n", next[1]),
        target,
    })
}

/// It could not be set, and was taken back.
pub(super) fn refused(target: &str, set: &BootSet) -> Failure {
    if let Some((loader, boot)) = set.elsewhere.as_deref().and_then(|word| word.split_once(' ')) {
        let told = boot.starts_with('/');
        let what = match told {
            true => format!("{target}: the boot default is {boot} after the candidate's `boot`"),
            false => format!("{target}: the boot loader ({loader}) does not tell what it boots by default"),
        };
        let failure = Failure::failed(Reason::Boot, what)
            .why("profile and boot default are as they were")
            .tail(&set.stderr, 6);
        return match told {
            true => failure.next("see what sets the default there: loader.conf, an EFI variable, grub.cfg"),
            false => failure.next(format!("the same with {ACCEPT_LOADER}")),
        };
    }
    let what = format!(
        "{target}: the boot default could not be set: {}",
        dry_activate::word(&set.outcome)
    );
    Failure::failed(Reason::Boot, what).tail(&set.stderr, 6)
}

/// The link went, or the answer is late: the host goes on, and is asked what came of it once it answers again.
async fn followed(
    session: &mut Session,
    held: &Held,
    limit: Duration,
    error: HostError,
) -> Result<BootSet, Failure> {
    let target = held.target.as_str();
    let mut last = error.failure(target);
    let until = Instant::now() + held.lease * 2 + Duration::from_secs(60);
    while error.is_link() && Instant::now() < until {
        if session.reopen().await.is_ok() {
            match supervisor::boot_set(session, &held.run, limit).await {
                Ok(Some(set)) => return Ok(set),
                Ok(None) => break,
                Err(error) => last = error.failure(target),
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let what = format!("{target}: nobody knows whether the boot default was set");
    let mut failure = Failure::new(Exit::NeedsPerson, last.reason, what);
    failure.why.push(last.what);
    failure.why.extend(last.why);
    Err(failure.next(format!(
        "git nixgate resume {target}    # finds out, before anything reboots it"
    )))
}

/// What a host boots next, by its facts alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Candidate,
    Previous,
    /// Its profile says the one, its boot loader the other.
    Half,
}

/// With systemd-boot a candidate that boots once is not the default.
pub(super) fn next(here: &Where, candidate: &System) -> Next {
    let once = here.boot_once.as_ref().and_then(|once| once.path.as_deref());
    let once = once.is_some_and(|path| candidate.is_booted_by(path));
    let boots = candidate.boots(here);
    if candidate.is_profile(here) && (once || boots.unwrap_or(true)) {
        Next::Candidate
    } else if !candidate.is_profile(here) && !once && !boots.unwrap_or(false) {
        Next::Previous
    } else {
        Next::Half
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::state::{BootDefault, BootOnce};

    #[test]
    fn what_boots_next_is_read_from_profile_and_boot_default() {
        let here = |profile: &str, boot: &str, loader: &str, once: &str| Where {
            running: Some("/nix/store/a".into()),
            profile: Some(profile.into()),
            generation: None,
            boot_default: BootDefault::parse(boot),
            boot_loader: loader.into(),
            boot_once: BootOnce::parse(once),
        };
        let (a, b) = ("/nix/store/a", "/nix/store/b");
        let once = "/nix/store/b nixos-generation-2.conf";
        for (profile, boot, loader, once, expected) in [
            (a, a, "extlinux", "", Next::Previous),
            (b, b, "extlinux", "", Next::Candidate),
            (b, a, "extlinux", "", Next::Half),
            (a, b, "extlinux", "", Next::Half),
            (b, a, "systemd-boot", once, Next::Candidate),
            // Nothing boots it, or what was taken back boots all the same.
            (b, a, "systemd-boot", "", Next::Half),
            (a, a, "systemd-boot", once, Next::Half),
            (b, "not-verifiable", "none", "", Next::Candidate),
            (a, "not-verifiable", "none", "", Next::Previous),
            ("/nix/store/c", a, "grub", "", Next::Previous),
        ] {
            assert_eq!(
                next(&here(profile, boot, loader, once), &System::plain(b)),
                expected,
                "{profile} {boot} {loader} {once}"
            );
        }
    }
}
