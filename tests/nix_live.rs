//! The Nix module against a real Nix and its store. Ignored by default: `cargo test --test nix_live -- --ignored` where
//! `nix`, `git` and a store that may be written to are at hand (the lab has them).

use git_nixgate::failure::Failure;
use git_nixgate::nix::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);

/// A flake of three hosts, in a repository whose path a URL cannot hold as it is.
const FLAKE: &str = r#"{
  outputs = { self }: let
    make = name: script: extra: derivation ({
      inherit name; system = "SYSTEM"; builder = "/bin/sh"; args = [ "-c" script ]; salt = "SALT";
    } // extra);
    host = toplevel: { config.system.build = { inherit toplevel; }; };
  in {
    nixosConfigurations.cortex = host (make "nixos-system-cortex-25.05" "echo $dep > $out"
      { dep = make "dep-1.2" "echo $salt > $out" { }; });
    nixosConfigurations.broken = host (make "broken" "echo why; exit 3" { });
    nixosConfigurations.wrong = host (throw "wrong on purpose");
  };
}
"#;

struct Lab {
    /// Kept for its drop.
    _dir: tempfile::TempDir,
    tree: PathBuf,
    bare: PathBuf,
    rev: String,
}

fn git(dir: &Path, arguments: &[&str]) -> String {
    let identity = [
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
        "-c",
        "commit.gpgsign=false",
    ];
    let output = Command::new("git")
        .current_dir(dir)
        .args(identity)
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

async fn lab() -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("in fra #1?&ü%20");
    let flake = tree.join("nix os");
    std::fs::create_dir_all(&flake).unwrap();
    let system = systems(&LocalExec, SOON).await.unwrap().system;
    let salt = dir.path().display().to_string();
    std::fs::write(
        flake.join("flake.nix"),
        FLAKE.replace("SYSTEM", &system).replace("SALT", &salt),
    )
    .unwrap();
    git(&tree, &["init", "-q"]);
    git(&tree, &["add", "-A"]);
    git(&tree, &["commit", "-qm", "one"]);
    let rev = git(&tree, &["rev-parse", "HEAD"]);
    let bare = dir.path().join("src.git");
    git(dir.path(), &["init", "-q", "--bare", "src.git"]);
    git(
        &tree,
        &[
            "push",
            "-q",
            bare.to_str().unwrap(),
            "HEAD:refs/nixgate/src/run-1",
        ],
    );
    // What is not committed must not get in.
    std::fs::write(flake.join("flake.nix"), "not a flake at all").unwrap();
    Lab {
        _dir: dir,
        tree,
        bare,
        rev,
    }
}

impl Lab {
    fn request(&self, host: &str) -> BuildRequest {
        BuildRequest {
            flake: flake_url(FlakeSource::WorkTree(&self.tree), &self.rev, "nix os", false),
            attribute: format!("nixosConfigurations.{host}.config.system.build.toplevel"),
            out_link: None,
            impure: false,
            jobs: 2,
            remote: None,
            overrides: Vec::new(),
            deadline: SOON,
        }
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
#[ignore = "needs Nix"]
fn a_commit_is_evaluated_built_read_rooted_and_copied() {
    run(async {
        let exec = LocalExec;
        let version = nix_version(&exec, SOON).await.unwrap();
        assert!(version.has_flakes(), "{version}");
        let lab = lab().await;
        let cortex = lab.request("cortex");

        let begun = Instant::now();
        let evaluated = evaluate(&exec, &cortex).await.unwrap();
        eprintln!("{version}: evaluate {:?}", begun.elapsed());
        assert_eq!((evaluated.to_build, evaluated.to_fetch), (2, 0));
        let ahead = std::slice::from_ref(&evaluated.toplevel);
        assert_eq!(presence(&exec, ahead, SOON).await.unwrap().absent, ahead);

        let link = lab._dir.path().join("result");
        let begun = Instant::now();
        let built = build(
            &exec,
            &BuildRequest {
                out_link: Some(link.clone()),
                ..cortex.clone()
            },
        )
        .await
        .unwrap();
        eprintln!("build {:?}", begun.elapsed());
        assert_eq!(
            (&built.drv, &built.toplevel),
            (&evaluated.drv, &evaluated.toplevel)
        );
        assert_eq!(
            std::fs::read_link(&link).unwrap().to_str(),
            Some(built.toplevel.as_str())
        );
        assert_eq!(evaluate(&exec, &cortex).await.unwrap().to_build, 0);

        // The same commit in a bare repository is the same derivation.
        let source = FlakeSource::Bare {
            repository: &lab.bare,
            run: "run-1",
        };
        let elsewhere = BuildRequest {
            flake: flake_url(source, &lab.rev, "nix os", false),
            ..cortex.clone()
        };
        assert_eq!(build(&exec, &elsewhere).await.unwrap(), built);

        let begun = Instant::now();
        let closure = closure(&exec, &built.toplevel, SOON).await.unwrap();
        eprintln!("closure {:?}", begun.elapsed());
        assert_eq!(closure.count(), 2);
        let names: Vec<&str> = closure.paths().map(StorePath::name).collect();
        assert!(names.contains(&"dep-1.2") && names.contains(&"nixos-system-cortex-25.05"));
        let all: Vec<StorePath> = closure.paths().cloned().collect();
        let known = presence(&exec, &all, SOON).await.unwrap();
        assert_eq!(
            (known.present.len(), known.absent.len(), known.dangling.len()),
            (2, 0, 0)
        );

        let drvs = derivations(&exec, std::slice::from_ref(&built.drv), SOON)
            .await
            .unwrap();
        assert_eq!(drvs[0].path, built.drv);
        assert_eq!(drvs[0].outputs["out"].as_ref(), Some(&built.toplevel));
        assert_eq!(drvs[0].input_drvs.len(), 1);

        let dir = format!("test-{}", std::process::id());
        let first = add_root(
            &exec,
            &dir,
            "release-1",
            (&built.toplevel, Some(built.drv.as_str())),
            SOON,
        )
        .await
        .unwrap();
        assert_eq!(
            add_root(
                &exec,
                &dir,
                "release-1",
                (&built.toplevel, Some(built.drv.as_str())),
                SOON
            )
            .await
            .unwrap(),
            first
        );
        assert_eq!(
            std::fs::read_link(&first).unwrap().to_str(),
            Some(built.toplevel.as_str())
        );
        let printed = Command::new("nix-store")
            .args(["--gc", "--print-roots"])
            .output()
            .unwrap();
        assert!(
            String::from_utf8_lossy(&printed.stdout).contains(&first),
            "{first} is no root"
        );
        let roots = list_roots(&exec, &dir, SOON).await.unwrap();
        assert_eq!(
            roots,
            [
                Root {
                    name: "release-1".into(),
                    path: built.toplevel.clone()
                },
                Root {
                    name: "release-1.drv".into(),
                    path: built.drv.clone()
                }
            ]
        );
        remove_roots(&exec, &dir, &["release-1".to_owned()], SOON)
            .await
            .unwrap();
        remove_roots(&exec, &dir, &["release-1".to_owned()], SOON)
            .await
            .unwrap();
        assert!(list_roots(&exec, &dir, SOON).await.unwrap().is_empty());

        let cache = format!("file://{}", lab._dir.path().join("cache").display());
        let there = CopyRequest {
            from: None,
            to: Some(cache.clone()),
            paths: vec![built.toplevel.clone()],
            ssh_options: String::new(),
            host_keys: Vec::new(),
            no_check_signatures: false,
            substitute_on_destination: false,
            deadline: SOON,
        };
        copy(&exec, &there).await.unwrap();
        copy(&exec, &there).await.unwrap();
        let empty = format!("file://{}", lab._dir.path().join("empty").display());
        let lacking = CopyRequest {
            from: Some(empty),
            to: Some(cache.clone()),
            ..there.clone()
        };
        let error = copy(&exec, &lacking).await.unwrap_err();
        assert_eq!(error.kind, CopyKind::Source, "{error}");
        archive_inputs(&exec, &cortex.flake, &cache, "", SOON)
            .await
            .unwrap();
        let info = store_info(&exec, None, "", SOON).await.unwrap();
        eprintln!("{info:?}");
    });
}

#[test]
#[ignore = "needs Nix"]
fn a_flake_lists_its_hosts_and_says_what_is_wrong_with_them() {
    run(async {
        let exec = LocalExec;
        let lab = lab().await;
        let names = nixos_configurations(&exec, &lab.request("").flake, SOON)
            .await
            .unwrap();
        assert_eq!(names, ["broken", "cortex", "wrong"]);

        let error = build(&exec, &lab.request("orion")).await.unwrap_err();
        assert_eq!(error.kind, BuildKind::Missing);
        assert_eq!(
            error.failure.why,
            ["its nixosConfigurations: broken, cortex, wrong"]
        );
        let begun = Instant::now();
        let error = evaluate(&exec, &lab.request("wrong")).await.unwrap_err();
        eprintln!("an error of evaluation {:?}", begun.elapsed());
        assert_eq!(error.kind, BuildKind::Eval);
        assert!(error.to_string().contains("wrong on purpose"), "{error}");
        let error = build(&exec, &lab.request("broken")).await.unwrap_err();
        assert_eq!(error.kind, BuildKind::Build);
        assert!(error.to_string().contains("> why"), "{error}");

        let mut gone = lab.request("cortex");
        gone.flake = flake_url(FlakeSource::WorkTree(&lab.tree), &"0".repeat(40), "nix os", false);
        let error = build(&exec, &gone).await.unwrap_err();
        assert_eq!(error.kind, BuildKind::Fetch, "{error}");

        let nobody = StorePath::new("/nix/store/00000000000000000000000000000000-nobody").unwrap();
        let failure = closure(&exec, &nobody, SOON).await.unwrap_err();
        assert!(failure.to_string().contains("is not valid"), "{failure}");
    });
}

/// The same programs, as if they ran on another host: nothing is read in process.
struct Elsewhere;

impl Exec for Elsewhere {
    async fn exec(
        &self,
        argv: &[String],
        env: &[(String, String)],
        stdin: Option<Vec<u8>>,
        deadline: Duration,
    ) -> Result<ExecOutput, Failure> {
        LocalExec.exec(argv, env, stdin, deadline).await
    }
}

/// This machine without programs: only what is read in process is found.
struct InProcess;

impl Exec for InProcess {
    fn is_here(&self) -> bool {
        true
    }

    async fn exec(
        &self,
        argv: &[String],
        _: &[(String, String)],
        _: Option<Vec<u8>>,
        _: Duration,
    ) -> Result<ExecOutput, Failure> {
        Err(Failure::usage(format!("no program is wanted: {argv:?}")))
    }
}

#[test]
#[ignore = "needs Nix"]
fn what_is_read_in_process_is_what_the_programs_say() {
    run(async {
        let labs = [lab().await, lab().await];
        let mut built = Vec::new();
        for lab in &labs {
            built.push(build(&LocalExec, &lab.request("cortex")).await.unwrap());
        }
        // Beside two small ones whatever systems there are.
        let mut all: Vec<StorePath> = built.iter().map(|built| built.toplevel.clone()).collect();
        for entry in std::fs::read_dir("/nix/store").unwrap() {
            let path = StorePath::new(entry.unwrap().path().to_str().unwrap());
            let is_system =
                |path: &StorePath| path.name().starts_with("nixos-system-") && !path.is_derivation();
            all.extend(path.ok().filter(is_system));
        }
        let mut in_process = 0;
        for toplevel in &all {
            let Ok(said) = closure(&Elsewhere, toplevel, SOON).await else {
                continue;
            };
            match closure(&InProcess, toplevel, SOON).await {
                Ok(read) => {
                    assert_eq!(read, said);
                    in_process += 1;
                }
                // SQLite reads a database in WAL mode only where its files are, or can be made.
                Err(failure) => assert!(!rustix::process::getuid().is_root(), "{failure}"),
            }
            assert_eq!(closure(&LocalExec, toplevel, SOON).await.unwrap(), said);
        }
        eprintln!("{} closures, {in_process} of them in process", all.len());
        let drvs: Vec<StorePath> = built.iter().map(|built| built.drv.clone()).collect();
        let texts = |unshared: &Unshared| -> BTreeMap<String, Vec<u8>> {
            let texts = unshared.texts().into_iter();
            texts
                .map(|(path, text)| (path.to_owned(), text.to_vec()))
                .collect()
        };
        let said = unshared(&Elsewhere, &drvs[1], &drvs[..1], SOON)
            .await
            .unwrap()
            .unwrap();
        let read = unshared(&InProcess, &drvs[1], &drvs[..1], SOON)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(texts(&read), texts(&said));
        assert_eq!(said.texts().len(), 4);
    });
}

/// To be run at the destination of a copy whose connection was cut (see the module `nix::orphans`); without one it finds
/// nothing to end.
#[test]
#[ignore = "needs Nix"]
fn nothing_is_left_of_a_broken_copy() {
    run(async {
        let ended = end_orphaned_copies(&LocalExec, SOON).await.unwrap();
        eprintln!("{ended} ended");
        assert_eq!(end_orphaned_copies(&LocalExec, SOON).await.unwrap(), 0);
    });
}
