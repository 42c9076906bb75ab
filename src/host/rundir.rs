//! The private directory of one run: control sockets and ssh's messages.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

const PREFIX: &str = "nixgate-";
/// A socket that answers while the run that owns the directory lives.
const ALIVE: &str = "alive";
/// A Unix socket's name has 108 bytes on Linux and 104 on macOS. ssh adds 17 while it binds, and the name itself is the
/// 40 digits of `%C`.
const LONGEST: usize = 104 - 17 - 40 - 2;

/// A directory with mode 0700 and a short path, removed when dropped.
#[derive(Debug)]
pub struct RunDir {
    dir: TempDir,
    _alive: UnixListener,
}

impl RunDir {
    /// Makes one in `$XDG_RUNTIME_DIR` if its path is short enough, else in `/tmp`, and removes those which dead
    /// runs of this user left there.
    ///
    /// # Errors
    /// When neither place takes a directory.
    pub fn new() -> io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let usable = |dir: &PathBuf| dir.is_absolute() && dir.as_os_str().len() + PREFIX.len() + 8 <= LONGEST;
        if let Some(parent) = runtime.filter(usable)
            && let Ok(dir) = Self::in_parent(&parent)
        {
            return Ok(dir);
        }
        Self::in_parent(Path::new("/tmp"))
    }

    #[expect(clippy::disallowed_methods, reason = "private: a folder of this process")]
    fn in_parent(parent: &Path) -> io::Result<Self> {
        let private = std::fs::Permissions::from_mode(0o700);
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .rand_bytes(6)
            .permissions(private)
            .tempdir_in(parent)?;
        // A socket that is bound and does not listen yet refuses, as a dead run's does: it gets its name when it answers.
        let unnamed = dir.path().join("unnamed");
        let alive = UnixListener::bind(&unnamed)?;
        std::fs::rename(unnamed, dir.path().join(ALIVE))?;
        sweep(parent, std::fs::metadata(dir.path())?.uid());
        Ok(RunDir { dir, _alive: alive })
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The value of ssh's `ControlPath` for every host of this run.
    pub fn control_path(&self) -> String {
        format!("{}/%C", self.dir.path().display())
    }

    /// An own subdirectory, made when missing.
    ///
    /// # Errors
    /// What the file system says.
    #[expect(clippy::disallowed_methods, reason = "private: a folder of this process")]
    pub fn sub(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.dir.path().join(name);
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(path),
        }
    }
}

/// Removes directories of dead runs. What cannot be judged stays: the next run tries again.
#[expect(
    clippy::disallowed_methods,
    reason = "private: folders of processes that are gone"
)]
fn sweep(parent: &Path, uid: u32) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let named = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(PREFIX));
        let ours = entry
            .metadata()
            .is_ok_and(|meta| meta.is_dir() && meta.uid() == uid);
        if !(named && ours) {
            continue;
        }
        let dead = match UnixStream::connect(entry.path().join(ALIVE)) {
            Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
            Ok(_) => false,
        };
        if dead {
            // Losing this race to another run is harmless: it wanted the same.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_directory_is_private_short_and_gone_with_its_run() {
        let run = RunDir::new().expect("a directory");
        let path = run.path().to_owned();
        let meta = std::fs::metadata(&path).expect("metadata");
        assert_eq!(meta.mode() & 0o777, 0o700);
        assert!(path.as_os_str().len() <= LONGEST);
        drop(run);
        assert!(!path.exists());
    }

    #[test]
    fn runs_that_begin_at_once_do_not_take_each_other_for_dead() {
        let parent = tempfile::tempdir().expect("parent");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let run = RunDir::in_parent(parent.path()).expect("a directory");
                        assert!(run.path().join(ALIVE).exists());
                    }
                });
            }
        });
    }

    #[test]
    fn directories_of_dead_runs_are_swept_and_living_ones_stay() {
        let parent = tempfile::tempdir().expect("parent");
        let living = RunDir::in_parent(parent.path()).expect("living");
        let dead = parent.path().join("nixgate-dead00");
        std::fs::create_dir(&dead).expect("dead");
        drop(UnixListener::bind(dead.join(ALIVE)).expect("bind"));
        let foreign = parent.path().join("other");
        std::fs::create_dir(&foreign).expect("foreign");
        let second = RunDir::in_parent(parent.path()).expect("second");
        assert!(!dead.exists());
        assert!(foreign.exists() && living.path().exists() && second.path().exists());
    }
}
