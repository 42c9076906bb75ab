//! What Nix 2.8 and 2.26 really printed when a build failed, and what the operator gets to see of it.

use git_nixgate::failure::Reason;
use git_nixgate::nix::*;

#[path = "support/said.rs"]
mod recorded;

use recorded::*;

#[test]
fn every_way_a_build_fails_is_told_apart() {
    use BuildKind::*;
    for (name, kind, telling) in [
        ("2.26-build", Build, "> oops"),
        ("2.8-build", Build, "> oops"),
        ("2.26-build-dependency", Build, "> oops"),
        ("2.8-build-dependency", Build, "> oops"),
        ("2.26-build-long-log", Build, "> log 59"),
        ("2.26-other-system", System, "but I am a 'x86_64-linux'"),
        ("2.8-other-system", System, "but I am a 'x86_64-linux'"),
        ("2.26-eval", Eval, "error: attribute 'bar' missing"),
        ("2.8-eval", Eval, "error: attribute 'bar' missing"),
        ("2.26-throw", Eval, "- you must set x"),
        ("2.26-syntax", Eval, "unexpected ';'"),
        ("2.26-impure", Impure, "forbidden in pure evaluation mode"),
        ("2.8-impure", Impure, "forbidden in pure eval mode"),
        ("2.26-missing", Missing, "its nixosConfigurations: cortex, orion"),
        ("2.8-missing", Missing, "its nixosConfigurations: cortex, orion"),
        ("2.26-not-locked", Lock, "no lock for the input 'x'"),
        (
            "2.26-fetch-github",
            Fetch,
            "unable to download 'https://github.com/nowhere",
        ),
        ("2.26-fetch-tarball", Fetch, "unable to download"),
        ("2.8-fetch-tarball", Fetch, "unable to download"),
        (
            "2.26-fetch-ssh",
            Fetch,
            "ssh: Could not resolve hostname nowhere.invalid",
        ),
        ("2.26-no-such-commit", Fetch, "object not found"),
        (
            "2.26-no-repository",
            Fetch,
            "fatal: '/srv/flake' does not appear to be a git repository",
        ),
    ] {
        let error = failed(&said(name));
        assert_eq!(error.kind, kind, "{name}: {error}");
        assert!(
            error.failure.why.iter().any(|line| line.contains(telling)),
            "{name}: {error}"
        );
        assert!(error.failure.why.len() <= 18, "{name}: {error}");
        assert!(!error.to_string().contains("show-trace"), "{name}: {error}");
        let reason = if matches!(kind, Build | System) {
            Reason::Build
        } else {
            Reason::Eval
        };
        assert_eq!(error.failure.reason, reason, "{name}");
    }
}

#[test]
fn newer_words_and_other_worlds_are_known_too() {
    use BuildKind::*;
    for (text, kind, reason) in [
        (
            "error: Cannot build '/nix/store/1qh0f25lgm2fq72cmi2i45g0kp57snw3-bad.drv'.\n       \
             Reason: builder failed with exit code 3.\n       Last 2 log lines:\n       > oops\n\
             error: Build failed due to failed dependency",
            Build,
            Reason::Build,
        ),
        (
            "error: Cannot build '/nix/store/1qh0f25lgm2fq72cmi2i45g0kp57snw3-bad.drv'.\n       \
             Reason: required system or feature not available\n       \
             Required system: 'aarch64-linux' with features {}\n       Current system: 'x86_64-linux' with features {}",
            System,
            Reason::Build,
        ),
        (
            "error: cannot connect to socket at '/nix/var/nix/daemon-socket/socket': No such file",
            Store,
            Reason::Store,
        ),
        ("sh: 1: nix: not found", Store, Reason::Store),
        (
            "error: writing to file: No space left on device",
            Store,
            Reason::Disk,
        ),
        (
            "error: builder for '/nix/store/1qh0f25lgm2fq72cmi2i45g0kp57snw3-bad.drv' failed with exit code 1;\n       \
             last 1 log lines:\n       > cc: No space left on device",
            Build,
            Reason::Disk,
        ),
        (
            "error: failed to start SSH connection to 'builder'",
            Store,
            Reason::Link,
        ),
        (
            "op@builder: Permission denied (publickey).\nerror: failed to start SSH connection to 'builder'",
            Store,
            Reason::Auth,
        ),
        ("", Eval, Reason::Eval),
    ] {
        let status = if text.starts_with("sh:") { 127 } else { 1 };
        let exec = Recorded::new(&[(status, "", text)]);
        let error = run(build(&exec, &request())).unwrap_err();
        assert_eq!((error.kind, error.failure.reason), (kind, reason), "{text}");
        assert!(!error.failure.why.is_empty(), "{text}");
        assert!(!error.failure.why[0].contains("will be built"), "{text}");
    }
}

#[test]
fn one_command_builds_and_nothing_in_it_may_ask_or_guess() {
    let json = std::fs::read_to_string(format!(
        "{}/tests/data/nix-json/build-2.26.json",
        env!("CARGO_MANIFEST_DIR")
    ));
    let exec = Recorded::new(&[(0, &json.unwrap(), "")]);
    let built = run(build(
        &exec,
        &BuildRequest {
            impure: true,
            ..request()
        },
    ))
    .unwrap();
    assert_eq!(built.toplevel.name(), "nixos-system-cortex-25.05");
    assert!(built.drv.is_derivation());
    assert_eq!(
        exec.asked().concat().join(" "),
        "nix --extra-experimental-features nix-command flakes --option flake-registry  build --json \
         --no-update-lock-file --no-link --max-jobs 4 --impure -- \
         git+file:///srv/flake?rev=4585af09a829283522df053a0848054ca2c56ba6\
         #nixosConfigurations.cortex.config.system.build.toplevel"
    );
}

#[test]
fn a_build_on_another_store_evaluates_here() {
    let exec = Recorded::new(&[(1, "", "error: x")]);
    let remote = RemoteBuild {
        store: "ssh-ng://builder".into(),
        ssh_options: "-oBatchMode=yes".into(),
    };
    run(build(
        &exec,
        &BuildRequest {
            remote: Some(remote),
            jobs: 0,
            ..request()
        },
    ))
    .unwrap_err();
    let asked = exec.asked().concat().join(" ");
    assert!(
        asked.contains("--no-link --eval-store auto --store ssh-ng://builder -- git+file"),
        "{asked}"
    );
}

#[test]
fn an_answer_that_is_not_one_toplevel_is_no_success() {
    for answer in [
        "",
        "[]",
        "{}",
        "[{}]",
        r#"[{"drvPath":null,"outputs":{}}]"#,
        r#"[{"drvPath":"/etc/passwd"}]"#,
    ] {
        let exec = Recorded::new(&[(0, answer, "")]);
        assert!(run(build(&exec, &request())).is_err(), "{answer}");
    }
}

#[test]
fn every_way_a_copy_fails_is_told_apart() {
    const PATH: &str = "/nix/store/v4diabb157pvhid92hjcgxx70j15acp1-nixos-system-cortex-25.05";
    for (text, kind, reason) in [
        (
            format!("error: cannot add path '{PATH}' because it lacks a signature by a trusted key"),
            CopyKind::Untrusted,
            Reason::Store,
        ),
        (
            "error: writing to file: No space left on device".into(),
            CopyKind::Disk,
            Reason::Disk,
        ),
        (
            "error: unexpected end-of-file".into(),
            CopyKind::Link,
            Reason::Link,
        ),
        (
            "client_loop: send disconnect: Broken pipe\nerror: writing to file".into(),
            CopyKind::Link,
            Reason::Link,
        ),
        (
            "op@x: Permission denied (publickey).\nerror: failed to start SSH connection to 'x'".into(),
            CopyKind::Link,
            Reason::Auth,
        ),
        (
            format!("error: path '{PATH}' is not valid"),
            CopyKind::Source,
            Reason::Store,
        ),
        (
            format!(
                "don't know how to build these paths:\n  {PATH}\nerror: path '{PATH}' is required, but there is no substituter that can build it"
            ),
            CopyKind::Source,
            Reason::Store,
        ),
        (
            format!("error: getting status of '{PATH}': No such file or directory"),
            CopyKind::Source,
            Reason::Store,
        ),
        (
            format!("copying 1 paths...\ncopying path '{PATH}' to 'file:///tmp/c'...\nerror: path '/{PATH}' does not exist"),
            CopyKind::Source,
            Reason::Store,
        ),
        (
            format!("copying path '{PATH}' to 'ssh-ng://'...\nTimeout, server cortex not responding.\nerror (ignored): error: writing to file: Broken pipe\nerror: writing to file: Broken pipe"),
            CopyKind::Link,
            Reason::Link,
        ),
        (
            "ssh: connect to host t9 port 22: No route to host\nerror: failed to start SSH connection to 't9'".into(),
            CopyKind::Link,
            Reason::Link,
        ),
        ("error: what is this".into(), CopyKind::Other, Reason::Copy),
    ] {
        let error = copied(&text);
        assert_eq!((error.kind, error.failure.reason), (kind, reason), "{text}");
        assert!(!error.failure.why.is_empty());
    }
    let next = copied("error: cannot add path 'x' because it lacks a signature by a trusted key")
        .failure
        .next;
    assert_eq!(
        next[0],
        "on the target: nix.settings.trusted-users = [ \"jarvis\" ];"
    );
}

#[test]
fn h6_what_stands_between_a_copy_and_the_store_is_told_apart_from_a_lost_link() {
    use git_nixgate::failure::Weight;
    for (name, kind) in [
        ("2.26-copy-noise", CopyKind::Noise),
        ("2.26-copy-daemon-stopped", CopyKind::Daemon),
        ("2.26-copy-not-allowed", CopyKind::Daemon),
        ("2.26-copy-no-nix-daemon", CopyKind::Missing),
    ] {
        let file = format!("{}/tests/data/nix-said/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let error = copied(&std::fs::read_to_string(file).expect("a recording"));
        // What does not pass by itself is tried once.
        assert_eq!((error.kind, error.weight), (kind, Weight::Failed), "{name}");
        assert!(!error.failure.next.is_empty(), "{name}");
        assert!(!error.failure.what.contains("connection was lost"), "{name}");
    }
    let cut = "copying 1 paths...\nclient_loop: send disconnect: Broken pipe\n\
               error: Nix daemon disconnected unexpectedly (maybe it crashed?)";
    let error = copied(cut);
    assert_eq!((error.kind, error.weight), (CopyKind::Link, Weight::Passing));
}
