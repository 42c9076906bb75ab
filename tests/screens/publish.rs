//! Records and their remote: out of reach, refusing, faster than we are; and keys that do not sign.

use git_nixgate::event::{Event, Watcher};
use git_nixgate::failure::Failure;
use git_nixgate::gate::GateLog;
use git_nixgate::gate::known_good::{Marking, Published, RemoteSide, name_after};
use git_nixgate::record::{Kind, Secrets};

use super::program::{configure, nixgate_in};
use super::support::{Lab, What, Work, evidence, state, target, wait};
use super::{failures, screens};

/// Nobody watches.
struct Nobody;

impl Watcher for Nobody {
    fn see(&self, _: &Event) {}
}

fn hook(hub: &Work, name: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = hub.path.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Step 9 of a release whose host is committed: how publishing ended.
fn step_nine(work: &Work, side: &RemoteSide) -> Published {
    let (repo, cortex) = (work.repo(), target("cortex"));
    let commit = repo.commit(&work.oid("HEAD")).unwrap();
    let (id, tree) = (commit.id.to_string(), commit.tree.to_string());
    let marking = Marking {
        repo: &repo,
        target: cortex.clone(),
        kind: Kind::Release,
        commit: commit.id,
        subject: &commit.subject,
        restores: None,
        withdraws: Vec::new(),
        secrets: Secrets::default(),
    };
    let mut log = GateLog::new(&Nobody);
    let ledger = work.ledger(&cortex);
    let mut proven = evidence(&cortex, &id, &tree, "step nine");
    // The log's gates are what the record gets.
    for gate in proven.gates.drain(..) {
        log.begin(gate.gate);
        log.pass("");
    }
    let named = name_after(ledger.as_ref(), &cortex, &commit.id, None);
    let made = marking
        .make(&mut log, ledger.as_ref(), named.unwrap().utc, proven)
        .unwrap();
    wait(marking.publish(&mut log, &made, side)).unwrap()
}

/// A record made now has another id and another name each time.
fn masked(line: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric();
    let mut out = String::new();
    for part in line.split_inclusive(|c| !word(c)) {
        let text = part.trim_end_matches(|c| !word(c));
        let id = text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let time = text.len() == 16 && text.ends_with('Z') && !text.starts_with("20261120T");
        let shown = if id {
            "<id>"
        } else if time {
            "<time>"
        } else {
            text
        };
        out.push_str(shown);
        out.push_str(&part[text.len()..]);
    }
    out
}

#[track_caller]
fn later(published: Published) -> Failure {
    match published {
        Published::Later(failure) | Published::Lost(failure) => failure,
        Published::Everywhere | Published::LocalOnly => panic!("it was published"),
    }
}

/// The record's name has the time in it, and the folder is new each time.
fn steady(lab: &Lab, mut failure: Failure) -> Failure {
    let root = lab.path("");
    let root = root.to_string_lossy();
    let root = root.trim_end_matches('/');
    for line in std::iter::once(&mut failure.what)
        .chain(&mut failure.why)
        .chain(&mut failure.next)
    {
        *line = masked(&line.replace(root, "/home/ada"));
    }
    failure
}

#[test]
fn a_release_whose_remote_is_away_is_refused_or_recorded_here() {
    let lab = Lab::new();
    let (hub, ada, bob) = lab.two_clones("sha1");
    let cortex = target("cortex");
    let there = state(&ada, &cortex);
    let ready = || RemoteSide::Ready {
        name: "origin".into(),
        refs: there.clone(),
    };
    hook(
        &hub,
        "hooks/pre-receive",
        "echo 'nixgate: this server is read-only today' >&2; exit 1",
    );
    let refused = later(step_nine(&ada, &ready()));
    std::fs::remove_file(hub.path.join("hooks/pre-receive")).unwrap();
    let first = bob.make(&cortex, What::Release(bob.oid("HEAD")));
    wait(bob.repo().publish("origin", &cortex, &first.set(), &there)).unwrap();
    let eve = lab.clone(&hub, "eve");
    let lost = later(step_nine(&eve, &ready()));
    std::fs::rename(&hub.path, lab.path("moved.git")).unwrap();
    let gone = later(step_nine(
        &lab.repo("alone"),
        &RemoteSide::Away {
            name: "origin".into(),
            failure: wait(ada.repo().remote_state("origin", &cortex)).unwrap_err(),
        },
    ));
    let mid = lab.clone(
        &Work {
            path: lab.path("moved.git"),
        },
        "mid",
    );
    mid.git(&[
        "remote",
        "set-url",
        "origin",
        &format!("file://{}", hub.path.display()),
    ]);
    let midway = later(step_nine(&mid, &ready()));
    let all = [
        ("away before the push", steady(&lab, gone)),
        ("away at the push", steady(&lab, midway)),
        ("the server's hook says no", steady(&lab, refused)),
        ("somebody else's record was first", steady(&lab, lost)),
    ];
    assert_eq!(
        all.each_ref().map(|(_, failure)| failure.exit.code()),
        [8, 8, 8, 3]
    );
    failures("push-failures", &all);
}

#[test]
fn what_publish_says_and_a_release_whose_remote_is_away() {
    let lab = Lab::new();
    let (hub, ada, bob) = lab.two_clones("sha1");
    let cortex = target("cortex");
    configure(&ada);
    ada.git(&["push", "-q", "origin", "main"]);
    bob.git(&["pull", "-q", "origin", "main"]);
    for style in ["never", "always"] {
        let away = lab.path("moved.git");
        let mut all = vec![(
            "nothing to publish",
            nixgate_in(&ada, style, &["publish", "cortex"]),
        )];
        ada.commit("nginx: bump");
        ada.release(&cortex);
        std::fs::rename(&hub.path, &away).unwrap();
        all.extend([
            (
                "the remote is away",
                nixgate_in(&ada, style, &["publish", "cortex"]),
            ),
            (
                "a release while the remote is away",
                nixgate_in(&ada, style, &["release", "cortex"]),
            ),
        ]);
        std::fs::rename(&away, &hub.path).unwrap();
        hook(
            &hub,
            "hooks/pre-receive",
            "echo 'nixgate: read-only today' >&2; exit 1",
        );
        all.push((
            "the server's hook says no",
            nixgate_in(&ada, style, &["publish", "cortex"]),
        ));
        std::fs::remove_file(hub.path.join("hooks/pre-receive")).unwrap();
        all.push(("published", nixgate_in(&ada, style, &["publish", "cortex"])));
        let eve = lab.clone(&hub, &format!("eve-{style}"));
        configure(&eve);
        eve.release(&cortex);
        all.push((
            "somebody else's record is there, and ours is on no line with it",
            nixgate_in(&eve, style, &["publish", "cortex"]),
        ));
        screens(
            if style == "always" {
                "publish-terminal"
            } else {
                "publish-plain"
            },
            all,
        );
    }
    assert_eq!(state(&bob, &cortex).records.len(), 2);
}

#[test]
fn keys_that_do_not_sign() {
    let lab = Lab::new();
    let work = lab.repo("infra");
    let tried = |settings: &[(&str, &str)]| {
        for (key, value) in settings {
            work.git(&["config", key, value]);
        }
        steady(&lab, work.repo().try_sign().unwrap_err())
    };
    let all = [
        (
            "by ssh, without a key",
            tried(&[("tag.gpgSign", "true"), ("gpg.format", "ssh")]),
        ),
        (
            "a key that is not there",
            tried(&[("user.signingKey", "/nowhere/key")]),
        ),
        (
            "a program that is not there",
            tried(&[("gpg.ssh.program", "/nowhere/ssh-keygen")]),
        ),
        ("a format that git does not know", tried(&[("gpg.format", "pgp")])),
        (
            "gpg has no such key",
            tried(&[
                ("gpg.format", "openpgp"),
                ("user.signingKey", "0123456789ABCDEF"),
                ("gpg.program", &no_keys(&lab)),
            ]),
        ),
    ];
    failures("signing-failures", &all);
}

/// gpg with an empty home of its own.
fn no_keys(lab: &Lab) -> String {
    let home = lab.path("gnupg");
    std::fs::create_dir(&home).unwrap();
    let work = Work { path: home.clone() };
    hook(
        &work,
        "gpg",
        &format!("exec gpg --no-autostart --homedir {} \"$@\"", home.display()),
    );
    let list = std::process::Command::new(home.join("gpg"))
        .args(["--quiet", "--list-keys"])
        .output();
    assert!(list.unwrap().status.success());
    std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    home.join("gpg").to_string_lossy().into_owned()
}

/// What the program said, and with which exit.
#[track_caller]
fn says(work: &Work, args: &[&str], exit: u8) -> String {
    let said = nixgate_in(work, "never", args);
    assert!(said.ends_with(&format!("(exit {exit})\n")), "{said}");
    said
}

/// Runs a command that the program printed, as it was printed.
#[track_caller]
fn as_printed(lab: &Lab, work: &Work, said: &str, starts: &str) {
    let line = said
        .lines()
        .map(|line| line.trim_start_matches("next: ").trim_start())
        .find(|line| line.starts_with(starts));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    let git = super::support::git_command(&work.path);
    let envs = git.get_envs().filter_map(|(key, value)| Some((key, value?)));
    let mut shell = std::process::Command::new("sh");
    shell.args(["-euc", line]).current_dir(&work.path).envs(envs);
    shell.env("PATH", lab.program().1);
    super::support::ran(&mut shell);
}

#[test]
fn publish_takes_along_whatever_waits_here() {
    let lab = Lab::new();
    let (hub, ada, _) = lab.two_clones("sha1");
    configure(&ada);
    // A target that HEAD does not name any more, and one whose record is made and nothing else.
    let (orion, cortex) = (target("orion"), target("cortex"));
    let gone = ada.release(&orion);
    ada.git(&["commit", "-q", "--allow-empty", "-m", "later"]);
    let made = ada.make(&cortex, What::Release(ada.oid("HEAD")));
    ada.repo().set_pending(&cortex, 1, &made.oid).unwrap();
    let status = says(&ada, &["status"], 0);
    assert!(status.contains("not published"), "{status}");
    let said = says(&ada, &["publish"], 0);
    for made in [&gone, &made] {
        assert!(said.contains(&made.name.to_string()), "{said}");
        assert!(hub.has_ref(&made.name.ref_name()), "{said}");
    }
    let said = says(&ada, &["publish"], 0);
    assert!(said.contains("everything is published"), "{said}");
    // By name as well.
    ada.git(&["commit", "-q", "--allow-empty", "-m", "later still"]);
    let next = ada.release(&orion);
    assert!(says(&ada, &["publish", "orion"], 0).contains(&next.name.to_string()));
    // A name that nobody knows is a slip of the fingers.
    for command in ["publish", "verify"] {
        let said = says(&ada, &[command, "cortx"], 2);
        assert!(said.contains("cortex"), "{said}");
    }
    says(&ada, &["verify", "--remote", "cortx"], 2);
    says(&ada, &["verify"], 0);
}

#[test]
fn the_way_out_of_a_fork_is_one_command() {
    // How far the loser came: released offline; died before the push; died, and the winner's ledger was taken since;
    // published one record without hearing of it, and made another.
    for came in ["offline", "died", "taken", "half"] {
        let lab = Lab::new();
        let (hub, ada, bob) = lab.two_clones("sha1");
        let cortex = target("cortex");
        // The records that are made here say that Ada made them.
        bob.git(&["config", "user.name", "Ada"]);
        configure(&ada);
        ada.git(&["push", "-q", "origin", "main"]);
        let first = ada.release(&cortex);
        says(&ada, &["publish", "cortex"], 0);
        bob.git(&["pull", "-q", "origin", "main"]);
        wait(bob.repo().fetch("origin", &cortex)).unwrap();
        bob.repo().take_remote_ledger(&cortex, "origin").unwrap();

        ada.commit("ada's");
        let lost = match came {
            "offline" | "half" => ada.release(&cortex),
            _ => ada.make(&cortex, What::Release(ada.oid("HEAD"))),
        };
        ada.repo().set_pending(&cortex, lost.seq, &lost.oid).unwrap();
        if came == "half" {
            let there = state(&ada, &cortex);
            wait(ada.repo().publish("origin", &cortex, &lost.set(), &there)).unwrap();
            ada.commit("ada's next");
            let next = ada.release(&cortex);
            ada.repo().set_pending(&cortex, next.seq, &next.oid).unwrap();
            bob.git(&["pull", "-q", hub.path.to_str().unwrap(), "release/cortex"]);
            wait(bob.repo().fetch("origin", &cortex)).unwrap();
            bob.repo().take_remote_ledger(&cortex, "origin").unwrap();
        }
        bob.commit("bob's");
        let won = bob.release(&cortex);
        says(&bob, &["publish", "cortex"], 0);
        if came == "taken" {
            ada.git(&["fetch", "-q", "--tags"]);
            wait(ada.repo().fetch("origin", &cortex)).unwrap();
            ada.repo().take_remote_ledger(&cortex, "origin").unwrap();
            // What lost decides nothing any more.
            assert_eq!(ada.repo().own_head(&cortex).unwrap(), Some(won.oid));
            let status = says(&ada, &["status"], 0);
            assert!(!status.contains("not published"), "{status}");
        }

        let refs = ada.git(&["for-each-ref", "refs/nixgate/ledger", "refs/nixgate/pending"]);
        let said = says(&ada, &["publish", "cortex"], 3);
        assert!(said.contains("(fork)"), "{came}: {said}");
        assert_eq!(
            says(&ada, &["resume", "cortex"], 3),
            said.replacen("publish", "resume", 1),
            "{came}"
        );
        let after = ada.git(&["for-each-ref", "refs/nixgate/ledger", "refs/nixgate/pending"]);
        assert_eq!(refs, after, "{came}: nothing is done before");
        as_printed(&lab, &ada, &said, "git nixgate publish cortex --take-theirs");

        says(&ada, &["publish", "cortex"], 0);
        says(&ada, &["resume", "cortex"], 0);
        says(&ada, &["verify"], 0);
        let status = says(&ada, &["status"], 0);
        assert!(!status.contains("not published"), "{came}: {status}");
        assert_eq!(ada.oid("refs/nixgate/ledger/cortex"), won.oid, "{came}");
        assert!(ada.repo().pending(&cortex).unwrap().is_empty(), "{came}");
        let mine = came == "half";
        assert_eq!(
            ada.has_ref(&lost.name.ref_name()),
            mine,
            "{came}: what landed stays"
        );
        assert!(ada.has_ref(&first.name.ref_name()), "{came}");
        // And Ada goes on from there.
        ada.git(&["merge", "-q", "-m", "both", &won.commit.to_string()]);
        let next = ada.release(&cortex);
        says(&ada, &["publish"], 0);
        assert_eq!(hub.oid("refs/nixgate/ledger/cortex"), next.oid);
    }
}

/// A copy that plain git made has the tags and no ledger: the chain goes on, and `publish` makes the ledger again.
#[test]
fn r3_a_clone_with_tags_and_no_ledger_goes_on_with_their_chain() {
    for remote in ["there", "away", "none"] {
        let lab = Lab::new();
        let (hub, ada, _) = lab.two_clones("sha1");
        let cortex = target("cortex");
        configure(&ada);
        ada.git(&["push", "-q", "origin", "main"]);
        ada.release(&cortex);
        ada.commit("the second");
        let second = ada.release(&cortex);
        says(&ada, &["publish", "cortex"], 0);
        let fork = Work {
            path: lab.path("fork.git"),
        };
        let (from, to) = (hub.path.to_str().unwrap(), fork.path.to_str().unwrap());
        hub.git(&["clone", "-q", "--bare", from, to]);
        assert!(!fork.has_ref("refs/nixgate/ledger/cortex"));
        let eve = lab.clone(&fork, "eve");
        eve.git(&["config", "user.name", "Ada"]);
        let repo = || eve.repo();
        assert_eq!(repo().own_head(&cortex).unwrap(), Some(second.oid), "{remote}");
        match remote {
            "there" => {
                let said = says(&eve, &["publish"], 0);
                assert!(said.contains(&second.name.to_string()), "{said}");
                assert_eq!(fork.oid("refs/nixgate/ledger/cortex"), second.oid);
                says(&eve, &["verify", "--remote"], 0);
            }
            "away" => {
                std::fs::rename(&fork.path, lab.path("moved.git")).unwrap();
                says(&eve, &["publish", "cortex"], 8);
                assert_eq!(eve.oid("refs/nixgate/ledger/cortex"), second.oid);
            }
            _ => {
                eve.git(&["remote", "remove", "origin"]);
                says(&eve, &["publish", "cortex"], 2);
                assert_eq!(eve.oid("refs/nixgate/ledger/cortex"), second.oid);
            }
        }
        eve.commit("the third");
        assert_eq!(eve.release(&cortex).seq, 3, "{remote}");
    }
}

/// Tags that are not one chain are no ledger, and no new chain begins beside them.
#[test]
fn r3_no_chain_begins_where_there_are_tags_of_another() {
    let lab = Lab::new();
    let (hub, ada, _) = lab.two_clones("sha1");
    let cortex = target("cortex");
    configure(&ada);
    ada.git(&["push", "-q", "origin", "main"]);
    let first = ada.release(&cortex);
    ada.commit("the second");
    ada.release(&cortex);
    says(&ada, &["publish", "cortex"], 0);
    let eve = lab.clone(&hub, "eve");
    eve.git(&["remote", "remove", "origin"]);
    eve.git(&["tag", "-d", &first.name.to_string()]);
    let said = says(&eve, &["publish", "cortex"], 3);
    assert!(said.contains("are not one chain"), "{said}");
    assert!(!eve.has_ref("refs/nixgate/ledger/cortex"));
}

/// Half of an atomic push lands where the remote hides `refs/nixgate`: that is said, and the one record waits.
#[test]
fn r4_a_remote_that_hides_or_refuses_the_ledger_is_named() {
    for hidden in ["transfer.hideRefs", "receive.hideRefs"] {
        let lab = Lab::new();
        let (hub, ada, _) = lab.two_clones("sha1");
        let cortex = target("cortex");
        configure(&ada);
        ada.git(&["push", "-q", "origin", "main"]);
        hub.git(&["config", hidden, "refs/nixgate"]);
        let there = state(&ada, &cortex);
        there.refuse_hidden("origin", &cortex).unwrap();
        let side = RemoteSide::Ready {
            name: "origin".into(),
            refs: there,
        };
        let failure = later(step_nine(&ada, &side));
        let text = format!("{failure}");
        assert_eq!(failure.exit.code(), 8, "{text}");
        assert!(text.contains("hides or refuses refs/nixgate"), "{text}");
        let pending = ada.repo().pending(&cortex).unwrap();
        assert_eq!(pending.len(), 1, "{hidden}");
        // The next release is refused before its host is touched, and `publish` says the same until it is mended.
        let refused = state(&ada, &cortex).refuse_hidden("origin", &cortex).unwrap_err();
        assert_eq!(refused.exit.code(), 1);
        let said = says(&ada, &["publish", "cortex"], 8);
        assert!(said.contains("hides or refuses refs/nixgate"), "{said}");
        hub.git(&["config", "--unset", hidden]);
        says(&ada, &["publish", "cortex"], 0);
        assert_eq!(hub.oid("refs/nixgate/ledger/cortex"), pending[0].oid);
        assert!(ada.repo().pending(&cortex).unwrap().is_empty());
        says(&ada, &["verify", "--remote"], 0);
    }
}
