//! What Nix's failures come to: its own last lines, and what they mean. The texts are Nix's, recorded.

use git_nixgate::gate::build::unsuited;
use git_nixgate::nix::{StorePath, Systems};

use super::failures;
use super::said::{copied, failed, said};

#[test]
fn every_way_a_build_fails() {
    let of = |name: &str| failed(&said(name)).failure;
    failures(
        "build-failures",
        &[
            ("a derivation does not build", of("2.26-build")),
            ("one that it needs does not build", of("2.26-build-dependency")),
            ("the log is long", of("2.26-build-long-log")),
            ("another system", of("2.26-other-system")),
            ("it does not evaluate", of("2.26-eval")),
            ("it throws", of("2.26-throw")),
            ("a slip of the pen", of("2.26-syntax")),
            ("not pure", of("2.26-impure")),
            ("no such configuration", of("2.26-missing")),
            ("not locked", of("2.26-not-locked")),
            ("an input cannot be fetched", of("2.26-fetch-github")),
            ("an input by ssh cannot be fetched", of("2.26-fetch-ssh")),
            ("the commit is not there", of("2.26-no-such-commit")),
            (
                "the builder's disk is full",
                failed("error: writing to file: No space left on device").failure,
            ),
            (
                "killed for its memory",
                failed("error: builder for '/nix/store/v4diabb157pvhid92hjcgxx70j15acp1-big.drv' failed due to signal 9 (Killed)")
                    .failure,
            ),
        ],
    );
}

#[test]
fn every_way_a_copy_fails() {
    const PATH: &str = "/nix/store/v4diabb157pvhid92hjcgxx70j15acp1-nixos-system-cortex-25.05";
    assert!(StorePath::new(PATH).is_ok());
    let of = |text: &str| copied(text).failure;
    failures(
        "copy-failures",
        &[
            (
                "the target does not trust the path",
                of(&format!(
                    "error: cannot add path '{PATH}' because it lacks a signature by a trusted key"
                )),
            ),
            (
                "the target's disk is full",
                of("error: writing to file: No space left on device"),
            ),
            (
                "the link goes in the middle",
                of(&format!(
                    "copying path '{PATH}' to 'ssh-ng://'...\nTimeout, server cortex not responding.\n\
                     error: writing to file: Broken pipe"
                )),
            ),
            (
                "no way there",
                of("ssh: connect to host cortex port 22: No route to host\n\
                    error: failed to start SSH connection to 'cortex'"),
            ),
            (
                "not let in",
                of(
                    "jarvis@cortex: Permission denied (publickey).\nerror: failed to start SSH connection to 'cortex'",
                ),
            ),
            (
                "it is gone where it comes from",
                of(&format!("error: path '{PATH}' is not valid")),
            ),
            ("something else", of("error: what is this")),
        ],
    );
}

#[test]
fn s1_5_a_builder_that_builds_nothing_for_the_target() {
    let systems = |extra: &[&str], remote: &[&str]| Systems {
        system: "x86_64-linux".into(),
        extra_platforms: extra.iter().map(|s| (*s).to_owned()).collect(),
        remote: remote.iter().map(|s| (*s).to_owned()).collect(),
        ..Systems::default()
    };
    let refused = |wanted, systems| unsuited("cortex", "aarch64-linux", wanted, "forge", &systems);
    failures(
        "no-builder",
        &[
            (
                "it has no builders of its own",
                refused("aarch64-linux", systems(&[], &[])),
            ),
            (
                "nor do its own build for it",
                refused("aarch64-linux", systems(&["i686-linux"], &["riscv64-linux"])),
            ),
            (
                "the commit is for another machine than the target",
                refused("x86_64-linux", systems(&["i686-linux"], &[])),
            ),
        ],
    );
}
