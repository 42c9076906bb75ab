//! Signatures on records, made by the same programs as git's own.

mod support;

use git_nixgate::failure::Exit;
use git_nixgate::record::{Record, Signature};
use support::*;

#[test]
fn a_signed_record_is_verified_by_git_and_bytes_behind_it_are_refused() {
    let lab = Lab::new();
    let work = lab.repo("repo");
    let key = lab.path("key");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "ops@example.org", "-f"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let signers = lab.path("signers");
    std::fs::write(&signers, format!("ops@example.org {public}")).unwrap();
    work.git(&["config", "gpg.format", "ssh"]);
    work.git(&["config", "user.signingKey", key.to_str().unwrap()]);
    work.git(&["config", "tag.gpgSign", "true"]);
    work.git(&["config", "gpg.ssh.allowedSignersFile", signers.to_str().unwrap()]);
    let cortex = target("cortex");
    work.repo().try_sign().unwrap();
    let made = work.release(&cortex);
    let name = made.name.to_string();
    let (good, said) = work.says(&["tag", "-v", &name]);
    assert!(good && said.contains("Good \"git\" signature"), "{said}");
    let record = Record::parse(made.oid, &made.raw, None).unwrap();
    assert_eq!(record.signature, Signature::Ssh);
    let signer = work.repo().signer(&record, None).unwrap().unwrap();
    assert!(signer.contains("ops@example.org"), "{signer}");
    let nobody = lab.path("nobody");
    std::fs::write(&nobody, "").unwrap();
    assert_eq!(
        work.repo().signer(&record, Some(&nobody)).unwrap_err().exit,
        Exit::Refused
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
        work.repo().signer(&tampered, None).unwrap_err().exit,
        Exit::Refused
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
    std::process::Command::new("chmod")
        .arg("700")
        .arg(&home)
        .status()
        .unwrap();
    let wrapper = lab.path("gpg.sh");
    std::fs::write(
        &wrapper,
        format!("#!/bin/sh\nexec gpg --homedir {} \"$@\"\n", home.display()),
    )
    .unwrap();
    std::process::Command::new("chmod")
        .arg("755")
        .arg(&wrapper)
        .status()
        .unwrap();
    let made = std::process::Command::new(&wrapper)
        .args([
            "--batch",
            "--quiet",
            "--passphrase",
            "",
            "--quick-gen-key",
            "Ada <ops@example.org>",
            "ed25519",
            "sign",
        ])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    work.git(&["config", "gpg.program", wrapper.to_str().unwrap()]);
    work.git(&["config", "tag.gpgSign", "true"]);
    let made = work.release(&target("cortex"));
    assert!(work.says(&["tag", "-v", &made.name.to_string()]).0);
    assert_eq!(
        Record::parse(made.oid, &made.raw, None).unwrap().signature,
        Signature::Pgp
    );
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
    let sh = |script: String| {
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    sh(format!("ssh-keygen -q -t ed25519 -N '' -f {}", key.display()));
    let pid = sh(format!(
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
    std::fs::write(&wrapper, script).unwrap();
    sh(format!("chmod 755 {}; rm {}", wrapper.display(), key.display()));
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    for literal in [public.trim().to_owned(), format!("key::{}", public.trim())] {
        work.git(&["config", "gpg.format", "ssh"]);
        work.git(&["config", "gpg.ssh.program", wrapper.to_str().unwrap()]);
        work.git(&["config", "user.signingKey", &literal]);
        work.git(&["config", "tag.gpgSign", "true"]);
        let result = work.repo().sign(b"payload\n");
        if result.is_err() {
            sh(format!("kill {pid}"));
        }
        let whole = String::from_utf8(result.unwrap()).unwrap();
        assert!(
            whole.starts_with("payload\n-----BEGIN SSH SIGNATURE-----\n"),
            "{whole}"
        );
    }
    sh(format!("kill {pid}"));
    assert!(added.unwrap().success());
}
