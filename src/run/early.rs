//! Reading a host for a way back before it is certain where that leads.

use super::journal::Verb;
use super::restore::RestoreOptions;
use super::{World, resolve};
use crate::config::Settings;
use crate::event::{Event, Watcher};
use crate::failure::Failure;
use crate::gate::{GateLog, preflight, store_of};
use crate::git::{Released, Repo, Trusted};
use crate::host::{Endpoint, Session};
use crate::nix::{self, Closure, StorePath};
use crate::record::{Choice, Oid, Target};

/// What a host runs.
const RUNNING: &str = "/run/current-system";

/// Where a run will probably go: what a rollback goes back to is certain only when the host was read.
pub(super) struct Guess {
    /// Its record's tag object.
    pub record: Oid,
    pub released: Released,
    pub toplevel: String,
}

/// # Errors
/// What is asked for makes no sense, whatever the host says; or its record does not pass.
pub(super) fn guess(
    repo: &Repo,
    ledger: &Trusted,
    options: &RestoreOptions,
    verb: Verb,
) -> Result<Guess, Failure> {
    let to = |choice: Choice<'_>| {
        Ok(Guess {
            record: choice.source.oid,
            released: ledger.released(repo, choice.source)?,
            toplevel: choice.toplevel().to_owned(),
        })
    };
    match (verb, &options.to) {
        (Verb::Deploy, Some(name)) => to(ledger.deploy_choice(name)?),
        (_, Some(name)) => to(ledger.rollback_choice(Some(name))?),
        (_, None) => ledger
            .rollback_choice(None)
            .and_then(to)
            .or_else(|_| to(ledger.return_choice())),
    }
}

/// The closure to restore and the one that runs.
pub(super) type Closures = (Closure, Closure);

/// The host, as far as it is known.
pub(super) enum Host {
    Reached(Box<preflight::Reached>),
    /// Read by the checks of this record's commit.
    Read {
        of: Oid,
        result: Box<Result<(preflight::Reading, Option<Closures>), Failure>>,
    },
}

/// Reads a host for a way back: its facts, the checks of the commit that is restored, and both closures. Where a closure
/// cannot be read, asking again says why.
pub(super) async fn read(
    world: World<'_>,
    target: &Target,
    (reached, endpoint): (preflight::Reached, &Endpoint),
    settings: &Settings,
    guess: &Guess,
) -> Result<(preflight::Reading, Option<Closures>), Failure> {
    // What the file has that is not known here was told, or will be.
    let mut silent = GateLog::new(&Silent);
    let checked = resolve::checks_of(world.repo, &mut silent, &guess.released, target, settings)?;
    let asked = preflight::Asked {
        services: &checked.settings.preflight.services,
        checks: &checked.checks,
        trust: false,
    };
    let limit = settings.timeouts.build;
    let closures = async |session: &Session| {
        let toplevel = StorePath::new(&guess.toplevel).ok()?;
        nix::closure_and_linked(&store_of(session), &toplevel, RUNNING, limit)
            .await
            .ok()
    };
    let (reading, known) = preflight::read_over(reached, endpoint, asked, closures).await?;
    Ok((reading, known.flatten()))
}

struct Silent;

impl Watcher for Silent {
    fn see(&self, _: &Event) {}
}
