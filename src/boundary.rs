//! The points at which a run can be cut off: before and after everything that it does outside of this process. For the
//! crash trials of debug builds; in a release build there is nothing here.
//!
//! Whatever starts a program that may change something (a script on a host, git, nix) or writes a ref crosses here; what
//! only reads is left out, because a run that dies after a look is a run that dies before its next step. That no place is
//! forgotten is clippy's to see: what reaches out of the process is disallowed (clippy.toml) but where an `expect` says
//! why, and an `expect` that says "boundary" is held against the code by tests/boundaries.rs.
//!
//! `NIXGATE_BOUNDARY=list:FILE`, `kill:AT:FILE` and `wait:AT:FILE` write each crossing's name into FILE; at the AT-th one,
//! or where AT is no number at the first whose line contains all that stands between its `*`, `kill` ends the process with
//! SIGKILL, and `wait` makes FILE.waiting and goes on when that is gone.

/// Crosses a boundary.
#[cfg(not(debug_assertions))]
#[inline]
pub fn cross(_when: &str, _what: impl FnOnce() -> String) {}

#[cfg(debug_assertions)]
pub use on::cross;

#[cfg(debug_assertions)]
mod on {
    use std::io::Write;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    enum At {
        Number(u64),
        Name(String),
    }

    struct Plan {
        verb: String,
        at: At,
        file: PathBuf,
    }

    fn plan() -> Option<&'static Plan> {
        static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
        let read = || {
            let text = std::env::var("NIXGATE_BOUNDARY").ok()?;
            let (verb, rest) = text.split_once(':')?;
            let (at, file) = match verb {
                "list" => ("0", rest),
                _ => rest.rsplit_once(':')?,
            };
            Some(Plan {
                verb: verb.to_owned(),
                at: at.parse().map_or_else(|_| At::Name(at.to_owned()), At::Number),
                file: file.into(),
            })
        };
        PLAN.get_or_init(read).as_ref()
    }

    /// Crosses a boundary: `when` is "before" or "after", `what` names the act.
    #[expect(clippy::disallowed_methods, reason = "private: for trials")]
    pub fn cross(when: &str, what: impl FnOnce() -> String) {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        static DONE: AtomicBool = AtomicBool::new(false);
        let Some(plan) = plan() else { return };
        let number = COUNT.fetch_add(1, Ordering::SeqCst) + 1;
        let line = format!("{number} {when} {}\n", what().replace('\n', " "));
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&plan.file);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
        let here = match &plan.at {
            At::Number(at) => number == *at,
            At::Name(name) => name.split('*').all(|part| line.contains(part)),
        };
        if !here || DONE.swap(true, Ordering::SeqCst) {
            return;
        }
        if plan.verb == "kill" {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        } else {
            let waiting = plan.file.with_extension("waiting");
            let _ = std::fs::write(&waiting, b"");
            while waiting.exists() {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}
