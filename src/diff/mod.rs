//! What differs between two closures, two lock files, two sets of units, two graphs of derivations, and why. Pure: no files, no processes, no clock.
//!
//! Everything here is deterministic: the same two sides give the same lists in the same order.

pub mod causes;
pub mod drv;
pub mod explain;
pub mod held;
pub mod inputs;
pub mod masked;
pub mod names;
pub mod packages;
pub mod root;
mod spread;
pub mod story;
pub mod units;
pub mod walk;

pub use causes::{Attribution, Between, Cause, CauseKind, ChangedFile, Marks};
pub use explain::{Explained, How, RuntimePath};
pub use held::{Files, Held, HeldPath, Node, PartChange, wanted};
pub use inputs::{BadLock, InputChange, InputDiff, LockedInput, lock_inputs};
pub use names::{NameParts, PackageName, compare_versions, parse_drv_name};
pub use packages::{Change, Kind, PackageDiff, PathSize, Totals, size_delta};
pub use root::{FieldChange, Part, Root, RootKind};
pub use story::{Chapter, Line, chapters, titles};
pub use units::{Entry, EntryChange, EntryDiff, FileChange};
pub use walk::BadGraph;
