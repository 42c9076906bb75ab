//! Kinds of NixOS systems: no `/etc/NIXOS`, no switch-to-configuration.

use crate::broken::says;
use crate::hand::root;
use crate::infra::{CONFIG, expect, host_state, release, usual, with_config};
use crate::lab::Lab;

const HOSTS: &[&str] = &["desk", "forge", "git", "cortex"];

#[test]
fn n3_a_host_without_etc_nixos_is_released_to_and_taken_back() {
    let lab = usual("etc-overlay");
    let a = lab.running_system("cortex");
    release(&lab, "cortex");
    lab.variant("cortex", "Betcoverlay");
    release(&lab, "cortex");
    assert_eq!(root(&lab, "cortex", "test -e /etc/NIXOS || echo gone"), "gone");
    expect(&lab, 0, &["health", "cortex"]);
    expect(&lab, 0, &["status", "cortex", "--live"]);
    // From there on, with a release that fails and goes back by itself.
    lab.variant_with("cortex", "Betcoverlay", &["version=\"26.05.20261103\""]);
    let b = lab.running_system("cortex");
    release(&lab, "cortex");
    expect(&lab, 0, &["rollback", "cortex", "--check"]);
    expect(&lab, 0, &["rollback", "cortex"]);
    assert_eq!(lab.running_system("cortex"), b);
    // Another distribution's host is none, whatever else is there.
    root(
        &lab,
        "cortex",
        "sed 's/^ID=.*/ID=debian/' /etc/os-release >/root/os && rm /etc/os-release && cp /root/os /etc/os-release",
    );
    let out = expect(&lab, 1, &["rollback", "cortex"]);
    says(
        &out,
        &["there is no /etc/NIXOS", "os-release says ID=debian, not nixos"],
    );
    root(&lab, "cortex", "touch /etc/NIXOS");
    expect(&lab, 0, &["rollback", "cortex"]);
    assert_eq!(lab.running_system("cortex"), a);
}

/// The host boots a system that has no switch-to-configuration, as an image or `nixos-install` brings it.
fn boot_without_switch(lab: &Lab) -> String {
    let system = lab.closure("cortex", "Bnoswitch");
    root(
        lab,
        "cortex",
        &format!(
            "nix-env -p /nix/var/nix/profiles/system --set {system} && \
             $(sed -n \"s/.*INSTALL_BOOTLOADER='\\([^']*\\)'.*/\\1/p\" /run/current-system/bin/switch-to-configuration) {system}"
        ),
    );
    lab.reboot("cortex");
    assert_eq!(lab.running_system("cortex"), system);
    system
}

#[test]
fn n5_what_cannot_be_switched_back_to_is_not_left_by_a_switch() {
    let lab = with_config("no-switch", HOSTS, CONFIG);
    let first = release(&lab, "cortex");
    let a = lab.running_system("cortex");
    // A candidate that cannot be switched to: the option is named, and nothing is called damaged.
    lab.variant("cortex", "Bnoswitch");
    let before = host_state(&lab, "cortex");
    for verb in ["check", "release"] {
        let out = expect(&lab, 1, &[verb, "cortex"]);
        says(&out, &["cannot be switched to", "system.switch.enable = false"]);
        assert!(
            !out.stderr.contains("damaged") && !out.stderr.contains("repair"),
            "{out}"
        );
    }
    assert_eq!(host_state(&lab, "cortex"), before);

    boot_without_switch(&lab);
    lab.variant("cortex", "B");
    let before = host_state(&lab, "cortex");
    let out = expect(&lab, 1, &["release", "cortex"]);
    says(
        &out,
        &[
            "there would be no way back to what runs",
            "system.switch.enable = false",
            "git nixgate release cortex --boot",
        ],
    );
    // What a rollback prints for the console leads to the known-good system.
    let out = expect(&lab, 1, &["rollback", "cortex"]);
    assert_eq!(host_state(&lab, "cortex"), before);
    let line = out.stderr.lines().find_map(|line| line.split_once("on cortex: "));
    let line = line.expect("what to type").1.trim_end_matches("&& reboot");
    assert!(
        line.contains(&format!("{a}/bin/switch-to-configuration boot")),
        "{out}"
    );
    root(&lab, "cortex", line.trim_end().trim_end_matches("&&"));
    lab.reboot("cortex");
    assert_eq!(lab.running_system("cortex"), a);
    let out = expect(&lab, 0, &["status", "cortex", "--live"]);
    says(&out, &[&first]);

    // And what a release prints: it boots the new system.
    boot_without_switch(&lab);
    lab.variant("cortex", "B");
    expect(&lab, 7, &["release", "cortex", "--boot"]);
    lab.reboot("cortex");
    expect(&lab, 0, &["resume", "cortex"]);
    expect(&lab, 0, &["verify", "cortex"]);
    assert_ne!(lab.running_system("cortex"), a);
}

#[test]
fn n5_a_damaged_system_is_repaired_before_it_is_left() {
    let lab = usual("damaged-switch");
    release(&lab, "cortex");
    lab.variant("cortex", "B");
    let stc = "/nix/store/$(basename $(readlink -f /run/current-system))/bin/switch-to-configuration";
    root(&lab, "cortex", &format!("chmod u+w $(dirname {stc}) && rm {stc}"));
    let before = host_state(&lab, "cortex");
    let out = expect(&lab, 1, &["release", "cortex"]);
    says(
        &out,
        &[
            "there would be no way back",
            "it is damaged",
            "git nixgate store repair cortex --contents",
        ],
    );
    assert_eq!(host_state(&lab, "cortex"), before);
    expect(&lab, 0, &["store", "repair", "cortex", "--contents", "--yes"]);
    release(&lab, "cortex");
    expect(&lab, 0, &["rollback", "cortex"]);
}
