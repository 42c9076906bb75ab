//! The way back: with nothing but the host, again and again, past what hands made.

use std::time::Duration;

use crate::hand::{describe, desk, evidence, good, name_in, nothing_left, root, trailer, trailers};
use crate::infra::{expect, host_state, refs, release, usual};
use crate::lab::Lab;

/// Releases three good systems; their records and closures, oldest first.
#[track_caller]
fn three(lab: &Lab) -> Vec<(String, String)> {
    (1..=3)
        .map(|number| {
            good(lab, "cortex", number);
            (release(lab, "cortex"), lab.running_system("cortex"))
        })
        .collect()
}

#[track_caller]
fn withdrawn_by(lab: &Lab, record: &str) -> Vec<String> {
    trailers(lab, record)
        .into_iter()
        .filter(|(key, _)| key == "Withdraws")
        .map(|(_, value)| value)
        .collect()
}

#[test]
fn s1_16_without_flake_builder_and_caches_the_targets_own_root_is_enough() {
    let lab = usual("s1-16");
    release(&lab, "cortex");
    let old = lab.running_system("cortex");
    lab.variant("cortex", "B");
    let bad = release(&lab, "cortex");
    let pointer = desk(&lab, "git rev-parse release/cortex");
    // No flake to evaluate, no builder, and Nix may not even build on the target.
    desk(
        &lab,
        "git rm -qr flake.nix flake.lock system.nix hosts && git commit -qm 'All gone'",
    );
    lab.cut("forge");
    root(&lab, "cortex", "rm -rf /nix/var/log/nix/drvs");
    let name = name_in(&expect(&lab, 0, &["rollback", "cortex"]));
    assert_eq!(lab.running_system("cortex"), old);
    root(&lab, "cortex", "test ! -e /nix/var/log/nix/drvs");
    assert_eq!(trailer(&lab, &name, "Kind"), "rollback");
    assert_eq!(withdrawn_by(&lab, &name), [bad]);
    assert_eq!(
        desk(&lab, "git rev-parse release/cortex"),
        pointer,
        "the pointer moved"
    );
    expect(&lab, 0, &["verify", "cortex"]);
    expect(&lab, 0, &["status", "cortex", "--live"]);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
}

#[test]
fn s1_16_s4_43_what_the_target_lost_comes_from_the_builders_root() {
    let lab = usual("s1-16-builder");
    let all = three(&lab);
    let (release, old) = &all[1];
    expect(&lab, 0, &["rollback", "cortex", "--check"]);
    let leaf = release.rsplit('/').next().expect("a name");
    root(
        &lab,
        "cortex",
        &format!("rm /nix/var/nix/gcroots/nixgate/cortex/{leaf}"),
    );
    let out = expect(&lab, 1, &["rollback", "cortex", "--check"]);
    assert!(out.stderr.contains("no root keeps"), "{out}");
    root(
        &lab,
        "cortex",
        "rm -r /nix/var/nix/gcroots/nixgate && nix-env -p /nix/var/nix/profiles/system --delete-generations old && \
         nix-collect-garbage -d",
    );
    assert!(
        !lab.sh("cortex", "root", &format!("nix-store --check-validity {old}"))
            .ok()
    );
    let out = expect(&lab, 1, &["rollback", "cortex", "--check"]);
    assert!(out.stderr.contains("not on cortex"), "{out}");
    expect(&lab, 0, &["rollback", "cortex"]);
    assert_eq!(&lab.running_system("cortex"), old);
}

#[test]
fn s1_17_twice_in_a_row_goes_two_back_and_what_hands_made_is_skipped() {
    let lab = usual("s1-17");
    let all = three(&lab);
    // Somebody makes a generation by hand, and goes back to the release by hand.
    let hand_made = lab.closure("cortex", "C");
    let current = &all[2].1;
    root(
        &lab,
        "cortex",
        &format!(
            "p=/nix/var/nix/profiles/system; nix-env -p $p --set {hand_made} && {hand_made}/bin/switch-to-configuration switch && \
             nix-env -p $p --set {current} && {current}/bin/switch-to-configuration switch"
        ),
    );
    let first = name_in(&expect(&lab, 0, &["rollback", "cortex"]));
    assert_eq!(
        lab.running_system("cortex"),
        all[1].1,
        "went to what was made by hand?"
    );
    assert_eq!(withdrawn_by(&lab, &first), [all[2].0.clone()]);
    assert_eq!(trailer(&lab, &first, "Restores"), all[1].0);
    let second = name_in(&expect(&lab, 0, &["rollback", "cortex"]));
    assert_eq!(lab.running_system("cortex"), all[0].1);
    assert_eq!(withdrawn_by(&lab, &second), [all[1].0.clone()]);
    // No further.
    let (state, refs_now) = (host_state(&lab, "cortex"), refs(&lab));
    let out = expect(&lab, 3, &["rollback", "cortex"]);
    assert!(out.stderr.contains("--to before-first"), "{out}");
    assert_eq!((host_state(&lab, "cortex"), refs(&lab)), (state, refs_now));
    expect(&lab, 0, &["verify", "cortex"]);
}

#[test]
fn a_rollback_to_a_named_release_withdraws_all_after_it_and_a_withdrawn_one_comes_back_by_name_only() {
    let lab = usual("withdrawn");
    let all = three(&lab);
    let back = name_in(&expect(&lab, 0, &["rollback", "cortex", "--to", &all[0].0]));
    assert_eq!(lab.running_system("cortex"), all[0].1);
    assert_eq!(withdrawn_by(&lab, &back), [all[1].0.clone(), all[2].0.clone()]);
    let log = expect(&lab, 0, &["log", "cortex"]).stdout;
    assert_eq!(log.matches("withdrawn").count(), 2, "{log}");

    // A withdrawn closure is no candidate, whatever its commit; and a rollback does not go there.
    let before = refs(&lab);
    desk(&lab, "git commit -q --allow-empty -m 'Again'");
    let out = expect(&lab, 3, &["release", "cortex", "--fixes", &all[2].0]);
    assert!(
        out.stderr.contains("withdrawn") && out.stderr.contains("deploy cortex --to"),
        "{out}"
    );
    let out = expect(&lab, 3, &["rollback", "cortex", "--to", &all[1].0]);
    assert!(out.stderr.contains("withdrawn"), "{out}");
    assert_eq!(refs(&lab), before);
    assert_eq!(lab.running_system("cortex"), all[0].1);

    // Knowingly: it is known-good again.
    let name = name_in(&expect(&lab, 0, &["deploy", "cortex", "--to", &all[2].0]));
    assert_eq!(lab.running_system("cortex"), all[2].1);
    assert_eq!(
        (trailer(&lab, &name, "Kind"), trailer(&lab, &name, "Restores")),
        ("deploy".into(), all[2].0.clone())
    );
    assert_eq!(
        desk(&lab, "git rev-parse release/cortex"),
        desk(&lab, &format!("git rev-parse {}^{{commit}}", all[2].0))
    );
    // All[1] is still withdrawn, so the next way back is to the first.
    expect(&lab, 0, &["rollback", "cortex"]);
    assert_eq!(lab.running_system("cortex"), all[0].1);
    // Backward is a rollback's work.
    expect(&lab, 0, &["deploy", "cortex", "--to", &all[1].0]);
    let out = expect(&lab, 3, &["deploy", "cortex", "--to", &all[0].0]);
    assert!(out.stderr.contains("rollback cortex --to"), "{out}");
    expect(&lab, 0, &["verify", "cortex"]);
}

#[test]
fn before_first_is_kept_and_can_be_gone_back_to() {
    let lab = usual("before-first");
    let before = lab.running_system("cortex");
    lab.variant("cortex", "B");
    let first = release(&lab, "cortex");
    root(
        &lab,
        "cortex",
        "nix-env -p /nix/var/nix/profiles/system --delete-generations old && nix-collect-garbage -d",
    );
    let out = expect(&lab, 3, &["rollback", "cortex"]);
    assert!(out.stderr.contains("--to before-first"), "{out}");
    let back = name_in(&expect(&lab, 0, &["rollback", "cortex", "--to", "before-first"]));
    assert_eq!(lab.running_system("cortex"), before);
    assert_eq!(trailer(&lab, &back, "Restores"), "before-first");
    assert_eq!(withdrawn_by(&lab, &back), std::slice::from_ref(&first));
    expect(&lab, 0, &["verify", "cortex"]);
    expect(&lab, 0, &["status", "cortex", "--live"]);
    expect(&lab, 0, &["deploy", "cortex", "--to", &first]);
    assert_ne!(lab.running_system("cortex"), before);
}

#[test]
fn a_host_switched_by_hand_goes_back_to_its_record_and_nothing_is_withdrawn() {
    let lab = usual("by-hand");
    let first = release(&lab, "cortex");
    lab.variant("cortex", "B");
    let current = release(&lab, "cortex");
    let recorded = lab.running_system("cortex");
    let hand_made = lab.closure("cortex", "C");
    for how in ["test", "switch"] {
        let set = match how {
            "switch" => format!("nix-env -p /nix/var/nix/profiles/system --set {hand_made} && "),
            _ => String::new(),
        };
        root(
            &lab,
            "cortex",
            &format!("{set}{hand_made}/bin/switch-to-configuration {how}"),
        );
        let out = expect(&lab, 1, &["status", "cortex", "--live"]);
        assert!(out.stdout.contains(&hand_made), "{out}");
        let out = expect(&lab, 0, &["rollback", "cortex"]);
        assert!(out.stderr.contains("nothing is withdrawn"), "{out}");
        assert_eq!(lab.running_system("cortex"), recorded, "after {how}");
        let name = name_in(&out);
        assert_eq!(
            (withdrawn_by(&lab, &name).len(), trailer(&lab, &name, "Restores")),
            (0, current.clone())
        );
        assert!(
            evidence(&lab, &name)["predicate"]["drift"]
                .as_str()
                .unwrap()
                .contains(&hand_made)
        );
        expect(&lab, 0, &["status", "cortex", "--live"]);
    }
    expect(&lab, 0, &["rollback", "cortex"]);
    let back = lab.running_system("cortex");
    assert_ne!(
        (back.as_str(), first.as_str()),
        (recorded.as_str(), current.as_str())
    );
    expect(&lab, 0, &["verify", "cortex"]);
}

#[test]
fn a_release_after_a_rollback_must_say_what_it_mends() {
    let lab = usual("fixes");
    release(&lab, "cortex");
    good(&lab, "cortex", 1);
    let bad = release(&lab, "cortex");
    expect(&lab, 0, &["rollback", "cortex"]);
    good(&lab, "cortex", 2);
    let (state, before) = (host_state(&lab, "cortex"), refs(&lab));
    let out = expect(&lab, 3, &["release", "cortex"]);
    assert!(
        out.stderr.contains("--fixes") && out.stderr.contains(&bad),
        "{out}"
    );
    assert!(out.stderr.contains("Nixgate-Fixes:"), "{out}");
    assert_eq!((host_state(&lab, "cortex"), refs(&lab)), (state, before));
    expect(
        &lab,
        3,
        &[
            "release",
            "cortex",
            "--fixes",
            "release/cortex/20200101T000000Z-000000000000",
        ],
    );
    expect(&lab, 0, &["release", "cortex", "--fixes", &bad]);

    // The same by a commit's trailer.
    good(&lab, "cortex", 3);
    let bad = release(&lab, "cortex");
    expect(&lab, 0, &["rollback", "cortex"]);
    // A host switched by hand and brought back is still one that was rolled back.
    let hand_made = lab.closure("cortex", "C");
    root(
        &lab,
        "cortex",
        &format!("{hand_made}/bin/switch-to-configuration test"),
    );
    expect(&lab, 0, &["rollback", "cortex"]);
    good(&lab, "cortex", 4);
    let out = expect(&lab, 3, &["release", "cortex"]);
    assert!(out.stderr.contains(&bad), "{out}");
    desk(
        &lab,
        &format!("git commit -q --amend -m 'Mend it' -m 'Nixgate-Fixes: {bad}'"),
    );
    expect(&lab, 0, &["release", "cortex"]);
    // Said once: the next release is an ordinary one.
    good(&lab, "cortex", 5);
    expect(&lab, 0, &["release", "cortex"]);
    expect(&lab, 0, &["verify", "cortex"]);
}

#[test]
fn a_rollback_from_a_sick_host_counts_only_what_the_way_back_breaks() {
    let lab = usual("sick");
    let good = release(&lab, "cortex");
    let old = lab.running_system("cortex");
    // Released, and then it fails: the service of the new system does not come up again.
    describe(
        &lab,
        "cortex",
        "{ units.\"late.service\" = { wantedBy = [ \"multi-user.target\" ]; text = \"[Unit]\\nDescription=late\\n\
         [Service]\\nExecStart=/bin/sh -c 'while [ ! -e /run/break ]; do sleep 0.1; done; exit 1'\\n\"; }; }",
    );
    release(&lab, "cortex");
    root(&lab, "cortex", "touch /run/break");
    lab.wait_for(
        "cortex",
        "systemctl is-failed late.service",
        Duration::from_secs(10),
    );
    expect(&lab, 1, &["health", "cortex"]);
    let back = name_in(&expect(&lab, 0, &["rollback", "cortex"]));
    assert_eq!(lab.running_system("cortex"), old);
    expect(&lab, 0, &["health", "cortex"]);
    assert_eq!(trailer(&lab, &back, "Restores"), good);
}
