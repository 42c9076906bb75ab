//! `store check`, `store repair` and `prune`.

use super::{person, repository, target, wait, world};
use crate::cli;
use crate::failure::Exit;
use crate::run::store::{self, RepairOptions, StoreOptions};
use crate::run::{PruneOptions, Stop};
use crate::ui::{self, Ui};

pub(super) fn store(args: cli::Store, ui: &Ui) -> ui::Outcome {
    let (repo, asker) = (repository()?, person(ui));
    let stop = Stop::default();
    let world = world(&repo, ui, &asker, &stop);
    let report = match args {
        cli::Store::Check {
            target: name,
            contents,
            reach,
        } => {
            let look = StoreOptions {
                host: reach.host,
                contents,
            };
            wait(store::check(world, &target(&name)?, &look))?
        }
        cli::Store::Repair {
            target: name,
            contents,
            yes,
            surgery,
            reach,
        } => {
            let look = StoreOptions {
                host: reach.host,
                contents,
            };
            let options = RepairOptions { look, yes, surgery };
            wait(store::repair(world, &target(&name)?, &options))?
        }
    };
    ui.answer(&ui::store::report(&report), &report);
    Ok(match report.whole {
        true => Exit::Done,
        false => Exit::Failed,
    })
}

pub(super) fn prune(args: cli::Prune, ui: &Ui) -> ui::Outcome {
    let (repo, asker) = (repository()?, person(ui));
    let stop = Stop::default();
    let options = PruneOptions {
        host: args.reach.host,
        dry_run: args.dry_run,
    };
    let world = world(&repo, ui, &asker, &stop);
    let pruned = wait(crate::run::prune(world, &target(&args.target)?, &options))?;
    ui.answer(&pruned.text, &pruned);
    Ok(Exit::Done)
}
