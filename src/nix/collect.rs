//! Freeing space in a host's store without losing anything that a person may want back.

use super::exec::Exec;
use super::said;
use crate::failure::{Failure, Reason};
use std::time::Duration;

/// No generation is deleted (that would be `-d`), so every profile keeps what it had; recorded closures have roots of
/// ours. What runs and what was booted have a root of their own for as long as it takes: that the system keeps them is the
/// system's business. `$1` a name for those.
const COLLECT: &str = r#"set -e
roots=/nix/var/nix/gcroots/nixgate/+tmp
mkdir -p "$roots"
trap 'rm -f "$roots/$1+running" "$roots/$1+booted"' EXIT
for kind in running booted; do
    link=/run/$kind-system
    [ "$kind" = booted ] || link=/run/current-system
    path=$(readlink -f "$link") || continue
    case $path in /nix/store/*) ln -sfn "$path" "$roots/$1+$kind" ;; esac
done
nix-collect-garbage
"#;

/// `nix-collect-garbage` as root; Nix's own last line (`212 store paths deleted, 1203.44 MiB freed`).
///
/// # Errors
/// It did not come to its end.
pub async fn collect_garbage<E: Exec>(root: &E, run: &str, deadline: Duration) -> Result<String, Failure> {
    let output = super::script(root, COLLECT, &[run], None, deadline).await?;
    if !output.ok() {
        return Err(said::failure(Reason::Store, "cannot collect garbage", &output));
    }
    let text = said::plain(&(output.out() + &output.err()));
    let line = text.lines().rev().find(|line| line.contains(" freed"));
    Ok(line.unwrap_or("nothing to collect").trim().to_owned())
}
