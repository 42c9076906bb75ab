//! The server's two hooks as git calls them: pushes spoken by hand, git's own housekeeping, time and signers.

use std::process::{Command, Stdio};

use git_nixgate::command::hook::{self, Installed};
use git_nixgate::record::Draft;

use crate::support::raw::{self, Raw, ZERO};
use crate::support::*;
use crate::{Hooked, LEDGER, POINTER};

impl Hooked {
    /// What the server said to commands that are spoken by hand.
    fn spoken(&self, commands: &[Raw], atomic: bool) -> (String, String) {
        let new: Vec<String> = commands
            .iter()
            .map(|c| c.new.clone())
            .filter(|new| new != ZERO)
            .collect();
        let pack = raw::pack(&self.ada.path, &new);
        let answer = raw::receive(&self.hub.path, &self.lab.program().1, commands, atomic, &pack);
        (answer.report, answer.said)
    }

    fn guarded(&self) -> String {
        self.hub.git(&[
            "for-each-ref",
            "refs/heads/release",
            "refs/tags/release",
            "refs/nixgate",
        ])
    }

    /// The three refs of a record that is only in ada's clone.
    fn whole(&self, made: &Made) -> Vec<Raw> {
        vec![
            Raw::new(ZERO, made.oid, made.name.ref_name()),
            Raw::new(self.hub.oid(LEDGER), made.oid, LEDGER),
            Raw::new(self.hub.oid(POINTER), made.commit, POINTER),
        ]
    }

    /// A record as `change` has it, behind what ada has; the three refs of it.
    fn drafted(&self, change: impl Fn(&mut Draft)) -> Vec<Raw> {
        let repo = self.ada.repo();
        let before = self.ada.ledger(&self.cortex);
        let mut draft = draft(
            &repo,
            &self.cortex,
            before.as_ref(),
            What::Release(self.ada.oid("HEAD")),
        );
        change(&mut draft);
        let oid = repo.write_tag(&repo.sign(&draft.payload()).unwrap()).unwrap();
        vec![
            Raw::new(ZERO, oid, draft.name().ref_name()),
            Raw::new(self.hub.oid(LEDGER), oid, LEDGER),
            Raw::new(self.hub.oid(POINTER), draft.commit, POINTER),
        ]
    }
}

#[test]
fn k1_what_stands_there_is_read_and_not_believed() {
    let h = Hooked::server("sha1");
    let first = h.ada.ledger(&h.cortex).unwrap().head().clone();
    let second = h.local_release(&h.ada, "second");
    let before = h.guarded();
    for atomic in [false, true] {
        for (commands, rule) in [
            (vec![Raw::new(ZERO, ZERO, LEDGER)], "ledger-deleted"),
            (vec![Raw::new(ZERO, ZERO, POINTER)], "pointer-deleted"),
            (
                vec![Raw::new(ZERO, ZERO, first.name.ref_name())],
                "record-deleted",
            ),
            (vec![Raw::new(ZERO, second.oid, LEDGER)], "stale"),
            (vec![Raw::new(second.commit, second.commit, POINTER)], "stale"),
            (
                vec![
                    Raw::new(first.oid, second.oid, LEDGER),
                    Raw::new(first.oid, first.oid, LEDGER),
                ],
                "twice",
            ),
        ] {
            let (_, said) = h.spoken(&commands, atomic);
            assert!(said.contains(&format!("({rule})")), "{commands:?}: {said}");
            assert_eq!(h.guarded(), before, "{commands:?}");
        }
    }
    // The same refs, as they are.
    let (report, said) = h.spoken(&h.whole(&second), true);
    assert!(report.contains(&format!("ok {LEDGER}")), "{report}{said}");
}

#[test]
fn k2_what_lands_ref_by_ref_is_judged_part_by_part() {
    let h = Hooked::server("sha1");
    let second = h.local_release(&h.ada, "second");
    let whole = h.whole(&second);
    let before = h.guarded();
    // A good push that is not atomic: whatever comes first lacks the others.
    for at in 0..whole.len() {
        let mut commands = whole.clone();
        commands.rotate_left(at);
        let (_, said) = h.spoken(&commands, false);
        assert!(said.contains("git push --atomic"), "{said}");
        assert_eq!(h.guarded(), before, "{commands:?}");
    }
    // Git leaves out what may not be seen, after pre-receive took it with the rest.
    h.hub.git(&["config", "receive.hideRefs", "refs/tags"]);
    let (report, said) = h.spoken(&whole, false);
    assert!(said.contains("(tag-missing)"), "{report}{said}");
    assert_eq!(h.guarded(), before);
    h.hub.git(&["config", "--unset", "receive.hideRefs"]);
    // Other refs of such a push land as ever, and the hook is there for more than a push.
    let (report, _) = h.spoken(&[Raw::new(ZERO, second.commit, "refs/heads/x")], false);
    assert!(report.contains("ok refs/heads/x"), "{report}");
    let by_hand = |args: &[&str]| {
        git_command(&h.hub.path)
            .env("PATH", h.lab.program().1)
            .args(args)
            .output()
            .unwrap()
    };
    assert!(!by_hand(&["update-ref", "-d", LEDGER]).status.success());
    assert!(
        !by_hand(&["update-ref", POINTER, &h.hub.oid("refs/heads/x").to_string()])
            .status
            .success()
    );
    assert!(
        !by_hand(&["symbolic-ref", "refs/heads/release/orion", "refs/heads/x"])
            .status
            .success()
            || !h.hub.has_ref("refs/heads/release/orion")
    );
    assert!(
        by_hand(&["symbolic-ref", "HEAD", "refs/heads/x"])
            .status
            .success()
    );
    assert_eq!(h.guarded(), before);
}

/// Git calls the hook for its own housekeeping, as if refs came and went.
#[test]
fn k2_git_may_tidy_up_and_be_fetched_from() {
    let h = Hooked::server("sha1");
    let second = h.local_release(&h.ada, "second");
    h.passes(
        &h.ada.path,
        &["--atomic", "origin", &second.name.ref_name(), LEDGER, POINTER],
    );
    let before = h.hub.git(&["for-each-ref"]);
    let by_hand = |dir: &std::path::Path, args: &[&str]| {
        let output = git_command(dir)
            .env("PATH", h.lab.program().1)
            .args(args)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{args:?}: {said}");
    };
    for args in [
        &["pack-refs", "--all"][..],
        &["gc", "-q", "--prune=now"],
        &["pack-refs", "--all", "--no-prune"],
        &["reflog", "expire", "--all"],
    ] {
        by_hand(&h.hub.path, args);
        assert_eq!(h.hub.git(&["for-each-ref"]), before, "{args:?}");
    }
    assert!(!h.hub.path.join(LEDGER).exists(), "it was packed");
    // Deleted from there it is deleted all the same.
    h.refused(&h.ada.path, &["origin", &format!(":{LEDGER}")], "ledger-deleted");
    let gone = git_command(&h.hub.path)
        .env("PATH", h.lab.program().1)
        .args(["update-ref", "-d", LEDGER])
        .output()
        .unwrap();
    assert!(!gone.status.success());
    assert_eq!(h.hub.git(&["for-each-ref"]), before);
    let third = h.local_release(&h.ada, "third");
    h.passes(
        &h.ada.path,
        &["--atomic", "origin", &third.name.ref_name(), LEDGER, POINTER],
    );
    // Fetched from, and fetched into: there in one transaction.
    by_hand(
        h.lab.path("").as_path(),
        &[
            "clone",
            "-q",
            "--mirror",
            h.hub.path.to_str().unwrap(),
            "mirror.git",
        ],
    );
    let mirror = Work {
        path: h.lab.path("mirror.git"),
    };
    hook::install(&mirror.repo(), true).unwrap();
    let fourth = h.local_release(&h.ada, "fourth");
    h.passes(
        &h.ada.path,
        &["--atomic", "origin", &fourth.name.ref_name(), LEDGER, POINTER],
    );
    by_hand(&mirror.path, &["fetch", "-q", "--atomic"]);
    assert_eq!(mirror.oid(LEDGER), fourth.oid);
}

#[test]
fn k10_what_is_in_the_way_may_go() {
    let h = Hooked::server("sha1");
    let on_server = |args: &[&str]| h.hub.git(&[&["-c", "core.hooksPath=/dev/null"], args].concat());
    let head = h.hub.oid("refs/heads/main").to_string();
    for name in [
        "refs/tags/release/cortex/junk",
        "refs/heads/release/1.2",
        "refs/nixgate/ledger/a_b",
    ] {
        h.refused(&h.ada.path, &["origin", &format!("HEAD:{name}")], "name");
        on_server(&["update-ref", name, &head]);
        h.passes(&h.ada.path, &["origin", &format!(":{name}")]);
        assert!(!h.hub.has_ref(name));
    }
}

#[test]
fn k7_a_record_of_a_time_to_come_is_refused() {
    let h = Hooked::server("sha1");
    h.ada.commit("second");
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    for (time, taken) in [
        ("99991231T235959Z".parse().unwrap(), false),
        (utc(now + 3600), false),
        (utc(now + 120), true),
    ] {
        let push = h.drafted(|draft| draft.time = time);
        let (report, said) = h.spoken(&push, true);
        assert_eq!(
            report.contains(&format!("ok {LEDGER}")),
            taken,
            "{time}: {report}{said}"
        );
        assert_eq!(said.contains("(future)"), !taken, "{time}: {said}");
    }
}

/// A key that was good when the record says that it was made, and is none any more.
#[test]
fn k9_who_may_not_sign_any_more_signs_nothing_by_dating_it_back() {
    let h = Hooked::server("sha1");
    let (key, public) = ssh_key(&h.lab, "key");
    h.ada.signs_with(&key);
    let signers = h.lab.path("signers");
    let until = |valid: &str| {
        let line = format!("ops@example.org namespaces=\"git\"{valid} {public}");
        std::fs::write(&signers, line).unwrap();
    };
    for (name, value) in [
        ("nixgate.requireSigned", "true"),
        ("nixgate.signers", signers.to_str().unwrap()),
    ] {
        h.hub.git(&["config", name, value]);
    }
    let second = h.local_release(&h.ada, "second");
    let before = h.guarded();
    // The record is of 2026-11-20.
    until(",valid-before=\"20261121\"");
    let (_, said) = h.spoken(&h.whole(&second), true);
    assert!(
        said.contains("(signature)") && said.contains("not sign any more"),
        "{said}"
    );
    assert_eq!(h.guarded(), before);
    until("");
    let (report, said) = h.spoken(&h.whole(&second), true);
    assert!(report.contains(&format!("ok {LEDGER}")), "{report}{said}");
    // What is there stays good when its signer leaves.
    until(",valid-before=\"20261121\"");
    let (report, said) = h.spoken(&[Raw::new(second.oid, second.oid, LEDGER)], true);
    assert!(!said.contains("(signature)"), "{report}{said}");
}

/// What a stranger can make of a few kilobytes.
#[test]
fn k11_what_is_larger_than_a_record_is_not_read() {
    let h = Hooked::server("sha1");
    h.ada.commit("second");
    let mut push = Vec::new();
    let mut before = h.ada.repo().record(&h.hub.oid(LEDGER), None).unwrap().link();
    for seq in 2..102_u32 {
        let repo = h.ada.repo();
        let ledger = h.ada.ledger(&h.cortex);
        let mut draft = draft(
            &repo,
            &h.cortex,
            ledger.as_ref(),
            What::Release(h.ada.oid("HEAD")),
        );
        (draft.seq, draft.previous) = (u64::from(seq), Some(before.clone()));
        draft.time = utc(NOON + i64::from(seq));
        let text = String::from_utf8(draft.payload()).unwrap();
        let raw = text.replacen("built by", &"long ".repeat(200_000), 1);
        let oid = repo.write_tag(raw.as_bytes()).unwrap();
        before = git_nixgate::record::Link {
            oid,
            sha256: git_nixgate::record::sha256_hex(raw.as_bytes()),
            name: draft.name(),
        };
        push.push(Raw::new(ZERO, oid, draft.name().ref_name()));
    }
    push.push(Raw::new(h.hub.oid(LEDGER), before.oid, LEDGER));
    let new: Vec<String> = push.iter().map(|command| command.new.clone()).collect();
    let pack = raw::pack(&h.ada.path, &new);
    assert!(pack.len() < 1_000_000, "{}", pack.len());
    let mut server = raw::server(&h.hub.path, &h.lab.program().1);
    let answer = raw::receive_with(server.env("NIXGATE_COUNTS", "1"), &push, true, &pack);
    assert!(answer.said.contains("(size)"), "{}", answer.said);
    let peak = answer.said.lines().find_map(|line| line.strip_prefix("counts: "));
    let peak = peak.and_then(|line| line.split("peak ").nth(1)).unwrap();
    let kib: u64 = peak.split(' ').next().unwrap().parse().unwrap();
    // 100 MiB of prose; the program itself takes some twenty.
    assert!(kib < 60 << 10, "{peak}");
}

#[test]
fn g2_a_program_that_is_on_no_path_is_found_by_its_hooks() {
    let h = Hooked::new("sha1");
    let store = h.lab.path("a store");
    std::fs::create_dir(&store).unwrap();
    let program = store.join("git-nixgate");
    std::fs::copy(env!("CARGO_BIN_EXE_git-nixgate"), &program).unwrap();
    std::fs::write(h.ada.path.join(".nixgate.toml"), "version = 1\n[target.cortex]\n").unwrap();
    let run = |at: &std::path::Path, dir: &Work, args: &[&str]| {
        let mut command = Command::new(at);
        let git = git_command(&dir.path);
        command.envs(git.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let output = command.current_dir(&dir.path).args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let push = |variables: &[(&str, &str)], spec: &str| {
        let output = git_command(&h.ada.path)
            .envs(variables.iter().copied())
            .args(["push", "origin", spec])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let on_path = Command::new("sh")
        .args(["-c", "command -v git-nixgate"])
        .output()
        .unwrap();
    assert!(
        !on_path.status.success(),
        "the test needs a PATH without the program"
    );

    // The client's: our own push, and one by hand.
    assert_eq!(run(&program, &h.ada, &["hook", "install"]).0, Some(0));
    h.local_release(&h.ada, "second");
    let (exit, said) = run(&program, &h.ada, &["publish", "cortex"]);
    assert_eq!(exit, Some(0), "{said}");
    assert_eq!(h.hub.oid(LEDGER), h.ada.oid(LEDGER));
    let (pushed, said) = push(&[], &format!(":{POINTER}"));
    assert!(!pushed && said.contains("(pointer-deleted)"), "{said}");

    // It is collected: what was recorded is gone, and another one runs.
    let other = h.lab.path("other");
    std::fs::rename(&program, &other).unwrap();
    h.local_release(&h.ada, "third");
    let (exit, said) = run(&other, &h.ada, &["publish", "cortex"]);
    assert_eq!(exit, Some(0), "{said}");
    let (pushed, said) = push(&[], &format!(":{POINTER}"));
    assert!(
        !pushed && said.contains("nor at ") && said.contains("hook install"),
        "{said}"
    );
    assert!(push(&[], "HEAD:refs/heads/x").0);

    // The server's: what a client says is not believed.
    std::fs::remove_file(h.ada.path.join(".git/hooks/pre-push")).unwrap();
    std::fs::rename(&other, &program).unwrap();
    assert_eq!(run(&program, &h.hub, &["hook", "install", "--server"]).0, Some(0));
    let before = h.guarded();
    let (pushed, said) = push(&[("NIXGATE_PROGRAM", "/bin/true")], &format!(":{POINTER}"));
    assert!(!pushed && said.contains("(pointer-deleted)"), "{said}");
    std::fs::remove_file(h.hub.path.join("hooks/pre-receive")).unwrap();
    let (pushed, said) = push(&[("NIXGATE_PROGRAM", "/bin/true")], &format!(":{POINTER}"));
    assert!(!pushed && said.contains("(pointer-deleted)"), "{said}");
    std::fs::remove_file(&program).unwrap();
    let (pushed, said) = push(&[("NIXGATE_PROGRAM", "/bin/true")], &format!(":{POINTER}"));
    assert!(!pushed && said.contains("nor at "), "{said}");
    assert_eq!(h.guarded(), before);
}

#[test]
fn both_hooks_are_installed_where_they_belong_and_others_are_left() {
    let h = Hooked::new("sha1");
    let both = hook::install(&h.hub.repo(), true).unwrap();
    assert!(
        matches!(&both[..], [Installed::New { .. }, Installed::New { .. }]),
        "{both:?}"
    );
    let again = hook::install(&h.hub.repo(), true).unwrap();
    assert!(
        matches!(&again[..], [Installed::Already { .. }, Installed::Already { .. }]),
        "{again:?}"
    );
    // Somebody's own, called after ours in each of git's states.
    let path = h.hub.path.join("hooks/reference-transaction");
    let seen = h.lab.path("seen");
    write_script(
        &path,
        &format!("#!/bin/sh\necho \"$1\" >>{0}\ncat >>{0}\n", seen.display()),
    );
    let foreign = hook::install(&h.hub.repo(), true).unwrap();
    let [Installed::Already { .. }, Installed::Foreign { by_hand, .. }] = &foreign[..] else {
        panic!("{foreign:?}")
    };
    let line = by_hand[0]
        .split_once(": ")
        .unwrap()
        .1
        .split(" && ")
        .next()
        .unwrap();
    assert!(Command::new("sh").args(["-c", line]).status().unwrap().success());
    hook::install(&h.hub.repo(), true).unwrap();
    let head = h.ada.oid("HEAD");
    h.passes(&h.ada.path, &["origin", "HEAD:refs/heads/x"]);
    let line = format!("{ZERO} {head} refs/heads/x\n");
    assert_eq!(
        std::fs::read_to_string(&seen).unwrap(),
        format!("prepared\n{line}committed\n{line}")
    );
    std::fs::remove_file(&seen).unwrap();
    std::fs::remove_file(h.hub.path.join("hooks/pre-receive")).unwrap();
    h.refused(
        &h.ada.path,
        &["origin", &format!(":{POINTER}")],
        "pointer-deleted",
    );
    let seen = std::fs::read_to_string(&seen).unwrap_or_default();
    assert!(!seen.contains("prepared"), "ours says no first: {seen}");
    // With a work tree git fetches what belongs together ref by ref.
    let work = hook::install(&h.ada.repo(), true).unwrap();
    assert!(
        matches!(&work[..], [Installed::New { .. }, Installed::LeftOut { .. }]),
        "{work:?}"
    );
}
