//! Real hosts for trials. `Lab::up` starts an instance of its own, dropping it takes it down, also when the test
//! panics; two tests at the same time do not see each other. Standard library only; everything goes through the
//! `lab` script beside this file, which needs root (README.md says what else).
//!
//! ```ignore
//! #[path = "lab/mod.rs"]
//! mod lab;
//!
//! #[test]
//! #[ignore = "needs root and the lab"]
//! fn good_system_is_released() {
//!     let lab = lab::Lab::up("release", &["desk", "forge", "git", "cortex"]);
//!     lab.variant("cortex", "B");
//!     let out = lab.nixgate(&["release", "cortex"]);
//!     assert_eq!(out.status, 0, "{out}");
//! }
//! ```
#![allow(dead_code)] // each test file includes this module and uses its own part of it

use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A running instance of the lab.
pub struct Lab {
    instance: String,
}

/// How a command ended and what it printed. `status` is 128 + n for signal n, as a shell says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub fn ok(&self) -> bool {
        self.status == 0
    }

    /// Standard output without the last line feed; panics with all of the output if the command failed.
    #[track_caller]
    pub fn text(&self) -> &str {
        assert!(self.ok(), "{self}");
        self.stdout.trim_end_matches('\n')
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "exit {}\n--- stdout\n{}--- stderr\n{}",
            self.status, self.stdout, self.stderr
        )
    }
}

/// No command of a trial may wait longer than this; a trial that needs more says so with `sh_within`.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/lab")
}

impl Lab {
    /// Starts these hosts and returns when they are ready. `name` only makes the instance easier to recognise. If
    /// `desk` is among them, the binary under test is on its PATH, so that `git nixgate` works there.
    #[track_caller]
    pub fn up(name: &str, hosts: &[&str]) -> Lab {
        Lab::up_with(name, hosts, "own")
    }

    /// The same with hosts that have the kernel's boot id, as containers do: it does not change when they reboot.
    #[track_caller]
    pub fn up_as_containers(name: &str, hosts: &[&str]) -> Lab {
        Lab::up_with(name, hosts, "shared")
    }

    #[track_caller]
    fn up_with(name: &str, hosts: &[&str], boot_id: &str) -> Lab {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let lab = Lab {
            instance: format!("{name}-{}-{number}", std::process::id()),
        };
        // The first run on a machine makes the caches, which takes a minute or two.
        let mut up = lab.command(&["up", "--hosts", &hosts.join(",")]);
        up.env("NIXGATE_LAB_BOOT_ID", boot_id);
        let out = lab.finish(up, Duration::from_secs(600));
        assert!(out.ok(), "the lab did not come up: {out}");
        if hosts.contains(&"desk")
            && let Some(binary) = option_env!("CARGO_BIN_EXE_git-nixgate")
        {
            lab.put("desk", Path::new(binary), "/usr/local/bin/git-nixgate");
        }
        lab
    }

    /// The value of `NIXGATE_LAB` for looking at this instance by hand.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Runs `cmd` with bash in a host, without a terminal and with nothing on standard input.
    #[track_caller]
    pub fn sh(&self, host: &str, user: &str, cmd: &str) -> Output {
        self.sh_within(host, user, cmd, COMMAND_LIMIT)
    }

    #[track_caller]
    pub fn sh_within(&self, host: &str, user: &str, cmd: &str, limit: Duration) -> Output {
        self.lab_within(&["sh", host, "--user", user, "--", "bash", "-c", cmd], limit)
    }

    /// The binary under test, as `op` on `desk` in the clone of the flake; its environment holds what `lab sh` sets.
    #[track_caller]
    pub fn nixgate(&self, args: &[&str]) -> Output {
        self.nixgate_as("op", args)
    }

    #[track_caller]
    pub fn nixgate_as(&self, user: &str, args: &[&str]) -> Output {
        self.finish(self.nixgate_command(user, args), Duration::from_secs(600))
    }

    /// The same in the background, for trials that cut, kill or race.
    #[track_caller]
    pub fn spawn_nixgate(&self, user: &str, args: &[&str]) -> Spawned {
        Spawned::start(self.nixgate_command(user, args))
    }

    fn nixgate_command(&self, user: &str, args: &[&str]) -> Command {
        let mut command = self.command(&["sh", "desk", "--user", user, "--"]);
        command
            .args([
                "bash",
                "-c",
                "cd ~/infra && exec git nixgate \"$@\"",
                "git-nixgate",
            ])
            .args(args);
        command
    }

    /// A command in a host that goes on while the trial does something else.
    #[track_caller]
    pub fn spawn(&self, host: &str, user: &str, cmd: &str) -> Spawned {
        Spawned::start(self.command(&["sh", host, "--user", user, "--", "bash", "-c", cmd]))
    }

    /// Commits a variant of the fixture as `host`'s description, in op's clone on desk.
    #[track_caller]
    pub fn variant(&self, host: &str, name: &str) {
        self.must(&["variant", host, name]);
    }

    /// The same with values changed: `&["seconds=5"]`.
    #[track_caller]
    pub fn variant_with(&self, host: &str, name: &str, values: &[&str]) {
        self.must(&[&["variant", host, name], values].concat());
    }

    /// Commits the variant, builds it on forge, copies it to the host; the toplevel's store path.
    #[track_caller]
    pub fn closure(&self, host: &str, name: &str) -> String {
        self.must(&["closure", host, name])
    }

    /// Makes a host one of a kind: runs `kinds/<kind>.sh` as its root.
    #[track_caller]
    pub fn kind(&self, host: &str, kind: &str) {
        self.kind_with(host, kind, &[]);
    }

    /// The same with arguments for the script.
    #[track_caller]
    pub fn kind_with(&self, host: &str, kind: &str, args: &[&str]) {
        let said = self.must(&[&["kind", host, kind], args].concat());
        assert_eq!(said, "", "kind {kind} on {host}");
    }

    #[track_caller]
    pub fn cut(&self, host: &str) {
        self.must(&["cut", host]);
    }

    #[track_caller]
    pub fn heal(&self, host: &str) {
        self.must(&["heal", host]);
    }

    #[track_caller]
    pub fn power_cut(&self, host: &str) {
        self.must(&["power-cut", host]);
    }

    /// Returns when the host has booted and, unless its cable is pulled, its sshd answers.
    #[track_caller]
    pub fn power_on(&self, host: &str) {
        self.must(&["power-on", host]);
    }

    /// The same for a host whose boot does not end: returns when its sshd answers.
    #[track_caller]
    pub fn power_on_as_far_as_sshd(&self, host: &str) {
        let mut on = self.command(&["power-on", host]);
        on.env("NIXGATE_LAB_READY", "sshd");
        let out = self.finish(on, COMMAND_LIMIT);
        assert!(out.ok(), "{host} did not come up: {out}");
    }

    /// `systemctl reboot`; returns when the host has booted again.
    #[track_caller]
    pub fn reboot(&self, host: &str) {
        let before = self.must(&["pid", host]);
        self.sh(host, "root", "systemctl reboot");
        let deadline = Instant::now() + COMMAND_LIMIT;
        while self.lab(&["pid", host]).stdout.trim_end() == before || !self.lab(&["pid", host]).ok() {
            assert!(
                Instant::now() < deadline,
                "{host} did not reboot in {COMMAND_LIMIT:?}{}",
                self.hint(host)
            );
            thread::sleep(Duration::from_millis(20));
        }
        self.wait_for(
            host,
            "systemctl is-system-running --wait | grep -qE 'running|degraded'",
            COMMAND_LIMIT,
        );
    }

    /// Copies a file of this machine into a host.
    #[track_caller]
    pub fn put(&self, host: &str, file: &Path, dest: &str) {
        self.must(&["put", host, file.to_str().expect("a path in UTF-8"), dest]);
    }

    /// Asks again and again, as root in the host, until `cmd` succeeds. Some forty looks are one process on this machine:
    /// entering the host costs more than most looks.
    #[track_caller]
    pub fn wait_for(&self, host: &str, cmd: &str, deadline: Duration) {
        let start = Instant::now();
        loop {
            let out = self.looks(host, cmd);
            if out.ok() {
                return;
            }
            assert!(
                start.elapsed() < deadline,
                "on {host} this did not become true in {deadline:?}: {cmd}\nlast answer: {out}{}",
                self.hint(host)
            );
            thread::sleep(Duration::from_millis(30));
        }
    }

    /// Looks for about two seconds; the last answer.
    #[track_caller]
    fn looks(&self, host: &str, cmd: &str) -> Output {
        // Its text is in the environment and not in any argument: `pgrep -f` would find whoever asks.
        const LOOKS: &str = r#"
            for _ in {1..40}; do said=$(eval "$ASKED" 2>&1) && exit 0; sleep 0.05; done
            printf '%s\n' "$said"
            exit 1"#;
        let asked = format!("ASKED={cmd}");
        let mut run = Spawned::start(self.command(&["sh", host, "--", "env", &asked, "bash", "-c", LOOKS]));
        // A host that shuts down stops all that it runs before it kills it, and nsenter stops with its child: it has to
        // be told to go on.
        let mut patience = Instant::now();
        while run.is_running() {
            if patience.elapsed() > Duration::from_secs(4) {
                run.signal("CONT");
                patience = Instant::now();
            }
            assert!(run.begun.elapsed() < COMMAND_LIMIT, "no answer on {host}: {cmd}");
            thread::sleep(Duration::from_millis(5));
        }
        run.wait(COMMAND_LIMIT).expect("it ended")
    }

    /// What `/run/current-system` points at.
    #[track_caller]
    pub fn running_system(&self, host: &str) -> String {
        self.sh(host, "root", "/usr/bin/readlink /run/current-system")
            .text()
            .to_owned()
    }

    fn hint(&self, host: &str) -> String {
        format!(
            "\nlook: NIXGATE_LAB={} {} sh {host}",
            self.instance,
            script().display()
        )
    }

    #[track_caller]
    fn must(&self, args: &[&str]) -> String {
        self.lab(args).text().to_owned()
    }

    /// Runs the lab script.
    #[track_caller]
    pub fn lab(&self, args: &[&str]) -> Output {
        self.lab_within(args, COMMAND_LIMIT)
    }

    #[track_caller]
    fn lab_within(&self, args: &[&str], limit: Duration) -> Output {
        self.finish(self.command(args), limit)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(script());
        command.args(args).env("NIXGATE_LAB", &self.instance);
        command
    }

    #[track_caller]
    fn finish(&self, command: Command, limit: Duration) -> Output {
        let text = format!("{command:?}");
        let spawned = Spawned::start(command);
        spawned
            .wait(limit)
            .unwrap_or_else(|| panic!("still running after {limit:?}: {text}"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() {
            let kept = PathBuf::from(format!("{}/lab-{}", env!("CARGO_TARGET_TMPDIR"), self.instance));
            self.keep_logs(&kept);
            eprintln!(
                "lab {}: the hosts' journals and consoles are in {}",
                self.instance,
                kept.display()
            );
            if std::env::var_os("NIXGATE_LAB_KEEP").is_some() {
                eprintln!(
                    "it stays up: NIXGATE_LAB={} {} status",
                    self.instance,
                    script().display()
                );
                return;
            }
        }
        // No assertion here: a panic while panicking would abort the test run and leave the instance up.
        let down = self.command(&["down"]).stdin(Stdio::null()).output();
        if !down.as_ref().is_ok_and(|out| out.status.success()) {
            eprintln!("lab {}: could not be taken down: {down:?}", self.instance);
        }
    }
}

impl Lab {
    fn keep_logs(&self, dir: &Path) {
        let _ = std::fs::create_dir_all(dir);
        let hosts = std::fs::read_dir(format!("/run/nixgate-lab/{}", self.instance))
            .into_iter()
            .flatten()
            .flatten();
        for host in hosts.filter(|entry| entry.path().is_dir()) {
            let name = host.file_name().to_string_lossy().into_owned();
            let _ = std::fs::copy(host.path().join("console"), dir.join(format!("{name}.console")));
            let journal = self.command(&[
                "sh",
                &name,
                "--",
                "timeout",
                "20",
                "journalctl",
                "--no-pager",
                "-o",
                "short-precise",
            ]);
            if let Some(out) = Spawned::try_start(journal).and_then(|run| run.wait(Duration::from_secs(30))) {
                let _ = std::fs::write(dir.join(format!("{name}.journal")), out.stdout);
            }
        }
    }
}

/// A command in the background. Dropping it kills it.
pub struct Spawned {
    child: Child,
    begun: Instant,
    stdout: Reader,
    stderr: Reader,
}

impl Spawned {
    #[track_caller]
    fn start(command: Command) -> Spawned {
        let text = format!("{command:?}");
        Spawned::try_start(command).unwrap_or_else(|| panic!("cannot be started: {text}"))
    }

    fn try_start(mut command: Command) -> Option<Spawned> {
        use std::os::unix::process::CommandExt;
        // A process group of its own: killing it reaches the command in the host, not only the script around it.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().ok()?;
        let stdout = Reader::of(child.stdout.take()?);
        let stderr = Reader::of(child.stderr.take()?);
        Some(Spawned {
            child,
            begun: Instant::now(),
            stdout,
            stderr,
        })
    }

    /// The process group, as the machine numbers it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL to the command and all that it started in its process group; returns when they are gone. What made
    /// itself a session of its own (an ssh master in the background) lives on: `power_cut("desk")` ends that too.
    pub fn kill(&mut self) {
        self.signal("KILL");
        let _ = self.child.wait();
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.signal("0") && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// A signal by its name, "INT" or "TERM"; whether there was anybody to get it.
    pub fn signal(&self, name: &str) -> bool {
        Command::new("kill")
            .args(["-s", name, "--", &format!("-{}", self.child.id())])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it printed so far on standard error, where the progress is.
    pub fn stderr_so_far(&self) -> String {
        self.stderr.so_far()
    }

    /// Waits until standard error has `text`.
    #[track_caller]
    pub fn wait_for_stderr(&mut self, text: &str, deadline: Duration) {
        let start = Instant::now();
        while !self.stderr.so_far().contains(text) {
            let over = !self.is_running() && !self.stderr.so_far().contains(text);
            assert!(
                !over && start.elapsed() < deadline,
                "{} without printing {text:?} on stderr:\n{}",
                if over { "it ended" } else { "it went on" },
                self.stderr.so_far()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The end of it, or `None` (and it is killed) if it takes longer than `limit`.
    pub fn wait(mut self, limit: Duration) -> Option<Output> {
        use std::os::unix::process::ExitStatusExt;
        let start = Instant::now();
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if start.elapsed() < limit => thread::sleep(Duration::from_millis(5)),
                _ => {
                    self.kill();
                    return None;
                }
            }
        };
        // An ssh master that went to the background keeps the pipe open: what comes after the end is not waited for.
        let status = status
            .code()
            .or_else(|| status.signal().map(|n| 128 + n))
            .unwrap_or(-1);
        Some(Output {
            status,
            stdout: self.stdout.end(),
            stderr: self.stderr.end(),
        })
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill();
        }
    }
}

/// Collects a pipe in a thread of its own, so that no command blocks on a full one.
struct Reader {
    bytes: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
    done: std::sync::mpsc::Receiver<()>,
}

impl Reader {
    fn of(mut pipe: impl Read + Send + 'static) -> Reader {
        let bytes = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let (tell, done) = std::sync::mpsc::channel();
        let sink = bytes.clone();
        thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                let _ = sink
                    .lock()
                    .expect("nobody panics holding it")
                    .write_all(&buffer[..n]);
            }
            let _ = tell.send(());
        });
        Reader { bytes, done }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("nobody panics holding it")).into_owned()
    }

    fn end(&self) -> String {
        let _ = self.done.recv_timeout(Duration::from_millis(500));
        self.so_far()
    }
}
