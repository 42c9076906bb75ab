//! What must hold for any bytes at all: nothing here panics, and what is read is what was written. The bodies of the
//! fuzz targets beside this file, and of `tests/fuzz.rs`, which runs them briefly with every test run.

use git_nixgate::command::hook;
use git_nixgate::config;
use git_nixgate::diff;
use git_nixgate::git::Config;
use git_nixgate::host::dryrun::DryActivate;
use git_nixgate::host::state::State;
use git_nixgate::host::{Facts, Login};
use git_nixgate::nix;
use git_nixgate::record::evidence::canonical;
use git_nixgate::record::rules::is_guarded;
use git_nixgate::record::{Evidence, Oid, OnHost, Record, RecordName, Secrets, Target, Utc, text};

/// A body and its name.
pub type Body = (&'static str, fn(&[u8]));

/// Every body; the names are those of the fuzz targets and of the folders of the corpus.
pub const BODIES: [Body; 10] = [
    ("record", record),
    ("evidence", evidence),
    ("names", names),
    ("push", push),
    ("toml", toml),
    ("lock", lock),
    ("derivations", derivations),
    ("nix-json", nix_json),
    ("dry-run", dry_run),
    ("host", host),
];

/// A record is read or refused by name; what is read says the same again.
pub fn record(data: &[u8]) {
    let oid = Oid::null(gix::hash::Kind::Sha1);
    match Record::parse(oid, data, None) {
        Ok(record) => {
            let again = Record::parse(oid, data, Some(&record.name.ref_name())).expect("its own name");
            assert_eq!(again.sha256, record.sha256);
            assert_eq!(again.seq == 1, again.previous.is_none());
            let _ = record.told(None);
            assert_eq!(record.leaks(&Secrets::default()), 0);
        }
        Err(defect) => assert!(!defect.rule.is_empty() && !defect.why.is_empty()),
    }
    let _ = Config::parse(data);
}

/// What is canonical stays so, and a line that was written is read.
pub fn evidence(data: &[u8]) {
    let shown = String::from_utf8_lossy(data);
    if let Ok(found) = Evidence::from_line(&shown) {
        let line = found.to_line(&Secrets::default());
        let read = Evidence::from_line(&line).expect("what was written");
        assert_eq!(read.to_line(&Secrets::default()), line);
    }
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(&shown) {
        let line = canonical(&value);
        assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)));
        let again: serde_json::Value = serde_json::from_str(&line).expect("canonical JSON");
        assert_eq!(canonical(&again), line);
    }
    let safe = text::shown(&shown);
    assert_eq!(text::shown(&safe), safe);
    assert!(text::prose(&shown).len() <= 410);
}

/// A name that is read is written the same.
pub fn names(data: &[u8]) {
    let shown = String::from_utf8_lossy(data);
    for line in shown.lines() {
        if let Ok(name) = line.parse::<RecordName>() {
            assert_eq!(name.to_string(), line);
        }
        if let Ok(target) = line.parse::<Target>() {
            assert_eq!(target.as_str(), line);
        }
        if let Ok(utc) = line.parse::<Utc>() {
            assert_eq!(utc.to_string(), line);
        }
        if let Ok(on_host) = line.parse::<OnHost>() {
            assert_eq!(on_host.to_string(), line);
        }
        let (name, version) = diff::parse_drv_name(line);
        assert!(line.starts_with(name) && line.ends_with(version));
        let _ = diff::compare_versions(name, version);
        let _ = nix::StorePath::new(line);
    }
}

/// Git's list of refs is read whole or not at all.
pub fn push(data: &[u8]) {
    let lines = data
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .count();
    for read in [hook::parse_pre_push, hook::parse_pre_receive] {
        if let Ok(updates) = read(data) {
            assert_eq!(updates.len(), lines);
        }
    }
    // Of a transaction only what is part of a release is read.
    if let Ok(updates) = hook::parse_transaction(data) {
        assert!(updates.len() <= lines);
        assert!(updates.iter().all(|u| is_guarded(&u.ref_name)));
    }
}

/// A file that is right is right as `config show` prints it; leniently read it loses nothing.
pub fn toml(data: &[u8]) {
    let shown = String::from_utf8_lossy(data);
    let (lenient, problems) = config::parse_leniently(&shown);
    match config::parse(&shown) {
        Ok(config) => {
            assert!(problems.is_empty());
            assert_eq!(config, lenient);
            assert!(!config::to_toml(&config).starts_with("# "));
        }
        Err(problems) => assert!(!problems.is_empty()),
    }
}

/// A lock file against itself has no change.
pub fn lock(data: &[u8]) {
    let _ = diff::lock_inputs(&String::from_utf8_lossy(data));
}

/// Derivations in every shape.
pub fn derivations(data: &[u8]) {
    let _ = nix::parse_derivations(&String::from_utf8_lossy(data));
}

/// What Nix prints as JSON, and its database's dump.
pub fn nix_json(data: &[u8]) {
    let shown = String::from_utf8_lossy(data);
    let _ = nix::parse_path_info(&shown);
    let _ = nix::parse_build(&shown);
    let _ = nix::parse_store_info(&shown);
    let _ = nix::parse_dump_db(&shown);
    let _ = nix::parse_examined(&shown);
}

/// What dry-activate prints.
pub fn dry_run(data: &[u8]) {
    let shown = String::from_utf8_lossy(data);
    let plan = DryActivate::parse(&shown);
    // A plan loses no line.
    let lines = shown.lines().filter(|line| !line.trim_end().is_empty()).count();
    let known =
        !plan.changes_no_unit() || plan.activate || !plan.not_stopped.is_empty() || !plan.other.is_empty();
    assert!(known || lines == 0);
}

/// What a host says of itself.
pub fn host(data: &[u8]) {
    let shown = String::from_utf8_lossy(data);
    let _ = Facts::parse(&shown);
    let _ = Login::parse(&shown);
    let _ = State::parse(&shown);
}
