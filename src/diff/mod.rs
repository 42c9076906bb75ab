//! What differs between two closures, two lock files, two sets of units, two graphs of derivations, and why. Pure: no files, no processes, no clock.
//!
//! Everything here is deterministic: the same two sides give the same lists in the same order.

pub mod causes;
pub mod drv;
pub mod explain;
pub mod inputs;
pub mod masked;
pub mod names;
pub mod packages;
mod spread;
pub mod story;
pub mod units;
pub mod walk;

pub use causes::{Attribution, Between, Cause, CauseKind};
pub use explain::{Explained, FieldChange, How, Part, Root, RootKind, RuntimePath};
pub use inputs::{BadLock, InputChange, InputDiff, LockedInput, lock_inputs};
pub use names::{NameParts, PackageName, compare_versions, parse_drv_name};
pub use packages::{Change, Kind, PackageDiff, PathSize, Totals, size_delta};
pub use story::{Chapter, Line, chapters, titles};
pub use units::{Entry, EntryChange, EntryDiff};
pub use walk::BadGraph;

use serde::{Deserialize, Serialize};

/// The diff of a candidate against what runs, as evidence keeps it: figures, and lists short enough to be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub added: usize,
    pub removed: usize,
    pub upgraded: usize,
    pub downgraded: usize,
    pub rebuilt: usize,
    pub totals: Totals,
    /// The package changes, one line each.
    pub packages: Vec<String>,
    /// The flake inputs that moved, one line each.
    pub inputs: Vec<String>,
    /// The changed units and `/etc` entries, one line each.
    pub units: Vec<String>,
    pub etc: Vec<String>,
    /// How many lines were left out of the lists above.
    pub omitted: usize,
}

impl Summary {
    /// Sums up; of each list at most `most` lines are kept.
    pub fn new(
        packages: &PackageDiff,
        inputs: &InputDiff,
        units: &EntryDiff,
        etc: &EntryDiff,
        most: usize,
    ) -> Self {
        let mut omitted = 0;
        let mut cut = |mut lines: Vec<String>| {
            omitted += lines.len().saturating_sub(most);
            lines.truncate(most);
            lines
        };
        Summary {
            added: packages.added.len(),
            removed: packages.removed.len(),
            upgraded: packages.upgraded.len(),
            downgraded: packages.downgraded.len(),
            rebuilt: packages.rebuilt.len(),
            totals: packages.totals,
            packages: cut(packages.lines()),
            inputs: cut(inputs.lines()),
            units: cut(units.lines()),
            etc: cut(etc.lines()),
            omitted,
        }
    }
}
