//! Preflight of hosts whose boot is not over, and of those that forget at each boot.

use super::Report;
use crate::event::Verdict;
use crate::host::Facts;

/// A host whose boot has not finished is told by the jobs that it waits for. It is released to all the same, for the
/// candidate may be what ends the boot: validation counts the boot that does not end as it was before.
pub(super) fn finished(target: &str, facts: &Facts, report: &mut Report) {
    if !facts.is_booting() {
        return;
    }
    let word = &facts.system_state;
    let detail = match facts.jobs.is_empty() {
        true => word.clone(),
        false => format!("{word}, waits for {}", facts.jobs.join(", ")),
    };
    report.line(0, "Boot", Verdict::Skipped, detail.as_str());
    report.warnings.push(format!(
        "{target} has not finished booting ({detail}); on {target}: systemctl list-jobs"
    ));
}

/// A record that is kept in memory is a copy which the next boot drops. Git has it.
pub(super) fn record_stays(facts: &Facts, report: &mut Report) {
    if facts.forgets_record() {
        let detail = format!(
            "/var/lib/nixgate is on a {}: the copy of the record there is gone after a boot, the one in git stays",
            facts.record_on
        );
        report.line(0, "Record", Verdict::Skipped, detail);
    }
}
