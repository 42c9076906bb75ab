//! The store of a host against its own database: found, repaired, and never touched unasked.

use std::time::Duration;

use crate::broken::{must, says, snapshot, with};
use crate::infra::{expect, release, usual, with_config};
use crate::lab::{Lab, Output};

const HOSTS: [&str; 4] = ["desk", "forge", "git", "cortex"];

/// The path of B's closure with this in its name.
fn path_of(lab: &Lab, name: &str) -> String {
    let cmd = format!("nix-store -qR /run/current-system | grep -e '-{name}' | sed -n 1p");
    let path = must(lab, "cortex", "root", &cmd);
    assert!(path.starts_with("/nix/store/"), "{path:?}");
    path
}

/// Takes a path's files away and leaves the database alone.
fn lose(lab: &Lab, path: &str) {
    must(
        lab,
        "cortex",
        "root",
        &format!("chmod -R u+w {path} && rm -rf {path} && ! test -e {path}"),
    );
}

/// What a repair may leave on a host: nothing but what it repaired.
fn leftovers(lab: &Lab) -> String {
    must(
        lab,
        "cortex",
        "root",
        "ls -d /var/tmp/nixgate-* /run/nixgate/2* /nix/var/nix/gcroots/nixgate/+tmp/* 2>/dev/null; \
         systemctl list-units --all --plain --no-legend 'nixgate-*'; systemctl is-active nix-daemon.socket",
    )
}

fn closure(lab: &Lab) -> String {
    must(
        lab,
        "cortex",
        "root",
        "nix-store -qR $(readlink -f /run/current-system) | sort | xargs nix-store --dump-db",
    )
}

fn last_json(out: &Output) -> String {
    out.stdout.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn s3_04_paths_that_only_the_database_has_are_named_with_the_closures_that_need_them() {
    let lab = usual("s3-04");
    lab.variant("cortex", "B");
    let record = release(&lab, "cortex");
    let leaf = record.rsplit('/').next().unwrap_or_default().to_owned();
    let out = expect(&lab, 0, &["store", "check", "cortex"]);
    says(&out, &["cortex: ", "all whole"]);

    let lost = path_of(&lab, "appd");
    lose(&lab, &lost);
    // This is what makes it dangerous: a copy of the whole closure changes nothing and reports success.
    let system = lab.running_system("cortex");
    let copy = format!("nix copy --no-check-sigs --to ssh-ng://jarvis@cortex {system}");
    assert!(lab.sh("forge", "build", &copy).ok());
    let before = snapshot(&lab, "cortex");
    let out = expect(&lab, 1, &["store", "check", "cortex"]);
    says(
        &out,
        &[
            &format!("{lost}  files gone, needed by running, profile, record, cortex/{leaf}"),
            "next: git nixgate store repair cortex",
        ],
    );
    assert!(!out.stdout.contains("before-first,"), "A has another appd: {out}");
    let out = expect(&lab, 1, &["store", "check", "cortex", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&last_json(&out)).expect("JSON");
    assert_eq!(json["whole"], false, "{json}");
    assert_eq!(json["broken"][0]["path"], lost.as_str(), "{json}");
    assert_eq!(json["broken"][0]["fault"], "gone", "{json}");
    assert_eq!(snapshot(&lab, "cortex"), before, "a check only reads");

    // Contents are read when they are asked for.
    expect(&lab, 0, &["store", "repair", "cortex", "--yes"]);
    let changed = path_of(&lab, "ripgrep");
    let spoil = format!("f=$(find {changed} -type f | sed -n 1p); chmod u+w $f; echo spoilt >>$f");
    must(&lab, "cortex", "root", &spoil);
    expect(&lab, 0, &["store", "check", "cortex"]);
    let out = expect(&lab, 1, &["store", "check", "cortex", "--contents"]);
    says(&out, &[&format!("{changed}  other contents, needed by running")]);
    expect(&lab, 0, &["store", "repair", "cortex", "--contents", "--yes"]);
    expect(&lab, 0, &["store", "check", "cortex", "--contents"]);
}

#[test]
fn s3_05_a_broken_path_comes_back_byte_for_byte_and_only_after_a_yes() {
    let lab = usual("s3-05");
    lab.variant("cortex", "B");
    release(&lab, "cortex");
    let whole = closure(&lab);
    let system = lab.running_system("cortex");
    let lost = path_of(&lab, "appd");
    lose(&lab, &lost);
    lose(&lab, &system);
    let out = expect(&lab, 2, &["store", "repair", "cortex"]);
    says(&out, &["nobody is here to be asked", "--yes"]);
    let gone = format!("test ! -e {lost} && test ! -e {system}");
    assert!(lab.sh("cortex", "root", &gone).ok(), "nothing without a yes");

    let out = expect(&lab, 0, &["store", "repair", "cortex", "--yes"]);
    says(
        &out,
        &[
            "forge gave 2 of 2 paths",
            &format!("repaired {lost}"),
            &format!("repaired {system}"),
            "next: git nixgate deploy cortex --to release/cortex/",
        ],
    );
    let verify = format!("nix-store --verify-path {lost} {system} && nix-store --verify --check-contents");
    assert!(lab.sh("cortex", "root", &verify).ok());
    assert_eq!(closure(&lab), whole);
    assert_eq!(leftovers(&lab), "active");
    // Nothing is left to be done, and nobody is asked about it.
    says(&expect(&lab, 0, &["store", "repair", "cortex"]), &["all whole"]);
}

#[test]
fn s3_05_no_repair_while_a_run_holds_the_host() {
    let config = with("").replace("soak = 0", "soak = 300");
    let lab = with_config("s3-05-busy", &HOSTS, &config);
    lab.variant("cortex", "B");
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("validate", Duration::from_secs(120));
    let lost = path_of(&lab, "ripgrep");
    lose(&lab, &lost);
    let out = expect(&lab, 6, &["store", "repair", "cortex", "--yes"]);
    says(&out, &["cortex is held by another run"]);
    assert!(!lab.sh("cortex", "root", &format!("test -e {lost}")).ok());
    run.kill();
}

#[test]
fn s3_05_s3_06_a_database_that_dies_of_foreign_keys_is_operated_on_when_asked() {
    let lab = usual("s3-05-db");
    lab.variant("cortex", "B");
    let record = release(&lab, "cortex");
    let whole = closure(&lab);
    // What nix#2218 and #9321 left behind: a row whose referrer does not exist, for a path that nothing else refers to.
    let system = lab.running_system("cortex");
    let sql = format!(
        "PRAGMA foreign_keys = OFF; INSERT INTO Refs SELECT 999999, id FROM ValidPaths WHERE path = '{system}';"
    );
    must(
        &lab,
        "cortex",
        "root",
        &format!("sqlite3 /nix/var/nix/db/db.sqlite \"{sql}\""),
    );
    lose(&lab, &system);
    let out = lab.sh("cortex", "root", "nix-store --verify --repair");
    assert!(
        !out.ok() && out.stderr.contains("FOREIGN KEY constraint failed"),
        "{out}"
    );

    let out = expect(&lab, 1, &["store", "check", "cortex"]);
    says(&out, &["rows of the database that refer to nothing: 1"]);
    let out = expect(&lab, 1, &["store", "repair", "cortex", "--yes"]);
    says(
        &out,
        &[
            "the database stays as it is",
            "--surgery",
            &format!("repaired {system}"),
        ],
    );
    let out = expect(&lab, 0, &["store", "repair", "cortex", "--yes", "--surgery"]);
    let backup = out
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("the database before: ")?.split_once(','))
        .unwrap_or_else(|| panic!("no backup is named: {out}"))
        .0;
    // The backup is the database as it was, complaint and all.
    let kept = must(
        &lab,
        "cortex",
        "root",
        &format!("sqlite3 {backup} 'PRAGMA foreign_key_check'"),
    );
    assert!(kept.starts_with("Refs|"), "{kept}");
    must(
        &lab,
        "cortex",
        "root",
        "nix-store --verify --check-contents --repair",
    );
    assert_eq!(closure(&lab), whole);
    assert_eq!(leftovers(&lab), "active");
    // The order that was printed, followed: the host equals its record, and GC takes nothing of it.
    says(
        &expect(&lab, 0, &["deploy", "cortex", "--to", &record]),
        &["nothing to deploy"],
    );
    expect(&lab, 0, &["health", "cortex"]);
    must(&lab, "cortex", "root", "nix-collect-garbage");
    expect(&lab, 0, &["store", "check", "cortex", "--contents"]);
}

#[test]
fn s3_05_another_build_of_a_path_replaces_it_only_by_surgery_and_keeps_every_reference() {
    let lab = usual("s3-05-other");
    lab.variant("cortex", "B");
    release(&lab, "cortex");
    let whole = closure(&lab);
    let lost = path_of(&lab, "appd");
    let referrers = format!("nix-store -q --referrers {lost} | sort");
    let before = must(&lab, "cortex", "root", &referrers);
    assert!(before.lines().count() > 0, "{before}");
    // The builder's copy of it is registered with other bytes.
    let rebuild = format!(
        "set -e; p={lost}; chmod -R u+w $p; f=$(find $p -type f | sed -n 1p); echo another >>$f
         d=$(nix-store --dump-db $p | sed -n '4,$p')
         {{ echo $p; nix-hash --type sha256 $p; nix-store --dump $p | wc -c; printf '%s\\n' \"$d\"; }} >/tmp/db
         nix-store --load-db </tmp/db; nix-store --verify-path $p"
    );
    must(&lab, "forge", "root", &rebuild);
    lose(&lab, &lost);
    let out = expect(&lab, 1, &["store", "repair", "cortex", "--yes"]);
    says(
        &out,
        &["to be had only as other builds", "the database stays as it is"],
    );
    assert!(!lab.sh("cortex", "root", &format!("test -e {lost}")).ok());
    // Done on purpose it works, and the closure is not the recorded one any more: that is said.
    let out = expect(&lab, 1, &["store", "repair", "cortex", "--yes", "--surgery"]);
    says(
        &out,
        &[
            &format!("repaired {lost}"),
            "the closure registered is not the one recorded",
        ],
    );
    assert_eq!(must(&lab, "cortex", "root", &referrers), before);
    let now = closure(&lab);
    assert_ne!(now, whole);
    assert_eq!(now.lines().count(), whole.lines().count());
    must(&lab, "cortex", "root", "nix-store --verify --check-contents");
    assert_eq!(leftovers(&lab), "active");
}
