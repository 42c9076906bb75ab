//! The list of boundaries is complete: clippy refuses whatever reaches out of the process (clippy.toml, `tests/run`) but
//! where an `expect` says why a run cut off there needs no boundary, or that there is one. Here: there really is one, and
//! nobody has switched the lint off.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `src`, by its path there.
fn sources() -> BTreeMap<String, String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            match entry.path() {
                path if path.is_dir() => walk(&path, found),
                path if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
                _ => {}
            }
        }
    }
    let top = root().join("src");
    let mut found = Vec::new();
    walk(&top, &mut found);
    let named = found.into_iter().map(|path| {
        let name = path.strip_prefix(&top).expect("below src").display().to_string();
        (name, std::fs::read_to_string(path).expect("a source file"))
    });
    named.collect()
}

/// The bodies of the functions with this name: rustfmt ends each with a brace as deep as its first line.
fn bodies<'a>(text: &'a str, function: &str) -> Vec<&'a str> {
    let needle = format!("fn {function}");
    let mut found = Vec::new();
    for (at, _) in text.match_indices(&needle) {
        if !text[at + needle.len()..].starts_with(['(', '<']) {
            continue;
        }
        let line = text[..at].rfind('\n').map_or(0, |before| before + 1);
        let depth = text[line..].len() - text[line..].trim_start().len();
        let end = format!("\n{}}}\n", " ".repeat(depth));
        let length = text[at..].find(&end).unwrap_or(text.len() - at);
        found.push(&text[at..at + length]);
    }
    found
}

/// File and reason of each permission.
fn permissions(sources: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    let mut all = Vec::new();
    for (file, text) in sources {
        for (at, _) in text.match_indices("clippy::disallowed_methods") {
            let rest = &text[at..];
            let rest = &rest[..rest.find(")]").expect("the attribute's end")];
            let reason = rest
                .split("reason = \"")
                .nth(1)
                .and_then(|rest| rest.split('"').next());
            // The two crate roots deny it.
            if let Some(reason) = reason {
                all.push((file.as_str(), reason));
            } else {
                assert!(
                    ["lib.rs", "main.rs"].contains(&file.as_str()),
                    "{file}: no reason"
                );
            }
        }
    }
    all
}

#[test]
fn what_is_called_a_boundary_is_crossed_there() {
    let sources = sources();
    let permissions = permissions(&sources);
    let mut crossed = 0;
    for (file, reason) in &permissions {
        let (kind, rest) = reason
            .split_once(": ")
            .unwrap_or_else(|| panic!("{file}: {reason:?}"));
        if kind != "boundary" {
            assert!(
                ["reads", "private", "cache", "no run"].contains(&kind),
                "{file}: {reason:?} is no kind of reason"
            );
            continue;
        }
        // "boundary: FUNCTION, FUNCTION" of this file, or "boundary: FILE FUNCTION".
        let (file, functions) = rest
            .split_once(".rs ")
            .map_or((file.to_string(), rest), |(path, rest)| {
                (format!("{path}.rs"), rest)
            });
        for function in functions.split(", ") {
            let bodies = bodies(&sources[&file], function);
            assert!(
                bodies.iter().any(|body| body.contains("boundary::cross(\"")),
                "{file}: {function} crosses no boundary"
            );
            crossed += 1;
        }
    }
    assert!(crossed > 8, "{permissions:?}");
}

#[test]
fn the_lint_is_on_and_knows_how_programs_files_and_refs_are_touched() {
    for file in ["src/lib.rs", "src/main.rs"] {
        let text = std::fs::read_to_string(root().join(file)).expect("a source file");
        assert!(text.contains("deny(clippy::disallowed_methods)"), "{file}");
    }
    let sources = sources();
    // An "allow" would ask for no reason, and would outlive what it was for.
    for (file, text) in &sources {
        assert!(!text.contains("allow(clippy::disallowed_methods"), "{file}");
    }
    let listed = std::fs::read_to_string(root().join("clippy.toml")).expect("clippy.toml");
    for method in [
        "std::process::Command::new",
        "tokio::process::Command::new",
        "openssh::Session::arc_raw_command",
        "std::fs::write",
        "std::fs::rename",
        "std::fs::remove_file",
        "gix::Repository::edit_references_as",
        "rustix::process::kill_process",
    ] {
        assert!(listed.contains(&format!("\"{method}\"")), "{method}");
    }
}

/// What a commit may run is decided in one place. A new command that wants it passes the judgement, or is listed here.
#[test]
fn k6_nobody_else_takes_a_commit_for_released() {
    let sources = sources();
    let callers = |text: &str| -> Vec<&str> {
        let all = sources.iter().filter(|(_, source)| source.contains(text));
        all.map(|(file, _)| file.as_str()).collect()
    };
    assert_eq!(
        callers("Released::by_hand("),
        [
            "run/release.rs",
            "run/resume/on_host.rs",
            "run/resume/rebooted.rs"
        ]
    );
    // Programs of a commit come out of the check set or the hooks, and nowhere else.
    assert_eq!(callers("hooks.pre"), ["config/read.rs", "run/hooks.rs"]);
    assert_eq!(
        callers("Probe::Run("),
        [
            "check/mod.rs",
            "check/set.rs",
            "config/mod.rs",
            "config/read.rs",
            "gate/validate/reading.rs",
            // It looks for secrets in them.
            "run/secrets.rs"
        ]
    );
}
