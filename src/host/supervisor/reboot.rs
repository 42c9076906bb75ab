//! The way of a candidate that needs a reboot: profile and boot default are set, and only the boot proves it.

use std::time::Duration;

use serde::Serialize;

use super::super::bootdefault::COMMON;
use super::super::state::{BootDefault, BootOnce, Where};
use super::super::stc::Stc;
use super::super::{HostError, Output, Privilege, Remote, Script};
use super::driver::Held;
use super::plan::{check_run, is_store_path};

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
    /// The candidate's `boot` went well, and what boots was another system all the same: loader and boot default, which were
    /// taken back.
    pub elsewhere: Option<String>,
    pub stdout: String,
    pub stderr: String,
}

const REBOOT: &str = include_str!("reboot.sh");

/// Runs [`REBOOT`] in a unit of the run's, or waits for the one that is there.
const NEXTBOOT: &str = include_str!("nextboot.sh");
/// The exit of [`NEXTBOOT`] where nothing was begun.
const NEVER: i32 = 3;

/// Sets the profile to `candidate`, runs its `boot` and, with systemd-boot, makes it the next boot only. Whatever
/// fails is taken back: profile by its number, boot default by the previous system's `boot`. The host goes on with it
/// when nobody listens any more: see [`boot_set`]. The candidate's `specialisation` may be what boots by default;
/// `accept_loader`: so may a boot loader that does not tell.
///
/// The caller holds the target's lock, which is not let go before the end.
///
/// # Errors
/// [`HostError`].
pub async fn set_boot(
    remote: &mut impl Remote,
    held: &Held,
    (specialisation, accept_loader): (&str, bool),
    deadline: Duration,
) -> Result<BootSet, HostError> {
    let (candidate, previous) = (held.candidate.as_str(), held.previous.as_str());
    if !is_store_path(candidate) || !is_store_path(previous) {
        return Err(HostError::Unsendable("a toplevel that is no store path"));
    }
    check_run(&held.run)?;
    if !specialisation.is_empty() {
        check_run(specialisation)?;
    }
    let accept = if accept_loader { "1" } else { "" };
    let script = Script::new(NEXTBOOT)
        .args([&held.run, candidate, previous, specialisation, accept])
        .input(format!("{COMMON}\n{REBOOT}"));
    let output = remote.run(&script, Privilege::Root, deadline).await?;
    read(&output)
}

/// What [`set_boot`] came to on the host, once it has ended there. `None`: it never began, or nothing is left of the run.
///
/// # Errors
/// [`HostError`].
pub async fn boot_set(
    remote: &mut impl Remote,
    run: &str,
    deadline: Duration,
) -> Result<Option<BootSet>, HostError> {
    check_run(run)?;
    let script = Script::new(NEXTBOOT).args([run, "", "", "", ""]);
    let output = remote.run(&script, Privilege::Root, deadline).await?;
    match output.status {
        NEVER => Ok(None),
        _ => read(&output).map(Some),
    }
}

/// What is left after [`unset_boot`].
#[derive(Debug, Clone, Serialize)]
pub struct Unset {
    pub boot_default: BootDefault,
    pub boot_once: Option<BootOnce>,
}

const UNBOOT: &str = include_str!("unboot.sh");

/// Takes back what [`set_boot`] has set for `candidate`, on a host that still runs `running`: profile, by its `generation` before
/// where that is known, boot default, and what boots once. What somebody else has set since stays.
///
/// # Errors
/// [`HostError`]; [`HostError::Failed`] also while another run holds the host.
pub async fn unset_boot(
    remote: &mut impl Remote,
    (candidate, running): (&str, &str),
    generation: Option<u64>,
    deadline: Duration,
) -> Result<Unset, HostError> {
    if !is_store_path(candidate) || !is_store_path(running) {
        return Err(HostError::Unsendable("a toplevel that is no store path"));
    }
    let number = generation.map(|number| number.to_string()).unwrap_or_default();
    let script = Script::new(format!("{COMMON}\n{UNBOOT}")).args([candidate, running, &number]);
    let output = remote.run(&script, Privilege::Root, deadline).await?;
    let text = output.text();
    let one = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    match one("boot_default=") {
        Some(word) if output.ok() => Ok(Unset {
            boot_default: BootDefault::parse(word),
            boot_once: one("boot_once=").and_then(BootOnce::parse),
        }),
        _ => Err(HostError::Failed {
            lines: crate::failure::last_lines(&output.stderr, 4),
        }),
    }
}

/// On systemd-boot the candidate was to boot once: after that boot has proven it, it becomes the default.
///
/// # Errors
/// [`HostError`]; [`HostError::Failed`] also while another run holds the host.
pub async fn make_default(
    remote: &mut impl Remote,
    candidate: &str,
    deadline: Duration,
) -> Result<BootDefault, HostError> {
    if !is_store_path(candidate) {
        return Err(HostError::Unsendable("a toplevel that is no store path"));
    }
    let script = Script::new(format!("{COMMON}\n{DEFAULT}")).args([candidate]);
    let output = remote.run(&script, Privilege::Root, deadline).await?;
    match output
        .text()
        .lines()
        .last()
        .and_then(|line| line.strip_prefix("boot_default="))
    {
        Some(word) if output.ok() => Ok(BootDefault::parse(word)),
        _ => Err(HostError::Failed {
            lines: crate::failure::last_lines(&output.stderr, 4),
        }),
    }
}

const DEFAULT: &str = r#"open_lock || exit 1
flock -n 9 || {
	echo 'another run holds this host' >&2
	exit 1
}
umask 022
"$1/bin/switch-to-configuration" boot 9>&- >&2 || exit 1
b=$(boot_default)
printf 'boot_default=%s\n' "${b#* }""#;

fn read(output: &Output) -> Result<BootSet, HostError> {
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
            boot_once: one("boot_once").and_then(BootOnce::parse),
        },
        oneshot: one("oneshot") == Some("1"),
        elsewhere: one("elsewhere").map(str::to_owned),
        stdout: String::new(),
        stderr: output.stderr.clone(),
    })
}
