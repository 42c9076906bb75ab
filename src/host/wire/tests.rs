use std::process::Stdio;

use tokio::process::Command;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Sends a script through each shell that a host may have as its `sh`, inner ones included.
async fn through(script: &Script, before: &str, deadline: Duration) -> Vec<Result<Output, HostError>> {
    let mut results = Vec::new();
    for shell in ["/bin/dash", "/bin/bash"] {
        let endpoint = Endpoint::local("here");
        let mut wire = wire(&endpoint, script, Privilege::User, deadline).expect("a wire");
        wire.text = format!("{before}{}", wire.text.replace("/bin/sh", shell));
        results.push(send(shell, &wire, 20 * SECOND).await);
    }
    results
}

async fn send(shell: &str, wire: &Wire, hello: Duration) -> Result<Output, HostError> {
    let mut child = Command::new(shell)
        .env("NIXGATE_TEST", "kept out")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a shell");
    let mut stdin = child.stdin.take().expect("stdin");
    let mut stdout = child.stdout.take().expect("stdout");
    let mut stderr = child.stderr.take().expect("stderr");
    converse(wire, hello, true, (&mut stdin, &mut stdout, &mut stderr)).await
}

#[tokio::test]
async fn output_comes_back_byte_for_byte_and_start_up_noise_does_not() {
    let script = Script::new("printf 'a\\n\\nb'; printf 'oops\\n' >&2; exit 3");
    for result in through(&script, "echo banner; echo warning >&2\n", 5 * SECOND).await {
        let output = result.expect("an output");
        assert_eq!((output.status, output.text().as_ref()), (3, "a\n\nb"));
        assert_eq!(output.stderr.trim_end(), "oops");
    }
}

#[tokio::test]
async fn arguments_arrive_as_they_are() {
    let nasty = [
        "", "a b", "$(id)", "`id`", "it's", "a\nb\n", "\\", "\"", "*", "ü", "-n", "!x",
    ];
    let script = Script::new("for a do printf '<%s>' \"$a\"; done").args(nasty);
    let expected: String = nasty.iter().map(|arg| format!("<{arg}>")).collect();
    for result in through(&script, "", 5 * SECOND).await {
        assert_eq!(result.expect("an output").text(), expected);
    }
}

#[tokio::test]
async fn input_of_any_size_arrives_and_stdin_is_empty_without() {
    let list: String = (0..20_000).map(|n| format!("{n:032}-package\n")).collect();
    let script = Script::new("wc -lc | { read -r l c; echo $l $c; }").input(list.clone());
    for result in through(&script, "", 20 * SECOND).await {
        assert_eq!(
            result.expect("an output").text(),
            format!("20000 {}\n", list.len())
        );
    }
    for result in through(&Script::new("wc -c"), "", 5 * SECOND).await {
        assert_eq!(result.expect("an output").text().trim(), "0");
    }
}

#[tokio::test]
async fn the_environment_is_cleared() {
    for result in through(&Script::new("env | sed 's/=.*//' | sort"), "", 5 * SECOND).await {
        let output = result.expect("an output");
        let text = output.text().into_owned();
        let names: Vec<&str> = text
            .lines()
            .filter(|n| !["_", "PWD", "SHLVL", "OLDPWD"].contains(n))
            .collect();
        assert_eq!(names, ["HOME", "LC_ALL", "LOGNAME", "PATH", "USER"]);
    }
}

#[test]
fn half_of_a_text_runs_nothing() {
    use std::io::Write as _;
    let dir = tempfile::tempdir().expect("a directory");
    let mark = dir.path().join("ran");
    let script = Script::new(": >\"$1\"")
        .arg(mark.to_str().expect("text"))
        .input("a\nb\n");
    let whole = wire(&Endpoint::local("here"), &script, Privilege::User, SECOND).expect("a wire");
    for shell in ["/bin/dash", "/bin/bash"] {
        for cut in (0..whole.text.len() - 2).step_by(41) {
            let mut child = std::process::Command::new(shell)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("a shell");
            let mut stdin = child.stdin.take().expect("stdin");
            stdin.write_all(&whole.text.as_bytes()[..cut]).expect("written");
            drop(stdin);
            child.wait().expect("an end");
            assert!(!mark.exists(), "{shell} ran at {cut}");
        }
    }
}

#[tokio::test]
async fn a_deadline_ends_the_script_on_the_host() {
    for result in through(&Script::new("echo begun; sleep 30"), "", SECOND).await {
        match result {
            Err(HostError::Timeout {
                killed: true, stdout, ..
            }) => assert_eq!(stdout, b"begun\n"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_shell_that_never_answers_hangs_and_one_that_ends_has_no_login() {
    let wire = wire(
        &Endpoint::local("here"),
        &Script::new(":"),
        Privilege::User,
        5 * SECOND,
    )
    .expect("a wire");
    let mut child = Command::new("sleep")
        .arg("30")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("sleep");
    let mut ends = (
        child.stdin.take().expect("stdin"),
        child.stdout.take().expect("stdout"),
        child.stderr.take().expect("stderr"),
    );
    match converse(&wire, SECOND, true, (&mut ends.0, &mut ends.1, &mut ends.2)).await {
        Err(HostError::Connect(error)) => assert_eq!(error.class, ConnectClass::Hang),
        other => panic!("{other:?}"),
    }
    match send("/bin/true", &wire, SECOND).await {
        Err(HostError::Connect(error)) => assert_eq!(error.class, ConnectClass::NoLogin),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn s0_3_a_reason_that_comes_after_the_end_of_stdout_is_still_read() {
    let endpoint = Endpoint::local("here");
    let wire = wire(&endpoint, &Script::new(":"), Privilege::User, 5 * SECOND).expect("a wire");
    let (mut stdout, mut stdin) = (tokio::io::empty(), tokio::io::sink());
    let (mut stderr, mut ssh) = tokio::io::duplex(1024);
    let says = async {
        for line in [
            "@@@@@@@@@\r\n",
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\r\n",
        ] {
            ssh.write_all(line.as_bytes()).await.expect("written");
            tokio::task::yield_now().await;
        }
        drop(ssh);
    };
    let ends = (&mut stdin, &mut stdout, &mut stderr);
    let (result, ()) = tokio::join!(converse(&wire, SECOND, false, ends), says);
    match result {
        Err(HostError::Connect(error)) => assert_eq!(error.class, ConnectClass::HostKeyChanged),
        other => panic!("{other:?}"),
    }
}

#[test]
fn s3_15_a_password_is_one_line_and_only_in_the_text_that_needs_it() {
    let mut endpoint = Endpoint::local("here");
    endpoint.sudo = Sudo::Ask;
    endpoint.password = Some(Secret::new("hunter2"));
    let text = |endpoint: &Endpoint, privilege| wire(endpoint, &Script::new(":"), privilege, SECOND);
    assert!(
        !text(&endpoint, Privilege::User)
            .expect("a wire")
            .text
            .contains("hunter2")
    );
    assert_eq!(
        text(&endpoint, Privilege::Root)
            .expect("a wire")
            .text
            .matches("hunter2")
            .count(),
        1
    );
    assert!(!format!("{endpoint:?}").contains("hunter2"));
    endpoint.password = Some(Secret::new("a\nb"));
    assert!(text(&endpoint, Privilege::Root).is_err());
}

/// A start-up file that never stops printing costs as much as it takes to see that, on either stream, and has its own
/// sentence; one that prints much, and ends, costs nothing else.
#[tokio::test]
async fn k12_a_login_that_prints_without_end_is_told_so_and_not_read_to_its_end() {
    let script = Script::new("echo here");
    for noise in ["yes\n", "yes >&2\n"] {
        for result in through(&script, noise, 60 * SECOND).await {
            match result {
                Err(HostError::Connect(error)) => {
                    assert_eq!(error.class, ConnectClass::Noise, "{noise}");
                    assert_eq!(error.lines, ["y", "y", "y"], "{noise}");
                }
                other => panic!("{noise}: {other:?}"),
            }
        }
    }
    let much =
        "n=0; while [ $n -lt 2000 ]; do n=$((n + 1)); echo a line of a banner that is rather long; done\n";
    for result in through(&script, much, 60 * SECOND).await {
        assert_eq!(result.expect("an output").text(), "here\n");
    }
}

/// Words of sudo 1.9.16 and sudo-rs 0.2.5, as they print them under LC_ALL=C.
#[test]
fn h4_what_sudo_and_sudo_rs_refuse_is_told_from_their_own_words() {
    let table = [
        ("sudo: a password is required", "needs-password"),
        (
            "sudo: a terminal is required to read the password",
            "needs-password",
        ),
        (
            "sudo-rs: interactive authentication is required",
            "needs-password",
        ),
        (
            "Sorry, try again.\nsudo: no password was provided",
            "needs-password",
        ),
        (
            "Sorry, try again.\nsudo: 1 incorrect password attempt",
            "wrong-password",
        ),
        (
            "sudo: Authentication failed, try again.\n\nsudo-rs: Maximum 3 incorrect authentication attempts",
            "wrong-password",
        ),
        (
            "Sorry, user eve is not allowed to execute '/usr/bin/true' as root on cortex.",
            "not-allowed",
        ),
        ("eve is not in the sudoers file.", "not-allowed"),
        (
            "sudo-rs: I'm sorry eve. I'm afraid I can't do that",
            "not-allowed",
        ),
        ("sudo: sorry, you must have a tty to run sudo", "needs-tty"),
        ("sudo: /etc/sudo.conf is owned by uid 1000, should be 0", "other"),
    ];
    let text = include_str!("../prelude.sh");
    let start = text.find("ng_judge() {").expect("the function");
    let end = start + text[start..].find("\n}\n").expect("its end") + 3;
    let program = format!("{}ng_e=$1; ng_judge; printf %s \"$ng_why\"", &text[start..end]);
    for shell in ["/bin/dash", "/bin/bash"] {
        for (words, why) in table {
            let out = std::process::Command::new(shell)
                .args(["-c", &program, "sh", words])
                .output()
                .expect("a shell");
            assert_eq!(String::from_utf8_lossy(&out.stdout), why, "{shell}: {words}");
        }
    }
}

/// What `prelude.sh` makes of the words of a program that did not make root.
fn judged(said: &str) -> String {
    let start = PRELUDE.find("ng_judge() {").expect("the function");
    let length = PRELUDE[start..].find("\n}\n").expect("its end");
    let script = format!(
        "{}\nng_judge; printf %s \"$ng_why\"",
        &PRELUDE[start..start + length + 2]
    );
    let words = ["/bin/dash", "/bin/bash"].map(|shell| {
        let output = std::process::Command::new(shell)
            .args(["-c", &script])
            .env("ng_e", said)
            .output();
        String::from_utf8(output.expect("a shell").stdout).expect("text")
    });
    assert_eq!(words[0], words[1], "{said}");
    words[0].clone()
}

#[test]
fn h4_the_words_of_sudo_and_its_kin_are_told_apart() {
    let recorded = |name: &str| {
        let file = format!("{}/tests/data/sudo-said/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(file).expect("a recording")
    };
    for (name, word) in [
        ("sudo-1.9.16-needs-password", "needs-password"),
        ("sudo-1.9.16-not-allowed", "needs-password"),
        ("sudo-rs-0.2.5-needs-password", "needs-password"),
        ("sudo-rs-0.2.5-not-allowed", "not-allowed"),
        ("sudo-rs-0.2.5-wrong-password", "wrong-password"),
        ("doas-6.8.2-needs-password", "needs-password"),
        ("doas-6.8.2-not-allowed", "not-allowed"),
        ("doas-6.8.2-other-command", "not-allowed"),
        ("doas-6.8.2-no-config", "not-allowed"),
        ("run0-257-denied", "not-allowed"),
    ] {
        assert_eq!(judged(&recorded(name)), word, "{name}");
    }
    // As later versions of sudo-rs have it (src/common/error.rs, src/pam/error.rs), and polkit by way of run0.
    for (said, word) in [
        ("sudo: interactive authentication is required", "needs-password"),
        ("sudo: A terminal is required to authenticate", "needs-password"),
        (
            "sudo: maximum 3 incorrect authentication attempts",
            "wrong-password",
        ),
        (
            "sudo: Sorry, user guest may not run true on cortex.",
            "not-allowed",
        ),
        (
            "sudo: Sorry, user guest is not allowed to execute 'true' as root on cortex.",
            "not-allowed",
        ),
        (
            "Failed to start transient service unit: Interactive authentication required.",
            "needs-password",
        ),
        ("sudo: error in event loop", "other"),
    ] {
        assert_eq!(judged(said), word, "{said}");
    }
}

#[tokio::test]
async fn h6_what_a_login_prints_before_the_frame_is_kept_and_where_its_nix_daemon_is() {
    let script = Script::new("echo done");
    for result in through(
        &script,
        "printf 'Welcome\\nto cortex'\nPATH=/bin:/usr/bin\n",
        5 * SECOND,
    )
    .await
    {
        let output = result.expect("an output");
        assert_eq!(output.greeting.noise, "Welcome\nto cortex");
        assert_eq!(output.text(), "done\n");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let program = dir.path().join("nix-daemon");
    std::fs::write(&program, "#!/bin/sh\n").expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).expect("executable");
    let own = format!("PATH=$PATH:{}\n", dir.path().display());
    for result in through(&script, &own, 5 * SECOND).await {
        assert_eq!(result.expect("an output").greeting.nix_daemon, NixDaemon::OnPath);
    }
    // What the login's PATH does not name may be elsewhere, by its whole path.
    for result in through(&script, "PATH=/nowhere\n", 5 * SECOND).await {
        let found = result.expect("an output").greeting.nix_daemon;
        let elsewhere = matches!(&found, NixDaemon::At(path) if path.ends_with("/nix-daemon"));
        assert!(elsewhere || found == NixDaemon::Missing, "{found:?}");
    }
}
