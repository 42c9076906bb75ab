//! Hosts that keep less than others: secrets that an activation does not renew, folders in memory, boots that do not end.

use crate::hand::{describe, desk, root};
use crate::infra::{CONFIG, expect, release, usual, with_config};
use crate::lab::Lab;

/// A system whose activation puts a secret on the host, in agenix's own words (modules/age.nix), with the key as the secret.
fn with_secret(lab: &Lab, number: u32, without_key: &str) {
    let nix = format!(
        r#"{{
  packages.hello = "3.{number}";
  activation = ''
    [ -r /etc/agenix-key ] || {without_key}
    _agenix_generation="$(basename "$(readlink /run/agenix || echo 0)")"
    (( ++_agenix_generation ))
    mkdir -p "/run/agenix.d/$_agenix_generation"
    chmod 0751 "/run/agenix.d/$_agenix_generation"
    _truePath="/run/agenix.d/$_agenix_generation/db-password"
    cat /etc/agenix-key >"$_truePath" 2>/dev/null || true
    ln -sfT "/run/agenix.d/$_agenix_generation" /run/agenix
  '';
}}"#
    );
    describe(lab, "cortex", &nix);
}

#[test]
fn s0_20_a_secret_that_was_not_renewed_fails_validation() {
    let checks = format!("{CONFIG}[[target.cortex.check]]\nsecrets = true\n");
    let lab = with_config("secrets", &["desk", "forge", "git", "cortex"], &checks);
    // A system without secrets has none to look at.
    let out = expect(&lab, 0, &["release", "cortex"]);
    assert!(out.stderr.contains("neither sops-nix nor agenix"), "{out}");
    root(&lab, "cortex", "echo key >/etc/agenix-key");
    with_secret(&lab, 1, ":");
    let out = expect(&lab, 0, &["release", "cortex"]);
    assert!(out.stderr.contains("1 there"), "{out}");
    let good = lab.running_system("cortex");
    // The key is broken: the secret is not decrypted, or the activation gives up before it makes a new folder.
    for (number, without_key, says) in [
        (2, ":", "/run/agenix/db-password is missing or empty"),
        (3, "return 0", "/run/agenix was not renewed by this system"),
    ] {
        root(&lab, "cortex", "mv /etc/agenix-key /etc/agenix-key.kept");
        with_secret(&lab, number, without_key);
        let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
        run.wait_for_stderr("secrets... FAILED", crate::s0::SECOND * 90);
        // It is back when the host goes back.
        root(&lab, "cortex", "mv /etc/agenix-key.kept /etc/agenix-key");
        let out = run.wait(crate::s0::SECOND * 90).expect("an end");
        assert_eq!(out.status, 4, "{out}");
        assert!(out.stderr.contains(says), "{out}");
        assert_eq!(lab.running_system("cortex"), good);
    }
    expect(&lab, 0, &["health", "cortex"]);
}

#[test]
fn a_host_whose_var_lib_is_in_memory_is_as_good_as_any() {
    let lab = usual("forgets");
    lab.kind("cortex", "tmpfs");
    let out = expect(&lab, 0, &["release", "cortex"]);
    assert_eq!(
        out.stderr.matches("/var/lib/nixgate is on a tmpfs").count(),
        1,
        "{out}"
    );
    lab.variant("cortex", "B");
    release(&lab, "cortex");
    assert_eq!(root(&lab, "cortex", "ls /var/lib/nixgate/cortex"), "record");
    lab.power_cut("cortex");
    lab.power_on("cortex");
    assert_eq!(root(&lab, "cortex", "ls /var/lib/nixgate 2>/dev/null; :"), "");
    for command in [
        "status cortex --live",
        "verify cortex --live",
        "health cortex",
        "check cortex",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let out = expect(&lab, 0, &words);
        assert!(!format!("{out}").contains("BROKEN"), "{command}: {out}");
    }
    lab.kind("cortex", "tmpfs");
    expect(&lab, 0, &["rollback", "cortex"]);
    expect(&lab, 0, &["verify", "cortex", "--live"]);
}

#[test]
fn h10_a_check_that_is_no_shell_script_is_run_by_its_first_line_where_tmp_is_noexec() {
    let checks = format!("{CONFIG}[[target.cortex.check]]\nrun = [\"checks/ok.awk\", \"/etc/hostname\"]\n");
    let lab = with_config("noexec", &["desk", "forge", "git", "cortex"], &checks);
    lab.kind("cortex", "tmp-noexec");
    desk(
        &lab,
        "mkdir -p checks && printf '#!/usr/bin/awk -f\\n{ print \"host \" $1 }\\n' >checks/ok.awk && \
         git add -A && git commit -qm 'A check in awk'",
    );
    let out = expect(&lab, 0, &["release", "cortex"]);
    assert!(out.stderr.contains("(host cortex)"), "{out}");
}

#[test]
fn h11_a_host_that_reboots_during_the_build_is_reached_anew() {
    let lab = usual("reboots-in-build");
    describe(
        &lab,
        "cortex",
        "ctx: { packages.hello = \"3.1\"; etc.\"slow\" = { text = \"x\"; mode = \"0644\"; }; \
         activation = \": ${ctx.run \"slow\" { } \"until [ -e /tmp/go-on ]; do sleep 0.1; done; echo x >$out\"}\"; }",
    );
    lab.sh("forge", "root", "rm -f /tmp/go-on").text();
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("\nbuild\n", crate::s0::SECOND * 60);
    lab.power_cut("cortex");
    lab.power_on("cortex");
    lab.sh("forge", "root", "touch /tmp/go-on").text();
    let out = run.wait(crate::s0::SECOND * 120).expect("an end");
    assert_eq!(out.status, 0, "{out}");
}

#[test]
fn h3_a_boot_that_does_not_end_counts_as_it_was_before() {
    let lab = usual("boots-on");
    release(&lab, "cortex");
    // The job is of the system that boots, so that its boot waits for it.
    let stuck = lab.closure("cortex", "K-never-booted");
    root(
        &lab,
        "cortex",
        &format!(
            "nix-env -p /nix/var/nix/profiles/system --set {stuck} && {stuck}/bin/switch-to-configuration boot"
        ),
    );
    lab.power_cut("cortex");
    lab.power_on_as_far_as_sshd("cortex");
    assert_eq!(root(&lab, "cortex", "systemctl is-system-running; :"), "starting");
    lab.variant_with("cortex", "K-never-booted+B", &[]);
    let out = expect(&lab, 0, &["release", "cortex"]);
    assert!(
        out.stderr
            .contains("cortex has not finished booting (starting, waits for waits-forever.service start)"),
        "{out}"
    );
    assert!(!out.stderr.contains("timeouts.validate"), "{out}");
}
