//! Gate 1: is the host fit to be switched? Reads only; everything independent is checked and reported together.

mod boot;
mod nix;
mod read;
mod system;

pub use nix::{lacks, noisy, unanswered};
pub use read::{Asked, Fit, Reached, Reading, reach, read, read_over};
pub use system::boot_drift;

use super::pressure;
use crate::check::Answer;
use crate::config::Preflight;
use crate::event::{CheckLine, Verdict};
use crate::failure::{Exit, Failure, Reason};
use crate::host::pressure::Pressure;
use crate::host::probe::Icmp;
use crate::host::{ConnectClass, ConnectError, Facts, Greeting, Login, Probe, SudoError};

/// The numbered checks.
const OF: usize = 6;

/// What was read, as far as it could be.
pub struct Found<'a> {
    pub target: &'a str,
    pub probe: &'a Probe,
    pub connect: Result<(), &'a ConnectError>,
    /// The facts, and why they could not be read as root.
    pub facts: Option<&'a Facts>,
    pub sudo: Option<&'a SudoError>,
    pub login: &'a Login,
    pub greeting: &'a Greeting,
    /// The builder's name, and whether it signs what it builds; `None`: it was not asked, or did not say.
    pub signer: Option<&'a (String, bool)>,
    pub services: &'a [Answer],
    pub checks: &'a [Answer],
}

/// How strictly it is judged.
pub struct Rules<'a> {
    pub limits: &'a Preflight,
    /// Services, checks, memory and load are reported but do not count: a rollback goes to a sick host.
    pub advisory: bool,
    pub accept_drift: bool,
    /// Paths will be copied by the ssh user.
    pub copies: bool,
    /// Seconds that the run may take on the host.
    pub horizon: u64,
    /// A store that is too full is no reason to stop: garbage is collected before the copy.
    pub gc: bool,
    /// The specialisation that is meant to run; empty: none.
    pub specialisation: &'a str,
    /// What boots next is set, and nothing is switched.
    pub boot: bool,
}

/// What the gate found.
#[derive(Debug, Default)]
pub struct Report {
    pub lines: Vec<CheckLine>,
    pub warnings: Vec<String>,
    pub failures: Vec<Failure>,
}

impl Report {
    /// One failure for all, or none. Drift keeps its own exit when it is the only trouble. On a busy host the other
    /// run may be the cause of all the rest: it is busy, whatever else.
    pub fn failure(mut self, target: &str) -> Option<Failure> {
        match self.failures.len() {
            0 => None,
            1 => self.failures.pop(),
            count => {
                let reason = self.failures[0].reason;
                let mut all =
                    Failure::failed(reason, format!("{target}: {count} checks of preflight failed"));
                if self.failures.iter().any(|failure| failure.exit == Exit::Busy) {
                    all.exit = Exit::Busy;
                    all.reason = Reason::Busy;
                }
                for failure in self.failures {
                    all.why.push(failure.what);
                    all.why
                        .extend(failure.why.into_iter().map(|line| format!("  {line}")));
                    all.next.extend(failure.next);
                }
                Some(all)
            }
        }
    }

    fn line(&mut self, number: usize, name: &str, verdict: Verdict, detail: impl Into<String>) {
        self.lines
            .push(CheckLine::numbered(number, OF, name, verdict, detail));
    }

    fn fail(&mut self, number: usize, name: &str, detail: impl Into<String>, failure: Failure) {
        self.line(number, name, Verdict::Failed, detail);
        self.failures.push(failure);
    }
}

/// Judges what was read.
pub fn judge(found: &Found<'_>, rules: &Rules<'_>) -> Report {
    let mut report = Report::default();
    network(found, &mut report);
    ssh(found, &mut report);
    match found.facts {
        Some(facts) => {
            system::judge(found.target, facts, rules, &mut report);
            disks(found.target, facts, rules, &mut report);
            services(found, rules, &mut report);
            load(found.target, facts, rules, &mut report);
            others(found.target, facts, rules, &mut report);
            boot::finished(found.target, facts, &mut report);
            boot::record_stays(facts, &mut report);
            if rules.copies {
                copies(found, &mut report);
            }
        }
        None => {
            for (number, name) in [
                (3, "NixOS system check"),
                (4, "Disk space"),
                (5, "Critical services"),
                (6, "System load"),
            ] {
                report.line(number, name, Verdict::Skipped, "no connection");
            }
        }
    }
    report
}

fn network(found: &Found<'_>, report: &mut Report) {
    const NAME: &str = "Network reachability";
    match found.probe {
        Probe::Passed { millis, icmp, .. } => {
            let note = if *icmp == Icmp::Silent {
                ", no answer to ping"
            } else {
                ""
            };
            report.line(1, NAME, Verdict::Passed, format!("ssh port in {millis} ms{note}"));
        }
        Probe::Skipped { reason } => report.line(1, NAME, Verdict::Skipped, reason.clone()),
        // ssh knows ways that a probe does not: what it got through is reachable.
        Probe::Failed { text, .. } if found.connect.is_ok() => {
            let detail = format!("by ssh; the probe of its port: {text}");
            report.line(1, NAME, Verdict::Passed, detail);
        }
        // The connection's own failure says the same with the next step.
        Probe::Failed { text, .. } => report.line(1, NAME, Verdict::Failed, text.clone()),
    }
}

fn ssh(found: &Found<'_>, report: &mut Report) {
    const NAME: &str = "SSH connectivity";
    match (found.connect, found.sudo) {
        (Err(error), _) => report.fail(2, NAME, connect_word(error.class), error.failure(found.target)),
        (Ok(()), Some(sudo)) => {
            let (what, why, next) = sudo.explain(found.target);
            let failure = Failure {
                why,
                next,
                ..Failure::failed(Reason::Auth, what.clone())
            };
            report.fail(2, NAME, "no root", failure);
        }
        (Ok(()), None) => {
            let user = found.login.user.as_str();
            let sudo = user != "root" && found.facts.is_some_and(|facts| facts.uid == Some(0));
            let login = if sudo {
                format!("{user}, root by sudo")
            } else {
                user.to_owned()
            };
            report.line(2, NAME, Verdict::Passed, login);
        }
    }
}

/// The class in a word or two, for the check's line.
pub fn connect_word(class: ConnectClass) -> &'static str {
    match class {
        ConnectClass::Refused => "refused",
        ConnectClass::Timeout => "timeout",
        ConnectClass::Silent => "nothing answers on its port",
        ConnectClass::NotSsh => "no ssh server on its port",
        ConnectClass::TurnedAway => "turned away before the login",
        ConnectClass::Unresolved => "name not known",
        ConnectClass::NoRoute => "no route",
        ConnectClass::Auth => "authentication failed",
        ConnectClass::HostKeyUnknown => "host key not known",
        ConnectClass::HostKeyChanged => "host key changed",
        ConnectClass::Account => "account refused",
        ConnectClass::Waits => "the login did not finish",
        ConnectClass::NoLogin => "account may not run commands",
        ConnectClass::Sessions => "too few sessions",
        ConnectClass::Hang => "no shell answers",
        ConnectClass::Noise => "prints without end",
        ConnectClass::Other => "failed",
    }
}

fn disks(target: &str, facts: &Facts, rules: &Rules<'_>, report: &mut Report) {
    const NAME: &str = "Disk space";
    let limits = rules.limits;
    let mut bad = Vec::new();
    // The copy judges the store's file system again, after the garbage.
    let store = facts
        .disk("/nix")
        .or_else(|| facts.disk("/"))
        .map(|disk| disk.mount.as_str());
    let mut later = Vec::new();
    for disk in &facts.disks {
        let own = disk.mount != "/" || disk.path == "/";
        if !own {
            continue;
        }
        match disk.kib {
            None => bad.push(format!("{} cannot be read", disk.path)),
            Some(space) if space.used_percent() >= u64::from(limits.disk_percent) => {
                let text = format!("{} {}% used", disk.path, space.used_percent());
                match rules.gc && store == Some(disk.mount.as_str()) {
                    true => later.push(format!("{text}: garbage is collected before the copy")),
                    false => bad.push(text),
                }
            }
            Some(space) if store == Some(disk.mount.as_str()) && space.free < limits.store_free / 1024 => {
                let text = format!(
                    "{} has {} MiB free, wants {} MiB",
                    disk.path,
                    space.free / 1024,
                    limits.store_free.div_ceil(1 << 20)
                );
                match rules.gc {
                    true => later.push(format!("{text}: garbage is collected before the copy")),
                    false => bad.push(text),
                }
            }
            Some(space) if disk.path == "/boot" && space.free < limits.boot_free / 1024 => {
                bad.push(format!(
                    "/boot has {} MiB free, wants {} MiB",
                    space.free / 1024,
                    limits.boot_free >> 20
                ));
            }
            Some(_) => {}
        }
        if let Some(inodes) = disk.inodes
            && inodes.used_percent() >= u64::from(limits.disk_percent)
        {
            bad.push(format!("{} {}% of inodes used", disk.path, inodes.used_percent()));
        }
    }
    let root = facts.disk("/").and_then(|disk| disk.kib);
    if root.is_none() && bad.is_empty() {
        bad.push("/ cannot be read".to_owned());
    }
    if bad.is_empty() && !later.is_empty() {
        report.line(4, NAME, Verdict::Skipped, later.join(", "));
    } else if bad.is_empty() {
        let detail = root.map_or_else(String::new, |space| format!("{}% used", space.used_percent()));
        report.line(4, NAME, Verdict::Passed, detail);
    } else {
        let mut failure = Failure::failed(Reason::Disk, format!("{target}: disk space: {}", bad.join(", ")));
        if bad.iter().any(|text| text.starts_with("/boot")) {
            failure.next.push(format!(
                "on {target}: nix-collect-garbage -d && /run/current-system/bin/switch-to-configuration boot removes old \
                 boot entries; known-good closures stay"
            ));
        }
        if bad.iter().any(|text| !text.starts_with("/boot")) {
            failure.next.push(match rules.advisory {
                true => format!("on {target}: nix-collect-garbage frees what no root keeps; known-good closures stay"),
                false => format!(
                    "git nixgate release {target} --gc    # frees what no root keeps; known-good closures and what runs stay"
                ),
            });
        }
        report.fail(4, NAME, bad.join(", "), failure);
    }
}

fn services(found: &Found<'_>, rules: &Rules<'_>, report: &mut Report) {
    const NAME: &str = "Critical services";
    let bad: Vec<&Answer> = found
        .services
        .iter()
        .filter(|a| a.verdict == Verdict::Failed)
        .collect();
    let skipped: Vec<&Answer> = found
        .services
        .iter()
        .filter(|a| a.verdict == Verdict::Skipped)
        .collect();
    let text = |answers: &[&Answer]| {
        answers
            .iter()
            .map(|a| a.detail.clone())
            .collect::<Vec<_>>()
            .join(", ")
    };
    if !bad.is_empty() && !rules.advisory {
        let mut failure = Failure::failed(
            Reason::Unit,
            format!("{}: not all critical services are active", found.target),
        );
        failure.why = bad.iter().map(|a| a.detail.clone()).collect();
        let first = bad.first().map_or("", |a| a.name.as_str());
        let failure = failure.next(format!("on {}: systemctl status {first}", found.target));
        report.fail(5, NAME, text(&bad), failure);
    } else if !bad.is_empty() {
        report.line(5, NAME, Verdict::Skipped, format!("{}; not counted", text(&bad)));
    } else if found.services.is_empty() || skipped.len() == found.services.len() {
        let why = if skipped.is_empty() {
            "none configured".to_owned()
        } else {
            text(&skipped)
        };
        report.line(5, NAME, Verdict::Skipped, why);
    } else {
        report.line(5, NAME, Verdict::Passed, text(&skipped));
    }
    for answer in found.checks.iter().filter(|a| a.verdict == Verdict::Failed) {
        // What fails before a release is not what the release broke, and it may be what the release mends.
        report.warnings.push(format!(
            "{} fails before the switch: {}",
            answer.name, answer.detail
        ));
    }
}

fn load(target: &str, facts: &Facts, rules: &Rules<'_>, report: &mut Report) {
    const NAME: &str = "System load";
    let limits = rules.limits;
    let detail = facts
        .load1
        .map_or("load unknown".to_owned(), |load| format!("load: {load:.2}"));
    let now = Pressure::of(facts);
    // What presses on a sick host may be what the way back mends.
    let mut refuse = |detail: String, failure: Failure| match rules.advisory {
        true => {
            report.line(6, NAME, Verdict::Skipped, format!("{detail}; not counted"));
            report.warnings.push(failure.what);
        }
        false => report.fail(6, NAME, detail, failure),
    };
    if let Err(failure) = pressure::memory(target, &now, limits) {
        let detail = now
            .memory_available_kib
            .map_or("memory unknown".to_owned(), |free| {
                format!("{} MiB available", free / 1024)
            });
        refuse(detail, failure);
        return;
    }
    let per_core = facts
        .load1
        .zip(facts.cpus)
        .map(|(load, cpus)| load / f64::from(cpus.max(1)));
    if limits.load_per_core > 0.0 && per_core.is_none_or(|load| load > limits.load_per_core) {
        let what = format!("{target}: {detail}, more than {} a core", limits.load_per_core);
        let mut failure = Failure::failed(Reason::Check, what);
        failure.why = now.hogs();
        let failure = failure.next("wait, or raise preflight.load-per-core");
        refuse(
            format!("{detail}, ceiling {} a core", limits.load_per_core),
            failure,
        );
        return;
    }
    report.line(6, NAME, Verdict::Passed, detail);
}

/// What has no number: shown only where there is something to say.
fn others(target: &str, facts: &Facts, rules: &Rules<'_>, report: &mut Report) {
    if !facts.complete {
        let failure = Failure::failed(Reason::Check, format!("{target}: its facts came only in part"))
            .next("try again; if it stays, `ssh` there and look at the shell's start-up files");
        report.fail(0, "Facts", "incomplete", failure);
    }
    if let Some(holder) = &facts.holder {
        report.fail(
            0,
            "Lock",
            format!("held by {}", holder.who),
            holder.failure(target),
        );
    }
    if !facts.switching.is_empty() {
        let units = facts.switching.join(", ");
        let failure = Failure::new(
            Exit::Busy,
            Reason::Busy,
            format!("{target} is being switched by {units}"),
        )
        .next(format!("wait for it: on {target}, systemctl status {units}"));
        report.fail(0, "Other switches", units, failure);
    }
    if let (Some(at), Some(now)) = (facts.upgrade_at, facts.now)
        && at <= now + rules.horizon
    {
        report.warnings.push(format!(
            "nixos-upgrade.timer fires in {} s, within this run",
            at.saturating_sub(now)
        ));
    }
    if !facts.units_read {
        let failure = Failure::failed(Reason::Check, format!("{target}: systemctl does not answer"));
        report.fail(0, "Units", "not readable", failure);
    }
    system::boots(target, facts, rules, report);
}

/// Whether a copy by the ssh user gets through to the store.
fn copies(found: &Found<'_>, report: &mut Report) {
    let (target, login) = (found.target, found.login);
    if let Some(failure) = noisy(target, &login.user, found.greeting) {
        report.fail(0, "Login", "prints on standard output", failure);
    }
    if let Some(failure) = nix::missing(target, &login.user, found.greeting) {
        report.fail(0, "Nix", "no nix-daemon", failure);
    } else if let Some(failure) = unanswered(target, login) {
        report.fail(0, "Nix", "does not answer", failure);
    } else if let Some(failure) = nix::untrusted(target, login, found.signer) {
        report.fail(0, "Nix trust", format!("{} is not trusted", login.user), failure);
    }
}
