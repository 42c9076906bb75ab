//! The bodies of the fuzz targets, on their seeds and on changed ones: 1,000 of each, or what `PROPTEST_CASES` says.

#[path = "../fuzz/bodies.rs"]
mod bodies;

use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Every file below a folder.
fn files(dir: &Path, found: &mut Vec<Vec<u8>>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(std::fs::read(&path).unwrap()),
        }
    }
}

/// The seeds of a body: its own folder, and what the tests have recorded of the same kind.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let own = root.join("fuzz/seeds").join(name);
    if own.exists() {
        files(&own, &mut found);
    }
    match name {
        "record" => files(&root.join("tests/data/records"), &mut found),
        "evidence" => {
            let mut records = Vec::new();
            files(&root.join("tests/data/records"), &mut records);
            let lines = records.iter().flat_map(|raw| raw.split(|b| *b == b'\n'));
            found.extend(lines.filter(|line| line.starts_with(b"{")).map(<[u8]>::to_vec));
        }
        "lock" => files(&root.join("tests/data/locks"), &mut found),
        "derivations" | "nix-json" => files(&root.join("tests/data/nix-json"), &mut found),
        "dry-run" => files(&root.join("tests/data/stc-output"), &mut found),
        _ => {}
    }
    assert!(!found.is_empty(), "{name} has no seed");
    found
}

/// One change of a text, at a place anywhere in it.
#[derive(Debug, Clone)]
enum Change {
    Put(u8),
    Flip(u8),
    Cut(usize),
    /// A piece of itself again, elsewhere.
    Twice(usize, usize),
    Words(&'static str),
}

const WORDS: [&str; 16] = [
    "\n",
    "\0",
    "\u{1b}[2J",
    "\u{202e}",
    "-----BEGIN SSH SIGNATURE-----\n",
    "-----END NIXGATE EVIDENCE-----\n",
    "Nixgate-Seq: 1\n",
    "99999999999999999999",
    "-1",
    "{",
    "]",
    "\"",
    "\\u0000",
    "/nix/store/",
    "= [",
    "é",
];

fn change() -> impl Strategy<Value = (usize, Change)> {
    let what = prop_oneof![
        any::<u8>().prop_map(Change::Put),
        (1u8..=255).prop_map(Change::Flip),
        (1usize..200).prop_map(Change::Cut),
        (any::<usize>(), 1usize..200).prop_map(|(from, long)| Change::Twice(from, long)),
        (0..WORDS.len()).prop_map(|n| Change::Words(WORDS[n])),
    ];
    (any::<usize>(), what)
}

fn changed(seed: &[u8], changes: &[(usize, Change)]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for (at, change) in changes {
        let at = at % (bytes.len() + 1);
        match change {
            Change::Put(byte) => bytes.insert(at, *byte),
            Change::Flip(bits) => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= bits;
                }
            }
            Change::Cut(long) => drop(bytes.drain(at..(at + long).min(bytes.len()))),
            Change::Twice(from, long) => {
                let from = from % (bytes.len() + 1);
                let piece = bytes[from..(from + long).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            Change::Words(words) => drop(bytes.splice(at..at, words.bytes())),
        }
    }
    bytes
}

#[test]
fn no_bytes_break_what_reads_them() {
    for (name, body) in bodies::BODIES {
        let seeds = seeds(name);
        for seed in &seeds {
            body(seed);
        }
        let asked = std::env::var("PROPTEST_CASES")
            .ok()
            .and_then(|text| text.parse().ok());
        let cases = asked.unwrap_or(1000);
        let config = Config {
            cases,
            failure_persistence: None,
            ..Config::default()
        };
        let changes = (any::<usize>(), proptest::collection::vec(change(), 1..6));
        let begun = std::time::Instant::now();
        TestRunner::new(config)
            .run(&changes, |(n, changes)| {
                body(&changed(&seeds[n % seeds.len()], &changes));
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        println!(
            "{name}: {} seeds, {cases} changed ones in {:.1} s",
            seeds.len(),
            begun.elapsed().as_secs_f64()
        );
    }
}
