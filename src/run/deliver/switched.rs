//! Gates 6 and 7: the switch test and the validation, and what follows when they fail.

use super::{Delivery, let_go, stays, unwanted};
use crate::check::CheckSet;
use crate::event::Gate;
use crate::failure::{Failure, Reason};
use crate::gate::health::Baseline;
use crate::gate::switch_test;
use crate::gate::validate::{self, Subject, Validated, validate};
use crate::host::supervisor::Held;
use crate::host::system::System;
use crate::host::{Session, Shell};
use crate::run::Run;
use crate::run::back::take_back;
use crate::run::journal::Step;
use crate::run::prepare::asked;

/// Switches, and says what runs then.
pub(super) async fn switched(
    run: &mut Run<'_>,
    session: &mut Session,
    held: &Held,
    baseline: &Baseline,
    delivery: &Delivery<'_>,
) -> Result<System, Failure> {
    if let Err(failure) = run.step(Step::Switching) {
        let_go(session, held).await;
        return Err(failure);
    }
    run.log.begin(Gate::SwitchTest);
    let stop = run.world.stop;
    stop.set_switching_here(delivery.settings.is_local());
    let switched = switch_test::switch(&mut run.log, session, held, baseline).await;
    stop.set_switching_here(false);
    let switched = match switched {
        Ok(switched) => switched,
        Err(bad) => {
            run.switch_log = bad.log;
            if !bad.touched {
                let _ = held.end(session).await;
                return Err(bad.failure);
            }
            // A word sends it back at once; without one the host waits for its lease to end.
            let shell = match bad.waiting {
                true => crate::host::fresh(delivery.endpoint).await.ok(),
                false => None,
            };
            let stay = bad.waiting && stays(delivery);
            return Err(take_back(run, session, shell, held, None, stay, bad.failure).await);
        }
    };
    run.switch_log = format!("{}\n{}", switched.stdout, switched.stderr);
    run.log.pass("");
    if run.world.stop.asked() {
        let shell = crate::host::fresh(delivery.endpoint).await.ok();
        let failure = unwanted(run.target.as_str());
        return Err(take_back(run, session, shell, held, None, false, failure).await);
    }
    Ok(switched.state.system())
}

/// Validates what runs, and hands on the fresh connection that proved the way in.
pub(super) async fn validated(
    run: &mut Run<'_>,
    session: &mut Session,
    held: &Held,
    system: &System,
    baseline: &Baseline,
    delivery: &Delivery<'_>,
) -> Result<Shell, Failure> {
    run.log.begin(Gate::Validate);
    let target = run.target.to_string();
    let mut settings = delivery.settings.clone();
    settings.preflight = delivery.checked.settings.preflight.clone();
    let checks = if delivery.options.skip_validation {
        &CheckSet::NONE
    } else {
        &delivery.checked.checks
    };
    if delivery.options.skip_validation {
        settings.timeouts.soak = std::time::Duration::ZERO;
    }
    let subject = Subject {
        settings: &settings,
        target: &target,
        endpoint: delivery.endpoint,
        system,
        checks,
        baseline,
    };
    let stop = run.world.stop;
    let validated = tokio::select! {
        validated = validate(&mut run.log, session, held, &subject) => Some(validated),
        () = stop.wait() => None,
    };
    let Some(Validated { shell, result }) = validated else {
        let shell = crate::host::fresh(delivery.endpoint).await.ok();
        return Err(take_back(run, session, shell, held, None, false, unwanted(&target)).await);
    };
    let failure = match (shell, result) {
        (Some(shell), Ok(_)) => {
            run.log.pass("");
            return Ok(shell);
        }
        (Some(shell), Err(failure)) if delivery.options.skip_validation => {
            run.log.skip(
                Gate::Validate,
                format!("skipped in an emergency: {}", failure.what),
            );
            return Ok(shell);
        }
        (Some(mut shell), Err(failure)) if delivery.options.sick && delivery.home.is_none() => {
            let question = format!(
                "{}\n{target} can be reached. Stay on the restored closure all the same? [y/N]",
                failure.what
            );
            let stay = delivery.options.keep || {
                let answer = asked(run.world.asker, question);
                validate::beside(held, &mut shell, async { Ok(answer.await) })
                    .await
                    .is_ok_and(|yes| yes == Some(true))
            };
            if stay {
                run.log
                    .warn(format!("kept although validation failed: {}", failure.what));
                run.log
                    .skip(Gate::Validate, format!("kept by the operator: {}", failure.what));
                return Ok(shell);
            }
            let failure = failure.next(format!(
                "git nixgate rollback {target} --keep    # stay there although it fails"
            ));
            take_back(run, session, Some(shell), held, None, false, failure).await
        }
        (shell, Err(failure)) => {
            let stay = stays(delivery);
            take_back(run, session, shell, held, None, stay, failure).await
        }
        (None, Ok(_)) => {
            let failure = Failure::failed(Reason::Link, format!("{target}: the fresh connection was lost"));
            take_back(run, session, None, held, None, false, failure).await
        }
    };
    Err(failure)
}
