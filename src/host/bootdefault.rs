//! The shell functions that the facts script and the supervisor share: running system, profile, boot default, boot.

/// See `common.sh`.
pub(super) const COMMON: &str = include_str!("common.sh");

#[cfg(test)]
mod tests {
    use super::*;

    /// What `boot_default` says of a boot directory with `files`, and with a `bootctl` that prints `bootctl`; under dash
    /// and bash.
    fn boot_default(files: &[(&str, &str)], bootctl: &str) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        let json = dir.path().join("bootctl.json");
        std::fs::write(&json, bootctl).expect("written");
        let said: Vec<String> = ["/bin/dash", "/bin/bash"]
            .into_iter()
            .map(|shell| {
                let text = format!(
                    "{COMMON}\nboot_dir=$1 efi_dir=$1\n\
                     bootctl() {{ [ -s \"$boot_dir/bootctl.json\" ] && cat \"$boot_dir/bootctl.json\"; }}\n\
                     container_kind() {{ :; }}\nboot_default"
                );
                let output = std::process::Command::new(shell)
                    .args(["-c", &text, "sh"])
                    .arg(dir.path())
                    .output()
                    .expect("a shell");
                String::from_utf8_lossy(&output.stdout).trim().to_owned()
            })
            .collect();
        assert_eq!(said[0], said[1]);
        said[0].clone()
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
