//! A whole run as its reader sees it: lines, plain and on a terminal, and JSON.

use git_nixgate::event::{CheckLine, Event, Gate, Verdict};
use git_nixgate::failure::{Exit, Failure, Reason};
use git_nixgate::ui::{Style, screen as draw};

use super::{failed_in, screen};

fn begin(gate: Gate) -> Event {
    Event::GateStarted { gate }
}

fn done(gate: Gate, millis: u64, detail: &str) -> Event {
    Event::GateFinished {
        gate,
        verdict: Verdict::Passed,
        millis,
        detail: detail.into(),
    }
}

fn check(number: usize, of: usize, name: &str, verdict: Verdict, detail: &str) -> Event {
    Event::Check(CheckLine {
        number,
        of,
        name: name.into(),
        verdict,
        detail: detail.into(),
    })
}

fn finding(gate: Gate, text: &str) -> Event {
    Event::Finding {
        gate,
        text: text.into(),
    }
}

const PASSED: Verdict = Verdict::Passed;

fn release() -> Vec<Event> {
    use Gate::*;
    let six = [
        ("Network reachability", "ssh port in 11 ms, no answer to ping"),
        ("SSH connectivity", "jarvis, root by sudo"),
        ("NixOS system check", ""),
        ("Disk space", "67% used"),
        ("Critical services", ""),
        ("System load", "load: 0.45"),
    ];
    let five = [
        ("SSH connectivity", "fresh connection"),
        ("System state", "running"),
        ("Critical services", ""),
        (
            "Boot generation",
            "runs the candidate; boots generation 141 until the commit",
        ),
        ("Failed units", ""),
    ];
    let mut events = vec![
        Event::RunStarted {
            run: "20261120T031402Z-7b8e98".into(),
            target: "cortex".into(),
            verb: "release".into(),
            commit: "0123456789abcdef0123456789abcdef01234567".into(),
        },
        Event::Note {
            text: "1 untracked file is not part of the commit: notes.md".into(),
        },
        begin(Preflight),
    ];
    events.extend(
        (1..)
            .zip(six)
            .map(|(n, (name, detail))| check(n, 6, name, PASSED, detail)),
    );
    events.extend([
        Event::Warning {
            text: "nixos-upgrade.timer fires in 58 s, within this run".into(),
        },
        done(Preflight, 640, ""),
        begin(Build),
        done(
            Build,
            83_400,
            "/nix/store/15s6a2s10379mxjz3srs6cimw7d4qrn0-nixos-system-cortex-26.05.20261102",
        ),
        begin(Diff),
        finding(Diff, "input nixpkgs 0c19708cf035 → 8a21df4e21c3"),
        finding(Diff, "  ↑ nginx 1.26.1 → 1.26.2 (8 paths)"),
        finding(Diff, "risk: MEDIUM (nginx.service)"),
        finding(Diff, "explained: all of 8 changed paths"),
        finding(Diff, "↑ nginx 1.26.1 → 1.26.2 (+4 KiB), selected"),
        done(
            Diff,
            90,
            "1 upgraded, 3 rebuilt; 2700 → 2700 paths (+4 KiB), 4 of them new",
        ),
        begin(Copy),
        done(Copy, 12_345, "from the builder"),
        begin(DryActivate),
        finding(DryActivate, "would restart: nginx.service"),
        finding(DryActivate, "risky: sshd.service (the way in)"),
        done(DryActivate, 110, "1 unit changes"),
        begin(SwitchTest),
        done(SwitchTest, 1_600, ""),
        begin(Validate),
    ]);
    events.extend(
        (1..)
            .zip(five)
            .map(|(n, (name, detail))| check(n, 5, name, PASSED, detail)),
    );
    events.extend([
        check(0, 0, "http http://localhost:9090/-/healthy", PASSED, "200"),
        done(Validate, 65_100, ""),
        begin(Commit),
        Event::Generation {
            target: "cortex".into(),
            before: Some(141),
            after: 142,
        },
        done(Commit, 400, ""),
        begin(KnownGood),
        Event::Recorded {
            target: "cortex".into(),
            record: "release/cortex/20261120T031542Z-0123456789ab".into(),
            commit: "0123456789abcdef0123456789abcdef01234567".into(),
            published: true,
        },
        done(KnownGood, 300, ""),
    ]);
    events
}

/// The end of a run that was taken back.
fn taken_back() -> (Vec<Event>, Failure) {
    let events = vec![
        begin(Gate::Validate),
        check(1, 5, "SSH connectivity", Verdict::Failed, "timeout"),
        check(2, 5, "System state", Verdict::Skipped, "no connection"),
        Event::Note {
            text: "cortex goes back by itself within 30 s of silence and the time a switch takes; waiting for it"
                .into(),
        },
        Event::Note {
            text: "cortex is back on /nix/store/j6xxiffrc2psfsp6rd8yvc3khz0qinwk-nixos-system-cortex-26.05.20261101"
                .into(),
        },
        Event::GateFinished {
            gate: Gate::Validate,
            verdict: Verdict::Failed,
            millis: 41_000,
            detail: String::new(),
        },
    ];
    let failure = Failure::new(
        Exit::Reverted,
        Reason::Link,
        "cortex runs the candidate and lets nobody in: timeout",
    )
    .why("ssh: connect to host cortex port 22: Connection timed out")
    .why("the lease ended in silence")
    .why("cortex is back on what ran before, and that was checked")
    .next("see what the candidate changes that cuts cortex off: `risky` under dry-activate, and the diff");
    (events, failure)
}

#[test]
fn a_release_from_its_first_line_to_its_record() {
    screen("release-plain", &draw::run(&release(), Style::Plain));
    screen("release-terminal", &draw::run(&release(), Style::Terminal));
}

#[test]
fn a_release_that_cuts_its_host_off() {
    let (events, failure) = taken_back();
    screen(
        "taken-back-plain",
        &format!(
            "{}{}",
            draw::run(&events, Style::Plain),
            failed_in(&failure, Style::Plain)
        ),
    );
    screen(
        "taken-back-terminal",
        &format!(
            "{}{}",
            draw::run(&events, Style::Terminal),
            draw::failure(&failure, Style::Terminal)
        ),
    );
}

#[test]
fn the_same_as_json_with_a_failure_and_a_result() {
    let (_, failure) = taken_back();
    let mut text: String = release()
        .iter()
        .map(|event| {
            let value = serde_json::to_value(event).unwrap();
            format!("{}\n", git_nixgate::ui::json_line("event", value))
        })
        .collect();
    let result = serde_json::json!({
        "exit": 0, "target": "cortex", "outcome": "released", "published": true,
        "record": "release/cortex/20261120T031542Z-0123456789ab",
    });
    text.push_str(&format!("{}\n", git_nixgate::ui::json_line("result", result)));
    text.push_str("\n## a run that failed ends with\n");
    text.push_str(&format!("{}\n", git_nixgate::ui::failure_line(&failure)));
    screen("json", &text);
}
