//! File systems without room.

use super::*;

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
