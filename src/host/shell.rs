//! A fresh connection: one ssh process, one remote shell, many scripts. It shares nothing with the run's master, so
//! what it carries proves that the host lets somebody in *now*.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::channel::Channel;
use super::connect::{ConnectClass, ConnectError};
use super::master::{LogLevel, ssh_arguments};
use super::session::{count_command, count_connection, count_script, local_shell};
use super::wire::LOGIN;
use super::{Endpoint, HostError, Output, Privilege, Remote, Script};

/// See [`fresh`].
#[derive(Debug)]
pub struct Shell {
    endpoint: Endpoint,
    channel: Channel,
}

/// ssh with a connection of its own, to a shell; a key pressed at the terminal is for the run to judge, not for it.
#[expect(clippy::disallowed_methods, reason = "boundary: fresh")]
pub(super) fn own_connection(endpoint: &Endpoint) -> std::io::Result<tokio::process::Child> {
    count_connection();
    Command::new("ssh")
        .args(["-o", "ControlMaster=no"])
        .args(ssh_arguments(endpoint, "none", LogLevel::Info))
        .arg(LOGIN)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Opens a new connection and waits until a shell answers on it; the shell is root's from then on where sudo needs no
/// password. For a local target it is a plain child, and no evidence may call that a fresh connection
/// ([`Shell::is_fresh_connection`]).
///
/// # Errors
/// [`ConnectError`], within the connect timeout and two seconds.
pub async fn fresh(endpoint: &Endpoint) -> Result<Shell, ConnectError> {
    let other = |line: String| ConnectError::new(ConnectClass::Other, vec![line]);
    let mut child = if endpoint.is_local() {
        local_shell().map_err(|error| other(format!("sh: {error}")))?
    } else {
        crate::boundary::cross("before", || format!("{}: fresh connection", endpoint.name));
        own_connection(endpoint).map_err(|error| other(format!("cannot run ssh: {error}")))?
    };
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(other("no pipes to ssh".into()));
    };
    count_command();
    let patience = endpoint.connect_timeout * endpoint.way.tries() + Duration::from_secs(1);
    let mut channel = Channel::new((stdin, stdout, stderr), child, patience, false);
    match channel.become_root(endpoint).await {
        Ok(()) => Ok(Shell {
            endpoint: endpoint.clone(),
            channel,
        }),
        Err(HostError::Connect(error)) => Err(error),
        Err(HostError::Lost { lines }) => Err(ConnectError::from_stderr(&lines.join("\n"))),
        Err(HostError::Timeout { stderr, .. }) => Err(ConnectError::new(
            ConnectClass::Hang,
            crate::failure::last_lines(&stderr, 4),
        )),
        Err(error) => Err(other(error.failure(&endpoint.name).what)),
    }
}

impl Shell {
    /// False for a local target.
    pub fn is_fresh_connection(&self) -> bool {
        !self.endpoint.is_local()
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether the last script came back; a broken shell stays broken.
    pub fn is_usable(&self) -> bool {
        self.channel.is_usable()
    }

    /// Runs a script and waits for it; one at a time.
    ///
    /// # Errors
    /// See [`HostError`]. After `Lost`, or a timeout that the host did not confirm, the shell is of no further use.
    pub async fn run(
        &mut self,
        script: &Script,
        privilege: Privilege,
        deadline: Duration,
    ) -> Result<Output, HostError> {
        count_script();
        self.channel
            .run(&self.endpoint, script, privilege, deadline)
            .await
    }
}

impl Remote for Shell {
    async fn run(
        &mut self,
        script: &Script,
        privilege: Privilege,
        deadline: Duration,
    ) -> Result<Output, HostError> {
        Shell::run(self, script, privilege, deadline).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::{RunDir, Session};
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn s0_23_a_local_target_needs_no_ssh_and_claims_no_fresh_connection() {
        let endpoint = Endpoint::local("orion");
        let dir = RunDir::new().expect("a directory");
        let session = Session::open(&endpoint, &dir).await.expect("a session");
        let script = Script::new("echo \"$1\"; exit 7").arg("a b");
        let output = session
            .run(&script, Privilege::User, PATIENCE)
            .await
            .expect("ran");
        assert_eq!((output.status, output.text().as_ref()), (7, "a b\n"));
        assert_eq!(session.nix_store_uri(), "auto");
        let mut shell = fresh(&endpoint).await.expect("a shell");
        assert!(!shell.is_fresh_connection());
        for number in 0..3 {
            let script = Script::new("exit \"$1\"").arg(number.to_string());
            let output = shell.run(&script, Privilege::User, PATIENCE).await.expect("ran");
            assert_eq!(output.status, number);
        }
    }

    #[tokio::test]
    async fn a_shell_stays_usable_after_a_deadline_and_not_after_a_lost_link() {
        let mut shell = fresh(&Endpoint::local("orion")).await.expect("a shell");
        let slow = shell
            .run(&Script::new("sleep 20"), Privilege::User, Duration::from_secs(1))
            .await;
        assert!(
            matches!(slow, Err(HostError::Timeout { killed: true, .. })),
            "{slow:?}"
        );
        assert!(shell.is_usable());
        shell
            .run(&Script::new(":"), Privilege::User, PATIENCE)
            .await
            .expect("ran");
        // The far end goes away, as with a lost link.
        let gone = shell
            .run(
                &Script::new("read -r _ _ _ shell _ <\"/proc/$PPID/stat\"; kill -9 \"$shell\""),
                Privilege::User,
                PATIENCE,
            )
            .await;
        assert!(gone.is_err(), "{gone:?}");
        let lost = shell.run(&Script::new(":"), Privilege::User, PATIENCE).await;
        assert!(lost.is_err_and(|error| error.is_link()) && !shell.is_usable());
    }
}
