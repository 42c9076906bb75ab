//! Set-ups of Nix, on target and builder.

use super::{KIND, Kind, only_back};

pub const NIX: &[Kind] = &[
    Kind {
        name: "builder by the official installer",
        scripts: &[("forge", &["nix-by-installer"])],
        ..KIND
    },
    Kind {
        name: "builder without a daemon",
        scripts: &[("forge", &["nix-single-user"])],
        ..KIND
    },
    Kind {
        name: "builder's daemon stopped",
        scripts: &[("forge", &["nix-daemon-stopped"])],
        expected: only_back("daemon"),
        ..KIND
    },
    Kind {
        name: "user not allowed by the builder's Nix",
        scripts: &[
            ("forge", &["nix-conf", "allowed-users", "root"]),
            ("forge", &["nix-conf", "trusted-users", "root"]),
        ],
        expected: only_back("allowed-users"),
        ..KIND
    },
    Kind {
        name: "target's daemon stopped",
        scripts: &[("cortex", &["nix-daemon-stopped"])],
        expected: only_back("daemon"),
        ..KIND
    },
    Kind {
        name: "user not allowed by the target's Nix",
        scripts: &[
            ("cortex", &["nix-conf", "allowed-users", "root"]),
            ("cortex", &["nix-conf", "trusted-users", "root"]),
        ],
        expected: only_back("allowed-users"),
        ..KIND
    },
    Kind {
        name: "user not trusted, builder signs",
        target: "user = \"guest\"\n",
        scripts: &[
            ("forge", &["signing-key", "builder"]),
            ("cortex", &["signing-key", "target"]),
        ],
        ..KIND
    },
    Kind {
        name: "user not trusted",
        target: "user = \"guest\"\n",
        expected: only_back("may not copy unsigned paths"),
        ..KIND
    },
    Kind {
        name: "target builds",
        builder: "target",

        ..KIND
    },
    Kind {
        name: "/nix/store bound read-only",
        scripts: &[("cortex", &["store-read-only"])],
        ..KIND
    },
    Kind {
        name: "store optimised",
        scripts: &[("cortex", &["store-optimised"])],
        ..KIND
    },
    Kind {
        name: "builder knows another by the name",
        scripts: &[("forge", &["other-store", "cortex", "git", "root"])],
        ..KIND
    },
];
