//! Trials of connections: how they fail, as whom they run, and what they leave behind.

use std::time::Duration;

use git_nixgate::host::probe::Icmp;
use git_nixgate::host::{
    ConnectClass, Endpoint, HostError, Privilege, Probe, RunDir, Script, Secret, Session, Sudo, SudoError,
    fresh, tcp_probe,
};

use super::lab::{Lab, until};

const SECOND: Duration = Duration::from_secs(1);

/// How opening a session and running one script ends.
async fn class(endpoint: &Endpoint) -> ConnectClass {
    let dir = RunDir::new().expect("a directory");
    let session = match Session::open(endpoint, &dir).await {
        Err(error) => return error.class,
        Ok(session) => session,
    };
    match session.run(&Script::new(":"), Privilege::User, 10 * SECOND).await {
        Err(HostError::Connect(error)) => error.class,
        other => panic!("{other:?}"),
    }
}

/// The same over a master and over a fresh connection. What hangs here hangs for ever: that there is an answer shows
/// that it was not waited for.
async fn assert_class(endpoint: &Endpoint, expected: ConnectClass) {
    assert_eq!(class(endpoint).await, expected);
    let error = fresh(endpoint).await.expect_err("no shell");
    assert_eq!(error.class, expected, "fresh: {:?}", error.lines);
    println!("{expected:?}: {}", error.failure("cortex"));
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn s0_3_every_way_not_to_get_in_has_its_own_message_and_no_prompt() {
    let lab = Lab::new();
    let good = lab.endpoint("cortex");
    let with = |lines: &str| {
        let mut endpoint = good.clone();
        endpoint.ssh_options = vec!["-F".into(), lab.config_with(lines)];
        endpoint
    };

    let stranger = lab.ssh_dir().join("stranger");
    std::fs::write(&stranger, lab.sh("desk", "cat /home/op/.ssh/stranger")).expect("written");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&stranger, private).expect("mode");
    // ssh collects IdentityFile lines, so the good one is taken out.
    let config = std::fs::read_to_string(lab.config_with(""))
        .expect("read")
        .replace("/id_ed25519", "/stranger");
    let path = lab.config_with("");
    std::fs::write(&path, config).expect("written");
    let mut wrong_key = good.clone();
    wrong_key.ssh_options = vec!["-F".into(), path];
    assert_class(&wrong_key, ConnectClass::Auth).await;

    let known = std::fs::read_to_string(lab.ssh_dir().join("known_hosts")).expect("read");
    let orion = known
        .lines()
        .find(|line| line.starts_with("orion"))
        .expect("orion's key");
    let other = lab.ssh_dir().join("known_other");
    std::fs::write(&other, orion.replace("orion,10.77.0.21", "cortex")).expect("written");
    let file = format!("Host cortex\n  UserKnownHostsFile {}\n", other.display());
    assert_class(&with(&file), ConnectClass::HostKeyChanged).await;
    assert_class(
        &with("Host cortex\n  UserKnownHostsFile /dev/null\n"),
        ConnectClass::HostKeyUnknown,
    )
    .await;

    assert_class(
        &Endpoint {
            host: Endpoint::ssh("x", "no.such.host.invalid").host,
            ..good.clone()
        },
        ConnectClass::Unresolved,
    )
    .await;
    assert_class(&with("Host cortex\n  Port 2222\n"), ConnectClass::Refused).await;

    lab.sh(
        "cortex",
        "cp /etc/passwd /run/passwd.kept; usermod -s /usr/sbin/nologin jarvis",
    );
    assert_class(&good, ConnectClass::NoLogin).await;
    lab.sh("cortex", "usermod -s /bin/bash jarvis");

    lab.sh(
        "cortex",
        "cp --remove-destination $(readlink -f /etc/ssh/sshd_config) /etc/ssh/sshd_config
         echo 'ForceCommand sleep infinity' >>/etc/ssh/sshd_config; systemctl restart sshd",
    );
    assert_class(&good, ConnectClass::Hang).await;
    lab.sh(
        "cortex",
        "sed -i /ForceCommand/d /etc/ssh/sshd_config; systemctl restart sshd",
    );
    lab.reset("cortex");

    lab.run(&["cut", "cortex"]);
    let late = class(&good).await;
    lab.run(&["heal", "cortex"]);
    assert!(
        matches!(late, ConnectClass::Timeout | ConnectClass::NoRoute),
        "{late:?}"
    );
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn s0_2_the_probe_decides_on_tcp_and_icmp_is_advice() {
    let lab = Lab::new();
    let endpoint = lab.endpoint("cortex");
    let nft = |rule: &str| {
        lab.sh(
            "cortex",
            &format!(
            "nft add table inet trial; nft add chain inet trial in '{{ type filter hook input priority -5; }}'
             nft add rule inet trial in {rule}"
        ),
        );
    };
    assert!(matches!(
        tcp_probe(&endpoint).await,
        Probe::Passed { probes: 1, .. }
    ));
    nft("icmp type echo-request drop");
    let probe = tcp_probe(&endpoint).await;
    assert!(
        matches!(
            probe,
            Probe::Passed {
                icmp: Icmp::Silent | Icmp::Unknown,
                ..
            }
        ),
        "{probe:?}"
    );
    nft("tcp dport 22 drop");
    let probe = tcp_probe(&endpoint).await;
    lab.sh("cortex", "nft delete table inet trial");
    assert!(
        matches!(
            probe,
            Probe::Failed {
                class: ConnectClass::Timeout,
                ..
            }
        ),
        "{probe:?}"
    );
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn s2_6_a_proxy_in_ssh_config_is_honoured() {
    let lab = Lab::new();
    let config = lab.config_with("");
    let mut endpoint = lab.endpoint("brain");
    endpoint.ssh_options = vec![
        "-F".into(),
        lab.config_with(&format!(
            "Host brain\n  HostName 10.77.0.20\n  HostKeyAlias cortex\n  User jarvis\n  \
             ProxyCommand ssh -F {config} -W %h:%p -l build forge\n"
        )),
    ];
    let probe = tcp_probe(&endpoint).await;
    assert_eq!(
        probe,
        Probe::Skipped {
            reason: "reached through ssh's proxycommand".into()
        }
    );
    let dir = RunDir::new().expect("a directory");
    let session = Session::open(&endpoint, &dir).await.expect("through the proxy");
    let output = session
        .run(&Script::new("hostname"), Privilege::Root, 10 * SECOND)
        .await
        .expect("ran");
    assert_eq!(output.text().trim(), "cortex");
    fresh(&endpoint).await.expect("through the proxy");
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn s2_5_and_s3_15_sudo_with_a_password_takes_it_and_nobody_else_sees_it() {
    let lab = Lab::new();
    lab.reset("cortex");
    let marked = |lab: &Lab, rule: &str| {
        lab.sh(
            "cortex",
            &format!(
                "echo 'jarvis:open sesame' | chpasswd
             sed 's/^jarvis .*/{rule}/' /etc/sudoers >/run/sudoers.new && cat /run/sudoers.new >/etc/sudoers
             visudo -c >/dev/null"
            ),
        );
    };
    let mut endpoint = lab.endpoint("cortex");
    let dir = RunDir::new().expect("a directory");
    let id = Script::new("id -u; ps -eo args | grep -c '[o]pen sesame'");
    let as_root = async |endpoint: &Endpoint| {
        let session = Session::open(endpoint, &dir).await.expect("a session");
        let result = session.run(&id, Privilege::Root, 10 * SECOND).await;
        session.close().await;
        result
    };

    marked(&lab, "jarvis ALL=(ALL:ALL) ALL");
    match as_root(&endpoint).await {
        Err(error @ HostError::Sudo(SudoError::NeedsPassword { .. })) => {
            println!("{}", error.failure("cortex"))
        }
        other => panic!("{other:?}"),
    }
    endpoint.sudo = Sudo::Ask;
    endpoint.password = Some(Secret::new("open sesame"));
    assert_eq!(as_root(&endpoint).await.expect("root").text().as_ref(), "0\n0\n");
    let mut shell = fresh(&endpoint).await.expect("fresh");
    assert_eq!(
        shell
            .run(&id, Privilege::Root, 10 * SECOND)
            .await
            .expect("root")
            .text()
            .as_ref(),
        "0\n0\n"
    );

    endpoint.password = Some(Secret::new("abracadabra"));
    let wrong = as_root(&endpoint).await;
    assert!(
        matches!(wrong, Err(HostError::Sudo(SudoError::WrongPassword { .. }))),
        "{wrong:?}"
    );
    assert!(as_root(&lab.endpoint("cortex")).await.is_err());

    // Without a timestamp sudo asks each time: the password and the program share one stdin.
    endpoint.password = Some(Secret::new("open sesame"));
    marked(&lab, "Defaults timestamp_timeout=0\\njarvis ALL=(ALL:ALL) ALL");
    assert_eq!(as_root(&endpoint).await.expect("root").text().as_ref(), "0\n0\n");

    // A user who needs none: it is never sent to sudo, let alone run.
    lab.reset("cortex");
    marked(&lab, "jarvis ALL=(ALL:ALL) NOPASSWD: ALL");
    assert_eq!(as_root(&endpoint).await.expect("root").text().as_ref(), "0\n0\n");
    let seen = lab.try_sh(
        "cortex",
        "journalctl -b --no-pager | grep -c -e 'open sesame' -e abracadabra",
    );
    // chpasswd above is the lab's own doing and logs nothing.
    assert_eq!(seen.trim(), "0");

    marked(&lab, "jarvis ALL=(ALL:ALL) \\/bin\\/true");
    let refused = as_root(&lab.endpoint("cortex")).await;
    println!("{refused:?}");
    assert!(matches!(refused, Err(HostError::Sudo(_))), "{refused:?}");
    lab.reset("cortex");
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn start_up_files_that_print_and_other_login_shells_do_not_matter() {
    let lab = Lab::new();
    lab.sh("cortex", "cp /home/jarvis/.bashrc /run/bashrc.kept 2>/dev/null; sed -i '1i echo WELCOME; echo careful >&2' /home/jarvis/.bashrc || printf 'echo WELCOME\\necho careful >&2\\n' >/home/jarvis/.bashrc; chown jarvis /home/jarvis/.bashrc");
    let dir = RunDir::new().expect("a directory");
    let session = Session::open(&lab.endpoint("cortex"), &dir)
        .await
        .expect("a session");
    for _ in 0..3 {
        let output = session
            .run(&Script::command(["echo", "a  b"]), Privilege::User, 10 * SECOND)
            .await
            .expect("ran");
        assert_eq!(
            (output.text().as_ref(), output.stderr.as_str().trim()),
            ("a  b\n", "")
        );
    }
    let mut shell = fresh(&lab.endpoint("cortex")).await.expect("fresh");
    for number in 0..5 {
        let script = Script::new("echo \"$1\"; exit \"$1\"").arg(number.to_string());
        let output = shell
            .run(&script, Privilege::Root, 10 * SECOND)
            .await
            .expect("ran");
        assert_eq!(
            (output.status, output.text().trim()),
            (number, number.to_string().as_str())
        );
    }
    lab.sh(
        "cortex",
        "cp /run/bashrc.kept /home/jarvis/.bashrc 2>/dev/null || rm -f /home/jarvis/.bashrc",
    );
}

/// The operator that the next trial kills.
#[tokio::test]
#[ignore = "started by the trial below"]
async fn victim() {
    let Ok(path) = std::env::var("NIXGATE_VICTIM") else {
        return;
    };
    let lab = Lab::new();
    let dir = RunDir::new().expect("a directory");
    let session = Session::open(&lab.endpoint("cortex"), &dir)
        .await
        .expect("a session");
    std::fs::write(path, dir.path().display().to_string()).expect("written");
    // Until it is killed, or whoever would kill it is gone.
    let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
    drop(session);
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_killed_operator_leaves_no_ssh_master_and_no_directory() {
    let note = tempfile::NamedTempFile::new().expect("a file");
    let mut victim = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "connections::victim"])
        .env("NIXGATE_VICTIM", note.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("started");
    let dir = until("the victim has its session", || {
        let text = std::fs::read_to_string(note.path()).expect("read");
        (!text.is_empty()).then_some(text)
    });
    // Seconds since the start of each ssh that works in that directory.
    let masters = || -> Vec<u64> {
        let output = std::process::Command::new("ps")
            .args(["-eo", "etimes=,args="])
            .output()
            .expect("ps");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = text
            .lines()
            .filter(|line| line.contains("ssh") && line.contains(&dir));
        lines
            .map(|line| {
                line.split_whitespace()
                    .next()
                    .and_then(|age| age.parse().ok())
                    .expect("an age")
            })
            .collect()
    };
    // Older than ControlPersist: the held connection keeps it.
    until("the master has lived on", || match masters()[..] {
        [age] => (age > 8).then_some(()),
        ref other => panic!("one master, not {other:?}"),
    });
    victim.kill().expect("killed");
    victim.wait().expect("gone");
    until("the master has gone", || masters().is_empty().then_some(()));
    assert!(std::path::Path::new(&dir).exists());
    drop(RunDir::new().expect("the next run"));
    assert!(!std::path::Path::new(&dir).exists());
}

/// A shell that sudo had made root's is gone, and sudo lets nobody become root any more: what comes next for root is run
/// by nobody, least of all by the login's own shell.
#[tokio::test]
#[ignore = "needs the lab"]
async fn s2_5_nobody_reads_on_in_the_place_of_roots_shell() {
    let lab = Lab::new();
    let endpoint = lab.endpoint("cortex");
    let dir = RunDir::new().expect("a directory");
    let mut session = Session::open(&endpoint, &dir).await.expect("a session");
    let who = Script::new("id -u");
    let root = session
        .run(&who, Privilege::Root, 10 * SECOND)
        .await
        .expect("ran");
    assert_eq!(root.text().trim(), "0");
    // It waits for its next script; the login's shell waits for it.
    let killed = lab.sh(
        "cortex",
        "mv /usr/bin/sudo /usr/bin/sudo.away; n=0; for p in $(pgrep -x sudo); do pkill -KILL -P \"$p\" && n=$((n + 1)); done; echo $n",
    );
    assert_eq!(killed.trim(), "1", "root's shells that were killed");
    let next = session.run(&who, Privilege::Root, 10 * SECOND).await;
    lab.sh("cortex", "mv /usr/bin/sudo.away /usr/bin/sudo");
    assert!(
        next.as_ref().is_err_and(HostError::is_link),
        "{:?}",
        next.map(|output| output.text().into_owned())
    );
    session.reopen().await.expect("again");
    let root = session
        .run(&who, Privilege::Root, 10 * SECOND)
        .await
        .expect("ran");
    assert_eq!(root.text().trim(), "0");
    session.close().await;
}
