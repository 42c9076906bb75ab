//! Two operators at one host: at the same time, and one behind the other.

use std::time::Duration;

use crate::hand::{clone_is_tidy, desk, good, name_in, nothing_left, root, trailer};
use crate::infra::{CONFIG, expect, host_state, release, usual, with_config};
use crate::records::{both_at_the_same_commit, op2, published};

#[test]
fn s1_20_two_operators_at_the_same_time_one_wins_and_the_other_says_who() {
    let lab = usual("race");
    release(&lab, "cortex");
    lab.variant("cortex", "B");
    both_at_the_same_commit(&lab);
    let before = published(&lab);
    let one = lab.spawn_nixgate("op", &["release", "cortex"]);
    let two = lab.spawn_nixgate("op2", &["release", "cortex"]);
    let limit = Duration::from_secs(120);
    let outs = [one.wait(limit).unwrap(), two.wait(limit).unwrap()];
    let won: Vec<usize> = (0..2)
        .filter(|i| outs[*i].status == 0 && outs[*i].stdout.contains("release/cortex/"))
        .collect();
    assert_eq!(won.len(), 1, "{}\n{}", outs[0], outs[1]);
    let (winner, loser) = (["op", "op2"][won[0]], &outs[1 - won[0]]);
    assert!([3, 6].contains(&loser.status), "{loser}");
    assert!(
        loser.stderr.contains(&format!("({winner})")),
        "it does not say that {winner} won: {loser}"
    );
    assert_eq!(published(&lab), before + 1);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    clone_is_tidy(&lab);
    assert_eq!(op2(&lab, "git for-each-ref refs/nixgate/pending").text(), "");
    // The loser, asked again, finds nothing to do.
    let again = lab.nixgate_as(["op2", "op"][won[0]], &["release", "cortex"]);
    assert!(again.text().contains("nothing to do"), "{again}");
    expect(&lab, 0, &["verify", "cortex"]);
}

#[test]
fn s3_02_a_second_run_on_a_held_host_is_told_who_holds_it() {
    let lab = with_config(
        "busy",
        &["desk", "forge", "git", "cortex"],
        &CONFIG.replace("soak = 0", "soak = 20"),
    );
    lab.variant("cortex", "B");
    both_at_the_same_commit(&lab);
    let mut one = lab.spawn_nixgate("op", &["release", "cortex"]);
    one.wait_for_stderr("\nvalidate\n", Duration::from_secs(60));
    let state = host_state(&lab, "cortex");
    let out = lab.nixgate_as("op2", &["release", "cortex"]);
    assert_eq!(out.status, 6, "{out}");
    assert!(
        out.stderr.contains("The Operator (op)") && out.stderr.contains("since 20"),
        "{out}"
    );
    let commit = desk(&lab, "git rev-parse --short=12 HEAD");
    assert!(out.stderr.contains(&commit), "{out}");
    assert_eq!(host_state(&lab, "cortex"), state);
    assert_eq!(
        lab.nixgate_as("op2", &["rollback", "cortex"]).status,
        3,
        "there is no record yet"
    );
    let out = one.wait(Duration::from_secs(60)).unwrap();
    assert_eq!(out.status, 0, "{out}");
    nothing_left(&lab, "cortex", Duration::from_secs(20));
}

/// Commits cortex as a system that can run on orion: there it is another machine that goes by cortex's name.
fn elsewhere(message: &str) -> String {
    format!("echo '{{ address = \"10.77.0.21\"; }}' >hosts/cortex.nix && git commit -qam {message}")
}

/// op's build waits for op2, who releases `theirs` meanwhile; op's run is refused and says by whom.
#[track_caller]
fn released_while_this_run_built(name: &str, theirs: &str) {
    let lab = with_config(name, &["desk", "forge", "git", "cortex", "orion"], CONFIG);
    release(&lab, "cortex");
    both_at_the_same_commit(&lab);
    crate::hand::describe(
        &lab,
        "cortex",
        "ctx: { etc.\"waited\" = builtins.readFile (ctx.run \"wait\" { } ''while [ ! -e /tmp/go ]; do sleep 0.1; done; echo 1 >$out''); }",
    );
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    lab.wait_for("forge", "pgrep -f 'tmp/go' >/dev/null", Duration::from_secs(60));
    let theirs = op2(&lab, theirs);
    let theirs = name_in(&theirs);
    let state = host_state(&lab, "cortex");
    root(&lab, "forge", "touch /tmp/go");
    assert!(run.is_running());
    let out = run.wait(Duration::from_secs(60)).unwrap();
    assert_eq!(out.status, 3, "{out}");
    assert!(
        out.stderr.contains(&theirs) && out.stderr.contains("(op2)"),
        "{out}"
    );
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    assert_eq!(host_state(&lab, "cortex"), state);
    clone_is_tidy(&lab);
}

#[test]
fn a_record_made_on_another_machine_while_this_run_built_is_noticed_under_the_lock() {
    let theirs = elsewhere("Theirs");
    released_while_this_run_built(
        "race-late",
        &format!("{theirs} && git nixgate release cortex --host orion --accept-drift"),
    );
}

#[test]
fn a_record_made_on_this_host_while_this_run_built_is_noticed_under_the_lock() {
    released_while_this_run_built(
        "race-same",
        "echo '{ packages.hello = \"5.0\"; }' >hosts/cortex.nix && git commit -qam Theirs && git nixgate release cortex",
    );
}

#[test]
fn a_lost_race_on_the_same_line_is_chained_once_more() {
    // op2 releases the commit that op's follows; that one has no soak yet.
    let config = CONFIG.replace("soak = 0", "soak = 15");
    let lab = with_config("race-line", &["desk", "forge", "git", "cortex", "orion"], CONFIG);
    op2(&lab, "git pull -q --ff-only origin main").text();
    op2(
        &lab,
        &format!("{} && git push -q origin main", elsewhere("First")),
    )
    .text();
    desk(&lab, "git pull -q --ff-only origin main");
    lab.variant("cortex", "A");
    crate::infra::configure(&lab, &config);
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("\nvalidate\n", Duration::from_secs(60));
    let theirs = name_in(&op2(&lab, "git nixgate release cortex --host orion"));
    assert!(run.is_running(), "op was faster");
    let out = run.wait(Duration::from_secs(120)).unwrap();
    assert_eq!(out.status, 0, "{out}");
    let ours = name_in(&out);
    assert_eq!(
        (trailer(&lab, &theirs, "Seq"), trailer(&lab, &ours, "Seq")),
        ("1".into(), "2".into())
    );
    assert_eq!(published(&lab), 2);
    expect(&lab, 0, &["verify", "cortex"]);
    clone_is_tidy(&lab);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    assert!(host_state(&lab, "cortex").contains(ours.rsplit('/').next().unwrap()));
}

#[test]
fn a_lost_race_against_another_line_takes_the_host_back() {
    let config = CONFIG.replace("soak = 0", "soak = 15");
    let lab = with_config("race-fork", &["desk", "forge", "git", "cortex", "orion"], CONFIG);
    op2(
        &lab,
        &format!("git pull -q --ff-only origin main && {}", elsewhere("Theirs")),
    )
    .text();
    let before = lab.running_system("cortex");
    let profile = root(
        &lab,
        "cortex",
        "readlink -f /nix/var/nix/profiles/system; cat /boot/extlinux/extlinux.conf",
    );
    crate::infra::configure(&lab, &config);
    good(&lab, "cortex", 1);
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("\nvalidate\n", Duration::from_secs(60));
    let theirs = name_in(&op2(&lab, "git nixgate release cortex --host orion"));
    assert!(run.is_running(), "op was faster");
    let out = run.wait(Duration::from_secs(120)).unwrap();
    assert_eq!(out.status, 4, "{out}");
    assert_eq!(lab.running_system("cortex"), before);
    let now = root(
        &lab,
        "cortex",
        "readlink -f /nix/var/nix/profiles/system; cat /boot/extlinux/extlinux.conf",
    );
    assert_eq!(now.lines().next(), profile.lines().next());
    assert!(now.contains(&format!("init={before}/init")), "{now}");
    assert_eq!(published(&lab), 1);
    assert_eq!(desk(&lab, "git tag -l 'release/*'"), theirs);
    clone_is_tidy(&lab);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    let runs = expect(&lab, 0, &["log", "cortex", "--failed"]).stdout;
    assert!(runs.contains("release"), "{runs}");
    expect(&lab, 0, &["verify", "cortex"]);
}
