//! Where each attack takes place, and what is asked of everything that judges.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use git_nixgate::command::hook;
use git_nixgate::record::{Draft, Oid, OnHost, Target};

use crate::support::*;

pub const LEDGER: &str = "refs/nixgate/ledger/cortex";
pub const POINTER: &str = "refs/heads/release/cortex";
/// Nobody listens there, so a run that gets past the records ends at its first look at the host.
pub const CONFIG: &str = "version = 1\n[target.cortex]\nhost = \"127.0.0.1\"\nssh-options = [\"Port=1\"]\n";

/// A server with its hook, ada's clone with hers, and two releases of cortex on both.
pub struct Scene {
    /// Keeps the folder.
    pub lab: Lab,
    pub hub: Work,
    pub ada: Work,
    pub first: Made,
    pub second: Made,
    pub cortex: Target,
    /// Of the attacker's choice.
    pub variables: Mutex<Vec<(&'static str, &'static str)>>,
}

impl Scene {
    pub fn new() -> Scene {
        let lab = Lab::new();
        let (hub, ada, _) = lab.two_clones("sha1");
        let cortex = target("cortex");
        lab.program();
        std::fs::write(ada.path.join(".nixgate.toml"), CONFIG).unwrap();
        ada.git(&["add", "."]);
        ada.signs_with(&ssh_key(&lab, "key").0);
        let mut made = Vec::new();
        for message in ["one", "two"] {
            ada.commit(message);
            ada.git(&["push", "-q", "origin", "main"]);
            let fetched = wait(ada.repo().fetch("origin", &cortex)).unwrap();
            let record = ada.make(&cortex, What::Release(ada.oid("HEAD")));
            wait(
                ada.repo()
                    .publish("origin", &cortex, &record.set(), &fetched.refs),
            )
            .unwrap();
            ada.repo()
                .commit_set(&cortex, &record.set(), Some("origin"), false)
                .unwrap();
            made.push(record);
        }
        hook::install(&ada.repo(), false).unwrap();
        hook::install(&hub.repo(), true).unwrap();
        let second = made.pop().unwrap();
        let first = made.pop().unwrap();
        Scene {
            lab,
            hub,
            ada,
            first,
            second,
            cortex,
            variables: Mutex::default(),
        }
    }

    /// The same again in a folder of its own.
    pub fn copy(&self, number: usize) -> Scene {
        let lab = Lab::new();
        for name in ["hub.git", "ada", "bin", "key", "key.pub"] {
            let copied = Command::new("cp")
                .arg("-a")
                .args([self.lab.path(name), lab.path(name)])
                .status();
            assert!(copied.unwrap().success(), "attack {number}: {name}");
        }
        let (hub, ada) = (
            Work {
                path: lab.path("hub.git"),
            },
            Work {
                path: lab.path("ada"),
            },
        );
        let url = format!("file://{}", hub.path.display());
        ada.git(&["remote", "set-url", "origin", &url]);
        ada.git(&["config", "user.signingKey", lab.path("key").to_str().unwrap()]);
        Scene {
            lab,
            hub,
            ada,
            first: self.first.clone(),
            second: self.second.clone(),
            cortex: self.cortex.clone(),
            variables: Mutex::default(),
        }
    }

    pub fn set(&self, name: &str, oid: &Oid) {
        self.ada.git(&["update-ref", name, &oid.to_string()]);
    }

    /// What somebody does who has the server: no hook is asked.
    pub fn on_server(&self, args: &[&str]) -> String {
        self.hub
            .git(&[&["-c", "core.hooksPath=/dev/null"], args].concat())
    }

    pub fn drop(&self, name: &str) {
        self.ada.git(&["update-ref", "-d", name]);
    }

    /// A tag object of these bytes.
    pub fn tag(&self, raw: &[u8]) -> Oid {
        // Written as it stands: git's own checks are not what protects a record.
        use std::io::Write;
        let mut child = git_command(&self.ada.path)
            .args(["hash-object", "-t", "tag", "-w", "--literally", "--stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(raw).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        Oid::from_hex(String::from_utf8(output.stdout).unwrap().trim().as_bytes()).unwrap()
    }

    /// The newest record's bytes, changed.
    pub fn forged(&self, change: impl Fn(String) -> String) -> Oid {
        let good = String::from_utf8(self.second.raw.clone()).unwrap();
        let bad = change(good.clone());
        assert_ne!(bad, good, "nothing was changed");
        self.tag(bad.as_bytes())
    }

    /// The newest record in its own place, changed: tag and ledger lead to it.
    pub fn in_place(&self, change: impl Fn(String) -> String) -> Vec<String> {
        let oid = self.forged(change);
        self.set(&self.second.name.ref_name(), &oid);
        self.set(LEDGER, &oid);
        vec![format!("+{}", self.second.name.ref_name()), format!("+{LEDGER}")]
    }

    /// A third record behind the second, as somebody makes it who may write.
    pub fn third(&self, change: impl Fn(&mut Draft)) -> Draft {
        let repo = self.ada.repo();
        let commit = self.ada.commit("three");
        let before = self.ada.ledger(&self.cortex);
        let mut third = draft(&repo, &self.cortex, before.as_ref(), What::Release(commit));
        change(&mut third);
        third
    }

    /// The same, put in place: what is to be pushed.
    pub fn next(&self, change: impl Fn(&mut Draft), bytes: impl Fn(String) -> String) -> Vec<String> {
        let third = self.third(change);
        let raw = bytes(String::from_utf8(third.payload()).unwrap());
        let oid = self.tag(raw.as_bytes());
        let name = third.name().ref_name();
        self.set(&name, &oid);
        self.set(LEDGER, &oid);
        self.set(POINTER, &third.commit);
        vec![name, LEDGER.into(), POINTER.into()]
    }

    /// A rollback behind the second release, changed, and put in place.
    pub fn back(&self, change: impl Fn(&mut Draft)) -> Vec<String> {
        let repo = self.ada.repo();
        let before = self.ada.ledger(&self.cortex);
        let mut back = draft(&repo, &self.cortex, before.as_ref(), What::Rollback(None));
        change(&mut back);
        let oid = self.tag(&back.payload());
        let name = back.name().ref_name();
        self.set(&name, &oid);
        self.set(LEDGER, &oid);
        // Git calls a way back no fast-forward; who publishes has a lease for it.
        vec![name, format!("+{LEDGER}")]
    }

    pub fn program(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = self
            .environment(&self.lab.path("bin/git-nixgate"))
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    pub fn push(&self, flags: &[&str], specs: &[String]) -> (bool, String) {
        let output = self
            .environment(Path::new("git"))
            .args(["push", "--porcelain"])
            .args(flags)
            .arg("origin")
            .args(specs)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    pub fn environment(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.ada.path)
            .env("PATH", self.lab.program().1)
            .env("HOME", self.lab.path(""))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .envs(self.variables.lock().unwrap().iter().copied());
        command
    }

    /// What a person would be given: the choice of a run whose host does not answer.
    pub fn chosen(&self, args: &[&str], wanted: &Made) -> String {
        let (exit, said) = self.program(args);
        if exit != Some(1) {
            return refusal(exit, &said);
        }
        assert!(
            said.contains("[1/6] Network reachability... FAILED"),
            "{args:?} ended elsewhere: {said}"
        );
        let repo = self.ada.repo();
        let which = repo.best(&self.cortex, Some("origin")).unwrap();
        let ledger = repo.ledger(&self.cortex, which).unwrap().unwrap();
        let choice = match args[0] {
            "deploy" => ledger.deploy_choice(args[3]).unwrap(),
            _ => ledger.rollback_choice(None).unwrap(),
        };
        assert_eq!(choice.restores, OnHost::Release(wanted.name.clone()), "{args:?}");
        assert_eq!(choice.source.oid, wanted.oid, "{args:?}");
        "as recorded".to_owned()
    }
}

/// The rule that was broken, out of what was said; the exit where no rule is named.
pub fn refusal(exit: Option<i32>, said: &str) -> String {
    let rule = |text: &str| {
        let word = text.rsplit_once('(')?.1.strip_suffix(')')?;
        let good = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        good.then(|| word.to_owned())
    };
    let rules = said.lines().filter_map(|line| rule(line.trim_end()));
    rules.into_iter().next().unwrap_or_else(|| match exit {
        Some(exit) => {
            let line = said.lines().find(|line| line.starts_with("error: "));
            assert!(line.is_some(), "no reason: {said}");
            format!("exit {exit}")
        }
        None => panic!("killed: {said}"),
    })
}
