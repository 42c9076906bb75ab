//! Hosts that people have: what keeps a connection or a copy from coming about is told by its own reason.

use crate::broken::{must, says, snapshot};
use crate::hand::good;
use crate::infra::{CONFIG, configure, expect, release, usual};
use crate::lab::{Lab, Output};
use crate::s0::clean;

/// Preflight refuses, in these words; nothing was changed anywhere.
#[track_caller]
fn refused(lab: &Lab, texts: &[&str]) -> Output {
    let before = snapshot(lab, "cortex");
    let out = clean(lab, 1, &["release", "cortex"], &before);
    says(&out, texts);
    out
}

#[test]
fn h1_a_dead_address_of_a_name_is_passed_over_as_ssh_does() {
    let lab = usual("h1");
    lab.variant("cortex", "B");
    lab.kind_with("desk", "dead-aaaa", &["cortex"]);
    let before = must(&lab, "desk", "op", "getent ahosts cortex | head -n 1");
    assert!(before.starts_with("fd77::dead "), "{before}");
    let out = expect(&lab, 0, &["check", "cortex"]);
    says(&out, &["[1/6] Network reachability... passed (ssh port in "]);
    // ssh tries the good address alone: it is in long before the probe could tell anything of the other one.
    must(
        &lab,
        "desk",
        "op",
        "printf 'Host *\\n  AddressFamily inet\\n' >>~/.ssh/config",
    );
    let out = expect(&lab, 0, &["check", "cortex"]);
    says(
        &out,
        &[
            "[1/6] Network reachability... passed",
            "[2/6] SSH connectivity... passed",
        ],
    );
    must(&lab, "desk", "op", "sed -i '/^Host \\*/,$d' ~/.ssh/config");
    // The builder's name too, and the fresh connection in mid-validation.
    lab.kind_with("desk", "dead-aaaa", &["forge"]);
    release(&lab, "cortex");
}

#[test]
fn h9_why_a_login_fails_is_told_in_the_words_of_the_host() {
    let lab = usual("h9");
    lab.variant("cortex", "B");
    lab.kind_with("cortex", "nologin", &["Back at noon"]);
    refused(
        &lab,
        &[
            "SSH connectivity... FAILED (account refused)",
            "cortex takes the key, but refuses the account",
            "Back at noon",
        ],
    );
    must(&lab, "cortex", "root", "rm /run/nologin");
    lab.kind("cortex", "account-expired");
    refused(&lab, &["FAILED (account refused)", "Your account has expired"]);
    must(&lab, "cortex", "root", "chage -E -1 jarvis");
    lab.kind_with("cortex", "not-ssh", &["2222"]);
    let elsewhere = CONFIG.replace(
        "[target.cortex]\n",
        "[target.cortex]\nssh-options = [\"Port=2222\"]\n",
    );
    configure(&lab, &elsewhere);
    refused(
        &lab,
        &[
            "FAILED (no ssh server on its port)",
            "it answers: HTTP/1.1 400 Bad Request",
            "Port=2222",
        ],
    );
    configure(&lab, CONFIG);

    // A key that wants a touch: as often as docs/runs.md says, and never while the candidate is judged but for its login.
    lab.kind("desk", "agent-asks");
    must(&lab, "desk", "op", "touch ~/confirm.ok");
    release(&lab, "cortex");
    let asked = must(&lab, "desk", "op", "wc -l <~/confirm.asked");
    let asked: u32 = asked.trim().parse().expect("a number");
    // Builder, target, the target anew, and the git server: once, or as often as three seconds passed between its calls.
    assert!((4..=6).contains(&asked), "{asked} times");
    // Nobody touches it: what ssh waits for is said.
    must(&lab, "desk", "op", "rm ~/confirm.ok");
    lab.variant("cortex", "C");
    let out = expect(&lab, 1, &["release", "cortex", "--offline"]);
    says(
        &out,
        &["FAILED (the login did not finish)", "a touch or a confirmation"],
    );
}

const GUEST: &str = "[target.cortex]\nuser = \"guest\"\n";

fn of_guest() -> String {
    CONFIG.replace("[target.cortex]\nuser = \"jarvis\"\n", GUEST)
}

#[test]
fn h6_what_keeps_a_copy_from_the_store_is_found_in_preflight_on_target_and_builder() {
    let lab = usual("h6");
    lab.variant("cortex", "B");
    let loud = "printf '%s\\n' 'Welcome to the host'";
    let quiet = |host: &str, user: &str| must(&lab, host, "root", &format!("sed -i 1d /home/{user}/.bashrc"));
    lab.kind_with("cortex", "rc", &[loud, "jarvis"]);
    refused(
        &lab,
        &[
            "cortex: jarvis's login prints on standard output",
            "it prints: Welcome to the host",
            "~/.bashrc",
        ],
    );
    quiet("cortex", "jarvis");
    lab.kind("cortex", "nix-daemon-stopped");
    refused(
        &lab,
        &[
            "cortex: the Nix daemon does not run",
            "on cortex: systemctl start nix-daemon.socket",
        ],
    );
    must(&lab, "cortex", "root", "systemctl start nix-daemon.socket");
    configure(&lab, &of_guest());
    lab.kind_with("cortex", "nix-conf", &["allowed-users", "root @wheel"]);
    refused(
        &lab,
        &[
            "cortex: the Nix daemon does not let guest in",
            "allowed-users = root @wheel",
            "nix.settings.allowed-users",
        ],
    );
    lab.kind_with("cortex", "nix-conf", &["allowed-users", "*"]);
    configure(&lab, CONFIG);

    // The builder.
    lab.kind_with("forge", "rc", &[loud, "build"]);
    refused(
        &lab,
        &[
            "forge: build's login prints on standard output",
            "it prints: Welcome to the host",
        ],
    );
    quiet("forge", "build");
    lab.kind("forge", "nix-daemon-stopped");
    refused(&lab, &["forge: the Nix daemon does not run"]);
    must(&lab, "forge", "root", "systemctl start nix-daemon.socket");
    lab.kind_with("forge", "nix-conf", &["trusted-users", "root"]);
    lab.kind_with("forge", "nix-conf", &["allowed-users", "root"]);
    refused(
        &lab,
        &[
            "forge: the Nix daemon does not let build in",
            "allowed-users = root",
        ],
    );
    lab.kind_with("forge", "nix-conf", &["allowed-users", "*"]);
    lab.kind_with("forge", "nix-conf", &["trusted-users", "root build"]);
    must(&lab, "forge", "root", "mv /usr/bin/git /usr/bin/git.away");
    refused(
        &lab,
        &[
            "forge cannot build: git not found there",
            "looked for in the login's PATH",
        ],
    );
    must(&lab, "forge", "root", "mv /usr/bin/git.away /usr/bin/git");

    // A login whose PATH has no nix-daemon is told where it is.
    lab.kind_with("cortex", "rc", &["PATH=/nowhere", "jarvis"]);
    release(&lab, "cortex");
}

#[test]
fn h2_h5_h8_a_copy_that_works_by_hand_works_here_and_lands_nowhere_else() {
    let lab = usual("h2-h5-h8");
    // Not trusted: refused beforehand where nothing is signed, with both ways out, and good where it is.
    configure(&lab, &of_guest());
    lab.variant("cortex", "C");
    refused(
        &lab,
        &[
            "cortex: guest may not copy unsigned paths into the store",
            "forge signs nothing that it builds",
            "nix.settings.trusted-users",
            "nix.settings.secret-key-files",
        ],
    );
    lab.kind_with("forge", "signing-key", &["builder"]);
    lab.kind_with("cortex", "signing-key", &["target"]);
    release(&lab, "cortex");
    configure(&lab, CONFIG);

    // The builder knows another host by the target's name, and its user may copy there.
    lab.kind_with("forge", "other-store", &["cortex", "git", "root"]);
    lab.variant("cortex", "Bbig");
    let out = expect(&lab, 0, &["release", "cortex"]);
    says(
        &out,
        &[
            "copying through this machine",
            "from the builder through this machine",
        ],
    );
    let toplevel = lab.running_system("cortex");
    let there = lab.sh("git", "root", &format!("ls -d {toplevel}"));
    assert!(!there.ok(), "the other host got it: {there}");

    // To Nix localhost is the own store; here it is a port that leads to the target.
    must(
        &lab,
        "desk",
        "op",
        "ssh -f -N -o ExitOnForwardFailure=yes -L 2222:cortex:22 jarvis@cortex >/dev/null 2>&1 </dev/null",
    );
    let near = CONFIG.replace(
        "[target.cortex]\n",
        "[target.cortex]\nhost = \"localhost\"\nssh-options = [\"Port=2222\", \"HostKeyAlias=cortex\"]\n",
    );
    configure(&lab, &near);
    good(&lab, "cortex", 7);
    release(&lab, "cortex");
    configure(&lab, CONFIG);

    // Nix where the official installer puts it. (What is built there has no Nix in it: the lab's systems take the tools of
    // the machine that built them.)
    lab.kind_with("forge", "nix-by-installer", &["build"]);
    lab.variant("cortex", "B");
    release(&lab, "cortex");
}

#[test]
fn h4_sudo_rs_is_understood_with_a_password_and_without() {
    let lab = usual("h4");
    lab.variant("cortex", "B");
    lab.kind_with("cortex", "sudo", &["sudo-rs"]);
    lab.kind("desk", "password");
    let of_pat = |more: &str| {
        CONFIG.replace(
            "[target.cortex]\nuser = \"jarvis\"\n",
            &format!("[target.cortex]\nuser = \"pat\"\n{more}"),
        )
    };
    configure(&lab, &of_pat(""));
    refused(&lab, &["cortex: sudo wants a password for pat", "sudo = \"ask\""]);
    configure(&lab, &of_pat("sudo = \"ask\"\n"));
    // It reads ahead of the password, and here it remembers none.
    let sudoers = "f=/etc/sudoers; t=$(sed '1i Defaults timestamp_timeout=0' $f); rm $f; umask 227; printf '%s\\n' \"$t\" >$f";
    must(&lab, "cortex", "root", sudoers);
    let check = |file: &str| {
        let run = format!("cd ~/infra && NIXGATE_SUDO_PASSWORD_FILE={file} git nixgate check cortex");
        lab.sh("desk", "op", &run)
    };
    let out = check("~/password");
    assert_eq!(out.status, 0, "{out}");
    says(&out, &["passed (pat, root by sudo)"]);
    must(&lab, "desk", "op", "echo wrong >~/wrong");
    let out = check("~/wrong");
    assert_eq!(out.status, 1, "{out}");
    says(&out, &["cortex: sudo does not take the password given for pat"]);
}
