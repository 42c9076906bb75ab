//! Boot loaders: what boots by default, what boots once, a specialisation that boots, and loaders that do not tell.

use crate::broken::says;
use crate::hand::{describe, evidence, name_in, nothing_left, root};
use crate::infra::{CONFIG, expect, refs, release, usual, with_config};
use crate::lab::Lab;

const HOSTS: &[&str] = &["desk", "forge", "git", "cortex"];
/// Extlinux's default.
const BOOTS: &str = "sed -n '/LABEL nixos-default/,$s|.*init=\\(/nix/store/[^/]*\\)/init.*|\\1|p' /boot/extlinux/extlinux.conf | head -n 1";
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

#[test]
fn n4_a_specialisation_that_boots_by_default_is_released_and_taken_back() {
    let debug = CONFIG.replace(
        "[target.cortex]\n",
        "[target.cortex]\nspecialisation = \"debug\"\n",
    );
    let lab = with_config("special-boot", HOSTS, &debug);
    // Its plain system has no such specialisation: said before anything is switched.
    lab.variant("cortex", "B");
    let a = lab.running_system("cortex");
    let out = expect(&lab, 1, &["release", "cortex"]);
    says(&out, &["this system has no specialisation debug"]);
    assert_eq!(lab.running_system("cortex"), a);

    lab.variant("cortex", "Bspecialboot");
    let first = release(&lab, "cortex");
    let running = lab.running_system("cortex");
    assert_eq!(root(&lab, "cortex", BOOTS), running);
    let toplevel = root(&lab, "cortex", "readlink -f /nix/var/nix/profiles/system");
    assert_ne!(toplevel, running);
    let said = &evidence(&lab, &first)["predicate"];
    assert_eq!(said["toplevel"], toplevel.as_str());
    assert_eq!(said["specialisation"], "debug");
    let good = || {
        expect(&lab, 0, &["status", "cortex", "--live"]);
        expect(&lab, 0, &["health", "cortex"]);
        let out = expect(&lab, 0, &["release", "cortex"]);
        says(&out, &["nothing to do"]);
    };
    good();
    // Where it boots it boots as itself.
    lab.reboot("cortex");
    assert_eq!(lab.running_system("cortex"), running);
    good();
    // Another release from there and back; the second rollback has nothing to do.
    lab.variant_with("cortex", "Bspecialboot", &["version=\"26.05.20261103\""]);
    let withdrawn = release(&lab, "cortex");
    let second = lab.running_system("cortex");
    assert_ne!(second, running);
    good();
    expect(&lab, 0, &["rollback", "cortex"]);
    assert_eq!(lab.running_system("cortex"), running);
    assert_eq!(root(&lab, "cortex", BOOTS), running);
    expect(&lab, 0, &["status", "cortex", "--live"]);
    let out = expect(&lab, 0, &["rollback", "cortex", "--to", &first]);
    says(&out, &["nothing to rollback"]);
    // A commit that fails gives the host its boot menu back, of the toplevel.
    describe(
        &lab,
        "cortex",
        "{ bootLoader = \"broken\"; bootSpecialisation = \"debug\"; specialisation.debug.packages.hello = \"3.0\"; }",
    );
    let before = refs(&lab);
    expect(&lab, 4, &["release", "cortex", "--fixes", &withdrawn]);
    assert_eq!(lab.running_system("cortex"), running);
    assert_eq!(root(&lab, "cortex", BOOTS), running);
    assert_eq!(refs(&lab), before);
    // Only booted, it is known-good after the boot.
    lab.variant_with("cortex", "Bspecialboot", &["version=\"26.05.20261105\""]);
    expect(&lab, 7, &["release", "cortex", "--boot", "--fixes", &withdrawn]);
    lab.reboot("cortex");
    expect(&lab, 0, &["resume", "cortex"]);
    assert_eq!(root(&lab, "cortex", BOOTS), lab.running_system("cortex"));
    good();
}

/// What firmware and boot loader do: extlinux boots what systemd-boot would, and what was to boot once is forgotten.
fn reboot_by_menu(lab: &Lab, choice: &str) {
    root(
        lab,
        "cortex",
        "i=$(bootctl boots) && cp /boot/extlinux/extlinux.conf /root/ && \
         sed -i \"/LABEL nixos-default/,/APPEND/s|init=/nix/store/[^/]*/init|$i|\" /boot/extlinux/extlinux.conf",
    );
    lab.reboot("cortex");
    root(lab, "cortex", "mv /root/extlinux.conf /boot/extlinux/");
    lab.kind_with("cortex", "systemd-boot", &[choice]);
}

fn next_boot(lab: &Lab) -> String {
    root(lab, "cortex", "i=$(bootctl boots); i=${i#init=}; echo ${i%/init}")
}

#[test]
fn s1_13_what_systemd_boot_booted_once_becomes_its_default_in_resume() {
    let lab = usual("boot-once");
    let a = lab.running_system("cortex");
    lab.kind_with("cortex", "systemd-boot", &["entry"]);
    lab.variant("cortex", "B100");
    let out = expect(&lab, 7, &["release", "cortex", "--boot"]);
    says(&out, &["boots the candidate once"]);
    assert!(!out.stderr.contains("proven or not"), "{out}");
    assert_eq!(
        root(&lab, "cortex", BOOTS),
        a,
        "the default is what is proven: {out}"
    );
    let b = next_boot(&lab);
    assert_ne!(b, a);
    reboot_by_menu(&lab, "entry");
    assert_eq!((lab.running_system("cortex"), next_boot(&lab)), (b.clone(), a));
    let out = expect(&lab, 0, &["resume", "cortex"]);
    says(
        &out,
        &["not the boot default yet", "boots the candidate by default"],
    );
    assert_eq!(next_boot(&lab), b, "{out}");
    assert_eq!(
        root(&lab, "cortex", "readlink -f /nix/var/nix/profiles/system"),
        b
    );
    expect(&lab, 0, &["verify", "cortex"]);
    expect(&lab, 0, &["status", "cortex", "--live"]);
}

#[test]
fn n7_a_boot_that_is_not_wanted_any_more_stands_in_nobodys_way() {
    let lab = usual("once");
    release(&lab, "cortex");
    let a = lab.running_system("cortex");
    lab.kind_with("cortex", "systemd-boot", &["entry"]);
    lab.variant("cortex", "B100");
    let wait = || {
        let out = expect(&lab, 7, &["release", "cortex", "--boot"]);
        says(&out, &["boots the candidate once"]);
        assert_ne!(next_boot(&lab), a);
        assert_eq!(lab.running_system("cortex"), a);
    };
    // The printed command takes it back, whole.
    let profile = || {
        root(
            &lab,
            "cortex",
            "readlink -f /nix/var/nix/profiles/system; ls /nix/var/nix/profiles",
        )
    };
    let before = profile();
    wait();
    let out = expect(&lab, 1, &["check", "cortex"]);
    says(
        &out,
        &["the next boot of cortex is that of", "git nixgate cancel cortex"],
    );
    expect(&lab, 0, &["cancel", "cortex"]);
    assert_eq!((next_boot(&lab), profile()), (a.clone(), before.clone()));
    let out = expect(&lab, 0, &["resume", "cortex"]);
    says(&out, &["no run is unfinished"]);
    expect(&lab, 0, &["status", "cortex", "--live"]);

    // So it does where the machine came up with what ran before.
    wait();
    lab.reboot("cortex");
    lab.kind_with("cortex", "systemd-boot", &["entry"]);
    let out = expect(&lab, 5, &["resume", "cortex"]);
    says(
        &out,
        &[&format!("cortex booted {a}"), "git nixgate cancel cortex"],
    );
    expect(&lab, 0, &["cancel", "cortex"]);
    assert_eq!((next_boot(&lab), profile()), (a.clone(), before));
    let out = expect(&lab, 0, &["resume", "cortex"]);
    says(&out, &["no run is unfinished"]);

    // Without it: a release that fails leaves it pending, one that works ends it.
    wait();
    let pending = next_boot(&lab);
    lab.variant("cortex", "Bboot");
    let out = expect(&lab, 4, &["release", "cortex"]);
    says(&out, &["the next boot of cortex is that of"]);
    assert_eq!(
        (lab.running_system("cortex"), next_boot(&lab)),
        (a.clone(), pending)
    );
    lab.variant("cortex", "B");
    release(&lab, "cortex");
    let b = lab.running_system("cortex");
    assert_eq!(next_boot(&lab), b);
    expect(&lab, 0, &["status", "cortex", "--live"]);
    let out = expect(&lab, 0, &["resume", "cortex"]);
    says(&out, &["no run is unfinished"]);

    // And a rollback.
    lab.variant_with("cortex", "B100", &["version=\"26.05.20261109\""]);
    expect(&lab, 7, &["release", "cortex", "--boot"]);
    expect(&lab, 0, &["rollback", "cortex"]);
    assert_eq!((lab.running_system("cortex"), next_boot(&lab)), (a.clone(), a));
    expect(&lab, 0, &["status", "cortex", "--live"]);
    nothing_left(&lab, "cortex", PATIENCE);
}

#[test]
fn n6_a_loader_that_takes_the_newest_entry_is_not_said_to_boot_it_once() {
    let lab = usual("pattern");
    release(&lab, "cortex");
    let a = lab.running_system("cortex");
    lab.kind_with("cortex", "systemd-boot", &["pattern"]);
    lab.variant("cortex", "B100");
    let out = expect(&lab, 7, &["release", "cortex", "--boot"]);
    let (before, after) = out.stderr.split_once("\ncommit\n").expect("a commit");
    assert!(
        before.contains("every boot of cortex will be the new system's"),
        "said before it is done: {out}"
    );
    assert!(
        !after.contains("once") && after.contains("boots the candidate"),
        "{out}"
    );
    let b = next_boot(&lab);
    assert_ne!(b, a);
    assert_eq!(root(&lab, "cortex", "ls /sys/firmware/efi/efivars"), "");
    // It can be taken back all the same.
    expect(&lab, 0, &["cancel", "cortex"]);
    assert_eq!(next_boot(&lab), a);
    expect(&lab, 7, &["release", "cortex", "--boot"]);
    reboot_by_menu(&lab, "pattern");
    assert_eq!((lab.running_system("cortex"), next_boot(&lab)), (b.clone(), b));
    expect(&lab, 0, &["resume", "cortex"]);
    expect(&lab, 0, &["status", "cortex", "--live"]);
}

#[test]
fn n9_a_loader_that_does_not_tell_is_taken_on_a_persons_word() {
    let lab = usual("untold");
    release(&lab, "cortex");
    let a = lab.running_system("cortex");
    lab.variant("cortex", "Blimine");
    let before = refs(&lab);
    let out = expect(&lab, 4, &["release", "cortex"]);
    says(
        &out,
        &[
            "afterwards the boot default is not-verifiable (boot loader: limine)",
            "--accept-boot-loader",
        ],
    );
    assert_eq!((lab.running_system("cortex"), refs(&lab)), (a.clone(), before));
    let out = expect(&lab, 1, &["release", "cortex", "--boot"]);
    says(
        &out,
        &["does not tell what it boots by default", "--accept-boot-loader"],
    );
    assert_eq!(
        root(&lab, "cortex", "readlink -f /nix/var/nix/profiles/system"),
        a
    );

    let out = expect(&lab, 0, &["release", "cortex", "--accept-boot-loader"]);
    let said = &evidence(&lab, &name_in(&out))["predicate"];
    assert!(
        said["warnings"]
            .to_string()
            .contains("the boot default is not verifiable (boot loader: limine)"),
        "{said}"
    );
    expect(&lab, 0, &["verify", "cortex"]);
    expect(&lab, 0, &["status", "cortex", "--live"]);
    // From a loader that never told nothing more is asked; back to one that does neither.
    lab.variant_with("cortex", "Blimine", &["version=\"26.05.20261103\""]);
    release(&lab, "cortex");
    expect(&lab, 0, &["rollback", "cortex"]);
    expect(&lab, 0, &["rollback", "cortex"]);
    assert_eq!(lab.running_system("cortex"), a);
}
