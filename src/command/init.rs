//! `init`: the file, the refspecs, the hook. A second run changes nothing.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::hook::{self, Installed};
use super::{repository, wait};
use crate::cli::Init;
use crate::config::{self, FILE};
use crate::failure::{Exit, Failure};
use crate::gate::build::local_flake;
use crate::git::Repo;
use crate::nix;
use crate::ui::{Outcome, Ui};

#[expect(clippy::disallowed_methods, reason = "no run: writes a new .nixgate.toml")]
pub(super) fn init(args: &Init, ui: &Ui) -> Outcome {
    let repo = repository()?;
    let tree = repo.work_tree().ok_or_else(|| {
        Failure::usage("init needs a work tree")
            .next("in a bare repository: git nixgate hook install --server")
    })?;
    let mut text = String::new();
    let mut changed = false;
    let path = tree.join(FILE);
    let wrote = if path.exists() {
        text.push_str(&format!("{FILE} is there already\n"));
        Vec::new()
    } else {
        let folder = match args.flake.as_str() {
            "." => tree.to_owned(),
            flake => tree.join(flake),
        };
        if !folder.join("flake.nix").exists() {
            return Err(
                Failure::usage(format!("there is no flake.nix in {}", folder.display()))
                    .next("git nixgate init --flake DIR    # the folder that holds it"),
            );
        }
        let flake = inside(tree, &folder.canonicalize()?)?;
        let names = names(&repo, &flake)?;
        if names.is_empty() {
            return Err(Failure::usage("the flake has no nixosConfigurations"));
        }
        std::fs::write(&path, config::starter(&names, &flake, &args.remote))?;
        changed = true;
        text.push_str(&format!("wrote {FILE} with {}\n", names.join(", ")));
        names
    };
    let mut refspecs = Vec::new();
    if repo.has_remotes()? {
        refspecs = repo.init_refspecs(&args.remote)?;
        changed |= !refspecs.is_empty();
        match refspecs.is_empty() {
            true => text.push_str(&format!("git fetch {} brings records already\n", args.remote)),
            false => text.push_str(&format!("git fetch {} brings records from now on\n", args.remote)),
        }
    } else {
        text.push_str("there is no remote: records stay in this clone until there is one\n");
    }
    let hooks = hook::install(&repo, false)?;
    let made = |hook: &Installed| matches!(hook, Installed::New { .. } | Installed::Renewed { .. });
    changed |= hooks.iter().any(made);
    let (hook_text, hook_value) = installed(&hooks);
    text.push_str(&hook_text);
    if changed {
        text.push_str(&format!(
            "next: git add {FILE} && git commit, then git nixgate check TARGET\n"
        ));
    } else {
        text.push_str("nothing was changed\n");
    }
    ui.answer(
        &text,
        json!({ "changed": changed, "targets": wrote, "refspecs": refspecs, "hook": hook_value }),
    );
    Ok(Exit::Done)
}

/// The names of the flake's hosts, from the commit and by the same URL as a release: what is copied into the store, which
/// everybody may read, is what git has of it, and never an ignored file.
fn names(repo: &Repo, flake: &str) -> Result<Vec<String>, Failure> {
    let head = repo.resolve("HEAD").map_err(|_| {
        Failure::usage("there is no commit yet")
            .why("what is released is a commit")
            .next("git add . && git commit -m 'First commit'")
    })?;
    let file = Path::new(flake).join("flake.nix");
    let file = file.strip_prefix(".").unwrap_or(&file);
    if repo.read_file(&head.id, file)?.is_none() {
        let quoted = file.to_string_lossy();
        let quoted = shlex::try_quote(&quoted).unwrap_or_default();
        return Err(Failure::usage(format!("{} is not committed", file.display()))
            .next(format!("git add {quoted} && git commit -m 'Add the flake'")));
    }
    let settings = config::Settings {
        flake: flake.to_owned(),
        ..config::Settings::default()
    };
    let flake = local_flake(repo, &head, &settings)?;
    wait(nix::nixos_configurations(
        &nix::LocalExec,
        &flake,
        Duration::from_secs(300),
    ))
}

/// The flake's folder as the file names it: from the repository's root.
fn inside(tree: &Path, folder: &Path) -> Result<String, Failure> {
    let root = tree.canonicalize()?;
    match folder.strip_prefix(&root) {
        Ok(rest) if rest.as_os_str().is_empty() => Ok(".".to_owned()),
        Ok(rest) => Ok(rest.to_string_lossy().into_owned()),
        Err(_) => Err(
            Failure::usage(format!("{} is outside of this repository", folder.display()))
                .why("what is released is a commit, and the flake has to be in it")
                .next("git nixgate init --flake DIR    # a folder of this repository"),
        ),
    }
}

/// What installing hooks came to, in words and in JSON: the first one's, and with more than one `hooks` for all.
pub(super) fn installed(hooks: &[Installed]) -> (String, Value) {
    let mut text = String::new();
    let mut values = Vec::new();
    for hook in hooks {
        let (word, path) = match hook {
            Installed::New { path, .. } => ("installed", path),
            Installed::Renewed { path, .. } => ("renewed", path),
            Installed::Already { path, .. } => ("there already", path),
            Installed::Foreign { path, .. } => ("foreign", path),
            Installed::LeftOut { path, .. } => ("left out", path),
        };
        match hook {
            Installed::Foreign { path, by_hand, .. } => {
                text.push_str(&format!(
                    "{} is somebody else's hook and stays as it is; by hand:\n",
                    path.display()
                ));
                for line in by_hand {
                    text.push_str(&format!("  {line}\n"));
                }
            }
            Installed::LeftOut { path, why } => {
                text.push_str(&format!("hook left out: {}: {why}\n", path.display()));
            }
            _ => text.push_str(&format!("hook {word}: {}\n", path.display())),
        }
        values.push(json!({ "state": word, "path": path.display().to_string(), "shared": shared(hook) }));
    }
    if hooks.iter().any(shared) {
        text.push_str("core.hooksPath makes it count for every repository that shares the folder\n");
    }
    let mut value = values.first().cloned().unwrap_or_default();
    if values.len() > 1 {
        value["hooks"] = values.into();
    }
    (text, value)
}

fn shared(hook: &Installed) -> bool {
    match hook {
        Installed::New { shared, .. }
        | Installed::Renewed { shared, .. }
        | Installed::Already { shared, .. }
        | Installed::Foreign { shared, .. } => *shared,
        Installed::LeftOut { .. } => false,
    }
}
