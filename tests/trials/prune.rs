//! Roots that nobody needs any more.

use crate::hand::{nothing_left, root};
use crate::infra::{CONFIG, configure, expect, refs, release, usual};
use crate::lab::Lab;

/// The leaves of a target's roots on a host, but for what ran before.
#[track_caller]
fn roots(lab: &Lab, host: &str, dir: &str) -> Vec<String> {
    let user = if host == "forge" { "build" } else { "root" };
    let out = lab.sh(
        host,
        user,
        &format!("ls {dir} 2>/dev/null | grep -v before-first; :"),
    );
    out.text().lines().map(str::to_owned).collect()
}

const HERE: &str = "/nix/var/nix/gcroots/nixgate/cortex";
const BUILDER: &str = "~/.local/state/nixgate/roots/cortex";

fn leaf(name: &str) -> String {
    name.rsplit('/').next().unwrap_or_default().to_owned()
}

#[test]
fn s1_14_pruned_roots_go_and_what_runs_or_may_be_gone_back_to_stays() {
    let lab = usual("prune");
    let mut names = Vec::new();
    for variant in ["A", "B", "C"] {
        lab.variant("cortex", variant);
        names.push(release(&lab, "cortex"));
    }
    expect(&lab, 0, &["rollback", "cortex"]);
    let all: Vec<String> = names.iter().map(|name| leaf(name)).collect();
    assert_eq!(roots(&lab, "cortex", HERE), all);
    let published = refs(&lab);
    let closure = root(&lab, "cortex", &format!("readlink {HERE}/{}", all[2]));

    // The third is withdrawn. Said first, done then.
    let out = expect(&lab, 0, &["prune", "cortex", "--dry-run"]);
    assert!(
        out.stdout.contains(&names[2]) && !out.stdout.contains(&names[1]),
        "{out}"
    );
    assert_eq!(roots(&lab, "cortex", HERE), all);
    let out = expect(&lab, 0, &["prune", "cortex"]);
    assert!(
        out.stdout
            .contains(&format!("{}: its root is gone; the record stays", names[2])),
        "{out}"
    );
    for (host, dir) in [("cortex", HERE), ("forge", BUILDER)] {
        let left = roots(&lab, host, dir);
        assert!(
            !left.contains(&all[2]) && left.contains(&all[1]) && left.contains(&all[0]),
            "{host}: {left:?}"
        );
    }
    nothing_left(&lab, "cortex", std::time::Duration::from_secs(20));
    assert_eq!(refs(&lab), published, "records, pointer and ledger stay");
    expect(&lab, 0, &["verify", "cortex"]);

    // What it kept is collected, and the way back is not.
    root(&lab, "cortex", "nix-collect-garbage -d >/dev/null 2>&1");
    assert!(
        !lab.sh("cortex", "root", &format!("test -e {closure}")).ok(),
        "{closure} stays"
    );
    expect(&lab, 0, &["rollback", "cortex", "--check"]);

    // Of one that is to be kept only the one that runs is; the one to go back to is not counted.
    configure(&lab, &format!("{CONFIG}[defaults]\nkeep = 1\n"));
    let out = expect(&lab, 0, &["prune", "cortex"]);
    assert!(out.stdout.contains("every root is needed"), "{out}");
    assert_eq!(roots(&lab, "cortex", HERE), all[..2]);
}
