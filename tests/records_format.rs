//! The format without a repository: what is written is read back, what is wrong in one way is refused for that way.

mod support;

use git_nixgate::event::{Gate, Verdict};
use git_nixgate::record::evidence::{Evidence, LIMIT, canonical};
use git_nixgate::record::{Draft, Kind, Ledger, Link, OnHost, Record, RecordName, Secrets, Utc, sha256_hex};
use proptest::prelude::*;
use support::chain::{Chain, commit, hash, release_draft};
use support::{NOON, evidence, gate, target, utc};

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn evidence_reads_back_as_it_was_written(
        findings in proptest::collection::vec(any::<String>(), 0..40),
        warnings in proptest::collection::vec(any::<String>(), 0..10),
        millis in any::<u64>(),
        delta in any::<i64>(),
    ) {
        let mut e = evidence(&target("cortex"), &commit(1).to_string(), &commit(2).to_string(), "x");
        e.gates[0].findings = findings;
        e.gates[0].millis = millis;
        e.warnings = warnings;
        e.diff.as_mut().unwrap().bytes_delta = delta;
        let line = e.to_line(&Secrets::default());
        prop_assert!(line.len() <= LIMIT && line.bytes().all(|b| (b' '..=b'~').contains(&b)));
        let read = Evidence::from_line(&line).unwrap();
        // Once written it is stable: nothing is escaped or cut twice.
        prop_assert_eq!(read.to_line(&Secrets::default()), line.clone());
        prop_assert_eq!(read.gates[0].millis, millis);
        let mut draft = release_draft(&target("cortex"), 1, None);
        draft.evidence = e;
        draft.evidence.commit = draft.commit.to_string();
        let raw = draft.payload();
        let record = Record::parse(hash(&raw), &raw, Some(&draft.name().ref_name())).unwrap();
        prop_assert_eq!(record.kind, Kind::Release);
    }

    #[test]
    fn whatever_the_length_it_fits(count in 0usize..900, size in 0usize..900) {
        let mut e = evidence(&target("cortex"), &commit(1).to_string(), &commit(2).to_string(), "x");
        let long: Vec<String> = (0..count).map(|n| format!("{n} {}", "\u{1F600}".repeat(size / 10))).collect();
        e.gates[0].findings = long.clone();
        e.warnings = long.clone();
        e.units_changed = long;
        let line = e.to_line(&Secrets::default());
        prop_assert!(line.len() <= LIMIT);
        let read = Evidence::from_line(&line).unwrap();
        prop_assert_eq!(read.gates[0].findings.len() as u64 + read.gates[0].more, count as u64);
        prop_assert_eq!(read.warnings.len() as u64 + read.warnings_more, count as u64);
        prop_assert_eq!(read.units_changed.len() as u64 + read.units_more, count as u64);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(raw in proptest::collection::vec(any::<u8>(), 0..400), at in any::<usize>(), byte in any::<u8>()) {
        let _ = Record::parse(commit(1), &raw, None);
        let mut good = release_draft(&target("cortex"), 1, None).payload();
        let at = at % good.len();
        good[at] = byte;
        let _ = Record::parse(commit(1), &good, None);
        good.truncate(at);
        prop_assert!(Record::parse(commit(1), &good, None).is_err());
    }

    #[test]
    fn names_and_times_read_back(seconds in 0i64..253_402_300_799, n in any::<u64>()) {
        let time = Utc::from_unix(seconds).unwrap();
        prop_assert_eq!(time.to_string().parse::<Utc>().unwrap(), time);
        let name = RecordName::new(target("a-1"), time, &commit(n));
        prop_assert_eq!(name.to_string().parse::<RecordName>().unwrap(), name.clone());
        prop_assert_eq!(RecordName::from_leaf(&target("a-1"), &name.leaf()).unwrap(), name);
    }
}

#[test]
fn secrets_are_gone_from_the_evidence_and_from_the_prose() {
    let mut draft = release_draft(&target("cortex"), 1, None);
    draft
        .evidence
        .warnings
        .push("cache https://10.0.0.7/x: token tok-en-123 refused, 10.0.0.7".into());
    draft.evidence.gates[0]
        .findings
        .push("ssh jarvis@10.0.0.7".into());
    draft.subject = "deploy to 10.0.0.7".into();
    draft.secrets = known(&["10.0.0.7", "jarvis"], &["tok-en-123"]);
    let raw = String::from_utf8(draft.payload()).unwrap();
    for secret in ["10.0.0.7", "tok-en-123", "jarvis"] {
        assert!(!raw.contains(secret), "{secret} in {raw}");
    }
    assert!(raw.contains("[redacted]"));
    let record = Record::parse(hash(raw.as_bytes()), raw.as_bytes(), None).unwrap();
    assert_eq!(record.leaks(&draft.secrets), 0);
    // In the evidence, and in the prose that repeats it.
    assert_eq!(record.leaks(&known(&["refused"], &[])), 1);
    // A word that a record says by itself is no leak: a builder's user may be called like a gate.
    assert_eq!(record.leaks(&known(&["build", "cortex", "forge"], &[])), 1);
}

fn known(words: &[&str], keys: &[&str]) -> Secrets {
    let mut secrets = Secrets::default();
    words.iter().for_each(|word| secrets.word(word));
    keys.iter().for_each(|key| secrets.key(key));
    secrets
}

#[test]
fn a_value_is_found_wherever_a_hand_may_have_put_it() {
    let draft = release_draft(&target("cortex"), 1, None);
    let good = String::from_utf8(draft.payload()).unwrap();
    let line = good.lines().find(|l| l.starts_with('{')).unwrap().to_owned();
    let secrets = known(&["fd00::7"], &["tok-en-123"]);
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value = serde_json::from_str(&line).unwrap();
        change(&mut value);
        let new = canonical(&value);
        good.replace(&line, &new)
            .replace(&sha256_hex(line.as_bytes()), &sha256_hex(new.as_bytes()))
    };
    let cases = [
        good.replacen("change 1", "FD00:0::7", 1),
        good.replacen("generation 141", "at [fd00::7]:22", 1),
        with(&|v| v["predicate"]["gates"][0]["findings"][0] = "fd00:0:0::7".into()),
        with(&|v| v["predicate"]["gates"][0]["reason"] = "xtok-en-123".into()),
        with(&|v| v["predicate"]["diff"]["lines"][0] = "fd00::7".into()),
        with(&|v| v["predicate"]["plan"]["restart"][0] = "fd00::7".into()),
        with(&|v| v["predicate"]["builder"] = "op@fd00::7".into()),
        with(&|v| v["predicate"]["drift"] = "fd00::7".into()),
        with(&|v| v["predicate"]["specialisation"] = "tok-en-123".into()),
        with(&|v| v["predicate"]["before"]["toplevel"] = "/nix/store/tok-en-123".into()),
        good.replacen("tagger Ada", "tagger tok-en-123", 1),
    ];
    for (n, text) in cases.iter().enumerate() {
        assert_ne!(*text, good, "case {n}");
        let record = Record::parse(hash(text.as_bytes()), text.as_bytes(), None).unwrap();
        assert!(record.leaks(&secrets) > 0, "case {n}: {text}");
    }
    let record = Record::parse(hash(good.as_bytes()), good.as_bytes(), None).unwrap();
    assert_eq!(record.leaks(&secrets), 0);
}

#[test]
fn the_clock_may_stand_or_go_back() {
    let now = utc(NOON).time();
    assert_eq!(Utc::behind(now, None), Some((utc(NOON), 0)));
    assert_eq!(Utc::behind(now, Some(utc(NOON - 1))), Some((utc(NOON), 0)));
    assert_eq!(Utc::behind(now, Some(utc(NOON))), Some((utc(NOON + 1), 0)));
    assert_eq!(Utc::behind(now, Some(utc(NOON + 90))), Some((utc(NOON + 91), 90)));
}

#[test]
fn each_malformed_record_is_refused_for_what_is_wrong_with_it() {
    let first = release_draft(&target("cortex"), 1, None);
    let raw = first.payload();
    let link = Link {
        oid: hash(&raw),
        sha256: sha256_hex(&raw),
        name: first.name(),
    };
    let draft = release_draft(&target("cortex"), 2, Some(link));
    let good = String::from_utf8(draft.payload()).unwrap();
    let own = draft.name();
    assert!(Record::parse(hash(good.as_bytes()), good.as_bytes(), Some(&own.ref_name())).is_ok());

    let line = good.lines().find(|l| l.starts_with('{')).unwrap().to_owned();
    let block = format!("-----BEGIN NIXGATE EVIDENCE-----\n{line}\n-----END NIXGATE EVIDENCE-----\n");
    let armor = "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n";
    let swap = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    // Evidence that is whole in itself, with its digest put right.
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value = serde_json::from_str(&line).unwrap();
        change(&mut value);
        let new = canonical(&value);
        good.replace(&line, &new)
            .replace(&sha256_hex(line.as_bytes()), &sha256_hex(new.as_bytes()))
    };
    let raw_line = |new: &str| {
        good.replace(&line, new)
            .replace(&sha256_hex(line.as_bytes()), &sha256_hex(new.as_bytes()))
    };
    let back = swap("Nixgate-Kind: release", "Nixgate-Kind: rollback");
    let cases: Vec<(&str, String)> = vec![
        ("encoding", "\u{0}ENC".into()),
        ("control", swap("Release cortex", "Release\u{1b}[2J cortex")),
        ("header", swap("type commit", "type tree")),
        ("header", swap("object ", "object 0")),
        ("header", swap("\ntagger Ada", "\nx-other y\ntagger Ada")),
        ("header", swap(" +0000", " +0100")),
        ("header", good.split("\n\n").next().unwrap().to_owned()),
        ("name", swap(&format!("tag {own}"), "tag release/cortex/v2")),
        (
            "name",
            swap(&format!("tag {own}"), &format!("tag {}", first.name())),
        ),
        (
            "time",
            swap(&format!("{} +0000", NOON + 2), &format!("{} +0000", NOON + 3)),
        ),
        (
            "commit",
            swap(&format!("object {}", commit(2)), &format!("object {}", commit(3))),
        ),
        (
            "commit",
            with(&|v| v["subject"][0]["digest"]["gitCommit"] = commit(3).to_string().into()),
        ),
        // Tag and evidence agree, and the name is another commit's.
        (
            "commit",
            with(&|v| v["subject"][0]["digest"]["gitCommit"] = commit(3).to_string().into()).replacen(
                &format!("object {}", commit(2)),
                &format!("object {}", commit(3)),
                1,
            ),
        ),
        ("target", swap("Nixgate-Target: cortex", "Nixgate-Target: other")),
        ("target", with(&|v| v["predicate"]["target"] = "other".into())),
        ("subject", swap("Release cortex at", "\n\nRelease cortex at")),
        ("block", swap(&block, "")),
        ("block", swap(&block, &format!("{block}{block}"))),
        (
            "block",
            swap(&block, &block.replace(&line, &format!("{line}\n{line}"))),
        ),
        (
            "block",
            swap("generation 141", "-----BEGIN NIXGATE EVIDENCE-----"),
        ),
        ("evidence", raw_line("{}")),
        ("evidence", raw_line("not json")),
        ("evidence", raw_line(&line.replace("\":", "\": "))),
        ("evidence", raw_line(&line.replacen("{", "{\"a\":1,\"a\":1,", 1))),
        (
            "evidence",
            raw_line(&line.replace("\"paths\":2700", "\"paths\":2700.0")),
        ),
        (
            "evidence",
            with(&|v| v["predicate"]["nar_hash"] = "sha256:1".into()),
        ),
        (
            "evidence",
            with(&|v| v["predicateType"] = "https://git-nixgate.dev/evidence/v2".into()),
        ),
        (
            "evidence",
            with(&|v| v["predicate"]["gates"][0]["verdict"] = "skipped".into()),
        ),
        (
            "evidence",
            with(&|v| drop(v["predicate"].as_object_mut().unwrap().remove("toplevel"))),
        ),
        (
            "evidence-digest",
            swap("Nixgate-Evidence-SHA256: ", "Nixgate-Evidence-SHA256: 0"),
        ),
        (
            "gates",
            with(&|v| v["predicate"]["gates"][1]["verdict"] = "failed".into()),
        ),
        (
            "gates",
            with(&|v| v["predicate"]["gates"] = serde_json::json!([])),
        ),
        ("schema", swap("Nixgate-Schema: 1", "Nixgate-Schema: 2")),
        ("trailers", swap("Nixgate-Schema: 1\n", "")),
        ("trailers", swap("Nixgate-Kind: release", "Nixgate-Kind: guess")),
        (
            "trailers",
            swap(
                "Nixgate-Kind: release",
                "Nixgate-Kind: release\nNixgate-Kind: release",
            ),
        ),
        (
            "trailers",
            swap("Nixgate-Kind: release", "Nixgate-Kind: release\nNixgate-Extra: 1"),
        ),
        (
            "trailers",
            swap("Nixgate-Kind: release", "Nixgate-Kind: release\nSigned-off-by: x"),
        ),
        ("trailers", swap("Nixgate-Seq: 2", "Nixgate-Seq: 02")),
        ("trailers", swap("Nixgate-Seq: 2", "Nixgate-Seq: 0")),
        (
            "trailers",
            swap("Nixgate-Previous-SHA256: ", "Nixgate-Previous-SHA256: 0"),
        ),
        ("trailers", format!("{good}\nlate paragraph\n")),
        ("trailers", good.trim_end().to_owned()),
        ("sequence", swap("Nixgate-Seq: 2", "Nixgate-Seq: 1")),
        ("kind", swap("Nixgate-Kind: release", "Nixgate-Kind: rollback")),
        ("kind", format!("{good}Nixgate-Restores: {}\n", first.name())),
        ("kind", format!("{good}Nixgate-Withdraws: {}\n", first.name())),
        (
            "target",
            format!("{back}Nixgate-Restores: release/orion/{}\n", first.name().leaf()),
        ),
        (
            "target",
            format!(
                "{back}Nixgate-Restores: {}\nNixgate-Withdraws: release/orion/{}\n",
                first.name(),
                own.leaf()
            ),
        ),
        (
            "trailers",
            format!(
                "{back}Nixgate-Restores: before-first\n{0}{0}",
                format_args!("Nixgate-Withdraws: {}\n", first.name())
            ),
        ),
        ("armor", format!("{good}{armor}more\n")),
        ("armor", format!("{good}{armor}{armor}")),
        ("armor", format!("{good}-----BEGIN SSH SIGNATURE-----\nAAAA\n")),
        ("armor", swap("generation 141", "-----BEGIN PGP MESSAGE-----")),
    ];
    for (n, (rule, text)) in cases.iter().enumerate() {
        let raw: &[u8] = if *rule == "encoding" {
            b"\xff\n\n"
        } else {
            text.as_bytes()
        };
        let defect = Record::parse(hash(good.as_bytes()), raw, Some(&own.ref_name())).unwrap_err();
        assert_eq!(defect.rule, *rule, "case {n}: {defect}");
        assert!(defect.why.len() > 10);
    }
    // And a signature that is where it belongs changes nothing else.
    let signed = format!("{good}{armor}");
    assert!(Record::parse(hash(signed.as_bytes()), signed.as_bytes(), Some(&own.ref_name())).is_ok());
}

#[test]
fn a_record_looks_like_this() {
    let first = release_draft(&target("cortex"), 1, None);
    let raw = first.payload();
    let link = Link {
        oid: hash(&raw),
        sha256: sha256_hex(&raw),
        name: first.name(),
    };
    let mut draft = release_draft(&target("cortex"), 2, Some(link));
    draft.evidence.gates.push(gate(Gate::Commit, Verdict::Passed));
    draft.evidence.warnings.push("cache spare did not answer".into());
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_snapshot!("record-release", String::from_utf8(draft.payload()).unwrap()));
    let mut back = release_draft(&target("cortex"), 3, draft_link(&draft));
    (back.commit, back.evidence) = (first.commit, first.evidence.clone());
    back.kind = Kind::Rollback;
    back.restores = Some(OnHost::Release(first.name()));
    back.withdraws = vec![draft.name()];
    settings.bind(|| insta::assert_snapshot!("record-rollback", String::from_utf8(back.payload()).unwrap()));
}

fn draft_link(draft: &Draft) -> Option<Link> {
    let raw = draft.payload();
    Some(Link {
        oid: hash(&raw),
        sha256: sha256_hex(&raw),
        name: draft.name(),
    })
}

/// The newest record of a chain, with the first line's subject as git would give it, and every record before it.
fn newest(chain: &Chain, raw: &[u8], subject: &str) -> Result<(), String> {
    let (oid, own) = chain.raws.last().unwrap();
    let name = Record::parse(*oid, own, None).unwrap().name;
    let mut records = vec![Record::parse(*oid, raw, Some(&name.ref_name())).map_err(|d| d.to_string())?];
    for (oid, raw) in chain.raws.iter().rev().skip(1) {
        records.push(Record::parse(*oid, raw, None).unwrap());
    }
    let ledger = Ledger::new(records).map_err(|d| d.to_string())?;
    ledger.head().told(Some(subject)).map_err(|d| d.to_string())
}

#[test]
fn no_byte_of_the_newest_record_changes_unnoticed() {
    let mut chain = Chain::new();
    chain.release();
    chain.release();
    let release = chain.raws.clone();
    chain.rollback(None);
    let rollback = chain.raws.clone();
    chain.deploy(&RecordName::from_leaf(&target("cortex"), &release_name(&release)).unwrap());
    for raws in [vec![release[0].clone()], release, rollback, chain.raws.clone()] {
        let chain = Chain {
            target: target("cortex"),
            raws,
        };
        let raw = &chain.raws.last().unwrap().1;
        let subject = format!("change {}", chain.raws.len());
        newest(&chain, raw, &subject).unwrap();
        for at in 0..raw.len() {
            let mut changed = raw.clone();
            changed[at] ^= 1;
            let found = newest(&chain, &changed, &subject);
            let around = String::from_utf8_lossy(&raw[at.saturating_sub(20)..(at + 20).min(raw.len())]);
            assert!(
                found.is_err(),
                "byte {at} of record {}: {around:?}",
                chain.raws.len()
            );
        }
        // Nor is one added.
        let text = String::from_utf8(raw.clone()).unwrap();
        for (from, to) in [
            ("\n\n", "\n\n\n"),
            (" built by ", " built  by "),
            ("cortex ", "cortex  "),
        ] {
            let longer = text.replacen(from, to, 1);
            assert_ne!(longer, text, "{from:?}");
            assert!(newest(&chain, longer.as_bytes(), &subject).is_err(), "{from:?}");
        }
    }
}

/// The leaf of the newest of these.
fn release_name(raws: &[(git_nixgate::record::Oid, Vec<u8>)]) -> String {
    let (oid, raw) = raws.last().unwrap();
    Record::parse(*oid, raw, None).unwrap().name.leaf()
}

#[test]
fn a_subject_that_was_redacted_is_compared_as_far_as_it_can_be() {
    let mut draft = release_draft(&target("cortex"), 1, None);
    draft.subject = "reach 10.0.0.2 by ssh".into();
    draft.secrets = known(&["10.0.0.2"], &[]);
    let raw = draft.payload();
    let record = Record::parse(hash(&raw), &raw, None).unwrap();
    assert!(
        record.headline.ends_with(": reach [redacted] by ssh"),
        "{}",
        record.headline
    );
    record.told(Some("reach 10.0.0.2 by ssh")).unwrap();
    let forged = String::from_utf8(raw)
        .unwrap()
        .replacen("Release cortex", "Release orion", 1);
    let record = Record::parse(hash(forged.as_bytes()), forged.as_bytes(), None).unwrap();
    assert_eq!(
        record.told(Some("reach 10.0.0.2 by ssh")).unwrap_err().rule,
        "prose"
    );
    assert_eq!(record.told(None).unwrap_err().rule, "prose");
}

#[test]
fn a_subject_may_speak_of_the_markers() {
    for subject in [
        "docs: -----BEGIN NIXGATE EVIDENCE----- begins the block",
        "-----END NIXGATE EVIDENCE-----",
        "-----BEGIN NIXGATE EVIDENCE-----",
    ] {
        let mut draft = release_draft(&target("cortex"), 1, None);
        draft.subject = subject.to_owned();
        draft.evidence.warnings = vec![subject.to_owned()];
        draft.evidence.drift = Some(subject.to_owned());
        let raw = draft.payload();
        let record = Record::parse(hash(&raw), &raw, None).unwrap();
        record.told(Some(subject)).unwrap();
    }
}
