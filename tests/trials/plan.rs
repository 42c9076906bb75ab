//! What a release would change, told before it lands: by derivations, by what the two systems hold, and by the rules.

use crate::hand::{at_desk, describe, desk, evidence, root};
use crate::infra::{CONFIG, configure, expect, host_state, refs, release, with_config};
use crate::lab::{Lab, Output};

fn lab(name: &str, config: &str) -> Lab {
    with_config(name, &["desk", "forge", "git", "cortex"], config)
}

/// Every ref of op's clone and of the server, what cortex is on, and what the builder keeps for it.
fn everything(lab: &Lab) -> String {
    let here = desk(lab, "git for-each-ref; git status --short");
    let builder = root(
        lab,
        "forge",
        "cd /home/build/.local/state/nixgate 2>/dev/null && find roots -printf '%P %l\\n' | sort; \
         [ ! -e src.git ] || git -c safe.directory='*' -C src.git for-each-ref",
    );
    let held = root(
        lab,
        "cortex",
        "ls /nix/store | sort | cksum; ls -R /run/nixgate /var/lib/nixgate 2>/dev/null",
    );
    format!("{here}{}{}{builder}{held}", refs(lab), host_state(lab, "cortex"))
}

/// The line of an answer that begins so.
#[track_caller]
fn line<'a>(out: &'a Output, start: &str) -> &'a str {
    let mut lines = out.stdout.lines().map(str::trim_start);
    let found = lines.find(|line| line.starts_with(start));
    found.unwrap_or_else(|| panic!("no line {start:?} in {out}"))
}

#[test]
fn s1_9_s4_5_s4_6_a_plan_tells_everything_and_writes_nothing() {
    let lab = lab("plan", CONFIG);
    // Nothing was released yet, and A runs.
    describe(&lab, "cortex", "{ etc.\"app.conf\" = \"first\\n\"; }");
    let out = expect(&lab, 0, &["plan", "cortex"]);
    assert_eq!(line(&out, "Deployment Plan"), "Deployment Plan: 1 host");
    assert_eq!(line(&out, "cortex: CHANGED"), "cortex: CHANGED (1 config)");
    assert_eq!(line(&out, "/etc:"), "/etc: ~ app.conf");
    assert!(
        line(&out, "Estimated time").contains("nothing was released yet"),
        "{out}"
    );
    let record = release(&lab, "cortex");

    let out = expect(&lab, 0, &["plan", "cortex"]);
    assert_eq!(
        line(&out, "cortex: UNCHANGED"),
        "cortex: UNCHANGED (skip deployment)"
    );
    assert_eq!(line(&out, "Recommendation"), "Recommendation: Deploy nothing");

    describe(
        &lab,
        "cortex",
        "{ etc.\"app.conf\" = \"first\\n\"; revs.\"sshd.service\" = 2; \
           packages = { hello = \"3.0\"; htop = null; ripgrep = \"15.1.0\"; }; }",
    );
    let before = everything(&lab);
    let out = expect(&lab, 0, &["plan", "cortex"]);
    assert_eq!(everything(&lab), before, "{out}");
    assert_eq!(
        line(&out, "cortex: CHANGED"),
        "cortex: CHANGED (3 packages, 1 config)"
    );
    assert_eq!(line(&out, "risk:"), "risk: HIGH (sshd.service (the way in))");
    assert!(line(&out, "units:").starts_with("units: ~ sshd.service"), "{out}");
    assert!(
        line(&out, "Estimated time").ends_with("(as the last release)"),
        "{out}"
    );
    assert!(line(&out, "Rollback").contains(&record), "{out}");
    assert_eq!(line(&out, "Recommendation"), "Recommendation: Deploy cortex");
    // The same from `release`, and for programs.
    let same = expect(&lab, 0, &["release", "cortex", "--plan"]);
    assert_eq!(same.stdout, out.stdout);
    let json = expect(&lab, 0, &["plan", "cortex", "--json"]);
    let json: serde_json::Value =
        serde_json::from_str(json.text().lines().last().unwrap_or_default()).expect("JSON");
    assert_eq!(json["plan"]["packages"], 3, "{json}");
    assert_eq!(json["plan"]["runs"], record.as_str());
    assert_eq!(json["holds"]["units"]["changed"][0]["name"], "sshd.service");

    // A release that would be refused: told with the same words, and what changes is told all the same.
    assert!(lab.lab(&["bump-input", "0.9.2"]).ok());
    desk(&lab, "git commit -q --amend -m 'Other words'");
    configure(
        &lab,
        &CONFIG.replace("[builder]", "[defaults]\ninput-drift = \"deny\"\n[builder]"),
    );
    let out = expect(&lab, 3, &["plan", "cortex"]);
    assert_eq!(
        line(&out, "Recommendation"),
        "Recommendation: Do not deploy cortex: a release would be refused"
    );
    assert!(
        out.stderr.contains("no commit message names them: fixlib"),
        "{out}"
    );
    assert_eq!(
        root(&lab, "cortex", "readlink /run/current-system"),
        lab.running_system("cortex")
    );
}

#[test]
fn s1_8_s4_4_what_two_systems_hold_is_told_also_without_derivations() {
    let lab = lab("holds", CONFIG);
    describe(
        &lab,
        "cortex",
        "{ etc.\"app/nginx.conf\" = \"worker_processes 1;\\nuser www;\\n\"; }",
    );
    let record = release(&lab, "cortex");
    // A line of a file, a line of a unit, a rule, and a unit more.
    describe(
        &lab,
        "cortex",
        "{ etc.\"app/nginx.conf\" = \"worker_processes 4;\\nuser www;\\n\"; revs.\"worker.service\" = 2; \
           firewall = \"tcp dport 9 drop\"; \
           units.\"extra.service\" = { wantedBy = [ \"multi-user.target\" ]; \
             text = \"[Service]\\nExecStart=/bin/sleep infinity\\n\"; }; }",
    );
    let told = [
        "firewall: ~ firewall.service (firewall)",
        "units: ~ worker.service, + extra.service",
        "/etc: ~ app/nginx.conf",
    ];
    let out = expect(&lab, 0, &["check", "cortex"]);
    for wanted in told {
        assert!(
            out.stderr.lines().any(|line| line.trim() == wanted),
            "{wanted}: {out}"
        );
    }
    let text = expect(&lab, 0, &["diff", "cortex", "--text"]).stdout;
    let lines = [
        "  ~ /etc/app/nginx.conf\n      - worker_processes 1;\n      + worker_processes 4;\n",
        "  ~ worker.service\n      + Environment=REV=2\n",
        "  ~ firewall.service\n      firewall:\n",
        "+     tcp dport 9 drop\n",
    ];
    for wanted in lines {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }

    let causes = |out: &Output| -> Vec<String> {
        let shown = out.stdout.lines().skip(2).take_while(|line| !line.is_empty());
        shown.map(str::to_owned).collect()
    };
    let whole = causes(&expect(&lab, 0, &["diff", "cortex"]));

    // The old derivations are gone: the journals of the runs before have them.
    let drv = evidence(&lab, &record)["predicate"]["drv"]
        .as_str()
        .expect("a derivation")
        .to_owned();
    root(
        &lab,
        "forge",
        &format!(
            "rm -f /home/build/.local/state/nixgate/roots/cortex/*.drv; nix-store --delete --ignore-liveness {drv}"
        ),
    );
    let out = expect(&lab, 0, &["diff", "cortex"]);
    assert!(
        out.stderr.contains("read from the journals of earlier runs"),
        "{out}"
    );
    assert_eq!(causes(&out), whole, "{out}");

    // In a clone without journals: what is told by content is still told, and so is the risk.
    desk(
        &lab,
        "git for-each-ref --format='delete %(refname)' refs/nixgate/runs | git update-ref --stdin",
    );
    let out = expect(&lab, 0, &["diff", "cortex", "--text"]);
    assert!(out.stderr.contains("told by names alone"), "{out}");
    for wanted in told
        .into_iter()
        .chain(["risk: HIGH (firewall.service (the firewall))"])
    {
        assert!(out.stdout.lines().any(|line| line == wanted), "{wanted}: {out}");
    }
    assert!(
        out.stdout.contains(lines[0]) && out.stdout.contains(lines[1]),
        "{out}"
    );

    // So it is where the builder has nothing of what runs: then the host itself is read.
    let old = lab.running_system("cortex");
    root(
        &lab,
        "forge",
        &format!(
            "rm -rf /home/build/.local/state/nixgate/roots/cortex/*; nix-store --delete --ignore-liveness {old}"
        ),
    );
    let out = expect(&lab, 0, &["check", "cortex"]);
    for wanted in told {
        assert!(
            out.stderr.lines().any(|line| line.trim() == wanted),
            "{wanted}: {out}"
        );
    }
    let record = release(&lab, "cortex");
    let holds = &evidence(&lab, &record)["predicate"]["diff"]["holds"];
    assert_eq!(*holds, serde_json::json!(told));
}

#[test]
fn s1_10_an_input_that_nobody_declared_is_drift() {
    let lab = lab("drift", CONFIG);
    let first = release(&lab, "cortex");
    let bump = |version: &str, words: Option<&str>| {
        let out = lab.lab(&["bump-input", version]);
        assert!(out.ok(), "{out}");
        if let Some(words) = words {
            desk(&lab, &format!("git commit -q --amend -m '{words}'"));
        }
    };
    // The words that `nix flake update --commit-lock-file` writes declare what it moved.
    bump("0.9.2", None);
    let message = desk(&lab, "git log -1 --format=%B");
    assert!(message.contains("Updated input 'fixlib'"), "{message}");
    let out = expect(&lab, 0, &["check", "cortex"]);
    assert!(!out.stderr.contains("no commit message names"), "{out}");
    assert!(out.stderr.contains("↑ fixtool 0.9.1 → 0.9.2"), "{out}");
    let second = release(&lab, "cortex");
    // It is named in the record and between the two records as well.
    let told = evidence(&lab, &second)["predicate"]["diff"].clone();
    assert!(
        told["inputs"][0]
            .as_str()
            .is_some_and(|line| line.starts_with("~ fixlib ")),
        "{told}"
    );
    assert!(
        told["causes"][0]
            .as_str()
            .is_some_and(|line| line.starts_with("input fixlib ")),
        "{told}"
    );
    let out = expect(&lab, 0, &["show", &second]);
    line(&out, "input fixlib ");
    let out = expect(&lab, 0, &["diff", "cortex", &first, &second]);
    assert!(line(&out, "input fixlib ").contains(" → "), "{out}");
    line(&out, "↑ fixtool 0.9.1 → 0.9.2 (");

    // A commit for something else brought it along: a warning, in the record too.
    bump("0.9.3", Some("Tidy up"));
    let out = expect(&lab, 0, &["check", "cortex"]);
    let warning = "flake inputs moved although no commit message names them: fixlib";
    assert!(out.stderr.contains(&format!("warning: {warning}")), "{out}");
    let record = release(&lab, "cortex");
    assert_eq!(evidence(&lab, &record)["predicate"]["warnings"][0], warning);

    // Where that is policy it is refused, before anything was copied; a person's word lets it pass.
    configure(
        &lab,
        &CONFIG.replace("[builder]", "[defaults]\ninput-drift = \"deny\"\n[builder]"),
    );
    bump("0.9.4", Some("Tidy up again"));
    let (host, all) = (host_state(&lab, "cortex"), refs(&lab));
    let out = expect(&lab, 3, &["release", "cortex"]);
    assert!(
        out.stderr.contains(warning) && out.stderr.contains("--accept-input fixlib"),
        "{out}"
    );
    assert_eq!((host_state(&lab, "cortex"), refs(&lab)), (host, all));
    let out = expect(&lab, 0, &["release", "cortex", "--accept-input", "fixlib"]);
    assert!(!out.stderr.contains("no commit message names"), "{out}");
    // A later commit that names it declares it as well.
    bump("0.9.5", Some("Tidy up once more"));
    desk(
        &lab,
        "git commit -q --allow-empty -m 'fixlib was moved on purpose'",
    );
    expect(&lab, 0, &["check", "cortex"]);
}

#[test]
fn a_commit_for_people_has_no_effect_and_is_no_cause() {
    let lab = lab("texts", CONFIG);
    release(&lab, "cortex");
    desk(
        &lab,
        "echo words >README.md && git add -A && git commit -qm 'Say something'",
    );
    let out = expect(&lab, 0, &["diff", "cortex"]);
    assert!(
        out.stdout
            .contains("no difference: the same closure\n  README.md: no effect\n"),
        "{out}"
    );
    // Beside an input that moved it is no cause: the input is certain, without an evaluation more.
    assert!(lab.lab(&["bump-input", "0.9.2"]).ok());
    let out = expect(&lab, 0, &["check", "cortex"]);
    let shown = &out.stderr;
    assert!(!shown.contains(" or "), "{out}");
    assert!(
        shown.contains("\n  input fixlib ") && shown.contains("\n  README.md: no effect\n"),
        "{out}"
    );
    assert!(at_desk(&lab, "git status --short").text().is_empty());
}
