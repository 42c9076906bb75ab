//! `logs`: the journal of what a target is there for.

use super::{World, reach, resolve};
use crate::config::Probe;
use crate::failure::{Failure, Reason};
use crate::gate::GateLog;
use crate::host::follow;
use crate::record::Target;

/// `logs`' words.
#[derive(Debug, Clone, Default)]
pub struct LogsOptions {
    /// None: those which the target's checks name; where they name none, the whole journal.
    pub units: Vec<String>,
    pub follow: bool,
    pub most: u32,
    pub json: bool,
    pub host: Option<String>,
}

/// Hands the lines of a target's journal to `line`, which says whether it wants more.
///
/// # Errors
/// Exit 1: the host cannot be reached, or journalctl fails there.
pub async fn logs(
    world: World<'_>,
    target: &Target,
    options: &LogsOptions,
    line: impl FnMut(&str) -> bool,
) -> Result<(), Failure> {
    let settings = reach::settings_now(&world, target, options.host.as_deref())?;
    let endpoint = reach::endpoint(target, &settings, world.asker)?;
    let mut log = GateLog::new(world.watcher);
    let units = match options.units.is_empty() {
        false => options.units.clone(),
        true => {
            // As `health` does: what is checked is what the current record's commit says.
            match resolve::trusted(world.repo, target, &settings.remote) {
                Ok(Some(ledger)) => {
                    let released = ledger.released(world.repo, ledger.head())?;
                    let recorded = resolve::checks_of(world.repo, &mut log, &released, target, &settings)?;
                    checked(recorded.checks.iter())
                }
                Ok(None) => checked(settings.checks.iter()),
                Err(failure) => {
                    log.warn(format!("the records of {target} are left out: {}", failure.what));
                    checked(settings.checks.iter())
                }
            }
        }
    };
    if !options.json {
        log.note(match units.as_slice() {
            [] => format!("{target}: the whole journal"),
            units => format!("{target}: {}", units.join(", ")),
        });
    }
    let mut arguments = vec!["--no-pager".to_owned(), format!("--lines={}", options.most)];
    arguments.push(format!(
        "--output={}",
        if options.json { "json" } else { "short-iso" }
    ));
    arguments.extend(units.iter().map(|unit| format!("--unit={unit}")));
    let end = follow::journal(&endpoint, &arguments, options.follow, line)
        .await
        .map_err(|error| error.failure(target.as_str()))?;
    if end.status == 0 {
        return Ok(());
    }
    let what = format!("{target}: journalctl ended with {}", end.status);
    let mut failure = Failure::failed(Reason::Script, what);
    failure.why = end.stderr;
    Err(failure)
}

/// The units that checks name, each once.
fn checked<'a>(checks: impl Iterator<Item = &'a crate::config::Check>) -> Vec<String> {
    let mut units: Vec<String> = Vec::new();
    for check in checks {
        if let Probe::Unit(unit) = &check.probe
            && !units.contains(unit)
        {
            units.push(unit.clone());
        }
    }
    units
}
