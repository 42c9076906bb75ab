//! Is the host well? The five checks of validation and of `health`, over what a fresh connection read. Pure.

use std::collections::BTreeMap;

use crate::check::Answer;
use crate::event::{CheckLine, Verdict};
use crate::failure::{Failure, Reason};
use crate::gate::preflight::connect_word;
use crate::host::pressure::Pressure;
use crate::host::state::BootDefault;
use crate::host::system::System;
use crate::host::{ConnectError, Facts};

const OF: usize = 5;
/// A unit that restarted this often since the switch is in a loop, whatever it is at the moment.
const LOOP: u64 = 3;

/// Growth below this is no growth, whatever the factor: a small host doubles its use by a service that restarts.
const SLACK_KIB: u64 = 512 << 10;
/// One-minute load per core below which a host is not busy, whatever it was before.
const BUSY: f64 = 2.0;

/// What a host used before the switch, and how many times that it may use after it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    pub memory_kib: Option<u64>,
    pub load1: Option<f64>,
    /// 0: not judged.
    pub factor: f64,
}

impl Usage {
    fn of(facts: &Facts, factor: f64) -> Self {
        let memory = facts.memory_total_kib.zip(facts.memory_available_kib);
        Usage {
            memory_kib: memory.map(|(total, available)| total.saturating_sub(available)),
            load1: facts.load1,
            factor,
        }
    }
}

/// What is held against the reading.
#[derive(Debug, Clone, Default)]
pub struct Baseline {
    /// Units that had failed before.
    pub failed: Vec<String>,
    /// How often services had restarted before.
    pub restarts: BTreeMap<String, u64>,
    /// Checks and services that failed before and do not count, by name.
    pub excused: Vec<String>,
    /// The host's boot had not finished: that it still has not is no fault of the switch.
    pub booting: bool,
    /// Memory and load; `None`: not known, as after a run that another process began.
    pub usage: Option<Usage>,
}

impl Baseline {
    /// The host as it was before the switch; afterwards it may use `factor` times what it used (0: whatever it likes).
    pub fn of(facts: &Facts, factor: f64) -> Self {
        Baseline {
            usage: Some(Usage::of(facts, factor)),
            failed: facts.failed_units.clone(),
            restarts: facts.restarts.clone(),
            booting: facts.is_booting(),
            excused: Vec::new(),
        }
    }
}

/// Where the boot default stands when the host is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// After the switch, before the commit: profile and boot default are still the old ones.
    Switched,
    /// After a boot that was to be the candidate's only one: the boot default is still the old one.
    BootedOnce,
    /// Running system, profile and boot default must agree.
    Committed,
}

/// One look at the host.
pub struct Look<'a> {
    pub target: &'a str,
    /// What must run, and boot once committed.
    pub system: &'a System,
    pub stage: Stage,
    pub fresh: Result<&'a str, &'a ConnectError>,
    pub facts: Option<&'a Facts>,
    pub services: &'a [Answer],
    pub checks: &'a [Answer],
    pub baseline: &'a Baseline,
    /// Restart counters at the first look of this validation; growth since then is a crash loop.
    pub first: Option<&'a BTreeMap<String, u64>>,
}

/// What a look found.
#[derive(Debug, Default)]
pub struct Health {
    pub lines: Vec<CheckLine>,
    pub failures: Vec<Failure>,
    pub warnings: Vec<String>,
    /// Something is still on its way (`starting`): worth another look before it counts.
    pub moving: bool,
    /// A failure that no waiting mends: a failed unit, another system, no connection. Checks and services may yet come
    /// up.
    pub definite: bool,
}

impl Health {
    pub fn is_good(&self) -> bool {
        self.failures.is_empty() && !self.moving
    }

    /// One failure for all.
    pub fn failure(&self, target: &str) -> Option<Failure> {
        match self.failures.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            many => {
                let mut all =
                    Failure::failed(many[0].reason, format!("{target}: {} checks failed", many.len()));
                for failure in many {
                    all.why.push(failure.what.clone());
                    all.why.extend(failure.why.iter().map(|line| format!("  {line}")));
                }
                Some(all)
            }
        }
    }

    fn line(&mut self, number: usize, name: &str, verdict: Verdict, detail: impl Into<String>) {
        self.lines
            .push(CheckLine::numbered(number, OF, name, verdict, detail));
    }

    fn fail(&mut self, number: usize, name: &str, detail: impl Into<String>, reason: Reason, what: String) {
        let detail = detail.into();
        self.line(number, name, Verdict::Failed, detail);
        self.failures.push(Failure::failed(reason, what));
    }
}

/// Judges one look.
pub fn judge(look: &Look<'_>) -> Health {
    let mut health = Health::default();
    match look.fresh {
        Ok(how) => health.line(1, "SSH connectivity", Verdict::Passed, how),
        Err(error) => {
            health.line(1, "SSH connectivity", Verdict::Failed, connect_word(error.class));
            health.failures.push(error.failure(look.target));
            health.definite = true;
        }
    }
    let Some(facts) = look.facts else {
        for (number, name) in [
            (2, "System state"),
            (3, "Critical services"),
            (4, "Boot generation"),
            (5, "Failed units"),
        ] {
            health.line(number, name, Verdict::Skipped, "no connection");
        }
        return health;
    };
    let new_failed: Vec<&String> = facts
        .failed_units
        .iter()
        .filter(|unit| !look.baseline.failed.contains(unit))
        .collect();
    state(look, facts, &new_failed, &mut health);
    services(look, &mut health);
    generation(look, facts, &mut health);
    units(look, facts, &new_failed, &mut health);
    usage(look, facts, &mut health);
    for check in look.checks {
        let excused = check.verdict == Verdict::Failed && look.baseline.excused.contains(&check.name);
        if excused {
            let mut line = check.line();
            line.verdict = Verdict::Skipped;
            line.detail = format!("{}; failed before as well", check.detail);
            health.lines.push(line);
            health.warnings.push(format!(
                "{} fails, as before the switch: {}",
                check.name, check.detail
            ));
        } else {
            health.lines.push(check.line());
            if check.verdict == Verdict::Failed {
                let what = format!("{}: {} failed: {}", look.target, check.name, check.detail);
                health.failures.push(Failure::failed(Reason::Check, what));
            }
        }
    }
    health
}

fn state(look: &Look<'_>, facts: &Facts, new_failed: &[&String], health: &mut Health) {
    const NAME: &str = "System state";
    let word = facts.system_state.as_str();
    match word {
        "running" => health.line(2, NAME, Verdict::Passed, word),
        "degraded" if new_failed.is_empty() && facts.units_read => {
            let note = format!(
                "degraded by units that had failed before: {}",
                facts.failed_units.join(", ")
            );
            health.line(2, NAME, Verdict::Passed, note);
        }
        "degraded" => {
            health.definite = true;
            health.fail(
                2,
                NAME,
                word,
                Reason::Unit,
                format!("{}: the system is degraded", look.target),
            );
        }
        "starting" | "initializing" if look.baseline.booting && new_failed.is_empty() => {
            health.line(2, NAME, Verdict::Passed, format!("{word}, as before the switch"));
        }
        "starting" | "initializing" => {
            health.moving = true;
            health.fail(
                2,
                NAME,
                word,
                Reason::Timeout,
                format!("{}: the system is still {word}", look.target),
            );
        }
        _ => {
            let word = if word.is_empty() { "unknown" } else { word };
            health.definite = true;
            health.fail(
                2,
                NAME,
                word,
                Reason::Unit,
                format!("{}: the system's state is {word}", look.target),
            );
        }
    }
}

fn services(look: &Look<'_>, health: &mut Health) {
    const NAME: &str = "Critical services";
    let excused = |a: &&Answer| look.baseline.excused.contains(&a.name);
    let failed: Vec<&Answer> = look
        .services
        .iter()
        .filter(|a| a.verdict == Verdict::Failed)
        .collect();
    let bad: Vec<&&Answer> = failed.iter().filter(|a| !excused(a)).collect();
    let texts = |list: Vec<&Answer>| {
        list.iter()
            .map(|a| a.detail.clone())
            .collect::<Vec<_>>()
            .join(", ")
    };
    if !bad.is_empty() {
        let detail = texts(bad.into_iter().copied().collect());
        let what = format!("{}: not all critical services are active: {detail}", look.target);
        health.fail(3, NAME, detail, Reason::Unit, what);
        return;
    }
    let skipped: Vec<&Answer> = look
        .services
        .iter()
        .filter(|a| a.verdict == Verdict::Skipped)
        .collect();
    if skipped.len() == look.services.len() {
        let why = if skipped.is_empty() {
            "none configured".to_owned()
        } else {
            texts(skipped)
        };
        health.line(3, NAME, Verdict::Skipped, why);
    } else if !failed.is_empty() {
        health.line(
            3,
            NAME,
            Verdict::Skipped,
            format!("{}; failed before as well", texts(failed)),
        );
    } else {
        health.line(3, NAME, Verdict::Passed, texts(skipped));
    }
}

fn generation(look: &Look<'_>, facts: &Facts, health: &mut Health) {
    const NAME: &str = "Boot generation";
    let number = facts
        .here
        .generation
        .map_or("no generation".to_owned(), |n| format!("generation {n}"));
    let shown = |path: Option<&str>| path.unwrap_or("nothing").to_owned();
    let mut wrong = Vec::new();
    if !look.system.runs(&facts.here) {
        wrong.push(format!(
            "runs {}, not {}",
            shown(facts.here.running.as_deref()),
            look.system.effective
        ));
    }
    if look.stage != Stage::Switched {
        if !look.system.is_profile(&facts.here) {
            wrong.push(format!("the profile is {}", shown(facts.here.profile.as_deref())));
        }
        match &facts.here.boot_default {
            BootDefault::Path(path) if !look.system.is_booted_by(path) && look.stage == Stage::Committed => {
                wrong.push(format!("the boot default is {path}"))
            }
            BootDefault::NotVerifiable => {
                let loader = &facts.here.boot_loader;
                health.warnings.push(format!(
                    "the boot default is not verifiable (boot loader: {loader})"
                ));
            }
            BootDefault::Path(_) => {}
        }
    }
    if wrong.is_empty() {
        let detail = match look.stage {
            Stage::Switched => format!("runs the candidate; boots {number} until the commit"),
            Stage::BootedOnce => format!("{number}; not the boot default yet"),
            Stage::Committed => number,
        };
        health.line(4, NAME, Verdict::Passed, detail);
    } else {
        let detail = wrong.join("; ");
        let what = format!("{}: {detail}", look.target);
        health.definite = true;
        health.fail(4, NAME, detail, Reason::Boot, what);
    }
}

fn units(look: &Look<'_>, facts: &Facts, new_failed: &[&String], health: &mut Health) {
    const NAME: &str = "Failed units";
    if !facts.units_read {
        let what = format!("{}: systemctl does not answer", look.target);
        health.fail(5, NAME, "not readable", Reason::Unit, what);
        return;
    }
    let looping = looping(look, facts);
    health.definite |= !new_failed.is_empty() || !looping.is_empty();
    if !new_failed.is_empty() {
        let list = new_failed
            .iter()
            .map(|u| u.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        let what = format!("{}: failed since the switch: {list}", look.target);
        health.fail(5, NAME, list, Reason::Unit, what);
        if let Some(failure) = health.failures.last_mut() {
            failure
                .next
                .push(format!("on {}: journalctl -u {}", look.target, new_failed[0]));
        }
    } else if !looping.is_empty() {
        let list = looping.join(", ");
        let what = format!("{}: restarting again and again: {list}", look.target);
        health.fail(5, NAME, format!("restarting: {list}"), Reason::Unit, what);
    } else {
        let old = facts.failed_units.len();
        let detail = if old == 0 {
            String::new()
        } else {
            format!("{old} had failed before")
        };
        health.line(5, NAME, Verdict::Passed, detail);
    }
}

/// Memory and CPU against the baseline. It may settle, so it is not definite; a line only where there is something to say.
fn usage(look: &Look<'_>, facts: &Facts, health: &mut Health) {
    let Some(before) = look.baseline.usage.filter(|usage| usage.factor > 0.0) else {
        return;
    };
    let now = Usage::of(facts, before.factor);
    if let (Some(was), Some(is)) = (before.memory_kib, now.memory_kib)
        && is > was.saturating_add(SLACK_KIB)
        && is as f64 > was as f64 * before.factor
    {
        let detail = format!("{} MiB in use, before the switch {} MiB", is / 1024, was / 1024);
        let what = format!("{}: memory: {detail}", look.target);
        health.fail(0, "Memory", detail, Reason::Memory, what);
        if let Some(failure) = health.failures.last_mut() {
            failure.why = Pressure::of(facts).hogs();
        }
    }
    // A container's load is that of its machine, and whoever else is on it.
    if facts.container.is_some() {
        return;
    }
    let cpus = f64::from(facts.cpus.unwrap_or(1).max(1));
    if let (Some(was), Some(is)) = (before.load1, now.load1)
        && is > BUSY * cpus
        && is > was * before.factor
    {
        let detail = format!("load {is:.2}, before the switch {was:.2}");
        let what = format!("{}: CPU: {detail}", look.target);
        health.fail(0, "CPU", detail, Reason::Check, what);
    }
}

fn looping(look: &Look<'_>, facts: &Facts) -> Vec<String> {
    facts
        .restarts
        .iter()
        .filter(|(unit, count)| {
            let since_first = look
                .first
                .is_some_and(|first| **count > first.get(*unit).copied().unwrap_or(0));
            // The counter starts anew when the switch restarts a unit; a lower figure is then a new count.
            let before = look.baseline.restarts.get(*unit).copied().unwrap_or(0);
            let since_switch = if **count >= before {
                **count - before
            } else {
                **count
            };
            since_first || since_switch >= LOOP
        })
        .map(|(unit, count)| format!("{unit} ({count} times)"))
        .collect()
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
