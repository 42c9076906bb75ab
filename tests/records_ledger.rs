//! The ledger without a repository: its answers agree with a slow and simple model, each broken link is named.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use git_nixgate::failure::Exit;
use git_nixgate::gate::known_good::{prunable, superfluous};
use git_nixgate::record::{Draft, Kind, Ledger, Link, OnHost, Record, RecordName, sha256_hex};
use proptest::prelude::*;
use support::chain::{Chain, commit, hash, release_draft};
use support::{NOON, target, utc};

#[test]
fn rolling_back_twice_in_a_row_goes_two_back() {
    let mut chain = Chain::new();
    let names: Vec<RecordName> = (0..4).map(|_| chain.release()).collect();
    chain.rollback(None);
    assert_eq!(chain.on_host(), OnHost::Release(names[2].clone()));
    chain.rollback(None);
    assert_eq!(chain.on_host(), OnHost::Release(names[1].clone()));
    let ledger = chain.ledger().unwrap();
    assert_eq!(
        *ledger.withdrawn(),
        BTreeSet::from([names[2].clone(), names[3].clone()])
    );
    assert_eq!(
        ledger.furthest_commit(),
        Some(ledger.get(&names[3]).unwrap().commit),
        "the pointer stays"
    );
    assert_eq!(ledger.known_good().len(), 2);
}

#[test]
fn a_rollback_withdraws_everything_after_it_and_a_deploy_brings_one_back() {
    let mut chain = Chain::new();
    let names: Vec<RecordName> = (0..4).map(|_| chain.release()).collect();
    chain.rollback(Some(&names[0].leaf()));
    assert_eq!(chain.ledger().unwrap().withdrawn().len(), 3);
    chain.deploy(&names[2]);
    let ledger = chain.ledger().unwrap();
    assert_eq!(ledger.on_host(), OnHost::Release(names[2].clone()));
    assert_eq!(
        *ledger.withdrawn(),
        BTreeSet::from([names[1].clone(), names[3].clone()])
    );
    // What is withdrawn is stepped over.
    chain.rollback(None);
    assert_eq!(chain.on_host(), OnHost::Release(names[0].clone()));
}

#[test]
fn a_rollback_or_deploy_record_stands_for_what_it_restored() {
    let mut chain = Chain::new();
    let names: Vec<RecordName> = (0..3).map(|_| chain.release()).collect();
    let back = chain.rollback(Some(&names[0].to_string()));
    chain.release();
    let ledger = chain.ledger().unwrap();
    let choice = ledger.rollback_choice(Some(&back.ref_name())).unwrap();
    assert_eq!(choice.restores, OnHost::Release(names[0].clone()));
    assert_eq!(choice.source.name, names[0]);
    assert_eq!(choice.withdraws.len(), 1, "only what is not withdrawn yet");
}

#[test]
fn what_ran_before_the_first_release_can_be_gone_back_to() {
    let mut chain = Chain::new();
    let first = chain.release();
    let failure = chain.ledger().unwrap().rollback_choice(None).unwrap_err();
    assert_eq!(failure.exit, Exit::Refused);
    assert_eq!(failure.next, ["git nixgate rollback cortex --to before-first"]);
    chain.rollback(Some("before-first"));
    assert_eq!(chain.on_host(), OnHost::BeforeFirst);
    let ledger = chain.ledger().unwrap();
    assert!(ledger.is_withdrawn(&first));
    assert!(ledger.current().is_none());
    assert_eq!(
        ledger.return_choice().toplevel(),
        "/nix/store/00000000000000000000000000000000-before"
    );
    assert_eq!(
        ledger.rollback_choice(None).unwrap_err().next,
        ["git nixgate log cortex"]
    );
    chain.deploy(&first);
    assert_eq!(chain.on_host(), OnHost::Release(first));
}

#[test]
fn deploy_never_goes_back_and_rollback_never_forward() {
    let mut chain = Chain::new();
    let names: Vec<RecordName> = (0..3).map(|_| chain.release()).collect();
    let ledger = chain.ledger().unwrap();
    for to in [names[0].leaf(), "before-first".to_owned()] {
        let failure = ledger.deploy_choice(&to).unwrap_err();
        assert_eq!(
            (failure.exit, failure.next),
            (
                Exit::Refused,
                vec![format!("git nixgate rollback cortex --to {to}")]
            )
        );
    }
    // The same again: a reinstalled host, drift undone.
    assert_eq!(
        ledger.deploy_choice(&names[2].to_string()).unwrap().restores,
        OnHost::Release(names[2].clone())
    );
    assert!(
        ledger
            .rollback_choice(Some(&names[2].leaf()))
            .unwrap()
            .withdraws
            .is_empty()
    );
    chain.rollback(Some(&names[1].leaf()));
    let ledger = chain.ledger().unwrap();
    let failure = ledger.rollback_choice(Some(&names[2].leaf())).unwrap_err();
    assert_eq!(
        failure.next,
        [format!("git nixgate deploy cortex --to {}", names[2].leaf())]
    );
    assert!(failure.why[0].contains("Ada"), "{failure:?}");
    // An older release that is withdrawn comes back knowingly, by deploy.
    chain.rollback(None);
    chain.release();
    chain.ledger().unwrap().deploy_choice(&names[1].leaf()).unwrap();
}

#[test]
fn what_names_no_record_is_said() {
    let mut chain = Chain::new();
    chain.release();
    let ledger = chain.ledger().unwrap();
    assert_eq!(ledger.named("v1.2").unwrap_err().exit, Exit::Usage);
    let absent = "release/cortex/20301120T031402Z-0123456789ab";
    assert_eq!(ledger.named(absent).unwrap_err().exit, Exit::Refused);
    assert_eq!(
        ledger
            .named("release/other/20301120T031402Z-0123456789ab")
            .unwrap_err()
            .exit,
        Exit::Refused
    );
}

/// What a step of a random history asks for; numbers pick among the releases that there are.
#[derive(Debug, Clone)]
enum Step {
    Release,
    Back,
    BackTo(usize),
    Deploy(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Release),
        2 => Just(Step::Back),
        1 => (0usize..20).prop_map(Step::BackTo),
        2 => (0usize..20).prop_map(Step::Deploy),
    ];
    proptest::collection::vec(step, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// The model: per release whether it is withdrawn; one number for what is on the host, 0 for before the first.
    #[test]
    fn the_ledger_agrees_with_the_model(steps in steps()) {
        let mut chain = Chain::new();
        let first = chain.release();
        let mut names = vec![(1u64, first)];
        let mut gone: BTreeSet<u64> = BTreeSet::new();
        let mut here = 1u64;
        for step in steps {
            let ledger = chain.ledger().unwrap();
            match step {
                Step::Release => {
                    let seq = ledger.next().0;
                    names.push((seq, chain.release()));
                    here = seq;
                }
                Step::Back => {
                    let want = names.iter().map(|(seq, _)| *seq).filter(|s| *s < here && !gone.contains(s)).max();
                    let choice = ledger.rollback_choice(None);
                    prop_assert_eq!(want.is_some(), choice.is_ok());
                    let Some(want) = want else { continue };
                    chain.rollback(None);
                    gone.extend(names.iter().map(|(seq, _)| *seq).filter(|s| *s > want && *s <= here));
                    here = want;
                }
                Step::BackTo(n) => {
                    let (seq, name) = names[n % names.len()].clone();
                    let allowed = seq <= here && !gone.contains(&seq);
                    prop_assert_eq!(allowed, ledger.rollback_choice(Some(&name.leaf())).is_ok());
                    if allowed {
                        chain.rollback(Some(&name.leaf()));
                        gone.extend(names.iter().map(|(s, _)| *s).filter(|s| *s > seq && *s <= here));
                        here = seq;
                    }
                }
                Step::Deploy(n) => {
                    let (seq, name) = names[n % names.len()].clone();
                    let allowed = seq >= here || gone.contains(&seq);
                    prop_assert_eq!(allowed, ledger.deploy_choice(&name.leaf()).is_ok());
                    if allowed {
                        chain.deploy(&name);
                        gone.remove(&seq);
                        here = seq;
                    }
                }
            }
            let ledger = chain.ledger().unwrap();
            let current = ledger.current().map_or(0, |r| r.seq);
            prop_assert_eq!(current, here);
            let withdrawn: BTreeSet<u64> = ledger.withdrawn().iter().map(|n| ledger.get(n).unwrap().seq).collect();
            prop_assert_eq!(&withdrawn, &gone);
            // What is on the host is known-good, always.
            prop_assert!(!gone.contains(&here));
            prop_assert_eq!(ledger.furthest_commit(), Some(commit(names.last().unwrap().0)));
        }
    }
}

/// A good record of number 2, changed in exactly one way, and the rule that this breaks.

#[test]
fn each_broken_link_is_named() {
    let chain = |change: &dyn Fn(&mut Draft)| {
        let first = release_draft(&target("cortex"), 1, None);
        let raw = first.payload();
        let link = Link {
            oid: hash(&raw),
            sha256: sha256_hex(&raw),
            name: first.name(),
        };
        let mut second = release_draft(&target("cortex"), 2, Some(link));
        change(&mut second);
        let other = second.payload();
        let records = vec![
            Record::parse(hash(&other), &other, None).unwrap(),
            Record::parse(hash(&raw), &raw, None).unwrap(),
        ];
        Ledger::new(records).err().map_or("fine", |defect| defect.rule)
    };
    assert_eq!(chain(&|_| {}), "fine");
    assert_eq!(chain(&|d| d.seq = 3), "sequence");
    assert_eq!(
        chain(&|d| d.previous.as_mut().unwrap().oid = commit(9)),
        "previous"
    );
    assert_eq!(
        chain(&|d| d.previous.as_mut().unwrap().sha256 = sha256_hex(b"")),
        "previous-digest"
    );
    for time in [NOON, NOON + 1] {
        assert_eq!(chain(&|d| d.time = utc(time)), "time", "not later than the first");
    }
    let other = |d: &mut Draft| {
        d.target = target("other");
        d.evidence.target = "other".into();
    };
    assert_eq!(chain(&other), "target");
    // Cut off at its beginning.
    let mut cut = Chain::new();
    (0..3).for_each(|_| drop(cut.release()));
    let tail: Vec<Record> = cut.raws[1..]
        .iter()
        .rev()
        .map(|(oid, raw)| Record::parse(*oid, raw, None).unwrap())
        .collect();
    assert_eq!(Ledger::new(tail).unwrap_err().rule, "sequence");
    assert_eq!(Ledger::new(Vec::new()).unwrap_err().rule, "empty");
    let name = |n: u64| RecordName::new(target("cortex"), utc(NOON + n as i64), &commit(n));
    let rollback = |d: &mut Draft, to: u64| {
        d.kind = Kind::Rollback;
        d.restores = Some(OnHost::Release(name(to)));
    };
    assert_eq!(chain(&|d| rollback(d, 7)), "restores");
    assert_eq!(
        chain(&|d| rollback(d, 1)),
        "restores",
        "another commit than the release's"
    );
    let same = |d: &mut Draft| {
        let first = release_draft(&target("cortex"), 1, None);
        (d.commit, d.evidence) = (first.commit, first.evidence);
        rollback(d, 1);
    };
    assert_eq!(chain(&same), "fine");
    assert_eq!(
        chain(&|d| {
            same(d);
            d.evidence.closure_digest = sha256_hex(b"another");
        }),
        "restores"
    );
    assert_eq!(
        chain(&|d| {
            same(d);
            d.evidence.toplevel.push('x');
        }),
        "restores"
    );
    assert_eq!(
        chain(&|d| {
            same(d);
            d.evidence.nar_hash = format!("sha256:{}", sha256_hex(b"another"));
        }),
        "restores"
    );
    assert_eq!(
        chain(&|d| {
            same(d);
            d.withdraws = vec![name(5)];
        }),
        "withdraws"
    );
    assert_eq!(
        chain(&|d| {
            same(d);
            d.withdraws = vec![name(1)];
        }),
        "withdraws"
    );
    assert_eq!(
        chain(&|d| {
            same(d);
            d.restores = Some(OnHost::BeforeFirst);
        }),
        "restores"
    );
}

#[test]
fn roots_go_by_keep_and_never_what_runs_boots_or_may_be_gone_back_to() {
    let mut chain = Chain::new();
    let names: Vec<RecordName> = (0..6).map(|_| chain.release()).collect();
    chain.rollback(None);
    // 6 is withdrawn, 5 is on the host, a rollback would go to 4.
    let ledger = chain.ledger().unwrap();
    let path = |n: usize| ledger.get(&names[n]).unwrap().evidence.toplevel.as_str();
    let roots: BTreeMap<String, String> = (0..6)
        .map(|n| (names[n].leaf(), path(n).to_owned()))
        .chain([
            ("before-first".to_owned(), "/nix/store/x".to_owned()),
            ("by-hand".to_owned(), path(0).to_owned()),
        ])
        .collect();
    let leaves = |all: &[usize]| -> Vec<String> { all.iter().map(|n| names[*n].leaf()).collect() };
    let pruned = |keep, in_use: &[&str]| -> Vec<String> {
        prunable(&ledger, keep, &roots, in_use)
            .iter()
            .map(RecordName::leaf)
            .collect()
    };
    for (keep, expired) in [
        (1, &[0, 1, 2][..]),
        (2, &[0, 1, 2]),
        (3, &[0, 1]),
        (5, &[]),
        (9, &[]),
    ] {
        assert_eq!(superfluous(&ledger, keep), leaves(expired), "keep {keep}");
        let with_withdrawn: Vec<usize> = expired.iter().copied().chain([5]).collect();
        assert_eq!(pruned(keep, &[]), leaves(&with_withdrawn), "keep {keep}");
    }
    assert_eq!(pruned(1, &[path(1), path(5)]), leaves(&[0, 2]), "in use");
    let fewer: BTreeMap<String, String> = roots
        .iter()
        .filter(|(name, _)| **name != names[0].leaf())
        .map(|(a, b)| (a.clone(), b.clone()))
        .collect();
    assert_eq!(
        prunable(&ledger, 1, &fewer, &[]).len(),
        3,
        "a root that is not there does not go"
    );
}

#[test]
fn only_releases_are_gone_back_to_and_the_last_withdrawal_counts() {
    let mut chain = Chain::new();
    let first = chain.release();
    let second = chain.release();
    let once = chain.rollback(None);
    // A rollback is nothing to go back to, nor to withdraw.
    let restore = |restores: &RecordName, withdraws: Vec<RecordName>| {
        let mut forged = Chain {
            target: chain.target.clone(),
            raws: chain.raws.clone(),
        };
        let ledger = chain.ledger().unwrap();
        let source = ledger.get(&first).unwrap();
        let (seq, link) = ledger.next();
        let mut draft = release_draft(&chain.target, seq, Some(link));
        (draft.kind, draft.commit, draft.evidence) = (Kind::Rollback, source.commit, source.evidence.clone());
        (draft.restores, draft.withdraws) = (Some(OnHost::Release(restores.clone())), withdraws);
        forged.push(&draft);
        let parse = |(oid, raw): &(_, Vec<u8>)| Record::parse(*oid, raw, None).unwrap();
        Ledger::new(forged.raws.iter().rev().map(parse).collect())
            .err()
            .map(|d| d.rule)
    };
    assert_eq!(restore(&first, vec![]), None);
    assert_eq!(restore(&once, vec![]), Some("restores"));
    assert_eq!(restore(&first, vec![once.clone()]), Some("withdraws"));

    assert_eq!(chain.ledger().unwrap().withdrawn_by(&second).unwrap().name, once);
    chain.deploy(&second);
    let closure = chain
        .ledger()
        .unwrap()
        .get(&second)
        .unwrap()
        .evidence
        .toplevel
        .clone();
    assert!(
        chain
            .ledger()
            .unwrap()
            .withdrawn_with_toplevel(&closure)
            .is_empty()
    );
    let twice = chain.rollback(None);
    let ledger = chain.ledger().unwrap();
    assert_eq!(ledger.withdrawn_by(&second).unwrap().name, twice);
    let withdrawn = ledger.withdrawn_with_toplevel(&closure);
    assert_eq!(withdrawn.iter().map(|r| &r.name).collect::<Vec<_>>(), [&second]);
    assert!(ledger.withdrawn_with_toplevel("/nix/store/other").is_empty());
}
