//! Taking a host back after its switch began, and keeping what it says of the trouble: before the way back replaces the
//! units that failed.

use std::time::Duration;

use super::{Run, journal};
use crate::failure::{Failure, Reason};
use crate::gate::commit;
use crate::host::state::State;
use crate::host::supervisor::Held;
use crate::host::trouble::{self, Trouble};
use crate::host::{Remote, Session, Shell, fresh};

/// How long a host may take to say what failed. The way back waits for it, within half of its lease.
const PATIENCE: Duration = Duration::from_secs(8);

/// As [`commit::take_back`], with what the host says in the failure and in the run's journal.
pub(super) async fn take_back(
    run: &mut Run<'_>,
    session: &mut Session,
    mut shell: Option<Shell>,
    held: &Held,
    known: Option<State>,
    stay: bool,
    mut failure: Failure,
) -> Failure {
    if failure.reason == Reason::Cancelled {
        return commit::take_back(&run.log, session, shell, held, known, stay, failure).await;
    }
    let trouble = match &mut shell {
        Some(shell) => heard(shell, held).await,
        None => heard(session, held).await,
    };
    if shell.as_ref().is_some_and(|shell| !shell.is_usable()) {
        // The word to go back needs one that works; without it the lease ends in silence.
        shell = fresh(session.endpoint()).await.ok();
    }
    if let Some(trouble) = &trouble {
        trouble.explain(&mut failure);
    }
    let mut failure = commit::take_back(&run.log, session, shell, held, known, stay, failure).await;
    let trouble = match trouble {
        Some(trouble) => Some(trouble),
        // It was out of reach then; what systemd and the kernel wrote down is still there.
        None => {
            let late = heard(session, held).await;
            if let Some(trouble) = &late {
                trouble.explain(&mut failure);
            }
            late
        }
    };
    let text = match trouble {
        Some(trouble) => trouble.text(),
        None => "the host could not be asked\n".to_owned(),
    };
    run.attach(journal::HOST_LOG, text.into_bytes());
    failure
}

/// What a host says of the trouble that it still has, in the failure and in the run's journal.
pub(super) async fn examine(run: &mut Run<'_>, session: &mut Session, held: &Held, failure: &mut Failure) {
    if let Some(trouble) = heard(session, held).await {
        trouble.explain(failure);
        run.attach(journal::HOST_LOG, trouble.text().into_bytes());
    }
}

/// `None`: it did not answer in time.
async fn heard(remote: &mut impl Remote, held: &Held) -> Option<Trouble> {
    let limit = PATIENCE.min(held.lease / 2);
    let asked = trouble::read(remote, &held.run, held.state.since, &held.failed, limit);
    // A dead connection may take longer to say so than the host may take to answer.
    tokio::time::timeout(limit + Duration::from_secs(3), asked)
        .await
        .ok()?
        .ok()
}
