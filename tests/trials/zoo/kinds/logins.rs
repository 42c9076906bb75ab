//! Login shells, and what a login reads first.

use super::{KIND, Kind, only_back, shut};

/// A login shell, or what a shell reads first.
const fn login(name: &'static str, scripts: &'static [(&'static str, &'static [&'static str])]) -> Kind {
    Kind {
        name,
        scripts,
        ..KIND
    }
}

pub const LOGINS: &[Kind] = &[
    login("login shell bash", &[]),
    login("login shell dash", &[("cortex", &["shell", "dash"])]),
    login("login shell zsh", &[("cortex", &["shell", "zsh"])]),
    login("login shell fish", &[("cortex", &["shell", "fish"])]),
    login("login shell tcsh", &[("cortex", &["shell", "tcsh"])]),
    login(
        "root's login shell fish",
        &[("cortex", &["shell", "fish", "root"])],
    ),
    login(
        "builder's login shell fish",
        &[("forge", &["shell", "fish", "build"])],
    ),
    login(
        "login prints on stderr",
        &[("cortex", &["rc", "echo Welcome >&2"])],
    ),
    login("login sets -e", &[("cortex", &["rc", "set -e"])]),
    login(
        "login puts folders before PATH",
        &[("cortex", &["rc", "PATH=/opt/bin:$PATH"])],
    ),
    Kind {
        expected: only_back("prints on standard output"),
        ..login("login prints on stdout", &[("cortex", &["rc", "echo Welcome"])])
    },
    Kind {
        expected: only_back("prints on standard output"),
        ..login(
            "builder's login prints on stdout",
            &[("forge", &["rc", "echo Welcome", "build"])],
        )
    },
    Kind {
        expected: shut("prints"),
        ..login("login prints for ever", &[("cortex", &["rc", "yes"])])
    },
    Kind {
        expected: shut("no shell answers"),
        ..login("login waits", &[("cortex", &["rc", "sleep infinity"])])
    },
    Kind {
        expected: only_back("nix-daemon"),
        ..login(
            "login takes Nix from PATH",
            &[("cortex", &["rc", "PATH=/nowhere"])],
        )
    },
    Kind {
        expected: shut("may not run commands"),
        ..login("login shell nologin", &[("cortex", &["shell", "nologin"])])
    },
];
