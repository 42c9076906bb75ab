//! The gates: each reads, decides, and leaves evidence. One file a gate; none knows which run it serves.

pub mod build;
pub mod commit;
pub mod copy;
pub mod diff;
pub mod dry_activate;
pub mod health;
pub mod known_good;
mod log;
mod place;
pub mod preflight;
pub mod pressure;
pub mod store;
pub mod switch_test;
pub mod validate;

pub use log::GateLog;
pub use place::{As, Place, store_of};
