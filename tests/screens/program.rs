//! The program itself, in real repositories: help, refusals, answers. Standard output, standard error and exit status
//! as one text.

use std::process::{Command, Stdio};

use super::support::{Lab, What, Work, git_command, target};
use super::{screen, screens};

const CONFIG: &str = "version = 1\n[target.cortex]\nhost = \"127.0.0.1\"\nssh-options = [\"Port=1\"]\n";

fn nixgate(work: &Work, args: &[&str]) -> String {
    nixgate_in(work, "auto", args)
}

/// `color`: the flag's value; `always` is what a terminal shows.
pub fn nixgate_in(work: &Work, color: &str, args: &[&str]) -> String {
    let git = git_command(&work.path);
    let mut command = Command::new(env!("CARGO_BIN_EXE_git-nixgate"));
    command.env_clear();
    for (key, value) in git.get_envs() {
        if let Some(value) = value {
            command.env(key, value);
        }
    }
    let out = command
        .env("COLUMNS", "100")
        .current_dir(&work.path)
        .args(["--color", color])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = format!(
        "$ git nixgate {}\n{}{}(exit {})\n",
        args.join(" "),
        String::from_utf8_lossy(&out.stderr),
        String::from_utf8_lossy(&out.stdout),
        out.status.code().unwrap_or(-1)
    );
    let root = work.path.parent().unwrap();
    // Commits have fixed dates, so ids are the same everywhere; folders, run ids and git's age are not.
    let text = text.replace(&*root.to_string_lossy(), "/home/ada");
    text.lines()
        .filter(|line| !line.contains("hook.nixgate.event"))
        .map(|line| match line.split_once(" in ") {
            Some((head @ ("  FAILED" | "  ❌"), _)) => format!("{head} in N s"),
            _ => line.to_owned(),
        })
        .map(|line| match line.split_once(" (run ") {
            Some((head, _)) => format!("{head} (run RUN)\n"),
            None => format!("{line}\n"),
        })
        .collect()
}

fn configured(lab: &Lab, name: &str) -> Work {
    let work = lab.repo(name);
    configure(&work);
    work
}

/// Commits a `.nixgate.toml` whose one host answers nobody.
pub fn configure(work: &Work) {
    std::fs::write(work.path.join(".nixgate.toml"), CONFIG).unwrap();
    work.git(&["add", "."]);
    work.commit("Release with nixgate");
}

#[test]
fn help_of_every_command() {
    let lab = Lab::new();
    let work = lab.repo("infra");
    let commands: [&[&str]; 23] = [
        &[],
        &["init"],
        &["check"],
        &["release"],
        &["rollback"],
        &["deploy"],
        &["health"],
        &["status"],
        &["log"],
        &["show"],
        &["verify"],
        &["publish"],
        &["logs"],
        &["resume"],
        &["cancel"],
        &["store"],
        &["store", "check"],
        &["store", "repair"],
        &["hook"],
        &["hook", "install"],
        &["config"],
        &["config", "show"],
        &["config", "check"],
    ];
    let text: String = commands
        .iter()
        .map(|words| format!("{}\n", nixgate(&work, &[words, &["-h"][..]].concat())))
        .collect();
    screen("help", &text);
}

#[test]
fn commands_that_are_refused_before_any_work() {
    for (name, color) in [("refused", "never"), ("refused-terminal", "always")] {
        refusals(name, color);
    }
}

#[track_caller]
fn refusals(name: &str, color: &str) {
    let nixgate = |work: &Work, args: &[&str]| nixgate_in(work, color, args);
    let lab = Lab::new();
    let bare = lab.path("nowhere");
    std::fs::create_dir(&bare).unwrap();
    let nowhere = Work { path: bare };
    let fresh = lab.repo("fresh");
    let mut all = vec![
        ("not in a repository", nixgate(&nowhere, &["status"])),
        ("no file", nixgate(&fresh, &["release", "cortex"])),
        ("no target", nixgate(&fresh, &["status"])),
    ];
    std::fs::write(fresh.path.join(".nixgate.toml"), CONFIG).unwrap();
    all.push((
        "a file that is not committed",
        nixgate(&fresh, &["release", "cortex"]),
    ));
    fresh.git(&["add", "."]);
    fresh.commit("Release with nixgate");
    std::fs::write(fresh.path.join(".nixgate.toml"), format!("{CONFIG}# more\n")).unwrap();
    all.extend([
        ("an unknown target", nixgate(&fresh, &["release", "orion"])),
        ("a bad name", nixgate(&fresh, &["release", "Cortex!"])),
        ("uncommitted changes", nixgate(&fresh, &["release", "cortex"])),
        (
            "an unknown revision",
            nixgate(&fresh, &["release", "cortex", "--rev", "v9"]),
        ),
        ("nothing to go back to", nixgate(&fresh, &["rollback", "cortex"])),
        ("no record to show", nixgate(&fresh, &["show", "cortex"])),
        ("no such thing", nixgate(&fresh, &["show", "xyz_1"])),
        ("nowhere to publish to", nixgate(&fresh, &["publish", "cortex"])),
        ("an unknown command", nixgate(&fresh, &["relase", "cortex"])),
        ("no flake", {
            fresh.git(&["rm", "-q", "--cached", ".nixgate.toml"]);
            std::fs::remove_file(fresh.path.join(".nixgate.toml")).unwrap();
            nixgate(&fresh, &["init"])
        }),
        ("as JSON", nixgate(&fresh, &["--json", "show", "cortex"])),
    ]);
    screens(name, all);
}

#[test]
fn every_problem_of_a_configuration_at_once() {
    let lab = Lab::new();
    let work = lab.repo("infra");
    std::fs::write(
        work.path.join("bad.toml"),
        "version = 1\n[defaults]\nsudo = \"always\"\nuser = \"a b\"\nkeeep = 3\n[timeouts]\nsoak = \"a minute\"\n\
         confirm = 0\n[preflight]\nboot-free = \"much\"\nservices = [\"ssh d\"]\n[target.cortex]\nhost = \"-oX\"\n\
         ssh-options = [\"ProxyCommand=nc\"]\n[[target.cortex.check]]\nunit = \"nginx\"\nhttp = \"ftp://x\"\n\
         [target.Orion]\n[[cache]]\nname = \"main\"\n",
    )
    .unwrap();
    for (name, color) in [
        ("config-problems", "never"),
        ("config-problems-terminal", "always"),
    ] {
        screen(
            name,
            &nixgate_in(&work, color, &["config", "check", "--file", "bad.toml"]),
        );
    }
    // What is not even TOML, and what is in the commit that a run would use.
    std::fs::write(work.path.join(".nixgate.toml"), "version = 1\n[target.cortex\n").unwrap();
    work.git(&["add", ".nixgate.toml"]);
    work.commit("Break it");
    let wrong = |color: &str| {
        [
            ("not TOML", nixgate_in(&work, color, &["config", "check"])),
            (
                "a release with it",
                nixgate_in(&work, color, &["release", "cortex"]),
            ),
            (
                "a file that is not there",
                nixgate_in(&work, color, &["config", "check", "--file", "no.toml"]),
            ),
            ("another version", {
                std::fs::write(work.path.join("new.toml"), "version = 2\n[target.cortex]\n").unwrap();
                nixgate_in(&work, color, &["config", "check", "--file", "new.toml"])
            }),
            ("no version", {
                std::fs::write(work.path.join("old.toml"), "[target.cortex]\n").unwrap();
                nixgate_in(&work, color, &["config", "check", "--file", "old.toml"])
            }),
        ]
    };
    screens("config-errors", wrong("never"));
    screens("config-errors-terminal", wrong("always"));
    std::fs::write(work.path.join("good.toml"), CONFIG).unwrap();
    screens(
        "config-good",
        [
            (
                "check",
                nixgate(&work, &["config", "check", "--file", "good.toml"]),
            ),
            ("show", nixgate(&work, &["config", "show", "--file", "good.toml"])),
        ],
    );
}

#[test]
fn answers_from_git_alone() {
    let lab = Lab::new();
    let work = configured(&lab, "infra");
    let cortex = target("cortex");
    work.release(&cortex);
    work.commit("nginx: bump");
    work.release(&cortex);
    work.record(&cortex, What::Rollback(None));
    let mut all = vec![
        ("status", nixgate(&work, &["status"])),
        ("log", nixgate(&work, &["log", "cortex", "-n", "2"])),
        ("verify", nixgate(&work, &["verify"])),
        (
            "a way back that is none",
            nixgate(
                &work,
                &["rollback", "cortex", "--to", "20270101T000000Z-0123456789ab"],
            ),
        ),
        ("hook install", nixgate(&work, &["hook", "install"])),
        ("hook install, again", nixgate(&work, &["hook", "install"])),
    ];
    let newest = work.git(&[
        "for-each-ref",
        "--sort=-refname",
        "--format=%(refname)",
        "refs/tags/release/cortex",
    ]);
    let newest = newest.lines().nth(1).unwrap();
    work.git(&["update-ref", newest, "HEAD~1"]);
    work.git(&[
        "update-ref",
        "refs/heads/release/cortex",
        &work.commit("elsewhere").to_string(),
    ]);
    all.push((
        "verify, after somebody moved a tag and the pointer",
        nixgate(&work, &["verify"]),
    ));
    std::fs::write(work.path.join(".git/hooks/pre-push"), "#!/bin/sh\n").unwrap();
    all.push((
        "hook install beside another hook",
        nixgate(&work, &["hook", "install"]),
    ));
    screens("answers", all);
}

#[test]
fn the_man_pages_in_docs_are_those_of_this_program() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man/man1");
    let pages = git_nixgate::cli::man_pages().unwrap();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), pages.len());
    for (name, page) in pages {
        let kept = std::fs::read(folder.join(&name)).unwrap_or_default();
        assert!(
            kept == page,
            "{name} is out of date: git-nixgate man docs/man/man1"
        );
    }
}
