//! `release --cancel-older`: the release of a newer commit asks that of an older one to make room, as long as that has not
//! begun to switch.

use super::journal::{Step, Verb};
use super::{Run, World, cancel, running};
use crate::config::Settings;
use crate::event::Event;
use crate::failure::Failure;
use crate::gate::preflight::{self, Asked, Reading};
use crate::git::Commit;
use crate::host::facts::Holder;
use crate::host::supervisor::{self, Held, HoldError, Plan};
use crate::host::{Endpoint, Session};
use crate::record::{Oid, Target};

/// The release that wants room.
#[derive(Clone, Copy)]
pub(super) struct Newer<'a> {
    pub world: World<'a>,
    pub target: &'a Target,
    pub commit: &'a Commit,
}

impl Newer<'_> {
    /// Whether `commit` is an ancestor of ours. One that this clone has not got is not known to be.
    fn follows(&self, commit: &str) -> bool {
        let Ok(older) = commit.parse::<Oid>() else {
            return false;
        };
        older != self.commit.id
            && self
                .world
                .repo
                .is_ancestor(&older, &self.commit.id)
                .unwrap_or(false)
    }

    /// Only a release gives way: a rollback goes to an older commit on purpose.
    fn supersedes(&self, holder: &Holder) -> bool {
        holder.verb == Verb::Release.name()
            && holder.target == self.target.as_str()
            && self.follows(&holder.commit)
    }

    fn note(&self, run: &str, by: &str, commit: &str) {
        let commit: String = commit.chars().take(12).collect();
        let text = format!("asking run {run} of {by}, at the older commit {commit}, to make room");
        self.world.watcher.see(&Event::Note { text });
    }

    /// Ends older releases of this machine that have not come to their switch.
    ///
    /// # Errors
    /// One of them could not be asked, or does not end.
    pub async fn here(&self, run: &Run<'_>, settings: &Settings) -> Result<(), Failure> {
        for (runner, process) in running::living(self.world.repo, self.target) {
            let other = runner.run != run.id() && runner.verb == Verb::Release;
            if !other || !self.follows(&runner.commit) {
                continue;
            }
            let state = cancel::journal_of(self.world, self.target, &runner.run)?;
            if state.is_some_and(|state| state.step >= Step::Switching) {
                continue;
            }
            self.note(&runner.run, &runner.by, &runner.commit);
            cancel::ask(self.world, self.target, settings, &runner, &process).await?;
        }
        Ok(())
    }

    /// Has an older release let go of the host that was read, and reads it again. Whoever may not be superseded, or has
    /// begun to switch by then, stays in the reading, and preflight says who it is.
    ///
    /// # Errors
    /// What the connection says in mid-command.
    pub async fn at(
        &self,
        reading: Reading,
        endpoint: &Endpoint,
        asked: Asked<'_>,
    ) -> Result<Reading, Failure> {
        let holder = reading.facts().and_then(|facts| facts.holder.as_ref());
        let Some(holder) = holder.filter(|holder| self.supersedes(holder)).cloned() else {
            return Ok(reading);
        };
        let Some(session) = reading.session() else {
            return Ok(reading);
        };
        if !self.asked(session, &holder).await {
            return Ok(reading);
        }
        let (reading, _) =
            preflight::read_over(reading.reached(), endpoint, asked, async |_: &Session| ()).await?;
        Ok(reading)
    }

    /// Whether it has let go.
    async fn asked(&self, session: &Session, holder: &Holder) -> bool {
        self.note(&holder.run, &holder.who, &holder.commit);
        let Ok(who) = self.world.repo.committer() else {
            return false;
        };
        supervisor::supersede(&mut &*session, &holder.run, &who.to_string())
            .await
            .is_ok()
    }
}

/// Takes the lock; `newer`: from an older release too, which took it since preflight.
///
/// # Errors
/// As [`supervisor::hold`].
pub(super) async fn hold(
    session: &Session,
    plan: &Plan,
    newer: Option<Newer<'_>>,
) -> Result<Held, HoldError> {
    match (supervisor::hold(session, plan).await, newer) {
        (Err(HoldError::Busy(Some(holder))), Some(newer))
            if newer.supersedes(&holder) && newer.asked(session, &holder).await =>
        {
            supervisor::hold(session, plan).await
        }
        (held, _) => held,
    }
}
