//! The command line's shape: clap types only.

mod man;
mod upkeep;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use man::man_pages;
pub use upkeep::{Prune, Rename, Retire, Store};

/// Release NixOS hosts through gates, and keep the proof in git.
#[derive(Debug, Parser)]
#[command(
    name = "git-nixgate",
    bin_name = "git nixgate",
    version,
    propagate_version = true
)]
#[command(
    after_help = "Exit codes: 0 done or nothing to do · 1 a gate failed, target untouched · 2 usage or \
configuration · 3 refused by a rule · 4 failed after the switch, target back on what ran before · 5 needs a person · \
6 busy · 7 needs a reboot · 8 proven, record not published"
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Answer in JSON on standard output, one object a line
    #[arg(long, global = true, display_order = 900)]
    pub json: bool,
    /// When to use colours and signs
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN", display_order = 901)]
    pub color: Color,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set up this repository: .nixgate.toml, fetch refspecs, the pre-push hook
    Init(Init),
    /// What a release would change and why, whether it would be refused, how long it takes; writes nothing
    Plan(Plan),
    /// Go through every gate up to dry-activate and change nothing
    Check(Check),
    /// Take a commit through every gate and mark it known-good
    Release(Release),
    /// Go back to the previous known-good closure, without evaluation or build
    Rollback(Rollback),
    /// Put a recorded closure on its target: a withdrawn release, a reinstalled host
    Deploy(Deploy),
    /// Check a host now, with the checks of its current record
    Health(Health),
    /// What each target's records say, from git alone; --live asks the hosts
    Status(Status),
    /// The records of a target, newest first
    Log(Log),
    /// One record with its evidence, or a run with what was said on its host
    Show(Show),
    /// What differs between two of a record, a commit and what runs, and why
    Diff(Diff),
    /// A host's journal: the units that its checks name, or others
    Logs(Logs),
    /// Check records, their chain and their refs
    Verify(Verify),
    /// Publish records that were made while the remote was out of reach
    Publish(Publish),
    /// Finish, or clear up after, a run that was interrupted
    Resume(Resume),
    /// Stop a run at its next safe boundary, from wherever it was started, or take back what `--boot` has set; a switch is never
    /// interrupted
    Cancel(Cancel),
    /// Let go of closures that nobody needs any more; their records stay
    Prune(Prune),
    /// Give the host of a target another name: release it under that one, then let go of what the old one keeps there
    Rename(Rename),
    /// Let go of what a target keeps on its host and its builder: roots, and the copy of its record; records stay in git
    Retire(Retire),
    /// Compare a host's store with its database, and repair it
    #[command(subcommand)]
    Store(Store),
    /// Install or run the hooks that refuse to rewrite records
    #[command(subcommand)]
    Hook(Hook),
    /// Show or check .nixgate.toml
    #[command(subcommand)]
    Config(Config),
    /// Print the man page, or write those of all commands into a folder
    #[command(hide = true)]
    Man { folder: Option<PathBuf> },
    /// Print a completion script
    #[command(hide = true)]
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Args)]
pub struct Init {
    /// Read the flake in this folder of the repository
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub flake: String,
    /// The remote that records are published to
    #[arg(long, default_value = "origin", value_name = "NAME")]
    pub remote: String,
}

/// How to reach the host this once.
#[derive(Debug, Clone, Default, Args)]
pub struct Reach {
    /// Reach the host at this address this once
    #[arg(long, value_name = "ADDR")]
    pub host: Option<String>,
}

/// Whose host it may be.
#[derive(Debug, Clone, Default, Args)]
pub struct TakeOver {
    /// Take over a host whose newest record is another target's or another repository's
    #[arg(long)]
    pub take_over: bool,
}

/// How closely changes are explained.
#[derive(Debug, Clone, Default, Args)]
pub struct Causes {
    /// Prove the causes: evaluate with each flake input that moved held back, and say which had no effect
    #[arg(long)]
    pub explain: bool,
    /// Go on although neither an input nor a file that changed accounts for some of the changes
    #[arg(long)]
    pub accept_unexplained: bool,
}

#[derive(Debug, Args)]
pub struct Plan {
    /// The target
    pub target: String,
    /// Plan for this commit instead of HEAD
    #[arg(long, value_name = "REV")]
    pub rev: Option<String>,
    /// This flake input may have moved, although no commit message names it
    #[arg(long, value_name = "NAME")]
    pub accept_input: Vec<String>,
    /// Evaluate impurely where the commit's file wants it (impure = true), although it was not released
    #[arg(long)]
    pub impure: bool,
    #[command(flatten)]
    pub causes: Causes,
    /// The lines that were changed in each unit, file and recipe
    #[arg(long)]
    pub text: bool,
    /// Everything: no list is folded
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Debug, Args)]
pub struct Check {
    /// The target
    pub target: String,
    /// Check this commit instead of HEAD
    #[arg(long, value_name = "REV")]
    pub rev: Option<String>,
    /// Go on although running system and boot default differ
    #[arg(long)]
    pub accept_drift: bool,
    /// This flake input may have moved, although no commit message names it
    #[arg(long, value_name = "NAME")]
    pub accept_input: Vec<String>,
    /// Evaluate impurely where the commit's file wants it (impure = true), although it was not released
    #[arg(long)]
    pub impure: bool,
    #[command(flatten)]
    pub causes: Causes,
    #[command(flatten)]
    pub over: TakeOver,
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Debug, Args)]
pub struct Release {
    /// The target
    pub target: String,
    /// Release this commit instead of HEAD
    #[arg(long, value_name = "REV")]
    pub rev: Option<String>,
    /// Validate and record although the target already runs this closure
    #[arg(long)]
    pub again: bool,
    /// Release although the remote cannot be reached; `publish` follows later
    #[arg(long)]
    pub offline: bool,
    /// This flake input may have moved, although no commit message names it
    #[arg(long, value_name = "NAME")]
    pub accept_input: Vec<String>,
    #[command(flatten)]
    pub causes: Causes,
    /// This commit mends the withdrawn release TAG
    #[arg(long, value_name = "TAG")]
    pub fixes: Vec<String>,
    /// Go on although running system and boot default differ
    #[arg(long)]
    pub accept_drift: bool,
    /// Commit although the new boot loader does not tell what it boots by default; the record says so
    #[arg(long)]
    pub accept_boot_loader: bool,
    /// Go on although the host's last record was lost with another clone
    #[arg(long)]
    pub supersede: bool,
    #[command(flatten)]
    pub over: TakeOver,
    /// Set the boot default and wait for a reboot instead of switching
    #[arg(long)]
    pub boot: bool,
    /// Stop after the diff: as `plan`
    #[arg(long, conflicts_with_all = ["again", "offline", "fixes", "accept_drift", "accept_boot_loader", "supersede", "take_over", "boot", "confirm", "skip_validation", "gc", "cancel_older"])]
    pub plan: bool,
    /// Ask before the host is switched
    #[arg(long)]
    pub confirm: bool,
    /// Emergency: switch without validation; never recorded. The target's name must be typed
    #[arg(long)]
    pub skip_validation: bool,
    /// Where the closure does not fit on the target, collect garbage there first; known-good closures and what runs
    /// stay
    #[arg(long)]
    pub gc: bool,
    /// Stop a release of an older commit that is at work on this target and has not begun to switch. One of another clone
    /// is seen once it holds the host; until then whoever holds it first decides
    #[arg(long)]
    pub cancel_older: bool,
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Debug, Args)]
pub struct Rollback {
    /// The target
    pub target: String,
    /// Go back to this release, or to `before-first`
    #[arg(long, value_name = "TAG")]
    pub to: Option<String>,
    /// Prove that a rollback would work, and change nothing
    #[arg(long)]
    pub check: bool,
    /// Practise: go there, validate, come back, validate; nothing is recorded
    #[arg(long, conflicts_with_all = ["check", "keep"])]
    pub rehearse: bool,
    /// Where the closure is nowhere to be had, build it again; it must come out as recorded
    #[arg(long, conflicts_with = "check")]
    pub rebuild: bool,
    /// Take the recorded store path although its bytes are in no record; the gates prove it again
    #[arg(long)]
    pub accept_other_build: bool,
    /// Stay on the restored closure although checks fail, if the host can be reached
    #[arg(long)]
    pub keep: bool,
    /// Go on although running system and boot default differ
    #[arg(long)]
    pub accept_drift: bool,
    /// Commit although the new boot loader does not tell what it boots by default; the record says so
    #[arg(long)]
    pub accept_boot_loader: bool,
    /// Go on although the host's last record was lost with another clone
    #[arg(long)]
    pub supersede: bool,
    #[command(flatten)]
    pub over: TakeOver,
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Debug, Args)]
pub struct Deploy {
    /// The target
    pub target: String,
    /// The record whose closure to deploy
    #[arg(long, value_name = "TAG")]
    pub to: String,
    /// Where the closure is nowhere to be had, build it again; it must come out as recorded
    #[arg(long)]
    pub rebuild: bool,
    /// Take the recorded store path although its bytes are in no record; the gates prove it again
    #[arg(long)]
    pub accept_other_build: bool,
    /// Go on although running system and boot default differ
    #[arg(long)]
    pub accept_drift: bool,
    /// Commit although the new boot loader does not tell what it boots by default; the record says so
    #[arg(long)]
    pub accept_boot_loader: bool,
    /// Go on although the host's last record was lost with another clone
    #[arg(long)]
    pub supersede: bool,
    #[command(flatten)]
    pub over: TakeOver,
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Debug, Args)]
pub struct Health {
    /// The target
    pub target: String,
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Debug, Args)]
pub struct Status {
    /// Only these targets
    pub targets: Vec<String>,
    /// Ask the hosts: record, running, booted, profile, boot default
    #[arg(long)]
    pub live: bool,
}

#[derive(Debug, Args)]
pub struct Log {
    /// Only this target
    pub target: Option<String>,
    /// At most this many records
    #[arg(short = 'n', long = "max-count", value_name = "N")]
    pub most: Option<usize>,
    /// Runs that failed instead of records
    #[arg(long)]
    pub failed: bool,
}

#[derive(Debug, Args)]
pub struct Show {
    /// A record (release/cortex/20261120T031402Z-0123456789ab), a target's newest (cortex), or a run
    pub what: String,
}

#[derive(Debug, Args)]
pub struct Diff {
    /// The target
    pub target: String,
    /// A record, a commit, or `live`: what runs
    #[arg(default_value = "live")]
    pub from: String,
    /// The same
    #[arg(default_value = "HEAD")]
    pub to: String,
    /// The lines that were changed in each unit, file and recipe
    #[arg(long)]
    pub text: bool,
    /// Everything: no list is folded
    #[arg(long)]
    pub all: bool,
    /// Prove the causes: evaluate TO with each flake input that moved held back, and say which had no effect
    #[arg(long)]
    pub explain: bool,
    /// Evaluate impurely where the commit's file wants it (impure = true), although it was not released
    #[arg(long)]
    pub impure: bool,
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Debug, Args)]
pub struct Logs {
    /// The target
    pub target: String,
    /// These units; none: those which the target's checks name, or the whole journal
    pub units: Vec<String>,
    /// Go on with what comes, until interrupted
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// Begin with the last N lines
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 50)]
    pub lines: u32,
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// A record or a target; none: every target
    #[arg(conflicts_with = "all")]
    pub what: Vec<String>,
    /// Every target, which is also what no name means
    #[arg(long)]
    pub all: bool,
    /// Ask the remote too: its tags, pointer and ledger must agree
    #[arg(long)]
    pub remote: bool,
    /// Ask the hosts too: their roots, the closures' digests and the record that each carries must agree
    #[arg(long)]
    pub live: bool,
    /// Read every record again, also of chains that held before
    #[arg(long)]
    pub full: bool,
}

#[derive(Debug, Args)]
pub struct Publish {
    /// Only this target
    pub target: Option<String>,
    /// After a fork: take the remote's records, and give up those here that lost to them
    #[arg(long, requires = "target")]
    pub take_theirs: bool,
}

#[derive(Debug, Args)]
pub struct Resume {
    /// The target
    pub target: String,
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Debug, Args)]
pub struct Cancel {
    /// The target
    pub target: String,
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Debug, Subcommand)]
pub enum Hook {
    /// Install the pre-push hook, or with --server the hooks of a bare repository that is pushed to
    Install {
        /// Install pre-receive and reference-transaction, in the bare repository that is pushed to
        #[arg(long)]
        server: bool,
    },
    /// Print the rules that protect releases on a forge, for its API, and what they do and do not stop
    Ruleset(Forge),
    /// Judge a push; git calls it with the push on standard input
    PrePush { remote: OsString, url: OsString },
    /// Judge a push on the server; git calls it with the push on standard input
    PreReceive,
    /// Judge what git is about to write on the server; git calls it with the refs on standard input
    ReferenceTransaction { state: String },
}

/// Where a repository is hosted.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Forge {
    #[arg(long)]
    pub github: bool,
    #[arg(long)]
    pub gitlab: bool,
    #[arg(long)]
    pub forgejo: bool,
}

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Every setting with its value
    Show(ConfigOf),
    /// Whether the file is right, with every problem at once
    Check(ConfigOf),
}

#[derive(Debug, Args)]
pub struct ConfigOf {
    /// Read the file of this commit instead of HEAD
    #[arg(long, value_name = "REV", conflicts_with = "file")]
    pub rev: Option<String>,
    /// Read this file instead of a commit's
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
}
