//! What preflight reads, in one round trip: the port, the facts, services and checks.

use std::time::Duration;

use super::{Found, Rules, judge};
use crate::check::{self, Answer, CheckSet};
use crate::event::Verdict;
use crate::failure::{Failure, Reason};
use crate::gate::{GateLog, pressure};
use crate::host::pressure::Pressure;
use crate::host::{
    self, ConnectError, Endpoint, Facts, Greeting, HostError, Login, Privilege, Probe, RunDir, Script,
    Session, SudoError,
};

/// A host as preflight read it: the connection that the run goes on with, and what was found.
pub struct Reading {
    probe: Probe,
    session: Result<Session, ConnectError>,
    facts: Option<Facts>,
    sudo: Option<SudoError>,
    login: Login,
    greeting: Greeting,
    signer: Option<(String, bool)>,
    services: Vec<Answer>,
    checks: Vec<Answer>,
}

/// What a fit host gives to the rest of the run.
pub struct Fit {
    pub session: Session,
    pub facts: Facts,
    /// Checks and services that fail before the switch, by name.
    pub failing: Vec<String>,
}

/// What is asked of a host beside its facts.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub services: &'a [String],
    pub checks: &'a CheckSet,
    /// Whether its Nix trusts the login user, which only a copy needs.
    pub trust: bool,
}

/// Connects and reads everything: the port, the facts and the probes side by side. What is asked there waits for `turn`;
/// that nobody is let in is said at once.
///
/// # Errors
/// What the connection says in mid-command.
pub async fn read(
    endpoint: &Endpoint,
    dir: &RunDir,
    asked: Asked<'_>,
    turn: impl Future<Output = ()>,
) -> Result<Reading, Failure> {
    let reached = reach(endpoint, dir).await;
    if reached.session.is_ok() {
        turn.await;
    }
    let (reading, _) = read_over(reached, endpoint, asked, async |_: &Session| ()).await?;
    Ok(reading)
}

/// A connection before anything is read over it, or why there is none.
pub struct Reached {
    probe: Probe,
    session: Result<Session, ConnectError>,
}

/// Connects, and asks the port beside it.
pub async fn reach(endpoint: &Endpoint, dir: &RunDir) -> Reached {
    let (probe, session) = host::probe_and_open(endpoint, dir).await;
    Reached { probe, session }
}

/// Reads everything over a connection that is there: the facts, the probes, and `more`, side by side.
///
/// # Errors
/// What the connection says in mid-command.
pub async fn read_over<T>(
    Reached { probe, session }: Reached,
    endpoint: &Endpoint,
    asked: Asked<'_>,
    more: impl AsyncFnOnce(&Session) -> T,
) -> Result<(Reading, Option<T>), Failure> {
    let (services, checks) = (asked.services, asked.checks);
    let session = match session {
        Ok(session) => session,
        Err(error) => return Ok((Reading::without(probe, error), None)),
    };
    let script = host::facts::facts_script(&endpoint.name);
    let patience: Duration = READ
        + checks
            .on_target()
            .map(|(_, check)| check.timeout)
            .sum::<Duration>();
    let probes = check::script(services, checks, patience);
    let trust = if asked.trust { host::facts::TRUST } else { "" };
    let probes = Script::new(format!("{}{trust}{probes}", host::facts::LOGIN));
    let (facts, answers, more) = tokio::join!(
        session.run(&script, Privilege::RootIfPossible, READ),
        session.run(&probes, Privilege::User, patience),
        more(&session),
    );
    let facts = match facts {
        Ok(facts) => facts,
        Err(HostError::Connect(error)) => return Ok((Reading::without(probe, error), None)),
        Err(error) => return Err(error.failure(&endpoint.name)),
    };
    let answers = match answers {
        Ok(answers) => answers,
        Err(HostError::Connect(error)) => return Ok((Reading::without(probe, error), None)),
        Err(error) => return Err(error.failure(&endpoint.name)),
    };
    let mut all = check::answers(&answers.text(), services, checks);
    let checks = all.split_off(services.len());
    let reading = Reading {
        probe,
        facts: Some(Facts::parse(&facts.text())),
        sudo: facts.sudo,
        login: Login::parse(&answers.text()),
        greeting: answers.greeting,
        signer: None,
        session: Ok(session),
        services: all,
        checks,
    };
    Ok((reading, Some(more)))
}

/// How long reading the facts may take.
const READ: Duration = Duration::from_secs(30);

impl Reading {
    fn without(probe: Probe, error: ConnectError) -> Self {
        Reading {
            probe,
            session: Err(error),
            facts: None,
            sudo: None,
            login: Login::default(),
            greeting: Greeting::default(),
            signer: None,
            services: Vec::new(),
            checks: Vec::new(),
        }
    }

    /// The connection alone, to read again over it.
    pub fn reached(self) -> Reached {
        Reached {
            probe: self.probe,
            session: self.session,
        }
    }

    /// Whether it counts that the builder signs what it builds: the store there takes nothing else from this user.
    pub fn wants_signatures(&self) -> bool {
        self.login.nix_trusted == Some(false) && self.login.nix_requires != Some(false)
    }

    /// The builder's name, and whether it signs.
    pub fn set_signer(&mut self, builder: &str, signs: bool) {
        self.signer = Some((builder.to_owned(), signs));
    }

    /// The connection, where there is one.
    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref().ok()
    }

    /// The facts, where they could be read.
    pub fn facts(&self) -> Option<&Facts> {
        self.facts.as_ref()
    }

    /// Judges and shows; a fit host is handed on.
    ///
    /// # Errors
    /// All that is wrong, together. The host is untouched.
    pub async fn judged(
        self,
        log: &mut GateLog<'_>,
        target: &str,
        rules: &Rules<'_>,
    ) -> Result<Fit, Failure> {
        let mut facts = self.facts;
        if let (Some(facts), Ok(session)) = (&mut facts, &self.session)
            && pressure::is_short(
                facts.memory_available_kib,
                facts.pressure.get("memory").copied(),
                rules.limits,
            )
        {
            // Only where it is wanted: it takes time. Without it the refusal names the processes alone.
            if let Ok(now) = Pressure::read(session).await {
                facts.top_units = now.units;
            }
        }
        let found = Found {
            target,
            probe: &self.probe,
            connect: self.session.as_ref().map(|_| ()),
            facts: facts.as_ref(),
            sudo: self.sudo.as_ref(),
            login: &self.login,
            greeting: &self.greeting,
            signer: self.signer.as_ref(),
            services: &self.services,
            checks: &self.checks,
        };
        let report = judge(&found, rules);
        for line in &report.lines {
            log.check(line);
        }
        for warning in &report.warnings {
            log.warn(warning.clone());
        }
        let failing = self
            .services
            .iter()
            .chain(&self.checks)
            .filter(|a| a.verdict == Verdict::Failed);
        let failing = failing.map(|answer| answer.name.clone()).collect();
        match (report.failure(target), self.session, facts) {
            (None, Ok(session), Some(facts)) => Ok(Fit {
                session,
                facts,
                failing,
            }),
            (failure, session, _) => {
                if let Ok(session) = session {
                    session.close().await;
                }
                let what = format!("{target} could not be read");
                Err(failure.unwrap_or_else(|| Failure::failed(Reason::Link, what)))
            }
        }
    }
}
