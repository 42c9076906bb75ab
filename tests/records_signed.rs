//! Signatures on records, made by the same programs as git's own.

mod support;

use git_nixgate::command::hook;
use git_nixgate::failure::Exit;
use git_nixgate::git::Known;
use git_nixgate::git::{Signed, Trust};
use git_nixgate::record::{Oid, Record, Signature};
use support::*;

fn read(work: &Work, oid: Oid) -> Record {
    work.repo().record(&oid, None).unwrap()
}

#[test]
fn a_signed_record_is_verified_by_git_and_bytes_behind_it_are_refused() {
    let lab = Lab::new();
    let work = lab.repo("repo");
    let (key, public) = ssh_key(&lab, "key");
    let signers = lab.path("signers");
    std::fs::write(&signers, format!("ops@example.org {public}")).unwrap();
    work.signs_with(&key);
    work.git(&["config", "gpg.ssh.allowedSignersFile", signers.to_str().unwrap()]);
    let cortex = target("cortex");
    work.repo().try_sign().unwrap();
    let made = work.release(&cortex);
    let name = made.name.to_string();
    let (good, said) = work.says(&["tag", "-v", &name]);
    assert!(good && said.contains("Good \"git\" signature"), "{said}");
    let record = Record::parse(made.oid, &made.raw, None).unwrap();
    assert_eq!(record.signature, Signature::Ssh);
    let signer = work.repo().signed(&record, &Trust::default()).unwrap();
    assert!(
        signer
            .to_string()
            .starts_with("signed by ops@example.org with ED25519 key SHA256:"),
        "{signer}"
    );
    let trailers = work.git(&[
        "for-each-ref",
        "--format=%(contents:trailers)",
        &made.name.ref_name(),
    ]);
    assert!(
        trailers.contains("Nixgate-Evidence-SHA256: ") && !trailers.contains("SSH SIGNATURE"),
        "{trailers}"
    );
    let mut longer = made.raw.clone();
    longer.extend_from_slice(b"one more line\n");
    assert_eq!(Record::parse(made.oid, &longer, None).unwrap_err().rule, "armor");
    // git itself finds nothing wrong with that: the reason for reading strictly.
    let longer = work.repo().write_tag(&longer).unwrap();
    work.git(&["update-ref", "refs/tags/longer", &longer.to_string()]);
    assert!(work.says(&["tag", "-v", "longer"]).0);
    let mut tampered = made.raw.clone();
    let at = tampered.windows(5).position(|w| w == b"nginx").unwrap();
    tampered[at] = b'm';
    let tampered = work.repo().write_tag(&tampered).unwrap();
    let tampered = Record {
        oid: tampered,
        ..record
    };
    assert_eq!(
        work.repo().signed(&tampered, &Trust::default()).unwrap_err().rule,
        "signature"
    );
}

#[test]
fn a_key_that_cannot_sign_is_said_before_anything_is_made() {
    let lab = Lab::new();
    let work = lab.repo("repo");
    work.git(&["config", "gpg.format", "ssh"]);
    work.git(&["config", "tag.gpgSign", "true"]);
    let failure = work.repo().try_sign().unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    work.git(&["config", "user.signingKey", "/nowhere/key"]);
    let failure = work.repo().try_sign().unwrap_err();
    assert_eq!(failure.exit, Exit::Failed);
    assert!(!failure.why.is_empty());
}

#[test]
fn gpg_signs_as_git_does() {
    let lab = Lab::new();
    let work = lab.repo("repo");
    let home = lab.path("gnupg");
    std::fs::create_dir(&home).unwrap();
    sh(&format!("chmod 700 {}", home.display()));
    let wrapper = lab.path("gpg.sh");
    let script = format!("#!/bin/sh\nexec gpg --homedir {} \"$@\"\n", home.display());
    write_script(&wrapper, &script);
    ran(std::process::Command::new(&wrapper).args([
        "--batch",
        "--quiet",
        "--passphrase",
        "",
        "--quick-gen-key",
        "Ada <ops@example.org>",
        "ed25519",
        "sign",
    ]));
    work.git(&["config", "gpg.program", wrapper.to_str().unwrap()]);
    work.git(&["config", "tag.gpgSign", "true"]);
    let made = work.release(&target("cortex"));
    assert!(work.says(&["tag", "-v", &made.name.to_string()]).0);
    let record = Record::parse(made.oid, &made.raw, None).unwrap();
    assert_eq!(record.signature, Signature::Pgp);
    // Git trusts the key; a signers file does where it lists it.
    let signed = work
        .repo()
        .signed(&record, &Trust::default())
        .unwrap()
        .to_string();
    let print = signed.rsplit(' ').next().unwrap();
    assert_eq!(
        signed,
        format!("signed by Ada <ops@example.org> with OpenPGP key {print}")
    );
    let signers = lab.path("signers");
    for (line, counts) in [
        (
            format!("# who may release\nopenpgp {}\n", print.to_lowercase()),
            true,
        ),
        (format!("openpgp {}\n", "0".repeat(40)), false),
        (String::new(), false),
    ] {
        std::fs::write(&signers, &line).unwrap();
        let trust = work.repo().trust(false, signers.to_str().unwrap()).unwrap();
        let found = work.repo().signed(&record, &trust);
        assert_eq!(found.is_ok(), counts, "{line:?}: {found:?}");
    }
    let _ = std::process::Command::new("gpgconf")
        .arg("--homedir")
        .arg(&home)
        .args(["--kill", "all"])
        .status();
}

#[test]
fn a_literal_key_signs_through_the_agent() {
    let lab = Lab::new();
    let work = lab.repo("repo");
    let (key, socket, wrapper) = (lab.path("key"), lab.path("agent"), lab.path("sign.sh"));
    sh(&format!("ssh-keygen -q -t ed25519 -N '' -f {}", key.display()));
    let pid = sh(&format!(
        "ssh-agent -s -a {} | sed -n 's/.*SSH_AGENT_PID=\\([0-9]*\\).*/\\1/p'",
        socket.display()
    ));
    let added = std::process::Command::new("ssh-add")
        .arg("-q")
        .arg(&key)
        .env("SSH_AUTH_SOCK", &socket)
        .status();
    let script = format!(
        "#!/bin/sh\nSSH_AUTH_SOCK={} exec ssh-keygen \"$@\"\n",
        socket.display()
    );
    write_script(&wrapper, &script);
    std::fs::remove_file(&key).unwrap();
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    for literal in [public.trim().to_owned(), format!("key::{}", public.trim())] {
        work.git(&["config", "gpg.format", "ssh"]);
        work.git(&["config", "gpg.ssh.program", wrapper.to_str().unwrap()]);
        work.git(&["config", "user.signingKey", &literal]);
        work.git(&["config", "tag.gpgSign", "true"]);
        let result = work.repo().sign(b"payload\n");
        if result.is_err() {
            sh(&format!("kill {pid}"));
        }
        let whole = String::from_utf8(result.unwrap()).unwrap();
        assert!(
            whole.starts_with("payload\n-----BEGIN SSH SIGNATURE-----\n"),
            "{whole}"
        );
    }
    sh(&format!("kill {pid}"));
    assert!(added.unwrap().success());
}

#[test]
fn who_may_release_is_a_list_of_its_own_and_every_commiter_may_not() {
    let lab = Lab::new();
    let work = lab.repo("repo");
    let cortex = target("cortex");
    // One that is open keeps to the configuration that it has read.
    let repo = || work.repo();
    let (ada, ada_public) = ssh_key(&lab, "ada");
    let (bob, bob_public) = ssh_key(&lab, "bob");
    // Git itself trusts both of them.
    let all = lab.path("committers");
    std::fs::write(
        &all,
        format!("ada@example.org {ada_public}bob@example.org {bob_public}"),
    )
    .unwrap();
    work.git(&["config", "gpg.ssh.allowedSignersFile", all.to_str().unwrap()]);
    let unsigned = read(&work, work.release(&cortex).oid);
    work.signs_with(&ada);
    work.commit("second");
    let by_ada = read(&work, work.release(&cortex).oid);
    work.signs_with(&bob);
    work.commit("third");
    let by_bob = read(&work, work.release(&cortex).oid);
    let everybody = Trust::default();
    assert_eq!(repo().signed(&unsigned, &everybody).unwrap(), Signed::Unsigned);
    for (record, who) in [(&by_ada, "ada@example.org"), (&by_bob, "bob@example.org")] {
        let signed = repo().signed(record, &everybody).unwrap().to_string();
        assert!(signed.starts_with(&format!("signed by {who} ")), "{signed}");
    }
    let signers = lab.path("signers");
    std::fs::write(&signers, format!("ada@example.org {ada_public}")).unwrap();
    work.git(&["config", "nixgate.signers", signers.to_str().unwrap()]);
    let listed = repo().trust(false, "/what/a/commit/says").unwrap();
    assert!(!listed.required);
    repo().signed(&by_ada, &listed).unwrap();
    let rule = |record, trust: &Trust| repo().signed(record, trust).unwrap_err().rule;
    assert_eq!(rule(&by_bob, &listed), "signature");
    assert_eq!(repo().signed(&unsigned, &listed).unwrap(), Signed::Unsigned);
    work.git(&["config", "nixgate.requireSigned", "true"]);
    let strict = repo().trust(false, "").unwrap();
    assert_eq!(rule(&unsigned, &strict), "unsigned");
    repo().signed(&by_ada, &strict).unwrap();
    // A key that is no longer good from some day on: what was signed before stays good.
    let until = |day: &str| {
        std::fs::write(
            &signers,
            format!("ada@example.org valid-before=\"{day}\" {ada_public}"),
        )
        .unwrap();
        repo().signed(&by_ada, &repo().trust(false, "").unwrap())
    };
    until("20261121").unwrap();
    assert_eq!(until("20261119").unwrap_err().rule, "signature");
    // A key that was stolen: nothing that it ever signed counts.
    std::fs::write(&signers, format!("ada@example.org {ada_public}")).unwrap();
    let revoked = lab.path("revoked");
    ran(std::process::Command::new("ssh-keygen")
        .args(["-q", "-k", "-f"])
        .args([&revoked, &ada.with_extension("pub")]));
    work.git(&["config", "gpg.ssh.revocationFile", revoked.to_str().unwrap()]);
    assert_eq!(rule(&by_ada, &repo().trust(false, "").unwrap()), "signature");
}

#[test]
fn who_may_release_is_not_for_the_repository_to_say() {
    let lab = Lab::new();
    let work = lab.repo("repo");
    let inside = work.path.join("signers");
    std::fs::write(&inside, "").unwrap();
    let linked = lab.path("linked");
    std::os::unix::fs::symlink(&inside, &linked).unwrap();
    for path in [
        "signers",
        "./signers",
        inside.to_str().unwrap(),
        linked.to_str().unwrap(),
        "/no/such/file",
    ] {
        assert_eq!(
            work.repo().trust(false, path).unwrap_err().exit,
            Exit::Usage,
            "{path}"
        );
    }
}

#[test]
fn a_hook_that_asks_for_signatures_lets_no_other_record_in() {
    let lab = Lab::new();
    let (hub, ada, _) = lab.two_clones("sha1");
    let cortex = target("cortex");
    let (good, public) = ssh_key(&lab, "good");
    let (other, _) = ssh_key(&lab, "other");
    let signers = lab.path("signers");
    std::fs::write(&signers, format!("ada@example.org {public}")).unwrap();
    for work in [&hub, &ada] {
        work.git(&["config", "nixgate.signers", signers.to_str().unwrap()]);
        work.git(&["config", "nixgate.requireSigned", "true"]);
    }
    let line = |old: &str, new: &str, name: &str, sending: bool| match sending {
        true => format!("x {new} {name} {old}\n"),
        false => format!("{old} {new} {name}\n"),
    };
    let zero = "0".repeat(40);
    let judged = |made: &Made, sending: bool| {
        let lines = [
            (made.name.ref_name(), made.oid.to_string()),
            ("refs/nixgate/ledger/cortex".to_owned(), made.oid.to_string()),
            ("refs/heads/release/cortex".to_owned(), made.commit.to_string()),
        ];
        let text: String = lines
            .iter()
            .map(|(name, new)| line(&zero, new, name, sending))
            .collect();
        match sending {
            true => hook::pre_push(&ada.path, "origin", "url", text.as_bytes(), |_| Known::default()),
            false => hook::pre_receive(&hub.path, text.as_bytes(), |_| Known::default()),
        }
    };
    let check = |made: &Made, rule: Option<&str>| {
        // The server has the objects, as it has those of a push when its hook runs.
        ada.git(&[
            "push",
            "-q",
            "origin",
            &format!("{}:refs/trial/{}", made.oid, made.oid),
        ]);
        for sending in [true, false] {
            match (judged(made, sending), rule) {
                (Ok(_), None) => {}
                (Err(failure), Some(rule)) => {
                    assert!(
                        failure
                            .why
                            .iter()
                            .any(|line| line.ends_with(&format!("({rule})"))),
                        "{failure:?}"
                    );
                }
                (found, _) => panic!("{found:?}, and {rule:?} was expected; sending: {sending}"),
            }
        }
    };
    let commit = ada.oid("HEAD");
    check(&ada.make(&cortex, What::Release(commit)), Some("unsigned"));
    ada.signs_with(&other);
    check(&ada.make(&cortex, What::Release(commit)), Some("signature"));
    ada.signs_with(&good);
    check(&ada.make(&cortex, What::Release(commit)), None);
}

#[test]
fn a_key_that_was_revoked_is_seen_from_every_folder() {
    let lab = Lab::new();
    let work = lab.repo("repo");
    let (key, public) = ssh_key(&lab, "key");
    std::fs::write(lab.path("signers"), format!("ops@example.org {public}")).unwrap();
    let below = work.path.join("sub");
    std::fs::create_dir(&below).unwrap();
    work.signs_with(&key);
    work.release(&target("cortex"));
    let verify = || {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_git-nixgate"))
            .current_dir(&below)
            .env("HOME", lab.path(""))
            .arg("verify")
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    // Git finds the one from the work tree's root, and the other at home.
    work.git(&["config", "gpg.ssh.revocationFile", "../revoked"]);
    work.git(&["config", "gpg.ssh.allowedSignersFile", "~/signers"]);
    let (revoked, kept) = (
        lab.path("revoked"),
        work.path.join(".git/nixgate/verified/cortex"),
    );
    std::fs::write(&revoked, "").unwrap();
    let (exit, said) = verify();
    assert!(
        exit == Some(0) && said.contains("signed by ops@example.org"),
        "{said}"
    );
    assert!(kept.exists());
    std::fs::write(&revoked, &public).unwrap();
    let (exit, said) = verify();
    assert!(exit == Some(1) && said.contains("(signature)"), "{said}");
    // Git goes on without a file that is not there; nothing is kept of what it says then.
    for file in [&revoked, &lab.path("signers")] {
        let _ = std::fs::remove_file(&kept);
        std::fs::rename(file, lab.path("away")).unwrap();
        let (_, said) = verify();
        assert!(!kept.exists(), "{said}");
        std::fs::rename(lab.path("away"), file).unwrap();
    }
}

/// Git reads all of these from the work tree without a word.
#[test]
fn k9_trust_is_read_from_no_work_tree() {
    let lab = Lab::new();
    let work = lab.repo("repo");
    let (key, public) = ssh_key(&lab, "key");
    work.signs_with(&key);
    let record = read(&work, work.release(&target("cortex")).oid);
    let line = format!("ops@example.org {public}");
    let linked = lab.path("linked");
    work.git(&["worktree", "add", "-q", "--detach", linked.to_str().unwrap()]);
    let (good, away) = (lab.path("signers"), lab.path("away"));
    std::fs::write(&good, &line).unwrap();
    for tree in [&work.path, &linked] {
        std::fs::write(tree.join("signers"), &line).unwrap();
        // A link that a commit may bend, and one from outside that leads through it.
        std::os::unix::fs::symlink(&good, tree.join("bent")).unwrap();
    }
    std::os::unix::fs::symlink(&work.path, &away).unwrap();
    let inside = [
        work.path.join("signers"),
        work.path.join("bent"),
        linked.join("signers"),
        linked.join("bent"),
        away.join("signers"),
        away.join("bent"),
    ];
    let mut named: Vec<String> = inside.iter().map(|path| path.display().to_string()).collect();
    for path in &named {
        let failure = work.repo().trust(false, path).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage, "{path}");
        assert!(
            failure.next[0].starts_with("git config nixgate.signers "),
            "{failure:?}"
        );
    }
    named.extend(["signers", "./bent", "../linked/signers", "no-such-file"].map(String::from));
    let rule = |required: bool| {
        let trust = Trust {
            required,
            signers: None,
        };
        work.repo().signed(&record, &trust)
    };
    for path in &named {
        work.git(&["config", "gpg.ssh.allowedSignersFile", path]);
        let Ok(Signed::Unchecked(why)) = rule(false) else {
            panic!("{path}: {:?}", rule(false))
        };
        assert!(
            why.contains("git config gpg.ssh.allowedSignersFile /etc/nixgate/"),
            "{why}"
        );
        assert_eq!(rule(true).unwrap_err().rule, "signature", "{path}");
    }
    // Outside, however it is written.
    for path in [
        good.to_str().unwrap(),
        "../signers",
        &format!("{}/../signers", away.display()),
    ] {
        work.git(&["config", "gpg.ssh.allowedSignersFile", path]);
        rule(true).unwrap_or_else(|defect| panic!("{path}: {defect}"));
    }
    // Whoever may take a line away makes a revoked key good again.
    work.git(&["config", "gpg.ssh.revocationFile", "revoked"]);
    for there in [false, true] {
        let defect = rule(false).unwrap_err();
        assert_eq!(defect.rule, "signature", "{there}");
        assert!(
            defect
                .why
                .contains("gpg.ssh.revocationFile is revoked, in a work tree"),
            "{defect}"
        );
        std::fs::write(work.path.join("revoked"), "").unwrap();
    }
    work.git(&["config", "--unset", "gpg.ssh.revocationFile"]);
    let trap = lab.path("trap");
    write_script(
        &work.path.join("evil"),
        &format!("#!/bin/sh\ntouch {}\nexit 0\n", trap.display()),
    );
    work.git(&["config", "gpg.ssh.program", "./evil"]);
    assert_eq!(rule(false).unwrap_err().rule, "signature");
    assert_eq!(work.repo().try_sign().unwrap_err().exit, Exit::Usage);
    assert!(!trap.exists());
    work.git(&["config", "gpg.ssh.program", "ssh-keygen"]);
    rule(true).unwrap();
}
