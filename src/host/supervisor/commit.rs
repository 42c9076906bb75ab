//! The commit as the operator's side sees it: asked for, answered, and looked after where the answer does not come.

use std::time::{Duration, Instant};

use super::super::state::{Phase, State};
use super::super::{HostError, Shell, fresh};
use super::driver::{Committed, Held, PROMPT};
use super::error::SupervisorError;
use super::others::reattach;

impl Held {
    /// Profile and boot default: the candidate. The answer is the state file's, nothing else: ours by its nonce, or the
    /// state `committed`, which has no other cause.
    ///
    /// # Errors
    /// `Refused` with the state: `Waiting` when the host is not as it must be, `Reverted` when the boot loader failed
    /// and the host went back.
    pub async fn commit(&self, shell: &mut Shell) -> Result<Committed, SupervisorError> {
        match self.tell(shell, "commit", self.commit_takes()).await {
            // Somebody else spoke just after the answer had been written. Nothing but our message commits.
            Err(SupervisorError::Silent { state }) if state.phase == Phase::Committed => committed(*state),
            told => committed(told?),
        }
    }

    /// --set, boot; when they fail: boot and test of the previous system.
    fn commit_takes(&self) -> Duration {
        self.activate * 3 + PROMPT
    }

    /// How a commit ended whose answer did not come, because of `error`: a host that heard it goes on by itself. Looks over
    /// new connections until it has ended; the one that is good then is `shell`. One that stays out of reach is given up
    /// after a lease, in which a host that heard nothing goes back.
    ///
    /// # Errors
    /// As [`Held::commit`], and the last error where nobody can tell.
    pub async fn commit_unheard(
        &self,
        shell: &mut Shell,
        mut error: SupervisorError,
    ) -> Result<Committed, SupervisorError> {
        let begun = Instant::now();
        let mut patience = self.lease + PROMPT;
        loop {
            if !shell.is_usable() {
                match fresh(shell.endpoint()).await {
                    Ok(open) => *shell = open,
                    Err(why) => error = SupervisorError::Host(HostError::Connect(why)),
                }
            }
            if shell.is_usable() {
                error = match reattach(shell, &self.run).await {
                    Ok(None) => return Err(SupervisorError::Gone),
                    Ok(Some(state)) if state.phase.is_final() => return committed(state),
                    Ok(Some(state)) => {
                        let heard = state.phase != Phase::Waiting;
                        let silent = SupervisorError::Silent {
                            state: Box::new(state),
                        };
                        if !heard {
                            return Err(silent);
                        }
                        patience = self.commit_takes() + self.lease;
                        silent
                    }
                    Err(lost) => SupervisorError::Host(lost),
                };
            }
            if begun.elapsed() >= patience {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// What a commit came to, by the state that it ended in.
fn committed(state: State) -> Result<Committed, SupervisorError> {
    if state.phase != Phase::Committed {
        return Err(SupervisorError::Refused {
            why: state.reasons.join("; "),
            state: Box::new(state),
        });
    }
    Ok(Committed {
        generation_before: state.generation_before,
        generation: state.here.generation,
        boot_unverified: state.here.boot_default.path().is_none(),
        state,
    })
}
