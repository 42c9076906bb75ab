//! Every attack on records that we know of, by git's own means, against all that judges: `verify`, the choice of
//! `rollback` and `deploy`, the client's hook, the server's hook. The table is printed, and kept in
//! `snapshots/attacks.snap`.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use git_nixgate::command::hook;
use git_nixgate::record::{Draft, Oid, OnHost, Target, sha256_hex};
use support::*;

const LEDGER: &str = "refs/nixgate/ledger/cortex";
const POINTER: &str = "refs/heads/release/cortex";
/// Nobody listens there, so a run that gets past the records ends at its first look at the host.
const CONFIG: &str = "version = 1\n[target.cortex]\nhost = \"127.0.0.1\"\nssh-options = [\"Port=1\"]\n";

/// A server with its hook, ada's clone with hers, and two releases of cortex on both.
struct Scene {
    /// Keeps the folder.
    lab: Lab,
    hub: Work,
    ada: Work,
    first: Made,
    second: Made,
    cortex: Target,
}

impl Scene {
    fn new() -> Scene {
        let lab = Lab::new();
        let (hub, ada, _) = lab.two_clones("sha1");
        let cortex = target("cortex");
        let bin = lab.path("bin");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_git-nixgate"), bin.join("git-nixgate")).unwrap();
        std::fs::write(ada.path.join(".nixgate.toml"), CONFIG).unwrap();
        ada.git(&["add", "."]);
        let key = lab.path("key");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key)
            .status();
        assert!(made.unwrap().success());
        ada.git(&["config", "gpg.format", "ssh"]);
        ada.git(&["config", "user.signingKey", key.to_str().unwrap()]);
        ada.git(&["config", "tag.gpgSign", "true"]);
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
        }
    }

    /// The same again in a folder of its own.
    fn copy(&self, number: usize) -> Scene {
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
        }
    }

    fn set(&self, name: &str, oid: &Oid) {
        self.ada.git(&["update-ref", name, &oid.to_string()]);
    }

    fn drop(&self, name: &str) {
        self.ada.git(&["update-ref", "-d", name]);
    }

    /// A tag object of these bytes.
    fn tag(&self, raw: &[u8]) -> Oid {
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
    fn forged(&self, change: impl Fn(String) -> String) -> Oid {
        let good = String::from_utf8(self.second.raw.clone()).unwrap();
        let bad = change(good.clone());
        assert_ne!(bad, good, "nothing was changed");
        self.tag(bad.as_bytes())
    }

    /// The newest record in its own place, changed: tag and ledger lead to it.
    fn in_place(&self, change: impl Fn(String) -> String) -> Vec<String> {
        let oid = self.forged(change);
        self.set(&self.second.name.ref_name(), &oid);
        self.set(LEDGER, &oid);
        vec![format!("+{}", self.second.name.ref_name()), format!("+{LEDGER}")]
    }

    /// A third record behind the second, as somebody makes it who may write.
    fn third(&self, change: impl Fn(&mut Draft)) -> Draft {
        let repo = self.ada.repo();
        let commit = self.ada.commit("three");
        let before = self.ada.ledger(&self.cortex);
        let mut third = draft(&repo, &self.cortex, before.as_ref(), What::Release(commit));
        change(&mut third);
        third
    }

    /// The same, put in place: what is to be pushed.
    fn next(&self, change: impl Fn(&mut Draft), bytes: impl Fn(String) -> String) -> Vec<String> {
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
    fn back(&self, change: impl Fn(&mut Draft)) -> Vec<String> {
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

    fn program(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = self
            .environment(&self.lab.path("bin/git-nixgate"))
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    fn push(&self, flags: &[&str], specs: &[String]) -> (bool, String) {
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

    fn environment(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let path = format!(
            "{}:{}",
            self.lab.path("bin").display(),
            std::env::var("PATH").unwrap()
        );
        command
            .current_dir(&self.ada.path)
            .env("PATH", path)
            .env("HOME", self.lab.path(""))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        command
    }

    /// What a person would be given: the choice of a run whose host does not answer.
    fn chosen(&self, args: &[&str], wanted: &Made) -> String {
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
fn refusal(exit: Option<i32>, said: &str) -> String {
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

/// What is done, and what is pushed then; nothing where the attack stays in the clone or is on the server.
type Attack = fn(&Scene) -> Vec<String>;

/// An evidence whose toplevel is another one, its digest put right.
fn other_closure(good: String) -> String {
    let line = good.lines().find(|l| l.starts_with('{')).unwrap().to_owned();
    let bad = line.replacen("-nixos-system-cortex", "-nixos-system-chosen", 1);
    assert_ne!(line, bad);
    good.replace(&line, &bad)
        .replace(&sha256_hex(line.as_bytes()), &sha256_hex(bad.as_bytes()))
        .replacen("-nixos-system-cortex", "-nixos-system-chosen", 1)
}

/// Without its signature.
fn bare(good: &str) -> &str {
    &good[..good.find("-----BEGIN SSH SIGNATURE-----").unwrap()]
}

const ATTACKS: &[(&str, Attack)] = &[
    ("tag moved", |s| {
        let tag = s.first.name.ref_name();
        s.set(&tag, &s.second.oid);
        vec![format!("+{tag}")]
    }),
    ("tag deleted", |s| {
        let tag = s.first.name.ref_name();
        s.drop(&tag);
        vec![format!(":{tag}")]
    }),
    ("tag recreated", |s| {
        let name = s.second.name.to_string();
        s.ada
            .git(&["tag", "-f", "-a", "-m", "the same name", &name, "HEAD"]);
        vec![format!("+{}", s.second.name.ref_name())]
    }),
    ("under another name", |s| {
        let tag = format!(
            "refs/tags/release/cortex/20301120T031402Z-{}",
            s.second.name.short()
        );
        s.set(&tag, &s.second.oid);
        vec![tag]
    }),
    ("under another target", |s| {
        let tag = format!("refs/tags/release/orion/{}", s.second.name.leaf());
        s.set(&tag, &s.second.oid);
        s.set("refs/nixgate/ledger/orion", &s.second.oid);
        vec![tag, "refs/nixgate/ledger/orion".into()]
    }),
    ("another target's record in the ledger", |s| {
        let other = s.ada.record(&target("orion"), What::Release(s.ada.oid("HEAD")));
        s.set(LEDGER, &other.oid);
        vec![format!("+{LEDGER}"), other.name.ref_name()]
    }),
    ("body edited", |s| {
        s.in_place(|good| good.replacen("\"paths\":2700", "\"paths\":2701", 1))
    }),
    ("body edited, digest put right", |s| s.in_place(other_closure)),
    ("the same, signature dropped", |s| {
        s.in_place(|good| other_closure(bare(&good).to_owned()))
    }),
    ("the first record edited", |s| {
        let good = String::from_utf8(s.first.raw.clone()).unwrap();
        let oid = s.tag(other_closure(good).as_bytes());
        s.set(&s.first.name.ref_name(), &oid);
        vec![format!("+{}", s.first.name.ref_name())]
    }),
    ("prose that says something else", |s| {
        s.in_place(|good| good.replacen("generation 141 -> 142", "generation 141 -> 999", 1))
    }),
    ("bytes behind the signature", |s| {
        s.in_place(|good| format!("{good}and one more thing\n"))
    }),
    ("two armor blocks", |s| {
        s.in_place(|good| {
            let armor = &good[bare(&good).len()..];
            format!("{good}{armor}")
        })
    }),
    ("an armor line in the prose", |s| {
        s.next(
            |_| {},
            |good| good.replacen("generation 141", "-----BEGIN PGP MESSAGE-----\n141", 1),
        )
    }),
    ("an armor line in the evidence", |s| {
        s.next(
            |_| {},
            |good| good.replacen("{\"_type\"", "-----BEGIN SSH SIGNATURE-----\n{\"_type\"", 1),
        )
    }),
    ("a trailer twice", |s| {
        s.next(
            |_| {},
            |good| good.replacen("Nixgate-Seq: 3\n", "Nixgate-Seq: 3\nNixgate-Seq: 3\n", 1),
        )
    }),
    ("trailers in another order", |s| {
        s.next(
            |_| {},
            |good| {
                good.replacen(
                    "Nixgate-Kind: release\nNixgate-Seq: 3\n",
                    "Nixgate-Seq: 3\nNixgate-Kind: release\n",
                    1,
                )
            },
        )
    }),
    ("a trailer of somebody else's", |s| {
        s.next(
            |_| {},
            |good| format!("{good}Signed-off-by: Eve <eve@example.org>\n"),
        )
    }),
    ("evidence digest forged", |s| {
        s.next(
            |_| {},
            |good| good.replacen("Nixgate-Evidence-SHA256: ", "Nixgate-Evidence-SHA256: 0", 1),
        )
    }),
    ("a sequence number left out", |s| {
        s.next(|d| d.seq = 4, |good| good)
    }),
    ("a rollback to what was never recorded", |s| {
        s.back(|d| {
            d.evidence.toplevel = d.evidence.toplevel.replace("-nixos-", "-chosen-");
        })
    }),
    ("a rollback to a closure of the same name", |s| {
        s.back(|d| d.evidence.nar_hash = format!("sha256:{}", sha256_hex(b"other")))
    }),
    ("a rollback of a release that never was", |s| {
        s.back(|d| {
            let name = d.withdraws[0].to_string().replace("20261120T", "20261119T");
            d.withdraws = vec![name.parse().unwrap()];
        })
    }),
    ("a forked ledger", |s| {
        let link = s.ada.repo().record(&s.first.oid, None).unwrap().link();
        s.next(
            |d| {
                d.seq = 2;
                d.previous = Some(link.clone());
            },
            |good| good,
        )
    }),
    ("a ledger begun anew", |s| {
        s.next(
            |d| {
                d.seq = 1;
                d.previous = None;
            },
            |good| good,
        )
    }),
    ("the tail cut off", |s| {
        s.set(LEDGER, &s.first.oid);
        s.drop(&s.second.name.ref_name());
        vec![format!("+{LEDGER}"), format!(":{}", s.second.name.ref_name())]
    }),
    ("the pointer rewound", |s| {
        s.set(POINTER, &s.first.commit);
        vec![format!("+{POINTER}")]
    }),
    ("the pointer on what nobody released", |s| {
        let commit = s.ada.commit("three");
        s.set(POINTER, &commit);
        vec![POINTER.into()]
    }),
    ("the pointer deleted", |s| {
        s.drop(POINTER);
        vec![format!(":{POINTER}")]
    }),
    ("a record without its ledger", |s| {
        let third = s.third(|_| {});
        let oid = s.tag(&third.payload());
        let name = third.name().ref_name();
        s.set(&name, &oid);
        vec![name]
    }),
    ("a replaced tag", |s| {
        s.ada
            .git(&["replace", &s.second.oid.to_string(), &s.first.oid.to_string()]);
        vec![]
    }),
    ("a replaced commit", |s| {
        s.ada.git(&[
            "replace",
            &s.second.commit.to_string(),
            &s.first.commit.to_string(),
        ]);
        vec![]
    }),
    ("grafts", |s| {
        let line = format!("{}\n", s.second.commit);
        std::fs::write(s.ada.path.join(".git/info/grafts"), line).unwrap();
        s.set(POINTER, &s.first.commit);
        vec![format!("+{POINTER}")]
    }),
    ("escape sequences in the subject", |s| {
        s.next(|_| {}, |good| good.replacen("three", "\u{1b}[2Jthree", 1))
    }),
    ("text turned around in the subject", |s| {
        s.next(|_| {}, |good| good.replacen("three", "\u{202e}eerht", 1))
    }),
    ("text turned around in the prose", |s| {
        s.next(|_| {}, |good| good.replacen("built by ", "built by \u{2066}", 1))
    }),
    ("an invisible character in the tagger", |s| {
        s.next(
            |_| {},
            |good| good.replacen("tagger Ada", "tagger A\u{200b}da", 1),
        )
    }),
    ("a target named like an option", |s| {
        let tag = format!("refs/tags/release/-rf/{}", s.second.name.leaf());
        s.set(&tag, &s.second.oid);
        vec![tag]
    }),
    ("a body of nine megabytes", |s| {
        s.next(
            |_| {},
            |good| good.replacen("built by", &"long ".repeat(1_800_000), 1),
        )
    }),
    ("too much evidence", |s| {
        s.next(
            |_| {},
            |good| {
                let line = good.lines().find(|l| l.starts_with('{')).unwrap().to_owned();
                let mut value: serde_json::Value = serde_json::from_str(&line).unwrap();
                value["predicate"]["warnings"] = vec!["long ".repeat(20_000)].into();
                let bad = git_nixgate::record::evidence::canonical(&value);
                good.replace(&line, &bad)
                    .replace(&sha256_hex(line.as_bytes()), &sha256_hex(bad.as_bytes()))
            },
        )
    }),
    ("a server that rewinds the branch", |s| {
        s.hub.git(&["update-ref", POINTER, &s.first.commit.to_string()]);
        s.ada.git(&["fetch", "-q"]);
        vec![]
    }),
    ("a server that moves a tag", |s| {
        s.hub
            .git(&["update-ref", &s.first.name.ref_name(), &s.second.oid.to_string()]);
        vec![]
    }),
    ("a server with an old ledger", |s| {
        s.hub.git(&["update-ref", LEDGER, &s.first.oid.to_string()]);
        s.hub.git(&["update-ref", "-d", &s.second.name.ref_name()]);
        vec![]
    }),
    ("a server with another ledger", |s| {
        let third = {
            let repo = s.ada.repo();
            let link = repo.record(&s.first.oid, None).unwrap().link();
            let mut other = draft(
                &repo,
                &s.cortex,
                s.ada.ledger(&s.cortex).as_ref(),
                What::Release(s.ada.oid("HEAD")),
            );
            (other.seq, other.previous) = (2, Some(link));
            other
        };
        let oid = s.tag(&third.payload());
        // Whoever has the server needs no hook's leave.
        let hook = s.hub.path.join("hooks/pre-receive");
        let there = std::fs::rename(&hook, s.lab.path("kept")).is_ok();
        let spec = format!("+{oid}:{LEDGER}");
        let tag = format!("{oid}:{}", third.name().ref_name());
        s.ada.git(&["push", "-q", "--no-verify", "origin", &spec, &tag]);
        if there {
            std::fs::rename(s.lab.path("kept"), &hook).unwrap();
        }
        vec![]
    }),
    ("somebody else's repository", |s| {
        let given = Command::new("chown")
            .args(["-R", "12345"])
            .arg(&s.ada.path)
            .status();
        assert!(given.unwrap().success(), "only root can give a repository away");
        vec![]
    }),
    ("hostile configuration", |s| {
        let trap = format!("!touch {}", s.lab.path("trap").display());
        for (key, value) in [
            ("trailer.separators", "="),
            ("tag.gpgSign", "true"),
            ("gpg.ssh.program", "/nowhere"),
            ("push.followTags", "true"),
            ("fetch.pruneTags", "true"),
            ("fetch.prune", "true"),
            ("core.hooksPath", "/nowhere"),
            ("alias.verify-tag", &trap),
            ("alias.fetch", &trap),
            ("alias.update-ref", &trap),
            ("core.pager", &trap[1..]),
            ("core.fsmonitor", &trap[1..]),
            ("i18n.logOutputEncoding", "ISO-8859-1"),
        ] {
            s.ada.git(&["config", key, value]);
        }
        s.set(POINTER, &s.first.commit);
        vec![format!("+{POINTER}")]
    }),
    ("a commit with a file of its own", |s| {
        let trap = s.lab.path("trap");
        let trap = trap.display();
        let hostile = format!(
            "{CONFIG}[hooks]\npre = [[\"touch\", \"{trap}\"]]\npost = [[\"touch\", \"{trap}\"]]\n\
             [[target.cortex.check]]\nrun = [\"touch\", \"{trap}\"]\nfrom = \"operator\"\n"
        );
        std::fs::write(s.ada.path.join(".nixgate.toml"), hostile).unwrap();
        s.ada.git(&["commit", "-qam", "pulled"]);
        vec![]
    }),
    ("a commit whose file runs a program for ssh", |s| {
        let trap = s.lab.path("trap");
        let hostile = CONFIG.replace("Port=1", &format!("ProxyCommand=touch {}", trap.display()));
        std::fs::write(s.ada.path.join(".nixgate.toml"), hostile).unwrap();
        s.ada.git(&["commit", "-qam", "pulled"]);
        vec![]
    }),
];

#[test]
fn no_attack_succeeds() {
    let whole = Scene::new();
    assert_eq!(
        whole.program(&["verify"]).0,
        Some(0),
        "{:?}",
        whole.program(&["verify"])
    );
    let threads = 3;
    let rows: Vec<(usize, String)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let whole = &whole;
                let mine = ATTACKS.iter().enumerate().skip(worker).step_by(threads);
                scope.spawn(move || -> Vec<(usize, String)> {
                    mine.map(|(n, (name, attack))| (n, row(&whole.copy(n), name, *attack)))
                        .collect()
                })
            })
            .collect();
        workers.into_iter().flat_map(|w| w.join().unwrap()).collect()
    });
    let mut rows = rows;
    rows.sort();
    let head = line(
        "attack",
        "verify",
        "rollback",
        "deploy",
        "pre-push",
        "pre-receive",
    );
    let table: String = std::iter::once(head)
        .chain(rows.into_iter().map(|(_, row)| row))
        .collect();
    println!("{table}");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("attacks", table));
}

fn line(attack: &str, verify: &str, rollback: &str, deploy: &str, push: &str, receive: &str) -> String {
    format!("{attack:<44} {verify:<19} {rollback:<16} {deploy:<16} {push:<20} {receive}")
        .trim_end()
        .to_owned()
        + "\n"
}

/// One attack against everything.
fn row(scene: &Scene, name: &str, attack: Attack) -> String {
    let specs = attack(scene);
    let before = scene.hub.git(&["for-each-ref"]);
    let (exit, said) = scene.program(&["verify"]);
    let verify = match exit {
        // What is on the server is seen by whoever asks the server.
        Some(0) => match scene.program(&["verify", "--remote"]) {
            (Some(0), _) => "as recorded".to_owned(),
            (exit, said) => format!("{} there", refusal(exit, &said)),
        },
        exit => refusal(exit, &said),
    };
    let pushed = |flags: &[&str]| {
        if specs.is_empty() {
            return "-".to_owned();
        }
        let (done, said) = scene.push(flags, &specs);
        assert!(!done, "{name}: {specs:?} went through {flags:?}: {said}");
        assert_eq!(
            scene.hub.git(&["for-each-ref"]),
            before,
            "{name}: the server changed"
        );
        refusal(Some(1), &said)
    };
    let push = match scene.ada.path.join(".git/hooks/pre-push").exists() && name != "hostile configuration" {
        true => pushed(&["--atomic"]),
        // The hook is left out, and the server's is not.
        false => "left out".to_owned(),
    };
    let receive = pushed(&["--atomic", "--no-verify"]);
    let rollback = scene.chosen(&["rollback", "cortex"], &scene.first);
    let to = scene.second.name.leaf();
    let deploy = scene.chosen(&["deploy", "cortex", "--to", &to], &scene.second);
    assert!(!scene.lab.path("trap").exists(), "{name}: a program ran");
    line(name, &verify, &rollback, &deploy, &push, &receive)
}

/// Whoever has nothing but the server's refs, without the server's hook: what the attack leaves there is found.
#[test]
fn what_a_server_without_the_hook_let_in_is_found_in_every_clone() {
    let whole = Scene::new();
    let mut missed = Vec::new();
    for (n, (name, attack)) in ATTACKS.iter().enumerate() {
        let scene = whole.copy(n);
        std::fs::remove_file(scene.hub.path.join("hooks/pre-receive")).unwrap();
        let before = scene.hub.git(&["for-each-ref"]);
        let specs = attack(&scene);
        if !specs.is_empty() {
            let (done, said) = scene.push(&["--no-verify"], &specs);
            assert!(done, "{name}: {said}");
        }
        if scene.hub.git(&["for-each-ref"]) == before {
            continue;
        }
        let fresh = scene.lab.clone(&scene.hub, "fresh");
        fresh.git(&[
            "fetch",
            "-q",
            "origin",
            "+refs/nixgate/ledger/*:refs/nixgate/remotes/origin/ledger/*",
        ]);
        let output = scene
            .environment(&scene.lab.path("bin/git-nixgate"))
            .args(["verify", "--remote"])
            .current_dir(&fresh.path)
            .output()
            .unwrap();
        if output.status.success() {
            missed.push(*name);
        }
    }
    // A ref that is nobody's: no record, pointer or ledger is read from there.
    assert_eq!(missed, ["a target named like an option"]);
}
