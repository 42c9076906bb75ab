//! Nix: store, closure, derivation, copy, build, roots; every JSON shape Nix has had since 2.18.
//!
//! This module alone knows Nix's command lines. It does not know where they run: the builder may be this machine, the
//! target or an ssh host, so everything here is written over [`Exec`]. Nothing is ever interpolated into a shell
//! string; the few pipelines are constant scripts that get their values as positional arguments or on stdin. No command
//! gets a terminal, and none may ask a question.

mod build;
mod closure;
mod collect;
mod contents;
mod copy;
mod examine;
mod exec;
mod flake;
mod here;
mod json;
mod mend;
mod orphans;
mod path;
mod presence;
mod roots;
mod said;
mod system;
mod unshared;

pub use build::{BuildError, BuildKind, BuildRequest, Built, Evaluated, RemoteBuild, build, evaluate};
pub use closure::{
    Closure, PathInfo, Product, closure, closure_and_linked, closure_linked, closure_of, parse_dump_db,
    product,
};
pub use collect::collect_garbage;
pub use contents::contents;
pub use copy::{CopyError, CopyKind, CopyRequest, Missing, archive_inputs, copy, missing};
pub use examine::{
    Broken, Comparison, Database, Examined, Fault, Keeper, StoreHealth, examine, parse as parse_examined,
};
pub use exec::{Exec, ExecOutput, LocalExec};
pub use flake::{FlakeSource, Flakeref, configuration_systems, flake_url, nixos_configurations};
pub use json::{
    Derivation, StoreInfo, derivations, parse_build, parse_derivations, parse_path_info, parse_store_info,
};
pub use mend::{drop_seed, forget_sql, have, rejoin_sql, repair_paths, seed, seedable, surgery};
pub use orphans::{end_failed_copy, end_orphaned_copies};
pub use path::{BadStorePath, StorePath, sha256_hex, source_path};
pub use presence::{Presence, presence, room_before_copy};
pub use roots::{Root, add_root, list_roots, remove_roots, settle_root};
pub use said::{Complaint, complaints};
pub use system::{Implementation, NixVersion, Systems, nix_version, store_info, systems};
pub use unshared::{Unshared, unshared};

use crate::failure::Failure;
use std::time::Duration;

/// The start of every `nix` command line: flakes on, and no registry (an installable that does not exist would send
/// Nix to it for a minute of retries).
fn nix(arguments: &[&str]) -> Vec<String> {
    [
        "nix",
        "--extra-experimental-features",
        "nix-command flakes",
        "--option",
        "flake-registry",
        "",
    ]
    .iter()
    .chain(arguments)
    .map(ToString::to_string)
    .collect()
}

/// What every command of Nix gets: plain English without colours, and nobody who could answer a question.
fn environment(more: &[(&str, String)]) -> Vec<(String, String)> {
    [
        ("LC_ALL", "C".to_string()),
        ("NO_COLOR", "1".to_string()),
        ("GIT_TERMINAL_PROMPT", "0".to_string()),
        ("SSH_ASKPASS_REQUIRE", "never".to_string()),
    ]
    .iter()
    .chain(more)
    .map(|(name, value)| (name.to_string(), value.clone()))
    .collect()
}

/// Runs a constant `sh` script with positional arguments, `$1` on.
async fn script<E: Exec>(
    exec: &E,
    text: &str,
    arguments: &[&str],
    stdin: Option<Vec<u8>>,
    deadline: Duration,
) -> Result<ExecOutput, Failure> {
    let argv: Vec<String> = ["sh", "-c", text, "nixgate"]
        .iter()
        .chain(arguments)
        .map(ToString::to_string)
        .collect();
    exec.exec(&argv, &environment(&[]), stdin, deadline).await
}
