//! A newer commit and an older run of the same target; and a host's journal.

use std::time::Duration;

use crate::broken::says;
use crate::crash::slow;
use crate::hand::{describe, desk, good, name_in, nothing_left, root, wait_for_switch};
use crate::infra::{CONFIG, configure, expect, host_state, release, usual};
use crate::lab::Lab;

const PATIENCE: Duration = Duration::from_secs(90);

/// Somebody else's clone, at what is pushed now.
#[track_caller]
fn other_clone(lab: &Lab) {
    lab.sh(
        "desk",
        "op",
        "rm -rf ~/other; git clone -q \"$(git -C ~/infra remote get-url origin)\" ~/other && cd ~/other && \
         git config user.name Other && git config user.email other@example.org",
    )
    .text();
}

fn from_there(args: &str) -> String {
    format!("cd ~/other && exec git nixgate {args}")
}

/// A commit whose pre-switch check waits for a file: the run holds its host meanwhile, and has not begun to switch.
#[track_caller]
pub fn lingering(lab: &Lab, number: u32) {
    describe(
        lab,
        "cortex",
        &format!(
            r#"{{ packages.hello = "5.{number}";
               preSwitchCheck = "[ \"$2\" != check ] || until test -e /run/go; do sleep 0.1; done"; }}"#
        ),
    );
    desk(lab, "git push -q origin HEAD:main");
}

#[test]
fn s3_33_a_newer_commit_cancels_an_older_release_that_has_not_begun_to_switch() {
    let lab = usual("s3-33");
    release(&lab, "cortex");
    lingering(&lab, 1);
    other_clone(&lab);

    // Another clone's release holds the host.
    let mut older = lab.spawn("desk", "op", &from_there("release cortex"));
    older.wait_for_stderr("\ndry-activate\n", PATIENCE);
    good(&lab, "cortex", 2);
    let busy = expect(&lab, 6, &["release", "cortex"]);
    says(&busy, &["is held by another run"]);
    let mut newer = lab.spawn_nixgate("op", &["release", "cortex", "--cancel-older"]);
    newer.wait_for_stderr("to make room", PATIENCE);
    // Its supervisor has let go, and its rehearsal is still at work.
    lab.wait_for(
        "cortex",
        "! systemctl list-units --plain --no-legend 'nixgate-*.service' | grep -q .",
        PATIENCE,
    );
    root(&lab, "cortex", "touch /run/go");
    let out = newer.wait(PATIENCE).expect("it ended");
    assert_eq!(out.status, 0, "{out}");
    says(&out, &["of Other <other@example.org>, at the older commit"]);
    let newest = lab.running_system("cortex");
    let ended = older.wait(PATIENCE).expect("it ended");
    assert_eq!(ended.status, 1, "{ended}");
    says(&ended, &["superseded by The Operator (op) <op@desk.example>"]);
    assert_eq!(lab.running_system("cortex"), newest);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    expect(&lab, 0, &["status", "cortex", "--live"]);

    // One of this clone is at its build.
    describe(
        &lab,
        "cortex",
        r#"ctx: { etc."slow" = "${ctx.run "slow-build" { } "sleep 60; echo done >$out"}"; }"#,
    );
    let older = lab.spawn_nixgate("op", &["release", "cortex"]);
    lab.wait_for("forge", "pgrep -f '[s]leep 60'", PATIENCE);
    good(&lab, "cortex", 3);
    expect(&lab, 0, &["release", "cortex", "--cancel-older"]);
    let ended = older.wait(PATIENCE).expect("it ended");
    assert_eq!(ended.status, 1, "{ended}");
    says(&ended, &["stopped: cortex was not switched"]);

    // One of another clone has not come to the host: the newer one cannot see it, and it finds the newer record.
    describe(
        &lab,
        "cortex",
        r#"ctx: { etc."slow" = "${ctx.run "held-build" { } "touch /tmp/begun; until test -e /tmp/go; do sleep 0.1; done; echo done >$out"}"; }"#,
    );
    desk(&lab, "git push -q origin HEAD:main");
    other_clone(&lab);
    let mut older = lab.spawn("desk", "op", &from_there("release cortex"));
    lab.wait_for("forge", "test -e /tmp/begun", PATIENCE);
    good(&lab, "cortex", 30);
    let newest = name_in(&expect(&lab, 0, &["release", "cortex", "--cancel-older"]));
    assert!(older.is_running());
    root(&lab, "forge", "touch /tmp/go");
    let ended = older.wait(PATIENCE).expect("it ended");
    assert_eq!(ended.status, 3, "{ended}");
    says(&ended, &[&newest]);

    // What already switches goes on, and so does a release of a newer commit, and a way back.
    desk(&lab, "git push -q origin HEAD:main");
    slow(&lab, 8);
    desk(&lab, "git push -q origin HEAD:main");
    other_clone(&lab);
    let older = lab.spawn("desk", "op", &from_there("release cortex"));
    wait_for_switch(&lab, "cortex");
    good(&lab, "cortex", 4);
    expect(&lab, 6, &["release", "cortex", "--cancel-older"]);
    let ended = older.wait(PATIENCE).expect("it ended");
    assert_eq!(ended.status, 0, "{ended}");
    root(&lab, "cortex", "rm /run/go");
    lingering(&lab, 5);
    other_clone(&lab);
    let mut newer = lab.spawn("desk", "op", &from_there("check cortex"));
    newer.wait_for_stderr("\ndry-activate\n", PATIENCE);
    let before = host_state(&lab, "cortex");
    expect(
        &lab,
        6,
        &["release", "cortex", "--rev", "HEAD~1", "--cancel-older"],
    );
    assert_eq!(host_state(&lab, "cortex"), before);
    root(&lab, "cortex", "touch /run/go");
    let ended = newer.wait(PATIENCE).expect("it ended");
    assert_eq!(ended.status, 0, "{ended}");
}

#[test]
fn s4_45_a_hosts_journal_is_followed_until_the_reader_goes() {
    let lab = usual("s4-45");
    configure(
        &lab,
        &format!("{CONFIG}[[target.cortex.check]]\nunit = \"chatty.service\"\n"),
    );
    root(
        &lab,
        "cortex",
        "systemd-run --quiet --unit=chatty sh -c 'while :; do echo tick; sleep 0.3; done'; \
         systemd-run --quiet --unit=other sh -c 'echo somebody else; exec sleep 600'",
    );
    lab.wait_for(
        "cortex",
        "journalctl -u chatty --no-pager | grep -q tick",
        Duration::from_secs(10),
    );
    // What the checks name; some unit; the last of it; as JSON.
    let out = expect(&lab, 0, &["logs", "cortex"]);
    assert!(
        out.stdout.contains("tick") && !out.stdout.contains("somebody else"),
        "{out}"
    );
    let out = expect(&lab, 0, &["logs", "cortex", "other"]);
    assert!(
        out.stdout.contains("somebody else") && !out.stdout.contains("tick"),
        "{out}"
    );
    let out = expect(&lab, 0, &["--json", "logs", "cortex", "-n", "2"]);
    let lines: Vec<serde_json::Value> = out
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2, "{out}");
    assert_eq!(lines[1]["MESSAGE"], "tick", "{out}");

    // Followed: what comes later is seen; a key ends it; nothing goes on there, whoever went how.
    let gone = "! pgrep -f '[j]ournalctl.*--follow'";
    for end in ["INT", "KILL"] {
        let mut run = lab.spawn(
            "desk",
            "op",
            "cd ~/infra && exec git nixgate logs cortex -f -n 0 >&2",
        );
        run.wait_for_stderr("tick", PATIENCE);
        root(&lab, "desk", &format!("pkill -{end} -u op -x git-nixgate"));
        let out = run.wait(Duration::from_secs(20)).expect("it ended");
        if end == "INT" {
            assert_eq!(out.status, 0, "{out}");
        }
        // Its connection goes with it, or a moment later.
        lab.sh("desk", "root", "pkill -KILL -u op -x ssh; :");
        lab.wait_for("cortex", gone, Duration::from_secs(20));
    }
    lab.cut("cortex");
    let out = expect(&lab, 1, &["logs", "cortex"]);
    says(&out, &["cortex does not answer"]);
}
