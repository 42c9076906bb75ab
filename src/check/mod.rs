//! Probes shared by preflight, validation and health: what to run on a target for `[[check]]` entries and services,
//! and how to read the answers. Pure: scripts and answers are text.

mod set;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::Probe;
use crate::event::{CheckLine, Verdict};

pub use set::{CheckSet, OfCommit};

/// Files of the commit that `run` checks need, by the path that the check names.
pub type Files = BTreeMap<String, Vec<u8>>;

/// One probe's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub name: String,
    pub verdict: Verdict,
    pub detail: String,
}

impl Answer {
    /// The line that shows it, outside any count.
    pub fn line(&self) -> CheckLine {
        CheckLine {
            number: 0,
            of: 0,
            name: self.name.clone(),
            verdict: self.verdict,
            detail: self.detail.clone(),
        }
    }
}

/// Shell functions for the probes; POSIX sh, needs `systemctl` and coreutils on PATH, `curl` for `http`.
const PRELUDE: &str = include_str!("probe.sh");

/// Whether only the target can answer it.
fn only_there(probe: &Probe) -> bool {
    matches!(probe, Probe::Unit(_) | Probe::Secrets)
}

/// A script that makes every check of the target and prints an answer line for each. `bound`: what all of them together
/// may take.
///
/// An argument that sh cannot take (a NUL byte) makes the check fail rather than the script.
pub fn script(services: &[String], set: &CheckSet, bound: Duration) -> String {
    let seconds = bound.as_secs().max(1);
    let mut text = format!("{PRELUDE}\nng_until=$(($(date +%s) + {seconds}))\n");
    for (i, service) in services.iter().enumerate() {
        text.push_str(&format!("probe_service s{i} {}\n", quote(service)));
    }
    for (i, check) in set.on_target() {
        let seconds = check.timeout.as_secs();
        let call = match &check.probe {
            Probe::Unit(unit) => format!("probe_unit c{i} {}", quote(unit)),
            Probe::Secrets => format!("probe_secrets c{i}"),
            Probe::Http(url) => format!("probe_http c{i} {seconds} {}", quote(url)),
            Probe::Run(argv) => {
                let words: Vec<String> = argv.iter().map(|word| quote(word)).collect();
                match set.file(argv) {
                    Some(content) => {
                        let body = quote(&String::from_utf8_lossy(content));
                        format!("probe_file c{i} {seconds} {body} {}", words[1..].join(" "))
                    }
                    None => format!("probe_run c{i} {seconds} {}", words.join(" ")),
                }
            }
            Probe::Resolve(_) | Probe::Ping(_) => {
                let words: Vec<String> = check
                    .probe
                    .argv()
                    .iter()
                    .flatten()
                    .map(|word| quote(word))
                    .collect();
                format!("probe_run c{i} {seconds} {}", words.join(" "))
            }
        };
        text.push_str(call.trim_end());
        text.push('\n');
    }
    text
}

/// One word for sh. A NUL cannot travel; what holds one becomes a word that no program has.
fn quote(word: &str) -> String {
    shlex::try_quote(word).map_or_else(|_| "'\u{fffd}'".to_owned(), std::borrow::Cow::into_owned)
}

/// What a file's first line says runs it, and its one argument, as execve(2) reads it; sh where there is no such line. For a
/// folder from which nothing may be started.
pub fn interpreter(content: &[u8]) -> Vec<String> {
    let first = content.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = first.strip_prefix(b"#!").map(String::from_utf8_lossy);
    let blank = |c: char| matches!(c, ' ' | '\t');
    let line = line.as_deref().unwrap_or_default().trim_matches(blank);
    match line.split_once(blank) {
        Some((program, argument)) => vec![program.to_owned(), argument.trim_start_matches(blank).to_owned()],
        None if line.is_empty() => vec!["sh".to_owned()],
        None => vec![line.to_owned()],
    }
}

/// Reads the answers of [`script`]: one for every service and check, in their order. A probe without an answer has
/// failed: silence is not health.
pub fn answers(output: &str, services: &[String], set: &CheckSet) -> Vec<Answer> {
    let found: BTreeMap<&str, (&str, &str)> = output
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(4, '\t');
            (fields.next()? == "probe").then_some(())?;
            Some((fields.next()?, (fields.next()?, fields.next().unwrap_or(""))))
        })
        .collect();
    let answer = |key: String, name: String| {
        let (verdict, detail) = match found.get(key.as_str()) {
            Some(("ok", detail)) => (Verdict::Passed, (*detail).to_owned()),
            Some(("skip", detail)) => (Verdict::Skipped, (*detail).to_owned()),
            Some((_, detail)) => (Verdict::Failed, (*detail).to_owned()),
            None => (Verdict::Failed, "no answer".to_owned()),
        };
        Answer {
            name,
            verdict,
            detail,
        }
    };
    let services = services
        .iter()
        .enumerate()
        .map(|(i, service)| answer(format!("s{i}"), service.clone()));
    let checks = set
        .on_target()
        .map(|(i, check)| answer(format!("c{i}"), check.name()));
    services.chain(checks).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::config::{Check, From};

    fn set(checks: &[Check], files: &Files) -> CheckSet {
        CheckSet {
            checks: checks.to_vec(),
            files: files.clone(),
        }
    }

    fn check(probe: Probe, seconds: u64) -> Check {
        Check {
            probe,
            from: From::Target,
            timeout: Duration::from_secs(seconds),
            before: 0,
        }
    }

    fn run(words: &[&str], seconds: u64) -> Check {
        check(
            Probe::Run(words.iter().map(ToString::to_string).collect()),
            seconds,
        )
    }

    /// Runs the script under a real sh and reads its answers.
    fn really(shell: &str, checks: &[Check], files: &Files) -> Vec<Answer> {
        let set = set(checks, files);
        let script = script(&[], &set, Duration::from_secs(60));
        let output = Command::new(shell)
            .arg("-c")
            .arg(&script)
            .stdin(Stdio::null())
            .output()
            .expect("sh runs");
        answers(&String::from_utf8_lossy(&output.stdout), &[], &set)
    }

    #[test]
    fn s4_23_a_command_check_passes_fails_and_times_out() {
        let files = Files::from([
            (
                "scripts/ok.sh".to_owned(),
                b"#!/bin/sh\necho \"fine $1\"\n".to_vec(),
            ),
            (
                "scripts/bad.sh".to_owned(),
                b"#!/bin/sh\necho broken >&2; exit 3\n".to_vec(),
            ),
        ]);
        let checks = [
            run(&["true"], 5),
            run(&["sh", "-c", "echo it\\'s \"bad\"; exit 7"], 5),
            run(&["tail", "-f", "/dev/null"], 1),
            run(&["scripts/ok.sh", "a 'b' $c"], 5),
            run(&["scripts/bad.sh"], 5),
            run(&["no-such-program-here"], 5),
        ];
        for shell in ["dash", "bash"] {
            let answers = really(shell, &checks, &files);
            let verdicts: Vec<Verdict> = answers.iter().map(|a| a.verdict).collect();
            use Verdict::{Failed, Passed};
            assert_eq!(
                verdicts,
                [Passed, Failed, Failed, Passed, Failed, Failed],
                "{shell}: {answers:?}"
            );
            assert_eq!(answers[1].detail, "exit 7: it's bad");
            assert_eq!(answers[2].detail, "no answer in 1 s");
            assert_eq!(answers[3].detail, "fine a 'b' $c");
            assert_eq!(answers[4].detail, "exit 3: broken");
            assert!(answers[5].detail.starts_with("exit 127"), "{:?}", answers[5]);
        }
    }

    /// A folder from which nothing may be started stands in for one mounted noexec: access(2) says the same of both.
    #[test]
    fn h10_a_check_is_run_by_its_own_first_line_where_nothing_may_be_started() {
        let sh = Command::new("sh")
            .args(["-c", "command -v sed"])
            .output()
            .expect("sh runs");
        let sed = String::from_utf8_lossy(&sh.stdout).trim().to_owned();
        for shell in ["dash", "bash"] {
            for (content, runs) in [
                (format!("#!{sed} -n\n1p\n"), format!("{sed}|-n")),
                (format!("#! \t{sed}  -n p \nx\n"), format!("{sed}|-n p")),
                (format!("#!{sed}\n"), sed.clone()),
                ("echo no line\n".to_owned(), "sh".to_owned()),
                ("#!\n".to_owned(), "sh".to_owned()),
                (String::new(), "sh".to_owned()),
            ] {
                let script = format!(
                    "{PRELUDE}\nprintf '%s' \"$1\" >\"$2\"; read_shebang \"$2\"; \
                     printf '%s%s' \"$interpreter\" \"${{argument:+|$argument}}\""
                );
                let file = tempfile::NamedTempFile::new().expect("a file");
                let output = Command::new(shell)
                    .args(["-c", &script, "sh", &content])
                    .arg(file.path())
                    .output()
                    .expect("a shell runs");
                assert_eq!(
                    String::from_utf8_lossy(&output.stdout),
                    runs,
                    "{shell}: {content:?}"
                );
                assert_eq!(interpreter(content.as_bytes()).join("|"), runs, "{content:?}");
            }
        }
    }

    #[test]
    fn s4_22_a_name_that_resolves_and_one_that_does_not() {
        let checks = ["localhost", "no-such-host.invalid"].map(|name| check(Probe::Resolve(name.into()), 20));
        for shell in ["dash", "bash"] {
            let answers = really(shell, &checks, &Files::new());
            assert_eq!(answers[0].verdict, Verdict::Passed, "{answers:?}");
            assert_eq!(answers[1].verdict, Verdict::Failed, "{answers:?}");
            assert_eq!(answers[1].name, "resolve no-such-host.invalid");
        }
    }

    #[test]
    fn s4_25_no_check_outlives_the_bound_of_all() {
        let checks = [run(&["sleep", "100"], 60)];
        let checks = set(&checks, &Files::new());
        let script = script(&[], &checks, Duration::from_secs(1));
        let output = Command::new("sh")
            .arg("-c")
            .arg(&script)
            .output()
            .expect("sh runs");
        let answers = answers(&String::from_utf8_lossy(&output.stdout), &[], &checks);
        assert_eq!(answers[0].detail, "no answer in 1 s");
    }

    #[test]
    fn silence_is_not_health() {
        let checks = [check(Probe::Unit("a.service".into()), 5)];
        let checks = set(&checks, &Files::new());
        let answers = answers("garbage\nprobe\tc7\tok\n", &["sshd".into()], &checks);
        assert!(
            answers
                .iter()
                .all(|a| a.verdict == Verdict::Failed && a.detail == "no answer"),
            "{answers:?}"
        );
    }

    #[test]
    fn a_check_from_the_operator_is_not_sent_to_the_target() {
        let mut here = check(Probe::Http("http://x/".into()), 5);
        here.from = From::Operator;
        let checks = set(&[here, run(&["true"], 5)], &Files::new());
        assert!(!script(&[], &checks, Duration::from_secs(60)).contains("http://x/"));
        assert_eq!(checks.on_operator().count(), 1);
        assert_eq!(
            answers("probe\tc1\tok\t\n", &[], &checks)[0].verdict,
            Verdict::Passed
        );
    }
}
