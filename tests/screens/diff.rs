//! `diff`: what changes and why, and what is said where that is not known.

use git_nixgate::diff::{
    Attribution, Between, Cause, CauseKind, EntryChange, EntryDiff, Explained, FileChange, Held, Marks,
    PackageDiff, Part, PartChange, PathSize, RuntimePath,
};
use git_nixgate::failure::Failure;
use git_nixgate::gate::GateLog;
use git_nixgate::gate::diff::{Difference, unexplained};
use git_nixgate::plan::risk_of;
use git_nixgate::record::Target;
use git_nixgate::run::{Compared, Planned, Side};
use git_nixgate::ui::diff::{Folds, json, text};
use git_nixgate::ui::plan;

use super::{failures, in_both, screen};

/// One derivation with one output: its name, the digit of its hashes, its text, and what it is made of.
struct Made {
    name: &'static str,
    digit: char,
    text: &'static str,
    inputs: Vec<(&'static str, char)>,
}

fn path(name: &str, digit: char, end: &str) -> String {
    format!("/nix/store/{}-{name}{end}", digit.to_string().repeat(32))
}

impl Made {
    fn drv(&self) -> String {
        path(self.name, self.digit, ".drv")
    }

    fn out(&self) -> String {
        path(self.name, self.digit, "")
    }

    fn written(&self) -> String {
        let inputs: Vec<String> = self
            .inputs
            .iter()
            .map(|(name, digit)| format!("(\"{}\",[\"out\"])", path(name, *digit, ".drv")))
            .collect();
        let paths: Vec<String> = self
            .inputs
            .iter()
            .map(|(name, digit)| path(name, *digit, ""))
            .collect();
        format!(
            "Derive([(\"out\",\"{}\",\"\",\"\")],[{}],[],\"x86_64-linux\",\"/bin/sh\",[],[(\"inputs\",\"{}\"),(\"text\",\"{}\")])",
            self.out(),
            inputs.join(","),
            paths.join(" "),
            self.text
        )
    }
}

fn made(name: &'static str, digit: char, text: &'static str, inputs: &[(&'static str, char)]) -> Made {
    Made {
        name,
        digit,
        text,
        inputs: inputs.to_vec(),
    }
}

/// Before and after: a library moved under two packages, a unit was changed, a package came, the kernel moved.
fn systems() -> [Vec<Made>; 2] {
    let old = vec![
        made("openssl-3.0.13", 'a', "", &[]),
        made("nginx-1.26.1", 'c', "", &[("openssl-3.0.13", 'a')]),
        made("curl-8.7.1", 'f', "", &[("openssl-3.0.13", 'a')]),
        made(
            "unit-nginx.service",
            'h',
            "[Service]\\nExecStart=nginx\\n",
            &[("nginx-1.26.1", 'c')],
        ),
        made("linux-6.6.30", 'j', "", &[]),
        made(
            "nixos-system-cortex-24.05",
            'm',
            "",
            &[
                ("unit-nginx.service", 'h'),
                ("curl-8.7.1", 'f'),
                ("linux-6.6.30", 'j'),
            ],
        ),
    ];
    let new = vec![
        made("openssl-3.0.14", 'b', "", &[]),
        made("nginx-1.26.1", 'd', "", &[("openssl-3.0.14", 'b')]),
        made("curl-8.7.1", 'g', "", &[("openssl-3.0.14", 'b')]),
        made(
            "unit-nginx.service",
            'i',
            "[Service]\\nExecStart=nginx\\nMemoryMax=1G\\n",
            &[("nginx-1.26.1", 'd')],
        ),
        made("linux-6.6.31", 'k', "", &[]),
        made("ripgrep-14.1.0", 'l', "", &[]),
        made(
            "nixos-system-cortex-24.05",
            'n',
            "",
            &[
                ("unit-nginx.service", 'i'),
                ("curl-8.7.1", 'g'),
                ("linux-6.6.31", 'k'),
                ("ripgrep-14.1.0", 'l'),
            ],
        ),
    ];
    [old, new]
}

fn difference(derivations: bool, between: Option<Between>) -> Difference {
    let [old, new] = systems();
    let outs = |side: &[Made]| -> Vec<String> { side.iter().map(Made::out).collect() };
    let (before, after) = (outs(&old), outs(&new));
    fn sizes(paths: &[String]) -> impl Iterator<Item = PathSize<'_>> {
        paths.iter().map(|path| PathSize {
            path,
            bytes: 4096 + path.len() as u64,
            deriver: None,
        })
    }
    fn runtime(paths: &[String]) -> Vec<RuntimePath<'_>> {
        paths
            .iter()
            .map(|path| RuntimePath {
                path,
                deriver: None,
                references: Vec::new(),
            })
            .collect()
    }
    let written: Vec<(String, String)> = old
        .iter()
        .chain(&new)
        .map(|made| (made.drv(), made.written()))
        .collect();
    let texts: Vec<(&str, &[u8])> = written
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_bytes()))
        .collect();
    let roots = (old.last().unwrap().drv(), new.last().unwrap().drv());
    let explained = derivations
        .then(|| Explained::new(&texts, (&roots.0, &roots.1), &runtime(&before), &runtime(&after)).unwrap());
    let attribution = explained
        .as_ref()
        .zip(between.as_ref())
        .map(|(explained, between)| Attribution::new(explained, between));
    let risk = explained.as_ref().map(|explained| {
        risk_of(
            explained
                .roots
                .iter()
                .map(|root| &root.part)
                .chain(&explained.following),
        )
    });
    Difference {
        packages: PackageDiff::new(sizes(&before), sizes(&after)),
        explained,
        between,
        attribution,
        held: None,
        risk,
        roots: Vec::new(),
    }
}

fn cause(kind: CauseKind, name: &str, what: &[&str]) -> Cause {
    Cause {
        kind,
        name: name.into(),
        what: what.iter().map(ToString::to_string).collect(),
        effect: None,
        proven: None,
        marks: Marks::default(),
    }
}

fn between(causes: Vec<Cause>) -> Option<Between> {
    Some(Between {
        causes,
        revs: vec!["9c8a0f7d21be".into(), "41d2f60c9a55".into()],
    })
}

fn input() -> Cause {
    cause(
        CauseKind::Input,
        "nixpkgs",
        &["nixpkgs 0c19708cf035 → 8a21df4e21c3"],
    )
}

fn files() -> Cause {
    cause(
        CauseKind::Files,
        "files",
        &["hosts/cortex.nix", "modules/web.nix"],
    )
}

/// As `--explain` finds it.
fn proven() -> Option<Between> {
    let mut nixpkgs = input();
    nixpkgs.effect = Some(true);
    nixpkgs.proven = Some(["openssl-3.0.14", "linux-6.6.31"].map(str::to_owned).into());
    let mut own = files();
    own.effect = Some(true);
    own.proven = Some(["unit-nginx.service", "ripgrep-14.1.0"].map(str::to_owned).into());
    let mut nur = cause(
        CauseKind::Input,
        "home-manager",
        &["home-manager/nixpkgs 1111aaaa2222 → 3333bbbb4444"],
    );
    nur.effect = Some(false);
    between(vec![nur, nixpkgs, own])
}

/// What the two systems hold, as it is read from their files.
fn held() -> Held {
    let change = |name: &str, lines: &[&str], files: Vec<FileChange>| EntryChange {
        name: name.into(),
        only_store_paths: lines.is_empty() && files.is_empty(),
        lines: lines.iter().map(ToString::to_string).collect(),
        files,
    };
    let conf = FileChange {
        name: "nginx.conf".into(),
        lines: vec!["- worker_processes 1;".into(), "+ worker_processes 4;".into()],
    };
    Held {
        parts: vec![PartChange {
            part: Part::Kernel,
            old: Some("linux-6.6.30".into()),
            new: Some("linux-6.6.31".into()),
        }],
        users: vec!["+ user ann".into(), "~ user bob: extraGroups shell".into()],
        units: EntryDiff {
            added: vec!["web.socket".into()],
            removed: vec![],
            changed: vec![
                change("firewall.service", &["- accept 80", "+ accept 443"], vec![]),
                change("nginx.service", &["+ MemoryMax=1G"], vec![conf]),
                change("sshd.service", &[], vec![]),
            ],
        },
        etc: EntryDiff {
            changed: vec![change("ssh/sshd_config", &["+ Port 22"], vec![])],
            ..EntryDiff::default()
        },
        system: EntryDiff::default(),
    }
}

fn holding(mut difference: Difference) -> Difference {
    difference.hold(held());
    difference
}

fn compared(difference: Difference) -> Compared {
    let side = |name: &str, digit, commit: Option<&str>| Side {
        name: name.into(),
        toplevel: path("nixos-system-cortex-24.05", digit, ""),
        drv: None,
        commit: commit.map(ToString::to_string),
    };
    Compared {
        facts: None,
        from: side("live", 'm', Some("9c8a0f7d21be0000000000000000000000000000")),
        to: side("41d2f60c9a55 Upgrade", 'n', None),
        difference,
    }
}

#[test]
fn what_changes_and_why() {
    let target = "cortex".parse().unwrap();
    let all = Folds {
        text: true,
        all: true,
    };
    let draw = |difference, folds, style| text(&target, &compared(difference), folds, style);
    in_both("diff", |style| {
        [
            (
                "proven",
                draw(difference(true, proven()), Folds::default(), style),
            ),
            ("with all of it", draw(difference(true, proven()), all, style)),
            (
                "one cause of several",
                draw(
                    difference(true, between(vec![input(), files()])),
                    Folds::default(),
                    style,
                ),
            ),
            (
                "no cause at all",
                draw(difference(true, between(vec![])), Folds::default(), style),
            ),
            (
                "no commit is known",
                draw(difference(true, None), Folds::default(), style),
            ),
            (
                "the derivations are gone",
                draw(difference(false, between(vec![input()])), Folds::default(), style),
            ),
            (
                "what they hold is known",
                draw(holding(difference(true, proven())), Folds::default(), style),
            ),
            (
                "what they hold, with all of it",
                draw(holding(difference(true, proven())), all, style),
            ),
            (
                "what they hold is all there is",
                draw(holding(difference(false, None)), Folds::default(), style),
            ),
        ]
    });
    let value = json(&target, &compared(holding(difference(true, proven()))));
    screen("diff-json", &serde_json::to_string_pretty(&value).unwrap());
}

#[test]
fn s4_5_s4_6_what_is_planned() {
    let target: Target = "cortex".parse().unwrap();
    let planned = |difference: Difference, changed: bool, refused: Option<Failure>| {
        let mut compared = compared(difference);
        if !changed {
            compared.to.toplevel.clone_from(&compared.from.toplevel);
        }
        Planned {
            compared,
            runs: Some("release/cortex/20261119T081500Z-9c8a0f7d21be".into()),
            estimate: Some((130_500, 5)),
            refused,
        }
    };
    let first = Planned {
        runs: None,
        estimate: None,
        ..planned(holding(difference(true, None)), true, None)
    };
    let mut only_texts = files();
    only_texts.what = vec!["README.md".into()];
    only_texts.effect = Some(false);
    let refused = Failure::refused("flake inputs moved although no commit message names them: nixpkgs");
    let all = [
        (
            "changed",
            planned(holding(difference(true, proven())), true, None),
        ),
        (
            "refused",
            planned(holding(difference(true, proven())), true, Some(refused)),
        ),
        (
            "unchanged",
            planned(difference(false, between(vec![only_texts])), false, None),
        ),
        ("the first", first),
    ];
    in_both("plan", |style| {
        all.each_ref()
            .map(|(situation, planned)| (*situation, plan::text(&target, planned, Folds::default(), style)))
    });
    let value = plan::json(&target, &all[1].1);
    screen(
        "plan-json",
        &serde_json::to_string_pretty(&value["plan"]).unwrap(),
    );
}

struct Nobody;

impl git_nixgate::event::Watcher for Nobody {
    fn see(&self, _: &git_nixgate::event::Event) {}
}

#[test]
fn what_is_unexplained_is_refused() {
    let mut log = GateLog::new(&Nobody);
    let failure = unexplained(&mut log, &difference(true, between(vec![])), false).unwrap_err();
    failures("diff-unexplained", &[("nothing accounts for it", failure)]);
    for (known, cause) in [
        (true, between(vec![input()])),
        (true, None),
        (false, between(vec![])),
    ] {
        assert!(unexplained(&mut log, &difference(known, cause), false).is_ok());
    }
    assert!(unexplained(&mut log, &difference(true, between(vec![])), true).is_ok());
    assert!(
        log.warnings()[0].starts_with("accepted: 13 of 13 changed paths"),
        "{:?}",
        log.warnings()
    );
}
