//! Every attack on records that we know of, by git's own means, against all that judges: `verify`, the choice of
//! `rollback` and `deploy`, the client's hook, the server's hook. The table is printed, and kept in
//! `snapshots/attacks.snap`.

mod raw;
mod scene;
mod strange;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod unreleased;

use git_nixgate::record::sha256_hex;
use scene::{Scene, refusal};
use table::{ATTACKS, Attack};

#[test]
fn no_attack_succeeds() {
    let whole = Scene::new();
    assert_eq!(
        whole.program(&["verify"]).0,
        Some(0),
        "{:?}",
        whole.program(&["verify"])
    );
    let threads = 3;
    let rows: Vec<(usize, String)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let whole = &whole;
                let mine = ATTACKS.iter().enumerate().skip(worker).step_by(threads);
                scope.spawn(move || -> Vec<(usize, String)> {
                    mine.map(|(n, (name, attack))| (n, row(&whole.copy(n), name, *attack)))
                        .collect()
                })
            })
            .collect();
        workers.into_iter().flat_map(|w| w.join().unwrap()).collect()
    });
    let mut rows = rows;
    rows.sort();
    let head = line(
        "attack",
        "verify",
        "rollback",
        "deploy",
        "pre-push",
        "pre-receive",
    );
    let legend = "as recorded: nothing that is judged was changed, or what was recorded is taken all the same\n\
                  -: the attack leaves nothing to push\nleft out: the hook does not run, as with --no-verify; the server's does\n\n";
    let table: String = [legend.to_owned(), head]
        .into_iter()
        .chain(rows.into_iter().map(|(_, row)| row))
        .chain(["\n".to_owned(), raw::table(&whole)])
        .collect();
    println!("{table}");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("attacks", table));
}

fn line(attack: &str, verify: &str, rollback: &str, deploy: &str, push: &str, receive: &str) -> String {
    format!("{attack:<44} {verify:<19} {rollback:<16} {deploy:<16} {push:<20} {receive}")
        .trim_end()
        .to_owned()
        + "\n"
}

/// Commands that a person may type on a commit that was only pulled.
const COMMANDS: &[&[&str]] = &[
    &["status"],
    &["status", "--live"],
    &["health", "cortex"],
    &["verify", "--live"],
    &["verify", "--full", "--remote"],
    &["log", "cortex"],
    &["show", "cortex"],
    &["config", "check"],
    &["check", "cortex"],
    &["rollback", "cortex", "--check"],
    &["rollback", "cortex", "--rehearse"],
    &["publish", "cortex"],
    &["resume", "cortex"],
    &["cancel", "cortex"],
    &["prune", "cortex", "--dry-run"],
    &["logs", "cortex"],
    &["store", "check", "cortex"],
    &["hook", "install"],
];

/// One attack against everything.
fn row(scene: &Scene, name: &str, attack: Attack) -> String {
    let specs = attack(scene);
    let before = scene.hub.git(&["for-each-ref"]);
    let (exit, said) = scene.program(&["verify"]);
    let verify = match exit {
        // What is on the server is seen by whoever asks the server.
        Some(0) => match scene.program(&["verify", "--remote"]) {
            (Some(0), _) => "as recorded".to_owned(),
            (exit, said) => format!("{} there", refusal(exit, &said)),
        },
        exit => refusal(exit, &said),
    };
    let pushed = |flags: &[&str]| {
        if specs.is_empty() {
            return "-".to_owned();
        }
        let (done, said) = scene.push(flags, &specs);
        assert!(!done, "{name}: {specs:?} went through {flags:?}: {said}");
        assert_eq!(
            scene.hub.git(&["for-each-ref"]),
            before,
            "{name}: the server changed"
        );
        refusal(Some(1), &said)
    };
    let push = match scene.ada.path.join(".git/hooks/pre-push").exists() && name != "hostile configuration" {
        true => pushed(&["--atomic"]),
        // The hook is left out, and the server's is not.
        false => "left out".to_owned(),
    };
    let receive = pushed(&["--atomic", "--no-verify"]);
    let rollback = scene.chosen(&["rollback", "cortex"], &scene.first);
    let to = scene.second.name.leaf();
    let deploy = scene.chosen(&["deploy", "cortex", "--to", &to], &scene.second);
    if name.starts_with("a commit ") {
        // Nor does anything else run what nobody released. `check` takes the commit that it is told to.
        for args in COMMANDS {
            scene.program(args);
        }
    }
    assert!(!scene.lab.path("trap").exists(), "{name}: a program ran");
    line(name, &verify, &rollback, &deploy, &push, &receive)
}

/// Whoever has nothing but the server's refs, without the server's hook: what the attack leaves there is found.
#[test]
fn what_a_server_without_the_hook_let_in_is_found_in_every_clone() {
    let whole = Scene::new();
    let mut missed = Vec::new();
    for (n, (name, attack)) in ATTACKS.iter().enumerate() {
        let scene = whole.copy(n);
        for hook in ["pre-receive", "reference-transaction"] {
            std::fs::remove_file(scene.hub.path.join("hooks").join(hook)).unwrap();
        }
        let before = scene.hub.git(&["for-each-ref"]);
        let specs = attack(&scene);
        if !specs.is_empty() {
            let (done, said) = scene.push(&["--no-verify"], &specs);
            assert!(done, "{name}: {said}");
        }
        if scene.hub.git(&["for-each-ref"]) == before {
            continue;
        }
        let fresh = scene.lab.clone(&scene.hub, "fresh");
        fresh.git(&[
            "fetch",
            "-q",
            "origin",
            "+refs/nixgate/ledger/*:refs/nixgate/remotes/origin/ledger/*",
        ]);
        let output = scene
            .environment(&scene.lab.path("bin/git-nixgate"))
            .args(["verify", "--remote"])
            .current_dir(&fresh.path)
            .output()
            .unwrap();
        if output.status.success() {
            missed.push(*name);
        }
    }
    assert_eq!(missed, [""; 0]);
}

/// What a record may hold as JSON writes it, no terminal is given.
#[test]
fn nothing_that_is_shown_acts_on_a_terminal() {
    let scene = Scene::new();
    let evil = "\u{1b}[2J\u{202e}evil\u{9b}1m\u{200b}\r";
    let next = scene.next(
        |draft| {
            let evidence = &mut draft.evidence;
            evidence.system = evil.into();
            evidence.specialisation = Some(evil.into());
            evidence.toplevel += evil;
            evidence.drv = Some(format!("/nix/store/{evil}"));
            evidence.before.as_mut().unwrap().toplevel += evil;
            evidence.gates[0].start = evil.into();
            evidence.by = evil.into();
            evidence.flake_lock_sha256 = Some(evil.into());
        },
        |good| {
            // What is escaped when it is written is put in again, as a forger would.
            let line = good.lines().find(|l| l.starts_with('{')).unwrap().to_owned();
            let mut value: serde_json::Value = serde_json::from_str(&line).unwrap();
            let predicate = &mut value["predicate"];
            for place in ["/gates/0/findings/0", "/diff/lines/0", "/plan/restart/0"] {
                *predicate.pointer_mut(place).unwrap() = evil.into();
            }
            predicate["warnings"] = vec![evil].into();
            predicate["drift"] = evil.into();
            predicate["builder"] = evil.into();
            predicate["nix_version"] = evil.into();
            let bad = git_nixgate::record::evidence::canonical(&value);
            good.replace(&line, &bad)
                .replace(&sha256_hex(line.as_bytes()), &sha256_hex(bad.as_bytes()))
        },
    );
    let name = next[0].strip_prefix("refs/tags/").unwrap();
    for args in [
        &["show", name][..],
        &["show", name, "--json"],
        &["log", "cortex"],
        &["log", "cortex", "--json"],
        &["status"],
        &["status", "--json"],
        &["verify", "--full"],
        &["verify", "--json"],
        &["rollback", "cortex"],
        &["deploy", "cortex", "--to", name],
        &["diff", "cortex", &scene.second.name.to_string(), name],
    ] {
        let (_, said) = scene.program(args);
        let acts = |c: char| {
            (c.is_control() && c != '\n' && c != '\t')
                || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        };
        let found: Vec<char> = said.chars().filter(|c| acts(*c)).collect();
        assert!(found.is_empty(), "{args:?} prints {found:?}: {said:?}");
    }
    assert!(scene.program(&["show", name]).1.contains("evil"));
}
