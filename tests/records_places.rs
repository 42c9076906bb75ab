//! The same few things in every kind of repository that git has: they work, or are refused with the way out.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use git_nixgate::git::Repo;
use git_nixgate::record::Target;
use support::*;

const CONFIG: &str = "version = 1\n[target.cortex]\nhost = \"127.0.0.1\"\nssh-options = [\"Port=1\"]\n";

/// A hub with two releases of cortex on it, and the clone that made them.
fn released(lab: &Lab, format: &str) -> (Work, Work, Target) {
    let (hub, ada, _) = lab.two_clones(format);
    hub.git(&["config", "uploadpack.allowFilter", "true"]);
    hub.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let cortex = target("cortex");
    std::fs::write(ada.path.join(".nixgate.toml"), CONFIG).unwrap();
    ada.git(&["add", "."]);
    for message in ["one", "two"] {
        ada.commit(message);
        ada.git(&["push", "-q", "origin", "main"]);
        publish(&ada, &cortex);
    }
    (hub, ada, cortex)
}

fn publish(work: &Work, target: &Target) -> Made {
    let repo = work.repo();
    let fetched = wait(repo.fetch("origin", target)).unwrap();
    repo.take_remote_ledger(target, "origin").unwrap();
    let made = work.make(target, What::Release(work.oid("HEAD")));
    wait(repo.publish("origin", target, &made.set(), &fetched.refs)).unwrap();
    repo.commit_set(target, &made.set(), Some("origin"), false)
        .unwrap();
    made
}

fn program(work: &Work, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_git-nixgate"))
        .args(args)
        .current_dir(&work.path)
        .env("HOME", &work.path)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

const KINDS: [&str; 7] = [
    "clone",
    "linked work tree",
    "bare",
    "partial clone",
    "treeless clone",
    "shallow clone",
    "reftable",
];

/// A repository of this kind beside the hub.
fn place(lab: &Lab, hub: &Work, ada: &Work, kind: &str) -> Work {
    let url = format!("file://{}", hub.path.display());
    let path = lab.path("place");
    let to = path.to_str().unwrap();
    match kind {
        "linked work tree" => ada.git(&["worktree", "add", "-q", "--detach", to]),
        "bare" => ada.git(&["clone", "-q", "--bare", &url, to]),
        "partial clone" => ada.git(&["clone", "-q", "--filter=blob:none", &url, to]),
        "treeless clone" => ada.git(&["clone", "-q", "--filter=tree:0", &url, to]),
        "shallow clone" => ada.git(&["clone", "-q", "--depth=1", &url, to]),
        "reftable" => ada.git(&["clone", "-q", "--ref-format=reftable", &url, to]),
        _ => ada.git(&["clone", "-q", &url, to]),
    };
    Work::at(path)
}

/// Git with the program on its PATH, as a person has it.
fn git(lab: &Lab, dir: &Path, args: &[&str]) -> (bool, String) {
    let output = git_command(dir)
        .env("PATH", lab.program().1)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// What came of a command: it works, it goes on to the host, where nobody listens, or it is refused with what to type.
fn outcome(lab: &Lab, exit: Option<i32>, said: &str) -> String {
    let line = |head: &str| said.lines().find_map(|line| line.strip_prefix(head));
    match (exit, line("error: ")) {
        (Some(0), _) => "works".to_owned(),
        (Some(1), _) if said.contains("Network reachability... FAILED") => "goes on to the host".to_owned(),
        (Some(exit), Some(error)) => {
            let next = line("next: ").unwrap_or_else(|| panic!("no way out: {said}"));
            let root = lab.path("").display().to_string();
            format!("exit {exit}: {error}; next: {next}").replace(root.trim_end_matches('/'), "…")
        }
        (Some(1), None) => {
            let broken = said.lines().find(|line| line.contains("BROKEN: "));
            format!("exit 1: {}", broken.unwrap_or_else(|| panic!("{said}")))
        }
        _ => panic!("{exit:?}: {said}"),
    }
}

/// Everything that records are for, in a repository of this kind: what it came to, one line each.
fn tried(kind: &str, format: &str) -> Vec<(&'static str, String)> {
    let lab = Lab::new();
    let (hub, ada, cortex) = released(&lab, format);
    let work = place(&lab, &hub, &ada, kind);
    let second = ada.ledger(&cortex).unwrap().head().name.leaf();
    let commands: [(&str, &[&str]); 12] = [
        ("status", &["status"]),
        ("verify", &["verify"]),
        ("verify --remote", &["verify", "--remote"]),
        ("log", &["log", "cortex"]),
        ("show", &["show", "cortex"]),
        ("config check", &["config", "check"]),
        ("release", &["release", "cortex"]),
        ("check", &["check", "cortex"]),
        ("rollback", &["rollback", "cortex"]),
        ("rollback --check", &["rollback", "cortex", "--check"]),
        ("deploy", &["deploy", "cortex", "--to", &second]),
        ("log --failed", &["log", "cortex", "--failed"]),
    ];
    let published: [(&str, &[&str]); 5] = [
        ("publish", &["publish", "cortex"]),
        ("verify what was published", &["verify", "--remote"]),
        ("init", &["init"]),
        ("hook install", &["hook", "install"]),
        ("hook install --server", &["hook", "install", "--server"]),
    ];
    let mut rows = Vec::new();
    let mut try_all = |commands: &[(&'static str, &[&str])]| {
        for (name, args) in commands {
            let (exit, said) = program(&work, args);
            rows.push((*name, outcome(&lab, exit, &said)));
        }
    };
    try_all(&commands);
    if Repo::open(&work.path).is_ok() {
        // The next record is made and published from here.
        let third = publish(&work, &cortex);
        assert_eq!(third.seq, 3, "{kind}, {format}");
        assert_eq!(
            hub.oid("refs/nixgate/ledger/cortex"),
            third.oid,
            "{kind}, {format}"
        );
    }
    try_all(&published);
    // A push from here that would break a record, and one to here: the hooks that were installed, run by git.
    let here = work.path.to_str().unwrap();
    let delete = ":refs/heads/release/cortex";
    for (hook, from, to) in [("pre-push", &work, "origin"), ("pre-receive", &ada, here)] {
        let (pushed, said) = git(&lab, &from.path, &["push", to, delete]);
        let came = match pushed {
            true => "no hook is there to refuse it".to_owned(),
            false => refused(&said),
        };
        rows.push((hook, came));
    }
    rows
}

/// The rule that a hook names.
fn refused(said: &str) -> String {
    let rule = said.lines().find_map(|line| {
        let (_, rule) = line.trim_end().rsplit_once('(')?;
        let rule = rule.strip_suffix(')')?;
        rule.bytes()
            .all(|b| b.is_ascii_lowercase() || b == b'-')
            .then_some(rule)
    });
    match rule {
        Some(rule) => format!("refused ({rule})"),
        None => {
            let line = said.lines().find(|line| line.contains("error: "));
            format!(
                "refused: {}",
                line.unwrap_or_else(|| panic!("{said}"))
                    .trim_start_matches("remote: ")
            )
        }
    }
}

/// Each kind of repository, each command: it works, or is refused with the way out.
#[test]
fn in_every_kind_of_repository_every_command_works_or_says_what_to_do() {
    let of = |format: &str| {
        let mut text = String::new();
        for kind in KINDS {
            let mut told: Vec<(String, Vec<&str>)> = Vec::new();
            for (command, came) in tried(kind, format) {
                match told.iter_mut().find(|(known, _)| *known == came) {
                    Some((_, commands)) => commands.push(command),
                    None => told.push((came, vec![command])),
                }
            }
            text.push_str(&format!("## {kind}, {format}\n"));
            for (came, commands) in told {
                text.push_str(&format!("{}\n    {came}\n", commands.join(", ")));
            }
            text.push('\n');
        }
        text
    };
    let text = std::thread::scope(|scope| {
        let sha256 = scope.spawn(|| of("sha256"));
        of("sha1") + &sha256.join().unwrap()
    });
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("places", text));
}

#[test]
fn the_ways_out_of_a_shallow_clone_are_ways_out() {
    let lab = Lab::new();
    let (hub, ada, _) = released(&lab, "sha1");
    let work = place(&lab, &hub, &ada, "shallow clone");
    // The tags that came along are not the whole chain, and that is said.
    let (exit, said) = program(&work, &["status"]);
    assert!(
        exit == Some(1) && said.contains("next: git fetch --tags\n"),
        "{said}"
    );
    work.git(&["fetch", "--tags"]);
    for args in [&["status"][..], &["log", "cortex"], &["show", "cortex"]] {
        let (exit, said) = program(&work, args);
        assert_eq!(exit, Some(0), "{args:?}: {said}");
    }
    let (exit, said) = program(&work, &["release", "cortex"]);
    assert!(
        exit == Some(3) && said.contains("next: git fetch --unshallow;"),
        "{said}"
    );
    work.git(&["fetch", "--unshallow"]);
    let (exit, said) = program(&work, &["release", "cortex"]);
    assert!(
        exit == Some(1) && said.contains("Network reachability... FAILED"),
        "{said}"
    );
}

#[test]
fn the_way_out_of_reftable_is_one() {
    let lab = Lab::new();
    let (hub, ada, _) = released(&lab, "sha1");
    let work = place(&lab, &hub, &ada, "reftable");
    let (exit, said) = program(&work, &["status"]);
    let next: Vec<&str> = said
        .lines()
        .skip_while(|line| !line.starts_with("next: "))
        .map(|line| line.strip_prefix("next: ").unwrap_or(line).trim_start())
        .collect();
    assert_eq!(exit, Some(2));
    let words = |line: &str| -> Vec<String> {
        let command = line.split("    #").next().unwrap();
        let command = command.replace("URL", hub.path.to_str().unwrap());
        command.split(' ').skip(1).map(str::to_owned).collect()
    };
    // Before 2.48 git does not migrate where there are reflogs.
    let migrate = words(next[0]);
    let migrate: Vec<&str> = migrate.iter().map(String::as_str).collect();
    let (good, said) = work.says(&migrate);
    assert!(good || said.contains("not supported yet"), "{said}");
    if good {
        assert_eq!(program(&work, &["verify"]).0, Some(0));
    }
    let files = lab.path("files");
    let mut clone = words(next[1]);
    clone.push(files.to_str().unwrap().to_owned());
    let clone: Vec<&str> = clone.iter().map(String::as_str).collect();
    ada.git(&clone);
    assert_eq!(program(&Work::at(files), &["verify"]).0, Some(0));
    // A push that has nothing to do with releases needs no repository to be read.
    let table = lab.path("other");
    ada.git(&[
        "clone",
        "-q",
        "--ref-format=reftable",
        hub.path.to_str().unwrap(),
        table.to_str().unwrap(),
    ]);
    let table = Work::at(table);
    let hooks = table.path.join(".git/hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    std::fs::copy(
        concat!(env!("CARGO_MANIFEST_DIR"), "/hooks/pre-push"),
        hooks.join("pre-push"),
    )
    .unwrap();
    let (pushed, said) = git(&lab, &table.path, &["push", "origin", "HEAD:refs/heads/other"]);
    assert!(pushed, "{said}");
    let (pushed, said) = git(
        &lab,
        &table.path,
        &["push", "origin", ":refs/heads/release/cortex"],
    );
    assert!(!pushed && said.contains("reftable"), "{said}");
}

#[test]
fn a_chain_that_held_is_not_read_again_and_its_refs_are() {
    let lab = Lab::new();
    let (_, ada, cortex) = released(&lab, "sha1");
    let third = publish(&ada, &cortex);
    let first = ada.ledger(&cortex).unwrap().records()[0].clone();
    let fourth = ada.make(&cortex, What::Release(ada.oid("HEAD")));
    assert_eq!(program(&ada, &["verify"]).0, Some(0));
    // What is known is known: the oldest record's bytes are not looked at again, unless that is asked for.
    let hex = first.oid.to_string();
    let object = ada.path.join(".git/objects").join(&hex[..2]).join(&hex[2..]);
    let kept = lab.path("kept");
    std::fs::rename(&object, &kept).unwrap();
    let (exit, said) = program(&ada, &["verify"]);
    assert_eq!(exit, Some(0), "{said}");
    assert!(said.contains("cortex: 3 records verified"), "{said}");
    let (exit, said) = program(&ada, &["verify", "--full"]);
    assert!(exit == Some(1) && said.contains("(missing)"), "{said}");
    // A chain that went on is read as a whole.
    ada.git(&["update-ref", &fourth.name.ref_name(), &fourth.oid.to_string()]);
    ada.git(&[
        "update-ref",
        "refs/nixgate/ledger/cortex",
        &fourth.oid.to_string(),
    ]);
    assert_eq!(program(&ada, &["verify"]).0, Some(1));
    std::fs::rename(&kept, &object).unwrap();
    let (exit, said) = program(&ada, &["verify"]);
    assert!(
        exit == Some(0) && said.contains("cortex: 4 records verified"),
        "{said}"
    );
    // Refs are looked at each time.
    ada.git(&["update-ref", &third.name.ref_name(), &fourth.oid.to_string()]);
    let (exit, said) = program(&ada, &["verify"]);
    assert!(exit == Some(1) && said.contains("(record-moved)"), "{said}");
    ada.git(&["update-ref", &third.name.ref_name(), &third.oid.to_string()]);
    let commit = ada.commit("nobody released it");
    ada.git(&["update-ref", "refs/heads/release/cortex", &commit.to_string()]);
    let (exit, said) = program(&ada, &["verify"]);
    assert!(exit == Some(1) && said.contains("(pointer)"), "{said}");
    ada.git(&[
        "update-ref",
        "refs/heads/release/cortex",
        &fourth.commit.to_string(),
    ]);
    assert_eq!(program(&ada, &["verify"]).0, Some(0));
    // Other demands are another question.
    ada.git(&["config", "nixgate.requireSigned", "true"]);
    let (exit, said) = program(&ada, &["verify"]);
    assert!(exit == Some(1) && said.contains("(unsigned)"), "{said}");
    // A record that is named is found in what is known, too.
    ada.git(&["config", "nixgate.requireSigned", "false"]);
    let (exit, said) = program(&ada, &["verify", &first.name.to_string()]);
    assert!(
        exit == Some(0) && said.contains(&format!("{} unsigned", first.name.leaf())),
        "{said}"
    );
    let absent = "release/cortex/20301120T031402Z-0123456789ab";
    assert_eq!(program(&ada, &["verify", absent]).0, Some(1));
}
