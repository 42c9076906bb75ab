//! Parses the command line, runs one command, prints its failure, and ends with its exit code.

#![deny(clippy::disallowed_methods)]
#![deny(clippy::print_stderr, clippy::print_stdout)]

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use git_nixgate::cli::Cli;
use git_nixgate::command;
use git_nixgate::host::Session;
use git_nixgate::ui::Ui;

fn main() -> ExitCode {
    git_nixgate::git::program::announce();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap's own exit status for bad usage is 2, the same as ours; help and version end with 0.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let ui = Ui::new(&cli.global);
    let exit = match command::run(cli.command, &ui) {
        Ok(exit) => exit,
        Err(failure) => {
            ui.fail(&failure);
            failure.exit
        }
    };
    if std::env::var_os("NIXGATE_COUNTS").is_some() {
        counts();
    }
    ExitCode::from(exit.code())
}

/// What this run cost, for benchmarks and trials: connections, remote commands, scripts run in them, peak memory of this process.
fn counts() {
    let counts = Session::counts();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    // As everything that is said: nobody has to read it.
    let _ = writeln!(
        std::io::stderr(),
        "counts: connections {} commands {} scripts {} peak {}",
        counts.connections,
        counts.commands,
        counts.scripts,
        peak.unwrap_or("unknown").trim()
    );
}
