//! `store check`, `store repair`, `prune`, `retire` and `rename`.

use super::{person, repository, target, wait, wait_for, world};
use crate::cli;
use crate::failure::Exit;
use crate::run::store::{self, RepairOptions, StoreOptions};
use crate::run::{PruneOptions, RetireOptions, Stop};
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

pub(super) fn retire(args: cli::Retire, ui: &Ui) -> ui::Outcome {
    let (repo, asker) = (repository()?, person(ui));
    let stop = Stop::default();
    let options = RetireOptions {
        host: args.reach.host,
        dry_run: args.dry_run,
        gone: args.gone,
    };
    let world = world(&repo, ui, &asker, &stop);
    let retired = wait(crate::run::retire(world, &target(&args.target)?, &options))?;
    ui.answer(&retired.text, &retired);
    Ok(Exit::Done)
}

pub(super) fn rename(args: cli::Rename, ui: &Ui) -> ui::Outcome {
    let (repo, asker) = (repository()?, person(ui));
    let names = (target(&args.old)?, target(&args.new)?);
    let stop = Stop::default();
    let options = RetireOptions {
        host: args.reach.host,
        dry_run: args.dry_run,
        gone: false,
    };
    let world = world(&repo, ui, &asker, &stop);
    let renaming = crate::run::rename(world, (&names.0, &names.1), &options);
    let renamed = wait_for(ui, &stop, renaming)?;
    ui.answer(&renamed.text, &renamed);
    Ok(match renamed.exit {
        0 => Exit::Done,
        _ => Exit::NeedsReboot,
    })
}
