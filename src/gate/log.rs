//! What the gates of one run said so far: shown as it happens, kept as evidence.

use std::time::Instant;

use time::OffsetDateTime;

use crate::event::{CheckLine, Event, Gate, Verdict, Watcher};
use crate::failure::Failure;
use crate::record::Utc;
use crate::record::evidence::GateEvidence;

/// The open gate.
struct Open {
    gate: Gate,
    since: Instant,
    evidence: GateEvidence,
}

/// Shows gates to a watcher and keeps their evidence.
pub struct GateLog<'a> {
    watcher: &'a dyn Watcher,
    open: Option<Open>,
    done: Vec<GateEvidence>,
    warnings: Vec<String>,
}

impl<'a> GateLog<'a> {
    pub fn new(watcher: &'a dyn Watcher) -> Self {
        GateLog {
            watcher,
            open: None,
            done: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Continues a log that another process began.
    pub fn resume(watcher: &'a dyn Watcher, done: Vec<GateEvidence>, warnings: Vec<String>) -> Self {
        GateLog {
            watcher,
            open: None,
            done,
            warnings,
        }
    }

    pub fn see(&self, event: &Event) {
        self.watcher.see(event);
    }

    /// Starts a gate; one that is still open has passed.
    pub fn begin(&mut self, gate: Gate) {
        self.pass("");
        self.watcher.see(&Event::GateStarted { gate });
        let evidence = GateEvidence {
            gate,
            verdict: Verdict::Failed,
            start: Utc::new(OffsetDateTime::now_utc()).rfc3339(),
            millis: 0,
            findings: Vec::new(),
            more: 0,
            reason: None,
        };
        self.open = Some(Open {
            gate,
            since: Instant::now(),
            evidence,
        });
    }

    /// Starts a gate whose work began before its turn to be shown.
    pub fn begin_since(&mut self, gate: Gate, since: Instant) {
        self.begin(gate);
        if let Some(open) = &mut self.open {
            let ago = open.since.saturating_duration_since(since);
            open.since = since;
            open.evidence.start = Utc::new(OffsetDateTime::now_utc() - ago).rfc3339();
        }
    }

    /// The gate that is open: where a failure belongs.
    pub fn open_gate(&self) -> Option<Gate> {
        self.open.as_ref().map(|open| open.gate)
    }

    pub fn check(&mut self, line: &CheckLine) {
        self.watcher.see(&Event::Check(line.clone()));
        if let Some(open) = &mut self.open {
            let word = match line.verdict {
                Verdict::Passed => "passed",
                Verdict::Failed => "failed",
                Verdict::Skipped => "skipped",
            };
            let detail = match recorded(open.gate, line) {
                "" => String::new(),
                detail => format!(" ({detail})"),
            };
            open.evidence
                .findings
                .push(format!("{}: {word}{detail}", line.name));
        }
    }

    /// Something the gate found; shown and kept.
    pub fn finding(&mut self, text: impl Into<String>) {
        let text = text.into();
        if let Some(open) = &mut self.open {
            self.watcher.see(&Event::Finding {
                gate: open.gate,
                text: text.clone(),
            });
            open.evidence.findings.push(text);
        }
    }

    /// Ends the open gate well.
    pub fn pass(&mut self, detail: impl Into<String>) {
        self.end(Verdict::Passed, &detail.into());
    }

    /// Ends the open gate, or a gate that never began, as skipped for a reason.
    pub fn skip(&mut self, gate: Gate, reason: impl Into<String>) {
        if self.open_gate() != Some(gate) {
            self.begin(gate);
        }
        self.end(Verdict::Skipped, &reason.into());
    }

    /// Ends the open gate as failed.
    pub fn fail(&mut self, failure: &Failure) {
        self.end(Verdict::Failed, &failure.what);
    }

    /// Takes the last gate out of the evidence: it was said to have failed because nobody heard how it ended, and whoever
    /// goes on with the run finds out. A record has no gate that failed.
    pub fn leave_open(&mut self) {
        self.done.pop();
    }

    fn end(&mut self, verdict: Verdict, detail: &str) {
        let Some(mut open) = self.open.take() else { return };
        open.evidence.verdict = verdict;
        open.evidence.millis = u64::try_from(open.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        if verdict != Verdict::Passed {
            open.evidence.reason = Some(detail.to_owned());
        }
        self.watcher.see(&Event::GateFinished {
            gate: open.gate,
            verdict,
            millis: open.evidence.millis,
            // A failure's text follows on its own; once is enough.
            detail: if verdict == Verdict::Failed {
                String::new()
            } else {
                detail.to_owned()
            },
        });
        self.done.push(open.evidence);
    }

    pub fn note(&self, text: impl Into<String>) {
        self.watcher.see(&Event::Note { text: text.into() });
    }

    /// A warning goes into the record.
    pub fn warn(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.warnings.contains(&text) {
            self.watcher.see(&Event::Warning { text: text.clone() });
            self.warnings.push(text);
        }
    }

    pub fn gates(&self) -> &[GateEvidence] {
        &self.done
    }

    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// What a record keeps of a check's detail. Preflight's line about the login names the user (`jarvis, root by sudo`):
/// that is the screen's to say, since no record names a user on a host, whoever it comes from. What would only be
/// redacted away is not written in the first place.
fn recorded(gate: Gate, line: &CheckLine) -> &str {
    let login = gate == Gate::Preflight && line.name == "SSH connectivity" && line.verdict == Verdict::Passed;
    match line.detail.split_once(", ") {
        Some((_user, how)) if login => how,
        None if login && line.detail != "root" => "not root",
        _ => &line.detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Seen(std::sync::Mutex<Vec<String>>);

    impl Watcher for Seen {
        fn see(&self, event: &Event) {
            if let Event::Check(line) = event {
                self.0.lock().unwrap().push(line.detail.clone());
            }
        }
    }

    fn check(name: &str, verdict: Verdict, detail: &str) -> CheckLine {
        CheckLine {
            number: 1,
            of: 6,
            name: name.into(),
            verdict,
            detail: detail.into(),
        }
    }

    #[test]
    fn the_screen_names_who_logs_in_and_the_record_only_how() {
        let seen = Seen(std::sync::Mutex::default());
        let mut log = GateLog::new(&seen);
        log.begin(Gate::Preflight);
        for detail in ["jarvis, root by sudo", "root", "pat"] {
            log.check(&check("SSH connectivity", Verdict::Passed, detail));
        }
        log.check(&check("SSH connectivity", Verdict::Failed, "no root"));
        log.check(&check(
            "Network reachability",
            Verdict::Passed,
            "ssh port in 1 ms, no answer to ping",
        ));
        log.check(&check("Lock", Verdict::Passed, ""));
        log.begin(Gate::Validate);
        log.check(&check("SSH connectivity", Verdict::Passed, "fresh connection"));
        log.pass("");
        assert_eq!(
            log.gates()[0].findings,
            [
                "SSH connectivity: passed (root by sudo)",
                "SSH connectivity: passed (root)",
                "SSH connectivity: passed (not root)",
                "SSH connectivity: failed (no root)",
                "Network reachability: passed (ssh port in 1 ms, no answer to ping)",
                "Lock: passed",
            ]
        );
        assert_eq!(
            log.gates()[1].findings,
            ["SSH connectivity: passed (fresh connection)"]
        );
        assert_eq!(
            seen.0.lock().unwrap()[..3],
            ["jarvis, root by sudo", "root", "pat"]
        );
    }
}
