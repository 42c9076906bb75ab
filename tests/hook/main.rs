//! The hooks as git runs them: real pushes into real repositories, through the installed shims and the real program.

mod installed;
mod leaks;
mod proof;
mod server;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use git_nixgate::command::hook;
use git_nixgate::record::Target;
use support::*;

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
        let (bin, _) = lab.program();
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
        self.push_with(dir, args, &[])
    }

    /// The same with these variables.
    fn push_with(&self, dir: &Path, args: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
        let output: Output = git_command(dir)
            .env("PATH", self.lab.program().1)
            .envs(variables.iter().copied())
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
    // Ref by ref nothing of a release lands, whatever comes first.
    let url = backup.path.to_str().unwrap();
    let (pushed, said) = h.push(&h.ada.path, &["--mirror", url]);
    assert!(!pushed && said.contains("git push --atomic"), "{said}");
    assert_eq!(
        backup.git(&[
            "for-each-ref",
            "refs/heads/release",
            "refs/tags/release",
            "refs/nixgate"
        ]),
        ""
    );
    h.passes(&h.ada.path, &["--mirror", "--atomic", url]);
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
