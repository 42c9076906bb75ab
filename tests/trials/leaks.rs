//! What is secret stays where it is: in no record, no journal, nothing of a host. And a repository that Nix does not take.

use crate::hand::{at_desk, describe, desk, good, root};
use crate::infra::{host_state, usual};

const TOKEN: &str = "tok-en-0123456789";

/// Everything that git holds under these refs of op's clone: commits, tags and every file of them.
#[track_caller]
fn held(lab: &crate::lab::Lab, refs: &str) -> String {
    desk(
        lab,
        &format!(
            "for r in $(git for-each-ref --format='%(objectname)' {refs}); do git cat-file -p $r; \
             git ls-tree -r $r^{{tree}} | grep -v flake | awk '{{print $3}}' | \
             while read -r o; do git cat-file -p $o; echo; done; done"
        ),
    )
}

#[test]
fn s2_21_r2_a_token_is_in_no_record_no_journal_and_nothing_of_the_host() {
    let lab = usual("leaks");
    let run = |exit: i32, command: &str| {
        let out = at_desk(&lab, &format!("GITHUB_TOKEN={TOKEN} git nixgate {command}"));
        assert_eq!(out.status, exit, "{out}");
        out
    };
    // What Nix says when it fails stands in the journal.
    let thrown =
        format!("{{ packages.hello = throw \"{TOKEN} was refused for jarvis at /home/op/infra\"; }}");
    describe(&lab, "cortex", &thrown);
    let out = run(1, "release cortex");
    assert!(out.stderr.contains("was refused for"), "{out}");
    let journal = held(&lab, "refs/nixgate/runs");
    assert!(
        journal.contains("[redacted] was refused for [redacted] at [redacted]/infra"),
        "{journal}"
    );
    assert!(!journal.contains(TOKEN), "{journal}");
    let failed = run(0, "log cortex --failed");
    assert!(!failed.stdout.contains(TOKEN), "{failed}");

    // A commit says it in its subject, and words that are another target's user and host; its record does not, and passes
    // the hook.
    good(&lab, "cortex", 1);
    desk(
        &lab,
        &format!(
            "printf '[target.web]\\nuser = \"deploy\"\\nhost = \"postgres\"\\n' >>.nixgate.toml && \
             git commit -aq --amend -m 'cortex: {TOKEN} for jarvis, deploy on postgres' && git config remote.other.url https://op:{TOKEN}@git.example.org/x"
        ),
    );
    run(0, "release cortex");
    for refs in ["refs/tags/release", "refs/nixgate/runs"] {
        let text = held(&lab, refs);
        assert!(!text.contains(TOKEN), "{refs}: {text}");
    }
    let record = desk(
        &lab,
        "git cat-file tag $(git rev-parse refs/nixgate/ledger/cortex)",
    );
    assert!(
        record.contains(": cortex: [redacted] for [redacted], [redacted] on [redacted]\n"),
        "{record}"
    );
    run(0, "verify --remote");
    let there = root(
        &lab,
        "cortex",
        &format!(
            "grep -rl -e {TOKEN} /var/lib/nixgate /run/nixgate 2>/dev/null; journalctl --no-pager | grep -c -e {TOKEN}; :"
        ),
    );
    assert_eq!(there, "0");
}

#[test]
fn a_repository_with_sha256_is_refused_before_any_work_because_nix_takes_none() {
    let lab = usual("sha256");
    let before = host_state(&lab, "cortex");
    let copied = "rm -rf ~/s && git init -q --object-format=sha256 ~/s && cd ~/infra && cp -r $(git ls-files | cut -d/ -f1 | sort -u) ~/s && \
                  cd ~/s && git add -A && git commit -qm 'The same'";
    lab.sh("desk", "op", copied).text();
    for command in ["release cortex", "check cortex"] {
        let out = lab.sh("desk", "op", &format!("cd ~/s && git nixgate {command}"));
        assert_eq!(out.status, 3, "{out}");
        assert!(
            out.stderr
                .contains("SHA-256 object ids, which Nix does not take as a flake")
                && out.stderr.contains("git init --object-format=sha1"),
            "{out}"
        );
    }
    assert_eq!(host_state(&lab, "cortex"), before);
    // It is so.
    let nix = "rm -rf /tmp/s && git init -q --object-format=sha256 /tmp/s && cd /tmp/s && \
               echo '{ outputs = _: { x = 1; }; }' >flake.nix && git add -A && \
               git -c user.name=a -c user.email=a@b commit -qm x && nix eval --raw git+file:///tmp/s#x";
    let out = lab.sh("forge", "root", nix);
    assert_ne!(out.status, 0, "{out}");
    let same = nix
        .replace("--object-format=sha256", "--object-format=sha1")
        .replace("eval --raw", "eval");
    assert_eq!(lab.sh("forge", "root", &same).text(), "1");
}

#[test]
fn s2_21_a_secret_that_a_record_would_have_to_say_is_refused_before_the_switch() {
    let lab = crate::infra::usual("unsayable");
    lab.variant("cortex", "B");
    let before = (lab.running_system("cortex"), crate::infra::refs(&lab));
    // A common variable of a CI's cache, whose value is a word that each record has.
    let out = crate::hand::at_desk(&lab, "CACHE_KEY=$(uname -m)-linux git nixgate release cortex");
    assert_eq!(out.status, 2, "{out}");
    assert!(out.stderr.contains("CACHE_KEY"), "{out}");
    assert_eq!(
        (lab.running_system("cortex"), crate::infra::refs(&lab)),
        before,
        "{out}"
    );
    crate::infra::release(&lab, "cortex");
}
