//! Kinds of NixOS systems, and what else a host may be like.

use super::{KIND, Kind, by_hand, refused};

pub const SYSTEMS: &[Kind] = &[
    Kind {
        name: "not a container",
        scripts: &[("cortex", &["machine"])],
        ..KIND
    },
    Kind {
        name: "not a container, sshd by socket",
        system: ("K-sshd-accept", &[]),
        scripts: &[("cortex", &["machine"])],
        ..KIND
    },
    Kind {
        name: "degraded",
        system: ("K-degraded", &[]),
        ..KIND
    },
    Kind {
        name: "still starting",
        system: ("K-never-booted", &[]),
        ..KIND
    },
    Kind {
        name: "a program missing",
        system: ("K-lacks", &[]),
        expected: by_hand("lacks flock"),
        ..KIND
    },
    Kind {
        name: "no boot loader, a container",
        system: ("Bnoloader", &[]),
        scripts: &[("cortex", &["no-extlinux"])],
        ..KIND
    },
    Kind {
        name: "a oneshot started by hand",
        system: ("K-job", &[]),
        each: "systemctl start --no-block job.service; echo started >>/var/tmp/starts",
        holds: "test $(wc -l </var/tmp/jobs) = $(wc -l </var/tmp/starts)",
        ..KIND
    },
    Kind {
        name: "a simple job started by hand",
        system: ("K-job", &["type=\"simple\""]),
        each: "systemctl start job.service; echo started >>/var/tmp/starts",
        holds: "test $(wc -l </var/tmp/jobs) = $(wc -l </var/tmp/starts)",
        ..KIND
    },
    Kind {
        name: "/var/lib read-only",
        scripts: &[("cortex", &["read-only", "/var/lib"])],
        expected: refused("/var/lib"),
        ..KIND
    },
    Kind {
        name: "/var/lib on a tmpfs",
        scripts: &[("cortex", &["tmpfs", "/var/lib"])],
        ..KIND
    },
    Kind {
        name: "/tmp noexec, a check of the commit",
        scripts: &[("desk", &["check-script"]), ("cortex", &["tmp-noexec"])],
        target: "user = \"jarvis\"\n[[target.cortex.check]]\nrun = [\"scripts/ok.sh\"]\n",
        ..KIND
    },
    Kind {
        name: "600 generations",
        scripts: &[("cortex", &["generations", "600"])],
        ..KIND
    },
];
