//! What a broken copy leaves behind at its destination.
//!
//! When the connection of `nix copy --to ssh-ng://user@host` breaks in the middle of a path and the user is not root, the
//! `nix-daemon --stdio` there is mostly left waiting for the daemon, and the daemon for it (seen with Nix 2.26, in about
//! three of four; else it notices and both end). That pair holds the path's lock for ever, so every later copy of the path
//! waits for ever too, without a word. SIGTERM does not end it. Over `ssh://`, and as root, nothing is left.

use super::exec::Exec;
use super::said;
use crate::failure::{Failure, Reason};
use std::time::Duration;

/// Only our own user's, and only those whose ssh session is gone: their parent is then init.
pub(super) const END: &str = r#"for process in /proc/[0-9]*; do
    [ -O "$process" ] || continue
    case $(tr '\0' ' ' <"$process/cmdline" 2>/dev/null) in
    "nix-daemon --stdio "* | */"nix-daemon --stdio "*) ;;
    *) continue ;;
    esac
    parent=$(sed -n 's/^PPid:[[:space:]]*//p' "$process/status" 2>/dev/null) || continue
    [ "$parent" = 1 ] || continue
    kill -9 "${process#/proc/}" 2>/dev/null && echo "${process#/proc/}"
done
echo end
"#;

/// Ends the user's `nix-daemon --stdio` processes whose connection is gone; says how many there were. To be called where
/// the copy goes, by whoever holds the target's lock: a live copy is never touched, because its ssh session lives.
pub async fn end_orphaned_copies<E: Exec>(exec: &E, deadline: Duration) -> Result<usize, Failure> {
    let what = "cannot look for what earlier copies left";
    let output = super::script(exec, END, &[], None, deadline).await?;
    let text = output.out();
    if !output.ok() || !text.ends_with("end\n") {
        return Err(said::failure(Reason::Copy, what, &output));
    }
    Ok(text.lines().count() - 1)
}

/// The same at the other end: `ssh` that `nix copy` had started and that outlives it when it is killed, for want of memory
/// for instance. It keeps its session, so that the destination sees nobody gone (seen with Nix 2.26).
const END_SENDERS: &str = r#"for process in /proc/[0-9]*; do
    [ -O "$process" ] || continue
    case $(tr '\0' ' ' <"$process/cmdline" 2>/dev/null) in
    "ssh "*"nix-daemon --stdio"* | */"ssh "*"nix-daemon --stdio"*) ;;
    *) continue ;;
    esac
    parent=$(sed -n 's/^PPid:[[:space:]]*//p' "$process/status" 2>/dev/null) || continue
    [ "$parent" != 1 ] || kill -9 "${process#/proc/}" 2>/dev/null
done
:
"#;

/// What [`END`] does, until it has found one, or there is none that it could find: a session that has just lost its
/// sender needs a moment to end.
const END_WHEN_GONE: &str = r#"end_orphans() {
    for process in /proc/[0-9]*; do
        [ -O "$process" ] || continue
        case $(tr '\0' ' ' <"$process/cmdline" 2>/dev/null) in
        "nix-daemon --stdio "* | */"nix-daemon --stdio "*) ;;
        *) continue ;;
        esac
        parent=$(sed -n 's/^PPid:[[:space:]]*//p' "$process/status" 2>/dev/null) || continue
        if [ "$parent" = 1 ]; then
            kill -9 "${process#/proc/}" 2>/dev/null && echo ended
        else
            echo waits
        fi
    done
}
n=0
while [ $n -lt 30 ]; do
    case $(end_orphans) in '' | *ended*) exit 0 ;; esac
    n=$((n + 1))
    sleep 0.1
done
:
"#;

/// Clears up after a copy that failed, at both of its ends, so that the next try does not wait for locks that nobody will
/// let go. Best effort. For whoever holds the target's lock.
pub async fn end_failed_copy<F: Exec, T: Exec>(from: &F, to: &T, deadline: Duration) {
    let _ = super::script(from, END_SENDERS, &[], None, deadline).await;
    let _ = super::script(to, END_WHEN_GONE, &[], None, deadline).await;
}
