//! One run's connection to a host: a private ssh master, and channels over it without local processes.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::process::Command;

use super::channel::Channel;
use super::connect::ConnectError;
use super::master::{Link, LogLevel, connect, ssh_options};
use super::probe::Probe;
use super::wire::LOGIN;
use super::{
    Address, Endpoint, Greeting, HostError, NixDaemon, Output, Privilege, Remote, RunDir, Script, known,
};

/// Shells that wait for their next script: each is a session of the connection, of which sshd allows only so many
/// (`MaxSessions` in sshd_config(5), 10 by default).
const IDLE: usize = 2;

static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
static COMMANDS: AtomicU64 = AtomicU64::new(0);
static SCRIPTS: AtomicU64 = AtomicU64::new(0);

/// What this process asked of hosts so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// ssh connections opened (masters and fresh ones).
    pub connections: u64,
    /// Programs that sshd was asked to start: shells, each for one script or for several.
    pub commands: u64,
    /// Scripts run on hosts.
    pub scripts: u64,
}

pub(super) fn count_connection() {
    CONNECTIONS.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn count_command() {
    COMMANDS.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn count_script() {
    SCRIPTS.fetch_add(1, Ordering::Relaxed);
}

/// A connection to a host for the length of a run. The [`RunDir`] must outlive it.
#[derive(Debug)]
pub struct Session {
    endpoint: Endpoint,
    dir: PathBuf,
    control_pattern: String,
    link: Option<Link>,
    /// Shells for what needs root that have nothing to do; root's own where sudo asks for no password. Taken out while
    /// they work.
    root: Mutex<Vec<Channel>>,
    /// What the login showed of itself so far.
    greeting: Mutex<Greeting>,
}

impl Session {
    /// Connects and authenticates. For [`Address::Local`] there is nothing to do.
    ///
    /// That a shell answers is found out by the first script ([`HostError::Connect`] with class `Hang` or `NoLogin`),
    /// so that opening costs no remote command.
    ///
    /// # Errors
    /// [`ConnectError`], within the connect timeout and two seconds.
    pub async fn open(endpoint: &Endpoint, dir: &RunDir) -> Result<Self, ConnectError> {
        let mut session = Self::closed(endpoint, dir);
        session.reopen().await?;
        Ok(session)
    }

    /// The same, with the ssh port asked beside it: ssh is asked once what the endpoint is.
    pub(super) async fn open_and_probe(
        endpoint: &Endpoint,
        dir: &RunDir,
    ) -> (Probe, Result<Self, ConnectError>) {
        let mut session = Self::closed(endpoint, dir);
        let (probe, opened) = connect(&session.endpoint, &session.dir, &session.control_pattern, true).await;
        let session = opened.map(|link| {
            session.link = Some(link);
            session
        });
        (probe, session)
    }

    fn closed(endpoint: &Endpoint, dir: &RunDir) -> Self {
        Session {
            endpoint: endpoint.clone(),
            dir: dir.path().to_owned(),
            control_pattern: dir.control_path(),
            link: None,
            root: Mutex::default(),
            greeting: Mutex::default(),
        }
    }

    /// Connects again after a lost link; what is left of the old master is told to go.
    ///
    /// # Errors
    /// As for [`Session::open`].
    pub async fn reopen(&mut self) -> Result<(), ConnectError> {
        if self.endpoint.is_local() {
            return Ok(());
        }
        self.drop_link().await;
        let (_, link) = connect(&self.endpoint, &self.dir, &self.control_pattern, false).await;
        self.link = Some(link?);
        Ok(())
    }

    /// Connects again where the connection went while nothing used it; where it is there, this asks only its own master.
    ///
    /// # Errors
    /// As for [`Session::open`].
    pub async fn revive(&mut self) -> Result<(), ConnectError> {
        let lost = match &self.link {
            Some(link) => link.mux.check().await.is_err(),
            None => !self.is_local(),
        };
        match lost {
            true => self.reopen().await,
            false => Ok(()),
        }
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The target's or builder's name, for messages.
    pub fn name(&self) -> &str {
        &self.endpoint.name
    }

    pub fn is_local(&self) -> bool {
        self.endpoint.is_local()
    }

    /// Connections opened and scripts run by this process so far, all hosts together.
    pub fn counts() -> Counts {
        Counts {
            connections: CONNECTIONS.load(Ordering::Relaxed),
            commands: COMMANDS.load(Ordering::Relaxed),
            scripts: SCRIPTS.load(Ordering::Relaxed),
        }
    }

    /// Runs a script over the master (or, for a local target, in a child) and waits for it. What needs root goes
    /// through a shell that stays for the next; as many as were wanted at once, and at most [`IDLE`] of them.
    ///
    /// # Errors
    /// See [`HostError`]. A script that ended non-zero is no error.
    pub async fn run(
        &self,
        script: &Script,
        privilege: Privilege,
        deadline: Duration,
    ) -> Result<Output, HostError> {
        count_script();
        if privilege == Privilege::User || self.is_local() {
            let mut channel = self.channel().await?;
            let output = channel.run(&self.endpoint, script, privilege, deadline).await?;
            if output.greeting.nix_daemon != NixDaemon::Unknown {
                let mut known = self.greeting.lock().unwrap_or_else(PoisonError::into_inner);
                known.clone_from(&output.greeting);
            }
            return Ok(output);
        }
        let idle = self.idle().pop().filter(Channel::is_usable);
        let mut channel = match idle {
            Some(channel) => channel,
            None => {
                let mut channel = self.channel().await?;
                channel.become_root(&self.endpoint).await?;
                channel
            }
        };
        let result = channel.run(&self.endpoint, script, privilege, deadline).await;
        // A future that is dropped before takes the shell along.
        let mut idle = self.idle();
        if channel.is_usable() && idle.len() < IDLE {
            idle.push(channel);
        }
        result
    }

    /// Nobody who holds this waits for anything.
    fn idle(&self) -> MutexGuard<'_, Vec<Channel>> {
        self.root.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new shell on the host.
    #[expect(clippy::disallowed_methods, reason = "boundary: host/channel.rs converse")]
    async fn channel(&self) -> Result<Channel, HostError> {
        let hello = self.endpoint.connect_timeout;
        let Some(link) = &self.link else {
            if !self.is_local() {
                return Err(HostError::Lost { lines: Vec::new() });
            }
            let mut child = local_shell().map_err(|error| HostError::Spawn(format!("sh: {error}")))?;
            let (Some(stdin), Some(stdout), Some(stderr)) =
                (child.stdin.take(), child.stdout.take(), child.stderr.take())
            else {
                return Err(HostError::Spawn("sh: no pipes".into()));
            };
            return Ok(Channel::new((stdin, stdout, stderr), child, hello, true));
        };
        let lost = |error: openssh::Error| match ConnectError::from_master(&error) {
            Some(refused) => HostError::Connect(refused),
            None => HostError::Lost {
                lines: vec![error.to_string()],
            },
        };
        count_command();
        let spawned = async {
            let mut command = link.mux.clone().arc_raw_command(LOGIN);
            command.stdin(openssh::Stdio::piped());
            command
                .stdout(openssh::Stdio::piped())
                .stderr(openssh::Stdio::piped());
            command.spawn().await
        };
        let mut child = match tokio::time::timeout(hello + Duration::from_secs(15), spawned).await {
            Ok(spawned) => spawned.map_err(lost)?,
            Err(_) => {
                return Err(HostError::Lost {
                    lines: vec!["no channel over the connection".into()],
                });
            }
        };
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin().take(), child.stdout().take(), child.stderr().take())
        else {
            return Err(HostError::Spawn("ssh: no pipes".into()));
        };
        // Dropping the channel's socket makes the master close the channel; there is nothing to wait for.
        Ok(Channel::new((stdin, stdout, stderr), child, hello, true))
    }

    /// `NIX_SSHOPTS` for `nix copy` and kin, so that they go over the masters of this run. Nix splits it at spaces:
    /// options that contain some are left out, which the masters make up for.
    pub fn nix_ssh_opts(&self) -> String {
        let mut options = ssh_options(&self.endpoint, &self.control_pattern, LogLevel::Error);
        options.extend(["-o".to_owned(), "ControlMaster=no".to_owned()]);
        let spaced = |text: &String| text.contains(char::is_whitespace);
        let mut own = self.endpoint.ssh_options.iter().peekable();
        while let Some(option) = own.next() {
            if option.len() == 2 && own.peek().is_some_and(|value| spaced(value)) {
                own.next();
            } else if !spaced(option) {
                options.push(option.clone());
            }
        }
        options.join(" ")
    }

    /// The same for a copy between two hosts through this machine. Nix gives both connections the same options, and
    /// those of one host are wrong for the other: they go into a configuration of the run's own, which includes the
    /// user's.
    ///
    /// # Errors
    /// The run's directory cannot be written.
    #[expect(clippy::disallowed_methods, reason = "private: options for ssh")]
    pub fn nix_ssh_opts_between(&self, other: &Session) -> std::io::Result<String> {
        let own = |session: &Session| !session.endpoint.ssh_options.is_empty();
        if !own(self) && !own(other) {
            return Ok(self.nix_ssh_opts());
        }
        let mut text = String::new();
        for session in [self, other] {
            let Address::Ssh(host) = &session.endpoint.host else {
                continue;
            };
            text.push_str(&format!("Host {host}\n"));
            let options = session.endpoint.ssh_options.iter().filter(|word| *word != "-o");
            options.for_each(|option| text.push_str(&format!("  {option}\n")));
        }
        text.push_str("Host *\n  Include ~/.ssh/config\n  Include /etc/ssh/ssh_config\n");
        let file = self.dir.join("between");
        std::fs::write(&file, text)?;
        let mut options = vec!["-F".to_owned(), file.to_string_lossy().into_owned()];
        options.extend(ssh_options(
            &self.endpoint,
            &self.control_pattern,
            LogLevel::Error,
        ));
        options.extend(["-o".to_owned(), "ControlMaster=no".to_owned()]);
        Ok(options.join(" "))
    }

    /// The host as a Nix store: `ssh-ng://user@host`, or `auto` for this machine.
    pub fn nix_store_uri(&self) -> String {
        let Address::Ssh(host) = &self.endpoint.host else {
            return "auto".into();
        };
        // A bare IPv6 address needs brackets in a URI.
        let host = if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let user = self.endpoint.user.as_ref().filter(|user| !user.is_empty());
        // To Nix a plain `localhost` is this machine's own store, without any ssh (2.26, SSHMaster::fakeSSH).
        let there = self.link.as_ref().map(|link| &link.route.resolved.user);
        let user = user.or(there.filter(|user| host == "localhost" && !user.is_empty()));
        let uri = match user {
            Some(user) => format!("ssh-ng://{user}@{host}"),
            None => format!("ssh-ng://{host}"),
        };
        match self.greeting().nix_daemon {
            NixDaemon::At(path) => format!(
                "{uri}?remote-program={}",
                percent_encoding::utf8_percent_encode(&path, percent_encoding::NON_ALPHANUMERIC)
            ),
            _ => uri,
        }
    }

    /// What the login showed of itself when it last ran a script as the user.
    pub fn greeting(&self) -> Greeting {
        let known = self.greeting.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// Its name means this machine, or what a port of this machine leads to: to anybody else it means something else.
    pub fn is_loopback(&self) -> bool {
        let resolved = self.link.as_ref().map(|link| &link.route.resolved);
        resolved.is_some_and(|resolved| resolved.is_loopback())
    }

    /// The keys by which this machine knows the host, as `TYPE BASE64`; none where it is known in another way.
    pub async fn host_keys(&self) -> Vec<String> {
        match &self.link {
            Some(link) => known::host_keys(&link.route.resolved).await,
            None => Vec::new(),
        }
    }

    /// `GIT_SSH_COMMAND` that goes over the same master.
    pub fn ssh_command(&self) -> String {
        let mut words = vec!["ssh".to_owned()];
        words.extend(ssh_options(
            &self.endpoint,
            &self.control_pattern,
            LogLevel::Error,
        ));
        words.extend(["-o".to_owned(), "ControlMaster=no".to_owned()]);
        words.extend(self.endpoint.ssh_options.iter().cloned());
        if let Some(user) = self.endpoint.user.as_ref().filter(|user| !user.is_empty()) {
            words.extend(["-l".to_owned(), user.clone()]);
        }
        shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| "ssh".into())
    }

    /// Whether the master still answers. It says nothing about the host: an established connection outlives a firewall.
    pub async fn is_alive(&self) -> bool {
        match &self.link {
            None => self.is_local(),
            Some(link) => {
                matches!(
                    tokio::time::timeout(Duration::from_secs(2), link.mux.check()).await,
                    Ok(Ok(()))
                )
            }
        }
    }

    /// Ends the master. Dropping the session does the same a few seconds later.
    pub async fn close(mut self) {
        self.drop_link().await;
    }

    #[expect(clippy::disallowed_methods, reason = "private: the master of this process")]
    async fn drop_link(&mut self) {
        self.idle().clear();
        let Some(link) = self.link.take() else { return };
        let mut exit = Command::new("ssh");
        exit.arg("-S")
            .arg(&link.control)
            .args(["-O", "exit", "--", "nixgate"]);
        exit.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let _ = tokio::time::timeout(Duration::from_secs(2), exit.status()).await;
        let _ = std::fs::remove_file(&link.control);
    }
}

impl Remote for Session {
    async fn run(
        &mut self,
        script: &Script,
        privilege: Privilege,
        deadline: Duration,
    ) -> Result<Output, HostError> {
        Session::run(self, script, privilege, deadline).await
    }
}

impl Remote for &Session {
    async fn run(
        &mut self,
        script: &Script,
        privilege: Privilege,
        deadline: Duration,
    ) -> Result<Output, HostError> {
        Session::run(self, script, privilege, deadline).await
    }
}

/// A shell of our own on this machine.
#[expect(clippy::disallowed_methods, reason = "boundary: host/channel.rs converse")]
pub(super) fn local_shell() -> std::io::Result<tokio::process::Child> {
    Command::new("/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}
