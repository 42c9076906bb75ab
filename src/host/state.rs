//! The supervisor's state file, read. Pure.
//!
//! The file is `key=value` lines, written atomically on the host; unknown keys are ignored, so that an older operator
//! can still read what matters. A file without a known `state` is no state.

use std::fmt;

use serde::Serialize;

/// Where a run is on its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Another run's supervisor holds the target; this one ended.
    Busy,
    Holding,
    Switching,
    Waiting,
    Committing,
    Committed,
    CommitFailed,
    Reverting,
    Reverted,
    RevertFailed,
    /// Ended without a switch, or left as it is on the operator's word.
    Released,
}

impl Phase {
    /// The word in the state file.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "busy" => Phase::Busy,
            "holding" => Phase::Holding,
            "switching" => Phase::Switching,
            "waiting" => Phase::Waiting,
            "committing" => Phase::Committing,
            "committed" => Phase::Committed,
            "commit-failed" => Phase::CommitFailed,
            "reverting" => Phase::Reverting,
            "reverted" => Phase::Reverted,
            "revert-failed" => Phase::RevertFailed,
            "released" => Phase::Released,
            _ => return None,
        })
    }

    /// The same word, for people.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Busy => "busy",
            Phase::Holding => "holding",
            Phase::Switching => "switching",
            Phase::Waiting => "waiting",
            Phase::Committing => "committing",
            Phase::Committed => "committed",
            Phase::CommitFailed => "commit-failed",
            Phase::Reverting => "reverting",
            Phase::Reverted => "reverted",
            Phase::RevertFailed => "revert-failed",
            Phase::Released => "released",
        }
    }

    /// Nothing more happens by itself, except that a reverted host is looked at once more at the lease's end.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Phase::Busy | Phase::Committed | Phase::Reverted | Phase::RevertFailed | Phase::Released
        )
    }
}

/// What a host's default at the next boot is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootDefault {
    /// The toplevel.
    Path(String),
    /// The loader does not say, or not to us. Never to be called proven.
    NotVerifiable,
}

impl BootDefault {
    /// From the supervisor's and the facts script's word.
    pub fn parse(word: &str) -> Self {
        if word.starts_with('/') {
            BootDefault::Path(word.to_owned())
        } else {
            BootDefault::NotVerifiable
        }
    }

    pub fn path(&self) -> Option<&str> {
        match self {
            BootDefault::Path(path) => Some(path),
            BootDefault::NotVerifiable => None,
        }
    }
}

impl fmt::Display for BootDefault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path().unwrap_or("not verifiable"))
    }
}

/// An entry that boots at the next boot only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootOnce {
    /// Its toplevel, where its command line names one.
    pub path: Option<String>,
    /// Its name in the boot loader's menu.
    pub entry: String,
}

impl BootOnce {
    /// From the scripts' words: the toplevel or `-`, then the entry.
    pub fn parse(words: &str) -> Option<Self> {
        let (path, entry) = words.split_once(' ')?;
        Some(BootOnce {
            path: Some(path.to_owned()).filter(|path| path.starts_with('/')),
            entry: entry.to_owned(),
        })
    }
}

impl fmt::Display for BootOnce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path.as_deref().unwrap_or(&self.entry))
    }
}

/// Running system, profile and boot default, read together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Where {
    /// Target of `/run/current-system`; `None` when it is missing.
    pub running: Option<String>,
    /// The toplevel that the system profile leads to.
    pub profile: Option<String>,
    pub generation: Option<u64>,
    pub boot_default: BootDefault,
    /// `systemd-boot`, `grub`, `extlinux`, `limine`, `refind`, `none` or `unknown`.
    pub boot_loader: String,
    /// What boots at the next boot only, in place of the default.
    pub boot_once: Option<BootOnce>,
}

/// A state file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct State {
    pub phase: Phase,
    pub run: String,
    pub target: String,
    pub commit: String,
    pub who: String,
    /// Seconds since 1970 on the target's clock: lock taken, last change of phase.
    pub since: u64,
    pub changed: u64,
    pub candidate: String,
    pub previous: String,
    /// What runs of the candidate: see [`State::system`]. Empty before the switch.
    pub effective: String,
    #[serde(rename = "where")]
    pub here: Where,
    pub generation_before: Option<u64>,
    /// Exit codes of switch-to-configuration: of the test switch, of the revert, of `boot` in the commit.
    pub switch_status: Option<i32>,
    pub revert_status: Option<i32>,
    pub boot_status: Option<i32>,
    /// A deadline ended the test switch.
    pub switch_timed_out: bool,
    /// The last message answered, and how: `ok`, or why not.
    pub nonce: String,
    pub answer: String,
    /// Why it reverted, failed or refuses; in order.
    pub reasons: Vec<String>,
    /// After a revert: looked at once more at the lease's end, and still as said.
    pub settled: bool,
    /// The reboot into the boot default was ordered.
    pub rebooting: bool,
}

impl State {
    /// Parses a state file; `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let one = |key: &str| {
            text.lines()
                .rev()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
                .unwrap_or_default()
        };
        let owned = |key: &str| one(key).to_owned();
        let path = |key: &str| {
            Some(one(key))
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
        };
        let status = |key: &str| one(key).parse::<i32>().ok();
        Some(State {
            phase: Phase::parse(one("state"))?,
            run: owned("run"),
            target: owned("target"),
            commit: owned("commit"),
            who: owned("who"),
            since: one("since").parse().unwrap_or(0),
            changed: one("changed").parse().unwrap_or(0),
            candidate: owned("candidate"),
            previous: owned("previous"),
            effective: owned("effective"),
            here: Where {
                running: path("running"),
                profile: path("profile"),
                generation: one("generation").parse().ok(),
                boot_default: BootDefault::parse(one("boot_default")),
                boot_loader: owned("boot_loader"),
                boot_once: BootOnce::parse(one("boot_once")),
            },
            generation_before: one("generation_before").parse().ok(),
            switch_status: status("switch_status"),
            revert_status: status("revert_status"),
            boot_status: status("boot_status"),
            switch_timed_out: one("switch_timed_out") == "1",
            nonce: owned("nonce"),
            answer: owned("answer"),
            reasons: text
                .lines()
                .filter_map(|line| line.strip_prefix("reason="))
                .map(str::to_owned)
                .collect(),
            settled: one("settled") == "1",
            rebooting: one("rebooting") == "1",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "state=committed\nrun=r1\ntarget=cortex\ncommit=abc\nwho=Ann = <a@b>\nsince=100\n\
                        changed=110\ncandidate=/nix/store/b\nprevious=/nix/store/a\nrunning=/nix/store/b\n\
                        profile=/nix/store/b\ngeneration=142\ngeneration_before=141\nboot_default=/nix/store/a\n\
                        boot_loader=systemd-boot\nswitch_status=4\nnonce=n1\nanswer=ok\nreason=one\nreason=two\n\
                        future=1\n";

    #[test]
    fn a_state_file_is_read_and_unknown_keys_do_no_harm() {
        let state = State::parse(TEXT).expect("a state");
        assert_eq!(state.phase, Phase::Committed);
        assert_eq!(state.who, "Ann = <a@b>");
        assert_eq!(state.here.generation, Some(142));
        assert_eq!(state.switch_status, Some(4));
        assert_eq!(state.revert_status, None);
        assert_eq!(state.reasons, ["one", "two"]);
        assert!(!state.settled);
    }

    #[test]
    fn s0_13_a_commit_that_left_the_boot_default_behind_is_named() {
        let state = State::parse(TEXT).expect("a state");
        assert_eq!(
            state.system().disagreements(&state.here),
            ["the boot default is /nix/store/a"]
        );
    }

    #[test]
    fn text_without_a_known_state_is_no_state() {
        for text in ["", "state=\n", "state=happy\n", "run=r1\n", "statex=waiting\n"] {
            assert_eq!(State::parse(text), None, "{text}");
        }
    }

    /// The supervisor's own way of writing it, on a file system without room: `/dev/full` (full(4)) is one.
    #[test]
    fn s3_9_a_state_that_cannot_be_written_leaves_the_old_one() {
        for shell in ["/bin/dash", "/bin/bash"] {
            let dir = tempfile::tempdir().expect("a directory");
            std::fs::write(dir.path().join("state"), "state=waiting\n").expect("written");
            let text = format!(
                "{}\nalone() {{ \"$@\"; }}\ndir=$1 booted_at=0 p_run=r p_target=t p_commit=c p_who=w\n\
                 p_candidate=/nix/store/b p_previous=/nix/store/a\n\
                 s_state=reverting\nln -s /dev/full \"$dir/state.new\"\nsave && exit 7\n\
                 grep -qx state=waiting \"$dir/state\" || exit 8\nrm \"$dir/state.new\"\nsave || exit 9\n\
                 grep -qx state=reverting \"$dir/state\"",
                include_str!("state.sh")
            );
            let status = std::process::Command::new(shell)
                .args(["-c", &text, "sh"])
                .arg(dir.path())
                .stderr(std::process::Stdio::null())
                .status()
                .expect("a shell");
            assert!(status.success(), "{shell}: {status}");
        }
    }
}
