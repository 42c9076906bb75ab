//! What stays on a target after a commit: the record's bytes and the permanent root; and what goes that half of one left.

use std::time::Duration;

use super::super::bootdefault::COMMON;
use super::super::{HostError, Output, Privilege, Remote, Script};
use super::plan::{check_run, is_store_path};

const DEADLINE: Duration = Duration::from_secs(20);

/// Keeps the record's bytes at `/var/lib/nixgate/<target>/record` and makes the permanent root
/// `/nix/var/nix/gcroots/nixgate/<target>/<name>` → `toplevel`. Both atomically, in one remote command.
///
/// # Errors
/// [`HostError`]; [`HostError::Lost`] with the host's words when it could not write.
pub async fn store_record(
    remote: &mut impl Remote,
    target: &str,
    record: &[u8],
    root: Option<(&str, &str)>,
) -> Result<(), HostError> {
    use base64::Engine as _;
    check_run(target)?;
    let (name, toplevel) = root.unwrap_or_default();
    if root.is_some() {
        check_run(name)?;
        if !is_store_path(toplevel) {
            return Err(HostError::Unsendable("a root that is no store path"));
        }
    }
    let script = Script::new(
        r#"umask 022
d=/var/lib/nixgate/$1
mkdir -p "$d" && base64 -d >"$d/record.new" && sync "$d/record.new" && mv -f "$d/record.new" "$d/record" || exit 1
[ -n "$2" ] || exit 0
r=/nix/var/nix/gcroots/nixgate/$1
mkdir -p "$r" && ln -sfn "$3" "$r/.$2.new" && mv -fT "$r/.$2.new" "$r/$2""#,
    )
    .args([target, name, toplevel])
    .input(base64::engine::general_purpose::STANDARD.encode(record));
    expect_done(remote.run(&script, Privilege::Root, DEADLINE).await?)
}

/// Removes the record's bytes.
///
/// # Errors
/// [`HostError`].
pub async fn drop_record(remote: &mut impl Remote, target: &str) -> Result<(), HostError> {
    check_run(target)?;
    let script = Script::new(r#"rm -f "/var/lib/nixgate/$1/record""#).arg(target);
    expect_done(remote.run(&script, Privilege::Root, DEADLINE).await?)
}

/// Removes a permanent root (`keep`). A root that is not there is no error.
///
/// # Errors
/// [`HostError`].
pub async fn drop_permanent_root(
    remote: &mut impl Remote,
    target: &str,
    names: &[String],
) -> Result<(), HostError> {
    check_run(target)?;
    for name in names {
        check_run(name)?;
    }
    let script = Script::new(
        r#"t=$1
shift
for n do rm -f "/nix/var/nix/gcroots/nixgate/$t/$n" || exit 1; done"#,
    )
    .arg(target)
    .args(names.iter().cloned());
    expect_done(remote.run(&script, Privilege::Root, DEADLINE).await?)
}

/// Removes what a run whose supervisor has ended left: its directory and its temporary roots. A living one is left
/// alone.
///
/// # Errors
/// [`HostError`].
pub async fn release_leftover(remote: &mut impl Remote, run: &str) -> Result<(), HostError> {
    check_run(run)?;
    let script = Script::new(LEFTOVER).arg(run);
    expect_done(remote.run(&script, Privilege::Root, DEADLINE).await?)
}

/// Puts the profile back to `generation`, where a reset in mid-commit left it on the candidate and booted `previous`.
///
/// # Errors
/// [`HostError`]; [`HostError::Failed`] also while another run holds the host.
pub async fn put_profile_back(
    remote: &mut impl Remote,
    candidate: &str,
    previous: &str,
    generation: Option<u64>,
) -> Result<(), HostError> {
    if !is_store_path(candidate) || !is_store_path(previous) {
        return Err(HostError::Unsendable("a toplevel that is no store path"));
    }
    let number = generation.map(|number| number.to_string()).unwrap_or_default();
    let script = Script::new(format!("{COMMON}\n{PROFILE}")).args([candidate, previous, &number]);
    expect_done(remote.run(&script, Privilege::Root, DEADLINE).await?)
}

const PROFILE: &str = include_str!("profile.sh");

/// Units that had failed before a run's switch, as its supervisor noted them.
///
/// # Errors
/// [`HostError`].
pub async fn failed_before(remote: &mut impl Remote, run: &str) -> Result<Vec<String>, HostError> {
    check_run(run)?;
    let script = Script::new(r#"cat "/run/nixgate/$1/failed-before""#).arg(run);
    let output = remote.run(&script, Privilege::Root, DEADLINE).await?;
    Ok(output.text().lines().map(str::to_owned).collect())
}

/// Waits for the end of the supervisor of run `$1`, and removes what it leaves; a living one's things stay.
pub(super) const LEFTOVER: &str = include_str!("leftover.sh");

fn expect_done(output: Output) -> Result<(), HostError> {
    if output.ok() {
        return Ok(());
    }
    let mut lines = crate::failure::last_lines(&output.stderr, 4);
    lines.push(format!("exit status {}", output.status));
    Err(HostError::Failed { lines })
}
