//! The commands that work on a host.

use serde_json::json;

use super::{person, records, repository, target, wait, wait_for, world};
use crate::cli;
use crate::failure::{Exit, Failure};
use crate::record::Target;
use crate::run::{
    self, CheckOptions, CompareOptions, Mode, PlanOptions, ReleaseOptions, RestoreOptions, Stop,
};
use crate::ui::diff::Folds;
use crate::ui::{self, Ui};

pub(super) fn check(args: cli::Check, ui: &Ui) -> ui::Outcome {
    let (repo, target, asker) = (repository()?, target(&args.target)?, person(ui));
    let options = CheckOptions {
        rev: args.rev,
        host: args.reach.host,
        accept_drift: args.accept_drift,
        accept_loader: false,
        accept_input: args.accept_input,
        accept_unexplained: args.causes.accept_unexplained,
        explain: args.causes.explain,
        take_over: args.over.take_over,
        impure: args.impure,
    };
    let stop = Stop::default();
    let run = run::check(world(&repo, ui, &asker, &stop), &target, options);
    answer(ui, wait_for(ui, &stop, run))
}

pub(super) fn plan(args: cli::Plan, ui: &Ui) -> ui::Outcome {
    let (repo, target, asker) = (repository()?, target(&args.target)?, person(ui));
    let options = PlanOptions {
        rev: args.rev,
        host: args.reach.host,
        accept_input: args.accept_input,
        accept_unexplained: args.causes.accept_unexplained,
        explain: args.causes.explain,
        impure: args.impure,
    };
    let stop = Stop::default();
    let planned = wait(run::plan(world(&repo, ui, &asker, &stop), &target, &options))?;
    let folds = Folds {
        text: args.text,
        all: args.all,
    };
    ui.answer(
        &ui::plan::text(&target, &planned, folds, ui.answers),
        ui::plan::json(&target, &planned),
    );
    planned.refused.map_or(Ok(Exit::Done), Err)
}

pub(super) fn release(args: cli::Release, ui: &Ui) -> ui::Outcome {
    if args.plan {
        let args = cli::Plan {
            target: args.target,
            rev: args.rev,
            accept_input: args.accept_input,
            impure: false,
            causes: args.causes,
            text: false,
            all: false,
            reach: args.reach,
        };
        return plan(args, ui);
    }
    let (repo, target, asker) = (repository()?, target(&args.target)?, person(ui));
    let options = ReleaseOptions {
        check: CheckOptions {
            rev: args.rev,
            host: args.reach.host,
            accept_drift: args.accept_drift,
            accept_loader: args.accept_boot_loader,
            accept_input: args.accept_input,
            accept_unexplained: args.causes.accept_unexplained,
            explain: args.causes.explain,
            take_over: args.over.take_over,
            impure: false,
        },
        again: args.again,
        offline: args.offline,
        fixes: args.fixes,
        supersede: args.supersede,
        boot: args.boot,
        confirm: args.confirm,
        skip_validation: args.skip_validation,
        gc: args.gc,
        cancel_older: args.cancel_older,
    };
    let stop = Stop::default();
    let run = run::release(world(&repo, ui, &asker, &stop), &target, options);
    answer(ui, wait_for(ui, &stop, run))
}

pub(super) fn rollback(args: cli::Rollback, ui: &Ui) -> ui::Outcome {
    let (repo, target, asker) = (repository()?, target(&args.target)?, person(ui));
    let options = RestoreOptions {
        to: args.to,
        host: args.reach.host,
        keep: args.keep,
        accept_drift: args.accept_drift,
        accept_loader: args.accept_boot_loader,
        supersede: args.supersede,
        take_over: args.over.take_over,
        rebuild: args.rebuild,
        accept_other_build: args.accept_other_build,
    };
    let mode = match (args.check, args.rehearse) {
        (true, _) => Mode::Check,
        (_, true) => Mode::Rehearse,
        _ => Mode::Real,
    };
    let stop = Stop::default();
    let run = run::rollback(world(&repo, ui, &asker, &stop), &target, options, mode);
    answer(ui, wait_for(ui, &stop, run))
}

pub(super) fn deploy(args: cli::Deploy, ui: &Ui) -> ui::Outcome {
    let (repo, target, asker) = (repository()?, target(&args.target)?, person(ui));
    let options = RestoreOptions {
        to: Some(args.to),
        host: args.reach.host,
        keep: false,
        accept_drift: args.accept_drift,
        accept_loader: args.accept_boot_loader,
        supersede: args.supersede,
        take_over: args.over.take_over,
        rebuild: args.rebuild,
        accept_other_build: args.accept_other_build,
    };
    let stop = Stop::default();
    let run = run::deploy(world(&repo, ui, &asker, &stop), &target, options);
    answer(ui, wait_for(ui, &stop, run))
}

pub(super) fn health(args: cli::Health, ui: &Ui) -> ui::Outcome {
    let (repo, target, asker) = (repository()?, target(&args.target)?, person(ui));
    let stop = Stop::default();
    let exit = wait(run::health(
        world(&repo, ui, &asker, &stop),
        &target,
        args.reach.host.as_deref(),
    ))?;
    ui.answer(
        &format!("{target} is healthy\n"),
        json!({ "target": target.as_str(), "healthy": true }),
    );
    Ok(exit)
}

pub(super) fn diff(args: cli::Diff, ui: &Ui) -> ui::Outcome {
    let (repo, target, asker) = (repository()?, target(&args.target)?, person(ui));
    let options = CompareOptions {
        from: args.from,
        to: args.to,
        host: args.reach.host,
        explain: args.explain,
        impure: args.impure,
    };
    let stop = Stop::default();
    let compared = wait(run::compare(world(&repo, ui, &asker, &stop), &target, &options))?;
    let folds = Folds {
        text: args.text,
        all: args.all,
    };
    ui.answer(
        &ui::diff::text(&target, &compared, folds, ui.answers),
        ui::diff::json(&target, &compared),
    );
    Ok(Exit::Done)
}

pub(super) fn resume(args: cli::Resume, ui: &Ui) -> ui::Outcome {
    let (repo, target, asker) = (repository()?, target(&args.target)?, person(ui));
    let stop = Stop::default();
    let run = run::resume(
        world(&repo, ui, &asker, &stop),
        &target,
        args.reach.host.as_deref(),
    );
    answer(ui, wait_for(ui, &stop, run))
}

pub(super) fn cancel(args: cli::Cancel, ui: &Ui) -> ui::Outcome {
    let (repo, target, asker) = (repository()?, target(&args.target)?, person(ui));
    let stop = Stop::default();
    let run = run::cancel(
        world(&repo, ui, &asker, &stop),
        &target,
        args.reach.host.as_deref(),
    );
    answer(ui, wait(run))
}

pub(super) fn publish(args: cli::Publish, ui: &Ui) -> ui::Outcome {
    let (repo, asker) = (repository()?, person(ui));
    let head = repo.resolve("HEAD").and_then(|head| run::at_commit(&repo, &head));
    let waits = |target: &Target| -> Result<bool, Failure> { Ok(repo.own_head(target)?.is_some()) };
    let targets = match &args.target {
        Some(name) => vec![target(name)?],
        // Whoever has records here, whatever HEAD says of it by now.
        None => {
            let mut all = Vec::new();
            for target in records::targets(&repo, &[])? {
                // One whose records do not hold is that target's own failure, below.
                if waits(&target).unwrap_or(true) {
                    all.push(target);
                }
            }
            all
        }
    };
    let mut exit = Exit::Done;
    let mut all: Vec<String> = Vec::new();
    let stop = Stop::default();
    let one = |target: &Target| -> Result<Vec<String>, Failure> {
        records::broken_pending(&repo, target, ui);
        let settings = match &head {
            Ok(config) => run::settings_of(config, target),
            Err(failure) => Err(failure.clone()),
        };
        let remote = match settings {
            Ok(settings) => settings.remote,
            // HEAD lacks a target whose records are here: where they go is told by the commit that they stand on.
            Err(_) if waits(target)? => run::recorded_remote(&repo, target)?,
            Err(failure) => return Err(failure),
        };
        if args.take_theirs {
            for lost in wait(run::take_theirs(&repo, target, &remote))? {
                ui.note(&format!("{lost} lost to the remote's records and is given up"));
            }
        }
        wait(run::publish(world(&repo, ui, &asker, &stop), target, &remote))
    };
    for target in &targets {
        match one(target) {
            Ok(names) => all.extend(names),
            Err(failure) if targets.len() == 1 => return Err(failure),
            Err(failure) => {
                ui.fail(&failure);
                exit = exit.worst(failure.exit);
            }
        }
    }
    let text = match all.is_empty() {
        true if exit == Exit::Done => "everything is published\n".to_owned(),
        _ => all.iter().map(|name| format!("{name}\n")).collect(),
    };
    ui.answer(&text, json!({ "published": all }));
    Ok(exit)
}

fn answer(ui: &Ui, outcome: Result<run::Outcome, Failure>) -> ui::Outcome {
    let outcome = outcome?;
    ui.answer(&outcome.text, &outcome);
    Ok(match outcome.exit {
        0 => Exit::Done,
        _ => Exit::NeedsReboot,
    })
}
