//! S1: gates, known-good, release pointers.

use std::time::Duration;

use crate::hand::{at_desk, describe, desk, evidence, good, name_in, nothing_left, root, wait_for_switch};
use crate::infra::{CONFIG, expect, host_state, refs, release, usual, with_config};
use crate::lab::{Lab, Output};

/// Long enough for a unit that dies a moment after the switch.
fn soaking() -> String {
    CONFIG.replace("soak = 0", "soak = 12")
}

/// The gate that failed, by what was shown: the heading above the one line that says so.
#[track_caller]
fn failed_gate(out: &Output) -> &str {
    let parts: Vec<&str> = out.stderr.split("\n  FAILED in").collect();
    assert_eq!(parts.len(), 2, "{out}");
    let heading = |line: &&str| !line.starts_with(' ') && !line.contains(' ');
    parts[0].lines().rfind(heading).unwrap_or_default()
}

#[test]
fn s1_01_a_failure_in_any_gate_leaves_no_tag_no_root_and_no_pointer() {
    let config = soaking() + "[target.cortex.preflight]\nservices = [\"sshd\", \"worker\"]\n";
    let lab = with_config("s1-01", &["desk", "forge", "git", "cortex"], &config);
    release(&lab, "cortex");
    let (host, all) = (host_state(&lab, "cortex"), refs(&lab));
    let running = lab.running_system("cortex");
    let unchanged = |gate: &str, exit: i32| {
        let out = expect(&lab, exit, &["release", "cortex"]);
        assert_eq!(failed_gate(&out), gate, "{out}");
        nothing_left(&lab, "cortex", Duration::from_secs(20));
        assert_eq!(host_state(&lab, "cortex"), host, "after {gate}");
        assert_eq!(refs(&lab), all, "after {gate}");
        assert_eq!(lab.running_system("cortex"), running, "after {gate}");
    };

    lab.variant("cortex", "B");
    root(&lab, "cortex", "systemctl stop worker.service");
    unchanged("preflight", 1);
    root(&lab, "cortex", "systemctl start worker.service");
    describe(&lab, "cortex", "{ version = missing; }");
    unchanged("build", 1);
    lab.variant("cortex", "Bpre");
    unchanged("dry-activate", 1);
    lab.variant("cortex", "Bact");
    unchanged("switch-test", 4);
    lab.variant_with("cortex", "Bdelayed", &["seconds=6"]);
    unchanged("validate", 4);
    lab.variant("cortex", "Bboot");
    unchanged("commit", 4);

    lab.variant("cortex", "B");
    release(&lab, "cortex");
}

#[test]
fn s1_02_gates_run_in_order_and_each_is_timed_and_recorded() {
    let lab = usual("s1-02");
    let first = release(&lab, "cortex");
    lab.variant("cortex", "B");
    let second = release(&lab, "cortex");
    for name in [&first, &second] {
        let gates = gates(&lab, name);
        let names: Vec<&str> = gates.iter().map(|(name, _)| name.as_str()).collect();
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
            ]
        );
        assert!(gates.iter().all(|(_, verdict)| verdict == "passed"), "{gates:?}");
    }
    let evidence = evidence(&lab, &second);
    let list = evidence["predicate"]["gates"].as_array().unwrap();
    let starts: Vec<&str> = list.iter().map(|gate| gate["start"].as_str().unwrap()).collect();
    assert!(starts.is_sorted(), "{starts:?}");
    assert!(list.iter().all(|gate| gate["millis"].is_u64()), "{list:?}");

    // A gate that does not apply says why.
    let back = name_in(&expect(&lab, 0, &["rollback", "cortex"]));
    let back = crate::hand::evidence(&lab, &back);
    let build = &back["predicate"]["gates"][1];
    assert_eq!(
        (build["gate"].as_str(), build["verdict"].as_str()),
        (Some("build"), Some("skipped"))
    );
    assert!(build["reason"].as_str().unwrap().contains("no build"), "{build}");

    // The evidence of a run that failed is kept with it, not as a record.
    lab.variant("cortex", "Bpre");
    expect(&lab, 1, &["release", "cortex", "--fixes", &second]);
    let failed = expect(&lab, 0, &["--json", "log", "cortex", "--failed"]).stdout;
    let failed: serde_json::Value = serde_json::from_str(failed.trim()).unwrap();
    let run = failed["runs"][0]["run"].as_str().unwrap();
    let kept = desk(
        &lab,
        &format!("git cat-file blob refs/nixgate/runs/cortex/{run}:evidence.json"),
    );
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    let last = kept["gates"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (last["gate"].as_str(), last["verdict"].as_str()),
        (Some("dry-activate"), Some("failed"))
    );
}

/// Names and verdicts of the gates that a record lists.
#[track_caller]
fn gates(lab: &Lab, record: &str) -> Vec<(String, String)> {
    let evidence = evidence(lab, record);
    let text = |gate: &serde_json::Value, key: &str| gate[key].as_str().unwrap().to_owned();
    let list = evidence["predicate"]["gates"].as_array().unwrap();
    list.iter()
        .map(|gate| (text(gate, "gate"), text(gate, "verdict")))
        .collect()
}

#[test]
fn s1_06_the_diff_is_against_what_runs() {
    let lab = usual("s1-06");
    release(&lab, "cortex");
    let hand_made = lab.closure("cortex", "C");
    root(
        &lab,
        "cortex",
        &format!("{hand_made}/bin/switch-to-configuration test"),
    );
    lab.variant("cortex", "B");
    // Running and boot default differ now: that is drift, and has to be accepted.
    let out = expect(&lab, 3, &["release", "cortex"]);
    assert!(out.stderr.contains("--accept-drift"), "{out}");
    let name = name_in(&expect(&lab, 0, &["release", "cortex", "--accept-drift"]));
    let evidence = evidence(&lab, &name);
    let found = &evidence["predicate"];
    assert_eq!(found["before"]["toplevel"].as_str(), Some(hand_made.as_str()));
    let lines = found["diff"]["lines"].to_string();
    // C has hello 2.12 and no htop; A, the profile's system, has both as B has them.
    assert!(lines.contains("hello 2.12 "), "{lines}");
    assert!(lines.contains("+ htop"), "{lines}");
    assert!(found["drift"].as_str().unwrap().contains(&hand_made), "{found}");
}

#[test]
fn s1_07_packages_added_removed_up_and_down_with_their_sizes() {
    let lab = usual("s1-07");
    release(&lab, "cortex");
    describe(
        &lab,
        "cortex",
        "{ packages = { appd = \"1.5.0\"; hello = \"2.12\"; htop = null; ripgrep = \"15.1.0\"; }; }",
    );
    let out = expect(&lab, 0, &["release", "cortex"]);
    let evidence = evidence(&lab, &name_in(&out));
    let diff = &evidence["predicate"]["diff"];
    let lines = diff["lines"].as_array().unwrap();
    let starts = |start: &str| {
        lines
            .iter()
            .filter_map(|l| l.as_str())
            .any(|l| l.starts_with(start))
    };
    assert!(starts("↑ appd 1.4.2 → 1.5.0"), "{diff}");
    assert!(starts("↓ hello 2.12.1 → 2.12"), "{diff}");
    assert!(starts("- htop ") && starts("+ ripgrep 15.1.0 (+"), "{diff}");
    assert_eq!(diff["downgraded"], 1, "{diff}");
    assert_eq!(diff["removed"], 1, "{diff}");
    assert!(diff["bytes_delta"].is_i64(), "{diff}");
    // What was only rebuilt is recorded; the causes say why.
    let shown = |line: &&serde_json::Value| line.as_str().is_some_and(|line| !line.starts_with('~'));
    for line in lines.iter().filter(shown) {
        assert!(
            out.stderr.contains(line.as_str().unwrap()),
            "{line} was not shown"
        );
    }
}

#[test]
fn s1_09_every_change_is_shown_before_it_lands_and_a_no_leaves_everything_as_it_was() {
    let lab = usual("s1-09");
    release(&lab, "cortex");
    lab.variant("cortex", "B");
    let (host, all) = (host_state(&lab, "cortex"), refs(&lab));
    let clean = |what: &str| {
        nothing_left(&lab, "cortex", Duration::from_secs(20));
        assert_eq!(
            (host_state(&lab, "cortex"), refs(&lab)),
            (host.clone(), all.clone()),
            "after {what}"
        );
    };
    // `check` stops before the switch.
    let out = expect(&lab, 0, &["check", "cortex"]);
    assert!(
        out.stderr.contains("appd 1.4.2 → 1.5.0") && out.stderr.contains("would stop: app.service"),
        "{out}"
    );
    clean("check");
    // Nobody there to be asked.
    expect(&lab, 2, &["release", "cortex", "--confirm"]);
    clean("--confirm without a terminal");
    // A person on a terminal, who says no; the diff stands above the question.
    let typed = |answer: &str| {
        at_desk(
            &lab,
            &format!(
                "(echo {answer}; cat) </dev/null | script -qec 'git nixgate release cortex --confirm' /dev/null"
            ),
        )
    };
    let out = typed("n");
    assert_eq!(out.status, 1, "{out}");
    let question = out.stdout.find("switch cortex to ").expect("it asks");
    let change = out.stdout.find("appd 1.4.2").expect("it shows what changes");
    assert!(change < question && out.stdout.contains("declined"), "{out}");
    clean("a no");
    let out = typed("y");
    assert_eq!(out.status, 0, "{out}");
    let record = desk(
        &lab,
        "git for-each-ref --format='%(refname:strip=2)' --sort=-refname --count=1 refs/tags/release",
    );
    assert!(
        evidence(&lab, &record)["predicate"]["diff"]["lines"]
            .to_string()
            .contains("appd 1.4.2")
    );
}

#[test]
fn s1_11_dry_activate_touches_no_unit_and_names_the_risky_ones() {
    let lab = usual("s1-11");
    release(&lab, "cortex");
    describe(
        &lab,
        "cortex",
        "{ revs = { \"sshd.service\" = 2; \"network-addresses-eth0.service\" = 2; \"app.service\" = 2; \
           \"proxy.service\" = 2; \"worker.service\" = 2; }; }",
    );
    let units = || {
        root(
            &lab,
            "cortex",
            "systemctl list-units --all --type=service,socket,timer,target --plain --no-legend --no-pager | \
             awk '{print $1, $3, $4}' | grep -v -e ^user -e ^session -e ^run- -e ^nixgate- | sort; \
             systemctl show --property=Id,ActiveEnterTimestampMonotonic,NRestarts sshd app proxy worker \
             network-addresses-eth0 firewall",
        )
    };
    let before = units();
    let out = expect(&lab, 0, &["check", "cortex"]);
    assert_eq!(units(), before);
    assert!(out.stderr.contains("would stop: app.service"), "{out}");
    assert!(out.stderr.contains("would reload: proxy.service"), "{out}");
    let restart = out
        .stderr
        .lines()
        .find(|line| line.contains("would restart:"))
        .unwrap();
    for unit in ["sshd.service", "network-addresses-eth0.service", "worker.service"] {
        assert!(restart.contains(unit), "{out}");
    }
    let risky = out.stderr.lines().find(|line| line.contains("risky:")).unwrap();
    assert!(
        risky.contains("sshd.service") && risky.contains("network-addresses-eth0.service"),
        "{out}"
    );
    assert!(!risky.contains("worker.service"), "{out}");
    let name = release(&lab, "cortex");
    let plan = evidence(&lab, &name)["predicate"]["plan"].clone();
    assert_eq!(plan["reload"], serde_json::json!(["proxy.service"]), "{plan}");
    assert!(plan["risky"].to_string().contains("sshd.service"), "{plan}");
}

#[test]
fn s1_12_the_real_switch_runs_in_a_unit_of_its_own_and_its_result_is_told_apart() {
    let lab = usual("s1-12");
    let good = release(&lab, "cortex");
    let state = host_state(&lab, "cortex");
    for (variant, word) in [
        ("Bact", "activation script failed"),
        ("Bfail", "left failed units"),
    ] {
        lab.variant("cortex", variant);
        let out = expect(&lab, 4, &["release", "cortex"]);
        assert!(out.stderr.contains(word), "{out}");
        assert_eq!(host_state(&lab, "cortex"), state, "after {variant}");
    }
    lab.variant("cortex", "B");
    let next = release(&lab, "cortex");
    assert_ne!(next, good);
    let units = root(
        &lab,
        "cortex",
        "journalctl --no-pager -o cat _COMM=systemd | grep -c 'switch-to-configuration test'",
    );
    assert!(units.parse::<u32>().unwrap() >= 4, "{units}");
}

#[test]
fn s1_12_a_reset_in_the_middle_of_the_switch_boots_the_old_system() {
    let lab = usual("s1-12-reset");
    release(&lab, "cortex");
    let (before, state, all) = (
        lab.running_system("cortex"),
        host_state(&lab, "cortex"),
        refs(&lab),
    );
    lab.variant("cortex", "Bslow");
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    wait_for_switch(&lab, "cortex");
    lab.power_cut("cortex");
    crate::hand::kill_operator(&lab, &mut run);
    lab.power_on("cortex");
    assert_eq!(lab.running_system("cortex"), before);
    let out = expect(&lab, 4, &["resume", "cortex"]);
    assert!(out.stderr.contains("cortex is on what ran before"), "{out}");
    assert_eq!(refs(&lab), all);
    lab.variant("cortex", "B");
    release(&lab, "cortex");
    assert_ne!(host_state(&lab, "cortex"), state);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
}

#[test]
fn s1_13_what_can_only_be_booted_is_known_good_after_the_reboot_and_not_before() {
    let lab = usual("s1-13");
    release(&lab, "cortex");
    let all = refs(&lab);
    let before = lab.running_system("cortex");
    lab.variant("cortex", "B100");
    let out = expect(&lab, 1, &["release", "cortex"]);
    assert!(out.stderr.contains("--boot"), "{out}");
    let out = expect(&lab, 7, &["release", "cortex", "--boot"]);
    assert!(out.stdout.contains("resume"), "{out}");
    assert_eq!(refs(&lab), all, "recorded before it was proven");
    assert_eq!(lab.running_system("cortex"), before);
    // Asked too early.
    expect(&lab, 7, &["resume", "cortex"]);
    assert_eq!(refs(&lab), all);
    lab.reboot("cortex");
    assert_ne!(lab.running_system("cortex"), before);
    let name = name_in(&expect(&lab, 0, &["resume", "cortex"]));
    assert!(refs(&lab).contains(&format!("refs/tags/{name} ")));
    expect(&lab, 0, &["verify", "cortex"]);
    expect(&lab, 0, &["status", "cortex", "--live"]);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
}

#[test]
fn s1_14_a_recorded_closure_outlives_every_garbage_collection() {
    let lab = usual("s1-14");
    let first = release(&lab, "cortex");
    let old = lab.running_system("cortex");
    lab.variant("cortex", "B");
    let second = release(&lab, "cortex");
    let new = lab.running_system("cortex");
    root(
        &lab,
        "cortex",
        "nix-env -p /nix/var/nix/profiles/system --delete-generations old && nix-collect-garbage -d",
    );
    // The builder's roots are its own; the source of the flake is of no use for a rollback.
    root(&lab, "forge", "nix-collect-garbage -d");
    for host in ["cortex", "forge"] {
        for path in [&old, &new] {
            root(
                &lab,
                host,
                &format!("nix-store --check-validity $(nix-store -qR {path}) && test -e {path}/init"),
            );
        }
    }
    expect(&lab, 0, &["rollback", "cortex", "--check"]);
    expect(&lab, 0, &["rollback", "cortex"]);
    assert_eq!(lab.running_system("cortex"), old);
    assert_ne!(first, second);
}

#[test]
fn s1_18_s1_20_a_release_is_a_tag_a_pointer_and_a_ledger_here_and_on_the_remote() {
    let lab = usual("s1-18");
    let name = release(&lab, "cortex");
    let refs = refs(&lab);
    for side in refs.split("---\n") {
        assert!(side.contains(&format!("refs/tags/{name} ")), "{refs}");
        assert!(side.contains("refs/heads/release/cortex "), "{refs}");
        assert!(side.contains("refs/nixgate/ledger/cortex "), "{refs}");
        assert!(!side.contains("refs/nixgate/pending"), "{refs}");
    }
    assert!(host_state(&lab, "cortex").contains(name.rsplit('/').next().unwrap()));
    expect(&lab, 0, &["verify", "cortex"]);
    // The tag's own shape, and the commit it stands on.
    let leaf = name.strip_prefix("release/cortex/").unwrap();
    let (utc, short) = leaf.split_once('-').unwrap();
    assert!(
        utc.len() == 16 && utc.as_bytes()[8] == b'T' && utc.ends_with('Z'),
        "{name}"
    );
    assert_eq!(desk(&lab, &format!("git cat-file -t refs/tags/{name}")), "tag");
    let commit = desk(&lab, &format!("git rev-parse refs/tags/{name}^{{commit}}"));
    assert_eq!(commit, desk(&lab, "git rev-parse HEAD"));
    assert_eq!((short.len(), commit.starts_with(short)), (12, true), "{name}");
    assert_eq!(commit, desk(&lab, "git rev-parse refs/heads/release/cortex"));
    // Pushed together: one push, all three refs or none.
    lab.variant("cortex", "B");
    root(
        &lab,
        "git",
        "printf '#!/bin/sh\\nwc -l >>/tmp/pushes\\n' >/srv/git/infra.git/hooks/pre-receive && \
         chmod 755 /srv/git/infra.git/hooks/pre-receive && rm -f /tmp/pushes",
    );
    let second = release(&lab, "cortex");
    assert_eq!(root(&lab, "git", "cat /tmp/pushes"), "3");
    assert_eq!(
        desk(&lab, "git rev-parse release/cortex"),
        desk(&lab, &format!("git rev-parse refs/tags/{second}^{{commit}}"))
    );
}

#[test]
fn s1_22_the_commit_is_built_and_nothing_of_the_work_tree() {
    let lab = usual("s1-22");
    release(&lab, "cortex");
    lab.variant("cortex", "B");
    let clean = {
        let closure = desk(
            &lab,
            "git clone -q . ~/clean && cd ~/clean && nix eval --raw \
             '.#nixosConfigurations.cortex.config.system.build.toplevel.outPath'",
        );
        closure.lines().last().unwrap().to_owned()
    };
    // Dirty: refused by name; named on purpose: the commit is built.
    desk(&lab, "echo '{ version = \"dirty\"; }' >hosts/cortex.nix");
    let out = expect(&lab, 3, &["release", "cortex"]);
    assert!(out.stderr.contains("hosts/cortex.nix"), "{out}");
    desk(
        &lab,
        "git checkout -q hosts/cortex.nix && echo '{ version = \"stray\"; }' >hosts/stray.nix",
    );
    // Edited after the start.
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("preflight", Duration::from_secs(20));
    desk(&lab, "echo '{ version = \"later\"; }' >hosts/cortex.nix");
    let out = run.wait(Duration::from_secs(120)).unwrap();
    assert_eq!(out.status, 0, "{out}");
    assert!(
        out.stderr.contains("hosts/stray.nix"),
        "untracked files are mentioned: {out}"
    );
    assert_eq!(lab.running_system("cortex"), clean);
}

#[test]
fn s1_23_every_target_has_a_pointer_of_its_own() {
    let lab = with_config("s1-23", &["desk", "forge", "git", "cortex", "orion"], CONFIG);
    let orion = release(&lab, "orion");
    let at = desk(&lab, "git rev-parse release/orion");
    good(&lab, "cortex", 1);
    release(&lab, "cortex");
    good(&lab, "cortex", 2);
    let cortex = release(&lab, "cortex");
    assert_eq!(desk(&lab, "git rev-parse release/orion"), at);
    assert_ne!(desk(&lab, "git rev-parse release/cortex"), at);
    let status = expect(&lab, 0, &["status"]).stdout;
    for record in [&orion, &cortex] {
        assert!(status.contains(record.rsplit('/').next().unwrap()), "{status}");
    }
    // Orion's closure did not change with cortex's description.
    let out = expect(&lab, 0, &["release", "orion"]);
    assert!(out.stdout.contains("nothing to do"), "{out}");
}

#[test]
fn s1_24_what_fails_only_when_activated_is_caught() {
    let lab = with_config("s1-24", &["desk", "forge", "git", "cortex"], &soaking());
    release(&lab, "cortex");
    let (state, all) = (host_state(&lab, "cortex"), refs(&lab));
    for (variant, gate) in [
        ("Bmigrate", "switch-test"),
        ("Border", "switch-test"),
        ("Bfail", "switch-test"),
        ("Bdelayed", "validate"),
    ] {
        match variant {
            "Bdelayed" => lab.variant_with("cortex", variant, &["seconds=6"]),
            _ => lab.variant("cortex", variant),
        }
        let out = expect(&lab, 4, &["release", "cortex"]);
        assert_eq!(failed_gate(&out), gate, "{variant}: {out}");
        assert_eq!(
            (host_state(&lab, "cortex"), refs(&lab)),
            (state.clone(), all.clone()),
            "after {variant}"
        );
    }
}
