//! Moving paths between stores, and knowing beforehand how much that will be.

use super::closure::{Closure, PathInfo};
use super::exec::{Exec, ExecOutput};
use super::flake::Flakeref;
use super::path::StorePath;
use super::{environment, nix, said};
use crate::failure::{Failure, Reason, Weight};
use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

/// What to copy, between which stores.
#[derive(Debug, Clone)]
pub struct CopyRequest {
    /// The store to read, if it is not the local one of whoever runs the command.
    pub from: Option<String>,
    /// The store to write (`ssh-ng://root@host`), if it is not the local one.
    pub to: Option<String>,
    /// These and everything they refer to.
    pub paths: Vec<StorePath>,
    /// `NIX_SSHOPTS`.
    pub ssh_options: String,
    /// The keys of the host to write to, as `TYPE BASE64`: whoever shows none of them is another host, whatever its name is
    /// where the command runs. Without any, the known hosts there decide.
    pub host_keys: Vec<String>,
    /// Don't ask for signatures. The destination accepts that only from a trusted user.
    pub no_check_signatures: bool,
    /// Let the destination take from its own caches what it finds there.
    pub substitute_on_destination: bool,
    pub deadline: Duration,
}

/// Why paths did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyKind {
    /// The destination wants a signature by a key it knows, or a user it trusts.
    Untrusted,
    /// No room at the destination.
    Disk,
    /// The connection could not be made or broke; what arrived stays, the next try sends the rest.
    Link,
    /// The source has not got what it should have.
    Source,
    /// A path's contents are not what its hash says.
    Corrupt,
    /// The login prints on stdout before Nix does.
    Noise,
    /// The login finds no `nix-daemon`.
    Missing,
    /// The Nix daemon does not take the user's connection: it does not run, or `allowed-users` leaves them out.
    Daemon,
    /// What answers by the name has none of the keys asked for.
    OtherHost,
    /// The copying program got SIGKILL: from somebody, or from the kernel for want of memory.
    Killed,
    Other,
}

impl CopyKind {
    /// The way there may be the trouble, so that another way may work: not what a store says once it is reached.
    pub fn is_the_way(self) -> bool {
        use CopyKind::{Daemon, Killed, Link, Missing, Noise, Other, OtherHost};
        matches!(self, Link | Killed | Other | Noise | Missing | Daemon | OtherHost)
    }
}

/// A copy that failed: what kind of failure, and the failure to show.
#[derive(Debug, Clone)]
pub struct CopyError {
    pub kind: CopyKind,
    /// [`Weight::Passing`]: the same copy may work in a moment, and sends only the rest.
    pub weight: Weight,
    pub failure: Failure,
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

impl std::error::Error for CopyError {}

impl From<CopyError> for Failure {
    fn from(error: CopyError) -> Failure {
        error.failure
    }
}

/// `nix copy`: only what is missing travels, so running it again resumes.
pub async fn copy<E: Exec>(exec: &E, request: &CopyRequest) -> Result<(), CopyError> {
    if request.paths.is_empty() {
        return Ok(());
    }
    let mut arguments = vec!["copy"];
    if let Some(from) = &request.from {
        arguments.extend(["--from", from]);
    }
    if let Some(to) = &request.to {
        arguments.extend(["--to", to]);
    }
    if request.no_check_signatures {
        arguments.push("--no-check-sigs");
    }
    if request.substitute_on_destination {
        arguments.push("--substitute-on-destination");
    }
    arguments.push("--");
    arguments.extend(request.paths.iter().map(StorePath::as_str));
    let env = environment(&[("NIX_SSHOPTS", request.ssh_options.clone())]);
    let mut argv = nix(&arguments);
    if !request.host_keys.is_empty() {
        let known: String = request
            .host_keys
            .iter()
            .map(|key| format!("{ALIAS} {key}\n"))
            .collect();
        let by = ["sh", "-c", PINNED, "nixgate", ALIAS, &known].map(str::to_owned);
        argv.splice(0..0, by);
    }
    let output = exec
        .exec(&argv, &env, None, request.deadline)
        .await
        .map_err(|failure| {
            let kind = if failure.reason == Reason::Timeout {
                CopyKind::Link
            } else {
                CopyKind::Other
            };
            // What took all the time that there was is not tried again.
            CopyError {
                kind,
                weight: Weight::Failed,
                failure,
            }
        })?;
    if output.ok() {
        Ok(())
    } else {
        Err(classify(request, &output))
    }
}

/// The name that the pinned keys are known by.
const ALIAS: &str = "nixgate-target";

/// Runs a command whose ssh knows one host, by the keys in `$2`, and nobody else.
const PINNED: &str = r#"alias=$1 known=$2
shift 2
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
printf '%s' "$known" >"$dir/known"
NIX_SSHOPTS="$NIX_SSHOPTS -o HostKeyAlias=$alias -o UserKnownHostsFile=$dir/known -o GlobalKnownHostsFile=/dev/null"
NIX_SSHOPTS="$NIX_SSHOPTS -o VerifyHostKeyDNS=no -o UpdateHostKeys=no -o ControlPath=none"
export NIX_SSHOPTS
"$@"
"#;

/// The user of `ssh-ng://user@host`, if it names one.
fn user_of(uri: &str) -> Option<&str> {
    let authority = uri.split_once("://")?.1.split(['/', '?']).next()?;
    authority.rsplit_once('@').map(|(user, _)| user)
}

/// How a shell, and `ExecOutput`, say SIGKILL.
const KILLED: i32 = 128 + 9;
const AGAIN: &str = "run it again: what arrived stays there, and only the rest is sent";

fn classify(request: &CopyRequest, output: &ExecOutput) -> CopyError {
    let text = said::counted(&said::plain(&output.err()));
    let kind = match output.status {
        KILLED => CopyKind::Killed,
        _ => match kind_of(&text) {
            _ if !request.host_keys.is_empty() && text.contains(STRANGER) => CopyKind::OtherHost,
            kind => kind,
        },
    };
    let to = request.to.as_deref().unwrap_or("the local store");
    let (reason, what) = match kind {
        CopyKind::Untrusted => (
            Reason::Store,
            format!("{to} accepts no unsigned paths from this user"),
        ),
        CopyKind::Disk => (Reason::Disk, format!("no room for the closure at {to}")),
        CopyKind::Link => (
            Reason::Link,
            format!("the connection was lost while copying to {to}"),
        ),
        CopyKind::Source => (
            Reason::Store,
            "the source has not got the whole closure".to_string(),
        ),
        CopyKind::Corrupt => (
            Reason::Store,
            format!("a path reached {to} other than it was sent"),
        ),
        CopyKind::Killed => (Reason::Copy, format!("the copy to {to} was killed (signal 9)")),
        CopyKind::Noise => (
            Reason::Copy,
            format!("the login at {to} prints on standard output, where a copy expects Nix"),
        ),
        CopyKind::Missing => (Reason::Store, format!("the login at {to} finds no nix-daemon")),
        CopyKind::Daemon => (
            Reason::Store,
            format!("the Nix daemon at {to} takes no connection from this user"),
        ),
        CopyKind::OtherHost => (
            Reason::Auth,
            format!("what is known as {to} there is another host, or shows another key"),
        ),
        CopyKind::Other => (Reason::Copy, format!("cannot copy to {to}")),
    };
    let mut failure = said::failure(reason, what, output);
    if kind != CopyKind::Other && failure.reason != Reason::Auth {
        failure.reason = reason;
        failure.next.clear();
    }
    match kind {
        CopyKind::Untrusted => {
            let user = user_of(to).unwrap_or("<the ssh user>");
            failure.next.push(format!(
                "on the target: nix.settings.trusted-users = [ \"{user}\" ];"
            ));
            failure.next.push(
                "or let the builder sign (nix.settings.secret-key-files) and name its public key in the target's \
                 nix.settings.trusted-public-keys"
                    .into(),
            );
        }
        CopyKind::Disk => failure
            .next
            .push("free space there: nix-collect-garbage, or a smaller `keep`".into()),
        CopyKind::Source => failure.next.push(
            "run it again: what is missing is made again; if it stays, there: nix-store --verify --check-contents"
                .into(),
        ),
        CopyKind::Noise => failure
            .next
            .push("in that login's ~/.bashrc: print only to a person, [ -t 1 ] && echo …".into()),
        CopyKind::Missing => failure
            .next
            .push("put it on the PATH of a login that is not interactive, in ~/.bashrc".into()),
        CopyKind::Daemon => failure
            .next
            .push("there: systemctl status nix-daemon.socket; allowed-users in nix.conf".into()),
        CopyKind::OtherHost => failure
            .next
            .push("[builder] copy = \"auto\" or \"relay\" goes through this machine".into()),
        CopyKind::Link if failure.reason == Reason::Auth => failure.next.push(
            "let the key in there, `ssh` by hand shows which; or [builder] copy = \"relay\", through this machine"
                .into(),
        ),
        CopyKind::Link | CopyKind::Killed => failure.next.push(AGAIN.into()),
        _ => {}
    }
    let weight = match failure.reason {
        Reason::Auth => Weight::Failed,
        // Its last words are about what it was busy with.
        _ if kind == CopyKind::Killed => Weight::Failed,
        _ if matches!(kind, CopyKind::Noise | CopyKind::Missing | CopyKind::Daemon) => Weight::Failed,
        _ if kind.is_the_way() => said::weight(&text),
        _ => Weight::Failed,
    };
    CopyError {
        kind,
        weight,
        failure,
    }
}

fn kind_of(text: &str) -> CopyKind {
    let any = |needles: &[&str]| needles.iter().any(|needle| text.contains(needle));
    let gone = |line: &str| line.contains("path '") && line.ends_with("' does not exist");
    if any(&[
        "lacks a signature by a trusted key",
        "lacks a valid signature",
        "is not signed by any of the keys in trusted-public-keys",
        "you are not privileged",
        "is not a trusted user",
    ]) {
        CopyKind::Untrusted
    } else if any(&[
        "No space left on device",
        "database or disk is full",
        "Disk quota exceeded",
    ]) {
        CopyKind::Disk
    } else if any(&[
        "hash mismatch importing path",
        "NAR hash mismatch",
        "size mismatch importing path",
    ]) {
        CopyKind::Corrupt
    } else if any(&[
        "' is not valid",
        "is not a valid store path",
        "does not exist in the store",
        "there is no substituter that can build it",
        "don't know how to build these paths",
        "don't know how to build path",
        "getting status of '/nix/store/",
        "opening directory '/nix/store/",
        "opening file '/nix/store/",
        "NAR for path",
    ]) || text.lines().any(gone)
    {
        CopyKind::Source
    } else if text.contains("protocol mismatch, got") {
        CopyKind::Noise
    } else if text.contains("nix-daemon: command not found") || text.contains("nix-daemon: not found") {
        CopyKind::Missing
    } else if text.contains("cannot connect to socket at")
        || (text.contains("Nix daemon disconnected unexpectedly") && !cut(text))
    {
        CopyKind::Daemon
    } else if said::lost_link(text) {
        CopyKind::Link
    } else {
        CopyKind::Other
    }
}

/// How ssh says that a host shows none of the keys it is known by.
const STRANGER: &str = "Host key verification failed";

/// ssh has a reason of its own why the other end is silent, or paths were on their way already.
fn cut(text: &str) -> bool {
    let ssh = [
        "ssh: ",
        "Connection ",
        "client_loop",
        "mux_client",
        "Timeout, ",
        "Host key ",
        "kex_",
    ];
    text.contains("Permission denied (")
        || text
            .lines()
            .any(|line| line.starts_with("copying ") || ssh.iter().any(|start| line.starts_with(start)))
}

/// Sends a flake's locked inputs, and the flake itself, to a store that could not fetch them.
pub async fn archive_inputs<E: Exec>(
    exec: &E,
    flake: &Flakeref,
    to: &str,
    ssh_options: &str,
    deadline: Duration,
) -> Result<(), Failure> {
    let argv = nix(&[
        "flake",
        "archive",
        "--no-update-lock-file",
        "--to",
        to,
        "--",
        flake.as_str(),
    ]);
    let env = environment(&[("NIX_SSHOPTS", ssh_options.to_string())]);
    let output = exec.exec(&argv, &env, None, deadline).await?;
    if output.ok() {
        return Ok(());
    }
    Err(said::failure(
        Reason::Copy,
        format!("cannot send the inputs of {flake} to {to}"),
        &output,
    ))
}

/// What a store lacks of a closure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing<'a> {
    pub paths: Vec<&'a PathInfo>,
    /// The sum of their NAR sizes.
    pub bytes: u64,
}

/// What has to travel to a store that has `present`.
pub fn missing<'a>(closure: &'a Closure, present: &HashSet<StorePath>) -> Missing<'a> {
    let paths: Vec<&PathInfo> = closure
        .entries
        .iter()
        .filter(|entry| !present.contains(&entry.path))
        .collect();
    let bytes = paths
        .iter()
        .fold(0u64, |sum, entry| sum.saturating_add(entry.nar_size));
    Missing { paths, bytes }
}
