use super::*;
use crate::diff::{FieldChange, Part};

fn lock(rev: char, hash: &str) -> String {
    let rev = rev.to_string().repeat(40);
    let one = |rev: &str, hash: &str| {
        format!(
            r#"{{"locked":{{"type":"github","owner":"o","repo":"r","rev":"{rev}","narHash":"{hash}"}},"original":{{}}}}"#
        )
    };
    let other = one(&rev.replace(|_: char| true, "7"), &format!("sha256-other{hash}"));
    let first = one(&rev, hash);
    format!(
        r#"{{"version":7,"root":"root","nodes":{{"root":{{"inputs":{{"lib":"lib","nixpkgs":"nixpkgs"}}}},"lib":{other},"nixpkgs":{first}}}}}"#
    )
}

/// Two inputs moved, and these files.
fn between(files: &[(&str, &[&str], &[&str])]) -> Between {
    let inputs = InputDiff::new(&lock('a', "sha256-A"), &lock('b', "sha256-B")).unwrap();
    assert_eq!(inputs.moved.len(), 2);
    let list = |lines: &[&str]| lines.iter().map(ToString::to_string).collect();
    let files: Vec<ChangedFile> = files
        .iter()
        .map(|(path, gone, come)| ChangedFile {
            path: (*path).to_owned(),
            gone: list(gone),
            come: list(come),
        })
        .collect();
    let revs = ["1111111aaaaaaaa", "2222222bbbbbbbb"].map(str::to_owned);
    Between::new(&inputs, &files, revs, |hash| {
        Some(format!("/nix/store/{hash}-source"))
    })
}

fn root(kind: RootKind, name: &str) -> Root {
    Root {
        kind,
        part: Part::Package,
        name: name.to_owned(),
        was: None,
        fields: Vec::new(),
        brings: 1,
        mentions: Vec::new(),
    }
}

fn changed(name: &str, field: &str, lines: &[&str]) -> Root {
    let mut root = root(RootKind::Changed, name);
    root.fields.push(FieldChange {
        field: field.to_owned(),
        lines: lines.iter().map(ToString::to_string).collect(),
    });
    root
}

/// The names of the causes that a root may have.
fn names(root: &Root, between: &Between) -> Vec<String> {
    let causes = causes_of(root, between).into_iter();
    causes.map(|at| between.causes[at].name.clone()).collect()
}

#[test]
fn an_input_shows_by_its_contents_and_by_its_commit() {
    let all = between(&[("hosts/x.nix", &[], &[])]);
    let nothing = changed("unit-a.service", "text", &["+ x"]);
    assert_eq!(names(&nothing, &all), ["lib", "nixpkgs", "files"]);
    let mut mention = nothing.clone();
    mention.mentions = vec!["/nix/store/sha256-B-source/pkgs/x.patch".into()];
    assert_eq!(names(&mention, &all), ["nixpkgs"]);
    mention.mentions = vec!["/nix/store/sha256-othersha256-A-source".into()];
    assert_eq!(names(&mention, &all), ["lib"]);
    // The label of a system carries the commit of nixpkgs.
    let mut label = root(RootKind::Changed, "nixos-system-x-26.05.20261101.bbbbbbb");
    label.was = Some("nixos-system-x-26.05.20261020.aaaaaaa".into());
    assert_eq!(names(&label, &all), ["nixpkgs"]);
}

#[test]
fn a_file_shows_by_its_name_its_lines_and_what_they_name() {
    let all = between(&[(
        "hosts/x.nix",
        &["  kernel = \"6.18.1\";", "  pkgs.htop"],
        &[
            "  kernel = \"6.18.2\";",
            "    worker_processes 4;",
            "  pkgs.ripgrep",
        ],
    )]);
    for line in ["+ worker_processes 4;", "+     worker_processes 4;"] {
        assert_eq!(names(&changed("nginx.conf", "text", &[line]), &all), ["files"]);
    }
    assert_eq!(names(&changed("a", "source x.nix", &[]), &all), ["files"]);
    let mut kernel = root(RootKind::Changed, "linux-6.18.2");
    kernel.was = Some("linux-6.18.1".into());
    assert_eq!(names(&kernel, &all), ["files"]);
    assert_eq!(names(&root(RootKind::Added, "ripgrep-15.1.0"), &all), ["files"]);
    assert_eq!(names(&root(RootKind::Removed, "htop-3.4.1"), &all), ["files"]);
    // What the lines do not say they do not show: not the other way round, nor in part.
    let unsure = ["lib", "nixpkgs", "files"];
    for other in [
        changed("nginx.conf", "text", &["- worker_processes 4;"]),
        changed("nginx.conf", "text", &["+ worker_processes 40;"]),
        changed("nginx.conf", "text", &["+ };"]),
        root(RootKind::Removed, "ripgrep-15.1.0"),
        root(RootKind::Added, "rip-15.1.0"),
    ] {
        assert_eq!(names(&other, &all), unsure, "{other:?}");
    }
    let mut older = kernel.clone();
    older.name = "linux-6.18.1".into();
    older.was = Some("linux-6.18.2".into());
    assert_eq!(names(&older, &all), unsure);
    // The commit itself is named.
    let rev = changed("nixos-system-x-26.05", "rev", &["+ 2222222bbbbbbbb"]);
    assert_eq!(names(&rev, &all), ["files"]);
}

#[test]
fn what_is_written_for_people_is_a_cause_only_where_it_shows_or_is_alone() {
    let all = between(&[
        ("README.md", &[], &["welcome, stranger"]),
        ("hosts/x.nix", &[], &[]),
    ]);
    assert_eq!(all.causes.last().map(|cause| cause.name.as_str()), Some("texts"));
    let unit = changed("unit-a.service", "text", &["+ x"]);
    assert_eq!(names(&unit, &all), ["lib", "nixpkgs", "files"]);
    // Somebody made it the message of the day.
    let motd = changed("etc-motd", "text", &["+ welcome, stranger"]);
    assert_eq!(names(&motd, &all), ["texts"]);
    let mut alone = all.clone();
    alone.causes.retain(|cause| cause.name == "texts");
    assert_eq!(names(&unit, &alone), ["texts"]);
    for path in [
        "README",
        "docs/a/b.md",
        "LICENSE-MIT",
        ".gitignore",
        ".github/workflows/x.yml",
        ".nixgate.toml",
    ] {
        assert!(is_text(path), "{path}");
    }
    for path in [
        "flake.nix",
        "README.nix",
        "hosts/x.nix",
        "secrets.yaml",
        "files/nginx.conf",
        "github/x.yml",
    ] {
        assert!(!is_text(path), "{path}");
    }
}

#[test]
fn what_was_proven_goes_before_what_shows() {
    let mut all = between(&[("hosts/x.nix", &[], &["worker_processes 4;"])]);
    let conf = changed("nginx.conf", "text", &["+ worker_processes 4;"]);
    all.causes[0].proven = Some(BTreeSet::from(["nginx.conf".to_owned()]));
    assert_eq!(names(&conf, &all), ["lib"]);
    // Held back in vain, each of them: what is left is the files.
    let mut all = between(&[("hosts/x.nix", &[], &[]), ("README.md", &[], &[])]);
    all.causes[0].effect = Some(false);
    all.causes[1].proven = Some(BTreeSet::new());
    assert_eq!(names(&changed("a", "text", &["+ x"]), &all), ["files"]);
}
