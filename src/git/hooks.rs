//! Where git looks for hooks.

use std::path::PathBuf;

use super::repo::Repo;
use crate::failure::Failure;

/// Every version of our shims has this in its second line.
pub const HOOK_MARK: &str = "# git-nixgate hook: ";

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

    /// The `pre-push` hook of the user's own that runs in every push: one that is not ours, or the one that ours calls.
    pub fn other_pre_push(&self) -> Option<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let runs = |path: &PathBuf| {
            std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        };
        let own = self.hook_dir().ok()?.path.join("pre-push");
        let text = std::fs::read(&own).ok().filter(|_| runs(&own))?;
        let other = match is_ours(&text) {
            true => own.with_extension("chained"),
            false => own,
        };
        runs(&other).then_some(other)
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

/// Whether a hook is a shim of ours, of any version.
pub fn is_ours(hook: &[u8]) -> bool {
    String::from_utf8_lossy(hook)
        .lines()
        .nth(1)
        .is_some_and(|line| line.starts_with(HOOK_MARK))
}
