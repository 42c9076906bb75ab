//! Names and versions against real ones and against what Nix itself says of them.

use git_nixgate::diff::{PackageName, compare_versions, parse_drv_name};

fn rows(file: &str) -> Vec<Vec<String>> {
    let path = format!("{}/tests/data/names/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split('\t').map(ToString::to_string).collect())
        .collect()
}

#[test]
fn versions_are_ordered_as_nix_orders_them() {
    let rows = rows("compare-versions.tsv");
    assert!(rows.len() > 20);
    for row in rows {
        let expected: i32 = row[2].parse().unwrap();
        assert_eq!(
            compare_versions(&row[0], &row[1]) as i32,
            expected,
            "{} {}",
            row[0],
            row[1]
        );
        assert_eq!(
            compare_versions(&row[1], &row[0]) as i32,
            -expected,
            "{} {}",
            row[1],
            row[0]
        );
    }
}

#[test]
fn derivation_names_are_split_as_nix_splits_them() {
    let rows: Vec<_> = [rows("parse-drv-name.nix-documented.tsv"), rows("drv-names.tsv")].concat();
    assert!(rows.len() > 1_000);
    for row in rows {
        let version = row.get(2).map_or("", String::as_str);
        assert_eq!(parse_drv_name(&row[0]), (row[1].as_str(), version), "{}", row[0]);
    }
}

/// Store names with the derivation and output they truly come from.
fn store_names() -> Vec<(String, String, String)> {
    let outputs = rows("store-names-with-outputs.tsv")
        .into_iter()
        .map(|r| (r[0].clone(), r[1].clone(), r[2].clone()));
    let plain = rows("drv-names.tsv")
        .into_iter()
        .map(|r| (r[0].clone(), r[0].clone(), "out".to_string()));
    outputs.chain(plain).collect()
}

fn truth(derivation: &str, output: &str) -> PackageName {
    let (name, version) = parse_drv_name(derivation);
    PackageName {
        name: name.into(),
        version: version.into(),
        output: output.into(),
    }
}

#[test]
fn with_the_deriver_every_name_is_right() {
    for (store, derivation, output) in store_names() {
        let deriver = format!("{derivation}.drv");
        assert_eq!(
            PackageName::parse(&store, Some(&deriver)),
            truth(&derivation, &output),
            "{store}"
        );
    }
}

#[test]
fn without_the_deriver_994_of_1000_names_are_right() {
    let names = store_names();
    let wrong: Vec<&String> = names
        .iter()
        .filter(|(store, derivation, output)| PackageName::parse(store, None) != truth(derivation, output))
        .map(|(store, ..)| store)
        .collect();
    let right = 1.0 - wrong.len() as f64 / names.len() as f64;
    assert!(
        right >= 0.994,
        "{:.2} % of {}: {wrong:#?}",
        right * 100.0,
        names.len()
    );
}
