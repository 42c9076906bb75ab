//! `prune`: the roots of releases that nobody needs any more go; the records stay.

use serde::Serialize;

use super::store::{Desk, StoreOptions};
use super::{World, reach};
use crate::failure::Failure;
use crate::gate::{Place, known_good};
use crate::host::Facts;
use crate::host::supervisor;
use crate::record::{Ledger, RecordName, Target};

/// What `prune` was asked.
#[derive(Debug, Clone, Default)]
pub struct PruneOptions {
    pub host: Option<String>,
    /// Say what would go, and change nothing.
    pub dry_run: bool,
}

/// Which roots went.
#[derive(Debug, Clone, Serialize)]
pub struct Pruned {
    pub target: String,
    /// The records whose closures are kept no more, oldest first.
    pub records: Vec<String>,
    pub dry_run: bool,
    #[serde(skip)]
    pub text: String,
}

/// Removes the roots of known-good releases beyond `keep` and of withdrawn ones, on the target and on its builder. What
/// runs, has booted, boots next or is where a rollback would go keeps its root. Holds the target meanwhile.
///
/// # Errors
/// Exit 3: no records, or the newest one does not pass. Exit 6: somebody's run holds the target. A root that cannot be removed is a warning.
pub async fn prune(world: World<'_>, target: &Target, options: &PruneOptions) -> Result<Pruned, Failure> {
    let look = StoreOptions {
        host: options.host.clone(),
        contents: false,
    };
    let mut desk = Desk::open(world, target, &look).await?;
    let pruned = drop_roots(&mut desk, target, options.dry_run).await;
    desk.session.close().await;
    pruned
}

async fn drop_roots(desk: &mut Desk<'_>, target: &Target, dry_run: bool) -> Result<Pruned, Failure> {
    if let Some(failure) = desk.unfit.take() {
        return Err(failure);
    }
    let Some(ledger) = desk.ledger.clone() else {
        return Err(
            Failure::refused(format!("{target} has no record")).next(format!("git nixgate release {target}"))
        );
    };
    let keep = desk.settings.keep;
    let facts = reach::read_facts(&desk.session, target).await?;
    let gone = going(&ledger, keep, &facts);
    if dry_run || gone.is_empty() {
        return Ok(told(target, &gone, dry_run));
    }
    let plan = desk.plan(&facts, "prune")?;
    let held = supervisor::hold(&desk.session, &plan)
        .await
        .map_err(|error| error.failure(target.as_str()))?;
    // Somebody may have switched the host meanwhile; from here on nobody does.
    let gone = match reach::read_facts(&desk.session, target).await {
        Ok(facts) => Ok(going(&ledger, keep, &facts)),
        Err(failure) => Err(failure),
    };
    if let Ok(gone) = &gone {
        let names: Vec<String> = gone.iter().map(RecordName::leaf).collect();
        let builder = desk.builder().await;
        let place = match (&builder, desk.settings.builder.host.as_str()) {
            (Some(session), _) => Some(Place::Host(session)),
            (None, "") => Some(Place::Here),
            (None, _) => None,
        };
        known_good::drop_roots(&mut desk.log, &mut &desk.session, place, &ledger, &names).await;
        if let Some(session) = builder {
            session.close().await;
        }
    }
    if held.end(&mut &desk.session).await.is_err() {
        let _ = supervisor::release_leftover(&mut &desk.session, &held.run).await;
    }
    Ok(told(target, &gone?, false))
}

fn going(ledger: &Ledger, keep: u32, facts: &Facts) -> Vec<RecordName> {
    let here = &facts.here;
    // A specialisation is kept by its toplevel.
    let bases = facts.specialised.iter().map(|known| known.toplevel.as_str());
    let in_use: Vec<&str> = [
        here.running.as_deref(),
        here.profile.as_deref(),
        here.boot_default.path(),
        facts.booted.as_deref(),
    ]
    .into_iter()
    .flatten()
    .chain(bases)
    .collect();
    let prefix = format!("{}/", ledger.target());
    let own = facts.roots.iter().filter_map(|(name, path)| {
        let name = name.strip_prefix(&prefix)?;
        Some((name.to_owned(), path.clone()))
    });
    known_good::prunable(ledger, keep, &own.collect(), &in_use)
}

fn told(target: &Target, gone: &[RecordName], dry_run: bool) -> Pruned {
    let word = if dry_run { "would go" } else { "is gone" };
    let mut text = String::new();
    for name in gone {
        text.push_str(&format!("{name}: its root {word}; the record stays\n"));
    }
    if gone.is_empty() {
        text = format!("{target}: every root is needed\n");
    } else if !dry_run {
        text.push_str(&format!(
            "the next garbage collection on {target} takes what only they kept\n"
        ));
    }
    Pruned {
        target: target.to_string(),
        records: gone.iter().map(ToString::to_string).collect(),
        dry_run,
        text,
    }
}
