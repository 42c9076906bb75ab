//! Records between clones, the remote and the host: a remote that is away, fresh clones, lost and foreign records.

use std::time::Duration;

use crate::hand::{clone_is_tidy, desk, evidence, good, name_in, nothing_left, root};
use crate::infra::{CONFIG, expect, host_state, refs, release, usual, with_config};
use crate::lab::{Lab, Output};

/// A command in op2's clone.
#[track_caller]
pub fn op2(lab: &Lab, command: &str) -> Output {
    lab.sh("desk", "op2", &format!("cd ~/infra && {command}"))
}

/// op's commits are pushed, and op2's clone stands where op's does.
#[track_caller]
pub fn both_at_the_same_commit(lab: &Lab) {
    desk(lab, "git push -q origin main");
    op2(lab, "git pull -q --ff-only origin main").text();
}

/// How many record tags the git server has.
#[track_caller]
pub fn published(lab: &Lab) -> u32 {
    let count = root(
        lab,
        "git",
        "git -c safe.directory='*' -C /srv/git/infra.git for-each-ref refs/tags/release | wc -l",
    );
    count.parse().unwrap()
}

#[track_caller]
fn remote_stops(lab: &Lab) {
    root(
        lab,
        "git",
        "systemctl stop ssh.socket ssh.service sshd.service 2>/dev/null; ! ss -ltn | grep -q ':22 '",
    );
}

#[track_caller]
fn remote_returns(lab: &Lab) {
    root(lab, "git", "systemctl start ssh.service");
    lab.wait_for("git", "ss -ltn | grep -q ':22 '", Duration::from_secs(10));
}

#[test]
fn a_remote_that_is_away_refuses_a_release_and_offline_publishes_the_same_object_later() {
    let lab = usual("remote-down");
    release(&lab, "cortex");
    lab.variant("cortex", "B");
    let (state, before) = (host_state(&lab, "cortex"), refs(&lab));
    remote_stops(&lab);
    let out = expect(&lab, 1, &["release", "cortex"]);
    assert!(out.stderr.contains("--offline"), "{out}");
    assert_eq!((host_state(&lab, "cortex"), refs(&lab)), (state, before));

    let out = expect(&lab, 8, &["release", "cortex", "--offline"]);
    assert!(out.stderr.contains("git nixgate publish cortex"), "{out}");
    let pending = desk(
        &lab,
        "git for-each-ref --format='%(objectname)' refs/nixgate/pending",
    );
    assert_eq!(pending.lines().count(), 1);
    assert_eq!(published(&lab), 1);
    assert!(
        expect(&lab, 0, &["log", "cortex"])
            .stdout
            .contains("not published")
    );
    expect(&lab, 0, &["verify", "cortex"]);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    // Again, on top of what waits; and a rollback never waits for a remote.
    good(&lab, "cortex", 1);
    expect(&lab, 8, &["release", "cortex", "--offline"]);
    expect(&lab, 8, &["rollback", "cortex"]);
    expect(&lab, 8, &["publish", "cortex"]);
    let ids = desk(
        &lab,
        "git for-each-ref --format='%(objectname)' refs/nixgate/pending",
    );
    assert_eq!((ids.lines().count(), ids.contains(&pending)), (3, true), "{ids}");

    remote_returns(&lab);
    let out = expect(&lab, 0, &["publish", "cortex"]);
    assert_eq!(out.stdout.lines().count(), 3, "{out}");
    clone_is_tidy(&lab);
    assert_eq!(published(&lab), 4);
    let there = root(
        &lab,
        "git",
        "git -c safe.directory='*' -C /srv/git/infra.git for-each-ref --format='%(objectname)' refs/tags/release",
    );
    assert!(ids.lines().all(|id| there.contains(id)), "not the same objects");
    expect(&lab, 0, &["verify", "cortex"]);
    assert!(
        expect(&lab, 0, &["publish", "cortex"])
            .stdout
            .contains("everything is published")
    );
    let sides = refs(&lab);
    let (here, there) = sides.split_once("---\n").unwrap();
    assert_eq!(here, there);
}

#[test]
fn a_remote_lost_after_the_switch_leaves_a_proven_host_and_a_record_that_waits() {
    let lab = with_config(
        "remote-lost",
        &["desk", "forge", "git", "cortex"],
        &CONFIG.replace("soak = 0", "soak = 6"),
    );
    release(&lab, "cortex");
    lab.variant("cortex", "B");
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("\nvalidate\n", Duration::from_secs(60));
    lab.cut("git");
    let out = run.wait(Duration::from_secs(120)).unwrap();
    assert_eq!(out.status, 8, "{out}");
    expect(&lab, 0, &["health", "cortex"]);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    lab.heal("git");
    lab.wait_for(
        "desk",
        "ssh-keyscan -T 2 git >/dev/null 2>&1",
        Duration::from_secs(20),
    );
    expect(&lab, 0, &["resume", "cortex"]);
    clone_is_tidy(&lab);
    assert_eq!(published(&lab), 2);
    expect(&lab, 0, &["verify", "cortex"]);
}

#[test]
fn s1_15_a_fresh_clone_without_init_logs_verifies_deploys_and_rolls_back() {
    let lab = usual("s1-15");
    let first = release(&lab, "cortex");
    let old = lab.running_system("cortex");
    lab.variant("cortex", "B");
    let second = release(&lab, "cortex");
    let new = lab.running_system("cortex");
    desk(&lab, "git push -q origin main");
    let fresh = |exit: i32, command: &str| {
        let out = lab.sh("desk", "op2", &format!("cd ~/fresh && {command}"));
        assert_eq!(out.status, exit, "{command}: {out}");
        out
    };
    lab.sh("desk", "op2", "git clone -q git@git:/srv/git/infra.git ~/fresh")
        .text();
    let log = fresh(0, "git nixgate log cortex").stdout;
    assert!(log.contains(&first) && log.contains(&second), "{log}");
    fresh(0, "git nixgate verify");
    let status = fresh(0, "git nixgate status cortex --live").stdout;
    assert!(status.contains(second.rsplit('/').next().unwrap()), "{status}");
    fresh(0, "git nixgate rollback cortex");
    assert_eq!(lab.running_system("cortex"), old);
    fresh(0, &format!("git nixgate deploy cortex --to {second}"));
    assert_eq!(lab.running_system("cortex"), new);
    fresh(0, "git nixgate verify cortex");
    // Another one, whose first command deploys.
    lab.sh(
        "desk",
        "op2",
        "rm -rf ~/fresh && git clone -q git@git:/srv/git/infra.git ~/fresh",
    )
    .text();
    fresh(0, &format!("git nixgate rollback cortex --to {first}"));
    assert_eq!(lab.running_system("cortex"), old);
    lab.sh(
        "desk",
        "op2",
        "rm -rf ~/fresh && git clone -q git@git:/srv/git/infra.git ~/fresh",
    )
    .text();
    fresh(0, &format!("git nixgate deploy cortex --to {second}"));
    assert_eq!(published(&lab), 6);
    // op's clone takes it all over.
    expect(&lab, 0, &["rollback", "cortex"]);
    expect(&lab, 0, &["verify", "cortex"]);
}

#[test]
fn nothing_to_do_makes_no_record_at_a_newer_commit_either_and_again_makes_one() {
    let lab = usual("nothing");
    let first = release(&lab, "cortex");
    let (state, before) = (host_state(&lab, "cortex"), refs(&lab));
    desk(&lab, "git commit -q --allow-empty -m 'Later'");
    let journal = "journalctl --no-pager -o cat | grep -c -e 'switch-to-configuration' -e 'supervisor.sh'; :";
    let seen = root(&lab, "cortex", journal);
    let out = expect(&lab, 0, &["release", "cortex"]);
    assert!(
        out.stdout.contains("nothing to do") && out.stdout.contains(&first),
        "{out}"
    );
    assert_eq!((host_state(&lab, "cortex"), refs(&lab)), (state, before));
    assert_eq!(
        root(&lab, "cortex", journal),
        seen,
        "an unchanged host sees only reads"
    );
    let again = name_in(&expect(&lab, 0, &["release", "cortex", "--again"]));
    assert_ne!(again, first);
    assert_eq!(
        desk(&lab, "git rev-parse release/cortex"),
        desk(&lab, "git rev-parse HEAD")
    );
    // An older commit is no release: the pointer only moves on.
    let out = expect(&lab, 3, &["release", "cortex", "--rev", "HEAD~1"]);
    assert!(out.stderr.contains("rollback cortex --to"), "{out}");
    desk(
        &lab,
        "git checkout -q -b side HEAD~1 && git commit -q --allow-empty -m 'Side'",
    );
    let out = expect(&lab, 3, &["release", "cortex"]);
    assert!(out.stderr.contains("merge -s ours"), "{out}");
}

#[test]
fn a_host_that_carries_a_record_nobody_has_is_refused_and_can_be_superseded() {
    let lab = usual("supersede");
    release(&lab, "cortex");
    both_at_the_same_commit(&lab);
    good(&lab, "cortex", 1);
    remote_stops(&lab);
    expect(&lab, 8, &["release", "cortex", "--offline"]);
    let lost = desk(
        &lab,
        "git for-each-ref --format='%(refname:strip=2)' refs/tags/release | tail -n 1",
    );
    remote_returns(&lab);
    // op's laptop is gone; op2 has only what was published.
    op2(&lab, "git commit -q --allow-empty -m 'Theirs'").text();
    let state = host_state(&lab, "cortex");
    for command in ["release cortex --again", "rollback cortex"] {
        let out = op2(&lab, &format!("git nixgate {command}"));
        assert_eq!(out.status, 3, "{command}: {out}");
        assert!(out.stderr.contains(&lost) && out.stderr.contains("(op)"), "{out}");
        assert!(
            out.stderr.contains("publish cortex") && out.stderr.contains("--supersede"),
            "{out}"
        );
    }
    assert_eq!(host_state(&lab, "cortex"), state);
    let out = op2(&lab, "git nixgate release cortex --supersede");
    let name = name_in(&out);
    let kept = op2(&lab, &format!("git cat-file tag {name}"));
    assert!(kept.stdout.contains("superseded"), "{kept}");
    op2(&lab, "git nixgate verify cortex").text();
    // The laptop comes back: its record lost, and nothing here pretends otherwise.
    let out = expect(&lab, 3, &["publish", "cortex"]);
    assert!(!out.stderr.is_empty());
}

#[test]
fn s3_36_a_host_switched_by_hand_is_drift_in_status_and_in_the_next_record() {
    let lab = usual("drift");
    release(&lab, "cortex");
    let hand_made = lab.closure("cortex", "C");
    root(
        &lab,
        "cortex",
        &format!(
            "nix-env -p /nix/var/nix/profiles/system --set {hand_made} && {hand_made}/bin/switch-to-configuration switch"
        ),
    );
    let out = expect(&lab, 1, &["status", "cortex", "--live"]);
    assert!(out.stdout.contains(&hand_made), "{out}");
    expect(&lab, 1, &["health", "cortex"]);
    lab.variant("cortex", "B");
    let out = expect(&lab, 0, &["release", "cortex"]);
    assert!(out.stderr.contains("drift"), "{out}");
    assert!(
        evidence(&lab, &name_in(&out))["predicate"]["drift"]
            .as_str()
            .unwrap()
            .contains(&hand_made)
    );
    expect(&lab, 0, &["status", "cortex", "--live"]);
}
