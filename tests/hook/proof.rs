//! What cannot be decided is refused, and what is refused says why.

use git_nixgate::command::hook;
use git_nixgate::git::Known;

use crate::support::*;
use crate::{Hooked, LEDGER, POINTER};

#[test]
fn what_cannot_be_proven_is_refused() {
    let h = Hooked::client("sha1");
    // The remote has moved on, and we have not seen it.
    h.bob.commit("bob's");
    h.release(&h.bob);
    let ours = h.local_release(&h.ada, "ours");
    let all = [ours.name.ref_name(), LEDGER.to_owned(), POINTER.to_owned()];
    let args: Vec<&str> = ["-f", "origin"]
        .into_iter()
        .chain(all.iter().map(String::as_str))
        .collect();
    h.refused(&h.ada.path, &args, "unproven");
    // A shallow clone cannot tell a rewind from a fast-forward.
    let url = format!("file://{}", h.hub.path.display());
    h.ada.git(&[
        "clone",
        "-q",
        "--depth=1",
        &url,
        h.lab.path("shallow").to_str().unwrap(),
    ]);
    let shallow = Work::at(h.lab.path("shallow"));
    hook::install(&shallow.repo(), false).unwrap();
    let orphan = {
        shallow.git(&["checkout", "-q", "--orphan", "other"]);
        shallow.commit("orphan")
    };
    shallow.git(&["fetch", "-q", "origin", "release/cortex", "--depth=1"]);
    h.refused(
        &shallow.path,
        &["-f", "origin", &format!("{orphan}:{POINTER}")],
        "unproven",
    );
}

#[test]
fn a_missing_object_is_no_proof() {
    let h = Hooked::client("sha1");
    let first = h.ada.ledger(&h.cortex).unwrap().head().oid;
    let second = h.local_release(&h.ada, "second");
    let third = h.local_release(&h.ada, "third");
    // The link between the remote's record and ours is gone from here.
    h.ada.git(&["update-ref", "-d", &second.name.ref_name()]);
    let hex = second.oid.to_string();
    std::fs::remove_file(h.ada.path.join(".git/objects").join(&hex[..2]).join(&hex[2..])).unwrap();
    assert_eq!(h.hub.oid(LEDGER), first);
    h.refused(
        &h.ada.path,
        &["origin", &third.name.ref_name(), LEDGER, POINTER],
        "unproven",
    );
}

#[test]
fn a_refusal_says_what_why_and_what_next() {
    let h = Hooked::client("sha1");
    let first = h.ada.ledger(&h.cortex).unwrap().head().clone();
    let second = h.local_release(&h.ada, "second");
    let lines = format!(
        "x {} {POINTER} {}\n(delete) {} {} {}\n",
        first.commit,
        second.commit,
        "0".repeat(40),
        first.name.ref_name(),
        first.oid
    );
    let failure = hook::pre_push(&h.ada.path, "origin", "url", lines.as_bytes(), |_| {
        Known::default()
    })
    .unwrap_err();
    let text = format!(
        "exit {}\n{failure}\n  next: {}",
        failure.exit.code(),
        failure.next.join("\n  next: ")
    );
    let text = [(&first.commit, "FIRST"), (&second.commit, "SECOND")]
        .iter()
        .fold(text, |text, (oid, word)| {
            text.replace(&oid.to_string()[..12], word)
        });
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_snapshot!("hook-refusal", text));
}

#[test]
fn a_ledger_comes_to_an_empty_server_with_all_its_tags_or_not_at_all() {
    let h = Hooked::new("sha1");
    h.local_release(&h.ada, "second");
    let empty = h.lab.bare("empty.git", "sha1");
    hook::install(&empty.repo(), true).unwrap();
    let url = empty.path.to_str().unwrap();
    let newest = h.ada.ledger(&h.cortex).unwrap().head().name.ref_name();
    let refused = |rule: &str| {
        for specs in [&[LEDGER][..], &[LEDGER, POINTER], &[LEDGER, POINTER, &newest]] {
            let args: Vec<&str> = ["--no-verify", "--atomic", url]
                .into_iter()
                .chain(specs.iter().copied())
                .collect();
            let (pushed, said) = h.push(&h.ada.path, &args);
            assert!(!pushed && said.contains(rule), "{specs:?}: {said}");
        }
    };
    // Git sends what is reachable, and a link to the record before is nothing that git follows.
    refused("(unproven)");
    h.passes(
        &h.ada.path,
        &["--no-verify", url, "refs/tags/release/cortex/*:refs/tags/kept/*"],
    );
    refused("(tag-missing)");
    h.passes(
        &h.ada.path,
        &[
            "--no-verify",
            "--atomic",
            url,
            LEDGER,
            POINTER,
            "refs/tags/release/cortex/*:refs/tags/release/cortex/*",
        ],
    );
    // What seems to stay as it is, is judged as well: that it is there is only said.
    let same = format!("x {0} refs/heads/release/cortex {0}\n", "1".repeat(40));
    let failure = hook::pre_push(&h.ada.path, "origin", "url", same.as_bytes(), |_| {
        Known::default()
    })
    .unwrap_err();
    assert!(failure.why[0].contains("(unproven)"), "{failure:?}");
}

#[test]
fn a_pointer_that_lags_behind_the_ledger_follows_alone_or_with_a_later_record() {
    for with_a_later in [false, true] {
        let h = Hooked::client("sha1");
        let dir = h.ada.path.clone();
        let second = h.local_release(&h.ada, "second").name.ref_name();
        h.passes(&dir, &["--atomic", "origin", &second, LEDGER]);
        // What the other side has is known as far as it was fetched.
        wait(h.ada.repo().fetch("origin", &h.cortex)).unwrap();
        if with_a_later {
            let back = h.ada.record(&h.cortex, What::Rollback(None)).name.ref_name();
            // Git calls a way back no fast-forward; who publishes has a lease for it.
            let ledger = format!("+{LEDGER}");
            h.passes(&dir, &["--atomic", "origin", &back, &ledger, POINTER]);
        } else {
            h.passes(&dir, &["origin", POINTER]);
        }
        assert_eq!(h.hub.oid(POINTER), h.ada.oid("HEAD"));
    }
}

#[test]
fn a_remote_that_has_the_tags_and_no_ledger_is_published_to_again() {
    let h = Hooked::client("sha1");
    let publish = || {
        let git = git_command(&h.ada.path);
        let envs = git.get_envs().filter_map(|(key, value)| Some((key, value?)));
        let output = std::process::Command::new(h.bin.join("git-nixgate"))
            .current_dir(&h.ada.path)
            .envs(envs)
            .env("PATH", h.lab.program().1)
            .args(["publish", "cortex"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!(h.hub.oid(LEDGER), h.ada.oid(LEDGER));
    };
    h.local_release(&h.ada, "second");
    publish();
    // An import that copied branches and tags.
    h.hub.git(&["update-ref", "-d", LEDGER]);
    publish();
    // Somebody pushed the tags by hand.
    h.local_release(&h.ada, "third");
    h.passes(&h.ada.path, &["--no-verify", "--tags", "origin"]);
    publish();
    // A tag that is not there is missed as before, and one that was moved there too.
    let fourth = h.local_release(&h.ada, "fourth");
    h.refused(&h.ada.path, &["origin", LEDGER], "tag-missing");
    let tag = fourth.name.ref_name();
    h.ada
        .git(&["push", "-q", "--no-verify", "origin", &format!("HEAD:{tag}")]);
    h.refused(&h.ada.path, &["origin", LEDGER], "tag-missing");
}

#[test]
fn a_url_may_hold_any_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let h = Hooked::client("sha1");
    let hub = h.lab.path("").join(std::ffi::OsStr::from_bytes(b"h\xfcb.git"));
    std::fs::rename(&h.hub.path, &hub).unwrap();
    let push = |spec: &str| {
        let output = git_command(&h.ada.path)
            .env("PATH", h.lab.program().1)
            .arg("push")
            .arg(&hub)
            .arg(spec)
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (pushed, said) = push("HEAD:refs/heads/x");
    assert!(pushed, "{said}");
    let (pushed, said) = push(&format!(":{POINTER}"));
    assert!(!pushed && said.contains("(pointer-deleted)"), "{said}");
}
