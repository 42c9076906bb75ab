//! Records against real git: what it reads of them, what a changed byte does, what a crash leaves.

mod support;

use git_nixgate::failure::Exit;
use git_nixgate::git::{Repo, Which};
use git_nixgate::record::{Kind, OnHost, Record, Signature};
use support::*;

#[test]
fn git_reads_a_record_like_any_tag() {
    let lab = Lab::new();
    let work = lab.repo("repo");
    let cortex = target("cortex");
    work.release(&cortex);
    work.commit("second");
    let made = work.release(&cortex);
    let name = made.name.to_string();
    assert_eq!(work.git(&["cat-file", "-t", &name]), "tag");
    assert_eq!(work.oid(&format!("{name}^{{commit}}")), work.oid("HEAD"));
    assert_eq!(work.oid("refs/heads/release/cortex"), work.oid("HEAD"));
    let trailers = work.git(&[
        "for-each-ref",
        "--format=%(contents:trailers)",
        &made.name.ref_name(),
    ]);
    assert!(
        trailers.starts_with(
            "Nixgate-Schema: 1\nNixgate-Target: cortex\nNixgate-Kind: release\nNixgate-Seq: 2\n"
        ),
        "{trailers}"
    );
    let subject = work.git(&[
        "for-each-ref",
        "--format=%(contents:subject)",
        &made.name.ref_name(),
    ]);
    assert_eq!(
        subject,
        format!("Release cortex at {}: second", made.name.short())
    );
    assert!(
        work.git(&["show", "--no-patch", &name])
            .contains("generation 141 -> 142")
    );
    assert_eq!(work.git(&["fsck", "--strict", "--no-dangling"]), "");
}

#[test]
fn the_ledger_reads_back_what_was_written() {
    let lab = Lab::new();
    let work = lab.repo("repo");
    let cortex = target("cortex");
    let first = work.release(&cortex);
    work.commit("second");
    let second = work.release(&cortex);
    let back = work.record(&cortex, What::Rollback(None));
    let ledger = work.ledger(&cortex).unwrap();
    assert_eq!(ledger.head().oid, back.oid);
    assert_eq!(ledger.head().kind, Kind::Rollback);
    assert_eq!(ledger.on_host(), OnHost::Release(first.name.clone()));
    assert!(ledger.is_withdrawn(&second.name));
    assert_eq!(ledger.furthest_commit(), Some(second.commit));
    assert_eq!(
        work.oid("refs/heads/release/cortex"),
        second.commit,
        "the pointer never moves in a rollback"
    );
    assert!(work.repo().tag_defects(&ledger).unwrap().is_empty());
    assert_eq!(work.repo().recent(&cortex, Which::Local, 2).unwrap().len(), 2);
}

#[test]
fn one_changed_byte_anywhere_is_found() {
    let lab = Lab::new();
    let work = lab.repo("repo");
    let cortex = target("cortex");
    let first = work.release(&cortex);
    work.commit("second");
    work.release(&cortex);
    let good = Record::parse(first.oid, &first.raw, Some(&first.name.ref_name())).unwrap();
    let ledger = work.ledger(&cortex).unwrap();
    for at in 0..first.raw.len() {
        let mut raw = first.raw.clone();
        raw[at] ^= 1;
        // Either the record itself is defective, or the next record's link finds it.
        if let Ok(record) = Record::parse(first.oid, &raw, Some(&first.name.ref_name())) {
            assert_ne!(record.sha256, good.sha256);
            let chain = vec![ledger.head().clone(), record];
            assert!(git_nixgate::record::Ledger::new(chain).is_err(), "byte {at}");
        }
    }
}

#[test]
fn the_local_pointer_stays_where_a_work_tree_has_it() {
    let lab = Lab::new();
    let work = lab.repo("repo");
    let cortex = target("cortex");
    let first = work.release(&cortex);
    work.git(&[
        "worktree",
        "add",
        "-q",
        lab.path("linked").to_str().unwrap(),
        "release/cortex",
    ]);
    work.commit("second");
    let made = work.make(&cortex, What::Release(work.oid("HEAD")));
    let done = work
        .repo()
        .commit_local(&cortex, &made.name, &made.oid, made.pointer(), None, false)
        .unwrap();
    assert!(done.pointer_left.unwrap().contains("linked"));
    assert_eq!(work.oid("refs/heads/release/cortex"), first.commit);
    assert_eq!(work.oid("refs/nixgate/ledger/cortex"), made.oid);
    // The linked work tree reads the same refs.
    assert_eq!(
        Repo::open(&lab.path("linked"))
            .unwrap()
            .ledger(&cortex, Which::Local)
            .unwrap()
            .unwrap()
            .records()
            .len(),
        2
    );
}

#[test]
fn a_crash_between_the_refs_is_mended_by_doing_it_again() {
    let lab = Lab::new();
    let work = lab.repo("repo");
    let cortex = target("cortex");
    let made = work.make(&cortex, What::Release(work.oid("HEAD")));
    let repo = work.repo();
    repo.set_pending(&cortex, 1, &made.oid).unwrap();
    repo.set_pending(&cortex, 1, &made.oid).unwrap();
    work.git(&["gc", "-q", "--prune=now"]);
    // Only the tag got through.
    work.git(&["update-ref", &made.name.ref_name(), &made.oid.to_string()]);
    for _ in 0..2 {
        repo.commit_local(&cortex, &made.name, &made.oid, made.pointer(), None, false)
            .unwrap();
        assert_eq!(work.oid("refs/nixgate/ledger/cortex"), made.oid);
        assert!(repo.pending(&cortex).unwrap().is_empty());
    }
}

#[test]
fn a_replaced_object_deceives_nobody() {
    let lab = Lab::new();
    let work = lab.repo("repo");
    let cortex = target("cortex");
    let first = work.release(&cortex);
    let (old, new) = (work.oid("HEAD"), work.commit("second"));
    let second = work.release(&cortex);
    work.git(&["replace", &second.oid.to_string(), &first.oid.to_string()]);
    work.git(&["replace", "--graft", &new.to_string()]);
    let ledger = work.ledger(&cortex).unwrap();
    assert_eq!(ledger.head().name, second.name);
    assert!(work.repo().is_ancestor(&old, &new).unwrap());
}

/// The script in docs/format.md, run as it stands there.
fn by_hand(work: &Work) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/format.md")).unwrap();
    let part = page.split("## Verifying by hand").nth(1).unwrap();
    let script: String = part
        .lines()
        .filter_map(|l| l.strip_prefix("    "))
        .map(|l| format!("{l}\n"))
        .collect();
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .current_dir(&work.path)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_page_about_the_format_verifies_by_hand() {
    let lab = Lab::new();
    for format in ["sha1", "sha256"] {
        let work = lab.repo_with(format, format);
        let cortex = target("cortex");
        let first = work.release(&cortex);
        work.commit("second");
        work.release(&cortex);
        work.record(&cortex, What::Rollback(None));
        assert_eq!(by_hand(&work), "");
        let other = work.make(&cortex, What::Deploy(first.name.to_string()));
        work.git(&["update-ref", &first.name.ref_name(), &other.oid.to_string()]);
        assert_eq!(by_hand(&work), format!("moved: {}\n", first.name));
        let ledger = work.ledger(&cortex).unwrap();
        let defects: Vec<_> = work
            .repo()
            .tag_defects(&ledger)
            .unwrap()
            .iter()
            .map(|d| d.rule)
            .collect();
        assert_eq!(defects, ["record-moved"]);
        work.git(&["update-ref", &first.name.ref_name(), &first.oid.to_string()]);

        // Evidence that is not the digest's, and a link to other bytes than there are.
        let forged = |from: &str, to: &str| {
            let good = String::from_utf8(other.raw.clone()).unwrap();
            assert!(good.contains(from), "{from}");
            let oid = work
                .repo()
                .write_tag(good.replacen(from, to, 1).as_bytes())
                .unwrap();
            work.git(&["update-ref", &other.name.ref_name(), &oid.to_string()]);
            work.git(&["update-ref", "refs/nixgate/ledger/cortex", &oid.to_string()]);
            by_hand(&work)
        };
        assert_eq!(
            forged("\"paths\":2700", "\"paths\":2701"),
            format!("forged: {}\n", other.name)
        );
        let before = ledger.head().name.clone();
        assert_eq!(
            forged("Nixgate-Previous-SHA256: ", "Nixgate-Previous-SHA256: 0"),
            format!("changed: {before}\n")
        );
        let gone = "1".repeat(work.repo().hex_len());
        let previous = format!("Nixgate-Previous: {}", ledger.head().oid);
        assert!(
            forged(&previous, &format!("Nixgate-Previous: {gone}")).contains(&format!("missing: {gone}\n"))
        );
    }
}

/// Records that were written once, by earlier versions too: what could be read and verified then is so for ever.
#[test]
fn golden_records_of_schema_1_hold_for_ever() {
    let dir = std::path::Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/records/schema-1"
    ));
    let lab = Lab::new();
    for (format, told) in [
        (
            "sha1",
            &[
                "1 release none",
                "2 release ssh",
                "3 rollback none",
                "4 deploy none",
                "5 rollback none",
            ][..],
        ),
        ("sha256", &["1 release none", "2 release none"][..]),
    ] {
        let work = lab.repo_with(format, format);
        let mut files: Vec<_> = std::fs::read_dir(dir.join(format))
            .unwrap()
            .map(|f| f.unwrap().path())
            .collect();
        files.sort();
        let mut records = Vec::new();
        for file in &files {
            let raw = std::fs::read(file).unwrap();
            let oid = work.repo().write_tag(&raw).unwrap();
            let record = Record::parse(oid, &raw, None).unwrap();
            work.git(&["update-ref", &record.name.ref_name(), &oid.to_string()]);
            work.git(&["update-ref", "refs/nixgate/ledger/cortex", &oid.to_string()]);
            records.push(record);
        }
        assert_eq!(by_hand(&work), "", "{format}");
        let ledger = work.ledger(&target("cortex")).unwrap();
        let found: Vec<String> = ledger
            .records()
            .iter()
            .map(|r| format!("{} {} {}", r.seq, r.kind, r.signature))
            .collect();
        assert_eq!(found, told);
        assert!(work.repo().tag_defects(&ledger).unwrap().is_empty());
        for (record, n) in ledger.records().iter().zip(1..) {
            let commit = if record.kind == Kind::Release { n } else { 1 };
            record.told(Some(&format!("change {commit}"))).unwrap();
            assert_eq!(record.evidence.paths, 2700);
        }
        if let Some(signed) = ledger.records().iter().find(|r| r.signature != Signature::None) {
            let trust = work
                .repo()
                .trust(true, dir.join("signers").to_str().unwrap())
                .unwrap();
            let by = work.repo().signed(signed, &trust).unwrap().to_string();
            assert!(
                by.starts_with("signed by ada@example.org with ED25519 key"),
                "{by}"
            );
        }
        if format == "sha1" {
            assert_eq!(ledger.on_host(), OnHost::BeforeFirst);
            assert_eq!(ledger.withdrawn().len(), 2);
        }
    }
}

#[test]
fn a_stray_tag_with_a_late_name_does_not_become_the_ledger() {
    let lab = Lab::new();
    let work = lab.repo("repo");
    let cortex = target("cortex");
    let first = work.release(&cortex);
    work.commit("second");
    work.release(&cortex);
    let repo = work.repo();
    // A record that is well-formed in itself, number 1 of a chain of its own, with a later name.
    let stray = draft(&repo, &cortex, None, What::Release(work.oid("HEAD")));
    let stray = git_nixgate::record::Draft {
        time: utc(NOON + 5000),
        ..stray
    };
    let oid = repo.write_tag(&stray.payload()).unwrap();
    work.git(&["update-ref", &stray.name().ref_name(), &oid.to_string()]);
    work.git(&["update-ref", "-d", "refs/nixgate/ledger/cortex"]);
    assert_eq!(repo.best(&cortex, None).unwrap(), Which::Tags);
    for failure in [
        repo.ledger(&cortex, Which::Tags).map(drop).unwrap_err(),
        repo.recent(&cortex, Which::Tags, 1).map(drop).unwrap_err(),
    ] {
        assert_eq!(failure.exit, Exit::Refused, "{failure:?}");
    }
    work.git(&["update-ref", "-d", &stray.name().ref_name()]);
    assert_eq!(
        repo.ledger(&cortex, Which::Tags).unwrap().unwrap().records()[0].oid,
        first.oid
    );
}
