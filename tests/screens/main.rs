//! Every screen that a user sees, held in `/snapshots`. A snapshot is reviewed like prose: would it help at 2 a.m.?

#[path = "../support/mod.rs"]
mod support;

mod host;
mod program;
mod records;
mod run;

use git_nixgate::failure::Failure;
use git_nixgate::ui::{Style, screen};

/// Compares with `/snapshots/screen-<name>.snap`. Escape characters are shown as `␛`.
#[track_caller]
fn screen(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(format!("screen-{name}"), text.replace('\x1b', "␛")));
}

/// Several screens in one file, each under its situation.
#[track_caller]
fn screens<'a>(name: &str, all: impl IntoIterator<Item = (&'a str, String)>) {
    let text: String = all
        .into_iter()
        .map(|(situation, text)| format!("## {situation}\n{text}\n"))
        .collect();
    screen(name, &text);
}

/// A failure as it is printed, with the exit code that goes with it.
fn failed(failure: &Failure) -> String {
    format!(
        "{}(exit {})\n",
        screen::failure(failure, Style::Plain),
        failure.exit.code()
    )
}
