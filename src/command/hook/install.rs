//! `hook install`: the shims that git runs, put where git looks for them.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Reason};
use crate::git::{Repo, is_ours, program};

const PRE_PUSH: &str = include_str!("../../../hooks/pre-push");
const PRE_RECEIVE: &str = include_str!("../../../hooks/pre-receive");
const TRANSACTION: &str = include_str!("../../../hooks/reference-transaction");
/// The line of a shim that names the program for where none is on PATH.
const RECORDED: &str = "recorded=''\n";

/// What `hook install` found and did about one hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Installed {
    /// The hook is new.
    New { path: PathBuf, shared: bool },
    /// An older version of ours was replaced.
    Renewed { path: PathBuf, shared: bool },
    /// It was there already.
    Already { path: PathBuf, shared: bool },
    /// Somebody else's hook is there. Nothing was touched; these lines say what to do by hand.
    Foreign {
        path: PathBuf,
        shared: bool,
        by_hand: Vec<String>,
    },
    /// It is not for this repository.
    LeftOut { path: PathBuf, why: &'static str },
}

/// Installs the client's hook, or the server's. A hook that is not ours is never overwritten, moved or edited.
pub fn install(repo: &Repo, server: bool) -> Result<Vec<Installed>, Failure> {
    let hooks: &[(&str, &str)] = match server {
        true => &[
            ("pre-receive", PRE_RECEIVE),
            ("reference-transaction", TRANSACTION),
        ],
        false => &[("pre-push", PRE_PUSH)],
    };
    let dir = repo.hook_dir()?;
    let recorded = recorded();
    let one = |(name, shim): &(&str, &str)| {
        let path = dir.path.join(name);
        if *name == "reference-transaction" && !repo.is_bare() {
            let why = "this repository has a work tree, and what it fetches itself comes ref by ref";
            return Ok(Installed::LeftOut { path, why });
        }
        let shim = match &recorded {
            Some(path) => shim.replacen(RECORDED, &format!("recorded={path}\n"), 1),
            None => (*shim).to_owned(),
        };
        put(repo, &path, dir.shared, &shim)
    };
    hooks.iter().map(one).collect()
}

/// Where this program is, quoted for a shell: by the name that lasts, which is no store path where another leads to it.
fn recorded() -> Option<String> {
    let own = program::own()?;
    let is_own = |path: &PathBuf| {
        let real = path.canonicalize();
        real.is_ok_and(|real| own.canonicalize().is_ok_and(|own| own == real))
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join("git-nixgate"));
    let called = std::env::args_os().next().map(PathBuf::from);
    let found = on_path
        .chain(called)
        .find(|path| path.is_absolute() && is_own(path));
    let found = found.unwrap_or_else(|| own.to_owned());
    shlex::try_quote(found.to_str()?).ok().map(Into::into)
}

fn put(repo: &Repo, path: &Path, shared: bool, shim: &str) -> Result<Installed, Failure> {
    let path = path.to_owned();
    let before = match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !path.is_symlink() => None,
        Err(error) => return Err(cannot(&path, &error)),
    };
    match before {
        Some(bytes) if bytes == shim.as_bytes() && is_executable(&path) => {
            Ok(Installed::Already { path, shared })
        }
        Some(bytes) if is_ours(&bytes) => {
            write(&path, shim, true)?;
            Ok(Installed::Renewed { path, shared })
        }
        Some(_) => {
            let by_hand = by_hand(repo, &path);
            Ok(Installed::Foreign {
                path,
                shared,
                by_hand,
            })
        }
        None => {
            write(&path, shim, false)?;
            Ok(Installed::New { path, shared })
        }
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o111 == 0o111)
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(Reason::Hook, format!("{} cannot be installed", path.display())).why(error.to_string())
}

/// Whole or not at all, and never over a file that appeared meanwhile.
#[expect(clippy::disallowed_methods, reason = "no run: installs a hook")]
fn write(path: &Path, shim: &str, replace: bool) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    let cannot = |error: std::io::Error| cannot(path, &error);
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).map_err(cannot)?;
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(cannot)?;
    file.write_all(shim.as_bytes()).map_err(cannot)?;
    file.as_file()
        .set_permissions(std::fs::Permissions::from_mode(0o755))
        .map_err(cannot)?;
    file.as_file().sync_all().map_err(cannot)?;
    let done = if replace {
        file.persist(path)
    } else {
        file.persist_noclobber(path)
    };
    done.map(|_| ()).map_err(|e| cannot(e.error))
}

fn by_hand(repo: &Repo, path: &Path) -> Vec<String> {
    let shown = path.display();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let flag = if name == "pre-push" { "" } else { " --server" };
    let mut lines = vec![
        format!("let ours call yours: mv {shown} {shown}.chained && git nixgate hook install{flag}"),
        format!("or call ours from yours, with the same input: git-nixgate hook {name} \"$@\" || exit"),
    ];
    if repo.git_version().is_ok_and(|version| version >= (2, 54)) {
        lines.push(format!(
            "or beside it: git config hook.nixgate.event {name} && git config hook.nixgate.command 'git-nixgate hook {name}'"
        ));
    }
    lines
}
