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
        // No switch starts what is new in a target that never came up.
        fault: "Bact",
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
        name: "/etc is an overlay",
        system: ("Betcoverlay", &[]),
        ..KIND
    },
    Kind {
        name: "a specialisation runs",
        system: ("Bspecial", &[]),
        scripts: &[("cortex", &["specialisation", "debug"])],
        target: "user = \"jarvis\"\nspecialisation = \"debug\"\n",
        ..KIND
    },
    Kind {
        name: "a specialisation boots by default",
        system: ("Bspecialboot", &[]),
        target: "user = \"jarvis\"\nspecialisation = \"debug\"\n",
        ..KIND
    },
    Kind {
        name: "system.switch.enable = false",
        system: ("Bnoswitch", &[]),
        expected: by_hand("system.switch.enable = false"),
        ..KIND
    },
    Kind {
        name: "a boot loader that does not tell (Limine)",
        system: ("Blimine", &[]),
        ..KIND
    },
    Kind {
        name: "systemd-boot",
        scripts: &[("cortex", &["systemd-boot"])],
        ..KIND
    },
    Kind {
        name: "lanzaboote: the newest generation boots",
        scripts: &[("cortex", &["systemd-boot", "pattern"])],
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
