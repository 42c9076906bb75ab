//! Whole texts: failures and answers. Pure, so that every screen can be held in a snapshot.

use super::Style;
use super::escape::shown;
use super::lines::{Lines, bold, paint};
use crate::event::Event;
use crate::failure::Failure;

/// A run as a person follows it, from the first of its events.
pub fn run(events: &[Event], style: Style) -> String {
    let mut lines = Lines::default();
    events.iter().map(|event| lines.draw(event, style)).collect()
}

/// A failure as a person reads it: what happened, why, what to type next.
pub fn failure(failure: &Failure, style: Style) -> String {
    let mut out = format!("{} {}\n", paint("error:", 31, style), shown(&failure.what));
    for line in &failure.why {
        for line in shown(line).lines() {
            out.push_str(&format!("  {line}\n"));
        }
    }
    for (i, line) in failure.next.iter().enumerate() {
        let head = if i == 0 { "next:" } else { "     " };
        out.push_str(&format!("{} {}\n", bold(head, style), shown(line)));
    }
    out
}
