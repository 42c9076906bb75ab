use super::*;
use proptest::prelude::*;

/// `name` or `name@digit`: a path of that name whose hash is made of that digit; sizes are given in KiB.
fn side(entries: &[(&str, u64)]) -> Vec<(String, u64)> {
    entries
        .iter()
        .map(|(entry, kib)| {
            let (name, digit) = entry.split_once('@').unwrap_or((entry, "0"));
            (format!("/nix/store/{}-{name}", digit.repeat(32)), kib * 1024)
        })
        .collect()
}

fn diff(old: &[(String, u64)], new: &[(String, u64)]) -> PackageDiff {
    PackageDiff::new(
        old.iter().map(|(path, bytes)| PathSize {
            path,
            bytes: *bytes,
            deriver: None,
        }),
        new.iter().map(|(path, bytes)| PathSize {
            path,
            bytes: *bytes,
            deriver: None,
        }),
    )
}

fn lines(old: &[(&str, u64)], new: &[(&str, u64)]) -> Vec<String> {
    diff(&side(old), &side(new)).lines()
}

#[test]
fn every_kind_of_change_has_its_line() {
    let old = [
        ("nginx-1.26.1", 100),
        ("bash-5.3", 9),
        ("curl-8.5", 7),
        ("gone-1.0", 2),
        ("unit-a.service", 1),
    ];
    let new = [
        ("nginx-1.26.2", 112),
        ("bash-5.2", 9),
        ("curl-8.5@1", 7),
        ("come-2.0", 3),
        ("unit-a.service@1", 1),
    ];
    assert_eq!(
        lines(&old, &new),
        [
            "↑ nginx 1.26.1 → 1.26.2 (+12 KiB)",
            "↓ bash 5.3 → 5.2",
            "+ come 2.0 (+3 KiB)",
            "- gone 1.0 (-2 KiB)",
            "~ curl 8.5 (rebuilt)",
            "~ unit-a.service (rebuilt)",
        ]
    );
    let diff = diff(&side(&old), &side(&new));
    assert_eq!(
        diff.headline(),
        "1 upgraded, 1 downgraded, 1 added, 1 removed, 2 rebuilt; 5 → 5 paths (+13 KiB)"
    );
    assert_eq!((diff.totals.paths_new, diff.totals.paths_gone), (5, 5));
}

#[test]
fn the_same_closure_has_no_changes() {
    let one = [("nginx-1.26.1", 100), ("bash-5.3", 9)];
    assert!(lines(&one, &one).is_empty());
    assert_eq!(
        diff(&side(&one), &side(&one)).headline(),
        "no changes; 2 → 2 paths (±0)"
    );
}

#[test]
fn several_versions_of_one_package_are_kept_apart() {
    let old = [("openssl-1.1.1w", 1), ("openssl-3.0.14", 2), ("linux-6.6.50", 9)];
    let new = [
        ("openssl-1.1.1w@1", 1),
        ("openssl-3.0.15", 2),
        ("linux-6.6.50", 9),
        ("linux-6.12.1", 9),
    ];
    assert_eq!(
        lines(&old, &new),
        [
            "↑ openssl 3.0.14 → 3.0.15",
            "+ linux 6.12.1 (+9 KiB)",
            "~ openssl 1.1.1w (rebuilt)"
        ]
    );
    // What is most alike is one move, whatever the order.
    let old = [("python3-3.11.9", 1), ("python3-3.12.4", 1)];
    let new = [
        ("python3-3.12.5", 1),
        ("python3-3.13.0", 1),
        ("python3-3.11.10", 1),
    ];
    assert_eq!(
        lines(&old, &new),
        [
            "↑ python3 3.11.9 → 3.11.10",
            "↑ python3 3.12.4 → 3.12.5",
            "+ python3 3.13.0 (+1 KiB)"
        ]
    );
}

#[test]
fn outputs_belong_to_their_package() {
    let old = [("glibc-2.39", 10), ("glibc-2.39-bin", 2)];
    let new = [("glibc-2.40", 10), ("glibc-2.40-bin", 2), ("glibc-2.40-dev", 4)];
    assert_eq!(lines(&old, &new), ["↑ glibc 2.39 → 2.40 +dev (+4 KiB)"]);
    // The same version with one output more is no rebuild.
    let more = [("glibc-2.39", 10), ("glibc-2.39-bin", 2), ("glibc-2.39-man", 1)];
    assert_eq!(lines(&old, &more), ["+ glibc 2.39 +man (+1 KiB)"]);
    assert_eq!(lines(&more, &old), ["- glibc 2.39 -man (-1 KiB)"]);
}

#[test]
fn a_deriver_on_one_side_only_does_not_split_a_package() {
    let path = "/nix/store/00000000000000000000000000000000-glibc-2.40-66-getent";
    let deriver = "/nix/store/00000000000000000000000000000000-glibc-2.40-66.drv";
    let other = "/nix/store/11111111111111111111111111111111-x-1";
    let with = PathSize {
        path,
        bytes: 1,
        deriver: Some(deriver),
    };
    let without = PathSize {
        path,
        bytes: 1,
        deriver: None,
    };
    let more = PathSize {
        path: other,
        bytes: 1,
        deriver: None,
    };
    let diff = PackageDiff::new([with], [without, more]);
    assert_eq!(diff.lines(), ["+ x 1 (+1 B)"]);
}

#[test]
fn sizes_are_short_and_signed() {
    for (bytes, text) in [
        (0, "±0"),
        (1, "+1 B"),
        (-999, "-999 B"),
        (1023, "+1023 B"),
        (1024, "+1 KiB"),
        (1536, "+1.5 KiB"),
        (12 * 1024 + 100, "+12 KiB"),
        (1024 * 1024 - 1, "+1 MiB"),
        (-(3 * 1024 * 1024 + 400 * 1024), "-3.4 MiB"),
        (5 * 1024 * 1024 * 1024, "+5 GiB"),
        (i64::MAX, "+8192 PiB"),
        (i64::MIN, "-8192 PiB"),
    ] {
        assert_eq!(size_delta(bytes), text, "{bytes}");
    }
}

proptest! {
    #[test]
    fn every_changed_path_is_counted_once_and_the_way_back_mirrors_it(
        old in proptest::collection::btree_map(("[a-c]", "[1-3]\\.[0-2]", "[0-1]"), 0u64..9, 0..12),
        new in proptest::collection::btree_map(("[a-c]", "[1-3]\\.[0-2]", "[0-1]"), 0u64..9, 0..12),
    ) {
        // The size belongs to the path: it is the same on both sides.
        let path = |(n, v, d): &(String, String, String)| {
            (format!("/nix/store/{}-{n}-{v}", d.repeat(32)), (n.len() + v.len()) as u64)
        };
        let (old, new): (Vec<_>, Vec<_>) = (old.keys().map(path).collect(), new.keys().map(path).collect());
        let there = diff(&old, &new);
        let back = diff(&new, &old);
        prop_assert_eq!(there.upgraded.len(), back.downgraded.len());
        prop_assert_eq!(there.added.len(), back.removed.len());
        prop_assert_eq!(there.rebuilt.len(), back.rebuilt.len());
        prop_assert_eq!(there.is_empty(), there.totals.paths_new + there.totals.paths_gone == 0);
        let bytes: i64 = there.changes().map(|change| change.bytes).sum();
        prop_assert_eq!(bytes, there.totals.bytes_after as i64 - there.totals.bytes_before as i64);
    }
}
