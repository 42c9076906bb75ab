//! When a host that did not come back, and that nobody is in contact with, reboots: the table of docs/supervisor.md.

use super::{A, B, said};

const C: &str = "/nix/store/c-other";

/// What `maybe_reboot` does and says. `set` is run last before it.
fn reboots(files: &[(&str, &str)], set: &str) -> String {
    let before = [
        ("active-before", "app.service\nhand.socket\n"),
        ("boot-starts", "app.service\n"),
        ("failed-before", "old.service\n"),
        ("failed", ""),
        ("list", ""),
        ("upgrade", "inactive\n\ninactive\n"),
    ];
    let text = format!(
        "p_reboot=1 container='' s_effective={B} s_state=revert-failed stc_held=1
look() {{ running=$now_running profile=$now_profile boot=$now_boot loader=$now_loader; }}
now_running={A} now_profile={A} now_boot={A} now_loader=grub mute='' new=''
{set}
maybe_reboot >\"$dir/said\"
grep -x reboot \"$dir/said\"
printf '%s %s' \"$s_state\" \"$s_reasons\""
    );
    said(&[&before, files].concat(), &text)
}

fn down(unit: &str) -> String {
    format!("Id={unit}\nActiveState=failed\nLoadState=loaded\nFragmentPath=DIR/list\nResult=exit-code\n")
}

const WELL: (&str, &str) = ("show", "Id=app.service\nActiveState=active\nLoadState=loaded\n");

fn yes(said: &str) -> bool {
    let yes = said.starts_with("reboot\n") && said.contains("rebooting into the boot default");
    let no = !said.contains("reboot\n") && !said.contains("rebooting into");
    assert!(yes || no, "{said}");
    yes
}

#[test]
fn n8_a_reboot_is_for_what_a_reboot_mends() {
    let app = down("app.service");
    let stays_down = ("show", app.as_str());
    let app_fails = ("failed", "app.service loaded failed failed App\n");
    for (what, files, set) in [
        ("runs the candidate", vec![WELL], format!("now_running={B}")),
        ("runs nothing", vec![WELL], "now_running=".to_owned()),
        (
            "a unit that boots start stays down",
            vec![stays_down],
            String::new(),
        ),
        ("it fails", vec![WELL, app_fails], String::new()),
        ("systemd does not answer", vec![], String::new()),
    ] {
        assert!(yes(&reboots(&files, &set)), "{what}");
        // Never where it boots something else, or somebody changed what it boots.
        let sample = ["runs the candidate", "a unit that boots start stays down"];
        if !sample.contains(&what) {
            continue;
        }
        for (why, other) in [
            ("another boot default", format!("now_boot={C}")),
            ("it was another before", format!("s_boot0={C}")),
            (
                "the boot default is unknown",
                "now_boot=not-verifiable".to_owned(),
            ),
            ("another boot loader", "now_loader=none".to_owned()),
            // As nixos-rebuild leaves it, whose switch finds the lock taken.
            ("another profile", format!("now_profile={C}")),
            ("another tool switches", "stc_held=".to_owned()),
            ("not allowed", "p_reboot=".to_owned()),
            ("a container", "container=lxc".to_owned()),
        ] {
            assert!(
                !yes(&reboots(&files, &format!("{set}\n{other}"))),
                "{what}, {why}"
            );
        }
        let upgrade = [files, vec![("upgrade", "activating\n\ninactive\n")]].concat();
        assert!(!yes(&reboots(&upgrade, &set)), "{what}, an upgrade is at work");
    }
}

#[test]
fn n8_a_reboot_that_mends_nothing_is_none() {
    let hand = down("hand.socket");
    let other = ("failed", "backup.service loaded failed failed Backup\n");
    for (what, files, set) in [
        ("somebody switched", vec![WELL], format!("now_running={C}")),
        ("no boot starts it", vec![("show", hand.as_str())], String::new()),
        ("it did not run before", vec![WELL, other], String::new()),
        (
            "nobody knows of a job",
            vec![WELL, ("unknown", "job.service\n")],
            String::new(),
        ),
    ] {
        let said = reboots(&files, &set);
        assert!(!yes(&said), "{what}");
        assert!(
            said.starts_with("revert-failed") && said.contains("a reboot would not mend this"),
            "{what}: {said}"
        );
    }
    // What did not come up at first has done so since.
    let fine = reboots(&[WELL], "reason 'app.service ran before and stays down'");
    assert!(
        fine.starts_with("reverted") && fine.contains("by now what ran before runs again"),
        "{fine}"
    );
}
