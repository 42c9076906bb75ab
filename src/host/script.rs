//! What is run on a host, as whom, and what comes back.

use std::borrow::Cow;
use std::time::Duration;

use super::connect::ConnectError;
use crate::failure::{Failure, Reason, last_lines};

/// A POSIX shell program with its arguments and its input. The text is constant; whatever varies is an argument.
#[derive(Debug, Clone)]
pub struct Script {
    pub(super) text: Cow<'static, str>,
    pub(super) args: Vec<String>,
    pub(super) input: Option<String>,
}

impl Script {
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Script {
            text: text.into(),
            args: Vec::new(),
            input: None,
        }
    }

    /// One program with its arguments, without a shell's interpretation.
    pub fn command<I, S>(argv: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        Script {
            args: argv.into_iter().map(Into::into).collect(),
            ..Script::new("\"$@\"")
        }
    }

    /// The next positional argument (`$1` first).
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Text on the script's stdin; ended with a newline if it is not. Without it stdin is `/dev/null`.
    pub fn input(mut self, input: impl Into<String>) -> Self {
        self.input = Some(input.into());
        self
    }
}

/// As whom a script runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// The ssh user.
    User,
    Root,
    /// Root where the endpoint's way there works, else the user; [`Output::sudo`] says why not root. For reading.
    RootIfPossible,
}

/// What a script that ran left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit status; 128 + n for a signal.
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
    /// With [`Privilege::RootIfPossible`]: why it did not run as root.
    pub sudo: Option<SudoError>,
    /// With [`Privilege::User`]: what a copy by this user meets.
    pub greeting: Greeting,
}

/// What a login does before the program that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Greeting {
    /// What it prints on standard output, where protocols begin; at most [`Greeting::NOISE`] characters of it.
    pub noise: String,
    pub nix_daemon: NixDaemon,
}

impl Greeting {
    pub const NOISE: usize = 400;
}

/// Whether a login finds the program that a copy runs there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NixDaemon {
    /// It was not asked.
    #[default]
    Unknown,
    /// By its own PATH.
    OnPath,
    /// Here, and its PATH does not name that folder.
    At(String),
    Missing,
}

impl Output {
    pub fn ok(&self) -> bool {
        self.status == 0
    }

    /// stdout as text; what is no UTF-8 is replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }
}

/// Why a script could not run as root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SudoError {
    /// sudo wants a password and there is none to give.
    NeedsPassword {
        user: String,
    },
    /// The given password is not taken.
    WrongPassword {
        user: String,
    },
    /// The user may not use sudo for this.
    NotAllowed {
        user: String,
        lines: Vec<String>,
    },
    /// sudo works on a terminal alone (`requiretty`), and a run has none.
    NeedsTty {
        user: String,
        lines: Vec<String>,
    },
    /// There is no usable sudo, or sudo is switched off for this target and the user is not root.
    Missing {
        user: String,
        lines: Vec<String>,
    },
    Other {
        user: String,
        lines: Vec<String>,
    },
}

impl SudoError {
    /// What to show: one sentence, the program's own lines, and what to do.
    pub fn explain(&self, name: &str) -> (String, Vec<String>, Vec<String>) {
        let line = |user: &str| {
            format!("on {name}: security.sudo.extraRules, or in sudoers: {user} ALL=(ALL:ALL) NOPASSWD: ALL")
        };
        match self {
            SudoError::NeedsPassword { user } => (
                format!("{name}: sudo wants a password for {user}"),
                Vec::new(),
                vec![
                    line(user),
                    "or set sudo = \"ask\" in .nixgate.toml to be asked once per run".into(),
                ],
            ),
            SudoError::WrongPassword { user } => (
                format!("{name}: sudo does not take the password given for {user}"),
                Vec::new(),
                vec![format!(
                    "run it again with the password that {user} has on {name}"
                )],
            ),
            SudoError::NotAllowed { user, lines } => (
                format!("{name}: {user} may not use sudo for this"),
                lines.clone(),
                vec![line(user)],
            ),
            SudoError::NeedsTty { user, lines } => (
                format!("{name}: sudo wants a terminal (requiretty), and a run has none"),
                lines.clone(),
                vec![format!("on {name}, in sudoers: Defaults:{user} !requiretty")],
            ),
            SudoError::Missing { user, lines } => (
                format!("{name}: {user} is not root and cannot become root"),
                lines.clone(),
                vec!["set user = \"root\", or sudo = \"auto\" and install sudo there".into()],
            ),
            SudoError::Other { user, lines } => (
                format!("{name}: sudo failed for {user}"),
                lines.clone(),
                vec![line(user)],
            ),
        }
    }
}

/// Why there is no [`Output`].
#[derive(Debug, Clone)]
pub enum HostError {
    /// No shell answered: see the class.
    Connect(ConnectError),
    /// The connection went away while the script ran; how far it came is unknown.
    Lost {
        lines: Vec<String>,
    },
    /// The script was still running at its deadline and was told to end. `killed`: the host confirmed that.
    Timeout {
        after: Duration,
        killed: bool,
        stdout: Vec<u8>,
        stderr: String,
    },
    /// The script ran, and what it was for did not work; the host's words.
    Failed {
        lines: Vec<String>,
    },
    Sudo(SudoError),
    /// The script cannot be sent (a NUL byte, a newline in a password).
    Unsendable(&'static str),
    /// ssh or sh could not be started here.
    Spawn(String),
}

impl HostError {
    /// The link to the host is the trouble, so that trying again or reconnecting makes sense.
    pub fn is_link(&self) -> bool {
        matches!(self, HostError::Lost { .. } | HostError::Connect(_))
    }

    /// As a failure with exit 1; callers that know that the switch began change the exit.
    pub fn failure(&self, name: &str) -> Failure {
        match self {
            HostError::Connect(error) => error.failure(name),
            HostError::Lost { lines } => {
                let mut failure = Failure::failed(
                    Reason::Link,
                    format!("{name}: the connection was lost in mid-command"),
                );
                failure.why = lines.clone();
                failure.next("run it again")
            }
            HostError::Timeout {
                after,
                stderr,
                killed,
                ..
            } => {
                let mut failure = Failure::failed(
                    Reason::Timeout,
                    format!("{name}: no answer within {} s", after.as_secs_f32()),
                );
                failure.why = last_lines(stderr, 3);
                if !killed {
                    failure
                        .why
                        .push("the host did not confirm that the command ended".into());
                }
                failure.next(format!("see by hand what {name} is busy with, then run it again"))
            }
            HostError::Failed { lines } => {
                let mut failure = Failure::failed(
                    Reason::Script,
                    format!("{name}: a command of this run failed there"),
                );
                failure.why = lines.clone();
                failure
            }
            HostError::Sudo(error) => {
                let (what, why, next) = error.explain(name);
                Failure {
                    why,
                    next,
                    ..Failure::failed(Reason::Auth, what)
                }
            }
            HostError::Unsendable(why) => {
                Failure::failed(Reason::Internal, format!("{name}: cannot send this: {why}"))
            }
            HostError::Spawn(why) => Failure::failed(Reason::Internal, format!("{name}: {why}")),
        }
    }
}
