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
        let built = build::build(&source, place, &self.link()).await?;
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

    /// Drops what the run left on the builder, and the connection to it.
    pub async fn clear(&self, builder: OnceCell<Session>) {
        let name = self.target.as_str();
        match builder.into_inner() {
            Some(session) => {
                build::tidy(Place::Host(&session), name, self.run, &self.link()).await;
                session.close().await;
            }
            None if self.settings.builder.host.is_empty() || self.settings.is_local() => {
                build::tidy(Place::Here, name, self.run, &self.link()).await;
            }
            None => {}
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
    let host = order.settings.builder.host.as_str();
    if host.is_empty() || host == "target" {
        return order.build(Place::Here).await.map(Some);
    }
    let unreachable = |error: ConnectError| {
        let mut failure = error.failure(host);
        failure.what = format!("the builder cannot be used: {}", failure.what);
        failure
            .why
            .push("nothing is built anywhere else instead".to_owned());
        failure
    };
    let open = || async {
        Session::open(&reach::builder(order.settings), order.dir)
            .await
            .map_err(unreachable)
    };
    let session = builder.get_or_try_init(open).await?;
    order.build(Place::Host(session)).await.map(Some)
}
