//! What `cancel` answers, by how the run that it stopped has ended.

use git_nixgate::failure::{Exit, Failure, Reason};
use git_nixgate::host::state::State;
use git_nixgate::run::Outcome;
use git_nixgate::run::cancel::{cleared, ended, judged, not_yet};
use git_nixgate::run::journal::Ending;
use git_nixgate::ui::Style;

use super::support::target;
use super::{failed_in, in_both};

const RUN: &str = "20261120T031402Z-7b8e98";
const A: &str = "/nix/store/j6xxiffrc2psfsp6rd8yvc3khz0qinwk-nixos-system-cortex-26.05.20261101";
const B: &str = "/nix/store/15s6a2s10379mxjz3srs6cimw7d4qrn0-nixos-system-cortex-26.05.20261102";

/// What a supervisor's state file says.
fn state(phase: &str, more: &str) -> State {
    let text = format!("state={phase}\nrun={RUN}\ntarget=cortex\ncandidate={B}\nprevious={A}\n{more}");
    State::parse(&text).expect("a state")
}

#[test]
fn how_a_run_that_was_told_to_stop_has_ended() {
    let cortex = target("cortex");
    in_both("cancel", |style: Style| {
        let shown = |answer: Result<Outcome, Failure>| match answer {
            Ok(outcome) => format!("{}(exit {})\n", outcome.text, outcome.exit),
            Err(failure) => failed_in(&failure, style),
        };
        let own = |exit: Exit, what: &str| {
            let failure = Failure::new(exit, Reason::Cancelled, what).next("git nixgate resume cortex");
            shown(ended(&cortex, RUN, &Ending::of(&failure, None)))
        };
        let recorded = Ending::recorded(Exit::Done, "release/cortex/20261120T031402Z-0123456789ab".into());
        let stays = "reason=app.service ran before and stays down\n";
        [
            (
                "before its switch",
                own(Exit::Failed, "stopped: cortex was not switched"),
            ),
            (
                "in its soak",
                own(Exit::Reverted, "stopped: cortex is back on what ran before"),
            ),
            (
                "it waits for a reboot",
                own(Exit::NeedsReboot, "cortex boots the candidate next"),
            ),
            (
                "its host is in need of a person",
                own(Exit::NeedsPerson, "cortex could not be taken back"),
            ),
            ("it has recorded", shown(ended(&cortex, RUN, &recorded))),
            ("it goes on", failed_in(&not_yet(&cortex, RUN), style)),
            (
                "elsewhere: not switched",
                shown(judged(&cortex, RUN, &state("released", ""))),
            ),
            (
                "elsewhere: taken back",
                shown(judged(&cortex, RUN, &state("reverted", ""))),
            ),
            (
                "elsewhere: committed",
                shown(judged(&cortex, RUN, &state("committed", ""))),
            ),
            (
                "elsewhere: the way back failed",
                shown(judged(&cortex, RUN, &state("revert-failed", stays))),
            ),
            (
                "elsewhere: its operator cleared up",
                shown(cleared(&cortex, RUN, &state("reverting", ""), Some(A))),
            ),
            (
                "elsewhere: gone, and the host runs something else",
                shown(cleared(&cortex, RUN, &state("reverting", ""), Some(B))),
            ),
        ]
    });
}
