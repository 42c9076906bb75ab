//! The zoo: every kind of host that people have, and what a person does with it. Each kind is a host of its own, made by
//! scripts of tests/lab/kinds and variants of the fixture; on it the same deeds are done one after the other, and after
//! each the exit code, what runs, and what is left are held against the table. `tests/run --full` prints the matrix.

mod kinds;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::hand::{kill_operator, root};
use crate::infra::configure;
use crate::lab::{Lab, Output};

const LONG: Duration = Duration::from_secs(90);
/// A lease of five seconds, a revert, and two busy cores.
const BACK: Duration = Duration::from_secs(60);

/// A kind of host, and what may be expected of it.
#[derive(Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    /// What the target's systems are made from beside the candidate: a variant, and its lines `KEY=VALUE`.
    pub system: (&'static str, &'static [&'static str]),
    /// Scripts of tests/lab/kinds, in order: the host, the script, its arguments.
    pub scripts: &'static [(&'static str, &'static [&'static str])],
    /// Lines of `[target.cortex]`, and tables that follow it.
    pub target: &'static str,
    /// `[builder]`'s host.
    pub builder: &'static str,
    /// systemd knows that it is in a container: such a host is never rebooted.
    pub container: bool,
    /// The variant that makes a candidate bad.
    pub fault: &'static str,
    /// What the operator's shell has in its environment.
    pub env: &'static str,
    /// A script that runs on the host before every deed, and its arguments.
    pub each: &'static [&'static str],
    /// What has to hold on the host after every deed, by root's shell.
    pub holds: &'static str,
    pub expected: Expected,
}

#[derive(Clone, Copy)]
pub enum Expected {
    /// Every deed works as on any other host.
    Good,
    Refused(Refusal),
}

/// A host that no release goes to. It stays as it is.
#[derive(Clone, Copy)]
pub struct Refusal {
    /// Of `check` and `release`.
    pub exit: i32,
    /// Words of the sentence that says why.
    pub why: &'static str,
    /// `rollback` goes there all the same; else it is refused as a release is.
    pub rollback: bool,
    /// Of `status --live`.
    pub live: i32,
}

/// A host like every other.
pub const KIND: Kind = Kind {
    name: "",
    system: ("", &[]),
    scripts: &[],
    target: "user = \"jarvis\"\n",
    builder: "forge",
    container: false,
    fault: "Bfail",
    env: "",
    each: &[],
    holds: "",
    expected: Expected::Good,
};

/// One host of a kind, and what was seen of it.
struct Trial<'a> {
    lab: &'a Lab,
    kind: &'a Kind,
    boot: String,
    failed_units: String,
    number: u32,
    cells: Vec<String>,
    wrong: Vec<String>,
}

const BOOT: &str = "cat /proc/sys/kernel/random/boot_id";
const FAILED_UNITS: &str = "systemctl list-units --state=failed --plain --no-legend | awk '{ print $1 }'";
/// What is left of ours on a host: units, processes, directories of runs, temporary roots.
const LEFT: &str = "systemctl list-units --all --plain --no-legend 'nixgate-*' | awk '{ print $1 }'; \
    pgrep -fa 'supervisor[.]sh'; ls /run/nixgate 2>/dev/null | grep -v -e '^lock$'; \
    ls /nix/var/nix/gcroots/nixgate/tmp 2>/dev/null; [ ! -e /run/nixgate/lock ] || flock -n /run/nixgate/lock true || echo locked";

impl Trial<'_> {
    fn git_nixgate(&self, args: &str) -> Output {
        let command = format!("cd ~/infra && {} git nixgate {args}", self.kind.env);
        self.lab.sh_within("desk", "op", &command, 3 * LONG)
    }

    /// Commits a system of this kind that differs from all others; `fault` is a variant that breaks it.
    fn candidate(&mut self, fault: &str) {
        self.number += 1;
        let hello = format!("packages.hello=\"3.{}\"", self.number);
        let names = [self.kind.system.0, fault, "hello"];
        let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
        let lines = [self.kind.system.1, &[hello.as_str()]].concat();
        self.lab.variant_with("cortex", &names.join("+"), &lines);
    }

    fn running(&self) -> String {
        self.lab.running_system("cortex")
    }

    /// What is done before each deed; what runs then.
    fn begin(&self) -> String {
        if let Some((script, arguments)) = self.kind.each.split_first() {
            self.lab.kind_with("cortex", script, arguments);
        }
        self.running()
    }

    /// Looks until nothing of ours is left; what is.
    fn left(&self) -> String {
        let clock = Instant::now();
        loop {
            let left = self.lab.sh("cortex", "root", LEFT).stdout;
            if left.is_empty() || clock.elapsed() > Duration::from_secs(20) {
                return left.replace('\n', " ");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// One cell: `seen` is what is printed in any case, `want` what it has to be. What is the same for all deeds is looked
    /// at here: reboots, units that failed, left-overs, and what the kind itself wants to hold.
    fn cell(&mut self, deed: &str, mut seen: String, want: &str, out: &Output) {
        let mut wrong = Vec::new();
        if root(self.lab, "cortex", BOOT) != self.boot {
            wrong.push("rebooted".to_owned());
        }
        let failed = root(self.lab, "cortex", FAILED_UNITS);
        if failed != self.failed_units {
            wrong.push(format!("failed units: {}", failed.replace('\n', " ")));
        }
        let left = self.left();
        if !left.is_empty() {
            wrong.push(format!("left: {left}"));
        }
        if !self.kind.holds.is_empty() {
            let holds = self.lab.sh("cortex", "root", self.kind.holds);
            if !holds.ok() {
                wrong.push(format!("does not hold: {}{}", holds.stdout, holds.stderr));
            }
        }
        for text in &wrong {
            let _ = write!(seen, ", {text}");
        }
        if seen != want {
            seen = format!("{seen} (WRONG)");
            self.wrong.push(format!(
                "{}: {deed}: {seen}, wanted {want}: {out}",
                self.kind.name
            ));
        }
        // Not held back until the end: a group takes minutes.
        let _ = writeln!(std::io::stderr(), "{}: {deed}: {seen}", self.kind.name);
        self.cells.push(seen);
    }

    /// "1, before" or "0, candidate": what a deed ended with, and what runs.
    fn ended(&self, out: &Output, before: &str) -> String {
        let now = match self.running() == before {
            true => "before",
            false => "candidate",
        };
        format!("{} {now}", out.status)
    }

    fn deed(&mut self, name: &str, args: &str, want: &str) {
        let before = self.begin();
        let out = self.git_nixgate(args);
        let seen = self.ended(&out, &before);
        self.cell(name, seen, want, &out);
    }

    /// The operator dies at the first renewal of the lease. Nobody says anything to the host until it has gone back.
    fn killed(&mut self) {
        let before = self.begin();
        let command = format!(
            "cd ~/infra && rm -f /tmp/crossed*; {} NIXGATE_BOUNDARY='wait: renew:/tmp/crossed' git nixgate release cortex",
            self.kind.env
        );
        let mut run = self.lab.spawn("desk", "op", &command);
        let clock = Instant::now();
        while run.is_running()
            && clock.elapsed() < LONG
            && !self.lab.sh("desk", "root", "test -e /tmp/crossed.waiting").ok()
        {
            std::thread::sleep(Duration::from_millis(30));
        }
        let switched = run.is_running() && self.running() != before;
        kill_operator(self.lab, &mut run);
        let clock = Instant::now();
        let back = loop {
            let free = "[ -z \"$(systemctl list-units --all --plain --no-legend 'nixgate-*')\" ] && flock -n /run/nixgate/lock true";
            if self.running() == before && self.lab.sh("cortex", "root", free).ok() {
                break true;
            }
            if clock.elapsed() > BACK {
                break false;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let alone = match (switched, back) {
            (false, _) => "never switched",
            (true, true) => "before",
            (true, false) => "not back",
        };
        // A host that rebooted answers again a moment later.
        self.lab.wait_for(
            "desk",
            "ssh-keyscan -T 2 cortex 2>/dev/null | grep -q . || true",
            LONG,
        );
        let out = self.git_nixgate("resume cortex");
        let seen = format!("{alone}; resume {}", self.ended(&out, &before));
        self.cell("killed", seen, "before; resume 4 before", &out);
    }

    fn good(&mut self) {
        self.candidate("");
        self.deed("check", "check cortex", "0 before");
        self.deed("release", "release cortex", "0 candidate");
        let first = self.running();
        if !self.wrong.is_empty() {
            return self.cells.push("the rest was not tried".to_owned());
        }
        self.candidate(self.kind.fault);
        self.deed("bad", "release cortex", "4 before");
        self.candidate("");
        self.killed();
        self.candidate("");
        self.deed("again", "release cortex", "0 candidate");
        self.deed("rollback", "rollback cortex", "0 candidate");
        if self.running() != first {
            self.wrong.push(format!(
                "{}: the rollback did not lead to the first release",
                self.kind.name
            ));
        }
        self.deed("live", "status cortex --live", "0 before");
    }

    fn refused(&mut self, refusal: &Refusal) {
        self.candidate("");
        for deed in ["check", "release", "rollback"] {
            let before = self.begin();
            let out = self.git_nixgate(&format!("{deed} cortex"));
            let mut seen = self.ended(&out, &before);
            let want = match deed == "rollback" && refusal.rollback {
                true => "0 candidate".to_owned(),
                false => {
                    if !format!("{}{}", out.stdout, out.stderr).contains(refusal.why) {
                        seen.push_str(" in other words");
                    }
                    if out.stderr.contains("\nbuild\n") {
                        seen.push_str(" after preflight");
                    }
                    format!("{} before", refusal.exit)
                }
            };
            self.cell(deed, seen, &want, &out);
            if deed == "release" {
                // No host of this kind can come there.
                self.cells.extend(["-", "-", "-"].map(str::to_owned));
            }
        }
        self.deed(
            "live",
            "status cortex --live",
            &format!("{} before", refusal.live),
        );
        self.cells.push(format!("\"{}\"", refusal.why));
    }
}

/// Makes the host one of the kind, from where every host begins.
fn become_one(lab: &Lab, kind: &Kind) {
    let (name, lines) = kind.system;
    if !name.is_empty() {
        lab.variant_with("cortex", name, lines);
        let top = crate::hand::name_in(&lab.lab(&[&["closure", "cortex", name], lines].concat()));
        root(
            lab,
            "cortex",
            &format!(
                "nix-env -p /nix/var/nix/profiles/system --set {top} && {top}/bin/switch-to-configuration boot >&2 && \
                 {{ grep -q {top} /boot/extlinux/extlinux.conf || rm -rf /boot/extlinux; }} && systemctl --no-block reboot"
            ),
        );
        lab.wait_for(
            "cortex",
            &format!(
                "now=$(readlink -f /run/current-system); [ $now = {top} ] || [ $now = \"$(readlink -f {top}/specialisation/debug)\" ]"
            ),
            LONG,
        );
    }
    // Where no toplevel changed it, it has listened since the lab came up.
    lab.wait_for(
        "cortex",
        "ss -ltnH '( sport = :22 or sport = :2222 )' | grep -q .",
        LONG,
    );
    if !kind.container {
        lab.kind("cortex", "machine");
    }
    for (host, words) in kind.scripts {
        lab.kind_with(host, words[0], &words[1..]);
    }
}

fn config(kind: &Kind) -> String {
    format!(
        "version = 1\n[builder]\nhost = \"{}\"\n[timeouts]\nsettle = 0\nsoak = 1\nconfirm = 5\n\
         [preflight]\nusage-factor = 0\n[target.cortex]\n{}",
        kind.builder, kind.target
    )
}

/// All deeds on one host of a kind: its row of the matrix, and what is wrong in it.
fn tried(kind: &Kind) -> (String, Vec<String>) {
    let name: String = kind
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(20)
        .collect();
    let lab = Lab::up(
        &format!("zoo-{}", name.trim_matches('-').to_lowercase()),
        &["desk", "forge", "git", "cortex"],
    );
    let mut trial = Trial {
        lab: &lab,
        kind,
        boot: String::new(),
        failed_units: String::new(),
        number: 0,
        cells: Vec::new(),
        wrong: Vec::new(),
    };
    let plain = Kind {
        name: kind.name,
        ..KIND
    };
    if !matches!(kind.expected, Expected::Good) {
        // Where to go back to: released before the host became one of its kind.
        configure(&lab, &config(&plain));
        trial.kind = &plain;
        for _ in 0..2 {
            trial.candidate("");
            let out = trial.git_nixgate("release cortex");
            assert_eq!(out.status, 0, "before it was one of its kind: {out}");
        }
        trial.kind = kind;
    }
    become_one(&lab, kind);
    if matches!(kind.expected, Expected::Good) || config(kind) != config(&plain) {
        configure(&lab, &config(kind));
    }
    trial.boot = root(&lab, "cortex", BOOT);
    trial.failed_units = root(&lab, "cortex", FAILED_UNITS);
    match &kind.expected {
        Expected::Good => trial.good(),
        Expected::Refused(refusal) => trial.refused(refusal),
    }
    (row(&trial.cells), trial.wrong)
}

const DEEDS: [&str; 7] = [
    "check",
    "release",
    "bad",
    "operator killed",
    "again",
    "rollback",
    "status --live",
];

/// The cells of a row, each below its deed.
fn row<T: AsRef<str>>(cells: &[T]) -> String {
    let widths = [11, 11, 11, 25, 11, 11, 11];
    let cell = |(number, cell): (usize, &T)| {
        format!("{:1$}", cell.as_ref(), widths.get(number).copied().unwrap_or(0))
    };
    cells.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ")
}

/// How many hosts of a group are tried at a time: they mostly wait.
const AT_ONCE: usize = 2;

/// All kinds of a group, each on hosts of its own; the rows go where `tests/run` prints them from.
#[track_caller]
fn matrix(group: &str, kinds: &[Kind]) {
    let only = std::env::var("NIXGATE_KIND").unwrap_or_default();
    let kinds: Vec<&Kind> = kinds.iter().filter(|kind| kind.name.contains(&only)).collect();
    assert!(!kinds.is_empty(), "no kind is called {only:?}");
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        while let Some((number, kind)) = {
            let number = next.fetch_add(1, Ordering::Relaxed);
            kinds.get(number).map(|kind| (number, *kind))
        } {
            let clock = Instant::now();
            let (row, bad) = catch_unwind(AssertUnwindSafe(|| tried(kind))).unwrap_or_else(|panic| {
                let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                (
                    "could not be tried (WRONG)".to_owned(),
                    vec![format!("{}: {said}", kind.name)],
                )
            });
            let row = format!(
                "{:42}  {row}  ({:.0} s)\n",
                kind.name,
                clock.elapsed().as_secs_f64()
            );
            rows.lock()
                .expect("nobody panics holding it")
                .insert(number, (row, bad));
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(work))));
    let rows = rows.into_inner().expect("nobody panicked holding it");
    let mut text = format!("{:42}  {}\n", group, row(&DEEDS));
    rows.values().for_each(|(row, _)| text.push_str(row));
    println!("{text}");
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("sweep");
    std::fs::create_dir_all(&folder).expect("a folder for the tables");
    std::fs::write(folder.join(format!("zoo-{group}")), &text).expect("written");
    let wrong: Vec<&str> = rows
        .values()
        .flat_map(|(_, bad)| bad.iter().map(String::as_str))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} cells are wrong:\n{}\n\n{text}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
#[ignore = "minutes: tests/run --full"]
fn full_logins() {
    matrix("1-logins", kinds::LOGINS);
}

#[test]
#[ignore = "minutes: tests/run --full"]
fn full_sudo() {
    matrix("2-sudo", kinds::SUDO);
}

#[test]
#[ignore = "minutes: tests/run --full"]
fn full_nix() {
    matrix("3-nix", kinds::NIX);
}

#[test]
#[ignore = "minutes: tests/run --full"]
fn full_sshd() {
    matrix("4-sshd", kinds::SSHD);
}

#[test]
#[ignore = "minutes: tests/run --full"]
fn full_ssh_config() {
    matrix("5-ssh-config", kinds::SSH_CONFIG);
}

#[test]
#[ignore = "minutes: tests/run --full"]
fn full_systems() {
    matrix("6-systems", kinds::SYSTEMS);
}

/// What each alone does in the matrix, on one host that is all of them, for the suite that everybody runs.
#[test]
fn one_host_of_many_kinds() {
    matrix("0-often", &[kinds::MANY]);
}
