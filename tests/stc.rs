//! The edges of what an exit code of `switch-to-configuration` means; the recordings of the real program are tested
//! beside the code.

use git_nixgate::host::stc::Stc;

fn units(stderr: &str) -> Vec<String> {
    match Stc::classify(4, "", stderr, false) {
        Stc::Units { failed } => failed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_signal_is_one_and_nothing_beyond() {
    // Linux has signals 1 to 64.
    for signal in [1, 9, 15, 64] {
        assert_eq!(Stc::classify(128 + signal, "", "", false), Stc::Killed { signal });
    }
    for status in [3, 128, 193, 255] {
        assert_eq!(Stc::classify(status, "", "", false), Stc::Other { status });
    }
}

#[test]
fn every_unit_of_the_list_and_every_refused_job_counts_once() {
    let listed = "warning: the following units failed: a.service, b.mount, c.service\n";
    assert_eq!(units(listed), ["a.service", "b.mount", "c.service"]);
    for verb in ["start", "restart", "reload"] {
        assert_eq!(
            units(&format!(
                "Failed to {verb} nginx.service: Unit is masked\n{listed}"
            ))[..],
            ["a.service", "b.mount", "c.service", "nginx.service"],
            "{verb}"
        );
    }
    // A unit that did not stop is gone from the new system, or is in the list.
    assert_eq!(units("Failed to stop nginx.service: Timeout\n"), [""; 0]);
}

#[test]
fn what_ends_before_the_switch_leaves_nothing_to_take_back() {
    for (status, stderr) in [
        (1, "Pre-switch checks failed"),
        (1, "Failed to install bootloader"),
        (1, "usage"),
        (2, "This is not a NixOS installation!"),
        (11, "Could not acquire lock"),
        (100, ""),
    ] {
        let result = Stc::classify(status, "", stderr, false);
        assert!(!result.touched(), "{result:?}");
    }
    let script = Stc::classify(2, "", "Failed to run activate script", false);
    assert!(matches!(script, Stc::Script { .. }) && script.touched());
}
