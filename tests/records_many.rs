//! A hundred thousand records. Run by hand, in release: `cargo test --release --test records_many -- --ignored
//! --nocapture`. The limits are those of the design: 50 ms each.

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use git_nixgate::command::hook;
use git_nixgate::git::Known;
use git_nixgate::git::{Repo, Which};
use support::{NOON, Work, many, target, utc};

const LIMIT: Duration = Duration::from_millis(50);

/// The best of several tries: other work on the machine is not what is measured.
fn best<T>(what: &str, mut work: impl FnMut() -> T) -> Duration {
    let times = (0..7).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed()
    });
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    println!("{what}: best {:?}, worst {:?}", times[0], times[6]);
    times[0]
}

/// `NIXGATE_MANY=DIR` keeps the repository for the next time.
fn repository(lab: &support::Lab, targets: usize, records: usize) -> PathBuf {
    let dir = std::env::var_os("NIXGATE_MANY").map_or_else(|| lab.path("many"), PathBuf::from);
    let dir = dir.join(format!("{targets}x{records}"));
    if !dir.exists() {
        let start = Instant::now();
        many::build(&dir, targets, records);
        println!(
            "{targets} targets with {records} records each, made in {:?}",
            start.elapsed()
        );
    }
    dir
}

#[test]
fn the_generator_makes_records_that_hold() {
    let lab = support::Lab::new();
    let dir = lab.path("few");
    many::build(&dir, 3, 5);
    let repo = Repo::open(&dir).unwrap();
    assert_eq!(repo.targets().unwrap().len(), 3);
    for name in repo.targets().unwrap() {
        let ledger = repo.ledger(&name, Which::Local).unwrap().unwrap();
        assert_eq!(ledger.records().len(), 5);
        assert!(repo.tag_defects(&ledger).unwrap().is_empty());
    }
    let work = Work { path: dir };
    assert_eq!(work.git(&["fsck", "--strict", "--no-dangling"]), "");
}

#[test]
#[ignore = "timings: by hand, in release"]
fn answers_take_no_longer_with_a_hundred_thousand_records() {
    let lab = support::Lab::new();
    let dir = repository(&lab, 100, 1000);
    let open = |dir: &Path| Repo::open(dir).unwrap();
    let cortex = target("cortex");
    best("open", || open(&dir));
    let status = best("status of all 100 targets", || {
        let repo = open(&dir);
        for target in repo.targets().unwrap() {
            let which = repo.best(&target, Some("origin")).unwrap();
            let head = repo.recent(&target, which, 1).unwrap();
            assert_eq!(head[0].seq, 1000);
        }
    });
    let log = best("log cortex -n 20", || {
        assert_eq!(open(&dir).recent(&cortex, Which::Local, 20).unwrap().len(), 20)
    });
    let repo = open(&dir);
    let records = repo.recent(&cortex, Which::Local, 2).unwrap();
    let (new, old) = (&records[0], &records[1]);
    let zero = "0".repeat(40);
    let lines = format!(
        "refs/heads/release/cortex {} refs/heads/release/cortex {}\nx {} {} {zero}\nx {} refs/nixgate/ledger/cortex {}\n",
        new.commit,
        old.commit,
        new.oid,
        new.name.ref_name(),
        new.oid,
        old.oid
    );
    let pushed = best("pre-push of a release", || {
        hook::pre_push(&dir, "origin", "url", lines.as_bytes(), |_| Known::default()).unwrap()
    });
    let rewound = format!("x {} refs/heads/release/cortex {}\n", old.commit, new.commit);
    let refused = best("pre-push of a rewind", || {
        hook::pre_push(&dir, "origin", "url", rewound.as_bytes(), |_| Known::default()).unwrap_err()
    });
    let other = format!("x {} refs/heads/main {}\n", new.commit, old.commit);
    best("pre-push of anything else", || {
        hook::pre_push(&dir, "origin", "url", other.as_bytes(), |_| Known::default()).unwrap()
    });
    best("the whole ledger of one target, 1000 records", || {
        open(&dir).ledger(&cortex, Which::Local).unwrap().unwrap()
    });
    best("the same from the tags", || {
        open(&dir).ledger(&cortex, Which::Tags).unwrap().unwrap()
    });
    best("all tags of one target", || {
        assert_eq!(open(&dir).record_tags(&cortex).unwrap().len(), 1000)
    });
    for (what, time) in [
        ("status", status),
        ("log", log),
        ("push", pushed),
        ("rewind", refused),
    ] {
        assert!(time < LIMIT, "{what} took {time:?}");
    }
}

/// The program from its start to its end, beside git's own answer about one target. `NIXGATE_BENCH_BINARY` names the
/// program where it is not this profile's.
#[test]
#[ignore = "timings: tests/bench runs it"]
fn the_program_answers_with_a_hundred_thousand_records() {
    use std::io::Write;
    use std::process::{Command, Stdio};

    let lab = support::Lab::new();
    let dir = repository(&lab, 100, 1000);
    let program = std::env::var_os("NIXGATE_BENCH_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_git-nixgate")), PathBuf::from);
    let run = |program: &Path, args: &[&str], input: &str| {
        let mut child = Command::new(program)
            .args(args)
            .current_dir(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().count()
    };
    let records = Repo::open(&dir)
        .unwrap()
        .recent(&target("cortex"), Which::Local, 2)
        .unwrap();
    let (new, old) = (&records[0], &records[1]);
    let zero = "0".repeat(40);
    let release = format!(
        "refs/heads/release/cortex {} refs/heads/release/cortex {}\nx {} {} {zero}\nx {} refs/nixgate/ledger/cortex {}\n",
        new.commit,
        old.commit,
        new.oid,
        new.name.ref_name(),
        new.oid,
        old.oid
    );
    best("git for-each-ref refs/tags/release/cortex", || {
        let args = ["for-each-ref", "refs/tags/release/cortex"];
        assert_eq!(run(Path::new("git"), &args, ""), 1000);
    });
    let times = [
        best("git-nixgate status", || {
            assert_eq!(run(&program, &["status"], ""), 100);
        }),
        best("git-nixgate log cortex -n 20", || {
            assert_eq!(run(&program, &["log", "cortex", "-n", "20"], ""), 20);
        }),
        best("git-nixgate hook pre-push, a release", || {
            run(&program, &["hook", "pre-push", "origin", "url"], &release);
        }),
    ];
    assert!(times.iter().all(|time| *time < LIMIT), "wanted: under {LIMIT:?}");
}

#[test]
#[ignore = "timings: by hand, in release"]
fn two_thousand_records_of_one_target_and_a_journal() {
    let lab = support::Lab::new();
    let dir = repository(&lab, 1, 2000);
    let (repo, cortex) = (Repo::open(&dir).unwrap(), target("cortex"));
    best("the whole ledger, 2000 records", || {
        repo.ledger(&cortex, Which::Local).unwrap().unwrap()
    });
    let run = format!("r{}", std::process::id());
    let mut n = 0;
    best("a journal's next state", || {
        n += 1;
        let state = format!("{{\"n\":{n}}}").into_bytes();
        repo.journal_write(
            &cortex,
            &run,
            utc(NOON + n),
            &[("state.json", state), ("plan.json", vec![b'x'; 20_000])],
        )
        .unwrap()
    });
    repo.journal_drop(&cortex, &run).unwrap();
}

/// `verify` of everything, the first time and again, beside git's own looks at the same objects and tags.
#[test]
#[ignore = "timings: by hand, in release"]
fn verify_of_a_hundred_thousand_records_beside_git() {
    use std::process::Command;

    let lab = support::Lab::new();
    let dir = repository(&lab, 100, 1000);
    let program = std::env::var_os("NIXGATE_BENCH_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_git-nixgate")), PathBuf::from);
    let _ = std::fs::remove_dir_all(dir.join(".git/nixgate/verified"));
    let verify = |what: &str, args: &[&str]| {
        let start = Instant::now();
        let output = Command::new(&program)
            .args(args)
            .current_dir(&dir)
            .env("NIXGATE_COUNTS", "1")
            .output()
            .unwrap();
        let took = start.elapsed();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.matches(" 1000 records verified").count(), 100);
        let peak = said.split("peak ").nth(1).unwrap_or("unknown").trim();
        println!("{what}: {took:?}, peak memory {peak}");
        took
    };
    let first = verify("git-nixgate verify --all, the first time", &["verify", "--all"]);
    let again = verify("git-nixgate verify --all, again", &["verify", "--all"]);
    let git = |what: &str, script: &str| {
        let start = Instant::now();
        Command::new("sh")
            .args(["-c", script])
            .current_dir(&dir)
            .output()
            .unwrap();
        println!("{what}: {:?}", start.elapsed());
    };
    git("git fsck", "git fsck --no-dangling --no-progress");
    git(
        "git tag -v of the same tags, a thousand at a time",
        "git for-each-ref --format='%(refname:short)' refs/tags/release | xargs -n 1000 git tag -v",
    );
    assert!(again < first, "{again:?} the second time, {first:?} the first");
}
