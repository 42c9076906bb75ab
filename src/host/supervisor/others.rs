//! What is asked of a supervisor by others than its run: how far it is, whose the host is, to go back, to give way.

use std::time::Duration;

use super::super::facts::Holder;
use super::super::state::State;
use super::super::{HostError, Privilege, Remote, Script, Session};
use super::driver::{PROMPT, SHOW, TELL, answered};
use super::error::{SupervisorError, holder};
use super::plan::check_run;

/// How long the rehearsal of a run that was superseded is waited for.
const REHEARSAL: Duration = Duration::from_secs(60);

/// Reads the state of a run, for `resume` and `status`. `None`: the host knows nothing of it (any more), facts decide.
///
/// # Errors
/// What the connection says.
pub async fn reattach(remote: &mut impl Remote, run: &str) -> Result<Option<State>, HostError> {
    check_run(run)?;
    let output = remote
        .run(&Script::new(SHOW).arg(run).arg("0"), Privilege::Root, PROMPT)
        .await?;
    Ok(State::parse(&output.text()))
}

/// Who holds the target now.
///
/// # Errors
/// What the connection says.
pub async fn holder_now(session: &Session) -> Result<Option<Holder>, HostError> {
    let script = Script::new("sed 's/^/holder_/' /run/nixgate/holder 2>/dev/null");
    let output = session.run(&script, Privilege::Root, PROMPT).await?;
    Ok(holder(&output.text()))
}

/// Has the supervisor of `run` end it: let go while it holds, go back once the candidate runs. In mid-switch that waits
/// for the end of the switch. `who` stands in the reasons.
///
/// # Errors
/// [`SupervisorError::Refused`] when it is too late, or too early: the state says which.
pub async fn cancel(
    remote: &mut impl Remote,
    run: &str,
    who: &str,
    activate: Duration,
) -> Result<State, SupervisorError> {
    check_run(run).map_err(SupervisorError::Host)?;
    let nonce = super::super::wire::nonce();
    let patience = activate * 2 + PROMPT;
    let script = Script::new(format!(
        "printf '%s\\n' \"$5\" >\"/run/nixgate/$1/cancelled\" || exit 1\n{TELL}"
    ))
    .arg(run)
    .arg(patience.as_secs().to_string())
    .arg("cancel")
    .arg(&nonce)
    .arg(who.replace(['\n', '\r'], " "));
    let output = remote
        .run(&script, Privilege::Root, patience + Duration::from_secs(8))
        .await
        .map_err(SupervisorError::Host)?;
    answered(&output.text(), &nonce)
}

/// Has the supervisor of `run` let the target go, as long as nothing was switched, and waits until it has ended. `who`
/// stands in the reasons.
///
/// # Errors
/// [`SupervisorError::Refused`]: it has begun to switch, and goes on.
pub async fn supersede(remote: &mut impl Remote, run: &str, who: &str) -> Result<State, SupervisorError> {
    check_run(run).map_err(SupervisorError::Host)?;
    let nonce = super::super::wire::nonce();
    let script = Script::new(format!(
        r#"printf '%s\n' "$5" >"/run/nixgate/$1/superseded" || exit 1
{TELL}
[ "$heard $word" = "$4 ok" ] || exit 0
n=0
until gone "$1" || [ $n -ge 200 ]; do
	n=$((n + 1))
	sleep 0.02
done
# Its rehearsal may still be at work, and a second one would find the lock taken.
lock=/run/nixos/switch-to-configuration.lock n=0
until [ ! -e "$lock" ] || flock -n "$lock" true || [ $n -ge "$6" ]; do
	n=$((n + 1))
	sleep 0.2
done"#
    ))
    .arg(run)
    .arg(PROMPT.as_secs().to_string())
    .arg("supersede")
    .arg(&nonce)
    .arg(who.replace(['\n', '\r'], " "))
    .arg((REHEARSAL.as_secs() * 5).to_string());
    let output = remote
        .run(
            &script,
            Privilege::Root,
            PROMPT + REHEARSAL + Duration::from_secs(15),
        )
        .await
        .map_err(SupervisorError::Host)?;
    answered(&output.text(), &nonce)
}
