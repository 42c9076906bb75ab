//! What a record proves, typed. Written as one line of JSON, an in-toto Statement v1: keys sorted, ASCII only, no
//! floats, at most 64 KiB. What does not fit is cut with a count, so that a run never fails at its end for its length.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Secrets, text};
use crate::event::{Gate, Verdict};

/// The predicate's type; the number is the major version of what is inside.
pub const PREDICATE: &str = "https://git-nixgate.dev/evidence/v1";
/// The statement's type.
pub const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The most bytes that the line has.
pub const LIMIT: usize = 64 * 1024;

/// One gate's verdict and what it found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateEvidence {
    pub gate: Gate,
    pub verdict: Verdict,
    /// RFC 3339, UTC.
    pub start: String,
    pub millis: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// How many findings were cut.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
    /// Why it was skipped or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The closure against what ran before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffEvidence {
    pub added: u64,
    pub removed: u64,
    pub upgraded: u64,
    pub downgraded: u64,
    pub rebuilt: u64,
    pub bytes_delta: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// Which flake inputs moved, old to new.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// Each cause, and indented below it what was changed for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What the system holds otherwise than before, by content: parts, users, units, files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<String>,
    /// How many paths came or went, and how many of them a cause explains; unknown without both commits and derivations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_paths: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explained_paths: Option<u64>,
    /// `risk: HIGH (kernel)`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<String>,
    /// How many lines of these lists were cut.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
}

/// What dry-activate announced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanEvidence {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reload: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub risky: Vec<String>,
    /// How many units were cut.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
}

/// What ran before the run; `rollback --to before-first` needs it from the first record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    pub toplevel: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nar_hash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closure_digest: Option<String>,
}

/// A closure as a store has it registered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The toplevel's: `sha256:` and 64 hex digits.
    pub nar_hash: String,
    /// 64 hex digits.
    pub closure_digest: String,
}

/// Everything a record proves. An application has no closure: `toplevel`, `nar_hash` and `closure_digest` are then
/// empty together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Full id of the commit that was built; stands in the statement's subject.
    #[serde(skip)]
    pub commit: String,
    /// Its tree; stands in the statement's subject.
    #[serde(skip)]
    pub tree: String,
    pub target: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flake_lock_sha256: Option<String>,
    pub toplevel: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drv: Option<String>,
    /// `sha256:` and 64 hex digits.
    pub nar_hash: String,
    /// 64 hex digits: see docs/format.md.
    pub closure_digest: String,
    /// What the target had registered, read there before the switch. `None`: nobody looked (records of earlier versions);
    /// then `nar_hash` and `closure_digest` are the builder's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_target: Option<Registered>,
    /// What it was copied from had registered, where that is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_builder: Option<Registered>,
    pub paths: u64,
    pub bytes: u64,
    pub system: String,
    pub nix_version: String,
    /// The builder's name, never its address.
    pub builder: String,
    pub gates: Vec<GateEvidence>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<DiffEvidence>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanEvidence>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units_changed: Vec<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub units_more: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation_before: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation_after: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub specialisation: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub impure: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub warnings_more: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<String>,
    /// Seconds by which the operator's clock stood behind the previous record.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skew: u64,
    /// Name of the previous record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// Who ran it, as git's committer: `Name <mail>`.
    pub by: String,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Evidence {
    /// The line that goes into the record. `secrets` are the values known from configuration and environment that must
    /// not leave the operator; what is longer than [`LIMIT`] allows is cut with a count.
    pub fn to_line(&self, secrets: &Secrets) -> String {
        let mut evidence = self.clone();
        evidence.each_text(&mut |s| {
            let safe = text::cut(&secrets.redact(s), 1000);
            *s = text::shown(&safe);
        });
        let mut most = 4096;
        loop {
            evidence.keep_at_most(most);
            let line = canonical(&evidence.statement());
            if line.len() <= LIMIT || most == 0 {
                return line;
            }
            most /= 2;
        }
    }

    /// Reads the line back: canonical JSON of the known statement and predicate type.
    pub fn from_line(line: &str) -> Result<Evidence, String> {
        if line.len() > LIMIT {
            return Err(format!(
                "the evidence has {} bytes, more than {LIMIT}",
                line.len()
            ));
        }
        let value: Value =
            serde_json::from_str(line).map_err(|e| format!("the evidence is not JSON: {e}"))?;
        if canonical(&value) != line {
            return Err(
                "the evidence is not canonical: keys sorted, once each, ASCII, no floats, no spaces".into(),
            );
        }
        let text = |pointer: &str| {
            value
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        if text("/_type") != STATEMENT {
            return Err(format!("the evidence is no {STATEMENT}"));
        }
        if text("/predicateType") != PREDICATE {
            return Err(format!(
                "the evidence's predicate is {:?}, not {PREDICATE:?}",
                text("/predicateType")
            ));
        }
        let subjects = value.get("subject").and_then(Value::as_array).map_or(0, Vec::len);
        let (commit, tree) = (
            text("/subject/0/digest/gitCommit"),
            text("/subject/1/digest/gitTree"),
        );
        if subjects != 2 || commit.is_empty() || tree.is_empty() {
            return Err("the evidence's subject is not one commit and its tree".into());
        }
        let predicate = value.get("predicate").cloned().unwrap_or_default();
        let mut evidence: Evidence =
            serde_json::from_value(predicate).map_err(|e| format!("the evidence is incomplete: {e}"))?;
        evidence.commit = commit;
        evidence.tree = tree;
        evidence.check()?;
        Ok(evidence)
    }

    /// Every text of it but who made it, one to a line: first what is redacted when it is written, then the rest.
    pub(super) fn texts(&self) -> (String, String) {
        let mut all = String::new();
        self.clone().each_text(&mut |s| {
            all.push_str(s);
            all.push('\n');
        });
        let before = self.before.as_ref().map(|before| &before.toplevel);
        let names = [Some(&self.toplevel), self.drv.as_ref(), Some(&self.system)];
        let rest = names.into_iter().chain([before, self.specialisation.as_ref()]);
        (all, rest.flatten().map(|s| format!("{s}\n")).collect())
    }

    /// Takes the values out of every free text.
    pub fn redact(&mut self, secrets: &Secrets) {
        self.each_text(&mut |s| *s = secrets.redact(s));
    }

    /// The sum of the gates' times; whoever wrote them, it has an end.
    pub fn millis(&self) -> u64 {
        let gates = self.gates.iter();
        gates.fold(0, |sum, gate| sum.saturating_add(gate.millis))
    }

    fn statement(&self) -> Value {
        let subject = |name: &str, kind: &str, id: &str| {
            let digest = Map::from_iter([(kind.to_owned(), Value::from(id))]);
            Value::from(Map::from_iter([
                ("digest".to_owned(), Value::from(digest)),
                ("name".to_owned(), Value::from(name)),
            ]))
        };
        let predicate = serde_json::to_value(self).unwrap_or_default();
        Value::from(Map::from_iter([
            ("_type".to_owned(), Value::from(STATEMENT)),
            (
                "subject".to_owned(),
                Value::from(vec![
                    subject("commit", "gitCommit", &self.commit),
                    subject("tree", "gitTree", &self.tree),
                ]),
            ),
            ("predicateType".to_owned(), Value::from(PREDICATE)),
            ("predicate".to_owned(), predicate),
        ]))
    }

    fn check(&self) -> Result<(), String> {
        let app = self.toplevel.is_empty() && self.nar_hash.is_empty() && self.closure_digest.is_empty();
        if !app {
            if !self.toplevel.starts_with('/') {
                return Err(format!(
                    "the evidence's toplevel {:?} is no store path",
                    self.toplevel
                ));
            }
            check_digests(&self.nar_hash, &self.closure_digest)?;
        }
        for there in [&self.on_target, &self.on_builder].into_iter().flatten() {
            check_digests(&there.nar_hash, &there.closure_digest)?;
        }
        if let Some(gate) = self.gates.iter().find(|g| {
            g.verdict == Verdict::Skipped && g.reason.as_deref().is_none_or(|reason| reason.trim().is_empty())
        }) {
            return Err(format!(
                "the gate {} was skipped without a reason",
                gate.gate.name()
            ));
        }
        Ok(())
    }

    /// Every text that came from outside, or says something free.
    fn each_text(&mut self, f: &mut dyn FnMut(&mut String)) {
        for gate in &mut self.gates {
            gate.findings.iter_mut().for_each(&mut *f);
            gate.reason.iter_mut().for_each(&mut *f);
        }
        if let Some(diff) = &mut self.diff {
            diff.lines.iter_mut().for_each(&mut *f);
            diff.inputs.iter_mut().for_each(&mut *f);
            diff.causes.iter_mut().for_each(&mut *f);
            diff.holds.iter_mut().for_each(&mut *f);
            diff.risk.iter_mut().for_each(&mut *f);
        }
        if let Some(p) = &mut self.plan {
            for units in [
                &mut p.stop,
                &mut p.restart,
                &mut p.reload,
                &mut p.start,
                &mut p.risky,
            ] {
                units.iter_mut().for_each(&mut *f);
            }
        }
        self.units_changed.iter_mut().for_each(&mut *f);
        self.warnings.iter_mut().for_each(&mut *f);
        self.drift.iter_mut().for_each(&mut *f);
        f(&mut self.builder);
        f(&mut self.nix_version);
    }

    fn keep_at_most(&mut self, most: usize) {
        fn keep(list: &mut Vec<String>, most: usize, more: &mut u64) {
            *more = more.saturating_add(list.len().saturating_sub(most) as u64);
            list.truncate(most);
        }
        for gate in &mut self.gates {
            keep(&mut gate.findings, most, &mut gate.more);
        }
        if let Some(diff) = &mut self.diff {
            keep(&mut diff.lines, most, &mut diff.more);
            keep(&mut diff.inputs, most, &mut diff.more);
            keep(&mut diff.causes, most, &mut diff.more);
            keep(&mut diff.holds, most, &mut diff.more);
        }
        if let Some(p) = &mut self.plan {
            for units in [
                &mut p.stop,
                &mut p.restart,
                &mut p.reload,
                &mut p.start,
                &mut p.risky,
            ] {
                keep(units, most, &mut p.more);
            }
        }
        keep(&mut self.units_changed, most, &mut self.units_more);
        keep(&mut self.warnings, most, &mut self.warnings_more);
    }
}

fn check_digests(nar_hash: &str, closure_digest: &str) -> Result<(), String> {
    let hex64 = |s: &str| {
        s.len() == 64
            && s.bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    if !nar_hash.strip_prefix("sha256:").is_some_and(hex64) {
        return Err(format!(
            "the evidence's NAR hash {nar_hash:?} is not sha256: and 64 hex digits"
        ));
    }
    if !hex64(closure_digest) {
        return Err(format!(
            "the evidence's closure digest {closure_digest:?} is not 64 hex digits"
        ));
    }
    Ok(())
}

/// JSON in its one form: keys sorted bytewise, no spaces, everything outside printable ASCII escaped.
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            out.push('{');
            for (i, key) in keys.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_text(key, out);
                out.push(':');
                write(&map[key.as_str()], out);
            }
            out.push('}');
        }
        Value::Array(list) => {
            out.push('[');
            for (i, item) in list.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::String(text) => write_text(text, out),
        // A float never equals what is written for it here, so it is never canonical.
        Value::Number(n) if n.is_f64() => out.push_str("null"),
        other => out.push_str(&other.to_string()),
    }
}

fn write_text(text: &str, out: &mut String) {
    use std::fmt::Write;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}
