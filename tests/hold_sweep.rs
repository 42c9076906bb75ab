//! The part of `hold.sh` that clears up after runs, under both shells that targets have.

use std::path::Path;
use std::process::Command;

const HOLD: &str = include_str!("../src/host/supervisor/hold.sh");

/// A target may be named like the folder that temporary roots had.
#[test]
fn k11_no_targets_roots_are_swept_whatever_it_is_called() {
    for shell in ["dash", "bash"] {
        let dir = tempfile::tempdir().unwrap();
        let (roots, run) = (dir.path().join("roots"), dir.path().join("run"));
        let bin = dir.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        // No unit runs any more.
        for (name, text) in [
            ("systemctl", "#!/bin/sh\necho inactive\n"),
            ("timeout", "#!/bin/sh\nshift\nexec \"$@\"\n"),
        ] {
            std::fs::write(bin.join(name), text).unwrap();
            Command::new("chmod")
                .args(["755", name])
                .current_dir(&bin)
                .status()
                .unwrap();
        }
        let link = |name: &str| {
            let link = roots.join(name);
            std::fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink("/nix/store/x", &link).unwrap();
        };
        let kept = [
            "tmp/20261120T031402Z-0123456789ab",
            "tmp/before-first",
            "cortex/20261120T031402Z-0123456789ab",
        ];
        let swept = [
            "+tmp/20261120T031402Z-0a1b2c",
            "+tmp/20261120T031402Z-0a1b2c+previous",
            // Of a program from before.
            "tmp/20261120T031402Z-0a1b2d",
            "tmp/20261120T031402Z-0a1b2d+previous",
        ];
        kept.iter().chain(&swept).for_each(|name| link(name));
        let (sweep, _) = HOLD.split_once("\nmkdir \"$dir\"").unwrap();
        let script = sweep
            .replace("/nix/var/nix/gcroots/nixgate", roots.to_str().unwrap())
            .replace("/run/nixgate", run.to_str().unwrap());
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let output = Command::new(shell)
            .args(["-c", &script, shell, "20261130T000000Z-000000"])
            .env("PATH", path)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{shell}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let there = |name: &&str| Path::new(&roots).join(name).is_symlink();
        assert!(
            kept.iter().all(there),
            "{shell}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        assert!(
            !swept.iter().any(there),
            "{shell}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        assert!("+tmp".parse::<git_nixgate::record::Target>().is_err());
    }
}
