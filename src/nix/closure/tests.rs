use super::*;

fn path(name: &str) -> String {
    format!("/nix/store/{}-{name}", "0".repeat(32))
}

fn dump(name: &str, references: &[&str]) -> String {
    let mut text = format!("{}\n{}\n10\n\n{}\n", path(name), "0".repeat(64), references.len());
    references
        .iter()
        .for_each(|name| text.push_str(&format!("{}\n", path(name))));
    text
}

fn closure(top: &str, text: &str) -> Closure {
    let entries = parse_dump_db(text).expect("a dump");
    Closure::new(StorePath::new(&path(top)).expect("a path"), entries).expect("a closure")
}

/// As [`dump`], with a hash of this digit.
fn built(name: &str, digit: char, references: &[&str]) -> String {
    dump(name, references).replacen(&"0".repeat(64), &digit.to_string().repeat(64), 1)
}

#[test]
fn r1_a_closure_beside_another_build_is_what_a_copy_leaves_there() {
    let there = closure(
        "old",
        &(dump("old", &["stamp"]) + &built("stamp", '1', &["data"]) + &dump("data", &[])),
    );
    let built_elsewhere = dump("new", &["lib", "stamp"]) + &dump("lib", &[]);
    let new = closure("new", &(built_elsewhere.clone() + &built("stamp", '2', &[])));
    let copied = new.copied_beside(&there);
    let names: Vec<&str> = copied.paths().map(StorePath::name).collect();
    assert_eq!(names, ["data", "lib", "new", "stamp"]);
    let stamp = StorePath::new(&path("stamp")).expect("a path");
    assert_eq!(copied.get(&stamp), there.get(&stamp));
    assert_eq!(copied.other_builds(&new), [&stamp]);
    assert_eq!(new.other_builds(&new), Vec::<&StorePath>::new());
    // The same bytes with another reference.
    let same = built_elsewhere.replace("\n2\n", "\n3\n");
    let same = same.replacen(&path("lib"), &format!("{}\n{}", path("data"), path("lib")), 1);
    let same = closure("new", &(same + &dump("data", &[]) + &built("stamp", '2', &[])));
    assert_eq!(same.other_builds(&new).len(), 1, "{same:?}");
    assert_eq!(new.other_builds(&same), same.other_builds(&new));
}

#[test]
fn r1_a_list_is_read_back_whole_and_anything_else_is_none() {
    let whole = closure("new", &(dump("new", &[]) + &built("lib", '1', &[])));
    let read = Closure::listed(&whole.toplevel, &whole.list()).expect("a list");
    assert_eq!(
        (read.digest(), read.bytes(), read.count()),
        (whole.digest(), 20, 2)
    );
    for bad in ["", "x", &whole.list().replace(" 10 ", " "), &whole.list()[10..]] {
        assert_eq!(Closure::listed(&whole.toplevel, bad), None, "{bad}");
    }
    let other = StorePath::new(&path("other")).expect("a path");
    assert_eq!(Closure::listed(&other, &whole.list()), None);
}

#[test]
fn two_closures_come_out_of_one_list_and_neither_holds_what_is_the_others_alone() {
    let text = format!(
        "{}\n{}{}{}{}",
        path("old"),
        dump("new", &["lib", "new"]),
        dump("old", &["lib", "gone"]),
        dump("lib", &[]),
        dump("gone", &["lib"]),
    );
    let new = StorePath::new(&path("new")).expect("a path");
    let (new, old) = two(&new, &text).expect("two closures");
    let names = |closure: &Closure| closure.paths().map(|p| p.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&new), ["lib", "new"]);
    assert_eq!(names(&old), ["gone", "lib", "old"]);
}

#[test]
fn a_closure_reads_the_same_from_json_and_from_a_dump() {
    let (lib, new) = (path("lib"), path("new"));
    let digits = "0".repeat(64);
    let info = |references: String| {
        format!(r#"{{"narHash":"sha256:{digits}","narSize":10,"deriver":null,"references":[{references}]}}"#)
    };
    let json = format!(
        r#"{{"{lib}":{},"{new}":{}}}"#,
        info(String::new()),
        info(format!(r#""{lib}","{new}""#))
    );
    let dumped = parse(&format!("{}{}", dump("lib", &[]), dump("new", &["lib", "new"])));
    assert_eq!(parse(&json), dumped);
    assert_eq!(dumped.map(|entries| entries.len()), Ok(2));
    assert!(parse(&format!(r#"{{"{lib}":null}}"#)).is_err(), "not valid");
}

#[test]
fn a_list_cut_short_is_no_closure() {
    let text = format!("{}\n{}{}", path("old"), dump("new", &["lib"]), dump("old", &[]));
    let new = StorePath::new(&path("new")).expect("a path");
    let why = two(&new, &text).expect_err("lib is missing");
    assert!(why.contains("-lib, which is missing"), "{why}");
}
