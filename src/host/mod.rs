//! Hosts: ssh and local connections, privilege, facts, and the supervisor that switches a host and can take it back.
//!
//! This module alone starts `ssh` and programs on a target. What travels is always one complete shell program whose
//! arguments are quoted by a library; nothing is interpolated into a command line, no terminal is allocated, and every
//! remote command has a deadline. What may not happen here: a prompt, a secret in an argument vector or a log, a
//! remote program that runs because half of its text arrived.

pub mod bootdefault;
mod channel;
pub mod connect;
pub mod dryrun;
pub mod facts;
pub mod follow;
mod known;
mod master;
pub mod pressure;
pub mod probe;
pub mod rundir;
pub mod said;
pub mod script;
pub mod session;
pub mod shell;
pub mod state;
pub mod stc;
pub mod supervisor;
pub mod system;
pub mod trouble;
mod wire;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use connect::{ConnectClass, ConnectError};
pub use facts::{Facts, Login};
pub use probe::{Probe, probe_and_open, tcp_probe};
pub use rundir::RunDir;
pub use script::{Greeting, HostError, NixDaemon, Output, Privilege, Script, SudoError};
pub use session::{Counts, Session};
pub use shell::{Shell, fresh};

/// Where a host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// This machine, without ssh.
    Local,
    /// A name or address that ssh understands (`Host` aliases of ssh_config included), without a user.
    Ssh(String),
}

/// How to become root on a host; the values of `sudo` in `.nixgate.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sudo {
    /// Nothing for uid 0, else `sudo -n`.
    #[default]
    Auto,
    /// Never sudo: the ssh user must be root for what needs root.
    None,
    /// `sudo -n`, and say what is missing when it asks for a password.
    Nopasswd,
    /// `sudo -n` where it works, else the password of [`Endpoint::password`] on stdin.
    Ask,
}

/// A password. Never shown, not even by `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself; only the wire format may ask.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A host and the way to reach it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The target's or builder's name, for messages.
    pub name: String,
    pub host: Address,
    /// `None`: what ssh_config says.
    pub user: Option<String>,
    /// Further arguments for ssh, each one argument (`["-p", "2222"]`, `["-o", "ProxyCommand=…"]`).
    pub ssh_options: Vec<String>,
    pub sudo: Sudo,
    /// Bounds connecting and authenticating together.
    pub connect_timeout: Duration,
    /// For [`Sudo::Ask`].
    pub password: Option<Secret>,
    /// What the first connection found out about the way, for the later ones; shared by all clones.
    pub way: Way,
}

/// What was found out about a host's addresses.
#[derive(Debug, Clone, Default)]
pub struct Way(Arc<Mutex<Addresses>>);

#[derive(Debug, Clone, Copy, Default)]
struct Addresses {
    /// The one family that answers, where the name has addresses of both.
    family: Option<Family>,
    /// How many addresses ssh may have to try, one after the other.
    count: u32,
}

/// As `AddressFamily` of ssh_config(5) says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Inet,
    Inet6,
}

impl Family {
    pub fn word(self) -> &'static str {
        match self {
            Family::Inet => "inet",
            Family::Inet6 => "inet6",
        }
    }

    pub fn of(address: &std::net::SocketAddr) -> Family {
        match address.is_ipv4() {
            true => Family::Inet,
            false => Family::Inet6,
        }
    }
}

impl Way {
    fn known(&self) -> Addresses {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, addresses: Addresses) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// How often ssh may wait for a connection before it gives up.
    fn tries(&self) -> u32 {
        self.known().count.clamp(1, 8)
    }
}

impl Endpoint {
    /// This machine.
    pub fn local(name: impl Into<String>) -> Self {
        Endpoint {
            name: name.into(),
            host: Address::Local,
            user: None,
            ssh_options: Vec::new(),
            sudo: Sudo::Auto,
            connect_timeout: Duration::from_secs(5),
            password: None,
            way: Way::default(),
        }
    }

    /// A host behind ssh, everything else by default.
    pub fn ssh(name: impl Into<String>, host: impl Into<String>) -> Self {
        Endpoint {
            host: Address::Ssh(host.into()),
            ..Endpoint::local(name)
        }
    }

    pub fn is_local(&self) -> bool {
        self.host == Address::Local
    }
}

/// Anything that runs a [`Script`] on a host: a [`Session`] or a fresh [`Shell`].
pub trait Remote {
    /// Runs `script` and waits for it.
    ///
    /// # Errors
    /// See [`HostError`]; a script that ran and ended non-zero is *not* an error, its status is in [`Output`].
    fn run(
        &mut self,
        script: &Script,
        privilege: Privilege,
        deadline: Duration,
    ) -> impl Future<Output = Result<Output, HostError>> + Send;
}
