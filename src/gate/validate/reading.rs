//! One look at a host: what it asks, over which connection, and what came back.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use super::{Subject, late_because};
use crate::check::{self, Answer, CheckSet};
use crate::config::{Check, Probe};
use crate::event::Verdict;
use crate::failure::{Failure, Reason};
use crate::host::supervisor::{Held, SupervisorError};
use crate::host::{self, Facts, HostError, Output, Privilege, Script, Session, Shell};

/// What one look read.
pub(super) struct Reading {
    pub(super) facts: Facts,
    pub(super) services: Vec<Answer>,
    pub(super) checks: Vec<Answer>,
}

/// Why nothing was read.
pub(super) enum Unread {
    Host(HostError),
    /// The supervisor renewed nothing: it is on its way back, or gone.
    Refused(Failure),
}

impl From<HostError> for Unread {
    fn from(error: HostError) -> Self {
        Unread::Host(error)
    }
}

impl Unread {
    /// `found` is what was wrong until then.
    pub(super) fn failure(self, subject: &Subject<'_>, found: Option<Failure>) -> Failure {
        match self {
            Unread::Host(HostError::Timeout { .. }) => late_because(subject, found),
            Unread::Host(error) => error.failure(subject.target),
            Unread::Refused(failure) => failure,
        }
    }
}

/// Facts and services over the fresh connection, which renews the lease of a held target; the checks, which may take
/// long, beside it, so that the lease is renewed meanwhile.
pub(super) async fn read(
    session: &mut Session,
    shell: &mut Shell,
    held: Option<&Held>,
    subject: &Subject<'_>,
    limit: Duration,
) -> Result<Reading, Unread> {
    let began = Instant::now();
    let (script, short) = facts_script(subject, limit);
    let output = match held {
        None => shell.run(&script, Privilege::RootIfPossible, short).await?,
        Some(held) => match held
            .renew_with(shell, &script, Privilege::RootIfPossible, short)
            .await
        {
            Ok(output) => output,
            Err(SupervisorError::Host(error)) => return Err(error.into()),
            Err(error) => return Err(Unread::Refused(error.failure(subject.target))),
        },
    };
    let left = limit.saturating_sub(began.elapsed());
    checked(session, shell, held, subject, left, &output.text()).await
}

/// What a look asks, and how long that may take.
pub(super) fn facts_script(subject: &Subject<'_>, limit: Duration) -> (Script, Duration) {
    let short = limit.min(Duration::from_secs(20));
    let services = &subject.settings.preflight.services;
    let probes = check::script(services, &CheckSet::NONE, short);
    (host::facts::how_it_fares(subject.target, &probes), short)
}

/// A look's facts and services, and the checks, which are made now.
pub(super) async fn checked(
    session: &mut Session,
    shell: &mut Shell,
    held: Option<&Held>,
    subject: &Subject<'_>,
    limit: Duration,
    text: &str,
) -> Result<Reading, Unread> {
    let services = check::answers(text, &subject.settings.preflight.services, &CheckSet::NONE);
    let checks = if subject.checks.is_empty() {
        Vec::new()
    } else {
        let work = checks(session, subject, limit);
        match held {
            None => work.await?,
            Some(held) => beside(held, shell, work).await?,
        }
    };
    Ok(Reading {
        facts: Facts::parse(text),
        services,
        checks,
    })
}

/// Renews the lease while `work` goes on.
pub async fn beside<T>(
    held: &Held,
    shell: &mut Shell,
    work: impl Future<Output = Result<T, HostError>>,
) -> Result<T, HostError> {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(held.lease / 3) => {
                if let Err(SupervisorError::Host(error)) = held.renew(shell).await {
                    return Err(error);
                }
            }
        }
    }
}

/// The `[[check]]` entries, each from its place.
async fn checks(
    session: &mut Session,
    subject: &Subject<'_>,
    limit: Duration,
) -> Result<Vec<Answer>, HostError> {
    let began = Instant::now();
    let mut answers: BTreeMap<usize, Answer> = BTreeMap::new();
    let theirs: Vec<usize> = subject.checks.on_target().map(|(i, _)| i).collect();
    if !theirs.is_empty() {
        // A second less than the script itself has, so that what hangs is ended by what started it.
        let bound = limit.saturating_sub(Duration::from_secs(1));
        let script = Script::new(check::script(&[], subject.checks, bound));
        let output = match session.run(&script, Privilege::User, limit).await {
            Err(error) if error.is_link() => {
                // A switch may have taken the first connection along; that is what the fresh one is for.
                session.reopen().await.map_err(HostError::Connect)?;
                session.run(&script, Privilege::User, limit).await?
            }
            other => other?,
        };
        answers.extend(
            theirs
                .into_iter()
                .zip(check::answers(&output.text(), &[], subject.checks)),
        );
    }
    for (i, check) in subject.checks.on_operator() {
        let left = limit.saturating_sub(began.elapsed());
        let answer = tokio::time::timeout(left, from_here(check, subject.checks, left)).await;
        let (verdict, detail) = answer.unwrap_or((Verdict::Failed, "no answer in time".to_owned()));
        answers.insert(
            i,
            Answer {
                name: check.name(),
                verdict,
                detail,
            },
        );
    }
    Ok(answers.into_values().collect())
}

/// A check from the operator's machine.
async fn from_here(check: &Check, set: &CheckSet, limit: Duration) -> (Verdict, String) {
    let timeout = check.timeout.min(limit);
    match &check.probe {
        Probe::Http(url) => {
            let url = url.clone();
            let answer = tokio::task::spawn_blocking(move || crate::net::http_get(&url, timeout)).await;
            match answer {
                Ok(Ok(status)) if status.code < 400 => (Verdict::Passed, status.code.to_string()),
                Ok(Ok(status)) => (Verdict::Failed, format!("HTTP {}", status.code)),
                Ok(Err(error)) => (Verdict::Failed, error.text),
                Err(error) => (Verdict::Failed, error.to_string()),
            }
        }
        Probe::Run(argv) => run_here(argv, set.file(argv), timeout).await,
        Probe::Resolve(_) | Probe::Ping(_) => {
            let argv = check.probe.argv().unwrap_or_default();
            run_here(&argv, None, timeout).await
        }
        // These are always asked of the target.
        Probe::Unit(_) | Probe::Secrets => (Verdict::Skipped, "asked of the target".to_owned()),
    }
}

#[expect(clippy::disallowed_methods, reason = "private: a script of this process")]
async fn run_here(argv: &[String], file: Option<&[u8]>, timeout: Duration) -> (Verdict, String) {
    use crate::nix::{Exec as _, LocalExec};
    use std::os::unix::fs::PermissionsExt;
    let mut argv = argv.to_vec();
    let folder = tempfile::tempdir();
    if let (Some(content), Ok(folder)) = (file, &folder) {
        let path = folder.path().join("check");
        let written = std::fs::write(&path, content)
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)));
        if let Err(error) = written {
            return (Verdict::Failed, error.to_string());
        }
        argv[0] = path.to_string_lossy().into_owned();
        // The folder may be mounted noexec.
        if rustix::fs::access(&path, rustix::fs::Access::EXEC_OK).is_err() {
            argv.splice(0..0, check::interpreter(content));
        }
    }
    match LocalExec.exec(&argv, &[], None, timeout).await {
        Ok(output) => {
            let text = format!("{}{}", output.out(), output.err());
            let last = crate::failure::last_lines(&text, 1).pop().unwrap_or_default();
            match output.status {
                0 => (Verdict::Passed, last),
                status if last.is_empty() => (Verdict::Failed, format!("exit {status}")),
                status => (Verdict::Failed, format!("exit {status}: {last}")),
            }
        }
        Err(failure) if failure.reason == Reason::Timeout => {
            (Verdict::Failed, format!("no answer in {} s", timeout.as_secs()))
        }
        Err(failure) => (Verdict::Failed, failure.what),
    }
}

/// What a look over the old connection is worth: all of it, unless it is not whole. Where it took several tries to get in,
/// what was seen meanwhile is of another moment.
pub(super) fn counts(seen: Option<Result<Output, HostError>>, tried: bool) -> Option<String> {
    seen.filter(|_| !tried)
        .and_then(Result::ok)
        .map(|output| output.text().into_owned())
        .filter(|text| Facts::parse(text).complete)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "running=/nix/store/b\nunits_read=1\ncomplete=1\n";

    fn seen(stdout: &str) -> Option<Result<Output, HostError>> {
        Some(Ok(Output {
            status: 0,
            stdout: stdout.as_bytes().to_vec(),
            stderr: String::new(),
            sudo: None,
            greeting: crate::host::Greeting::default(),
        }))
    }

    #[test]
    fn a_whole_look_over_the_old_connection_counts() {
        assert_eq!(counts(seen(WHOLE), false).as_deref(), Some(WHOLE));
    }

    /// The new sshd may have come up between the look and the try that got in.
    #[test]
    fn what_was_seen_before_the_last_try_to_get_in_does_not_count() {
        assert_eq!(counts(seen(WHOLE), true), None);
    }

    #[test]
    fn no_look_a_lost_one_and_half_a_one_do_not_count() {
        assert_eq!(counts(None, false), None);
        let lost = HostError::Lost { lines: Vec::new() };
        assert_eq!(counts(Some(Err(lost)), false), None);
        assert_eq!(counts(seen("running=/nix/store/b\nunits_read=1\n"), false), None);
    }
}
