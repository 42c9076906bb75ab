//! What people and programs see: readers of events and answers. Standard output is data, standard error is progress.

pub mod diff;
pub mod escape;
mod lines;
pub mod plan;
pub mod records;
pub mod screen;
pub mod store;
pub mod table;

use std::io::{IsTerminal, Write};
use std::sync::Mutex;

use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::{Color, Global};
use crate::event::{Event, Watcher};
use crate::failure::{Exit, Failure};
use crate::record::text;

/// The major version of everything that `--json` prints.
pub const JSON_SCHEMA: u32 = 1;

/// How lines are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Signs and colours.
    Terminal,
    /// Words only.
    Plain,
}

/// The streams of one command.
pub struct Ui {
    json: bool,
    pub progress: Style,
    pub answers: Style,
    lines: Mutex<lines::Lines>,
}

impl Ui {
    /// Decides on signs and colours from the flags, `NO_COLOR` (no-color.org) and what the streams are.
    pub fn new(global: &Global) -> Self {
        let style = |terminal: bool| {
            let quiet = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
            match global.color {
                Color::Always => Style::Terminal,
                Color::Never => Style::Plain,
                Color::Auto if terminal && !quiet => Style::Terminal,
                Color::Auto => Style::Plain,
            }
        };
        Ui {
            json: global.json,
            progress: style(std::io::stderr().is_terminal()),
            answers: style(std::io::stdout().is_terminal()),
            lines: Mutex::new(lines::Lines::default()),
        }
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person can be asked.
    pub fn can_ask(&self) -> bool {
        !self.json && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    /// Asks one line of a person; `None` where nobody can answer.
    pub fn ask(&self, question: &str) -> Option<String> {
        if !self.can_ask() {
            return None;
        }
        say(&format!("{question} "));
        let mut line = String::new();
        match std::io::stdin().read_line(&mut line) {
            Ok(n) if n > 0 => Some(line.trim().to_owned()),
            _ => None,
        }
    }

    /// Prints a command's answer: `text` for people, or `value` as one line of JSON.
    pub fn answer(&self, text: &str, value: impl Serialize) {
        if self.json {
            self.print_json("result", serde_json::to_value(value).unwrap_or(Value::Null));
        } else if !text.is_empty() {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(text.as_bytes());
            if !text.ends_with('\n') {
                let _ = out.write_all(b"\n");
            }
        }
    }

    /// Prints one line of something that goes on; `false` when nobody reads it any more. With `--json` the line is JSON
    /// of another program's, and printed as it is.
    pub fn line(&self, text: &str) -> bool {
        let mut out = std::io::stdout().lock();
        let written = match self.json {
            true => writeln!(out, "{text}"),
            false => writeln!(out, "{}", escape::one_line(text)),
        };
        written.and_then(|()| out.flush()).is_ok()
    }

    /// Prints a failure where the reader looks for it: standard error, and with `--json` a last line of output.
    pub fn fail(&self, failure: &Failure) {
        if self.json {
            print_line(&failure_line(failure));
        } else {
            say(&screen::failure(failure, self.progress));
        }
    }

    /// Says something beside the answer.
    pub fn note(&self, text: &str) {
        self.see(&Event::Note {
            text: text.to_owned(),
        });
    }

    fn print_json(&self, kind: &str, value: Value) {
        print_line(&json_line(kind, value));
    }
}

/// Says something on standard error. Whether anybody reads it is no concern of a run's: a closed pipe ends none.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// A line of `--json`: the value with its schema, and with `kind` as its event where it names none.
pub fn json_line(kind: &str, value: Value) -> String {
    let mut object = match value {
        Value::Object(map) => map,
        other => serde_json::Map::from_iter([("value".to_owned(), other)]),
    };
    object.insert("schema".into(), JSON_SCHEMA.into());
    object.entry("event").or_insert_with(|| kind.into());
    // Outside of strings JSON is ASCII, so that what a terminal would obey can only stand where an escape may.
    let line = Value::Object(object).to_string();
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        match text::plain(c) {
            true => out.push(c),
            // All of them are of the first plane (RFC 8259 §7).
            false => out.push_str(&format!("\\u{:04x}", c as u32)),
        }
    }
    out
}

/// The last line of `--json` where a command failed.
pub fn failure_line(failure: &Failure) -> String {
    let value = json!({
        "exit": failure.exit.code(), "reason": failure.reason, "what": failure.what,
        "why": failure.why, "next": failure.next,
    });
    json_line("failure", value)
}

impl Watcher for Ui {
    fn see(&self, event: &Event) {
        if self.json {
            self.print_json("event", serde_json::to_value(event).unwrap_or(Value::Null));
            return;
        }
        // A poisoned lock only means that another thread panicked while it drew; the lines are still good.
        let mut lines = self
            .lines
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        say(&lines.draw(event, self.progress));
    }
}

/// The exit of a command together with nothing more to print.
pub type Outcome = Result<Exit, Failure>;
