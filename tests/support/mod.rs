//! Real repositories in a temporary directory, and records to put into them. Nothing here stands in for git.
#![allow(dead_code)]

pub mod chain;
pub mod many;
pub mod raw;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use git_nixgate::event::{Gate, Verdict};
use git_nixgate::git::{RecordSet, RemoteRefs, Repo, Which};
use git_nixgate::record::evidence::{Before, DiffEvidence, Evidence, GateEvidence, PlanEvidence};
use git_nixgate::record::{Draft, Kind, Ledger, Oid, OnHost, RecordName, Secrets, Target, Utc, sha256_hex};

/// 2026-11-20T03:14:02Z.
pub const NOON: i64 = 1_795_144_442;

pub fn target(name: &str) -> Target {
    name.parse().unwrap()
}

pub fn utc(seconds: i64) -> Utc {
    Utc::from_unix(seconds).unwrap()
}

/// A directory with repositories in it, gone at the end.
pub struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Lab {
        Lab {
            dir: tempfile::Builder::new().prefix("nixgate-test").tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A folder for PATH that holds `git-nixgate`, and the PATH that begins with it.
    pub fn program(&self) -> (PathBuf, String) {
        let dir = self.path("bin");
        if !dir.exists() {
            std::fs::create_dir(&dir).unwrap();
            // A long run keeps the program that it began with.
            let program = std::env::var("NIXGATE_TEST_PROGRAM");
            let program = program.unwrap_or_else(|_| env!("CARGO_BIN_EXE_git-nixgate").to_owned());
            std::os::unix::fs::symlink(program, dir.join("git-nixgate")).unwrap();
        }
        let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap());
        (dir, path)
    }

    /// A repository with one commit on `main`.
    pub fn repo(&self, name: &str) -> Work {
        self.repo_with(name, "sha1")
    }

    pub fn repo_with(&self, name: &str, format: &str) -> Work {
        let path = self.path(name);
        let format = format!("--object-format={format}");
        git_in(
            self.dir.path(),
            &["init", "-q", "-b", "main", &format, path.to_str().unwrap()],
        );
        let work = Work::at(path);
        work.commit("first");
        work
    }

    pub fn bare(&self, name: &str, format: &str) -> Work {
        let path = self.path(name);
        let format = format!("--object-format={format}");
        git_in(
            self.dir.path(),
            &[
                "init",
                "-q",
                "--bare",
                "-b",
                "main",
                &format,
                path.to_str().unwrap(),
            ],
        );
        Work { path }
    }

    pub fn clone(&self, from: &Work, name: &str) -> Work {
        let path = self.path(name);
        let url = format!("file://{}", from.path.display());
        git_in(self.dir.path(), &["clone", "-q", &url, path.to_str().unwrap()]);
        Work::at(path)
    }

    /// A bare repository `hub.git` with one commit, and two clones of it.
    pub fn two_clones(&self, format: &str) -> (Work, Work, Work) {
        let hub = self.bare("hub.git", format);
        let seed = self.repo_with("seed", format);
        seed.git(&["push", "-q", hub.path.to_str().unwrap(), "main"]);
        let (ada, bob) = (self.clone(&hub, "ada"), self.clone(&hub, "bob"));
        ada.git(&["config", "user.name", "Ada"]);
        bob.git(&["config", "user.name", "Bob"]);
        (hub, ada, bob)
    }
}

/// A repository to work in.
#[derive(Clone)]
pub struct Work {
    pub path: PathBuf,
}

/// git with nothing of the developer's own configuration.
pub fn git_command(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(dir).env_clear();
    for keep in ["PATH", "TMPDIR"] {
        if let Some(value) = std::env::var_os(keep) {
            command.env(keep, value);
        }
    }
    command
        .env("HOME", dir)
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_DATE", "1795140000 +0000")
        .env("GIT_COMMITTER_DATE", "1795140000 +0000");
    command
}

/// Runs a program that is expected to work; what it printed.
pub fn ran(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A script for `sh`, expected to work; what it printed.
pub fn sh(script: &str) -> String {
    ran(Command::new("sh").args(["-c", script]))
}

/// A program of a few lines, to be run.
pub fn write_script(path: &Path, text: &str) {
    // By a program of its own: while this one writes, another thread's child may hold the file open, and the kernel
    // runs no program that somebody can write to (ETXTBSY, execve(2)).
    let mut child = Command::new("sh")
        .args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// A new ssh key, and its public half.
pub fn ssh_key(lab: &Lab, name: &str) -> (PathBuf, String) {
    let key = lab.path(name);
    ran(Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
        .arg(&key));
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    (key, public)
}

fn git_in(dir: &Path, args: &[&str]) -> String {
    ran(git_command(dir).args(args)).trim_end().to_owned()
}

impl Work {
    pub fn at(path: PathBuf) -> Work {
        let work = Work { path };
        for (key, value) in [
            ("user.name", "Ada"),
            ("user.email", "ops@example.org"),
            ("tag.gpgSign", "false"),
            ("tag.forceSignAnnotated", "false"),
            ("commit.gpgSign", "false"),
            ("core.hooksPath", ""),
            ("protocol.file.allow", "always"),
        ] {
            if value.is_empty() {
                continue;
            }
            work.git(&["config", key, value]);
        }
        work
    }

    /// Tags are signed with this key from now on.
    pub fn signs_with(&self, key: &Path) {
        for (name, value) in [
            ("gpg.format", "ssh"),
            ("user.signingKey", key.to_str().unwrap()),
            ("tag.gpgSign", "true"),
        ] {
            self.git(&["config", name, value]);
        }
    }

    pub fn git(&self, args: &[&str]) -> String {
        git_in(&self.path, args)
    }

    pub fn try_git(&self, args: &[&str]) -> Output {
        git_command(&self.path)
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Whether git says yes, and what it says.
    pub fn says(&self, args: &[&str]) -> (bool, String) {
        let output = self.try_git(args);
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    pub fn commit(&self, message: &str) -> Oid {
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.oid("HEAD")
    }

    pub fn oid(&self, rev: &str) -> Oid {
        Oid::from_hex(self.git(&["rev-parse", "--verify", rev]).as_bytes()).unwrap()
    }

    pub fn has_ref(&self, name: &str) -> bool {
        self.try_git(&["rev-parse", "--verify", "--quiet", name])
            .status
            .success()
    }

    pub fn repo(&self) -> Repo {
        Repo::open(&self.path).unwrap()
    }

    pub fn ledger(&self, target: &Target) -> Option<Ledger> {
        self.repo().ledger(target, Which::Local).unwrap()
    }

    /// Makes the next record's tag object: nothing points at it yet.
    pub fn make(&self, target: &Target, what: What) -> Made {
        let repo = self.repo();
        let before = repo.ledger(target, Which::Local).unwrap();
        let draft = draft(&repo, target, before.as_ref(), what);
        let raw = repo.sign(&draft.payload()).unwrap();
        let oid = repo.write_tag(&raw).unwrap();
        Made {
            name: draft.name(),
            oid,
            seq: draft.seq,
            commit: draft.commit,
            kind: draft.kind,
            raw,
        }
    }

    /// A record that is only here.
    pub fn record(&self, target: &Target, what: What) -> Made {
        let made = self.make(target, what);
        self.keep(target, &made);
        made
    }

    pub fn keep(&self, target: &Target, made: &Made) {
        self.repo()
            .commit_local(target, &made.name, &made.oid, made.pointer(), None, false)
            .unwrap();
    }

    pub fn release(&self, target: &Target) -> Made {
        self.record(target, What::Release(self.oid("HEAD")))
    }
}

/// What the next record is.
pub enum What {
    Release(Oid),
    Rollback(Option<String>),
    Deploy(String),
}

/// A record's tag object, written.
#[derive(Debug, Clone)]
pub struct Made {
    pub name: RecordName,
    pub oid: Oid,
    pub seq: u64,
    pub commit: Oid,
    pub kind: Kind,
    pub raw: Vec<u8>,
}

impl Made {
    pub fn pointer(&self) -> Option<Oid> {
        (self.kind == Kind::Release).then_some(self.commit)
    }

    pub fn set(&self) -> RecordSet {
        RecordSet {
            records: vec![(self.name.clone(), self.oid)],
            pointer: self.pointer(),
            ledger: self.oid,
        }
    }
}

pub fn gate(gate: Gate, verdict: Verdict) -> GateEvidence {
    GateEvidence {
        gate,
        verdict,
        start: "2026-11-20T03:13:00Z".into(),
        millis: 1200,
        findings: vec!["nothing unusual".into()],
        more: 0,
        reason: (verdict == Verdict::Skipped).then(|| "asked for".into()),
    }
}

/// Evidence about a closure that is named by `seed`.
pub fn evidence(target: &Target, commit: &str, tree: &str, seed: &str) -> Evidence {
    let digest = sha256_hex(seed.as_bytes());
    Evidence {
        commit: commit.to_owned(),
        tree: tree.to_owned(),
        target: target.to_string(),
        flake_lock_sha256: Some(sha256_hex(b"lock")),
        toplevel: format!("/nix/store/{}-nixos-system-{target}", &digest[..32]),
        drv: Some(format!("/nix/store/{}-nixos-system-{target}.drv", &digest[32..])),
        nar_hash: format!("sha256:{digest}"),
        closure_digest: digest,
        paths: 2700,
        bytes: 8_000_000_000,
        system: "x86_64-linux".into(),
        nix_version: "Nix 2.26.3".into(),
        builder: "forge".into(),
        gates: vec![
            gate(Gate::Preflight, Verdict::Passed),
            gate(Gate::Build, Verdict::Passed),
            gate(Gate::Validate, Verdict::Passed),
        ],
        diff: Some(DiffEvidence {
            upgraded: 2,
            bytes_delta: -4096,
            lines: vec!["nginx 1.26.1 -> 1.26.2".into()],
            ..DiffEvidence::default()
        }),
        plan: Some(PlanEvidence {
            restart: vec!["nginx.service".into()],
            ..PlanEvidence::default()
        }),
        generation_before: Some(141),
        generation_after: Some(142),
        before: Some(Before {
            toplevel: "/nix/store/00000000000000000000000000000000-before".into(),
            ..Before::default()
        }),
        by: "Ada <ops@example.org>".into(),
        ..Evidence::default()
    }
}

pub fn draft(repo: &Repo, target: &Target, before: Option<&Ledger>, what: What) -> Draft {
    let (kind, restores, withdraws, source) = match what {
        What::Release(commit) => (Kind::Release, None, Vec::new(), Err(commit)),
        What::Rollback(to) => {
            let choice = before.unwrap().rollback_choice(to.as_deref()).unwrap();
            (
                Kind::Rollback,
                Some(choice.restores.clone()),
                choice.withdraws.clone(),
                Ok(choice.source.clone()),
            )
        }
        What::Deploy(to) => {
            let choice = before.unwrap().deploy_choice(&to).unwrap();
            (
                Kind::Deploy,
                Some(choice.restores.clone()),
                choice.withdraws.clone(),
                Ok(choice.source.clone()),
            )
        }
    };
    let seq = before.map_or(1, |l| l.next().0);
    let (commit, evidence) = match source {
        Ok(record) => {
            let mut evidence = record.evidence.clone();
            if restores == Some(OnHost::BeforeFirst) {
                evidence.toplevel = record.evidence.before.as_ref().unwrap().toplevel.clone();
            }
            (record.commit, evidence)
        }
        Err(commit) => {
            let tree = repo.commit(&commit).unwrap().tree.to_string();
            (
                commit,
                evidence(
                    target,
                    &commit.to_string(),
                    &tree,
                    &format!("{target} {commit} {seq}"),
                ),
            )
        }
    };
    let now = utc(NOON + i64::try_from(seq).unwrap());
    let time = Utc::behind(now.time(), before.map(|l| l.head().time)).unwrap().0;
    let who = repo.committer().unwrap();
    let mut evidence = evidence;
    evidence.by = who.to_string();
    Draft {
        target: target.clone(),
        kind,
        seq,
        commit,
        tagger_name: who.name,
        tagger_mail: who.mail,
        time,
        subject: repo.commit(&commit).unwrap().subject,
        evidence,
        previous: before.map(|l| l.next().1),
        restores,
        withdraws,
        secrets: Secrets::default(),
    }
}

/// Runs something asynchronous to its end.
pub fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

pub fn state(work: &Work, target: &Target) -> RemoteRefs {
    wait(work.repo().remote_state("origin", target)).unwrap()
}
