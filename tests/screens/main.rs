//! Every screen that a user sees, held in `/snapshots`. A snapshot is reviewed like prose: would it help at 2 a.m.?

#[path = "../support/said.rs"]
mod said;
#[path = "../support/mod.rs"]
mod support;

mod cancel;
mod diff;
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

/// Failures, each under its situation: plain in one file, as on a terminal in another.
#[track_caller]
fn failures(name: &str, all: &[(&str, Failure)]) {
    for (file, style) in [
        (name.to_owned(), Style::Plain),
        (format!("{name}-terminal"), Style::Terminal),
    ] {
        let drawn = all
            .iter()
            .map(|(situation, failure)| (*situation, failed_in(failure, style)));
        screens(&file, drawn);
    }
}

/// Screens in one file as they are elsewhere, in another as a terminal shows them.
#[track_caller]
fn in_both<'a, const N: usize>(name: &str, all: impl Fn(Style) -> [(&'a str, String); N]) {
    screens(name, all(Style::Plain));
    screens(&format!("{name}-terminal"), all(Style::Terminal));
}

/// A failure as it is printed, with the exit code that goes with it.
fn failed_in(failure: &Failure, style: Style) -> String {
    format!(
        "{}(exit {})\n",
        screen::failure(failure, style),
        failure.exit.code()
    )
}
