//! `publish`: records that were made while the remote was out of reach, the same objects as then.

use super::{World, resolve};
use crate::event::Event;
use crate::failure::{Exit, Failure};
use crate::gate::known_good::RemoteSide;
use crate::git::{PushError, Repo};
use crate::record::{RecordName, Target};

/// Where the records of a target go that HEAD's file does not name any more: as the newest one's commit says, else to
/// the default remote.
///
/// # Errors
/// A record that cannot be read.
pub fn recorded_remote(repo: &Repo, target: &Target) -> Result<String, Failure> {
    let ledger = resolve::own_ledger(repo, target)?;
    let commit = ledger.and_then(|ledger| repo.commit(&ledger.head().commit).ok());
    let settings = commit
        .and_then(|commit| resolve::at_commit(repo, &commit).ok())
        .and_then(|config| resolve::settings_of(&config, target).ok());
    Ok(settings.unwrap_or_default().remote)
}

/// After a fork: fetches the remote's records and takes them in place of those here that lost. Returns the losers' names.
///
/// # Errors
/// The remote cannot be reached, or its ledger does not hold.
pub async fn take_theirs(repo: &Repo, target: &Target, remote: &str) -> Result<Vec<RecordName>, Failure> {
    repo.fetch(remote, target).await?;
    repo.take_theirs(target, remote)
}

/// What was published: the records' names, none if there was nothing to do.
///
/// # Errors
/// Exit 8 when the remote still cannot be reached, 3 when somebody else's record is there instead.
pub async fn publish(world: World<'_>, target: &Target, remote: &str) -> Result<Vec<String>, Failure> {
    let repo = world.repo;
    let waits = |failure: Failure| failure.exit(Exit::Unpublished);
    let (name, refs) = match resolve::remote_side(repo, remote, target).await? {
        RemoteSide::None => {
            return Err(Failure::config("there is no remote to publish to").next("git remote add origin URL"));
        }
        RemoteSide::Away { failure, .. } => {
            return Err(waits(failure).next(format!("git nixgate publish {target}")));
        }
        RemoteSide::Ready { name, refs } => (name, refs),
    };
    let Some(set) = repo.unpublished(target, &refs)? else {
        // What a crash left between a push and the refs here is finished by asking the remote.
        return Ok(Vec::new());
    };
    match repo.publish(&name, target, &set, &refs).await {
        Ok(()) => {}
        Err(error @ PushError::Race { .. }) => {
            return Err(error
                .failure(&name, target)
                .why("the record here stays pending; it is not on the remote's line")
                .next(format!(
                    "git nixgate publish {target}     # says how to take theirs"
                )));
        }
        Err(error) => return Err(error.failure(&name, target)),
    }
    repo.commit_set(target, &set, Some(&name), false)?;
    let mut names = Vec::new();
    for (record, oid) in &set.records {
        let commit = repo.record(oid, None)?.commit.to_string();
        world.watcher.see(&Event::Recorded {
            target: target.to_string(),
            record: record.to_string(),
            commit,
            published: true,
        });
        names.push(record.to_string());
    }
    Ok(names)
}
