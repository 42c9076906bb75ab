//! A run as lines: one per check, gate and finding.

use super::Style;
use super::escape::one_line;
use crate::event::{CheckLine, Event, Gate, Verdict};

/// Draws events; remembers only what a later line needs.
#[derive(Debug, Default)]
pub(super) struct Lines {
    open: Option<Gate>,
}

impl Lines {
    /// The text for one event, with its line feeds; may be empty.
    pub(super) fn draw(&mut self, event: &Event, style: Style) -> String {
        match event {
            Event::RunStarted {
                run,
                target,
                verb,
                commit,
            } => {
                let commit: String = commit.chars().take(12).collect();
                // A way back is named by where it starts; where it leads is what preflight says.
                let from = match verb.as_str() {
                    "rollback" | "deploy" => "from ",
                    _ => "",
                };
                format!(
                    "{} {from}{commit} (run {run})\n",
                    bold(&format!("{verb} {target}"), style)
                )
            }
            Event::GateStarted { gate } => {
                self.open = Some(*gate);
                format!("{}\n", bold(gate.name(), style))
            }
            Event::Check(line) => format!("  {}\n", check(line, style)),
            Event::Finding { text, .. } => format!("  {}\n", one_line(text)),
            Event::GateFinished {
                gate,
                verdict,
                millis,
                detail,
            } => {
                let head = if self.open == Some(*gate) {
                    "  "
                } else {
                    gate.name()
                };
                self.open = None;
                let gap = if head == "  " { "" } else { " " };
                let word = word(*verdict, style);
                let time = if *verdict == Verdict::Skipped {
                    String::new()
                } else {
                    format!(" in {}", seconds(*millis))
                };
                let detail = if detail.is_empty() {
                    String::new()
                } else {
                    format!(": {}", one_line(detail))
                };
                format!("{head}{gap}{word}{time}{detail}\n")
            }
            Event::Note { text } => format!("{}\n", one_line(text)),
            Event::Warning { text } => format!("{} {}\n", paint("warning:", 33, style), one_line(text)),
            Event::Generation {
                target,
                before,
                after,
            } => match before {
                Some(before) => format!("  {target}: generation {before} → {after}\n"),
                None => format!("  {target}: generation {after}\n"),
            },
            Event::Recorded {
                record, published, ..
            } => {
                let note = if *published { "" } else { " (not published)" };
                format!("  {} {record}{note}\n", paint("recorded:", 32, style))
            }
        }
    }
}

/// `[4/6] Disk space... ✅ (67% used)`, in words where there is no terminal.
pub(super) fn check(line: &CheckLine, style: Style) -> String {
    let number = if line.number > 0 {
        format!("[{}/{}] ", line.number, line.of)
    } else {
        String::new()
    };
    let detail = if line.detail.is_empty() {
        String::new()
    } else {
        format!(" ({})", one_line(&line.detail))
    };
    format!(
        "{number}{}... {}{detail}",
        one_line(&line.name),
        word(line.verdict, style)
    )
}

fn word(verdict: Verdict, style: Style) -> &'static str {
    match (verdict, style) {
        (Verdict::Passed, Style::Terminal) => "✅",
        (Verdict::Failed, Style::Terminal) => "❌",
        (Verdict::Skipped, Style::Terminal) => "⏭️ skipped",
        (Verdict::Passed, Style::Plain) => "passed",
        (Verdict::Failed, Style::Plain) => "FAILED",
        (Verdict::Skipped, Style::Plain) => "skipped",
    }
}

/// `0.4 s`, `12 s`, `2m 05s`.
pub(crate) fn seconds(millis: u64) -> String {
    match millis {
        0..10_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        10_000..60_000 => format!("{} s", millis / 1000),
        _ => format!("{}m {:02}s", millis / 60_000, millis % 60_000 / 1000),
    }
}

pub(super) fn bold(text: &str, style: Style) -> String {
    paint(text, 1, style)
}

/// Text in one SGR attribute (ECMA-48 §8.3.117), or bare.
pub(super) fn paint(text: &str, sgr: u8, style: Style) -> String {
    match style {
        Style::Terminal => format!("\x1b[{sgr}m{text}\x1b[0m"),
        Style::Plain => text.to_owned(),
    }
}
