//! The rehearsal's script under dash and bash, over a store in a directory of its own and a `nix-store` that says what its
//! database has.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::verify::VERIFY;

/// `nix-store`: `db/NAME` has a path's hash, size, deriver, the number of references, and those.
const NIX_STORE: &str = r#"#!/bin/sh
db=${0%/*}/db
case $1 in
--query) shift 2; open=$1
    while [ -n "$open" ]; do
        next=
        for p in $open; do
            [ -e "$db/${p##*/}" ] || { echo "error: path '$p' is not valid" >&2; exit 1; }
            case " $seen " in *" $p "*) ;; *) echo "$p"; seen="$seen $p"; next="$next $(sed -n '5,$p' "$db/${p##*/}" | tr '\n' ' ')" ;; esac
        done
        open=$(echo $next)
    done ;;
--dump-db) shift; for p; do echo "$p"; cat "$db/${p##*/}"; done ;;
--check-validity) shift 2; s=0
    for p; do [ -e "$db/${p##*/}" ] || { echo "$p"; s=1; }; done
    exit $s ;;
esac
"#;

struct Store(tempfile::TempDir);

impl Store {
    fn new() -> Store {
        let store = Store(tempfile::tempdir().expect("a directory"));
        for dir in ["bin", "bin/db", "store/top/bin", "store/top/sw/bin"] {
            std::fs::create_dir_all(store.dir().join(dir)).expect("made");
        }
        for file in ["nixos-version", "activate", "init"] {
            std::fs::write(store.dir().join("store/top").join(file), "").expect("written");
        }
        store.program("bin/nix-store", NIX_STORE);
        store.program("store/top/bin/switch-to-configuration", "#!/bin/sh\n");
        store
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.dir().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("mode");
    }

    /// Registers a path; its files are there.
    fn has(&self, name: &str, digit: char, references: &[&str]) {
        let path = self.dir().join("store").join(name);
        if !path.exists() {
            std::fs::write(path, "").expect("written");
        }
        let list: String = references.iter().map(|r| format!("{}\n", self.at(r))).collect();
        let hash = digit.to_string().repeat(64);
        let text = format!("{hash}\n10\n\n{}\n{list}", references.len());
        std::fs::write(self.dir().join("bin/db").join(name), text).expect("written");
    }

    fn at(&self, name: &str) -> String {
        format!("{}/store/{name}", self.dir().display())
    }

    /// docs/format.md's digest of these paths, each with its hash's digit.
    fn digest(&self, paths: &[(&str, char)]) -> String {
        let line = |(name, digit): &(&str, char)| {
            format!("{}\0sha256:{}\n", self.at(name), digit.to_string().repeat(64))
        };
        let sum = Sha256::digest(paths.iter().map(line).collect::<String>());
        sum.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The lines that come before what dry-activate printed, memory left out.
    fn verified(&self, sent: &[&str], expected: &str) -> Vec<String> {
        let store = format!("{}/store", self.dir().display());
        let script = VERIFY.replace("/nix/store", &store);
        let run = |shell: &str| {
            let mut child = std::process::Command::new(shell)
                .args(["-c", &script, "sh", &self.at("top"), expected])
                .env("PATH", format!("{}/bin:/usr/bin:/bin", self.dir().display()))
                .env("LC_ALL", "C")
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .expect("a shell");
            let input: String = sent.iter().map(|name| format!("{name}\n")).collect();
            std::io::Write::write_all(&mut child.stdin.take().expect("stdin"), input.as_bytes())
                .expect("read");
            let output = child.wait_with_output().expect("an end");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let head = text.split("\n--nixgate-section--\n").next().unwrap_or_default();
            let lines = head
                .lines()
                .filter(|line| !line.starts_with("MemAvailable=") && !line.starts_with("psi_memory="));
            let mut lines: Vec<String> = lines.map(|line| line.replace(&format!("{store}/"), "")).collect();
            lines.extend(String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned));
            lines
        };
        let said = [run("dash"), run("bash")];
        assert_eq!(said[0], said[1]);
        said[0].clone()
    }
}

#[test]
fn r1_what_is_registered_is_told_by_its_digest_and_listed_only_where_it_is_not_expected() {
    let store = Store::new();
    store.has("top", '1', &["lib", "stamp", "top"]);
    store.has("lib", '2', &[]);
    store.has("stamp", '3', &["lib"]);
    let digest = store.digest(&[("lib", '2'), ("stamp", '3'), ("top", '1')]);
    let sent = ["top", "lib", "stamp"];
    let told = ["complete=1", "status=0", &format!("digest={digest}")];
    assert_eq!(store.verified(&sent, &digest), told);
    let listed = store.verified(&sent, "another");
    assert_eq!(listed[..3], told);
    let line =
        |name: &str, digit: char| format!("registered={name} sha256:{} 10 -", digit.to_string().repeat(64));
    assert_eq!(
        listed[3..],
        [line("lib", '2'), line("stamp", '3'), line("top", '1')]
    );
}

#[test]
fn r1_a_build_with_another_reference_is_looked_at_with_all_that_it_refers_to() {
    let store = Store::new();
    store.has("top", '1', &["stamp"]);
    store.has("stamp", '3', &["data"]);
    store.has("data", '4', &[]);
    // The builder's has a reference to this, and none to the other.
    store.has("extra", '5', &[]);
    let sent = ["top", "stamp", "extra"];
    let digest = store.digest(&[("data", '4'), ("stamp", '3'), ("top", '1')]);
    let told = store.verified(&sent, &digest);
    assert_eq!(told, ["complete=1", "status=0", &format!("digest={digest}")]);
    std::fs::remove_file(store.dir().join("store/data")).expect("removed");
    let told = store.verified(&sent, &digest);
    assert_eq!(told, ["missing=data", "complete=1"]);
    std::fs::remove_file(store.dir().join("bin/db/extra")).expect("forgotten");
    std::fs::write(store.dir().join("store/data"), "").expect("written");
    assert_eq!(store.verified(&sent, &digest), ["invalid=extra", "complete=1"]);
    std::fs::remove_file(store.dir().join("bin/db/top")).expect("forgotten");
    assert_eq!(
        store.verified(&sent, &digest),
        ["invalid=top", "invalid=extra", "complete=1"]
    );
}

#[test]
fn r1_a_database_that_cannot_be_read_is_no_answer() {
    let store = Store::new();
    store.has("top", '1', &[]);
    store.program(
        "bin/nix-store",
        "#!/bin/sh\n[ \"$1\" != --check-validity ] || exit 0\necho 'error: database is locked' >&2; exit 1\n",
    );
    assert_eq!(store.verified(&["top"], ""), ["error: database is locked"]);
}
