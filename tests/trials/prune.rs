//! Roots that nobody needs any more.

use crate::hand::{desk, nothing_left, root};
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
    // Old journals go when the next record is made: not that of a record that is known-good.
    let old = |record: &str, name: &str| {
        let find = "git for-each-ref --format='%(objectname)' refs/nixgate/runs/cortex | while read -r commit; do \
             git show \"$commit:state.json\" | grep -q '\"record\": *\"RECORD\"' && echo \"$commit\"; done | head -n 1";
        let commit = desk(&lab, &find.replace("RECORD", record));
        let name = format!("refs/nixgate/runs/cortex/20260101T000000Z-{name}");
        desk(&lab, &format!("git update-ref {name} {commit}"));
    };
    old(&names[0], "good");
    old(&names[2], "withdrawn");
    expect(&lab, 0, &["rollback", "cortex"]);
    let left = desk(
        &lab,
        "git for-each-ref --format='%(refname:lstrip=4)' refs/nixgate/runs/cortex",
    );
    assert!(
        left.contains("20260101T000000Z-good") && !left.contains("20260101T000000Z-withdrawn"),
        "{left}"
    );
    assert!(left.lines().count() > 4, "{left}");
}
