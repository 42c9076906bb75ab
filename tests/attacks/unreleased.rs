//! Nothing is run or removed on behalf of a record that does not pass, and nothing of a commit that nobody released.

use crate::scene::{CONFIG, LEDGER, POINTER, Scene};
use crate::support::*;

/// Both releases are signed by the one who may, and that is asked for here.
fn signed() -> Scene {
    let scene = Scene::new();
    let public = std::fs::read_to_string(scene.lab.path("key.pub")).unwrap();
    let signers = scene.lab.path("signers");
    std::fs::write(&signers, format!("ops@example.org {public}")).unwrap();
    scene
        .ada
        .git(&["config", "nixgate.signers", signers.to_str().unwrap()]);
    scene.ada.git(&["config", "nixgate.requireSigned", "true"]);
    scene
}

/// What a person may type who goes by records.
const COMMANDS: &[&[&str]] = &[
    &["health", "cortex"],
    &["plan", "cortex"],
    &["check", "cortex"],
    &["release", "cortex"],
    &["rollback", "cortex"],
    &["rollback", "cortex", "--check"],
    &["rollback", "cortex", "--rehearse"],
    &["rollback", "cortex", "--to", "before-first"],
    &["diff", "cortex", "HEAD~1", "HEAD"],
];

fn refused(scene: &Scene, args: &[&str], rule: &str) {
    let (exit, said) = scene.program(args);
    assert_eq!(exit, Some(3), "{args:?}: {said}");
    assert!(said.contains(rule), "{args:?}: {said}");
    for asked in ["Network reachability", "SSH connectivity", "hook:"] {
        assert!(!said.contains(asked), "{args:?} went on: {said}");
    }
}

#[test]
fn k3_whatever_goes_by_records_refuses_one_that_does_not_pass() {
    let scene = signed();
    assert_eq!(
        scene.program(&["health", "cortex"]).0,
        Some(1),
        "the host is away"
    );
    scene.next(|_| {}, |good| good);
    for args in COMMANDS {
        refused(&scene, args, "(unsigned)");
    }
    let to = scene.second.name.leaf();
    refused(&scene, &["deploy", "cortex", "--to", &to], "(unsigned)");
    // These look at the host without the records, and say so.
    for args in [
        &["store", "check", "cortex"][..],
        &["logs", "cortex"],
        &["prune", "cortex", "--dry-run"],
    ] {
        let (exit, said) = scene.program(args);
        assert_eq!(exit, Some(1), "{args:?}: {said}");
        assert!(
            said.contains("the records of cortex are left out: ") && said.contains("failed verification"),
            "{args:?}: {said}"
        );
    }
    let (exit, said) = scene.program(&["status", "--live"]);
    assert!(
        exit == Some(1) && said.contains("BROKEN: ") && said.contains("(unsigned)"),
        "{said}"
    );
}

#[test]
fn k3_a_false_tree_is_refused_by_all_of_them() {
    let scene = Scene::new();
    scene.next(|draft| draft.evidence.tree = "1".repeat(40), |good| good);
    for args in COMMANDS {
        refused(&scene, args, "(commit)");
    }
}

#[test]
fn k3_two_records_do_not_undo_what_one_of_them_may_not() {
    let scene = Scene::new();
    let public = std::fs::read_to_string(scene.lab.path("key.pub")).unwrap();
    let signers = scene.lab.path("signers");
    std::fs::write(&signers, format!("ops@example.org {public}")).unwrap();
    let asks = format!("{CONFIG}require-signed = true\nsigners = {signers:?}\n");
    let release = |config: &str| {
        std::fs::write(scene.ada.path.join(".nixgate.toml"), config).unwrap();
        scene.ada.git(&["add", "."]);
        let commit = scene.ada.commit("next");
        let made = scene.ada.record(&scene.cortex, What::Release(commit));
        for (name, oid) in [
            (made.name.ref_name(), made.oid),
            (LEDGER.to_owned(), made.oid),
            (POINTER.to_owned(), made.commit),
        ] {
            scene.set(&name, &oid);
        }
    };
    let sign = |on: &str| scene.ada.git(&["config", "tag.gpgSign", on]);
    release(&asks);
    assert_eq!(scene.program(&["verify"]).0, Some(0));
    // By somebody who has no key: the first of them asks for nothing any more.
    sign("false");
    release(CONFIG);
    let (exit, said) = scene.program(&["verify"]);
    assert!(exit == Some(1) && said.contains("(unsigned)"), "{said}");
    release(CONFIG);
    for _ in ["read", "and known again"] {
        let (exit, said) = scene.program(&["verify"]);
        assert!(exit == Some(1) && said.contains("(unsigned)"), "{said}");
    }
    refused(&scene, &["rollback", "cortex"], "(unsigned)");
    // A signature by who may covers them, and then it counts what it asks for.
    sign("true");
    release(CONFIG);
    assert_eq!(
        scene.program(&["verify"]).0,
        Some(0),
        "{:?}",
        scene.program(&["verify"])
    );
    sign("false");
    release(CONFIG);
    let (exit, said) = scene.program(&["verify"]);
    assert_eq!(exit, Some(0), "{said}");
}

#[test]
fn k6_no_program_of_a_commit_that_nobody_released_is_a_check() {
    let scene = Scene::new();
    let trap = scene.lab.path("trap");
    let checks = format!(
        "[target.orion]\nhost = \"local\"\n\
         [[target.orion.check]]\nunit = \"no-such.service\"\n\
         [[target.orion.check]]\nrun = [\"touch\", {trap:?}]\nfrom = \"operator\"\n"
    );
    std::fs::write(scene.ada.path.join(".nixgate.toml"), format!("{CONFIG}{checks}")).unwrap();
    scene.ada.git(&["add", "."]);
    scene.ada.commit("a host without a record");
    let (exit, said) = scene.program(&["health", "orion"]);
    assert_eq!(exit, Some(1), "{said}");
    assert!(
        said.contains("left out: run touch: no program of a commit runs before the commit is released"),
        "{said}"
    );
    assert!(said.contains("unit no-such.service"), "{said}");
    assert!(!trap.exists(), "{said}");
}

#[test]
fn k6_an_impure_evaluation_wants_a_release_or_a_persons_word() {
    let scene = Scene::new();
    let config = format!("{CONFIG}impure = true\n");
    std::fs::write(scene.ada.path.join(".nixgate.toml"), config).unwrap();
    scene.ada.git(&["add", "."]);
    scene.ada.commit("it reads the machine that evaluates");
    for args in [
        &["plan", "cortex"][..],
        &["check", "cortex"],
        &["diff", "cortex", "HEAD~1", "HEAD"],
    ] {
        refused(&scene, args, "sets impure = true, and was not released yet");
        let (_, said) = scene.program(args);
        let next = format!("git nixgate {} --impure", args.join(" "));
        assert!(said.contains(&next), "{said}");
        // With it the run goes on, to a builder that has no flake, or to the host that is away.
        let (exit, said) = scene.program(&[args, &["--impure"]].concat());
        assert!(
            exit == Some(1) && !said.contains("impure = true"),
            "{args:?}: {said}"
        );
    }
}
