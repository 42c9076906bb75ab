//! What an exit code of `switch-to-configuration` means, together with its text. Pure.

use serde::Serialize;

/// How a run of `switch-to-configuration` ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stc {
    /// 0. It says nothing about units that die a moment later.
    Done,
    /// 1: a pre-switch check refused; the names of the checks, `switchInhibitors` among them.
    Refused {
        checks: Vec<String>,
    },
    /// 1: the boot loader was not installed; nothing switched.
    BootLoader,
    /// 1: anything else that stops it before it begins (usage, not root, environment).
    NotStarted,
    /// 2: the activation script failed; the new system runs. The names of the snippets.
    Script {
        snippets: Vec<String>,
    },
    /// 2, by its text: no NixOS.
    NotNixos,
    /// 4: units failed, whoever broke them; the new system runs.
    Units {
        failed: Vec<String>,
    },
    /// 11: another switch holds the lock.
    LockBusy,
    /// 100: the init interface changed (or there is no running system): a reboot is needed.
    RebootNeeded,
    /// 101: its output was closed in the middle.
    LostOutput,
    /// Killed by a signal (128 + n), half done.
    Killed {
        signal: i32,
    },
    /// Ended by our deadline, half done.
    TimedOut,
    Other {
        status: i32,
    },
}

impl Stc {
    /// From the exit code and what was printed.
    pub fn classify(status: i32, stdout: &str, stderr: &str, timed_out: bool) -> Self {
        if timed_out {
            return Stc::TimedOut;
        }
        match status {
            0 => Stc::Done,
            1 if stderr.contains("Pre-switch checks failed") => Stc::Refused {
                checks: quoted(stdout, "Pre-switch check '", "' failed")
                    .chain(quoted(stderr, "Pre-switch check '", "' failed"))
                    .collect(),
            },
            1 if stderr.contains("Failed to install bootloader") => Stc::BootLoader,
            1 => Stc::NotStarted,
            2 if stderr.contains("This is not a NixOS installation") => Stc::NotNixos,
            2 => Stc::Script {
                snippets: quoted(stdout, "Activation script snippet '", "' failed")
                    .chain(quoted(stderr, "Activation script snippet '", "' failed"))
                    .collect(),
            },
            4 => Stc::Units {
                failed: failed_units(stderr),
            },
            11 => Stc::LockBusy,
            100 => Stc::RebootNeeded,
            101 => Stc::LostOutput,
            129..=192 => Stc::Killed { signal: status - 128 },
            status => Stc::Other { status },
        }
    }

    /// It may have changed the host; only then is there something to take back.
    pub fn touched(&self) -> bool {
        !matches!(
            self,
            Stc::Refused { .. }
                | Stc::BootLoader
                | Stc::NotStarted
                | Stc::NotNixos
                | Stc::LockBusy
                | Stc::RebootNeeded
        )
    }
}

/// The texts between `before` and `after`, one per line.
fn quoted<'a>(text: &'a str, before: &'a str, after: &'a str) -> impl Iterator<Item = String> + 'a {
    text.lines().filter_map(move |line| {
        let rest = &line[line.find(before)? + before.len()..];
        Some(rest[..rest.find(after)?].to_owned())
    })
}

/// The units of the warning at the end, and those that systemd would not even start: a cycle leaves them inactive, not
/// failed, and the warning does not have them.
fn failed_units(stderr: &str) -> Vec<String> {
    let listed = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("warning: the following units failed: "))
        .flat_map(|list| list.split(", "));
    let refused = stderr.lines().filter_map(|line| {
        let rest = line.strip_prefix("Failed to ")?;
        let (verb, rest) = rest.split_once(' ')?;
        let unit = rest.split(' ').next()?.trim_end_matches(':');
        (matches!(verb, "start" | "restart" | "reload") && unit.contains('.')).then_some(unit)
    });
    let mut failed: Vec<String> = Vec::new();
    for unit in listed
        .chain(refused)
        .map(str::trim)
        .filter(|unit| !unit.is_empty())
    {
        if !failed.iter().any(|known| known == unit) {
            failed.push(unit.to_owned());
        }
    }
    failed
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A recording: exit code, stdout, stderr.
    pub(in crate::host) fn recording(name: &str) -> (i32, String, String) {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/stc-output");
        let text = std::fs::read_to_string(dir.join(format!("{name}.txt"))).expect("a recording");
        let (head, rest) = text.split_once("--- stdout\n").expect("stdout");
        let (stdout, stderr) = rest.split_once("--- stderr\n").expect("stderr");
        let exit = head
            .lines()
            .find_map(|line| line.strip_prefix("# exit: "))
            .expect("exit");
        let exit = exit
            .split_whitespace()
            .next()
            .expect("a number")
            .parse()
            .expect("a number");
        (exit, stdout.to_owned(), stderr.to_owned())
    }

    #[test]
    fn recorded_results_are_told_apart() {
        let inhibitors = Stc::Refused {
            checks: vec!["switchInhibitors".into()],
        };
        let table = [
            ("00-not-nixos", Stc::NotNixos),
            ("01-usage", Stc::NotStarted),
            ("02-not-root", Stc::NotStarted),
            ("03-no-current-system-exit100", Stc::RebootNeeded),
            ("05-test-noop", Stc::Done),
            ("06-dry-activate-noop", Stc::Done),
            ("12-boot", Stc::Done),
            (
                "13-test-unit-failed-exit4",
                Stc::Units {
                    failed: vec!["broken.service".into()],
                },
            ),
            ("17-test-crashloop", Stc::Done),
            (
                "21-activation-script-failed-exit2",
                Stc::Script {
                    snippets: vec!["users".into()],
                },
            ),
            ("22-lock-held-exit11", Stc::LockBusy),
            ("23-lock-held-dry-activate", Stc::LockBusy),
            ("24-preswitch-failed-exit1", inhibitors.clone()),
            ("25-preswitch-failed-check", inhibitors.clone()),
            ("26-preswitch-failed-dry-activate", inhibitors),
            ("28-bootloader-failed-switch-exit1", Stc::BootLoader),
            ("29-bootloader-failed-boot-exit1", Stc::BootLoader),
            ("33-init-interface-changed-exit100", Stc::RebootNeeded),
            ("34-init-interface-changed-dry-activate", Stc::RebootNeeded),
            ("37-raw-binary-without-env", Stc::NotStarted),
            ("38-killed-mid-switch", Stc::Killed { signal: 9 }),
        ];
        for (name, expected) in table {
            let (exit, stdout, stderr) = recording(name);
            assert_eq!(Stc::classify(exit, &stdout, &stderr, false), expected, "{name}");
        }
    }

    #[test]
    fn units_that_were_refused_count_as_failed() {
        let cycle = "starting the following units: app.service\nFailed to start app.service\n";
        let failed = |stderr: &str| match Stc::classify(4, "", stderr, false) {
            Stc::Units { failed } => failed,
            other => panic!("{other:?}"),
        };
        assert_eq!(failed(cycle), ["app.service"]);
        let both = format!(
            "{cycle}Failed to restart b.service: Access denied\nwarning: the following units failed: app.service\n"
        );
        assert_eq!(failed(&both), ["app.service", "b.service"]);
        assert_eq!(
            failed("Failed to run activate script\nFailed to start transient service unit: x\n"),
            [""; 0]
        );
    }

    #[test]
    fn only_what_may_have_changed_the_host_needs_taking_back() {
        let classify = |status| Stc::classify(status, "", "", false);
        for status in [0, 2, 4, 101, 137, 143, 3] {
            assert!(classify(status).touched(), "{status}");
        }
        for status in [1, 11, 100] {
            assert!(!classify(status).touched(), "{status}");
        }
        assert_eq!(Stc::classify(0, "", "", true), Stc::TimedOut);
        assert!(Stc::TimedOut.touched());
    }
}
