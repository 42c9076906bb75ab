//! Gate 2 as a run orders it: on the builder, beside preflight, with everything that gate 3 wants to know of the result.

use std::time::Duration;

use tokio::sync::{OnceCell, watch};

use super::reach;
use crate::config::Settings;
use crate::failure::Failure;
use crate::gate::Place;
use crate::gate::build::{self, Desk, Source};
use crate::git::{Commit, Repo};
use crate::host::{ConnectError, RunDir, Session};
use crate::nix::{self, BuildError, Closure, StorePath, Unshared};
use crate::record::Target;

/// What is to be built, for whom.
pub(super) struct Order<'a> {
    pub repo: &'a Repo,
    pub commit: &'a Commit,
    pub settings: &'a Settings,
    pub run: &'a str,
    pub target: &'a Target,
    pub dir: &'a RunDir,
    /// It is evaluated impurely: see `resolve::is_impure`.
    pub impure: bool,
    /// The derivation of what should run there now, by its record.
    pub before: Vec<StorePath>,
}

/// A run's place at its builder, each part made once by whoever needs it first: the connection, what the builder is,
/// and the commit there.
#[derive(Default)]
pub(super) struct Bench {
    session: OnceCell<Session>,
    desk: OnceCell<Desk>,
    sent: OnceCell<()>,
    tidy: OnceCell<()>,
    /// Nothing but Nix is at work here any more, or it has come to nothing.
    begun: watch::Sender<bool>,
}

impl Bench {
    /// Returns once the builder has all it needs. For one who waits, what else a run asks other machines for: until then
    /// it would only keep from its start what takes longest.
    pub async fn begun(&self) {
        // Its sender is this bench, which outlives whoever waits.
        let _ = self.begun.subscribe().wait_for(|begun| *begun).await;
    }

    /// What the run had there is gone already.
    pub fn set_tidy(&self) {
        let _ = self.tidy.set(());
    }

    /// Whether the builder has answered.
    pub fn is_ready(&self) -> bool {
        self.desk.initialized()
    }
}

/// What was built, and its closure.
pub(super) struct Product {
    pub toplevel: StorePath,
    pub drv: String,
    pub system: String,
    pub nix_version: String,
    pub closure: Closure,
    /// Its derivations beside those of what should run.
    pub unshared: Option<Unshared>,
    pub warnings: Vec<String>,
}

impl Order<'_> {
    /// The target builds for itself.
    pub fn on_target(&self) -> bool {
        self.settings.builder.host == "target" && !self.settings.is_local()
    }

    /// The builder's ssh name, where it is a host of its own.
    fn elsewhere(&self) -> Option<&str> {
        let host = self.settings.builder.host.as_str();
        (!host.is_empty() && host != "target").then_some(host)
    }

    /// Where the builder keeps the closure of a record. `None`: nowhere but on the target, or it was not connected.
    pub fn keeper<'b>(&self, bench: &'b Bench) -> Option<Place<'b>> {
        match bench.session.get() {
            Some(session) => Some(Place::Host(session)),
            None if self.on_target() || self.elsewhere().is_some() => None,
            None => Some(Place::Here),
        }
    }

    /// Where it is built; `target` is the target's session.
    pub fn place<'b>(&self, bench: &'b Bench, target: &'b Session) -> Place<'b> {
        self.keeper(bench).unwrap_or(Place::Host(target))
    }

    /// Connects to a builder that is a host of its own; `bench` then holds the connection.
    ///
    /// # Errors
    /// Exit 1: it cannot be reached.
    pub async fn connect<'b>(&self, bench: &'b Bench) -> Result<Option<&'b Session>, Failure> {
        let Some(host) = self.elsewhere() else {
            return Ok(None);
        };
        let unreachable = |error: ConnectError| {
            let mut failure = error.failure(host);
            failure.what = format!("the builder cannot be used: {}", failure.what);
            failure
        };
        let endpoint = reach::builder(self.settings);
        let open = || async { Session::open(&endpoint, self.dir).await.map_err(unreachable) };
        bench.session.get_or_try_init(open).await.map(Some)
    }

    /// The root that keeps the result alive during the run.
    pub fn link(&self) -> String {
        format!("run-{}", self.run)
    }

    /// Builds in `place`.
    pub async fn build(&self, place: Place<'_>, bench: &Bench) -> Result<Product, Failure> {
        let (desk, sent) = tokio::join!(self.desk(place, bench), self.sent(place, bench));
        bench.begun.send_replace(true);
        // A builder that cannot build says more than a push that found no git there.
        let desk = desk?;
        sent?;
        let built = build::build(&self.source(), place, desk, &self.link()).await?;
        let limit = self.settings.timeouts.build;
        let product = nix::product(&place, &built.toplevel, &built.drv, &self.before, limit).await?;
        Ok(Product {
            drv: built.drv,
            system: product.system.unwrap_or(built.system),
            nix_version: built.nix_version,
            closure: product.closure,
            unshared: product.unshared,
            warnings: built.warnings,
            toplevel: built.toplevel,
        })
    }

    /// Ends a build that nobody wants any more where it goes on without us: on another host.
    pub async fn abandon(&self, bench: &Bench) {
        if let Some(session) = bench.session.get() {
            build::abandon(Place::Host(session), &self.link()).await;
        }
    }

    /// Whether the builder can build for this target's machine, as far as that can be told: see [`build::suited`].
    ///
    /// # Errors
    /// Exit 1: it cannot. What keeps it from being told is the build's to say.
    pub async fn suited(&self, bench: &Bench, machine: &str) -> Result<(), Failure> {
        let place = match self.connect(bench).await {
            Ok(Some(session)) => Place::Host(session),
            Ok(None) if self.on_target() => return Ok(()),
            Ok(None) => Place::Here,
            Err(_) => return Ok(()),
        };
        let Ok(desk) = self.desk(place, bench).await else {
            return Ok(());
        };
        let sent = async || self.sent(place, bench).await;
        match build::suited(&self.source(), place, desk, machine, sent).await {
            Ok(Some(failure)) => Err(failure),
            _ => Ok(()),
        }
    }

    /// The builder's name, and whether it signs what it builds.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn signs(&self, bench: &Bench) -> Result<(String, bool), Failure> {
        let place = match self.connect(bench).await? {
            Some(session) => Place::Host(session),
            None => Place::Here,
        };
        let systems = nix::systems(&place, Duration::from_secs(30)).await?;
        Ok((place.name().to_owned(), systems.signs))
    }

    /// The derivation that the commit evaluates to with some flake inputs taken from elsewhere.
    pub async fn evaluated(
        &self,
        place: Place<'_>,
        bench: &Bench,
        overrides: Vec<(String, String)>,
    ) -> Result<StorePath, BuildError> {
        let desk = self.desk(place, bench).await?;
        self.sent(place, bench).await?;
        build::evaluate_with(&self.source(), place, desk, overrides).await
    }

    async fn desk<'b>(&self, place: Place<'_>, bench: &'b Bench) -> Result<&'b Desk, Failure> {
        let prepare = || build::prepare(place, self.target.as_str());
        bench.desk.get_or_try_init(prepare).await
    }

    async fn sent(&self, place: Place<'_>, bench: &Bench) -> Result<(), Failure> {
        let source = self.source();
        bench
            .sent
            .get_or_try_init(|| build::send(&source, place))
            .await
            .copied()
    }

    fn source(&self) -> Source<'_> {
        Source {
            repo: self.repo,
            commit: self.commit,
            settings: self.settings,
            impure: self.impure,
            run: self.run,
            target: self.target.as_str(),
        }
    }

    /// Drops what the run left on the builder, and the connection to it. A target that builds for itself is left to
    /// whoever holds its connection.
    pub async fn clear(&self, bench: Bench) {
        if let Some(place) = self.keeper(&bench).filter(|_| !bench.tidy.initialized()) {
            build::tidy(place, self.target.as_str(), self.run, &self.link()).await;
        }
        if let Some(session) = bench.session.into_inner() {
            session.close().await;
        }
    }
}

/// Builds where nobody has to wait for the target: on a builder of its own, whose connection `bench` then holds, or on
/// this machine. `None`: the target builds for itself, and is not known to be fit yet.
///
/// # Errors
/// Exit 1; an unreachable builder fails the run, nothing is built anywhere else instead.
pub(super) async fn early(order: &Order<'_>, bench: &Bench) -> Result<Option<Product>, Failure> {
    if order.on_target() {
        bench.begun.send_replace(true);
        return Ok(None);
    }
    let place = match order.connect(bench).await {
        Ok(Some(session)) => Place::Host(session),
        Ok(None) => Place::Here,
        Err(failure) => {
            bench.begun.send_replace(true);
            return Err(failure.why("nothing is built anywhere else instead"));
        }
    };
    order.build(place, bench).await.map(Some)
}
