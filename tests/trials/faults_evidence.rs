//! What a run that failed leaves to be read, from git alone; and what is expected and no failure.

use std::time::Duration;

use crate::broken::says;
use crate::hand::{describe, desk, evidence, good, root};
use crate::infra::{CONFIG, configure, expect, host_state, refs, release, usual};
use crate::lab::{Lab, Output};

/// Commits a system with one more unit, a oneshot that does this.
#[track_caller]
fn with_unit(lab: &Lab, name: &str, more: &str, command: &str) {
    describe(
        lab,
        "cortex",
        &format!(
            r#"{{ units."{name}" = {{ wantedBy = [ "multi-user.target" ];
               text = "[Unit]\nDescription={name}\n[Service]\nType=oneshot\n{more}ExecStart={command}\n"; }}; }}"#
        ),
    );
}

/// The newest failed run: its id, and its ending.
#[track_caller]
fn newest(lab: &Lab) -> (String, serde_json::Value) {
    let out = expect(lab, 0, &["--json", "log", "cortex", "--failed", "-n", "1"]);
    let line: serde_json::Value = serde_json::from_str(out.stdout.trim()).expect("a line of JSON");
    let run = &line["runs"][0];
    let id = run["run"].as_str().expect("a run").to_owned();
    (id, run["ending"].clone())
}

#[track_caller]
fn shown(lab: &Lab, run: &str) -> Output {
    expect(lab, 0, &["show", run])
}

#[test]
fn s3_35_s3_12_a_failed_run_keeps_what_the_host_said_and_why() {
    let lab = usual("s3-35");
    release(&lab, "cortex");
    let (state, before) = (host_state(&lab, "cortex"), refs(&lab));

    with_unit(
        &lab,
        "noisy.service",
        "",
        "/bin/sh -c 'echo these are its last words; exit 3'",
    );
    let out = expect(&lab, 4, &["release", "cortex"]);
    says(
        &out,
        &["noisy.service: Result=exit-code", "these are its last words"],
    );
    let (unit, ending) = newest(&lab);
    assert_eq!(ending["reason"], "unit", "{ending}");
    assert_eq!(ending["gate"], "switch-test", "{ending}");

    // systemd takes the word of whoever kills for want of memory from the group's attribute, as systemd-oomd leaves it:
    // systemd.exec(5), `user.oomd_ooms`. The kernel's own killer needs a memory controller, which is not everywhere.
    root(
        &lab,
        "cortex",
        r#"cat >/usr/local/bin/hog <<'END'
#!/usr/bin/perl
open F, "<", "/proc/self/cgroup"; my ($own) = grep { /^0::/ } <F>; close F;
chomp $own; my $group = "/sys/fs/cgroup" . substr($own, 3);
for my $name ("user.oomd_ooms", "user.oomd_kill") {
    my $value = "1";
    syscall(188, $group, my $attribute = $name, $value, 1, 0) == 0 or die "setxattr $group: $!";
}
kill KILL => $$;
END
chmod +x /usr/local/bin/hog"#,
    );
    with_unit(&lab, "hog.service", "", "/usr/local/bin/hog");
    let out = expect(&lab, 4, &["release", "cortex"]);
    says(&out, &["hog.service: Result=oom-kill"]);
    let (oom, ending) = newest(&lab);
    assert_eq!(ending["reason"], "oom", "{ending}");

    with_unit(
        &lab,
        "endless.service",
        "TimeoutStartSec=2\n",
        "/bin/sh -c 'echo waiting for godot; exec sleep 60'",
    );
    expect(&lab, 4, &["release", "cortex"]);
    let (late, ending) = newest(&lab);
    assert_eq!(ending["reason"], "timeout", "{ending}");

    // From git alone.
    lab.cut("cortex");
    let failed = expect(&lab, 0, &["log", "cortex", "--failed"]);
    says(
        &failed,
        &["exit 4", "switch-test  unit", "switch-test  oom", "next: "],
    );
    let out = shown(&lab, &unit);
    says(
        &out,
        &[
            "exit 4 in switch-test, unit: ",
            "switch-test   failed",
            "the host said:",
            "Main PID",
            "these are its last words",
            "kernel log",
            "switch-to-configuration said:",
            "next: ",
        ],
    );
    says(
        &shown(&lab, &oom),
        &["exit 4 in switch-test, oom: ", "Result=oom-kill"],
    );
    says(&shown(&lab, &late), &["waiting for godot"]);
    lab.heal("cortex");
    assert_eq!((host_state(&lab, "cortex"), refs(&lab)), (state, before));
}

/// Whoever asks this port of the git server gets an answer with this status.
#[track_caller]
fn answering(lab: &Lab, status: &str) {
    root(
        lab,
        "git",
        &format!(
            r#"cat >/usr/local/bin/cache <<'END'
#!/usr/bin/perl
use IO::Socket::INET; $SIG{{PIPE}} = "IGNORE";
my $s = IO::Socket::INET->new(LocalPort => 8099, Listen => 50, ReuseAddr => 1) or die;
while (my $c = $s->accept) {{
    while (my $l = <$c>) {{ last if $l =~ /^\r?$/ }}
    print $c "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"; close $c;
}}
END
chmod +x /usr/local/bin/cache; systemd-run --quiet --unit=cache /usr/local/bin/cache"#
        ),
    );
    lab.wait_for("git", "ss -ltn | grep -q :8099", Duration::from_secs(10));
}

#[test]
fn s3_38_what_passes_by_itself_ends_no_release() {
    let lab = usual("s3-38");
    release(&lab, "cortex");

    // A cache that is too busy: Nix builds without it, and the record says so.
    answering(&lab, "429 Too Many Requests");
    root(
        &lab,
        "forge",
        "f=$(readlink -f /etc/nix/nix.conf); { cat $f; echo 'extra-substituters = http://10.77.0.12:8099'; \
         echo 'download-attempts = 1'; } >/tmp/nix.conf && rm /etc/nix/nix.conf && cp /tmp/nix.conf /etc/nix/nix.conf && \
         systemctl restart nix-daemon",
    );
    good(&lab, "cortex", 1);
    let record = release(&lab, "cortex");
    let warnings = evidence(&lab, &record)["predicate"]["warnings"].to_string();
    assert!(warnings.contains("HTTP error 429"), "{warnings}");
    root(&lab, "git", "systemctl stop cache");

    // The builder's way to the host is cut while it copies, and comes back.
    configure(
        &lab,
        &CONFIG.replace("host = \"forge\"", "host = \"forge\"\ncopy = \"direct\""),
    );
    root(
        &lab,
        "cortex",
        "nft add table inet trial && nft add chain inet trial in '{ type filter hook input priority -5; }' && \
         nft add rule inet trial in ip saddr 10.77.0.11 tcp dport 22 reject with tcp reset",
    );
    good(&lab, "cortex", 2);
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("trying again in", Duration::from_secs(60));
    root(&lab, "cortex", "nft delete table inet trial");
    let out = run.wait(Duration::from_secs(60)).expect("it ended");
    assert_eq!(out.status, 0, "{out}");
    says(&out, &["the connection was lost while copying"]);
    assert_eq!(
        desk(&lab, "git nixgate status cortex --live | grep -c DRIFT; :"),
        "0"
    );
}

#[test]
fn s1_13_a_builder_that_keeps_no_root_stands_in_the_record() {
    let lab = usual("no-root");
    release(&lab, "cortex");
    configure(&lab, &CONFIG.replace("soak = 0", "soak = 5"));
    good(&lab, "cortex", 1);
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("[5/5]", Duration::from_secs(60));
    let roots = "~build/.local/state/nixgate/roots/cortex";
    root(&lab, "forge", &format!("chmod a-w {roots}"));
    let out = run.wait(Duration::from_secs(60)).expect("it ended");
    assert_eq!(out.status, 0, "{out}");
    says(&out, &["no root on the builder: "]);
    let record = out.text().lines().last().expect("a record").to_owned();
    let warnings = evidence(&lab, &record)["predicate"]["warnings"].to_string();
    assert!(warnings.contains("no root on the builder"), "{warnings}");
    root(&lab, "forge", &format!("chmod u+w {roots}"));

    // As it should be: the root bears the record's name, and nothing is said.
    good(&lab, "cortex", 2);
    let record = release(&lab, "cortex");
    let leaf = record.rsplit('/').next().expect("a leaf");
    let kept = root(&lab, "forge", &format!("readlink {roots}/{leaf}"));
    assert_eq!(kept, lab.running_system("cortex"));
    let warnings = evidence(&lab, &record)["predicate"]["warnings"].to_string();
    assert!(!warnings.contains("builder"), "{warnings}");

    // A commit that fails leaves none.
    let all = || root(&lab, "forge", &format!("ls {roots}"));
    let before = all();
    configure(&lab, CONFIG);
    lab.variant("cortex", "Bboot");
    expect(&lab, 4, &["release", "cortex"]);
    assert_eq!(all(), before);
}

/// The run that ended just now is the first of the failed ones, also where the one before ended in the same second; its
/// class and its gate.
#[track_caller]
fn kept_as(lab: &Lab, out: &Output, reason: &str, gate: &str) {
    let run = out
        .stderr
        .split("(run ")
        .nth(1)
        .and_then(|rest| rest.split(')').next());
    let run = run.unwrap_or_else(|| panic!("no run: {out}"));
    let (first, ending) = newest(lab);
    assert_eq!(first, run, "{out}");
    assert_eq!(
        (&ending["reason"], &ending["gate"]),
        (&reason.into(), &gate.into()),
        "{out}"
    );
    let failed = expect(lab, 0, &["log", "cortex", "--failed", "-n", "1"]);
    says(&failed, &[run, gate, reason, "next: "]);
}

/// A fault by hand, and the class and gate that the failed run is kept with.
type Fault = (&'static str, &'static str, i32, fn(&Lab), fn(&Lab));

#[test]
fn s3_35_each_kind_of_failure_is_kept_by_its_class() {
    let lab = usual("s3-35-class");
    release(&lab, "cortex");
    let nothing: fn(&Lab) = |_| {};
    let faults: [Fault; 9] = [
        (
            "script",
            "switch-test",
            4,
            |lab| lab.variant("cortex", "Bact"),
            nothing,
        ),
        ("boot", "commit", 4, |lab| lab.variant("cortex", "Bboot"), nothing),
        (
            "check",
            "dry-activate",
            1,
            |lab| lab.variant("cortex", "Bpre"),
            nothing,
        ),
        (
            "eval",
            "build",
            1,
            |lab| describe(lab, "cortex", "{ version = nobody.knows; }"),
            nothing,
        ),
        (
            "build",
            "build",
            1,
            |lab| {
                describe(
                    lab,
                    "cortex",
                    r#"ctx: { etc.x = "${ctx.run "cheese" { } "echo out of cheese >&2; exit 3"}"; }"#,
                );
            },
            nothing,
        ),
        (
            "lock",
            "dry-activate",
            6,
            |lab| {
                good(lab, "cortex", 1);
                let lock = "/run/nixos/switch-to-configuration.lock";
                let hold = format!("systemd-run --quiet --unit=locker flock {lock} sleep 600");
                root(lab, "cortex", &hold);
                lab.wait_for(
                    "cortex",
                    &format!("! flock -n {lock} true"),
                    Duration::from_secs(10),
                );
            },
            |lab| drop(root(lab, "cortex", "systemctl stop locker")),
        ),
        (
            "disk",
            "preflight",
            1,
            |lab| drop(root(lab, "cortex", "mount -t tmpfs -o size=8m tmpfs /boot")),
            |lab| drop(root(lab, "cortex", "umount /boot")),
        ),
        (
            "auth",
            "preflight",
            1,
            |lab| configure(lab, &CONFIG.replace("jarvis", "nosudo")),
            |lab| configure(lab, CONFIG),
        ),
        (
            "link",
            "preflight",
            1,
            |lab| lab.cut("cortex"),
            |lab| lab.heal("cortex"),
        ),
    ];
    for (reason, gate, exit, inject, mend) in faults {
        inject(&lab);
        let out = expect(&lab, exit, &["release", "cortex"]);
        mend(&lab);
        kept_as(&lab, &out, reason, gate);
    }
}

#[test]
fn s3_35_what_was_refused_wanted_or_somebody_elses_is_kept_by_its_class() {
    let lab = usual("s3-35-refused");
    release(&lab, "cortex");
    good(&lab, "cortex", 1);

    configure(
        &lab,
        &CONFIG.replace("[preflight]", "[preflight]\nmemory-free = \"900GiB\""),
    );
    kept_as(
        &lab,
        &expect(&lab, 1, &["release", "cortex"]),
        "memory",
        "preflight",
    );
    configure(&lab, CONFIG);

    root(&lab, "git", "mv /srv/git/infra.git /srv/git/gone.git");
    kept_as(
        &lab,
        &expect(&lab, 1, &["release", "cortex"]),
        "remote",
        "preflight",
    );
    root(&lab, "git", "mv /srv/git/gone.git /srv/git/infra.git");

    root(
        &lab,
        "cortex",
        "mkdir -p /run/nixgate && printf 'run=living\\ntarget=cortex\\nwho=somebody\\ncommit=0\\nsince=1\\n' >/run/nixgate/holder && \
         systemd-run --quiet --unit=nixgate-living flock /run/nixgate/lock sleep infinity",
    );
    lab.wait_for(
        "cortex",
        "! flock -n /run/nixgate/lock true",
        Duration::from_secs(10),
    );
    kept_as(
        &lab,
        &expect(&lab, 6, &["release", "cortex"]),
        "busy",
        "preflight",
    );
    root(
        &lab,
        "cortex",
        "systemctl stop nixgate-living; rm /run/nixgate/holder",
    );

    // Switched by hand, for this boot only: a reset would boot something else.
    let runs = lab.running_system("cortex");
    let other = lab.closure("cortex", "C");
    root(
        &lab,
        "cortex",
        &format!("{other}/bin/switch-to-configuration test; :"),
    );
    assert_eq!(lab.running_system("cortex"), other);
    good(&lab, "cortex", 2);
    kept_as(
        &lab,
        &expect(&lab, 3, &["release", "cortex"]),
        "rule",
        "preflight",
    );
    root(
        &lab,
        "cortex",
        &format!("{runs}/bin/switch-to-configuration test; :"),
    );
    assert_eq!(lab.running_system("cortex"), runs);

    describe(
        &lab,
        "cortex",
        r#"ctx: { etc."slow" = "${ctx.run "slow-build" { } "sleep 60; echo done >$out"}"; }"#,
    );
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    // It begins to build before the host has been read.
    run.wait_for_stderr("\nbuild\n", Duration::from_secs(60));
    lab.wait_for("forge", "pgrep -f '[s]leep 60'", Duration::from_secs(60));
    expect(&lab, 0, &["cancel", "cortex"]);
    let out = run.wait(Duration::from_secs(60)).expect("it ended");
    assert_eq!(out.status, 1, "{out}");
    kept_as(&lab, &out, "cancelled", "build");
}

/// A copy that is killed, and what the builder's kernel says of it.
#[test]
fn s3_12_a_copy_that_the_kernel_killed_for_memory_is_kept_as_that() {
    let lab = usual("s3-12-copy");
    configure(
        &lab,
        &CONFIG.replace("host = \"forge\"", "host = \"forge\"\ncopy = \"direct\""),
    );
    release(&lab, "cortex");
    describe(
        &lab,
        "cortex",
        r#"ctx: { etc.big = "${ctx.run "big" { } "head -c 629145600 /dev/zero >$out"}"; }"#,
    );
    let killed = |log: &str| {
        // Hosts of the lab have no kernel log of their own: its program tells what a kernel's would.
        root(
            &lab,
            "forge",
            &format!(
                "printf '%s\\n' '#!/bin/sh' '{log}' >/usr/local/bin/dmesg && chmod 755 /usr/local/bin/dmesg"
            ),
        );
        let run = lab.spawn_nixgate("op", &["release", "cortex"]);
        lab.wait_for(
            "cortex",
            "[ \"$(stat -c %s /nix/store/*-big)\" -ge 1048576 ]",
            Duration::from_secs(90),
        );
        root(&lab, "forge", "pkill -KILL -u build -f 'nix.* copy '");
        let out = run.wait(Duration::from_secs(90)).expect("it ended");
        assert_eq!(out.status, 1, "{out}");
        root(&lab, "cortex", "rm -rf /nix/store/*-big /nix/store/*-big.lock");
        out
    };
    let line = "Out of memory: Killed process 812 (nix) total-vm:102400kB, anon-rss:32000kB, file-rss:1024kB";
    // What was killed long ago is not this run's.
    let out = killed(&format!("echo \"[    0.000001] {line}\""));
    says(&out, &["was killed (signal 9)"]);
    kept_as(&lab, &out, "copy", "copy");
    let out = killed(&format!("read -r up _ </proc/uptime; echo \"[$up] {line}\""));
    says(&out, &["was killed (signal 9)", "forge, kernel: ", line]);
    kept_as(&lab, &out, "oom", "copy");
    release(&lab, "cortex");
}

#[test]
fn s3_7_secrets_that_the_new_generation_does_not_bring_are_noticed() {
    let lab = usual("s3-7");
    let check = r#"[[target.cortex.check]]
run = ["/usr/bin/test", "-s", "/run/agenix/key"]
timeout = 1
"#;
    configure(&lab, &format!("{CONFIG}{check}"));
    describe(
        &lab,
        "cortex",
        r#"{ activationName = "agenix"; activation = "mkdir -p /run/agenix && echo secret >/run/agenix/key"; }"#,
    );
    release(&lab, "cortex");
    let (state, before) = (host_state(&lab, "cortex"), refs(&lab));
    describe(
        &lab,
        "cortex",
        r#"{ activationName = "agenix"; activation = "rm -f /run/agenix/key"; }"#,
    );
    let out = expect(&lab, 4, &["release", "cortex"]);
    kept_as(&lab, &out, "check", "validate");
    says(&out, &["run /usr/bin/test failed", "is back on what ran before"]);
    assert_eq!((host_state(&lab, "cortex"), refs(&lab)), (state, before));
    // The way back brought them again.
    root(&lab, "cortex", "test -s /run/agenix/key");
}
