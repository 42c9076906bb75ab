//! The operator's side of the supervisor: hold a target, switch it, and let it commit or go back.
//!
//! What runs on the target is `supervisor.sh`, in a transient unit. This side only sends messages and reads the state
//! file; whatever happens to it, the target finishes by itself. What may not happen here: a result told from anything
//! but the state file, and a renewal over another connection than a fresh one once the host was switched.

mod after;
mod commit;
mod driver;
mod error;
mod others;
mod plan;
mod reboot;
#[cfg(test)]
mod tests;
mod verify;
#[cfg(test)]
mod verify_tests;

pub use after::{
    drop_permanent_root, drop_record, failed_before, put_profile_back, release_leftover, store_record,
};
pub use driver::{Committed, Held, Reverted, Switched, hold};
pub use error::{HoldError, SupervisorError};
pub use others::{cancel, holder_now, reattach, supersede};
pub use plan::Plan;
pub use reboot::{BootSet, Unset, boot_set, make_default, set_boot, unset_boot};
pub use verify::{Rehearsal, dry_activate};
