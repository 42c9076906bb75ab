//! Too little room, too little memory: refused before anything is copied or switched, with who has it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::broken::{commit, gates, must, says, snapshot, with};
use crate::infra::{configure, expect, release, usual, with_config};
use crate::lab::Lab;

const HOSTS: [&str; 4] = ["desk", "forge", "git", "cortex"];

/// Puts all of `/nix` on a file system of its own of 96 MiB.
fn small_nix(lab: &Lab) {
    must(
        lab,
        "cortex",
        "root",
        "set -e; systemctl stop nix-daemon.socket nix-daemon.service; mkdir -p /mnt/nix
         mount -t tmpfs -o size=96m tmpfs /mnt/nix; cp -a /nix/. /mnt/nix/; mount --bind /mnt/nix /nix
         systemctl start nix-daemon.socket; df -k /nix/store",
    );
}

/// The next commit's application brings so many MiB.
fn with_blob(lab: &Lab, mib: u32) {
    let line = format!(
        "head -c {} /dev/urandom >$out/share/www/blob",
        u64::from(mib) << 20
    );
    let edit = format!("sed -i '/chmod +x $out\\/bin\\/appd/a {line}' system.nix && grep -q blob system.nix");
    commit(lab, &edit);
}

/// Something in the store that nobody needs.
fn garbage(lab: &Lab, mib: u32) -> String {
    let add = format!(
        "set -e; head -c {} /dev/urandom >/tmp/garbage; nix-store --add /tmp/garbage; rm /tmp/garbage",
        u64::from(mib) << 20
    );
    must(lab, "cortex", "root", &add)
}

#[test]
fn s3_09_a_closure_that_does_not_fit_is_refused_before_the_copy() {
    let lab = usual("s3-09");
    small_nix(&lab);
    lab.variant("cortex", "B");
    with_blob(&lab, 100);
    let before = snapshot(&lab, "cortex");
    let store = must(&lab, "cortex", "root", "ls /nix/store | sort");
    let out = expect(&lab, 1, &["release", "cortex"]);
    says(
        &out,
        &[
            "cortex: the closure does not fit on /nix",
            "missing there: ",
            "free on /nix: ",
            "git nixgate release cortex --gc",
        ],
    );
    assert_eq!(gates(&out).last(), Some(&"copy"), "{out}");
    assert_eq!(
        must(&lab, "cortex", "root", "ls /nix/store | sort"),
        store,
        "nothing was sent: {out}"
    );
    assert_eq!(snapshot(&lab, "cortex"), before, "{out}");
    // Garbage collection cannot help here, and says so instead of trying the copy.
    let out = expect(&lab, 1, &["release", "cortex", "--gc"]);
    says(&out, &[" freed", "cortex: the closure does not fit on /nix"]);
    assert_eq!(snapshot(&lab, "cortex"), before, "{out}");
}

#[test]
fn s3_13_gc_makes_room_and_takes_nothing_that_is_needed() {
    let lab = usual("s3-13");
    small_nix(&lab);
    lab.variant("cortex", "B");
    let first = release(&lab, "cortex");
    let one = lab.running_system("cortex");
    lab.variant("cortex", "C");
    let second = release(&lab, "cortex");
    let two = lab.running_system("cortex");
    lab.variant("cortex", "B");
    with_blob(&lab, 30);
    // So full that preflight already says so.
    let trash = garbage(&lab, 80);
    let before = snapshot(&lab, "cortex");
    let out = expect(&lab, 1, &["release", "cortex"]);
    says(
        &out,
        &[
            "[4/6] Disk space... FAILED (/nix 9",
            "git nixgate release cortex --gc",
        ],
    );
    assert_eq!(snapshot(&lab, "cortex"), before, "{out}");
    let out = expect(&lab, 0, &["release", "cortex", "--gc"]);
    says(&out, &[" freed"]);
    assert!(
        !lab.sh("cortex", "root", &format!("test -e {trash}")).ok(),
        "{out}"
    );
    // Everything that somebody may want back is there, whole.
    expect(&lab, 0, &["store", "check", "cortex", "--contents"]);
    expect(&lab, 0, &["rollback", "cortex", "--to", &second]);
    assert_eq!(lab.running_system("cortex"), two);
    expect(&lab, 0, &["rollback", "cortex", "--to", &first]);
    assert_eq!(lab.running_system("cortex"), one);
    expect(&lab, 0, &["rollback", "cortex", "--to", "before-first"]);
    assert_eq!(
        must(&lab, "cortex", "root", "ls /nix/var/nix/gcroots/nixgate/+tmp"),
        ""
    );
}

/// All hosts of the lab have the machine's memory: one hog at a time.
static MEMORY: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    MEMORY.lock().unwrap_or_else(PoisonError::into_inner)
}

fn available(lab: &Lab) -> u64 {
    let kib = must(
        lab,
        "cortex",
        "root",
        "sed -n 's/^MemAvailable: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo",
    );
    kib.parse::<u64>().expect("a number") / 1024
}

/// Starts a process named `hog`, in a unit of its own, that leaves an eighth less memory than the floor wants (a quarter
/// of what was available then, more if there is more now); returns when it has it. (Perl keeps a second copy of a
/// constant's repetition, and none of one in place.)
fn hog(floor: u64) -> String {
    format!(
        r#"set -e
take=$(($(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1024 - {}))
printf '#!/usr/bin/perl\n$0 = "hog"; $x = "x"; $x x= %s << 20; open F, ">", "/run/hog"; close F; sleep 3600;\n' $take >/usr/local/bin/hog
chmod +x /usr/local/bin/hog; rm -f /run/hog
systemd-run --quiet --unit=hog /usr/local/bin/hog
until test -e /run/hog; do sleep 0.05; done"#,
        floor * 7 / 8
    )
}

/// Gives `cortex` a floor (in MiB) so far below what is available now that only the hog gets there, whatever others do
/// meanwhile.
fn with_floor(lab: &Lab) -> u64 {
    let floor = available(lab) * 6 / 7;
    let config = with(&format!(
        "[target.cortex.preflight]\nmemory-free = \"{floor}MiB\"\n"
    ));
    configure(lab, &config);
    floor
}

#[test]
fn s3_10_s3_11_a_memory_hog_is_refused_by_name_and_no_hindrance_when_it_is_gone() {
    let _memory = alone();
    let lab = with_config("s3-10", &HOSTS, &with(""));
    let floor = with_floor(&lab);
    lab.variant("cortex", "B");
    let before = snapshot(&lab, "cortex");
    must(&lab, "cortex", "root", &hog(floor));
    let out = expect(&lab, 1, &["release", "cortex"]);
    says(
        &out,
        &[
            "[6/6] System load... FAILED (",
            "MiB of memory available, wants",
            "hog (pid ",
            "MiB  hog.service",
            "memory: ",
        ],
    );
    assert_eq!(snapshot(&lab, "cortex"), before, "{out}");
    must(&lab, "cortex", "root", "systemctl stop hog");
    expect(&lab, 0, &["release", "cortex"]);
}

#[test]
fn s3_10_memory_that_went_after_preflight_is_missed_before_the_copy() {
    const PATIENCE: Duration = Duration::from_secs(120);
    let _memory = alone();
    let lab = with_config("s3-10-copy", &HOSTS, &with(""));
    let floor = with_floor(&lab);
    lab.variant("cortex", "B");
    let before = snapshot(&lab, "cortex");
    let store = must(&lab, "cortex", "root", "ls /nix/store | sort");
    // The run stands still between preflight and copy: at its journal's first entry, where no answer is waited for and no
    // limit runs, for a loaded machine needs its time to give the hog its memory.
    let run = lab.spawn(
        "desk",
        "op",
        "cd ~/infra && NIXGATE_BOUNDARY='wait:before journal:/tmp/crossed' git nixgate release cortex",
    );
    lab.wait_for("desk", "[ -e /tmp/crossed.waiting ]", PATIENCE);
    must(&lab, "cortex", "root", &hog(floor));
    must(&lab, "desk", "root", "rm /tmp/crossed.waiting");
    let out = run.wait(PATIENCE).expect("it ended");
    assert_eq!(out.status, 1, "{out}");
    says(
        &out,
        &["MiB of memory available, wants", "hog (pid ", "MiB  hog.service"],
    );
    assert_eq!(gates(&out).last(), Some(&"copy"), "{out}");
    assert_eq!(snapshot(&lab, "cortex"), before, "{out}");
    assert_eq!(
        must(&lab, "cortex", "root", "ls /nix/store | sort"),
        store,
        "{out}"
    );
}

#[test]
fn s3_10_memory_that_went_after_preflight_is_missed_before_the_switch() {
    let _memory = alone();
    let lab = with_config("s3-10-late", &HOSTS, &with(""));
    let floor = with_floor(&lab);
    must(
        &lab,
        "cortex",
        "root",
        &format!("cat >/root/hog <<'END'\n{}\nEND", hog(floor)),
    );
    // The candidate's pre-switch check runs once before the switch: after the copy, and last of all.
    lab.variant("cortex", "Bpre");
    commit(
        &lab,
        "sed -i 's|return 1|true|; s|echo .this host.*|case \"$2\" in check) /usr/bin/bash /root/hog >\\&2 ;; esac|' hosts/cortex.nix && \
         grep -q root/hog hosts/cortex.nix",
    );
    let before = snapshot(&lab, "cortex");
    let out = expect(&lab, 1, &["release", "cortex"]);
    says(&out, &["MiB of memory available, wants", "hog (pid "]);
    assert_eq!(gates(&out).last(), Some(&"dry-activate"), "{out}");
    assert_eq!(snapshot(&lab, "cortex"), before, "{out}");
}

#[test]
fn s4_24_a_release_that_brings_a_hog_is_taken_back() {
    let _memory = alone();
    let config = with("[target.cortex.preflight]\nusage-factor = 1.2\n")
        .replace("soak = 0", "soak = 0\nvalidate = 20");
    let lab = with_config("s4-24", &HOSTS, &config);
    lab.variant("cortex", "B");
    // The unit that B brings has two GiB and sleeps.
    // It counts as started when it has them: validation does not look too early.
    let edit = "sed -i \"s#^ *ExecStart=.*#      ExecStart=/usr/local/bin/hog\\n      \
                ExecStartPost=/bin/sh -c 'until test -e /run/hog; do sleep 0.1; done'#\" hosts/cortex.nix";
    commit(&lab, edit);
    must(
        &lab,
        "cortex",
        "root",
        "printf '#!/usr/bin/perl\n$x = \"x\" x (1 << 31); open F, \">\", \"/run/hog\"; close F; sleep 3600;\n' >/usr/local/bin/hog; chmod +x /usr/local/bin/hog",
    );
    let before = snapshot(&lab, "cortex");
    let out = expect(&lab, 4, &["release", "cortex"]);
    says(
        &out,
        &[
            "Memory... FAILED (",
            "MiB in use, before the switch",
            "MiB  hog (pid ",
        ],
    );
    assert_eq!(snapshot(&lab, "cortex"), before, "{out}");
    // Who does not want this judged, says so.
    configure(&lab, &config.replace("usage-factor = 1.2", "usage-factor = 0"));
    expect(&lab, 0, &["release", "cortex"]);
}
