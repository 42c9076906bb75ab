//! What is said of a host: preflight, validation, the connection, sudo, the lock, the way back by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use git_nixgate::check::Answer;
use git_nixgate::config::Preflight;
use git_nixgate::event::{Event, Gate, Verdict};
use git_nixgate::gate::commit::by_hand;
use git_nixgate::gate::health::{self, Baseline, Health, Look, Stage};
use git_nixgate::gate::preflight::{self, Found, Report, Rules};
use git_nixgate::host::facts::Login;
use git_nixgate::host::probe::Icmp;
use git_nixgate::host::state::State;
use git_nixgate::host::supervisor::{HoldError, SupervisorError};
use git_nixgate::host::system::System;
use git_nixgate::host::{ConnectClass, ConnectError, Facts, Greeting, HostError, Probe, SudoError};
use git_nixgate::ui::{Style, screen as draw};

use super::{failed_in, failures, in_both, screen};

const A: &str = "/nix/store/j6xxiffrc2psfsp6rd8yvc3khz0qinwk-nixos-system-cortex-26.05.20261101";
const B: &str = "/nix/store/15s6a2s10379mxjz3srs6cimw7d4qrn0-nixos-system-cortex-26.05.20261102";

/// A host in good order that runs `system`; `more` is appended, and the first line on a thing counts.
fn facts(system: &str, first: &str, more: &str) -> Facts {
    Facts::parse(&format!(
        "{first}\nuser=jarvis\nuid=0\nnixos_marker=1\nos_id=nixos\nrunning={system}\nbooted={A}\nprofile={system}\n\
         generation=142\nboot_default={system}\nboot_loader=systemd-boot\nstate=running\nunits_read=1\n\
         disk=/ / 1000000 670000 330000 65536 1000 64536\ndisk=/boot /boot 500000 100000 400000 0 0 0\n\
         MemTotal=8000000\nMemAvailable=4000000\nload1=0.45\ncpus=4\ntop=90000 812 appd\ncomplete=1\n{more}\n"
    ))
}

fn sshd(verdict: Verdict, detail: &str) -> Vec<Answer> {
    vec![Answer {
        name: "sshd".into(),
        verdict,
        detail: detail.into(),
    }]
}

fn limits() -> Preflight {
    Preflight {
        disk_percent: 90,
        boot_free: 200 << 20,
        store_free: 0,
        memory_free: 256 << 20,
        memory_pressure: 40.0,
        load_per_core: 0.0,
        usage_factor: 4.0,
        services: vec!["sshd".into()],
    }
}

const THERE: Probe = Probe::Passed {
    millis: 11,
    probes: 1,
    icmp: Icmp::Answered,
};

fn judged(facts: &Facts, services: &[Answer], advisory: bool) -> Report {
    judged_for(&Login::parse("user=jarvis\n"), facts, services, advisory)
}

fn judged_for(login: &Login, facts: &Facts, services: &[Answer], advisory: bool) -> Report {
    let found = Found {
        target: "cortex",
        login,
        greeting: &Greeting::default(),
        signer: Some(&("forge".to_owned(), false)),
        probe: &THERE,
        connect: Ok(()),
        facts: Some(facts),
        sudo: None,
        services,
        checks: &[],
    };
    let limits = limits();
    let rules = Rules {
        limits: &limits,
        advisory,
        accept_drift: advisory,
        copies: true,
        horizon: 900,
        specialisation: "",
        boot: false,
        gc: false,
    };
    preflight::judge(&found, &rules)
}

/// The gate as it is shown, then its failure.
fn preflight_screen(report: Report, style: Style) -> String {
    let mut events = vec![Event::GateStarted {
        gate: Gate::Preflight,
    }];
    events.extend(report.lines.iter().cloned().map(Event::Check));
    events.extend(
        report
            .warnings
            .iter()
            .cloned()
            .map(|text| Event::Warning { text }),
    );
    let text = draw::run(&events, style);
    match report.failure("cortex") {
        None => text,
        Some(failure) => format!("{text}{}", failed_in(&failure, style)),
    }
}

#[test]
fn s0_9_preflight_of_a_host_in_good_order() {
    let facts = facts(A, "", "");
    for (name, style) in [
        ("preflight-good-plain", Style::Plain),
        ("preflight-good-terminal", Style::Terminal),
    ] {
        let report = judged(&facts, &sshd(Verdict::Passed, ""), false);
        screen(name, &preflight_screen(report, style));
    }
}

#[test]
fn s0_8_preflight_says_everything_that_is_wrong_together() {
    let bad = facts(
        A,
        "disk=/ / 1000000 930000 70000 65536 1000 64536\nMemAvailable=100000",
        "",
    );
    for (name, style) in [
        ("preflight-three-plain", Style::Plain),
        ("preflight-three-terminal", Style::Terminal),
    ] {
        let report = judged(&bad, &sshd(Verdict::Failed, "sshd.service is failed"), false);
        screen(name, &preflight_screen(report, style));
    }
}

/// What the ssh user says of itself, among a case's lines.
fn login(first: &str, more: &str) -> Login {
    Login::parse(&format!("{first}\n{more}\nuser=jarvis\n"))
}

#[test]
fn preflight_of_hosts_that_are_not_fit() {
    let passed = sshd(Verdict::Passed, "");
    let cases = [
        (
            "busy",
            "",
            "holder_run=20261120T031200Z-abc123\nholder_target=cortex\nholder_who=Ann <ann@example.org>\n\
             holder_commit=0123456789abcdef0123456789abcdef01234567\nholder_since=1795144442",
        ),
        ("switched by somebody else", "", "switching=nixos-upgrade.service"),
        ("drift", &*format!("boot_default={B}"), ""),
        ("no NixOS", "nixos_marker=\nos_id=debian", ""),
        ("an untrusted user", "user=guest", "nix_store={\"trusted\":0}"),
        ("a full /boot", "disk=/boot /boot 300000 200000 100000 0 0 0", ""),
        ("tools missing", "", "missing_tool=flock"),
        ("an upgrade is near", "now=1795144442", "upgrade_at=1795144500"),
    ];
    in_both("preflight-unfit", |style| {
        cases.map(|(name, first, more)| {
            let facts = match name {
                "no NixOS" => Facts {
                    nixos_marker: false,
                    os_id: "debian".into(),
                    ..facts(A, "", "")
                },
                _ => facts(A, first, more),
            };
            (
                name,
                preflight_screen(judged_for(&login(first, more), &facts, &passed, false), style),
            )
        })
    });
    // A rollback goes to a sick host: what is wrong there is said, and does not stop it.
    let sick = judged(
        &facts(A, "", ""),
        &sshd(Verdict::Failed, "sshd.service is failed"),
        true,
    );
    screen("preflight-rollback", &preflight_screen(sick, Style::Plain));
}

fn health_screen(health: &Health, style: Style) -> String {
    let mut events = vec![Event::GateStarted { gate: Gate::Validate }];
    events.extend(health.lines.iter().cloned().map(Event::Check));
    events.extend(
        health
            .warnings
            .iter()
            .cloned()
            .map(|text| Event::Warning { text }),
    );
    let text = draw::run(&events, style);
    match health.failure("cortex") {
        None => text,
        Some(failure) => format!("{text}{}", failed_in(&failure, style)),
    }
}

#[test]
fn s0_9_validation_good_and_bad() {
    let none = Baseline::default();
    let timeout = ConnectError::new(
        ConnectClass::Timeout,
        vec!["ssh: connect to host cortex port 22: Connection timed out".into()],
    );
    let good = facts(B, &format!("profile={A}\nboot_default={A}\ngeneration=141"), "");
    let failing = facts(
        B,
        &format!("state=degraded\nprofile={A}\nboot_default={A}"),
        "failed=app.service\nrestarts=7 worker.service",
    );
    let down = sshd(Verdict::Failed, "nginx.service is failed");
    let up = sshd(Verdict::Passed, "");
    let check = vec![Answer {
        name: "http http://localhost:9090/-/healthy".into(),
        verdict: Verdict::Failed,
        detail: "HTTP 503".into(),
    }];
    let wanted = System::plain(B);
    let look = |facts, services, checks| Look {
        target: "cortex",
        system: &wanted,
        stage: Stage::Switched,
        fresh: Ok("fresh connection"),
        facts: Some(facts),
        services,
        checks,
        baseline: &none,
        first: None,
    };
    let first = BTreeMap::from([("worker.service".to_owned(), 2)]);
    let passed = health::judge(&look(&good, &up, &[]));
    screen("validate-good-plain", &health_screen(&passed, Style::Plain));
    screen("validate-good-terminal", &health_screen(&passed, Style::Terminal));
    let elsewhere = facts(A, "", "");
    let one = health::judge(&look(&elsewhere, &up, &[]));
    let failed_check = health::judge(&look(&good, &up, &check));
    let all = health::judge(&Look {
        first: Some(&first),
        ..look(&failing, &down, &check)
    });
    let cut = health::judge(&Look {
        fresh: Err(&timeout),
        facts: None,
        ..look(&good, &up, &[])
    });
    in_both("validate-bad", |style| {
        [
            ("nobody gets in", health_screen(&cut, style)),
            ("another system runs", health_screen(&one, style)),
            ("a check fails", health_screen(&failed_check, style)),
            ("units, services and checks fail", health_screen(&all, style)),
        ]
    });
}

#[test]
fn s0_3_every_way_of_not_getting_in() {
    use ConnectClass::*;
    let lines = |line: &str| vec![line.to_owned()];
    let table = [
        (Refused, "ssh: connect to host cortex port 22: Connection refused"),
        (
            Timeout,
            "ssh: connect to host cortex port 22: Connection timed out",
        ),
        (
            Unresolved,
            "ssh: Could not resolve hostname cortex: Name or service not known",
        ),
        (NoRoute, "ssh: connect to host cortex port 22: No route to host"),
        (Auth, "jarvis@cortex: Permission denied (publickey)."),
        (HostKeyUnknown, "Host key verification failed."),
        (
            HostKeyChanged,
            "Host key for cortex has changed and you have requested strict checking.",
        ),
        (NoLogin, "This account is currently not available."),
        (Hang, ""),
        (
            Other,
            "kex_exchange_identification: Connection closed by remote host",
        ),
    ];
    in_both("connect", |style| {
        table.map(|(class, line)| {
            let said = if line.is_empty() { Vec::new() } else { lines(line) };
            let failure = ConnectError::new(class, said).failure("cortex");
            (preflight::connect_word(class), failed_in(&failure, style))
        })
    });
}

#[test]
fn s2_5_every_way_of_not_being_root_and_of_losing_a_host() {
    let user = || "jarvis".to_owned();
    let lines = |line: &str| vec![line.to_owned()];
    let all = [
        HostError::Sudo(SudoError::NeedsPassword { user: user() }),
        HostError::Sudo(SudoError::WrongPassword { user: user() }),
        HostError::Sudo(SudoError::NotAllowed {
            user: user(),
            lines: lines("jarvis is not in the sudoers file."),
        }),
        HostError::Sudo(SudoError::Missing {
            user: user(),
            lines: lines("sudo: not found"),
        }),
        HostError::Sudo(SudoError::Other {
            user: user(),
            lines: lines("sudo: unable to allocate pty"),
        }),
        HostError::Lost {
            lines: lines("client_loop: send disconnect: Broken pipe"),
        },
        HostError::Timeout {
            after: Duration::from_secs(30),
            killed: true,
            stdout: Vec::new(),
            stderr: "waiting for a lock\n".into(),
        },
        HostError::Timeout {
            after: Duration::from_millis(1500),
            killed: false,
            stdout: Vec::new(),
            stderr: String::new(),
        },
        HostError::Failed {
            lines: lines("ln: failed to create symbolic link: No space left on device"),
        },
        HostError::Unsendable("a NUL byte"),
        HostError::Spawn("sh: No such file or directory".into()),
    ];
    for (name, style) in [
        ("host-errors", Style::Plain),
        ("host-errors-terminal", Style::Terminal),
    ] {
        let text: String = all
            .iter()
            .map(|error| format!("{}\n", failed_in(&error.failure("cortex"), style)))
            .collect();
        screen(name, &text);
    }
}

fn state(phase: &str, more: &str) -> Box<State> {
    let text =
        format!("state={phase}\nrun=r1\ntarget=cortex\ncandidate={B}\nprevious={A}\nrunning={A}\n{more}\n");
    Box::new(State::parse(&text).unwrap())
}

#[test]
fn what_the_lock_and_the_supervisor_say() {
    let holder = facts(
        A,
        "",
        "holder_run=20261120T031200Z-abc123\nholder_target=cortex\nholder_who=Ann <ann@example.org>\n\
         holder_commit=0123456789abcdef0123456789abcdef01234567\nholder_since=1795144442",
    )
    .holder;
    let hold = |error: HoldError| error.failure("cortex");
    let told = |error: SupervisorError| error.failure("cortex");
    failures(
        "supervisor",
        &[
            ("held, and it is known by whom", hold(HoldError::Busy(holder))),
            ("held", hold(HoldError::Busy(None))),
            (
                "changed since preflight",
                hold(HoldError::Changed {
                    now: state("released", ""),
                    what: vec![
                        format!("running was {A}, is {B}"),
                        format!("boot default was {A}, is not verifiable"),
                    ],
                }),
            ),
            (
                "nothing can be left there",
                hold(HoldError::Unwritable {
                    place: "/var/lib/nixgate/cortex".into(),
                    why: "Read-only file system".into(),
                }),
            ),
            (
                "did not start",
                hold(HoldError::Failed(vec!["Failed to start transient unit".into()])),
            ),
            ("its state is gone", told(SupervisorError::Gone)),
            (
                "it says no",
                told(SupervisorError::Refused {
                    why: "refused: the profile is /nix/store/x and was /nix/store/y".into(),
                    state: state("waiting", ""),
                }),
            ),
            (
                "too late",
                told(SupervisorError::Refused {
                    why: "busy: reverting".into(),
                    state: state("reverting", "reason=the lease ended in silence"),
                }),
            ),
            (
                "it is silent",
                told(SupervisorError::Silent {
                    state: state("commit-failed", ""),
                }),
            ),
        ],
    );
}

#[test]
fn s0_16_the_way_back_by_hand() {
    let text: String = by_hand("cortex", "ssh jarvis@cortex", A)
        .iter()
        .map(|line| format!("{line}\n"))
        .collect();
    screen("by-hand", &text);
}

#[test]
fn s3_04_a_store_that_is_not_what_its_database_says() {
    use git_nixgate::nix::{Comparison, Examined};
    use git_nixgate::run::store::StoreReport;
    let path = |n: char, name: &str| format!("/nix/store/{}-{name}", n.to_string().repeat(32));
    let (system, glibc, before) = (path('a', "system"), path('b', "glibc-2.40"), path('c', "system"));
    let zero = "0".repeat(64);
    let entry = |path: &str, references: &[&str]| {
        let mut text = format!("{path}\n{zero}\n10\n\n{}\n", references.len());
        references
            .iter()
            .for_each(|path| text.push_str(&format!("{path}\n")));
        text
    };
    let dump = entry(&system, &[&glibc]) + &entry(&before, &[&glibc]) + &entry(&glibc, &[]);
    let answer = |found: &str| {
        format!(
            "root running {system}\nroot record {system}\nroot cortex/before-first {before}\n{found}dump\n{dump}end\n"
        )
    };
    let looked = |found: &str| -> Examined { git_nixgate::nix::parse_examined(&answer(found)).unwrap() };
    let same = |found: &str| looked(found).judge(|_, _| Comparison::Same);
    let another = looked("database ok\n").judge(|keeper, _| match keeper.name.as_str() {
        "record" => Comparison::Noted(format!(
            "its record has the builder's digest, and cortex has another build of 1 path ({glibc})"
        )),
        _ => Comparison::Same,
    });
    let report_of =
        |health: git_nixgate::nix::StoreHealth, repaired: &[&str], backup: Option<&str>, next: &[&str]| {
            StoreReport {
                target: "cortex".into(),
                whole: health.is_whole(),
                health,
                repaired: repaired.iter().map(ToString::to_string).collect(),
                backup: backup.map(str::to_owned),
                next: next.iter().map(ToString::to_string).collect(),
            }
        };
    let report = |found: &str, repaired: &[&str], backup, next: &[&str]| {
        report_of(same(found), repaired, backup, next)
    };
    let broken = format!("gone {glibc}\ndatabase 2\n");
    super::screens(
        "store",
        [
            (
                "whole",
                git_nixgate::ui::store::report(&report("database ok\n", &[], None, &[])),
            ),
            (
                "whole, with a build of its own",
                git_nixgate::ui::store::report(&report_of(another, &[], None, &[])),
            ),
            (
                "broken",
                git_nixgate::ui::store::report(&report(
                    &broken,
                    &[],
                    None,
                    &["git nixgate store repair cortex"],
                )),
            ),
            (
                "repaired, on a host without sqlite3",
                git_nixgate::ui::store::report(&report(
                    "database there is no sqlite3 on this host\n",
                    &[&glibc],
                    None,
                    &["git nixgate health cortex"],
                )),
            ),
        ],
    );
}
