//! The way of a candidate that needs a reboot: profile and boot default are set, and only the boot proves it.

use std::time::Duration;

use serde::Serialize;

use super::super::bootdefault::COMMON;
use super::super::state::{BootDefault, Where};
use super::super::stc::Stc;
use super::super::{HostError, Privilege, Remote, Script};
use super::plan::is_store_path;

/// What a host boots next, and after that.
#[derive(Debug, Clone, Serialize)]
pub struct BootSet {
    /// `boot` of the candidate.
    pub outcome: Stc,
    pub generation_before: Option<u64>,
    /// Read again afterwards.
    #[serde(rename = "where")]
    pub here: Where,
    /// systemd-boot: the candidate is booted once, the previous system stays the default until `resume`.
    pub oneshot: bool,
    pub stdout: String,
    pub stderr: String,
}

const REBOOT: &str = include_str!("reboot.sh");

/// Sets the profile to `candidate`, runs its `boot` and, with systemd-boot, makes it the next boot only. Whatever
/// fails is taken back: profile by its number, boot default by the previous system's `boot`.
///
/// The caller holds the target's lock.
///
/// # Errors
/// [`HostError`].
pub async fn set_boot(
    remote: &mut impl Remote,
    candidate: &str,
    previous: &str,
    deadline: Duration,
) -> Result<BootSet, HostError> {
    if !is_store_path(candidate) || !is_store_path(previous) {
        return Err(HostError::Unsendable("a toplevel that is no store path"));
    }
    let script = Script::new(format!("{COMMON}\n{REBOOT}")).args([candidate, previous]);
    let output = remote.run(&script, Privilege::Root, deadline).await?;
    let text = output.text();
    let one = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .filter(|value| !value.is_empty())
    };
    let status = one("status").and_then(|status| status.parse::<i32>().ok());
    let Some(status) = status else {
        return Err(HostError::Failed {
            lines: crate::failure::last_lines(&output.stderr, 4),
        });
    };
    Ok(BootSet {
        outcome: Stc::classify(status, "", &output.stderr, false),
        generation_before: one("generation_before").and_then(|value| value.parse().ok()),
        here: Where {
            running: one("running").map(str::to_owned),
            profile: one("profile").map(str::to_owned),
            generation: one("generation").and_then(|value| value.parse().ok()),
            boot_default: BootDefault::parse(one("boot_default").unwrap_or_default()),
            boot_loader: one("boot_loader").unwrap_or_default().to_owned(),
        },
        oneshot: one("oneshot") == Some("1"),
        stdout: String::new(),
        stderr: output.stderr,
    })
}
