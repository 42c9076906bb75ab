//! How often hosts are knocked at: by what their own sshd and sudo say, not by the program's count.

use crate::hand::{desk, good, root};
use crate::infra::{CONFIG, expect, usual, with_config};
use crate::lab::{Lab, Output};

/// A run with its counts, and with every act that it crossed into `/tmp/crossed`.
#[track_caller]
fn counted(lab: &Lab, args: &str) -> Output {
    let out = lab.sh(
        "desk",
        "op",
        &format!("cd ~/infra && rm -f /tmp/crossed && NIXGATE_COUNTS=1 NIXGATE_BOUNDARY=list:/tmp/crossed git nixgate {args}"),
    );
    assert!(out.ok(), "{out}");
    out
}

/// How many entries of the host's journal, behind a cursor, have these words in one line.
#[track_caller]
fn told(lab: &Lab, host: &str, cursor: &str, pattern: &str) -> usize {
    let text = lab.sh(
        host,
        "root",
        &format!("journalctl --sync; journalctl -o cat --no-pager --after-cursor='{cursor}' | grep -c -E '{pattern}' || :"),
    );
    text.text().trim().parse().expect("a number")
}

#[track_caller]
fn cursor(lab: &Lab, host: &str) -> String {
    let shown = lab.sh(
        host,
        "root",
        "journalctl --sync; journalctl -n 1 -o cat --no-pager --show-cursor | sed -n 's/^-- cursor: //p'",
    );
    shown.text().to_owned()
}

/// The number behind a word of the line `counts: connections 3 commands 9 …`.
#[track_caller]
fn count(out: &Output, word: &str) -> usize {
    let line = out.stderr.lines().find(|line| line.starts_with("counts: "));
    let mut words = line.unwrap_or_default().split(' ').skip_while(|w| *w != word);
    let number = words.nth(1).and_then(|n| n.parse().ok());
    number.unwrap_or_else(|| panic!("no count of {word}: {out}"))
}

#[test]
fn s0_10_one_master_one_fresh_connection_and_few_shells_of_root_serve_a_release() {
    let lab = usual("shells");
    lab.variant("cortex", "B");
    let before = cursor(&lab, "cortex");
    let out = counted(&lab, "release cortex");
    // The builder pushes the closure as the same user, from another address.
    let desk = lab.sh("desk", "root", "hostname -I").text().trim().to_owned();
    let let_in = told(
        &lab,
        "cortex",
        &before,
        &format!("Accepted publickey for jarvis from {desk} "),
    );
    assert_eq!(let_in, 2, "{out}");
    // A shell runs many scripts, and becomes root once for all of them: there are as many as work at once, two, and that
    // of the fresh connection.
    let sudo = told(&lab, "cortex", &before, "jarvis : .*COMMAND=");
    let acts = lab.sh("desk", "op", "cat /tmp/crossed");
    let run = |line: &&str| line.contains(" before cortex: ") && !line.ends_with("ssh master");
    let scripts = acts.text().lines().filter(run).count();
    println!("{sudo} times root by sudo for {scripts} scripts\n{acts}");
    assert!(
        (1..=3).contains(&sudo) && sudo * 2 <= scripts,
        "{sudo} times for {scripts} scripts: {out}"
    );
    assert!(count(&out, "scripts") > count(&out, "commands"), "{out}");
}

#[test]
fn questions_to_the_remote_share_a_connection() {
    let lab = usual("shared");
    lab.variant("cortex", "B");
    // A shared connection outlives its last question by three seconds: on a machine with other work to do, a run may be
    // slower than that from each of its questions to the next.
    let mut seen = Vec::new();
    for _ in 0..5 {
        let before = cursor(&lab, "git");
        let out = counted(&lab, "release cortex --again");
        let acts = lab.sh(
            "desk",
            "op",
            "grep -c -E ' before git (ls-remote|fetch|remote[.]origin)' /tmp/crossed",
        );
        let asked: usize = acts.text().trim().parse().expect("a number");
        let let_in = told(&lab, "git", &before, "Accepted publickey for ");
        assert!(
            asked >= 3 && let_in >= 1 && let_in <= asked,
            "{asked} calls, {let_in} connections: {out}"
        );
        seen.push((asked, let_in));
        if let_in < asked {
            break;
        }
    }
    println!("calls of git, connections: {seen:?}");
    assert!(seen.iter().any(|(asked, let_in)| let_in < asked), "{seen:?}");
    // Nothing of it outlives the run for long.
    lab.wait_for(
        "desk",
        "! pgrep -u op -f 'ssh: .*\\[mux\\]'",
        std::time::Duration::from_secs(30),
    );
    expect(&lab, 0, &["verify", "cortex"]);
}

/// What `keep` lets go of is let go of once: a host with a long history costs no more than one with a short one.
#[test]
fn s1_14_roots_beyond_keep_go_once_and_in_one_command_each() {
    let lab = with_config(
        "keep",
        &["desk", "forge", "git", "cortex"],
        &format!("{CONFIG}[defaults]\nkeep = 1\n"),
    );
    let scripts: Vec<usize> = (1..=5)
        .map(|number| {
            good(&lab, "cortex", number);
            count(&counted(&lab, "release cortex"), "scripts")
        })
        .collect();
    // From the third on there is one to let go of, here and on the builder.
    assert!(scripts[2] > scripts[1], "{scripts:?}");
    assert_eq!((scripts[3], scripts[4]), (scripts[2], scripts[2]), "{scripts:?}");
    let records = desk(
        &lab,
        "git for-each-ref --sort=refname --format='%(refname:lstrip=4)' refs/tags/release/cortex",
    );
    let kept: Vec<&str> = records.lines().skip(3).collect();
    let here = root(
        &lab,
        "cortex",
        "cd /nix/var/nix/gcroots/nixgate/cortex && ls -d 2*",
    );
    assert_eq!(
        here.lines().collect::<Vec<_>>(),
        kept,
        "the newest, and where a rollback goes to"
    );
    let there = crate::resume::on_builder(&lab);
    let there: Vec<&str> = there
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| name.starts_with('2'))
        .collect();
    assert_eq!(there, kept);
}
