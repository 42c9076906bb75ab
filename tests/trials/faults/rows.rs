//! The rows of the fault table.

mod host;
mod room;

pub use host::host;
pub use room::{confine, room};

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
