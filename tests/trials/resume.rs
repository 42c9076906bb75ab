//! What `resume` does on the builder of the run that died.

use std::time::Duration;

use crate::crash::{LEASE, signing_can_hang, slow, stopped_before_its_record};
use crate::hand::{describe, desk, evidence, kill_operator, name_in, nothing_left, root, wait_for_switch};
use crate::infra::{CONFIG, expect, release, usual, with_config};
use crate::lab::Lab;

const STATE: &str = "/home/build/.local/state/nixgate";

/// The builder's roots of cortex, `name path`, and the commits that runs left there. The root of a release's derivation
/// stands beside its own and is left out.
#[track_caller]
pub fn on_builder(lab: &Lab) -> String {
    root(
        lab,
        "forge",
        &format!(
            "find {STATE}/roots/cortex -type l ! -name '*.drv' -printf '%f %l\\n' | sort; \
             git -c safe.directory='*' -C {STATE}/src.git for-each-ref"
        ),
    )
}

/// Takes the newest record's root from the builder.
#[track_caller]
pub fn unroot_newest(lab: &Lab) {
    root(
        lab,
        "forge",
        &format!("rm \"$(ls -d {STATE}/roots/cortex/2* | tail -n 1)\""),
    );
}

fn leaf(record: &str) -> &str {
    record.rsplit('/').next().unwrap_or_default()
}

#[test]
fn s4_39_a_resumed_release_has_its_root_on_the_builder_and_nothing_else_there() {
    let lab = usual("resume-root");
    signing_can_hang(&lab);
    let first = release(&lab, "cortex");
    let old = lab.running_system("cortex");
    lab.variant("cortex", "B");
    let mut run = stopped_before_its_record(&lab);
    kill_operator(&lab, &mut run);
    root(&lab, "desk", "rm /tmp/hang");
    let left = on_builder(&lab);
    assert!(
        !left.contains("run-") && !left.contains("refs/nixgate/src/") && left.lines().count() == 2,
        "the record's root took the place of the run's own at the commit: {left}"
    );
    let second = name_in(&expect(&lab, 0, &["resume", "cortex"]));
    let new = lab.running_system("cortex");
    assert_eq!(
        on_builder(&lab),
        format!("{} {old}\n{} {new}", leaf(&first), leaf(&second))
    );
    root(
        &lab,
        "forge",
        &format!(
            "cd {STATE}/roots/cortex && test -e {}.drv && test -e {}.drv",
            leaf(&first),
            leaf(&second)
        ),
    );
    // It is a root to Nix too: the closure outlives a garbage collection.
    root(
        &lab,
        "forge",
        &format!("nix-collect-garbage >/dev/null 2>&1; test -e {new}/init"),
    );
    assert!(evidence(&lab, &second)["predicate"]["warnings"].is_null());
}

#[test]
fn s4_39_a_builder_out_of_reach_does_not_keep_a_release_from_being_resumed() {
    let lab = usual("resume-away");
    signing_can_hang(&lab);
    release(&lab, "cortex");
    lab.variant("cortex", "B");
    let mut run = stopped_before_its_record(&lab);
    kill_operator(&lab, &mut run);
    root(&lab, "desk", "rm /tmp/hang");
    lab.cut("forge");
    let out = expect(&lab, 0, &["resume", "cortex"]);
    let said = "what the run left on the builder stays, and the closure gets no root there that it does not have yet: \
                the builder cannot be used: forge does not answer";
    assert!(out.stderr.contains(said), "{out}");
    let name = name_in(&out);
    assert_eq!(
        evidence(&lab, &name)["predicate"]["warnings"],
        serde_json::json!([said])
    );
    expect(&lab, 0, &["verify", "cortex"]);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
}

#[test]
fn s4_39_a_run_that_was_taken_back_is_tidied_from_the_builder_too() {
    let lab = usual("resume-back");
    let first = release(&lab, "cortex");
    let running = lab.running_system("cortex");
    slow(&lab, 5);
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    wait_for_switch(&lab, "cortex");
    kill_operator(&lab, &mut run);
    lab.wait_for(
        "cortex",
        &format!("[ \"$(readlink /run/current-system)\" = {running} ] && flock -n /run/nixgate/lock true"),
        LEASE + Duration::from_secs(5),
    );
    assert!(on_builder(&lab).contains("refs/nixgate/src/"));
    expect(&lab, 4, &["resume", "cortex"]);
    assert_eq!(on_builder(&lab), format!("{} {running}", leaf(&first)));
}

#[test]
fn s4_39_a_target_that_built_for_itself_is_tidied_as_well() {
    let config = CONFIG.replace("host = \"forge\"", "host = \"target\"");
    let lab = with_config("resume-self", &["desk", "git", "cortex"], &config);
    signing_can_hang(&lab);
    lab.variant("cortex", "B");
    let mut run = stopped_before_its_record(&lab);
    kill_operator(&lab, &mut run);
    root(&lab, "desk", "rm /tmp/hang");
    let left = || {
        root(
            &lab,
            "cortex",
            "cd ~jarvis/.local/state/nixgate && find roots -type l && git -c safe.directory='*' -C src.git for-each-ref",
        )
    };
    assert_eq!(left().lines().count(), 2, "{}", left());
    expect(&lab, 0, &["resume", "cortex"]);
    assert_eq!(left(), "");
}

/// The deployer is a unit of the host that it releases, and the candidate changes that unit: the switch ends it, waits for
/// its end, and starts it again.
#[test]
fn s3_37_a_deployer_that_the_switch_restarts_is_finished_by_resume() {
    let lab = with_config(
        "s3-37",
        &["desk", "forge", "git"],
        &format!("{CONFIG}[target.desk]\nhost = \"local\"\n[target.desk.preflight]\nservices = [\"app\"]\n"),
    );
    let with_deployer = |number: u32| {
        let unit = format!(
            "[Service]\\nUser=op\\nWorkingDirectory=/home/op/infra\\nEnvironment=HOME=/home/op REV={number} \
             PATH=/run/wrappers/bin:/run/current-system/sw/bin:/usr/local/bin:/usr/bin:/bin\\n\
             ExecStart=/bin/sh -c 'git nixgate resume desk --json; git nixgate release desk'\\n"
        );
        let nix =
            format!("{{ packages.hello = \"3.{number}\"; units.\"deployer.service\".text = \"{unit}\"; }}");
        describe(&lab, "desk", &nix);
    };
    with_deployer(1);
    let first = release(&lab, "desk");
    let old = lab.running_system("desk");
    with_deployer(2);
    root(&lab, "desk", "systemctl start deployer");
    lab.wait_for(
        "desk",
"[ \"$(git -c safe.directory='*' -C /home/op/infra for-each-ref refs/tags/release/desk | wc -l)\" = 2 ] && \
         [ \"$(systemctl show --property=ActiveState --value deployer)\" = inactive ]",
        Duration::from_secs(100),
    );
    let journal = root(&lab, "desk", "journalctl -u deployer -o cat --no-pager");
    let newest = desk(
        &lab,
        "git for-each-ref --sort=-refname --format='%(refname:short)' refs/tags/release/desk | head -n 1",
    );
    assert_ne!(newest, first, "{journal}");
    assert_ne!(lab.running_system("desk"), old, "{journal}");
    // Ended by the switch it had ordered, and gone at once, or the switch would have waited for it.
    assert!(journal.contains("left: desk finishes its switch"), "{journal}");
    assert!(journal.contains(&format!("\"record\":\"{newest}\"")), "{journal}");
    assert!(journal.contains("desk: nothing to do"), "{journal}");
    expect(&lab, 0, &["verify", "desk"]);
    expect(&lab, 0, &["status", "desk", "--live"]);
    nothing_left(&lab, "desk", Duration::from_secs(20));
}
