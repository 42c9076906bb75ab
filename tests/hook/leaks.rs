//! Values that configuration or environment keep secret do not leave in a record.

use git_nixgate::record::Draft;

use crate::support::*;
use crate::{Hooked, LEDGER, POINTER};

/// A second release of HEAD with this text in its evidence, only in ada's clone: what is to be pushed.
fn release_that_says(h: &Hooked, change: impl Fn(&mut Draft)) -> Vec<String> {
    let repo = h.ada.repo();
    let before = h.ada.ledger(&h.cortex).unwrap();
    let made = || {
        let mut draft = draft(&repo, &h.cortex, Some(&before), What::Release(h.ada.oid("HEAD")));
        change(&mut draft);
        draft
    };
    let mut draft = made();
    // The subject is the commit's own.
    if draft.subject != repo.commit(&draft.commit).unwrap().subject {
        h.ada.commit(&draft.subject);
        draft = made();
    }
    let oid = repo.write_tag(&draft.payload()).unwrap();
    repo.commit_local(&h.cortex, &draft.name(), &oid, Some(draft.commit), None, false)
        .unwrap();
    let refs = [draft.name().ref_name(), LEDGER.into(), POINTER.into()];
    ["--atomic".to_owned(), "origin".to_owned()]
        .into_iter()
        .chain(refs)
        .collect()
}

/// HEAD's file, in ada's clone and in the hub.
fn configure(h: &Hooked, text: &str) {
    std::fs::write(h.ada.path.join(".nixgate.toml"), format!("version = 1\n{text}")).unwrap();
    h.ada.git(&["add", ".nixgate.toml"]);
    h.ada.commit("other hosts");
    h.passes(&h.ada.path, &["origin", "HEAD:refs/heads/main"]);
}

#[test]
fn a_secret_in_a_record_does_not_leave() {
    for server in [false, true] {
        let h = if server {
            Hooked::server("sha1")
        } else {
            Hooked::client("sha1")
        };
        configure(&h, "[target.cortex]\nhost = \"192.0.2.7\"\n");
        let args = release_that_says(&h, |d| {
            d.evidence.warnings.push("cache at 192.0.2.7 was down".into());
        });
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (pushed, said) = h.push(&h.ada.path, &args);
        assert!(
            !pushed && said.contains("(leak)") && !said.contains("192.0.2.7"),
            "{said}"
        );
        // Whatever HEAD's file says by now.
        configure(&h, "[target.cortex]\nhost = \"192.0.2.8\"\n");
        assert!(!h.push(&h.ada.path, &args).0);
    }
}

/// A record is judged by the configuration of its own commit: one that was good when it was made can always be pushed.
#[test]
fn r2_a_record_is_not_judged_by_a_later_configuration() {
    for server in [false, true] {
        let h = if server {
            Hooked::server("sha1")
        } else {
            Hooked::client("sha1")
        };
        configure(&h, "[target.cortex]\nhost = \"192.0.2.7\"\n");
        let args = release_that_says(&h, |d| {
            d.evidence.warnings.push("cache at 192.0.2.8 was down".into());
        });
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        configure(&h, "[target.cortex]\nhost = \"192.0.2.8\"\nuser = \"cache\"\n");
        h.passes(&h.ada.path, &args);
    }
}

/// Another target's user or host may be a word of a commit's subject. What writes the record takes it out, and a record
/// that holds it nevertheless is pushed with a warning.
#[test]
fn r2_a_word_of_another_target_is_no_reason_to_refuse_a_record() {
    let h = Hooked::client("sha1");
    configure(
        &h,
        "[target.cortex]\nhost = \"192.0.2.7\"\n[target.web]\nuser = \"deploy\"\nhost = \"postgres\"\n",
    );
    let repo = h.ada.repo();
    let settings = git_nixgate::config::Settings::default();
    let secrets = git_nixgate::run::secrets_of(&repo, &h.cortex, &settings, &h.ada.oid("HEAD"));
    assert_eq!(
        secrets.redact("deploy postgres on cortex"),
        "[redacted] [redacted] on cortex"
    );
    let args = release_that_says(&h, |d| d.subject = "deploy postgres on cortex".into());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (pushed, said) = h.push(&h.ada.path, &args);
    assert!(pushed && said.contains("warning: release/cortex/"), "{said}");
    assert!(said.contains("holds in 2 place(s)"), "{said}");
}

/// Where a value may be known from, and how it may be written.
#[test]
fn every_value_that_is_known_is_found_in_every_spelling() {
    let h = Hooked::client("sha1");
    configure(
        &h,
        r#"[builder]
host = "bob@192.0.2.9"
[target.cortex]
host = "fd00::7"
user = "jarvis"
ssh-options = ["HostName=fd00:0::8", "ProxyJump=eve@bastion.example.org:22"]
[[target.cortex.check]]
http = "https://mon:mon-pass-1@status.example.org/"
"#,
    );
    for (key, value) in [
        ("remote.other.url", "https://op:p%40ss-word@git.example.org/x.git"),
        (
            "remote.forge.url",
            "https://ghp_0123456789abcdef@git.example.org/x.git",
        ),
        ("remote.hub.pushurl", "ssh://git@192.0.2.10:2222/srv/x.git"),
        ("url.https://op:rewritten-1@git.example.org/.insteadOf", "gh:"),
        (
            "http.https://git.example.org/.extraHeader",
            "AUTHORIZATION: basic eDp0b2tlbg==",
        ),
        ("sendemail.smtppass", "mail-pass-1"),
    ] {
        h.ada.git(&["config", key, value]);
    }
    let key =
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----\n";
    let variables = [
        ("GITHUB_TOKEN", "ghs_abcdefgh"),
        ("DEPLOY_SSH_KEY", key),
        ("SLACK_WEBHOOK", "https://hooks.example.org/T0/B0/XXXX"),
        ("DATABASE_URL", "postgres://app:db-pass-1@db.example.org/app"),
        (
            "NIX_CONFIG",
            "access-tokens = github.com=gho_76543210 git.example.org=PAT:glpat-76543210",
        ),
    ];
    let home = h.ada.path.to_str().unwrap();
    let mut said_by = Vec::new();
    // Users, hosts, folders, and what only git's configuration knows: a warning.
    let words = [
        "ssh://bob@forge",
        "/home/jarvis/.cache/nix is not writable",
        "jarvis@cortex: Permission denied",
        "bastion.example.org is down",
        "HTTP 401 for https://mon:***@status",
        "::ffff:192.0.2.10",
        "error: opening file '{HOME}/infra/flake.nix'",
    ];
    for (n, text) in [
        "ssh: connect to host fd00::7 port 22: Connection refused",
        "cannot reach [FD00:0:0::7]:22",
        "cannot reach fd00:0000:0000:0000:0000:0000:0000:0008",
        "ssh://bob@forge",
        "192.0.2.9:22",
        "/home/jarvis/.cache/nix is not writable",
        "jarvis@cortex: Permission denied",
        "bastion.example.org is down",
        "HTTP 401 for https://mon:***@status",
        "mon-pass-1",
        "fatal: Authentication failed for 'https://op:p%40ss-word@git.example.org/x.git/'",
        "p@ss-word",
        "https://ghp_0123456789abcdef@git.example.org",
        "::ffff:192.0.2.10",
        "xrewritten-1x",
        "basic eDp0b2tlbg==",
        "mail-pass-1",
        "error: unable to download 'https://api.github.com?access_token=ghs_abcdefgh': HTTP error 401",
        "b3BlbnNzaC1rZXktdjEA",
        "https://hooks.example.org/T0/B0/XXXX",
        "db-pass-1",
        "gho_76543210",
        "glpat-76543210",
        "error: opening file '{HOME}/infra/flake.nix'",
    ]
    .into_iter()
    .enumerate()
    {
        let template = text;
        let text = text.replace("{HOME}", home);
        let (kept, head) = (
            h.ada.git(&["rev-parse", LEDGER, POINTER]),
            h.ada.git(&["rev-parse", "HEAD"]),
        );
        let kept: Vec<&str> = kept.lines().collect();
        // In turn where a run writes such text: a warning, a gate's finding, the commit's subject.
        let args = release_that_says(&h, |d| match n % 3 {
            0 => d.evidence.warnings.push(text.clone()),
            1 => d.evidence.gates[1].findings.push(text.clone()),
            _ => d.subject = text.clone(),
        });
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (pushed, said) = h.push_with(&h.ada.path, &args, &variables);
        let good = match words.contains(&template) {
            true => pushed && said.contains("know as a user, a host or a folder"),
            false => !pushed && said.contains("(leak)"),
        };
        if !good || said.contains(&text) {
            said_by.push(format!("{text}: {said}"));
        }
        if pushed {
            h.hub.git(&["update-ref", LEDGER, kept[0]]);
            h.hub.git(&["update-ref", POINTER, kept[1]]);
            h.hub.git(&["update-ref", "-d", args[2]]);
        }
        // The next one's subject is not this one's.
        h.ada.git(&["reset", "-q", "--hard", &head]);
        h.ada.git(&["update-ref", LEDGER, kept[0]]);
        h.ada.git(&["update-ref", POINTER, kept[1]]);
        h.ada.git(&["update-ref", "-d", args[2]]);
    }
    assert!(said_by.is_empty(), "{}", said_by.join("\n"));
    // What only looks like one of them leaves.
    let args = release_that_says(&h, |d| {
        let text = "nginx 192.0.2.70, fd00::70, jarvis-theme, git.example.org, root by sudo, 12:30:07";
        d.evidence.warnings.push(text.into());
    });
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (pushed, said) = h.push_with(&h.ada.path, &args, &variables);
    assert!(pushed, "{said}");
}

/// A run's own record passes the hook whatever the users are called.
#[test]
fn words_that_every_record_says_are_no_leak() {
    let h = Hooked::client("sha1");
    configure(
        &h,
        "[builder]\nhost = \"forge\"\nuser = \"build\"\n[target.cortex]\nuser = \"cortex\"\n",
    );
    let known = git_nixgate::run::secrets(&h.ada.repo());
    assert!(known.count("as build@forge") > 0);
    let args = release_that_says(&h, |d| d.secrets = known.clone());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    h.passes(&h.ada.path, &args);
}
