//! Generated systems of thousands of paths, and what their differences come to: exactly what the generator changed.

#[path = "support/graph.rs"]
mod graph;

use std::collections::{BTreeMap, BTreeSet};

use git_nixgate::diff::{Explained, How, RootKind};
use git_nixgate::nix::{StorePath, Unshared};
use graph::{Changes, System, name};

/// The texts of two systems, each once; `alone`: only those that one of them has alone, as they are read from a builder.
fn texts<'a>(old: &'a System, new: &'a System, alone: bool) -> Vec<(&'a str, &'a [u8])> {
    let both = |path: &String| old.texts.contains_key(path) && new.texts.contains_key(path);
    let all: BTreeMap<&String, &String> = old.texts.iter().chain(&new.texts).collect();
    all.into_iter()
        .filter(|(path, _)| !alone || !both(path))
        .map(|(path, text)| (path.as_str(), text.as_bytes()))
        .collect()
}

fn explain(old: &System, new: &System, alone: bool) -> Explained {
    let (before, after) = (old.runtime(), new.runtime());
    Explained::new(&texts(old, new, alone), (&old.root, &new.root), &before, &after).expect("two systems")
}

/// Checks a change of a system of `size` packages against what the generator knows.
fn check(size: usize, chain: bool, changes: &Changes) -> Explained {
    let none = Changes::default();
    let (old, new) = (
        System::beside(size, chain, &none, changes),
        System::new(size, chain, changes),
    );
    let explained = explain(&old, &new, false);

    // The roots are what was changed, and nothing else.
    let own: BTreeSet<usize> = changes
        .bumped
        .union(&changes.silent)
        .chain(&changes.renamed)
        .copied()
        .collect();
    let mut truth: BTreeMap<(RootKind, String), usize> = BTreeMap::new();
    for (kind, list) in [
        (RootKind::Changed, &own),
        (RootKind::Added, &changes.added),
        (RootKind::Removed, &changes.dropped),
    ] {
        for index in list {
            *truth.entry((kind, name(*index, changes))).or_default() += 1;
        }
    }
    let mut found: BTreeMap<(RootKind, String), usize> = BTreeMap::new();
    for root in &explained.roots {
        *found.entry((root.kind, root.name.clone())).or_default() += 1;
    }
    let other = |one: &BTreeMap<(RootKind, String), usize>, two: &BTreeMap<(RootKind, String), usize>| {
        let list: Vec<String> = one
            .iter()
            .filter(|(k, n)| two.get(*k) != Some(n))
            .map(|(k, _)| format!("{k:?}"))
            .collect();
        list.join(" ")
    };
    assert_eq!(
        (other(&found, &truth), other(&truth, &found)),
        Default::default(),
        "found, true"
    );

    // Every path that differs is explained once, by the roots that it is made of.
    let differ: BTreeSet<&String> = old
        .closure
        .keys()
        .filter(|path| !new.closure.contains_key(*path))
        .chain(new.closure.keys().filter(|path| !old.closure.contains_key(*path)))
        .collect();
    let explained_paths: Vec<&str> = explained.changed().map(|(path, _)| path).collect();
    assert_eq!(
        explained_paths,
        differ.iter().map(|path| path.as_str()).collect::<Vec<_>>()
    );
    assert_eq!(explained.lost, Vec::<String>::new());
    for (path, how) in explained.changed() {
        let (system, is_new) = match new.closure.contains_key(path) {
            true => (&new, true),
            false => (&old, false),
        };
        let made_of = &system.made_of[path];
        let names: BTreeSet<String> = explained
            .roots_of(path)
            .map(|root| explained.roots[root].name.clone())
            .collect();
        let wanted = |list: &BTreeSet<usize>| -> Vec<String> {
            list.intersection(made_of)
                .map(|index| name(*index, changes))
                .collect()
        };
        let is_top = path.ends_with("-nixos-system-generated-26.05");
        let mut truth: BTreeSet<String> = wanted(&own).into_iter().collect();
        match how {
            How::Added | How::Removed => {
                let own = path.split_at(44).1.trim_end_matches("-dev").to_owned();
                truth = BTreeSet::from([own]);
            }
            How::Referred => panic!("{path} has a derivation"),
            How::Own | How::Follows if is_top => {
                let all = own.iter().chain(&changes.added).chain(&changes.dropped);
                truth = all.map(|index| name(*index, changes)).collect();
            }
            How::Own | How::Follows => {}
        }
        assert_eq!(names, truth, "{path} {how:?} new: {is_new}");
    }

    // What both sides have needs not be read.
    let less = explain(&old, &new, true);
    assert_eq!(less.roots, explained.roots);
    assert!(less.changed().eq(explained.changed()));
    explained
}

fn every(step: usize, from: usize, to: usize) -> BTreeSet<usize> {
    (from..to).step_by(step).collect()
}

#[test]
fn s1_8_a_bottom_package_rebuilds_everything_and_is_the_one_root() {
    for size in [5_000, 10_000] {
        let explained = check(
            size,
            true,
            &Changes {
                silent: BTreeSet::from([0]),
                ..Changes::default()
            },
        );
        let root = &explained.roots[0];
        assert_eq!(explained.roots.len(), 1);
        assert_eq!(root.brings, explained.count_changed());
        assert!(root.brings > 2 * size);
        assert_eq!(root.fields.len(), 1);
        assert_eq!(root.fields[0].field, "flags");
        assert_eq!(
            root.fields[0].lines,
            ["- --jobs 0 --silent false", "+ --jobs 0 --silent true"]
        );
    }
}

#[test]
fn a_leaf_brings_itself_and_the_system() {
    let explained = check(
        5_000,
        false,
        &Changes {
            silent: BTreeSet::from([4_999]),
            ..Changes::default()
        },
    );
    assert_eq!(explained.count_changed(), 4);
}

#[test]
fn bumps_additions_and_removals_are_all_there_is() {
    for size in [5_000, 10_000] {
        let dropped = every(size / 21, size / 2 + 2, size);
        let bumped = every(size / 200, 7, size);
        check(
            size,
            false,
            &Changes {
                bumped: bumped.difference(&dropped).copied().collect(),
                added: (size..size + 20).collect(),
                dropped,
                ..Changes::default()
            },
        );
    }
}

#[test]
fn another_fetcher_has_no_effect() {
    let none = Changes::default();
    let fetched = Changes {
        fetcher: true,
        ..Changes::default()
    };
    let (old, new) = (
        System::new(5_000, false, &none),
        System::new(5_000, false, &fetched),
    );
    assert_ne!(old.root, new.root);
    assert_eq!(
        old.closure.keys().collect::<Vec<_>>(),
        new.closure.keys().collect::<Vec<_>>()
    );
    let explained = explain(&old, &new, false);
    assert_eq!((explained.roots.len(), explained.count_changed()), (0, 0));
    // Beside a real change it is as if it were not there.
    let mixed = Changes {
        silent: BTreeSet::from([77]),
        bumped: BTreeSet::from([99]),
        ..fetched
    };
    check(5_000, false, &mixed);
}

#[test]
fn a_renamed_package_is_one_change_and_whoever_needs_it_follows() {
    let explained = check(
        5_000,
        false,
        &Changes {
            renamed: BTreeSet::from([20, 1_001, 4_700]),
            ..Changes::default()
        },
    );
    let renamed: Vec<String> = explained.roots.iter().map(|root| root.text()).collect();
    assert!(
        renamed.iter().any(|text| text == "~ p20x 7.1 → p20x-ng 7.1"),
        "{renamed:?}"
    );
}

#[test]
fn twins_of_one_version_and_packages_of_several_outputs_are_kept_apart() {
    // 79 is the twin of 78; 85 and 3,895 have two outputs.
    check(
        5_000,
        false,
        &Changes {
            silent: BTreeSet::from([79, 85]),
            bumped: BTreeSet::from([3_895]),
            ..Changes::default()
        },
    );
    check(
        5_000,
        false,
        &Changes {
            bumped: BTreeSet::from([78]),
            silent: BTreeSet::from([79]),
            ..Changes::default()
        },
    );
}

#[test]
fn what_several_causes_changed_follows_from_all_of_them() {
    let explained = check(
        5_000,
        true,
        &Changes {
            silent: BTreeSet::from([0, 100]),
            bumped: BTreeSet::from([50, 2_000]),
            renamed: BTreeSet::from([1_500]),
            added: (5_000..5_003).collect(),
            dropped: BTreeSet::new(),
            fetcher: true,
        },
    );
    assert_eq!(explained.roots.len(), 8);
}

/// What a release's journal keeps of its derivations: how many bytes, and that all is told from it as before.
fn kept(changes: &Changes, chain: bool) -> usize {
    let none = Changes::default();
    let old = System::beside(2_000, chain, &none, changes);
    let new = System::new(2_000, chain, changes);
    let path = |path: &str| StorePath::new(path).expect("a store path");
    let alone = texts(&old, &new, true);
    let packed = Unshared::new(path(&old.root), path(&new.root), alone.iter().copied()).packed();
    let read = Unshared::kept(&packed).expect("what was kept");
    let sides = Unshared::kept_sides(&packed);
    assert_eq!(sides, Some((read.old.clone(), read.new.clone())));
    assert_eq!((read.old.as_str(), read.new.as_str()), (&*old.root, &*new.root));
    let (before, after) = (old.runtime(), new.runtime());
    let told = Explained::new(&read.texts(), (&old.root, &new.root), &before, &after).expect("two systems");
    let direct = explain(&old, &new, true);
    assert_eq!(told.roots, direct.roots);
    assert!(told.changed().eq(direct.changed()));
    packed.len()
}

#[test]
fn what_a_journal_keeps_of_2000_packages_is_small_and_enough() {
    let mass = Changes {
        silent: BTreeSet::from([0]),
        ..Changes::default()
    };
    let leaf = Changes {
        bumped: BTreeSet::from([1_999]),
        ..Changes::default()
    };
    let (mass, leaf) = (kept(&mass, true), kept(&leaf, false));
    println!("kept of 2,000 packages: all rebuilt {mass} bytes, one leaf {leaf} bytes");
    // What a system is made of stands in its own derivation, and of a leaf's change that is nearly all.
    assert!(mass < 2 << 20 && leaf < 512 << 10, "{mass} {leaf}");
    assert_eq!(Unshared::kept(b"something else"), None);
    assert_eq!(Unshared::kept_sides(b"something else"), None);
}

#[test]
fn systems_in_between_join_what_two_do_not_share() {
    let none = Changes::default();
    let (one, both) = (
        Changes {
            bumped: BTreeSet::from([120]),
            ..Changes::default()
        },
        Changes {
            bumped: BTreeSet::from([120]),
            silent: BTreeSet::from([7]),
            ..Changes::default()
        },
    );
    let [a, b, c] = [&none, &one, &both].map(|changes| System::beside(500, false, changes, &both));
    let path = |system: &System| StorePath::new(&system.root).expect("a store path");
    let step = |old: &System, new: &System| Unshared::new(path(old), path(new), texts(old, new, true));
    let joined = Unshared::joined(path(&a), path(&c), &[step(&a, &b), step(&b, &c)]);
    let (before, after) = (a.runtime(), c.runtime());
    let told = Explained::new(&joined.texts(), (&a.root, &c.root), &before, &after).expect("two systems");
    let direct = explain(&a, &c, true);
    assert_eq!(told.roots, direct.roots);
    assert!(told.changed().eq(direct.changed()));
}

#[test]
fn the_same_system_twice_differs_in_nothing() {
    let system = System::new(100, false, &Changes::default());
    let explained = explain(&system, &system, false);
    assert_eq!((explained.roots.len(), explained.count_changed()), (0, 0));
}
