//! A repository with a hundred thousand records, made by `git fast-import` in seconds: for timings.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use git_nixgate::record::{Draft, Kind, Link, Oid, Secrets, Target, Utc, sha256_hex};

use super::{NOON, evidence, git_command};

/// Makes `targets` targets (`host0`, `host1`, …; the first is `cortex`) with `records` releases each, on one line of
/// commits, all refs and objects packed.
pub fn build(dir: &Path, targets: usize, records: usize) {
    std::fs::create_dir_all(dir).unwrap();
    let git = |args: &[&str]| {
        let output = git_command(dir).args(args).output().unwrap();
        assert!(
            output.status.success(),
            "git {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    git(&["init", "-q", "-b", "main", "."]);
    for (key, value) in [
        ("user.name", "Ada"),
        ("user.email", "ops@example.org"),
        ("gc.auto", "0"),
    ] {
        git(&["config", key, value]);
    }

    // The commits first: their ids go into the records.
    let mut script = Vec::new();
    for n in 0..records {
        let message = format!("change {n}\n");
        writeln!(script, "commit refs/heads/main\nmark :{}", n + 1).unwrap();
        writeln!(
            script,
            "committer Ada <ops@example.org> {} +0000",
            NOON + n as i64
        )
        .unwrap();
        writeln!(script, "data {}\n{message}", message.len()).unwrap();
        writeln!(script, "M 644 inline file\ndata {}\n{message}", message.len()).unwrap();
    }
    fast_import(dir, &script);
    git(&["reset", "-q", "--hard"]);
    let log = git(&["log", "--reverse", "--format=%H %T", "main"]);
    let commits: Vec<(Oid, String)> = log
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(id, tree)| (Oid::from_hex(id.as_bytes()).unwrap(), tree.to_owned()))
        .collect();

    let mut script = Vec::new();
    let mut refs = String::new();
    for t in 0..targets {
        let target: Target = if t == 0 {
            "cortex".parse().unwrap()
        } else {
            format!("host{t}").parse().unwrap()
        };
        let mut previous: Option<Link> = None;
        for (n, (commit, tree)) in commits.iter().enumerate() {
            let draft = Draft {
                target: target.clone(),
                kind: Kind::Release,
                seq: n as u64 + 1,
                commit: *commit,
                tagger_name: "Ada".into(),
                tagger_mail: "ops@example.org".into(),
                time: Utc::from_unix(NOON + n as i64).unwrap(),
                subject: format!("change {n}"),
                evidence: evidence(&target, &commit.to_string(), tree, &format!("{target} {n}")),
                previous: previous.take(),
                restores: None,
                withdraws: Vec::new(),
                secrets: Secrets::default(),
            };
            let (name, raw) = (draft.name(), draft.payload());
            let oid = gix::objs::compute_hash(gix::hash::Kind::Sha1, gix::objs::Kind::Tag, &raw).unwrap();
            let body = raw.windows(2).position(|w| w == b"\n\n").unwrap() + 2;
            writeln!(script, "tag {name}\nfrom {commit}").unwrap();
            writeln!(script, "tagger Ada <ops@example.org> {} +0000", NOON + n as i64).unwrap();
            writeln!(script, "data {}", raw.len() - body).unwrap();
            script.extend_from_slice(&raw[body..]);
            script.push(b'\n');
            if n + 1 == records {
                refs.push_str(&format!("create refs/nixgate/ledger/{target} {oid}\n"));
                refs.push_str(&format!(
                    "create refs/nixgate/remotes/origin/ledger/{target} {oid}\n"
                ));
                refs.push_str(&format!("create refs/heads/release/{target} {commit}\n"));
            }
            previous = Some(Link {
                oid,
                sha256: sha256_hex(&raw),
                name,
            });
        }
    }
    fast_import(dir, &script);
    let mut child = git_command(dir)
        .args(["update-ref", "--stdin"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(refs.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    git(&["pack-refs", "--all"]);
}

fn fast_import(dir: &Path, script: &[u8]) {
    let mut child = git_command(dir)
        .args(["fast-import", "--quiet", "--force", "--date-format=raw"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script).unwrap();
    assert!(child.wait().unwrap().success());
}
