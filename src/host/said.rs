//! What systemd says of a unit that ended, and what its programs say when they did not do what was asked.

use crate::failure::{Reason, Weight};

/// `Result=` of a unit (systemd.service(5), `$SERVICE_RESULT`); of what ended it, not of what it was for.
const RESULTS: &[(&str, Weight, Reason)] = &[
    ("success", Weight::Expected, Reason::Unit),
    // A condition that does not hold is how a unit says that it has nothing to do here.
    ("exec-condition", Weight::Expected, Reason::Unit),
    ("oom-kill", Weight::Failed, Reason::Oom),
    ("timeout", Weight::Failed, Reason::Timeout),
    ("watchdog", Weight::Failed, Reason::Timeout),
    ("resources", Weight::Failed, Reason::Unit),
    ("protocol", Weight::Failed, Reason::Unit),
    ("exit-code", Weight::Failed, Reason::Unit),
    ("signal", Weight::Failed, Reason::Unit),
    ("core-dump", Weight::Failed, Reason::Unit),
    ("start-limit-hit", Weight::Failed, Reason::Unit),
];

/// What `systemctl` and `systemd-run` print, in the order in which it is looked for.
const WORDS: &[(&str, Weight, Reason)] = &[
    (
        "changed on disk. Run 'systemctl daemon-reload'",
        Weight::Expected,
        Reason::Unit,
    ),
    // The answer to a reboot that was asked for.
    (
        "Transport endpoint is not connected",
        Weight::Expected,
        Reason::Reboot,
    ),
    (
        "Connection to the bus can't be made",
        Weight::Passing,
        Reason::Unit,
    ),
    ("Failed to connect to bus", Weight::Passing, Reason::Unit),
    (
        "Failed to connect to system scope bus",
        Weight::Passing,
        Reason::Unit,
    ),
    ("Connection timed out", Weight::Passing, Reason::Timeout),
    ("transaction is destructive", Weight::Passing, Reason::Unit),
    (
        "was already loaded or has a fragment file",
        Weight::Failed,
        Reason::Busy,
    ),
    ("No space left on device", Weight::Failed, Reason::Disk),
    ("Access denied", Weight::Failed, Reason::Auth),
    (
        "Interactive authentication required",
        Weight::Failed,
        Reason::Auth,
    ),
];

/// What a unit's `Result=` is worth. An unknown word is a failure of the unit.
pub fn unit_result(word: &str) -> (Weight, Reason) {
    RESULTS
        .iter()
        .find(|(result, ..)| *result == word)
        .map_or((Weight::Failed, Reason::Unit), |(_, weight, reason)| {
            (*weight, *reason)
        })
}

/// What a message of `systemctl` or `systemd-run` is worth. An unknown one is a failure of the unit.
pub fn systemd(text: &str) -> (Weight, Reason) {
    WORDS
        .iter()
        .find(|(words, ..)| text.contains(words))
        .map_or((Weight::Failed, Reason::Unit), |(_, weight, reason)| {
            (*weight, *reason)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(name: &str) -> String {
        let file = format!("{}/tests/data/stc-output/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(file).expect("a recording")
    }

    #[test]
    fn s3_38_s3_12_a_unit_that_ended_as_it_should_is_no_failure() {
        let shown = recorded("14-systemctl-after-failure");
        let result = shown.lines().find_map(|line| line.strip_prefix("Result="));
        assert_eq!(
            unit_result(result.unwrap_or_default()),
            (Weight::Failed, Reason::Unit)
        );
        assert_eq!(unit_result("success").0, Weight::Expected);
        assert_eq!(unit_result("exec-condition").0, Weight::Expected);
        assert_eq!(unit_result("oom-kill"), (Weight::Failed, Reason::Oom));
        assert_eq!(unit_result("timeout"), (Weight::Failed, Reason::Timeout));
        assert_eq!(unit_result("a word of next year"), (Weight::Failed, Reason::Unit));
        assert_eq!(unit_result(""), (Weight::Failed, Reason::Unit));
    }

    #[test]
    fn s3_38_what_systemctl_says_in_passing_is_told_apart() {
        assert_eq!(
            systemd(&recorded("41-systemd-run-unit-busy")),
            (Weight::Failed, Reason::Busy)
        );
        let table = [
            (
                "Warning: The unit file, source configuration file or drop-ins of app.service changed on disk. Run \
                 'systemctl daemon-reload' to reload units.",
                Weight::Expected,
                Reason::Unit,
            ),
            (
                "Failed to connect to bus: No such file or directory",
                Weight::Passing,
                Reason::Unit,
            ),
            (
                "Failed to restart app.service: Interactive authentication required.",
                Weight::Failed,
                Reason::Auth,
            ),
            (
                "Job for app.service failed because the control process exited with error code.",
                Weight::Failed,
                Reason::Unit,
            ),
        ];
        for (text, weight, reason) in table {
            assert_eq!(systemd(text), (weight, reason), "{text}");
        }
    }
}
