//! What goes wrong while a host commits: a boot loader that ends well and leaves no good menu.

use std::time::Duration;

use crate::broken::{commit, says, snapshot};
use crate::hand::{clone_is_tidy, good, nothing_left, root};
use crate::infra::{expect, release, usual};
use crate::lab::Lab;

/// A candidate whose boot loader does this too once its menu is written.
#[track_caller]
fn boots(lab: &Lab, number: u32, more: &str) {
    good(lab, "cortex", number);
    commit(
        lab,
        &format!(
            "git checkout -q origin/main -- files/extlinux-conf-builder.sh\n\
             cat >>files/extlinux-conf-builder.sh <<'MORE'\n{more}\nMORE"
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
