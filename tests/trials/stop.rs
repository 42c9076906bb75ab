//! Somebody wants a run to end: by a key, by a signal, or by `cancel` from wherever they are. A switch is never
//! interrupted.

use std::time::{Duration, Instant};

use crate::broken::says;
use crate::crash::{signing_can_hang, slow, stopped_before_its_record};
use crate::faults_newer::lingering;
use crate::hand::{describe, desk, good, kill_operator, name_in, nothing_left, root, wait_for_switch};
use crate::infra::{expect, host_state, refs, release, usual};
use crate::lab::{Lab, Output, Spawned};
use crate::resume::on_builder;

const PATIENCE: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(20);

/// SIGINT to the program alone: its exit code is its own then, and not that of the `git` before it.
fn interrupt(lab: &Lab) {
    root(lab, "desk", "pkill -INT -u op -x git-nixgate");
}

#[track_caller]
fn end(mut run: Spawned) -> Output {
    let late = Instant::now() + PATIENCE;
    while run.is_running() {
        assert!(Instant::now() < late, "it goes on:\n{}", run.stderr_so_far());
        std::thread::sleep(Duration::from_millis(20));
    }
    run.wait(PATIENCE).expect("it ended")
}

/// A build that takes a minute.
fn slow_build(lab: &Lab) {
    describe(
        lab,
        "cortex",
        r#"ctx: { etc."slow" = "${ctx.run "slow-build" { } "sleep 60; echo done >$out"}"; }"#,
    );
}

fn soaking(lab: &Lab) {
    desk(
        lab,
        "sed -i 's/^soak = .*/soak = 60/' .nixgate.toml && git commit -qam 'Soak longer' && git push -q origin main",
    );
}

#[test]
fn s4_38_stopped_while_it_builds_nothing_goes_on_anywhere() {
    let lab = usual("stop-build");
    release(&lab, "cortex");
    let (state, before) = (host_state(&lab, "cortex"), refs(&lab));
    slow_build(&lab);
    for by_cancel in [false, true] {
        let run = lab.spawn_nixgate("op", &["release", "cortex"]);
        lab.wait_for("forge", "pgrep -f '[s]leep 60'", PATIENCE);
        if by_cancel {
            says(&expect(&lab, 0, &["cancel", "cortex"]), &["has ended"]);
        } else {
            interrupt(&lab);
        }
        let out = end(run);
        assert_eq!(out.status, 1, "{out}");
        says(
            &out,
            &[
                "stopping at the next safe boundary",
                "stopped: cortex was not switched",
            ],
        );
        lab.wait_for(
            "forge",
            "! pgrep -f '[s]leep 60' && ! pgrep -f '[n]ix build'",
            SOON,
        );
        let left = on_builder(&lab);
        assert!(
            !left.contains("run-") && !left.contains("refs/nixgate/src"),
            "{left}"
        );
        assert_eq!(
            (host_state(&lab, "cortex"), refs(&lab)),
            (state.clone(), before.clone())
        );
    }
    says(&expect(&lab, 0, &["cancel", "cortex"]), &["no run is at work"]);
}

#[test]
fn s3_34_stopped_in_mid_switch_it_ends_the_switch_and_goes_back() {
    let lab = usual("stop-switch");
    release(&lab, "cortex");
    let state = host_state(&lab, "cortex");
    describe(
        &lab,
        "cortex",
        r#"{ activationName = "slow"; activation = "sleep 6; echo came-to-its-end"; }"#,
    );
    let run = lab.spawn_nixgate("op", &["release", "cortex"]);
    wait_for_switch(&lab, "cortex");
    interrupt(&lab);
    let out = end(run);
    assert_eq!(out.status, 4, "{out}");
    says(
        &out,
        &[
            "if this is cut off now, cortex finishes its switch and goes back by itself",
            "stopped: cortex does not stay on the candidate",
            "is back on what ran before",
        ],
    );
    let failed = desk(&lab, "git nixgate log cortex --failed");
    let name = failed
        .split_whitespace()
        .find(|word| word.contains("Z-"))
        .expect("a run");
    let log = desk(&lab, &format!("git nixgate show {name}"));
    assert!(log.contains("came-to-its-end"), "{log}");
    assert_eq!(host_state(&lab, "cortex"), state);
    nothing_left(&lab, "cortex", SOON);
}

#[test]
fn s3_34_whoever_reads_along_may_go_away_and_a_terminal_that_does_is_a_wish_to_stop() {
    let lab = usual("stop-reader");
    let out = desk(
        &lab,
        "git nixgate release cortex 2>&1 | head -n 1; echo ended ${PIPESTATUS[0]}",
    );
    assert!(out.ends_with("ended 0"), "{out}");
    assert_eq!(
        desk(
            &lab,
            "git nixgate log cortex --json | grep -c '\"kind\":\"release\"'"
        ),
        "1"
    );
    soaking(&lab);
    good(&lab, "cortex", 1);
    let state = host_state(&lab, "cortex");
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("[5/5]", PATIENCE);
    root(&lab, "desk", "pkill -HUP -u op -x git-nixgate");
    let out = end(run);
    assert_eq!(out.status, 4, "{out}");
    says(
        &out,
        &["stopping at the next safe boundary", "is back on what ran before"],
    );
    assert_eq!(host_state(&lab, "cortex"), state);
    nothing_left(&lab, "cortex", SOON);

    // Started not to mind, it does not.
    desk(
        &lab,
        "sed -i 's/^soak = .*/soak = 2/' .nixgate.toml && git commit -qam 'Soak shorter' && git push -q origin main",
    );
    let mut run = lab.spawn(
        "desk",
        "op",
        "cd ~/infra && exec nohup git nixgate release cortex",
    );
    run.wait_for_stderr("[5/5]", PATIENCE);
    root(&lab, "desk", "pkill -HUP -u op -x git-nixgate");
    assert_eq!(end(run).status, 0);
}

#[test]
fn s4_38_stopped_while_it_soaks_the_host_goes_back() {
    let lab = usual("stop-soak");
    release(&lab, "cortex");
    let state = host_state(&lab, "cortex");
    soaking(&lab);
    good(&lab, "cortex", 1);
    for by_cancel in [false, true] {
        let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
        run.wait_for_stderr("[5/5]", PATIENCE);
        if by_cancel {
            says(&expect(&lab, 0, &["cancel", "cortex"]), &["has ended: stopped"]);
        } else {
            // As git hands on what it got from the terminal: twice at nearly the same time.
            root(
                &lab,
                "desk",
                "pkill -INT -u op -x git-nixgate; pkill -INT -u op -x git-nixgate",
            );
        }
        let out = end(run);
        assert_eq!(out.status, 4, "{out}");
        says(&out, &["is back on what ran before"]);
        assert_eq!(host_state(&lab, "cortex"), state);
        nothing_left(&lab, "cortex", SOON);
    }
}

#[test]
fn s3_34_asked_twice_the_run_leaves_at_once_and_says_what_the_host_will_do() {
    let lab = usual("stop-twice");
    release(&lab, "cortex");
    let state = host_state(&lab, "cortex");
    slow(&lab, 12);
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    wait_for_switch(&lab, "cortex");
    interrupt(&lab);
    run.wait_for_stderr("Once more leaves at once", PATIENCE);
    // Until it is heard as a wish of its own, and not as the first one handed on.
    lab.wait_for(
        "desk",
        "! pkill -INT -u op -x git-nixgate",
        Duration::from_secs(10),
    );
    let out = end(run);
    assert_eq!(out.status, 5, "{out}");
    says(
        &out,
        &[
            "left: cortex finishes its switch and goes back by itself",
            "git nixgate resume cortex",
        ],
    );
    // Nobody says anything, and the host does what was said.
    lab.wait_for("cortex", "flock -n /run/nixgate/lock true", PATIENCE);
    let resumed = lab.nixgate(&["resume", "cortex"]);
    assert!([1, 4].contains(&resumed.status), "{resumed}");
    assert_eq!(host_state(&lab, "cortex"), state);
    nothing_left(&lab, "cortex", SOON);
}

/// Another clone of somebody else, who knows nothing of the run's process.
#[track_caller]
fn other_clone(lab: &Lab) {
    lab.sh(
        "desk",
        "op",
        "git clone -q \"$(git -C ~/infra remote get-url origin)\" ~/other && cd ~/other && \
         git config user.name Other && git config user.email other@example.org",
    )
    .text();
}

fn elsewhere(lab: &Lab, args: &str) -> Output {
    lab.sh("desk", "op", &format!("cd ~/other && git nixgate {args}"))
}

#[test]
fn s3_34_cancelled_from_another_clone_through_the_host() {
    let lab = usual("stop-far");
    release(&lab, "cortex");
    let state = host_state(&lab, "cortex");
    other_clone(&lab);
    let none = elsewhere(&lab, "cancel cortex");
    assert_eq!(none.status, 0, "{none}");
    says(&none, &["no run is at work, here or there"]);

    // In mid-switch: heard, and obeyed when the switch has ended.
    slow(&lab, 6);
    let run = lab.spawn_nixgate("op", &["release", "cortex"]);
    wait_for_switch(&lab, "cortex");
    let cancelled = elsewhere(&lab, "cancel cortex");
    assert_eq!(cancelled.status, 0, "{cancelled}");
    says(&cancelled, &["cortex is back on"]);
    let out = end(run);
    assert_eq!(out.status, 4, "{out}");
    says(&out, &["cancelled by Other <other@example.org>"]);
    assert_eq!(host_state(&lab, "cortex"), state);
    nothing_left(&lab, "cortex", SOON);

    // While it soaks.
    soaking(&lab);
    good(&lab, "cortex", 2);
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("[5/5]", PATIENCE);
    let cancelled = elsewhere(&lab, "cancel cortex");
    assert_eq!(cancelled.status, 0, "{cancelled}");
    let out = end(run);
    assert_eq!(out.status, 4, "{out}");
    says(&out, &["cancelled by Other <other@example.org>"]);
    assert_eq!(host_state(&lab, "cortex"), state);
    nothing_left(&lab, "cortex", SOON);
}

#[test]
fn s3_34_what_a_dead_operator_left_waiting_is_cancelled() {
    let lab = usual("stop-dead");
    release(&lab, "cortex");
    let state = host_state(&lab, "cortex");
    soaking(&lab);
    good(&lab, "cortex", 2);
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("[5/5]", PATIENCE);
    kill_operator(&lab, &mut run);
    // The run's file names a process that lives no more: the host is asked.
    let out = expect(&lab, 0, &["cancel", "cortex"]);
    says(&out, &["asking cortex to end run", "cortex is back on"]);
    let resumed = expect(&lab, 4, &["resume", "cortex"]);
    says(&resumed, &["cancelled by"]);
    assert_eq!(host_state(&lab, "cortex"), state);
    nothing_left(&lab, "cortex", SOON);
}

#[test]
fn s3_34_stopped_while_it_holds_the_host_nothing_is_switched() {
    let lab = usual("stop-hold");
    release(&lab, "cortex");
    let (state, before) = (host_state(&lab, "cortex"), refs(&lab));
    lingering(&lab, 1);
    other_clone(&lab);
    for far in [false, true] {
        let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
        run.wait_for_stderr("\ndry-activate\n", PATIENCE);
        lab.wait_for("cortex", "! flock -n /run/nixgate/lock true", PATIENCE);
        let cancelled = match far {
            true => elsewhere(&lab, "cancel cortex"),
            false => lab.nixgate(&["cancel", "cortex"]),
        };
        assert_eq!(cancelled.status, 0, "{cancelled}");
        says(&cancelled, &["was not switched"]);
        let out = end(run);
        assert_eq!(out.status, 1, "{out}");
        // Its rehearsal went on by itself.
        root(&lab, "cortex", "touch /run/go");
        nothing_left(&lab, "cortex", SOON);
        lab.wait_for(
            "cortex",
            "! pgrep -f '[s]witch-to-configuration' >/dev/null",
            SOON,
        );
        assert_eq!(
            (host_state(&lab, "cortex"), refs(&lab)),
            (state.clone(), before.clone())
        );
        root(&lab, "cortex", "rm /run/go");
    }
}

#[test]
fn s3_34_what_is_committed_is_too_late_to_be_stopped_and_gets_its_record() {
    let lab = usual("stop-late");
    signing_can_hang(&lab);
    release(&lab, "cortex");
    good(&lab, "cortex", 1);
    let run = stopped_before_its_record(&lab);
    let mut cancel = lab.spawn_nixgate("op", &["cancel", "cortex"]);
    cancel.wait_for_stderr("stops at its next safe boundary", PATIENCE);
    root(&lab, "desk", "rm /tmp/hang");
    let out = end(run);
    assert_eq!(out.status, 0, "{out}");
    let record = name_in(&out);
    let cancelled = end(cancel);
    assert_eq!(cancelled.status, 1, "{cancelled}");
    says(&cancelled, &["too late to stop run", &record]);
    expect(&lab, 0, &["verify", "cortex"]);
    expect(&lab, 0, &["status", "cortex", "--live"]);
    nothing_left(&lab, "cortex", SOON);
}
