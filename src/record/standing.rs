//! What the records of a target say of a closure's bytes. A store path names what was to be built, not what came of it: the
//! same path may have other bytes in two stores. Pure.

use super::evidence::Registered;
use super::ledger::Ledger;

/// How a closure, by its digest, stands to the records with its toplevel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// They are the bytes that a record proves on the target.
    Proven,
    /// They are those that were built or copied from when a record was made; the target had others.
    Built,
    /// Other bytes than recorded, by records that only say what the builder had: what the target had is in none.
    Unsaid,
    /// Other bytes than any record says.
    Other,
    /// No record says anything of this toplevel's bytes.
    Unrecorded,
}

impl Ledger {
    /// What the records say of the closure of `toplevel` with this digest.
    pub fn standing(&self, toplevel: &str, digest: &str) -> Standing {
        let all = || {
            let all = self.records().iter().map(|record| &record.evidence);
            all.filter(|evidence| evidence.toplevel == toplevel)
        };
        let is_it = |there: &Option<Registered>| {
            let there = there.as_ref();
            there.is_some_and(|there| there.closure_digest == digest)
        };
        let recorded = all().any(|evidence| evidence.closure_digest == digest);
        let looked = all().any(|evidence| evidence.on_target.is_some());
        if all().next().is_none() {
            Standing::Unrecorded
        } else if all().any(|evidence| is_it(&evidence.on_target)) || (recorded && !looked) {
            Standing::Proven
        } else if recorded || all().any(|evidence| is_it(&evidence.on_builder)) {
            Standing::Built
        } else if looked {
            Standing::Other
        } else {
            Standing::Unsaid
        }
    }
}
