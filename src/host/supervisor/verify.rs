//! Before a switch: the whole closure is really there, and what the switch would do.

use std::time::Duration;

use serde::Serialize;

use super::super::bootdefault::COMMON;
use super::super::dryrun::DryActivate;
use super::super::stc::Stc;
use super::super::system::NoSwitch;
use super::super::{HostError, Privilege, Remote, Script};
use super::plan::is_store_path;

/// What one remote command found.
#[derive(Debug, Clone, Serialize)]
pub struct Rehearsal {
    /// Paths that the database calls valid although their files are gone, or that are not valid at all.
    pub missing_files: Vec<String>,
    pub invalid: Vec<String>,
    /// Files that a toplevel must have and this one, or its specialisation, has not.
    pub missing_parts: Vec<String>,
    /// Why, where that is switch-to-configuration.
    pub no_switch: Option<NoSwitch>,
    /// `None` when the closure is broken; where files are gone nothing was run either.
    pub outcome: Option<Stc>,
    pub plan: DryActivate,
    /// After all that; KiB.
    pub memory_available_kib: Option<u64>,
    /// Percent of the last ten seconds in which some process waited for memory.
    pub memory_stalled: Option<f64>,
    /// The digest of the closure as it is registered there (docs/format.md); empty when the closure is broken.
    pub digest: String,
    /// Where that is not the digest expected: the closure's lines, `path sha256:hash size deriver`, `-` for no deriver.
    pub registered: Vec<String>,
    /// What dry-activate printed.
    pub stdout: String,
    pub stderr: String,
}

impl Rehearsal {
    /// Every path of the closure exists and is valid, and the toplevel is one.
    pub fn closure_intact(&self) -> bool {
        self.missing_files.is_empty() && self.invalid.is_empty() && self.missing_parts.is_empty()
    }
}

pub(super) const VERIFY: &str = include_str!("verify.sh");

/// Checks every path of `closure`, and of the closure that is registered on the target, then runs the `dry-activate` of the
/// toplevel, or of that specialisation of it. `digest` is that of the closure that should be registered. One remote command.
///
/// # Errors
/// [`HostError`].
pub async fn dry_activate(
    remote: &mut impl Remote,
    (toplevel, specialisation): (&str, &str),
    (closure, digest): (&[String], &str),
    deadline: Duration,
) -> Result<Rehearsal, HostError> {
    if !is_store_path(toplevel) || !closure.iter().all(|path| is_store_path(path)) {
        return Err(HostError::Unsendable(
            "a closure with something that is no store path",
        ));
    }
    let mut input = String::new();
    for path in closure {
        input.push_str(path.trim_start_matches("/nix/store/"));
        input.push('\n');
    }
    let script = Script::new(format!("{COMMON}\n{VERIFY}"))
        .args([toplevel, digest, specialisation])
        .input(input);
    let output = remote.run(&script, Privilege::Root, deadline).await?;
    let text = output.text();
    let (head, rest) = text.split_once("\n--nixgate-section--\n").unwrap_or((&text, ""));
    let (stdout, stderr) = rest.split_once("\n--nixgate-section--\n").unwrap_or((rest, ""));
    let all = |key: &str| {
        head.lines()
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    if !head.lines().any(|line| line == "complete=1") {
        return Err(HostError::Failed {
            lines: crate::failure::last_lines(&output.stderr, 4),
        });
    }
    let status = all("status")
        .first()
        .and_then(|status| status.parse::<i32>().ok());
    Ok(Rehearsal {
        missing_files: all("missing"),
        invalid: all("invalid"),
        missing_parts: all("part"),
        no_switch: all("no_switch").first().map(|word| NoSwitch::parse(word)),
        outcome: status.map(|status| Stc::classify(status, stdout, stderr, false)),
        plan: DryActivate::parse(stderr),
        memory_available_kib: all("MemAvailable").first().and_then(|kib| kib.parse().ok()),
        memory_stalled: all("psi_memory").first().and_then(|percent| percent.parse().ok()),
        digest: all("digest").pop().unwrap_or_default(),
        registered: all("registered"),
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
    })
}
