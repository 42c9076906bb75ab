//! Records and a remote: races, forks, lost answers, dead remotes, fresh clones, hostile configuration.

mod support;

use git_nixgate::failure::Exit;
use git_nixgate::git::{PushError, Relation, Which};
use support::*;

#[test]
fn two_operators_race_and_exactly_one_wins() {
    for format in ["sha1", "sha256"] {
        let lab = Lab::new();
        let (hub, ada, bob) = lab.two_clones(format);
        let cortex = target("cortex");
        let expected = state(&ada, &cortex);
        assert_eq!(expected, state(&bob, &cortex));
        bob.commit("bob's");
        let (a, b) = (
            ada.make(&cortex, What::Release(ada.oid("HEAD"))),
            bob.make(&cortex, What::Release(bob.oid("HEAD"))),
        );
        ada.repo().set_pending(&cortex, 1, &a.oid).unwrap();
        bob.repo().set_pending(&cortex, 1, &b.oid).unwrap();
        wait(ada.repo().publish("origin", &cortex, &a.set(), &expected)).unwrap();
        ada.repo()
            .commit_local(&cortex, &a.name, &a.oid, a.pointer(), Some("origin"), false)
            .unwrap();
        let lost = wait(bob.repo().publish("origin", &cortex, &b.set(), &expected)).unwrap_err();
        let PushError::Race { who, when, record } = &lost else {
            panic!("{lost:?}")
        };
        assert_eq!(who, "Ada <ops@example.org>");
        assert_eq!(record.as_ref(), Some(&a.name));
        assert_eq!(*when, Some(a.name.utc));
        bob.repo().drop_pending(&cortex, 1).unwrap();
        // The loser left nothing behind, there or here.
        assert!(!hub.has_ref(&b.name.ref_name()) && !bob.has_ref(&b.name.ref_name()));
        assert!(!bob.has_ref("refs/nixgate/ledger/cortex") && !bob.has_ref("refs/heads/release/cortex"));
        assert!(
            bob.repo().pending(&cortex).unwrap().is_empty()
                && ada.repo().pending(&cortex).unwrap().is_empty()
        );
        assert_eq!(hub.oid("refs/nixgate/ledger/cortex"), a.oid);
        assert_eq!(hub.oid("refs/heads/release/cortex"), a.commit);
        assert_eq!(ada.repo().relation(&cortex, "origin").unwrap(), Relation::Same);
        assert_eq!(
            bob.repo().relation(&cortex, "origin").unwrap(),
            Relation::RemoteAhead
        );
        // And goes on from there.
        bob.repo().take_remote_ledger(&cortex, "origin").unwrap();
        let next = bob.make(&cortex, What::Release(bob.oid("HEAD")));
        assert_eq!(next.seq, 2);
        let expected = state(&bob, &cortex);
        wait(bob.repo().publish("origin", &cortex, &next.set(), &expected)).unwrap();
        assert_eq!(hub.git(&["fsck", "--strict", "--no-dangling"]), "");
    }
}

#[test]
fn many_operators_at_once_and_exactly_one_wins() {
    let lab = Lab::new();
    let hub = lab.bare("hub.git", "sha1");
    let seed = lab.repo("seed");
    seed.git(&["push", "-q", hub.path.to_str().unwrap(), "main"]);
    let cortex = target("cortex");
    let sets: Vec<_> = (0..6)
        .map(|n| {
            let work = lab.clone(&hub, &format!("op{n}"));
            work.git(&["config", "user.name", &format!("Op {n}")]);
            let commit = work.commit(&format!("change {n}"));
            let made = work.make(&cortex, What::Release(commit));
            let expected = state(&work, &cortex);
            (work, made, expected)
        })
        .collect();
    let results: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = sets
            .iter()
            .map(|(work, made, expected)| {
                let cortex = &cortex;
                scope.spawn(move || wait(work.repo().publish("origin", cortex, &made.set(), expected)))
            })
            .collect();
        running.into_iter().map(|r| r.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1, "{results:?}");
    let winner = results.iter().position(Result::is_ok).unwrap();
    for result in results.iter().filter(|r| r.is_err()) {
        let Err(PushError::Race { who, .. }) = result else {
            panic!("{result:?}")
        };
        assert_eq!(*who, format!("Op {winner} <ops@example.org>"));
    }
    let tags = hub.git(&["for-each-ref", "--format=%(refname)", "refs/tags"]);
    assert_eq!(tags, sets[winner].1.name.ref_name());
}

#[test]
fn an_answer_that_was_lost_is_no_failure() {
    let lab = Lab::new();
    let (_, ada, _) = lab.two_clones("sha1");
    let cortex = target("cortex");
    let expected = state(&ada, &cortex);
    let made = ada.make(&cortex, What::Release(ada.oid("HEAD")));
    wait(ada.repo().publish("origin", &cortex, &made.set(), &expected)).unwrap();
    // The same object again, against what was known before the answer got lost.
    wait(ada.repo().publish("origin", &cortex, &made.set(), &expected)).unwrap();
    let now = state(&ada, &cortex);
    wait(ada.repo().publish("origin", &cortex, &made.set(), &now)).unwrap();
}

#[test]
fn a_dead_remote_ends_with_8_and_publish_repeats_the_same_object() {
    let lab = Lab::new();
    let (hub, ada, _) = lab.two_clones("sha1");
    let cortex = target("cortex");
    let expected = state(&ada, &cortex);
    let made = ada.make(&cortex, What::Release(ada.oid("HEAD")));
    ada.repo().set_pending(&cortex, 1, &made.oid).unwrap();
    let away = lab.path("away.git");
    std::fs::rename(&hub.path, &away).unwrap();
    let error = wait(ada.repo().publish("origin", &cortex, &made.set(), &expected)).unwrap_err();
    assert!(matches!(error, PushError::Unreachable(_)), "{error:?}");
    let failure = error.failure("origin", &cortex);
    assert_eq!(failure.exit, Exit::Unpublished);
    assert_eq!(failure.next, ["git nixgate publish cortex"]);
    ada.repo()
        .commit_local(&cortex, &made.name, &made.oid, made.pointer(), None, true)
        .unwrap();
    // Offline goes on: a rollback on top of it.
    ada.commit("second");
    let second = ada.release(&cortex);
    assert_eq!(ada.repo().pending(&cortex).unwrap().len(), 1);
    ada.git(&["gc", "-q", "--prune=now"]);
    std::fs::rename(&away, &hub.path).unwrap();
    let fetched = wait(ada.repo().fetch("origin", &cortex)).unwrap();
    assert_eq!(fetched.relation, Relation::Unpublished(2));
    ada.repo().set_pending(&cortex, 2, &second.oid).unwrap();
    let set = ada.repo().unpublished(&cortex, &fetched.refs).unwrap().unwrap();
    assert_eq!(
        set.records,
        [(made.name, made.oid), (second.name.clone(), second.oid)]
    );
    wait(ada.repo().publish("origin", &cortex, &set, &fetched.refs)).unwrap();
    ada.repo()
        .commit_set(&cortex, &set, Some("origin"), false)
        .unwrap();
    assert!(ada.repo().pending(&cortex).unwrap().is_empty());
    let back = ada
        .repo()
        .commit_local(&cortex, &set.records[0].0, &set.records[0].1, None, None, false)
        .unwrap_err();
    assert_eq!(back.exit, Exit::Refused, "the ledger never goes back");
    let fetched = wait(ada.repo().fetch("origin", &cortex)).unwrap();
    assert_eq!(fetched.relation, Relation::Same);
    assert_eq!(ada.repo().unpublished(&cortex, &fetched.refs).unwrap(), None);
}

#[test]
fn a_fork_is_refused_by_name() {
    let lab = Lab::new();
    let (_, ada, bob) = lab.two_clones("sha1");
    let cortex = target("cortex");
    let expected = state(&ada, &cortex);
    let made = ada.release(&cortex);
    wait(ada.repo().publish("origin", &cortex, &made.set(), &expected)).unwrap();
    bob.commit("bob's");
    let own = bob.release(&cortex);
    let fetched = wait(bob.repo().fetch("origin", &cortex)).unwrap();
    assert_eq!(fetched.relation, Relation::Fork);
    let failure = bob.repo().refuse_fork(&cortex, "origin").unwrap_err();
    assert_eq!(failure.exit, Exit::Refused);
    assert!(
        failure.why[0].contains(&own.name.to_string()) && failure.why[0].contains("Bob"),
        "{failure:?}"
    );
    assert!(
        failure.why[1].contains(&made.name.to_string()) && failure.why[1].contains("Ada"),
        "{failure:?}"
    );
    let way_out = failure.next.last().unwrap();
    assert!(
        way_out.starts_with("git nixgate publish cortex --take-theirs"),
        "{way_out}"
    );
    let lost = bob.repo().take_theirs(&cortex, "origin").unwrap();
    assert_eq!(lost, std::slice::from_ref(&own.name));
    assert!(!bob.has_ref(&own.name.ref_name()));
    assert_eq!(bob.oid("refs/nixgate/ledger/cortex"), made.oid);
    assert!(bob.repo().take_theirs(&cortex, "origin").unwrap().is_empty());
}

#[test]
fn a_fresh_clone_without_init_has_the_records_and_reads_them() {
    let lab = Lab::new();
    let (hub, ada, _) = lab.two_clones("sha1");
    let cortex = target("cortex");
    for n in 0..3 {
        ada.commit(&format!("change {n}"));
        let fetched = wait(ada.repo().fetch("origin", &cortex)).unwrap();
        let made = ada.make(&cortex, What::Release(ada.oid("HEAD")));
        wait(ada.repo().publish("origin", &cortex, &made.set(), &fetched.refs)).unwrap();
        ada.repo()
            .commit_local(
                &cortex,
                &made.name,
                &made.oid,
                made.pointer(),
                Some("origin"),
                false,
            )
            .unwrap();
    }
    let fresh = lab.clone(&hub, "fresh");
    let repo = fresh.repo();
    assert_eq!(repo.targets().unwrap(), std::slice::from_ref(&cortex));
    assert_eq!(repo.best(&cortex, Some("origin")).unwrap(), Which::Tags);
    let ledger = repo.ledger(&cortex, Which::Tags).unwrap().unwrap();
    assert_eq!(ledger.records().len(), 3);
    assert!(repo.tag_defects(&ledger).unwrap().is_empty());
    ledger.rollback_choice(None).unwrap();
    ledger.deploy_choice("before-first").unwrap_err();
    // With the remote: its ledger, tracked beside.
    let fetched = wait(repo.fetch("origin", &cortex)).unwrap();
    assert_eq!(fetched.relation, Relation::RemoteAhead);
    assert_eq!(
        repo.best(&cortex, Some("origin")).unwrap(),
        Which::Remote("origin")
    );
    repo.take_remote_ledger(&cortex, "origin").unwrap();
    assert_eq!(repo.relation(&cortex, "origin").unwrap(), Relation::Same);
    assert_eq!(repo.init_refspecs("origin").unwrap().len(), 1);
    assert!(repo.init_refspecs("origin").unwrap().is_empty());
    fresh.git(&["fetch", "-q"]);
}

#[test]
fn the_remotes_state_names_what_is_in_the_way() {
    let lab = Lab::new();
    let (hub, ada, _) = lab.two_clones("sha1");
    let cortex = target("cortex");
    let head = ada.oid("HEAD");
    assert!(state(&ada, &cortex).blocking.is_empty());
    hub.git(&["update-ref", "refs/heads/release", &head.to_string()]);
    assert_eq!(state(&ada, &cortex).blocking, ["refs/heads/release"]);
    hub.git(&["update-ref", "-d", "refs/heads/release"]);
    hub.git(&["update-ref", "refs/heads/release/cortex/x", &head.to_string()]);
    hub.git(&["update-ref", "refs/tags/release/cortex/x", &head.to_string()]);
    hub.git(&[
        "update-ref",
        "refs/tags/other/refs/heads/release",
        &head.to_string(),
    ]);
    let found = state(&ada, &cortex);
    assert_eq!(found.blocking, ["refs/heads/release/cortex/x"]);
    assert_eq!(found.strange, ["refs/tags/release/cortex/x"]);
    wait(ada.repo().push_probe("origin", &cortex, &head)).unwrap();
    assert!(!hub.has_ref("refs/nixgate/probe/cortex"));
}

#[test]
fn a_record_with_other_content_on_the_remote_is_refused() {
    let lab = Lab::new();
    let (hub, ada, bob) = lab.two_clones("sha1");
    let cortex = target("cortex");
    let expected = state(&ada, &cortex);
    let made = ada.release(&cortex);
    wait(ada.repo().publish("origin", &cortex, &made.set(), &expected)).unwrap();
    wait(bob.repo().fetch("origin", &cortex)).unwrap();
    hub.git(&["update-ref", &made.name.ref_name(), &ada.oid("HEAD").to_string()]);
    let failure = wait(bob.repo().fetch("origin", &cortex)).unwrap_err();
    assert_eq!(failure.exit, Exit::Refused);
    assert!(failure.what.contains("other content"), "{failure:?}");
}

#[test]
fn a_crash_between_push_and_local_refs_is_settled() {
    let lab = Lab::new();
    let (_, ada, _) = lab.two_clones("sha1");
    let (repo, cortex) = (ada.repo(), target("cortex"));
    let expected = state(&ada, &cortex);
    let made = ada.make(&cortex, What::Release(ada.oid("HEAD")));
    repo.set_pending(&cortex, 1, &made.oid).unwrap();
    assert!(
        repo.settle(&cortex, "origin", &expected).unwrap().is_empty(),
        "not pushed: still pending"
    );
    wait(repo.publish("origin", &cortex, &made.set(), &expected)).unwrap();
    // Here the operator's machine dies. The next run fetches first.
    let fetched = wait(repo.fetch("origin", &cortex)).unwrap();
    assert_eq!(
        repo.settle(&cortex, "origin", &fetched.refs).unwrap(),
        std::slice::from_ref(&made.name)
    );
    assert!(repo.pending(&cortex).unwrap().is_empty());
    assert_eq!(ada.oid("refs/nixgate/ledger/cortex"), made.oid);
    assert_eq!(ada.oid("refs/heads/release/cortex"), made.commit);
    assert_eq!(repo.relation(&cortex, "origin").unwrap(), Relation::Same);
}

#[test]
fn no_configuration_changes_what_is_asked_for() {
    let lab = Lab::new();
    let (hub, ada, _) = lab.two_clones("sha1");
    let cortex = target("cortex");
    ada.git(&["tag", "-a", "-m", "own", "own"]);
    let trap = lab.path("trap");
    let program = lab.path("trap.sh");
    std::fs::write(&program, format!("#!/bin/sh\ntouch {}\nexit 1\n", trap.display())).unwrap();
    std::process::Command::new("chmod")
        .arg("755")
        .arg(&program)
        .status()
        .unwrap();
    let program = program.to_str().unwrap();
    for (key, value) in [
        ("push.followTags", "true"),
        ("push.gpgSign", "true"),
        ("push.default", "nothing"),
        ("push.recurseSubmodules", "on-demand"),
        ("push.negotiate", "true"),
        ("remote.origin.mirror", "true"),
        ("remote.origin.push", "+refs/*:refs/*"),
        ("remote.origin.prune", "true"),
        ("remote.origin.pruneTags", "true"),
        ("remote.origin.tagOpt", "--tags"),
        ("fetch.prune", "true"),
        ("fetch.pruneTags", "true"),
        ("fetch.recurseSubmodules", "true"),
        ("submodule.recurse", "true"),
        ("core.fsmonitor", program),
        ("diff.external", program),
        ("core.pager", program),
        ("log.showSignature", "true"),
        ("color.ui", "always"),
        ("status.relativePaths", "true"),
        ("status.showUntrackedFiles", "no"),
        ("diff.noprefix", "true"),
        ("core.quotePath", "true"),
        ("format.pretty", "raw"),
        ("trailer.separators", "="),
    ] {
        ada.git(&["config", key, value]);
    }
    let repo = ada.repo();
    let own = ada.record(&target("own"), What::Release(ada.oid("HEAD")));
    let expected = state(&ada, &cortex);
    wait(repo.push_probe("origin", &cortex, &ada.oid("HEAD"))).unwrap();
    let made = ada.make(&cortex, What::Release(ada.oid("HEAD")));
    wait(repo.publish("origin", &cortex, &made.set(), &expected)).unwrap();
    let fetched = wait(repo.fetch("origin", &cortex)).unwrap();
    assert_eq!(fetched.refs.records.len(), 1);
    let refs = hub.git(&["for-each-ref", "--format=%(refname)"]);
    let wanted = [
        "refs/heads/main",
        "refs/heads/release/cortex",
        "refs/nixgate/ledger/cortex",
        &made.name.ref_name(),
    ];
    assert_eq!(
        refs.lines().collect::<Vec<_>>(),
        wanted,
        "nothing else went along"
    );
    assert!(
        ada.has_ref(&own.name.ref_name()) && ada.has_ref("refs/tags/own"),
        "nothing was pruned"
    );
    std::fs::write(ada.path.join("ä"), "").unwrap();
    assert_eq!(repo.tracked_changes().unwrap().untracked, ["ä"]);
    let from = ada.oid("HEAD");
    ada.git(&["add", "."]);
    ada.git(&[
        "-c",
        "core.fsmonitor=false",
        "commit",
        "-q",
        "-m",
        "x\n\nNixgate-Fixes: y",
    ]);
    assert_eq!(repo.changed_files(&from, &ada.oid("HEAD")).unwrap(), ["ä"]);
    assert_eq!(
        repo.commits_between(&from, &ada.oid("HEAD")).unwrap()[0].subject,
        "x"
    );
    let _ = std::fs::remove_file(&trap);
    repo.tracked_changes().unwrap();
    assert!(!trap.exists(), "a program from the configuration ran");
}

#[test]
fn a_remote_that_never_answers_has_a_deadline() {
    let lab = Lab::new();
    let work = lab.repo("repo");
    work.git(&["remote", "add", "origin", "ssh://nowhere.invalid/x.git"]);
    // Listens for as long as git speaks, and says nothing.
    work.git(&["config", "core.sshCommand", "cat >/dev/null #"]);
    let repo = work.repo().with_network_limit(std::time::Duration::from_secs(1));
    let failure = wait(repo.remote_state("origin", &target("cortex"))).unwrap_err();
    assert_eq!(failure.reason, git_nixgate::failure::Reason::Timeout);
    assert!(failure.to_string().contains("1 s"), "{failure:?}");
    let made = work.make(&target("cortex"), What::Release(work.oid("HEAD")));
    let error =
        wait(repo.publish("origin", &target("cortex"), &made.set(), &Default::default())).unwrap_err();
    let PushError::Unreachable(lines) = &error else {
        panic!("{error:?}")
    };
    assert!(lines.iter().any(|line| line.contains("within 1 s")), "{lines:?}");
    assert_eq!(
        wait(repo.remote_state("none", &target("cortex")))
            .unwrap_err()
            .exit,
        Exit::Usage
    );
}

#[test]
fn what_does_not_agree_on_the_remote_is_named() {
    let lab = Lab::new();
    let (hub, ada, _) = lab.two_clones("sha1");
    let cortex = target("cortex");
    let expected = state(&ada, &cortex);
    let first = ada.release(&cortex);
    ada.commit("second");
    let second = ada.release(&cortex);
    let set = ada.repo().unpublished(&cortex, &expected).unwrap().unwrap();
    wait(ada.repo().publish("origin", &cortex, &set, &expected)).unwrap();
    let rules = || -> Vec<&str> {
        let defects = ada.repo().remote_defects(&cortex, &state(&ada, &cortex)).unwrap();
        defects.iter().map(|d| d.rule).collect()
    };
    assert!(rules().is_empty());
    // A server without the hook lets all of this happen.
    hub.git(&[
        "update-ref",
        "refs/heads/release/cortex",
        &first.commit.to_string(),
    ]);
    hub.git(&["update-ref", "-d", &first.name.ref_name()]);
    hub.git(&["update-ref", &second.name.ref_name(), &first.oid.to_string()]);
    let stray = format!(
        "refs/tags/release/cortex/20301120T031402Z-{}",
        second.name.short()
    );
    hub.git(&["update-ref", &stray, &first.oid.to_string()]);
    assert_eq!(
        rules(),
        ["pointer", "tag-missing", "record-moved", "record-unchained"]
    );
}

#[test]
fn what_is_published_is_what_the_remote_lacks_and_nothing_that_a_rule_is_against() {
    let lab = Lab::new();
    let (hub, ada, _) = lab.two_clones("sha1");
    let (repo, cortex) = (ada.repo(), target("cortex"));
    let publish = || {
        let there = state(&ada, &cortex);
        let set = repo.unpublished(&cortex, &there).unwrap().unwrap();
        wait(repo.publish("origin", &cortex, &set, &there)).unwrap();
        repo.commit_set(&cortex, &set, Some("origin"), false).unwrap();
        set
    };
    let first = ada.release(&cortex);
    publish();
    ada.commit("second");
    let second = ada.release(&cortex);
    let set = publish();
    assert_eq!(set.records, [(second.name.clone(), second.oid)]);
    assert_eq!((set.pointer, set.ledger), (Some(second.commit), second.oid));
    let back = ada.record(&cortex, What::Rollback(None));
    let set = publish();
    assert_eq!(set.records, [(back.name.clone(), back.oid)]);
    assert_eq!(set.pointer, None, "it stays where it is");

    // A lease that matches would let all of these through.
    let there = state(&ada, &cortex);
    let before = hub.git(&["for-each-ref"]);
    let sets = [
        ("pointer-rewound", Some(first.commit), back.oid),
        ("ledger-discontinued", None, second.oid),
    ];
    for (rule, pointer, ledger) in sets {
        let set = git_nixgate::git::RecordSet {
            records: Vec::new(),
            pointer,
            ledger,
        };
        let error = wait(repo.publish("origin", &cortex, &set, &there)).unwrap_err();
        let PushError::Refused(lines) = &error else {
            panic!("{error:?}")
        };
        assert!(lines[0].ends_with(&format!("({rule})")), "{lines:?}");
        assert_eq!(hub.git(&["for-each-ref"]), before, "{rule}");
    }
}

#[test]
fn a_push_that_landed_although_git_says_otherwise_is_no_failure() {
    let lab = Lab::new();
    let (hub, ada, _) = lab.two_clones("sha1");
    let (repo, cortex) = (ada.repo(), target("cortex"));
    // The server has taken the push when the connection dies, and git has not heard of it.
    let hook = hub.path.join("hooks/reference-transaction");
    let script =
        "#!/bin/sh\n[ \"$1\" = committed ] && grep -q -e /tried -e /ledger/ && kill -9 $PPID\nexit 0\n";
    support::write_script(&hook, script);
    let expected = state(&ada, &cortex);
    let made = ada.make(&cortex, What::Release(ada.oid("HEAD")));
    let plain = ada.try_git(&["push", "origin", "HEAD:refs/heads/tried"]);
    assert!(
        !plain.status.success() && hub.has_ref("refs/heads/tried"),
        "{plain:?}"
    );
    wait(repo.publish("origin", &cortex, &made.set(), &expected)).unwrap();
    assert_eq!(hub.oid("refs/nixgate/ledger/cortex"), made.oid);
}
