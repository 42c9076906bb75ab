//! The shell functions that the facts script and the supervisor share: running system, profile, boot default, boot.

/// See `common.sh` and `loader.sh`.
pub(super) const COMMON: &str = concat!(include_str!("common.sh"), "\n", include_str!("loader.sh"));

#[cfg(test)]
mod tests {
    use super::*;

    /// What `ask` prints on a machine whose `/boot` and `/sys/firmware/efi` have `files`, and whose `bootctl` prints `bootctl`;
    /// under dash and bash.
    fn said(files: &[(&str, &[u8])], bootctl: &str, ask: &str) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, bytes) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, bytes).expect("written");
        }
        let json = dir.path().join("bootctl.json");
        std::fs::write(&json, bootctl).expect("written");
        let said: Vec<String> = ["/bin/dash", "/bin/bash"]
            .into_iter()
            .map(|shell| {
                let text = format!(
                    "{COMMON}\nboot_dir=$1 efi_dir=$1\n\
                     bootctl() {{ [ -s \"$boot_dir/bootctl.json\" ] && cat \"$boot_dir/bootctl.json\"; }}\n\
                     container_kind() {{ :; }}\n{ask}"
                );
                let output = std::process::Command::new(shell)
                    .args(["-c", &text, "sh"])
                    .arg(dir.path())
                    .output()
                    .expect("a shell");
                assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{shell}");
                String::from_utf8_lossy(&output.stdout).trim().to_owned()
            })
            .collect();
        assert_eq!(said[0], said[1]);
        said[0].clone()
    }

    fn boot_default(files: &[(&str, &str)], bootctl: &str) -> String {
        let files: Vec<(&str, &[u8])> = files
            .iter()
            .map(|(name, text)| (*name, text.as_bytes()))
            .collect();
        said(&files, bootctl, "boot_default")
    }

    const A: &str = "/nix/store/aaaa-nixos-system-cortex-26.05";

    #[test]
    fn systemd_boot_is_asked_for_the_default_entry() {
        // Shape of `bootctl list --json=short`, systemd 257.
        let json = r#"[{"type":"type1","source":"esp","id":"nixos-generation-2+3.conf","isDefault":false,"options":"init=/nix/store/bbbb-b/init loglevel=4"},{"type":"type1","id":"nixos-generation-1.conf","isDefault":true,"isSelected":true,"options":"init=\/nix\/store\/aaaa-nixos-system-cortex-26.05\/init root=fstab"},{"type":"auto","id":"auto-reboot-to-firmware-setup","isDefault":false}]"#;
        assert_eq!(boot_default(&[], json), format!("systemd-boot {A}"));
        let none = r#"[{"type":"type1","isDefault":false,"options":"init=/nix/store/bbbb-b/init"}]"#;
        assert_eq!(boot_default(&[], none), "systemd-boot not-verifiable");
    }

    #[test]
    fn grub_is_read_at_its_default_entry() {
        let menu = "menuentry \"NixOS - Default\" --class nixos {\n  linux ($drive1)//kernels/k init=/nix/store/bbbb-b/init x\n}\n\
                    submenu \"All\" {\nmenuentry \"old\" {\n linux k init=/nix/store/cccc-c/init\n}\n}\n\
                    menuentry \"NixOS - Other\" {\n linux k init=/nix/store/aaaa-nixos-system-cortex-26.05/init\n}\n";
        let grub = |default: &str| boot_default(&[("grub/grub.cfg", &format!("{default}\n{menu}"))], "");
        assert_eq!(grub("set default=0"), "grub /nix/store/bbbb-b");
        assert_eq!(
            grub("set default=\"2\""),
            "grub /nix/store/aaaa-nixos-system-cortex-26.05".to_owned()
        );
        assert_eq!(grub("set default=saved"), "grub not-verifiable");
        assert_eq!(grub("set default=9"), "grub not-verifiable");
    }

    /// As nixpkgs' install-grub.pl writes it.
    const GRUB: &str = "if [ -s $prefix/grubenv ]; then\n  load_env\nfi\n\
        if [ \"${next_entry}\" ]; then\n  set default=\"${next_entry}\"\n  set next_entry=\n  save_env next_entry\n  set boot_once=true\n\
        else\n  set default=\"DEFAULT\"\n  set timeout=5\nfi\n\
        menuentry \"NixOS - Default\" --class nixos --unrestricted {\n  linux ($drive1)//kernels/k init=/nix/store/b/init x\n}\n\
        menuentry 'NixOS - (debug)' --id debug {\n  linux k init=/nix/store/d/init\n}\n\
        submenu \"NixOS - All configurations\" --class submenu {\n\
        menuentry \"NixOS - Configuration 2\" {\n  linux k init=/nix/store/b/init\n}\n\
        menuentry \"NixOS - Configuration 1\" {\n  linux k init=/nix/store/a/init\n}\n}\n\
        menuentry \"Memtest\" {\n  linux16 memtest\n}\n";

    #[test]
    fn n9_what_grub_saved_is_read_from_its_environment_block() {
        let env = |line: &str| format!("# GRUB Environment Block\n{line}\n##########");
        let saved = GRUB.replace("DEFAULT", "${saved_entry}");
        for (line, expected) in [
            ("saved_entry=NixOS - Default", "/nix/store/b"),
            ("saved_entry=", "/nix/store/b"),
            ("saved_entry=NixOS - (debug)", "/nix/store/d"),
            ("saved_entry=debug", "/nix/store/d"),
            ("saved_entry=1", "/nix/store/d"),
            (
                "saved_entry=NixOS - All configurations>NixOS - Configuration 1",
                "/nix/store/a",
            ),
            ("saved_entry=2>1", "/nix/store/a"),
            ("saved_entry=NixOS - Configuration 1", "not-verifiable"),
            (
                "saved_entry=NixOS - All configurations>NixOS - Configuration 3",
                "not-verifiable",
            ),
            ("saved_entry=NixOS - All configurations", "not-verifiable"),
            ("saved_entry=Memtest", "not-verifiable"),
            ("saved_entry=gone", "not-verifiable"),
        ] {
            let files = [("grub/grub.cfg", saved.as_str()), ("grub/grubenv", &env(line))];
            assert_eq!(boot_default(&files, ""), format!("grub {expected}"), "{line}");
        }
        assert_eq!(
            boot_default(&[("grub/grub.cfg", &saved)], ""),
            "grub not-verifiable"
        );
        // A default by index, id or title is the menu's own, whatever was saved.
        for (default, expected) in [
            ("0", "/nix/store/b"),
            ("1", "/nix/store/d"),
            ("debug", "/nix/store/d"),
            ("NixOS - Default", "/nix/store/b"),
            ("$other", "not-verifiable"),
        ] {
            let menu = GRUB.replace("DEFAULT", default);
            let files = [
                ("grub/grub.cfg", menu.as_str()),
                ("grub/grubenv", &env("saved_entry=1")),
            ];
            assert_eq!(boot_default(&files, ""), format!("grub {expected}"), "{default}");
        }
    }

    #[test]
    fn n7_what_grub_boots_once_is_not_its_default() {
        let menu = GRUB.replace("DEFAULT", "0");
        let files: [(&str, &[u8]); 2] = [
            ("grub/grub.cfg", menu.as_bytes()),
            ("grub/grubenv", b"# GRUB Environment Block\nnext_entry=2>1\n####"),
        ];
        assert_eq!(said(&files, "", "boot_default"), "grub /nix/store/b");
        assert_eq!(said(&files, "", "boot_once"), "/nix/store/a 2>1");
        assert_eq!(said(&files[..1], "", "boot_once"), "");
    }

    /// As `bootctl list --json=short` (systemd 257) prints a menu of which entry 3 is marked as the default.
    fn menu(marked: u32) -> String {
        let entry = |n: u32, path: &str| {
            format!(
                r#"{{"type":"type1","source":"esp","id":"nixos-generation-{n}.conf","isDefault":{},"options":"init={path}/init loglevel=4"}}"#,
                n == marked
            )
        };
        format!(
            r#"[{},{},{},{{"type":"auto","id":"auto-reboot-to-firmware-setup","isDefault":false}}]"#,
            entry(3, "/nix/store/c"),
            entry(2, "/nix/store/b"),
            entry(1, "/nix/store/a")
        )
    }

    /// A variable of the Boot Loader Interface as efivarfs shows it.
    fn variable(name: &str, value: &str) -> (String, Vec<u8>) {
        let text = value.encode_utf16().chain([0]).flat_map(u16::to_le_bytes);
        (
            format!("efivars/{name}-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"),
            [7, 0, 0, 0].into_iter().chain(text).collect(),
        )
    }

    /// What boots by default, what boots once, and whether something could, with these variables and this loader.conf.
    fn systemd_boot(marked: u32, variables: &[(&str, &str)], conf: &str) -> String {
        let variables: Vec<(String, Vec<u8>)> = variables.iter().map(|(n, v)| variable(n, v)).collect();
        let mut files: Vec<(&str, &[u8])> = variables
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
            .collect();
        files.push(("loader/loader.conf", conf.as_bytes()));
        let ask = "printf '%s|%s|' \"$(boot_default)\" \"$(boot_once)\"; can_boot_once systemd-boot && echo can || echo no";
        said(&files, &menu(marked), ask).replace("/nix/store/", "")
    }

    #[test]
    fn n7_what_boots_once_is_told_from_what_boots_by_default() {
        let conf = "timeout 5\ndefault nixos-generation-1.conf\nconsole-mode keep\n";
        assert_eq!(systemd_boot(1, &[], conf), "systemd-boot a||can");
        // bootctl marks what boots once as the default.
        let once = ("LoaderEntryOneShot", "nixos-generation-3.conf");
        assert_eq!(
            systemd_boot(3, &[once], conf),
            "systemd-boot a|c nixos-generation-3.conf|can"
        );
        // One that is not in the menu boots nothing.
        let gone = ("LoaderEntryOneShot", "nixos-generation-9.conf");
        assert_eq!(systemd_boot(1, &[gone], conf), "systemd-boot a||can");
        let other = ("LoaderEntryOneShot", "auto-reboot-to-firmware-setup");
        assert_eq!(
            systemd_boot(1, &[other], conf),
            "systemd-boot a|- auto-reboot-to-firmware-setup|can"
        );
        // A variable wins over the file.
        let fixed = ("LoaderEntryDefault", "nixos-generation-2.conf");
        assert_eq!(
            systemd_boot(3, &[once, fixed], conf),
            "systemd-boot b|c nixos-generation-3.conf|no"
        );
    }

    #[test]
    fn n6_a_loader_that_takes_a_pattern_boots_nothing_once() {
        let once = ("LoaderEntryOneShot", "nixos-generation-1.conf");
        for (conf, expected) in [
            ("default nixos-*\n", "c"),
            ("default NixOS-generation-?.conf\n", "c"),
            ("default nixos-generation-[12].conf\n", "b"),
            (
                "preferred nixos-generation-2*\ndefault nixos-generation-1.conf\n",
                "b",
            ),
            ("default @saved\n", "not-verifiable"),
            ("default gone.conf\n", "not-verifiable"),
            ("timeout 3\n", "not-verifiable"),
        ] {
            let can = if conf.contains("gone") { "can" } else { "no" };
            assert_eq!(
                systemd_boot(1, &[once], conf),
                format!("systemd-boot {expected}|a nixos-generation-1.conf|{can}"),
                "{conf}"
            );
        }
    }

    #[test]
    fn n9_loaders_that_do_not_tell_are_named_and_never_proven() {
        for (file, expected) in [
            ("limine/limine.conf", "limine not-verifiable"),
            ("limine.conf", "limine not-verifiable"),
            ("EFI/refind/refind.conf", "refind not-verifiable"),
        ] {
            assert_eq!(boot_default(&[(file, "default_entry: 2\n")], ""), expected);
        }
    }

    #[test]
    fn extlinux_is_read_at_its_default_label() {
        let conf = format!(
            "DEFAULT nixos-default\nLABEL nixos-default\n  APPEND init={A}/init x\nLABEL nixos-1-default\n  APPEND init=/nix/store/b/init\n"
        );
        assert_eq!(
            boot_default(&[("extlinux/extlinux.conf", &conf)], ""),
            format!("extlinux {A}")
        );
    }

    #[test]
    fn what_no_loader_answers_is_never_called_proven() {
        assert_eq!(boot_default(&[], ""), "unknown not-verifiable");
    }
}
