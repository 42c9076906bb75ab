//! The `git` program, and the programs that sign for it. Every call has a deadline, no prompt, one language, and no way
//! for the user's configuration to change what is asked for; what it printed last stays in the error.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::config::Config;
use crate::boundary;
use crate::failure::{Failure, Reason, last_lines};

/// How long a call that stays on this machine may take.
pub const LOCAL: Duration = Duration::from_secs(60);
/// How long a call that talks to a remote may take.
pub const NETWORK: Duration = Duration::from_secs(120);
/// How many of a program's last lines are kept.
pub const TAIL: usize = 8;

/// Configuration that would change what a call means, set to what it has to be. No hook but `pre-push` matters to what
/// is run here; a file-system monitor is a program that a repository's configuration could name.
const CONFIG: [&str; 17] = [
    "core.fsmonitor=false",
    "core.fsync=committed,reference",
    "core.fsyncMethod=fsync",
    "core.quotePath=false",
    "color.ui=false",
    "fetch.writeCommitGraph=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "log.showSignature=false",
    "push.followTags=false",
    "push.gpgSign=false",
    "push.negotiate=false",
    "push.recurseSubmodules=no",
    "submodule.recurse=false",
    "tag.gpgSign=false",
    "advice.pushUpdateRejected=false",
    "i18n.logOutputEncoding=UTF-8",
];

/// What a finished program left.
#[derive(Debug, Clone)]
pub struct Output {
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The last lines of what it complained about, hints left out.
    pub fn lines(&self) -> Vec<String> {
        let text = self.error_text();
        let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("hint:")).collect();
        last_lines(&kept.join("\n"), TAIL)
            .iter()
            .map(|line| crate::record::text::shown(line))
            .collect()
    }
}

/// Why a program gave no output.
#[derive(Debug, Clone)]
pub enum Broken {
    /// It could not be started.
    Start(String),
    /// It was ended at its deadline.
    Late(Duration),
}

impl Broken {
    pub fn failure(&self, what: &str) -> Failure {
        match self {
            Broken::Start(why) => {
                Failure::failed(Reason::Internal, format!("{what}: git could not be started"))
                    .why(why.clone())
                    .next("install git, or put it on PATH")
            }
            Broken::Late(after) => Failure::failed(
                Reason::Timeout,
                format!("{what}: no end after {} s", after.as_secs()),
            ),
        }
    }
}

/// The file of this program, where it is `git-nixgate` and no test of it.
static OWN: OnceLock<PathBuf> = OnceLock::new();

/// Says that this process is `git-nixgate`: the hooks of our own pushes are told its file, so that they find the one that
/// runs, also where none is on PATH.
pub fn announce() {
    if let Some(own) = std::env::current_exe().ok().filter(|own| own.is_file()) {
        let _ = OWN.set(own);
    }
}

/// The file of this program; `None` in a test of it.
pub fn own() -> Option<&'static Path> {
    OWN.get().map(PathBuf::as_path)
}

/// How git is called for one repository.
#[derive(Debug, Clone)]
pub struct Program {
    git_dir: Option<PathBuf>,
    work_tree: Option<PathBuf>,
    cwd: PathBuf,
    /// The ssh command for remotes, once it is known: `None` is the user's own.
    ssh: Arc<OnceLock<Option<String>>>,
    /// Where the connections to a remote are shared between calls.
    shared: Arc<OnceLock<PathBuf>>,
    /// The configuration as it was read, until a call changes it.
    config: Arc<Mutex<Option<Arc<Config>>>>,
}

/// ssh that never asks and whose silence ends.
const SSH: &str =
    "ssh -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=5 -o ServerAliveCountMax=3";
/// Seconds that a shared connection outlives its last call: asking, asking again and pushing follow each other quickly,
/// and after a longer pause a new one is no loss.
const PERSIST: u32 = 3;

impl Program {
    /// For a repository: no discovery by the program itself, so that it sees the same one.
    pub fn new(git_dir: PathBuf, work_tree: Option<PathBuf>) -> Self {
        let cwd = work_tree.clone().unwrap_or_else(|| git_dir.clone());
        Program {
            git_dir: Some(git_dir),
            work_tree,
            cwd,
            ssh: Arc::default(),
            shared: Arc::default(),
            config: Arc::default(),
        }
    }

    /// For a directory that may be no repository.
    pub fn outside(cwd: PathBuf) -> Self {
        Program {
            git_dir: None,
            work_tree: None,
            cwd,
            ssh: Arc::default(),
            shared: Arc::default(),
            config: Arc::default(),
        }
    }

    /// The folder that it runs in: relative paths in its configuration are meant from there.
    pub fn cwd(&self) -> &Path {
        &self.cwd
    }

    /// Lets later calls share one connection to each remote, through sockets in `dir`, which is private and stays as long
    /// as the calls last. Only for ssh that nobody configured otherwise.
    pub fn share_connections(&self, dir: &Path) {
        let _ = self.shared.set(dir.to_owned());
    }

    /// The ssh command for a remote; `None` where the user has one of their own.
    fn own_ssh(&self) -> Result<Option<String>, Broken> {
        if let Some(known) = self.ssh.get() {
            return Ok(known.clone());
        }
        let foreign = std::env::var_os("GIT_SSH_COMMAND").is_some()
            || std::env::var_os("GIT_SSH").is_some()
            // core.sshCommand loses against the variable, so it is looked at first.
            || self.config()?.is_ok_and(|config| config.get("core.sshCommand").is_some());
        let command = (!foreign).then(|| match self.shared.get() {
            None => SSH.to_owned(),
            // The letter keeps these sockets apart from those of hosts: a remote may be on one of them.
            Some(dir) => {
                let path = format!("ControlPath={}/g%C", dir.display());
                let path = shlex::try_quote(&path).unwrap_or_default().into_owned();
                format!("{SSH} -o ControlMaster=auto -o ControlPersist={PERSIST} -o {path}")
            }
        });
        Ok(self.ssh.get_or_init(|| command).clone())
    }

    /// The configuration as git itself sees it here, `-c` and environment included; asked for once. Inside: what git
    /// said where it could not read it.
    pub fn config(&self) -> Result<Result<Arc<Config>, Output>, Broken> {
        let mut known = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = known.as_ref() {
            return Ok(Ok(Arc::clone(config)));
        }
        let output = run(
            self.command(&["config", "--list", "-z"].map(Into::into)),
            b"",
            LOCAL,
        )?;
        if !output.ok() {
            return Ok(Err(output));
        }
        let config = Arc::new(Config::parse(&output.stdout));
        *known = Some(Arc::clone(&config));
        Ok(Ok(config))
    }

    fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut set: Vec<(OsString, OsString)> = vec![
            ("GIT_NO_REPLACE_OBJECTS".into(), "1".into()),
            ("GIT_GRAFT_FILE".into(), "/dev/null".into()),
            ("GIT_OPTIONAL_LOCKS".into(), "0".into()),
            ("GIT_TERMINAL_PROMPT".into(), "0".into()),
            ("GIT_ADVICE".into(), "0".into()),
            ("GIT_PAGER".into(), "cat".into()),
            ("LC_ALL".into(), "C".into()),
            ("LANGUAGE".into(), "C".into()),
        ];
        if let Some(dir) = &self.git_dir {
            set.push(("GIT_DIR".into(), dir.into()));
        }
        if let Some(dir) = &self.work_tree {
            set.push(("GIT_WORK_TREE".into(), dir.into()));
        }
        set
    }

    #[expect(clippy::disallowed_methods, reason = "boundary: run, talk")]
    fn command(&self, args: &[OsString]) -> Command {
        let mut command = Command::new("git");
        command
            .current_dir(&self.cwd)
            // A key pressed at the terminal is for the run to judge: half a transaction helps nobody.
            .process_group(0)
            .env_remove("GIT_INDEX_FILE")
            .env_remove("GIT_TRACE")
            .envs(self.environment());
        // What is asked for as configuration is the user's own.
        if args.first().is_none_or(|verb| verb != "config") {
            for pair in CONFIG {
                command.args(["-c", pair]);
            }
        }
        command.args(args);
        command
    }

    /// Runs git to its end.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S], stdin: &[u8]) -> Result<Output, Broken> {
        let args: Vec<OsString> = args.iter().map(|a| a.as_ref().to_owned()).collect();
        if !writes(&args) {
            return run(self.command(&args), stdin, LOCAL);
        }
        boundary::cross("before", || named(&args));
        let output = run(self.command(&args), stdin, LOCAL);
        if args.first().is_some_and(|verb| verb == "config") {
            *self.config.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        boundary::cross("after", || named(&args));
        output
    }

    /// Runs git and takes anything but success as a failure, named by `what`.
    pub fn need<S: AsRef<OsStr>>(&self, what: &str, args: &[S], stdin: &[u8]) -> Result<Output, Failure> {
        let output = self.run(args, stdin).map_err(|broken| broken.failure(what))?;
        if output.ok() {
            Ok(output)
        } else {
            Err(failed(what, &output))
        }
    }

    /// Asks a remote something for who has nothing else to do: a hook.
    pub fn ask<S: AsRef<OsStr>>(&self, args: &[S], limit: Duration) -> Result<Output, Broken> {
        let args: Vec<OsString> = args.iter().map(|a| a.as_ref().to_owned()).collect();
        let mut command = self.command(&args);
        if let Some(ssh) = self.own_ssh()? {
            command.env("GIT_SSH_COMMAND", ssh);
        }
        run(command, b"", limit)
    }

    /// Runs git where it talks to a remote. `ssh` is the command to use for ssh; without it the user's own, or ssh that
    /// never asks.
    pub async fn talk<S: AsRef<OsStr>>(
        &self,
        args: &[S],
        ssh: Option<&str>,
        limit: Duration,
    ) -> Result<Output, Broken> {
        let args: Vec<OsString> = args.iter().map(|a| a.as_ref().to_owned()).collect();
        let mut command = self.command(&args);
        if let Some(ssh) = ssh {
            command.env("GIT_SSH_COMMAND", ssh).env_remove("GIT_SSH");
        } else if let Some(ssh) = self.own_ssh()? {
            command.env("GIT_SSH_COMMAND", ssh);
        }
        if let Some(own) = own() {
            command.env("NIXGATE_PROGRAM", own);
        }
        boundary::cross("before", || named(&args));
        let output = talk(command, limit).await;
        boundary::cross("after", || named(&args));
        output
    }
}

/// Whether a call may change something in the repository; one that is not known to read does.
fn writes(args: &[OsString]) -> bool {
    const READ: [&str; 11] = [
        "--version",
        "cat-file",
        "check-ref-format",
        "diff",
        "for-each-ref",
        "log",
        "merge-base",
        "rev-list",
        "rev-parse",
        "status",
        "var",
    ];
    let word = |at: usize| args.get(at).and_then(|word| word.to_str()).unwrap_or_default();
    let lists = matches!(
        (word(0), word(1)),
        ("remote", "get-url") | ("worktree", "list") | ("config", "--get")
    );
    !(lists || READ.contains(&word(0)))
}

fn named(args: &[OsString]) -> String {
    let words = args
        .iter()
        .filter_map(|arg| arg.to_str())
        .filter(|arg| !arg.starts_with('-'));
    format!("git {}", words.take(2).collect::<Vec<_>>().join(" "))
}

/// The failure of a program that ended with an error.
pub fn failed(what: &str, output: &Output) -> Failure {
    let mut failure = Failure::failed(Reason::Internal, what.to_owned());
    failure.why = output.lines();
    if failure.why.is_empty() {
        failure.why.push(match output.code {
            Some(code) => format!("git ended with {code} and said nothing"),
            None => "git was killed".to_owned(),
        });
    }
    failure
}

/// Runs any program to its end or to its deadline.
pub fn run(mut command: Command, stdin: &[u8], limit: Duration) -> Result<Output, Broken> {
    let start = |e: std::io::Error| Broken::Start(e.to_string());
    command.stdin(if stdin.is_empty() {
        Stdio::null()
    } else {
        Stdio::piped()
    });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(start)?;
    let (input, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let until = Instant::now() + limit;
    // Readers are threads of their own and not scoped: a grandchild that keeps the pipe open must not hold us.
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.read_to_end(&mut bytes);
            }
            let _ = send.send(bytes);
        });
        receive
    };
    let out = read(out.map(|p| Box::new(p) as Box<dyn Read + Send>));
    let err = read(err.map(|p| Box::new(p) as Box<dyn Read + Send>));
    if let Some(mut input) = input {
        let bytes = stdin.to_vec();
        std::thread::spawn(move || {
            let _ = input.write_all(&bytes);
        });
    }
    let mut stdout = None;
    let mut stderr = None;
    let mut left: Option<(Option<i32>, Instant)> = None;
    loop {
        // Output usually ends with the program, so waiting for it needs no polling in the common case.
        let pause = Duration::from_millis(if stdout.is_some() && stderr.is_some() {
            1
        } else {
            20
        });
        if stdout.is_none() {
            stdout = out.recv_timeout(pause).ok();
        } else if stderr.is_none() {
            stderr = err.recv_timeout(pause).ok();
        } else if left.is_none() {
            std::thread::sleep(pause);
        }
        if left.is_none() {
            left = child
                .try_wait()
                .map_err(start)?
                .map(|status| (status.code(), Instant::now() + GRACE));
        }
        match left {
            Some((code, end)) if (stdout.is_some() && stderr.is_some()) || Instant::now() >= end => {
                let (stdout, stderr) = (stdout.unwrap_or_default(), stderr.unwrap_or_default());
                return Ok(Output { code, stdout, stderr });
            }
            None if Instant::now() >= until => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Broken::Late(limit));
            }
            _ => {}
        }
    }
}

/// How long a program's output is waited for after its end: what it left in the background (a credential cache, an ssh
/// master) may hold the pipe for ever.
const GRACE: Duration = Duration::from_secs(1);

async fn talk(command: Command, limit: Duration) -> Result<Output, Broken> {
    use tokio::io::{AsyncRead, AsyncReadExt};
    async fn read(pipe: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) {
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(into).await;
        }
    }
    let start = |e: std::io::Error| Broken::Start(e.to_string());
    let mut command = tokio::process::Command::from(command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(start)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let work = async {
        let mut reading = std::pin::pin!(async {
            tokio::join!(read(out, &mut stdout), read(err, &mut stderr));
        });
        // Both pipes are read while the program runs, or it would stop at a full one.
        let mut all = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.map_err(start)?,
                () = &mut reading, if !all => all = true,
            }
        };
        if !all {
            let _ = tokio::time::timeout(GRACE, reading).await;
        }
        Ok(status.code())
    };
    match tokio::time::timeout(limit, work).await {
        Ok(code) => Ok(Output {
            code: code?,
            stdout,
            stderr,
        }),
        Err(_) => Err(Broken::Late(limit)),
    }
}

/// A path that git can be told: absolute, and without the `..` that a linked work tree's paths have.
pub fn absolute(path: &Path) -> PathBuf {
    std::fs::canonicalize(path)
        .or_else(|_| std::path::absolute(path))
        .unwrap_or_else(|_| path.to_owned())
}
