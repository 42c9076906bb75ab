//! Reading a record, strictly: what is not exactly as [`super::body`] writes it is a defect with a name. Lenient
//! reading is how a forged record passes; `git tag -v` itself accepts bytes after a signature's end.

mod trailers;

use std::fmt;

use self::trailers::Trailers;
use super::body::{BEGIN, END};
use super::evidence::Evidence;
use super::name::{Kind, OnHost, RecordName, Target, Utc};
use super::{Oid, Secrets, sha256_hex, text};
use crate::event::Verdict;

/// The most bytes that a record has, signature included. The evidence has at most 64 KiB and the prose repeats parts of
/// it; the rest is room for a rollback over thousands of releases.
pub const LARGEST: usize = 1 << 20;

/// The most bytes of its prose: it repeats lines of the evidence, which has at most 64 KiB, with a few words before each.
pub const LARGEST_PROSE: usize = 1 << 17;

/// The defect of a record with so many bytes.
pub fn too_large(bytes: u64) -> Defect {
    Defect::new(
        "size",
        format!("the record has {bytes} bytes, more than {LARGEST}"),
    )
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defect {
    /// A word that stays the same over versions: see docs/format.md.
    pub rule: &'static str,
    /// One sentence.
    pub why: String,
}

impl Defect {
    pub fn new(rule: &'static str, why: impl Into<String>) -> Self {
        Defect {
            rule,
            why: why.into(),
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.why, self.rule)
    }
}

impl std::error::Error for Defect {}

/// Which armor the record carries. Whether the signature is good is git's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    None,
    Ssh,
    Pgp,
    X509,
}

impl std::fmt::Display for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Signature::None => "none",
            Signature::Ssh => "ssh",
            Signature::Pgp => "OpenPGP",
            Signature::X509 => "X.509",
        })
    }
}

/// The link to the record before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previous {
    pub oid: Oid,
    pub sha256: String,
}

/// A record, read and found well-formed in itself. Whether its links hold is the ledger's to say.
#[derive(Debug, Clone)]
pub struct Record {
    pub oid: Oid,
    pub name: RecordName,
    pub kind: Kind,
    pub seq: u64,
    pub commit: Oid,
    pub previous: Option<Previous>,
    /// Only of a rollback or a deploy.
    pub restores: Option<OnHost>,
    pub withdraws: Vec<RecordName>,
    pub tagger_name: String,
    pub tagger_mail: String,
    pub time: Utc,
    /// The first line of the body.
    pub headline: String,
    /// What stands between the first line and the evidence; see [`Record::told`].
    pub prose: String,
    pub evidence: Evidence,
    /// SHA-256 of the raw object, signature included.
    pub sha256: String,
    pub signature: Signature,
}

const ARMOR: [(&str, &str, Signature); 4] = [
    (
        "-----BEGIN SSH SIGNATURE-----",
        "-----END SSH SIGNATURE-----",
        Signature::Ssh,
    ),
    (
        "-----BEGIN PGP SIGNATURE-----",
        "-----END PGP SIGNATURE-----",
        Signature::Pgp,
    ),
    (
        "-----BEGIN PGP MESSAGE-----",
        "-----END PGP MESSAGE-----",
        Signature::Pgp,
    ),
    (
        "-----BEGIN SIGNED MESSAGE-----",
        "-----END SIGNED MESSAGE-----",
        Signature::X509,
    ),
];

impl Record {
    pub fn target(&self) -> &Target {
        &self.name.target
    }

    /// P(n): what this record puts on the host.
    pub fn on_host(&self) -> OnHost {
        self.restores
            .clone()
            .unwrap_or_else(|| OnHost::Release(self.name.clone()))
    }

    /// How many places of the record hold one of the values. Users, addresses and folders are looked for in what is free to
    /// be written; tokens and passwords also where nobody would write one. Who made it, git's committer, is said on
    /// purpose.
    pub fn leaks(&self, secrets: &Secrets) -> usize {
        let (texts, names) = self.evidence.texts();
        let free = format!("{}{texts}", self.untold());
        let rest = format!("{names}{} {}", self.tagger_name, self.tagger_mail);
        secrets.count(&free) + secrets.keys().count(&rest)
    }

    /// This record as the one before the next.
    pub fn link(&self) -> super::Link {
        super::Link {
            oid: self.oid,
            sha256: self.sha256.clone(),
            name: self.name.clone(),
        }
    }

    /// Reads the raw content of a tag object. `ref_name` is the full ref under which it was found, if it was.
    pub fn parse(oid: Oid, raw: &[u8], ref_name: Option<&str>) -> Result<Record, Defect> {
        if raw.len() > LARGEST {
            return Err(too_large(raw.len() as u64));
        }
        let text =
            std::str::from_utf8(raw).map_err(|_| Defect::new("encoding", "the record is not UTF-8"))?;
        if let Some(c) = text.chars().find(|c| !text::plain_at_first(*c) && *c != '\n') {
            return Err(Defect::new(
                "control",
                format!(
                    "the record holds {}, a control character or one that turns text around or is not seen",
                    c.escape_unicode()
                ),
            ));
        }
        let (head, body) = text
            .split_once("\n\n")
            .ok_or_else(|| Defect::new("header", "the record has no body after its header"))?;
        let header = Header::parse(head)?;
        if header.commit.kind() != oid.kind() {
            return Err(Defect::new(
                "header",
                "the record's commit id has another length than its own id",
            ));
        }
        if let Some(ref_name) = ref_name
            && ref_name != header.name.ref_name()
        {
            let why = format!(
                "the tag object calls itself {} and stands under {ref_name}",
                header.name
            );
            return Err(Defect::new("name", why));
        }
        let (body, signature) = split_armor(body)?;
        let body = Body::parse(body)?;
        let told = body.headline.len() + body.prose.len();
        if told > LARGEST_PROSE {
            let why = format!("the record's prose has {told} bytes, more than {LARGEST_PROSE}");
            return Err(Defect::new("size", why));
        }
        let trailers = Trailers::parse(body.trailers, oid)?;
        let record = Record {
            oid,
            kind: trailers.kind,
            seq: trailers.seq,
            commit: header.commit,
            previous: trailers.previous,
            restores: trailers.restores,
            withdraws: trailers.withdraws,
            tagger_name: header.tagger_name,
            tagger_mail: header.tagger_mail,
            time: header.time,
            headline: body.headline.to_owned(),
            prose: body.prose.to_owned(),
            evidence: Evidence::from_line(body.line).map_err(|why| Defect::new("evidence", why))?,
            sha256: sha256_hex(raw),
            signature,
            name: header.name,
        };
        if sha256_hex(body.line.as_bytes()) != trailers.evidence_sha256 {
            return Err(Defect::new(
                "evidence-digest",
                "Nixgate-Evidence-SHA256 is not the digest of the evidence",
            ));
        }
        record.agree(&trailers.target)?;
        Ok(record)
    }

    /// Header, trailers and evidence say the same.
    fn agree(&self, target: &Target) -> Result<(), Defect> {
        let no = |rule, why: String| Err(Defect::new(rule, why));
        if target != self.target() || self.evidence.target != self.target().as_str() {
            return no(
                "target",
                format!(
                    "name, trailer and evidence do not name one target ({})",
                    self.target()
                ),
            );
        }
        let commit = self.commit.to_string();
        if self.name.short() != &commit[..12] {
            return no(
                "commit",
                format!(
                    "the name says commit {}, the tag points at {commit}",
                    self.name.short()
                ),
            );
        }
        if self.evidence.commit != commit {
            return no(
                "commit",
                format!(
                    "the evidence is about {}, the tag points at {commit}",
                    self.evidence.commit
                ),
            );
        }
        if self.time != self.name.utc {
            return no("time", "the tagger's time is not the time in the name".into());
        }
        let first = self.seq == 1;
        if first != self.previous.is_none() {
            return no(
                "sequence",
                format!(
                    "record {} {} a previous one",
                    self.seq,
                    if first { "has" } else { "lacks" }
                ),
            );
        }
        match (self.kind, &self.restores) {
            (Kind::Release, Some(_)) => return no("kind", "a release restores nothing".into()),
            (Kind::Rollback | Kind::Deploy, None) => {
                return no("kind", format!("a {} restores a release", self.kind));
            }
            (_, Some(OnHost::Release(name))) if name.target != *self.target() => {
                return no("target", format!("it restores {name}, another target's release"));
            }
            _ => {}
        }
        if self.kind != Kind::Rollback && !self.withdraws.is_empty() {
            return no("kind", format!("a {} withdraws nothing", self.kind));
        }
        // There is one release at most for each record before it.
        if self.withdraws.len() as u64 >= self.seq.max(1) {
            return no(
                "withdraws",
                format!("record {} withdraws more than there was", self.seq),
            );
        }
        if let Some(name) = self.withdraws.iter().find(|n| n.target != *self.target()) {
            return no("target", format!("it withdraws {name}, another target's release"));
        }
        if self.kind == Kind::Release {
            if let Some(gate) = self.evidence.gates.iter().find(|g| g.verdict == Verdict::Failed) {
                return no(
                    "gates",
                    format!("a release whose gate {} failed", gate.gate.name()),
                );
            }
            if !self.evidence.gates.iter().any(|g| g.verdict == Verdict::Passed) {
                return no("gates", "a release of which no gate passed".into());
            }
            let (e, there) = (&self.evidence, self.evidence.on_target.as_ref());
            if there.is_some_and(|t| (&t.nar_hash, &t.closure_digest) != (&e.nar_hash, &e.closure_digest)) {
                return no(
                    "evidence",
                    "a release's digests are not those on the target".into(),
                );
            }
        }
        Ok(())
    }
}

struct Header {
    commit: Oid,
    name: RecordName,
    tagger_name: String,
    tagger_mail: String,
    time: Utc,
}

impl Header {
    fn parse(head: &str) -> Result<Header, Defect> {
        let wrong = |what: &str| Defect::new("header", format!("the tag's header has no valid {what} line"));
        let lines: Vec<&str> = head.split('\n').collect();
        let [object, kind, tag, tagger] = lines[..] else {
            return Err(Defect::new(
                "header",
                "the tag's header is not object, type, tag and tagger",
            ));
        };
        let commit = object
            .strip_prefix("object ")
            .and_then(oid)
            .ok_or_else(|| wrong("object"))?;
        if kind != "type commit" {
            return Err(Defect::new("header", format!("the tag is on no commit ({kind})")));
        }
        let tag = tag.strip_prefix("tag ").ok_or_else(|| wrong("tag"))?;
        let name = tag.parse().map_err(|why: String| Defect::new("name", why))?;
        let tagger = tagger.strip_prefix("tagger ").ok_or_else(|| wrong("tagger"))?;
        let (who, when) = tagger.rsplit_once("> ").ok_or_else(|| wrong("tagger"))?;
        let (tagger_name, tagger_mail) = who.split_once(" <").ok_or_else(|| wrong("tagger"))?;
        let seconds = when.strip_suffix(" +0000").ok_or_else(|| wrong("tagger"))?;
        let time = number(seconds)
            .and_then(|s| i64::try_from(s).ok())
            .and_then(Utc::from_unix);
        Ok(Header {
            commit,
            name,
            tagger_name: tagger_name.to_owned(),
            tagger_mail: tagger_mail.to_owned(),
            time: time.ok_or_else(|| wrong("tagger"))?,
        })
    }
}

/// The body without its signature. At most one armor block, at the end, and nothing after it.
fn split_armor(body: &str) -> Result<(&str, Signature), Defect> {
    let armor = |line: &str| ARMOR.iter().find(|(head, _, _)| line.starts_with(head));
    let mut at = 0;
    for line in body.split_inclusive('\n') {
        if let Some((head, tail, signature)) = armor(line) {
            let block = &body[at..];
            let once = block.matches("-----BEGIN ").count() == 1 && block.matches("-----END ").count() == 1;
            let ends = block
                .strip_suffix('\n')
                .is_some_and(|b| b.lines().next_back() == Some(tail));
            if line.trim_end() != *head || !once || !ends {
                return Err(Defect::new(
                    "armor",
                    "the signature is not one armor block at the record's end",
                ));
            }
            return Ok((&body[..at], *signature));
        }
        at += line.len();
    }
    Ok((body, Signature::None))
}

struct Body<'a> {
    headline: &'a str,
    prose: &'a str,
    line: &'a str,
    trailers: &'a str,
}

impl<'a> Body<'a> {
    fn parse(body: &'a str) -> Result<Self, Defect> {
        // A commit's subject may speak of the markers: only what begins a line is one.
        let count = |word: &str| body.lines().filter(|line| line.starts_with(word)).count();
        if count(BEGIN) != 1 || count(END) != 1 {
            return Err(Defect::new(
                "block",
                "the record has not exactly one evidence block",
            ));
        }
        let wrong = || Defect::new("block", "the evidence is not one line between its two markers");
        let (before, rest) = body.split_once(&format!("\n\n{BEGIN}\n")).ok_or_else(wrong)?;
        let (line, trailers) = rest.split_once(&format!("\n{END}\n\n")).ok_or_else(wrong)?;
        if line.contains('\n') {
            return Err(wrong());
        }
        let headline = before.lines().next().unwrap_or_default();
        let prose = &before[headline.len()..];
        let prose = prose.strip_prefix("\n\n").unwrap_or(prose);
        if headline.trim().is_empty() {
            return Err(Defect::new("subject", "the record has no subject line"));
        }
        Ok(Body {
            headline,
            prose,
            line,
            trailers,
        })
    }
}

/// A whole object id in lower-case hex.
pub(crate) fn oid(hex: &str) -> Option<Oid> {
    let lower = hex
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if lower {
        Oid::from_hex(hex.as_bytes()).ok()
    } else {
        None
    }
}

/// A number as it is written back: no sign, no leading zero.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|n: &u64| n.to_string() == text)
}
