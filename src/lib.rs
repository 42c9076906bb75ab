//! `git nixgate`: which exact closure is proven to work on each NixOS host, and the way back to it.
//!
//! Work flows one way: [`command`] → [`run`] → [`gate`] → the outside worlds ([`git`], [`nix`], [`host`], [`net`]).
//! Each outside world sits behind one module that alone spawns its program. What decides ([`record`], [`config`],
//! [`diff`]) is pure: no files, no processes, no clock.

// These panic when the reader has gone, in the middle of a run.
#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod boundary;
pub mod check;
pub mod cli;
pub mod command;
pub mod config;
pub mod diff;
pub mod event;
pub mod failure;
pub mod gate;
pub mod git;
pub mod host;
pub mod net;
pub mod nix;
pub mod plan;
pub mod record;
pub mod run;
pub mod ui;
