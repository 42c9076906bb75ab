//! `log`, `show`, `status`, `log --failed`, and one run.

use git_nixgate::event::Gate;
use git_nixgate::event::Verdict;
use git_nixgate::failure::{Exit, Failure, Reason};
use git_nixgate::host::trouble::Trouble;
use git_nixgate::record::evidence::GateEvidence;
use git_nixgate::record::{Ledger, Record};
use git_nixgate::run::journal::{Ending, SCHEMA, State, Step, Verb};
use git_nixgate::ui::Style;
use git_nixgate::ui::records::{Live, Marks, RunView, TargetStatus, log, record, run, runs, status};

use super::support::chain::Chain;
use super::{in_both, screen, screens};

/// Three releases and a rollback of the last.
fn ledger() -> Ledger {
    let mut chain = Chain::new();
    for _ in 0..3 {
        chain.release();
    }
    chain.rollback(None);
    chain.ledger().unwrap()
}

fn marks(ledger: &Ledger, record: &Record) -> Marks {
    Marks {
        current: ledger
            .current()
            .is_some_and(|current| current.name == record.name),
        withdrawn: ledger.is_withdrawn(&record.name),
        unpublished: record.seq == ledger.head().seq,
    }
}

#[test]
fn the_records_of_a_target() {
    let ledger = ledger();
    let rows: Vec<(Record, Marks)> = ledger
        .records()
        .iter()
        .rev()
        .map(|record| (record.clone(), marks(&ledger, record)))
        .collect();
    screen("log-plain", &log(&rows, Style::Plain));
    screen("log-terminal", &log(&rows, Style::Terminal));
    let shown = |n: usize, style| record(&rows[n].0, &rows[n].1, style);
    in_both("show", |style| {
        [
            ("a rollback", shown(0, style)),
            ("a withdrawn release", shown(1, style)),
            ("a release", shown(2, style)),
        ]
    });
}

#[test]
fn where_the_targets_stand() {
    let ledger = ledger();
    let head = ledger.head();
    let toplevel = Some(head.evidence.toplevel.clone());
    let other = "/nix/store/15s6a2s10379mxjz3srs6cimw7d4qrn0-nixos-system-cortex-26.05.20261102";
    let good = Live {
        running: toplevel.clone(),
        booted: toplevel.clone(),
        profile: toplevel.clone(),
        boot_default: toplevel.clone(),
        system_state: "running".into(),
        record: Some(head.name.to_string()),
        ..Live::default()
    };
    let drifted = Live {
        running: Some(other.into()),
        system_state: "degraded".into(),
        held_by: Some("Ann <ann@example.org> (run 20261120T031200Z-abc123)".into()),
        drift: vec![format!("runs {other}, recorded is {}", head.evidence.toplevel)],
        ..good.clone()
    };
    let away = Live {
        unreachable: Some("orion does not answer".into()),
        ..Live::default()
    };
    let of = |target, live: Option<&Live>, head, unpublished| TargetStatus {
        target,
        head,
        unpublished,
        live: live.cloned(),
        defect: None,
    };
    let records = [
        of("cortex", None, Some(head), 1),
        of("orion", None, None, 0),
        of("p620", None, Some(&ledger.records()[0]), 0),
        TargetStatus {
            defect: Some(
                Failure::refused("the ledger of zzz does not hold")
                    .why("release/cortex/20261120T031402Z-0123456789ab stands in the ledger of zzz (target)")
                    .next("git nixgate verify zzz"),
            ),
            ..of("zzz", None, None, 0)
        },
    ];
    let live = [
        of("cortex", Some(&good), Some(head), 0),
        of("cortex", Some(&drifted), Some(head), 0),
        of("orion", Some(&away), None, 0),
    ];
    in_both("status", |style| {
        [
            ("from git alone", status(&records, style)),
            ("--live: in order, drifted, away", status(&live, style)),
        ]
    });
}

#[test]
fn runs_that_did_not_end_well() {
    let state = |run: &str, step, ending| State {
        schema: SCHEMA,
        run: run.into(),
        verb: Verb::Release,
        target: "cortex".into(),
        commit: "0123456789abcdef0123456789abcdef01234567".into(),
        started: "2026-11-20T03:14:02Z".into(),
        by: "Ada <ops@example.org>".into(),
        step,
        candidate: Some("/nix/store/15s6a2s10379mxjz3srs6cimw7d4qrn0-nixos-system-cortex".into()),
        previous: Some("/nix/store/j6xxiffrc2psfsp6rd8yvc3khz0qinwk-nixos-system-cortex".into()),
        restores: None,
        withdraws: Vec::new(),
        booted: None,
        named: None,
        rehearsal: false,
        unvalidated: false,
        ending,
    };
    let trouble = Trouble::parse(
        "unit app.service\nresult exit-code\nstatus × app.service - The application\n\
         status      Active: failed (Result: exit-code) since Fri 2026-11-20 03:14:40 UTC; 2s ago\n\
         said app: no such table: users\n\
         said app.service: Main process exited, code=exited, status=1/FAILURE\n\
         said app.service: Failed with result 'exit-code'.\nkernel journal\n\
         line 2026-11-20T03:14:39+00:00 cortex kernel: nvme nvme0: I/O timeout, completion polled\n",
    );
    let mut failure = Failure::new(
        Exit::Reverted,
        Reason::Unit,
        "cortex: failed since the switch: app.service",
    )
    .next("on cortex: journalctl -u app.service");
    trouble.explain(&mut failure);
    let failure = failure.why("cortex is back on what ran before, and that was checked");
    let ended = state(
        "20261120T031402Z-7b8e98",
        Step::Ended,
        Some(Ending::of(&failure, Some(Gate::Validate))),
    );
    let open = state("20261120T041402Z-aa8e98", Step::Switching, None);
    let early = state(
        "20261119T031402Z-aa8e90",
        Step::Ended,
        Some(Ending::of(
            &Failure::failed(Reason::Disk, "cortex: the closure does not fit on /nix")
                .why("free on /nix: 40 MiB")
                .next("git nixgate release cortex --gc"),
            Some(Gate::Copy),
        )),
    );
    screen("log-failed", &runs(&[open.clone(), ended.clone(), early]));
    let gate = |gate, verdict, millis, reason: Option<&str>| GateEvidence {
        gate,
        verdict,
        start: "2026-11-20T03:14:02Z".into(),
        millis,
        findings: Vec::new(),
        more: 0,
        reason: reason.map(str::to_owned),
    };
    let gates = [
        gate(Gate::Preflight, Verdict::Passed, 180, None),
        gate(
            Gate::Validate,
            Verdict::Failed,
            2_400,
            Some("cortex: failed since the switch: app.service"),
        ),
    ];
    let host = trouble.text();
    let view = |state, gates, host, switch| RunView {
        state,
        gates,
        host,
        switch,
    };
    screens(
        "show-run",
        [
            (
                "a run that was taken back",
                run(&view(
                    &ended,
                    &gates,
                    &host,
                    "activating the configuration...\nstarting app.service\n",
                )),
            ),
            ("a run that was cut off", run(&view(&open, &[], "", ""))),
        ],
    );
}
