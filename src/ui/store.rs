//! What `store check` and `store repair` answer, for people.

use crate::nix::Database;
use crate::run::store::StoreReport;

/// The report for people.
pub fn report(report: &StoreReport) -> String {
    let health = &report.health;
    let mut text = format!(
        "{}: {} paths of {} closures looked at, {}\n",
        report.target,
        health.paths,
        health.closures,
        match health.broken.len() {
            0 if report.whole => "all whole".to_owned(),
            n => format!("{n} broken"),
        }
    );
    for broken in &health.broken {
        text.push_str(&format!(
            "  {}  {}, needed by {}\n",
            broken.path,
            broken.fault.words(),
            broken.needed_by.join(", ")
        ));
    }
    for unlike in &health.unlike {
        text.push_str(&format!("  {unlike}\n"));
    }
    for noted in &health.noted {
        text.push_str(&format!("  note: {noted}\n"));
    }
    match &health.database {
        Database::Sound => {}
        Database::Violations(rows) => {
            text.push_str(&format!("  rows of the database that refer to nothing: {rows}\n"))
        }
        Database::Unknown(why) => text.push_str(&format!("  the database itself was not looked at: {why}\n")),
    }
    for path in &report.repaired {
        text.push_str(&format!("repaired {path}\n"));
    }
    if let Some(backup) = &report.backup {
        text.push_str(&format!("the database before: {backup}, on {}\n", report.target));
    }
    for next in &report.next {
        text.push_str(&format!("next: {next}\n"));
    }
    text
}
