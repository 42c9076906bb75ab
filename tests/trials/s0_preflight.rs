//! S0: what preflight sees before anything changes.

use crate::broken::{checks, must, says, snapshot, switches, with};
use crate::infra::{configure, expect, gate_seconds, usual, with_config};
use crate::s0::{HOSTS, NIXOS_AGAIN, OTHER_SYSTEM, SECOND, clean};

/// A file system of its own at `/boot`, with what is there.
const OWN_BOOT: &str = "cp -r /boot /root/boot && mount -t tmpfs -o size=8m,nr_inodes=100 tmpfs /boot && \
                        cp -r /root/boot/. /boot/ && rm -r /root/boot";

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
    let out = expect(&lab, 1, &["release", "cortex"]);
    assert!(gate_seconds(&out, "preflight") < 10, "{out}");
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
        let out = expect(&lab, 1, &["release", "cortex"]);
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
fn s0_4_a_host_of_another_distribution_is_refused() {
    let lab = usual("s0-4");
    lab.variant("cortex", "B");
    let before = snapshot(&lab, "cortex");
    must(&lab, "cortex", "root", OTHER_SYSTEM);
    let out = clean(&lab, 1, &["release", "cortex"], &before);
    says(&out, &["[3/6] NixOS system check... FAILED (no /etc/NIXOS)"]);
    must(&lab, "cortex", "root", NIXOS_AGAIN);
    expect(&lab, 0, &["check", "cortex"]);
}

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
    configure(&lab, &with("[target.cortex.preflight]\nstore-free = \"20GiB\"\n"));
    let out = clean(&lab, 1, &["release", "cortex"], &before);
    says(
        &out,
        &["[4/6] Disk space... FAILED (/nix has 8 MiB free, wants 20480 MiB)"],
    );

    // The root file system is the machine's own: its figure is shown, and judged by a lower ceiling. In memory it is empty.
    configure(&lab, &with("[target.cortex.preflight]\ndisk-percent = 1\n"));
    let used = must(
        &lab,
        "cortex",
        "root",
        "used() { df -P / | awk 'NR == 2 { sub(\"%\", \"\", $5); print $5 }'; }
         [ $(used) -gt 4 ] || fallocate -l $(($(df --output=size / | tail -n 1) / 20))KiB /var/fill
         used",
    );
    let out = clean(&lab, 1, &["release", "cortex"], &before);
    // Others write to that disk meanwhile.
    let used: u8 = used.trim().parse().expect("percent");
    let near = |percent: u8| out.stderr.contains(&format!("FAILED (/ {percent}% used"));
    assert!((used.saturating_sub(2)..=used + 2).any(near), "{used} %: {out}");
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
        &format!("{OTHER_SYSTEM}; systemctl stop app"),
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
