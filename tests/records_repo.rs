//! What the repository answers beside records: history, work tree, journals, and which repositories are not opened.

mod support;

use std::collections::BTreeMap;

use git_nixgate::failure::Exit;
use git_nixgate::git::Repo;
use support::*;

#[test]
fn journals_are_commits_that_survive_a_collection() {
    let lab = Lab::new();
    let work = lab.repo("repo");
    let (repo, cortex) = (work.repo(), target("cortex"));
    repo.journal_write(
        &cortex,
        "r1",
        utc(NOON),
        &[
            ("state.json", b"{\"a\":1}".to_vec()),
            ("logs/build.log", b"x".to_vec()),
        ],
    )
    .unwrap();
    repo.journal_write(
        &cortex,
        "r1",
        utc(NOON + 1),
        &[("state.json", b"{\"a\":2}".to_vec())],
    )
    .unwrap();
    repo.journal_write(&cortex, "r0", utc(NOON + 2), &[("state.json", b"{}".to_vec())])
        .unwrap();
    work.git(&["gc", "-q", "--prune=now"]);
    let files = repo.journal_read(&cortex, "r1").unwrap().unwrap();
    let wanted = BTreeMap::from([
        ("logs/build.log".to_owned(), b"x".to_vec()),
        ("state.json".to_owned(), b"{\"a\":2}".to_vec()),
    ]);
    assert_eq!(files, wanted);
    let names: Vec<String> = repo
        .journals(&cortex)
        .unwrap()
        .into_iter()
        .map(|j| j.run)
        .collect();
    assert_eq!(names, ["r1", "r0"]);
    assert_eq!(
        work.git(&[
            "log",
            "--format=%cd",
            "--date=unix",
            "refs/nixgate/runs/cortex/r1"
        ])
        .lines()
        .count(),
        2
    );
    assert_eq!(work.git(&["fsck", "--strict", "--no-dangling"]), "");
    assert_eq!(repo.journal_read(&cortex, "none").unwrap(), None);
    assert_eq!(
        repo.journal_write(&cortex, "../x", utc(NOON), &[])
            .unwrap_err()
            .exit,
        Exit::Usage
    );
    repo.journal_drop(&cortex, "r1").unwrap();
    assert_eq!(repo.journals(&cortex).unwrap().len(), 1);
}

#[test]
fn a_repository_of_somebody_else_or_none_at_all_is_said() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("empty")).unwrap();
    let failure = Repo::open(&lab.path("empty")).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(!failure.next.is_empty());
}

#[test]
fn history_answers_what_a_release_asks() {
    let lab = Lab::new();
    let work = lab.repo("repo");
    let repo = work.repo();
    std::fs::create_dir(work.path.join("dir")).unwrap();
    std::fs::write(work.path.join("dir/a b"), "one").unwrap();
    std::fs::write(work.path.join("äöü"), "one").unwrap();
    let tree = repo.tracked_changes().unwrap();
    assert_eq!(tree.untracked, ["dir/", "äöü"]);
    work.git(&["add", "."]);
    assert_eq!(repo.tracked_changes().unwrap().changed, ["dir/a b", "äöü"]);
    let from = work.oid("HEAD");
    let tag = "release/cortex/20261120T031402Z-0123456789ab";
    work.commit(&format!(
        "fix it\n\nlong story\n\nNixgate-Fixes: {tag}\nSigned-off-by: Ada <a@b>"
    ));
    let to = work.oid("HEAD");
    let notes = repo.commits_between(&from, &to).unwrap();
    assert_eq!(notes.len(), 1);
    assert_eq!(notes[0].subject, "fix it");
    assert_eq!(notes[0].trailers[0], ("Nixgate-Fixes".to_owned(), tag.to_owned()));
    assert_eq!(repo.changed_files(&from, &to).unwrap(), ["dir/a b", "äöü"]);
    assert_eq!(repo.read_file(&to, "dir/a b".as_ref()).unwrap().unwrap(), b"one");
    assert_eq!(repo.read_file(&from, "dir/a b".as_ref()).unwrap(), None);
    assert_eq!(repo.read_file(&to, "dir".as_ref()).unwrap(), None);
    let commit = repo.resolve("HEAD").unwrap();
    assert_eq!((commit.id, commit.subject.as_str()), (to, "fix it"));
    assert_eq!(repo.resolve("no-such").unwrap_err().exit, Exit::Usage);
    assert_eq!(repo.resolve("--help").unwrap_err().exit, Exit::Usage);
    assert!(repo.is_ancestor(&from, &to).unwrap() && !repo.is_ancestor(&to, &from).unwrap());
    assert_eq!(repo.committer().unwrap().to_string(), "Ada <ops@example.org>");
}

#[test]
fn a_shallow_clone_proves_no_no() {
    let lab = Lab::new();
    let (hub, ada, _) = lab.two_clones("sha1");
    ada.commit("second");
    ada.git(&["push", "-q", "origin", "main"]);
    let url = format!("file://{}", hub.path.display());
    ada.git(&[
        "clone",
        "-q",
        "--depth=1",
        &url,
        lab.path("shallow").to_str().unwrap(),
    ]);
    let shallow = Work::at(lab.path("shallow"));
    let repo = shallow.repo();
    assert!(repo.is_shallow() && !ada.repo().is_shallow());
    let failure = repo
        .is_ancestor(&ada.oid("HEAD~1"), &shallow.oid("HEAD"))
        .unwrap_err();
    assert_eq!(failure.exit, Exit::Refused);
    let side = shallow.commit("side");
    shallow.git(&["checkout", "-q", "--orphan", "other"]);
    let other = shallow.commit("other");
    let failure = repo.is_ancestor(&other, &side).unwrap_err();
    assert!(failure.next[0].contains("--unshallow"), "{failure:?}");
}

#[test]
fn a_repository_that_somebody_else_owns_is_not_opened() {
    let lab = Lab::new();
    let work = lab.repo("repo");
    let chown = std::process::Command::new("chown")
        .args(["-R", "12345"])
        .arg(&work.path)
        .output()
        .unwrap();
    if !chown.status.success() {
        eprintln!("skipped: only root can give a repository away");
        return;
    }
    let failure = Repo::open(&work.path).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.next[0].contains("safe.directory"), "{failure:?}");
    // Typed as it is printed, wherever one stands in it.
    let below = work.path.join("sub");
    std::fs::create_dir(&below).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_git-nixgate"))
        .current_dir(&below)
        .arg("status")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let line = format!("safe.directory {}\n", work.path.display());
    assert!(said.contains(&line), "{said}");
}

#[test]
fn a_partial_clone_reads_files_that_it_lacks() {
    let lab = Lab::new();
    let (hub, ada, _) = lab.two_clones("sha1");
    hub.git(&["config", "uploadpack.allowFilter", "true"]);
    hub.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    std::fs::write(ada.path.join(".nixgate.toml"), "old").unwrap();
    ada.git(&["add", "."]);
    let old = ada.commit("old");
    std::fs::write(ada.path.join(".nixgate.toml"), "new").unwrap();
    ada.git(&["commit", "-qam", "new"]);
    ada.git(&["push", "-q", "origin", "main"]);
    let url = format!("file://{}", hub.path.display());
    ada.git(&[
        "clone",
        "-q",
        "--filter=blob:none",
        &url,
        lab.path("partial").to_str().unwrap(),
    ]);
    let partial = Work::at(lab.path("partial"));
    assert_eq!(
        partial
            .repo()
            .read_file(&old, ".nixgate.toml".as_ref())
            .unwrap()
            .unwrap(),
        b"old"
    );
    assert_eq!(partial.repo().read_file(&old, "none".as_ref()).unwrap(), None);
}

#[test]
fn reftable_is_said_and_not_misread() {
    let lab = Lab::new();
    let path = lab.path("table");
    std::fs::create_dir(&path).unwrap();
    if !git_command(&path)
        .args(["init", "-q", "--ref-format=reftable", "."])
        .output()
        .unwrap()
        .status
        .success()
    {
        return;
    }
    let failure = Repo::open(&path).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.to_string().contains("reftable"), "{failure:?}");
}

#[test]
fn init_keeps_what_it_was_told() {
    let lab = Lab::new();
    let (_, ada, _) = lab.two_clones("sha1");
    ada.git(&["remote", "rename", "origin", "upstream"]);
    std::fs::create_dir_all(ada.path.join("nix/hosts")).unwrap();
    std::fs::write(ada.path.join("nix/hosts/flake.nix"), "{ }").unwrap();
    ada.git(&["add", "nix"]);
    ada.commit("a flake");
    let bin = lab.path("fake");
    std::fs::create_dir(&bin).unwrap();
    // As Nix names what the flake has.
    write_script(&bin.join("nix"), "#!/bin/sh\necho '[\"my-host\",\"My_Host\"]'\n");
    let init = |flake: &str| {
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_git-nixgate"))
            .current_dir(&ada.path)
            .env("PATH", path)
            .args(["init", "--flake", flake, "--remote", "upstream"])
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let elsewhere = lab.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("flake.nix"), "{ }").unwrap();
    let (exit, said) = init("../elsewhere");
    assert!(
        exit == Some(2) && said.contains("outside of this repository"),
        "{said}"
    );
    let (exit, said) = init("./nix/hosts/");
    assert_eq!(exit, Some(0), "{said}");
    let text = std::fs::read_to_string(ada.path.join(".nixgate.toml")).unwrap();
    assert!(
        text.ends_with(
            "\n[defaults]\nflake = \"nix/hosts\"\nremote = \"upstream\"\n\
             \n[target.my-host]\n\n[target.my-host-2]\nattr = \"My_Host\"\n"
        ),
        "{text}"
    );
}
