//! Reading a host for a way back before it is certain where that leads.

use super::journal::Verb;
use super::restore::RestoreOptions;
use super::{World, resolve};
use crate::config::Settings;
use crate::event::{Event, Watcher};
use crate::failure::Failure;
use crate::gate::{GateLog, preflight, store_of};
use crate::host::{Endpoint, Session};
use crate::nix::{self, Closure, StorePath};
use crate::record::{Ledger, Oid, Target};

/// What a host runs.
const RUNNING: &str = "/run/current-system";

/// Where a run will probably go: what a rollback goes back to is certain only when the host was read.
pub(super) struct Guess {
    /// Its record's tag object.
    pub record: Oid,
    pub commit: Oid,
    pub toplevel: String,
}

/// # Errors
/// What is asked for makes no sense, whatever the host says.
pub(super) fn guess(ledger: &Ledger, options: &RestoreOptions, verb: Verb) -> Result<Guess, Failure> {
    let choice = match (verb, &options.to) {
        (Verb::Deploy, Some(to)) => ledger.deploy_choice(to)?,
        (_, Some(to)) => ledger.rollback_choice(Some(to))?,
        (_, None) => ledger
            .rollback_choice(None)
            .unwrap_or_else(|_| ledger.return_choice()),
    };
    Ok(Guess {
        record: choice.source.oid,
        commit: choice.source.commit,
        toplevel: choice.toplevel().to_owned(),
    })
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
    let commit = world.repo.commit(&guess.commit)?;
    // What the file has that is not known here was told, or will be.
    let mut silent = GateLog::new(&Silent);
    let checked = resolve::checks_of(world.repo, &mut silent, &commit, target)?;
    let checked = checked.as_ref().unwrap_or(settings);
    let files = resolve::files_of(world.repo, &commit.id, &checked.checks)?;
    let asked = preflight::Asked {
        services: &checked.preflight.services,
        checks: &checked.checks,
        files: &files,
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
