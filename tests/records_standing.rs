//! What records say of a closure's bytes: of those made with the target's digests, and of older ones.

mod support;

use git_nixgate::record::evidence::Registered;
use git_nixgate::record::{Draft, Kind, OnHost, Record, RecordName, Standing, sha256_hex};
use support::chain::{Chain, hash, release_draft};
use support::target;

fn bytes(what: &str) -> Registered {
    Registered {
        nar_hash: format!("sha256:{}", sha256_hex(b"toplevel")),
        closure_digest: sha256_hex(what.as_bytes()),
    }
}

/// A release of `top`: what the target had, what the builder had where that is something else.
fn release(chain: &mut Chain, top: &str, on_target: &str, on_builder: Option<&str>) -> RecordName {
    let mut draft = next(chain);
    draft.evidence.on_target = Some(bytes(on_target));
    draft.evidence.on_builder = on_builder.map(bytes);
    pushed(chain, draft, top, on_target)
}

/// The same by an earlier version: what the builder had, and nothing of the target.
fn old_release(chain: &mut Chain, top: &str, on_builder: &str) -> RecordName {
    let draft = next(chain);
    pushed(chain, draft, top, on_builder)
}

fn next(chain: &Chain) -> Draft {
    let ledger = chain.ledger();
    let (seq, link) = ledger.map_or((1, None), |l| (l.next().0, Some(l.next().1)));
    release_draft(&chain.target, seq, link)
}

fn pushed(chain: &mut Chain, mut draft: Draft, top: &str, digest: &str) -> RecordName {
    let own = bytes(digest);
    draft.evidence.toplevel = toplevel(top);
    (draft.evidence.nar_hash, draft.evidence.closure_digest) = (own.nar_hash, own.closure_digest);
    chain.push(&draft)
}

/// The release goes on the host again, which has these bytes of it.
fn deploy(chain: &mut Chain, release: &RecordName, on_target: &str) -> RecordName {
    let ledger = chain.ledger().expect("a ledger");
    let source = ledger.get(release).expect("a release");
    let (seq, link) = ledger.next();
    let mut draft = release_draft(&chain.target, seq, Some(link));
    (draft.kind, draft.commit) = (Kind::Deploy, source.commit);
    draft.evidence = source.evidence.clone();
    draft.evidence.on_target = Some(bytes(on_target));
    draft.restores = Some(OnHost::Release(release.clone()));
    chain.push(&draft)
}

fn toplevel(name: &str) -> String {
    format!("/nix/store/{}-{name}", "0".repeat(32))
}

fn standing(chain: &Chain, top: &str, digest: &str) -> Standing {
    let ledger = chain.ledger().expect("a ledger");
    ledger.standing(&toplevel(top), &sha256_hex(digest.as_bytes()))
}

#[test]
fn r1_bytes_count_as_proven_only_where_the_target_had_them() {
    let mut chain = Chain::new();
    release(&mut chain, "a", "target's", Some("builder's"));
    release(&mut chain, "b", "both's", None);
    assert_eq!(standing(&chain, "a", "target's"), Standing::Proven);
    assert_eq!(standing(&chain, "a", "builder's"), Standing::Built);
    assert_eq!(standing(&chain, "a", "nobody's"), Standing::Other);
    assert_eq!(standing(&chain, "b", "both's"), Standing::Proven);
    // Another toplevel's bytes prove nothing of this one.
    assert_eq!(standing(&chain, "b", "target's"), Standing::Other);
    assert_eq!(standing(&chain, "c", "target's"), Standing::Unrecorded);
}

#[test]
fn r1_what_was_proven_again_counts_and_what_was_proven_before_still_does() {
    let mut chain = Chain::new();
    let first = release(&mut chain, "a", "target's", Some("builder's"));
    release(&mut chain, "b", "b's", None);
    deploy(&mut chain, &first, "again");
    for (digest, wanted) in [
        ("again", Standing::Proven),
        ("target's", Standing::Proven),
        ("builder's", Standing::Built),
        ("nobody's", Standing::Other),
    ] {
        assert_eq!(standing(&chain, "a", digest), wanted, "{digest}");
    }
}

#[test]
fn r1_an_old_record_refuses_nothing_of_the_targets_until_a_new_one_knows_better() {
    let mut chain = Chain::new();
    let first = old_release(&mut chain, "a", "builder's");
    assert_eq!(standing(&chain, "a", "builder's"), Standing::Proven);
    assert_eq!(standing(&chain, "a", "target's"), Standing::Unsaid);
    deploy(&mut chain, &first, "target's");
    assert_eq!(standing(&chain, "a", "target's"), Standing::Proven);
    assert_eq!(standing(&chain, "a", "builder's"), Standing::Built);
    assert_eq!(standing(&chain, "a", "nobody's"), Standing::Other);
}

#[test]
fn r1_a_release_whose_digests_are_not_the_targets_is_no_record() {
    let parsed = |draft: &Draft| {
        let raw = draft.payload();
        Record::parse(hash(&raw), &raw, None).map_err(|defect| defect.rule)
    };
    let mut draft = release_draft(&target("cortex"), 1, None);
    let own = Registered {
        nar_hash: draft.evidence.nar_hash.clone(),
        closure_digest: draft.evidence.closure_digest.clone(),
    };
    draft.evidence.on_target = Some(own.clone());
    assert!(parsed(&draft).is_ok());
    draft.evidence.on_target = Some(Registered {
        closure_digest: bytes("another").closure_digest,
        ..own.clone()
    });
    assert_eq!(parsed(&draft).err(), Some("evidence"));
    draft.evidence.on_target = Some(own.clone());
    for bad in ["", "sha256:", "00", &"Z".repeat(64)] {
        draft.evidence.on_builder = Some(Registered {
            closure_digest: bad.to_owned(),
            ..own.clone()
        });
        assert_eq!(parsed(&draft).err(), Some("evidence"), "{bad}");
    }
}
