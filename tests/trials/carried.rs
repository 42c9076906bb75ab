//! K8: hosts that carry somebody else's record.

use crate::hand::{desk, root};
use crate::infra::{CONFIG, configure, expect, host_state, refs, release, with_config};
use crate::lab::Output;

#[track_caller]
fn says(out: &Output, all: &[&str]) {
    for text in all {
        assert!(
            out.stderr.contains(text) || out.stdout.contains(text),
            "{text:?}: {out}"
        );
    }
}

#[test]
fn k8_a_host_that_carries_another_targets_record_is_not_touched_unless_it_is_meant() {
    let lab = with_config("k8", &["desk", "forge", "git", "cortex", "orion"], CONFIG);
    for host in ["cortex", "orion"] {
        lab.variant(host, "B");
    }
    release(&lab, "cortex");
    let orions = release(&lab, "orion");
    lab.variant("cortex", "C");
    let last = release(&lab, "cortex");

    // A pulled commit says that cortex is at orion.
    let elsewhere = CONFIG.replace("[target.cortex]\n", "[target.cortex]\nhost = \"orion\"\n");
    configure(&lab, &elsewhere);
    let (before, records) = (host_state(&lab, "orion"), refs(&lab));
    for args in [
        &["rollback", "cortex"][..],
        &["rollback", "cortex", "--check"],
        &["deploy", "cortex", "--to", &last],
        &["plan", "cortex"],
        &["check", "cortex"],
        &["release", "cortex"],
    ] {
        let out = expect(&lab, 3, args);
        says(
            &out,
            &[
                "the host of cortex carries the record of orion",
                &orions,
                "no record of cortex",
                "--take-over",
            ],
        );
        assert_eq!(host_state(&lab, "orion"), before, "{args:?}: {out}");
        assert_eq!(refs(&lab), records, "{args:?}: {out}");
    }
    let out = lab.nixgate(&["status", "cortex", "--live"]);
    says(&out, &["DRIFT: the host carries the record of orion"]);
    let out = expect(&lab, 1, &["verify", "cortex", "--live"]);
    says(&out, &["the host of cortex carries the record of orion"]);
    let out = expect(&lab, 0, &["config", "check"]);
    says(&out, &["warning: cortex and orion are one host"]);
}

#[test]
fn k8_a_new_target_or_another_repository_does_not_take_a_host_without_a_word() {
    let lab = with_config("k8-t1", &["desk", "forge", "git", "cortex"], CONFIG);
    lab.variant("cortex", "B");
    let name = release(&lab, "cortex");
    let t1 = "[target.t1]\nhost = \"cortex\"\nuser = \"jarvis\"\nattr = \"cortex\"\n";
    configure(&lab, &format!("{CONFIG}{t1}"));
    lab.variant("cortex", "C");
    let before = host_state(&lab, "cortex");
    let out = expect(&lab, 3, &["release", "t1"]);
    says(
        &out,
        &[
            "the host of t1 carries the record of cortex",
            &name,
            "git nixgate rename cortex t1",
        ],
    );

    // Another repository with the same flake: neither by the same name nor by another.
    desk(
        &lab,
        &format!(
            "mkdir ~/other && cp -a flake.* hosts *.nix files ~/other/ 2>/dev/null; cd ~/other && \
             printf '%s' '{}[defaults]\nremote = \"\"\n' >.nixgate.toml && git init -q -b main && git add -A && \
             git commit -qm other",
            format!("{CONFIG}{t1}").replace('\'', "")
        ),
    );
    let other = |target: &str| {
        lab.sh(
            "desk",
            "op",
            &format!("cd ~/other && git nixgate release {target}"),
        )
    };
    let out = other("cortex");
    assert_eq!(out.status, 3, "{out}");
    says(&out, &[&name, "of another repository", "--take-over"]);
    let out = other("t1");
    assert_eq!(out.status, 3, "{out}");
    says(
        &out,
        &[
            "carries the record of cortex",
            "another repository releases this host",
        ],
    );
    assert_eq!(host_state(&lab, "cortex"), before);

    // Meant: the first record of t1. What cortex was released as stays recorded, and on the host.
    let out = expect(&lab, 0, &["release", "t1", "--take-over"]);
    says(&out, &["taken over: the host of t1 carries the record of cortex"]);
    let t1s = out.text().lines().last().expect("a record").to_owned();
    root(&lab, "cortex", "test -s /var/lib/nixgate/cortex/record");
    // Then it is t1's host, and cortex's way back asks first; and so on.
    let there = lab.running_system("cortex");
    let out = expect(&lab, 3, &["rollback", "cortex"]);
    let later = format!("{t1s} was put there after {name}");
    says(&out, &["the host of cortex carries the record of t1", &later]);
    assert_eq!(lab.running_system("cortex"), there);
    expect(&lab, 0, &["rollback", "cortex", "--take-over"]);
    assert_ne!(lab.running_system("cortex"), there);
    expect(&lab, 3, &["deploy", "t1", "--to", &t1s]);
    expect(&lab, 0, &["deploy", "t1", "--to", &t1s, "--take-over"]);
    assert_eq!(lab.running_system("cortex"), there);
    expect(&lab, 0, &["verify"]);
    let out = lab.sh(
        "desk",
        "op",
        "cd ~/other && git nixgate release cortex --take-over",
    );
    assert_eq!(out.status, 0, "{out}");
}

#[test]
fn k8_a_renamed_host_is_proven_under_its_new_name_and_a_retired_one_is_let_go() {
    let lab = with_config("k8-names", &["desk", "forge", "git", "cortex"], CONFIG);
    lab.variant("cortex", "B");
    release(&lab, "cortex");
    lab.variant("cortex", "C");
    let last = release(&lab, "cortex");
    let closure = lab.running_system("cortex");
    configure(
        &lab,
        &format!("{CONFIG}[target.brain]\nhost = \"cortex\"\nuser = \"jarvis\"\nattr = \"cortex\"\n"),
    );
    let kept = |name: &str| {
        let host = root(
            &lab,
            "cortex",
            &format!(
                "ls /nix/var/nix/gcroots/nixgate/{name} /var/lib/nixgate/{name} 2>/dev/null | grep -v : ; :"
            ),
        );
        let builder = lab.sh(
            "forge",
            "build",
            &format!("ls ~/.local/state/nixgate/roots/{name} 2>/dev/null; :"),
        );
        (
            host.split_whitespace().count(),
            builder.text().split_whitespace().count(),
        )
    };
    let (before, records) = (host_state(&lab, "cortex"), refs(&lab));
    assert_eq!(kept("cortex").0, 4, "two releases, what ran before, the record");
    let out = expect(&lab, 0, &["rename", "cortex", "brain", "--dry-run"]);
    says(
        &out,
        &["brain would be released", "would go: 3 roots of cortex", &last],
    );
    assert_eq!(
        (host_state(&lab, "cortex"), refs(&lab)),
        (before, records.clone()),
        "{out}"
    );
    expect(&lab, 2, &["rename", "brain", "brain"]);
    expect(&lab, 3, &["rename", "brain", "cortex"]);

    let out = expect(&lab, 0, &["rename", "cortex", "brain"]);
    says(&out, &["gone: 3 roots of cortex", "cortex is brain now"]);
    assert_eq!(lab.running_system("cortex"), closure);
    assert_eq!(kept("cortex"), (0, 0));
    assert_eq!(kept("brain").0, 3, "its release, what ran before, the record");
    assert!(kept("brain").1 > 0);
    let now = refs(&lab);
    assert!(records.lines().all(|line| now.contains(line)), "{now}");
    expect(&lab, 0, &["verify"]);
    expect(&lab, 0, &["rollback", "brain", "--to", "before-first", "--check"]);
    let out = expect(&lab, 0, &["rename", "cortex", "brain"]);
    says(&out, &["cortex is brain now"]);
    expect(&lab, 3, &["release", "cortex", "--again"]);

    // The only copy of a record is not thrown away.
    let record = "/var/lib/nixgate/brain/record";
    root(
        &lab,
        "cortex",
        &format!("cp -a {record} /root/kept; echo x >>{record}"),
    );
    expect(&lab, 3, &["retire", "brain"]);
    root(
        &lab,
        "cortex",
        &format!("test -s {record} && mv /root/kept {record}"),
    );

    let before = host_state(&lab, "cortex");
    let out = expect(&lab, 0, &["retire", "brain", "--dry-run"]);
    says(&out, &["would go: 2 roots of brain"]);
    assert_eq!(host_state(&lab, "cortex"), before);
    let out = expect(&lab, 0, &["retire", "brain"]);
    says(
        &out,
        &[
            "brain is retired",
            "next: remove [target.brain] from .nixgate.toml",
        ],
    );
    assert_eq!(kept("brain"), (0, 0), "{out}");
    assert_eq!(
        (lab.running_system("cortex"), refs(&lab)),
        (closure, now),
        "{out}"
    );
    expect(&lab, 0, &["verify", "brain"]);
    for args in [&["retire", "brain"][..], &["retire", "brain", "--gone"]] {
        says(&expect(&lab, 0, args), &["brain: nothing is kept for it"]);
    }
}
