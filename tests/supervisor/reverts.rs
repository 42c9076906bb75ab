//! Trials of the way back: whatever is broken, the host returns to what ran before, by itself where nobody can help.

use std::time::Duration;

use git_nixgate::host::state::Phase;
use git_nixgate::host::stc::Stc;
use git_nixgate::host::supervisor::{SupervisorError, release_leftover};
use git_nixgate::host::{HostError, SudoError, fresh};

use super::lab::{Lab, Trial};
use super::{assert_back, switched};

#[tokio::test]
#[ignore = "needs the lab"]
async fn s0_18_a_link_cut_during_the_lease_reverts_the_host_by_itself() {
    let lab = Lab::new();
    let (trial, held, first) = switched(&lab, "B", 4, 60).await;
    assert_eq!(first.state.phase, Phase::Waiting);
    lab.run(&["cut", "cortex"]);
    let state = lab.wait_state("cortex", &held.run, &["reverted"], 20);
    assert!(state.contains("reason=the lease ended in silence"), "{state}");
    assert_back(&lab, &trial.facts);
    lab.run(&["heal", "cortex"]);
    let mut late = Trial::new(&lab, "cortex", &held.candidate, 4, 60).await;
    let state = held
        .wait_final(&mut late.session, Duration::from_secs(10))
        .await
        .expect("a state");
    assert_eq!(state.phase, Phase::Reverted);
    std::thread::sleep(Duration::from_secs(6));
    lab.assert_nothing_left("cortex");
    assert!(lab.state("cortex", &held.run).contains("settled=1"));
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn s0_18_each_lockout_reverts_by_itself() {
    let lab = Lab::new();
    for variant in ["Bnet-sshd", "Bnet-firewall", "Bnet-addr", "Bsudo"] {
        lab.reset("cortex");
        let candidate = lab.closure("cortex", variant);
        let mut trial = Trial::new(&lab, "cortex", &candidate, 12, 60).await;
        let held = trial.hold().await.expect("held");
        // The operator may not even learn how the switch ended.
        let mut operator =
            tokio::time::timeout(Duration::from_secs(4), held.switch(&mut trial.session)).await;
        println!(
            "{variant}: {:?}",
            operator
                .as_mut()
                .map(|result| result.as_ref().map(|s| s.outcome.clone()))
        );
        let late = fresh(&lab.endpoint("cortex")).await;
        if variant == "Bsudo" {
            let mut shell = late.expect("sshd lets in");
            match held.renew(&mut shell).await {
                Err(SupervisorError::Host(HostError::Sudo(SudoError::NeedsPassword { user }))) => {
                    assert_eq!(user, "jarvis");
                }
                other => panic!("{variant}: {other:?}"),
            }
        } else {
            let class = late.expect_err("nobody gets in").class;
            println!("{variant}: fresh says {class:?}");
        }
        lab.wait_state("cortex", &held.run, &["reverted"], 30);
        assert_back(&lab, &trial.facts);
        fresh(&lab.endpoint("cortex")).await.expect("ssh works again");
    }
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_killed_supervisor_is_recovered_by_systemd() {
    let lab = Lab::new();
    let (trial, held, _) = switched(&lab, "B", 60, 60).await;
    lab.sh(
        "cortex",
        &format!("systemctl kill -s KILL nixgate-{}.service", held.run),
    );
    let state = lab.wait_state("cortex", &held.run, &["reverted"], 20);
    assert!(state.contains("reason=the supervisor ended"), "{state}");
    assert_back(&lab, &trial.facts);
    // It goes on as a supervisor does: the operator may look and end it.
    let state = held.end(&mut &trial.session).await.expect("ended");
    assert!(state.settled);
    lab.assert_nothing_left("cortex");
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn isolating_a_target_and_reexecuting_systemd_do_no_harm() {
    let lab = Lab::new();
    let (trial, held, _) = switched(&lab, "B", 20, 60).await;
    lab.try_sh(
        "cortex",
        "systemctl isolate multi-user.target; systemctl daemon-reexec; systemctl daemon-reload",
    );
    let mut shell = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    assert_eq!(
        held.renew(&mut shell).await.expect("renewed").phase,
        Phase::Waiting
    );
    let reverted = held.revert(&mut shell).await.expect("reverted");
    assert!(reverted.back, "{reverted:?}");
    held.end(&mut shell).await.expect("ended");
    assert_back(&lab, &trial.facts);
    lab.assert_nothing_left("cortex");
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn what_had_failed_at_preflight_and_fails_again_is_not_the_candidates_doing() {
    let lab = Lab::new();
    lab.reset("cortex");
    let (bad, a) = (lab.closure("cortex", "Bfail"), lab.closure("cortex", "A"));
    for known in [true, false] {
        lab.try_sh(
            "cortex",
            &format!("nix-env -p /nix/var/nix/profiles/system --set {bad}; {bad}/bin/switch-to-configuration switch"),
        );
        let mut trial = Trial::new(&lab, "cortex", &a, 60, 60).await;
        let failing = "broken.service".to_owned();
        assert_eq!(trial.plan.failed, std::slice::from_ref(&failing));
        if !known {
            trial.plan.failed.clear();
        }
        // When the supervisor looks it is on its next try.
        lab.sh("cortex", "systemctl reset-failed broken.service");
        let held = trial.hold().await.expect("held");
        held.switch(&mut trial.session).await.expect("switched");
        let mut shell = fresh(&lab.endpoint("cortex")).await.expect("fresh");
        let reverted = held.revert(&mut shell).await.expect("an answer");
        assert_eq!(reverted.back, known, "{reverted:?}");
        let blamed = format!("{failing} fails and did not before");
        assert_eq!(reverted.state.reasons.contains(&blamed), !known, "{reverted:?}");
        lab.reset("cortex");
    }
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn an_orphaned_activate_cannot_switch_again_after_the_revert() {
    let lab = Lab::new();
    lab.reset("cortex");
    let candidate = lab.closure("cortex", "Bslow");
    let mut trial = Trial::new(&lab, "cortex", &candidate, 5, 60).await;
    let held = trial.hold().await.expect("held");
    let run = held.run.clone();
    let killer = tokio::task::spawn_blocking(move || {
        let lab = Lab::new();
        lab.wait_state("cortex", &run, &["switching"], 10);
        std::thread::sleep(Duration::from_secs(2));
        lab.try_sh("cortex", "pkill -KILL -f '[s]witch-to-configuration.* test'");
    });
    let switched = held.switch(&mut trial.session).await.expect("an end");
    killer.await.expect("killed");
    println!(
        "{:?} {:?} {} ms",
        switched.outcome, switched.state.reasons, switched.millis
    );
    assert!(matches!(switched.outcome, Stc::Killed { .. }), "{switched:?}");
    assert_eq!(switched.state.phase, Phase::Reverted);
    assert_eq!(lab.try_sh("cortex", "pgrep -af '[s]leep 600'").trim(), "");
    assert_back(&lab, &trial.facts);
    held.end(&mut &trial.session).await.expect("ended");
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn s3_34_a_switch_past_its_deadline_is_ended_and_reverted() {
    let lab = Lab::new();
    for variant in ["Bslow", "Bhang"] {
        let (trial, held, switched) = switched(&lab, variant, 5, 4).await;
        println!(
            "{variant}: {:?} {:?} {} ms",
            switched.outcome, switched.state.reasons, switched.millis
        );
        assert_eq!(switched.outcome, Stc::TimedOut);
        assert_eq!(switched.state.phase, Phase::Reverted, "{:?}", switched.state);
        assert_back(&lab, &trial.facts);
        held.end(&mut &trial.session).await.expect("ended");
        lab.assert_nothing_left("cortex");
    }
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_socket_that_the_candidate_took_away_is_started_again() {
    let lab = Lab::new();
    let (trial, held, _) = switched(&lab, "Bsocket", 20, 60).await;
    assert_ne!(
        lab.try_sh("cortex", "systemctl is-active lone.socket").trim(),
        "active"
    );
    let mut shell = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    let reverted = held.revert(&mut shell).await.expect("an answer");
    assert!(reverted.back, "{reverted:?}");
    assert_back(&lab, &trial.facts);
    held.end(&mut shell).await.expect("ended");
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_boot_loader_that_fails_takes_the_whole_commit_back() {
    let lab = Lab::new();
    let (trial, held, switched) = switched(&lab, "Bboot", 20, 60).await;
    assert_eq!(switched.outcome, Stc::Done, "{switched:?}");
    let links = "ls /nix/var/nix/profiles";
    let before = lab.sh("cortex", links);
    let mut shell = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    match held.commit(&mut shell).await {
        Err(SupervisorError::Refused { why, state }) => {
            println!("{why}; {:?}", state.reasons);
            assert_eq!(state.phase, Phase::Reverted, "{state:?}");
            assert_eq!(state.here, trial.facts.here);
        }
        other => panic!("{other:?}"),
    }
    assert_back(&lab, &trial.facts);
    println!("{before}→ {}", lab.sh("cortex", links));
    held.end(&mut shell).await.expect("ended");
    lab.assert_nothing_left("cortex");
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_switch_that_is_refused_leaves_nothing_to_revert() {
    let lab = Lab::new();
    for (variant, outcome) in [
        (
            "Binhibit",
            Stc::Refused {
                checks: vec!["switchInhibitors".into()],
            },
        ),
        ("B100", Stc::RebootNeeded),
    ] {
        let (trial, held, switched) = switched(&lab, variant, 20, 60).await;
        assert_eq!(switched.outcome, outcome, "{switched:?}");
        assert_eq!(switched.state.phase, Phase::Reverted);
        assert_eq!(switched.state.revert_status, None);
        assert_back(&lab, &trial.facts);
        held.end(&mut &trial.session).await.expect("ended");
        lab.assert_nothing_left("cortex");
    }
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn after_a_power_cut_in_the_lease_the_host_boots_what_ran_before() {
    let lab = Lab::new();
    let (trial, held, _) = switched(&lab, "B", 30, 60).await;
    lab.power_cycle("cortex");
    let mut late = Trial::new(&lab, "cortex", &held.candidate, 10, 60).await;
    assert_ne!(late.facts.boot, trial.facts.boot);
    assert_eq!(late.facts.here, trial.facts.here);
    let status = held.status(&mut late.session).await;
    assert!(matches!(status, Err(SupervisorError::Gone)), "{status:?}");
    // What is left of it is a root, and the next run sweeps it.
    let next = late.hold().await.expect("held");
    assert!(
        next.swept.iter().any(|name| name.ends_with(&held.run)),
        "{:?}",
        next.swept
    );
    next.release(&mut late.session).await.expect("released");
    release_leftover(&mut late.session, &next.run)
        .await
        .expect("gone");
    lab.assert_nothing_left("cortex");
}
