//! What a host says of the trouble that a run met there: units that failed since it began, and the kernel's log. Read
//! best effort: it never stands in the way of going back.

use std::fmt::Write as _;
use std::time::Duration;

use super::said::unit_result;
use super::{HostError, Privilege, Remote, Script, Session};
use crate::failure::{Failure, Reason, Weight};

const KERNEL: &str = include_str!("kernel.sh");
const TROUBLE: &str = include_str!("trouble.sh");

/// The most bytes of [`Trouble::text`].
const LIMIT: usize = 48 << 10;
/// How many lines of a unit's journal a failure shows, and of how many units.
const SHOWN: usize = 8;
const UNITS: usize = 3;

/// One unit that failed since the run began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailedUnit {
    pub name: String,
    /// What systemd gives as `Result=`, now and each time that it failed since then.
    pub results: Vec<String>,
    /// `systemctl status`.
    pub status: Vec<String>,
    /// The last lines of its journal.
    pub said: Vec<String>,
}

/// The kernel's log since the run began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelLog {
    /// Where it was read (`journal` or `dmesg`), and its lines.
    Read { from: String, lines: Vec<String> },
    /// Why not.
    Unreadable(String),
}

/// See [`read`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub units: Vec<FailedUnit>,
    pub kernel: KernelLog,
}

/// Asks a host what failed on it since `since` (seconds since 1970 by its own clock), units in `before` left out, which
/// had failed by then. At most `limit`; what came until then counts. One remote command.
///
/// # Errors
/// [`HostError`]: nothing came.
pub async fn read(
    remote: &mut impl Remote,
    run: &str,
    since: u64,
    before: &[String],
    limit: Duration,
) -> Result<Trouble, HostError> {
    let script = Script::new(format!("{KERNEL}{TROUBLE}"))
        .arg(run)
        .arg(since.to_string())
        .args(before.iter().cloned());
    match remote.run(&script, Privilege::RootIfPossible, limit).await {
        Ok(output) => Ok(Trouble::parse(&output.text())),
        Err(HostError::Timeout { stdout, .. }) if !stdout.is_empty() => {
            Ok(Trouble::parse(&String::from_utf8_lossy(&stdout)))
        }
        Err(error) => Err(error),
    }
}

/// The kernel's own words about processes that it killed for want of memory in the last `ago`; none where its log cannot
/// be read. One remote command, as whoever is logged in or as root where `privilege` allows it.
///
/// # Errors
/// [`HostError`]: nothing came within `limit`.
pub async fn killed(
    session: &Session,
    privilege: Privilege,
    ago: Duration,
    limit: Duration,
) -> Result<Vec<String>, HostError> {
    let script = Script::new(format!("{KERNEL}since=$(($(date +%s) - $1))\nkernel_log\n"))
        .arg((ago.as_secs() + 1).to_string());
    let output = session.run(&script, privilege, limit).await?;
    let trouble = Trouble::parse(&output.text());
    Ok(trouble.killed().into_iter().map(ToOwned::to_owned).collect())
}

impl Trouble {
    /// Parses the script's answer, whole or cut off.
    pub fn parse(text: &str) -> Trouble {
        let mut units: Vec<FailedUnit> = Vec::new();
        let mut kernel = KernelLog::Unreadable("the host did not come to it in time".to_owned());
        for line in text.lines() {
            let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
            let rest = rest.trim_end().to_owned();
            match (key, units.last_mut(), &mut kernel) {
                ("unit", ..) => units.push(FailedUnit {
                    name: rest,
                    ..FailedUnit::default()
                }),
                ("result", Some(unit), _) => unit.results.push(rest),
                ("status", Some(unit), _) => unit.status.push(rest),
                ("said", Some(unit), _) => unit.said.push(rest),
                ("kernel", _, kernel) => {
                    *kernel = KernelLog::Read {
                        from: rest,
                        lines: Vec::new(),
                    };
                }
                ("unreadable", _, kernel) => *kernel = KernelLog::Unreadable(rest),
                ("line", _, KernelLog::Read { lines, .. }) => lines.push(rest),
                _ => {}
            }
        }
        Trouble { units, kernel }
    }

    /// Processes that the kernel killed for want of memory, in its own words.
    pub fn killed(&self) -> Vec<&str> {
        let KernelLog::Read { lines, .. } = &self.kernel else {
            return Vec::new();
        };
        // mm/oom_kill.c: "Out of memory: Killed process …", "Memory cgroup out of memory: Killed process …".
        let words = |line: &&str| line.contains("ut of memory") && line.contains("Killed process ");
        lines.iter().map(String::as_str).filter(words).collect()
    }

    /// What it makes of a failure that was first taken for `found`. Only what memory or time may be the cause of is
    /// looked at again: a refusal stays one.
    pub fn reason(&self, found: Reason) -> Reason {
        let effect = matches!(
            found,
            Reason::Unit
                | Reason::Script
                | Reason::Check
                | Reason::Timeout
                | Reason::Link
                | Reason::Memory
                | Reason::Copy
        );
        if !effect {
            return found;
        }
        let results = || {
            let all = self.units.iter().flat_map(|unit| &unit.results);
            let all = all.map(|word| unit_result(word));
            all.filter(|(weight, _)| *weight != Weight::Expected)
                .map(|(_, reason)| reason)
        };
        if !self.killed().is_empty() || results().any(|reason| reason == Reason::Oom) {
            return Reason::Oom;
        }
        match (found, results().next()) {
            (Reason::Unit, Some(reason)) => reason,
            _ => found,
        }
    }

    /// Adds what a person wants to read at once: who was killed, and each unit's result and last lines. What the failure
    /// says already is not said twice.
    pub fn explain(&self, failure: &mut Failure) {
        failure.reason = self.reason(failure.reason);
        let known = failure.why.join("\n");
        let mut add = |line: String| {
            if !known.contains(line.trim()) {
                failure.why.push(line);
            }
        };
        for line in self.killed() {
            add(format!("kernel: {line}"));
        }
        for unit in self.units.iter().take(UNITS) {
            add(format!("{}: Result={}", unit.name, unit.results.join(", ")));
            let from = unit.said.len().saturating_sub(SHOWN);
            for line in unit.said[from..].iter().filter(|line| !line.is_empty()) {
                add(format!("  {line}"));
            }
        }
    }

    /// Everything, for the run's journal; at most 48 KiB.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        for unit in &self.units {
            let _ = writeln!(text, "{}: Result={}", unit.name, unit.results.join(", "));
            for line in &unit.status {
                let _ = writeln!(text, "  {line}");
            }
            let _ = writeln!(text, "  its journal, last lines:");
            for line in &unit.said {
                let _ = writeln!(text, "    {line}");
            }
        }
        if self.units.is_empty() {
            text.push_str("no unit failed since the run began that had not failed before\n");
        }
        match &self.kernel {
            KernelLog::Read { from, lines } if lines.is_empty() => {
                let _ = writeln!(text, "kernel log ({from}): nothing since the run began");
            }
            KernelLog::Read { from, lines } => {
                let _ = writeln!(text, "kernel log ({from}) since the run began, last lines:");
                for line in lines {
                    let _ = writeln!(text, "  {line}");
                }
            }
            KernelLog::Unreadable(why) => {
                let _ = writeln!(text, "kernel log: cannot be read: {why}");
            }
        }
        if text.len() > LIMIT {
            let cut = (0..=LIMIT).rev().find(|at| text.is_char_boundary(*at));
            text.truncate(cut.unwrap_or(0));
            text.push_str("\n[cut]\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 6.18 and systemd 257 say it.
    const OOM: &str = "\
unit hog.service
result oom-kill
result start-limit-hit
status × hog.service - hog
status      Active: failed (Result: oom-kill) since Sat 2026-11-21 16:40:01 UTC; 1s ago
said taking all there is
said hog.service: A process of this unit has been killed by the OOM killer.
said hog.service: Failed with result 'oom-kill'.
kernel dmesg
line [13511.204432] hog invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
line [13511.204501] Memory cgroup out of memory: Killed process 812 (hog) total-vm:102400kB, anon-rss:32000kB, file-rss:1024kB, shmem-rss:0kB, UID:0 pgtables:120kB oom_score_adj:0
";

    fn of_unit(result: &str) -> Trouble {
        Trouble::parse(&format!(
            "unit app.service\nresult {result}\nsaid last words\nkernel journal\n"
        ))
    }

    #[test]
    fn s3_12_oom_is_told_by_the_kernel_or_by_the_units_result() {
        let trouble = Trouble::parse(OOM);
        assert_eq!(trouble.killed().len(), 1);
        assert_eq!(trouble.reason(Reason::Unit), Reason::Oom);
        let kernel_alone = Trouble {
            units: Vec::new(),
            ..trouble.clone()
        };
        assert_eq!(kernel_alone.reason(Reason::Timeout), Reason::Oom);
        assert_eq!(of_unit("oom-kill").reason(Reason::Check), Reason::Oom);
        assert_eq!(of_unit("exit-code").reason(Reason::Unit), Reason::Unit);
        assert_eq!(of_unit("timeout").reason(Reason::Unit), Reason::Timeout);
        // What was refused, or wanted, is not memory's doing.
        for reason in [Reason::Cancelled, Reason::Rule, Reason::Boot, Reason::Reboot] {
            assert_eq!(trouble.reason(reason), reason);
        }
    }

    #[test]
    fn s3_35_the_last_lines_stand_in_the_failure_once() {
        let mut failure = Failure::failed(Reason::Unit, "cortex: failed since the switch: hog.service")
            .why("hog.service: Failed with result 'oom-kill'.");
        Trouble::parse(OOM).explain(&mut failure);
        assert_eq!(failure.reason, Reason::Oom);
        let text = failure.why.join("\n");
        assert!(text.contains("kernel: [13511.204501] Memory cgroup"), "{text}");
        assert!(
            text.contains("hog.service: Result=oom-kill, start-limit-hit\n  taking all there is"),
            "{text}"
        );
        assert_eq!(text.matches("Failed with result").count(), 1, "{text}");
    }

    #[test]
    fn s3_35_what_is_kept_is_bounded_and_says_what_could_not_be_read() {
        let none = Trouble::parse("unreadable dmesg: read kernel buffer failed: Operation not permitted\n");
        assert_eq!(
            none.text(),
            "no unit failed since the run began that had not failed before\n\
             kernel log: cannot be read: dmesg: read kernel buffer failed: Operation not permitted\n"
        );
        assert!(
            Trouble::parse("unit a.ser")
                .text()
                .contains("did not come to it in time")
        );
        let much = format!(
            "unit a.service\n{}kernel dmesg\n",
            format!("said {}\n", "ü".repeat(200)).repeat(400)
        );
        let text = Trouble::parse(&much).text();
        assert!(
            text.len() <= LIMIT + 8 && text.ends_with("\n[cut]\n"),
            "{}",
            text.len()
        );
    }
}
