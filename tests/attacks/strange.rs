//! Names that no record has, and records that nothing can follow: named by `verify`, in nobody's way.

use git_nixgate::event::{Event, Watcher};
use git_nixgate::gate::GateLog;
use git_nixgate::gate::known_good::{Marking, name_after};
use git_nixgate::record::{Kind, Secrets, Utc};

use crate::scene::{LEDGER, Scene};
use crate::support::*;

/// A server without the hook, where somebody put what the hook would refuse.
fn open() -> Scene {
    let scene = Scene::new();
    std::fs::remove_file(scene.hub.path.join("hooks/pre-receive")).unwrap();
    scene
}

#[test]
fn k10_strange_names_are_named_by_verify_and_keep_nobody_from_going_back() {
    let scene = open();
    let junk = "refs/tags/release/cortex/junk";
    let (one, two) = (scene.first.commit.to_string(), scene.second.commit.to_string());
    let poison = scene.second.oid.to_string();
    for (name, oid) in [
        (junk, one.as_str()),
        ("refs/nixgate/ledger/zzz", poison.as_str()),
        ("refs/nixgate/ledger/Not_A_Target", poison.as_str()),
    ] {
        scene.on_server(&["update-ref", name, oid]);
    }
    scene.ada.git(&[
        "fetch",
        "-q",
        "origin",
        "refs/tags/*:refs/tags/*",
        "+refs/nixgate/ledger/*:refs/nixgate/remotes/origin/ledger/*",
        "refs/nixgate/ledger/zzz:refs/nixgate/ledger/zzz",
        "refs/nixgate/ledger/Not_A_Target:refs/nixgate/ledger/Not_A_Target",
    ]);
    // The junk moves there, and a record is missing here: it comes all the same.
    scene.on_server(&["update-ref", junk, &two]);
    scene.drop(&scene.first.name.ref_name());
    assert_eq!(scene.chosen(&["rollback", "cortex"], &scene.first), "as recorded");
    assert!(scene.ada.has_ref(&scene.first.name.ref_name()));
    let to = scene.second.name.leaf();
    let deploy = ["deploy", "cortex", "--to", &to];
    assert_eq!(scene.chosen(&deploy, &scene.second), "as recorded");
    let (exit, said) = scene.program(&["publish", "cortex"]);
    assert_eq!(exit, Some(0), "{said}");
    // One target's defect is its own.
    let (exit, said) = scene.program(&["status"]);
    assert!(exit == Some(1) && said.contains(&to), "{said}");
    assert!(
        said.contains("zzz\n  BROKEN: the ledger of zzz does not hold"),
        "{said}"
    );
    let (exit, said) = scene.program(&["log"]);
    assert!(exit == Some(1) && said.contains(&to), "{said}");
    let (exit, said) = scene.program(&["verify"]);
    assert_eq!(exit, Some(1));
    for name in [junk, "refs/nixgate/ledger/Not_A_Target"] {
        assert!(
            said.contains(&format!("{name} is the name of no record, pointer or ledger")),
            "{said}"
        );
    }
    let (exit, said) = scene.program(&["verify", "--remote", "cortex"]);
    assert!(
        exit == Some(1) && said.contains(&format!("{junk} there is the name of no record")),
        "{said}"
    );
    // What is printed takes it away.
    let command = said
        .split("git update-ref -d ")
        .nth(1)
        .unwrap()
        .split([' ', '\n'])
        .next()
        .unwrap();
    scene.ada.git(&["update-ref", "-d", command]);
    scene.on_server(&["update-ref", "-d", junk]);
    assert_eq!(scene.program(&["verify", "--remote", "cortex"]).0, Some(0));
}

#[test]
fn k10_bare_names_in_the_way_are_found_here_and_on_the_remote() {
    let cortex = target("cortex");
    for name in [
        "refs/heads/release",
        "refs/heads/release/cortex/x",
        "refs/tags/release",
        "refs/tags/release/cortex",
        "refs/nixgate",
        "refs/nixgate/ledger",
        "refs/nixgate/ledger/cortex/x",
    ] {
        let lab = Lab::new();
        let (hub, ada, _) = lab.two_clones("sha1");
        let head = ada.oid("HEAD");
        hub.git(&["update-ref", name, &head.to_string()]);
        assert_eq!(state(&ada, &cortex).blocking, [name]);
        ada.git(&["update-ref", name, &head.to_string()]);
        assert_eq!(ada.repo().blocking_refs(&cortex).unwrap(), [name]);
        assert_eq!(
            ada.ledger(&cortex).map(|ledger| ledger.head().seq),
            None,
            "{name}"
        );
    }
    // A tag beside the records is in nobody's way.
    let lab = Lab::new();
    let (hub, ada, _) = lab.two_clones("sha1");
    hub.git(&[
        "update-ref",
        "refs/tags/release/cortex/junk",
        &ada.oid("HEAD").to_string(),
    ]);
    let found = state(&ada, &cortex);
    assert!(found.blocking.is_empty() && found.strange == ["refs/tags/release/cortex/junk"]);
}

fn last_second() -> Utc {
    "99991231T235959Z".parse().unwrap()
}

#[test]
fn k7_nothing_can_follow_the_last_second_and_that_is_said_before_the_host() {
    let scene = open();
    scene.next(|draft| draft.time = last_second(), |good| good);
    let to = scene.second.name.leaf();
    for args in [
        &["rollback", "cortex"][..],
        &["deploy", "cortex", "--to", &to],
        &["release", "cortex"],
    ] {
        let (exit, said) = scene.program(args);
        assert_eq!(exit, Some(3), "{args:?}: {said}");
        assert!(said.contains("no later time can be named"), "{args:?}: {said}");
        assert!(!said.contains("Network reachability"), "{args:?}: {said}");
    }
    assert!(scene.ada.repo().pending(&scene.cortex).unwrap().is_empty());
}

#[test]
fn k7_a_pending_record_that_does_not_hold_is_named_and_let_go_of() {
    let scene = open();
    let third = scene.third(|draft| draft.time = scene.second.name.utc);
    let oid = scene.tag(&third.payload());
    let pending = "refs/nixgate/pending/cortex/3";
    scene.set(pending, &oid);
    assert_eq!(scene.chosen(&["rollback", "cortex"], &scene.first), "as recorded");
    let command = format!("git update-ref -d {pending} {oid}");
    for (args, wanted) in [
        (&["status"][..], Some(0)),
        (&["log", "cortex"], Some(0)),
        (&["publish"], Some(0)),
        (&["publish", "cortex"], Some(0)),
        (&["verify", "cortex"], Some(1)),
    ] {
        let (exit, said) = scene.program(args);
        assert_eq!(exit, wanted, "{args:?}: {said}");
        assert!(
            said.contains(&command) && said.contains("is not later than"),
            "{args:?}: {said}"
        );
    }
    // It makes room for the next record, and one that can be published does not.
    let repo = scene.ada.repo();
    let good = scene.third(|_| {});
    let good = scene.tag(&good.payload());
    repo.set_pending(&scene.cortex, 3, &good).unwrap();
    let other = scene.third(|draft| draft.subject = "another".into());
    let other = scene.tag(&other.payload());
    assert!(repo.set_pending(&scene.cortex, 3, &other).is_err());
    scene.ada.git(&["update-ref", "-d", pending]);
    scene.set(pending, &oid);
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    scene.ada.git(&words);
    assert_eq!(scene.program(&["verify", "cortex"]).0, Some(0));
}

struct Nobody;

impl Watcher for Nobody {
    fn see(&self, _: &Event) {}
}

#[test]
fn k7_our_own_record_is_judged_before_anything_points_at_it() {
    let scene = open();
    let repo = scene.ada.repo();
    let ledger = scene.ada.ledger(&scene.cortex).unwrap();
    let (head, first) = (ledger.head(), ledger.get(&scene.first.name).unwrap());
    let marking = |withdraws| Marking {
        repo: &repo,
        target: scene.cortex.clone(),
        kind: Kind::Rollback,
        commit: scene.first.commit,
        subject: "one",
        restores: Some(first.on_host()),
        withdraws,
        secrets: Secrets::default(),
    };
    let make = |withdraws, time| {
        let evidence = first.evidence.clone();
        marking(withdraws).make(&mut GateLog::new(&Nobody), Some(&ledger), time, evidence)
    };
    let later = name_after(Some(&ledger), &scene.cortex, &head.commit, None)
        .unwrap()
        .utc;
    // Not later than the one before; and what it withdraws is no release.
    let stranger = "release/cortex/20200101T000000Z-0123456789ab".parse().unwrap();
    for (withdraws, time, rule) in [
        (vec![scene.second.name.clone()], head.time, "(time)"),
        (vec![stranger], later, "(withdraws)"),
    ] {
        let failure = make(withdraws, time).err().expect(rule);
        assert!(failure.why.iter().any(|why| why.ends_with(rule)), "{failure:?}");
        assert!(repo.pending(&scene.cortex).unwrap().is_empty(), "{rule}");
    }
    let made = make(vec![scene.second.name.clone()], later)
        .map_err(|f| f.to_string())
        .unwrap();
    assert_eq!(repo.pending(&scene.cortex).unwrap()[0].oid, made.oid);
    assert_eq!(scene.ada.oid(LEDGER), scene.second.oid);
}
