//! Every screen that a user sees, held in `/snapshots`. A snapshot is reviewed like prose: would it help at 2 a.m.?

#[path = "../support/said.rs"]
mod said;
#[path = "../support/mod.rs"]
mod support;

mod host;
mod nix;
mod program;
mod publish;
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

/// Failures, each under its situation: plain with the exit code in one file, as on a terminal in another.
#[track_caller]
fn failures(name: &str, all: &[(&str, Failure)]) {
    screens(
        name,
        all.iter()
            .map(|(situation, failure)| (*situation, failed(failure))),
    );
    let on_terminal = |failure| screen::failure(failure, Style::Terminal);
    screens(
        &format!("{name}-terminal"),
        all.iter()
            .map(|(situation, failure)| (*situation, on_terminal(failure))),
    );
}

/// A failure as it is printed, with the exit code that goes with it.
fn failed(failure: &Failure) -> String {
    format!(
        "{}(exit {})\n",
        screen::failure(failure, Style::Plain),
        failure.exit.code()
    )
}
