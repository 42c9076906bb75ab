//! The repository. Reading goes through gix; push, fetch, ref transactions, signing and configuration go through the
//! `git` program, which only this module starts. Replace refs and grafts are ignored everywhere, and a repository that
//! somebody else owns is not opened.

mod config;
mod fork;
mod history;
mod hooks;
mod journal;
mod landing;
mod ledger;
mod outside;
pub mod program;
mod publish;
mod refs;
mod released;
mod remote;
mod repo;
mod said;
mod sign;
mod signed_now;
mod trust;
mod verified;
mod view;

pub use config::Config;
pub use history::{Commit, CommitNote, WorkTree};
pub use hooks::{HookDir, is_ours};
pub use journal::JournalName;
pub use landing::Landing;
pub use ledger::{Relation, Which};
pub use publish::{PushError, RecordSet};
pub use refs::{LocalCommit, Pending};
pub use released::{Demand, Released, Trusted};
pub use remote::{Fetched, RemoteRefs};
pub use repo::{ObjectFormat, Repo};
pub use sign::{Format, Identity, Signing};
pub use trust::{Signed, Signers, Trust};
pub use verified::Verified;
pub use view::{Known, PushSide, RepoView, TagsThere};
