//! A record as bytes: the raw tag object that git stores. Made once from a draft and never rebuilt.

use super::evidence::{DiffEvidence, Evidence};
use super::name::{Kind, OnHost, RecordName, Target, Utc};
use super::parse::{Defect, Record};
use super::{Oid, Secrets, sha256_hex, text};

/// The line before the evidence.
pub const BEGIN: &str = "-----BEGIN NIXGATE EVIDENCE-----";
/// The line after the evidence.
pub const END: &str = "-----END NIXGATE EVIDENCE-----";
/// The version of the body's layout.
pub const SCHEMA: &str = "1";

/// The record before this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Id of its tag object.
    pub oid: Oid,
    /// SHA-256 of its raw content, signature included.
    pub sha256: String,
    pub name: RecordName,
}

/// A record that is about to be made.
#[derive(Debug, Clone)]
pub struct Draft {
    pub target: Target,
    pub kind: Kind,
    /// From 1.
    pub seq: u64,
    pub commit: Oid,
    pub tagger_name: String,
    pub tagger_mail: String,
    /// See [`Utc::behind`].
    pub time: Utc,
    /// What the commit is about; stands behind the subject line.
    pub subject: String,
    pub evidence: Evidence,
    pub previous: Option<Link>,
    /// What a rollback or a deploy puts on the host.
    pub restores: Option<OnHost>,
    pub withdraws: Vec<RecordName>,
    /// Values that must not stand in the record.
    pub secrets: Secrets,
}

impl Draft {
    pub fn name(&self) -> RecordName {
        RecordName::new(self.target.clone(), self.time, &self.commit)
    }

    /// The raw bytes of the tag object, unsigned.
    pub fn payload(&self) -> Vec<u8> {
        let line = self.evidence.to_line(&self.secrets);
        // What is said in prose is what stands in the block: redacted and cut.
        let told = Evidence::from_line(&line).unwrap_or_else(|_| self.evidence.clone());
        let mut out = String::with_capacity(line.len() + 2048);
        let mut put = |text: &str| {
            out.push_str(text);
            out.push('\n');
        };
        put(&format!("object {}", self.commit));
        put("type commit");
        put(&format!("tag {}", self.name()));
        let (name, mail) = (
            identity(&self.tagger_name, text::shown),
            identity(&self.tagger_mail, text::shown),
        );
        put(&format!("tagger {name} <{mail}> {} +0000", self.time.unix()));
        put("");
        let subject = self.secrets.redact(self.subject.trim());
        let name = self.name();
        let shown = text::shown;
        put(&headline(
            &name,
            self.kind,
            self.restores.as_ref(),
            &subject,
            shown,
        ));
        put("");
        put(&prose(&name, self.kind, self.withdraws.len(), &told, shown));
        put("");
        put(BEGIN);
        put(&line);
        put(END);
        put("");
        put(&format!("Nixgate-Schema: {SCHEMA}"));
        put(&format!("Nixgate-Target: {}", self.target));
        put(&format!("Nixgate-Kind: {}", self.kind));
        put(&format!("Nixgate-Seq: {}", self.seq));
        if let Some(previous) = &self.previous {
            put(&format!("Nixgate-Previous: {}", previous.oid));
            put(&format!("Nixgate-Previous-SHA256: {}", previous.sha256));
        }
        put(&format!(
            "Nixgate-Evidence-SHA256: {}",
            sha256_hex(line.as_bytes())
        ));
        if let Some(restores) = &self.restores {
            put(&format!("Nixgate-Restores: {restores}"));
        }
        for name in &self.withdraws {
            put(&format!("Nixgate-Withdraws: {name}"));
        }
        out.into_bytes()
    }
}

/// How text from elsewhere is escaped: as it is now, or as it was when the first records were made.
type Shown = fn(&str) -> String;
const SPELLINGS: [Shown; 2] = [text::shown, text::shown_at_first];

/// What the record does, in its first line; behind it, what its commit is about.
fn headline(own: &RecordName, kind: Kind, restores: Option<&OnHost>, subject: &str, shown: Shown) -> String {
    let target = &own.target;
    let what = match (kind, restores) {
        (Kind::Rollback, Some(OnHost::BeforeFirst)) => {
            format!("Roll {target} back to what ran before the first release")
        }
        (Kind::Rollback, Some(OnHost::Release(name))) => format!("Roll {target} back to {}", name.leaf()),
        (Kind::Deploy, Some(OnHost::BeforeFirst)) => {
            format!("Deploy what ran before the first release to {target}")
        }
        (Kind::Deploy, Some(OnHost::Release(name))) => format!("Deploy {} to {target}", name.leaf()),
        _ => format!("Release {target} at {}", own.short()),
    };
    let subject = shown(subject);
    if subject.is_empty() {
        what
    } else {
        text::cut(&format!("{what}: {subject}"), 200)
    }
}

/// The evidence in a few lines.
fn prose(own: &RecordName, kind: Kind, withdraws: usize, e: &Evidence, shown: Shown) -> String {
    let target = &own.target;
    let mut lines = Vec::new();
    if !e.toplevel.is_empty() {
        lines.push(format!("{target} runs {}", e.toplevel));
        lines.push(format!(
            "{} paths, {} bytes, built by {} for {}",
            e.paths, e.bytes, e.builder, e.system
        ));
    }
    if let Some(diff) = &e.diff {
        lines.push(summary(diff));
    }
    if !e.gates.is_empty() {
        let gates: Vec<String> = e
            .gates
            .iter()
            .map(|g| format!("{} {}", g.gate.name(), verdict(g.verdict)))
            .collect();
        lines.push(format!(
            "gates: {} ({}.{} s)",
            gates.join(", "),
            e.millis() / 1000,
            e.millis() % 1000 / 100
        ));
    }
    match (e.generation_before, e.generation_after) {
        (Some(before), Some(after)) => lines.push(format!("generation {before} -> {after}")),
        (None, Some(after)) => lines.push(format!("generation {after}")),
        _ => {}
    }
    if let Some(drift) = &e.drift {
        lines.push(format!("drift: {drift}"));
    }
    lines.extend(e.warnings.iter().map(|w| format!("warning: {w}")));
    if withdraws > 0 {
        lines.push(format!("withdraws {withdraws} release(s)"));
    }
    if lines.is_empty() {
        lines.push(format!("{kind} of {target}"));
    }
    let lines: Vec<String> = lines.iter().map(|line| text::prose_as(line, shown)).collect();
    lines.join("\n")
}

impl Record {
    /// What nothing but its writer answers for: the first line behind what it must say, and a prose that is not the
    /// evidence's.
    pub(super) fn untold(&self) -> String {
        let start = headline(&self.name, self.kind, self.restores.as_ref(), "", text::shown);
        let line = self.headline.strip_prefix(&start).unwrap_or(&self.headline);
        let derived = SPELLINGS
            .iter()
            .any(|shown| self.prose == self.derived_prose(*shown));
        let prose = if derived { "" } else { &self.prose };
        format!("{line}\n{prose}\n")
    }

    fn derived_prose(&self, shown: Shown) -> String {
        prose(&self.name, self.kind, self.withdraws.len(), &self.evidence, shown)
    }

    /// Whether nothing in it is hidden from a reader.
    ///
    /// # Errors
    /// The defect `control`: a character that formats or is not seen. [`Record::parse`] refuses those that act on a
    /// terminal; records from before this rule hold others, so only what is new is judged by it.
    pub fn seen(&self) -> Result<(), Defect> {
        let texts = [&self.tagger_name, &self.tagger_mail, &self.headline, &self.prose];
        let hidden = |text: &String| text.chars().find(|c| !text::plain(*c) && *c != '\n');
        match texts.into_iter().find_map(hidden) {
            None => Ok(()),
            Some(c) => Err(Defect::new(
                "control",
                format!(
                    "{} holds {}, a character that is not seen",
                    self.name,
                    c.escape_unicode()
                ),
            )),
        }
    }

    /// The same record without what is there for people, for those who keep many and judge only the chain: first line,
    /// prose, and of the evidence what no later record speaks of.
    #[must_use]
    pub(super) fn without_what_is_told(mut self) -> Record {
        let evidence = std::mem::take(&mut self.evidence);
        self.evidence = Evidence {
            commit: evidence.commit,
            tree: evidence.tree,
            target: evidence.target,
            toplevel: evidence.toplevel,
            nar_hash: evidence.nar_hash,
            closure_digest: evidence.closure_digest,
            before: evidence.before,
            ..Evidence::default()
        };
        (self.headline, self.prose) = (String::new(), String::new());
        self
    }

    /// Whether the parts that are there for people (the first line, the prose, the tagger) say what the evidence and
    /// the commit say. No digest in the record itself covers them; the next record's does, or a signature.
    /// `subject`: that of the commit, where it is at hand.
    ///
    /// # Errors
    /// The defect `prose`. A first line with something redacted is compared up to the commit's subject.
    pub fn told(&self, subject: Option<&str>) -> Result<(), Defect> {
        let no = |what: &str| {
            Err(Defect::new(
                "prose",
                format!("{} does not say what {what}", self.name),
            ))
        };
        let (name, restores) = (&self.name, self.restores.as_ref());
        let start = headline(name, self.kind, restores, "", text::shown);
        let compared = subject.filter(|_| !self.headline.contains(super::secrets::REDACTED));
        let spelled = |good: &dyn Fn(Shown) -> bool| SPELLINGS.iter().any(|shown| good(*shown));
        let good = match compared {
            Some(subject) => {
                spelled(&|shown| self.headline == headline(name, self.kind, restores, subject.trim(), shown))
            }
            None => self
                .headline
                .strip_prefix(&start)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(": ")),
        };
        if !good {
            return no("its commit and its trailers say in its first line");
        }
        if !spelled(&|shown| self.prose == self.derived_prose(shown)) {
            return no("its evidence says in its prose");
        }
        let by = self.evidence.by.rsplit_once(" <");
        let says = |shown: Shown| {
            let tagger = by.map(|(who, mail)| (identity(who, shown), identity(mail, shown)));
            tagger == Some((self.tagger_name.clone(), self.tagger_mail.clone()))
        };
        if !spelled(&says) {
            return no("its evidence says of who made it");
        }
        Ok(())
    }
}

fn verdict(verdict: crate::event::Verdict) -> &'static str {
    match verdict {
        crate::event::Verdict::Passed => "passed",
        crate::event::Verdict::Failed => "failed",
        crate::event::Verdict::Skipped => "skipped",
    }
}

fn summary(diff: &DiffEvidence) -> String {
    let counts = [
        (diff.added, "added"),
        (diff.removed, "removed"),
        (diff.upgraded, "upgraded"),
        (diff.downgraded, "downgraded"),
        (diff.rebuilt, "rebuilt"),
    ];
    let parts: Vec<String> = counts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}"))
        .collect();
    let mut text = if parts.is_empty() {
        "no package changed".to_owned()
    } else {
        format!("{}; {:+} bytes", parts.join(", "), diff.bytes_delta)
    };
    if let (Some(changed), Some(explained)) = (diff.changed_paths, diff.explained_paths) {
        text += &format!("; {explained} of {changed} changed paths explained");
    }
    text
}

/// A name or a mail as git allows it in a tagger line.
fn identity(text: &str, shown: Shown) -> String {
    shown(text)
        .chars()
        .filter(|c| !matches!(c, '<' | '>'))
        .collect::<String>()
        .trim()
        .to_owned()
}
