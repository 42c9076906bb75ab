//! What S2, S3 and S4 ask of a run on one host: users and connections, evaluation, checks and their bounds.

use std::time::Duration;

use crate::broken::{checks, commit, gates, must, says, snapshot, switches, with};
use crate::hand::{describe, desk, name_in};
use crate::infra::{configure, expect, gate_seconds, release, usual, with_config};
use crate::lab::Lab;

const SECOND: Duration = Duration::from_secs(1);
const HOSTS: [&str; 4] = ["desk", "forge", "git", "cortex"];

/// Takes connections on port 8099 and never says a word.
const DEAF: &str = "exec perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => 8099, Listen => 50, \
                    ReuseAddr => 1) or die; sleep 3600'";

/// The usual configuration with another user and more keys for cortex.
fn as_user(user: &str, more: &str) -> String {
    with("").replace(
        "[target.cortex]\nuser = \"jarvis\"\n",
        &format!("[target.cortex]\nuser = \"{user}\"\n{more}"),
    )
}

/// `git nixgate` with a file that holds the sudo password.
fn with_password(lab: &Lab, password: &str, args: &str) -> crate::lab::Output {
    lab.sh(
        "desk",
        "op",
        &format!(
            "umask 077; printf '%s' '{password}' > ~/password; cd ~/infra && \
             NIXGATE_SUDO_PASSWORD_FILE=~/password git nixgate {args}"
        ),
    )
}

#[test]
fn s2_5_who_may_not_become_root_is_found_out_before_anything_else() {
    let lab = with_config("s2-5", &HOSTS, &as_user("pat", ""));
    lab.variant("cortex", "B");
    let before = snapshot(&lab, "cortex");
    let refused = |exit: i32, texts: &[&str]| {
        let out = expect(&lab, exit, &["release", "cortex"]);
        says(&out, texts);
        assert_eq!(snapshot(&lab, "cortex"), before, "{out}");
        assert!(!gates(&out).contains(&"build"), "{out}");
    };
    // pat has a password, and nobody gave it.
    refused(1, &["[2/6] SSH connectivity... FAILED (no root)", "password"]);
    configure(&lab, &as_user("nosudo", ""));
    refused(1, &["[2/6] SSH connectivity... FAILED (no root)", "nosudo"]);
    configure(&lab, &as_user("jarvis", "sudo = \"none\"\n"));
    refused(1, &["[2/6] SSH connectivity... FAILED (no root)"]);
    // guest may become root and may not copy.
    configure(&lab, &as_user("guest", ""));
    refused(
        1,
        &[
            "Nix trust... FAILED (guest is not trusted)",
            "nix.settings.trusted-users = [ \"root\" \"guest\" ]",
        ],
    );
    configure(&lab, &as_user("pat", "sudo = \"ask\"\n"));
    refused(2, &["nobody is here to ask", "NIXGATE_SUDO_PASSWORD_FILE"]);
    let out = with_password(&lab, "wrong", "release cortex");
    assert_eq!(out.status, 1, "{out}");
    assert_eq!(snapshot(&lab, "cortex"), before, "{out}");

    let out = expect(&lab, 0, &["config", "show"]);
    assert!(!out.stdout.contains("wrong"), "{out}");
    // With root by NOPASSWD, another user than root.
    configure(&lab, &with(""));
    let out = expect(&lab, 0, &["release", "cortex"]);
    says(&out, &["[2/6] SSH connectivity... passed (jarvis, root by sudo)"]);
}

#[test]
fn s2_5_s3_15_a_sudo_password_travels_on_stdin_and_the_copy_stays_whole() {
    let lab = with_config("s3-15", &HOSTS, &as_user("pat", "sudo = \"ask\"\n"));
    lab.variant("cortex", "Bbig");
    // A terminal that ssh_config forces on everybody, and a list of all that ssh was started with.
    must(
        &lab,
        "desk",
        "root",
        "printf '#!/bin/sh\\nprintf \"%%s \" \"$@\" >> /tmp/argv; echo >> /tmp/argv; exec /usr/bin/ssh \"$@\"\\n' \
         > /usr/local/bin/ssh && chmod 755 /usr/local/bin/ssh && touch /tmp/argv && chmod 666 /tmp/argv",
    );
    must(
        &lab,
        "desk",
        "op",
        "printf 'Host *\\n  RequestTTY force\\n' >> ~/.ssh/config && printf 'pat\\n' > ~/password && \
         git config --file ~/.gitconfig core.sshCommand 'ssh -T'",
    );
    let out = lab.sh(
        "desk",
        "op",
        "export PATH=/usr/local/bin:$PATH; cd ~/infra && NIXGATE_SUDO_PASSWORD_FILE=~/password git nixgate release cortex",
    );
    assert!(out.ok(), "{out}");
    let name = out.text().lines().last().expect("a name").to_owned();
    let b = lab.running_system("cortex");
    // Every path of the closure, by content.
    let verified = lab.sh(
        "cortex",
        "root",
        &format!(
            "nix-store --query --requisites {b} | xargs nix-store --verify-path && nix-store -qR {b} | wc -l"
        ),
    );
    assert!(
        verified.text().parse::<u32>().is_ok_and(|paths| paths > 200),
        "{verified}"
    );

    let argv = must(&lab, "desk", "op", "cat /tmp/argv");
    assert!(argv.lines().any(|line| line.contains("cortex")), "{argv}");
    for line in argv.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        assert!(
            !words.contains(&"-t") && !words.contains(&"-tt"),
            "a terminal: {line}"
        );
    }
    assert!(name.starts_with("release/cortex/"), "{out}");

    // The password is nowhere: not in the output, in any object or file of git, or in the host's journal.
    must(&lab, "cortex", "root", "echo 'pat:kx9-Secret' | chpasswd");
    lab.variant("cortex", "C");
    let out = with_password(&lab, "kx9-Secret", "release cortex");
    assert!(out.ok() && !format!("{out}").contains("kx9-Secret"), "{out}");
    let left = lab.sh(
        "desk",
        "op",
        "cd ~/infra && ! { git for-each-ref --format='%(refname)' | while read r; do git log -p --format=%B $r -1 -- ; \
         git cat-file -p $r; done; grep -r kx9-Secret .git; } | grep -a kx9-Secret",
    );
    assert!(left.ok(), "{left}");
    let journal = lab.sh(
        "cortex",
        "root",
        "! journalctl --no-pager -o verbose | grep kx9-Secret",
    );
    assert!(journal.ok(), "{journal}");
}

#[test]
fn s2_6_ssh_config_is_honoured_and_so_are_options() {
    let host = |more: &str| as_user("jarvis", more);
    let lab = with_config(
        "s2-6",
        &["desk", "forge", "git", "cortex", "orion"],
        &host("host = \"door\"\n"),
    );
    must(
        &lab,
        "desk",
        "op",
        "printf 'Host door\\n  HostName 10.77.0.20\\n  HostKeyAlias cortex\\n  ProxyCommand ssh -W %%h:%%p orion\\n' \
         >> ~/.ssh/config",
    );
    // Not reachable but through the proxy.
    must(
        &lab,
        "cortex",
        "root",
        "nft add table inet trial && nft add chain inet trial in '{ type filter hook input priority -5; }' && \
         nft add rule inet trial in ip saddr '{ 10.77.0.10, 10.77.0.11 }' drop",
    );
    lab.variant("cortex", "B");
    let out = expect(&lab, 0, &["release", "cortex"]);
    says(
        &out,
        &["[1/6] Network reachability... skipped (reached through ssh's proxycommand)"],
    );
    let body = must(
        &lab,
        "desk",
        "op",
        &format!(
            "cd ~/infra && git cat-file tag {}",
            out.text().lines().last().expect("a name")
        ),
    );
    assert!(!body.contains("10.77.0.20") && !body.contains("door"), "{body}");
    must(&lab, "cortex", "root", "nft delete table inet trial");

    // Another port, by an option.
    must(
        &lab,
        "cortex",
        "root",
        "mkdir -p /run/sshd && /usr/sbin/sshd -f /etc/ssh/sshd_config -p 2222 -o PidFile=/run/trial.pid",
    );
    configure(
        &lab,
        &host("host = \"10.77.0.20\"\nssh-options = [\"Port=2222\", \"HostKeyAlias=cortex\"]\n"),
    );
    must(
        &lab,
        "cortex",
        "root",
        "nft add table inet trial && \
         nft add chain inet trial in '{ type filter hook input priority -5; }' && \
         nft add rule inet trial in tcp dport 22 drop",
    );
    lab.variant("cortex", "C");
    expect(&lab, 0, &["release", "cortex"]);
}

#[test]
fn s2_26_a_target_without_a_host_is_found_by_its_name() {
    let lab = with_config(
        "s2-26",
        &HOSTS,
        &with("").replace("[target.cortex]\nuser = \"jarvis\"\n", "[target.cortex]\n"),
    );
    let shown = expect(&lab, 0, &["config", "show"]);
    assert!(shown.stdout.contains("cortex"), "{shown}");
    lab.variant("cortex", "B");
    let out = expect(&lab, 0, &["release", "cortex"]);
    says(&out, &["[2/6] SSH connectivity... passed (jarvis, root by sudo)"]);
    // The user comes from ssh_config, so that nothing here knows what to redact: the record never had the name.
    let raw = desk(&lab, &format!("git cat-file tag {}", name_in(&out)));
    assert!(raw.contains("SSH connectivity: passed (root by sudo)"), "{raw}");
    assert!(!raw.contains("jarvis") && !raw.contains("[redacted]"), "{raw}");
    assert_eq!(switches(&lab, "cortex"), [lab.running_system("cortex")]);
    // The name alone is what leads there.
    must(&lab, "desk", "root", "sed -i '/cortex/d' /etc/hosts");
    lab.variant("cortex", "C");
    let out = expect(&lab, 1, &["release", "cortex"]);
    says(&out, &["FAILED (name not known)"]);
}

#[test]
fn s3_16_impure_is_refused_unless_allowed_and_then_recorded() {
    let lab = usual("s3-16");
    let before = snapshot(&lab, "cortex");
    commit(
        &lab,
        "cat > hosts/cortex.nix <<'N'\n{ version = \"26.05.20261102\"; etc.\"built-on\" = builtins.readFile /etc/hostname; }\nN",
    );
    let out = expect(&lab, 1, &["release", "cortex"]);
    says(&out, &["pure"]);
    assert_eq!(gates(&out).last(), Some(&"build"), "{out}");
    assert_eq!(snapshot(&lab, "cortex"), before, "{out}");

    configure(&lab, &with("[defaults]\nimpure = true\n"));
    let name = release(&lab, "cortex");
    let body = must(
        &lab,
        "desk",
        "op",
        &format!("cd ~/infra && git cat-file tag {name}"),
    );
    assert!(body.contains("\"impure\":true"), "{body}");
    assert_eq!(must(&lab, "cortex", "root", "cat /etc/built-on"), "forge");

    configure(&lab, &with(""));
    lab.variant("cortex", "B");
    let name = release(&lab, "cortex");
    let body = must(
        &lab,
        "desk",
        "op",
        &format!("cd ~/infra && git cat-file tag {name}"),
    );
    assert!(!body.contains("\"impure\":true"), "{body}");
}

#[test]
fn s4_19_a_syntax_error_is_told_in_seconds() {
    let lab = usual("s4-19");
    let before = snapshot(&lab, "cortex");
    commit(&lab, "printf '{\\n  version = ;\\n}\\n' > hosts/cortex.nix");
    for verb in ["check", "release"] {
        let out = expect(&lab, 1, &[verb, "cortex"]);
        assert!(gate_seconds(&out, "build") < 60, "{out}");
        says(&out, &["syntax error", "hosts/cortex.nix:2"]);
        assert_eq!(snapshot(&lab, "cortex"), before, "{out}");
    }
    // What evaluates and cannot be built is as clean.
    commit(
        &lab,
        "cat > hosts/cortex.nix <<'N'\nctx: { etc.x = builtins.readFile (ctx.run \"dry\" { } \"echo out of cheese >&2; exit 3\"); }\nN",
    );
    let out = expect(&lab, 1, &["release", "cortex"]);
    says(&out, &["out of cheese"]);
    assert_eq!(snapshot(&lab, "cortex"), before, "{out}");
}

#[test]
fn s4_20_each_precondition_broken_in_turn() {
    let lab = with_config(
        "s4-20",
        &HOSTS,
        &with("[target.cortex.preflight]\nservices = [\"sshd\", \"app\"]\n"),
    );
    lab.variant("cortex", "B");
    let before = snapshot(&lab, "cortex");
    for (breaks, mends, line) in [
        (
            "mkdir -p /mnt/nix && mount -t tmpfs -o size=8m tmpfs /mnt/nix && cd /mnt/nix && mkdir store var && \
             mount --bind /nix/store store && mount --bind /nix/var var && mount --rbind /mnt/nix /nix && \
             head -c 7633633 /dev/zero > /nix/fill",
            "rm /nix/fill",
            "[4/6] Disk space... FAILED (/nix 9",
        ),
        (
            "systemctl stop sshd",
            "systemctl start sshd",
            "[2/6] SSH connectivity... FAILED (refused)",
        ),
        (
            "systemctl stop app",
            "systemctl start app",
            "[5/6] Critical services... FAILED (app.service is inactive)",
        ),
    ] {
        must(&lab, "cortex", "root", breaks);
        let out = expect(&lab, 1, &["release", "cortex"]);
        says(&out, &[line]);
        assert_eq!(snapshot(&lab, "cortex"), before, "{out}");
        must(&lab, "cortex", "root", mends);
    }
    expect(&lab, 0, &["release", "cortex"]);
}

#[test]
fn s4_25_validation_is_bounded_whatever_hangs() {
    let config = |check: &str| {
        with(&format!(
            "[target.cortex.timeouts]\nvalidate = 8\n[[target.cortex.check]]\n{check}\ntimeout = 300\n"
        ))
    };
    let lab = usual("s4-25");
    lab.variant("cortex", "B");
    let before = snapshot(&lab, "cortex");
    for check in [
        "run = [\"sleep\", \"1000\"]",
        "run = [\"sleep\", \"1000\"]\nfrom = \"operator\"",
        // Somebody takes the connection and never answers.
        "http = \"http://localhost:8099/\"",
    ] {
        configure(&lab, &config(check));
        let _deaf = lab.spawn("cortex", "root", DEAF);
        let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
        run.wait_for_stderr("\nvalidate\n", 90 * SECOND);
        let out = run.wait(300 * SECOND).expect("an end");
        assert_eq!(out.status, 4, "{out}");
        says(&out, &["validation was not done within 8 s"]);
        // The check's own limit is 300 s: what ended it is the bound of all of validation.
        let took = gate_seconds(&out, "validate");
        assert!((8..=120).contains(&took), "{took} s: {out}");
        assert_eq!(snapshot(&lab, "cortex"), before, "{out}");
        for host in ["cortex", "desk"] {
            lab.wait_for(host, "! pgrep -f '[s]leep 1000'", 5 * SECOND);
        }
    }
}

#[test]
fn s4_22_s4_23_each_kind_of_check_passes_fails_and_times_out() {
    let lab = usual("s4-23");
    commit(
        &lab,
        "mkdir -p scripts && printf '#!/bin/sh\\nread -r w </tmp/word\\n[ $w != slow ] || sleep 60\\n[ $w = good ] && echo all fine\\n' \
         > scripts/ok.sh && chmod +x scripts/ok.sh",
    );
    let _deaf = lab.spawn("cortex", "root", DEAF);
    lab.wait_for("cortex", "ss -ltn | grep -q :8099", 10 * SECOND);
    let check = |lines: &str, exit: i32, text: &str| {
        configure(&lab, &with(&format!("[[target.cortex.check]]\n{lines}\n")));
        let out = expect(&lab, exit, &["health", "cortex"]);
        says(&out, &[text]);
        assert_eq!(checks(&out).len(), 5, "{out}");
    };
    check("unit = \"app.service\"", 0, "app.service... passed (active)");
    check("unit = \"tick.service\"", 1, "FAILED (tick.service is inactive)");
    check("http = \"http://localhost:8080/\"", 0, "... passed (200)");
    check("http = \"http://localhost:8080/nothing\"", 1, "FAILED (HTTP 404)");
    check(
        "http = \"http://localhost:8099/\"\ntimeout = 2",
        1,
        "FAILED (no answer in 2 s)",
    );
    check("http = \"http://localhost:8098/\"", 1, "Failed to connect");
    check(
        "http = \"http://10.77.0.20:8080/\"\nfrom = \"operator\"",
        0,
        "... passed (200)",
    );
    check(
        "http = \"http://10.77.0.20:8080/nothing\"\nfrom = \"operator\"",
        1,
        "FAILED (HTTP 404)",
    );
    check(
        "http = \"http://10.77.0.20:8099/\"\nfrom = \"operator\"\ntimeout = 2",
        1,
        "FAILED (",
    );
    check("resolve = \"forge\"", 0, "resolve forge... passed");
    check(
        "resolve = \"nowhere.invalid\"",
        1,
        "resolve nowhere.invalid... FAILED (exit 2",
    );
    // As NixOS has it: everybody may ask for an echo.
    must(
        &lab,
        "cortex",
        "root",
        "echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range",
    );
    check("ping = \"forge\"", 0, "ping forge... passed");
    check(
        "ping = \"10.77.0.99\"\ntimeout = 2",
        1,
        "ping 10.77.0.99... FAILED",
    );

    // In a release, a failing check takes the host back.
    let before = snapshot(&lab, "cortex");
    configure(
        &lab,
        &with("[[target.cortex.check]]\nhttp = \"http://localhost:8080/nothing\"\ntimeout = 1\n"),
    );
    lab.variant("cortex", "B");
    let out = expect(&lab, 4, &["release", "cortex"]);
    says(&out, &["FAILED (HTTP 404)"]);
    assert_eq!(snapshot(&lab, "cortex"), before, "{out}");

    // So does one that only the new system breaks: names resolve before, and not after.
    configure(
        &lab,
        &with("[[target.cortex.check]]\nresolve = \"forge\"\ntimeout = 1\n"),
    );
    describe(
        &lab,
        "cortex",
        r#"{ activationName = "resolver"; activation = "cp /etc/hosts /run/hosts; grep -v forge /run/hosts >/etc/hosts"; }"#,
    );
    let out = expect(&lab, 4, &["release", "cortex"]);
    says(&out, &["resolve forge... FAILED (exit 2"]);
    assert_eq!(snapshot(&lab, "cortex"), before, "{out}");
    // Programs of a commit run once it is released; from the operator's machine, as monitoring elsewhere sees the host.
    for host in ["cortex", "desk"] {
        must(&lab, host, "root", "echo good >/tmp/word");
    }
    let run = "[[target.cortex.check]]\nrun = [\"scripts/ok.sh\"]\ntimeout = 2\n";
    configure(&lab, &with(&format!("{run}{run}from = \"operator\"\n")));
    release(&lab, "cortex");
    let out = expect(&lab, 0, &["health", "cortex"]);
    assert_eq!(out.stderr.matches("... passed (all fine)").count(), 2, "{out}");
    for (host, check) in [("cortex", "run scripts/ok.sh"), ("desk", "run scripts/ok.sh (2)")] {
        for (word, failed) in [("bad", "FAILED (exit 1"), ("slow", "FAILED (no answer in 2 s)")] {
            must(&lab, host, "root", &format!("echo {word} >/tmp/word"));
            let out = expect(&lab, 1, &["health", "cortex"]);
            says(&out, &[&format!("{check}... {failed}")]);
        }
        must(&lab, host, "root", "echo good >/tmp/word");
    }
}

#[test]
fn s4_41_health_works_before_any_run_and_after() {
    let lab = usual("s4-41");
    let before = snapshot(&lab, "cortex");
    let out = expect(&lab, 0, &["health", "cortex"]);
    says(
        &out,
        &[
            "cortex has no release yet",
            "[4/5] Boot generation... passed (generation 1)",
        ],
    );
    assert_eq!(snapshot(&lab, "cortex"), before);
    must(&lab, "cortex", "root", "systemctl kill -s KILL worker");
    lab.wait_for("cortex", "systemctl is-failed --quiet worker", 10 * SECOND);
    expect(&lab, 1, &["health", "cortex"]);
    must(
        &lab,
        "cortex",
        "root",
        "systemctl reset-failed worker && systemctl start worker",
    );

    configure(&lab, &with("[[target.cortex.check]]\nunit = \"extra.service\"\n"));
    lab.variant("cortex", "B");
    release(&lab, "cortex");
    let out = expect(&lab, 0, &["health", "cortex"]);
    says(&out, &["extra.service... passed", "(generation 2)"]);
    // Checks come from the record's commit, not from what was pulled since.
    configure(&lab, &with("[[target.cortex.check]]\nrun = [\"false\"]\n"));
    expect(&lab, 0, &["health", "cortex"]);
    must(&lab, "cortex", "root", "systemctl stop extra");
    let out = expect(&lab, 1, &["health", "cortex"]);
    says(&out, &["extra.service is inactive"]);
    lab.cut("cortex");
    let out = expect(&lab, 1, &["health", "cortex"]);
    says(&out, &["[1/5] SSH connectivity... FAILED"]);
}
