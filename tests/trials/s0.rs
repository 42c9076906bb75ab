//! S0: three-stage deploy safety.

use std::time::{Duration, Instant};

use crate::broken::{Snapshot, checks, commit, gates, must, says, snapshot, switches, with};
use crate::infra::{configure, expect, release, usual, with_config};
use crate::lab::{Lab, Output};

const SECOND: Duration = Duration::from_secs(1);
const HOSTS: [&str; 4] = ["desk", "forge", "git", "cortex"];

/// A run that ends with `exit` and leaves host and refs as they were.
#[track_caller]
fn clean(lab: &Lab, exit: i32, args: &[&str], before: &Snapshot) -> Output {
    let out = expect(lab, exit, args);
    assert_eq!(snapshot(lab, "cortex"), *before, "{out}");
    out
}

#[test]
fn s0_1_a_stage_that_fails_stops_the_next() {
    let lab = with_config(
        "s0-1",
        &HOSTS,
        &with(
            "[target.cortex.preflight]\nservices = [\"sshd\", \"app\"]\n[target.cortex.timeouts]\nsoak = 3\n",
        ),
    );
    let before = snapshot(&lab, "cortex");
    let a = lab.running_system("cortex");

    must(&lab, "cortex", "root", "mv /etc/NIXOS /etc/NIXOS.away");
    lab.variant("cortex", "B");
    let out = clean(&lab, 1, &["release", "cortex"], &before);
    assert_eq!(gates(&out), ["preflight"], "{out}");
    must(&lab, "cortex", "root", "mv /etc/NIXOS.away /etc/NIXOS");

    commit(&lab, "echo '{ version = ; }' > hosts/cortex.nix");
    let out = clean(&lab, 1, &["release", "cortex"], &before);
    assert_eq!(gates(&out).last(), Some(&"build"), "{out}");
    // Nothing of ours has run on the host but questions.
    let units = must(
        &lab,
        "cortex",
        "root",
        "journalctl -o cat --no-pager _PID=1 | grep nixgate- || true",
    );
    assert_eq!(units, "");

    lab.variant("cortex", "Bpre");
    let out = clean(&lab, 1, &["release", "cortex"], &before);
    assert_eq!(gates(&out).last(), Some(&"dry-activate"), "{out}");
    assert_eq!(switches(&lab, "cortex").len(), 0);

    let table: [(&str, &[&str], &str); 3] = [
        ("Bact", &[], "switch-test"),
        ("Bdelayed", &["seconds=3"], "validate"),
        ("Bboot", &[], "commit"),
    ];
    for (variant, values, gate) in table {
        let done = switches(&lab, "cortex").len();
        lab.variant_with("cortex", variant, values);
        let out = clean(&lab, 4, &["release", "cortex"], &before);
        assert_eq!(gates(&out).last(), Some(&gate), "{variant}: {out}");
        let log = switches(&lab, "cortex");
        assert_eq!(log.len(), done + 2, "{variant}: there and back: {log:?}");
        assert_eq!(log.last(), Some(&a), "{variant}");
    }

    lab.variant("cortex", "B");
    let out = expect(&lab, 0, &["release", "cortex"]);
    assert_eq!(gates(&out).len(), 9, "{out}");
    assert_ne!(lab.running_system("cortex"), a);
}

#[test]
fn s0_2_ping_is_advice_and_the_ssh_port_decides() {
    let lab = usual("s0-2");
    lab.variant("cortex", "B");
    must(&lab, "desk", "root", "chmod u+s /usr/bin/ping");
    let rule = |rule: &str| {
        must(
            &lab,
            "cortex",
            "root",
            &format!(
                "nft add table inet trial; nft flush table inet trial; \
                 nft add chain inet trial in '{{ type filter hook input priority -5; }}'; nft add rule inet trial in {rule}"
            ),
        );
    };
    rule("meta l4proto icmp drop");
    let out = expect(&lab, 0, &["check", "cortex"]);
    says(
        &out,
        &[
            "[1/6] Network reachability... passed (ssh port in ",
            "no answer to ping)",
        ],
    );

    let before = snapshot(&lab, "cortex");
    rule("tcp dport 22 drop");
    let clock = Instant::now();
    let out = expect(&lab, 1, &["release", "cortex"]);
    assert!(clock.elapsed() < 10 * SECOND, "{:?}: {out}", clock.elapsed());
    says(
        &out,
        &["[1/6] Network reachability... FAILED", "cortex does not answer"],
    );
    must(&lab, "cortex", "root", "nft delete table inet trial");
    assert_eq!(snapshot(&lab, "cortex"), before);
}

#[test]
fn s0_3_each_way_not_to_get_in_has_its_own_message_and_no_prompt() {
    let lab = usual("s0-3");
    lab.variant("cortex", "B");
    let before = snapshot(&lab, "cortex");
    let mut seen: Vec<String> = Vec::new();
    let mut fails = |what: &str, texts: &[&str]| {
        let clock = Instant::now();
        let out = expect(&lab, 1, &["release", "cortex"]);
        assert!(
            clock.elapsed() < 12 * SECOND,
            "{what}: {:?}: {out}",
            clock.elapsed()
        );
        says(&out, texts);
        assert!(
            !out.stderr.contains("yes/no") && !out.stderr.contains("assword:"),
            "{out}"
        );
        let error = out.stderr.lines().find(|line| line.starts_with("error: "));
        let error = error.unwrap_or_else(|| panic!("{what}: no error line: {out}"));
        assert!(
            !seen.contains(&error.to_owned()),
            "{what} reads like another: {error}"
        );
        seen.push(error.to_owned());
    };

    must(&lab, "cortex", "root", "systemctl stop sshd");
    fails("sshd stopped", &["[2/6] SSH connectivity... FAILED (refused)"]);
    must(&lab, "cortex", "root", "systemctl start sshd");

    must(
        &lab,
        "desk",
        "op",
        "cp ~/.ssh/config ~/.ssh/kept && printf 'Host cortex\\n  IdentityFile ~/.ssh/stranger\\n' >> ~/.ssh/config",
    );
    fails(
        "wrong key",
        &["FAILED (authentication failed)", "Permission denied"],
    );
    must(&lab, "desk", "op", "mv ~/.ssh/kept ~/.ssh/config");

    must(
        &lab,
        "desk",
        "op",
        "cp ~/.ssh/known_hosts ~/.ssh/kept && ssh-keygen -q -t ed25519 -N '' -f /tmp/other && \
         { grep -v ^cortex ~/.ssh/kept; printf 'cortex,10.77.0.20 %s\\n' \"$(cut -d' ' -f1,2 /tmp/other.pub)\"; } \
         > ~/.ssh/known_hosts",
    );
    fails("changed host key", &["FAILED (host key changed)"]);
    must(
        &lab,
        "desk",
        "op",
        "grep -v ^cortex ~/.ssh/kept > ~/.ssh/known_hosts",
    );
    fails("unknown host key", &["FAILED (host key not known)"]);
    must(&lab, "desk", "op", "mv ~/.ssh/kept ~/.ssh/known_hosts");

    must(
        &lab,
        "cortex",
        "root",
        "cp --remove-destination $(readlink -f /etc/ssh/sshd_config) /etc/ssh/sshd_config.trial && \
         echo 'ForceCommand sleep 600' >> /etc/ssh/sshd_config.trial && systemctl stop sshd && mkdir -p /run/sshd && \
         /usr/sbin/sshd -f /etc/ssh/sshd_config.trial -o PidFile=/run/trial.pid",
    );
    fails("forced command that hangs", &["FAILED (no shell answers)"]);
    must(
        &lab,
        "cortex",
        "root",
        "kill $(cat /run/trial.pid) && systemctl start sshd",
    );

    assert_eq!(seen.len(), 5);
    assert_eq!(snapshot(&lab, "cortex"), before);
    expect(&lab, 0, &["check", "cortex"]);
}

#[test]
fn s0_4_a_host_without_etc_nixos_is_refused() {
    let lab = usual("s0-4");
    lab.variant("cortex", "B");
    let before = snapshot(&lab, "cortex");
    must(&lab, "cortex", "root", "mv /etc/NIXOS /etc/NIXOS.away");
    let out = clean(&lab, 1, &["release", "cortex"], &before);
    says(&out, &["[3/6] NixOS system check... FAILED (no /etc/NIXOS)"]);
    must(&lab, "cortex", "root", "mv /etc/NIXOS.away /etc/NIXOS");
    expect(&lab, 0, &["check", "cortex"]);
}

/// A file system of its own at `/boot`, with what is there.
const OWN_BOOT: &str = "cp -r /boot /root/boot && mount -t tmpfs -o size=8m,nr_inodes=100 tmpfs /boot && \
                        cp -r /root/boot/. /boot/ && rm -r /root/boot";

#[test]
fn s0_5_s4_20_a_file_system_that_is_nearly_full_is_refused() {
    let lab = with_config(
        "s0-5",
        &HOSTS,
        &with("[target.cortex.preflight]\nboot-free = \"64KiB\"\n"),
    );
    lab.variant("cortex", "B");
    must(&lab, "cortex", "root", OWN_BOOT);
    let before = snapshot(&lab, "cortex");
    expect(&lab, 0, &["check", "cortex"]);

    must(&lab, "cortex", "root", "head -c 7633633 /dev/zero > /boot/fill"); // 91 % of 8 MiB
    let out = clean(&lab, 1, &["release", "cortex"], &before);
    says(&out, &["[4/6] Disk space... FAILED (/boot 9", "% used"]);

    must(
        &lab,
        "cortex",
        "root",
        "rm /boot/fill; for i in $(seq 1 90); do : > /boot/$i; done",
    );
    let out = clean(&lab, 1, &["release", "cortex"], &before);
    says(&out, &["[4/6] Disk space... FAILED (/boot 9", "% of inodes used"]);
    must(&lab, "cortex", "root", "rm /boot/[0-9]*");

    // The usual least space on /boot, of which this one has not got that much altogether.
    configure(&lab, &with(""));
    let out = clean(&lab, 1, &["release", "cortex"], &before);
    says(
        &out,
        &["[4/6] Disk space... FAILED (/boot has 7 MiB free, wants 200 MiB)"],
    );
    must(&lab, "cortex", "root", "umount /boot");
    let before = snapshot(&lab, "cortex");

    // /nix as a file system of its own, with the store and its database where they were.
    must(
        &lab,
        "cortex",
        "root",
        "mkdir -p /mnt/nix && mount -t tmpfs -o size=8m tmpfs /mnt/nix && cd /mnt/nix && mkdir store var && \
         mount --bind /nix/store store && mount --bind /nix/var var && mount --rbind /mnt/nix /nix && \
         head -c 7633633 /dev/zero > /nix/fill",
    );
    let out = clean(&lab, 1, &["release", "cortex"], &before);
    says(&out, &["[4/6] Disk space... FAILED (/nix 9"]);
    must(&lab, "cortex", "root", "rm /nix/fill");
    expect(&lab, 0, &["check", "cortex"]);

    // The root file system is the machine's own: its figure is shown, and judged by a lower ceiling.
    configure(&lab, &with("[target.cortex.preflight]\ndisk-percent = 1\n"));
    let used = must(
        &lab,
        "cortex",
        "root",
        "df -P / | awk 'NR == 2 { sub(\"%\", \"\", $5); print $5 }'",
    );
    let out = clean(&lab, 1, &["release", "cortex"], &before);
    says(&out, &[&format!("FAILED (/ {used}% used")]);
}

#[test]
fn s0_6_s4_20_a_critical_service_that_is_down_is_named() {
    let lab = with_config(
        "s0-6",
        &HOSTS,
        &with("[target.cortex.preflight]\nservices = [\"sshd\", \"app\", \"sock\", \"no-such-unit\"]\n"),
    );
    lab.variant("cortex", "B");
    // sock is met by its socket, and a unit that the host does not have is skipped aloud.
    let out = expect(&lab, 0, &["check", "cortex"]);
    says(
        &out,
        &["[5/6] Critical services... passed (no no-such-unit.service"],
    );
    must(&lab, "cortex", "root", "systemctl stop app");
    let before = snapshot(&lab, "cortex");
    let out = clean(&lab, 1, &["release", "cortex"], &before);
    says(
        &out,
        &["[5/6] Critical services... FAILED (app.service is inactive)"],
    );
    must(&lab, "cortex", "root", "systemctl start app");

    // The default is sshd alone: whatever else is down does not count.
    configure(&lab, &with(""));
    must(&lab, "cortex", "root", "systemctl stop worker");
    expect(&lab, 0, &["check", "cortex"]);
}

#[test]
fn s0_7_the_load_is_shown_and_counts_only_with_a_ceiling() {
    let lab = usual("s0-7");
    lab.variant("cortex", "B");
    let mut hog = lab.spawn(
        "cortex",
        "root",
        "for i in 1 2; do while :; do :; done & done; wait",
    );
    lab.wait_for("cortex", "awk '$1 < 0.3 { exit 1 }' /proc/loadavg", 60 * SECOND);
    let out = expect(&lab, 0, &["check", "cortex"]);
    let lines = checks(&out);
    let line = lines
        .iter()
        .find(|line| line.starts_with("[6/6] System load... passed (load: "));
    assert!(line.is_some(), "{out}");

    configure(&lab, &with("[target.cortex.preflight]\nload-per-core = 0.01\n"));
    let before = snapshot(&lab, "cortex");
    let out = clean(&lab, 1, &["release", "cortex"], &before);
    says(
        &out,
        &[
            "[6/6] System load... FAILED (load: ",
            ", ceiling 0.01 a core)",
            "raise preflight.load-per-core",
        ],
    );
    configure(&lab, &with("[target.cortex.preflight]\nload-per-core = 500.0\n"));
    expect(&lab, 0, &["check", "cortex"]);
    hog.kill();
}

#[test]
fn s0_8_all_failed_checks_are_reported_together() {
    let lab = with_config(
        "s0-8",
        &HOSTS,
        &with("[target.cortex.preflight]\nservices = [\"sshd\", \"app\"]\n"),
    );
    lab.variant("cortex", "B");
    must(&lab, "cortex", "root", OWN_BOOT);
    must(
        &lab,
        "cortex",
        "root",
        "mv /etc/NIXOS /etc/NIXOS.away; systemctl stop app",
    );
    let before = snapshot(&lab, "cortex");
    let out = clean(&lab, 1, &["release", "cortex"], &before);
    let failed: Vec<&str> = checks(&out)
        .into_iter()
        .filter(|line| line.contains("... FAILED"))
        .map(|line| &line[..5])
        .collect();
    assert_eq!(failed, ["[3/6]", "[4/6]", "[5/6]"], "{out}");
    assert_eq!(checks(&out).len(), 6, "{out}");
    says(&out, &["3 checks of preflight failed"]);
    assert_eq!(switches(&lab, "cortex").len(), 0);
}

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
    assert!(took < 25 * SECOND, "5 s to settle, 10 s and one try: {took:?}");
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
    let clock = Instant::now();
    run.wait_for_stderr("cortex goes back by itself within 10 s", 40 * SECOND);
    // The lease and what a last try to connect may take.
    assert!(clock.elapsed() < 17 * SECOND, "told after {:?}", clock.elapsed());
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

#[test]
fn s0_17_the_generations_before_and_after_are_shown_and_recorded() {
    let lab = usual("s0-17");
    lab.variant("cortex", "B");
    let out = expect(&lab, 0, &["release", "cortex"]);
    says(&out, &["cortex: generation 1 → 2\n"]);
    let link = must(&lab, "cortex", "root", "readlink /nix/var/nix/profiles/system");
    assert_eq!(link, "system-2-link");
    let name = out.text().lines().last().expect("a name").to_owned();
    let body = must(
        &lab,
        "desk",
        "op",
        &format!("cd ~/infra && git cat-file tag {name}"),
    );
    assert!(body.contains("\ngeneration 1 -> 2\n"), "{body}");
    assert!(
        body.contains("\"generation_after\":2,\"generation_before\":1"),
        "{body}"
    );
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

#[test]
fn s0_19_hooks_run_first_and_what_they_change_is_committed_first() {
    let hook = |argv: &str| with(&format!("[hooks]\npre = [{argv}]\n"));
    let lab = with_config(
        "s0-19",
        &HOSTS,
        &hook("[\"sh\", \"-c\", \"echo no key for secrets >&2; exit 1\"]"),
    );
    lab.variant("cortex", "B");
    let before = snapshot(&lab, "cortex");
    let out = clean(&lab, 1, &["release", "cortex"], &before);
    says(&out, &["the hook sh ended with 1", "no key for secrets"]);
    assert_eq!(gates(&out), Vec::<&str>::new(), "{out}");

    configure(&lab, &hook("[\"sh\", \"-c\", \"echo >> flake.lock\"]"));
    let out = clean(&lab, 3, &["release", "cortex"], &before);
    says(&out, &["flake.lock", "git commit"]);
    assert_eq!(gates(&out), Vec::<&str>::new(), "{out}");
    must(&lab, "desk", "op", "cd ~/infra && git checkout -q flake.lock");

    // In the work tree's root, from wherever; `check` runs none.
    configure(&lab, &hook("[\"sh\", \"-c\", \"pwd > ~/hooked\"]"));
    expect(&lab, 0, &["check", "cortex"]);
    assert!(!lab.sh("desk", "op", "test -e ~/hooked").ok());
    let out = lab.sh("desk", "op", "cd ~/infra/hosts && git nixgate release cortex");
    assert!(out.ok(), "{out}");
    assert_eq!(must(&lab, "desk", "op", "cat ~/hooked"), "/home/op/infra");
}

#[test]
fn s0_21_a_name_is_enough_from_any_folder_and_work_tree() {
    let lab = usual("s0-21");
    lab.variant("cortex", "B");
    let out = lab.sh("desk", "op", "cd ~/infra/hosts && git nixgate release cortex");
    assert!(out.ok(), "{out}");
    let b = lab.running_system("cortex");
    lab.variant("cortex", "C");
    let out = lab.sh(
        "desk",
        "op",
        "cd ~/infra && git worktree add -q -b other ~/other && cd ~/other/files && git nixgate release cortex",
    );
    assert!(out.ok(), "{out}");
    assert_ne!(lab.running_system("cortex"), b);
    let log = lab.sh("desk", "op", "cd ~/infra && git nixgate log cortex");
    assert_eq!(log.text().matches("release/cortex/").count(), 2, "{log}");
    let out = lab.sh("desk", "op", "cd / && git nixgate release cortex");
    assert_eq!(out.status, 2, "{out}");
}

#[test]
fn s0_22_the_stages_alone_only_read() {
    let lab = usual("s0-22");
    lab.variant("cortex", "B");
    let before = snapshot(&lab, "cortex");
    let out = clean(&lab, 0, &["check", "cortex"], &before);
    assert_eq!(
        gates(&out),
        ["preflight", "build", "diff", "copy", "dry-activate"]
    );
    let out = clean(&lab, 0, &["health", "cortex"], &before);
    assert_eq!(gates(&out), ["validate"], "{out}");
    assert_eq!(checks(&out).len(), 5, "{out}");

    must(&lab, "cortex", "root", "systemctl stop sshd");
    clean(&lab, 1, &["check", "cortex"], &before);
    clean(&lab, 1, &["health", "cortex"], &before);
    must(
        &lab,
        "cortex",
        "root",
        "systemctl start sshd; mv /etc/NIXOS /etc/NIXOS.away",
    );
    clean(&lab, 1, &["check", "cortex"], &before);
    must(
        &lab,
        "cortex",
        "root",
        "mv /etc/NIXOS.away /etc/NIXOS; systemctl kill -s KILL worker",
    );
    lab.wait_for("cortex", "systemctl is-failed --quiet worker", 10 * SECOND);
    let out = clean(&lab, 1, &["health", "cortex"], &before);
    says(&out, &["[5/5] Failed units... FAILED (worker.service)"]);
    assert_eq!(switches(&lab, "cortex").len(), 0);
}

#[test]
fn s0_23_this_machine_is_a_target_without_ssh() {
    let lab = with_config(
        "s0-23",
        &["desk", "forge", "git"],
        &with(
            "[target.desk]\nhost = \"local\"\n[target.desk.timeouts]\nsoak = 3\n[target.desk.preflight]\nservices = [\"app\"]\n",
        ),
    );
    let a = lab.running_system("desk");
    lab.variant("desk", "B");
    must(&lab, "desk", "root", "systemctl stop sshd");
    let out = expect(&lab, 0, &["release", "desk"]);
    says(
        &out,
        &[
            "[1/6] Network reachability... skipped (local target)",
            "[1/5] SSH connectivity... passed (local: no connection to prove)",
        ],
    );
    assert_eq!(gates(&out).len(), 9, "{out}");
    let b = lab.running_system("desk");
    assert_ne!(b, a);

    let before = snapshot(&lab, "desk");
    lab.variant("desk", "Bfail");
    let out = expect(&lab, 4, &["release", "desk"]);
    assert_eq!(snapshot(&lab, "desk"), before, "{out}");

    lab.variant("desk", "C");
    expect(&lab, 0, &["release", "desk"]);
    let c = lab.running_system("desk");
    assert!(c != b && c != a);
    expect(&lab, 0, &["rollback", "desk"]);
    assert_eq!(lab.running_system("desk"), b);
    let state = crate::infra::host_state(&lab, "desk");
    assert!(!state.contains("nixgate-20"), "{state}");
}
