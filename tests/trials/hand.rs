//! What trials do beside the program: as the operator at the desk, and as root on a host's console.

use std::time::Duration;

use crate::lab::{Lab, Output, Spawned};

/// A shell command in op's clone.
#[track_caller]
pub fn at_desk(lab: &Lab, command: &str) -> Output {
    lab.sh("desk", "op", &format!("cd ~/infra && {command}"))
}

/// The same, expected to work; what it printed.
#[track_caller]
pub fn desk(lab: &Lab, command: &str) -> String {
    at_desk(lab, command).text().to_owned()
}

/// A command of root on a host, expected to work; what it printed.
#[track_caller]
pub fn root(lab: &Lab, host: &str, command: &str) -> String {
    lab.sh(host, "root", command).text().to_owned()
}

/// Commits this description (a Nix attribute set) as a host's.
#[track_caller]
pub fn describe(lab: &Lab, host: &str, nix: &str) {
    let nix = nix.replace('\'', "'\\''");
    desk(
        lab,
        &format!(
            "printf '%s\\n' '{nix}' >hosts/{host}.nix && git add -A && git commit -qm '{host}: by hand'"
        ),
    );
}

/// Commits a good system that differs from every other number's.
#[track_caller]
pub fn good(lab: &Lab, host: &str, number: u32) {
    describe(lab, host, &format!("{{ packages.hello = \"3.{number}\"; }}"));
}

/// A record's evidence.
#[track_caller]
pub fn evidence(lab: &Lab, record: &str) -> serde_json::Value {
    let line = desk(
        lab,
        &format!(
            "git cat-file tag refs/tags/{record} | sed -n '/^-----BEGIN NIXGATE EVIDENCE-----$/{{n;p;q;}}'"
        ),
    );
    serde_json::from_str(&line).expect("evidence is JSON")
}

/// The trailers of a record, `Nixgate-` left out: `Kind: release`.
#[track_caller]
pub fn trailers(lab: &Lab, record: &str) -> Vec<(String, String)> {
    desk(
        lab,
        &format!("git cat-file tag refs/tags/{record} | sed -n 's/^Nixgate-//p'"),
    )
    .lines()
    .filter_map(|line| line.split_once(": "))
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// The value of one trailer, `""` where it is missing.
#[track_caller]
pub fn trailer(lab: &Lab, record: &str, key: &str) -> String {
    let all = trailers(lab, record);
    all.into_iter()
        .find(|(name, _)| name == key)
        .map(|(_, value)| value)
        .unwrap_or_default()
}

/// The last line of standard output: the record's name.
#[track_caller]
pub fn name_in(out: &Output) -> String {
    out.text().lines().last().unwrap_or_default().to_owned()
}

/// Waits until the running program's own switch unit is at work on the host.
#[track_caller]
pub fn wait_for_switch(lab: &Lab, host: &str) {
    lab.wait_for(
        host,
        "systemctl list-units --plain --no-legend --state=active,activating 'nixgate-*-switch.service' | grep -q .",
        Duration::from_secs(60),
    );
}

/// Waits until nothing of ours is at work on a host, and says that nothing of ours is left there: no unit, no lock, no
/// directory of a run, no temporary root, no process.
#[track_caller]
pub fn nothing_left(lab: &Lab, host: &str, within: Duration) {
    lab.wait_for(
        host,
        "[ -z \"$(systemctl list-units --all --plain --no-legend 'nixgate-*')\" ] && { [ ! -e /run/nixgate/lock ] || flock -n /run/nixgate/lock true; } && \
         [ ! -e /run/nixgate/holder ] && [ -z \"$(ls /run/nixgate 2>/dev/null | grep -v -e '^lock$')\" ] && \
         [ -z \"$(ls /nix/var/nix/gcroots/nixgate/+tmp 2>/dev/null)\" ] && ! pgrep -f 'supervisor[.]sh' >/dev/null",
        within,
    );
}

/// SIGKILL to the program and its helpers, as a crash of the operator's machine looks to the host: its connections end.
#[track_caller]
pub fn kill_operator(lab: &Lab, run: &mut Spawned) {
    run.kill();
    // The ssh masters are sessions of their own; pkill says 1 where there was none.
    lab.sh(
        "desk",
        "root",
        "pkill -KILL -u op -x ssh; pkill -KILL -u op -x git-nixgate; :",
    );
}

/// No pending ref and no lock in op's clone.
#[track_caller]
pub fn clone_is_tidy(lab: &Lab) {
    assert_eq!(
        desk(
            lab,
            "git for-each-ref refs/nixgate/pending; find .git -name '*.lock'"
        ),
        ""
    );
}
