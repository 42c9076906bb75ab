//! The hooks as git runs them: real pushes into real repositories, through the installed shims and the real program.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use git_nixgate::command::hook::{self, Installed};
use git_nixgate::git::Repo;
use git_nixgate::record::Target;
use support::*;

/// A directory for PATH that holds `git-nixgate`.
fn program(lab: &Lab) -> PathBuf {
    let dir = lab.path("bin");
    std::fs::create_dir_all(&dir).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_git-nixgate"), dir.join("git-nixgate")).unwrap();
    dir
}

fn write_script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

struct Hooked {
    lab: Lab,
    hub: Work,
    ada: Work,
    bob: Work,
    bin: PathBuf,
    cortex: Target,
}

impl Hooked {
    /// A hub with one release of `cortex` on it, two clones that know it, hooks nowhere yet.
    fn new(format: &str) -> Hooked {
        let lab = Lab::new();
        let (hub, ada, bob) = lab.two_clones(format);
        let bin = program(&lab);
        let cortex = target("cortex");
        let hooked = Hooked {
            lab,
            hub,
            ada,
            bob,
            bin,
            cortex,
        };
        hooked.release(&hooked.ada);
        wait(hooked.bob.repo().fetch("origin", &hooked.cortex)).unwrap();
        hooked
            .bob
            .repo()
            .take_remote_ledger(&hooked.cortex, "origin")
            .unwrap();
        hooked
    }

    fn client(format: &str) -> Hooked {
        let hooked = Hooked::new(format);
        hook::install(&hooked.ada.repo(), false).unwrap();
        hooked
    }

    fn server(format: &str) -> Hooked {
        let hooked = Hooked::new(format);
        hook::install(&hooked.hub.repo(), true).unwrap();
        hooked
    }

    /// Publishes a release of HEAD; the library's own pushes find the program too.
    fn release(&self, work: &Work) -> Made {
        let fetched = wait(work.repo().fetch("origin", &self.cortex)).unwrap();
        let made = work.make(&self.cortex, What::Release(work.oid("HEAD")));
        wait(
            work.repo()
                .publish("origin", &self.cortex, &made.set(), &fetched.refs),
        )
        .unwrap();
        work.repo()
            .commit_local(
                &self.cortex,
                &made.name,
                &made.oid,
                made.pointer(),
                Some("origin"),
                false,
            )
            .unwrap();
        made
    }

    /// A release that is only in `work`.
    fn local_release(&self, work: &Work, message: &str) -> Made {
        work.commit(message);
        work.release(&self.cortex)
    }

    fn push(&self, dir: &Path, args: &[&str]) -> (bool, String) {
        let path = format!("{}:{}", self.bin.display(), std::env::var("PATH").unwrap());
        let output: Output = git_command(dir)
            .env("PATH", path)
            .arg("push")
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    fn refused(&self, dir: &Path, args: &[&str], rule: &str) {
        let before = self.hub.git(&["for-each-ref"]);
        let (pushed, said) = self.push(dir, args);
        assert!(!pushed, "{args:?} went through");
        assert!(
            said.contains(&format!("({rule})")),
            "{args:?} was not refused by {rule}: {said}"
        );
        assert_eq!(
            before,
            self.hub.git(&["for-each-ref"]),
            "{args:?} changed the remote"
        );
    }

    fn passes(&self, dir: &Path, args: &[&str]) {
        let (pushed, said) = self.push(dir, args);
        assert!(pushed, "{args:?}: {said}");
    }
}

const LEDGER: &str = "refs/nixgate/ledger/cortex";
const POINTER: &str = "refs/heads/release/cortex";

/// The table of what nobody may do, and of what everybody may, against a repository in which either hook sits.
fn table(h: &Hooked) {
    let dir = h.ada.path.clone();
    let first = h.ada.ledger(&h.cortex).unwrap().head().clone();
    let first_tag = first.name.ref_name();

    // Everything else: untouched.
    h.ada.commit("work");
    h.passes(&dir, &["origin", "HEAD:refs/heads/main"]);
    h.passes(
        &dir,
        &[
            "origin",
            "HEAD:refs/heads/other",
            "HEAD~1:refs/tags/v1",
            "HEAD:refs/heads/release-notes",
        ],
    );
    h.passes(&dir, &["-f", "origin", "HEAD~1:refs/heads/other"]);
    h.passes(&dir, &["origin", ":refs/heads/other", ":refs/tags/v1"]);

    // A release by hand, all three refs: passes.
    let second = h.local_release(&h.ada, "second");
    let second_tag = second.name.ref_name();
    h.refused(&dir, &["origin", POINTER], "pointer-unrecorded");
    h.refused(&dir, &["origin", &second_tag], "record-unchained");
    h.refused(&dir, &["origin", &second_tag, POINTER], "pointer-unrecorded");
    h.refused(&dir, &["origin", LEDGER], "tag-missing");
    h.refused(&dir, &["origin", LEDGER, POINTER], "tag-missing");
    h.passes(&dir, &["--atomic", "origin", &second_tag, LEDGER, POINTER]);

    // Rewinding, moving, deleting: in every way that git has for it.
    h.refused(
        &dir,
        &["-f", "origin", &format!("{}:{POINTER}", first.commit)],
        "pointer-rewound",
    );
    h.refused(
        &dir,
        &["origin", &format!("+{}:{POINTER}", first.commit)],
        "pointer-rewound",
    );
    h.refused(&dir, &["origin", &format!(":{POINTER}")], "pointer-deleted");
    h.refused(&dir, &["origin", "--delete", "release/cortex"], "pointer-deleted");
    h.refused(
        &dir,
        &["-f", "origin", &format!("{}:{first_tag}", second.oid)],
        "record-moved",
    );
    h.refused(&dir, &["origin", &format!(":{first_tag}")], "record-deleted");
    h.refused(
        &dir,
        &["-f", "origin", &format!("{}:{LEDGER}", first.oid)],
        "ledger-discontinued",
    );
    h.refused(&dir, &["origin", &format!(":{LEDGER}")], "ledger-deleted");

    // One bad ref stops the good ones beside it.
    h.refused(
        &dir,
        &["origin", "HEAD:refs/heads/good", &format!(":{first_tag}")],
        "record-deleted",
    );

    // A pointer to a commit that nobody recorded.
    let third = h.ada.commit("third");
    h.refused(
        &dir,
        &["origin", &format!("{third}:{POINTER}")],
        "pointer-unrecorded",
    );
    h.refused(
        &dir,
        &["origin", &format!("{third}:refs/heads/release/fresh")],
        unknown(h),
    );

    // Names under release/ that are none.
    h.refused(
        &dir,
        &["origin", &format!("{third}:refs/heads/release/1.2")],
        "name",
    );
    h.refused(
        &dir,
        &["origin", &format!("{third}:refs/heads/release/cortex2/x")],
        "name",
    );
    h.refused(
        &dir,
        &["origin", &format!("{third}:refs/tags/release/cortex/v1")],
        "name",
    );

    // Tags that are no records.
    let name = format!(
        "refs/tags/release/cortex/20301120T031402Z-{}",
        &third.to_string()[..12]
    );
    h.refused(&dir, &["origin", &format!("{third}:{name}")], "record-malformed");
    h.ada
        .git(&["tag", "-a", "-m", "by hand", "hand", &third.to_string()]);
    h.refused(&dir, &["origin", &format!("hand:{name}")], "record-malformed");
    h.refused(
        &dir,
        &["origin", &format!("{}:{name}", second.oid)],
        "record-malformed",
    );
    h.refused(&dir, &["origin", &format!("hand:{LEDGER}")], "ledger-malformed");
    h.refused(
        &dir,
        &["origin", &format!("{third}:{LEDGER}")],
        "ledger-malformed",
    );

    // A record of another target in this one's ledger.
    let other = h.ada.record(&target("other"), What::Release(third));
    h.refused(
        &dir,
        &["-f", "origin", &format!("{}:{LEDGER}", other.oid)],
        "ledger-malformed",
    );
}

/// What a side says about the ledger of a target that it has never seen.
fn unknown(h: &Hooked) -> &'static str {
    if h.hub.path.join("hooks/pre-receive").exists() {
        "pointer-unrecorded"
    } else {
        "unproven"
    }
}

#[test]
fn the_table_holds_on_the_client() {
    table(&Hooked::client("sha1"));
}

#[test]
fn the_table_holds_on_the_server() {
    table(&Hooked::server("sha1"));
}

#[test]
fn the_table_holds_with_sha256() {
    table(&Hooked::client("sha256"));
    table(&Hooked::server("sha256"));
}

#[test]
fn a_mirror_takes_everything_and_a_mirror_that_lost_records_takes_nothing_away() {
    let h = Hooked::client("sha1");
    h.local_release(&h.ada, "second");
    h.ada.record(&h.cortex, What::Rollback(None));
    let backup = h.lab.bare("backup.git", "sha1");
    hook::install(&backup.repo(), true).unwrap();
    h.passes(&h.ada.path, &["--mirror", backup.path.to_str().unwrap()]);
    assert_eq!(backup.oid(LEDGER), h.ada.oid(LEDGER));
    let tag = h
        .hub
        .git(&["for-each-ref", "--format=%(refname)", "refs/tags/release"]);
    h.bob.git(&["update-ref", "-d", &tag]);
    hook::install(&h.bob.repo(), false).unwrap();
    h.refused(
        &h.bob.path,
        &["--prune", "origin", "refs/tags/*:refs/tags/*"],
        "record-deleted",
    );
    // Git does not tell a pre-push hook what `--mirror` deletes (2.47): only the server can see that.
    hook::install(&h.hub.repo(), true).unwrap();
    h.refused(&h.bob.path, &["--mirror", "origin"], "record-deleted");
}

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
        let Installed::New { path, shared } = &installed else {
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
        hook::install(&repo, false).unwrap(),
        Installed::New { .. }
    ));
    assert!(matches!(
        hook::install(&repo, false).unwrap(),
        Installed::Already { .. }
    ));
    let path = h.ada.path.join(".git/hooks/pre-push");
    std::fs::write(&path, "#!/bin/sh\n# git-nixgate hook: pre-push, version 0\n").unwrap();
    assert!(matches!(
        hook::install(&repo, false).unwrap(),
        Installed::Renewed { .. }
    ));
    write_script(&path, "#!/bin/sh\nexit 0\n");
    let foreign = hook::install(&repo, false).unwrap();
    let Installed::Foreign { by_hand, .. } = foreign else {
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
        hook::install(&repo, false).unwrap(),
        Installed::New { .. }
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
    let bin = program(&lab);
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
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let mut child = Command::new(&hook)
            .args(["origin", "url"])
            .env("PATH", path)
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
fn what_cannot_be_proven_is_refused() {
    let h = Hooked::client("sha1");
    // The remote has moved on, and we have not seen it.
    h.bob.commit("bob's");
    h.release(&h.bob);
    let ours = h.local_release(&h.ada, "ours");
    let all = [ours.name.ref_name(), LEDGER.to_owned(), POINTER.to_owned()];
    let args: Vec<&str> = ["-f", "origin"]
        .into_iter()
        .chain(all.iter().map(String::as_str))
        .collect();
    h.refused(&h.ada.path, &args, "unproven");
    // A shallow clone cannot tell a rewind from a fast-forward.
    let url = format!("file://{}", h.hub.path.display());
    h.ada.git(&[
        "clone",
        "-q",
        "--depth=1",
        &url,
        h.lab.path("shallow").to_str().unwrap(),
    ]);
    let shallow = Work::at(h.lab.path("shallow"));
    hook::install(&shallow.repo(), false).unwrap();
    let orphan = {
        shallow.git(&["checkout", "-q", "--orphan", "other"]);
        shallow.commit("orphan")
    };
    shallow.git(&["fetch", "-q", "origin", "release/cortex", "--depth=1"]);
    h.refused(
        &shallow.path,
        &["-f", "origin", &format!("{orphan}:{POINTER}")],
        "unproven",
    );
}

#[test]
fn a_secret_in_a_record_does_not_leave() {
    for server in [false, true] {
        let h = Hooked::new("sha1");
        let (work, at) = if server {
            (&h.hub, &h.hub)
        } else {
            (&h.ada, &h.ada)
        };
        hook::install(&work.repo(), server).unwrap();
        // What is secret is what HEAD's file says of hosts: on the client its own, on the server the server's.
        let config = |address: &str| {
            let text = format!("version = 1\n[target.cortex]\nhost = \"{address}\"\n");
            std::fs::write(h.ada.path.join(".nixgate.toml"), text).unwrap();
            h.ada.git(&["add", ".nixgate.toml"]);
            h.ada.commit(address);
            h.passes(&h.ada.path, &["origin", "HEAD:refs/heads/main"]);
            assert_eq!(at.oid("HEAD"), h.ada.oid("HEAD"));
        };
        config("192.0.2.7");
        let repo = h.ada.repo();
        let before = h.ada.ledger(&h.cortex).unwrap();
        let mut draft = draft(&repo, &h.cortex, Some(&before), What::Release(h.ada.oid("HEAD")));
        draft.evidence.warnings.push("cache at 192.0.2.7 was down".into());
        let oid = repo.write_tag(&draft.payload()).unwrap();
        repo.commit_local(&h.cortex, &draft.name(), &oid, Some(draft.commit), None, false)
            .unwrap();
        let tag = draft.name().ref_name();
        let args = ["--atomic", "origin", &tag, LEDGER, POINTER];
        let (pushed, said) = h.push(&h.ada.path, &args);
        assert!(
            !pushed && said.contains("(leak)") && !said.contains("192.0.2.7"),
            "{said}"
        );
        config("192.0.2.8");
        h.passes(&h.ada.path, &args);
    }
}

#[test]
fn a_push_of_something_else_costs_a_look_at_its_lines_even_outside_a_repository() {
    let lab = Lab::new();
    let bin = program(&lab);
    let (a, z) = ("1".repeat(40), "0".repeat(40));
    let run = |name: &str| {
        let mut child = Command::new(bin.join("git-nixgate"))
            .args(["hook", "pre-push", "origin", "url"])
            .current_dir(lab.path("bin"))
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
fn a_missing_object_is_no_proof() {
    let h = Hooked::client("sha1");
    let first = h.ada.ledger(&h.cortex).unwrap().head().oid;
    let second = h.local_release(&h.ada, "second");
    let third = h.local_release(&h.ada, "third");
    // The link between the remote's record and ours is gone from here.
    h.ada.git(&["update-ref", "-d", &second.name.ref_name()]);
    let hex = second.oid.to_string();
    std::fs::remove_file(h.ada.path.join(".git/objects").join(&hex[..2]).join(&hex[2..])).unwrap();
    assert_eq!(h.hub.oid(LEDGER), first);
    h.refused(
        &h.ada.path,
        &["origin", &third.name.ref_name(), LEDGER, POINTER],
        "unproven",
    );
}

#[test]
fn a_refusal_says_what_why_and_what_next() {
    let h = Hooked::client("sha1");
    let first = h.ada.ledger(&h.cortex).unwrap().head().clone();
    let second = h.local_release(&h.ada, "second");
    let lines = format!(
        "x {} {POINTER} {}\n(delete) {} {} {}\n",
        first.commit,
        second.commit,
        "0".repeat(40),
        first.name.ref_name(),
        first.oid
    );
    let failure = hook::pre_push(&h.ada.path, "origin", "url", lines.as_bytes(), |_| Vec::new()).unwrap_err();
    let text = format!(
        "exit {}\n{failure}\n  next: {}",
        failure.exit.code(),
        failure.next.join("\n  next: ")
    );
    let text = [(&first.commit, "FIRST"), (&second.commit, "SECOND")]
        .iter()
        .fold(text, |text, (oid, word)| {
            text.replace(&oid.to_string()[..12], word)
        });
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_snapshot!("hook-refusal", text));
}

#[test]
fn a_ledger_comes_to_an_empty_server_with_all_its_tags_or_not_at_all() {
    let h = Hooked::new("sha1");
    h.local_release(&h.ada, "second");
    let empty = h.lab.bare("empty.git", "sha1");
    hook::install(&empty.repo(), true).unwrap();
    let url = empty.path.to_str().unwrap();
    let newest = h.ada.ledger(&h.cortex).unwrap().head().name.ref_name();
    for specs in [&[LEDGER][..], &[LEDGER, POINTER], &[LEDGER, POINTER, &newest]] {
        let args: Vec<&str> = ["--no-verify", "--atomic", url]
            .into_iter()
            .chain(specs.iter().copied())
            .collect();
        let (pushed, said) = h.push(&h.ada.path, &args);
        // Git sends what is reachable, and a link to the record before is nothing that git follows.
        assert!(!pushed && said.contains("(unproven)"), "{specs:?}: {said}");
    }
    h.passes(
        &h.ada.path,
        &["--no-verify", url, "refs/tags/release/cortex/*:refs/tags/kept/*"],
    );
    for specs in [&[LEDGER][..], &[LEDGER, POINTER], &[LEDGER, POINTER, &newest]] {
        let args: Vec<&str> = ["--no-verify", "--atomic", url]
            .into_iter()
            .chain(specs.iter().copied())
            .collect();
        let (pushed, said) = h.push(&h.ada.path, &args);
        assert!(!pushed && said.contains("(tag-missing)"), "{specs:?}: {said}");
    }
    h.passes(
        &h.ada.path,
        &[
            "--no-verify",
            "--atomic",
            url,
            LEDGER,
            POINTER,
            "refs/tags/release/cortex/*:refs/tags/release/cortex/*",
        ],
    );
    // What stays as it is, is not judged: not even what nobody could read.
    let same = format!("x {0} refs/heads/release/cortex {0}\n", "1".repeat(40));
    hook::pre_push(&h.ada.path, "origin", "url", same.as_bytes(), |_| Vec::new()).unwrap();
}
