//! What the supervisor's script decides, tried without a host: its functions under dash and bash, beside a `systemctl`
//! that says what a test wants.

use std::path::Path;

mod before;
mod reboot;

const COMMON: &str = include_str!("../common.sh");
const UNITS: &str = include_str!("../units.sh");
const BEFORE: &str = include_str!("../before.sh");
const STATE: &str = include_str!("../state.sh");
const BACK: &str = include_str!("../back.sh");
const SUPERVISOR: &str = include_str!("../supervisor.sh");

const A: &str = "/nix/store/a-previous";
const B: &str = "/nix/store/b-candidate";

/// `$0`'s directory has what it answers: `list`, `failed`, `show`, `accept`, `upgrade`; where there is no such file it
/// fails. A start is written to `started`, and from then on `show` is what `up` was.
const SYSTEMCTL: &str = "#!/bin/sh
here=${0%/*}
case \"$1 $2 $*\" in
list-units*--failed*) cat \"$here/failed\" 2>/dev/null ;;
list-units*) cat \"$here/list\" 2>/dev/null ;;
show*Accept*) cat \"$here/accept\" 2>/dev/null ;;
show*nixos-upgrade*) cat \"$here/upgrade\" 2>/dev/null ;;
show*) cat \"$here/show\" 2>/dev/null ;;
is-active*) [ ! -e \"$here/unplugged\" ] ;;
reboot* | --no-block*reboot*) echo reboot ;;
--no-ask-password*start*)
	shift 3
	echo \"$@\" >>\"$here/started\"
	[ ! -e \"$here/up\" ] || mv \"$here/up\" \"$here/show\"
	;;
esac
";

/// Says what it was called with.
const SYSTEMD_RUN: &str = "#!/bin/sh
here=${0%/*}
for a; do case $a in --property=Wants=* | --property=After=*) echo \"${a#--property=}\" >>\"$here/started\" ;; esac; done
[ ! -e \"$here/up\" ] || mv \"$here/up\" \"$here/show\"
";

/// What `text` prints after the functions, under both shells: `$1` is a directory with `files`, which is the run's too.
fn said(files: &[(&str, &str)], text: &str) -> String {
    let functions = SUPERVISOR.split("\nmode=$1").next().expect("functions");
    let script = format!(
        "PATH=$1:$PATH dir=$1 booted_at=0
p_run=r p_target=t p_commit=c p_who=w p_previous={A} p_candidate={B} p_failed=old.service p_accept_loader=
{COMMON}\n{UNITS}\n{BEFORE}\n{STATE}\n{BACK}\n{functions}
unit_dirs=$1/units
# Each look at the clock takes a second.
uptime_s() {{ echo >>\"$dir/clock\" && wc -l <\"$dir/clock\"; }}
look() {{ running={A} profile={A} boot={A} loader=grub; }}
s_profile0={A} s_boot0={A} s_loader0=grub
{text}"
    );
    let said: Vec<String> = ["/bin/dash", "/bin/bash"]
        .into_iter()
        .map(|shell| {
            let dir = tempfile::tempdir().expect("a directory");
            let put = |name: &str, text: &str, mode: u32| {
                let path = dir.path().join(name);
                std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
                std::fs::write(&path, text.replace("DIR", &dir.path().display().to_string()))
                    .expect("written");
                let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
                std::fs::set_permissions(path, mode).expect("mode");
            };
            put("systemctl", SYSTEMCTL, 0o755);
            put("systemd-run", SYSTEMD_RUN, 0o755);
            put("sleep", "#!/bin/sh\n", 0o755);
            for (name, text) in files {
                put(name, text, 0o644);
            }
            output(shell, &script, dir.path())
        })
        .collect();
    assert_eq!(said[0], said[1]);
    said[0].clone()
}

fn output(shell: &str, script: &str, dir: &Path) -> String {
    let output = std::process::Command::new(shell)
        .args(["-c", script, "sh"])
        .arg(dir)
        .output()
        .expect("a shell");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr, "", "{shell}");
    String::from_utf8_lossy(&output.stdout)
        .replace(&dir.display().to_string(), "DIR")
        .trim()
        .to_owned()
}

/// What the way back is judged to be, and why.
fn judged(files: &[(&str, &str)]) -> String {
    let before = [
        ("active-before", "app.service\nsock.socket\n"),
        ("failed-before", "old.service\n"),
    ];
    said(
        &[&before, files].concat(),
        "judge take_stock >/dev/null; printf '%s %s' \"$s_state\" \"$s_reasons\"",
    )
}

const WELL: &str = "Id=app.service\nActiveState=active\nFragmentPath=DIR/list\nResult=success\n\n\
                    Id=sock.socket\nActiveState=active\nFragmentPath=DIR/list\nResult=success\n";
const UNKNOWN: &str =
    "revert-failed reason=systemctl does not answer: whether what ran before runs again is not known";

#[test]
fn s0_18_a_way_back_is_good_only_where_systemd_says_so() {
    let old = "old.service loaded failed failed Old\nnixgate-r.service loaded failed failed Ours\n";
    assert_eq!(judged(&[("show", WELL), ("failed", "")]), "reverted");
    assert_eq!(judged(&[("show", WELL), ("failed", old)]), "reverted");
    // It answers neither question, or only one.
    assert_eq!(judged(&[]), UNKNOWN);
    assert_eq!(judged(&[("show", WELL)]), UNKNOWN);
    assert_eq!(judged(&[("failed", "")]), UNKNOWN);
}

#[test]
fn s0_18_what_fails_or_stays_down_after_a_way_back_is_named() {
    let new = "new.service loaded failed failed New\n";
    assert_eq!(
        judged(&[("show", WELL), ("failed", new)]),
        "revert-failed reason=new.service fails and did not before"
    );
    let down = WELL.replacen("=active", "=inactive", 1);
    assert_eq!(
        judged(&[("show", &down), ("failed", ""), ("list", "")]),
        "revert-failed reason=app.service ran before and stays down"
    );
    // What the way back has no file for cannot be started; what runs to its end is not down.
    assert_eq!(judged(&[("show", &down), ("failed", "")]), "reverted");
    let once = down.replacen("Result", "Type=oneshot\nResult", 1);
    assert_eq!(
        judged(&[("show", &once), ("failed", ""), ("list", "")]),
        "reverted"
    );
}

#[test]
fn s0_18_a_host_whose_systemd_does_not_answer_is_not_switched() {
    let remember = "if remember; then cat \"$dir/active-before\" \"$dir/failed-before\"; else echo no; fi";
    assert_eq!(said(&[], remember), "no");
    assert_eq!(said(&[("list", "")], remember), "no");
    let list = "app.service loaded active running App\nbad.service loaded failed failed Bad\n\
                multi-user.target loaded active active Multi\nnixgate-r.service loaded active running Ours\n";
    let wanted = ("units/multi-user.target.wants/app.service", "");
    assert_eq!(
        said(&[("list", list), wanted], remember),
        "app.service\nold.service\nbad.service"
    );
    // What no link tells is asked, and nobody answers.
    assert_eq!(said(&[("list", list)], remember), "no");
}

#[test]
fn s0_13_a_boot_loader_must_still_say_what_it_said_before() {
    let boots = |before: &str, now: &str| {
        let words = |text: &str, loader: &str, boot: &str| {
            let (l, b) = text.split_once(' ').expect("two words");
            format!("{loader}={l} {boot}={b}")
        };
        said(
            &[],
            &format!(
                "{}\n{}\nboots_candidate && echo yes || echo no",
                words(before, "s_loader0", "s_boot0"),
                words(now, "loader", "boot")
            ),
        ) == "yes"
    };
    let on = |loader: &str, path: &str| format!("{loader} {path}");
    for loader in ["systemd-boot", "grub", "extlinux", "none"] {
        assert!(boots(&on(loader, A), &on(loader, B)), "{loader}");
        assert!(!boots(&on(loader, A), &on(loader, A)), "{loader}");
        assert!(!boots(&on(loader, A), &on(loader, "not-verifiable")), "{loader}");
        assert!(!boots(&on(loader, A), "unknown not-verifiable"), "{loader}");
    }
    // A container's profile answers where the menu is gone.
    assert!(!boots(&on("extlinux", A), &on("none", B)));
    assert!(boots(&on("extlinux", A), &on("grub", B)));
    assert!(!boots(&on("extlinux", A), "grub not-verifiable"));
    // Nobody could tell before.
    for (before, now, good) in [
        ("grub not-verifiable", "grub not-verifiable", true),
        ("grub not-verifiable", "unknown not-verifiable", false),
        ("grub not-verifiable", "extlinux not-verifiable", false),
        ("unknown not-verifiable", "unknown not-verifiable", true),
        ("unknown not-verifiable", "grub not-verifiable", true),
    ] {
        assert_eq!(boots(before, now), good, "{before}: {now}");
    }
}

#[test]
fn k12_the_lock_is_roots_alone_whatever_the_callers_umask_is() {
    let made = "umask 000; base=$dir/run; open_lock && stat -c '%a %n' \"$base\" \"$base/lock\"";
    assert_eq!(said(&[], made), "755 DIR/run\n600 DIR/run/lock");
    // One that was left open to read is closed.
    let left = format!("mkdir \"$dir/run\"; : >\"$dir/run/lock\"; chmod 644 \"$dir/run/lock\"; {made}");
    assert_eq!(said(&[], &left), "755 DIR/run\n600 DIR/run/lock");
    // Nobody else makes it.
    let output = std::process::Command::new("grep")
        .args(["-rlE", "--exclude=tests.rs", r#"(nixgate|base)"?/lock"#, "src"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("grep");
    let places = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(places.trim(), "src/host/common.sh", "who else names the lock");
}

/// A list that was cut short, as on a full /run, would otherwise take the generations that it lacks along.
#[test]
fn h12_only_generations_that_are_new_by_a_whole_list_are_dropped() {
    let drop = |list: &str| {
        let text = format!(
            "generations() {{ printf '%s\\n' 1 2 3 7 complete; }}
profile_generation() {{ echo 3; }}
printf '#!/bin/sh\\necho \"$4\"\\n' >\"$dir/nix-env\"; chmod +x \"$dir/nix-env\"
printf '{list}' | drop_new_generations || printf none"
        );
        said(&[], &text)
    };
    assert_eq!(drop("1\\n2\\n3\\ncomplete\\n"), "7");
    assert_eq!(drop("1\\n2\\n3\\n7\\ncomplete\\n"), "");
    for cut in ["", "1\\n", "1\\n2\\n3\\ncomp"] {
        assert_eq!(drop(cut), "none", "{cut}");
    }
}

/// A commit up to where it writes: what it answers, what `bootctl` was told, and what the state keeps of that.
fn committed(once: &str, now: &str, bootctl: &str) -> String {
    said(
        &[],
        &format!(
            "loader=systemd-boot once='{now}' s_once0='{once}' s_loader0=systemd-boot nonce=n s_state=waiting
look() {{ running=$s_effective profile={A} boot={A} loader=systemd-boot once='{now}'; }}
set_once() {{ echo \"bootctl '$1'\"; {bootctl}; }}
make_room() {{ :; }}
save() {{ :; }}
generations() {{ echo complete; }}
finish_commit() {{ echo commits; }}
commit
echo \"$s_answer|$s_cleared\""
        ),
    )
}

#[test]
fn n7_what_boots_once_is_cleared_before_the_commit() {
    let entry = format!("{B} nixos-generation-3.conf");
    assert_eq!(committed("", "", ":"), "commits\n|");
    assert_eq!(
        committed(&entry, &entry, ":"),
        "bootctl ''\ncommits\n|nixos-generation-3.conf"
    );
    assert_eq!(
        committed(&entry, &entry, "false"),
        "bootctl ''\nrefused: nixos-generation-3.conf boots once, and that could not be cleared|"
    );
    // Somebody set it meanwhile: theirs.
    assert_eq!(
        committed("", &entry, ":"),
        format!("refused: what boots once is {entry} and was nothing|")
    );
}

#[test]
fn n7_a_commit_that_is_taken_back_lets_what_was_to_boot_once_boot() {
    let text = format!(
        "s_cleared=nixos-generation-3.conf s_generation0='' rc=0
set_once() {{ echo \"bootctl '$1'\"; }}
profile_system() {{ echo {A}; }}
specialised() {{ :; }}
run_stc() {{ echo \"$2 $3\"; }}
revert() {{ :; }}
save() {{ :; }}
undo_commit
echo \"$s_answer|$s_cleared\""
    );
    assert_eq!(
        said(&[], &text),
        format!("{A} boot\nbootctl 'nixos-generation-3.conf'\nrefused: the commit failed|")
    );
}

#[test]
fn n4_the_menu_of_a_specialisation_is_written_by_its_toplevel() {
    let text = "s_generation0='' rc=0 s_boot0=DIR/debug s_profile0=DIR/top
mkdir -p \"$dir/debug\" \"$dir/top/specialisation\" \"$dir/top/bin\"
: >\"$dir/top/bin/switch-to-configuration\" && chmod +x \"$dir/top/bin/switch-to-configuration\"
ln -s \"$dir/debug\" \"$dir/top/specialisation/debug\"
s_boot0=$dir/debug s_profile0=$dir/top
profile_system() { echo \"$s_profile0\"; }
run_stc() { echo \"$2 $3\"; }
revert() { :; }
save() { :; }
undo_commit";
    let common = include_str!("../common.sh");
    assert_eq!(said(&[], &format!("{common}\n{text}")), "DIR/top boot");
}

#[test]
fn n4_n9_what_counts_as_booting_the_candidate() {
    let boots = |effective: &str, accept: &str, now: &str| {
        let (loader, boot) = now.split_once(' ').expect("two words");
        let text = format!(
            "s_effective={effective} p_accept_loader={accept} s_loader0=grub s_boot0={A} loader={loader} boot={boot}
boots_candidate && echo yes || echo no"
        );
        said(&[], &text) == "yes"
    };
    let debug = format!("{B}-debug");
    assert!(boots(&debug, "", &format!("grub {debug}")));
    assert!(boots(&debug, "", &format!("grub {B}")));
    assert!(!boots(&debug, "", &format!("grub {A}")));
    assert!(!boots(B, "", &format!("grub {debug}")));
    // A person's word stands for a loader that does not tell, and for nothing that tells otherwise.
    assert!(!boots(B, "", "limine not-verifiable"));
    assert!(boots(B, "1", "limine not-verifiable"));
    assert!(!boots(B, "1", &format!("grub {A}")));
}
