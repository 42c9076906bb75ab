//! What goes wrong while a host commits: a boot loader that ends well and leaves no good menu, a link that
//! goes.

use std::time::Duration;

use crate::broken::{commit, says, snapshot};
use crate::faults::{Case, GOOD, Mended, Moment, Now, fault_lab, tried};
use crate::hand::{clone_is_tidy, good, nothing_left, root};
use crate::infra::{expect, release, usual};
use crate::lab::Lab;

const PATIENCE: Duration = Duration::from_secs(90);

/// A candidate whose boot loader does this too once its menu is written.
#[track_caller]
fn boots(lab: &Lab, number: u32, more: &str) {
    good(lab, "cortex", number);
    commit(
        lab,
        &format!(
            "git checkout -q origin/main -- files/extlinux-conf-builder.sh\n\
             cat >>files/extlinux-conf-builder.sh <<'MORE'\n{more} # {number}\nMORE"
        ),
    );
}

#[test]
fn s0_13_s3_9_a_boot_loader_that_ends_well_and_leaves_no_good_menu_is_no_commit() {
    let lab = usual("boot-menu");
    good(&lab, "cortex", 0);
    release(&lab, "cortex");
    let menu = || root(&lab, "cortex", "cat /boot/extlinux/extlinux.conf");
    let before = (menu(), lab.running_system("cortex"), snapshot(&lab, "cortex"));
    let conf = "/boot/extlinux/extlinux.conf";
    for (number, more, seen) in [
        (
            1,
            format!("sed -i 1q {conf}"),
            "the boot default is not-verifiable",
        ),
        // In a container the profile answers then, and it is the candidate.
        (2, format!("rm {conf}"), "(boot loader: none)"),
    ] {
        boots(&lab, number, &more);
        let out = expect(&lab, 4, &["release", "cortex"]);
        says(&out, &["the commit failed", seen, "is back on what ran before"]);
        let after = (menu(), lab.running_system("cortex"), snapshot(&lab, "cortex"));
        assert_eq!(after, before, "{out}");
        nothing_left(&lab, "cortex", Duration::from_secs(20));
    }
    boots(&lab, 3, "");
    release(&lab, "cortex");
    expect(&lab, 0, &["verify", "cortex"]);
    clone_is_tidy(&lab);
}

/// Healed when the host is where it stays; the loader takes six seconds, and the operator's connections are gone at once.
#[test]
fn s3_1_a_link_that_goes_in_the_commit_takes_no_proof_along() {
    let lab = fault_lab("cut-commit", "");
    let case = Case {
        fault: "link cut",
        moment: "commit, heard",
        at: Moment::Committing,
        prepare: |lab, number| boots(lab, number, "sleep 6"),
        inject: |lab| {
            lab.cut("cortex");
            lab.sh("desk", "root", "pkill -KILL -u op -x ssh");
        },
        mend: (Mended::Alone, |lab| lab.heal("cortex")),
        expected: &[(0, Now::Candidate), (8, Now::Candidate)],
        ..GOOD
    };
    tried(&lab, &case, 1);

    // Away for longer than anybody asks how the commit ends: the host is found committed by who waits for its way back.
    boots(&lab, 2, "sleep 6");
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    lab.wait_for(
        "cortex",
        "grep -qx state=committing /run/nixgate/*/state",
        PATIENCE,
    );
    lab.cut("cortex");
    run.wait_for_stderr("waiting for it", PATIENCE);
    lab.heal("cortex");
    let out = run.wait(PATIENCE).expect("it ended");
    assert_eq!(out.status, 0, "{out}");
    says(
        &out,
        &[
            "is asked how its commit ends",
            "cortex is committed, and the run did not hear it in time; it is reached again",
        ],
    );
    expect(&lab, 0, &["verify", "cortex"]);
    expect(&lab, 0, &["status", "cortex", "--live"]);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    clone_is_tidy(&lab);
}
