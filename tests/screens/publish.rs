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
        .make(&mut log, ledger.as_ref(), named.utc, proven)
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
