//! `rollback --rehearse`, the second half: the restored closure was validated, and the host goes back to what it ran, is
//! validated again, and must be as it was. Nothing is committed and nothing recorded.

use super::back::{examine, take_back};
use super::deliver::{Delivery, Outcome};
use super::journal::Ending;
use super::resolve::Checked;
use super::{Run, reach};
use crate::event::Gate;
use crate::failure::{Exit, Failure, Reason};
use crate::gate::commit::{by_hand, ssh_line};
use crate::gate::health::Baseline;
use crate::gate::validate::{Subject, Validated, validate};
use crate::host::state::Where;
use crate::host::supervisor::Held;
use crate::host::system::System;
use crate::host::{Session, Shell};

/// What a host that came back is held against: the checks of its current record.
pub(super) struct Home {
    pub checked: Checked,
}

/// Takes the host back to where it was, `before`, and proves that it is there.
///
/// # Errors
/// Exit 4: somebody wanted the run to end; the host is back. Exit 5: it is not back, or not as it was.
pub(super) async fn and_back(
    run: &mut Run<'_>,
    session: &mut Session,
    (held, mut shell): (&Held, Shell),
    baseline: &Baseline,
    (delivery, home): (&Delivery<'_>, &Home),
    before: &Where,
) -> Result<Outcome, Failure> {
    let target = run.target.to_string();
    run.log
        .note(format!("{target} is well on {}; and back", delivery.toplevel));
    run.log.begin(Gate::SwitchTest);
    let unlike = |what: &str| Failure::failed(Reason::Unit, format!("{target}: {what}"));
    match held.revert(&mut shell).await {
        Ok(reverted) if reverted.back => {}
        Ok(reverted) => {
            let failure = unlike("the way back failed");
            let state = Some(reverted.state);
            return Err(take_back(run, session, Some(shell), held, state, false, failure).await);
        }
        Err(error) => {
            let failure = error.failure(&target);
            let state = error.state().cloned();
            // Nothing more can be said over that one; silence has the host go back all the same.
            return Err(take_back(run, session, None, held, state, false, failure).await);
        }
    }
    run.log.pass(format!("back on {}", held.previous));

    run.log.begin(Gate::Validate);
    let mut settings = delivery.settings.clone();
    settings.preflight = home.checked.settings.preflight.clone();
    let subject = Subject {
        settings: &settings,
        target: &target,
        endpoint: delivery.endpoint,
        system: &System::plain(&held.previous),
        checks: &home.checked.checks,
        baseline,
    };
    let stop = run.world.stop;
    let looked = tokio::select! {
        looked = validate(&mut run.log, session, held, &subject) => Some(looked),
        () = stop.wait() => None,
    };
    let Some(Validated { shell, result }) = looked else {
        let _ = held.end(session).await;
        return Err(Failure::failed(
            Reason::Cancelled,
            format!("stopped: {target} is back on what it ran"),
        )
        .why("whether it is well there was not looked at to the end")
        .next(format!("git nixgate health {target}"))
        .exit(Exit::Reverted));
    };
    let failed = match result {
        Ok(_) => None,
        Err(mut failure) => {
            examine(run, session, held, &mut failure).await;
            Some(failure)
        }
    };
    let ended = match shell {
        Some(mut shell) => held.end(&mut shell).await,
        None => held.end(session).await,
    };
    let steps = by_hand(&target, &ssh_line(session), &held.previous);
    if let Some(mut failure) = failed {
        failure
            .why
            .push(format!("{target} runs again what it ran, and is not well there"));
        failure.next.extend(steps);
        return Err(failure.exit(Exit::NeedsPerson));
    }
    let now = match ended {
        Ok(state) => state.here,
        // Whoever does not answer any more has ended; the host itself tells.
        Err(_) => reach::read_facts(session, &run.target).await?.here,
    };
    let changed = unlike_before(before, &now);
    if !changed.is_empty() {
        let mut failure = unlike("it is not as it was before the rehearsal").exit(Exit::NeedsPerson);
        failure.why = changed;
        failure.next = steps;
        return Err(failure);
    }
    run.log.pass("as before");
    run.log.skip(Gate::Commit, "a rehearsal commits nothing");
    run.log.skip(Gate::KnownGood, "a rehearsal is not recorded");
    let there = delivery
        .restores
        .as_ref()
        .map_or(String::new(), ToString::to_string);
    run.end(Ending {
        what: format!("rehearsed: to {there} and back"),
        ..Ending::default()
    });
    let text = format!(
        "{target}: to {there} and back, well on both, and as it was; nothing is recorded\n\
         git nixgate show {}    # the evidence\n",
        run.id()
    );
    Ok(Outcome {
        exit: 0,
        target,
        outcome: "rehearsed",
        record: None,
        toplevel: Some(held.previous.clone()),
        published: None,
        text,
    })
}

/// What differs, in words: running system, profile with its generation, boot default.
fn unlike_before(before: &Where, now: &Where) -> Vec<String> {
    let path = |path: &Option<String>| path.clone().unwrap_or_else(|| "nothing".to_owned());
    let number = |n: Option<u64>| n.map_or("none".to_owned(), |n| n.to_string());
    let pairs = [
        ("running", path(&before.running), path(&now.running)),
        ("profile", path(&before.profile), path(&now.profile)),
        ("generation", number(before.generation), number(now.generation)),
        (
            "boot default",
            before.boot_default.to_string(),
            now.boot_default.to_string(),
        ),
    ];
    let differs = pairs.into_iter().filter(|(_, was, is)| was != is);
    differs
        .map(|(name, was, is)| format!("{name} was {was}, is {is}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::state::BootDefault;

    #[test]
    fn s4_42_a_generation_more_is_not_as_before() {
        let before = Where {
            running: Some("/nix/store/a".into()),
            profile: Some("/nix/store/a".into()),
            generation: Some(7),
            boot_default: BootDefault::Path("/nix/store/a".into()),
            boot_loader: "grub".into(),
            boot_once: None,
        };
        assert!(unlike_before(&before, &before.clone()).is_empty());
        let now = Where {
            generation: Some(8),
            boot_default: BootDefault::NotVerifiable,
            ..before.clone()
        };
        assert_eq!(
            unlike_before(&before, &now),
            [
                "generation was 7, is 8",
                "boot default was /nix/store/a, is not verifiable"
            ]
        );
    }
}
