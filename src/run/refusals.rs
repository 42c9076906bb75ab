//! What a release is refused for, and when there is nothing to do.

use super::Run;
use super::deliver::Outcome;
use super::journal::Verb;
use super::release::ReleaseOptions;
use crate::failure::{Exit, Failure, Reason};
use crate::gate::known_good::RemoteSide;
use crate::git::{Commit, Repo};
use crate::host::Facts;
use crate::record::{Kind, Ledger, Target};

/// The remote is away: a release is refused unless `--offline`.
pub(super) fn away(
    run: &mut Run<'_>,
    name: &str,
    failure: &Failure,
    options: &ReleaseOptions,
    verb: Verb,
) -> Result<(), Failure> {
    if verb == Verb::Check {
        run.log.note(format!(
            "{name} cannot be reached: judged by the records that are here"
        ));
        return Ok(());
    }
    if options.offline {
        run.log.warn(format!(
            "{name} cannot be reached: the record will wait here to be published"
        ));
        return Ok(());
    }
    let target = &run.target;
    Err(Failure {
        exit: Exit::Failed,
        ..failure.clone()
    }
    .next(format!(
        "or release all the same and publish later: git nixgate release {target} --offline"
    )))
}

/// Everything that step 9 needs, before anything is switched.
pub(super) fn marking_possible(
    repo: &Repo,
    target: &Target,
    remote: &RemoteSide,
    push: Result<(), Failure>,
) -> Result<(), Failure> {
    repo.try_sign()?;
    if let Some(failure) = in_the_way(repo, target, remote)? {
        return Err(failure);
    }
    if let RemoteSide::Ready { name, refs } = remote {
        push?;
        refs.refuse_hidden(name, target)?;
    }
    Ok(())
}

/// Refs that leave no room for those of the target, here and on the remote, with what takes each of them away.
///
/// # Errors
/// The refs cannot be listed.
pub(super) fn in_the_way(
    repo: &Repo,
    target: &Target,
    remote: &RemoteSide,
) -> Result<Option<Failure>, Failure> {
    let mut failure = Failure::refused(format!("refs stand where those of {target} have to go"));
    for reference in repo.blocking_refs(target)? {
        failure = match reference.strip_prefix("refs/heads/") {
            Some(branch) => failure.next(format!("git branch -m {branch} OTHER-NAME")),
            None => failure.next(format!("git update-ref -d {reference}")),
        };
        failure.why.push(reference);
    }
    if let RemoteSide::Ready { name, refs } = remote {
        for reference in &refs.blocking {
            failure.why.push(format!("{reference} on {name}"));
            failure = failure.next(match reference.strip_prefix("refs/heads/") {
                Some(branch) => format!(
                    "git push {name} {name}/{branch}:refs/heads/OTHER-NAME :{reference}    # renames it there"
                ),
                None => format!("git push {name} :{reference}    # deletes it there"),
            });
        }
    }
    Ok((!failure.why.is_empty()).then_some(failure))
}

/// Names the pending records that do not hold: the next record takes their place.
///
/// # Errors
/// The refs cannot be listed.
pub(super) fn pending_broken(run: &Run<'_>) -> Result<(), Failure> {
    for (_, failure) in run.world.repo.broken_pending(&run.target)? {
        run.log.note(failure.on_one_line());
    }
    Ok(())
}

/// While the current record is a rollback, a release must say that it mends what was withdrawn.
pub(super) fn refuse_unfixed(
    run: &mut Run<'_>,
    ledger: Option<&Ledger>,
    commit: &Commit,
    fixes: &[String],
) -> Result<(), Failure> {
    // Several rollbacks in a row are one way back; the last of them may have withdrawn nothing.
    let records = ledger.map_or(&[][..], Ledger::records);
    let last = records.iter().rposition(|record| record.kind != Kind::Rollback);
    let back = &records[last.map_or(0, |at| at + 1)..];
    let withdrawn: Vec<String> = records
        .iter()
        .filter(|record| back.iter().any(|b| b.withdraws.contains(&record.name)))
        .map(|record| record.name.to_string())
        .collect();
    let (Some(head), Some(newest)) = (back.last(), withdrawn.last().cloned()) else {
        return Ok(());
    };
    let repo = run.world.repo;
    let target = run.target.clone();
    let mut open = withdrawn.clone();
    let withdrawn = withdrawn.join(", ");
    run.log.note(format!(
        "{target} was rolled back by {} at {}: withdrawn is {withdrawn}",
        head.tagger_name,
        head.time.rfc3339()
    ));
    let mut named: Vec<String> = fixes.to_vec();
    if let Some(furthest) = ledger.and_then(Ledger::furthest_commit) {
        for note in repo.commits_between(&furthest, &commit.id)? {
            let trailers = note
                .trailers
                .into_iter()
                .filter(|(key, _)| key.eq_ignore_ascii_case("Nixgate-Fixes"));
            named.extend(trailers.map(|(_, value)| value));
        }
    }
    // The newest withdrawn release is what the rollback was for; naming any one of them shows that somebody looked.
    let before = open.len();
    open.retain(|name| {
        !named
            .iter()
            .any(|n| n == name || name.ends_with(&format!("/{n}")))
    });
    if open.len() < before {
        return Ok(());
    }
    let question = format!("does {} mend it? [y/N]", commit.short);
    match run.world.asker.ask(&question).as_deref() {
        Some("y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::refused(format!(
            "{target} was rolled back, and nothing says that {} mends it",
            commit.short
        ))
        .why(format!("withdrawn: {withdrawn}"))
        .next(format!("git nixgate release {target} --fixes {newest}"))
        .next(format!("or a commit with the trailer: Nixgate-Fixes: {newest}"))),
    }
}

/// The host runs and boots `toplevel`, or that specialisation of it, and its newest record says so.
pub(super) fn nothing_to_do(
    target: &Target,
    (toplevel, specialisation): (&str, &str),
    ledger: Option<&Ledger>,
    facts: &Facts,
    again: bool,
    verb: Verb,
) -> Option<Outcome> {
    let head = ledger?.head();
    let recorded = head.evidence.specialisation.as_deref().unwrap_or_default();
    let same = head.evidence.toplevel == toplevel
        && recorded == specialisation
        && facts
            .system(toplevel, Some(specialisation))
            .is_committed(&facts.here);
    if !same || again || verb == Verb::Check {
        return None;
    }
    Some(Outcome {
        exit: 0,
        target: target.to_string(),
        outcome: "unchanged",
        record: Some(head.name.to_string()),
        toplevel: Some(toplevel.to_owned()),
        published: None,
        text: format!("{target}: nothing to do, {} runs\n", head.name),
    })
}

/// A closure for another kind of machine would switch, and then run nothing.
pub(super) fn refuse_other_machine(target: &Target, system: &str, facts: &Facts) -> Result<(), Failure> {
    let built_for = system.split('-').next().unwrap_or_default();
    let fits = built_for == facts.machine || (built_for == "i686" && facts.machine == "x86_64");
    if fits || facts.machine.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(
        Reason::Build,
        format!("this closure is for {system}, and {target} is {}", facts.machine),
    )
    .next("nixpkgs.hostPlatform of this host says what to build for"))
}

pub(super) fn refuse_withdrawn(
    target: &Target,
    ledger: Option<&Ledger>,
    toplevel: &str,
) -> Result<(), Failure> {
    let Some(ledger) = ledger else { return Ok(()) };
    let Some(record) = ledger.withdrawn_with_toplevel(toplevel).last().copied() else {
        return Ok(());
    };
    let by = ledger.withdrawn_by(&record.name);
    let who = by.map_or(String::new(), |by| {
        format!("withdrawn by {} at {}", by.tagger_name, by.time.rfc3339())
    });
    Err(
        Failure::refused(format!("this closure is {}, which was withdrawn", record.name))
            .why(who)
            .next(format!(
                "git nixgate deploy {target} --to {}     # bring it back knowingly",
                record.name
            )),
    )
}
