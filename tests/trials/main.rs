//! Trials on the lab's real hosts, with the real binary. A test's name begins with the ids of the rows it proves.
//!
//! They need root and the lab: `tests/run` runs them all; one alone:
//! `cargo test --features lab --test trials -- s0_12`.

#[path = "../lab/mod.rs"]
mod lab;

mod boot_loaders;
mod boundaries;
mod broken;
mod builder;
mod carried;
mod connections;
mod crash;
mod exits;
mod explain;
mod faults;
mod faults_back;
mod faults_commit;
mod faults_evidence;
mod faults_newer;
mod hand;
mod hosts;
mod infra;
mod init;
mod kept;
mod leaks;
mod other_bytes;
mod plan;
mod pressure;
mod prune;
mod races;
mod records;
mod resume;
mod rollback;
mod s0;
mod s0_preflight;
mod s0_validate;
mod s1;
mod s2_s3_s4;
mod spellings;
mod stop;
mod store;
mod systems;
mod tamper;
mod trust;
mod unproven;
mod zoo;
