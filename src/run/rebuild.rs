//! `--rebuild`: a recorded closure that is nowhere to be had any more is built again, at the commit of its record. What
//! comes out must have the recorded store path, and bytes that a record has, unless a person takes others.

use super::product::{self, Bench, Order};
use super::registered::Recorded;
use super::{Run, resolve};
use crate::config::Settings;
use crate::failure::{Failure, Reason};
use crate::gate::preflight::Fit;
use crate::gate::{Place, build};
use crate::git::{Commit, Repo};
use crate::host::RunDir;
use crate::nix::{Closure, StorePath};
use crate::record::{Choice, OnHost, Target};

/// A closure that was built again, and the place where that was done.
pub(super) struct Rebuilt<'a> {
    pub closure: Closure,
    repo: &'a Repo,
    dir: &'a RunDir,
    bench: Bench,
    commit: Commit,
    settings: Settings,
    run: String,
    target: Target,
}

impl Rebuilt<'_> {
    fn order(&self) -> Order<'_> {
        order(
            self.repo,
            self.dir,
            &self.commit,
            &self.settings,
            &self.run,
            &self.target,
        )
    }

    /// Where it is copied from; `None`: the target built it for itself.
    pub fn place(&self) -> Option<Place<'_>> {
        self.order().keeper(&self.bench)
    }

    /// The link that keeps it on a target which built it for itself.
    pub fn link_on_target(&self) -> Option<String> {
        let order = self.order();
        order.on_target().then(|| order.link())
    }

    /// Clears up on the builder.
    pub async fn close(self) {
        let Rebuilt {
            repo,
            dir,
            bench,
            commit,
            settings,
            run,
            target,
            ..
        } = self;
        order(repo, dir, &commit, &settings, &run, &target)
            .clear(bench)
            .await;
    }
}

fn order<'o>(
    repo: &'o Repo,
    dir: &'o RunDir,
    commit: &'o Commit,
    settings: &'o Settings,
    run: &'o str,
    target: &'o Target,
) -> Order<'o> {
    Order {
        repo,
        commit,
        settings,
        run,
        target,
        dir,
        impure: settings.impure,
        before: Vec::new(),
    }
}

/// Builds what `choice` records once more. `now` says where: how the builder and the target are reached; the commit says
/// what.
///
/// # Errors
/// Exit 3: what was built is not what is recorded, with both shown; exit 1: it does not build.
pub(super) async fn rebuild<'a>(
    run: &mut Run<'_>,
    recorded: &Recorded<'_>,
    fit: &Fit,
    now: &Settings,
    (repo, dir): (&'a Repo, &'a RunDir),
) -> Result<(StorePath, Rebuilt<'a>), Failure> {
    let (target, choice) = (run.target.clone(), recorded.choice);
    if choice.restores == OnHost::BeforeFirst {
        return Err(Failure::refused(
            "what ran before the first release was built from no commit here: it cannot be built again",
        )
        .next(format!(
            "git nixgate log {target}    # a release to go to instead"
        )));
    }
    let commit = repo.commit(&choice.source.commit)?;
    let then = resolve::at_commit(repo, &commit).and_then(|config| resolve::settings_of(&config, &target));
    let settings = match then {
        Ok(then) => Settings {
            flake: then.flake,
            attr: then.attr,
            impure: then.impure,
            ..now.clone()
        },
        Err(_) => now.clone(),
    };
    let id = run.id().to_owned();
    let bench = Bench::default();
    let order = order(repo, dir, &commit, &settings, &id, &target);
    let on_target = order.on_target();
    let building = async {
        match product::early(&order, &bench).await? {
            Some(product) => Ok(product),
            None => order.build(Place::Host(&fit.session), &bench).await,
        }
    };
    let built = run.world.stop.unless(target.as_str(), building).await;
    let judged = built.and_then(|product| {
        let wanted = choice.toplevel();
        if product.toplevel.as_str() != wanted {
            return Err(unlike(choice)
                .why(format!("recorded {wanted}"))
                .why(format!("built    {}", product.toplevel)));
        }
        recorded.refuse_elsewhere(repo, "the builder", &product.closure)?;
        Ok((product.toplevel, product.closure, product.warnings))
    });
    match judged {
        Ok((toplevel, closure, warnings)) => {
            for warning in warnings {
                run.log.warn(warning);
            }
            let as_recorded = match recorded.knows(&closure) {
                true => "as recorded",
                false => "the recorded path, with other bytes",
            };
            run.log
                .finding(format!("built again at {}: {as_recorded}", commit.short));
            let rebuilt = Rebuilt {
                closure,
                repo,
                dir,
                bench,
                run: id,
                target,
                settings,
                commit,
            };
            Ok((toplevel, rebuilt))
        }
        Err(failure) => {
            if on_target {
                let place = Place::Host(&fit.session);
                build::abandon(place, &order.link()).await;
                build::tidy(place, target.as_str(), &id, &order.link()).await;
            } else {
                order.abandon(&bench).await;
            }
            order.clear(bench).await;
            Err(failure)
        }
    }
}

fn unlike(choice: &Choice<'_>) -> Failure {
    let mut failure = Failure::refused(format!(
        "what {} builds now is not what was released",
        choice.source.commit.to_hex_with_len(12)
    ))
    .next("an impure evaluation, or an input that is not locked; another release may still be had: git nixgate log");
    failure.reason = Reason::Build;
    failure
}
