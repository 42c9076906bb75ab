use super::*;

const B: &str = "/nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-nixos-system-cortex-b";

static WANTED: std::sync::LazyLock<System> = std::sync::LazyLock::new(|| System::plain(B));

fn facts(more: &str) -> Facts {
    Facts::parse(&format!(
        "running={B}\nprofile={B}\ngeneration=142\nboot_default={B}\nboot_loader=extlinux\nstate=running\n\
         units_read=1\ncomplete=1\n{more}"
    ))
}

fn look<'a>(facts: &'a Facts, baseline: &'a Baseline) -> Look<'a> {
    Look {
        target: "cortex",
        system: &WANTED,
        stage: Stage::Committed,
        fresh: Ok(""),
        facts: Some(facts),
        services: &[],
        checks: &[],
        baseline,
        first: None,
    }
}

fn failed(health: &Health) -> Vec<usize> {
    health
        .lines
        .iter()
        .filter(|l| l.verdict == Verdict::Failed)
        .map(|l| l.number)
        .collect()
}

#[test]
fn s0_11_degraded_passes_only_with_units_that_had_failed_before() {
    let facts = Facts::parse(&format!(
        "running={B}\nprofile={B}\nboot_default={B}\nstate=degraded\nunits_read=1\nfailed=old.service\n"
    ));
    let before = Baseline {
        failed: vec!["old.service".into()],
        ..Baseline::default()
    };
    assert!(judge(&look(&facts, &before)).is_good());
    assert_eq!(failed(&judge(&look(&facts, &Baseline::default()))), [2, 5]);
}

#[test]
fn s0_11_starting_is_looked_at_again_and_unknown_fails() {
    let none = Baseline::default();
    let starting = Facts::parse(&format!(
        "running={B}\nprofile={B}\nboot_default={B}\nstate=starting\nunits_read=1\n"
    ));
    let health = judge(&look(&starting, &none));
    assert!(health.moving && !health.is_good());
    let silent = Facts::parse(&format!("running={B}\nprofile={B}\nboot_default={B}\n"));
    assert_eq!(failed(&judge(&look(&silent, &none))), [2, 5]);
}

#[test]
fn s0_13_each_disagreement_of_running_profile_and_boot_default_fails() {
    let none = Baseline::default();
    for (key, other) in [
        ("running", "/nix/store/x"),
        ("profile", "/nix/store/x"),
        ("boot_default", "/nix/store/x"),
    ] {
        let text = format!(
            "{key}={other}\nrunning={B}\nprofile={B}\nboot_default={B}\nstate=running\nunits_read=1\n"
        );
        let facts = Facts::parse(&text);
        let health = judge(&look(&facts, &none));
        assert_eq!(failed(&health), [4], "{key}");
        assert!(
            health.failures[0].what.contains("/nix/store/x"),
            "{:?}",
            health.failures
        );
    }
    let facts = facts("");
    let health = judge(&look(&facts, &none));
    assert!(health.is_good());
    assert_eq!(health.lines[3].detail, "generation 142");
}

#[test]
fn s0_12_a_unit_that_keeps_restarting_fails() {
    let none = Baseline::default();
    let now = facts("restarts=4 loop.service\n");
    assert_eq!(failed(&judge(&look(&now, &none))), [5]);
    let old = Baseline {
        restarts: BTreeMap::from([("loop.service".to_owned(), 4)]),
        ..Baseline::default()
    };
    assert!(judge(&look(&now, &old)).is_good());
    let first = BTreeMap::from([("loop.service".to_owned(), 3)]);
    let grown = Look {
        first: Some(&first),
        ..look(&now, &old)
    };
    assert_eq!(failed(&judge(&grown)), [5]);
    let calm = Look {
        first: Some(&now.restarts),
        ..look(&now, &old)
    };
    assert!(judge(&calm).is_good());
}

#[test]
fn s4_24_memory_and_cpu_are_held_against_what_was_used_before() {
    let usage = |available: u64, load: &str| {
        facts(&format!(
            "MemTotal=8000000\nMemAvailable={available}\nload1={load}\ncpus=2\ntop=3000000 7 hog\n"
        ))
    };
    let before = Baseline::of(&usage(7_000_000, "0.50"), 3.0);
    let told = |now: &Facts, before: &Baseline| {
        let health = judge(&look(now, before));
        let names: Vec<String> = health.lines.into_iter().map(|line| line.name).collect();
        (names[5..].join(","), health.definite)
    };
    // Three times a million KiB, and four a core with a load three times as high.
    assert_eq!(told(&usage(5_000_000, "4.00"), &before), (String::new(), false));
    assert_eq!(told(&usage(4_999_999, "4.00"), &before), ("Memory".into(), false));
    assert_eq!(told(&usage(5_000_000, "4.01"), &before), ("CPU".into(), false));
    let elsewhere = facts("MemTotal=8\nMemAvailable=8\nload1=90.0\ncpus=2\ncontainer=lxc\n");
    assert_eq!(told(&elsewhere, &before), (String::new(), false));
    // What is little stays little.
    let idle = Baseline::of(&usage(7_999_999, "0.00"), 3.0);
    assert_eq!(told(&usage(7_600_000, "3.90"), &idle), (String::new(), false));
    let off = Baseline::of(&usage(7_000_000, "0.50"), 0.0);
    assert_eq!(told(&usage(1, "90.0"), &off), (String::new(), false));
    let health = judge(&look(&usage(1_000_000, "0.50"), &before));
    assert!(
        health.failures[0].to_string().contains("hog (pid 7)"),
        "{health:?}"
    );
}

#[test]
fn a_check_that_failed_before_is_reported_and_not_counted() {
    let facts = facts("");
    let bad = Answer {
        name: "http x".into(),
        verdict: Verdict::Failed,
        detail: "HTTP 500".into(),
    };
    let excused = Baseline {
        excused: vec!["http x".into()],
        ..Baseline::default()
    };
    let checks = [bad];
    assert!(
        judge(&Look {
            checks: &checks,
            ..look(&facts, &excused)
        })
        .is_good()
    );
    let health = judge(&Look {
        checks: &checks,
        ..look(&facts, &Baseline::default())
    });
    assert_eq!(health.failures.len(), 1);
}

#[test]
fn no_connection_is_no_health() {
    let error = ConnectError::new(crate::host::ConnectClass::Timeout, vec![]);
    let none = Baseline::default();
    let facts = facts("");
    let health = judge(&Look {
        fresh: Err(&error),
        facts: None,
        ..look(&facts, &none)
    });
    assert!(!health.is_good());
    assert_eq!(failed(&health), [1]);
}

#[test]
fn n4_a_specialisation_that_boots_by_default_is_healthy() {
    let debug = "/nix/store/d";
    let system = System {
        effective: debug.to_owned(),
        ..System::plain(B)
    };
    let none = Baseline::default();
    for (boot, good) in [(debug, true), (B, true), ("/nix/store/x", false)] {
        let facts = Facts::parse(&format!(
            "running={debug}\nprofile={B}\nboot_default={boot}\nstate=running\nunits_read=1\n"
        ));
        let seen = Look {
            system: &system,
            ..look(&facts, &none)
        };
        assert_eq!(judge(&seen).is_good(), good, "{boot}");
        assert!(
            !judge(&look(&facts, &none)).is_good(),
            "the plain system does not run"
        );
    }
}
