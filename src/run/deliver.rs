//! Gates 4 to 9, the same for a release, a rollback and a deploy: hold, copy, rehearse, switch, validate, commit, mark.

mod committed;
mod held;
mod recorded;
mod switched;

use self::committed::committed;
pub(super) use self::committed::unrecorded;
use self::held::{Ready, held};
use self::recorded::recorded;
use self::switched::{switched, validated};
use super::Run;
use super::journal::Step;
use super::product::{Bench, Order};
use super::registered::Recorded;
use super::rehearse::{Home, and_back};
use super::resolve::Checked;
use crate::config::Settings;
use crate::failure::{Failure, Reason};
use crate::gate::health::Baseline;
use crate::gate::known_good::RemoteSide;
use crate::gate::preflight::Fit;
use crate::gate::{Place, build};
use crate::git::Commit;
use crate::host::supervisor::{self, Held, Plan};
use crate::host::{Endpoint, Facts, Session};
use crate::nix::{Closure, StorePath};
use crate::record::evidence::Before;
use crate::record::{Kind, OnHost, RecordName};

/// How a run ended well enough to say so on standard output.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Outcome {
    pub exit: u8,
    pub target: String,
    /// What happened, in a word: `released`, `rolled-back`, `deployed`, `unchanged`, `needs-reboot`, `checked`, …
    pub outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toplevel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<bool>,
    #[serde(skip)]
    pub text: String,
}

/// What goes onto the host, and how.
pub(super) struct Delivery<'a> {
    pub kind: Kind,
    /// How to reach the host.
    pub settings: &'a Settings,
    /// What to check there: of the commit that is restored.
    pub checked: &'a Checked,
    pub endpoint: &'a Endpoint,
    pub commit: &'a Commit,
    pub toplevel: StorePath,
    pub closure: &'a Closure,
    /// Where it is copied from; `None`: it is on the target.
    pub supply: Option<Place<'a>>,
    /// The builder, to root the closure there; a rollback and a deploy leave its roots as they are, unless they built.
    pub builder: Option<Place<'a>>,
    /// What the run left on the builder, and where.
    pub workshop: Option<(&'a Order<'a>, &'a Bench)>,
    /// The target built it, and keeps it by this root for the length of the run.
    pub built_on_target: Option<String>,
    pub restores: Option<OnHost>,
    /// What the records say of the closure's bytes, where it goes on again.
    pub recorded: Option<Recorded<'a>>,
    pub withdraws: Vec<RecordName>,
    pub remote: RemoteSide,
    /// `rollback --rehearse`: what the host is held against after it came back.
    pub home: Option<Home>,
    pub options: Options,
}

/// What the command line says about the way.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    pub accept_drift: bool,
    /// A boot loader that does not tell what it boots.
    pub accept_loader: bool,
    /// Stop after dry-activate: `check`, `rollback --check`.
    pub rehearse_only: bool,
    /// A person is asked before the switch.
    pub confirm: bool,
    pub boot: bool,
    pub skip_validation: bool,
    /// Checks that failed before do not count; a reachable host may stay.
    pub sick: bool,
    pub keep: bool,
    /// Garbage may be collected on the target where the closure does not fit.
    pub gc: bool,
    /// Older releases that have not begun to switch give way.
    pub cancel_older: bool,
}

/// Drives it to its end; the run's journal says how.
pub(super) async fn deliver(
    run: &mut Run<'_>,
    fit: Fit,
    delivery: &Delivery<'_>,
) -> Result<Outcome, Failure> {
    let Fit {
        mut session,
        facts,
        failing,
    } = fit;
    let result = drive(run, &mut session, &facts, failing, delivery).await;
    if let Some(link) = &delivery.built_on_target {
        build::tidy(Place::Host(&session), run.target.as_str(), run.id(), link).await;
    }
    session.close().await;
    result
}

async fn drive(
    run: &mut Run<'_>,
    session: &mut Session,
    facts: &Facts,
    failing: Vec<String>,
    delivery: &Delivery<'_>,
) -> Result<Outcome, Failure> {
    let previous = facts.here.running.clone().unwrap_or_default();
    run.state.candidate = Some(delivery.toplevel.to_string());
    run.state.previous = Some(previous.clone());
    run.state.restores = delivery.restores.as_ref().map(ToString::to_string);
    run.state.withdraws = delivery.withdraws.iter().map(ToString::to_string).collect();
    run.state.unvalidated = delivery.options.skip_validation;
    run.evidence.toplevel = delivery.toplevel.to_string();
    run.evidence.generation_before = facts.here.generation;
    run.evidence.specialisation =
        Some(delivery.checked.settings.specialisation.clone()).filter(|name| !name.is_empty());
    run.evidence.before = Some(Before {
        toplevel: previous,
        nar_hash: None,
        closure_digest: None,
    });
    run.step(Step::Holding)?;

    let held = match held(run, session, facts, delivery).await? {
        Ready::Held(held) => *held,
        Ready::Ended(outcome) => return Ok(*outcome),
    };
    let mut baseline = Baseline::of(facts, delivery.settings.preflight.usage_factor);
    if delivery.options.sick {
        baseline.excused = failing;
    }
    let system = switched(run, session, &held, &baseline, delivery).await?;

    let shell = validated(run, session, &held, &system, &baseline, delivery).await?;
    if let Some(home) = &delivery.home {
        let here = (&held, shell);
        return and_back(run, session, here, &baseline, (delivery, home), &facts.here).await;
    }

    let (mut shell, named) = committed(run, session, (&held, shell), delivery).await?;
    if delivery.options.skip_validation {
        let _ = held.end(&mut shell).await;
        return Ok(unrecorded(run, delivery.toplevel.as_str()));
    }
    recorded(run, session, (&held, &mut shell), (facts, named), delivery).await
}

/// Somebody wanted the run to end, and the switch had begun by then.
pub(super) fn unwanted(target: &str) -> Failure {
    Failure::failed(
        Reason::Cancelled,
        format!("stopped: {target} does not stay on the candidate"),
    )
}

/// `auto-rollback = false` leaves a host that fails on the new system; a rehearsal never does.
fn stays(delivery: &Delivery<'_>) -> bool {
    !delivery.settings.auto_rollback && delivery.home.is_none()
}

/// Ends a hold without a switch, and leaves nothing behind.
async fn let_go(session: &mut Session, held: &Held) {
    // A supervisor that cannot be told lets go by itself when its lease ends; the next run sweeps.
    if held.end(session).await.is_err() {
        let _ = supervisor::release_leftover(session, &held.run).await;
    }
}

fn plan(run: &Run<'_>, facts: &Facts, delivery: &Delivery<'_>) -> Plan {
    let settings = delivery.settings;
    Plan {
        run: run.id().to_owned(),
        target: run.target.to_string(),
        verb: run.state.verb.name().to_owned(),
        commit: run.state.commit.clone(),
        who: run.state.by.clone(),
        candidate: delivery.toplevel.to_string(),
        seen: facts.here.clone(),
        failed: facts.failed_units.clone(),
        lease: settings.timeouts.confirm,
        activate: settings.timeouts.activate,
        reboot_on_failed_revert: settings.reboot_on_failed_revert,
        accept_drift: delivery.options.accept_drift,
        accept_loader: delivery.options.accept_loader,
        specialisation: Some(delivery.checked.settings.specialisation.clone()).filter(|s| !s.is_empty()),
        container: facts.container.clone(),
        never_reboot: settings.is_local(),
    }
}
