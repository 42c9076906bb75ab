//! Naming a commit of a repository as a flake, and what a flake's `nixosConfigurations` are.

use super::exec::Exec;
use super::{environment, nix, said};
use crate::failure::{Failure, Reason};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Which repository a commit is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlakeSource<'a> {
    /// A repository with a work tree, by its absolute path; Nix reads the commit's objects from it, not the files.
    WorkTree(&'a Path),
    /// A bare repository to which the commit was pushed as `refs/nixgate/src/<run>`.
    Bare { repository: &'a Path, run: &'a str },
}

/// A flake at one commit, as Nix takes it on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flakeref(String);

impl Flakeref {
    /// A flake reference somebody wrote; passed to Nix as it is.
    pub fn verbatim(text: impl Into<String>) -> Self {
        Flakeref(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `<flake>#<attribute>`.
    pub fn attribute(&self, attribute: &str) -> String {
        format!(
            "{}#{}",
            self.0,
            percent_encode(attribute.as_bytes(), &KEPT_IN_FRAGMENT)
        )
    }
}

impl fmt::Display for Flakeref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// RFC 3986's unreserved characters, and the slash.
const KEPT_IN_PATH: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');
/// Attribute paths may quote their parts.
const KEPT_IN_FRAGMENT: AsciiSet = KEPT_IN_PATH.remove(b'"').remove(b'\'');

/// The flake in `directory` ("." for the root) of `source` at exactly the commit `rev` (a full id).
///
/// Submodules belong to the source tree: without them the derivation differs silently, so `submodules` is to be set
/// when the commit has a `.gitmodules`.
pub fn flake_url(source: FlakeSource<'_>, rev: &str, directory: &str, submodules: bool) -> Flakeref {
    let path = match source {
        FlakeSource::WorkTree(path) => path,
        FlakeSource::Bare { repository, .. } => repository,
    };
    let mut url = format!(
        "git+file://{}?",
        percent_encode(path.as_os_str().as_bytes(), &KEPT_IN_PATH)
    );
    if let FlakeSource::Bare { run, .. } = source {
        url += &format!(
            "ref=refs/nixgate/src/{}&",
            percent_encode(run.as_bytes(), &KEPT_IN_PATH)
        );
    }
    url += &format!("rev={rev}");
    if submodules {
        url += "&submodules=1";
    }
    let directory = directory.trim_start_matches("./").trim_matches('/');
    if !directory.is_empty() && directory != "." {
        url += &format!("&dir={}", percent_encode(directory.as_bytes(), &KEPT_IN_PATH));
    }
    Flakeref(url)
}

/// The names of the flake's `nixosConfigurations`, sorted. Evaluates none of them.
pub async fn nixos_configurations<E: Exec>(
    exec: &E,
    flake: &Flakeref,
    deadline: Duration,
) -> Result<Vec<String>, Failure> {
    eval(exec, flake, "builtins.attrNames", deadline).await
}

/// The system (`x86_64-linux`) of each of the flake's `nixosConfigurations`. Evaluates as much of each as it takes.
pub async fn configuration_systems<E: Exec>(
    exec: &E,
    flake: &Flakeref,
    deadline: Duration,
) -> Result<BTreeMap<String, Option<String>>, Failure> {
    let system = "builtins.mapAttrs (_: c: c.pkgs.stdenv.hostPlatform.system or \
                  c.config.system.build.toplevel.system or null)";
    eval(exec, flake, system, deadline).await
}

async fn eval<E: Exec, T: serde::de::DeserializeOwned>(
    exec: &E,
    flake: &Flakeref,
    apply: &str,
    deadline: Duration,
) -> Result<T, Failure> {
    let argv = nix(&[
        "eval",
        "--json",
        "--no-update-lock-file",
        "--apply",
        apply,
        &flake.attribute("nixosConfigurations"),
    ]);
    let what = || format!("cannot list the nixosConfigurations of {flake}");
    let output = exec.exec(&argv, &environment(&[]), None, deadline).await?;
    if !output.ok() {
        return Err(said::failure(Reason::Eval, what(), &output));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::failed(Reason::Eval, what()).why(error.to_string()))
}
