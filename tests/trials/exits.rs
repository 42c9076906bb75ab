//! Every exit code of docs/exit-codes.md, and that the target is what the code says.

use std::time::Duration;

use crate::broken::{commit, must, says, snapshot, switches, with};
use crate::infra::{CONFIG, configure, expect, host_state, refs, release, usual, with_config};
use crate::lab::Lab;

const SECOND: Duration = Duration::from_secs(1);
const HOSTS: [&str; 4] = ["desk", "forge", "git", "cortex"];

#[test]
fn exit_0_done_and_nothing_to_do() {
    let lab = usual("exit-0");
    lab.variant("cortex", "B");
    let name = release(&lab, "cortex");
    assert!(refs(&lab).contains(&name));
    let before = snapshot(&lab, "cortex");
    let out = expect(&lab, 0, &["release", "cortex"]);
    says(&out, &["nothing to do", &name]);
    assert_eq!(snapshot(&lab, "cortex"), before);
    assert_eq!(switches(&lab, "cortex").len(), 1);
}

#[test]
fn exit_1_a_gate_failed_before_the_switch() {
    let lab = usual("exit-1");
    let before = snapshot(&lab, "cortex");
    lab.variant("cortex", "B");
    must(&lab, "cortex", "root", "systemctl stop sshd");
    expect(&lab, 1, &["release", "cortex"]);
    must(&lab, "cortex", "root", "systemctl start sshd");
    must(&lab, "forge", "root", "systemctl stop sshd");
    let out = expect(&lab, 1, &["release", "cortex"]);
    says(
        &out,
        &[
            "the builder cannot be used",
            "nothing is built anywhere else instead",
        ],
    );
    must(&lab, "forge", "root", "systemctl start sshd");
    // An inhibitor and a pre-switch check refuse the switch, and that is known before.
    for (variant, next) in [
        ("Bpre", "pre-switch checks failed"),
        ("Binhibit", "git nixgate release cortex --boot"),
        ("B100", "git nixgate release cortex --boot"),
    ] {
        lab.variant("cortex", variant);
        let out = expect(&lab, 1, &["release", "cortex"]);
        says(&out, &[next]);
        assert!(!out.stderr.contains("\nswitch-test\n"), "{out}");
    }
    assert_eq!(snapshot(&lab, "cortex"), before);
    assert_eq!(switches(&lab, "cortex").len(), 0);
}

#[test]
fn exit_2_usage_and_configuration() {
    let lab = usual("exit-2");
    let before = snapshot(&lab, "cortex");
    lab.variant("cortex", "B");
    expect(&lab, 2, &["release", "cortex", "--no-such-flag"]);
    let out = expect(&lab, 2, &["release", "cortexx"]);
    says(&out, &["cortex"]);
    configure(&lab, &with("[target.cortex.timeouts]\nsoka = 3\n"));
    let out = expect(&lab, 2, &["release", "cortex"]);
    says(&out, &["soka", "soak"]);
    configure(&lab, "version = 1\n[target.cortex\n");
    expect(&lab, 2, &["release", "cortex"]);
    assert_eq!(snapshot(&lab, "cortex"), before);
}

#[test]
fn exit_3_refused_by_a_rule() {
    let lab = usual("exit-3");
    lab.variant("cortex", "B");
    release(&lab, "cortex");
    let before = snapshot(&lab, "cortex");

    must(
        &lab,
        "desk",
        "op",
        "cd ~/infra && echo '# more' >> hosts/cortex.nix",
    );
    let out = expect(&lab, 3, &["release", "cortex"]);
    says(&out, &["not committed", "hosts/cortex.nix"]);
    must(
        &lab,
        "desk",
        "op",
        "cd ~/infra && git checkout -q hosts/cortex.nix",
    );

    // A line that leaves the released commit out.
    must(&lab, "desk", "op", "cd ~/infra && git reset -q --hard HEAD~1");
    lab.variant("cortex", "C");
    let out = expect(&lab, 3, &["release", "cortex"]);
    says(&out, &["merge -s ours release/cortex", "it only fast-forwards"]);
    assert_eq!(snapshot(&lab, "cortex"), before);
    assert_eq!(switches(&lab, "cortex").len(), 1);
}

#[test]
fn s4_52_exit_4_back_on_what_ran_before() {
    let lab = with_config(
        "exit-4",
        &HOSTS,
        &with("[target.cortex.timeouts]\nactivate = 10\n"),
    );
    let before = snapshot(&lab, "cortex");
    let a = lab.running_system("cortex");
    for (variant, text) in [
        ("Bfail", "broken.service"),
        ("Bact", "the activation script failed"),
        ("Bslow", "raise timeouts.activate"),
        ("Bhang", "raise timeouts.activate"),
    ] {
        lab.variant("cortex", variant);
        let out = expect(&lab, 4, &["release", "cortex"]);
        says(
            &out,
            &[text, "cortex is back on what ran before, and that was checked"],
        );
        assert_eq!(snapshot(&lab, "cortex"), before, "{variant}: {out}");
        assert_eq!(switches(&lab, "cortex").last(), Some(&a), "{variant}");
        must(
            &lab,
            "cortex",
            "root",
            "systemctl is-active app sshd worker lone.socket",
        );
    }
}

#[test]
fn exit_5_the_new_system_stays_where_rolling_back_is_off() {
    let lab = with_config("exit-5", &HOSTS, &with("[defaults]\nauto-rollback = false\n"));
    let before = host_state(&lab, "cortex");
    let a = lab.running_system("cortex");
    lab.variant("cortex", "Bfail");
    let out = expect(&lab, 5, &["release", "cortex"]);
    says(
        &out,
        &[
            "auto-rollback is off",
            "sudo nix-env -p /nix/var/nix/profiles/system --set",
        ],
    );
    let b = lab.running_system("cortex");
    assert_ne!(b, a);
    // Everything but what runs is as before, and nobody watches any more.
    assert_eq!(host_state(&lab, "cortex").replace(&b, &a), before);
    assert!(!refs(&lab).contains("refs/tags"), "{out}");
}

#[test]
fn s4_18_exit_5_the_revert_failed() {
    let lab = usual("exit-5b");
    let a = lab.running_system("cortex");
    // Once the candidate has been there, the application does not start any more, whoever starts it.
    must(
        &lab,
        "cortex",
        "root",
        "mkdir -p /run/systemd/system/app.service.d && \
         printf '[Service]\\nExecStartPre=/usr/bin/test ! -e /run/poison\\n' > /run/systemd/system/app.service.d/x.conf && \
         systemctl daemon-reload && systemctl restart app && systemctl is-active app",
    );
    commit(
        &lab,
        "cat > hosts/cortex.nix <<'N'\n{ version = \"26.05.20261102\"; revs.\"app.service\" = 2;\n  \
         activationName = \"poison\"; activation = \"touch /run/poison; false\"; }\nN",
    );
    let out = expect(&lab, 5, &["release", "cortex"]);
    says(
        &out,
        &[
            "cortex could not be taken back:",
            "app.service",
            "git nixgate rollback cortex",
            "or by hand: ssh jarvis@cortex",
            "or at the console",
        ],
    );
    assert!(!out.stderr.contains("cortex is back on what ran before"), "{out}");
    assert_eq!(lab.running_system("cortex"), a);
    assert!(!refs(&lab).contains("refs/tags"), "{out}");
}

#[test]
fn exit_6_somebody_else_holds_it() {
    let lab = with_config("exit-6", &HOSTS, &with("[target.cortex.timeouts]\nsoak = 25\n"));
    lab.variant("cortex", "B");
    must(
        &lab,
        "desk",
        "op",
        "cd ~/infra && git push -q origin main && git rev-parse --short=12 HEAD > /tmp/first",
    );
    must(
        &lab,
        "desk",
        "op2",
        "cd ~/infra && git pull -q --ff-only origin main",
    );
    let mut first = lab.spawn_nixgate("op", &["release", "cortex"]);
    first.wait_for_stderr("\nvalidate\n", 90 * SECOND);
    let b = lab.running_system("cortex");
    let out = lab.nixgate_as("op2", &["release", "cortex"]);
    assert_eq!(out.status, 6, "{out}");
    let commit = must(&lab, "desk", "op", "cat /tmp/first");
    says(
        &out,
        &[
            "cortex is held by another run",
            "The Operator (op)",
            " since ",
            &commit,
        ],
    );
    // The answer did not wait for the first run's end.
    assert!(first.is_running(), "{}", first.stderr_so_far());
    let done = first.wait(90 * SECOND).expect("an end");
    assert_eq!(done.status, 0, "{done}");
    assert_eq!(lab.running_system("cortex"), b);
    assert_eq!(switches(&lab, "cortex").len(), 1);
}

#[test]
fn exit_7_waits_for_a_reboot_and_resume_marks_it() {
    // Only the start of its first process says that a container has rebooted.
    let lab = Lab::up_as_containers("exit-7", &HOSTS);
    configure(&lab, CONFIG);
    let boot_id = || must(&lab, "cortex", "root", "cat /proc/sys/kernel/random/boot_id");
    let kernels = boot_id();
    let a = lab.running_system("cortex");
    lab.variant("cortex", "B100");
    expect(&lab, 1, &["release", "cortex"]);
    let out = expect(&lab, 7, &["release", "cortex", "--boot"]);
    says(&out, &["git nixgate resume cortex"]);
    assert_eq!(lab.running_system("cortex"), a, "nothing was switched");
    assert!(!refs(&lab).contains("refs/tags"), "not known-good yet");
    let state = host_state(&lab, "cortex");
    assert!(state.contains("\nsystem-2-link\n"), "{state}");
    assert!(
        !state.contains("nixgate-20"),
        "nothing of ours waits there: {state}"
    );

    let out = expect(&lab, 7, &["resume", "cortex"]);
    says(&out, &["cortex has not rebooted yet"]);

    lab.reboot("cortex");
    assert_eq!(boot_id(), kernels);
    assert_ne!(lab.running_system("cortex"), a);
    let out = expect(&lab, 0, &["resume", "cortex"]);
    let name = out.text().lines().last().expect("a name").to_owned();
    assert_eq!(
        refs(&lab).matches(&format!("refs/tags/{name} ")).count(),
        2,
        "here and there"
    );
    expect(&lab, 0, &["verify", "cortex"]);
    expect(&lab, 0, &["health", "cortex"]);
    let out = expect(&lab, 0, &["resume", "cortex"]);
    says(&out, &["no run is unfinished"]);
}

#[test]
fn exit_7_a_host_that_booted_something_else_is_not_marked() {
    let lab = usual("exit-7b");
    let a = lab.running_system("cortex");
    lab.variant("cortex", "Binhibit");
    expect(&lab, 7, &["release", "cortex", "--boot"]);
    must(
        &lab,
        "cortex",
        "root",
        &format!("{a}/bin/switch-to-configuration boot"),
    );
    lab.reboot("cortex");
    let out = expect(&lab, 5, &["resume", "cortex"]);
    says(&out, &["cortex booted ", &a]);
    assert!(!refs(&lab).contains("refs/tags"), "{out}");
}

#[test]
fn exit_8_proven_and_not_published() {
    let lab = usual("exit-8");
    lab.variant("cortex", "B");
    let before = snapshot(&lab, "cortex");
    must(&lab, "git", "root", "systemctl stop sshd");
    let out = expect(&lab, 1, &["release", "cortex"]);
    says(&out, &["git nixgate release cortex --offline"]);
    let out = expect(&lab, 8, &["release", "cortex", "--offline"]);
    says(&out, &["git nixgate publish cortex"]);
    must(&lab, "git", "root", "systemctl start sshd");
    assert_ne!(snapshot(&lab, "cortex"), before);
    let waiting = refs(&lab);
    let (here, there) = waiting.split_once("---\n").expect("two sides");
    assert!(here.contains("refs/nixgate/pending/cortex/"), "{waiting}");
    assert!(!there.contains("cortex"), "{waiting}");
    let record = here
        .lines()
        .find_map(|line| line.strip_prefix("refs/nixgate/pending/cortex/1 "))
        .expect("the record's object")
        .to_owned();

    let switched = switches(&lab, "cortex").len();
    let out = expect(&lab, 0, &["publish", "cortex"]);
    let name = out.text().lines().last().expect("a name").to_owned();
    let published = refs(&lab);
    assert!(!published.contains("refs/nixgate/pending"), "{published}");
    // The same object as before, on both sides.
    let line = format!("refs/tags/{name} {record}\n");
    assert_eq!(published.matches(&line).count(), 2, "{published}");
    assert_eq!(switches(&lab, "cortex").len(), switched);
    expect(&lab, 0, &["verify", "cortex"]);
}
