//! The ssh master of one connection: how ssh is called, how it is started, and the way in through it.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::OnceCell;

use super::connect::{ConnectClass, ConnectError, is_logging_in, spoken};
use super::probe::{GRACE, Probe, Route, is_mixed, probe_at, route};
use super::session::count_connection;
use super::{Address, Endpoint, Family};
use crate::failure::last_lines;

/// Seconds a master outlives its last user. While we live we hold one connection to it; killed, we let go of it.
const PERSIST: u32 = 5;

/// ssh's arguments up to and including the destination. Ours come first, because ssh takes the first value it gets:
/// host keys are verified and nothing prompts, whatever ssh_config says.
pub(super) fn ssh_arguments(endpoint: &Endpoint, control_path: &str, level: LogLevel) -> Vec<String> {
    let mut arguments = ssh_options(endpoint, control_path, level);
    if let Some(family) = endpoint.way.known().family {
        arguments.extend(["-o".to_owned(), format!("AddressFamily={}", family.word())]);
    }
    arguments.extend(endpoint.ssh_options.iter().cloned());
    if let Some(user) = endpoint.user.as_ref().filter(|user| !user.is_empty()) {
        arguments.extend(["-l".to_owned(), user.clone()]);
    }
    if let Address::Ssh(host) = &endpoint.host {
        arguments.extend(["--".to_owned(), host.clone()]);
    }
    arguments
}

/// How much ssh tells on stderr (`LogLevel` of ssh_config(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogLevel {
    /// What went wrong by its own account: for what goes over a connection that is there.
    Error,
    /// What the host says at the login too: why PAM refuses the account.
    Info,
    /// Also how far it came, and what a server says that is none of ssh. For a file that is read when ssh failed.
    Debug,
}

impl LogLevel {
    fn option(self) -> &'static str {
        match self {
            LogLevel::Error => "LogLevel=ERROR",
            LogLevel::Info => "LogLevel=INFO",
            LogLevel::Debug => "LogLevel=DEBUG1",
        }
    }
}

pub(super) fn ssh_options(endpoint: &Endpoint, control_path: &str, level: LogLevel) -> Vec<String> {
    let timeout = endpoint.connect_timeout.as_secs().max(1);
    let mut options = vec!["-T".to_owned()];
    for option in [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "ServerAliveInterval=5",
        "ServerAliveCountMax=3",
        "ForwardAgent=no",
        "ForwardX11=no",
        "ClearAllForwardings=yes",
        "RemoteCommand=none",
        level.option(),
    ] {
        options.extend(["-o".to_owned(), option.to_owned()]);
    }
    options.extend(["-o".to_owned(), format!("ConnectTimeout={timeout}")]);
    options.extend(["-o".to_owned(), format!("ControlPath={control_path}")]);
    options
}

#[derive(Debug)]
pub(super) struct Link {
    pub mux: Arc<openssh::Session>,
    pub control: PathBuf,
    pub route: Route,
    /// Keeps the master alive. Nothing is ever sent on it.
    _held: UnixStream,
}

/// The master, and the probe of the port beside it. The master is held from the moment that it has logged in. Where
/// the addresses that ssh tries first do not answer and those of the other family do, ssh hangs at them: it is started
/// again for the other family.
pub(super) async fn connect(
    endpoint: &Endpoint,
    dir: &Path,
    control_pattern: &str,
    probe: bool,
) -> (Probe, Result<Link, ConnectError>) {
    let asked = OnceCell::new();
    let asked = || asked.get_or_init(|| route(endpoint, control_pattern));
    let probing = async {
        let route = asked().await;
        match route {
            Ok(route) if !probe && !is_mixed(&route.addresses) => Probe::Skipped {
                reason: String::new(),
            },
            _ => probe_at(route, &endpoint.way).await,
        }
    };
    let master = async || {
        let route = asked();
        start_master(endpoint, dir, control_pattern, route).await?;
        link(asked().await.as_ref().map_err(Clone::clone)?).await
    };
    let mut probing = pin!(probing);
    let mut found = None;
    let first = {
        let mut first = pin!(master());
        loop {
            tokio::select! {
                opened = &mut first => break Some(opened),
                probe = &mut probing, if found.is_none() => {
                    found = Some(probe);
                    if asked().await.as_ref().is_ok_and(|route| hangs(endpoint, route)) {
                        break None;
                    }
                }
            }
        }
    };
    let opened = match first {
        Some(opened) => opened,
        None => master().await,
    };
    let probe = match (found, &opened) {
        (Some(probe), _) => probe,
        (None, Err(_)) => probing.await,
        // ssh is in: a probe that takes longer has nothing more to tell.
        (None, Ok(_)) => tokio::time::timeout(GRACE, probing).await.unwrap_or_else(|_| {
            let reason = "ssh got in before the probe was answered".to_owned();
            Probe::Skipped { reason }
        }),
    };
    (probe, opened)
}

/// Whether ssh begins with addresses that do not answer.
fn hangs(endpoint: &Endpoint, route: &Route) -> bool {
    let first = route.addresses.first().map(Family::of);
    let family = endpoint.way.known().family;
    family.is_some() && first != family
}

/// How much longer a login may take where a person may have to touch a key or to confirm its use.
const TOUCH: Duration = Duration::from_secs(20);

/// Starts a master, and ends when it has authenticated and is in the background. `route` tells meanwhile how many
/// addresses ssh may have to try.
#[expect(clippy::disallowed_methods, reason = "boundary: start_master")]
async fn start_master(
    endpoint: &Endpoint,
    dir: &Path,
    control_pattern: &str,
    route: impl Future<Output = &Result<Route, ConnectError>>,
) -> Result<(), ConnectError> {
    let other = |line: String| ConnectError::new(ConnectClass::Other, vec![line]);
    let said = dir.join(format!("master-{}", super::wire::nonce()));
    let log = std::fs::File::create(&said).map_err(|error| other(format!("{}: {error}", said.display())))?;
    let mut master = Command::new("ssh");
    master.args([
        "-f",
        "-N",
        "-o",
        "ControlMaster=yes",
        "-o",
        &format!("ControlPersist={PERSIST}"),
    ]);
    master.args(ssh_arguments(endpoint, control_pattern, LogLevel::Debug));
    master
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true);
    count_connection();
    crate::boundary::cross("before", || format!("{}: ssh master", endpoint.name));
    let started = Instant::now();
    let mut child = master
        .spawn()
        .map_err(|error| other(format!("cannot run ssh: {error}")))?;
    // What ssh makes of the endpoint it tells itself when it fails.
    let _ = route.await;
    let read = || std::fs::read_to_string(&said).unwrap_or_default();
    let patience = endpoint.connect_timeout * endpoint.way.tries() + Duration::from_secs(2);
    let mut ended = tokio::time::timeout(patience, child.wait()).await;
    if ended.is_err() && is_logging_in(&read()) {
        ended = tokio::time::timeout(TOUCH, child.wait()).await;
    }
    let stderr = read();
    let _ = std::fs::remove_file(&said);
    match ended {
        Err(_) => {
            let class = match is_logging_in(&stderr) {
                true => ConnectClass::Waits,
                false => ConnectClass::Timeout,
            };
            let mut lines = last_lines(&spoken(&stderr), 3);
            lines.push(format!(
                "ssh did not get through within {} s",
                started.elapsed().as_secs()
            ));
            return Err(ConnectError::new(class, lines));
        }
        Ok(Err(error)) => return Err(other(format!("ssh: {error}"))),
        Ok(Ok(status)) if !status.success() => return Err(ConnectError::from_stderr(&stderr)),
        Ok(Ok(_)) => {}
    }
    crate::boundary::cross("after", || format!("{}: ssh master", endpoint.name));
    Ok(())
}

/// The way in through a master that runs.
#[expect(clippy::disallowed_methods, reason = "private: the master of this process")]
async fn link(route: &Route) -> Result<Link, ConnectError> {
    let other = |line: String| ConnectError::new(ConnectClass::Other, vec![line]);
    let control = route
        .resolved
        .control_path
        .as_ref()
        .map(PathBuf::from)
        .ok_or_else(|| other("ssh -G names no socket".into()))?;
    let held = UnixStream::connect(&control)
        .await
        .map_err(|error| other(format!("{}: {error}", control.display())))?;
    let mux = Arc::new(openssh::Session::resume_mux(
        control.clone().into_boxed_path(),
        None,
    ));
    Ok(Link {
        mux,
        control,
        route: route.clone(),
        _held: held,
    })
}
