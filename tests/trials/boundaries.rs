//! The crash sweep: the operator is killed, or the target loses its power, at every boundary of a run (see
//! `src/boundary.rs` for what that is and why the list is complete). After each, the target runs what ran before or the
//! candidate, whole and committed; git says which; and the next command that a person types brings it to its end.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::hand::{at_desk, clone_is_tidy, desk, good, nothing_left, root};
use crate::infra::{CONFIG, expect, release, with_config};
use crate::lab::{Lab, Output};

const HOSTS: &[&str] = &["desk", "forge", "git", "cortex"];
/// `timeouts.confirm` is 5 here; a revert on two busy cores and a host that boots take the rest.
const SETTLED: Duration = Duration::from_secs(60);

/// What is done to whom.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    OperatorKilled,
    TargetPowerCut,
}

#[derive(Clone, Copy, PartialEq)]
enum Verb {
    Release,
    Rollback,
    Deploy,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Verb::Release => "release",
            Verb::Rollback => "rollback",
            Verb::Deploy => "deploy",
        }
    }
}

fn sweep_lab(name: &str) -> Lab {
    let lab = with_config(name, HOSTS, &CONFIG.replace("confirm = 10", "confirm = 5"));
    release(&lab, "cortex");
    good(&lab, "cortex", 0);
    release(&lab, "cortex");
    lab
}

/// The command line of a verb from where the host stands; brings the host there first.
#[track_caller]
fn ready(lab: &Lab, verb: Verb, number: u32) -> String {
    let newest = "git for-each-ref --format='%(refname:short) %(contents:trailers:key=Nixgate-Kind,valueonly)' \
                  --sort=-refname 'refs/tags/release/cortex/*' | awk '$2 == \"release\" { print $1; exit }'";
    match verb {
        Verb::Release => {
            good(lab, "cortex", 100 + number);
            "release cortex".to_owned()
        }
        Verb::Rollback => {
            let newest = desk(lab, newest).trim().to_owned();
            if running_record(lab) != newest {
                expect(lab, 0, &["deploy", "cortex", "--to", &newest]);
            }
            "rollback cortex".to_owned()
        }
        Verb::Deploy => {
            let newest = desk(lab, newest).trim().to_owned();
            if running_record(lab) == newest {
                expect(lab, 0, &["rollback", "cortex"]);
            }
            format!("deploy cortex --to {newest}")
        }
    }
}

/// The release that the newest record puts on the host.
fn running_record(lab: &Lab) -> String {
    desk(
        lab,
        "git cat-file tag refs/nixgate/ledger/cortex | awk '$1 == \"tag\" && !t { t = $2 } \
         $1 == \"Nixgate-Restores:\" { r = $2 } END { print r ? r : t }'",
    )
    .trim()
    .to_owned()
}

/// Running system, profile and boot default.
#[track_caller]
fn systems(lab: &Lab) -> Vec<String> {
    root(
        lab,
        "cortex",
        "readlink -f /run/current-system; readlink -f /nix/var/nix/profiles/system; \
         sed -n '/LABEL nixos-default/,$s|.*init=\\(/nix/store/[^/]*\\)/init.*|\\1|p' /boot/extlinux/extlinux.conf | head -n 1",
    )
    .lines()
    .map(str::to_owned)
    .collect()
}

fn crossed(lab: &Lab) -> Vec<String> {
    let text = desk(lab, "cat /tmp/crossed 2>/dev/null; :");
    text.lines().map(str::to_owned).collect()
}

/// Runs it with this plan of boundaries.
fn run(lab: &Lab, line: &str, plan: &str) -> Output {
    at_desk(
        lab,
        &format!("rm -f /tmp/crossed*; NIXGATE_BOUNDARY={plan}:/tmp/crossed git nixgate {line}"),
    )
}

/// One row of the table.
struct Row {
    boundary: String,
    seen: String,
    seconds: f64,
}

/// The fault at boundary `number`. `None`: the run has fewer.
#[track_caller]
fn at_boundary(lab: &Lab, fault: Fault, verb: Verb, number: u32) -> Option<Row> {
    let line = ready(lab, verb, number);
    let previous = systems(lab)[0].clone();
    let clock;
    // How the run itself ended, where its operator lives.
    let mut ended = None;
    match fault {
        Fault::OperatorKilled => {
            run(lab, &line, &format!("kill:{number}"));
            clock = Instant::now();
            // The machine is gone, with its connections.
            root(lab, "desk", "pkill -KILL -u op -x ssh; :");
        }
        Fault::TargetPowerCut => {
            let mut going = lab.spawn(
                "desk",
                "op",
                &format!(
                    "cd ~/infra && rm -f /tmp/crossed*; NIXGATE_BOUNDARY=wait:{number}:/tmp/crossed git nixgate {line}"
                ),
            );
            // It comes there, or ends before.
            let patience = Instant::now() + SETTLED;
            while going.is_running() && !lab.sh("desk", "root", "test -e /tmp/crossed.waiting").ok() {
                assert!(
                    Instant::now() < patience,
                    "never at {number}:\n{}",
                    going.stderr_so_far()
                );
            }
            clock = Instant::now();
            if crossed(lab).len() >= number as usize {
                lab.power_cut("cortex");
                lab.power_on("cortex");
            }
            root(lab, "desk", "rm -f /tmp/crossed.waiting");
            let patience = Instant::now() + Duration::from_secs(240);
            while going.is_running() {
                assert!(
                    Instant::now() < patience,
                    "{number} of {}: it does not end:\n{}\n{}",
                    verb.name(),
                    going.stderr_so_far(),
                    root(
                        lab,
                        "desk",
                        "cat /tmp/crossed; ps -u op -o pid,ppid,etimes,wchan:20,args --forest"
                    )
                );
                std::thread::sleep(Duration::from_millis(50));
            }
            let out = going.wait(Duration::from_secs(1)).expect("the run ended");
            assert!(![101, 134].contains(&out.status), "a panic: {out}");
            ended = Some(out.status);
        }
    }
    let crossed = crossed(lab);
    let boundary = crossed.get(number as usize - 1)?.clone();
    lab.wait_for(
        "cortex",
        "[ ! -e /run/nixgate/lock ] || flock -n /run/nixgate/lock true",
        SETTLED,
    );
    let seconds = clock.elapsed().as_secs_f64();
    let context = format!("{} cut off at {boundary}", verb.name());

    let left = systems(lab);
    assert!(
        left.iter().all(|path| *path == left[0]),
        "{context}: running, profile and boot default differ: {left:?}"
    );
    told(lab, &left[0], &context);
    let resumed = lab.nixgate(&["resume", "cortex"]);
    assert!([0, 1, 4].contains(&resumed.status), "{context}: {resumed}");
    if systems(lab)[0] == previous {
        let again = at_desk(lab, &format!("git nixgate {line}"));
        assert_eq!(again.status, 0, "{context}: typed again: {again}");
    }
    let now = systems(lab);
    assert!(now.iter().all(|path| *path == now[0]), "{context}: {now:?}");
    assert_ne!(now[0], previous, "{context}: it came to its end");
    assert!(
        left[0] == previous || left[0] == now[0],
        "{context}: neither the old system nor the candidate ran: {left:?}"
    );
    told(lab, &now[0], &context);
    expect(lab, 0, &["verify", "cortex"]);
    // A temporary root outlives the power, and its run had nothing more to finish: the next run sweeps it.
    let mut swept = "";
    if fault == Fault::TargetPowerCut
        && !root(
            lab,
            "cortex",
            "ls /nix/var/nix/gcroots/nixgate/+tmp 2>/dev/null; :",
        )
        .is_empty()
    {
        let line = ready(lab, verb, 500 + number);
        let next = at_desk(lab, &format!("git nixgate {line}"));
        assert_eq!(next.status, 0, "{context}: the next run: {next}");
        swept = "; swept by the next run";
    }
    nothing_left(lab, "cortex", Duration::from_secs(20));
    clone_is_tidy(lab);
    let both = desk(
        lab,
        "git ls-remote origin refs/nixgate/ledger/cortex | cut -f1; git rev-parse refs/nixgate/ledger/cortex; \
         ls .git/nixgate/running/cortex",
    );
    let both: Vec<&str> = both.lines().collect();
    assert!(both.len() == 2 && both[0] == both[1], "{context}: {both:?}");
    let seen = match (left[0] == previous, ended) {
        (true, _) => "on what ran before; typed again",
        (false, Some(0)) => "the run itself went on to its end",
        (false, _) => "committed; resume made its record",
    };
    // Not held back until the sweep has ended: it takes minutes.
    let _ = writeln!(std::io::stderr(), "{seconds:5.1} s  {seen}{swept}  {boundary}");
    Some(Row {
        boundary,
        seen: format!("{seen}{swept}"),
        seconds,
    })
}

/// git and the host are held against each other, and what differs is said.
#[track_caller]
pub fn told(lab: &Lab, running: &str, context: &str) {
    let out = lab.nixgate(&["status", "cortex", "--live", "--json"]);
    let answer = out.stdout.lines().last().unwrap_or_default().to_owned();
    let value: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    let live = &value["targets"][0]["live"];
    assert_eq!(live["running"], running, "{context}: {answer}");
    let recorded = desk(
        lab,
        "git cat-file tag refs/nixgate/ledger/cortex | grep -o '\"toplevel\":\"[^\"]*\"' | tail -n 1",
    );
    let drifts = live["drift"].as_array().is_some_and(|drift| !drift.is_empty());
    assert_eq!(
        drifts,
        !recorded.contains(running),
        "{context}: {answer} {recorded}"
    );
}

/// Prints what was seen, and how many boundaries there are; `tests/run` shows the files at its end.
fn report(fault: Fault, verb: Verb, rows: &[Row]) {
    let who = match fault {
        Fault::OperatorKilled => "operator killed",
        Fault::TargetPowerCut => "target's power cut",
    };
    let mut text = format!("{}: {who} at each of {} boundaries\n", verb.name(), rows.len());
    for row in rows {
        let _ = writeln!(text, "  {:5.1} s  {:36}  {}", row.seconds, row.seen, row.boundary);
    }
    println!("{text}");
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("sweep");
    std::fs::create_dir_all(&folder).expect("a folder for the tables");
    let name = format!("{}-{}", verb.name(), who.replace([' ', '\''], "-"));
    std::fs::write(folder.join(name), text).expect("written");
}

fn sweep(name: &str, fault: Fault, verb: Verb) {
    let lab = sweep_lab(name);
    // To go on behind a boundary that was mended.
    let from = std::env::var("NIXGATE_SWEEP_FROM").map_or(1, |from| from.parse().expect("a number"));
    let rows: Vec<Row> = (from..from + 400)
        .map_while(|number| at_boundary(&lab, fault, verb, number))
        .collect();
    report(fault, verb, &rows);
    assert!(rows.len() < 400, "the run never ends unharmed");
    assert!(rows.len() + from as usize > 40, "the sweep found the boundaries");
}

#[test]
#[ignore = "a quarter of an hour: tests/run --full"]
fn full_release_operator_killed() {
    sweep("sweep-release", Fault::OperatorKilled, Verb::Release);
}

#[test]
#[ignore = "ten minutes: tests/run --full"]
fn full_rollback_operator_killed() {
    sweep("sweep-rollback", Fault::OperatorKilled, Verb::Rollback);
}

#[test]
#[ignore = "ten minutes: tests/run --full"]
fn full_deploy_operator_killed() {
    sweep("sweep-deploy", Fault::OperatorKilled, Verb::Deploy);
}

#[test]
#[ignore = "a quarter of an hour: tests/run --full"]
fn full_release_power_cut() {
    sweep("sweep-power", Fault::TargetPowerCut, Verb::Release);
}

#[test]
#[ignore = "ten minutes: tests/run --full"]
fn full_rollback_power_cut() {
    sweep("sweep-power-back", Fault::TargetPowerCut, Verb::Rollback);
}

#[test]
#[ignore = "ten minutes: tests/run --full"]
fn full_deploy_power_cut() {
    sweep("sweep-power-deploy", Fault::TargetPowerCut, Verb::Deploy);
}

/// One boundary of each step: those that stand for all others in the suite that everybody runs.
#[test]
fn s4_39_killed_once_in_every_step_of_a_release() {
    let lab = sweep_lab("sweep-steps");
    let line = ready(&lab, Verb::Release, 0);
    run(&lab, &line, "list");
    let all = crossed(&lab);
    let steps = [" switch]", " renew", " commit]", "update-ref", "push", "umask"];
    let chosen: Vec<u32> = (1u32..)
        .zip(&all)
        .filter(|(_, line)| line.contains(" before ") && steps.iter().any(|step| line.contains(step)))
        .map(|(number, _)| number)
        .collect();
    assert!(chosen.len() >= 8, "{all:?}");
    let rows: Vec<Row> = chosen
        .into_iter()
        .filter_map(|number| at_boundary(&lab, Fault::OperatorKilled, Verb::Release, number))
        .collect();
    report(Fault::OperatorKilled, Verb::Release, &rows);
    assert!(rows.len() >= 8);
}
