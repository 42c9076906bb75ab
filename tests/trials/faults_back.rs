//! Ways back that nobody hopes to need: practised, with the closure lost everywhere, and met by `resume` halfway.

use std::time::Duration;

use crate::broken::{says, switches};
use crate::crash::slow;
use crate::hand::{clone_is_tidy, describe, desk, good, kill_operator, nothing_left, root};
use crate::infra::{CONFIG, configure, expect, host_state, refs, release, usual};
use crate::lab::Lab;

const PATIENCE: Duration = Duration::from_secs(90);

/// Which services run.
#[track_caller]
fn services(lab: &Lab) -> String {
    root(
        lab,
        "cortex",
        "systemctl list-units --type=service,socket,timer --state=active --plain --no-legend | \
         awk '{ print $1 }' | grep -v -e ^session -e ^user -e ^run- -e @ | sort",
    )
}

#[test]
fn s4_42_a_rollback_is_practised_there_and_back() {
    let lab = usual("s4-42");
    // The older system has a unit that can be made to fail.
    describe(
        &lab,
        "cortex",
        r#"{ units."fragile.service" = { wantedBy = [ "multi-user.target" ];
             text = "[Unit]\nDescription=fragile\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'test ! -e /run/break'\n"; }; }"#,
    );
    release(&lab, "cortex");
    let old = lab.running_system("cortex");
    lab.variant("cortex", "B");
    release(&lab, "cortex");
    let now = lab.running_system("cortex");
    // Memory that is short keeps a release out, and no way back.
    configure(
        &lab,
        &format!("{CONFIG}[target.cortex.preflight]\nmemory-free = \"9000GiB\"\n"),
    );
    says(
        &expect(&lab, 1, &["release", "cortex", "--again"]),
        &["MiB of memory available, wants"],
    );
    let was = || (host_state(&lab, "cortex"), refs(&lab), services(&lab));
    let before = was();
    let switched = switches(&lab, "cortex").len();

    let out = expect(&lab, 0, &["rollback", "cortex", "--rehearse"]);
    says(
        &out,
        &[
            "[6/6] System load... skipped (",
            "and as it was; nothing is recorded",
            "a rehearsal is not recorded",
        ],
    );
    assert_eq!(
        switches(&lab, "cortex")[switched..],
        [old.clone(), now.clone()],
        "{out}"
    );
    assert_eq!(was(), before, "{out}");
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    let run = out.stdout.split("git nixgate show ").nth(1).expect("a run");
    let run = run.split_whitespace().next().expect("a run");
    let shown = expect(&lab, 0, &["show", run]);
    says(
        &shown,
        &["exit 0: rehearsed: to release/cortex/", "known-good    skipped"],
    );
    assert_eq!(shown.stdout.matches("validate      passed").count(), 2, "{shown}");

    // Not well there: it comes back, and says why.
    root(&lab, "cortex", "touch /run/break");
    let out = expect(&lab, 4, &["rollback", "cortex", "--rehearse"]);
    says(&out, &["fragile.service", "is back on what ran before"]);
    assert_eq!(was(), before, "{out}");
    root(&lab, "cortex", "rm /run/break");

    // Its operator dies there: the host comes back by itself, and no resume makes anything else of it.
    configure(&lab, &CONFIG.replace("soak = 0", "soak = 60"));
    let refs_now = refs(&lab);
    let mut run = lab.spawn_nixgate("op", &["rollback", "cortex", "--rehearse"]);
    run.wait_for_stderr("[5/5]", PATIENCE);
    assert_eq!(lab.running_system("cortex"), old);
    kill_operator(&lab, &mut run);
    let resumed = expect(&lab, 4, &["resume", "cortex"]);
    says(&resumed, &["is back on what ran before"]);
    assert_eq!(lab.running_system("cortex"), now);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    assert_eq!((host_state(&lab, "cortex"), refs(&lab)), (before.0, refs_now));
    expect(&lab, 0, &["verify", "cortex"]);
}

/// Deletes a closure on the target and on the builder, roots and all; what other closures need stays.
#[track_caller]
fn lose(lab: &Lab, record: &str, toplevel: &str) {
    let leaf = record.rsplit('/').next().expect("a leaf");
    root(
        lab,
        "cortex",
        &format!(
            "rm /nix/var/nix/gcroots/nixgate/cortex/{leaf} && \
             nix-env -p /nix/var/nix/profiles/system --delete-generations old && nix-store --delete {toplevel}"
        ),
    );
    root(
        lab,
        "forge",
        &format!("rm ~build/.local/state/nixgate/roots/cortex/{leaf} && nix-store --delete {toplevel}"),
    );
}

#[test]
fn a_closure_that_is_lost_everywhere_is_built_again_when_asked_for() {
    let lab = usual("rebuild");
    configure(&lab, &format!("{CONFIG}[defaults]\nimpure = true\n"));
    describe(
        &lab,
        "cortex",
        r#"{ etc."built-on" = builtins.readFile /etc/hostname; }"#,
    );
    let impure = release(&lab, "cortex");
    let moving = lab.running_system("cortex");
    configure(&lab, CONFIG);
    good(&lab, "cortex", 1);
    let first = release(&lab, "cortex");
    let lost = lab.running_system("cortex");
    good(&lab, "cortex", 2);
    release(&lab, "cortex");
    lose(&lab, &first, &lost);

    let before = (host_state(&lab, "cortex"), refs(&lab));
    let out = expect(&lab, 1, &["rollback", "cortex"]);
    says(&out, &["nowhere to be had", "cortex: ", "forge: ", "--rebuild"]);
    assert_eq!((host_state(&lab, "cortex"), refs(&lab)), before, "{out}");
    let out = expect(&lab, 0, &["rollback", "cortex", "--rebuild"]);
    says(&out, &["built again at ", "as recorded"]);
    assert_eq!(lab.running_system("cortex"), lost);
    expect(&lab, 0, &["verify", "cortex"]);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    // The builder keeps it again, and nothing of the run.
    let kept = root(
        &lab,
        "forge",
        "ls ~build/.local/state/nixgate/roots/cortex; \
         git -c safe.directory='*' -C ~build/.local/state/nixgate/src.git for-each-ref",
    );
    let leaf = first.rsplit('/').next().expect("a leaf");
    assert!(
        kept.contains(leaf) && !kept.contains("run-") && !kept.contains("refs/"),
        "{kept}"
    );

    // A commit whose source gives another system by now.
    lose(&lab, &impure, &moving);
    root(&lab, "forge", "echo elsewhere >/etc/hostname");
    let before = (host_state(&lab, "cortex"), refs(&lab));
    let out = expect(&lab, 3, &["rollback", "cortex", "--rebuild"]);
    says(
        &out,
        &[
            "is not what was released",
            &format!("recorded {moving}"),
            "built    /nix/store/",
        ],
    );
    assert_eq!((host_state(&lab, "cortex"), refs(&lab)), before, "{out}");
    let back = desk(&lab, "git nixgate log cortex | grep -c rollback");
    assert_eq!(back, "1");
}

#[test]
fn s4_39_resume_waits_for_a_host_that_goes_back_by_itself() {
    let lab = usual("resume-reverting");
    // The way back takes a while.
    slow(&lab, 6);
    release(&lab, "cortex");
    configure(
        &lab,
        &CONFIG
            .replace("soak = 0", "soak = 60")
            .replace("confirm = 10", "confirm = 5"),
    );
    let (state, before) = (host_state(&lab, "cortex"), refs(&lab));
    good(&lab, "cortex", 1);
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("[5/5]", PATIENCE);
    kill_operator(&lab, &mut run);
    lab.wait_for(
        "cortex",
        "grep -qx state=reverting /run/nixgate/*/state",
        PATIENCE,
    );
    let out = expect(&lab, 4, &["resume", "cortex"]);
    says(
        &out,
        &["is still at work (reverting)", "is back on what ran before"],
    );
    assert_eq!((host_state(&lab, "cortex"), refs(&lab)), (state, before));
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    clone_is_tidy(&lab);
}

#[test]
fn s4_53_s4_39_resume_finds_a_host_that_could_not_go_back_and_says_what_to_type() {
    let lab = usual("resume-failed");
    release(&lab, "cortex");
    configure(
        &lab,
        &CONFIG
            .replace("soak = 0", "soak = 60")
            .replace("confirm = 10", "confirm = 5"),
    );
    let before = refs(&lab);
    good(&lab, "cortex", 1);
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("[5/5]", PATIENCE);
    kill_operator(&lab, &mut run);
    // Whoever starts the application from now on finds that it does not start.
    root(
        &lab,
        "cortex",
        "mkdir -p /run/systemd/system/app.service.d && \
         printf '[Service]\\nExecStartPre=/bin/false\\n' >/run/systemd/system/app.service.d/x.conf && \
         systemctl daemon-reload && systemctl stop app",
    );
    lab.wait_for(
        "cortex",
        "grep -qx state=revert-failed /run/nixgate/*/state",
        PATIENCE,
    );
    let out = expect(&lab, 5, &["resume", "cortex"]);
    says(
        &out,
        &[
            "cortex could not be taken back",
            "app.service ran before and stays down",
            "or by hand: ssh jarvis@cortex",
        ],
    );
    assert_eq!(refs(&lab), before);
    // Once somebody has mended it, the next command works.
    root(
        &lab,
        "cortex",
        "rm -r /run/systemd/system/app.service.d && systemctl daemon-reload && systemctl reset-failed app && \
         systemctl start app",
    );
    configure(&lab, CONFIG);
    release(&lab, "cortex");
    expect(&lab, 0, &["verify", "cortex"]);
    expect(&lab, 0, &["status", "cortex", "--live"]);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    clone_is_tidy(&lab);
}

#[test]
fn s4_39_a_reset_between_profile_and_boot_loader_leaves_what_ran_before_and_resume_puts_the_profile_back() {
    let lab = usual("reset-commit");
    release(&lab, "cortex");
    let (old, before) = (lab.running_system("cortex"), refs(&lab));
    let profile = || root(&lab, "cortex", "readlink -f /nix/var/nix/profiles/system");
    good(&lab, "cortex", 1);
    // Killed as it is about to ask for the commit, whose first half is then made by hand.
    lab.sh(
        "desk",
        "op",
        "cd ~/infra && NIXGATE_BOUNDARY='kill: commit]:/tmp/crossed' git nixgate release cortex; pkill -KILL -x ssh",
    );
    let new = lab.running_system("cortex");
    assert_ne!(new, old);
    root(
        &lab,
        "cortex",
        &format!("nix-env -p /nix/var/nix/profiles/system --set {new}"),
    );
    lab.power_cut("cortex");
    lab.power_on("cortex");
    assert_eq!((lab.running_system("cortex"), profile()), (old.clone(), new));
    says(
        &lab.nixgate(&["status", "cortex", "--live"]),
        &["DRIFT", "the profile is"],
    );
    let out = expect(&lab, 4, &["resume", "cortex"]);
    says(
        &out,
        &[
            "was reset in its commit and booted what ran before",
            "is what ran before again",
        ],
    );
    assert_eq!(
        (lab.running_system("cortex"), profile(), refs(&lab)),
        (old.clone(), old, before)
    );
    expect(&lab, 0, &["status", "cortex", "--live"]);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    release(&lab, "cortex");
    expect(&lab, 0, &["verify", "cortex"]);
    clone_is_tidy(&lab);
}
