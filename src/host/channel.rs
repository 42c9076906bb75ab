//! One shell on a host that runs one script after the other, and that becomes root once instead of every time.

use std::any::Any;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::boundary;

use super::wire::{Reader, Wire, converse, root_wire, wire_to};
use super::{Endpoint, HostError, Output, Privilege, Script, Sudo};

/// A conversation with a shell. Dropping it ends the shell: its stdin closes.
pub(super) struct Channel {
    stdin: Box<dyn AsyncWrite + Send + Sync + Unpin>,
    stdout: Box<dyn AsyncRead + Send + Sync + Unpin>,
    stderr: Box<dyn AsyncRead + Send + Sync + Unpin>,
    /// Our end's process, or its handle; ends with us.
    _process: Box<dyn Any + Send + Sync>,
    /// How long the shell may take to answer at all.
    hello: Duration,
    /// The login is known to have succeeded, so that silence is the account's doing.
    authenticated: bool,
    /// From the sending of a script until it has come back whole the frame is out of step.
    broken: bool,
    /// The shell itself runs as root by now.
    root: bool,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel")
            .field("broken", &self.broken)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

impl Channel {
    pub fn new<W, O, E>(
        (stdin, stdout, stderr): (W, O, E),
        process: impl Any + Send + Sync,
        hello: Duration,
        authenticated: bool,
    ) -> Self
    where
        W: AsyncWrite + Send + Sync + Unpin + 'static,
        O: AsyncRead + Send + Sync + Unpin + 'static,
        E: AsyncRead + Send + Sync + Unpin + 'static,
    {
        Channel {
            stdin: Box::new(stdin),
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            _process: Box::new(process),
            hello,
            authenticated,
            broken: false,
            root: false,
        }
    }

    /// A lost link or an unconfirmed deadline ends a channel for good.
    pub fn is_usable(&self) -> bool {
        !self.broken
    }

    /// Makes the shell root's, where sudo needs no password; else leaves it as it is, and each script finds its own way
    /// or says why not. For root nothing changes.
    ///
    /// # Errors
    /// [`HostError`] of the connection; that sudo does not work is none.
    pub async fn become_root(&mut self, endpoint: &Endpoint) -> Result<(), HostError> {
        if endpoint.sudo == Sudo::None {
            let hello = Script::new(":");
            let deadline = self.hello;
            return self
                .run(endpoint, &hello, Privilege::User, deadline)
                .await
                .map(drop);
        }
        let output = self.converse(&root_wire(endpoint, self.hello)?).await?;
        self.root = output.text().trim() == "sudo";
        Ok(())
    }

    /// Runs a script and waits for it.
    ///
    /// # Errors
    /// See [`HostError`]. A shell that is root's by now runs nothing for the user.
    pub async fn run(
        &mut self,
        endpoint: &Endpoint,
        script: &Script,
        privilege: Privilege,
        deadline: Duration,
    ) -> Result<Output, HostError> {
        if self.root && privilege == Privilege::User {
            return Err(HostError::Unsendable("a user's script to root's shell"));
        }
        let reader = match self.root {
            true => Reader::Root,
            false => Reader::Login,
        };
        self.converse(&wire_to(reader, endpoint, script, privilege, deadline)?)
            .await
    }

    async fn converse(&mut self, wire: &Wire) -> Result<Output, HostError> {
        if self.broken {
            return Err(HostError::Lost {
                lines: vec!["the connection was lost before".into()],
            });
        }
        // Until it is known how this ends, and also when the caller drops this future, the frame is out of step.
        self.broken = true;
        let ends = (&mut self.stdin, &mut self.stdout, &mut self.stderr);
        boundary::cross("before", || wire.label.clone());
        let result = converse(wire, self.hello, self.authenticated, ends).await;
        boundary::cross("after", || wire.label.clone());
        self.broken = match &result {
            Ok(_) | Err(HostError::Sudo(_)) => false,
            Err(HostError::Timeout { killed, .. }) => !killed,
            Err(_) => true,
        };
        result
    }
}
