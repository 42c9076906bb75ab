//! Where hooks are put, what they chain to, and what they cost others.

use std::process::{Command, Stdio};

use git_nixgate::command::hook::{self, Installed};
use git_nixgate::git::Repo;

use crate::support::*;
use crate::{Hooked, POINTER};

#[test]
fn it_holds_from_a_linked_work_tree_and_with_hooks_paths() {
    for (kind, value) in [("linked", ""), ("relative", ".husky/_"), ("absolute", "ABS")] {
        let h = Hooked::new("sha1");
        let mut dir = h.ada.path.clone();
        if kind == "linked" {
            dir = h.lab.path("linked tree");
            h.ada
                .git(&["worktree", "add", "-q", "--detach", dir.to_str().unwrap()]);
        } else {
            let value = value.replace("ABS", h.lab.path("shared hooks").to_str().unwrap());
            h.ada.git(&["config", "core.hooksPath", &value]);
        }
        let installed = hook::install(&Repo::open(&dir).unwrap(), false).unwrap();
        let [Installed::New { path, shared }] = &installed[..] else {
            panic!("{installed:?}")
        };
        assert_eq!(*shared, kind == "absolute", "{path:?}");
        h.refused(&dir, &["origin", &format!(":{POINTER}")], "pointer-deleted");
        h.passes(&dir, &["origin", "HEAD:refs/heads/x"]);
        if kind == "relative" {
            let below = h.ada.path.join("deep");
            std::fs::create_dir(&below).unwrap();
            h.refused(&below, &["origin", &format!(":{POINTER}")], "pointer-deleted");
        }
    }
}

#[test]
fn installing_twice_changes_nothing_and_a_foreign_hook_stays_as_it_is() {
    let h = Hooked::new("sha1");
    let repo = h.ada.repo();
    assert!(matches!(
        hook::install(&repo, false).unwrap()[..],
        [Installed::New { .. }]
    ));
    assert!(matches!(
        hook::install(&repo, false).unwrap()[..],
        [Installed::Already { .. }]
    ));
    let path = h.ada.path.join(".git/hooks/pre-push");
    std::fs::write(&path, "#!/bin/sh\n# git-nixgate hook: pre-push, version 0\n").unwrap();
    assert!(matches!(
        hook::install(&repo, false).unwrap()[..],
        [Installed::Renewed { .. }]
    ));
    write_script(&path, "#!/bin/sh\nexit 0\n");
    let foreign = hook::install(&repo, false).unwrap();
    let [Installed::Foreign { by_hand, .. }] = &foreign[..] else {
        panic!("{foreign:?}")
    };
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "#!/bin/sh\nexit 0\n");
    // What is printed works when it is typed.
    let line = by_hand[0]
        .split_once(": ")
        .unwrap()
        .1
        .split(" && ")
        .next()
        .unwrap();
    assert!(Command::new("sh").args(["-c", line]).status().unwrap().success());
    assert!(matches!(
        hook::install(&repo, false).unwrap()[..],
        [Installed::New { .. }]
    ));
    h.refused(
        &h.ada.path,
        &["origin", &format!(":{POINTER}")],
        "pointer-deleted",
    );
    // A link that leads nowhere is somebody's too.
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/nowhere/hook", &path).unwrap();
    hook::install(&repo, false).unwrap_err();
    assert!(path.is_symlink());
}

#[test]
fn a_chained_hook_gets_the_same_bytes_and_its_no_counts() {
    for server in [false, true] {
        let h = Hooked::new("sha1");
        let (work, name) = if server {
            (&h.hub, "pre-receive")
        } else {
            (&h.ada, "pre-push")
        };
        hook::install(&work.repo(), server).unwrap();
        let hooks = work.repo().hook_dir().unwrap().path;
        let (seen, own) = (h.lab.path("seen"), hooks.join(format!("{name}.chained")));
        write_script(
            &own,
            &format!(
                "#!/bin/sh\ncat >{}\nprintf '%s|' \"$@\" >>{}\n",
                seen.display(),
                seen.display()
            ),
        );
        let head = h.ada.oid("HEAD");
        h.passes(&h.ada.path, &["origin", "HEAD:refs/heads/x", "HEAD:refs/heads/y"]);
        let zero = "0".repeat(40);
        let expected = if server {
            format!("{zero} {head} refs/heads/x\n{zero} {head} refs/heads/y\n|")
        } else {
            let url = format!("file://{}", h.hub.path.display());
            format!("HEAD {head} refs/heads/x {zero}\nHEAD {head} refs/heads/y {zero}\norigin|{url}|")
        };
        assert_eq!(std::fs::read_to_string(&seen).unwrap(), expected);
        std::fs::remove_file(&seen).unwrap();
        // Ours says no first.
        h.refused(
            &h.ada.path,
            &["origin", &format!(":{POINTER}")],
            "pointer-deleted",
        );
        assert!(!seen.exists());
        write_script(&own, "#!/bin/sh\nexit 3\n");
        let (pushed, _) = h.push(&h.ada.path, &["origin", "HEAD:refs/heads/z"]);
        assert!(!pushed && !h.hub.has_ref("refs/heads/z"));
    }
}

#[test]
fn the_bytes_are_the_same_even_without_a_line_end_at_the_end() {
    let lab = Lab::new();
    let (_, path) = lab.program();
    let hook = lab.path("pre-push");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/hooks/pre-push"), &hook).unwrap();
    write_script(
        &lab.path("pre-push.chained"),
        &format!("#!/bin/sh\ncat >{}\n", lab.path("seen").display()),
    );
    let (a, z) = ("1".repeat(40), "0".repeat(40));
    for text in [
        String::new(),
        format!("a  b {a} refs/heads/x {z}"),
        format!("a\\n {a} refs/heads/x {z}\n\n\n"),
        format!("\u{fc} {a} refs/heads/x {z}\n"),
    ] {
        let mut child = Command::new(&hook)
            .args(["origin", "url"])
            .env("PATH", &path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(std::fs::read_to_string(lab.path("seen")).unwrap(), text);
    }
}

#[test]
fn without_the_program_release_refs_are_refused_and_the_rest_passes() {
    let h = Hooked::client("sha1");
    std::fs::remove_file(h.bin.join("git-nixgate")).unwrap();
    let (pushed, said) = h.push(&h.ada.path, &["origin", &format!(":{POINTER}")]);
    assert!(!pushed && said.contains("not on PATH"), "{said}");
    h.passes(&h.ada.path, &["origin", "HEAD:refs/heads/x"]);
}

#[test]
fn a_push_of_something_else_costs_a_look_at_its_lines_even_outside_a_repository() {
    let lab = Lab::new();
    let (bin, _) = lab.program();
    let (a, z) = ("1".repeat(40), "0".repeat(40));
    let run = |name: &str| {
        let mut child = Command::new(bin.join("git-nixgate"))
            .args(["hook", "pre-push", "origin", "url"])
            .current_dir(&bin)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let line = format!("refs/heads/x {a} {name} {z}\n");
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), line.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    // No repository is here to be opened: where one is needed, that fails.
    assert_eq!(run("refs/heads/x"), (true, String::new()));
    let (good, said) = run("refs/heads/release/cortex");
    assert!(!good && said.contains("no git repository"), "{said}");
}

#[test]
fn a_slow_hook_of_ones_own_is_named_and_not_the_remote() {
    let h = Hooked::new("sha1");
    let path = h.ada.path.join(".git/hooks/pre-push");
    let publish = || {
        let repo = h.ada.repo();
        let fetched = wait(repo.fetch("origin", &h.cortex)).unwrap();
        let set = repo.unpublished(&h.cortex, &fetched.refs).unwrap().unwrap();
        let repo = repo.with_network_limit(std::time::Duration::from_secs(4));
        let error = wait(repo.publish("origin", &h.cortex, &set, &fetched.refs)).unwrap_err();
        error.failure("origin", &h.cortex)
    };
    let second = h.local_release(&h.ada, "second");
    for (script, why) in [
        ("exec sleep 12", "no end within 4 s"),
        ("exit 1", "failed to push"),
    ] {
        write_script(&path, &format!("#!/bin/sh\n{script}\n"));
        let failure = publish();
        assert_eq!(failure.exit, git_nixgate::failure::Exit::Unpublished);
        assert_eq!(failure.what, "origin did not take the record", "{failure:?}");
        let said = failure.why.join("\n");
        assert!(
            said.contains(why) && said.contains(path.to_str().unwrap()),
            "{said}"
        );
        // What is printed publishes once the hook lets it.
        write_script(&path, "#!/bin/sh\nsleep 5\n");
        let line = &said[said.find("git push --atomic").unwrap()..];
        let args: Vec<&str> = line.lines().next().unwrap().split(' ').skip(2).collect();
        if script == "exit 1" {
            h.passes(&h.ada.path, &args);
            assert_eq!(h.hub.oid(crate::LEDGER), second.oid);
        }
    }
    // Ours calls another, or is alone.
    std::fs::remove_file(&path).unwrap();
    hook::install(&h.ada.repo(), false).unwrap();
    assert_eq!(h.ada.repo().other_pre_push(), None);
    let chained = path.with_file_name("pre-push.chained");
    write_script(&chained, "#!/bin/sh\nexit 0\n");
    assert_eq!(h.ada.repo().other_pre_push(), Some(chained));
}
