//! Records as people read them: `log`, `show`, `status`. Pure.

use serde_json::{Value, json};

use super::Style;
use super::escape::one_line;
use super::lines::{bold, paint, seconds};
use super::table::columns;
use crate::event::Verdict;
use crate::failure::Failure;
use crate::record::evidence::GateEvidence;
use crate::record::{Kind, OnHost, Record, RecordName, Signature};
use crate::run::journal::State;

/// What is known of a record beside the record itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    pub current: bool,
    pub withdrawn: bool,
    pub unpublished: bool,
}

impl Marks {
    fn words(&self) -> String {
        let words = [
            (self.current, "current"),
            (self.withdrawn, "withdrawn"),
            (self.unpublished, "not published"),
        ];
        words
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, word)| *word)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// One line a record, newest first.
pub fn log(rows: &[(Record, Marks)], style: Style) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|(record, marks)| {
            let what = match &record.restores {
                None => String::new(),
                Some(OnHost::BeforeFirst) => "to before-first".to_owned(),
                Some(OnHost::Release(name)) => format!("to {}", name.leaf()),
            };
            vec![
                record.name.to_string(),
                record.kind.to_string(),
                one_line(&record.tagger_name),
                [what, marks.words()]
                    .iter()
                    .filter(|s| !s.is_empty())
                    .cloned()
                    .collect::<Vec<_>>()
                    .join("; "),
            ]
        })
        .collect();
    let text = columns(&cells);
    if style == Style::Plain {
        return text;
    }
    text.lines()
        .zip(rows)
        .map(|(line, (record, marks))| {
            let name = record.name.to_string();
            let colour = if marks.withdrawn {
                31
            } else if record.kind == Kind::Release {
                32
            } else {
                33
            };
            format!("{}{}\n", paint(&name, colour, style), &line[name.len()..])
        })
        .collect()
}

/// A record as JSON: names, links and the whole evidence.
pub fn record_json(record: &Record, marks: &Marks) -> Value {
    json!({
        "record": record.name.to_string(), "kind": record.kind, "target": record.target().as_str(),
        "seq": record.seq, "commit": record.commit.to_string(), "time": record.time.rfc3339(),
        "by": { "name": record.tagger_name, "mail": record.tagger_mail },
        "oid": record.oid.to_string(), "sha256": record.sha256,
        "previous": record.previous.as_ref().map(|p| json!({ "oid": p.oid.to_string(), "sha256": p.sha256 })),
        "restores": record.restores.as_ref().map(ToString::to_string),
        "withdraws": record.withdraws.iter().map(RecordName::to_string).collect::<Vec<_>>(),
        "current": marks.current, "withdrawn": marks.withdrawn, "published": !marks.unpublished,
        "evidence": record.evidence,
    })
}

/// One record with its evidence.
pub fn record(record: &Record, marks: &Marks, style: Style) -> String {
    let e = &record.evidence;
    let mut out = format!("{}\n", bold(&record.name.to_string(), style));
    let mut rows: Vec<(&str, String)> = vec![
        (
            "kind",
            [record.kind.to_string(), marks.words()]
                .iter()
                .filter(|s| !s.is_empty())
                .cloned()
                .collect::<Vec<_>>()
                .join(", "),
        ),
        ("commit", record.commit.to_string()),
        ("subject", one_line(&record.headline)),
        (
            "by",
            format!(
                "{} <{}> at {}",
                one_line(&record.tagger_name),
                one_line(&record.tagger_mail),
                record.time.rfc3339()
            ),
        ),
    ];
    if let Some(restores) = &record.restores {
        rows.push(("restores", restores.to_string()));
    }
    rows.extend(
        record
            .withdraws
            .iter()
            .map(|name| ("withdraws", name.to_string())),
    );
    rows.push((
        "closure",
        format!(
            "{} ({} paths, {})",
            one_line(&e.toplevel),
            e.paths,
            bytes(e.bytes)
        ),
    ));
    let there = e.on_target.as_ref();
    let digest = there.map_or(&e.closure_digest, |there| &there.closure_digest);
    rows.push(("digest", one_line(digest)));
    rows.extend(e.drv.iter().map(|drv| ("derivation", one_line(drv))));
    rows.push((
        "built by",
        format!(
            "{} with {} for {}",
            one_line(&e.builder),
            one_line(&e.nix_version),
            one_line(&e.system)
        ),
    ));
    if let Some(after) = e.generation_after {
        let before = e
            .generation_before
            .map_or(String::new(), |before| format!("{before} → "));
        rows.push(("generation", format!("{before}{after}")));
    }
    if e.impure {
        rows.push(("impure", "evaluated with --impure".to_owned()));
    }
    rows.extend(e.drift.iter().map(|drift| ("drift", one_line(drift))));
    rows.extend(e.warnings.iter().map(|warning| ("warning", one_line(warning))));
    let signature = match record.signature {
        Signature::None => "none".to_owned(),
        kind => format!("{kind}; git tag -v checks it"),
    };
    rows.push(("signature", signature));
    rows.push(("record", format!("number {} of {}", record.seq, record.target())));
    let width = rows.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    for (key, value) in rows {
        out.push_str(&format!("  {key:width$}  {value}\n"));
    }
    if !e.gates.is_empty() {
        out.push_str(&format!("{}\n", bold("gates", style)));
        out.push_str(&gate_lines(&e.gates));
    }
    if let Some(diff) = &e.diff
        && !(diff.lines.is_empty() && diff.inputs.is_empty() && diff.causes.is_empty())
    {
        out.push_str(&format!("{}\n", bold("changes", style)));
        // The causes name the inputs, and what came of them.
        let why = if diff.causes.is_empty() {
            &diff.inputs
        } else {
            &diff.causes
        };
        for line in why.iter().chain(&diff.risk).chain(&diff.holds).chain(&diff.lines) {
            out.push_str(&format!("  {}\n", one_line(line)));
        }
        if diff.more > 0 {
            out.push_str(&format!("  … and {} more\n", diff.more));
        }
    }
    out
}

/// A line a gate: its verdict, its time, why it was skipped or failed.
fn gate_lines(gates: &[GateEvidence]) -> String {
    let line = |gate: &GateEvidence| {
        let word = match gate.verdict {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Skipped => "skipped",
        };
        let reason = gate
            .reason
            .as_ref()
            .map_or(String::new(), |r| format!(": {}", one_line(r)));
        let time = if gate.verdict == Verdict::Skipped {
            String::new()
        } else {
            format!(" in {}", seconds(gate.millis))
        };
        format!("  {:<12}  {word}{time}{reason}\n", gate.gate.name())
    };
    gates.iter().map(line).collect()
}

/// `12.3 MiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, size)| n >= *size) {
        Some((unit, size)) => format!("{}.{} {unit}", n / size, n % size * 10 / size),
        None => format!("{n} B"),
    }
}

/// What one target's records say.
pub struct TargetStatus<'a> {
    pub target: &'a str,
    /// The newest record.
    pub head: Option<&'a Record>,
    pub unpublished: u64,
    pub live: Option<Live>,
    /// Why its records cannot be gone by.
    pub defect: Option<Failure>,
}

/// What one target's host says.
#[derive(Debug, Clone, Default, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Live {
    pub running: Option<String>,
    pub booted: Option<String>,
    pub profile: Option<String>,
    pub boot_default: Option<String>,
    /// What boots at the next boot only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_once: Option<String>,
    pub system_state: String,
    /// The record that the host itself carries.
    pub record: Option<String>,
    /// In words: what disagrees. Empty: nothing.
    pub drift: Vec<String>,
    /// Why the host could not be asked.
    pub unreachable: Option<String>,
    /// Who is at work on it.
    pub held_by: Option<String>,
}

impl TargetStatus<'_> {
    pub fn is_good(&self) -> bool {
        let well = |live: &Live| live.drift.is_empty() && live.unreachable.is_none();
        self.defect.is_none() && self.live.as_ref().is_none_or(well)
    }

    pub fn to_json(&self) -> Value {
        let head = self.head;
        json!({
            "target": self.target,
            "on-host": head.map(|r| r.on_host().to_string()),
            "record": head.map(|r| r.name.to_string()),
            "kind": head.map(|r| r.kind),
            "commit": head.map(|r| r.commit.to_string()),
            "toplevel": head.map(|r| r.evidence.toplevel.clone()),
            "time": head.map(|r| r.time.rfc3339()),
            "by": head.map(|r| r.tagger_name.clone()),
            "unpublished": self.unpublished,
            "defect": self.defect.as_ref().map(|defect| {
                json!({ "what": defect.what, "why": defect.why, "next": defect.next })
            }),
            "live": self.live,
        })
    }
}

/// A line a target; with `--live` what the hosts say below it.
pub fn status(all: &[TargetStatus<'_>], style: Style) -> String {
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|s| match s.head {
            None if s.defect.is_some() => vec![s.target.to_owned()],
            None => vec![s.target.to_owned(), "no release yet".to_owned()],
            Some(head) => {
                let mut notes = Vec::new();
                if head.kind != Kind::Release {
                    notes.push(format!("by {}", head.kind));
                }
                let withdrawn = head.withdraws.len();
                if withdrawn > 0 {
                    notes.push(format!("{withdrawn} withdrawn"));
                }
                if s.unpublished > 0 {
                    notes.push(format!(
                        "{} not published: git nixgate publish {}",
                        s.unpublished, s.target
                    ));
                }
                let on_host = match head.on_host() {
                    OnHost::BeforeFirst => "before-first".to_owned(),
                    OnHost::Release(name) => name.leaf(),
                };
                vec![
                    s.target.to_owned(),
                    on_host,
                    head.time.rfc3339(),
                    one_line(&head.tagger_name),
                    notes.join(", "),
                ]
            }
        })
        .collect();
    let table = columns(&rows);
    let mut out = String::new();
    for (line, status) in table.lines().zip(all) {
        let name = bold(status.target, style);
        out.push_str(&format!("{name}{}\n", &line[status.target.len()..]));
        if let Some(defect) = &status.defect {
            let what = one_line(&defect.what);
            out.push_str(&format!("  {} {what}\n", paint("BROKEN:", 31, style)));
            let lines = defect.why.iter().map(|why| format!("    {}\n", one_line(why)));
            out.extend(lines);
            let next = defect.next.iter().map(|next| format!("  next: {next}\n"));
            out.extend(next);
        }
        let Some(live) = &status.live else { continue };
        if let Some(why) = &live.unreachable {
            out.push_str(&format!(
                "  {} {}\n",
                paint("unreachable:", 31, style),
                one_line(why)
            ));
            continue;
        }
        let or = |path: &Option<String>| path.clone().unwrap_or_else(|| "unknown".to_owned());
        let places = [
            ("running", &live.running),
            ("booted", &live.booted),
            ("profile", &live.profile),
            ("boot default", &live.boot_default),
        ];
        if let Some(record) = &live.record {
            out.push_str(&format!("  {:<12}  {}\n", "record", one_line(record)));
        }
        for (name, path) in places {
            out.push_str(&format!("  {name:<12}  {}\n", one_line(&or(path))));
        }
        if let Some(once) = &live.boot_once {
            out.push_str(&format!("  {:<12}  {}\n", "boots once", one_line(once)));
        }
        out.push_str(&format!("  {:<12}  {}\n", "state", one_line(&live.system_state)));
        if let Some(who) = &live.held_by {
            out.push_str(&format!("  {:<12}  {}\n", "held by", one_line(who)));
        }
        for drift in &live.drift {
            out.push_str(&format!("  {} {}\n", paint("DRIFT:", 31, style), one_line(drift)));
        }
    }
    out
}

/// How many of a failure's lines `log --failed` shows; `show` has all of them.
const LAST: usize = 4;

/// Runs that did not end well, newest first: where each failed, why, its last lines, and what to type.
pub fn runs(all: &[State]) -> String {
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|state| {
            let mut row = vec![
                state.run.clone(),
                state.target.clone(),
                state.verb.name().to_owned(),
            ];
            match &state.ending {
                None => row.push("unfinished".to_owned()),
                Some(ending) => {
                    row.push(format!("exit {}", ending.exit));
                    row.push(ending.gate.map_or(String::new(), |gate| gate.name().to_owned()));
                    row.push(ending.reason.map_or(String::new(), |reason| reason.to_string()));
                }
            }
            row
        })
        .collect();
    let table = columns(&rows);
    let mut out = String::new();
    for (line, state) in table.lines().zip(all) {
        out.push_str(&format!("{line}\n"));
        let Some(ending) = &state.ending else {
            out.push_str(&format!("  next: git nixgate resume {}\n", state.target));
            continue;
        };
        out.push_str(&format!("  {}\n", one_line(&ending.what)));
        let from = ending.why.len().saturating_sub(LAST);
        if from > 0 {
            out.push_str("    …\n");
        }
        for why in &ending.why[from..] {
            out.push_str(&format!("    {}\n", one_line(why)));
        }
        for next in ending.next.iter().take(1) {
            out.push_str(&format!("  next: {}\n", one_line(next)));
        }
    }
    out
}

/// A run as its journal has it.
pub struct RunView<'a> {
    pub state: &'a State,
    pub gates: &'a [GateEvidence],
    /// What the host said of the trouble.
    pub host: &'a str,
    /// What `switch-to-configuration` printed.
    pub switch: &'a str,
}

/// One run: how it ended, gate by gate, and what was said on the host.
pub fn run(view: &RunView<'_>) -> String {
    let state = view.state;
    let mut out = format!(
        "{}\n  {} {} at {}\n  by {} since {}\n",
        state.run,
        state.verb.name(),
        state.target,
        state.commit,
        one_line(&state.by),
        state.started
    );
    for (key, value) in [("candidate", &state.candidate), ("previous", &state.previous)] {
        if let Some(value) = value {
            out.push_str(&format!("  {key} {}\n", one_line(value)));
        }
    }
    match &state.ending {
        None => out.push_str(&format!("  not ended: git nixgate resume {}\n", state.target)),
        Some(ending) => {
            let gate = ending
                .gate
                .map_or(String::new(), |gate| format!(" in {}", gate.name()));
            let reason = ending
                .reason
                .map_or(String::new(), |reason| format!(", {reason}"));
            let what = match (&ending.record, ending.what.as_str()) {
                (Some(record), "") => record.clone(),
                (_, what) => one_line(what),
            };
            out.push_str(&format!("  exit {}{gate}{reason}: {what}\n", ending.exit));
            for line in &ending.why {
                out.push_str(&format!("    {}\n", one_line(line)));
            }
            for line in &ending.next {
                out.push_str(&format!("  next: {}\n", one_line(line)));
            }
        }
    }
    if !view.gates.is_empty() {
        out.push_str(&format!("gates\n{}", gate_lines(view.gates)));
    }
    for (who, text) in [("the host", view.host), ("switch-to-configuration", view.switch)] {
        if text.trim().is_empty() {
            continue;
        }
        out.push_str(&format!("{who} said:\n"));
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            out.push_str(&format!("  {}\n", one_line(line)));
        }
    }
    out
}
