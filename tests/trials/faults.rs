//! The fault table: one fault at one moment of a release, and what came of it. Whatever breaks, the host ends on what
//! ran before or on the candidate, whole and free; the run's exit says which; git agrees; and the next command that a
//! person types works. Each row says beforehand how it may end.

mod rows;

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::hand::{at_desk, clone_is_tidy, desk, good, nothing_left, root, wait_for_switch};
use crate::infra::{CONFIG, expect, release, with_config};
use crate::lab::{Lab, Spawned};

pub const HOSTS: &[&str] = &["desk", "forge", "git", "cortex"];
const LONG: Duration = Duration::from_secs(90);

/// Where the run is when the fault comes.
#[derive(Clone, Copy)]
pub enum Moment {
    /// The operator is at the first boundary whose name contains all that stands between the `*` (see `src/boundary.rs`); it goes on
    /// once the fault is there.
    Before(&'static str),
    /// The builder is at work on the candidate.
    Building,
    /// So many MiB of the candidate's large path have arrived.
    Copied(u64),
    /// The host is in the activation.
    Switching,
    /// The host is in the commit.
    Committing,
    /// From the beginning: the candidate itself brings the fault.
    Candidate,
}

/// When the fault goes away.
#[derive(Clone, Copy, PartialEq)]
pub enum Mended {
    /// Once the host is, by itself, where it stays.
    Alone,
    /// Once the operator's run has ended.
    AfterTheRun,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Now {
    Before,
    Candidate,
}

type Act = fn(&Lab);

pub struct Case {
    pub fault: &'static str,
    pub moment: &'static str,
    pub at: Moment,
    pub prepare: fn(&Lab, u32),
    pub inject: Act,
    pub mend: (Mended, Act),
    /// The exit codes that may be seen, each with what the host then runs.
    pub expected: &'static [(i32, Now)],
    /// The candidate works once the fault is mended: the same command, typed again, releases it.
    pub works_later: bool,
}

pub fn nothing(_: &Lab) {}

/// A case with a candidate that is good.
pub const GOOD: Case = Case {
    fault: "",
    moment: "",
    at: Moment::Candidate,
    prepare: |lab, number| good(lab, "cortex", number),
    inject: nothing,
    mend: (Mended::AfterTheRun, nothing),
    expected: &[(4, Now::Before)],
    works_later: true,
};

/// A case with a candidate that breaks the host.
pub const BAD: Case = Case {
    works_later: false,
    ..GOOD
};

/// A lab whose host has a release, and a lease of five seconds.
pub fn fault_lab(name: &str, more: &str) -> Lab {
    let config = CONFIG.replace("confirm = 10", "confirm = 5");
    let lab = with_config(name, HOSTS, &format!("{config}{more}"));
    good(&lab, "cortex", 0);
    release(&lab, "cortex");
    lab
}

/// Running system, profile and boot default, and whether anybody holds the host. The lock itself is left alone: looking
/// at it takes it.
fn systems(lab: &Lab) -> Option<(Vec<String>, bool)> {
    let out = lab.sh(
        "cortex",
        "root",
        "readlink -f /run/current-system; readlink -f /nix/var/nix/profiles/system; \
         sed -n '/LABEL nixos-default/,$s|.*init=\\(/nix/store/[^/]*\\)/init.*|\\1|p' /boot/extlinux/extlinux.conf | head -n 1; \
         systemctl list-units --plain --no-legend --state=active,activating,deactivating,reloading 'nixgate-*' | grep -q . || echo free",
    );
    let mut lines: Vec<String> = out.stdout.lines().map(str::to_owned).collect();
    let free = lines.last().is_some_and(|line| line == "free");
    lines.retain(|line| line != "free");
    (lines.len() == 3).then_some((lines, free))
}

/// The one closure that the host runs, boots and has as its profile, once nobody is at work on it.
fn settled(lab: &Lab) -> Option<String> {
    let (lines, free) = systems(lab)?;
    (free && lines.iter().all(|line| *line == lines[0])).then(|| lines[0].clone())
}

fn begin(lab: &Lab, at: Moment) -> Spawned {
    let plan = match at {
        Moment::Before(name) => format!("NIXGATE_BOUNDARY='wait:{name}:/tmp/crossed'"),
        _ => String::new(),
    };
    lab.spawn(
        "desk",
        "op",
        &format!("cd ~/infra && rm -f /tmp/crossed*; {plan} git nixgate release cortex"),
    )
}

/// Returns when the run has come to the moment.
#[track_caller]
fn come_to(lab: &Lab, at: Moment, number: u32) {
    match at {
        Moment::Before(_) => lab.wait_for("desk", "[ -e /tmp/crossed.waiting ]", LONG),
        Moment::Building => lab.wait_for("forge", "pgrep -f 'sleep 6[.]25' >/dev/null", LONG),
        Moment::Copied(mib) => lab.wait_for(
            "cortex",
            &format!(
                "[ \"$(stat -c %s /nix/store/*-big-{number})\" -ge {} ]",
                mib << 20
            ),
            LONG,
        ),
        Moment::Switching => wait_for_switch(lab, "cortex"),
        Moment::Committing => lab.wait_for("cortex", "grep -qx state=committing /run/nixgate/*/state", LONG),
        Moment::Candidate => {}
    }
}

/// What was seen.
pub struct Row {
    fault: &'static str,
    moment: &'static str,
    expected: String,
    seen: String,
    seconds: f64,
}

fn words(exit: i32, now: Now) -> String {
    let now = match now {
        Now::Before => "what ran before",
        Now::Candidate => "the candidate",
    };
    format!("exit {exit}, {now}")
}

#[track_caller]
pub fn tried(lab: &Lab, case: &Case, number: u32) -> Row {
    let context = format!("{}: {}", case.fault, case.moment);
    // Not held back until the trial has ended: it takes minutes.
    let _ = writeln!(std::io::stderr(), "{context}");
    (case.prepare)(lab, number);
    let before = settled(lab)
        .unwrap_or_else(|| panic!("{context}: the host is in no state to begin: {:?}", systems(lab)));
    let mut run = begin(lab, case.at);
    come_to(lab, case.at, number);
    let clock = Instant::now();
    (case.inject)(lab);
    root(lab, "desk", "rm -f /tmp/crossed.waiting");

    let mut since: Option<f64> = None;
    let mut mended = false;
    let ended = loop {
        let state = settled(lab);
        since = state
            .as_ref()
            .map(|_| since.unwrap_or(clock.elapsed().as_secs_f64()));
        let over = !run.is_running();
        let due = match case.mend.0 {
            Mended::Alone => since.is_some(),
            Mended::AfterTheRun => over,
        };
        if due && !mended {
            (case.mend.1)(lab);
            mended = true;
        } else if over
            && mended
            && let Some(state) = state
        {
            break state;
        }
        assert!(
            clock.elapsed() < 3 * LONG,
            "{context}: over {over}, mended {mended}, {:?}:\n{}",
            systems(lab),
            run.stderr_so_far()
        );
        std::thread::sleep(Duration::from_millis(100));
    };
    let seconds = since.unwrap_or_default();
    let out = run.wait(LONG).expect("it ended");
    let now = match ended == before {
        true => Now::Before,
        false => Now::Candidate,
    };
    assert!(
        case.expected.contains(&(out.status, now)),
        "{context}: {now:?} with {out}"
    );
    aftermath(lab, case, &before, &ended, number, &context);
    Row {
        fault: case.fault,
        moment: case.moment,
        expected: case
            .expected
            .iter()
            .map(|(exit, now)| words(*exit, *now))
            .collect::<Vec<_>>()
            .join(" | "),
        seen: words(out.status, now),
        seconds,
    }
}

/// The next commands that a person types work, and nothing of the broken run is left.
#[track_caller]
fn aftermath(lab: &Lab, case: &Case, before: &str, ended: &str, number: u32, context: &str) {
    lab.wait_for("desk", "ssh-keyscan -T 2 cortex 2>/dev/null | grep -q .", LONG);
    crate::boundaries::told(lab, ended, context);
    let resumed = lab.nixgate(&["resume", "cortex"]);
    assert!([0, 1, 4].contains(&resumed.status), "{context}: {resumed}");
    if ended == before {
        if !case.works_later {
            good(lab, "cortex", number + 500);
        }
        let again = at_desk(lab, "git nixgate release cortex");
        assert_eq!(again.status, 0, "{context}: typed again: {again}");
    }
    let now = settled(lab).unwrap_or_else(|| panic!("{context}: {:?}", systems(lab)));
    assert_ne!(now, before, "{context}: nothing was released in the end");
    crate::boundaries::told(lab, &now, context);
    expect(lab, 0, &["verify", "cortex"]);
    nothing_left(lab, "cortex", Duration::from_secs(20));
    clone_is_tidy(lab);
    let both = desk(
        lab,
        "git ls-remote origin refs/nixgate/ledger/cortex | cut -f1; git rev-parse refs/nixgate/ledger/cortex",
    );
    let both: Vec<&str> = both.lines().collect();
    assert!(both.len() == 2 && both[0] == both[1], "{context}: {both:?}");
}

/// All cases on one set of hosts, one after the other; the rows go where `tests/run` prints them from.
#[track_caller]
fn table(lab: &Lab, name: &str, cases: Vec<Case>) {
    let only = std::env::var("NIXGATE_FAULT").unwrap_or_default();
    let chosen = (1u32..)
        .zip(cases)
        .filter(|(_, case)| format!("{}: {}", case.fault, case.moment).contains(&only));
    let rows: Vec<Row> = chosen.map(|(number, case)| tried(lab, &case, number)).collect();
    assert!(!rows.is_empty(), "no case is called {only:?}");
    let mut text = String::new();
    for row in &rows {
        let _ = writeln!(
            text,
            "{:42} {:26} {:5.1} s  {}   (may be: {})",
            row.fault, row.moment, row.seconds, row.seen, row.expected
        );
    }
    println!("{text}");
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("sweep");
    std::fs::create_dir_all(&folder).expect("a folder for the tables");
    std::fs::write(folder.join(format!("faults-{name}")), text).expect("written");
}

#[test]
#[ignore = "three minutes: tests/run --full"]
fn full_link() {
    table(&fault_lab("faults-link", ""), "1-link", rows::link());
}

#[test]
#[ignore = "three minutes: tests/run --full"]
fn full_candidate() {
    let lab = fault_lab("faults-candidate", rows::IMPATIENT);
    table(&lab, "2-candidate", rows::candidate());
}

#[test]
#[ignore = "five minutes: tests/run --full"]
fn full_host() {
    table(&fault_lab("faults-host", ""), "3-host", rows::host());
}

#[test]
#[ignore = "two minutes: tests/run --full"]
fn full_room() {
    let lab = fault_lab("faults-room", "");
    rows::confine(&lab);
    table(&lab, "4-room", rows::room());
}

/// One row for each way in which a host is left to itself, for the suite that everybody runs.
#[test]
fn s3_1_s3_9_s4_42_a_fault_at_each_step_after_the_switch_began() {
    const OFTEN: [(&str, &str); 5] = [
        ("link cut", "commit"),
        ("supervisor killed", "lease"),
        ("git remote lost", "after the switch"),
        ("/boot full", "commit"),
        ("/run full", "lease"),
    ];
    let lab = fault_lab("faults-often", "");
    rows::confine(&lab);
    let all = [rows::link(), rows::host(), rows::room()];
    let often = |case: &Case| OFTEN.contains(&(case.fault, case.moment));
    let chosen: Vec<Case> = all.into_iter().flatten().filter(often).collect();
    assert_eq!(chosen.len(), OFTEN.len());
    table(&lab, "0-often", chosen);
}
