//! `logs`: a host's journal, until it ends or somebody has seen enough.

use super::signals::Signals;
use super::{person, repository, target, wait, world};
use crate::cli;
use crate::failure::Exit;
use crate::run::{self, LogsOptions, Stop};
use crate::ui::{self, Ui};

pub(super) fn logs(args: cli::Logs, ui: &Ui) -> ui::Outcome {
    let (repo, target, asker) = (repository()?, target(&args.target)?, person(ui));
    let options = LogsOptions {
        units: args.units,
        follow: args.follow,
        most: args.lines,
        json: ui.is_json(),
        host: args.reach.host,
    };
    let stop = Stop::default();
    let world = world(&repo, ui, &asker, &stop);
    wait(async {
        let mut signals = Signals::new()?;
        tokio::select! {
            done = run::logs(world, &target, &options, |line| ui.line(line)) => done,
            // That is how following ends.
            _ = signals.recv() => Ok(()),
        }
    })?;
    Ok(Exit::Done)
}
