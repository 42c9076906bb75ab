//! What changes on a host and why, on hosts that differ for known reasons.

use crate::hand::{describe, evidence, root};
use crate::infra::{CONFIG, expect, release, with_config};
use crate::lab::{Lab, Output};

fn lab(name: &str, config: &str) -> Lab {
    with_config(name, &["desk", "forge", "git", "cortex"], config)
}

/// What the gate `diff` showed, without its time.
#[track_caller]
fn shown(out: &Output) -> String {
    let text = out
        .stderr
        .split_once("\ndiff\n")
        .unwrap_or_else(|| panic!("no diff: {out}"))
        .1;
    let end = text
        .find("\n  passed in")
        .or(text.find("\n  FAILED in"))
        .unwrap_or(text.len());
    text[..end].to_owned()
}

/// The difference between two systems, as JSON.
#[track_caller]
fn diff(lab: &Lab, args: &[&str]) -> serde_json::Value {
    let all = [&["diff", "cortex", "--json"], args].concat();
    serde_json::from_str(expect(lab, 0, &all).text().lines().last().unwrap_or_default()).expect("JSON")
}

/// A cause's title with what was changed for it.
fn chapter<'a>(shown: &'a str, title: &str) -> Vec<&'a str> {
    let mut lines = shown
        .lines()
        .skip_while(|line| !line.trim_start().starts_with(title));
    assert!(lines.next().is_some(), "no {title:?} in:\n{shown}");
    lines
        .take_while(|line| line.starts_with("    "))
        .map(str::trim_start)
        .collect()
}

#[test]
fn s1_7_s1_8_s1_9_s1_10_s4_4_each_change_is_named_with_its_cause() {
    let lab = lab("explain", CONFIG);

    // The first release: nobody knows which commit runs, but what was changed is known all the same.
    describe(&lab, "cortex", "{ etc.\"app.conf\" = \"first\\n\"; }");
    let out = expect(&lab, 0, &["check", "cortex"]);
    let first = shown(&out);
    assert_eq!(
        chapter(&first, "what was changed"),
        ["~ /etc: app.conf: contents (6 paths)"]
    );
    assert!(first.contains("a commit is not known"), "{first}");
    let before = release(&lab, "cortex");

    // One line of a unit, and no version moves.
    describe(
        &lab,
        "cortex",
        "{ etc.\"app.conf\" = \"first\\n\"; revs.\"worker.service\" = 2; }",
    );
    let out = expect(&lab, 0, &["check", "cortex"]);
    let unit = shown(&out);
    assert_eq!(
        chapter(&unit, "hosts/cortex.nix"),
        ["~ worker.service: contents (8 paths)"]
    );
    assert!(unit.contains("risk: MEDIUM (worker.service)"), "{unit}");
    assert!(unit.contains("explained: all of 8 changed paths"), "{unit}");
    let text = expect(&lab, 0, &["diff", "cortex", "--text"]).stdout;
    assert!(text.contains("      + Environment=REV=2\n"), "{text}");
    let worker = release(&lab, "cortex");
    // What going back would take back is told by the journal of the run that brought it.
    let back = shown(&expect(&lab, 0, &["rollback", "cortex", "--check"]));
    assert_eq!(
        chapter(&back, "hosts/cortex.nix"),
        ["~ worker.service: contents (8 paths)"]
    );
    assert!(back.contains("explained: all of 8 changed paths"), "{back}");
    let record = evidence(&lab, &worker);
    let told = &record["predicate"]["diff"];
    assert_eq!(
        told["causes"],
        serde_json::json!(["hosts/cortex.nix", "  ~ worker.service: contents (8 paths)"])
    );
    assert_eq!(
        (&told["changed_paths"], &told["explained_paths"]),
        (&8.into(), &8.into())
    );

    // An input and a file at once: only evaluation can tell which did what.
    assert!(lab.lab(&["bump-input", "0.9.2"]).ok());
    let commit = lab.sh(
        "desk",
        "op",
        "cd ~/infra && git commit -q --amend -m 'Other words'",
    );
    assert!(commit.ok(), "{commit}");
    describe(
        &lab,
        "cortex",
        "{ etc.\"app.conf\" = \"first\\n\"; revs.\"worker.service\" = 2; kernel = \"6.18.2\"; }",
    );
    let out = expect(&lab, 0, &["check", "cortex"]);
    let both = shown(&out);
    assert!(both.contains(" or hosts/cortex.nix\n"), "{both}");
    assert!(
        out.stderr
            .contains("warning: flake inputs moved although no commit message names them: fixlib"),
        "{out}"
    );
    let out = expect(&lab, 0, &["check", "cortex", "--explain"]);
    let proven = shown(&out);
    assert_eq!(
        chapter(&proven, "input fixlib "),
        ["↑ fixtool 0.9.1 → 0.9.2 (6 paths)"]
    );
    let kernel = chapter(&proven, "hosts/cortex.nix");
    assert_eq!(
        kernel,
        [
            "↑ initrd: initrd-linux 6.18.1 → 6.18.2 (4 paths)",
            "↑ kernel: linux 6.18.1 → 6.18.2 (4 paths)",
            "↑ kernel: linux-modules 6.18.1 → 6.18.2 (4 paths)",
        ]
    );
    assert!(proven.contains("risk: HIGH (initrd, kernel)"), "{proven}");

    // The same between any two: records, commits, what runs.
    let records = diff(&lab, &[&before, &worker]);
    assert_eq!(records["roots"][0]["of"], "worker.service");
    assert_eq!(
        records["causes"][0]["what"],
        serde_json::json!(["hosts/cortex.nix"])
    );
    assert_eq!(records["unexplained"], serde_json::json!([]));
    let commits = diff(&lab, &["HEAD~1", "HEAD"]);
    let names: Vec<&str> = commits["roots"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|r| r["part"].as_str())
        .collect();
    assert_eq!(
        names.iter().filter(|part| **part == "kernel").count(),
        2,
        "{commits}"
    );
    assert_eq!(commits["risk"]["level"], "high");
    let live = diff(&lab, &["live", &worker]);
    assert_eq!(live["packages"], serde_json::json!([]), "{live}");

    // An input that is held back and changes nothing has no effect.
    let kernel = release(&lab, "cortex");
    // Over several releases at once the journals of all of them are needed.
    let back = shown(&expect(
        &lab,
        0,
        &["rollback", "cortex", "--to", &before, "--check"],
    ));
    for word in [
        "worker.service: contents",
        "linux 6.18.2 → 6.18.1",
        "explained: all of",
    ] {
        assert!(back.contains(word), "{word} in {back}");
    }
    let told = evidence(&lab, &kernel)["predicate"]["diff"].clone();
    assert_eq!(told["risk"], "risk: HIGH (initrd, kernel)");
    assert!(
        told["causes"]
            .to_string()
            .contains("kernel: linux 6.18.1 → 6.18.2"),
        "{told}"
    );
    assert!(
        told["holds"]
            .to_string()
            .contains("kernel: linux-6.18.1 → linux-6.18.2"),
        "{told}"
    );
    let touched = lab.sh(
        "desk",
        "op",
        "cd /srv/inputs/fixlib && touch unused && git add -A && git commit -qm unused && cd ~/infra && \
         nix flake update --quiet fixlib --commit-lock-file",
    );
    assert!(touched.ok(), "{touched}");
    describe(
        &lab,
        "cortex",
        "{ etc.\"app.conf\" = \"second\\n\"; revs.\"worker.service\" = 2; kernel = \"6.18.2\"; }",
    );
    let out = expect(&lab, 0, &["check", "cortex", "--explain"]);
    let proven = shown(&out);
    assert!(proven.contains(": no effect"), "{proven}");
    assert_eq!(
        chapter(&proven, "hosts/cortex.nix"),
        ["~ /etc: app.conf: contents (6 paths)"]
    );
}

#[test]
fn s1_9_what_no_cause_explains_is_refused_and_what_cannot_be_told_is_said() {
    let config = CONFIG.replace("[builder]", "[defaults]\nimpure = true\n[builder]");
    let lab = lab("unexplained", &config);
    // A configuration that is another one each time.
    describe(
        &lab,
        "cortex",
        "{ etc.\"app.conf\" = \"at ${toString builtins.currentTime}\\n\"; }",
    );
    let first = release(&lab, "cortex");
    let state = crate::infra::host_state(&lab, "cortex");
    // The commit is the same, and the closure is not.
    let out = expect(&lab, 3, &["release", "cortex"]);
    assert!(
        shown(&out).contains("unexplained\n    ~ /etc: app.conf: contents"),
        "{out}"
    );
    assert!(
        out.stderr.contains("explained: 0 of 6 changed paths (0 %)"),
        "{out}"
    );
    assert!(out.stderr.contains("--accept-unexplained"), "{out}");
    assert_eq!(crate::infra::host_state(&lab, "cortex"), state);
    let out = expect(&lab, 0, &["release", "cortex", "--accept-unexplained"]);
    let record = evidence(&lab, out.text().lines().last().unwrap_or_default());
    assert_eq!(record["predicate"]["diff"]["explained_paths"], 0);
    assert!(
        record["predicate"]["warnings"][0]
            .as_str()
            .is_some_and(|text| text.starts_with("accepted: ")),
        "{record}"
    );

    // Without the old derivations names are all there is of what is new, and nothing is refused for that.
    root(
        &lab,
        "forge",
        "rm -rf /home/build/.local/state/nixgate/roots/cortex/*.drv && \
         nix-store --gc --print-roots | grep -c nixos-system && \
         for d in /nix/store/*-nixos-system-cortex-*.drv; do chmod u+w $d; rm -f $d; done",
    );
    let out = expect(&lab, 0, &["check", "cortex"]);
    assert!(shown(&out).contains("told by names alone"), "{out}");
    let live = diff(&lab, &[&first, "live"]);
    // Between two releases the journals have them.
    assert_eq!(live["roots"][0]["of"], "app.conf", "{live}");
    assert_eq!(live["totals"]["paths-new"], 3);

    // What runs on a host is read as root: there its daemon need not answer everybody.
    root(
        &lab,
        "cortex",
        "printf '%s = root\\n' trusted-users allowed-users >>/etc/nix/nix.conf && systemctl restart nix-daemon.service",
    );
    let refused = lab.sh("cortex", "jarvis", "nix-store -qR /run/current-system");
    assert!(refused.stderr.contains("cannot open connection"), "{refused}");
    assert_eq!(diff(&lab, &[&first, "live"]), live);

    // What is unexplained is told of a rollback too, and never refused.
    let back = expect(&lab, 0, &["rollback", "cortex"]);
    let record = evidence(&lab, back.text().lines().last().unwrap_or_default());
    let told = &record["predicate"]["diff"];
    assert_eq!(told["explained_paths"], 0, "{told}");
    let causes = told["causes"].to_string();
    assert!(
        causes.contains("unexplained") && causes.contains("app.conf"),
        "{told}"
    );
}
