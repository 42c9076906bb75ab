//! Ways to become root.

use super::{KIND, Kind, by_hand, refused};

const ROOT: &str = "user = \"root\"\n";
const PASSWORD: &str = "NIXGATE_SUDO_PASSWORD_FILE=/home/op/password";
const PAT: Kind = Kind {
    target: "user = \"pat\"\nsudo = \"ask\"\n",
    scripts: &[("desk", &["password"])],
    env: PASSWORD,
    ..KIND
};

pub const SUDO: &[Kind] = &[
    Kind {
        name: "root",
        target: ROOT,
        ..KIND
    },
    Kind {
        name: "sudo with a password",
        ..PAT
    },
    Kind {
        name: "sudo with a password each time",
        system: (
            "K-sudoers",
            &["line=\"Defaults timestamp_timeout=0, lecture=always\""],
        ),
        ..PAT
    },
    Kind {
        name: "sudo with a password, not asked for",
        target: "user = \"pat\"\n",
        expected: refused("password"),
        ..KIND
    },
    Kind {
        name: "sudo-rs",
        scripts: &[("cortex", &["sudo", "sudo-rs"])],
        ..KIND
    },
    Kind {
        name: "sudo-rs with a password",
        scripts: &[("desk", &["password"]), ("cortex", &["sudo", "sudo-rs"])],
        ..PAT
    },
    Kind {
        name: "sudo-rs with a password, not asked for",
        target: "user = \"pat\"\n",
        scripts: &[("cortex", &["sudo", "sudo-rs"])],
        expected: refused("password"),
        ..KIND
    },
    Kind {
        name: "doas only",
        scripts: &[("cortex", &["sudo", "doas"])],
        expected: refused("doas"),
        ..KIND
    },
    Kind {
        name: "run0 only",
        scripts: &[("cortex", &["sudo", "run0"])],
        expected: refused("run0"),
        ..KIND
    },
    Kind {
        name: "nothing that makes root",
        scripts: &[("cortex", &["sudo", "none"])],
        expected: refused("sudo"),
        ..KIND
    },
    Kind {
        name: "who may is in /etc/sudoers.d alone",
        system: ("K-sudoers-d", &[]),
        ..KIND
    },
    Kind {
        name: "secure_path",
        system: ("K-sudoers", &["line=\"Defaults secure_path=/usr/bin\""]),
        ..KIND
    },
    Kind {
        name: "requiretty",
        system: ("K-sudoers", &["line=\"Defaults requiretty\""]),
        expected: by_hand("requiretty"),
        ..KIND
    },
    Kind {
        name: "no sudo for this user",
        target: "user = \"nosudo\"\n",
        expected: refused("sudo"),
        ..KIND
    },
];
