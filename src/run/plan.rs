//! `plan`: what a release would change, and what its rules say to that. Nothing is written: no hook runs, no record is
//! fetched, no lock is taken, and the target is only read.

use super::carried::{self, Knowingly};
use super::compare::{Compared, How, with_live};
use super::refusals::refuse_withdrawn;
use super::{World, reach, resolve};
use crate::failure::Failure;
use crate::gate::GateLog;
use crate::gate::diff;
use crate::plan::median;
use crate::record::{Kind, Ledger, Oid, Target};

/// `plan`'s words.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    pub rev: Option<String>,
    pub host: Option<String>,
    pub accept_input: Vec<String>,
    pub accept_unexplained: bool,
    pub explain: bool,
    pub impure: bool,
}

/// What a release would do.
#[derive(Debug)]
pub struct Planned {
    pub compared: Compared,
    /// The record of what runs; `None`: a system that no record names.
    pub runs: Option<String>,
    /// What releases of this target took lately, in milliseconds, and how many of them this is the median of.
    pub estimate: Option<(u64, usize)>,
    /// The rule that a release would be refused by.
    pub refused: Option<Failure>,
}

impl Planned {
    /// Whether the candidate is another closure than the one that runs.
    pub fn is_changed(&self) -> bool {
        self.compared.from.toplevel != self.compared.to.toplevel
    }
}

/// Of so many releases the time is remembered.
const REMEMBERED: usize = 5;

/// Builds the commit and compares it with what runs.
///
/// # Errors
/// What a release is refused for before it builds; a host or builder that cannot be reached; a commit that does not build.
pub async fn plan(world: World<'_>, target: &Target, options: &PlanOptions) -> Result<Planned, Failure> {
    let repo = world.repo;
    let mut log = GateLog::new(world.watcher);
    let commit = repo.resolve(options.rev.as_deref().unwrap_or("HEAD"))?;
    let config = resolve::at_commit(repo, &commit)?;
    let mut settings = resolve::settings_of(&config, target)?;
    reach::reach_at(&mut settings, options.host.as_deref())?;
    resolve::refuse_unclean(repo, &log, options.rev.is_some())?;
    let trusted = resolve::trusted(repo, target, &settings.remote)?;
    let ledger = trusted.as_deref();
    resolve::refuse_rewind(repo, ledger, &commit, target)?;
    let id = commit.id;
    let how = How {
        explain: options.explain,
        impure: options.impure,
        again: format!("git nixgate plan {target}"),
    };
    let known = (&settings, trusted.as_ref());
    let (compared, moved) = with_live(world, target, known, commit, &how).await?;
    let running = ledger.and_then(|ledger| ledger.newest_with_toplevel(&compared.from.toplevel));
    let drifted = ledger
        .map(Ledger::head)
        .filter(|head| head.evidence.toplevel != compared.from.toplevel);
    if let Some(head) = drifted {
        let (runs, recorded) = (&compared.from.toplevel, &head.evidence.toplevel);
        log.note(format!(
            "{target} has drifted: it runs {runs}, recorded is {recorded}"
        ));
    }
    let mut judged = || -> Result<(), Failure> {
        if let Some(facts) = &compared.facts {
            let host = carried::Host {
                repo,
                target,
                ledger,
                facts,
            };
            host.judge(Knowingly::default(), &mut log)?;
        }
        refuse_withdrawn(target, ledger, &compared.to.toplevel)?;
        if let (Some(base), Some(moved)) = (running, &moved) {
            let policy = (settings.input_drift, options.accept_input.as_slice());
            let range: (&Oid, &Oid) = (&base.commit, &id);
            diff::inputs(&mut log, repo, moved, range, policy)?;
        }
        diff::unexplained(&mut log, &compared.difference, options.accept_unexplained)
    };
    let refused = judged().err();
    Ok(Planned {
        runs: running.map(|record| record.name.to_string()),
        estimate: estimate(ledger),
        compared,
        refused,
    })
}

fn estimate(ledger: Option<&Ledger>) -> Option<(u64, usize)> {
    let releases = ledger.into_iter().flat_map(Ledger::records);
    let releases = releases.filter(|record| record.kind == Kind::Release);
    let mut millis: Vec<u64> = releases.map(|record| record.evidence.millis()).collect();
    let lately = millis.split_off(millis.len().saturating_sub(REMEMBERED));
    let count = lately.len();
    median(lately).map(|millis| (millis, count))
}
