//! The same few things in every kind of repository that git has: they work, or are refused with the way out.

mod support;

use std::process::{Command, Stdio};

use git_nixgate::command::hook;
use git_nixgate::git::Repo;
use git_nixgate::record::Target;
use support::*;

const CONFIG: &str = "version = 1\n[target.cortex]\nhost = \"127.0.0.1\"\nssh-options = [\"Port=1\"]\n";

/// A hub with two releases of cortex on it, and the clone that made them.
fn released(lab: &Lab, format: &str) -> (Work, Work, Target) {
    let (hub, ada, _) = lab.two_clones(format);
    hub.git(&["config", "uploadpack.allowFilter", "true"]);
    hub.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let cortex = target("cortex");
    std::fs::write(ada.path.join(".nixgate.toml"), CONFIG).unwrap();
    ada.git(&["add", "."]);
    for message in ["one", "two"] {
        ada.commit(message);
        ada.git(&["push", "-q", "origin", "main"]);
        publish(&ada, &cortex);
    }
    (hub, ada, cortex)
}

fn publish(work: &Work, target: &Target) -> Made {
    let repo = work.repo();
    let fetched = wait(repo.fetch("origin", target)).unwrap();
    repo.take_remote_ledger(target, "origin").unwrap();
    let made = work.make(target, What::Release(work.oid("HEAD")));
    wait(repo.publish("origin", target, &made.set(), &fetched.refs)).unwrap();
    repo.commit_set(target, &made.set(), Some("origin"), false)
        .unwrap();
    made
}

fn program(work: &Work, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_git-nixgate"))
        .args(args)
        .current_dir(&work.path)
        .env("HOME", &work.path)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// A repository of this kind beside the hub.
fn place(lab: &Lab, hub: &Work, ada: &Work, kind: &str) -> Work {
    let url = format!("file://{}", hub.path.display());
    let path = lab.path("place");
    let to = path.to_str().unwrap();
    match kind {
        "linked work tree" => ada.git(&["worktree", "add", "-q", "--detach", to]),
        "bare" => ada.git(&["clone", "-q", "--bare", &url, to]),
        "partial clone" => ada.git(&["clone", "-q", "--filter=blob:none", &url, to]),
        "treeless clone" => ada.git(&["clone", "-q", "--filter=tree:0", &url, to]),
        _ => ada.git(&["clone", "-q", &url, to]),
    };
    Work::at(path)
}

#[test]
fn records_are_read_written_published_and_guarded_in_every_kind_of_repository() {
    for (kind, format) in [
        ("clone", "sha1"),
        ("clone", "sha256"),
        ("linked work tree", "sha1"),
        ("linked work tree", "sha256"),
        ("bare", "sha1"),
        ("bare", "sha256"),
        ("partial clone", "sha1"),
        ("treeless clone", "sha1"),
    ] {
        let lab = Lab::new();
        let (hub, ada, cortex) = released(&lab, format);
        let work = place(&lab, &hub, &ada, kind);
        let what = format!("{kind}, {format}");
        for args in [
            &["status"][..],
            &["verify", "--remote"],
            &["log", "cortex"],
            &["show", "cortex"],
        ] {
            let (exit, said) = program(&work, args);
            assert_eq!(exit, Some(0), "{what}: {args:?}: {said}");
        }
        let (exit, said) = program(&work, &["rollback", "cortex"]);
        assert!(
            exit == Some(1) && said.contains("Network reachability... FAILED"),
            "{what}: {said}"
        );
        let third = publish(&work, &cortex);
        assert_eq!(third.seq, 3, "{what}");
        assert_eq!(hub.oid("refs/nixgate/ledger/cortex"), third.oid, "{what}");
        assert_eq!(program(&work, &["verify", "--remote"]).0, Some(0), "{what}");
        // The hook, where git runs it from here.
        let bin = lab.path("bin");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_git-nixgate"), bin.join("git-nixgate")).unwrap();
        hook::install(&Repo::open(&work.path).unwrap(), false).unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let output = git_command(&work.path)
            .env("PATH", path)
            .args(["push", "origin", ":refs/heads/release/cortex"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains("(pointer-deleted)"),
            "{what}: {said}"
        );
    }
}

#[test]
fn a_shallow_clone_reads_what_it_has_and_releases_nothing() {
    let lab = Lab::new();
    let (hub, ada, _) = released(&lab, "sha1");
    let url = format!("file://{}", hub.path.display());
    let path = lab.path("shallow");
    ada.git(&["clone", "-q", "--depth=1", &url, path.to_str().unwrap()]);
    let shallow = Work::at(path);
    // The tags that came along are not the whole chain, and that is said.
    let (exit, said) = program(&shallow, &["verify"]);
    assert!(exit == Some(1) && said.contains("cortex: BROKEN"), "{said}");
    let (exit, said) = program(&shallow, &["verify", "--remote"]);
    assert_eq!(exit, Some(0), "{said}");
    let (exit, said) = program(&shallow, &["release", "cortex"]);
    assert!(
        exit == Some(3) && said.contains("git fetch --unshallow"),
        "{said}"
    );
}

#[test]
fn a_chain_that_held_is_not_read_again_and_its_refs_are() {
    let lab = Lab::new();
    let (_, ada, cortex) = released(&lab, "sha1");
    let third = publish(&ada, &cortex);
    let first = ada.ledger(&cortex).unwrap().records()[0].clone();
    let fourth = ada.make(&cortex, What::Release(ada.oid("HEAD")));
    assert_eq!(program(&ada, &["verify"]).0, Some(0));
    // What is known is known: the oldest record's bytes are not looked at again, unless that is asked for.
    let hex = first.oid.to_string();
    let object = ada.path.join(".git/objects").join(&hex[..2]).join(&hex[2..]);
    let kept = lab.path("kept");
    std::fs::rename(&object, &kept).unwrap();
    let (exit, said) = program(&ada, &["verify"]);
    assert_eq!(exit, Some(0), "{said}");
    assert!(said.contains("cortex: 3 records verified"), "{said}");
    let (exit, said) = program(&ada, &["verify", "--full"]);
    assert!(exit == Some(1) && said.contains("(missing)"), "{said}");
    // A chain that went on is read as a whole.
    ada.git(&["update-ref", &fourth.name.ref_name(), &fourth.oid.to_string()]);
    ada.git(&[
        "update-ref",
        "refs/nixgate/ledger/cortex",
        &fourth.oid.to_string(),
    ]);
    assert_eq!(program(&ada, &["verify"]).0, Some(1));
    std::fs::rename(&kept, &object).unwrap();
    let (exit, said) = program(&ada, &["verify"]);
    assert!(
        exit == Some(0) && said.contains("cortex: 4 records verified"),
        "{said}"
    );
    // Refs are looked at each time.
    ada.git(&["update-ref", &third.name.ref_name(), &fourth.oid.to_string()]);
    let (exit, said) = program(&ada, &["verify"]);
    assert!(exit == Some(1) && said.contains("(record-moved)"), "{said}");
    ada.git(&["update-ref", &third.name.ref_name(), &third.oid.to_string()]);
    let commit = ada.commit("nobody released it");
    ada.git(&["update-ref", "refs/heads/release/cortex", &commit.to_string()]);
    let (exit, said) = program(&ada, &["verify"]);
    assert!(exit == Some(1) && said.contains("(pointer)"), "{said}");
    ada.git(&[
        "update-ref",
        "refs/heads/release/cortex",
        &fourth.commit.to_string(),
    ]);
    assert_eq!(program(&ada, &["verify"]).0, Some(0));
    // Other demands are another question.
    ada.git(&["config", "nixgate.requireSigned", "true"]);
    let (exit, said) = program(&ada, &["verify"]);
    assert!(exit == Some(1) && said.contains("(unsigned)"), "{said}");
    // A record that is named is found in what is known, too.
    ada.git(&["config", "nixgate.requireSigned", "false"]);
    let (exit, said) = program(&ada, &["verify", &first.name.to_string()]);
    assert!(
        exit == Some(0) && said.contains(&format!("{} unsigned", first.name.leaf())),
        "{said}"
    );
    let absent = "release/cortex/20301120T031402Z-0123456789ab";
    assert_eq!(program(&ada, &["verify", absent]).0, Some(1));
}
