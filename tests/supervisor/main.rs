//! Trials of the supervisor on real hosts. They need root and a running lab instance of their own:
//!
//!     NIXGATE_LAB=host1 tests/lab/lab up
//!     NIXGATE_LAB=host1 nsenter --net=/run/netns/nglab-host1 cargo test --test supervisor -- --ignored --test-threads=1
//!
//! Each trial begins on A and says in its name what it proves.

mod before;
mod connections;
mod lab;
mod reverts;
mod rules;

use std::time::{Duration, Instant};

use git_nixgate::host::state::Phase;
use git_nixgate::host::stc::Stc;
use git_nixgate::host::supervisor::{
    Held, HoldError, SupervisorError, Switched, boot_set, dry_activate, release_leftover, set_boot,
    store_record,
};
use git_nixgate::host::{Facts, Session, fresh};
use lab::{Lab, Trial};

fn path_list(lab: &Lab, toplevel: &str) -> Vec<String> {
    lab.sh("cortex", &format!("nix-store -qR {toplevel}"))
        .lines()
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn s0_13_and_s0_17_a_good_candidate_is_switched_committed_and_proven() {
    let lab = Lab::new();
    lab.reset("cortex");
    let b = lab.closure("cortex", "B");
    let mut trial = Trial::new(&lab, "cortex", &b, 10, 60).await;
    assert!(
        trial.facts.nixos_marker && trial.facts.missing_tools.is_empty(),
        "{:?}",
        trial.facts
    );
    let before = Session::counts();
    let clock = Instant::now();
    let held = trial.hold().await.expect("held");
    println!("hold: {} ms", clock.elapsed().as_millis());
    assert_eq!(held.state.phase, Phase::Holding);

    let clock = Instant::now();
    let closure = path_list(&lab, &b);
    println!("({} paths)", closure.len());
    let clock2 = Instant::now();
    let rehearsal = dry_activate(
        &mut trial.session,
        (&b, ""),
        (&closure, ""),
        Duration::from_secs(30),
    )
    .await
    .expect("ran");
    println!(
        "verify and dry-activate: {} ms ({:?})",
        clock2.elapsed().as_millis(),
        clock.elapsed()
    );
    assert!(rehearsal.closure_intact(), "{rehearsal:?}");
    assert_eq!(rehearsal.outcome, Some(Stc::Done));
    assert!(
        rehearsal.plan.stop.contains(&"app.service".to_owned()),
        "{rehearsal:?}"
    );

    let switched = held.switch(&mut trial.session).await.expect("switched");
    println!("switch: {} ms", switched.millis);
    assert_eq!(switched.outcome, Stc::Done, "{switched:?}");
    assert_eq!(switched.state.phase, Phase::Waiting);
    assert!(
        switched.stderr.contains("activating the configuration"),
        "{switched:?}"
    );

    let clock = Instant::now();
    let mut shell = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    println!("fresh: {} ms", clock.elapsed().as_millis());
    let clock = Instant::now();
    held.renew(&mut shell).await.expect("renewed");
    println!("renew: {} ms", clock.elapsed().as_millis());
    let clock = Instant::now();
    let committed = held.commit(&mut shell).await.expect("committed");
    println!("commit: {} ms", clock.elapsed().as_millis());
    assert_eq!(
        committed.state.system().disagreements(&committed.state.here),
        Vec::<String>::new()
    );
    assert_eq!(committed.generation, committed.generation_before.map(|n| n + 1));
    assert!(!committed.boot_unverified, "{committed:?}");

    let record = b"object\ntree\0binary\n".to_vec();
    store_record(
        &mut shell,
        "cortex",
        &record,
        Some(("20261120T000000Z-0123456789ab", &b)),
    )
    .await
    .expect("stored");
    let clock = Instant::now();
    let state = held.end(&mut shell).await.expect("ended");
    println!("end: {} ms", clock.elapsed().as_millis());
    assert!(state.settled);
    let after = Session::counts();
    println!(
        "remote commands: {}, connections: {}",
        after.commands - before.commands,
        after.connections - before.connections
    );

    let again = Trial::new(&lab, "cortex", &b, 10, 60).await;
    assert_eq!(again.facts.here.running.as_deref(), Some(b.as_str()));
    assert_eq!(again.facts.holder, None);
    assert_eq!(
        again
            .facts
            .roots
            .get("cortex/20261120T000000Z-0123456789ab")
            .map(String::as_str),
        Some(b.as_str())
    );
    assert_eq!(again.facts.record().as_deref(), Some(record.as_slice()));
    lab.assert_nothing_left("cortex");
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn s3_2_a_second_hold_names_the_holder_and_silence_frees_the_lock() {
    let lab = Lab::new();
    lab.reset("cortex");
    let b = lab.closure("cortex", "B");
    let first = Trial::new(&lab, "cortex", &b, 4, 60).await;
    let second = Trial::new(&lab, "cortex", &b, 4, 60).await;
    let held = first.hold().await.expect("held");
    match second.hold().await {
        Err(HoldError::Busy(Some(holder))) => {
            assert_eq!(holder.run, held.run);
            assert_eq!(holder.who, "Ann <ann@example.org>");
            assert_eq!(holder.commit, "0123456789abcdef");
        }
        other => panic!("{other:?}"),
    }
    let seen = Trial::new(&lab, "cortex", &b, 4, 60).await;
    assert_eq!(seen.facts.holder.map(|holder| holder.run), Some(held.run.clone()));
    // No word from the first operator any more.
    let state = lab.wait_state("cortex", &held.run, &["released"], 10);
    assert!(state.contains("reason=the lease ended in silence"), "{state}");
    let held = second.hold().await.expect("the lock is free");
    held.release(&mut &second.session).await.expect("released");
    release_leftover(&mut &second.session, &held.run)
        .await
        .expect("gone");
    lab.assert_nothing_left("cortex");
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_host_that_changed_since_preflight_is_not_held() {
    let lab = Lab::new();
    lab.reset("cortex");
    let b = lab.closure("cortex", "B");
    let trial = Trial::new(&lab, "cortex", &b, 10, 60).await;
    lab.sh("cortex", &format!("{b}/bin/switch-to-configuration test"));
    match trial.hold().await {
        Err(HoldError::Changed { what, .. }) => assert!(what[0].starts_with("running was"), "{what:?}"),
        other => panic!("{other:?}"),
    }
    // It is let go at once, and nothing of it stays.
    let run = &trial.plan.run;
    let look = format!(
        "ls -d /run/nixgate/{run} /nix/var/nix/gcroots/nixgate/+tmp/{run} 2>/dev/null; flock -n /run/nixgate/lock echo free"
    );
    assert_eq!(lab.try_sh("cortex", &look).trim(), "free");
}

/// Holds and switches; the candidate then runs and the lease counts.
async fn switched(lab: &Lab, variant: &str, lease: u64, activate: u64) -> (Trial, Held, Switched) {
    lab.reset("cortex");
    let candidate = lab.closure("cortex", variant);
    let mut trial = Trial::new(lab, "cortex", &candidate, lease, activate).await;
    let held = trial.hold().await.expect("held");
    let switched = held.switch(&mut trial.session).await.expect("switched");
    (trial, held, switched)
}

/// The host is on A with everything that ran before, and nothing of ours is left.
fn assert_back(lab: &Lab, facts: &Facts) {
    assert_eq!(Some(lab.running("cortex")), facts.here.running);
    let down = lab.try_sh(
        "cortex",
        "systemctl is-active app sshd worker lone.socket sock.socket tick.timer",
    );
    assert_eq!(
        down.trim().lines().filter(|line| *line == "active").count(),
        6,
        "{down}"
    );
    assert_eq!(
        lab.try_sh("cortex", "systemctl is-system-running").trim(),
        "running"
    );
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn another_tool_cannot_switch_while_we_wait() {
    let lab = Lab::new();
    let (trial, held, _) = switched(&lab, "B", 20, 60).await;
    let c = lab.closure("cortex", "C");
    let said = lab.try_sh(
        "cortex",
        &format!("{c}/bin/switch-to-configuration test; echo status $?"),
    );
    assert!(
        said.contains("Could not acquire lock") && said.contains("status 11"),
        "{said}"
    );
    // And when somebody goes around the lock, the commit is refused and the revert keeps its hands off.
    lab.sh("cortex", &format!("ln -sfn {c} /run/current-system"));
    let mut shell = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    match held.commit(&mut shell).await {
        Err(SupervisorError::Refused { why, state }) => {
            assert!(
                why.contains("running is") && state.phase == Phase::Waiting,
                "{why}"
            );
        }
        other => panic!("{other:?}"),
    }
    let reverted = held.revert(&mut shell).await.expect("an answer");
    assert!(
        !reverted.back && reverted.state.phase == Phase::RevertFailed,
        "{reverted:?}"
    );
    assert!(
        reverted
            .state
            .reasons
            .iter()
            .any(|reason| reason.contains("hands off")),
        "{reverted:?}"
    );
    assert_eq!(lab.running("cortex"), c);
    held.end(&mut shell).await.expect("ended");
    drop(trial);
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn s3_1_a_switch_outlives_every_ssh_process_and_is_reattached() {
    let lab = Lab::new();
    lab.reset("cortex");
    let candidate = lab
        .run(&["closure", "cortex", "Bslow", "activation=\"sleep 6\""])
        .trim()
        .to_owned();
    let mut trial = Trial::new(&lab, "cortex", &candidate, 10, 60).await;
    let held = trial.hold().await.expect("held");
    let run = held.run.clone();
    let killer = tokio::task::spawn_blocking(move || {
        let lab = Lab::new();
        lab.wait_state("cortex", &run, &["switching"], 10);
        std::thread::sleep(Duration::from_secs(1));
        lab.try_sh("cortex", "pkill -KILL -f '[s]shd-session|[s]shd:'");
    });
    let switched = held.switch(&mut trial.session).await.expect("an end");
    killer.await.expect("killed");
    println!("{:?} {} ms", switched.outcome, switched.millis);
    assert_eq!(switched.state.phase, Phase::Waiting, "{switched:?}");
    assert!(
        switched.stderr.contains("activating the configuration"),
        "{switched:?}"
    );
    let mut shell = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    assert!(held.revert(&mut shell).await.expect("an answer").back);
    held.end(&mut shell).await.expect("ended");
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_specialisation_runs_and_its_toplevel_is_committed() {
    let lab = Lab::new();
    lab.reset("cortex");
    let candidate = lab.closure("cortex", "Bspecial");
    let mut trial = Trial::new(&lab, "cortex", &candidate, 20, 60).await;
    trial.plan.specialisation = Some("debug".into());
    let inner = lab
        .sh("cortex", &format!("readlink -f {candidate}/specialisation/debug"))
        .trim()
        .to_owned();
    let held = trial.hold().await.expect("held");
    let switched = held.switch(&mut trial.session).await.expect("switched");
    assert_eq!(
        switched.state.here.running.as_deref(),
        Some(inner.as_str()),
        "{switched:?}"
    );
    let mut shell = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    let committed = held.commit(&mut shell).await.expect("committed");
    assert_eq!(
        committed.state.system().disagreements(&committed.state.here),
        Vec::<String>::new()
    );
    held.end(&mut shell).await.expect("ended");
    // From there the way back starts at the specialisation.
    let a = lab.closure("cortex", "A");
    let mut trial = Trial::new(&lab, "cortex", &a, 20, 60).await;
    assert_eq!(trial.facts.here.running.as_deref(), Some(inner.as_str()));
    let held = trial.hold().await.expect("held");
    held.switch(&mut trial.session).await.expect("switched");
    assert!(held.revert(&mut shell).await.expect("an answer").back);
    assert_eq!(lab.running("cortex"), inner);
    held.end(&mut shell).await.expect("ended");
    lab.reset("cortex");
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_new_system_may_be_left_running_without_a_commit() {
    let lab = Lab::new();
    let (trial, held, _) = switched(&lab, "B", 5, 60).await;
    let mut shell = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    assert_eq!(held.leave(&mut shell).await.expect("left").phase, Phase::Released);
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(lab.running("cortex"), held.candidate);
    let profile = lab.sh("cortex", "readlink -f /nix/var/nix/profiles/system");
    assert_eq!(Some(profile.trim().to_owned()), trial.facts.here.profile);
    release_leftover(&mut shell, &held.run).await.expect("gone");
    lab.assert_nothing_left("cortex");
    lab.reset("cortex");
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn the_next_boot_is_set_and_a_failing_loader_takes_it_back() {
    let lab = Lab::new();
    lab.reset("cortex");
    let (good, bad) = (lab.closure("cortex", "B100"), lab.closure("cortex", "Bboot"));
    let minute = Duration::from_secs(60);
    let mut trial = Trial::new(&lab, "cortex", &bad, 20, 60).await;
    let held = trial.hold().await.expect("held");
    // Nothing was begun, so there is nothing to wait for.
    assert!(matches!(
        boot_set(&mut trial.session, &held.run, minute).await,
        Ok(None)
    ));
    let failed = set_boot(&mut trial.session, &held, ("", false), minute)
        .await
        .expect("an answer");
    assert_eq!(failed.outcome, Stc::BootLoader);
    assert_eq!(failed.here, trial.facts.here);
    let told = boot_set(&mut trial.session, &held.run, minute)
        .await
        .expect("an answer")
        .expect("it was set");
    assert_eq!((told.outcome, told.here), (Stc::BootLoader, failed.here));
    held.end(&mut trial.session).await.expect("let go");
    let mut trial = Trial::new(&lab, "cortex", &good, 20, 60).await;
    let previous = trial.plan.previous().to_owned();
    let held = trial.hold().await.expect("held");
    let set = set_boot(&mut trial.session, &held, ("", false), minute)
        .await
        .expect("an answer");
    held.end(&mut trial.session).await.expect("let go");
    assert_eq!(set.outcome, Stc::Done, "{set:?}");
    assert_eq!(set.here.boot_default.path(), Some(good.as_str()));
    assert_eq!(set.here.running.as_deref(), Some(previous.as_str()));
    assert!(!set.oneshot);
    lab.power_cycle("cortex");
    assert_eq!(lab.running("cortex"), good);
    // The other init interface does not go away without a reboot.
    lab.sh("cortex", &format!("nix-env -p /nix/var/nix/profiles/system --set {previous}; {previous}/bin/switch-to-configuration boot"));
    lab.power_cycle("cortex");
    lab.reset("cortex");
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn s3_4_a_path_whose_files_are_gone_is_named_and_nothing_runs() {
    let lab = Lab::new();
    lab.reset("cortex");
    let b = lab.closure("cortex", "B");
    let mut trial = Trial::new(&lab, "cortex", &b, 10, 60).await;
    let closure = path_list(&lab, &b);
    let victim = closure
        .iter()
        .find(|path| path.contains("ripgrep"))
        .expect("ripgrep")
        .clone();
    lab.sh("cortex", &format!("mv {victim} /nix/store/.kept"));
    let minute = Duration::from_secs(60);
    let broken = dry_activate(&mut trial.session, (&b, ""), (&closure, ""), minute)
        .await
        .expect("an answer");
    lab.sh("cortex", &format!("mv /nix/store/.kept {victim}"));
    assert_eq!(broken.missing_files, [victim]);
    assert_eq!(broken.outcome, None);
    let mut unknown = closure.clone();
    unknown.push("/nix/store/00000000000000000000000000000000-nothing".into());
    let broken = dry_activate(&mut trial.session, (&b, ""), (&unknown, ""), minute)
        .await
        .expect("an answer");
    assert_eq!(
        broken.invalid,
        ["/nix/store/00000000000000000000000000000000-nothing"]
    );
}
