//! Whether a path leads into a work tree of this repository: what is pulled can change it, so no trust is read from there.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::repo::Repo;

/// How many symbolic links a path may have: as the kernel, path_resolution(7).
const LINKS: u32 = 40;

impl Repo {
    /// Whether a path lies in a work tree of this repository, a linked one too, or leads through one by symbolic links.
    /// Git's own folder is none.
    pub(super) fn leads_into_a_work_tree(&self, path: &Path) -> bool {
        let real = |dir: &Path| dir.canonicalize().ok();
        let own: Vec<PathBuf> = [self.git_dir(), self.common_dir()]
            .into_iter()
            .filter_map(real)
            .collect();
        let listed = || self.work_trees().iter().filter_map(|tree| real(tree)).collect();
        let trees: &Vec<PathBuf> = self.trees.get_or_init(listed);
        // The top itself is not for a commit to bend.
        let inside = |path: &Path| {
            trees.iter().any(|tree| path.starts_with(tree) && path != tree)
                && !own.iter().any(|dir| path.starts_with(dir))
        };
        passes(path, &inside)
    }

    fn work_trees(&self) -> Vec<PathBuf> {
        let mut trees: Vec<PathBuf> = self.work_tree().map(Path::to_owned).into_iter().collect();
        let args = ["worktree", "list", "--porcelain", "-z"];
        let output = self.program.run(&args, b"").ok().filter(|output| output.ok());
        let stdout = output.map(|output| output.stdout).unwrap_or_default();
        let mut last = None;
        for line in stdout.split(|b| *b == 0) {
            if let Some(path) = line.strip_prefix(b"worktree ") {
                trees.extend(last.replace(PathBuf::from(OsStr::from_bytes(path))));
            } else if line == b"bare" {
                last = None;
            }
        }
        trees.extend(last);
        trees
    }

    /// Why what git's configuration names under `key` is no ground for trust: it is in a work tree. A program that is
    /// found on PATH is in none.
    pub(super) fn pulled(&self, key: &str) -> Option<String> {
        let config = self.config().ok()?;
        let named = config.get(key)?;
        if named.is_empty() || (key.ends_with(".program") && !named.contains('/')) {
            return None;
        }
        let path = self.named_path(key, named)?;
        self.leads_into_a_work_tree(&path).then(|| {
            format!(
                "{key} is {named}, in a work tree, where a pulled commit can change it: git config {key} /etc/nixgate/{}",
                path.file_name().unwrap_or_default().to_string_lossy()
            )
        })
    }

    /// The path that git's configuration names, as git reads it there.
    pub(super) fn named_path(&self, key: &str, named: &str) -> Option<PathBuf> {
        // A home, a prefix or a mark before it is git's to read.
        let path = match named.starts_with(['~', '%', ':']) {
            true => {
                let args = ["config", "--get", "--type=path", "-z", key];
                let output = self.program.run(&args, b"").ok().filter(|output| output.ok())?;
                PathBuf::from(OsStr::from_bytes(output.stdout.strip_suffix(b"\0")?))
            }
            false => PathBuf::from(named),
        };
        // An absolute one stays as it is.
        Some(self.program.cwd().join(path))
    }
}

/// Walks an absolute path as the kernel does, and says whether it is anywhere `inside` on its way.
fn passes(path: &Path, inside: &dyn Fn(&Path) -> bool) -> bool {
    let words =
        |path: &Path| -> Vec<OsString> { path.components().map(|c| c.as_os_str().to_owned()).collect() };
    let mut rest: VecDeque<OsString> = words(path).into();
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    while let Some(word) = rest.pop_front() {
        match Path::new(&word).components().next() {
            Some(Component::RootDir) => at = PathBuf::from("/"),
            Some(Component::ParentDir) => {
                at.pop();
            }
            Some(Component::Normal(name)) => {
                let next = at.join(name);
                if inside(&next) {
                    return true;
                }
                match std::fs::read_link(&next) {
                    Ok(target) if links < LINKS => {
                        links += 1;
                        words(&target)
                            .into_iter()
                            .rev()
                            .for_each(|word| rest.push_front(word));
                    }
                    // What goes in circles is no file.
                    Ok(_) => return true,
                    Err(_) => at = next,
                }
            }
            _ => {}
        }
    }
    false
}
