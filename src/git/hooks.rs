//! Where git looks for hooks.

use std::path::PathBuf;

use super::repo::Repo;
use crate::failure::Failure;

/// The directory of the hooks that git runs here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookDir {
    pub path: PathBuf,
    /// It lies outside this repository, so other repositories run its hooks too.
    pub shared: bool,
}

impl Repo {
    /// As git itself finds it: `core.hooksPath`, relative or absolute, linked work trees.
    pub fn hook_dir(&self) -> Result<HookDir, Failure> {
        let args = ["rev-parse", "--path-format=absolute", "--git-path", "hooks"];
        let output = self
            .program
            .need("git does not say where its hooks are", &args, b"")?;
        let path = PathBuf::from(output.text().trim_end_matches('\n'));
        let inside = |dir: Option<&std::path::Path>| dir.is_some_and(|dir| path.starts_with(dir));
        let shared =
            !(inside(Some(self.common_dir())) || inside(Some(self.git_dir())) || inside(self.work_tree()));
        Ok(HookDir { path, shared })
    }

    /// The git program's version.
    pub fn git_version(&self) -> Result<(u32, u32), Failure> {
        let output = self
            .program
            .need("git does not say its version", &["--version"], b"")?;
        let text = output.text();
        let mut numbers = text
            .split(|c: char| !c.is_ascii_digit())
            .filter(|n| !n.is_empty());
        let mut next = || numbers.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        Ok((next(), next()))
    }
}
