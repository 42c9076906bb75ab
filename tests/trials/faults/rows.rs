//! The rows of the fault table.

use super::{BAD, Case, GOOD, Mended, Moment, Now};
use crate::hand::{describe, good, root};
use crate::infra::release;
use crate::lab::Lab;

type Outcomes = &'static [(i32, Now)];
const RELEASED: Outcomes = &[(0, Now::Candidate)];
const UNTOUCHED: Outcomes = &[(1, Now::Before)];
const BACK: Outcomes = &[(4, Now::Before)];
const UNRECORDED: Outcomes = &[(8, Now::Candidate)];

/// For candidates that hang: they have six seconds.
pub const IMPATIENT: &str = "[target.cortex.timeouts]\nactivate = 6\nsettle = 2\nsoak = 5\n[target.cortex.preflight]\nservices = [\"sshd\", \"app\"]\n";

fn slow(lab: &Lab, number: u32) {
    describe(
        lab,
        "cortex",
        &format!(
            "{{ packages.hello = \"3.{number}\"; activationName = \"slow\"; activation = \"sleep 4\"; }}"
        ),
    );
}

/// An activation that goes on when it is told so.
fn until_told(lab: &Lab, number: u32) {
    root(lab, "cortex", "rm -f /var/tmp/go");
    describe(
        lab,
        "cortex",
        &format!(
            "{{ packages.hello = \"3.{number}\"; activationName = \"told\"; activation = \"until test -e /var/tmp/go; do sleep 0.1; done\"; }}"
        ),
    );
}

fn slow_to_build(lab: &Lab, number: u32) {
    describe(
        lab,
        "cortex",
        &format!(
            "ctx: {{ etc.\"slow\" = \"${{ctx.run \"slow-{number}\" {{ }} \"sleep 6.25; echo {number} >$out\"}}\"; }}"
        ),
    );
}

/// A path of 600 MiB.
fn large(lab: &Lab, number: u32) {
    describe(
        lab,
        "cortex",
        &format!(
            "ctx: {{ etc.\"big\" = \"${{ctx.run \"big-{number}\" {{ }} \"echo {number} >$out; head -c 629145600 /dev/zero >>$out\"}}\"; }}"
        ),
    );
    root(lab, "cortex", "rm -f /nix/store/*-big-*.lock");
}

fn cut(lab: &Lab) {
    lab.cut("cortex");
}

fn heal(lab: &Lab) {
    lab.heal("cortex");
}

const CUT: Case = Case {
    fault: "link cut",
    inject: cut,
    mend: (Mended::AfterTheRun, heal),
    expected: UNTOUCHED,
    ..GOOD
};

/// Cut at every step; healed when the host has helped itself, or the run has given up.
pub fn link() -> Vec<Case> {
    vec![
        Case {
            moment: "preflight",
            at: Moment::Before("cortex: ssh master"),
            ..CUT
        },
        Case {
            moment: "build",
            at: Moment::Building,
            prepare: slow_to_build,
            ..CUT
        },
        Case {
            moment: "copy, 30 %",
            at: Moment::Copied(180),
            prepare: large,
            ..CUT
        },
        Case {
            moment: "copy, 70 %",
            at: Moment::Copied(420),
            prepare: large,
            ..CUT
        },
        Case {
            moment: "dry-activate",
            at: Moment::Before("Every path on stdin"),
            ..CUT
        },
        Case {
            moment: "activation",
            at: Moment::Switching,
            prepare: slow,
            mend: (Mended::Alone, heal),
            expected: BACK,
            ..CUT
        },
        Case {
            moment: "lease",
            at: Moment::Before(" renew"),
            mend: (Mended::Alone, heal),
            expected: BACK,
            ..CUT
        },
        Case {
            moment: "commit",
            at: Moment::Before(" commit]"),
            mend: (Mended::Alone, heal),
            expected: BACK,
            ..CUT
        },
        Case {
            moment: "marking",
            at: Moment::Before("umask 022"),
            expected: UNRECORDED,
            ..CUT
        },
    ]
}

/// What the new system itself breaks.
pub fn candidate() -> Vec<Case> {
    vec![
        Case {
            fault: "sshd stopped by the new system",
            moment: "activation",
            prepare: |lab, _| lab.variant("cortex", "Bnet-sshd"),
            ..BAD
        },
        Case {
            fault: "firewall closed by the new system",
            moment: "activation",
            prepare: |lab, _| lab.variant("cortex", "Bnet-firewall"),
            ..BAD
        },
        Case {
            fault: "wrong address in the new system",
            moment: "activation",
            prepare: |lab, _| lab.variant("cortex", "Bnet-addr"),
            ..BAD
        },
        Case {
            fault: "sudo broken by the new system",
            moment: "activation",
            prepare: |lab, _| lab.variant("cortex", "Bsudo"),
            ..BAD
        },
        Case {
            fault: "activation script fails",
            moment: "activation",
            prepare: |lab, _| lab.variant("cortex", "Bact"),
            ..BAD
        },
        Case {
            fault: "activation script hangs",
            moment: "activation",
            prepare: |lab, _| lab.variant("cortex", "Bslow"),
            ..BAD
        },
        Case {
            fault: "unit fails",
            moment: "activation",
            prepare: |lab, _| lab.variant("cortex", "Bfail"),
            ..BAD
        },
        Case {
            fault: "unit crash-loops",
            moment: "validate",
            prepare: |lab, _| lab.variant("cortex", "Bunit"),
            ..BAD
        },
        Case {
            fault: "unit hangs in its start",
            moment: "activation",
            prepare: |lab, _| lab.variant("cortex", "Bhang"),
            ..BAD
        },
        Case {
            fault: "unit fails later",
            moment: "soak",
            prepare: |lab, _| lab.variant_with("cortex", "Bdelayed", &["seconds=4"]),
            ..BAD
        },
        Case {
            fault: "boot loader fails",
            moment: "commit",
            prepare: |lab, _| describe(lab, "cortex", "{ bootLoader = \"broken\"; }"),
            ..BAD
        },
        Case {
            fault: "stop job hangs",
            moment: "activation",
            // Released first, so that the candidate has to stop it.
            prepare: |lab, number| {
                describe(
                    lab,
                    "cortex",
                    &format!(
                        "{{ packages.hello = \"3.{number}\"; units.\"stuck.service\" = {{ wantedBy = [ \"multi-user.target\" ]; text = \"[Service]\\nExecStart=/bin/sh -c 'exec sleep infinity'\\nExecStop=/bin/sh -c 'exec sleep infinity'\\nTimeoutStopSec=infinity\\n\"; }}; }}"
                    ),
                );
                release(lab, "cortex");
                good(lab, "cortex", number + 300);
            },
            // Whoever wants to get on ends it.
            mend: (Mended::AfterTheRun, |lab| {
                drop(root(lab, "cortex", "systemctl kill --signal=KILL stuck.service"))
            }),
            ..BAD
        },
    ]
}

fn reboot(lab: &Lab) {
    lab.reboot("cortex");
}

/// What happens to the host, and to those around it.
pub fn host() -> Vec<Case> {
    vec![
        Case {
            fault: "sshd restarted",
            moment: "activation",
            at: Moment::Switching,
            prepare: slow,
            inject: |lab| drop(root(lab, "cortex", "systemctl restart sshd")),
            expected: RELEASED,
            ..GOOD
        },
        Case {
            fault: "every connection killed",
            moment: "commit",
            at: Moment::Before(" commit]"),
            inject: |lab| {
                drop(root(
                    lab,
                    "cortex",
                    "pkill -KILL -f '^sshd(-session)?: (jarvis|root)'; :",
                ))
            },
            ..GOOD
        },
        Case {
            fault: "nix-daemon killed",
            moment: "copy",
            at: Moment::Copied(1),
            prepare: large,
            inject: |lab| {
                drop(root(
                    lab,
                    "cortex",
                    "systemctl kill --signal=KILL nix-daemon.service",
                ))
            },
            expected: &[(0, Now::Candidate), (1, Now::Before)],
            ..GOOD
        },
        Case {
            fault: "nix-daemon killed",
            moment: "commit",
            at: Moment::Before(" commit]"),
            inject: |lab| {
                drop(root(
                    lab,
                    "cortex",
                    "systemctl kill --signal=KILL nix-daemon.service; :",
                ))
            },
            expected: RELEASED,
            ..GOOD
        },
        Case {
            fault: "copy killed for memory (SIGKILL)",
            moment: "copy",
            at: Moment::Copied(1),
            prepare: large,
            inject: |lab| drop(root(lab, "forge", "pkill -KILL -u build -f 'nix.* copy '")),
            // Where the builder cannot send it, this machine does.
            expected: &[(0, Now::Candidate), (1, Now::Before)],
            ..GOOD
        },
        Case {
            fault: "unit killed for memory (SIGKILL)",
            moment: "lease, before the look",
            at: Moment::Before("after * switch"),
            inject: |lab| drop(root(lab, "cortex", "systemctl kill --signal=KILL worker.service")),
            ..GOOD
        },
        Case {
            fault: "builder lost",
            moment: "build",
            at: Moment::Building,
            prepare: slow_to_build,
            inject: |lab| lab.cut("forge"),
            mend: (Mended::AfterTheRun, |lab| lab.heal("forge")),
            expected: UNTOUCHED,
            ..GOOD
        },
        Case {
            fault: "git remote lost",
            moment: "before the run",
            prepare: |lab, number| {
                good(lab, "cortex", number);
                lab.cut("git");
            },
            mend: (Mended::AfterTheRun, |lab| lab.heal("git")),
            expected: UNTOUCHED,
            ..GOOD
        },
        Case {
            fault: "git remote lost",
            moment: "after the switch",
            at: Moment::Before(" commit]"),
            inject: |lab| lab.cut("git"),
            mend: (Mended::AfterTheRun, |lab| lab.heal("git")),
            expected: UNRECORDED,
            ..GOOD
        },
        Case {
            fault: "target rebooted",
            moment: "copy",
            at: Moment::Before("Every path on stdin"),
            inject: reboot,
            expected: UNTOUCHED,
            ..GOOD
        },
        Case {
            fault: "target rebooted",
            moment: "activation",
            at: Moment::Switching,
            prepare: slow,
            inject: reboot,
            ..GOOD
        },
        Case {
            fault: "target rebooted",
            moment: "lease",
            at: Moment::Before(" renew"),
            inject: reboot,
            ..GOOD
        },
        Case {
            fault: "target rebooted",
            moment: "commit",
            at: Moment::Before(" commit]"),
            inject: reboot,
            ..GOOD
        },
        Case {
            fault: "target rebooted",
            moment: "marking",
            at: Moment::Before("umask 022"),
            inject: reboot,
            expected: UNRECORDED,
            ..GOOD
        },
        Case {
            fault: "supervisor killed",
            moment: "holding",
            at: Moment::Before("Every path on stdin"),
            inject: kill_supervisor,
            expected: UNTOUCHED,
            ..GOOD
        },
        Case {
            fault: "supervisor killed",
            moment: "activation",
            at: Moment::Switching,
            prepare: slow,
            inject: kill_supervisor,
            ..GOOD
        },
        Case {
            fault: "supervisor killed",
            moment: "lease",
            at: Moment::Before(" renew"),
            inject: kill_supervisor,
            ..GOOD
        },
        Case {
            fault: "isolated away",
            moment: "lease",
            at: Moment::Before(" renew"),
            inject: |lab| drop(root(lab, "cortex", "systemctl isolate multi-user.target")),
            expected: RELEASED,
            ..GOOD
        },
        Case {
            fault: "systemd re-executed, thirty times",
            moment: "activation",
            at: Moment::Switching,
            prepare: until_told,
            // Until the activation goes on, nobody but the supervisor and whoever looks at it asks systemd.
            inject: |lab| {
                drop(root(
                    lab,
                    "cortex",
                    "n=0; while [ $n -lt 30 ]; do systemctl daemon-reexec; n=$((n + 1)); done; \
                     until systemctl is-system-running; do sleep 0.1; done; touch /var/tmp/go",
                ))
            },
            expected: RELEASED,
            ..GOOD
        },
        Case {
            fault: "systemd re-executed",
            moment: "lease",
            at: Moment::Before(" renew"),
            inject: |lab| drop(root(lab, "cortex", "systemctl daemon-reexec")),
            expected: RELEASED,
            ..GOOD
        },
        Case {
            fault: "another tool switches",
            moment: "lease",
            at: Moment::Before(" renew"),
            inject: |lab| {
                let out = lab.sh(
                    "cortex",
                    "root",
                    "/nix/var/nix/profiles/system/bin/switch-to-configuration test",
                );
                assert_eq!(out.status, 11, "{out}");
            },
            expected: RELEASED,
            ..GOOD
        },
        Case {
            fault: "nixos-upgrade at work",
            moment: "preflight",
            at: Moment::Before("cortex: ssh master"),
            inject: |lab| {
                drop(root(
                    lab,
                    "cortex",
                    "systemd-run --quiet --unit=nixos-upgrade sleep infinity",
                ))
            },
            mend: (Mended::AfterTheRun, |lab| {
                drop(root(lab, "cortex", "systemctl stop nixos-upgrade"))
            }),
            expected: &[(6, Now::Before)],
            ..GOOD
        },
        Case {
            fault: "lock left by a dead run",
            moment: "preflight",
            at: Moment::Before("cortex: ssh master"),
            inject: |lab| {
                drop(root(
                    lab,
                    "cortex",
                    "mkdir -p /run/nixgate/dead && printf 'run=dead\\ntarget=cortex\\nwho=x\\ncommit=0\\nsince=1\\n' >/run/nixgate/holder && printf 'state=waiting\\nrun=dead\\n' >/run/nixgate/dead/state",
                ))
            },
            expected: RELEASED,
            ..GOOD
        },
        Case {
            fault: "lock held by a living run",
            moment: "preflight",
            at: Moment::Before("cortex: ssh master"),
            inject: |lab| {
                drop(root(
                    lab,
                    "cortex",
                    "mkdir -p /run/nixgate && printf 'run=living\\ntarget=cortex\\nwho=somebody\\ncommit=0\\nsince=1\\n' >/run/nixgate/holder && systemd-run --quiet --unit=nixgate-living flock /run/nixgate/lock sleep infinity",
                ))
            },
            mend: (Mended::AfterTheRun, |lab| {
                drop(root(
                    lab,
                    "cortex",
                    "systemctl stop nixgate-living; rm /run/nixgate/holder",
                ))
            }),
            expected: &[(6, Now::Before)],
            ..GOOD
        },
        Case {
            fault: "a second operator",
            moment: "dry-activate",
            at: Moment::Before("Every path on stdin"),
            inject: |lab| {
                let out = lab.sh("desk", "op", "rm -rf ~/second && git clone -q ~/infra ~/second && cd ~/second && git remote set-url origin \"$(git -C ~/infra remote get-url origin)\" && git nixgate release cortex");
                assert_eq!(out.status, 6, "{out}");
                assert!(out.stderr.contains("since"), "{out}");
            },
            expected: RELEASED,
            ..GOOD
        },
        Case {
            fault: "host's clock an hour ahead",
            moment: "whole run",
            at: Moment::Before("cortex: ssh master"),
            // The kernel's clock is everybody's: the host's own "date" tells another time.
            inject: |lab| {
                drop(root(
                    lab,
                    "cortex",
                    "cp /usr/bin/date /root/date && printf '#!/bin/sh\\nexec /root/date -d \"+1 hour\" \"$@\"\\n' >/root/later && chmod 755 /root/later && mount --bind /root/later /usr/bin/date && [ $(date +%s) -gt $(($(/root/date +%s) + 3000)) ]",
                ))
            },
            mend: (Mended::AfterTheRun, |lab| {
                drop(root(lab, "cortex", "umount /usr/bin/date"))
            }),
            expected: RELEASED,
            ..GOOD
        },
    ]
}

fn kill_supervisor(lab: &Lab) {
    root(
        lab,
        "cortex",
        "r=$(sed -n 's/^run=//p' /run/nixgate/holder) && systemctl kill --signal=KILL \"nixgate-$r.service\"",
    );
}

const FULL: Case = Case {
    mend: (Mended::AfterTheRun, |lab| {
        root(
            lab,
            "cortex",
            "rm -f /nix/full /boot/full /run/full /var/lib/nixgate/full; mount -o remount,nr_inodes=200000 /mnt/nix",
        );
    }),
    ..GOOD
};

fn fill(lab: &Lab, folder: &str) {
    // dd says 1 when there is no room left, which is what is wanted.
    root(
        lab,
        "cortex",
        &format!(
            "dd if=/dev/zero of={folder}/full bs=64k 2>/dev/null; dd if=/dev/zero of={folder}/full bs=1 oflag=append conv=notrunc 2>/dev/null; [ \"$(df --output=avail {folder} | tail -n 1)\" -lt 8 ]"
        ),
    );
}

/// Gives every file system of the host a size of its own.
pub fn confine(lab: &Lab) {
    root(
        lab,
        "cortex",
        "set -e; systemctl stop nix-daemon.socket nix-daemon.service; mkdir -p /mnt/nix /mnt/boot /var/lib/nixgate
         mount -t tmpfs -o size=160m,nr_inodes=200000 tmpfs /mnt/nix; cp -a /nix/. /mnt/nix/; mount --bind /mnt/nix /nix
         mount -t tmpfs -o size=300m tmpfs /mnt/boot; cp -a /boot/. /mnt/boot/; mount --bind /mnt/boot /boot
         cp -a /var/lib/nixgate /mnt/was; mount -t tmpfs -o size=1m tmpfs /var/lib/nixgate; cp -a /mnt/was/. /var/lib/nixgate/
         mount -o remount,size=64m /run
         systemctl start nix-daemon.socket",
    );
}

/// No room left.
pub fn room() -> Vec<Case> {
    vec![
        Case {
            fault: "/nix full",
            moment: "copy",
            at: Moment::Before("Starts a run"),
            inject: |lab| fill(lab, "/nix"),
            expected: UNTOUCHED,
            ..FULL
        },
        Case {
            fault: "/nix full",
            moment: "commit",
            at: Moment::Before(" commit]"),
            inject: |lab| fill(lab, "/nix"),
            ..FULL
        },
        Case {
            fault: "no inodes on /nix",
            moment: "copy",
            at: Moment::Before("Starts a run"),
            inject: |lab| {
                drop(root(
                    lab,
                    "cortex",
                    "mount -o remount,nr_inodes=$(df --output=iused /mnt/nix | tail -n 1 | tr -d ' ') /mnt/nix",
                ))
            },
            expected: UNTOUCHED,
            ..FULL
        },
        Case {
            fault: "/boot full",
            moment: "commit",
            at: Moment::Before(" commit]"),
            inject: |lab| fill(lab, "/boot"),
            ..FULL
        },
        Case {
            fault: "/run full",
            moment: "copy",
            at: Moment::Before("Starts a run"),
            inject: |lab| fill(lab, "/run"),
            expected: UNTOUCHED,
            ..FULL
        },
        Case {
            fault: "/run full",
            moment: "lease",
            at: Moment::Before(" renew"),
            inject: |lab| fill(lab, "/run"),
            ..FULL
        },
        Case {
            fault: "/ full (where the record goes)",
            moment: "marking",
            at: Moment::Before("umask 022"),
            inject: |lab| fill(lab, "/var/lib/nixgate"),
            expected: UNRECORDED,
            ..FULL
        },
    ]
}
