//! S1: where a closure is built, by whom, and for which machines.

use crate::hand::{desk, evidence, root};
use crate::infra::{CONFIG, expect, host_state, refs, release, usual, with_config};
use crate::lab::Lab;

#[test]
fn s1_03_the_builder_evaluates_and_builds_and_nobody_else() {
    let lab = usual("s1-03");
    assert!(root(&lab, "desk", "nix config show max-jobs").contains('0'));
    let built_by = |host: &str| root(&lab, host, "ls /nix/var/log/nix/drvs 2>/dev/null | wc -l");
    let store =
        |host: &str, what: &str| root(&lab, host, &format!("ls /nix/store | grep -e '{what}' | sort; :"));
    // Sources of inputs that the builder cannot fetch go through the operator's store; nothing else does.
    let own = |all: String| -> Vec<String> {
        let built = all.lines().filter(|path| !path.ends_with("-source"));
        built.map(str::to_owned).collect()
    };
    let (desk_before, logs) = (own(store("desk", ".")), [built_by("desk"), built_by("cortex")]);
    let target_drvs = store("cortex", "\\.drv$");
    lab.variant("cortex", "B");
    release(&lab, "cortex");
    let toplevel = lab.running_system("cortex");
    assert_eq!(
        own(store("desk", ".")),
        desk_before,
        "the operator's store got something"
    );
    assert_eq!(
        store("cortex", "\\.drv$"),
        target_drvs,
        "the target got derivations"
    );
    assert_eq!([built_by("desk"), built_by("cortex")], logs);
    root(
        &lab,
        "forge",
        &format!("nix-store --check-validity {toplevel} && nix log {toplevel} >/dev/null"),
    );
}

#[test]
fn s1_03_evaluated_by_the_operator_it_is_still_built_by_the_builder() {
    let config = CONFIG.replace("host = \"forge\"", "host = \"forge\"\nevaluate = \"operator\"");
    let lab = with_config("s1-03-op", &["desk", "forge", "git", "cortex"], &config);
    lab.variant("cortex", "B");
    release(&lab, "cortex");
    let toplevel = lab.running_system("cortex");
    let at_desk = lab.sh("desk", "root", &format!("nix-store --check-validity {toplevel}"));
    assert!(!at_desk.ok(), "the operator's store has the output");
    root(&lab, "forge", &format!("nix-store --check-validity {toplevel}"));
}

#[test]
fn s3_14_s3_17_a_target_that_builds_for_itself_keeps_to_its_number_of_jobs() {
    let config = CONFIG.replace("host = \"forge\"", "host = \"target\"\njobs = 3");
    let lab = with_config("s3-14", &["desk", "git", "cortex"], &config);
    // Nix itself, and a list of all that it was asked.
    root(
        &lab,
        "cortex",
        "nix=$(command -v nix) && printf '#!/bin/sh\nprintf \"%%s \" \"$@\" >>/tmp/argv; echo >>/tmp/argv; \
         exec %s \"$@\"\n' \"$nix\" >/run/wrappers/bin/nix && chmod 755 /run/wrappers/bin/nix && touch /tmp/argv && \
         chmod 666 /tmp/argv",
    );
    lab.variant("cortex", "B");
    release(&lab, "cortex");
    let toplevel = lab.running_system("cortex");
    root(&lab, "cortex", &format!("nix log {toplevel} >/dev/null"));
    let asked = root(&lab, "cortex", "cat /tmp/argv");
    let built: Vec<&str> = asked.lines().filter(|line| line.contains(" build ")).collect();
    assert!(!built.is_empty(), "{asked}");
    assert!(built.iter().all(|line| line.contains("--max-jobs 3 ")), "{asked}");
}

#[test]
fn s1_04_a_builder_that_is_away_fails_the_run_and_nothing_is_built_elsewhere() {
    let lab = usual("s1-04");
    release(&lab, "cortex");
    lab.variant("cortex", "B");
    let (host, all) = (host_state(&lab, "cortex"), refs(&lab));
    let store = |host: &str| root(&lab, host, "ls /nix/store | wc -l");
    let stores = [store("desk"), store("cortex")];
    root(
        &lab,
        "forge",
        "systemctl stop ssh.service ssh.socket sshd.service 2>/dev/null; ! ss -ltn | grep -q ':22 '",
    );
    let out = expect(&lab, 1, &["release", "cortex"]);
    assert!(out.stderr.contains("the builder cannot be used"), "{out}");
    assert!(out.stderr.contains("nothing is built anywhere else"), "{out}");
    assert_eq!((host_state(&lab, "cortex"), refs(&lab)), (host, all));
    assert_eq!([store("desk"), store("cortex")], stores);
}

#[test]
fn s1_05_builder_system_and_nix_version_are_recorded() {
    let lab = usual("s1-05");
    let evidence = evidence(&lab, &release(&lab, "cortex"));
    let found = &evidence["predicate"];
    assert_eq!(found["builder"], "forge");
    assert_eq!(found["system"], "x86_64-linux");
    // `nix (Nix) 2.26.3`, as people say it.
    let version = root(&lab, "forge", "nix --version").replace("nix (Nix)", "Nix");
    assert_eq!(found["nix_version"].as_str(), Some(version.as_str()));
}

#[test]
fn s1_05_another_architecture_is_refused_before_anything_is_built() {
    let lab = usual("s1-05-arch");
    release(&lab, "cortex");
    let (host, all) = (host_state(&lab, "cortex"), refs(&lab));
    lab.variant("cortex", "B");
    desk(
        &lab,
        "sed -i 's/system = \"x86_64-linux\"/system = \"aarch64-linux\"/' system.nix && git commit -qam 'Another machine'",
    );
    for verb in ["check", "release"] {
        let out = expect(&lab, 1, &[verb, "cortex"]);
        assert!(out.stderr.contains("aarch64-linux"), "{out}");
        assert!(!out.stderr.contains("\ncopy\n"), "{out}");
        assert_eq!(
            (host_state(&lab, "cortex"), refs(&lab)),
            (host.clone(), all.clone())
        );
    }
}

/// The host calls itself i686, as a 32-bit kernel would: its sshd, and so every login, has that personality.
#[track_caller]
fn becomes_i686(lab: &Lab, host: &str) {
    root(
        lab,
        host,
        "unit=$(systemctl list-units --plain --no-legend 'ssh*.service' | awk '{print $1; exit}') && \
         mkdir -p /run/systemd/system/$unit.d && \
         printf '[Service]\\nPersonality=x86\\n' >/run/systemd/system/$unit.d/32-bit.conf && \
         systemctl daemon-reload && systemctl restart $unit",
    );
    assert_eq!(desk(lab, &format!("ssh jarvis@{host} uname -m")), "i686");
}

#[test]
fn s1_05_a_target_that_no_builder_builds_for_is_refused_before_anything_is_built() {
    let lab = usual("s1-05-no-builder");
    release(&lab, "cortex");
    becomes_i686(&lab, "cortex");
    let builds_for = |platforms: &str| {
        root(
            &lab,
            "forge",
            &format!(
                "sed -i /extra-platforms/d /etc/nix/nix.conf && echo 'extra-platforms = {platforms}' >>/etc/nix/nix.conf && \
                 systemctl try-restart nix-daemon"
            ),
        );
    };
    let built = || {
        root(
            &lab,
            "forge",
            "ls -d /nix/store/*cortex* | grep -v -e '[.]drv$' -e '[.]lock$'",
        )
    };
    let is_for = |system: &str| {
        desk(
            &lab,
            &format!(
                "sed -i 's/system = \"[a-z0-9_]*-linux\"/system = \"{system}\"/' system.nix && git commit -qam 'For {system}'"
            ),
        );
    };
    builds_for("");
    is_for("i686-linux");
    let (host, all, store) = (host_state(&lab, "cortex"), refs(&lab), built());
    for verb in ["check", "release"] {
        let out = expect(&lab, 1, &[verb, "cortex"]);
        for text in [
            "forge cannot build for i686-linux, and cortex is i686-linux",
            "forge builds for x86_64-linux; it has no builders of its own",
            "boot.binfmt.emulatedSystems",
        ] {
            assert!(out.stderr.contains(text), "{text:?}: {out}");
        }
        assert_eq!(
            (host_state(&lab, "cortex"), refs(&lab), built()),
            (host.clone(), all.clone(), store.clone())
        );
    }
    // What a builder compiles for another machine is built by what it is: only the result can be judged.
    is_for("x86_64-linux");
    lab.variant("cortex", "B");
    let out = expect(&lab, 1, &["release", "cortex"]);
    let said = "this closure is for x86_64-linux, and cortex is i686";
    assert!(out.stderr.contains(said), "{out}");
    // A builder that says it can.
    builds_for("i686-linux");
    is_for("i686-linux");
    let name = release(&lab, "cortex");
    assert_eq!(evidence(&lab, &name)["predicate"]["system"], "i686-linux");
}
