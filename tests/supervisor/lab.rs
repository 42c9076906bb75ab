//! A trial's hold on the lab (tests/lab): real hosts with systemd, sshd, Nix and the real switch-to-configuration.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use git_nixgate::host::facts::facts_script;
use git_nixgate::host::supervisor::{Held, HoldError, Plan, hold};
use git_nixgate::host::{Endpoint, Facts, Privilege, RunDir, Session};

/// One running lab instance, named by `$NIXGATE_LAB`. Trials run inside its network namespace, one at a time.
pub struct Lab {
    name: String,
    program: PathBuf,
    _ssh: tempfile::TempDir,
    config: PathBuf,
}

impl Lab {
    pub fn new() -> Self {
        let name = std::env::var("NIXGATE_LAB").expect("NIXGATE_LAB names a running lab");
        let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/lab");
        let program = std::env::var_os("NIXGATE_LAB_PROGRAM").map_or(default, PathBuf::from);
        let ssh = tempfile::tempdir().expect("a directory");
        let mut lab = Lab {
            name,
            program,
            config: ssh.path().join("config"),
            _ssh: ssh,
        };
        let dir = lab.config.parent().expect("a parent").to_owned();
        for file in ["id_ed25519", "known_hosts"] {
            let text = lab.sh("desk", &format!("cat /home/op/.ssh/{file}"));
            std::fs::write(dir.join(file), text).expect("written");
        }
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(dir.join("id_ed25519"), private).expect("mode");
        let hosts = [
            ("cortex", "10.77.0.20"),
            ("orion", "10.77.0.21"),
            ("forge", "10.77.0.11"),
        ];
        let mut config = String::new();
        for (host, address) in hosts {
            config.push_str(&format!(
                "Host {host}\n  HostName {address}\n  HostKeyAlias {host}\n"
            ));
        }
        config.push_str(&format!(
            "Host *\n  User jarvis\n  IdentitiesOnly yes\n  IdentityFile {0}/id_ed25519\n  \
             UserKnownHostsFile {0}/known_hosts\n",
            dir.display()
        ));
        lab.config = dir.join("config");
        std::fs::write(&lab.config, config).expect("written");
        lab
    }

    pub fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new(&self.program)
            .args(arguments)
            .env("NIXGATE_LAB", &self.name)
            .stdin(Stdio::null())
            .output()
            .expect("the lab's program");
        assert!(
            output.status.success(),
            "lab {arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What the lab's program says, where it works.
    fn ask(&self, arguments: &[&str]) -> Option<String> {
        let output = Command::new(&self.program)
            .args(arguments)
            .env("NIXGATE_LAB", &self.name)
            .stdin(Stdio::null())
            .output()
            .expect("the lab's program");
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(said)
    }

    /// The process id of a host's init; `None` while it is down. Another one is another boot.
    pub fn init(&self, host: &str) -> Option<String> {
        self.ask(&["pid", host])
    }

    /// A shell script as root in a host that may be down; `None` too where the script fails.
    pub fn ask_sh(&self, host: &str, script: &str) -> Option<String> {
        self.ask(&["sh", host, "--", script])
    }

    /// A shell script as root in a host.
    pub fn sh(&self, host: &str, script: &str) -> String {
        self.run(&["sh", host, "--", script])
    }

    /// A shell script as root in a host, whatever its status.
    pub fn try_sh(&self, host: &str, script: &str) -> String {
        self.run(&["sh", host, "--", &format!("{{ {script}\n}} 2>&1 || true")])
    }

    /// Builds a variant on the builder and copies it to the host.
    pub fn closure(&self, host: &str, variant: &str) -> String {
        self.run(&["closure", host, variant]).trim().to_owned()
    }

    /// An ssh configuration with lines that come before the lab's own, for hosts in `~/.ssh` disguise.
    pub fn config_with(&self, lines: &str) -> String {
        let stamp = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("clock");
        let path = self.config.with_extension(stamp.as_nanos().to_string());
        let text = std::fs::read_to_string(&self.config).expect("the configuration");
        std::fs::write(&path, format!("{lines}\n{text}")).expect("written");
        path.display().to_string()
    }

    /// The directory with the operator's key and known hosts.
    pub fn ssh_dir(&self) -> &Path {
        self._ssh.path()
    }

    pub fn endpoint(&self, host: &str) -> Endpoint {
        let mut endpoint = Endpoint::ssh(host, host);
        endpoint.ssh_options = vec!["-F".into(), self.config.display().to_string()];
        endpoint
    }

    /// Puts a host back on A and takes away what earlier trials left.
    pub fn reset(&self, host: &str) {
        let a = self.closure(host, "A");
        self.sh(
            host,
            &format!(
                "systemctl stop 'nixgate-*' 2>/dev/null; rm -rf /run/nixgate /nix/var/nix/gcroots/nixgate
                 rm -rf /run/systemd/system/app.service.d; systemctl daemon-reload
                 nix-env -p /nix/var/nix/profiles/system --set {a}
                 NIXOS_NO_CHECK=1 {a}/bin/switch-to-configuration switch || true
                 systemctl reset-failed; systemctl start lone.socket lone.service sock.socket tick.timer app.service
                 readlink /run/current-system"
            ),
        );
        assert_eq!(self.running(host), a);
    }

    /// A power cut, and the boot after it.
    pub fn power_cycle(&self, host: &str) {
        self.run(&["power-cut", host]);
        self.run(&["power-on", host]);
    }

    pub fn running(&self, host: &str) -> String {
        self.sh(host, "readlink -f /run/current-system").trim().to_owned()
    }

    /// What /run/nixgate says about a run.
    pub fn state(&self, host: &str, run: &str) -> String {
        self.try_sh(host, &format!("cat /run/nixgate/{run}/state"))
    }

    /// Waits until the state file of `run` says one of `words`.
    pub fn wait_state(&self, host: &str, run: &str, words: &[&str], patience: u64) -> String {
        let begun = Instant::now();
        loop {
            let state = self.state(host, run);
            if words
                .iter()
                .any(|word| state.lines().any(|line| line == format!("state={word}")))
            {
                return state;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(patience),
                "never {words:?}:\n{state}"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Nothing of ours runs on the host and nothing fails because of us.
    pub fn assert_nothing_left(&self, host: &str) {
        let left = self.try_sh(
            host,
            "systemctl list-units --all --no-legend --plain 'nixgate-*'
             pgrep -af '[s]upervisor.sh'
             ls /nix/var/nix/gcroots/nixgate/+tmp 2>/dev/null",
        );
        assert_eq!(left.trim(), "", "left on {host}");
    }
}

/// Asks again and again until there is an answer.
#[track_caller]
pub fn until<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// How long anything is waited for; nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// A session, the facts, and a plan for a candidate.
pub struct Trial {
    _dir: RunDir,
    pub session: Session,
    pub facts: Facts,
    pub plan: Plan,
}

impl Trial {
    pub async fn new(lab: &Lab, host: &str, candidate: &str, lease: u64, activate: u64) -> Self {
        Self::new_at(lab.endpoint(host), host, candidate, lease, activate).await
    }

    /// The same over another way to the host.
    pub async fn new_at(endpoint: Endpoint, host: &str, candidate: &str, lease: u64, activate: u64) -> Self {
        let dir = RunDir::new().expect("a directory");
        let session = Session::open(&endpoint, &dir).await.expect("a session");
        let output = session
            .run(
                &facts_script(host),
                Privilege::RootIfPossible,
                Duration::from_secs(20),
            )
            .await
            .expect("facts");
        let facts = Facts::parse(&output.text());
        assert!(facts.complete, "{}", output.stderr);
        let stamp = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("clock");
        let plan = Plan {
            run: format!("t{}", stamp.as_micros()),
            target: host.into(),
            verb: "release".into(),
            commit: "0123456789abcdef".into(),
            who: "Ann <ann@example.org>".into(),
            candidate: candidate.into(),
            seen: facts.here.clone(),
            failed: facts.failed_units.clone(),
            lease: Duration::from_secs(lease),
            activate: Duration::from_secs(activate),
            reboot_on_failed_revert: false,
            accept_drift: false,
            accept_loader: false,
            specialisation: None,
            container: facts.container.clone(),
            never_reboot: false,
        };
        Trial {
            _dir: dir,
            session,
            facts,
            plan,
        }
    }

    pub async fn hold(&self) -> Result<Held, HoldError> {
        hold(&self.session, &self.plan).await
    }
}
