//! Kinds of NixOS systems, and what else a host may be like.

use super::{KIND, Kind, by_hand, refused};

/// The job ran as often as somebody started it.
const JOBS: &str = "test $(wc -l </var/tmp/jobs) = $(wc -l </var/tmp/starts)";

pub const SYSTEMS: &[Kind] = &[
    Kind {
        name: "a container",
        container: true,
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
        container: true,
        system: ("Bnoloader", &[]),
        ..KIND
    },
    Kind {
        name: "a oneshot started by hand",
        system: ("K-job", &[]),
        each: &["job"],
        holds: JOBS,
        ..KIND
    },
    Kind {
        name: "a simple job started by hand",
        system: ("K-job", &["type=\"simple\""]),
        each: &["job"],
        holds: JOBS,
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

/// A host of many kinds that get on with each other.
pub const MANY: Kind = Kind {
    name: "many at once",
    system: ("K-sshd-accept+K-sudoers-d+K-degraded+K-job", &[]),
    scripts: &[
        ("desk", &["check-script"]),
        ("desk", &["dead-aaaa"]),
        ("cortex", &["shell", "fish"]),
        ("cortex", &["sudo", "sudo-rs"]),
        ("cortex", &["store-read-only"]),
        ("cortex", &["tmp-noexec"]),
    ],
    target: "user = \"jarvis\"\n[[target.cortex.check]]\nrun = [\"scripts/ok.sh\"]\n",
    each: &["job"],
    holds: JOBS,
    ..KIND
};
