//! What nobody has proven is never known-good, whoever ends the run: a boot that was only prepared, a boot that came after
//! the commit, an emergency. And a run that somebody drives is not taken over.

use std::time::Duration;

use crate::broken::says;
use crate::hand::{clone_is_tidy, desk, kill_operator, nothing_left, root};
use crate::infra::{CONFIG, expect, refs, release, usual, with_config};
use crate::lab::Lab;

const HOSTS: &[&str] = &["desk", "forge", "git", "cortex"];
const PATIENCE: Duration = Duration::from_secs(90);

/// B100 with a boot loader that waits while `/root/hold` is there, and fails where `/root/fail` is.
fn slow_loader(lab: &Lab) {
    lab.variant("cortex", "B100");
    desk(
        lab,
        "sed -i '3i while [ -e /root/hold ]; do /usr/bin/touch /root/waits; /usr/bin/sleep 0.1; done; [ ! -e /root/fail ] || exit 1' \
         files/extlinux-conf-builder.sh && git commit -qam 'A slow boot loader'",
    );
}

/// What boots next: the profile, and extlinux's default.
fn boots_next(lab: &Lab) -> Vec<String> {
    let text = root(
        lab,
        "cortex",
        "readlink -f /nix/var/nix/profiles/system; \
         sed -n '/LABEL nixos-default/,$s|.*init=\\(/nix/store/[^/]*\\)/init.*|\\1|p' /boot/extlinux/extlinux.conf | head -n 1",
    );
    text.lines().map(str::to_owned).collect()
}

fn hold(lab: &Lab) {
    root(lab, "cortex", "rm -f /root/waits; touch /root/hold");
}

fn at_the_loader(lab: &Lab) {
    lab.wait_for("cortex", "test -e /root/waits", PATIENCE);
}

fn is_held(lab: &Lab) -> bool {
    !lab.sh("cortex", "root", "flock -n /run/nixgate/lock true").ok()
}

#[test]
fn s1_13_s3_34_what_boots_next_is_written_to_its_end_and_known() {
    let lab = with_config("next-boot", HOSTS, &CONFIG.replace("confirm = 10", "confirm = 5"));
    let a = lab.running_system("cortex");
    let old = boots_next(&lab);
    assert_eq!(old, [a.clone(), a.clone()]);
    slow_loader(&lab);

    // The operator dies; the boot loader fails later: the host takes it back, and `resume` says so.
    hold(&lab);
    root(&lab, "cortex", "touch /root/fail");
    let mut run = lab.spawn_nixgate("op", &["release", "cortex", "--boot"]);
    at_the_loader(&lab);
    kill_operator(&lab, &mut run);
    // Leases later nobody else has the host.
    root(&lab, "cortex", "touch /root/then");
    lab.wait_for(
        "cortex",
        "[ $(($(date +%s) - $(stat -c %Y /root/then))) -gt 11 ]",
        PATIENCE,
    );
    assert!(is_held(&lab), "let go while the boot loader is written");
    root(&lab, "cortex", "rm /root/hold");
    let out = expect(&lab, 1, &["resume", "cortex"]);
    says(&out, &["the boot default could not be set"]);
    assert_eq!(boots_next(&lab), old, "{out}");
    nothing_left(&lab, "cortex", Duration::from_secs(20));

    // The same with one that works: it waits for its reboot.
    root(&lab, "cortex", "rm /root/fail");
    hold(&lab);
    let mut run = lab.spawn_nixgate("op", &["release", "cortex", "--boot"]);
    at_the_loader(&lab);
    kill_operator(&lab, &mut run);
    root(&lab, "cortex", "rm /root/hold");
    let out = expect(&lab, 7, &["resume", "cortex"]);
    says(&out, &["cortex has not rebooted yet"]);
    let new = boots_next(&lab);
    assert!(new[0] == new[1] && new[0] != a, "{new:?}");
    assert_eq!(lab.running_system("cortex"), a);
    assert!(!refs(&lab).contains("refs/tags"), "{out}");
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    lab.reboot("cortex");
    expect(&lab, 0, &["resume", "cortex"]);
    assert_eq!(lab.running_system("cortex"), new[0]);
    expect(&lab, 0, &["verify", "cortex"]);
    clone_is_tidy(&lab);
}

#[test]
fn s1_13_s3_34_neither_a_wish_to_stop_nor_a_cut_link_leaves_half_of_what_boots_next() {
    let lab = with_config(
        "next-boot-cut",
        HOSTS,
        &CONFIG.replace("confirm = 10", "confirm = 5"),
    );
    let a = lab.running_system("cortex");
    slow_loader(&lab);
    hold(&lab);
    let run = lab.spawn_nixgate("op", &["release", "cortex", "--boot"]);
    at_the_loader(&lab);
    root(&lab, "desk", "pkill -INT -u op -x git-nixgate");
    // Longer than ssh bears a silent host.
    lab.cut("cortex");
    lab.wait_for(
        "desk",
        "! pgrep -u op -x ssh >/dev/null || ! ping -c1 -W1 cortex >/dev/null",
        PATIENCE,
    );
    lab.heal("cortex");
    root(&lab, "cortex", "rm /root/hold");
    let out = run.wait(PATIENCE).expect("an end");
    assert_eq!(out.status, 7, "{out}");
    let new = boots_next(&lab);
    assert!(new[0] == new[1] && new[0] != a, "{new:?} {out}");
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    lab.reboot("cortex");
    expect(&lab, 0, &["resume", "cortex"]);
}

#[test]
fn s4_39_after_a_boot_that_nobody_asked_for_validation_comes_again() {
    // Alive before the power goes, and started by nobody afterwards: it does not fail, it is not there.
    let check = "[[target.cortex.check]]\nunit = \"chatty.service\"\n";
    let lab = with_config("boot-again", HOSTS, &format!("{CONFIG}{check}"));
    let chatty = "systemd-run --quiet --unit=chatty sleep infinity";
    root(&lab, "cortex", chatty);
    release(&lab, "cortex");
    let before = refs(&lab);
    lab.variant("cortex", "B");
    lab.sh(
        "desk",
        "op",
        "cd ~/infra && NIXGATE_BOUNDARY='kill:after * commit]:/tmp/crossed' git nixgate release cortex; pkill -KILL -x ssh",
    );
    let toplevel = lab.running_system("cortex");
    lab.power_cut("cortex");
    lab.power_on("cortex");
    assert_eq!(lab.running_system("cortex"), toplevel, "it was committed");
    let out = expect(&lab, 5, &["resume", "cortex"]);
    says(&out, &["chatty.service"]);
    assert_eq!(refs(&lab), before, "{out}");
    root(&lab, "cortex", chatty);
    expect(&lab, 0, &["resume", "cortex"]);
    expect(&lab, 0, &["verify", "cortex"]);
    assert_ne!(refs(&lab), before);
}

#[test]
fn s4_35_an_emergency_that_was_cut_off_is_not_known_good_either() {
    let lab = usual("emergency");
    release(&lab, "cortex");
    let (a, before) = (lab.running_system("cortex"), refs(&lab));
    let cut_off_at = |boundary: &str| {
        lab.sh(
            "desk",
            "op",
            &format!(
                "cd ~/infra && (echo cortex; cat) </dev/null | NIXGATE_BOUNDARY='kill:{boundary}:/tmp/crossed' \
                 script -qec 'git nixgate release cortex --skip-validation' /dev/null; pkill -KILL -x ssh; :"
            ),
        )
    };
    lab.variant("cortex", "B");
    // Before its commit nobody has looked at it: it goes back.
    let out = cut_off_at("before * commit]");
    assert_ne!(lab.running_system("cortex"), a, "{out}");
    expect(&lab, 4, &["resume", "cortex"]);
    assert_eq!(
        (lab.running_system("cortex"), refs(&lab)),
        (a.clone(), before.clone())
    );
    // After it the host stays where it is, and gets no record.
    let out = cut_off_at("after * commit]");
    let b = lab.running_system("cortex");
    assert_ne!(b, a, "{out}");
    let out = expect(&lab, 0, &["resume", "cortex"]);
    says(&out, &["unvalidated: it is not known-good and has no record"]);
    assert_eq!((lab.running_system("cortex"), refs(&lab)), (b, before));
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    let out = expect(&lab, 0, &["resume", "cortex"]);
    says(&out, &["no run is unfinished"]);
}

#[test]
fn s3_02_a_run_that_somebody_drives_is_not_taken_over() {
    let lab = with_config("driven", HOSTS, &CONFIG.replace("soak = 0", "soak = 15"));
    lab.variant("cortex", "B");
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("\nvalidate\n", PATIENCE);
    let out = expect(&lab, 6, &["resume", "cortex"]);
    says(
        &out,
        &["is at work: it was not interrupted", "git nixgate cancel cortex"],
    );
    assert!(run.is_running(), "{}", run.stderr_so_far());
    let out = run.wait(PATIENCE).expect("an end");
    assert_eq!(out.status, 0, "{out}");
    let out = expect(&lab, 0, &["resume", "cortex"]);
    says(&out, &["no run is unfinished"]);
    expect(&lab, 0, &["verify", "cortex"]);
}
