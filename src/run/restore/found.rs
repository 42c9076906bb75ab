//! Where a recorded closure is: on the target, on the builder, or nowhere.

use super::Mode;
use crate::config::Settings;
use crate::failure::{Failure, Reason};
use crate::gate::preflight::Fit;
use crate::gate::{Place, store_of};
use crate::host::{Facts, RunDir, Session};
use crate::nix::{self, Closure, StorePath};
use crate::record::{Choice, OnHost, Target};
use crate::run::rebuild::Rebuilt;
use crate::run::registered::Recorded;
use crate::run::{Run, reach};

/// Where the closure comes from when it is not on the target.
pub(super) enum Supply<'a> {
    Here,
    Host(Box<Session>),
    Built(Box<Rebuilt<'a>>),
}

impl Supply<'_> {
    /// `None`: the target built it for itself.
    pub(super) fn place(&self) -> Option<Place<'_>> {
        match self {
            Supply::Here => Some(Place::Here),
            Supply::Host(session) => Some(Place::Host(session)),
            Supply::Built(rebuilt) => rebuilt.place(),
        }
    }

    pub(super) fn link_on_target(&self) -> Option<String> {
        match self {
            Supply::Built(rebuilt) => rebuilt.link_on_target(),
            Supply::Here | Supply::Host(_) => None,
        }
    }
}

/// Where the recorded closure is.
pub(super) enum Found<'a> {
    There(StorePath, Closure, Option<Supply<'a>>),
    /// Neither on the target nor on the builder: where was looked, and what was said there.
    Nowhere(Failure),
}

/// The recorded closure: on the target, by its own root; else on the builder, by its root there. Bytes that are in no
/// record are refused.
pub(super) async fn found<'a>(
    run: &mut Run<'_>,
    recorded: &Recorded<'_>,
    fit: &Fit,
    settings: &Settings,
    dir: &RunDir,
    mode: Mode,
    known: Option<Closure>,
) -> Result<Found<'a>, Failure> {
    let (target, repo, choice) = (run.target.clone(), run.world.repo, recorded.choice);
    let toplevel = StorePath::new(choice.toplevel()).map_err(|bad| {
        Failure::refused(format!(
            "{} records no closure that can be restored",
            choice.source.name
        ))
        .why(bad.to_string())
    })?;
    let limit = settings.timeouts.build;
    let root = rooted(&target, choice, &fit.facts);
    let there = match known.filter(|closure| closure.toplevel == toplevel) {
        Some(closure) => Ok(closure),
        None => nix::closure(&store_of(&fit.session), &toplevel, limit).await,
    };
    let trouble = match there {
        Ok(closure) => {
            recorded.refuse_on_target(repo, &closure)?;
            if root.is_none() {
                let text = format!("no root keeps {} on {target}", choice.restores);
                if mode == Mode::Check {
                    return Err(Failure::failed(Reason::Store, text)
                        .why("the next garbage collection there takes it away")
                        .next(format!("git nixgate deploy {target} --to {}", choice.restores)));
                }
                run.log.warn(text);
            }
            run.log.finding(format!("{} is on {target}", choice.restores));
            return Ok(Found::There(toplevel, closure, None));
        }
        Err(failure) if mode == Mode::Check => {
            let text = format!("{} is not on {target}: nothing kept it there", choice.restores);
            return Err(Failure::failed(Reason::Store, text)
                .why(failure.what)
                .why("a rollback would have to ask the builder for it"));
        }
        Err(failure) => failure,
    };
    run.log.note(format!(
        "{} is not on {target}: asking the builder",
        choice.restores
    ));
    let supply = match settings.builder.host.as_str() {
        "target" => None,
        "" => Some(Supply::Here),
        host => match Session::open(&reach::builder(settings), dir).await {
            Ok(session) => Some(Supply::Host(Box::new(session))),
            Err(error) => {
                return Ok(Found::Nowhere(
                    nowhere(&target, choice, &trouble).why(error.failure(host).what),
                ));
            }
        },
    };
    let Some(supply) = supply else {
        return Ok(Found::Nowhere(nowhere(&target, choice, &trouble)));
    };
    let place = supply.place().unwrap_or(Place::Here);
    let closure = match nix::closure(&place, &toplevel, limit).await {
        Ok(closure) => closure,
        Err(failure) => {
            let why = format!("{}: {}", place.name(), failure.what);
            let failure = nowhere(&target, choice, &trouble).why(why);
            if let Supply::Host(session) = supply {
                session.close().await;
            }
            return Ok(Found::Nowhere(failure));
        }
    };
    recorded.refuse_elsewhere(repo, place.name(), &closure)?;
    run.log
        .finding(format!("{} comes from {}", choice.restores, place.name()));
    Ok(Found::There(toplevel, closure, Some(supply)))
}

fn nowhere(target: &Target, choice: &Choice<'_>, trouble: &Failure) -> Failure {
    let mut failure = Failure::failed(
        Reason::Store,
        format!("the closure of {} is nowhere to be had", choice.restores),
    );
    failure.why = std::iter::once(format!("{target}: {}", trouble.what))
        .chain(trouble.why.iter().map(|line| format!("  {line}")))
        .collect();
    if choice.restores == OnHost::BeforeFirst {
        return failure.next(format!(
            "git nixgate log {target}    # a release to go to instead"
        ));
    }
    let commit = choice.source.commit.to_hex_with_len(12);
    failure
        .next(format!(
            "the same with --rebuild    # builds it again at {commit}; it must come out as recorded"
        ))
        .next(format!("git nixgate log {target}    # another release to go to"))
}

/// The root that keeps the closure on the target.
fn rooted(target: &Target, choice: &Choice<'_>, facts: &Facts) -> Option<String> {
    let leaf = match &choice.restores {
        OnHost::BeforeFirst => "before-first".to_owned(),
        OnHost::Release(name) => name.leaf(),
    };
    facts
        .roots
        .get(&format!("{target}/{leaf}"))
        .filter(|path| path.as_str() == choice.toplevel())
        .cloned()
}
