//! Which runs are at work on this machine: a file for each, in the repository's own directory, gone when the run is.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::journal::{State, Verb};
use crate::git::Repo;
use crate::record::Target;

/// A process that cannot be taken for another one with its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub pid: i32,
    /// When it started, in clock ticks since the boot.
    started: u64,
    /// The boot's id.
    boot: String,
}

impl Process {
    /// This process; `None` where there is no proc(5).
    fn this() -> Option<Process> {
        let pid = i32::try_from(std::process::id()).ok()?;
        Some(Process {
            pid,
            started: started(pid)?,
            boot: boot()?,
        })
    }

    pub fn lives(&self) -> bool {
        boot().as_ref() == Some(&self.boot) && started(self.pid) == Some(self.started)
    }
}

fn boot() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// Field 22 of `/proc/<pid>/stat`; the name before it, in parentheses, may hold anything.
fn started(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// What a run's file says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Runner {
    pub run: String,
    pub verb: Verb,
    pub by: String,
    /// Full id of the commit; empty in a file of an older program.
    #[serde(default)]
    pub commit: String,
    process: Process,
}

/// The file of a living run. Dropping it removes it; one that a killed run left names a process that lives no more.
pub(super) struct Running(PathBuf);

impl Running {
    /// Best effort: a run that cannot be found can still be cancelled through its host.
    #[expect(clippy::disallowed_methods, reason = "boundary: begin")]
    pub fn begin(repo: &Repo, target: &Target, state: &State) -> Option<Running> {
        let runner = Runner {
            run: state.run.clone(),
            verb: state.verb,
            by: state.by.clone(),
            commit: state.commit.clone(),
            process: Process::this()?,
        };
        sweep(repo, target);
        let folder = folder(repo, target);
        std::fs::create_dir_all(&folder).ok()?;
        let path = folder.join(&state.run);
        let new = folder.join(format!(".{}", state.run));
        std::fs::write(&new, serde_json::to_vec(&runner).ok()?).ok()?;
        crate::boundary::cross("before", || "run at work".to_owned());
        std::fs::rename(&new, &path).ok()?;
        crate::boundary::cross("after", || "run at work".to_owned());
        Some(Running(path))
    }
}

impl Drop for Running {
    #[expect(clippy::disallowed_methods, reason = "boundary: drop")]
    fn drop(&mut self) {
        crate::boundary::cross("before", || "run no longer at work".to_owned());
        let _ = std::fs::remove_file(&self.0);
        crate::boundary::cross("after", || "run no longer at work".to_owned());
    }
}

/// Removes the files of runs whose processes are gone.
#[expect(
    clippy::disallowed_methods,
    reason = "private: files of processes that are gone"
)]
pub(super) fn sweep(repo: &Repo, target: &Target) {
    all(&folder(repo, target))
        .filter(|(_, runner)| !runner.process.lives())
        .for_each(|(path, _)| drop(std::fs::remove_file(path)));
}

fn folder(repo: &Repo, target: &Target) -> PathBuf {
    repo.common_dir().join("nixgate/running").join(target.as_str())
}

fn all(folder: &Path) -> impl Iterator<Item = (PathBuf, Runner)> + use<> {
    let entries = std::fs::read_dir(folder).ok();
    entries.into_iter().flatten().flatten().filter_map(|entry| {
        let runner = serde_json::from_slice(&std::fs::read(entry.path()).ok()?).ok()?;
        Some((entry.path(), runner))
    })
}

/// The runs of this target that are at work on this machine.
pub(super) fn living(repo: &Repo, target: &Target) -> impl Iterator<Item = (Runner, Process)> + use<> {
    all(&folder(repo, target))
        .map(|(_, runner)| runner)
        .filter(|runner| runner.process.lives())
        .map(|runner| (runner.clone(), runner.process))
}

/// Of several the one that began last.
pub(super) fn here(repo: &Repo, target: &Target) -> Option<(Runner, Process)> {
    living(repo, target).max_by(|(a, _), (b, _)| a.run.cmp(&b.run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_again_and_a_number_that_was_given_anew_is_not_it() {
        let this = Process::this().expect("Linux");
        assert!(this.lives());
        for other in [
            Process {
                started: this.started + 1,
                ..this.clone()
            },
            Process {
                boot: "another".into(),
                ..this.clone()
            },
            Process {
                pid: i32::MAX,
                ..this
            },
        ] {
            assert!(!other.lives(), "{other:?}");
        }
    }
}
