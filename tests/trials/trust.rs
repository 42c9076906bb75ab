//! Nothing of a record that does not pass runs on the operator's machine or on the host, and nothing is removed for it.

use base64::Engine as _;
use git_nixgate::record::{Draft, Kind, Oid, OnHost, Record, RecordName, Secrets, Utc};

use crate::hand::{desk, root};
use crate::infra::{CONFIG, configure, expect, host_state, release, usual};
use crate::lab::Lab;

const LEDGER: &str = "refs/nixgate/ledger/cortex";
/// As `init` has it.
const FETCH: &str = "'+refs/nixgate/ledger/*:refs/nixgate/remotes/origin/ledger/*'";

/// A record of the newest there is, as everybody can read it.
#[track_caller]
fn newest(lab: &Lab) -> Record {
    let id = desk(lab, &format!("git rev-parse {LEDGER}"));
    let text = desk(lab, &format!("git cat-file tag {id} | base64 -w0"));
    let raw = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    Record::parse(Oid::from_hex(id.as_bytes()).unwrap(), &raw, None).unwrap()
}

/// An unsigned record behind the newest, made by hand by somebody who may push, and fetched.
#[track_caller]
fn forged(lab: &Lab, commit: &str, restores: Option<&Record>, withdraws: Vec<RecordName>) {
    let head = newest(lab);
    let mut evidence = restores.unwrap_or(&head).evidence.clone();
    evidence.commit = commit.to_owned();
    evidence.tree = desk(lab, &format!("git rev-parse '{commit}^{{tree}}'"));
    let draft = Draft {
        target: head.target().clone(),
        kind: match restores {
            Some(_) => Kind::Rollback,
            None => Kind::Release,
        },
        seq: head.seq + 1,
        commit: Oid::from_hex(commit.as_bytes()).unwrap(),
        tagger_name: "Eve".into(),
        tagger_mail: "eve@example.org".into(),
        time: Utc::from_unix(head.time.unix() + 1).unwrap(),
        subject: "a record by hand".into(),
        evidence,
        previous: Some(head.link()),
        restores: restores.map(|record| OnHost::Release(record.name.clone())),
        withdraws,
        secrets: Secrets::default(),
    };
    let file = std::env::temp_dir().join(format!("{}-{}", lab.instance(), draft.seq));
    std::fs::write(&file, draft.payload()).unwrap();
    lab.put("desk", &file, "/tmp/forged");
    std::fs::remove_file(&file).unwrap();
    let tag = draft.name().ref_name();
    desk(
        lab,
        &format!(
            "id=$(git hash-object -t tag -w /tmp/forged) && \
             git push -q --no-verify origin $id:{tag} +$id:{LEDGER} && git fetch -q --tags origin {FETCH}"
        ),
    );
}

const TRAPS: &str = "ls /tmp/trap-here /tmp/trap-there 2>/dev/null; :";

/// Checks that leave a trace where they ran: the operator's machine, and the host.
fn traps(target: &str) -> String {
    format!(
        "[[target.{target}.check]]\nrun = [\"touch\", \"/tmp/trap-here\"]\nfrom = \"operator\"\n\
         [[target.{target}.check]]\nrun = [\"sudo\", \"-n\", \"touch\", \"/tmp/trap-there\"]\n\
         [[target.{target}.check]]\nunit = \"app.service\"\n"
    )
}

#[track_caller]
fn sprung(lab: &Lab) -> String {
    format!("{} {}", root(lab, "desk", TRAPS), root(lab, "cortex", TRAPS))
        .trim()
        .to_owned()
}

#[test]
fn k3_k4_k6_nothing_runs_and_nothing_goes_for_what_nobody_released() {
    let lab = usual("k3");
    // Before the first release: HEAD's checks, without its programs.
    configure(&lab, &format!("{CONFIG}{}", traps("cortex")));
    let out = expect(&lab, 0, &["health", "cortex"]);
    assert!(
        out.stderr.contains("left out: run touch, run sudo: ") && out.stderr.contains("unit app.service"),
        "{out}"
    );
    assert_eq!(sprung(&lab), "");
    configure(&lab, CONFIG);

    desk(
        &lab,
        "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/sign && git config gpg.format ssh && \
         git config user.signingkey ~/.ssh/sign && git config tag.gpgSign true && \
         sed 's/^/op@example.org /' ~/.ssh/sign.pub >~/signers && git config nixgate.signers ~/signers && \
         git config nixgate.requireSigned true",
    );
    release(&lab, "cortex");
    let first = newest(&lab);
    lab.variant("cortex", "B");
    release(&lab, "cortex");
    let second = newest(&lab);
    expect(&lab, 0, &["health", "cortex"]);
    let host = host_state(&lab, "cortex");

    // An unsigned release of a commit with checks of its own.
    configure(&lab, &format!("{CONFIG}{}", traps("cortex")));
    let evil = desk(&lab, "git rev-parse HEAD");
    forged(&lab, &evil, None, Vec::new());
    for args in [
        &["health", "cortex"][..],
        &["rollback", "cortex"],
        &["rollback", "cortex", "--check"],
        &["prune", "cortex"],
        &["plan", "cortex"],
    ] {
        let out = expect(&lab, 3, args);
        assert!(out.stderr.contains("(unsigned)"), "{out}");
        assert_eq!(sprung(&lab), "", "{out}");
        assert_eq!(host_state(&lab, "cortex"), host, "{out}");
    }
    // What only looks goes on without the records.
    for args in [&["store", "check", "cortex"][..], &["logs", "cortex", "-n", "1"]] {
        let out = expect(&lab, 0, args);
        assert!(out.stderr.contains("the records of cortex are left out"), "{out}");
    }
    let out = expect(&lab, 1, &["status", "cortex", "--live"]);
    assert!(
        out.stdout.contains("(unsigned)") && out.stdout.contains("running"),
        "{out}"
    );
    assert_eq!(sprung(&lab), "");

    // An unsigned rollback that withdraws the release which runs: its root would be one that nobody needs.
    let back = format!(
        "git update-ref {LEDGER} {0} && git push -q --no-verify -f origin {0}:{LEDGER}",
        second.oid
    );
    desk(&lab, &format!("{back} && git fetch -q origin {FETCH}"));
    lab.variant("cortex", "A");
    forged(
        &lab,
        &first.commit.to_string(),
        Some(&first),
        vec![second.name.clone()],
    );
    root(
        &lab,
        "cortex",
        &format!(
            "{0}/bin/switch-to-configuration test >/dev/null 2>&1; nix-env -p /nix/var/nix/profiles/system --set {0}; {0}/bin/switch-to-configuration boot >/dev/null 2>&1",
            first.evidence.toplevel
        ),
    );
    let host = host_state(&lab, "cortex");
    for args in [&["prune", "cortex", "--dry-run"][..], &["prune", "cortex"]] {
        let out = expect(&lab, 3, args);
        assert!(out.stderr.contains("(unsigned)"), "{out}");
        assert_eq!(host_state(&lab, "cortex"), host, "{out}");
    }
    assert!(host.contains(&second.name.leaf()), "{host}");

    // Where a person released them, they run.
    desk(&lab, &format!("{back} && git fetch -q origin {FETCH}"));
    lab.variant("cortex", "C");
    release(&lab, "cortex");
    assert_eq!(sprung(&lab), "/tmp/trap-here /tmp/trap-there");
}
