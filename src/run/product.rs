//! Gate 2 as a run orders it: on the builder, beside preflight, with everything that gate 3 wants to know of the result.

use tokio::sync::OnceCell;

use super::reach;
use crate::config::Settings;
use crate::failure::Failure;
use crate::gate::Place;
use crate::gate::build::{self, Source};
use crate::git::{Commit, Repo};
use crate::host::{ConnectError, RunDir, Session};
use crate::nix::{self, Closure, StorePath};
use crate::record::Target;

/// What is to be built, for whom.
pub(super) struct Order<'a> {
    pub repo: &'a Repo,
    pub commit: &'a Commit,
    pub settings: &'a Settings,
    pub run: &'a str,
    pub target: &'a Target,
    pub dir: &'a RunDir,
}

/// What was built, and its closure.
pub(super) struct Product {
    pub toplevel: StorePath,
    pub drv: String,
    pub system: String,
    pub nix_version: String,
    pub closure: Closure,
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
    pub fn keeper<'b>(&self, builder: &'b OnceCell<Session>) -> Option<Place<'b>> {
        match builder.get() {
            Some(session) => Some(Place::Host(session)),
            None if self.on_target() || self.elsewhere().is_some() => None,
            None => Some(Place::Here),
        }
    }

    /// Connects to a builder that is a host of its own; `builder` then holds the connection.
    ///
    /// # Errors
    /// Exit 1: it cannot be reached.
    pub async fn connect<'b>(&self, builder: &'b OnceCell<Session>) -> Result<Option<&'b Session>, Failure> {
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
        builder.get_or_try_init(open).await.map(Some)
    }

    /// The root that keeps the result alive during the run.
    pub fn link(&self) -> String {
        format!("run-{}", self.run)
    }

    /// Builds in `place`.
    pub async fn build(&self, place: Place<'_>) -> Result<Product, Failure> {
        let source = Source {
            repo: self.repo,
            commit: self.commit,
            settings: self.settings,
            run: self.run,
            target: self.target.as_str(),
        };
        let desk = build::prepare(place, self.target.as_str(), self.settings).await?;
        let built = build::build(&source, place, desk, &self.link()).await?;
        let limit = self.settings.timeouts.build;
        let (closure, system) = tokio::join!(
            nix::closure(&place, &built.toplevel, limit),
            build::system_of(place, &built.toplevel)
        );
        Ok(Product {
            drv: built.drv,
            system: system?.unwrap_or(built.system),
            nix_version: built.nix_version,
            closure: closure?,
            toplevel: built.toplevel,
        })
    }

    /// Drops what the run left on the builder, and the connection to it. A target that builds for itself is left to
    /// whoever holds its connection.
    pub async fn clear(&self, builder: OnceCell<Session>) {
        if let Some(place) = self.keeper(&builder) {
            build::tidy(place, self.target.as_str(), self.run, &self.link()).await;
        }
        if let Some(session) = builder.into_inner() {
            session.close().await;
        }
    }
}

/// Builds where nobody has to wait for the target: on a builder of its own, whose connection `builder` then holds, or on
/// this machine. `None`: the target builds for itself, and is not known to be fit yet.
///
/// # Errors
/// Exit 1; an unreachable builder fails the run, nothing is built anywhere else instead.
pub(super) async fn early(
    order: &Order<'_>,
    builder: &OnceCell<Session>,
) -> Result<Option<Product>, Failure> {
    if order.on_target() {
        return Ok(None);
    }
    let place = match order.connect(builder).await {
        Ok(Some(session)) => Place::Host(session),
        Ok(None) => Place::Here,
        Err(failure) => return Err(failure.why("nothing is built anywhere else instead")),
    };
    order.build(place).await.map(Some)
}
