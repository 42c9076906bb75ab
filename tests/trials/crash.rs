//! The operator dies, the link goes, the host loses its power: the host finishes or goes back by itself, and nothing of
//! the run is left.

use std::time::Duration;

use crate::hand::{
    clone_is_tidy, describe, desk, good, kill_operator, name_in, nothing_left, root, wait_for_switch,
};
use crate::infra::{CONFIG, expect, gate_seconds, host_state, refs, release, usual, with_config};
use crate::lab::{Lab, Spawned};

const HOSTS: &[&str] = &["desk", "forge", "git", "cortex"];
/// `timeouts.confirm` of the usual configuration, and the time that a revert takes on two busy cores.
pub const LEASE: Duration = Duration::from_secs(10 + 15);

/// An activation that takes a while: time to break things in.
pub fn slow(lab: &Lab, seconds: u32) {
    describe(
        lab,
        "cortex",
        &format!(
            "{{ packages.hello = \"4.0\"; activationName = \"slow\"; activation = \"sleep {seconds}\"; }}"
        ),
    );
}

/// What is booted by default, and the profile.
#[track_caller]
fn boots(lab: &Lab) -> String {
    root(
        lab,
        "cortex",
        "readlink -f /nix/var/nix/profiles/system; cat /boot/extlinux/extlinux.conf",
    )
}

/// The host is as it was and free, by itself; only then is anything said to it.
#[track_caller]
fn back_by_itself(lab: &Lab, running: &str, state: &str, within: Duration) {
    lab.wait_for(
        "cortex",
        &format!(
            "[ \"$(readlink /run/current-system)\" = {running} ] && flock -n /run/nixgate/lock true && \
             [ -z \"$(systemctl list-units --all --plain --no-legend 'nixgate-*')\" ]"
        ),
        within,
    );
    // The dead run's directory and temporary root wait for the next run to sweep them.
    let lasting = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .filter(|line| !line.starts_with("tmp/") && !line.starts_with("20"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(lasting(&host_state(lab, "cortex")), lasting(state));
}

#[track_caller]
fn released_afterwards(lab: &Lab) {
    good(lab, "cortex", 99);
    release(lab, "cortex");
    expect(lab, 0, &["verify", "cortex"]);
    expect(lab, 0, &["status", "cortex", "--live"]);
    nothing_left(lab, "cortex", Duration::from_secs(20));
    clone_is_tidy(lab);
}

#[track_caller]
fn killed_at(lab: &Lab, gate: &str) {
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr(&format!("\n{gate}\n"), Duration::from_secs(90));
    kill_operator(lab, &mut run);
}

#[test]
#[ignore = "half a minute: tests/run --full"]
fn full_killed_while_holding_and_copying() {
    let lab = usual("kill-copy");
    release(&lab, "cortex");
    let (running, state, before) = (
        lab.running_system("cortex"),
        host_state(&lab, "cortex"),
        refs(&lab),
    );
    lab.variant("cortex", "Bbig");
    killed_at(&lab, "copy");
    back_by_itself(&lab, &running, &state, LEASE);
    assert_eq!(refs(&lab), before);
    let out = lab.nixgate(&["resume", "cortex"]);
    assert!([0, 1].contains(&out.status), "{out}");
    assert_eq!(refs(&lab), before);
    released_afterwards(&lab);
}

#[test]
fn what_a_killed_run_left_on_the_builder_goes_after_a_day() {
    let lab = usual("kill-builder");
    release(&lab, "cortex");
    lab.variant("cortex", "B");
    killed_at(&lab, "copy");
    let state = "/home/build/.local/state/nixgate";
    let left = || {
        root(
            &lab,
            "forge",
            &format!(
                "ls {state}/roots/cortex | grep ^run-; git -c safe.directory='*' -C {state}/src.git for-each-ref; :"
            ),
        )
    };
    let of_the_dead = left();
    assert_eq!(of_the_dead.lines().count(), 2, "{of_the_dead}");
    lab.wait_for("cortex", "flock -n /run/nixgate/lock true", LEASE);
    good(&lab, "cortex", 1);
    release(&lab, "cortex");
    assert_eq!(left(), of_the_dead, "another run may still be at work");
    root(
        &lab,
        "forge",
        &format!("touch -h -d '2 days ago' {state}/roots/cortex/run-*"),
    );
    good(&lab, "cortex", 2);
    release(&lab, "cortex");
    assert_eq!(left(), "");
}

#[test]
#[ignore = "half a minute: tests/run --full"]
fn full_killed_during_the_switch_the_host_goes_back_by_itself() {
    let lab = usual("kill-switch");
    release(&lab, "cortex");
    let (running, state, before) = (
        lab.running_system("cortex"),
        host_state(&lab, "cortex"),
        refs(&lab),
    );
    slow(&lab, 5);
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    wait_for_switch(&lab, "cortex");
    kill_operator(&lab, &mut run);
    back_by_itself(&lab, &running, &state, LEASE + Duration::from_secs(5));
    // Said to whoever asks, and kept as a failed run.
    let out = expect(&lab, 4, &["resume", "cortex"]);
    assert!(out.stderr.contains("back on what ran before"), "{out}");
    assert_eq!(refs(&lab), before);
    let out = expect(&lab, 0, &["resume", "cortex"]);
    assert!(out.stdout.contains("no run is unfinished"), "{out}");
    released_afterwards(&lab);
}

#[test]
#[ignore = "half a minute: tests/run --full"]
fn full_killed_during_the_switch_and_resumed_it_is_released() {
    let lab = usual("kill-resume");
    release(&lab, "cortex");
    slow(&lab, 6);
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    wait_for_switch(&lab, "cortex");
    kill_operator(&lab, &mut run);
    let name = name_in(&expect(&lab, 0, &["resume", "cortex"]));
    assert!(refs(&lab).contains(&format!("refs/tags/{name} ")));
    let gates = crate::hand::evidence(&lab, &name)["predicate"]["gates"].clone();
    let names: Vec<&str> = gates
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|gate| gate["gate"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "preflight",
            "build",
            "diff",
            "copy",
            "dry-activate",
            "switch-test",
            "validate",
            "commit"
        ],
        "{gates}"
    );
    expect(&lab, 0, &["verify", "cortex"]);
    expect(&lab, 0, &["status", "cortex", "--live"]);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    clone_is_tidy(&lab);
}

#[test]
fn killed_in_a_switch_that_fails_it_is_not_resumed_into_a_record() {
    let lab = usual("kill-fails");
    release(&lab, "cortex");
    let (running, before) = (lab.running_system("cortex"), refs(&lab));
    // The new system runs all the same, and no check of validation sees what is wrong with it.
    describe(
        &lab,
        "cortex",
        "{ packages.hello = \"4.0\"; activationName = \"slow\"; activation = \"sleep 5; false\"; }",
    );
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    wait_for_switch(&lab, "cortex");
    kill_operator(&lab, &mut run);
    let out = expect(&lab, 4, &["resume", "cortex"]);
    assert!(out.stderr.contains("activation script failed"), "{out}");
    assert_eq!((lab.running_system("cortex"), refs(&lab)), (running, before));
    released_afterwards(&lab);
}

#[test]
#[ignore = "half a minute: tests/run --full"]
fn full_a_rollback_killed_in_its_switch_is_resumed_as_a_rollback() {
    let lab = usual("kill-rollback");
    slow(&lab, 5);
    let first = release(&lab, "cortex");
    let old = lab.running_system("cortex");
    lab.variant("cortex", "B");
    let second = release(&lab, "cortex");
    let mut run = lab.spawn_nixgate("op", &["rollback", "cortex"]);
    wait_for_switch(&lab, "cortex");
    kill_operator(&lab, &mut run);
    let name = name_in(&expect(&lab, 0, &["resume", "cortex"]));
    assert_eq!(lab.running_system("cortex"), old);
    let said = |key: &str| crate::hand::trailer(&lab, &name, key);
    assert_eq!(
        (said("Kind"), said("Restores"), said("Withdraws")),
        ("rollback".into(), first, second)
    );
    expect(&lab, 0, &["verify", "cortex"]);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
}

#[test]
#[ignore = "half a minute: tests/run --full"]
fn full_killed_while_soaking_profile_and_boot_were_never_set() {
    let lab = with_config("kill-soak", HOSTS, &CONFIG.replace("soak = 0", "soak = 40"));
    let running = lab.running_system("cortex");
    let (state, booted) = (host_state(&lab, "cortex"), boots(&lab));
    lab.variant("cortex", "B");
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("\nvalidate\n", Duration::from_secs(90));
    assert_ne!(lab.running_system("cortex"), running);
    assert_eq!(boots(&lab), booted, "set before it was validated");
    kill_operator(&lab, &mut run);
    back_by_itself(&lab, &running, &state, LEASE);
    assert_eq!(boots(&lab), booted);
    expect(&lab, 4, &["resume", "cortex"]);
    assert!(!refs(&lab).contains("refs/tags"), "recorded");
    crate::infra::configure(&lab, CONFIG);
    released_afterwards(&lab);
}

#[test]
fn killed_while_soaking_and_resumed_within_the_lease_it_is_released() {
    let config = CONFIG
        .replace("soak = 0", "soak = 12")
        .replace("confirm = 10", "confirm = 30");
    let lab = with_config("soak-resume", HOSTS, &config);
    release(&lab, "cortex");
    lab.variant("cortex", "B");
    killed_at(&lab, "validate");
    let out = expect(&lab, 0, &["resume", "cortex"]);
    // A crash does not shorten the soak.
    assert!(gate_seconds(&out, "validate") >= 12, "{out}");
    let name = name_in(&out);
    assert!(refs(&lab).contains(&format!("refs/tags/{name} ")));
    expect(&lab, 0, &["verify", "cortex"]);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    clone_is_tidy(&lab);
}

/// Signing waits while `/tmp/hang` is there: a way to stop between the commit on the host and the record.
#[track_caller]
pub fn signing_can_hang(lab: &Lab) {
    desk(
        lab,
        "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/sign && git config gpg.format ssh && \
         git config user.signingkey ~/.ssh/sign && git config tag.gpgSign true && \
         printf '#!/bin/sh\\nwhile [ -e /tmp/hang ]; do sleep 0.1; done\\nexec ssh-keygen \"$@\"\\n' >~/sign && \
         chmod 755 ~/sign && git config gpg.ssh.program ~/sign",
    );
}

#[track_caller]
pub fn stopped_before_its_record(lab: &Lab) -> Spawned {
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("\ncopy\n", Duration::from_secs(90));
    root(lab, "desk", "touch /tmp/hang");
    run.wait_for_stderr("\nknown-good\n", Duration::from_secs(90));
    lab.wait_for(
        "desk",
        "pgrep -u op -f '/home/op/sig[n] ' >/dev/null",
        Duration::from_secs(10),
    );
    run
}

#[test]
fn killed_after_the_commit_and_before_the_record_resume_makes_it() {
    let lab = usual("kill-mark");
    signing_can_hang(&lab);
    let first = release(&lab, "cortex");
    let before = refs(&lab);
    lab.variant("cortex", "B");
    let mut run = stopped_before_its_record(&lab);
    kill_operator(&lab, &mut run);
    root(&lab, "desk", "rm /tmp/hang");
    // The host is on the new closure for good; nothing is recorded yet.
    let toplevel = lab.running_system("cortex");
    assert!(boots(&lab).starts_with(&toplevel) && boots(&lab).contains(&format!("init={toplevel}/init")));
    assert_eq!(refs(&lab), before);
    // Nothing of the run may be needed for it: the supervisor has ended long ago.
    lab.wait_for(
        "cortex",
        "[ -z \"$(systemctl list-units --all --plain --no-legend 'nixgate-*')\" ] && flock -n /run/nixgate/lock true",
        LEASE,
    );
    assert_eq!(lab.running_system("cortex"), toplevel);
    let name = name_in(&expect(&lab, 0, &["resume", "cortex"]));
    assert_ne!(name, first);
    assert!(refs(&lab).contains(&format!("refs/tags/{name} ")));
    expect(&lab, 0, &["verify", "cortex"]);
    expect(&lab, 0, &["status", "cortex", "--live"]);
    root(
        &lab,
        "cortex",
        &format!(
            "test -e /nix/var/nix/gcroots/nixgate/cortex/{}",
            name.rsplit('/').next().unwrap()
        ),
    );
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    released_afterwards(&lab);
}

#[test]
fn a_power_cut_after_the_commit_boots_the_new_system_and_resume_records_it() {
    let lab = usual("power-mark");
    signing_can_hang(&lab);
    release(&lab, "cortex");
    lab.variant("cortex", "B");
    let mut run = stopped_before_its_record(&lab);
    let toplevel = lab.running_system("cortex");
    lab.power_cut("cortex");
    kill_operator(&lab, &mut run);
    root(&lab, "desk", "rm /tmp/hang");
    lab.power_on("cortex");
    assert_eq!(lab.running_system("cortex"), toplevel);
    let name = name_in(&expect(&lab, 0, &["resume", "cortex"]));
    assert!(refs(&lab).contains(&format!("refs/tags/{name} ")));
    released_afterwards(&lab);
}

#[test]
#[ignore = "half a minute: tests/run --full"]
fn full_killed_while_pushing_resume_publishes_the_same_record() {
    let lab = usual("kill-push");
    release(&lab, "cortex");
    lab.variant("cortex", "B");
    root(
        &lab,
        "git",
        "printf '#!/bin/sh\\ntouch /tmp/pushed\\nwhile [ -e /tmp/hang ]; do sleep 0.1; done\\n' \
         >/srv/git/infra.git/hooks/pre-receive && chmod 755 /srv/git/infra.git/hooks/pre-receive && touch /tmp/hang && \
         rm -f /tmp/pushed",
    );
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    lab.wait_for("git", "test -e /tmp/pushed", Duration::from_secs(90));
    let pending = desk(
        &lab,
        "git for-each-ref --format='%(objectname)' refs/nixgate/pending",
    );
    assert_eq!(pending.lines().count(), 1);
    kill_operator(&lab, &mut run);
    // As if it had been killed a moment earlier: the record is made, and the host does not know it yet.
    root(
        &lab,
        "cortex",
        "rm /nix/var/nix/gcroots/nixgate/cortex/2*; rm /var/lib/nixgate/cortex/record",
    );
    crate::resume::unroot_newest(&lab);
    root(&lab, "git", "rm /tmp/hang");
    lab.wait_for(
        "git",
        "! pgrep -f pre-receiv[e] >/dev/null",
        Duration::from_secs(10),
    );
    let name = name_in(&expect(&lab, 0, &["resume", "cortex"]));
    assert_eq!(desk(&lab, &format!("git rev-parse refs/tags/{name}")), pending);
    let sides = refs(&lab);
    let (here, there) = sides.split_once("---\n").unwrap();
    assert_eq!(here, there);
    let leaf = name.rsplit('/').next().unwrap();
    root(
        &lab,
        "cortex",
        &format!(
            "test -e /nix/var/nix/gcroots/nixgate/cortex/{leaf}/init && test -s /var/lib/nixgate/cortex/record"
        ),
    );
    let roots = crate::resume::on_builder(&lab);
    assert!(
        roots.contains(&format!("{leaf} {}", lab.running_system("cortex"))),
        "{roots}"
    );
    nothing_left(&lab, "cortex", Duration::from_secs(30));
    released_afterwards(&lab);
}

#[test]
fn s3_01_a_switch_outlives_every_connection_and_is_found_again() {
    let lab = usual("s3-01");
    release(&lab, "cortex");
    slow(&lab, 6);
    let run = lab.spawn_nixgate("op", &["release", "cortex"]);
    wait_for_switch(&lab, "cortex");
    // Every connection, not the listener.
    root(&lab, "cortex", "pkill -KILL -f '^sshd(-session)?: (jarvis|root)'");
    let out = run.wait(Duration::from_secs(120)).unwrap();
    assert_eq!(out.status, 0, "{out}");
    expect(&lab, 0, &["verify", "cortex"]);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
}

#[test]
fn s3_01_a_link_cut_during_activation_ends_on_the_old_system() {
    let lab = usual("cut-switch");
    release(&lab, "cortex");
    let (running, state, before) = (
        lab.running_system("cortex"),
        host_state(&lab, "cortex"),
        refs(&lab),
    );
    slow(&lab, 4);
    let run = lab.spawn_nixgate("op", &["release", "cortex"]);
    wait_for_switch(&lab, "cortex");
    lab.cut("cortex");
    back_by_itself(&lab, &running, &state, LEASE + Duration::from_secs(10));
    lab.heal("cortex");
    // Never "confirmed" after the host went back.
    let out = run.wait(Duration::from_secs(180)).unwrap();
    assert_eq!(out.status, 4, "{out}");
    assert_eq!(refs(&lab), before);
    assert_eq!(lab.running_system("cortex"), running);
    released_afterwards(&lab);
}

#[test]
fn s3_01_a_new_system_that_stops_sshd_is_taken_back() {
    let lab = usual("no-sshd");
    release(&lab, "cortex");
    let (running, state, before) = (
        lab.running_system("cortex"),
        host_state(&lab, "cortex"),
        refs(&lab),
    );
    lab.variant("cortex", "Bnet-sshd");
    expect(&lab, 4, &["release", "cortex"]);
    assert_eq!(
        (
            lab.running_system("cortex"),
            host_state(&lab, "cortex"),
            refs(&lab)
        ),
        (running, state, before)
    );
    released_afterwards(&lab);
}

#[test]
fn s3_03_a_link_cut_in_the_copy_leaves_nothing_active_and_the_rest_follows() {
    let lab = usual("s3-03");
    release(&lab, "cortex");
    let (running, state, before) = (
        lab.running_system("cortex"),
        host_state(&lab, "cortex"),
        refs(&lab),
    );
    // Small paths first, then one that takes a while.
    describe(
        &lab,
        "cortex",
        "ctx: let small = builtins.genList (i: ctx.text \"small-${toString i}\" \"${toString i}\") 20; \
         big = ctx.run \"big\" { inherit small; } ''for s in $small; do echo $s; done >$out; head -c 300000000 /dev/zero >>$out''; \
         in { etc.\"big\" = \"${big}\"; }",
    );
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("\ncopy\n", Duration::from_secs(120));
    // In the middle of a path, which stays locked then; between two paths nothing would be.
    lab.wait_for(
        "cortex",
        "ls /nix/store/*-big.lock >/dev/null 2>&1 && [ -s /nix/store/*-big ]",
        Duration::from_secs(60),
    );
    lab.cut("cortex");
    // The host will notice late that nobody is there any more.
    let sessions = root(
        &lab,
        "cortex",
        "for p in $(pgrep -f '^nix-daemon --stdio'); do while [ \"$p\" -gt 1 ]; do
           [ \"$(cat /proc/$p/comm)\" != sshd-session ] || echo $p; p=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$p/status)
         done; done",
    );
    let sessions = sessions.split_whitespace().collect::<Vec<_>>().join(" ");
    root(&lab, "cortex", &format!("kill -STOP {sessions}"));
    let out = run.wait(Duration::from_secs(180)).unwrap();
    assert_eq!(out.status, 1, "{out}");
    lab.heal("cortex");
    back_by_itself(&lab, &running, &state, LEASE);
    assert_eq!(refs(&lab), before);
    assert!(
        !lab.sh("cortex", "root", "nix-store --check-validity /nix/store/*-big")
            .ok(),
        "it was not cut in the middle"
    );
    let arrived = |lab: &Lab| {
        root(
            lab,
            "cortex",
            "for p in /nix/store/*-small-*; do sqlite3 /nix/var/nix/db/db.sqlite \
             \"select path, id, registrationTime from ValidPaths where path = '$p'\"; done | sort",
        )
    };
    let first = arrived(&lab);
    assert!(!first.is_empty());
    lab.wait_for(
        "desk",
        "ssh-keyscan -T 2 cortex >/dev/null 2>&1",
        Duration::from_secs(20),
    );
    // What earlier copies left is looked for before the new one starts its daemon. The old daemon is to be found by a
    // later look, while the new copy waits for its lock.
    let daemons = "pgrep -cf '^nix-daemon --stdio'";
    let left = root(&lab, "cortex", daemons);
    assert_eq!(left.trim(), "1", "the cut copy's daemon");
    let run = lab.spawn_nixgate("op", &["release", "cortex"]);
    lab.wait_for(
        "cortex",
        &format!("[ \"$({daemons})\" -ge 2 ]"),
        Duration::from_secs(60),
    );
    // Its session ends, and the daemon that it had started mostly stays, waiting for the other half of its pair, which
    // waits for it; now and then it notices and lets go. Stopped, it stays in any case.
    root(
        &lab,
        "cortex",
        &format!("kill -STOP $(pgrep -o -f '^nix-daemon --stdio') && kill -CONT {sessions}"),
    );
    let out = run.wait(Duration::from_secs(180)).unwrap();
    assert!(out.ok(), "{out}");
    assert!(
        out.stderr
            .contains("ended what an earlier copy to cortex left there"),
        "{out}"
    );
    let then = arrived(&lab);
    assert!(
        first.lines().all(|line| then.contains(line)),
        "sent again:\n{first}\n---\n{then}"
    );
    assert_ne!(lab.running_system("cortex"), running);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
}
