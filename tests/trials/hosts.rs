//! Hosts that people have: what keeps a connection or a copy from coming about is told by its own reason.

use crate::broken::{must, says, snapshot};
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
