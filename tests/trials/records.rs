//! Records between clones, the remote and the host: races, a remote that is away, fresh clones, tampering.

use std::time::Duration;

use crate::hand::{at_desk, clone_is_tidy, desk, evidence, good, name_in, nothing_left, root, trailer};
use crate::infra::{CONFIG, expect, host_state, refs, release, usual, with_config};
use crate::lab::{Lab, Output};

/// A command in op2's clone.
#[track_caller]
fn op2(lab: &Lab, command: &str) -> Output {
    lab.sh("desk", "op2", &format!("cd ~/infra && {command}"))
}

/// op's commits are pushed, and op2's clone stands where op's does.
#[track_caller]
fn both_at_the_same_commit(lab: &Lab) {
    desk(lab, "git push -q origin main");
    op2(lab, "git pull -q --ff-only origin main").text();
}

/// How many record tags the git server has.
#[track_caller]
fn published(lab: &Lab) -> u32 {
    let count = root(
        lab,
        "git",
        "git -c safe.directory='*' -C /srv/git/infra.git for-each-ref refs/tags/release | wc -l",
    );
    count.parse().unwrap()
}

#[track_caller]
fn remote_stops(lab: &Lab) {
    root(
        lab,
        "git",
        "systemctl stop ssh.socket ssh.service sshd.service 2>/dev/null; ! ss -ltn | grep -q ':22 '",
    );
}

#[track_caller]
fn remote_returns(lab: &Lab) {
    root(lab, "git", "systemctl start ssh.service");
    lab.wait_for("git", "ss -ltn | grep -q ':22 '", Duration::from_secs(10));
}

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

#[test]
fn a_remote_that_is_away_refuses_a_release_and_offline_publishes_the_same_object_later() {
    let lab = usual("remote-down");
    release(&lab, "cortex");
    lab.variant("cortex", "B");
    let (state, before) = (host_state(&lab, "cortex"), refs(&lab));
    remote_stops(&lab);
    let out = expect(&lab, 1, &["release", "cortex"]);
    assert!(out.stderr.contains("--offline"), "{out}");
    assert_eq!((host_state(&lab, "cortex"), refs(&lab)), (state, before));

    let out = expect(&lab, 8, &["release", "cortex", "--offline"]);
    assert!(out.stderr.contains("git nixgate publish cortex"), "{out}");
    let pending = desk(
        &lab,
        "git for-each-ref --format='%(objectname)' refs/nixgate/pending",
    );
    assert_eq!(pending.lines().count(), 1);
    assert_eq!(published(&lab), 1);
    assert!(
        expect(&lab, 0, &["log", "cortex"])
            .stdout
            .contains("not published")
    );
    expect(&lab, 0, &["verify", "cortex"]);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    // Again, on top of what waits; and a rollback never waits for a remote.
    good(&lab, "cortex", 1);
    expect(&lab, 8, &["release", "cortex", "--offline"]);
    expect(&lab, 8, &["rollback", "cortex"]);
    expect(&lab, 8, &["publish", "cortex"]);
    let ids = desk(
        &lab,
        "git for-each-ref --format='%(objectname)' refs/nixgate/pending",
    );
    assert_eq!((ids.lines().count(), ids.contains(&pending)), (3, true), "{ids}");

    remote_returns(&lab);
    let out = expect(&lab, 0, &["publish", "cortex"]);
    assert_eq!(out.stdout.lines().count(), 3, "{out}");
    clone_is_tidy(&lab);
    assert_eq!(published(&lab), 4);
    let there = root(
        &lab,
        "git",
        "git -c safe.directory='*' -C /srv/git/infra.git for-each-ref --format='%(objectname)' refs/tags/release",
    );
    assert!(ids.lines().all(|id| there.contains(id)), "not the same objects");
    expect(&lab, 0, &["verify", "cortex"]);
    assert!(
        expect(&lab, 0, &["publish", "cortex"])
            .stdout
            .contains("everything is published")
    );
    let sides = refs(&lab);
    let (here, there) = sides.split_once("---\n").unwrap();
    assert_eq!(here, there);
}

#[test]
fn a_remote_lost_after_the_switch_leaves_a_proven_host_and_a_record_that_waits() {
    let lab = with_config(
        "remote-lost",
        &["desk", "forge", "git", "cortex"],
        &CONFIG.replace("soak = 0", "soak = 6"),
    );
    release(&lab, "cortex");
    lab.variant("cortex", "B");
    let mut run = lab.spawn_nixgate("op", &["release", "cortex"]);
    run.wait_for_stderr("\nvalidate\n", Duration::from_secs(60));
    lab.cut("git");
    let out = run.wait(Duration::from_secs(120)).unwrap();
    assert_eq!(out.status, 8, "{out}");
    expect(&lab, 0, &["health", "cortex"]);
    nothing_left(&lab, "cortex", Duration::from_secs(20));
    lab.heal("git");
    lab.wait_for(
        "desk",
        "ssh-keyscan -T 2 git >/dev/null 2>&1",
        Duration::from_secs(20),
    );
    expect(&lab, 0, &["resume", "cortex"]);
    clone_is_tidy(&lab);
    assert_eq!(published(&lab), 2);
    expect(&lab, 0, &["verify", "cortex"]);
}

#[test]
fn s1_15_a_fresh_clone_without_init_logs_verifies_deploys_and_rolls_back() {
    let lab = usual("s1-15");
    let first = release(&lab, "cortex");
    let old = lab.running_system("cortex");
    lab.variant("cortex", "B");
    let second = release(&lab, "cortex");
    let new = lab.running_system("cortex");
    desk(&lab, "git push -q origin main");
    let fresh = |exit: i32, command: &str| {
        let out = lab.sh("desk", "op2", &format!("cd ~/fresh && {command}"));
        assert_eq!(out.status, exit, "{command}: {out}");
        out
    };
    lab.sh("desk", "op2", "git clone -q git@git:/srv/git/infra.git ~/fresh")
        .text();
    let log = fresh(0, "git nixgate log cortex").stdout;
    assert!(log.contains(&first) && log.contains(&second), "{log}");
    fresh(0, "git nixgate verify");
    let status = fresh(0, "git nixgate status cortex --live").stdout;
    assert!(status.contains(second.rsplit('/').next().unwrap()), "{status}");
    fresh(0, "git nixgate rollback cortex");
    assert_eq!(lab.running_system("cortex"), old);
    fresh(0, &format!("git nixgate deploy cortex --to {second}"));
    assert_eq!(lab.running_system("cortex"), new);
    fresh(0, "git nixgate verify cortex");
    // Another one, whose first command deploys.
    lab.sh(
        "desk",
        "op2",
        "rm -rf ~/fresh && git clone -q git@git:/srv/git/infra.git ~/fresh",
    )
    .text();
    fresh(0, &format!("git nixgate rollback cortex --to {first}"));
    assert_eq!(lab.running_system("cortex"), old);
    lab.sh(
        "desk",
        "op2",
        "rm -rf ~/fresh && git clone -q git@git:/srv/git/infra.git ~/fresh",
    )
    .text();
    fresh(0, &format!("git nixgate deploy cortex --to {second}"));
    assert_eq!(published(&lab), 6);
    // op's clone takes it all over.
    expect(&lab, 0, &["rollback", "cortex"]);
    expect(&lab, 0, &["verify", "cortex"]);
}

#[test]
fn nothing_to_do_makes_no_record_at_a_newer_commit_either_and_again_makes_one() {
    let lab = usual("nothing");
    let first = release(&lab, "cortex");
    let (state, before) = (host_state(&lab, "cortex"), refs(&lab));
    desk(&lab, "git commit -q --allow-empty -m 'Later'");
    let journal = "journalctl --no-pager -o cat | grep -c -e 'switch-to-configuration' -e 'supervisor.sh'; :";
    let seen = root(&lab, "cortex", journal);
    let out = expect(&lab, 0, &["release", "cortex"]);
    assert!(
        out.stdout.contains("nothing to do") && out.stdout.contains(&first),
        "{out}"
    );
    assert_eq!((host_state(&lab, "cortex"), refs(&lab)), (state, before));
    assert_eq!(
        root(&lab, "cortex", journal),
        seen,
        "an unchanged host sees only reads"
    );
    let again = name_in(&expect(&lab, 0, &["release", "cortex", "--again"]));
    assert_ne!(again, first);
    assert_eq!(
        desk(&lab, "git rev-parse release/cortex"),
        desk(&lab, "git rev-parse HEAD")
    );
    // An older commit is no release: the pointer only moves on.
    let out = expect(&lab, 3, &["release", "cortex", "--rev", "HEAD~1"]);
    assert!(out.stderr.contains("rollback cortex --to"), "{out}");
    desk(
        &lab,
        "git checkout -q -b side HEAD~1 && git commit -q --allow-empty -m 'Side'",
    );
    let out = expect(&lab, 3, &["release", "cortex"]);
    assert!(out.stderr.contains("merge -s ours"), "{out}");
}

#[test]
fn a_host_that_carries_a_record_nobody_has_is_refused_and_can_be_superseded() {
    let lab = usual("supersede");
    release(&lab, "cortex");
    both_at_the_same_commit(&lab);
    good(&lab, "cortex", 1);
    remote_stops(&lab);
    expect(&lab, 8, &["release", "cortex", "--offline"]);
    let lost = desk(
        &lab,
        "git for-each-ref --format='%(refname:strip=2)' refs/tags/release | tail -n 1",
    );
    remote_returns(&lab);
    // op's laptop is gone; op2 has only what was published.
    op2(&lab, "git commit -q --allow-empty -m 'Theirs'").text();
    let state = host_state(&lab, "cortex");
    for command in ["release cortex --again", "rollback cortex"] {
        let out = op2(&lab, &format!("git nixgate {command}"));
        assert_eq!(out.status, 3, "{command}: {out}");
        assert!(out.stderr.contains(&lost) && out.stderr.contains("(op)"), "{out}");
        assert!(
            out.stderr.contains("publish cortex") && out.stderr.contains("--supersede"),
            "{out}"
        );
    }
    assert_eq!(host_state(&lab, "cortex"), state);
    let out = op2(&lab, "git nixgate release cortex --supersede");
    let name = name_in(&out);
    let kept = op2(&lab, &format!("git cat-file tag {name}"));
    assert!(kept.stdout.contains("superseded"), "{kept}");
    op2(&lab, "git nixgate verify cortex").text();
    // The laptop comes back: its record lost, and nothing here pretends otherwise.
    let out = expect(&lab, 3, &["publish", "cortex"]);
    assert!(!out.stderr.is_empty());
}

#[test]
fn s1_19_the_evidence_can_be_recomputed_and_one_changed_byte_is_found() {
    let lab = usual("s1-19");
    release(&lab, "cortex");
    lab.variant("cortex", "B");
    let name = release(&lab, "cortex");
    let whole = evidence(&lab, &name);
    let found = &whole["predicate"];
    // Recomputed on the target, by its own tools alone.
    let toplevel = lab.running_system("cortex");
    assert_eq!(found["toplevel"].as_str(), Some(toplevel.as_str()));
    let digest = root(
        &lab,
        "cortex",
        &format!(
            "nix-store -qR {toplevel} | LC_ALL=C sort | while read -r p; do \
             h=$(nix-store -q --hash $p); printf '%s\\0sha256:%s\\n' $p $(nix-hash --type sha256 --to-base16 ${{h#sha256:}}); \
             done | sha256sum | cut -d' ' -f1"
        ),
    );
    assert_eq!(found["closure_digest"].as_str(), Some(digest.as_str()));
    let nar = root(
        &lab,
        "cortex",
        &format!("nix-store --dump {toplevel} | sha256sum | cut -d' ' -f1"),
    );
    assert_eq!(found["nar_hash"], format!("sha256:{nar}"));
    let paths = root(&lab, "cortex", &format!("nix-store -qR {toplevel} | wc -l"));
    assert_eq!(found["paths"].to_string(), paths);
    let drv = found["drv"].as_str().unwrap();
    assert_eq!(
        root(&lab, "forge", &format!("nix-store -q --outputs {drv}")),
        toplevel
    );
    assert_eq!(
        found["flake_lock_sha256"].as_str(),
        Some(desk(&lab, "git show HEAD:flake.lock | sha256sum | cut -d' ' -f1").as_str())
    );
    assert_eq!(
        whole["subject"][0]["digest"]["gitCommit"],
        desk(&lab, "git rev-parse HEAD")
    );
    assert_eq!(
        whole["subject"][1]["digest"]["gitTree"],
        desk(&lab, "git rev-parse 'HEAD^{tree}'")
    );
    assert_eq!(
        found["generation_after"].to_string(),
        root(
            &lab,
            "cortex",
            "readlink /nix/var/nix/profiles/system | tr -dc 0-9"
        )
    );
    // Nothing of addresses, users on hosts and the operator's home.
    let raw = desk(&lab, &format!("git cat-file tag {name}"));
    for word in ["jarvis", "10.77.", "/home/op", "/root"] {
        assert!(!raw.contains(word), "{word}: {raw}");
    }
    // The page's own verifier.
    let by_hand = at_desk(&lab, BY_HAND);
    assert_eq!(by_hand.text(), "", "{by_hand}");

    // One byte, wherever it is.
    expect(&lab, 0, &["verify"]);
    let kept = desk(&lab, &format!("git rev-parse refs/tags/{name}"));
    for (what, from, to) in [
        ("evidence", "\"paths\":", "\"paths\":1"),
        ("prose", "built by", "built by "),
        ("trailer", "Nixgate-Seq: 2", "Nixgate-Seq: 3"),
        ("subject line", "^Release cortex at", "Release cortex on"),
        (
            "subject of the commit",
            "^\\(Release cortex at [0-9a-f]*: .*\\)$",
            "\\1!",
        ),
        ("tagger", "tagger The", "tagger Thy"),
    ] {
        let forged = desk(
            &lab,
            &format!(
                "git cat-file tag {kept} | sed 's/{from}/{to}/' >/tmp/forged && git hash-object -t tag -w --literally /tmp/forged"
            ),
        );
        assert_ne!(forged, kept, "{what}");
        // Only the tag: it is elsewhere than its record says. The ledger as well: the object is another.
        desk(&lab, &format!("git update-ref refs/tags/{name} {forged}"));
        let out = expect(&lab, 1, &["verify", "cortex"]);
        assert!(out.stdout.contains("BROKEN"), "{what}: {out}");
        let published = "git update-ref refs/nixgate/remotes/origin/ledger/cortex";
        desk(
            &lab,
            &format!("git update-ref refs/nixgate/ledger/cortex {forged} && {published} {forged}"),
        );
        let out = expect(&lab, 1, &["verify", "cortex"]);
        assert!(out.stdout.contains("BROKEN"), "{what}: {out}");
        desk(
            &lab,
            &format!(
                "git update-ref refs/nixgate/ledger/cortex {kept} && {published} {kept} && git update-ref refs/tags/{name} {kept}"
            ),
        );
        expect(&lab, 0, &["verify", "cortex"]);
    }
    expect(&lab, 0, &["verify", &name]);
    // Where tags are signed, a newest record that is not is worth a word.
    let said = "the newest is not signed, although tags are signed here";
    assert!(!expect(&lab, 0, &["verify"]).stdout.contains(said));
    desk(
        &lab,
        "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/sign && git config gpg.format ssh && \
         git config user.signingkey ~/.ssh/sign && git config tag.gpgSign true",
    );
    assert!(expect(&lab, 0, &["verify"]).stdout.contains(said));
    good(&lab, "cortex", 7);
    release(&lab, "cortex");
    let out = expect(&lab, 0, &["verify"]);
    assert!(
        out.stdout.contains("1 signed") && !out.stdout.contains(said),
        "{out}"
    );
}

/// docs/format.md, "Verifying by hand".
const BY_HAND: &str = r#"cd "$(mktemp -d)" && export GIT_DIR=$HOME/infra/.git
id=$(git rev-parse refs/nixgate/ledger/cortex)
while [ -n "$id" ]; do
    git cat-file tag "$id" > raw
    name=$(sed -n 's/^tag //p;/^$/q' raw)
    [ "$(git rev-parse "refs/tags/$name")" = "$id" ] || echo "moved: $name"
    sed -n '/^-----BEGIN NIXGATE EVIDENCE-----$/{n;p;q;}' raw | tr -d '\n' | sha256sum | cut -d' ' -f1 |
        grep -qx "$(sed -n 's/^Nixgate-Evidence-SHA256: //p' raw)" || echo "changed: $name"
    id=$(sed -n 's/^Nixgate-Previous: //p' raw)
    sum=$(sed -n 's/^Nixgate-Previous-SHA256: //p' raw)
    [ -z "$id" ] || [ "$(git cat-file tag "$id" | sha256sum | cut -d' ' -f1)" = "$sum" ] || echo "broken after: $name"
done"#;

#[test]
fn s1_21_no_push_rewrites_a_release_and_every_other_push_passes() {
    let lab = usual("s1-21");
    let first = release(&lab, "cortex");
    lab.variant("cortex", "B");
    let second = release(&lab, "cortex");
    expect(&lab, 0, &["hook", "install"]);
    let server = || refs(&lab).split_once("---\n").unwrap().1.to_owned();
    let before = server();
    let refused = |dir: &str, push: &str| {
        let out = lab.sh("desk", "op", &format!("cd {dir} && {push}"));
        assert!(!out.ok(), "{push} went through: {out}");
        assert!(
            out.stderr.contains("would break the record of a release"),
            "{push}: {out}"
        );
        assert_eq!(server(), before, "{push}");
    };
    let everywhere = |dir: &str| {
        refused(
            dir,
            &format!("git push -f origin {first}^{{commit}}:refs/heads/release/cortex"),
        );
        refused(dir, "git push origin :release/cortex");
        refused(dir, "git push origin --delete release/cortex");
        refused(dir, &format!("git push origin :refs/tags/{second}"));
        refused(
            dir,
            &format!("git push -f origin refs/tags/{first}:refs/tags/{second}"),
        );
        refused(
            dir,
            &format!("git push -f origin refs/tags/{first}:refs/nixgate/ledger/cortex"),
        );
        refused(dir, "git push origin HEAD:refs/heads/release/orion");
    };
    everywhere("~/infra");
    // `git tag -f` moves a tag here; it does not get out.
    let kept = desk(&lab, &format!("git rev-parse {second}"));
    desk(&lab, &format!("git tag -f -m 'by hand' {second} HEAD"));
    refused("~/infra", "git push -f --tags origin");
    refused("~/infra", &format!("git push -f origin {second}"));
    desk(&lab, &format!("git update-ref refs/tags/{second} {kept}"));
    // From a linked work tree, and with hooks kept elsewhere.
    desk(&lab, "git worktree add -q --detach ~/linked HEAD~1");
    everywhere("~/linked");
    desk(
        &lab,
        "rm .git/hooks/pre-push && git config core.hooksPath .githooks",
    );
    expect(&lab, 0, &["hook", "install"]);
    desk(
        &lab,
        "test -x .githooks/pre-push && rm -rf ~/linked && git worktree prune",
    );
    everywhere("~/infra");
    // What has nothing to do with it.
    for push in [
        "git push -q origin main",
        "git push -q origin HEAD:refs/heads/topic HEAD:refs/tags/v1",
        "git push -q -f origin HEAD~1:refs/heads/topic",
        "git push -q origin :topic :refs/tags/v1",
        "git push -q origin release/cortex",
        "git push -q --tags origin",
    ] {
        desk(&lab, push);
    }
    assert_eq!(server(), before);
    // And the program's own pushes.
    good(&lab, "cortex", 1);
    release(&lab, "cortex");
    expect(&lab, 0, &["rollback", "cortex"]);
}

#[test]
fn s1_21_the_servers_hook_holds_against_those_who_leave_out_their_own() {
    let lab = usual("s1-21-server");
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_git-nixgate"));
    lab.put("git", binary, "/usr/local/bin/git-nixgate");
    let install = "cd /srv/git/infra.git && git nixgate hook install --server";
    root(&lab, "git", &format!("su -s /bin/sh git -c '{install}'"));
    let first = release(&lab, "cortex");
    lab.variant("cortex", "B");
    let second = release(&lab, "cortex");
    let server = || refs(&lab).split_once("---\n").unwrap().1.to_owned();
    let before = server();
    for push in [
        format!("git push --no-verify -f origin {first}^{{commit}}:refs/heads/release/cortex"),
        "git push --no-verify origin :release/cortex".to_owned(),
        format!("git push --no-verify origin :refs/tags/{second}"),
        format!("git push --no-verify -f origin refs/tags/{first}:refs/tags/{second}"),
        format!("git push --no-verify -f origin refs/tags/{first}:refs/nixgate/ledger/cortex"),
    ] {
        let out = at_desk(&lab, &push);
        assert!(
            !out.ok() && out.stderr.contains("would break the record of a release"),
            "{push}: {out}"
        );
        assert_eq!(server(), before, "{push}");
    }
    desk(
        &lab,
        "git push -q origin main HEAD:refs/heads/topic && git push -q origin :topic",
    );
    expect(&lab, 0, &["rollback", "cortex"]);
}

#[test]
fn a_host_switched_by_hand_is_drift_in_status_and_in_the_next_record() {
    let lab = usual("drift");
    release(&lab, "cortex");
    let hand_made = lab.closure("cortex", "C");
    root(
        &lab,
        "cortex",
        &format!(
            "nix-env -p /nix/var/nix/profiles/system --set {hand_made} && {hand_made}/bin/switch-to-configuration switch"
        ),
    );
    let out = expect(&lab, 1, &["status", "cortex", "--live"]);
    assert!(out.stdout.contains(&hand_made), "{out}");
    expect(&lab, 1, &["health", "cortex"]);
    lab.variant("cortex", "B");
    let out = expect(&lab, 0, &["release", "cortex"]);
    assert!(out.stderr.contains("drift"), "{out}");
    assert!(
        evidence(&lab, &name_in(&out))["predicate"]["drift"]
            .as_str()
            .unwrap()
            .contains(&hand_made)
    );
    expect(&lab, 0, &["status", "cortex", "--live"]);
}
