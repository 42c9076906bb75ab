//! Evidence recomputed, changed bytes, and pushes that would rewrite a release.

use crate::hand::{at_desk, desk, evidence, good, root};
use crate::infra::{expect, refs, release, usual};

#[test]
fn s1_19_the_evidence_can_be_recomputed_and_one_changed_byte_is_found() {
    let lab = usual("s1-19");
    release(&lab, "cortex");
    lab.variant("cortex", "B");
    let name = release(&lab, "cortex");
    let whole = evidence(&lab, &name);
    let found = &whole["predicate"];
    // Recomputed on the target, by its own tools alone.
    let toplevel = lab.running_system("cortex");
    assert_eq!(found["toplevel"].as_str(), Some(toplevel.as_str()));
    let digest = root(
        &lab,
        "cortex",
        &format!(
            "nix-store -qR {toplevel} | LC_ALL=C sort | while read -r p; do \
             h=$(nix-store -q --hash $p); printf '%s\\0sha256:%s\\n' $p $(nix-hash --type sha256 --to-base16 ${{h#sha256:}}); \
             done | sha256sum | cut -d' ' -f1"
        ),
    );
    assert_eq!(found["closure_digest"].as_str(), Some(digest.as_str()));
    let nar = root(
        &lab,
        "cortex",
        &format!("nix-store --dump {toplevel} | sha256sum | cut -d' ' -f1"),
    );
    assert_eq!(found["nar_hash"], format!("sha256:{nar}"));
    let paths = root(&lab, "cortex", &format!("nix-store -qR {toplevel} | wc -l"));
    assert_eq!(found["paths"].to_string(), paths);
    let drv = found["drv"].as_str().unwrap();
    assert_eq!(
        root(&lab, "forge", &format!("nix-store -q --outputs {drv}")),
        toplevel
    );
    assert_eq!(
        found["flake_lock_sha256"].as_str(),
        Some(desk(&lab, "git show HEAD:flake.lock | sha256sum | cut -d' ' -f1").as_str())
    );
    assert_eq!(
        whole["subject"][0]["digest"]["gitCommit"],
        desk(&lab, "git rev-parse HEAD")
    );
    assert_eq!(
        whole["subject"][1]["digest"]["gitTree"],
        desk(&lab, "git rev-parse 'HEAD^{tree}'")
    );
    assert_eq!(
        found["generation_after"].to_string(),
        root(
            &lab,
            "cortex",
            "readlink /nix/var/nix/profiles/system | tr -dc 0-9"
        )
    );
    // Nothing of addresses, users on hosts and the operator's home.
    let raw = desk(&lab, &format!("git cat-file tag {name}"));
    for word in ["jarvis", "10.77.", "/home/op", "/root"] {
        assert!(!raw.contains(word), "{word}: {raw}");
    }
    // The page's own verifier.
    // What the host keeps is what was recorded, or is named.
    expect(&lab, 0, &["verify", "cortex", "--live"]);
    let kept = "/nix/var/nix/gcroots/nixgate/cortex";
    let leaf = name.rsplit('/').next().unwrap_or_default().to_owned();
    for (spoil, mend, rule) in [
        (
            format!("ln -sfn $(readlink -f {kept}/before-first) {kept}/{leaf}"),
            format!("ln -sfn {toplevel} {kept}/{leaf}"),
            "(root)",
        ),
        (
            format!("mv {kept}/{leaf} /root/kept"),
            format!("mv /root/kept {kept}/{leaf}"),
            "(root)",
        ),
        (
            "sed -i.kept s/nginx/xnign/ /var/lib/nixgate/cortex/record; echo >>/var/lib/nixgate/cortex/record".to_owned(),
            "mv /var/lib/nixgate/cortex/record.kept /var/lib/nixgate/cortex/record".to_owned(),
            "(carried)",
        ),
    ] {
        root(&lab, "cortex", &spoil);
        let out = expect(&lab, 1, &["verify", "cortex", "--live"]);
        assert!(out.stdout.contains(rule), "{spoil}: {out}");
        expect(&lab, 0, &["verify", "cortex"]);
        root(&lab, "cortex", &mend);
    }
    expect(&lab, 0, &["verify", "cortex", "--live"]);
    let by_hand = at_desk(&lab, &by_hand());
    assert_eq!(by_hand.text(), "", "{by_hand}");

    // One byte, wherever it is.
    expect(&lab, 0, &["verify"]);
    let kept = desk(&lab, &format!("git rev-parse refs/tags/{name}"));
    for (what, from, to) in [
        ("evidence", "\"paths\":", "\"paths\":1"),
        ("prose", "built by", "built by "),
        ("trailer", "Nixgate-Seq: 2", "Nixgate-Seq: 3"),
        ("subject line", "^Release cortex at", "Release cortex on"),
        (
            "subject of the commit",
            "^\\(Release cortex at [0-9a-f]*: .*\\)$",
            "\\1!",
        ),
        ("tagger", "tagger The", "tagger Thy"),
    ] {
        let forged = desk(
            &lab,
            &format!(
                "git cat-file tag {kept} | sed 's/{from}/{to}/' >/tmp/forged && git hash-object -t tag -w --literally /tmp/forged"
            ),
        );
        assert_ne!(forged, kept, "{what}");
        // Only the tag: it is elsewhere than its record says. The ledger as well: the object is another.
        desk(&lab, &format!("git update-ref refs/tags/{name} {forged}"));
        let out = expect(&lab, 1, &["verify", "cortex"]);
        assert!(out.stdout.contains("BROKEN"), "{what}: {out}");
        let published = "git update-ref refs/nixgate/remotes/origin/ledger/cortex";
        desk(
            &lab,
            &format!("git update-ref refs/nixgate/ledger/cortex {forged} && {published} {forged}"),
        );
        let out = expect(&lab, 1, &["verify", "cortex"]);
        assert!(out.stdout.contains("BROKEN"), "{what}: {out}");
        desk(
            &lab,
            &format!(
                "git update-ref refs/nixgate/ledger/cortex {kept} && {published} {kept} && git update-ref refs/tags/{name} {kept}"
            ),
        );
        expect(&lab, 0, &["verify", "cortex"]);
    }
    expect(&lab, 0, &["verify", &name]);
    // Where tags are signed, a newest record that is not is worth a word.
    let said = "the newest is not signed, although tags are signed here";
    assert!(!expect(&lab, 0, &["verify"]).stdout.contains(said));
    desk(
        &lab,
        "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/sign && git config gpg.format ssh && \
         git config user.signingkey ~/.ssh/sign && git config tag.gpgSign true",
    );
    assert!(expect(&lab, 0, &["verify"]).stdout.contains(said));
    good(&lab, "cortex", 7);
    release(&lab, "cortex");
    let out = expect(&lab, 0, &["verify"]);
    assert!(
        out.stdout.contains(" signed, not checked: ") && !out.stdout.contains(said),
        "{out}"
    );
    // Who may release is a list of its own.
    desk(
        &lab,
        "sed 's/^/op@example.org /' ~/.ssh/sign.pub >~/signers && git config nixgate.signers ~/signers && \
         git config nixgate.requireSigned true",
    );
    let out = expect(&lab, 0, &["verify", "cortex"]);
    assert!(
        out.stdout.contains(" signed by op@example.org with ED25519 key "),
        "{out}"
    );
    expect(&lab, 0, &["rollback", "cortex", "--check"]);
    desk(&lab, ": >~/signers");
    let host = crate::infra::host_state(&lab, "cortex");
    for args in [&["rollback", "cortex"][..], &["release", "cortex", "--again"]] {
        let out = expect(&lab, 3, args);
        assert!(
            out.stderr
                .contains("nobody who is listed has that key (signature)"),
            "{out}"
        );
        assert_eq!(crate::infra::host_state(&lab, "cortex"), host, "{out}");
    }
    expect(&lab, 1, &["verify", "cortex"]);
    // A record that cannot be signed is not begun.
    desk(
        &lab,
        "sed 's/^/op@example.org /' ~/.ssh/sign.pub >~/signers && git config tag.gpgSign false",
    );
    let out = expect(&lab, 3, &["release", "cortex", "--again"]);
    assert!(
        out.stderr
            .contains("records must be signed, and tags are not signed here"),
        "{out}"
    );
}

/// docs/format.md, "Verifying by hand", as it stands there.
fn by_hand() -> String {
    let page = include_str!("../../docs/format.md");
    let part = page.split("## Verifying by hand").nth(1).unwrap_or_default();
    let lines = part.lines().filter_map(|line| line.strip_prefix("    "));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn s1_21_no_push_rewrites_a_release_and_every_other_push_passes() {
    let lab = usual("s1-21");
    let first = release(&lab, "cortex");
    lab.variant("cortex", "B");
    let second = release(&lab, "cortex");
    expect(&lab, 0, &["hook", "install"]);
    let server = || refs(&lab).split_once("---\n").unwrap().1.to_owned();
    let before = server();
    let refused = |dir: &str, push: &str| {
        let out = lab.sh("desk", "op", &format!("cd {dir} && {push}"));
        assert!(!out.ok(), "{push} went through: {out}");
        assert!(
            out.stderr.contains("would break the record of a release"),
            "{push}: {out}"
        );
        assert_eq!(server(), before, "{push}");
    };
    let everywhere = |dir: &str| {
        refused(
            dir,
            &format!("git push -f origin {first}^{{commit}}:refs/heads/release/cortex"),
        );
        refused(dir, "git push origin :release/cortex");
        refused(dir, "git push origin --delete release/cortex");
        refused(dir, &format!("git push origin :refs/tags/{second}"));
        refused(
            dir,
            &format!("git push -f origin refs/tags/{first}:refs/tags/{second}"),
        );
        refused(
            dir,
            &format!("git push -f origin refs/tags/{first}:refs/nixgate/ledger/cortex"),
        );
        refused(dir, "git push origin HEAD:refs/heads/release/orion");
    };
    everywhere("~/infra");
    // `git tag -f` moves a tag here; it does not get out.
    let kept = desk(&lab, &format!("git rev-parse {second}"));
    desk(&lab, &format!("git tag -f -m 'by hand' {second} HEAD"));
    refused("~/infra", "git push -f --tags origin");
    refused("~/infra", &format!("git push -f origin {second}"));
    desk(&lab, &format!("git update-ref refs/tags/{second} {kept}"));
    // From a linked work tree, and with hooks kept elsewhere.
    desk(&lab, "git worktree add -q --detach ~/linked HEAD~1");
    everywhere("~/linked");
    desk(
        &lab,
        "rm .git/hooks/pre-push && git config core.hooksPath .githooks",
    );
    expect(&lab, 0, &["hook", "install"]);
    desk(
        &lab,
        "test -x .githooks/pre-push && rm -rf ~/linked && git worktree prune",
    );
    everywhere("~/infra");
    // What has nothing to do with it.
    for push in [
        "git push -q origin main",
        "git push -q origin HEAD:refs/heads/topic HEAD:refs/tags/v1",
        "git push -q -f origin HEAD~1:refs/heads/topic",
        "git push -q origin :topic :refs/tags/v1",
        "git push -q origin release/cortex",
        "git push -q --tags origin",
    ] {
        desk(&lab, push);
    }
    assert_eq!(server(), before);
    // And the program's own pushes.
    good(&lab, "cortex", 1);
    release(&lab, "cortex");
    expect(&lab, 0, &["rollback", "cortex"]);
}

#[test]
fn s1_21_the_servers_hook_holds_against_those_who_leave_out_their_own() {
    let lab = usual("s1-21-server");
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_git-nixgate"));
    lab.put("git", binary, "/usr/local/bin/git-nixgate");
    let install = "cd /srv/git/infra.git && git nixgate hook install --server";
    root(&lab, "git", &format!("su -s /bin/sh git -c '{install}'"));
    let first = release(&lab, "cortex");
    lab.variant("cortex", "B");
    let second = release(&lab, "cortex");
    let server = || refs(&lab).split_once("---\n").unwrap().1.to_owned();
    let before = server();
    for push in [
        format!("git push --no-verify -f origin {first}^{{commit}}:refs/heads/release/cortex"),
        "git push --no-verify origin :release/cortex".to_owned(),
        format!("git push --no-verify origin :refs/tags/{second}"),
        format!("git push --no-verify -f origin refs/tags/{first}:refs/tags/{second}"),
        format!("git push --no-verify -f origin refs/tags/{first}:refs/nixgate/ledger/cortex"),
    ] {
        let out = at_desk(&lab, &push);
        assert!(
            !out.ok() && out.stderr.contains("would break the record of a release"),
            "{push}: {out}"
        );
        assert_eq!(server(), before, "{push}");
    }
    desk(
        &lab,
        "git push -q origin main HEAD:refs/heads/topic && git push -q origin :topic",
    );
    expect(&lab, 0, &["rollback", "cortex"]);
}
