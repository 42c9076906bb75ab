//! `.nixgate.toml`: typed, checked, with a default for everything but the targets' names.
//!
//! Pure: text in, settings and findings out. The file is always read from the commit being judged, never from the
//! work tree, so this module sees text and not a path.

mod host;
mod read;
mod section;
mod shared;
mod show;
mod ssh;
mod value;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::record::Target;

pub use host::{Host, Login};
pub use read::{parse, parse_leniently};
pub use section::Problem;
pub use shared::shared_hosts;
pub use show::{starter, to_toml};

/// The file's name, at the root of the repository.
pub const FILE: &str = ".nixgate.toml";

/// A whole `.nixgate.toml`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    pub hooks: Hooks,
    /// Each target with the defaults merged in, by name.
    pub targets: BTreeMap<Target, Settings>,
}

/// Everything that is set for one target.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Settings {
    /// Where the flake is, relative to the repository's root.
    pub flake: String,
    /// Where records are published; empty: nowhere.
    pub remote: String,
    /// The host's ssh name or address, with its port where one was written, or `local`.
    pub host: Host,
    /// The ssh user; empty: what ssh_config says.
    pub user: String,
    pub sudo: Sudo,
    /// Options for ssh, each `Key=Value`, of those that a repository may set.
    pub ssh_options: Vec<String>,
    /// The `nixosConfigurations` attribute.
    pub attr: String,
    /// The specialisation that is meant to run; empty: none.
    pub specialisation: String,
    /// A record must be signed by somebody who may release.
    pub require_signed: bool,
    /// An allowed-signers file outside of the repository; empty: whom git trusts.
    pub signers: String,
    pub reboot_on_failed_revert: bool,
    pub auto_rollback: bool,
    pub impure: bool,
    pub input_drift: InputDrift,
    /// How many known-good closures keep their GC roots.
    pub keep: u32,
    pub timeouts: Timeouts,
    pub builder: Builder,
    pub preflight: Preflight,
    #[serde(rename = "check")]
    pub checks: Vec<Check>,
}

/// How root is reached on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sudo {
    /// Nothing for root, else `sudo -n`.
    Auto,
    None,
    Nopasswd,
    /// A password, asked for once per run.
    Ask,
}

/// What a `flake.lock` input that moved undeclared means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InputDrift {
    Warn,
    Deny,
    Ignore,
}

/// Deadlines, written in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timeouts {
    #[serde(serialize_with = "value::seconds")]
    pub ssh: Duration,
    #[serde(serialize_with = "value::seconds")]
    pub activate: Duration,
    /// The supervisor's lease: silence longer than this reverts.
    #[serde(serialize_with = "value::seconds")]
    pub confirm: Duration,
    #[serde(serialize_with = "value::seconds")]
    pub settle: Duration,
    /// Settle and checks together.
    #[serde(serialize_with = "value::seconds")]
    pub validate: Duration,
    #[serde(serialize_with = "value::seconds")]
    pub soak: Duration,
    #[serde(serialize_with = "value::seconds")]
    pub build: Duration,
    #[serde(serialize_with = "value::seconds")]
    pub copy: Duration,
}

/// Where evaluation and build happen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Builder {
    /// Empty: this machine; `target`; or an ssh name.
    pub host: Host,
    pub user: String,
    pub evaluate: Evaluate,
    pub copy: CopyPath,
    /// How many derivations at once; none: 4 on a builder of its own, what nix.conf says on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Evaluate {
    Builder,
    Operator,
}

/// How a closure gets from the builder to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CopyPath {
    /// Direct where the builder reaches the target, else relayed.
    Auto,
    Direct,
    Relay,
}

/// Limits that preflight holds a host to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Preflight {
    /// Percent of bytes or inodes in use at which a file system counts as full.
    pub disk_percent: u8,
    #[serde(serialize_with = "value::bytes")]
    pub boot_free: u64,
    /// Bytes that must be free on the store's file system; 0 asks for none.
    #[serde(serialize_with = "value::bytes")]
    pub store_free: u64,
    #[serde(serialize_with = "value::bytes")]
    pub memory_free: u64,
    /// Percent of the time that processes may wait for memory (`some avg10` of `/proc/pressure/memory`); 0: report only.
    pub memory_pressure: f64,
    /// Ceiling of the one-minute load per core; 0: report only.
    pub load_per_core: f64,
    /// How many times the memory and the load of before the switch a host may have after it; 0: not judged.
    pub usage_factor: f64,
    pub services: Vec<String>,
}

/// Programs run around a release, each an argv.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Hooks {
    pub pre: Vec<Vec<String>>,
    pub post: Vec<Vec<String>>,
}

/// One thing that must hold on a healthy host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    #[serde(flatten)]
    pub probe: Probe,
    pub from: From,
    #[serde(serialize_with = "value::seconds")]
    pub timeout: Duration,
    /// How many checks before it are called the same.
    #[serde(skip)]
    pub before: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// The unit is active.
    Unit(String),
    /// The URL answers with a status below 400.
    Http(String),
    /// The program ends with 0. A first word that is a file of the commit is run from that commit.
    Run(Vec<String>),
    /// The name has an address, as programs of the host see it: getent(1).
    Resolve(String),
    /// The host answers one ICMP echo: ping(8).
    Ping(String),
    /// The secrets that sops-nix or agenix put on the host are there, and are those of the running system.
    Secrets,
}

/// The place a check is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    Target,
    Operator,
}

impl Probe {
    /// What it asks; of a program its first word, because others may hold what is nobody's business.
    pub fn name(&self) -> String {
        match self {
            Probe::Unit(unit) => format!("unit {unit}"),
            Probe::Http(url) => format!("http {}", without_userinfo(url)),
            Probe::Run(argv) => format!("run {}", argv.first().map_or("", String::as_str)),
            Probe::Resolve(name) => format!("resolve {name}"),
            Probe::Ping(host) => format!("ping {host}"),
            Probe::Secrets => "secrets".to_owned(),
        }
    }

    /// The program that asks, where any program can; `None`: a unit, a URL, secrets.
    pub fn argv(&self) -> Option<Vec<String>> {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        match self {
            Probe::Run(argv) => Some(argv.clone()),
            Probe::Resolve(name) => Some(words(&["getent", "ahosts", name])),
            Probe::Ping(host) => Some(words(&["ping", "-n", "-c", "1", host])),
            Probe::Unit(_) | Probe::Http(_) | Probe::Secrets => None,
        }
    }
}

impl Check {
    /// The check as a line names it. No two of a target are called the same: one that failed before a run is known by it.
    pub fn name(&self) -> String {
        match self.before {
            0 => self.probe.name(),
            before => format!("{} ({})", self.probe.name(), before + 1),
        }
    }
}

/// A URL with any `user:password@` left out, for output and evidence.
fn without_userinfo(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{host}{}", &rest[authority.len()..]),
        None => url.to_owned(),
    }
}

impl Settings {
    /// Whether the target is the machine that runs the tool.
    pub fn is_local(&self) -> bool {
        self.host == "local"
    }

    /// Another way to the host for this once: `--host`. Its user and port count before those of the file, and no
    /// `HostName` of the file stands in its way.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn reach_at(&mut self, text: &str) -> Result<(), String> {
        let login: Login = text.parse()?;
        self.host = login.host;
        self.user = login.user.unwrap_or(std::mem::take(&mut self.user));
        self.drop_ssh_option("HostName");
        if self.host.port().is_some() {
            self.drop_ssh_option("Port");
        }
        Ok(())
    }

    /// The value of an option of ssh's.
    fn ssh_option(&self, key: &str) -> Option<&str> {
        let mut options = self
            .ssh_options
            .iter()
            .filter_map(|option| option.split_once('='));
        options.find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    fn drop_ssh_option(&mut self, key: &str) {
        self.ssh_options
            .retain(|option| option.split_once('=').is_none_or(|(name, _)| name != key));
    }

    /// The defaults of docs/config.md, for a target that sets nothing.
    pub fn default_for(target: &Target) -> Self {
        Settings {
            host: Host::named(target.as_str()),
            attr: target.to_string(),
            ..Settings::default()
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            flake: ".".into(),
            remote: "origin".into(),
            host: Host::default(),
            user: String::new(),
            sudo: Sudo::Auto,
            ssh_options: Vec::new(),
            attr: String::new(),
            specialisation: String::new(),
            require_signed: false,
            signers: String::new(),
            reboot_on_failed_revert: true,
            auto_rollback: true,
            impure: false,
            input_drift: InputDrift::Warn,
            keep: 5,
            timeouts: Timeouts::default(),
            builder: Builder::default(),
            preflight: Preflight::default(),
            checks: Vec::new(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Timeouts {
            ssh: seconds(5),
            activate: seconds(600),
            confirm: seconds(30),
            settle: seconds(5),
            validate: seconds(120),
            soak: seconds(60),
            build: seconds(7200),
            copy: seconds(3600),
        }
    }
}

impl Default for Builder {
    fn default() -> Self {
        Builder {
            host: Host::default(),
            user: String::new(),
            evaluate: Evaluate::Builder,
            copy: CopyPath::Auto,
            jobs: None,
        }
    }
}

impl Default for Preflight {
    fn default() -> Self {
        Preflight {
            disk_percent: 90,
            boot_free: 200 << 20,
            store_free: 0,
            memory_free: 256 << 20,
            memory_pressure: 40.0,
            load_per_core: 0.0,
            usage_factor: 4.0,
            services: vec!["sshd".into()],
        }
    }
}
