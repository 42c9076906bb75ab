//! Holding, switching, and what a fresh connection may say afterwards.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::bootdefault::COMMON;
use super::super::state::{BootOnce, Phase, State};
use super::super::stc::Stc;
use super::super::{HostError, Output, Privilege, Remote, Script, Session, Shell};
use super::after::LEFTOVER;
use super::error::{HoldError, SupervisorError, holder, unwritable};
use super::others::reattach;
use super::plan::Plan;

const HOLD: &str = include_str!("hold.sh");
const UNITS: &str = include_str!("../units.sh");
const BEFORE: &str = include_str!("../before.sh");
const STATE: &str = include_str!("../state.sh");
const BACK: &str = include_str!("../back.sh");
const SUPERVISOR: &str = include_str!("../supervisor.sh");
pub(super) const TELL: &str = include_str!("tell.sh");
pub(super) const SHOW: &str = include_str!("show.sh");

/// Stands between what several scripts print; the same as a format for `printf` in sh.
const SECTION_LINE: &str = "\n--nixgate-section--\n";
const SECTION: &str = "\\n--nixgate-section--\\n";

/// What a message to a living supervisor may take, link included.
pub(super) const PROMPT: Duration = Duration::from_secs(15);

/// A target under this run's lock.
#[derive(Debug, Clone, Serialize)]
pub struct Held {
    pub run: String,
    pub target: String,
    pub candidate: String,
    pub previous: String,
    #[serde(skip)]
    pub lease: Duration,
    #[serde(skip)]
    pub activate: Duration,
    /// As read under the lock.
    pub state: State,
    /// Leftovers of dead runs that were removed, by name.
    pub swept: Vec<String>,
    /// Units that had failed at preflight, as far as it is known.
    #[serde(skip)]
    pub failed: Vec<String>,
}

/// The test switch has ended.
#[derive(Debug, Clone, Serialize)]
pub struct Switched {
    pub outcome: Stc,
    /// `Waiting`: the candidate runs and the lease counts. `Reverted` and `RevertFailed`: see the reasons.
    pub state: State,
    /// What switch-to-configuration printed; the last 256 KiB of each.
    pub stdout: String,
    pub stderr: String,
    pub millis: u64,
}

/// The candidate is committed.
#[derive(Debug, Clone, Serialize)]
pub struct Committed {
    pub generation_before: Option<u64>,
    pub generation: Option<u64>,
    /// Running, profile and boot default as read again afterwards are in it.
    pub state: State,
    /// The boot default could not be verified: a warning for the evidence.
    pub boot_unverified: bool,
}

/// The host went back, or did not.
#[derive(Debug, Clone, Serialize)]
pub struct Reverted {
    /// On what ran before, units included.
    pub back: bool,
    pub state: State,
}

/// Takes the target's lock: installs the supervisor, starts it, roots the candidate's path, and reads running system,
/// profile and boot default under the lock. One remote command.
///
/// # Errors
/// [`HoldError`]; the target is untouched in every case.
pub async fn hold(session: &Session, plan: &Plan) -> Result<Held, HoldError> {
    let text = plan.text().map_err(HoldError::Host)?;
    // Both of a revert and its retry, and of a commit that fails: what `recover` may need in the worst case.
    let stop = plan.activate.as_secs().saturating_mul(3) + plan.lease.as_secs() + 120;
    let script = Script::new(HOLD)
        .arg(&plan.run)
        .arg(plan.previous())
        .arg(text)
        .args([&stop.to_string(), &plan.target])
        .input(format!(
            "{COMMON}\n{UNITS}\n{BEFORE}\n{STATE}\n{BACK}\n{SUPERVISOR}"
        ));
    let deadline = session.endpoint().connect_timeout + Duration::from_secs(25);
    let output = session
        .run(&script, Privilege::Root, deadline)
        .await
        .map_err(HoldError::Host)?;
    let text = output.text();
    let lines = || {
        let mut lines = crate::failure::last_lines(&output.stderr, 6);
        lines.extend(crate::failure::last_lines(&text, 3));
        lines
    };
    let Some(state) = State::parse(&text) else {
        return Err(unwritable(&text).unwrap_or_else(|| HoldError::Failed(lines())));
    };
    match state.phase {
        Phase::Holding => {}
        Phase::Busy => return Err(HoldError::Busy(holder(&text))),
        _ => return Err(HoldError::Failed(lines())),
    }
    let held = Held {
        run: plan.run.clone(),
        target: plan.target.clone(),
        candidate: plan.candidate.clone(),
        previous: plan.previous().to_owned(),
        lease: plan.lease,
        activate: plan.activate,
        swept: text
            .lines()
            .filter_map(|line| line.strip_prefix("swept="))
            .map(str::to_owned)
            .collect(),
        failed: plan.failed.clone(),
        state,
    };
    let what = changed(plan, &held.state);
    if what.is_empty() {
        return Ok(held);
    }
    // Silence would free it too; this is quicker.
    let _ = held.end(&mut &*session).await;
    Err(HoldError::Changed {
        now: Box::new(held.state),
        what,
    })
}

/// What is not as the plan saw it.
fn changed(plan: &Plan, state: &State) -> Vec<String> {
    let mut what = Vec::new();
    let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
    if state.here.running != plan.seen.running {
        what.push(format!(
            "running was {}, is {}",
            word(&plan.seen.running),
            word(&state.here.running)
        ));
    }
    if state.here.profile != plan.seen.profile {
        what.push(format!(
            "profile was {}, is {}",
            word(&plan.seen.profile),
            word(&state.here.profile)
        ));
    }
    if state.here.boot_default != plan.seen.boot_default {
        what.push(format!(
            "boot default was {}, is {}",
            plan.seen.boot_default, state.here.boot_default
        ));
    }
    if state.here.boot_once != plan.seen.boot_once {
        let word = |once: &Option<BootOnce>| once.as_ref().map_or("nothing".into(), ToString::to_string);
        what.push(format!(
            "what boots once was {}, is {}",
            word(&plan.seen.boot_once),
            word(&state.here.boot_once)
        ));
    }
    what
}

impl Held {
    /// From a state that [`reattach`] found; lease and deadline as configured now.
    pub fn from_state(state: State, lease: Duration, activate: Duration) -> Self {
        Held {
            run: state.run.clone(),
            target: state.target.clone(),
            candidate: state.candidate.clone(),
            previous: state.previous.clone(),
            lease,
            activate,
            state,
            swept: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Renews the lease while `holding` (copy, dry-activate). Needed at least once per lease.
    ///
    /// # Errors
    /// [`SupervisorError::Refused`] once the lease has run out.
    pub async fn keep(&self, remote: &mut impl Remote) -> Result<State, SupervisorError> {
        self.tell(remote, "keep", PROMPT).await
    }

    /// Lets go without a switch.
    ///
    /// # Errors
    /// [`SupervisorError`]; the lock then ends with the lease.
    pub async fn release(&self, remote: &mut impl Remote) -> Result<State, SupervisorError> {
        self.tell(remote, "release", PROMPT).await
    }

    /// Runs the test switch and waits for its end. A lost link is no event: the host goes on, and this connects again
    /// and looks, until well after the host's own deadlines.
    ///
    /// # Errors
    /// [`SupervisorError::Host`] when the host stayed out of reach: by then it has reverted or will.
    pub async fn switch(&self, session: &mut Session) -> Result<Switched, SupervisorError> {
        self.follow_switch(session, false).await
    }

    /// How a switch ended that another process began.
    ///
    /// # Errors
    /// As [`Held::switch`].
    pub async fn switched(&self, session: &mut Session) -> Result<Switched, SupervisorError> {
        self.follow_switch(session, true).await
    }

    async fn follow_switch(&self, session: &mut Session, begun: bool) -> Result<Switched, SupervisorError> {
        let started = Instant::now();
        let give_up = started + self.activate * 3 + self.lease + Duration::from_secs(60);
        let mut text = None;
        // The nonce makes repeating it harmless.
        let nonce = super::super::wire::nonce();
        let mut sent = begun;
        while text.is_none() {
            let left = give_up.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(SupervisorError::Host(HostError::Timeout {
                    after: started.elapsed(),
                    killed: false,
                    stdout: Vec::new(),
                    stderr: String::new(),
                }));
            }
            let script = if sent {
                Script::new(SHOW).arg(&self.run).arg(left.as_secs().to_string())
            } else {
                Script::new(format!("{TELL}\n{SHOW}"))
                    .arg(&self.run)
                    .arg(left.as_secs().to_string())
                    .arg("switch")
                    .arg(&nonce)
            };
            match session.run(&script, Privilege::Root, left).await {
                Ok(output) => text = Some(output),
                Err(error) if error.is_link() => {
                    // Whether the message arrived shows in the state; it is not sent twice unless it did not.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    if session.reopen().await.is_ok() {
                        let state = reattach(session, &self.run).await;
                        sent = !matches!(&state, Ok(Some(state)) if state.phase == Phase::Holding);
                    }
                }
                Err(error) => return Err(SupervisorError::Host(error)),
            }
        }
        let Some(output) = text else {
            return Err(SupervisorError::Gone);
        };
        let (head, stdout, stderr) = split_sections(&output.stdout);
        let state = State::parse(&head).ok_or(SupervisorError::Gone)?;
        if state.phase == Phase::Released || state.phase == Phase::Holding {
            let why = match (state.reasons.as_slice(), state.answer.as_str()) {
                ([], "" | "ok") => "the lease ran out".into(),
                ([], answer) => answer.to_owned(),
                (reasons, _) => reasons.join("; "),
            };
            return Err(SupervisorError::Refused {
                why,
                state: Box::new(state),
            });
        }
        let status = state.switch_status.unwrap_or(137);
        let outcome = Stc::classify(status, &stdout, &stderr, state.switch_timed_out);
        Ok(Switched {
            outcome,
            state,
            stdout,
            stderr,
            millis: started.elapsed().as_millis() as u64,
        })
    }

    /// Renews the lease of a switched host. Only a fresh connection may.
    ///
    /// # Errors
    /// [`SupervisorError::Refused`] when it is too late: the state says what happened.
    pub async fn renew(&self, shell: &mut Shell) -> Result<State, SupervisorError> {
        self.tell(shell, "renew", PROMPT).await
    }

    /// Renews the lease and runs `script` in the same round trip, whatever the supervisor answers.
    ///
    /// # Errors
    /// As [`Held::renew`]; `script` has run then all the same, unless the connection failed.
    pub async fn renew_with(
        &self,
        shell: &mut Shell,
        script: &Script,
        privilege: Privilege,
        deadline: Duration,
    ) -> Result<Output, SupervisorError> {
        let nonce = super::super::wire::nonce();
        let mut both = Script::new(format!(
            "(\n{TELL}\n)\nshift 4\nprintf '{SECTION}'\n{}",
            script.text
        ))
        .arg(&self.run)
        .arg(PROMPT.as_secs().to_string())
        .arg("renew")
        .arg(&nonce)
        .args(script.args.iter().cloned());
        both.input = script.input.clone();
        let mut output = shell
            .run(&both, privilege, deadline + PROMPT)
            .await
            .map_err(SupervisorError::Host)?;
        let text = output.text().into_owned();
        let (state, rest) = text.split_once(SECTION_LINE).ok_or(SupervisorError::Gone)?;
        answered(state, &nonce)?;
        output.stdout = rest.as_bytes().to_vec();
        Ok(output)
    }

    /// The state now.
    ///
    /// # Errors
    /// [`SupervisorError::Gone`] when there is none.
    pub async fn status(&self, remote: &mut impl Remote) -> Result<State, SupervisorError> {
        let found = reattach(remote, &self.run).await.map_err(SupervisorError::Host)?;
        found.ok_or(SupervisorError::Gone)
    }

    /// Sends the host back and waits until it is.
    ///
    /// # Errors
    /// [`SupervisorError`]; without contact the host reverts by silence.
    pub async fn revert(&self, shell: &mut Shell) -> Result<Reverted, SupervisorError> {
        let state = self.tell(shell, "revert", self.activate * 2 + PROMPT).await?;
        Ok(Reverted {
            back: state.phase == Phase::Reverted,
            state,
        })
    }

    /// Leaves the candidate running, uncommitted and unwatched (`auto-rollback = false`).
    ///
    /// # Errors
    /// [`SupervisorError`].
    pub async fn leave(&self, shell: &mut Shell) -> Result<State, SupervisorError> {
        self.tell(shell, "leave", PROMPT).await
    }

    /// Follows the state until nothing more happens by itself, for when no message gets through; reconnects.
    ///
    /// # Errors
    /// The last one, when `patience` is over.
    pub async fn wait_final(
        &self,
        session: &mut Session,
        patience: Duration,
    ) -> Result<State, SupervisorError> {
        let give_up = Instant::now() + patience;
        loop {
            let error = match reattach(session, &self.run).await {
                Ok(Some(state)) if state.phase.is_final() => return Ok(state),
                Ok(Some(state)) => SupervisorError::Silent {
                    state: Box::new(state),
                },
                Ok(None) => return Err(SupervisorError::Gone),
                Err(error) => SupervisorError::Host(error),
            };
            if Instant::now() >= give_up {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            if matches!(&error, SupervisorError::Host(error) if error.is_link()) {
                // Still unreachable: the next round says so.
                let _ = session.reopen().await;
            }
        }
    }

    /// Ends the supervisor after `committed`, `reverted` or `revert-failed`, drops the temporary root and the run's
    /// directory. The state returned is the last one, looked at once more.
    ///
    /// # Errors
    /// [`SupervisorError`]; all of it ends by itself with the lease, and the next run sweeps.
    pub async fn end(&self, remote: &mut impl Remote) -> Result<State, SupervisorError> {
        // One that ended with its lease answers nobody; what it left goes all the same.
        let text = format!("{TELL}\n[ \"$heard $word\" = \"$4 ok\" ] || gone \"$1\" || exit 0\n{LEFTOVER}");
        match self.tell_with(remote, text, "release", PROMPT).await {
            Err(SupervisorError::Silent { state }) if state.phase.is_final() => Ok(*state),
            told => told,
        }
    }

    /// Sends one message and waits for its answer.
    pub(super) async fn tell(
        &self,
        remote: &mut impl Remote,
        verb: &str,
        patience: Duration,
    ) -> Result<State, SupervisorError> {
        self.tell_with(remote, TELL, verb, patience).await
    }

    /// The same with more to do on the host afterwards.
    async fn tell_with(
        &self,
        remote: &mut impl Remote,
        text: impl Into<std::borrow::Cow<'static, str>>,
        verb: &str,
        patience: Duration,
    ) -> Result<State, SupervisorError> {
        let nonce = super::super::wire::nonce();
        let script = Script::new(text)
            .arg(&self.run)
            .arg(patience.as_secs().to_string())
            .arg(verb)
            .arg(&nonce);
        let deadline = patience + Duration::from_secs(8);
        let output = remote
            .run(&script, Privilege::Root, deadline)
            .await
            .map_err(SupervisorError::Host)?;
        answered(&output.text(), &nonce)
    }
}

/// Judges what the supervisor answered to the message that bore `nonce`.
pub(super) fn answered(text: &str, nonce: &str) -> Result<State, SupervisorError> {
    let state = State::parse(text).ok_or(SupervisorError::Gone)?;
    if state.nonce != nonce || state.answer.is_empty() {
        return Err(SupervisorError::Silent {
            state: Box::new(state),
        });
    }
    if state.answer != "ok" {
        return Err(SupervisorError::Refused {
            why: state.answer.clone(),
            state: Box::new(state),
        });
    }
    Ok(state)
}

/// Takes `show.sh`'s output apart: the state, then stdout and stderr with their sizes before them.
fn split_sections(bytes: &[u8]) -> (String, String, String) {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.splitn(3, SECTION_LINE);
    let mut next = || parts.next().unwrap_or_default().to_owned();
    (next(), next(), next())
}
