//! Nix's JSON in the shapes of its versions, and text that is none.

use git_nixgate::nix::*;
use proptest::prelude::*;

fn data(name: &str) -> String {
    std::fs::read_to_string(format!(
        "{}/tests/data/nix-json/{name}",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap()
}

const TOPLEVEL: &str = "/nix/store/v4diabb157pvhid92hjcgxx70j15acp1-nixos-system-cortex-25.05";

#[test]
fn a_closure_is_the_same_in_every_format() {
    let expected = parse_dump_db(&data("dump-db.txt")).unwrap();
    assert_eq!(expected.len(), 2);
    for name in [
        "path-info-2.8.json",
        "path-info-2.26.json",
        "path-info-2.33.json",
        "path-info-hash-object.json",
    ] {
        let list = parse_path_info(&data(name)).unwrap_or_else(|why| panic!("{name}: {why}"));
        let mut list: Vec<PathInfo> = list.into_iter().map(|(_, info)| info.unwrap()).collect();
        list.sort_by(|a, b| a.path.cmp(&b.path));
        assert_eq!(list, expected, "{name}");
    }
}

#[test]
fn the_digest_is_over_sorted_lines_of_path_and_hash() {
    let entries = parse_dump_db(&data("dump-db.txt")).unwrap();
    let closure = Closure::new(StorePath::new(TOPLEVEL).unwrap(), entries.clone()).unwrap();
    assert_eq!((closure.count(), closure.bytes()), (2, 288));
    // printf '%s\0sha256:%s\n' PATH HASH … | sha256sum
    assert_eq!(
        closure.digest(),
        "9f96c9236a8487a193032f8ac9f54de49d239e550b6d02cf25a7188455cb87cd"
    );
    let reversed = entries.into_iter().rev().collect();
    assert_eq!(Closure::new(closure.toplevel.clone(), reversed).unwrap(), closure);
    assert_eq!(
        closure.toplevel_hash(),
        "7280537cec8618ce3c317d5d1c0f785984ba12d7093391a1b1f5df4aa8463c3b"
    );
}

#[test]
fn a_list_cut_short_is_no_closure() {
    let text = data("dump-db.txt");
    let toplevel = StorePath::new(TOPLEVEL).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for cut in 0..lines.len() {
        let part = lines[..cut].join("\n");
        let whole = parse_dump_db(&part).and_then(|entries| Closure::new(toplevel.clone(), entries));
        assert!(whole.is_err(), "{cut} lines");
    }
    // The toplevel is there, what it refers to is not.
    let entries = parse_dump_db(&lines[5..].join("\n")).unwrap();
    let why = Closure::new(toplevel, entries).unwrap_err();
    assert!(why.contains("dep-1.2, which is missing"), "{why}");
}

#[test]
fn paths_a_store_lacks_come_without_information() {
    let path = StorePath::new(TOPLEVEL).unwrap();
    for text in [
        format!(r#"{{"{TOPLEVEL}": null}}"#),
        format!(r#"[{{"path": "{TOPLEVEL}", "valid": false}}]"#),
        format!(r#"{{"version": 2, "info": {{"{}": null}}}}"#, path.base_name()),
    ] {
        assert_eq!(parse_path_info(&text).unwrap(), [(path.clone(), None)], "{text}");
    }
}

#[test]
fn a_build_names_its_derivation_and_outputs_in_every_shape() {
    let drv = "/nix/store/4nax76wypi1viw9x0111n0l7lgv1wnvw-nixos-system-cortex-25.05.drv";
    let relative = |path: &str| path.trim_start_matches("/nix/store/").to_string();
    for text in [
        data("build-2.8.json"),
        data("build-2.26.json"),
        format!(
            r#"[{{"drvPath":"{}","outputs":{{"out":"{}"}}}}]"#,
            relative(drv),
            relative(TOPLEVEL)
        ),
        format!(
            r#"[{{"drvPath":{{"drvPath":"{drv}","output":"out"}},"outputs":{{"out":"{TOPLEVEL}","dev":null}}}}]"#
        ),
    ] {
        let built = parse_build(&text).unwrap();
        assert_eq!(built.len(), 1);
        assert_eq!(built[0].0.as_ref().unwrap().as_str(), drv);
        assert_eq!(built[0].1["out"].as_str(), TOPLEVEL);
        assert_eq!(built[0].1.len(), 1);
    }
}

#[test]
fn a_derivation_is_the_same_in_every_shape() {
    let expected = parse_derivations(&data("derivation-2.8.json")).unwrap();
    assert_eq!(expected.len(), 1);
    let drv = &expected[0];
    assert_eq!(
        (drv.system.as_str(), drv.builder.as_str(), drv.args.len()),
        ("x86_64-linux", "/bin/sh", 2)
    );
    assert_eq!(drv.outputs["out"].as_ref().unwrap().as_str(), TOPLEVEL);
    assert_eq!(
        drv.input_drvs.values().collect::<Vec<_>>(),
        [&["out".to_string()]]
    );
    for name in [
        "derivation-2.26.json",
        "derivation-2.32.json",
        "derivation-2.33.json",
    ] {
        assert_eq!(parse_derivations(&data(name)).unwrap(), expected, "{name}");
    }
}

#[test]
fn trust_is_yes_no_or_not_said() {
    for (text, trusted) in [
        (data("store-2.26.json"), Some(true)),
        (
            r#"{"trusted":0,"url":"ssh-ng://x","version":"2.18.1"}"#.into(),
            Some(false),
        ),
        (r#"{"trusted":true,"url":"daemon"}"#.into(), Some(true)),
        (r#"{"trusted":null,"url":"https://cache"}"#.into(), None),
        (r#"{"url":"ssh-ng://"}"#.into(), None),
    ] {
        assert_eq!(parse_store_info(&text).unwrap().trusted, trusted, "{text}");
    }
}

#[test]
fn versions_and_systems_are_read_from_what_nix_prints() {
    for (text, shown, flakes) in [
        ("nix (Nix) 2.26.3\n", "Nix 2.26.3", true),
        ("nix (Nix) 2.3.16", "Nix 2.3.16", false),
        (
            "nix (Nix) 2.34.0pre20260101_abcdef0",
            "Nix 2.34.0pre20260101_abcdef0",
            true,
        ),
        ("nix (Lix, like Nix) 2.93.3", "Lix 2.93.3", true),
        (
            "nix (Determinate Nix 3.11.2) 2.31.1",
            "Determinate Nix 2.31.1",
            true,
        ),
    ] {
        let version = NixVersion::parse(text).unwrap();
        assert_eq!(
            (version.to_string().as_str(), version.has_flakes()),
            (shown, flakes)
        );
    }
    assert_eq!(NixVersion::parse("zsh: command not found: nix"), None);

    let config = r#"{"system":{"value":"x86_64-linux"},"extra-platforms":{"value":["i686-linux"]},
        "builders":{"value":"ssh://a riscv64-linux,armv7l-linux; @/etc/nix/machines"},
        "trusted-users":{"value":["root","op"]},"require-sigs":{"value":true}}"#;
    let systems = Systems::parse(config, "# ours\nssh://b aarch64-linux - 4 # big\n\nssh://c - - 1").unwrap();
    for (system, builds) in [
        ("x86_64-linux", true),
        ("i686-linux", true),
        ("aarch64-linux", true),
        ("armv7l-linux", true),
        ("builtin", true),
        ("aarch64-darwin", false),
    ] {
        assert_eq!(systems.builds(system), builds, "{system}");
    }
    assert!(Systems::parse("{}", "").is_err());
}

#[test]
fn a_flake_url_escapes_what_a_url_may_not_hold() {
    use std::path::Path;
    let rev = "4585af09a829283522df053a0848054ca2c56ba6";
    let tree = |path: &'static str| FlakeSource::WorkTree(Path::new(path));
    for (flake, expected) in [
        (
            flake_url(tree("/home/op/infra"), rev, ".", false),
            format!("git+file:///home/op/infra?rev={rev}"),
        ),
        (
            flake_url(tree("/home/op/my infra#1?ü%"), rev, "./nix os/", true),
            format!("git+file:///home/op/my%20infra%231%3F%C3%BC%25?rev={rev}&submodules=1&dir=nix%20os"),
        ),
        (
            flake_url(
                FlakeSource::Bare {
                    repository: Path::new("/var/x.git"),
                    run: "20260101T000000Z-abc",
                },
                rev,
                "",
                false,
            ),
            format!("git+file:///var/x.git?ref=refs/nixgate/src/20260101T000000Z-abc&rev={rev}"),
        ),
    ] {
        assert_eq!(flake.as_str(), expected);
    }
    let flake = Flakeref::verbatim("x");
    assert_eq!(
        flake.attribute("nixosConfigurations.\"a.b\".config"),
        "x#nixosConfigurations.\"a.b\".config"
    );
}

#[test]
fn what_a_store_lacks_is_the_rest_of_the_closure() {
    let entries = parse_dump_db(&data("dump-db.txt")).unwrap();
    let closure = Closure::new(StorePath::new(TOPLEVEL).unwrap(), entries).unwrap();
    let present = std::collections::HashSet::from([closure.entries[0].path.clone()]);
    let rest = missing(&closure, &present);
    assert_eq!((rest.paths.len(), rest.bytes), (1, 168));
    assert_eq!(missing(&closure, &closure.paths().cloned().collect()).bytes, 0);
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let name = prop_oneof![
        Just("path".to_string()),
        Just("narHash".to_string()),
        Just("info".to_string()),
        Just("outputs".to_string()),
        Just("drvPath".to_string()),
        Just("derivations".to_string()),
        Just("inputs".to_string()),
        Just(TOPLEVEL.to_string()),
        "\\PC{0,8}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|n| Value::Number(n.into())),
        name.clone().prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            proptest::collection::vec((name.clone(), inner), 0..5)
                .prop_map(|f| Value::Object(f.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn garbage_never_panics(value in json(), text in "\\PC{0,80}", lines in "[a-z0-9/\n-]{0,200}") {
        for text in [&value.to_string(), &text] {
            let _ = parse_path_info(text);
            let _ = parse_build(text);
            let _ = parse_derivations(text);
            let _ = parse_store_info(text);
            let _ = Systems::parse(text, text);
            let _ = NixVersion::parse(text);
        }
        let _ = parse_dump_db(&lines);
    }

    #[test]
    fn a_damaged_dump_never_panics(at in 0usize..446, byte in any::<u8>()) {
        let mut bytes = data("dump-db.txt").into_bytes();
        bytes[at] = byte;
        let _ = parse_dump_db(&String::from_utf8_lossy(&bytes));
    }
}
