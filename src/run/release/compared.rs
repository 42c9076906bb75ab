//! Gate 3 of a release: what was built beside what runs.

use std::time::Duration;

use super::{Ready, ReleaseOptions, Resolved};
use crate::config::{Evaluate, Settings};
use crate::event::Gate;
use crate::failure::{Failure, Reason};
use crate::gate::diff::{self, Difference};
use crate::gate::{Place, store_of};
use crate::git::{Repo, Which};
use crate::nix::{self, Closure, StorePath, Unshared};
use crate::record::{Record, Target};
use crate::run::deliver::Outcome;
use crate::run::hold::hold;
use crate::run::journal::{self, Verb};
use crate::run::product::{Bench, Order, Product};
use crate::run::refusals::{nothing_to_do, refuse_other_machine, refuse_withdrawn};
use crate::run::{Run, derivations, explain, secrets};

/// How long the derivations may take; the gate goes on without them.
const DERIVATIONS: Duration = Duration::from_secs(120);

/// What gate 3 came to.
pub(super) enum Compared {
    New(StorePath, Closure),
    Same(Outcome),
}

/// The derivation of what should run on the target, by its newest record here.
pub(super) fn recorded_drv(repo: &Repo, target: &Target) -> Vec<StorePath> {
    let head = || {
        let oid = repo.ledger_head(target, Which::Local).ok()??;
        Record::parse(oid, &repo.tag(&oid).ok()??, None).ok()
    };
    let drv = head().and_then(|record| StorePath::new(&record.evidence.drv?).ok());
    drv.into_iter().collect()
}

/// Gate 2's result and gate 3.
pub(super) async fn compared(
    run: &mut Run<'_>,
    (resolved, options, verb): (&Resolved, &ReleaseOptions, Verb),
    (ready, known): (&Ready, Option<Closure>),
    (order, place, bench): (&Order<'_>, Place<'_>, &Bench),
    product: Product,
) -> Result<Compared, Failure> {
    let repo = run.world.repo;
    let target = run.target.clone();
    let (settings, commit) = (&resolved.settings, &resolved.commit);
    let (ledger, facts) = (ready.ledger.as_deref(), &ready.fit.facts);
    let toplevel = product.toplevel;
    run.evidence.drv = Some(product.drv);
    run.evidence.system = product.system.clone();
    run.evidence.nix_version = product.nix_version;
    run.evidence.builder = builder_name(settings);
    if settings.builder.evaluate == Evaluate::Operator {
        run.log.finding("evaluated on the operator's machine");
    }
    for warning in product.warnings {
        run.log.warn(warning);
    }
    run.log.pass(toplevel.to_string());

    let wanted = (toplevel.as_str(), settings.specialisation.as_str());
    if let Some(outcome) = nothing_to_do(&target, wanted, ledger, facts, options.again, verb) {
        return Ok(Compared::Same(outcome));
    }
    refuse_withdrawn(&target, ledger, toplevel.as_str())?;
    refuse_other_machine(&target, &product.system, facts)?;
    let by = repo.committer()?.to_string();
    // What ran before the first release stands in its record.
    let before = facts.here.running.as_deref().filter(|_| ledger.is_none());
    let said = [
        toplevel.as_str(),
        run.evidence.drv.as_deref().unwrap_or_default(),
        &product.system,
        &settings.specialisation,
        before.unwrap_or_default(),
        &by,
    ];
    secrets::refuse_unsayable(repo, &target, settings, &said)?;

    run.log.begin(Gate::Diff);
    let running = facts.here.running.clone().unwrap_or_default();
    let running = StorePath::new(&running).map_err(|bad| {
        Failure::failed(Reason::Check, format!("{target}: what runs is no toplevel")).why(bad.to_string())
    })?;
    let new = product.closure;
    let known = known.filter(|closure| closure.toplevel == running);
    let old = match (running == toplevel, known) {
        (true, _) => None,
        (_, Some(closure)) => Some(closure),
        _ => {
            let place = store_of(&ready.fit.session);
            Some(nix::closure(&place, &running, settings.timeouts.build).await?)
        }
    };
    let base = ledger.and_then(|ledger| ledger.newest_with_toplevel(running.as_str()));
    let range = base.map(|base| (&base.commit, &commit.id));
    let (moved, between) = match range.filter(|_| old.is_some()) {
        Some(range) => {
            let (moved, between) = diff::between(&mut run.log, repo, &settings.flake, range)?;
            (Some(moved), Some(between))
        }
        None => (None, None),
    };
    let recorded = base.and_then(|base| base.evidence.drv.clone());
    let derivations = match &old {
        None => None,
        Some(old) => {
            let drv = StorePath::new(run.evidence.drv.as_deref().unwrap_or_default());
            unshared(run, old, recorded, drv.ok(), product.unshared, place).await
        }
    };
    // What is there already stays as it is, whatever the builder has under the same path.
    let copied = old.as_ref().map(|old| new.copied_beside(old));
    let sides = (old.as_ref().unwrap_or(&new), copied.as_ref().unwrap_or(&new));
    let (mut difference, bad) = Difference::new(sides, derivations.as_ref(), between);
    if let Some(bad) = bad {
        run.log
            .note(format!("the derivations do not fit together: {bad}"));
    }
    if options.check.explain
        && let (Some(derivations), Some(moved)) = (&derivations, &moved)
    {
        let work = (order, place, bench);
        let sides = (&derivations.old, &derivations.new);
        explain::prove(&run.log, &mut difference, work, sides, moved).await;
    }
    let places = [place, Place::Host(&ready.fit.session)];
    hold(&run.log, &mut difference, sides, &places).await;
    let (mut evidence, headline) = diff::shown(&mut run.log, &difference);
    if let (Some(range), Some(moved)) = (range, &moved) {
        let policy = (settings.input_drift, options.check.accept_input.as_slice());
        evidence.inputs = diff::inputs(&mut run.log, repo, moved, range, policy)?;
    }
    diff::unexplained(&mut run.log, &difference, options.check.accept_unexplained)?;
    run.evidence.diff = Some(evidence);
    run.evidence.flake_lock_sha256 = repo
        .read_file(&commit.id, &diff::lock_file(&settings.flake))?
        .map(|bytes| crate::record::sha256_hex(&bytes));
    run.attach(journal::CLOSURE, new.list().into_bytes());
    if let Some(derivations) = derivations {
        run.make(journal::DERIVATIONS, move |keys| {
            let is_told = |text: &[u8]| keys.count(&String::from_utf8_lossy(text)) > 0;
            let told = !keys.is_empty() && derivations.texts().iter().any(|(_, text)| is_told(text));
            if told { Vec::new() } else { derivations.packed() }
        });
    }
    run.log.pass(headline);
    Ok(Compared::New(toplevel, new))
}

/// The derivations beside those of what runs: read with the product where its record was right, else now. What cannot be
/// told without them is said.
async fn unshared(
    run: &mut Run<'_>,
    old: &Closure,
    recorded: Option<String>,
    drv: Option<StorePath>,
    known: Option<Unshared>,
    place: Place<'_>,
) -> Option<Unshared> {
    let drv = drv?;
    let deriver = old.deriver().cloned();
    let recorded = recorded.and_then(|path| StorePath::new(&path).ok());
    let olds: Vec<StorePath> = recorded.into_iter().chain(deriver).collect();
    if let Some(known) = known.filter(|known| olds.contains(&known.old)) {
        return Some(known);
    }
    let of = (run.world.repo, &run.target);
    match derivations::read(of, Ok(place), &olds, &drv, DERIVATIONS).await {
        Ok((unshared, note)) => {
            note.into_iter().for_each(|note| run.log.finding(note));
            Some(unshared)
        }
        Err(why) => {
            run.log
                .finding(format!("{why}: what was changed is told by names alone"));
            None
        }
    }
}

/// A name for evidence: never an address.
fn builder_name(settings: &Settings) -> String {
    match settings.builder.host.as_str() {
        "" => "operator".to_owned(),
        host if host.contains(['.', ':', '@']) => "builder".to_owned(),
        host => host.to_owned(),
    }
}
