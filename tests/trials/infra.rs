//! The starting point of most trials: a repository with a `.nixgate.toml`, its hosts on A, nothing released.

use crate::lab::{Lab, Output};

/// Builder forge, user jarvis, no settling and soaking: trials that need other figures append or replace. The hosts of all
/// trials share one machine's memory: how much of it is in use says nothing of one host.
pub const CONFIG: &str = r#"version = 1
[builder]
host = "forge"
[timeouts]
settle = 0
soak = 0
confirm = 10
[preflight]
usage-factor = 0
[target.cortex]
user = "jarvis"
[target.orion]
user = "jarvis"
"#;

/// A lab with this configuration committed and pushed, and the hook installed.
#[track_caller]
pub fn with_config(name: &str, hosts: &[&str], config: &str) -> Lab {
    let lab = Lab::up(name, hosts);
    configure(&lab, config);
    lab
}

/// The usual hosts and configuration.
#[track_caller]
pub fn usual(name: &str) -> Lab {
    with_config(name, &["desk", "forge", "git", "cortex"], CONFIG)
}

/// Commits `.nixgate.toml` in op's clone and pushes it.
#[track_caller]
pub fn configure(lab: &Lab, config: &str) {
    let quoted = config.replace('\'', "'\\''");
    let out = lab.sh(
        "desk",
        "op",
        &format!(
            "cd ~/infra && printf '%s' '{quoted}' > .nixgate.toml && git add -A && \
             git commit -qm 'Configure nixgate' && git push -q origin main"
        ),
    );
    assert!(out.ok(), "{out}");
}

/// Runs git-nixgate and expects this exit code.
#[track_caller]
pub fn expect(lab: &Lab, exit: i32, args: &[&str]) -> Output {
    let out = lab.nixgate(args);
    assert_eq!(out.status, exit, "git nixgate {}: {out}", args.join(" "));
    out
}

/// A release that works; its record's name.
#[track_caller]
pub fn release(lab: &Lab, target: &str) -> String {
    expect(lab, 0, &["release", target])
        .text()
        .lines()
        .last()
        .unwrap_or_default()
        .to_owned()
}

/// How long a gate took by the run's own account, in whole seconds: 9 for `FAILED in 9.3 s`, 125 for `passed in 2m 05s`.
#[track_caller]
pub fn gate_seconds(out: &Output, gate: &str) -> u64 {
    let told = || {
        let mut lines = out.stderr.lines().skip_while(|line| *line != gate).skip(1);
        let line = lines.find(|line| line.starts_with("  FAILED in ") || line.starts_with("  passed in "))?;
        let time = line.split_once(" in ")?.1.split(':').next()?;
        let (minutes, seconds) = match time.split_once("m ") {
            Some((minutes, rest)) => (minutes.parse().ok()?, rest),
            None => (0, time),
        };
        let digits = seconds.split(|c: char| !c.is_ascii_digit()).next()?;
        Some(minutes * 60 + digits.parse::<u64>().ok()?)
    };
    told().unwrap_or_else(|| panic!("{gate} has no end with a time: {out}"))
}

/// Everything about a host that a run without success may not change: running system, profile, boot default, roots.
#[track_caller]
pub fn host_state(lab: &Lab, host: &str) -> String {
    lab.sh(
        host,
        "root",
        "readlink /run/current-system /nix/var/nix/profiles/system; ls /nix/var/nix/profiles; \
         cat /boot/extlinux/extlinux.conf 2>/dev/null; \
         find /nix/var/nix/gcroots/nixgate -type l -printf '%P %l\\n' 2>/dev/null | sort; \
         systemctl list-units --all --plain --no-legend 'nixgate-*'; ls /run/nixgate 2>/dev/null | grep -v -e '^lock$'",
    )
    .stdout
}

/// Every release ref, here (`desk`) and on the git server.
#[track_caller]
pub fn refs(lab: &Lab) -> String {
    let list = "for-each-ref --format='%(refname) %(objectname)' refs/tags/release refs/heads/release \
                refs/nixgate/ledger refs/nixgate/pending";
    let here = lab.sh("desk", "op", &format!("cd ~/infra && git {list}"));
    let there = lab.sh(
        "git",
        "root",
        &format!("git -c safe.directory='*' -C /srv/git/infra.git {list}"),
    );
    assert!(here.ok() && there.ok(), "{here}{there}");
    format!("{}---\n{}", here.stdout, there.stdout)
}
