//! What a stranger may write into a record: numbers at their ends, text that is not seen, more than fits.

#[path = "support/mod.rs"]
mod support;

use git_nixgate::record::{Defect, Draft, Oid, Record, ledger, parse, sha256_hex};
use support::*;

struct Scene {
    _lab: Lab,
    work: Work,
}

impl Scene {
    fn new() -> Scene {
        let lab = Lab::new();
        let work = lab.repo("work");
        Scene { _lab: lab, work }
    }

    fn draft(&self, change: impl Fn(&mut Draft)) -> Draft {
        let commit = self.work.oid("HEAD");
        let mut draft = draft(&self.work.repo(), &target("cortex"), None, What::Release(commit));
        change(&mut draft);
        draft
    }
}

fn read(text: &str) -> Result<Record, Defect> {
    let oid = Oid::from_hex(&sha256_hex(text.as_bytes()).as_bytes()[..40]).unwrap();
    Record::parse(oid, text.as_bytes(), None)
}

fn text(draft: &Draft) -> String {
    String::from_utf8(draft.payload()).unwrap()
}

#[test]
fn k11_the_last_sequence_number_has_none_behind_it() {
    let s = Scene::new();
    let last = read(&text(&s.draft(|_| {})).replace(
        "Nixgate-Seq: 1\n",
        &format!(
            "Nixgate-Seq: {}\nNixgate-Previous: {}\nNixgate-Previous-SHA256: {}\n",
            u64::MAX,
            "1".repeat(40),
            "2".repeat(64)
        ),
    ))
    .unwrap();
    let next = s.draft(|draft| {
        draft.previous = Some(last.link());
        draft.time = utc(NOON + 60);
    });
    // What a wrapped addition would come to.
    let zero = text(&next).replace("Nixgate-Seq: 1\n", "Nixgate-Seq: 0\n");
    assert_eq!(read(&zero).unwrap_err().rule, "trailers");
    let next = read(&text(&next).replace("Nixgate-Seq: 1\n", "Nixgate-Seq: 7\n")).unwrap();
    assert_eq!(ledger::link(&next, &last).unwrap_err().rule, "sequence");
}

#[test]
fn k11_gates_that_took_longer_than_there_is_time_are_added_up() {
    let s = Scene::new();
    let draft = s.draft(|draft| {
        for gate in &mut draft.evidence.gates {
            gate.millis = u64::MAX;
        }
    });
    let record = read(&text(&draft)).unwrap();
    assert_eq!(record.evidence.millis(), u64::MAX);
    record.told(None).unwrap();
    let mut evidence = record.evidence.clone();
    evidence.gates[0].more = u64::MAX;
    evidence.gates[0].findings = vec!["long".repeat(10); 5000];
    let line = evidence.to_line(&git_nixgate::record::Secrets::default());
    assert!(
        line.contains(&format!("\"more\":{}", u64::MAX)),
        "cut with a count that has an end"
    );
}

/// What is not seen is escaped when it is written. Records from before hold it as it was, and hold.
#[test]
fn k11_old_records_with_what_is_not_seen_hold_and_new_ones_are_not_taken() {
    let s = Scene::new();
    for c in ['\u{ad}', '\u{180e}', '\u{3164}', '\u{fe0f}', '\u{e0041}'] {
        let hidden = format!("a{c}b");
        let shown = format!("a{}b", c.escape_unicode());
        let draft = s.draft(|draft| {
            draft.subject.clone_from(&hidden);
            draft.evidence.drift = Some(hidden.clone());
        });
        let new = text(&draft);
        assert!(new.contains(&format!(": {shown}\n")) && new.contains(&format!("drift: {shown}\n")));
        let record = read(&new).unwrap();
        record.told(Some(&hidden)).unwrap();
        record.seen().unwrap();

        // As it was written before this was known.
        let line = new.lines().find(|line| line.starts_with('{')).unwrap();
        let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["predicate"]["drift"] = hidden.clone().into();
        let before = git_nixgate::record::evidence::canonical(&value);
        let old = new
            .replace(line, &before)
            .replace(&sha256_hex(line.as_bytes()), &sha256_hex(before.as_bytes()))
            .replace(&format!(": {shown}\n"), &format!(": {hidden}\n"));
        let record = read(&old).unwrap();
        record.told(Some(&hidden)).unwrap();
        assert_eq!(record.told(Some("another")).unwrap_err().rule, "prose");
        assert_eq!(record.seen().unwrap_err().rule, "control", "{c:?}");
        assert!(!git_nixgate::record::text::shown(&record.headline).contains(c));
    }
}

#[test]
fn k11_prose_and_withdrawals_have_their_bounds() {
    let s = Scene::new();
    let good = text(&s.draft(|_| {}));
    let long = good.replacen("built by", &"long ".repeat(parse::LARGEST_PROSE / 5), 1);
    assert_eq!(read(&long).unwrap_err().rule, "size");
    // The most that an honest record says: everything that fits into its evidence, again.
    let most = s.draft(|draft| draft.evidence.warnings = vec!["w".into(); 20_000]);
    read(&text(&most)).unwrap().told(None).unwrap();
    let most = s.draft(|draft| draft.evidence.warnings = vec!["ü".repeat(300); 300]);
    read(&text(&most)).unwrap().told(None).unwrap();
    let back = good
        .replace("Nixgate-Kind: release", "Nixgate-Kind: rollback")
        .replace(
            "Nixgate-Seq: 1\n",
            &format!(
                "Nixgate-Seq: 2\nNixgate-Previous: {}\nNixgate-Previous-SHA256: {}\n",
                "1".repeat(40),
                "2".repeat(64)
            ),
        )
        + "Nixgate-Restores: before-first\n";
    read(&back).unwrap();
    let names =
        (1..=2).map(|n| format!("Nixgate-Withdraws: release/cortex/2026112{n}T031402Z-0123456789ab\n"));
    let many = names.fold(back, |text, line| text + &line);
    assert_eq!(read(&many).unwrap_err().rule, "withdraws");
}
