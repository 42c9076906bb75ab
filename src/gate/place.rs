//! Where a program of Nix runs: on this machine, or on a host over its session.

use std::time::Duration;

use crate::failure::Failure;
use crate::host::{Privilege, Script, Session};
use crate::nix::{Exec, ExecOutput, LocalExec};

/// A place for Nix to work in.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    Here,
    Host(&'a Session),
}

impl Place<'_> {
    /// The place's name for evidence and messages.
    pub fn name(&self) -> &str {
        match self {
            Place::Here => "this machine",
            Place::Host(session) => session.name(),
        }
    }
}

impl Exec for Place<'_> {
    fn is_here(&self) -> bool {
        matches!(self, Place::Here)
    }

    async fn exec(
        &self,
        argv: &[String],
        env: &[(String, String)],
        stdin: Option<Vec<u8>>,
        deadline: Duration,
    ) -> Result<ExecOutput, Failure> {
        match self {
            Place::Here => LocalExec.exec(argv, env, stdin, deadline).await,
            Place::Host(session) => {
                As(Privilege::User, session)
                    .exec(argv, env, stdin, deadline)
                    .await
            }
        }
    }
}

/// A host, as root or whoever else is named.
#[derive(Debug, Clone, Copy)]
pub struct As<'a>(pub Privilege, pub &'a Session);

/// A target's store, for reading: as root, who reads its database. Anybody else has the daemon asked for each path.
pub fn store_of(session: &Session) -> As<'_> {
    As(Privilege::RootIfPossible, session)
}

impl Exec for As<'_> {
    async fn exec(
        &self,
        argv: &[String],
        env: &[(String, String)],
        stdin: Option<Vec<u8>>,
        deadline: Duration,
    ) -> Result<ExecOutput, Failure> {
        let As(privilege, session) = *self;
        let assignments = env.iter().map(|(name, value)| format!("{name}={value}"));
        let words = std::iter::once("env".to_owned())
            .chain(assignments)
            .chain(argv.iter().cloned());
        let mut script = Script::command(words);
        if let Some(bytes) = stdin {
            script = script.input(String::from_utf8_lossy(&bytes).into_owned());
        }
        let output = session
            .run(&script, privilege, deadline)
            .await
            .map_err(|error| error.failure(session.name()))?;
        Ok(ExecOutput {
            status: output.status,
            stdout: output.stdout,
            stderr: output.stderr.into_bytes(),
        })
    }
}
