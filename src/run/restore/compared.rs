//! What going back changes, and why, by what is here: records, commits and the journals of the releases that are undone.
//! Nobody's derivations are asked for, and nothing of it is a reason not to go back.

use super::super::{Run, derivations};
use crate::config::Settings;
use crate::diff::Between;
use crate::gate::diff::{self, Difference};
use crate::gate::preflight::Fit;
use crate::gate::store_of;
use crate::nix::{self, Closure, StorePath, Unshared};
use crate::record::{Choice, Ledger, OnHost, Record};

/// Shows and keeps how `closure` differs from what runs, which may have been read already; the gate's last words.
pub(super) async fn compared(
    run: &mut Run<'_>,
    fit: &Fit,
    (ledger, choice): (&Ledger, &Choice<'_>),
    (known, closure): (Option<Closure>, &Closure),
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
    let old = match old {
        Ok(old) => old,
        Err(failure) => {
            run.log.warn(failure.what);
            return "what runs cannot be read".to_owned();
        }
    };
    let closure = &closure.copied_beside(&old);
    let base = ledger.newest_with_toplevel(running.as_str());
    let (unshared, between) = match old.toplevel == closure.toplevel {
        true => (None, None),
        false => (
            unshared(run, (base, &old), (choice, closure), settings).await,
            between(run, base, choice, settings),
        ),
    };
    let (difference, bad) = Difference::new((&old, closure), unshared.as_ref(), between);
    if let Some(bad) = bad {
        run.log
            .note(format!("the derivations do not fit together: {bad}"));
    }
    let (evidence, headline) = diff::shown(&mut run.log, &difference);
    run.evidence.diff = Some(evidence);
    headline
}

/// The derivations of both, from the journals of the runs between them.
async fn unshared(
    run: &mut Run<'_>,
    (base, old): (Option<&Record>, &Closure),
    (choice, new): (&Choice<'_>, &Closure),
    settings: &Settings,
) -> Option<Unshared> {
    let recorded = |record: &Record| StorePath::new(record.evidence.drv.as_deref()?).ok();
    let source = (choice.restores != OnHost::BeforeFirst).then_some(choice.source);
    let drv = source.and_then(recorded).or_else(|| new.deriver().cloned())?;
    let olds: Vec<StorePath> = base
        .and_then(recorded)
        .into_iter()
        .chain(old.deriver().cloned())
        .collect();
    let elsewhere = Err("no journal here has the derivations".to_owned());
    let of = (run.world.repo, &run.target);
    match derivations::read(of, elsewhere, &olds, &drv, settings.timeouts.build).await {
        Ok((unshared, _)) => Some(unshared),
        Err(why) => {
            run.log.note(format!("{why}: told by names alone"));
            None
        }
    }
}

/// What lies between the two commits, if both are known.
fn between(
    run: &mut Run<'_>,
    base: Option<&Record>,
    choice: &Choice<'_>,
    settings: &Settings,
) -> Option<Between> {
    let base = base?;
    if choice.restores == OnHost::BeforeFirst {
        return None;
    }
    let (repo, range) = (run.world.repo, (&base.commit, &choice.source.commit));
    match diff::between(&mut run.log, repo, &settings.flake, range) {
        Ok((_, between)) => Some(between),
        Err(failure) => {
            run.log.warn(failure.what);
            None
        }
    }
}
