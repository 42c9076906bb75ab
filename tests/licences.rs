//! The project is MIT OR Apache-2.0: nothing that it links may ask for more.

use std::process::Command;

/// SPDX identifiers that ask for no more than a notice.
const FREE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether an SPDX expression can be met with the free ones alone. `A/B` is how old crates write `A OR B`.
fn is_free(expression: &str) -> bool {
    let plain = expression.replace('/', " OR ").replace(['(', ')'], " ");
    plain
        .split(" AND ")
        .all(|part| part.split(" OR ").any(|one| FREE.contains(&one.trim())))
}

/// The platform that the tests run on: only its crates are sure to be downloaded.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("a host")
        .to_owned()
}

#[test]
fn every_crate_that_is_linked_has_a_free_licence() {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            &host(),
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 50, "only {} packages", packages.len());
    let bad: Vec<String> = packages
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(is_free))
        .map(|package| {
            format!(
                "{} {}: {}",
                package["name"], package["version"], package["license"]
            )
        })
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn an_expression_is_free_only_if_every_part_is() {
    assert!(is_free("MIT OR Apache-2.0"));
    assert!(is_free("GPL-3.0 OR MIT"));
    assert!(is_free("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(!is_free("GPL-3.0-only"));
    assert!(!is_free("MIT AND GPL-2.0"));
    assert!(!is_free(""));
}
