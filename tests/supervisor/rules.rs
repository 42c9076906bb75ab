//! Trials of single rules of docs/supervisor.md that no whole run would miss until the day that it needs them.

use std::time::Duration;

use git_nixgate::host::fresh;
use git_nixgate::host::state::Phase;
use git_nixgate::host::supervisor::{HoldError, release_leftover};
use git_nixgate::host::trouble;

use super::lab::{Lab, Trial, until};
use super::{assert_back, switched};

/// Which processes have a lock's file open: `LOCK PID`, one a line.
const HOLDERS: &str =
    "for l in nixgate/lock nixos/switch-to-configuration.lock $(cd /run && ls nixgate/*/busy); do
    for f in /proc/[0-9]*/fd/*; do
        [ \"$(readlink \"$f\" 2>/dev/null)\" = \"/run/$l\" ] || continue
        p=${f#/proc/} p=${p%%/*}
        # Who waits for the end of the switch has that file open, and not its lock.
        [ \"$(cat /proc/$p/comm)\" = flock ] || echo \"$l $p\"
    done; done";

#[tokio::test]
#[ignore = "needs the lab"]
async fn no_child_inherits_a_lock() {
    let lab = Lab::new();
    lab.reset("cortex");
    let candidate = lab
        .run(&["closure", "cortex", "Bslow", "activation=\"sleep 15\""])
        .trim()
        .to_owned();
    let mut trial = Trial::new(&lab, "cortex", &candidate, 30, 60).await;
    let held = trial.hold().await.expect("held");
    let run = held.run.clone();
    let looker = tokio::task::spawn_blocking(move || {
        let lab = Lab::new();
        lab.wait_state("cortex", &run, &["switching"], 10);
        lab.try_sh("cortex", "until pgrep -x sleep >/dev/null; do sleep 0.1; done");
        let main = lab.sh("cortex", &format!("systemctl show -P MainPID nixgate-{run}"));
        let main = main.trim().to_owned();
        // A fork is a child for a moment before it has closed them. switch-to-configuration has its own lock itself.
        until("a supervisor that alone has its lock", || {
            let holders = lab.try_sh("cortex", HOLDERS);
            let state = lab.state("cortex", &run);
            assert!(state.contains("state=switching"), "{holders}{state}");
            let mut ours: Vec<&str> = holders
                .lines()
                .filter(|line| line.starts_with("nixgate/"))
                .collect();
            ours.sort_unstable_by_key(|line| line.contains("/busy "));
            let alone = ours
                == [
                    format!("nixgate/lock {main}"),
                    format!("nixgate/{run}/busy {main}"),
                ];
            (alone && !holders.contains(&format!("switch-to-configuration.lock {main}"))).then_some(())
        });
        main
    });
    held.switch(&mut trial.session).await.expect("switched");
    let main = looker.await.expect("looked");
    let both = format!("nixgate/lock {main}\nnixos/switch-to-configuration.lock {main}");
    until("a supervisor that alone has both locks", || {
        (lab.try_sh("cortex", HOLDERS).trim() == both).then_some(())
    });
    let mut shell = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    assert!(held.revert(&mut shell).await.expect("an answer").back);
    held.end(&mut shell).await.expect("ended");
    lab.assert_nothing_left("cortex");
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn half_a_message_is_silence() {
    let lab = Lab::new();
    let (trial, held, _) = switched(&lab, "B", 4, 60).await;
    lab.sh(
        "cortex",
        &format!("printf 'renew half' 1<>/run/nixgate/{}/fifo", held.run),
    );
    let state = lab.wait_state("cortex", &held.run, &["reverted"], 30);
    assert!(state.contains("reason=the lease ended in silence"), "{state}");
    assert_back(&lab, &trial.facts);
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_missing_link_to_the_running_system_does_not_keep_a_host_from_going_back() {
    let lab = Lab::new();
    let (trial, held, _) = switched(&lab, "B", 20, 60).await;
    lab.sh("cortex", "rm /run/current-system");
    let mut shell = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    let reverted = held.revert(&mut shell).await.expect("an answer");
    assert!(reverted.back, "{reverted:?}");
    assert_back(&lab, &trial.facts);
    held.end(&mut shell).await.expect("ended");
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn checks_of_the_previous_system_do_not_keep_a_host_from_going_back() {
    let lab = Lab::new();
    lab.reset("cortex");
    let (strict, b) = (lab.closure("cortex", "Bpre"), lab.closure("cortex", "B"));
    lab.sh(
        "cortex",
        &format!(
            "nix-env -p /nix/var/nix/profiles/system --set {strict} && \
             NIXOS_NO_CHECK=1 {strict}/bin/switch-to-configuration switch"
        ),
    );
    let refused = lab.try_sh(
        "cortex",
        &format!("{strict}/bin/switch-to-configuration test; echo $?"),
    );
    assert!(refused.trim_end().ends_with("\n1"), "{refused}");
    let mut trial = Trial::new(&lab, "cortex", &b, 20, 60).await;
    let held = trial.hold().await.expect("held");
    held.switch(&mut trial.session).await.expect("switched");
    assert_eq!(lab.running("cortex"), b);
    let mut shell = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    let reverted = held.revert(&mut shell).await.expect("an answer");
    assert!(reverted.back, "{reverted:?}");
    assert_eq!(lab.running("cortex"), strict);
    held.end(&mut shell).await.expect("ended");
    lab.reset("cortex");
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn what_switches_the_host_again_after_the_revert_is_seen_at_the_end_and_undone() {
    let lab = Lab::new();
    let (trial, held, _) = switched(&lab, "B", 20, 60).await;
    let mut shell = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    assert!(held.revert(&mut shell).await.expect("an answer").back);
    // As an orphaned "activate" did.
    lab.sh(
        "cortex",
        &format!("ln -sfn {} /run/current-system", held.candidate),
    );
    let state = held.end(&mut shell).await.expect("ended");
    assert!(state.phase == Phase::Reverted && state.settled, "{state:?}");
    assert_back(&lab, &trial.facts);
    lab.assert_nothing_left("cortex");
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_revert_that_failed_reboots_into_what_ran_before_where_that_is_allowed() {
    let lab = Lab::new();
    for (allowed, container) in [(true, true), (false, false), (true, false)] {
        lab.reset("cortex");
        let b = lab.closure("cortex", "B");
        let mut trial = Trial::new(&lab, "cortex", &b, 4, 60).await;
        trial.plan.reboot_on_failed_revert = allowed;
        // Hosts of the lab are containers that can reboot all the same.
        trial.plan.container = trial.plan.container.filter(|_| container);
        let machine = lab.init("cortex");
        let held = trial.hold().await.expect("held");
        held.switch(&mut trial.session).await.expect("switched");
        // The application cannot be started any more before the next boot.
        lab.try_sh(
            "cortex",
            "mkdir -p /run/systemd/system/app.service.d
             printf '[Service]\\nExecStartPre=/bin/false\\n' >/run/systemd/system/app.service.d/x.conf
             systemctl daemon-reload; systemctl stop app",
        );
        if allowed && !container {
            // Nothing is run in it meanwhile: a host that shuts down stops what it finds, nsenter stops with that, and
            // the host never ends.
            until("another boot", || {
                lab.init("cortex").filter(|init| Some(init) != machine.as_ref())
            });
            until("a host that is up", || {
                let up = lab.ask_sh("cortex", "systemctl is-system-running");
                (up.as_deref() == Some("running")).then_some(())
            });
            assert_back(&lab, &trial.facts);
            continue;
        }
        let state = until("its end", || {
            let units = lab.try_sh(
                "cortex",
                "systemctl list-units --all --no-legend --plain 'nixgate-*'",
            );
            let state = lab.state("cortex", &held.run);
            (units.trim().is_empty() && state.contains("settled=1")).then_some(state)
        });
        assert!(state.contains("state=revert-failed"), "{state}");
        // Down or failed: systemd may be at one of its own tries to start it again.
        let why = [
            "app.service ran before and stays down",
            "app.service fails and did not before",
        ];
        assert!(why.iter().any(|why| state.contains(why)), "{state}");
        assert!(!state.contains("rebooting=1"), "{state}");
        assert_eq!(lab.init("cortex"), machine);
        lab.sh(
            "cortex",
            "rm -r /run/systemd/system/app.service.d; systemctl daemon-reload; systemctl reset-failed app; systemctl start app",
        );
        release_leftover(&mut trial.session, &held.run)
            .await
            .expect("gone");
    }
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn its_unit_survives_what_others_do_not_and_its_folder_is_for_root_alone() {
    let lab = Lab::new();
    lab.reset("cortex");
    let b = lab.closure("cortex", "B");
    let trial = Trial::new(&lab, "cortex", &b, 20, 60).await;
    let held = trial.hold().await.expect("held");
    let shown = lab.sh(
        "cortex",
        &format!(
            "systemctl show -p Type,CollectMode,IgnoreOnIsolate,OOMPolicy,OOMScoreAdjust,TimeoutStopUSec nixgate-{0}
             stat -c '%a %U' /run/nixgate/{0} /run/nixgate/{0}/supervisor.sh /run/nixgate/{0}/fifo",
            held.run
        ),
    );
    let mut shown: Vec<&str> = shown.lines().collect();
    shown.sort_unstable();
    // The kernel's own figure is not a container's to set, so that systemd's is what can be seen here. The time to stop is what a recovery may take: a switch and a way back of 60 s each, and more.
    let stop = shown.iter().position(|line| line.starts_with("TimeoutStopUSec="));
    let stop = shown.remove(stop.expect("a time to stop"));
    assert!(stop.contains("min"), "{stop}");
    assert_eq!(
        shown,
        [
            "600 root",
            "600 root",
            "700 root",
            "CollectMode=inactive-or-failed",
            "IgnoreOnIsolate=yes",
            "OOMPolicy=continue",
            "OOMScoreAdjust=-900",
            "Type=exec"
        ]
    );
    held.release(&mut &trial.session).await.expect("released");
    release_leftover(&mut &trial.session, &held.run)
        .await
        .expect("gone");
    lab.assert_nothing_left("cortex");
}

/// Found after the switch, that would be a release without a record.
#[tokio::test]
#[ignore = "needs the lab"]
async fn h12_a_host_that_cannot_keep_a_record_is_not_held() {
    let lab = Lab::new();
    lab.reset("cortex");
    let b = lab.closure("cortex", "B");
    for place in ["/var/lib", "/nix/var/nix/gcroots"] {
        lab.sh(
            "cortex",
            &format!("mount --bind {place} {place} && mount -o remount,bind,ro {place}"),
        );
        let trial = Trial::new(&lab, "cortex", &b, 10, 60).await;
        let refused = trial.hold().await;
        lab.sh("cortex", &format!("umount --lazy {place}"));
        match refused {
            Err(HoldError::Unwritable { place: named, why }) => {
                assert!(named.starts_with(place), "{named}");
                assert_eq!(why, "Read-only file system");
            }
            other => panic!("{other:?}"),
        }
        lab.assert_nothing_left("cortex");
        let left = lab.try_sh(
            "cortex",
            &format!("ls -d /run/nixgate/{} 2>/dev/null", trial.plan.run),
        );
        assert_eq!(left.trim(), "");
    }
}

/// Any user may write to the journal what systemd writes there of a unit that failed.
#[tokio::test]
#[ignore = "needs the lab"]
async fn k12_what_a_user_writes_to_the_journal_in_systemds_name_is_not_believed() {
    let lab = Lab::new();
    let since: u64 = lab
        .sh("cortex", "systemctl reset-failed 2>/dev/null; date +%s")
        .trim()
        .parse()
        .expect("a time");
    lab.run(&[
        "sh",
        "cortex",
        "--user",
        "jarvis",
        "--",
        "printf 'MESSAGE_ID=d9b373ed55a64feb8242e02dbe79a49c\nMESSAGE=app.service: Failed\nUNIT=app.service\nUNIT_RESULT=oom-kill\n' |
         logger --journald",
    ]);
    lab.try_sh(
        "cortex",
        "systemd-run --quiet --wait --unit=k12-real false; journalctl --sync",
    );
    let mut shell = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    let found = trouble::read(&mut shell, "none", since, &[], Duration::from_secs(60))
        .await
        .expect("an answer");
    lab.sh("cortex", "systemctl reset-failed");
    let seen: Vec<(&str, Vec<String>)> = found
        .units
        .iter()
        .map(|unit| (unit.name.as_str(), unit.results.clone()))
        .collect();
    assert_eq!(seen, [("k12-real.service", vec!["exit-code".to_owned()])]);
}

/// Hosts of the lab have dash; NixOS has bash.
#[tokio::test]
#[ignore = "needs the lab"]
async fn bash_as_sh_holds_switches_goes_back_and_commits_as_well() {
    let lab = Lab::new();
    let bash = "mount --bind \"$(readlink -f /bin/bash)\" \"$(readlink -f /bin/sh)\"";
    lab.sh("cortex", bash);
    let (trial, held, _) = switched(&lab, "B", 20, 60).await;
    let shell = lab.sh(
        "cortex",
        &format!(
            "/bin/sh --version; readlink /proc/$(systemctl show -P MainPID nixgate-{})/exe",
            held.run
        ),
    );
    assert!(shell.starts_with("GNU bash"), "{shell}");
    let mut shell = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    held.renew(&mut shell).await.expect("renewed");
    assert!(held.revert(&mut shell).await.expect("an answer").back);
    assert_back(&lab, &trial.facts);
    held.end(&mut shell).await.expect("ended");

    // In silence it goes back by itself.
    let (trial, held, _) = switched(&lab, "B", 4, 60).await;
    let state = lab.wait_state("cortex", &held.run, &["reverted"], 30);
    assert!(state.contains("reason=the lease ended in silence"), "{state}");
    assert_back(&lab, &trial.facts);

    let (_trial, held, _) = switched(&lab, "B", 20, 60).await;
    let b = lab.running("cortex");
    let mut shell = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    let committed = held.commit(&mut shell).await.expect("committed");
    assert_eq!(committed.state.here.running.as_deref(), Some(b.as_str()));
    assert_eq!(
        committed.state.system().disagreements(&committed.state.here),
        Vec::<String>::new()
    );
    held.end(&mut shell).await.expect("ended");
    lab.assert_nothing_left("cortex");
    lab.sh("cortex", "umount --lazy \"$(readlink -f /bin/sh)\"");
    lab.reset("cortex");
}

/// Somebody else may speak while the host commits: they are told that it is busy, and the committer gets the answer.
#[tokio::test]
#[ignore = "needs the lab"]
async fn who_speaks_in_the_middle_of_a_commit_does_not_take_its_answer() {
    let lab = Lab::new();
    let (_trial, held, _) = switched(&lab, "B", 20, 60).await;
    let mut own = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    let mut other = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    // The boot loader's unit is frozen as soon as its program is about to start.
    let unit = format!("/sys/fs/cgroup/system.slice/nixgate-{}-boot.service", held.run);
    let begun = format!("/run/nixgate/{}/boot.cgroup", held.run);
    lab.sh(
        "cortex",
        &format!(
            "setsid sh -c 'until [ -s {begun} ]; do :; done; echo 1 >{unit}/cgroup.freeze; touch /run/frozen' >/dev/null 2>&1 &"
        ),
    );
    let frozen = std::thread::spawn(|| {
        let lab = Lab::new();
        until("the boot loader's unit is frozen", || {
            lab.ask_sh("cortex", "[ -e /run/frozen ] && echo yes")
                .filter(|word| word.trim() == "yes")
        });
    });
    let speak = async {
        while !frozen.is_finished() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let said = held.keep(&mut other).await;
        lab.sh("cortex", &format!("echo 0 >{unit}/cgroup.freeze; rm /run/frozen"));
        said
    };
    let (committed, said) = tokio::join!(held.commit(&mut own), speak);
    frozen.join().expect("frozen");
    let refused = said.expect_err("busy").failure("cortex").to_string();
    assert!(refused.contains("busy: committing"), "{refused}");
    let committed = committed.expect("its own answer");
    assert_eq!(
        committed.state.system().disagreements(&committed.state.here),
        Vec::<String>::new()
    );
    held.end(&mut own).await.expect("ended");
    lab.assert_nothing_left("cortex");
    lab.reset("cortex");
}

/// The answer may be gone by the time that the committer looks, because somebody else was answered after it: what the host
/// is in is the answer then.
#[tokio::test]
#[ignore = "needs the lab"]
async fn a_commit_whose_answer_was_written_over_is_known_by_the_state() {
    let lab = Lab::new();
    let (_trial, held, _) = switched(&lab, "B", 6, 60).await;
    let mut own = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    let mut other = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    // The committer's eyes on the host are stopped as soon as they are there.
    let waits = format!("flock -s -w .*nixgate/{}/busy", held.run);
    lab.sh(
        "cortex",
        &format!("setsid sh -c 'until pkill -STOP -f \"^{waits}\"; do :; done; touch /run/stopped' >/dev/null 2>&1 &"),
    );
    let run = held.run.clone();
    let done = std::thread::spawn(move || {
        let lab = Lab::new();
        lab.wait_state("cortex", &run, &["committed"], 60);
        lab.sh("cortex", "test -e /run/stopped && rm /run/stopped");
    });
    let speak = async {
        while !done.is_finished() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let said = held.keep(&mut other).await;
        lab.sh("cortex", &format!("pkill -CONT -f '^{waits}'"));
        said
    };
    let (committed, said) = tokio::join!(held.commit(&mut own), speak);
    done.join().expect("the committer was stopped before");
    said.expect("answered, after the commit was");
    let committed = committed.expect("committed");
    assert_eq!(
        committed.state.system().disagreements(&committed.state.here),
        Vec::<String>::new()
    );
    let _ = held.end(&mut own).await;
    lab.assert_nothing_left("cortex");
    lab.reset("cortex");
}
