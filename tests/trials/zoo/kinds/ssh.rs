//! Set-ups of ssh, at both ends.

use super::{KIND, Kind, by_hand, shut};

pub const SSHD: &[Kind] = &[
    Kind {
        name: "sshd by socket, Accept=yes",
        system: ("K-sshd-accept", &[]),
        ..KIND
    },
    Kind {
        name: "sshd by socket, Accept=no",
        system: ("K-sshd-socket", &[]),
        ..KIND
    },
    Kind {
        name: "another socket, Accept=yes, in use",
        system: ("K-socket-accept", &[]),
        each: &["echo-session"],
        ..KIND
    },
    Kind {
        name: "MaxSessions 2",
        system: ("K-sshd-config", &["line=\"MaxSessions 2\""]),
        ..KIND
    },
    Kind {
        name: "MaxSessions 1",
        system: ("K-sshd-config", &["line=\"MaxSessions 1\""]),
        expected: by_hand("MaxSessions"),
        ..KIND
    },
    Kind {
        name: "MaxStartups 1",
        system: ("K-sshd-config", &["line=\"MaxStartups 1\""]),
        ..KIND
    },
    Kind {
        name: "banner",
        system: ("K-sshd-config", &["line=\"Banner /etc/os-release\""]),
        ..KIND
    },
    Kind {
        name: "ForceCommand that runs what was asked",
        scripts: &[(
            "cortex",
            &["authorized-command", "exec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\""],
        )],
        ..KIND
    },
    Kind {
        name: "ForceCommand of another program",
        scripts: &[("cortex", &["authorized-command", "/usr/bin/true"])],
        expected: shut("may not run commands"),
        ..KIND
    },
    Kind {
        name: "/run/nologin",
        scripts: &[("cortex", &["nologin", "Back at noon"])],
        expected: shut("Back at noon"),
        ..KIND
    },
    Kind {
        name: "account expired",
        scripts: &[("cortex", &["account-expired"])],
        expected: shut("Your account has expired"),
        ..KIND
    },
];

pub const SSH_CONFIG: &[Kind] = &[
    Kind {
        name: "port 2222 by ssh_config",
        system: ("K-sshd-config", &["line=\"Port 2222\""]),
        scripts: &[("desk", &["ssh-config", "cortex", "Port 2222"])],
        ..KIND
    },
    Kind {
        name: "another service on the port",
        scripts: &[
            ("cortex", &["not-ssh", "2222"]),
            ("desk", &["ssh-config", "cortex", "Port 2222"]),
        ],
        expected: shut("no ssh server on its port"),
        ..KIND
    },
    Kind {
        name: "ProxyCommand",
        scripts: &[(
            "desk",
            &[
                "ssh-config",
                "cortex",
                "HostName nowhere.example",
                "HostKeyAlias cortex",
                "ProxyCommand nc 10.77.0.20 22",
            ],
        )],
        ..KIND
    },
    Kind {
        name: "ProxyJump, and no other way",
        scripts: &[
            ("cortex", &["only-from", "10.77.0.11"]),
            ("desk", &["ssh-config", "cortex", "ProxyJump forge"]),
        ],
        ..KIND
    },
    Kind {
        name: "a dead AAAA record",
        scripts: &[("desk", &["dead-aaaa"])],
        ..KIND
    },
    Kind {
        name: "a dead AAAA record, AddressFamily inet",
        scripts: &[
            ("desk", &["dead-aaaa"]),
            ("desk", &["ssh-config", "cortex", "AddressFamily inet"]),
        ],
        ..KIND
    },
    Kind {
        name: "RemoteCommand, RequestTTY, LogLevel QUIET",
        scripts: &[(
            "desk",
            &[
                "ssh-config",
                "cortex",
                "RequestTTY force",
                "RemoteCommand bash",
                "LogLevel QUIET",
            ],
        )],
        ..KIND
    },
    Kind {
        name: "a master of the operator's own",
        scripts: &[(
            "desk",
            &[
                "ssh-config",
                "cortex",
                "ControlMaster auto",
                "ControlPath ~/.ssh/%C",
                "ControlPersist 60",
            ],
        )],
        ..KIND
    },
];
