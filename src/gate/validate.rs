//! Gate 7: over a fresh connection, is the host well, and does it stay well?

mod reading;

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use self::reading::{Reading, Unread, checked, counts, facts_script, read};
use super::GateLog;
use super::health::{Baseline, Health, Look, Stage, judge};
use super::preflight::connect_word;
use crate::check::CheckSet;
use crate::config::Settings;
use crate::failure::{Failure, Reason};
use crate::host::supervisor::{Held, SupervisorError};
use crate::host::{self, ConnectError, Endpoint, Facts, Privilege, Session, Shell};

pub use self::reading::beside;

/// How long a fresh connection may take after settling, in all its tries.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a look over the old connection may take once the fresh one stands: a link that the switch cut says nothing.
const GRACE: Duration = Duration::from_secs(1);
/// The pause between two looks at something that is on its way.
const PAUSE: Duration = Duration::from_millis(300);

/// What is validated.
pub struct Subject<'a> {
    pub settings: &'a Settings,
    pub target: &'a str,
    pub endpoint: &'a Endpoint,
    /// What must run.
    pub system: &'a crate::host::system::System,
    pub checks: &'a CheckSet,
    pub baseline: &'a Baseline,
}

/// What validation ended with: the connection, while it is good, and the verdict.
pub struct Validated {
    pub shell: Option<Shell>,
    pub result: Result<Facts, Failure>,
}

/// Settles, connects anew, checks, soaks. Renews the lease of a held target all along.
pub async fn validate(
    log: &mut GateLog<'_>,
    session: &mut Session,
    held: &Held,
    subject: &Subject<'_>,
) -> Validated {
    let timeouts = &subject.settings.timeouts;
    let deadline = Instant::now() + timeouts.validate;
    tokio::time::sleep(timeouts.settle).await;
    // A connection after the lease has ended would meet the host as it was before, and call that an answer.
    let patience = CONNECT.min(held.lease.saturating_sub(timeouts.settle));
    let Opened {
        mut shell,
        earlier,
        reading,
    } = match open(session, held, subject, patience, deadline).await {
        Ok(opened) => opened,
        Err(error) => return cut_off(log, subject, &error),
    };
    let result = match (reading, earlier) {
        // It lets somebody in again, because it is on its way back.
        (Err(Unread::Refused(_)), Some(error)) => return cut_off(log, subject, &error),
        (reading, _) => watch(log, session, &mut shell, held, subject, deadline, reading).await,
    };
    let usable = shell.is_usable();
    Validated {
        shell: usable.then_some(shell),
        result,
    }
}

/// How long looks are repeated at a host that is not well; nothing by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Patience {
    /// While it is still starting.
    pub moving: Duration,
    /// While checks fail that may yet come up.
    pub failing: Duration,
}

impl Patience {
    /// For a host that has just booted: it has what a validation has.
    pub fn after_boot(settings: &Settings, checks: &CheckSet) -> Self {
        let longest = checks.iter().map(|check| check.timeout).max();
        let moving = settings.timeouts.validate;
        Patience {
            moving,
            failing: longest
                .unwrap_or_default()
                .max(Duration::from_secs(10))
                .min(moving),
        }
    }
}

/// A look without a lease and without a soak: `health` takes one, a host that has just booted gets some patience.
pub async fn look_once(
    log: &mut GateLog<'_>,
    session: &mut Session,
    subject: &Subject<'_>,
    (stage, patience): (Stage, Patience),
) -> Result<Health, Failure> {
    let (mut shell, _) = match connect(subject.endpoint, CONNECT).await {
        Ok(open) => open,
        Err(error) => {
            let health = judge(&Look {
                fresh: Err(&error),
                facts: None,
                ..look(subject, stage)
            });
            show(log, &health);
            return Ok(health);
        }
    };
    let began = Instant::now();
    loop {
        let limit = subject.settings.timeouts.validate;
        let reading = read(session, &mut shell, None, subject, limit)
            .await
            .map_err(|unread| unread.failure(subject, None))?;
        let health = assess(&shell, subject, stage, &reading, None);
        let worth = match health.moving {
            true => patience.moving,
            false => patience.failing,
        };
        if !health.is_good() && !health.definite && began.elapsed() + PAUSE < worth {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        show(log, &health);
        return Ok(health);
    }
}

/// A fresh connection, and what the last try before it said.
pub(super) async fn connect(
    endpoint: &Endpoint,
    patience: Duration,
) -> Result<(Shell, Option<ConnectError>), ConnectError> {
    let give_up = Instant::now() + patience;
    let mut earlier = None;
    loop {
        match host::fresh(endpoint).await {
            Ok(shell) => return Ok((shell, earlier)),
            Err(error) if Instant::now() + PAUSE >= give_up => return Err(error),
            Err(error) => {
                earlier = Some(error);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The fresh connection, and the first look.
struct Opened {
    shell: Shell,
    /// What the last try to connect before it said.
    earlier: Option<ConnectError>,
    reading: Result<Reading, Unread>,
}

/// Connects anew, and looks meanwhile over the connection that there was: what counts is that somebody is let in, becomes
/// root and renews the lease there. Where the switch took the old connection along, the fresh one looks too.
async fn open(
    session: &mut Session,
    held: &Held,
    subject: &Subject<'_>,
    patience: Duration,
    deadline: Instant,
) -> Result<Opened, ConnectError> {
    let left = || deadline.saturating_duration_since(Instant::now());
    let (script, short) = facts_script(subject, left());
    let (mut shell, earlier, renewed, seen) = {
        let mut look = pin!(session.run(&script, Privilege::RootIfPossible, short));
        let mut seen = None;
        let (mut shell, earlier) = {
            let mut opening = pin!(connect(subject.endpoint, patience));
            loop {
                tokio::select! {
                    opened = &mut opening => break opened?,
                    done = &mut look, if seen.is_none() => seen = Some(done),
                }
            }
        };
        let rest = async {
            match seen {
                Some(done) => Some(done),
                None => tokio::time::timeout(GRACE, look).await.ok(),
            }
        };
        let (renewed, seen) = tokio::join!(held.renew(&mut shell), rest);
        (shell, earlier, renewed, seen)
    };
    let facts = counts(seen, earlier.is_some());
    let reading = match (renewed, facts) {
        (Err(SupervisorError::Host(error)), _) => Err(error.into()),
        (Err(error), _) => Err(Unread::Refused(error.failure(subject.target))),
        (Ok(_), Some(text)) => checked(session, &mut shell, Some(held), subject, left(), &text).await,
        (Ok(_), None) => read(session, &mut shell, Some(held), subject, left()).await,
    };
    Ok(Opened {
        shell,
        earlier,
        reading,
    })
}

/// The switch went well, and then nobody was let in.
fn cut_off(log: &mut GateLog<'_>, subject: &Subject<'_>, error: &ConnectError) -> Validated {
    let health = judge(&Look {
        fresh: Err(error),
        facts: None,
        ..look(subject, Stage::Switched)
    });
    show(log, &health);
    let failure = Failure {
        what: format!(
            "{} runs the candidate and lets nobody in: {}",
            subject.target,
            connect_word(error.class)
        ),
        ..error.failure(subject.target)
    };
    Validated {
        shell: None,
        result: Err(failure),
    }
}

async fn watch(
    log: &mut GateLog<'_>,
    session: &mut Session,
    shell: &mut Shell,
    held: &Held,
    subject: &Subject<'_>,
    deadline: Instant,
    reading: Result<Reading, Unread>,
) -> Result<Facts, Failure> {
    let target = subject.target;
    let patience = subject
        .checks
        .iter()
        .map(|check| check.timeout)
        .max()
        .unwrap_or(Duration::ZERO);
    let patience = (Instant::now() + patience.max(Duration::from_secs(10))).min(deadline);
    let mut first: Option<BTreeMap<String, u64>> = None;
    let mut soaked: Option<Instant> = None;
    let mut shown = false;
    let mut last: Option<Failure> = None;
    let mut next = Some(reading);
    loop {
        let reading = match next.take() {
            Some(reading) => reading,
            None => {
                let limit = match soaked {
                    None => deadline.saturating_duration_since(Instant::now()),
                    Some(_) => subject.settings.timeouts.validate,
                };
                if limit.is_zero() {
                    return Err(late_because(subject, last));
                }
                read(session, shell, Some(held), subject, limit).await
            }
        };
        let reading = match reading {
            Ok(reading) => reading,
            Err(unread) => return Err(unread.failure(subject, last)),
        };
        let health = assess(shell, subject, Stage::Switched, &reading, first.as_ref());
        first.get_or_insert_with(|| reading.facts.restarts.clone());
        if !health.is_good() {
            let now = Instant::now();
            let wait = soaked.is_none()
                && !health.definite
                && now + PAUSE < if health.moving { deadline } else { patience };
            if wait {
                last = health.failure(target);
                renew(held, shell, target).await?;
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            show(log, &health);
            let over = soaked.is_none() && !health.definite && now + PAUSE >= deadline;
            let failure = match health.failure(target) {
                Some(failure) if !over => failure,
                found => late_because(subject, found),
            };
            return Err(failure);
        }
        if !shown {
            show(log, &health);
            for warning in &health.warnings {
                log.warn(warning.clone());
            }
            shown = true;
        }
        let end = *soaked.get_or_insert_with(|| Instant::now() + subject.settings.timeouts.soak);
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(reading.facts);
        }
        renew(held, shell, target).await?;
        tokio::time::sleep(left.min(held.lease / 3).min(Duration::from_secs(5))).await;
    }
}

fn late(subject: &Subject<'_>) -> Failure {
    let seconds = subject.settings.timeouts.validate.as_secs();
    let what = format!("{}: validation was not done within {seconds} s", subject.target);
    Failure::failed(Reason::Timeout, what).next("raise timeouts.validate if the checks need longer")
}

/// The bound is over; what was wrong until then says why.
fn late_because(subject: &Subject<'_>, found: Option<Failure>) -> Failure {
    let mut failure = late(subject);
    if let Some(found) = found {
        failure.why.push(found.what);
        failure.why.extend(found.why);
    }
    failure
}

async fn renew(held: &Held, shell: &mut Shell, target: &str) -> Result<(), Failure> {
    match held.renew(shell).await {
        Ok(_) => Ok(()),
        Err(SupervisorError::Host(error)) => Err(error.failure(target)),
        Err(error) => Err(error.failure(target)),
    }
}

fn look<'a>(subject: &'a Subject<'_>, stage: Stage) -> Look<'a> {
    Look {
        target: subject.target,
        system: subject.system,
        stage,
        fresh: Ok(""),
        facts: None,
        services: &[],
        checks: &[],
        baseline: subject.baseline,
        first: None,
    }
}

fn assess(
    shell: &Shell,
    subject: &Subject<'_>,
    stage: Stage,
    reading: &Reading,
    first: Option<&BTreeMap<String, u64>>,
) -> Health {
    let how = if shell.is_fresh_connection() {
        ""
    } else {
        "local: no connection to prove"
    };
    judge(&Look {
        fresh: Ok(how),
        facts: Some(&reading.facts),
        services: &reading.services,
        checks: &reading.checks,
        first,
        ..look(subject, stage)
    })
}

fn show(log: &mut GateLog<'_>, health: &Health) {
    for line in &health.lines {
        log.check(line);
    }
}
