//! Reading what two systems hold: in one command where both of them are, else where each is.

use std::time::Duration;

use crate::diff::{Files, Held};
use crate::gate::diff::{Difference, to_hold};
use crate::gate::{GateLog, Place};
use crate::nix::{self, Closure};

/// How long files may take to be read; the gate goes on without them.
const READ: Duration = Duration::from_secs(60);

/// Compares the files of two systems. `places` are asked in their order, each for what the ones before had not. What cannot
/// be read is said.
pub(super) async fn hold(
    log: &GateLog<'_>,
    difference: &mut Difference,
    (old, new): (&Closure, &Closure),
    places: &[Place<'_>],
) {
    let [before, after] = to_hold(old, new);
    let mut missing: Vec<&str> = before.into_iter().chain(after).collect();
    let mut files = Files::new();
    let mut why = Vec::new();
    for place in places {
        if missing.is_empty() {
            break;
        }
        match nix::contents(place, &missing, READ).await {
            Ok(more) => files.extend(more),
            Err(failure) => why.push(failure.to_string()),
        }
        missing.retain(|path| !files.contains_key(*path));
    }
    let of = |closure: &Closure| closure.toplevel.to_string();
    match Held::new((&of(old), &files), (&of(new), &files)) {
        Some(held) => {
            if !missing.is_empty() {
                let count = missing.len();
                log.note(format!(
                    "{count} changed files are not there any more: told as rebuilt"
                ));
            }
            difference.hold(held);
        }
        None => {
            why.extend(missing.first().map(|path| format!("{path} is not there")));
            let why = why.join("; ");
            log.note(format!("units and files cannot be compared by content: {why}"));
        }
    }
}
