//! The diff of two toplevels of this machine's store, as `git nixgate diff` makes it: for tests/bench-diff, which runs it on
//! a lab host beside other tools.

use git_nixgate::gate::diff::Difference;
use git_nixgate::nix::{LocalExec, StorePath, closure, unshared};
use git_nixgate::record::Target;
use git_nixgate::run::{Compared, Side};
use git_nixgate::ui::Style;
use git_nixgate::ui::diff::{Folds, text};
use std::time::{Duration, Instant};

/// The most memory that this process had, in kB (proc(5)).
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap_or_default().trim().to_owned()
}

#[test]
#[ignore = "needs NIXGATE_OLD and NIXGATE_NEW, two toplevels in this machine's store"]
fn diff_of_two_toplevels() {
    let path = |name: &str| StorePath::new(&std::env::var(name).unwrap()).unwrap();
    let (old, new) = (path("NIXGATE_OLD"), path("NIXGATE_NEW"));
    let limit = Duration::from_secs(60);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut phases: Vec<(&str, Instant)> = vec![("", Instant::now())];
    let compared = runtime.block_on(async {
        let (before, after) =
            tokio::join!(closure(&LocalExec, &old, limit), closure(&LocalExec, &new, limit));
        let (before, after) = (before.unwrap(), after.unwrap());
        phases.push(("closures", Instant::now()));
        let olds = [before.deriver().unwrap().clone()];
        let derivations = unshared(&LocalExec, after.deriver().unwrap(), &olds, limit)
            .await
            .unwrap();
        phases.push(("derivations", Instant::now()));
        let (difference, bad) = Difference::new((&before, &after), derivations.as_ref(), None);
        phases.push(("difference", Instant::now()));
        assert_eq!(bad, None);
        let side = |closure: &git_nixgate::nix::Closure| Side {
            name: closure.toplevel.name().to_owned(),
            toplevel: closure.toplevel.to_string(),
            drv: None,
            commit: None,
        };
        Compared {
            from: side(&before),
            to: side(&after),
            difference,
        }
    });
    let explained = compared.difference.explained.as_ref().unwrap();
    assert_eq!(explained.lost, Vec::<String>::new());
    let target: Target = "bench".parse().unwrap();
    print!("{}", text(&target, &compared, Folds::default(), Style::Plain));
    phases.push(("text", Instant::now()));
    for pair in phases.windows(2) {
        println!(
            "{} {} ms",
            pair[1].0,
            pair[1].1.duration_since(pair[0].1).as_millis()
        );
    }
    println!("peak {}", peak());
}
