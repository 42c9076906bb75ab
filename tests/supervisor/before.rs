//! Trials of what ran before and should run again after a way back: connections that end, jobs that people start, disks
//! that they mount, and what the candidate took along.

use git_nixgate::host::Endpoint;
use git_nixgate::host::fresh;
use git_nixgate::host::state::Phase;

use super::assert_back;
use super::lab::{Lab, Trial, until};

/// Units under /run, which switch-to-configuration leaves alone.
fn units(lab: &Lab, files: &[(&str, &str)]) {
    for (name, text) in files {
        lab.sh(
            "cortex",
            &format!("cat >/run/systemd/system/{name} <<'END'\n{text}\nEND"),
        );
    }
    lab.sh("cortex", "systemctl daemon-reload");
}

fn take_away(lab: &Lab, names: &[&str]) {
    let names = names.join(" ");
    lab.try_sh(
        "cortex",
        &format!("systemctl stop {names}; cd /run/systemd/system && rm -f {names}; systemctl daemon-reload"),
    );
}

fn is_active(lab: &Lab, unit: &str) -> bool {
    lab.try_sh("cortex", &format!("systemctl is-active {unit}"))
        .trim()
        == "active"
}

/// A socket starts one sshd for each connection, as `services.openssh.startWhenNeeded` does: on a port of its own here, so
/// that the host stays within reach when its units go.
const BY_SOCKET: [(&str, &str); 2] = [
    ("onessh.socket", "[Socket]\nListenStream=2222\nAccept=yes\n"),
    (
        "onessh@.service",
        "[Service]\nExecStart=-/usr/sbin/sshd -i -f /etc/ssh/sshd_config\nStandardInput=socket\nKillMode=process\n",
    ),
];

fn by_socket(lab: &Lab) -> Endpoint {
    let mut endpoint = lab.endpoint("cortex");
    endpoint.ssh_options.extend(["-o".into(), "Port=2222".into()]);
    endpoint
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn n1_connections_that_end_are_not_missed_and_no_host_reboots_for_them() {
    let lab = Lab::new();
    lab.reset("cortex");
    units(&lab, &BY_SOCKET);
    lab.sh("cortex", "systemctl start onessh.socket");
    let b = lab.closure("cortex", "B");
    let instances = || {
        let list = "systemctl list-units --all --no-legend --plain 'onessh@*' | wc -l";
        lab.sh("cortex", list).trim().to_owned()
    };
    for silence in [false, true] {
        let mut trial = Trial::new_at(by_socket(&lab), "cortex", &b, 6, 60).await;
        trial.plan.reboot_on_failed_revert = true;
        // Hosts of the lab are containers that can reboot all the same.
        trial.plan.container = None;
        let machine = lab.init("cortex");
        assert_ne!(instances(), "0");
        let held = trial.hold().await.expect("held");
        held.switch(&mut trial.session).await.expect("switched");
        let facts = trial.facts.clone();
        trial.session.close().await;
        // Its connection has ended, and systemd has forgotten the instance.
        until("no instance", || (instances() == "0").then_some(()));
        if silence {
            let state = lab.wait_state("cortex", &held.run, &["reverted", "revert-failed"], 60);
            assert!(state.contains("state=reverted"), "{state}");
            until("its end", || {
                lab.state("cortex", &held.run).contains("settled=1").then_some(())
            });
        } else {
            let mut shell = fresh(&lab.endpoint("cortex")).await.expect("fresh");
            let reverted = held.revert(&mut shell).await.expect("an answer");
            assert_eq!(reverted.state.phase, Phase::Reverted, "{reverted:?}");
            held.end(&mut shell).await.expect("ended");
        }
        assert_back(&lab, &facts);
        assert_eq!(lab.init("cortex"), machine, "it has rebooted");
    }
    take_away(&lab, &["onessh.socket", "onessh@.service"]);
}

/// Runs until its file is there, and says that it ran.
fn job(name: &str) -> String {
    format!(
        "[Service]\nExecStart=/bin/sh -c 'echo {name} >>/run/jobs; until [ -e /run/end-{name} ]; do sleep 0.05; done'\n"
    )
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn n2_jobs_run_once_and_what_the_candidate_stopped_runs_again() {
    let lab = Lab::new();
    lab.reset("cortex");
    lab.try_sh("cortex", "rm -f /run/jobs /run/end-* /run/fits; touch /run/fits");
    let set_up =
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'echo setup >>/run/jobs'\n";
    let fits = "[Unit]\nConditionPathExists=/run/fits\n[Service]\nExecStart=/bin/sleep infinity\n";
    let refuses = "[Unit]\nRefuseManualStart=yes\n[Service]\nExecStart=/bin/sleep infinity\n";
    let starter = "[Unit]\nWants=refuses.service\n[Service]\nType=oneshot\nExecStart=/bin/true\n";
    // No automount: these hosts have no autofs.
    let mount = "[Mount]\nWhat=tmpfs\nWhere=/run/disk\nType=tmpfs\n";
    let files = [
        ("early.service", job("early")),
        ("late.service", job("late")),
        ("stopped.service", job("stopped")),
        ("taken.service", job("taken")),
        ("setup.service", set_up.into()),
        ("fits.service", fits.into()),
        ("refuses.service", refuses.into()),
        ("starter.service", starter.into()),
        ("run-disk.mount", mount.into()),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    take_away(&lab, &names);
    units(&lab, &files);
    lab.sh(
        "cortex",
        "systemctl start early late stopped taken setup fits starter run-disk.mount",
    );
    assert!(is_active(&lab, "run-disk.mount") && is_active(&lab, "refuses.service"));
    // A job ends while the candidate is activated, which takes the others along.
    let candidate = lab
        .run(&[
            "closure",
            "cortex",
            "Bslow",
            "activation=\"touch /run/end-early; rm -f /run/fits; while systemctl is-active --quiet early; do sleep 0.1; done; systemctl stop taken setup fits refuses\"",
        ])
        .trim()
        .to_owned();
    let mut trial = Trial::new(&lab, "cortex", &candidate, 30, 60).await;
    let held = trial.hold().await.expect("held");
    let switched = held.switch(&mut trial.session).await.expect("switched");
    assert_eq!(switched.state.phase, Phase::Waiting, "{switched:?}");
    // Another one ends while it runs, somebody stops the third, and a disk is unmounted.
    lab.sh(
        "cortex",
        "touch /run/end-late; systemctl stop stopped; umount /run/disk",
    );
    until("the job has ended", || (!is_active(&lab, "late")).then_some(()));
    let mut shell = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    let reverted = held.revert(&mut shell).await.expect("an answer");
    assert_eq!(reverted.state.phase, Phase::Reverted, "{reverted:?}");
    held.end(&mut shell).await.expect("ended");
    let mut ran: Vec<String> = lab
        .sh("cortex", "cat /run/jobs")
        .lines()
        .map(str::to_owned)
        .collect();
    ran.sort();
    assert_eq!(ran, ["early", "late", "setup", "stopped", "taken", "taken"]);
    for (unit, active) in [
        ("early", false),
        ("late", false),
        ("stopped", false),
        ("taken", true),
        // A finished job is not done again.
        ("setup", false),
        // Its condition does not hold any more.
        ("fits", false),
        ("refuses", true),
        ("run-disk.mount", false),
    ] {
        assert_eq!(is_active(&lab, unit), active, "{unit}");
    }
    assert_back(&lab, &trial.facts);
    lab.assert_nothing_left("cortex");
    take_away(&lab, &names);
}

/// `nixos-rebuild switch` sets the profile, and then finds the lock taken.
#[tokio::test]
#[ignore = "needs the lab"]
async fn n8_a_profile_that_somebody_set_in_the_lease_is_no_reason_to_reboot() {
    let lab = Lab::new();
    lab.reset("cortex");
    let (b, c) = (lab.closure("cortex", "B"), lab.closure("cortex", "C"));
    let mut trial = Trial::new(&lab, "cortex", &b, 4, 60).await;
    trial.plan.reboot_on_failed_revert = true;
    trial.plan.container = None;
    let machine = lab.init("cortex");
    let held = trial.hold().await.expect("held");
    held.switch(&mut trial.session).await.expect("switched");
    let rebuilt = lab.try_sh(
        "cortex",
        &format!(
            "nix-env -p /nix/var/nix/profiles/system --set {c}; {c}/bin/switch-to-configuration switch; echo status $?"
        ),
    );
    assert!(rebuilt.contains("status 11"), "{rebuilt}");
    let state = until("its end", || {
        let state = lab.state("cortex", &held.run);
        state.contains("nobody is in contact").then_some(state)
    });
    let profile = format!("reason=the profile is {c} and was");
    assert!(
        state.contains("state=revert-failed") && state.contains(&profile),
        "{state}"
    );
    assert!(
        state.contains("a reboot would not mend this") && !state.contains("rebooting=1"),
        "{state}"
    );
    assert_back(&lab, &trial.facts);
    assert_eq!(lab.init("cortex"), machine, "it has rebooted");
    lab.reset("cortex");
}
