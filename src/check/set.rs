//! The checks of one commit, with the files that they run. Whatever makes checks wants one of these, and programs are in it
//! only if a person released the commit.

use std::path::Path;

use super::{Files, only_there};
use crate::config::{self, Check, From, Probe, Problem, Settings};
use crate::failure::Failure;
use crate::git::{Released, Repo};
use crate::record::Target;

/// What is checked on a host.
#[derive(Debug, Clone, Default)]
pub struct CheckSet {
    pub(super) checks: Vec<Check>,
    pub(super) files: Files,
}

/// What a released commit says of a target.
pub struct OfCommit {
    pub settings: Settings,
    pub checks: CheckSet,
    /// What its file has that this version does not know.
    pub problems: Vec<Problem>,
}

impl CheckSet {
    /// For runs that look at services only.
    pub const NONE: CheckSet = CheckSet {
        checks: Vec::new(),
        files: Files::new(),
    };

    /// Of a commit that a person released. `None`: its file does not name the target.
    ///
    /// # Errors
    /// The commit cannot be read.
    pub fn released(repo: &Repo, released: &Released, target: &Target) -> Result<Option<OfCommit>, Failure> {
        let commit = &released.commit().id;
        let Some(bytes) = repo.read_file(commit, Path::new(config::FILE))? else {
            return Ok(None);
        };
        let (mut config, problems) = config::parse_leniently(&String::from_utf8_lossy(&bytes));
        let Some(settings) = config.targets.remove(target) else {
            return Ok(None);
        };
        let mut files = Files::new();
        for check in &settings.checks {
            let Probe::Run(argv) = &check.probe else { continue };
            let Some(first) = argv.first() else { continue };
            if first.contains('/')
                && !first.starts_with('/')
                && let Some(bytes) = repo.read_file(commit, Path::new(first.trim_start_matches("./")))?
            {
                files.insert(first.clone(), bytes);
            }
        }
        let checks = settings.checks.clone();
        Ok(Some(OfCommit {
            settings,
            checks: CheckSet { checks, files },
            problems,
        }))
    }

    /// Of a file that nobody released, and the names of what is left out of it: units, URLs, names and addresses may be
    /// asked, but no program of it runs.
    pub fn unreleased(checks: &[Check]) -> (CheckSet, Vec<String>) {
        let is_run = |check: &&Check| matches!(check.probe, Probe::Run(_));
        let (runs, others): (Vec<&Check>, Vec<&Check>) = checks.iter().partition(is_run);
        let set = CheckSet {
            checks: others.into_iter().cloned().collect(),
            files: Files::new(),
        };
        (set, runs.into_iter().map(Check::name).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.checks.is_empty()
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter()
    }

    /// The content of the file of the commit that a program's first word names.
    pub fn file(&self, argv: &[String]) -> Option<&[u8]> {
        self.files.get(argv.first()?).map(Vec::as_slice)
    }

    /// The checks that are made from the target, with their place in the set.
    pub fn on_target(&self) -> impl Iterator<Item = (usize, &Check)> {
        let there = |check: &Check| check.from == From::Target || only_there(&check.probe);
        self.checks.iter().enumerate().filter(move |(_, c)| there(c))
    }

    /// The checks that are made from the operator's machine, with their place in the set.
    pub fn on_operator(&self) -> impl Iterator<Item = (usize, &Check)> {
        let here = |check: &Check| check.from == From::Operator && !only_there(&check.probe);
        self.checks.iter().enumerate().filter(move |(_, c)| here(c))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn k6_no_program_is_left_in_the_checks_of_a_file_that_nobody_released() {
        let probes = [
            Probe::Run(vec!["./evil".into()]),
            Probe::Unit("sshd.service".into()),
            Probe::Run(vec!["sh".into(), "-c".into(), "touch /tmp/trap".into()]),
            Probe::Http("http://localhost/".into()),
            Probe::Resolve("localhost".into()),
            Probe::Ping("localhost".into()),
        ];
        for from in [From::Target, From::Operator] {
            let checks = probes.clone().map(|probe| Check {
                probe,
                from,
                timeout: Duration::from_secs(5),
                before: 0,
            });
            let (set, left) = CheckSet::unreleased(&checks);
            assert_eq!(left, ["run ./evil", "run sh"]);
            assert_eq!(set.iter().count(), 4);
            let script = super::super::script(&[], &set, Duration::from_secs(5));
            assert!(!script.contains("evil") && !script.contains("trap"), "{script}");
            let here = set
                .on_operator()
                .all(|(_, check)| !matches!(check.probe, Probe::Run(_)));
            assert!(here);
        }
    }
}
