//! Records without a repository.

use git_nixgate::record::{
    Draft, Kind, Ledger, Link, Oid, OnHost, Record, RecordName, Secrets, Target, sha256_hex,
};

use super::{NOON, evidence, target, utc};

/// A chain in memory.
pub struct Chain {
    pub target: Target,
    pub raws: Vec<(Oid, Vec<u8>)>,
}

pub fn commit(n: u64) -> Oid {
    Oid::from_hex(&sha256_hex(&n.to_be_bytes()).as_bytes()[..40]).unwrap()
}

pub fn hash(raw: &[u8]) -> Oid {
    gix::objs::compute_hash(gix::hash::Kind::Sha1, gix::objs::Kind::Tag, raw).unwrap()
}

pub fn release_draft(target: &Target, seq: u64, previous: Option<Link>) -> Draft {
    let id = commit(seq);
    Draft {
        target: target.clone(),
        kind: Kind::Release,
        seq,
        commit: id,
        tagger_name: "Ada".into(),
        tagger_mail: "ops@example.org".into(),
        time: utc(NOON + i64::try_from(seq).unwrap()),
        subject: format!("change {seq}"),
        evidence: evidence(
            target,
            &id.to_string(),
            &commit(seq + 1000).to_string(),
            &format!("{target} {seq}"),
        ),
        previous,
        restores: None,
        withdraws: Vec::new(),
        secrets: Secrets::default(),
    }
}

impl Chain {
    pub fn new() -> Chain {
        Chain {
            target: target("cortex"),
            raws: Vec::new(),
        }
    }

    pub fn ledger(&self) -> Option<Ledger> {
        let parse = |(oid, raw): &(Oid, Vec<u8>)| Record::parse(*oid, raw, None).unwrap();
        let records: Vec<Record> = self.raws.iter().rev().map(parse).collect();
        (!records.is_empty()).then(|| Ledger::new(records).unwrap())
    }

    pub fn push(&mut self, draft: &Draft) -> RecordName {
        let raw = draft.payload();
        self.raws.push((hash(&raw), raw));
        draft.name()
    }

    pub fn release(&mut self) -> RecordName {
        let ledger = self.ledger();
        let (seq, link) = ledger
            .as_ref()
            .map_or((1, None), |l| (l.next().0, Some(l.next().1)));
        self.push(&release_draft(&self.target, seq, link))
    }

    pub fn restore(&mut self, kind: Kind, restores: OnHost, withdraws: Vec<RecordName>) -> RecordName {
        let ledger = self.ledger().unwrap();
        let (seq, link) = ledger.next();
        let source = match &restores {
            OnHost::Release(name) => ledger.get(name).unwrap(),
            OnHost::BeforeFirst => &ledger.records()[0],
        };
        let mut draft = release_draft(&self.target, seq, Some(link));
        draft.kind = kind;
        draft.commit = source.commit;
        draft.evidence = source.evidence.clone();
        if restores == OnHost::BeforeFirst {
            draft.evidence.toplevel = source.evidence.before.as_ref().unwrap().toplevel.clone();
        }
        draft.restores = Some(restores);
        draft.withdraws = withdraws;
        self.push(&draft)
    }

    pub fn rollback(&mut self, to: Option<&str>) -> RecordName {
        let ledger = self.ledger().unwrap();
        let choice = ledger.rollback_choice(to).unwrap();
        let (restores, withdraws) = (choice.restores.clone(), choice.withdraws.clone());
        self.restore(Kind::Rollback, restores, withdraws)
    }

    pub fn deploy(&mut self, to: &RecordName) -> RecordName {
        let ledger = self.ledger().unwrap();
        let restores = ledger.deploy_choice(&to.leaf()).unwrap().restores.clone();
        self.restore(Kind::Deploy, restores, Vec::new())
    }

    pub fn on_host(&self) -> OnHost {
        self.ledger().unwrap().on_host()
    }
}
