//! Breaking hosts and commits, and looking at what a run left.

use crate::infra::{CONFIG, host_state, refs};
use crate::lab::{Lab, Output};

/// The usual configuration and more: tables of one target (`[target.cortex.timeouts]`) or `[defaults]`.
pub fn with(more: &str) -> String {
    format!("{CONFIG}{more}")
}

/// Running system, profile, boot default, roots, leftovers and every release ref.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    host: String,
    refs: String,
}

#[track_caller]
pub fn snapshot(lab: &Lab, host: &str) -> Snapshot {
    Snapshot {
        host: host_state(lab, host),
        refs: refs(lab),
    }
}

/// Runs something that must work, as root or whoever is named.
#[track_caller]
pub fn must(lab: &Lab, host: &str, user: &str, cmd: &str) -> String {
    lab.sh(host, user, cmd).text().to_owned()
}

/// Commits what `cmd` does to op's clone.
#[track_caller]
pub fn commit(lab: &Lab, cmd: &str) {
    must(
        lab,
        "desk",
        "op",
        &format!("set -e; cd ~/infra\n{cmd}\ngit add -A; git commit -qm 'Change it'"),
    );
}

/// The gates that began, by their headings.
pub fn gates(out: &Output) -> Vec<&str> {
    const GATES: [&str; 9] = [
        "preflight",
        "build",
        "diff",
        "copy",
        "dry-activate",
        "switch-test",
        "validate",
        "commit",
        "known-good",
    ];
    out.stderr.lines().filter(|line| GATES.contains(line)).collect()
}

/// The lines of checks: `[4/6] Disk space... passed (67% used)`.
pub fn checks(out: &Output) -> Vec<&str> {
    let lines = out.stderr.lines().map(str::trim_start);
    lines
        .filter(|line| line.starts_with('[') && line.contains("] "))
        .collect()
}

/// Asserts that the output has all of these texts.
#[track_caller]
pub fn says(out: &Output, texts: &[&str]) {
    let all = format!("{}{}", out.stdout, out.stderr);
    for text in texts {
        assert!(all.contains(text), "{text:?} is not in: {out}");
    }
}

/// How often the host was told to switch, and to what, since it came up.
#[track_caller]
pub fn switches(lab: &Lab, host: &str) -> Vec<String> {
    let journal = lab.sh(host, "root", "journalctl -t nixos -o cat --no-pager");
    let prefix = "switching to system configuration ";
    let lines = journal.stdout.lines();
    lines
        .filter_map(|line| line.strip_prefix(prefix))
        .filter(|rest| !rest.contains(' ')) // "… failed (status 2)"
        .map(str::to_owned)
        .collect()
}
