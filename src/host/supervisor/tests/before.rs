//! What is remembered before a switch, what a switch is held to have stopped, and what is started again.

use super::said;

/// One unit as `systemctl show` has it: `more` after what a running service with a unit file has.
fn shown(unit: &str, more: &str) -> String {
    let plain = "ActiveState=active\nSubState=running\nLoadState=loaded\nFragmentPath=DIR/list\nTransient=no\n\
                 Type=simple\nResult=success\n";
    // The last word counts.
    format!("{plain}{more}Id={unit}\n\n")
}

/// What the lists hold after `remember`, one `file: units` a line.
fn remembered(list: &str, files: &[(&str, &str)]) -> Vec<String> {
    let text = "remember || echo no
for f in active-before boot-starts by-hand; do
	while IFS= read -r u; do printf '%s: %s\\n' \"$f\" \"$u\"; done <\"$dir/$f\"
done
[ ! -e \"$dir/started\" ] || cat \"$dir/started\"";
    let all = [&[("list", list)], files].concat();
    said(&all, text).lines().map(str::to_owned).collect()
}

#[test]
fn n1_an_instance_of_one_connection_is_left_out_when_it_is_remembered() {
    let list = "sshd@1-10.0.0.1:22-10.0.0.2:9.service loaded active running One\n\
                work@a.service loaded active running Work\nsshd.socket loaded active listening Socket\n\
                work@a.socket loaded active listening Socket\n";
    let show = [
        shown(
            "sshd@1-10.0.0.1:22-10.0.0.2:9.service",
            "TriggeredBy=sshd.socket\n",
        ),
        // One service for all connections of its socket.
        shown("work@a.service", "TriggeredBy=work@a.socket\n"),
    ]
    .concat();
    let accept = "Accept=no\nId=work@a.socket\n\nAccept=yes\nId=sshd.socket\n";
    assert_eq!(
        remembered(list, &[("show", &show), ("accept", accept)]),
        [
            "active-before: sshd.socket",
            "active-before: work@a.socket",
            "active-before: work@a.service",
        ]
    );
    // Whose instance it is cannot be told.
    assert_eq!(remembered(list, &[("show", &show)])[0], "no");
}

#[test]
fn n2_what_may_vanish_well_is_not_remembered_and_what_nothing_wants_is_a_list_of_its_own() {
    let list = "multi-user.target loaded active active T\ndev-tty.device loaded active plugged D\n\
                wanted.service loaded active running W\nidle.target.service loaded active running I\n\
                device.service loaded active running D\njob.service loaded active running J\n\
                done.service loaded active exited D\nset-up.service loaded active exited S\n\
                bus.service loaded active running B\nsocket.service loaded active running S\n\
                transient.service loaded active running T\nuser@1000.service loaded active running U\n\
                session-1.scope loaded active running S\nelapsed.timer loaded active elapsed E\n\
                waiting.timer loaded active waiting W\nnightly.timer loaded active elapsed N\n\
                auto.mount loaded active mounted A\nhand.mount loaded active mounted H\n\
                run-user-1000.mount loaded active mounted R\nonce.service loaded activating start O\n";
    let show = [
        // Wanted by a target that is not up: somebody started it.
        shown("idle.target.service", "WantedBy=idle.target\n"),
        shown("device.service", "WantedBy=dev-tty.device\n"),
        shown("job.service", ""),
        shown("done.service", "SubState=exited\n"),
        shown("set-up.service", "SubState=exited\nRequiredBy=wanted.service\n"),
        shown("bus.service", "BusName=org.example\n"),
        shown("socket.service", "TriggeredBy=some.socket\n"),
        shown("transient.service", "Transient=yes\n"),
        shown("auto.mount", "TriggeredBy=auto.automount\n"),
        shown("hand.mount", ""),
    ]
    .concat();
    let files = [
        ("show", show.as_str()),
        ("units/multi-user.target.wants/wanted.service", ""),
        ("units/idle.target.wants/idle.target.service", ""),
        ("units/timers.target.wants/waiting.timer", ""),
        ("units/multi-user.target.wants/nightly.timer", ""),
        ("units/auto.mount", ""),
        ("units/hand.mount", ""),
    ];
    assert_eq!(
        remembered(list, &files),
        [
            "active-before: wanted.service",
            "active-before: waiting.timer",
            "active-before: nightly.timer",
            "active-before: device.service",
            "active-before: set-up.service",
            "active-before: bus.service",
            "active-before: socket.service",
            "active-before: auto.mount",
            "boot-starts: wanted.service",
            "boot-starts: nightly.timer",
            "boot-starts: device.service",
            "boot-starts: set-up.service",
            "by-hand: idle.target.service",
            "by-hand: job.service",
            "by-hand: hand.mount",
            // How they end is kept until it was looked at.
            "After= idle.target.service job.service hand.mount",
        ]
    );
}

const ENDED: &str = "ActiveState=inactive\nExecMainCode=1\nExecMainStatus=0\nExecMainExitTimestampMonotonic=900\n\
                     ActiveExitTimestampMonotonic=901\nInactiveEnterTimestampMonotonic=901\n";
const STOPPED: &str = "ActiveState=inactive\nExecMainCode=1\nExecMainStatus=0\nExecMainExitTimestampMonotonic=902\n\
                       ActiveExitTimestampMonotonic=901\nInactiveEnterTimestampMonotonic=903\n";
const UNLOADED: &str = "ActiveState=inactive\nExecMainCode=0\nExecMainExitTimestampMonotonic=0\n\
                        ActiveExitTimestampMonotonic=0\nInactiveEnterTimestampMonotonic=0\n";

/// Where a unit of `by-hand` stands after a switch, and whether it is started after the way back.
fn of_hand(now: &str, then: &str) -> String {
    let text = "take_stock
cp \"$dir/then\" \"$dir/show\"
take_stock_again
judge take_stock >/dev/null
printf '%s %s' \"$s_state\" \"$s_reasons\"
[ ! -e \"$dir/started\" ] || printf 'started %s' \"$(cat \"$dir/started\")\"";
    let files = [
        ("by-hand", "job.service\n"),
        ("active-before", ""),
        ("failed-before", ""),
        ("failed", ""),
        ("list", ""),
        ("show", &shown("job.service", now)),
        ("then", &shown("job.service", then)),
        ("up", &shown("job.service", "")),
    ];
    said(&files, text)
}

#[test]
fn n2_a_job_by_hand_never_runs_twice_and_what_a_switch_stopped_runs_again() {
    let failed = ENDED.replace("Status=0", "Status=1");
    for (now, then, expected) in [
        // It ended in the switch, after it, or in the way back; well or not.
        (ENDED, ENDED, "reverted"),
        (ENDED, UNLOADED, "reverted"),
        (failed.as_str(), failed.as_str(), "reverted"),
        ("", ENDED, "reverted"),
        // Somebody stopped it while the candidate ran.
        ("", STOPPED, "reverted"),
        ("", "", "reverted"),
        // It remains after it ended, and is stopped then.
        ("SubState=exited\n", STOPPED, "reverted"),
        ("SubState=exited\n", "", "reverted"),
        (
            &format!("{ENDED}RemainAfterExit=yes\nInactiveEnterTimestampMonotonic=950\n"),
            UNLOADED,
            "reverted",
        ),
        // The switch took it along.
        (STOPPED, STOPPED, "reverted started job.service"),
        (STOPPED, UNLOADED, "reverted started job.service"),
        // Nobody knows how it ended.
        (
            UNLOADED,
            UNLOADED,
            "revert-failed reason=job.service was started by hand before and is down: whether it ended by itself is not known",
        ),
    ] {
        assert_eq!(of_hand(now, then), expected, "{now}then\n{then}");
    }
}

#[test]
fn n2_a_switch_that_was_cut_off_is_looked_at_before_the_way_back() {
    let text = "take_stock_again; cat \"$dir/taken\" 2>/dev/null; echo; cat \"$dir/by-hand\"";
    let stock = |show: &str| {
        said(
            &[
                ("by-hand", "job.service\n"),
                ("show", &shown("job.service", show)),
            ],
            text,
        )
    };
    assert_eq!(stock(STOPPED), "job.service");
    assert_eq!(stock(ENDED), "");
    assert_eq!(stock(""), "job.service");
}

/// What is started of one unit that ran before and is shown so now, and what the way back is then judged to be; after the
/// start it is shown as `after`.
fn again(unit: &str, now: &str, after: &str, more: &[(&str, &str)]) -> String {
    let before = format!("{unit}\n");
    let (now, after) = (shown(unit, now), shown(unit, after));
    let files = [
        &[
            ("active-before", before.as_str()),
            ("failed-before", ""),
            ("failed", ""),
            ("list", ""),
            ("show", &now),
            ("up", &after),
        ],
        more,
    ]
    .concat();
    let text = "judge take_stock >/dev/null
[ ! -e \"$dir/started\" ] || printf '%s ' $(cat \"$dir/started\")
printf '%s %s' \"$s_state\" \"$s_reasons\"";
    said(&files, text)
}

#[test]
fn n2_what_ended_well_by_itself_is_neither_started_nor_counted() {
    let gone = "ActiveState=inactive\n";
    for (unit, now) in [
        ("app.service", ENDED.to_owned()),
        // SIGTERM from somebody is a clean end too.
        (
            "app.service",
            ENDED.replace("Code=1", "Code=2").replace("Status=0", "Status=15"),
        ),
        // Without a main process that systemd knows.
        ("fork.service", ENDED.replace("=900", "=0")),
        (
            "usb.mount",
            format!("{gone}ActiveExitTimestampMonotonic=5\nInactiveEnterTimestampMonotonic=5\n"),
        ),
        // Its automount mounts it, its timer starts it, nothing may start it.
        ("auto.mount", format!("{gone}TriggeredBy=auto.automount\n")),
        (
            "backup.service",
            format!("{STOPPED}Result=timeout\nTriggeredBy=backup.timer\n"),
        ),
        ("off.service", format!("{gone}LoadState=masked\n")),
        ("away.service", format!("{gone}FragmentPath=\n")),
        ("run.service", format!("{gone}Transient=yes\n")),
    ] {
        assert_eq!(again(unit, &now, "", &[]), "reverted", "{unit} {now}");
    }
    // Its device was pulled out.
    let plugged = format!("{STOPPED}BindsTo=dev-ttyUSB0.device\n");
    let unplugged = [("unplugged", "")];
    assert_eq!(again("gps.service", &plugged, "", &unplugged), "reverted");
    assert_eq!(again("gps.service", &plugged, "", &[]), "gps.service reverted");
}

#[test]
fn n2_what_was_stopped_or_failed_is_started_and_must_be_up_then() {
    let failed = ENDED.replace("Status=0", "Status=1");
    let cases = [
        ("app.service", STOPPED),
        // A switch resets what had failed.
        ("app.service", failed.as_str()),
        ("app.service", "ActiveState=failed\nResult=exit-code\n"),
        ("lone.socket", UNLOADED),
        ("lone.service", UNLOADED),
        ("tick.timer", UNLOADED),
        (
            "data.mount",
            "ActiveState=inactive\nActiveExitTimestampMonotonic=5\nInactiveEnterTimestampMonotonic=6\n",
        ),
        // A finished set-up that was undone.
        (
            "fw.service",
            &format!("{STOPPED}RemainAfterExit=yes\nExecMainExitTimestampMonotonic=1\n"),
        ),
    ];
    for (unit, now) in cases {
        assert_eq!(again(unit, now, "", &[]), format!("{unit} reverted"), "{now}");
        let stays = format!("{unit} revert-failed reason={unit} ran before and stays down");
        assert_eq!(again(unit, now, now, &[]), stays, "{now}");
    }
    // By the way in which it may be started.
    assert_eq!(
        again(
            "dep.service",
            &format!("{STOPPED}RefuseManualStart=yes\n"),
            "",
            &[]
        ),
        "Wants= dep.service After= dep.service reverted"
    );
    // What began and ended well at once, as on an idle bus, or whose condition does not hold any more, is not down.
    assert_eq!(again("bus.service", STOPPED, ENDED, &[]), "bus.service reverted");
    let unfit = format!("{STOPPED}ConditionResult=no\nConditionTimestampMonotonic=990\n");
    assert_eq!(again("app.service", STOPPED, &unfit, &[]), "app.service reverted");
    // One that was never looked at says "no" as well.
    let unseen = format!("{STOPPED}ConditionResult=no\nConditionTimestampMonotonic=0\n");
    assert_eq!(
        again("app.service", STOPPED, &unseen, &[]),
        "app.service revert-failed reason=app.service ran before and stays down"
    );
}
