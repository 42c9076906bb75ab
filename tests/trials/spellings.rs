//! H7: each spelling of a host that people write, for the target, its builder and `--host`: through to a copied closure,
//! or refused where the file is checked.

use crate::hand::{good, root};
use crate::infra::{CONFIG, configure, expect, host_state, usual};
use crate::lab::Lab;

/// The usual file with another target and another builder.
fn spelled(target: &str, builder: &str) -> String {
    let target = format!("user = \"jarvis\"\nhost = \"{target}\"");
    CONFIG
        .replace("host = \"forge\"", &format!("host = \"{builder}\""))
        .replacen("user = \"jarvis\"", &target, 1)
}

/// Beside their usual ways in, both hosts get a second port and an IPv6 address, and desk knows their keys there.
fn open_ways(lab: &Lab) {
    for (host, address) in [
        ("desk", "fd00::10"),
        ("forge", "fd00::11"),
        ("cortex", "fd00::20"),
    ] {
        root(
            lab,
            host,
            &format!(
                "set -e; ip -6 addr add {address}/64 dev eth0 nodad; \
                 ip -6 addr add fe80{}/64 dev eth0 nodad; mkdir -p /run/sshd; \
                 /usr/sbin/sshd -p 2222 -o AddressFamily=any -o PidFile=/run/trial.pid; \
                 /usr/sbin/sshd -p 22 -o AddressFamily=inet6 -o PidFile=/run/trial6.pid",
                address.trim_start_matches("fd00")
            ),
        );
    }
    let known = |user: &str, host: &str, names: &str| {
        let learn = format!(
            "grep -E '^{host}[ ,]' ~/.ssh/known_hosts | while read -r _ key; do echo \"{names} $key\"; done >> \
             ~/.ssh/known_hosts.new && test -s ~/.ssh/known_hosts.new && cat ~/.ssh/known_hosts.new >>~/.ssh/known_hosts"
        );
        let on = if user == "op" { "desk" } else { "forge" };
        let out = lab.sh(on, user, &learn);
        assert!(out.ok(), "{out}");
    };
    known(
        "op",
        "cortex",
        "[cortex]:2222,fd00::20,[fd00::20]:2222,[10.77.0.20]:2222,fe80::20%eth0",
    );
    known(
        "op",
        "forge",
        "[forge]:2222,fd00::11,[fd00::11]:2222,fe80::11%eth0",
    );
    known("build", "cortex", "[cortex]:2222");
}

#[test]
fn h7_each_spelling_of_a_target_and_a_builder_is_understood() {
    let lab = usual("h7");
    open_ways(&lab);
    let before = host_state(&lab, "cortex");
    for (number, (target, builder, login)) in (0..).zip([
        ("root@cortex", "build@forge", "passed (root)"),
        (
            "ssh://jarvis@cortex:2222",
            "ssh-ng://build@forge:2222",
            "passed (jarvis, root by sudo)",
        ),
        (
            "jarvis@[fd00::20]:2222",
            "build@fd00::11",
            "passed (jarvis, root by sudo)",
        ),
        (
            "fd00::20",
            "ssh://build@[fd00::11]:2222",
            "passed (jarvis, root by sudo)",
        ),
        (
            "fe80::20%eth0",
            "build@fe80::11%eth0",
            "passed (jarvis, root by sudo)",
        ),
    ]) {
        good(&lab, "cortex", number);
        // A user that is written in the host, and another beside it, are two.
        let config = spelled(target, builder);
        let config = match target.contains("root@") {
            true => config.replacen("user = \"jarvis\"\n", "", 1),
            false => config,
        };
        configure(&lab, &config);
        expect(&lab, 0, &["config", "check"]);
        let out = expect(&lab, 0, &["check", "cortex"]);
        assert!(
            out.stderr.contains(&format!("SSH connectivity... {login}")),
            "{target}: {out}"
        );
        // By whatever way the builder has.
        assert!(out.stderr.contains("from the builder"), "{target}: {out}");
        assert_eq!(host_state(&lab, "cortex"), before);
    }
    // `cortex` on port 22 is not asked any more by whoever was told another port.
    let knocked = "journalctl -u ssh -u sshd --no-pager -o cat | grep -c 'Accepted' ; :";
    let earlier = root(&lab, "cortex", knocked);
    configure(&lab, &spelled("cortex:2222", "forge"));
    good(&lab, "cortex", 9);
    let out = expect(&lab, 0, &["check", "cortex"]);
    assert!(out.stderr.contains("from the builder"), "{out}");
    assert_eq!(root(&lab, "cortex", knocked), earlier, "{out}");
    // For this once, before what the file says.
    let out = expect(&lab, 0, &["health", "cortex", "--host", "root@10.77.0.20:2222"]);
    assert!(out.stdout.contains("cortex is healthy"), "{out}");
}

#[test]
fn h7_what_is_no_host_is_refused_where_the_file_is_checked() {
    let lab = Lab::up("h7-no", &["desk", "git"]);
    for (bad, wanted) in [
        ("jarvis:secret@cortex", "~/.ssh/config"),
        ("cortex:22:33", "\"cortex:2222\""),
        ("http://cortex", "hosts are reached by ssh"),
        ("ssh-ng://cortex?remote-program=x", "only user, host and port"),
        ("$(id)", "is no host"),
    ] {
        for (target, builder, key) in [
            (bad, "forge", "target.cortex.host"),
            ("cortex", bad, "builder.host"),
        ] {
            configure(&lab, &spelled(target, builder));
            for command in [&["config", "check"][..], &["check", "cortex"]] {
                let out = expect(&lab, 2, command);
                assert!(
                    out.stderr.contains(key) && out.stderr.contains(wanted),
                    "{bad}: {out}"
                );
                assert!(!out.stderr.contains("preflight"), "{out}");
            }
        }
        configure(&lab, &spelled("cortex", "forge"));
        let out = expect(&lab, 2, &["check", "cortex", "--host", bad]);
        assert!(
            out.stderr.contains(wanted) && !out.stderr.contains("preflight"),
            "{bad}: {out}"
        );
    }
}
