//! `init` in repositories as people have them.

use crate::lab::Lab;

/// A flake whose only host is told by a file beside its folder, and a secret that git ignores.
const REPOSITORY: &str = r#"mkdir -p "$R/nix" && cd "$R" &&
echo '{ outputs = _: { nixosConfigurations = import ../up.nix; }; }' >nix/flake.nix &&
echo '{ cortex = { }; }' >up.nix && echo .env >.gitignore && echo PASSWORD=in-the-clear >.env"#;

#[test]
fn g1_init_reads_the_flake_as_a_release_does() {
    let lab = Lab::up("init", &["desk"]);
    for (folder, git, init) in [
        ("$HOME/plain", "git", "git init -q"),
        ("$HOME/a space and ümläut", "git", "git init -q"),
        (
            "$HOME/apart",
            r#"git --git-dir="$HOME/apart.git" --work-tree="$R""#,
            r#"git init -q --bare "$HOME/apart.git" && git -C "$HOME/apart.git" config core.bare false"#,
        ),
    ] {
        let op = |script: &str| lab.sh("desk", "op", &format!("set -e; R=\"{folder}\"; {script}"));
        op(&format!("{REPOSITORY}; {init}")).text();
        let nixgate = format!("cd \"$R\"; {git} nixgate init --flake nix");
        // Before there is a commit, and before the flake is in it: what to type, and it works.
        let out = op(&nixgate);
        assert_eq!(out.status, 2, "{folder}: {out}");
        assert!(out.stderr.contains("there is no commit yet"), "{out}");
        op(&format!("cd \"$R\"; {git} commit -q --allow-empty -m one")).text();
        let out = op(&nixgate);
        assert_eq!(out.status, 2, "{folder}: {out}");
        assert!(
            out.stderr.contains("git add nix/flake.nix && git commit"),
            "{out}"
        );
        op(&format!("cd \"$R\"; {git} add . && {git} commit -qm two")).text();
        let out = op(&nixgate);
        assert_eq!(out.status, 0, "{folder}: {out}");
        assert!(out.stdout.contains("wrote .nixgate.toml with cortex"), "{out}");
    }
    let found = "grep -rl PASSWORD=in-the-clear /nix/store; find /nix/store -name .env -o -name .git; :";
    let found = lab.sh("desk", "root", found);
    assert_eq!(found.text(), "", "ignored files and .git are in the store");
}
