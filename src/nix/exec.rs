//! Running one program somewhere: the trait that the rest of the module is written over, and its local form.

use crate::failure::{Failure, Reason};
use rustix::process::{Pid, Signal, kill_process_group};
use std::future::Future;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// What a program that ran to its end left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// The exit status; 128 + the signal's number if it was killed.
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl ExecOutput {
    pub fn ok(&self) -> bool {
        self.status == 0
    }

    /// stdout as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// stderr as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// Runs one program where the builder or the target is.
///
/// `argv` is never a shell string; an implementation that has to pass it through a login shell quotes it. stdout and
/// stderr are captured, `env` is added to (or is) the environment, no stdin means an empty one. After `deadline` the
/// program is ended and the answer is a [`Failure`] with [`Reason::Timeout`]. An exit status other than 0 is not a
/// failure: whoever asked judges it.
pub trait Exec: Sync {
    /// Whether that is this machine: then what a program would print may be read from files.
    fn is_here(&self) -> bool {
        false
    }

    fn exec(
        &self,
        argv: &[String],
        env: &[(String, String)],
        stdin: Option<Vec<u8>>,
        deadline: Duration,
    ) -> impl Future<Output = Result<ExecOutput, Failure>> + Send;
}

/// Runs programs on this machine, each in a process group of its own that ends with its deadline or with the future
/// that waits for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalExec;

/// How much of one stream is kept. Past twice this the older half goes: what matters is at the end.
const KEPT: usize = 64 << 20;
/// How long a program has to clean up between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// How long output is waited for after the program itself has ended: somebody it left behind (an ssh master that
/// persists) may hold the pipe open for ever.
const DRAIN: Duration = Duration::from_millis(500);
/// git's variables about the repository it was called for; git inside Nix must not see them.
const FOREIGN: [&str; 8] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
];

impl Exec for LocalExec {
    fn is_here(&self) -> bool {
        true
    }

    #[expect(clippy::disallowed_methods, reason = "boundary: exec")]
    async fn exec(
        &self,
        argv: &[String],
        env: &[(String, String)],
        stdin: Option<Vec<u8>>,
        deadline: Duration,
    ) -> Result<ExecOutput, Failure> {
        let Some((program, arguments)) = argv.split_first() else {
            return Err(Failure::failed(Reason::Internal, "no program to run"));
        };
        let mut command = Command::new(program);
        command.args(arguments).envs(env.iter().map(|(k, v)| (k, v)));
        for name in FOREIGN {
            command.env_remove(name);
        }
        command.stdin(if stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        crate::boundary::cross("before", || {
            argv.iter().take(3).cloned().collect::<Vec<_>>().join(" ")
        });
        let child = match command.spawn() {
            Ok(child) => child,
            // As a shell on another host would say it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let text = format!("{program}: command not found\n");
                return Ok(ExecOutput {
                    status: 127,
                    stdout: Vec::new(),
                    stderr: text.into_bytes(),
                });
            }
            Err(error) => return Err(broken(program, &error)),
        };
        let mut group = Group::of(child);
        let stdout = Stream::of(group.child.stdout.take());
        let stderr = Stream::of(group.child.stderr.take());
        let pipe = group.child.stdin.take();
        let feed = async {
            if let (Some(bytes), Some(mut pipe)) = (stdin, pipe) {
                // A program that does not read its input to the end says so by its exit status.
                let _ = pipe.write_all(&bytes).await;
            }
        };
        let ended = tokio::time::timeout(deadline, async { tokio::join!(feed, group.wait()).1 }).await;
        crate::boundary::cross("after", || {
            argv.iter().take(3).cloned().collect::<Vec<_>>().join(" ")
        });
        match ended {
            Ok(Ok(status)) => Ok(ExecOutput {
                status: code(status),
                stdout: stdout.rest().await,
                stderr: stderr.rest().await,
            }),
            Ok(Err(error)) => Err(broken(program, &error)),
            Err(_) => {
                group.end().await;
                let said = String::from_utf8_lossy(&stderr.rest().await).into_owned();
                let what = format!(
                    "{program} did not finish within {} s and was ended",
                    deadline.as_secs()
                );
                Err(Failure::failed(Reason::Timeout, what).tail(&said, 10))
            }
        }
    }
}

fn broken(program: &str, error: &std::io::Error) -> Failure {
    Failure::failed(Reason::Internal, format!("cannot run {program}")).why(error.to_string())
}

fn code(status: std::process::ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|number| 128 + number))
        .unwrap_or(-1)
}

/// A child and everything it started, as long as it stays in the child's process group.
struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Group {
    fn of(child: Child) -> Self {
        let id = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        Group { child, id }
    }

    /// Waits for the child; whatever it left running on purpose is then no longer ours.
    async fn wait(&mut self) -> std::io::Result<std::process::ExitStatus> {
        let status = self.child.wait().await?;
        self.id = None;
        Ok(status)
    }

    #[expect(clippy::disallowed_methods, reason = "private: a child of this process")]
    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // The group may be gone already.
            let _ = kill_process_group(id, signal);
        }
    }

    /// SIGTERM, a moment to clean up, SIGKILL.
    async fn end(&mut self) {
        self.signal(Signal::TERM);
        let _ = tokio::time::timeout(GRACE, self.child.wait()).await;
        self.signal(Signal::KILL);
        let _ = tokio::time::timeout(GRACE, self.child.wait()).await;
        self.id = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// One of the child's streams, read by a task of its own so that a deadline does not lose what was printed.
struct Stream {
    kept: Arc<Mutex<Vec<u8>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Stream {
    fn of(pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&kept);
        let task = tokio::spawn(async move {
            let Some(mut pipe) = pipe else { return };
            let mut chunk = vec![0; 64 << 10];
            while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
                let Ok(mut kept) = into.lock() else { return };
                kept.extend_from_slice(&chunk[..read]);
                if kept.len() > 2 * KEPT {
                    let surplus = kept.len() - KEPT;
                    kept.drain(..surplus);
                }
            }
        });
        Stream { kept, task }
    }

    /// What came, waiting a moment for the end of it.
    async fn rest(mut self) -> Vec<u8> {
        let _ = tokio::time::timeout(DRAIN, &mut self.task).await;
        self.kept
            .lock()
            .map(|mut kept| std::mem::take(&mut *kept))
            .unwrap_or_default()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn run(argv: &[&str], stdin: Option<&[u8]>, deadline: Duration) -> Result<ExecOutput, Failure> {
        let argv: Vec<String> = argv.iter().map(ToString::to_string).collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(LocalExec.exec(&argv, &[], stdin.map(<[u8]>::to_vec), deadline))
    }

    #[test]
    fn both_streams_and_the_status_come_back() {
        let script = "cat; echo err >&2; exit 3";
        let output = run(&["sh", "-c", script], Some(b"in"), Duration::from_secs(5)).unwrap();
        assert_eq!(
            (output.status, output.out(), output.err()),
            (3, "in".into(), "err\n".into())
        );
        let output = run(&["sh", "-c", "kill -9 $$"], None, Duration::from_secs(5)).unwrap();
        assert_eq!(output.status, 137);
    }

    #[test]
    fn a_program_that_is_not_there_is_status_127() {
        let output = run(&["nixgate-no-such-program"], None, Duration::from_secs(5)).unwrap();
        assert_eq!(output.status, 127);
    }

    #[test]
    fn the_deadline_ends_the_whole_group_and_keeps_the_last_lines() {
        let begun = Instant::now();
        let file = tempfile::NamedTempFile::new().unwrap();
        let script = "echo before >&2; (sleep 4; echo late >> $0) & wait";
        let path = file.path().to_str().unwrap();
        let failure = run(&["sh", "-c", script, path], None, Duration::from_millis(300)).unwrap_err();
        assert_eq!(failure.reason, Reason::Timeout);
        assert_eq!(failure.why, ["before"]);
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        std::thread::sleep(Duration::from_millis(4200).saturating_sub(begun.elapsed()));
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "");
    }

    #[test]
    fn a_pipe_that_somebody_keeps_open_does_not_hold_us() {
        let begun = Instant::now();
        let output = run(
            &["sh", "-c", "echo out; sleep 4 & exit 0"],
            None,
            Duration::from_secs(9),
        )
        .unwrap();
        assert_eq!(output.out(), "out\n");
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
}
