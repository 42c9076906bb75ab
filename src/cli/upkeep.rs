//! The commands that look after what hosts and builders keep.

use clap::{Args, Subcommand};

use super::Reach;

#[derive(Debug, Args)]
pub struct Prune {
    /// The target
    pub target: String,
    /// Say what would go, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Debug, Args)]
pub struct Rename {
    /// The name until now
    pub old: String,
    /// The new name, with its entry in HEAD's .nixgate.toml
    pub new: String,
    /// Say what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Debug, Args)]
pub struct Retire {
    /// The target
    pub target: String,
    /// Say what would go, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The host is no more: clear the builder only
    #[arg(long)]
    pub gone: bool,
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Debug, Subcommand)]
pub enum Store {
    /// Name every path that the database calls valid and the disk lacks, and the closures that need it
    Check {
        /// The target
        target: String,
        /// Read every file: also find paths whose contents are not those registered
        #[arg(long)]
        contents: bool,
        #[command(flatten)]
        reach: Reach,
    },
    /// Put back what is broken: from the host's caches, the builder, this machine
    Repair {
        /// The target
        target: String,
        /// Read every file: also find paths whose contents are not those registered
        #[arg(long)]
        contents: bool,
        /// Replace broken paths without asking
        #[arg(long)]
        yes: bool,
        /// As the last resort change the host's Nix database without asking; it is backed up first
        #[arg(long)]
        surgery: bool,
        #[command(flatten)]
        reach: Reach,
    },
}
