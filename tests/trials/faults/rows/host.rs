//! What happens to a host, and to those around it.

use super::*;

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
