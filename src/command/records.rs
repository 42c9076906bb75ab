//! `status`, `log`, `show`: answers from git; only `status --live` asks a host.

use std::collections::BTreeMap;

use serde_json::json;

use super::{person, repository, target, wait, world};
use crate::cli;
use crate::failure::{Exit, Failure};
use crate::git::{Relation, Repo, Which};
use crate::record::{Evidence, Ledger, OnHost, Record, RecordName, Target};
use crate::run::{self, journal};
use crate::ui::records::{self, Marks, TargetStatus};
use crate::ui::{self, Ui};

/// The remotes of the targets, by HEAD's file; `origin` where it says nothing. Read once for all of them.
pub(super) struct Remotes {
    of: BTreeMap<Target, String>,
    /// This repository has remotes at all.
    any: bool,
}

impl Remotes {
    pub(super) fn read(repo: &Repo) -> Result<Self, Failure> {
        let head = repo.resolve("HEAD").and_then(|head| run::at_commit(repo, &head));
        let targets = head.map(|config| config.targets).unwrap_or_default();
        Ok(Remotes {
            of: targets
                .into_iter()
                .map(|(target, settings)| (target, settings.remote))
                .collect(),
            any: repo.has_remotes()?,
        })
    }

    pub(super) fn of(&self, target: &Target) -> &str {
        self.of.get(target).map_or("origin", String::as_str)
    }
}

/// The targets asked for, or all that the file or the records know.
pub(super) fn targets(repo: &Repo, names: &[String]) -> Result<Vec<Target>, Failure> {
    if !names.is_empty() {
        return names.iter().map(|name| target(name)).collect();
    }
    let mut all = repo.targets()?;
    if let Ok(head) = repo.resolve("HEAD")
        && let Ok(config) = run::at_commit(repo, &head)
    {
        all.extend(config.targets.into_keys());
    }
    all.sort();
    all.dedup();
    if all.is_empty() {
        return Err(
            Failure::usage("there is no target: neither a .nixgate.toml nor a record")
                .next("git nixgate init"),
        );
    }
    Ok(all)
}

pub(super) fn which<'a>(repo: &Repo, target: &Target, remote: &'a str) -> Result<Which<'a>, Failure> {
    repo.best(target, (!remote.is_empty()).then_some(remote))
}

fn unpublished(repo: &Repo, target: &Target, remotes: &Remotes) -> Result<u64, Failure> {
    let remote = remotes.of(target);
    if remote.is_empty() || !remotes.any {
        return Ok(0);
    }
    let pending = repo.waiting(target)?.len() as u64;
    if pending > 0 {
        return Ok(pending);
    }
    match repo.relation(target, remote)? {
        Relation::Unpublished(n) => Ok(n),
        _ => Ok(0),
    }
}

/// One target's row.
#[derive(Default)]
struct Row {
    head: Option<Record>,
    unpublished: u64,
    live: Option<records::Live>,
    /// Why its records cannot be gone by.
    defect: Option<Failure>,
}

pub(super) fn status(args: cli::Status, ui: &Ui) -> ui::Outcome {
    let repo = repository()?;
    let remotes = Remotes::read(&repo)?;
    let asker = person(ui);
    let all = targets(&repo, &args.targets)?;
    let mut rows: Vec<(Target, Row)> = Vec::new();
    for target in all {
        let mut row = row(&repo, &target, &remotes);
        broken_pending(&repo, &target, ui);
        if args.live {
            let ledger = match run::trusted(&repo, &target, remotes.of(&target)) {
                Ok(ledger) => ledger,
                Err(failure) => {
                    row.defect.get_or_insert(failure);
                    None
                }
            };
            let stop = run::Stop::default();
            let world = world(&repo, ui, &asker, &stop);
            row.live = Some(wait(async {
                Ok(run::live(world, &target, ledger.as_ref()).await)
            })?);
        }
        rows.push((target, row));
    }
    let views: Vec<TargetStatus<'_>> = rows
        .iter()
        .map(|(target, row)| TargetStatus {
            target: target.as_str(),
            head: row.head.as_ref(),
            unpublished: row.unpublished,
            live: row.live.clone(),
            defect: row.defect.clone(),
        })
        .collect();
    let good = views.iter().all(TargetStatus::is_good);
    let value: Vec<_> = views.iter().map(TargetStatus::to_json).collect();
    ui.answer(&records::status(&views, ui.answers), json!({ "targets": value }));
    Ok(if good { Exit::Done } else { Exit::Failed })
}

/// Names the records that wait here and do not hold: nobody goes by them.
pub(super) fn broken_pending(repo: &Repo, target: &Target, ui: &Ui) {
    for (_, failure) in repo.broken_pending(target).unwrap_or_default() {
        ui.note(&failure.on_one_line());
    }
}

/// What git has of one target. A defect is that target's own: the others have their rows all the same.
fn row(repo: &Repo, target: &Target, remotes: &Remotes) -> Row {
    let read = || -> Result<Row, Failure> {
        let from = which(repo, target, remotes.of(target))?;
        Ok(Row {
            head: repo.recent(target, from, 1)?.pop(),
            unpublished: unpublished(repo, target, remotes)?,
            ..Row::default()
        })
    };
    read().unwrap_or_else(|failure| Row {
        defect: Some(failure),
        ..Row::default()
    })
}

pub(super) fn log(args: cli::Log, ui: &Ui) -> ui::Outcome {
    let repo = repository()?;
    let remotes = Remotes::read(&repo)?;
    let names: Vec<String> = args.target.iter().cloned().collect();
    let all = targets(&repo, &names)?;
    if args.failed {
        return failed_runs(&repo, &all, &args, ui);
    }
    let mut rows = Vec::new();
    let mut exit = Exit::Done;
    for target in &all {
        broken_pending(&repo, target, ui);
        match logged(&repo, target, &remotes, args.most) {
            Ok(found) => rows.extend(found),
            Err(failure) if all.len() == 1 => return Err(failure),
            // The others have their records all the same.
            Err(failure) => {
                ui.fail(&failure);
                exit = Exit::Failed;
            }
        }
    }
    if all.len() > 1 {
        rows.sort_by(|(a, _), (b, _)| b.time.cmp(&a.time).then_with(|| b.name.cmp(&a.name)));
        rows.truncate(args.most.unwrap_or(usize::MAX));
    }
    let value: Vec<_> = rows
        .iter()
        .map(|(record, marks)| records::record_json(record, marks))
        .collect();
    ui.answer(&records::log(&rows, ui.answers), json!({ "records": value }));
    Ok(exit)
}

/// The newest records of one target, newest first.
fn logged(
    repo: &Repo,
    target: &Target,
    remotes: &Remotes,
    most: Option<usize>,
) -> Result<Vec<(Record, Marks)>, Failure> {
    let from = which(repo, target, remotes.of(target))?;
    let recent = repo.recent(target, from, most.unwrap_or(usize::MAX))?;
    let open = usize::try_from(unpublished(repo, target, remotes)?).unwrap_or(0);
    let on_host = recent.first().map(Record::on_host);
    let withdrawn = withdrawn_among(&recent);
    let marked = |(i, record): (usize, Record)| {
        let marks = Marks {
            current: on_host.as_ref() == Some(&OnHost::Release(record.name.clone())),
            withdrawn: withdrawn.contains(&record.name),
            unpublished: i < open,
        };
        (record, marks)
    };
    Ok(recent.into_iter().enumerate().map(marked).collect())
}

/// Which of these records, newest first, are withdrawn: decided by the newer ones among them.
fn withdrawn_among(newest_first: &[Record]) -> std::collections::BTreeSet<RecordName> {
    let mut withdrawn = std::collections::BTreeSet::new();
    for record in newest_first.iter().rev() {
        withdrawn.extend(record.withdraws.iter().cloned());
        if let OnHost::Release(name) = record.on_host() {
            withdrawn.remove(&name);
        }
    }
    withdrawn
}

fn failed_runs(repo: &Repo, all: &[Target], args: &cli::Log, ui: &Ui) -> ui::Outcome {
    let mut rows = Vec::new();
    for target in all {
        for name in repo.journals(target)? {
            let Some(bytes) = repo.journal_file(target, &name.run, journal::STATE)? else {
                continue;
            };
            let Ok(state) = journal::State::parse(&bytes) else {
                continue;
            };
            let failed = state.ending.as_ref().is_none_or(|ending| ending.exit != 0);
            if failed {
                rows.push(state);
            }
        }
    }
    rows.sort_by(|a, b| b.run.cmp(&a.run));
    rows.truncate(args.most.unwrap_or(usize::MAX));
    ui.answer(&records::runs(&rows), json!({ "runs": rows }));
    Ok(Exit::Done)
}

pub(super) fn show(args: &cli::Show, ui: &Ui) -> ui::Outcome {
    let repo = repository()?;
    let remotes = Remotes::read(&repo)?;
    let what = args.what.strip_prefix("refs/tags/").unwrap_or(&args.what);
    if let Ok(target) = what.parse::<Target>() {
        let remote = remotes.of(&target);
        let Some(ledger) = repo.ledger(&target, which(&repo, &target, remote)?)? else {
            return Err(Failure::refused(format!("{target} has no record"))
                .next(format!("git nixgate release {target}")));
        };
        return shown(&repo, &ledger, ledger.head(), ui);
    }
    if let Ok(name) = what.parse::<RecordName>() {
        let remote = remotes.of(&name.target);
        let ledger = repo.ledger(&name.target, which(&repo, &name.target, remote)?)?;
        return match ledger
            .as_ref()
            .and_then(|ledger| Some((ledger, ledger.get(&name)?)))
        {
            Some((ledger, record)) => shown(&repo, ledger, record, ui),
            None => Err(Failure::refused(format!("there is no record {name}"))
                .next(format!("git nixgate log {}", name.target))
                .next("git fetch    # if it was made in another clone")),
        };
    }
    for target in targets(&repo, &[])? {
        if let Some(bytes) = repo.journal_file(&target, what, journal::STATE).ok().flatten() {
            let state = journal::State::parse(&bytes)
                .map_err(|why| Failure::refused(format!("the journal of {what} cannot be read")).why(why))?;
            let file = |name| repo.journal_file(&target, what, name);
            let evidence: Evidence =
                serde_json::from_slice(&file(journal::EVIDENCE)?.unwrap_or_default()).unwrap_or_default();
            let (host, switch) = (text(file(journal::HOST_LOG)?), text(file(journal::SWITCH_LOG)?));
            let view = records::RunView {
                state: &state,
                gates: &evidence.gates,
                host: &host,
                switch: &switch,
            };
            ui.answer(
                &records::run(&view),
                json!({ "run": state, "gates": evidence.gates, "host-log": host, "switch-log": switch }),
            );
            return Ok(Exit::Done);
        }
    }
    Err(
        Failure::usage(format!("{:?} is neither a record, a target nor a run", args.what))
            .next("git nixgate log")
            .next("git nixgate log --failed"),
    )
}

fn text(bytes: Option<Vec<u8>>) -> String {
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

fn shown(repo: &Repo, ledger: &Ledger, record: &Record, ui: &Ui) -> ui::Outcome {
    let target = record.target();
    let open = unpublished(repo, target, &Remotes::read(repo)?)?;
    let marks = Marks {
        current: ledger.on_host() == OnHost::Release(record.name.clone()),
        withdrawn: ledger.is_withdrawn(&record.name),
        unpublished: record.seq.saturating_add(open) > ledger.head().seq,
    };
    ui.answer(
        &records::record(record, &marks, ui.answers),
        records::record_json(record, &marks),
    );
    Ok(Exit::Done)
}
