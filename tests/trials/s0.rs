//! S0: three-stage deploy safety.

use std::time::Duration;

use crate::broken::{Snapshot, checks, commit, gates, must, says, snapshot, switches, with};
use crate::infra::{configure, expect, usual, with_config};
use crate::lab::{Lab, Output};

/// Makes a host one of another distribution, to whoever asks as switch-to-configuration does: by the file or by the id.
pub const OTHER_SYSTEM: &str = "mv /etc/NIXOS /etc/NIXOS.away && mv /etc/os-release /etc/os-release.away && \
    echo ID=debian >/etc/os-release";
pub const NIXOS_AGAIN: &str = "mv /etc/NIXOS.away /etc/NIXOS && mv -f /etc/os-release.away /etc/os-release";
pub const SECOND: Duration = Duration::from_secs(1);
pub const HOSTS: [&str; 4] = ["desk", "forge", "git", "cortex"];

/// A run that ends with `exit` and leaves host and refs as they were.
#[track_caller]
pub fn clean(lab: &Lab, exit: i32, args: &[&str], before: &Snapshot) -> Output {
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

    must(&lab, "cortex", "root", OTHER_SYSTEM);
    lab.variant("cortex", "B");
    let out = clean(&lab, 1, &["release", "cortex"], &before);
    assert_eq!(gates(&out), ["preflight"], "{out}");
    must(&lab, "cortex", "root", NIXOS_AGAIN);

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
        &format!("systemctl start sshd; {OTHER_SYSTEM}"),
    );
    clean(&lab, 1, &["check", "cortex"], &before);
    must(
        &lab,
        "cortex",
        "root",
        &format!("{NIXOS_AGAIN}; systemctl kill -s KILL worker"),
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
