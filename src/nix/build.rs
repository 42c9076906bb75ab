//! Evaluating and building one configuration, and telling apart why it did not work.

use super::exec::{Exec, ExecOutput};
use super::flake::{Flakeref, nixos_configurations};
use super::json::parse_build;
use super::path::StorePath;
use super::said::Complaint;
use super::{environment, nix, said};
use crate::failure::{Failure, Reason};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Evaluate here, build there: the builder has no way to read the source itself.
#[derive(Debug, Clone)]
pub struct RemoteBuild {
    /// `ssh-ng://builder`.
    pub store: String,
    /// `NIX_SSHOPTS` for it.
    pub ssh_options: String,
}

/// What to evaluate and build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    pub flake: Flakeref,
    /// `nixosConfigurations.cortex.config.system.build.toplevel`
    pub attribute: String,
    /// A link that keeps the result alive; without it nothing does.
    pub out_link: Option<PathBuf>,
    pub impure: bool,
    /// How many derivations are built at once; 0 leaves it to the builder's own configuration.
    pub jobs: u32,
    pub remote: Option<RemoteBuild>,
    /// Flake inputs to take from elsewhere than `flake.lock` says: the input's path, and where from.
    pub overrides: Vec<(String, String)>,
    pub deadline: Duration,
}

/// What evaluation says will happen.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Evaluated {
    pub drv: StorePath,
    /// Where the result will be; nothing need exist there yet.
    pub toplevel: StorePath,
    /// How many derivations have to be built.
    pub to_build: usize,
    /// How many paths come from caches.
    pub to_fetch: usize,
}

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Built {
    pub drv: StorePath,
    pub toplevel: StorePath,
    /// What Nix complained of and got over: caches that it passed over.
    pub complaints: Vec<Complaint>,
}

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildKind {
    /// The flake has no such attribute.
    Missing,
    /// An input (or the commit itself) could not be fetched where it was evaluated: ship the inputs and try again.
    Fetch,
    /// `flake.lock` does not cover the inputs of `flake.nix`.
    Lock,
    /// The expressions are wrong.
    Eval,
    /// It needs something that only `--impure` allows.
    Impure,
    /// The derivation is for a system this builder cannot build.
    System,
    /// A derivation failed to build.
    Build,
    /// Nix itself, its store, its disk or the way to it.
    Store,
}

/// A build that failed: what kind of failure, for who can do something about it, and the failure to show.
#[derive(Debug, Clone)]
pub struct BuildError {
    pub kind: BuildKind,
    pub failure: Failure,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

impl std::error::Error for BuildError {}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Failure {
        error.failure
    }
}

impl From<Failure> for BuildError {
    fn from(failure: Failure) -> BuildError {
        BuildError {
            kind: BuildKind::Store,
            failure,
        }
    }
}

/// Evaluates only, and says what a build would do. Writes derivations into the store, builds nothing.
pub async fn evaluate<E: Exec>(exec: &E, request: &BuildRequest) -> Result<Evaluated, BuildError> {
    let output = run(exec, request, &["--dry-run", "--no-link"]).await?;
    let Built { drv, toplevel, .. } = built(request, &output)?;
    let said = said::plain(&output.err());
    let count = |what: &str| said.lines().find_map(|line| announced(line, what)).unwrap_or(0);
    Ok(Evaluated {
        drv,
        toplevel,
        to_build: count("built"),
        to_fetch: count("fetched"),
    })
}

/// Evaluates and builds with one command; the result is rooted by the out link, if there is one.
pub async fn build<E: Exec>(exec: &E, request: &BuildRequest) -> Result<Built, BuildError> {
    let output = match &request.out_link {
        Some(link) => run(exec, request, &["--out-link", &link.to_string_lossy()]).await?,
        None => run(exec, request, &["--no-link"]).await?,
    };
    built(request, &output)
}

/// `these 12 derivations will be built:`, `this path will be fetched (…)`: how many.
fn announced(line: &str, what: &str) -> Option<usize> {
    if !line.contains(&format!(" will be {what}")) {
        return None;
    }
    if line.starts_with("this ") {
        return Some(1);
    }
    line.strip_prefix("these ")?.split(' ').next()?.parse().ok()
}

async fn run<E: Exec>(exec: &E, request: &BuildRequest, how: &[&str]) -> Result<ExecOutput, BuildError> {
    let jobs = request.jobs.to_string();
    let installable = request.flake.attribute(&request.attribute);
    // What is built is what the commit locks: an input that is not locked is an error, never a fresh download.
    let mut arguments = vec!["build", "--json"];
    match request.overrides.as_slice() {
        [] => arguments.push("--no-update-lock-file"),
        // An input that comes from elsewhere is a change of the lock file, which nobody is to write.
        overrides => {
            arguments.push("--no-write-lock-file");
            for (input, from) in overrides {
                arguments.extend(["--override-input", input, from]);
            }
        }
    }
    arguments.extend(how);
    if request.jobs > 0 {
        arguments.extend(["--max-jobs", &jobs]);
    }
    if request.impure {
        arguments.push("--impure");
    }
    let mut env = environment(&[]);
    if let Some(remote) = &request.remote {
        arguments.extend(["--eval-store", "auto", "--store", &remote.store]);
        env.push(("NIX_SSHOPTS".to_string(), remote.ssh_options.clone()));
    }
    arguments.extend(["--", &installable]);
    let output = exec.exec(&nix(&arguments), &env, None, request.deadline).await?;
    if output.ok() {
        return Ok(output);
    }
    let mut error = classify(request, &output);
    if error.kind == BuildKind::Missing
        && let Ok(names) = nixos_configurations(exec, &request.flake, request.deadline).await
    {
        let names = if names.is_empty() {
            "none".to_string()
        } else {
            names.join(", ")
        };
        error.failure.why = vec![format!("its nixosConfigurations: {names}")];
        error.failure.next =
            vec!["set `attr` of the target in .nixgate.toml if it has another name there".into()];
    }
    Err(error)
}

fn built(request: &BuildRequest, output: &ExecOutput) -> Result<Built, BuildError> {
    let wrong = |why: String| {
        let what = format!("Nix built {} and did not say what", request.attribute);
        BuildError {
            kind: BuildKind::Store,
            failure: Failure::failed(Reason::Build, what).why(why),
        }
    };
    let mut list = parse_build(&output.out()).map_err(wrong)?;
    match (list.pop(), list.is_empty()) {
        (Some((Some(drv), mut outputs)), true) => match outputs.remove("out") {
            Some(toplevel) => Ok(Built {
                drv,
                toplevel,
                complaints: said::complaints(&output.err()),
            }),
            None => Err(wrong("it has no output `out`".into())),
        },
        _ => Err(wrong("it is not one derivation".into())),
    }
}

/// Why a build failed, by what Nix printed.
fn classify(request: &BuildRequest, output: &ExecOutput) -> BuildError {
    let text = said::plain(&output.err());
    let attribute = &request.attribute;
    let kind = if output.status == 127 {
        BuildKind::Store
    } else {
        kind_of(&text)
    };
    let (reason, what) = match kind {
        BuildKind::Missing => (Reason::Eval, format!("the flake has no {attribute}")),
        BuildKind::Fetch => (Reason::Eval, format!("an input of {attribute} cannot be fetched")),
        BuildKind::Lock => (
            Reason::Eval,
            "flake.lock does not lock every input of flake.nix".to_string(),
        ),
        BuildKind::Eval => (Reason::Eval, format!("{attribute} does not evaluate")),
        BuildKind::Impure => (Reason::Eval, format!("{attribute} is not pure")),
        BuildKind::System => (
            Reason::Build,
            format!("{attribute} is for a system that the builder cannot build"),
        ),
        BuildKind::Build => (Reason::Build, format!("{attribute} does not build")),
        BuildKind::Store => (Reason::Store, format!("Nix cannot build {attribute}")),
    };
    let mut failure = said::failure(reason, what, output);
    match kind {
        BuildKind::Store => {}
        BuildKind::Build if failure.reason == Reason::Disk => {}
        // Words that mean something in Nix's own mouth mean nothing in a log or in somebody's expressions.
        _ => {
            failure.reason = reason;
            failure.next.clear();
        }
    }
    match kind {
        BuildKind::Lock => {
            let updating = text
                .lines()
                .filter_map(|line| line.trim_start().strip_prefix("… while updating the flake "));
            failure.why.splice(
                0..0,
                updating.map(|what| format!("it has no lock for the {what}")),
            );
            failure.next.push("nix flake lock, then commit flake.lock".into());
        }
        BuildKind::System => {
            failure.next.push(
                "is nixpkgs.hostPlatform of this host right? then [builder] host = \"…\", a machine of that system"
                    .into(),
            );
        }
        BuildKind::Impure => {
            failure
                .next
                .push("make it pure, or set `impure = true` (the record will say so)".into());
        }
        BuildKind::Build if text.contains("due to signal 9") => {
            failure
                .next
                .push("signal 9 is mostly the builder running out of memory: fewer `jobs`".into());
        }
        BuildKind::Fetch
            if text.contains("not owned by current user") || text.contains("dubious ownership") =>
        {
            failure
                .next
                .push("the repository belongs to another user: run as that one".into());
        }
        _ => {}
    }
    BuildError { kind, failure }
}

fn kind_of(text: &str) -> BuildKind {
    // Warnings repeat what is tried again; only what ended the run counts.
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("warning:"))
        .collect();
    let any = |needles: &[&str]| {
        lines
            .iter()
            .any(|line| needles.iter().any(|needle| line.contains(needle)))
    };
    if any(&["does not provide attribute"]) {
        return BuildKind::Missing;
    }
    // Nix tries to fetch an input that is not locked before it says that it may not lock it.
    if any(&[
        "while updating the flake input '",
        "requires lock file changes",
        "cannot write modified lock file",
        "cannot update unlocked flake input",
    ]) {
        return BuildKind::Lock;
    }
    if any(&[
        "is required to build '/",
        "Required system: ",
        "required system or feature not available",
    ]) && any(&["but I am a", "Current system: "])
    {
        return BuildKind::System;
    }
    if lines.iter().any(|line| said::is_build_failure(line)) {
        return BuildKind::Build;
    }
    if any(&[
        "failed to start SSH connection to '",
        "cannot open connection to remote store '",
    ]) {
        return BuildKind::Store;
    }
    if any(&[
        "unable to download '",
        "cannot fetch input",
        "failed to fetch input",
        "Failed to fetch git repository",
        "Cannot find Git revision",
        "cannot find Git revision",
        "while fetching the input",
        "program 'git' failed",
        "HTTP error ",
        "getting Git object '",
        "does not contain a commit",
        "is not owned by current user",
        "dubious ownership",
    ]) {
        return BuildKind::Fetch;
    }
    if any(&[
        "use '--impure' to override",
        "in pure eval mode",
        "in pure evaluation mode",
    ]) {
        return BuildKind::Impure;
    }
    if any(&[
        "cannot connect to socket",
        "No space left on device",
        "database or disk is full",
        "specified in 'build-users-group'",
        "command not found",
        "is not a recognised command",
        "unrecognised flag",
        "Host key verification failed",
        "Permission denied (",
        "you don't have sufficient permissions",
        "opening lock file",
    ]) {
        return BuildKind::Store;
    }
    BuildKind::Eval
}
