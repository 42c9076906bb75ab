//! The fault table: one fault at one moment of a release, and what came of it. Whatever breaks, the host ends on what
//! ran before or on the candidate, whole and free; the run's exit says which; git agrees; and the next command that a
//! person types works. Each row says beforehand how it may end.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::hand::{at_desk, clone_is_tidy, describe, desk, good, nothing_left, root, wait_for_switch};
use crate::infra::{CONFIG, expect, release, with_config};
use crate::lab::{Lab, Spawned};

pub const HOSTS: &[&str] = &["desk", "forge", "git", "cortex"];
const LONG: Duration = Duration::from_secs(90);

/// Where the run is when the fault comes.
#[derive(Clone, Copy)]
pub enum Moment {
    /// The operator is about to cross the first boundary whose name contains this (see `src/boundary.rs`); it goes on
    /// once the fault is there.
    Before(&'static str),
    /// The builder is at work on the candidate.
    Building,
    /// So many MiB of the candidate's large path have arrived.
    Copied(u64),
    /// The host is in the activation.
    Switching,
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

/// Running system, profile and boot default, and whether anybody holds the host.
fn systems(lab: &Lab) -> Option<(Vec<String>, bool)> {
    let out = lab.sh(
        "cortex",
        "root",
        "readlink -f /run/current-system; readlink -f /nix/var/nix/profiles/system; \
         sed -n '/LABEL nixos-default/,$s|.*init=\\(/nix/store/[^/]*\\)/init.*|\\1|p' /boot/extlinux/extlinux.conf | head -n 1; \
         [ ! -e /run/nixgate/lock ] || flock -n /run/nixgate/lock true && echo free",
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
        std::thread::sleep(Duration::from_millis(50));
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
pub fn table(lab: &Lab, name: &str, cases: &[Case]) {
    let only = std::env::var("NIXGATE_FAULT").unwrap_or_default();
    let chosen = (1u32..)
        .zip(cases)
        .filter(|(_, case)| format!("{}: {}", case.fault, case.moment).contains(&only));
    let rows: Vec<Row> = chosen.map(|(number, case)| tried(lab, case, number)).collect();
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

// --- candidates -----------------------------------------------------------------------------------------------------

fn slow(lab: &Lab, number: u32) {
    describe(
        lab,
        "cortex",
        &format!(
            "{{ packages.hello = \"3.{number}\"; activationName = \"slow\"; activation = \"sleep 4\"; }}"
        ),
    );
}

fn slow_to_build(lab: &Lab, number: u32) {
    describe(
        lab,
        "cortex",
        &format!(
            "ctx: {{ etc.\"slow\" = \"${{ctx.run \"slow-{number}\" {{ }} \"sleep 6.25; echo {number} >$out\"}}\"; }}"
        ),
    );
}

/// A path of 300 MiB.
fn large(lab: &Lab, number: u32) {
    describe(
        lab,
        "cortex",
        &format!(
            "ctx: {{ etc.\"big\" = \"${{ctx.run \"big-{number}\" {{ }} \"echo {number} >$out; head -c 314572800 /dev/zero >>$out\"}}\"; }}"
        ),
    );
    root(lab, "cortex", "rm -f /nix/store/*-big-*.lock");
}

fn cut(lab: &Lab) {
    lab.cut("cortex");
}

fn heal(lab: &Lab) {
    lab.heal("cortex");
}

const CUT: Case = Case {
    fault: "link cut",
    inject: cut,
    mend: (Mended::AfterTheRun, heal),
    expected: &[(1, Now::Before)],
    ..GOOD
};

/// Cut at every step; healed when the host has helped itself, or the run has given up.
#[test]
fn s3_1_s3_3_link_cut_at_every_step() {
    let lab = fault_lab("faults-link", "");
    let cases = [
        Case {
            moment: "preflight",
            at: Moment::Before("cortex: ssh master"),
            ..CUT
        },
        Case {
            moment: "build",
            at: Moment::Building,
            prepare: slow_to_build,
            ..CUT
        },
        Case {
            moment: "copy, 30 %",
            at: Moment::Copied(90),
            prepare: large,
            ..CUT
        },
        Case {
            moment: "copy, 70 %",
            at: Moment::Copied(210),
            prepare: large,
            ..CUT
        },
        Case {
            moment: "dry-activate",
            at: Moment::Before("Every path on stdin"),
            ..CUT
        },
        Case {
            moment: "activation",
            at: Moment::Switching,
            prepare: slow,
            mend: (Mended::Alone, heal),
            expected: &[(4, Now::Before)],
            ..CUT
        },
        Case {
            moment: "lease",
            at: Moment::Before(" renew "),
            mend: (Mended::Alone, heal),
            expected: &[(4, Now::Before)],
            ..CUT
        },
        Case {
            moment: "commit",
            at: Moment::Before(" commit]"),
            mend: (Mended::Alone, heal),
            expected: &[(4, Now::Before)],
            ..CUT
        },
        Case {
            moment: "marking",
            at: Moment::Before("umask 022"),
            expected: &[(8, Now::Candidate)],
            ..CUT
        },
    ];
    table(&lab, "1-link", &cases);
}

// --- what the new system itself breaks ------------------------------------------------------------------------------

/// These hosts lose nothing but time: a candidate that hangs has six seconds.
#[test]
fn s0_18_s4_52_candidates_that_break_their_host() {
    let lab = fault_lab(
        "faults-candidate",
        "[target.cortex.timeouts]\nactivate = 6\nsettle = 2\nsoak = 5\n[target.cortex.preflight]\nservices = [\"sshd\", \"app\"]\n",
    );
    let cases = [
        Case {
            fault: "sshd stopped by the new system",
            moment: "activation",
            prepare: |lab, _| lab.variant("cortex", "Bnet-sshd"),
            ..BAD
        },
        Case {
            fault: "firewall closed by the new system",
            moment: "activation",
            prepare: |lab, _| lab.variant("cortex", "Bnet-firewall"),
            ..BAD
        },
        Case {
            fault: "wrong address in the new system",
            moment: "activation",
            prepare: |lab, _| lab.variant("cortex", "Bnet-addr"),
            ..BAD
        },
        Case {
            fault: "sudo broken by the new system",
            moment: "activation",
            prepare: |lab, _| lab.variant("cortex", "Bsudo"),
            ..BAD
        },
        Case {
            fault: "activation script fails",
            moment: "activation",
            prepare: |lab, _| lab.variant("cortex", "Bact"),
            ..BAD
        },
        Case {
            fault: "activation script hangs",
            moment: "activation",
            prepare: |lab, _| lab.variant("cortex", "Bslow"),
            ..BAD
        },
        Case {
            fault: "unit fails",
            moment: "activation",
            prepare: |lab, _| lab.variant("cortex", "Bfail"),
            ..BAD
        },
        Case {
            fault: "unit crash-loops",
            moment: "validate",
            prepare: |lab, _| lab.variant("cortex", "Bunit"),
            ..BAD
        },
        Case {
            fault: "unit hangs in its start",
            moment: "activation",
            prepare: |lab, _| lab.variant("cortex", "Bhang"),
            ..BAD
        },
        Case {
            fault: "unit fails later",
            moment: "soak",
            prepare: |lab, _| lab.variant_with("cortex", "Bdelayed", &["seconds=4"]),
            ..BAD
        },
        Case {
            fault: "boot loader fails",
            moment: "commit",
            prepare: |lab, _| describe(lab, "cortex", "{ bootLoader = \"broken\"; }"),
            ..BAD
        },
        Case {
            fault: "stop job hangs",
            moment: "activation",
            // Released first, so that the candidate has to stop it.
            prepare: |lab, number| {
                describe(
                    lab,
                    "cortex",
                    &format!(
                        "{{ packages.hello = \"3.{number}\"; units.\"stuck.service\" = {{ wantedBy = [ \"multi-user.target\" ]; text = \"[Service]\\nExecStart=/bin/sh -c 'exec sleep infinity'\\nExecStop=/bin/sh -c 'exec sleep infinity'\\nTimeoutStopSec=infinity\\n\"; }}; }}"
                    ),
                );
                release(lab, "cortex");
                good(lab, "cortex", number + 300);
            },
            // Whoever wants to get on ends it.
            mend: (Mended::AfterTheRun, |lab| {
                drop(root(lab, "cortex", "systemctl kill --signal=KILL stuck.service"))
            }),
            ..BAD
        },
    ];
    table(&lab, "2-candidate", &cases);
}

// --- what happens to the host and to those around it ----------------------------------------------------------------

#[test]
fn s3_1_s3_36_s4_65_the_host_and_its_surroundings() {
    let lab = fault_lab("faults-host", "");
    const RELEASED: &[(i32, Now)] = &[(0, Now::Candidate)];
    const UNTOUCHED: &[(i32, Now)] = &[(1, Now::Before)];
    let reboot: Act = |lab| lab.reboot("cortex");
    let cases = [
        Case {
            fault: "sshd restarted",
            moment: "activation",
            at: Moment::Switching,
            prepare: slow,
            inject: |lab| drop(root(lab, "cortex", "systemctl restart sshd")),
            expected: RELEASED,
            ..GOOD
        },
        Case {
            fault: "every connection killed",
            moment: "commit",
            at: Moment::Before(" commit]"),
            inject: |lab| {
                drop(root(
                    lab,
                    "cortex",
                    "pkill -KILL -f '^sshd(-session)?: (jarvis|root)'; :",
                ))
            },
            ..GOOD
        },
        Case {
            fault: "nix-daemon killed",
            moment: "copy",
            at: Moment::Copied(30),
            prepare: large,
            inject: |lab| {
                drop(root(
                    lab,
                    "cortex",
                    "systemctl kill --signal=KILL nix-daemon.service",
                ))
            },
            expected: &[(0, Now::Candidate), (1, Now::Before)],
            ..GOOD
        },
        Case {
            fault: "nix-daemon killed",
            moment: "commit",
            at: Moment::Before(" commit]"),
            inject: |lab| {
                drop(root(
                    lab,
                    "cortex",
                    "systemctl kill --signal=KILL nix-daemon.service; :",
                ))
            },
            expected: RELEASED,
            ..GOOD
        },
        Case {
            fault: "copy killed for memory (SIGKILL)",
            moment: "copy",
            at: Moment::Copied(30),
            prepare: large,
            inject: |lab| drop(root(lab, "forge", "pkill -KILL -u build -f 'nix.* copy '")),
            expected: UNTOUCHED,
            ..GOOD
        },
        Case {
            fault: "unit killed for memory (SIGKILL)",
            moment: "lease",
            at: Moment::Before(" renew "),
            inject: |lab| drop(root(lab, "cortex", "systemctl kill --signal=KILL app.service")),
            ..GOOD
        },
        Case {
            fault: "builder lost",
            moment: "build",
            at: Moment::Building,
            prepare: slow_to_build,
            inject: |lab| lab.cut("forge"),
            mend: (Mended::AfterTheRun, |lab| lab.heal("forge")),
            expected: UNTOUCHED,
            ..GOOD
        },
        Case {
            fault: "git remote lost",
            moment: "before the run",
            prepare: |lab, number| {
                good(lab, "cortex", number);
                lab.cut("git");
            },
            mend: (Mended::AfterTheRun, |lab| lab.heal("git")),
            expected: UNTOUCHED,
            ..GOOD
        },
        Case {
            fault: "git remote lost",
            moment: "after the switch",
            at: Moment::Before(" commit]"),
            inject: |lab| lab.cut("git"),
            mend: (Mended::AfterTheRun, |lab| lab.heal("git")),
            expected: &[(8, Now::Candidate)],
            ..GOOD
        },
        Case {
            fault: "target rebooted",
            moment: "copy",
            at: Moment::Before("Every path on stdin"),
            inject: reboot,
            expected: UNTOUCHED,
            ..GOOD
        },
        Case {
            fault: "target rebooted",
            moment: "activation",
            at: Moment::Switching,
            prepare: slow,
            inject: reboot,
            ..GOOD
        },
        Case {
            fault: "target rebooted",
            moment: "lease",
            at: Moment::Before(" renew "),
            inject: reboot,
            ..GOOD
        },
        Case {
            fault: "target rebooted",
            moment: "commit",
            at: Moment::Before(" commit]"),
            inject: reboot,
            ..GOOD
        },
        Case {
            fault: "target rebooted",
            moment: "marking",
            at: Moment::Before("umask 022"),
            inject: reboot,
            expected: &[(8, Now::Candidate)],
            ..GOOD
        },
        Case {
            fault: "supervisor killed",
            moment: "holding",
            at: Moment::Before("Every path on stdin"),
            inject: kill_supervisor,
            expected: UNTOUCHED,
            ..GOOD
        },
        Case {
            fault: "supervisor killed",
            moment: "activation",
            at: Moment::Switching,
            prepare: slow,
            inject: kill_supervisor,
            ..GOOD
        },
        Case {
            fault: "supervisor killed",
            moment: "lease",
            at: Moment::Before(" renew "),
            inject: kill_supervisor,
            ..GOOD
        },
        Case {
            fault: "isolated away",
            moment: "lease",
            at: Moment::Before(" renew "),
            inject: |lab| drop(root(lab, "cortex", "systemctl isolate multi-user.target")),
            expected: RELEASED,
            ..GOOD
        },
        Case {
            fault: "systemd re-executed",
            moment: "lease",
            at: Moment::Before(" renew "),
            inject: |lab| drop(root(lab, "cortex", "systemctl daemon-reexec")),
            expected: RELEASED,
            ..GOOD
        },
        Case {
            fault: "another tool switches",
            moment: "lease",
            at: Moment::Before(" renew "),
            inject: |lab| {
                let out = lab.sh(
                    "cortex",
                    "root",
                    "/nix/var/nix/profiles/system/bin/switch-to-configuration test",
                );
                assert_eq!(out.status, 11, "{out}");
            },
            expected: RELEASED,
            ..GOOD
        },
        Case {
            fault: "lock left by a dead run",
            moment: "preflight",
            at: Moment::Before("cortex: ssh master"),
            inject: |lab| {
                drop(root(
                    lab,
                    "cortex",
                    "mkdir -p /run/nixgate/dead && printf 'run=dead\\ntarget=cortex\\nwho=x\\ncommit=0\\nsince=1\\n' >/run/nixgate/holder && printf 'state=waiting\\nrun=dead\\n' >/run/nixgate/dead/state",
                ))
            },
            expected: RELEASED,
            ..GOOD
        },
        Case {
            fault: "lock held by a living run",
            moment: "preflight",
            at: Moment::Before("cortex: ssh master"),
            inject: |lab| {
                drop(root(
                    lab,
                    "cortex",
                    "mkdir -p /run/nixgate && printf 'run=living\\ntarget=cortex\\nwho=somebody\\ncommit=0\\nsince=1\\n' >/run/nixgate/holder && systemd-run --quiet --unit=nixgate-living flock /run/nixgate/lock sleep infinity",
                ))
            },
            mend: (Mended::AfterTheRun, |lab| {
                drop(root(
                    lab,
                    "cortex",
                    "systemctl stop nixgate-living; rm /run/nixgate/holder",
                ))
            }),
            expected: &[(6, Now::Before)],
            ..GOOD
        },
        Case {
            fault: "a second operator",
            moment: "dry-activate",
            at: Moment::Before("Every path on stdin"),
            inject: |lab| {
                let out = lab.sh("desk", "op", "rm -rf ~/second && git clone -q ~/infra ~/second && cd ~/second && git remote set-url origin \"$(git -C ~/infra remote get-url origin)\" && git nixgate release cortex");
                assert_eq!(out.status, 6, "{out}");
                assert!(out.stderr.contains("since"), "{out}");
            },
            expected: RELEASED,
            ..GOOD
        },
        Case {
            fault: "host's clock an hour ahead",
            moment: "whole run",
            at: Moment::Before("cortex: ssh master"),
            // The kernel's clock is everybody's: the host's own "date" tells another time.
            inject: |lab| {
                drop(root(
                    lab,
                    "cortex",
                    "cp /usr/bin/date /root/date && printf '#!/bin/sh\\nexec /root/date -d \"+1 hour\" \"$@\"\\n' >/root/later && chmod 755 /root/later && mount --bind /root/later /usr/bin/date && [ $(date +%s) -gt $(($(/root/date +%s) + 3000)) ]",
                ))
            },
            mend: (Mended::AfterTheRun, |lab| {
                drop(root(lab, "cortex", "umount /usr/bin/date"))
            }),
            expected: RELEASED,
            ..GOOD
        },
    ];
    table(&lab, "3-host", &cases);
}

fn kill_supervisor(lab: &Lab) {
    root(
        lab,
        "cortex",
        "r=$(sed -n 's/^run=//p' /run/nixgate/holder) && systemctl kill --signal=KILL \"nixgate-$r.service\"",
    );
}

// --- no room --------------------------------------------------------------------------------------------------------

const FULL: Case = Case {
    mend: (Mended::AfterTheRun, |lab| {
        root(
            lab,
            "cortex",
            "rm -f /nix/full /boot/full /run/full /var/lib/nixgate/full; mount -o remount,nr_inodes=200000 /mnt/nix",
        );
    }),
    ..GOOD
};

fn fill(lab: &Lab, folder: &str) {
    // dd says 1 when there is no room left, which is what is wanted.
    root(
        lab,
        "cortex",
        &format!(
            "dd if=/dev/zero of={folder}/full bs=64k 2>/dev/null; dd if=/dev/zero of={folder}/full bs=1 oflag=append conv=notrunc 2>/dev/null; [ \"$(df --output=avail {folder} | tail -n 1)\" -lt 8 ]"
        ),
    );
}

/// Every file system of the host has a size of its own here.
#[test]
fn s3_9_no_room_left() {
    let lab = fault_lab("faults-room", "");
    root(
        &lab,
        "cortex",
        "set -e; systemctl stop nix-daemon.socket nix-daemon.service; mkdir -p /mnt/nix /mnt/boot /var/lib/nixgate
         mount -t tmpfs -o size=160m,nr_inodes=200000 tmpfs /mnt/nix; cp -a /nix/. /mnt/nix/; mount --bind /mnt/nix /nix
         mount -t tmpfs -o size=300m tmpfs /mnt/boot; cp -a /boot/. /mnt/boot/; mount --bind /mnt/boot /boot
         cp -a /var/lib/nixgate /mnt/was; mount -t tmpfs -o size=1m tmpfs /var/lib/nixgate; cp -a /mnt/was/. /var/lib/nixgate/
         mount -o remount,size=64m /run
         systemctl start nix-daemon.socket",
    );
    const UNTOUCHED: &[(i32, Now)] = &[(1, Now::Before)];
    let cases = [
        Case {
            fault: "/nix full",
            moment: "copy",
            at: Moment::Before("Starts a run"),
            inject: |lab| fill(lab, "/nix"),
            expected: UNTOUCHED,
            ..FULL
        },
        Case {
            fault: "/nix full",
            moment: "commit",
            at: Moment::Before(" commit]"),
            inject: |lab| fill(lab, "/nix"),
            ..FULL
        },
        Case {
            fault: "no inodes on /nix",
            moment: "copy",
            at: Moment::Before("Starts a run"),
            inject: |lab| {
                drop(root(
                    lab,
                    "cortex",
                    "mount -o remount,nr_inodes=$(df --output=iused /mnt/nix | tail -n 1 | tr -d ' ') /mnt/nix",
                ))
            },
            expected: UNTOUCHED,
            ..FULL
        },
        Case {
            fault: "/boot full",
            moment: "commit",
            at: Moment::Before(" commit]"),
            inject: |lab| fill(lab, "/boot"),
            ..FULL
        },
        Case {
            fault: "/run full",
            moment: "copy",
            at: Moment::Before("Starts a run"),
            inject: |lab| fill(lab, "/run"),
            expected: UNTOUCHED,
            ..FULL
        },
        Case {
            fault: "/run full",
            moment: "lease",
            at: Moment::Before(" renew "),
            inject: |lab| fill(lab, "/run"),
            ..FULL
        },
        Case {
            fault: "/ full (where the record goes)",
            moment: "marking",
            at: Moment::Before("umask 022"),
            inject: |lab| fill(lab, "/var/lib/nixgate"),
            expected: &[(8, Now::Candidate)],
            ..FULL
        },
    ];
    table(&lab, "4-room", &cases);
}
