//! Lock files of the real world, and ones that should not exist.

use git_nixgate::diff::{InputDiff, lock_inputs};
use proptest::prelude::*;

fn data(path: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/data/locks/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn the_moved_inputs_are_those_that_were_published() {
    let mut all = 0;
    for pr in ["pr565", "pr577", "pr583", "pr593"] {
        let published = data(&format!("{pr}/published-inputs.tsv"));
        let published: Vec<&str> = published
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split('\t').next())
            .collect();
        let diff = InputDiff::new(
            &data(&format!("{pr}/flake.lock.old.json")),
            &data(&format!("{pr}/flake.lock.new.json")),
        )
        .unwrap();
        let moved: Vec<&str> = diff.moved.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(moved, published, "{pr}");
        for change in &diff.moved {
            let (old, new) = (change.old.as_ref().unwrap(), change.new.as_ref().unwrap());
            assert_ne!(
                (&old.rev, &old.nar_hash),
                (&new.rev, &new.nar_hash),
                "{}",
                change.path
            );
        }
        all += moved.len();
    }
    assert!(all > 60, "{all}");
}

#[test]
fn a_lock_against_itself_moved_nothing() {
    let lock = data("pr583/flake.lock.new.json");
    assert!(InputDiff::new(&lock, &lock).unwrap().is_empty());
    assert!(lock_inputs(&lock).unwrap().len() > 90);
}

fn node(inputs: &str, rev: &str) -> String {
    format!(
        r#"{{"inputs": {{{inputs}}}, "locked": {{"type": "github", "owner": "o", "repo": "r", "rev": "{rev}"}}}}"#
    )
}

fn lock(nodes: &[(&str, String)]) -> String {
    let nodes: Vec<String> = nodes
        .iter()
        .map(|(name, node)| format!("\"{name}\": {node}"))
        .collect();
    format!(
        r#"{{"version": 7, "root": "root", "nodes": {{{}}}}}"#,
        nodes.join(",")
    )
}

#[test]
fn inputs_come_and_go_and_move_and_follow() {
    let old = lock(&[
        ("root", r#"{"inputs": {"a": "a", "b": "b", "f": ["a"]}}"#.into()),
        ("a", node("", "111111111111111")),
        ("b", node(r#""a": ["a"]"#, "2")),
    ]);
    let new = lock(&[
        ("root", r#"{"inputs": {"a": "a", "c": "c"}}"#.into()),
        ("a", node("", "333333333333333")),
        ("c", node(r#""a": "a""#, "4")),
    ]);
    let diff = InputDiff::new(&old, &new).unwrap();
    assert_eq!(
        diff.lines(),
        [
            "~ a 111111111111 → 333333333333",
            "+ c github:o/r 4",
            "+ c/a github:o/r 333333333333",
            "- b github:o/r 2"
        ]
    );
    assert!(diff.added[1].is_transitive());
    assert_eq!(diff.added[1].root(), "c");
    assert_eq!(InputDiff::new("", &new).unwrap().added.len(), 3);
}

#[test]
fn a_bad_lock_file_says_what_is_wrong_with_it() {
    let root = |inputs: &str| ("root", format!(r#"{{"inputs": {{{inputs}}}}}"#));
    let deep: Vec<String> = (0..30).map(|n| format!("n{n}")).collect();
    let mut fan: Vec<(&str, String)> = vec![root(r#""x": "n0""#)];
    for (n, name) in deep.iter().enumerate() {
        let next = deep
            .get(n + 1)
            .map_or(String::new(), |next| format!(r#""l": "{next}", "r": "{next}""#));
        fan.push((name, node(&next, "1")));
    }
    for (text, why) in [
        ("{".to_string(), "not JSON"),
        ("[]".into(), "only versions 5 to 7"),
        (
            r#"{"version": 9, "nodes": {}, "root": "root"}"#.into(),
            "only versions 5 to 7",
        ),
        (r#"{"version": 7, "root": "root"}"#.into(), "no `nodes`"),
        (r#"{"version": 7, "nodes": {}}"#.into(), "no `root`"),
        (lock(&[]), "no node `root`"),
        (lock(&[root(r#""a": "a""#)]), "no node `a`"),
        (lock(&[root(r#""a": 3"#)]), "neither a node nor a path"),
        (
            lock(&[root(r#""a": "a""#), ("a", "{}".into())]),
            "`a` is not locked",
        ),
        (
            lock(&[root(r#""a": "a""#), ("a", node(r#""b": "a""#, "1"))]),
            "never end",
        ),
        (lock(&[root(r#""a": "root""#)]), "never end"),
        (lock(&fan), "more than 20000"),
    ] {
        let error = lock_inputs(&text).unwrap_err().to_string();
        assert!(
            error.starts_with("flake.lock: ") && error.contains(why),
            "{error} / {why}"
        );
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(text in "\\PC{0,200}", at in 0usize..60_000, byte in any::<u8>()) {
        let _ = lock_inputs(&text);
        let mut lock = data("pr593/flake.lock.new.json").into_bytes();
        let at = at % lock.len();
        lock[at] = byte;
        let _ = lock_inputs(&String::from_utf8_lossy(&lock));
        lock.truncate(at);
        let _ = lock_inputs(&String::from_utf8_lossy(&lock));
    }
}
