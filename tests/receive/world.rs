//! Records good and forged, and the server that they are pushed to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use git_nixgate::command::hook;
use git_nixgate::git::Repo;
use git_nixgate::record::{Draft, Kind, Ledger, Oid, Record, sha256_hex};

use crate::support::*;

pub const TARGETS: [&str; 2] = ["cortex", "orion"];

/// A record that may be pushed.
#[derive(Debug, Clone)]
pub struct Piece {
    /// What it is, for who reads a failure.
    pub what: &'static str,
    pub target: &'static str,
    pub tag: String,
    pub oid: String,
    pub commit: String,
    pub release: bool,
    /// The record before, where it has one.
    pub before: Option<String>,
    /// Whether a ledger may come to hold it, everything before it being good.
    pub good: bool,
}

/// Made once: objects, records, and a server with both hooks and no release.
pub struct World {
    pub lab: Lab,
    pub pieces: Vec<Piece>,
    /// Each commit with its parent.
    pub parents: BTreeMap<String, Option<String>>,
    pub pack: Vec<u8>,
    /// With nothing in it, for a server that has all.
    pub empty: Vec<u8>,
    pub path: String,
}

struct Maker {
    lab: Lab,
    ada: Work,
    pieces: Vec<Piece>,
}

impl Maker {
    /// A record behind `chain`, changed before and after it is written.
    fn record(
        &mut self,
        what: &'static str,
        chain: &[Record],
        kind: What,
        good: bool,
        change: impl Fn(&mut Draft),
        bytes: impl Fn(String) -> String,
    ) -> Record {
        let name = what.split(' ').next().unwrap();
        let name = *TARGETS.iter().find(|target| **target == name).unwrap();
        let repo = self.ada.repo();
        let newest_first: Vec<Record> = chain.iter().rev().cloned().collect();
        let before = (!chain.is_empty()).then(|| Ledger::new(newest_first).unwrap());
        let mut draft = draft(&repo, &target(name), before.as_ref(), kind);
        change(&mut draft);
        let payload = bytes(String::from_utf8(draft.payload()).unwrap());
        let raw = repo.sign(payload.as_bytes()).unwrap();
        let oid = repo.write_tag(&raw).unwrap();
        self.pieces.push(Piece {
            what,
            target: name,
            tag: draft.name().ref_name(),
            oid: oid.to_string(),
            commit: draft.commit.to_string(),
            release: draft.kind == Kind::Release,
            before: draft.previous.as_ref().map(|link| link.oid.to_string()),
            good,
        });
        Record::parse(oid, &raw, None).unwrap_or_else(|defect| panic!("{what}: {defect}"))
    }

    fn sign_as(&self, who: Option<&str>) {
        self.ada.git(&[
            "config",
            "tag.gpgSign",
            if who.is_some() { "true" } else { "false" },
        ]);
        if let Some(who) = who {
            self.ada.signs_with(&self.lab.path(who));
        }
    }
}

fn as_it_is(_: &mut Draft) {}
fn same(text: String) -> String {
    text
}

impl World {
    pub fn new() -> World {
        let lab = Lab::new();
        let (_, path) = lab.program();
        let (_, ada_key) = ssh_key(&lab, "key");
        ssh_key(&lab, "eve");
        let ada = lab.repo("ada");
        let mut commits = vec![ada.oid("HEAD")];
        commits.extend(["one", "two", "three"].map(|message| ada.commit(message)));
        ada.git(&["checkout", "-q", "-b", "side", &commits[1].to_string()]);
        commits.push(ada.commit("side"));
        let mut maker = Maker {
            lab,
            ada,
            pieces: Vec::new(),
        };
        maker.sign_as(Some("key"));
        good(&mut maker, &commits);
        forged(&mut maker, &commits);
        let Maker { lab, ada, pieces } = maker;
        let mut parents = BTreeMap::new();
        for commit in &commits {
            let parent = ada
                .says(&["rev-parse", "-q", "--verify", &format!("{commit}^")])
                .0;
            let parent = parent.then(|| ada.git(&["rev-parse", &format!("{commit}^")]));
            parents.insert(commit.to_string(), parent);
        }
        let mut all: Vec<String> = pieces.iter().map(|piece| piece.oid.clone()).collect();
        all.extend(commits.iter().map(ToString::to_string));
        let pack = raw::pack(&ada.path, &all);
        let empty = raw::pack(&ada.path, &[]);

        // The server: who may sign stands in a file of its own, and a branch leads to another, as an administrator made it.
        let signers = lab.path("signers");
        std::fs::write(&signers, format!("ops@example.org namespaces=\"git\" {ada_key}")).unwrap();
        let hub = lab.bare("hub.git", "sha1");
        ada.git(&[
            "push",
            "-q",
            hub.path.to_str().unwrap(),
            &format!("{}:refs/heads/main", commits[0]),
        ]);
        hub.git(&["config", "nixgate.requireSigned", "true"]);
        hub.git(&["config", "nixgate.signers", signers.to_str().unwrap()]);
        hub.git(&["config", "receive.unpackLimit", "1"]);
        hub.git(&["config", "receive.autogc", "false"]);
        hub.git(&["symbolic-ref", "refs/heads/alias", "refs/heads/release/cortex"]);
        hook::install(&hub.repo(), true).unwrap();
        World {
            lab,
            pieces,
            parents,
            pack,
            empty,
            path,
        }
    }

    pub fn piece(&self, oid: &str) -> Option<&Piece> {
        self.pieces.iter().find(|piece| piece.oid == oid)
    }

    /// The records from this one back to the first, if all of them are good.
    pub fn chain(&self, oid: &str) -> Option<Vec<&Piece>> {
        let mut chain = Vec::new();
        let mut next = Some(oid.to_owned());
        while let Some(oid) = next {
            let piece = self.piece(&oid).filter(|piece| piece.good)?;
            chain.push(piece);
            next = piece.before.clone();
        }
        Some(chain)
    }

    /// Whether a commit is in the history of another, or the same.
    pub fn reaches(&self, old: &str, new: &str) -> bool {
        let mut at = Some(new.to_owned());
        while let Some(commit) = at {
            if commit == old {
                return true;
            }
            at = self.parents.get(&commit).cloned().flatten();
        }
        false
    }

    /// A server of one's own.
    pub fn hub(&self, name: &str) -> Hub {
        let path = self.lab.path(name);
        ran(std::process::Command::new("cp")
            .arg("-a")
            .arg(self.lab.path("hub.git"))
            .arg(&path));
        Hub { path }
    }
}

/// Two ways that cortex may go, and one for orion.
fn good(maker: &mut Maker, commits: &[Oid]) {
    let release = |at: usize| What::Release(commits[at]);
    let mut main = vec![maker.record("cortex 1", &[], release(1), true, as_it_is, same)];
    let other = maker.record(
        "cortex 2 of another clone",
        &main,
        release(4),
        true,
        |draft| draft.time = utc(NOON + 70),
        same,
    );
    main.push(maker.record("cortex 2", &main.clone(), release(2), true, as_it_is, same));
    main.push(maker.record(
        "cortex 3, a way back",
        &main.clone(),
        What::Rollback(None),
        true,
        as_it_is,
        same,
    ));
    maker.record("cortex 4", &main, release(3), true, as_it_is, same);
    let side = vec![main[0].clone(), other];
    maker.record(
        "cortex 3 of another clone",
        &side,
        What::Rollback(None),
        true,
        |draft| draft.time = utc(NOON + 80),
        same,
    );
    let first = maker.record("orion 1", &[], release(1), true, as_it_is, same);
    maker.record("orion 2", &[first], release(2), true, as_it_is, same);
}

/// Each could be the next record but for one thing.
fn forged(maker: &mut Maker, commits: &[Oid]) {
    let read = |maker: &Maker, what: &str| {
        let piece = maker.pieces.iter().find(|piece| piece.what == what).unwrap();
        let oid = Oid::from_hex(piece.oid.as_bytes()).unwrap();
        maker.ada.repo().record(&oid, None).unwrap()
    };
    let one = read(maker, "cortex 1");
    let first = std::slice::from_ref(&one);
    let two = read(maker, "cortex 2");
    let orion = read(maker, "orion 1");
    let release = |at: usize| What::Release(commits[at]);
    let at = |seconds: i64| move |draft: &mut Draft| draft.time = utc(NOON + seconds);
    maker.record(
        "cortex with prose that lies",
        first,
        release(2),
        false,
        at(10),
        |text| text.replacen("generation 141 -> 142", "generation 141 -> 999", 1),
    );
    maker.record(
        "cortex of next year",
        first,
        release(2),
        false,
        at(40_000_000),
        same,
    );
    maker.record(
        "cortex with a hidden character",
        &[one.clone(), two.clone()],
        release(3),
        false,
        at(11),
        |text| text.replacen(": three", ": thr\u{ad}ee", 1),
    );
    maker.record(
        "cortex about another tree",
        first,
        release(2),
        false,
        |draft| {
            draft.evidence.tree = "1".repeat(40);
            draft.time = utc(NOON + 12);
        },
        same,
    );
    maker.record(
        "cortex with a number left out",
        first,
        release(2),
        false,
        |draft| {
            draft.seq = 3;
            draft.time = utc(NOON + 13);
        },
        same,
    );
    maker.record(
        "cortex behind orion's",
        first,
        release(2),
        false,
        |draft| {
            draft.previous = Some(orion.link());
            draft.time = utc(NOON + 14);
        },
        same,
    );
    maker.record(
        "cortex whose way back is to another closure",
        &[one.clone(), two],
        What::Rollback(None),
        false,
        |draft| {
            draft.evidence.nar_hash = format!("sha256:{}", sha256_hex(b"other"));
            draft.time = utc(NOON + 15);
        },
        same,
    );
    maker.sign_as(None);
    let unsigned = maker.record("cortex unsigned", first, release(2), false, at(16), same);
    maker.record("cortex 1 unsigned", &[], release(1), false, at(17), same);
    maker.sign_as(Some("eve"));
    maker.record("cortex by a stranger", first, release(4), false, at(18), same);
    maker.sign_as(Some("key"));
    maker.record(
        "cortex behind one unsigned",
        &[one.clone(), unsigned],
        release(3),
        false,
        at(19),
        same,
    );
}

/// A bare repository with both hooks.
pub struct Hub {
    pub path: PathBuf,
}

pub type Refs = BTreeMap<String, String>;

impl Hub {
    /// Every ref but the symbolic ones.
    pub fn refs(&self) -> Refs {
        let repo = Repo::open(&self.path).unwrap();
        let all = repo.references("refs/").unwrap();
        all.into_iter()
            .map(|(name, oid)| (name, oid.to_string()))
            .collect()
    }

    /// Begins anew: these refs, in files of their own or packed, and with all objects or only what they need.
    pub fn reset(&self, template: &Path, refs: &Refs, packed: bool) {
        for name in ["refs", "objects", "packed-refs"] {
            let path = self.path.join(name);
            let _ = std::fs::remove_dir_all(&path);
            let _ = std::fs::remove_file(&path);
        }
        for name in ["refs", "objects"] {
            ran(std::process::Command::new("cp")
                .arg("-a")
                .arg(template.join(name))
                .arg(self.path.join(name)));
        }
        let mut lines = String::new();
        for (name, oid) in refs {
            if packed {
                lines.push_str(&format!("{oid} {name}\n"));
            } else {
                let path = self.path.join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, format!("{oid}\n")).unwrap();
            }
        }
        if packed {
            std::fs::write(self.path.join("packed-refs"), lines).unwrap();
        }
    }
}
