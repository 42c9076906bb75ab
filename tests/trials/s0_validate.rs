//! S0: what validation sees after the switch, and how the host goes back.

use std::time::Instant;

use crate::broken::{commit, must, says, snapshot, switches, with};
use crate::hand::describe;
use crate::infra::{expect, release, usual, with_config};
use crate::s0::{HOSTS, SECOND, clean};

#[test]
fn s0_10_an_old_connection_proves_nothing() {
    let lab = with_config(
        "s0-10",
        &HOSTS,
        &with("[target.cortex.timeouts]\nsettle = 5\nconfirm = 20\n"),
    );
    // The operator's own ssh keeps a master as well, and that one lives through the firewall.
    must(
        &lab,
        "desk",
        "op",
        "printf 'Host cortex\\n  ControlMaster auto\\n  ControlPath ~/.ssh/mux\\n  ControlPersist 600\\n' \
         > ~/.ssh/new && cat ~/.ssh/config >> ~/.ssh/new && mv ~/.ssh/new ~/.ssh/config && \
         ssh cortex true </dev/null >/dev/null 2>&1",
    );
    let before = snapshot(&lab, "cortex");
    lab.variant("cortex", "Bnet-firewall");
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("\nvalidate\n", 60 * SECOND);
    let clock = Instant::now();
    let old = lab.sh(
        "desk",
        "op",
        "timeout 5 ssh -O check cortex && timeout 5 ssh cortex true",
    );
    run.wait_for_stderr("[1/5] SSH connectivity... FAILED (timeout)", 60 * SECOND);
    let took = clock.elapsed();
    assert!(old.ok(), "the old connection should have lived: {old}");
    assert!(took > 5 * SECOND, "settles first: {took:?}");
    let out = run.wait(120 * SECOND).expect("an end");
    assert_eq!(out.status, 4, "{out}");
    assert_eq!(snapshot(&lab, "cortex"), before, "{out}");
}

/// A host file with a unit that fails in any case, and this as its application.
fn broken_and(app: &str) -> String {
    format!(
        "cat > hosts/cortex.nix <<'N'\n{{\n  version = \"26.05.20261103\";\n  units = {{\n    \"broken.service\" = {{\n\
         wantedBy = [ \"multi-user.target\" ];\n      text = \"[Service]\\nType=oneshot\\nExecStart=/bin/false\\n\";\n    }};\n\
         \"app.service\" = {{\n      wantedBy = [ \"multi-user.target\" ];\n      text = \"[Service]\\nExecStart={app}\\n\";\n\
         }};\n  }};\n}}\nN"
    )
}

#[test]
fn s0_11_s0_14_s4_21_old_failures_are_noted_and_new_ones_fail() {
    let lab = with_config("s0-11", &HOSTS, &with("[target.cortex.timeouts]\nsoak = 6\n"));
    // Somebody switched to a system with a unit that fails, and left it so.
    let bad = lab.closure("cortex", "Bfail");
    let out = lab.sh(
        "cortex",
        "root",
        &format!(
            "nix-env -p /nix/var/nix/profiles/system --set {bad} && {bad}/bin/switch-to-configuration switch"
        ),
    );
    assert_eq!(out.status, 4, "{out}");
    must(&lab, "cortex", "root", "systemctl is-failed broken.service");

    commit(&lab, &broken_and("/bin/sleep 100000"));
    let out = expect(&lab, 0, &["release", "cortex"]);
    says(
        &out,
        &[
            "failed before as well: broken.service",
            "[2/5] System state... passed (degraded by units that had failed before: broken.service)",
            "[5/5] Failed units... passed",
        ],
    );

    let before = snapshot(&lab, "cortex");
    commit(&lab, &broken_and("/bin/sh -c 'sleep 3; exit 3'"));
    let out = clean(&lab, 4, &["release", "cortex"], &before);
    says(
        &out,
        &[
            "[2/5] System state... FAILED (degraded)",
            "[5/5] Failed units... FAILED (app.service)",
        ],
    );
}

#[test]
fn s0_12_a_critical_service_that_crashes_after_the_switch_is_reverted() {
    let lab = with_config(
        "s0-12",
        &HOSTS,
        &with(
            "[target.cortex.preflight]\nservices = [\"sshd\", \"app\"]\n[target.cortex.timeouts]\nsoak = 6\n",
        ),
    );
    let before = snapshot(&lab, "cortex");
    lab.variant("cortex", "Bunit");
    let out = clean(&lab, 4, &["release", "cortex"], &before);
    says(&out, &["cortex is back on what ran before, and that was checked"]);
    must(&lab, "cortex", "root", "systemctl is-active app");

    // The service stays down without any failed unit: only the list of critical services sees it.
    commit(
        &lab,
        "cat > hosts/cortex.nix <<'N'\n{ version = \"26.05.20261103\"; units.\"app.service\" = { text = \
         \"[Service]\\nExecStart=/bin/true\\n\"; wantedBy = [ \"multi-user.target\" ]; }; }\nN",
    );
    let out = clean(&lab, 4, &["release", "cortex"], &before);
    says(
        &out,
        &["[3/5] Critical services... FAILED (app.service is inactive)"],
    );
}

#[test]
fn s0_13_s4_21_the_generation_is_shown_and_proven() {
    let lab = usual("s0-13");
    lab.variant("cortex", "B");
    expect(&lab, 0, &["release", "cortex"]);
    let out = expect(&lab, 0, &["health", "cortex"]);
    says(&out, &["[4/5] Boot generation... passed (generation 2)"]);

    let other = must(
        &lab,
        "cortex",
        "root",
        "readlink -f /nix/var/nix/profiles/system-1-link",
    );
    must(
        &lab,
        "cortex",
        "root",
        &format!("nix-env -p /nix/var/nix/profiles/system --set {other}"),
    );
    let out = expect(&lab, 1, &["health", "cortex"]);
    says(
        &out,
        &[
            "[4/5] Boot generation... FAILED",
            &format!("the profile is {other}"),
        ],
    );
    must(
        &lab,
        "cortex",
        "root",
        "nix-env -p /nix/var/nix/profiles/system --switch-generation 2",
    );
    expect(&lab, 0, &["health", "cortex"]);

    must(
        &lab,
        "cortex",
        "root",
        &format!("{other}/bin/switch-to-configuration boot"),
    );
    let out = expect(&lab, 1, &["health", "cortex"]);
    says(&out, &[&format!("the boot default is {other}")]);
    let now = lab.running_system("cortex");
    must(
        &lab,
        "cortex",
        "root",
        &format!("{now}/bin/switch-to-configuration boot"),
    );
    expect(&lab, 0, &["health", "cortex"]);

    must(
        &lab,
        "cortex",
        "root",
        &format!("{other}/bin/switch-to-configuration test"),
    );
    let out = expect(&lab, 1, &["health", "cortex"]);
    says(&out, &[&format!("runs {other}, not {now}")]);
}

#[test]
fn s0_13_a_profile_moved_during_the_run_is_no_success() {
    let lab = with_config("s0-13b", &HOSTS, &with("[target.cortex.timeouts]\nsoak = 6\n"));
    let a = lab.running_system("cortex");
    lab.variant("cortex", "B");
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("[5/5] Failed units... passed", 90 * SECOND);
    let b = lab.running_system("cortex");
    must(
        &lab,
        "cortex",
        "root",
        &format!("nix-env -p /nix/var/nix/profiles/system --set {b}"),
    );
    let out = run.wait(90 * SECOND).expect("an end");
    assert_eq!(out.status, 5, "{out}");
    says(
        &out,
        &[
            "the profile is ",
            " and was ",
            "nix-env -p /nix/var/nix/profiles/system --set",
        ],
    );
    assert_eq!(lab.running_system("cortex"), a, "{out}");
    assert!(!crate::infra::refs(&lab).contains("refs/tags"), "{out}");
}

#[test]
fn s0_15_who_loses_the_host_is_told_at_once_and_the_host_goes_back_alone() {
    let lab = usual("s0-15");
    let before = snapshot(&lab, "cortex");
    let a = lab.running_system("cortex");
    lab.variant("cortex", "Bnet-sshd");
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("\nvalidate\n", 60 * SECOND);
    run.wait_for_stderr("cortex goes back by itself within 10 s", 40 * SECOND);
    let steps = [
        "  git nixgate status cortex --live".to_owned(),
        "  git nixgate log cortex".to_owned(),
        "  git nixgate rollback cortex".to_owned(),
        "  or by hand: ssh jarvis@cortex".to_owned(),
        format!("--set {a}"),
        format!("{a}/bin/switch-to-configuration switch"),
        "at the console".to_owned(),
    ];
    for step in &steps {
        run.wait_for_stderr(step, 2 * SECOND);
    }
    // Nobody helps any more.
    run.kill();
    lab.cut("desk");
    lab.wait_for(
        "cortex",
        &format!("[ $(readlink /run/current-system) = {a} ]"),
        60 * SECOND,
    );
    lab.wait_for(
        "cortex",
        "systemctl is-active --quiet sshd && systemctl is-active --quiet app",
        20 * SECOND,
    );
    lab.heal("desk");
    lab.wait_for(
        "cortex",
        "! systemctl list-units --all --plain --no-legend 'nixgate-*' | grep -q .",
        60 * SECOND,
    );
    let out = lab.nixgate(&["resume", "cortex"]);
    assert_eq!(out.status, 4, "{out}");
    assert_eq!(snapshot(&lab, "cortex"), before, "{out}");
    must(&lab, "desk", "op", "ssh cortex true");
}

#[test]
fn s0_16_with_auto_rollback_off_the_printed_way_back_works_as_pasted() {
    let lab = with_config(
        "s0-16",
        &HOSTS,
        &with(
            "[target.cortex.preflight]\nservices = [\"sshd\", \"app\"]\n[target.cortex.timeouts]\nsoak = 6\n\
             [defaults]\nauto-rollback = false\n",
        ),
    );
    lab.variant("cortex", "B");
    let name = release(&lab, "cortex");
    let good = lab.running_system("cortex");
    let before = snapshot(&lab, "cortex");

    lab.variant("cortex", "Bunit");
    let out = expect(&lab, 5, &["release", "cortex"]);
    assert_ne!(lab.running_system("cortex"), good, "the new system stays");
    says(
        &out,
        &[
            "auto-rollback is off: the host stays on the new system, unrecorded",
            "at the console",
        ],
    );
    let next: Vec<&str> = out
        .stderr
        .lines()
        .skip_while(|line| !line.starts_with("next: "))
        .map(|line| line.trim_start_matches("next: ").trim())
        .collect();
    let line = |start: &str| {
        let found = next.iter().find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("no {start:?}: {out}")).to_string()
    };
    let paste = |cmd: &str| lab.sh("desk", "op", &format!("cd ~/infra && {cmd}"));
    let log = paste(&line("git nixgate log"));
    assert!(log.text().contains(&name), "{log}");
    let live = paste(&line("git nixgate status"));
    assert!(live.stdout.contains("runs "), "{live}");
    let back = paste(&line("git nixgate rollback"));
    assert!(back.ok(), "{back}");
    assert_eq!(lab.running_system("cortex"), good);

    // The way by hand: one login, then line for line.
    let out = expect(&lab, 5, &["release", "cortex"]);
    let commands: Vec<&str> = out
        .stderr
        .lines()
        .skip_while(|line| !line.contains("or by hand: "))
        .skip(1)
        .take(2)
        .map(str::trim)
        .collect();
    let login = line("or by hand: ");
    let login = login.trim_start_matches("or by hand: ");
    let pasted = paste(&format!("{login} <<'PASTED'\n{}\nPASTED", commands.join("\n")));
    assert!(pasted.ok(), "{pasted}");
    assert_eq!(lab.running_system("cortex"), good);
    let state = crate::infra::host_state(&lab, "cortex");
    assert!(
        state.contains(&good) && !state.contains("nixgate-20"),
        "{before:?}: {state}"
    );
    expect(&lab, 0, &["health", "cortex"]);
}

/// Nobody touches the machine, and yet it is back and lets its operator in.
#[track_caller]
fn locked_out(name: &str, variant: &str) {
    let lab = usual(name);
    let before = snapshot(&lab, "cortex");
    lab.variant("cortex", variant);
    let out = clean(&lab, 4, &["release", "cortex"], &before);
    says(&out, &["cortex is back on what ran before, and that was checked"]);
    let log = switches(&lab, "cortex");
    assert_eq!(log.len(), 2, "there and back: {log:?}");
    must(&lab, "desk", "op", "ssh cortex sudo -n true");
    must(&lab, "cortex", "root", "systemctl is-active sshd app");
}

#[test]
fn s0_18_sshd_gone() {
    locked_out("s0-18a", "Bnet-sshd");
}

#[test]
fn s0_18_firewall_closed() {
    locked_out("s0-18b", "Bnet-firewall");
}

#[test]
fn s0_18_wrong_address() {
    locked_out("s0-18c", "Bnet-addr");
}

#[test]
fn s0_18_deploy_user_without_sudo() {
    locked_out("s0-18d", "Bsudo");
}

/// The way back brings every unit back, and this rule is no unit's: the host finds nothing wrong with itself.
#[test]
fn s0_18_a_way_back_that_lets_nobody_in_is_for_a_person() {
    let lab = usual("s0-18e");
    release(&lab, "cortex");
    let before = lab.running_system("cortex");
    describe(
        &lab,
        "cortex",
        "{ packages.hello = \"3.1\"; activation = \"/usr/sbin/nft 'table inet stray { chain input { type filter hook \
         input priority 0; policy accept; tcp dport 22 tcp flags & (syn | ack) == syn drop; }; }'\"; }",
    );
    let out = expect(&lab, 5, &["release", "cortex"]);
    says(
        &out,
        &[
            "says that it is back on what ran before, and that was not found so",
            "it lets nobody in who comes now",
            "at the console",
        ],
    );
    assert!(!out.stderr.contains("and that was checked"), "{out}");
    assert_eq!(lab.running_system("cortex"), before);
    // Somebody at the console takes it away.
    must(&lab, "cortex", "root", "nft delete table inet stray");
    let resumed = lab.nixgate(&["resume", "cortex"]);
    assert!([0, 1, 4].contains(&resumed.status), "{resumed}");
    lab.variant("cortex", "B");
    release(&lab, "cortex");
}
