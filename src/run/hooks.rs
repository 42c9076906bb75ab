//! The operator's own programs around a release: each an argv of `.nixgate.toml`, run in the work tree's root.

use std::path::Path;

use super::{Outcome, resolve};
use crate::config::Config;
use crate::event::Event;
use crate::failure::{Failure, Reason};
use crate::gate::GateLog;
use crate::git::{Released, Repo};
use crate::nix::{Exec as _, LocalExec};

/// `hooks.pre` of HEAD, in the work tree's root. A hook that fails ends the run.
pub(super) async fn before(repo: &Repo, log: &GateLog<'_>, head: &Released) -> Result<(), Failure> {
    let Some(tree) = repo.work_tree() else {
        return Ok(());
    };
    let config = resolve::at_commit(repo, head.commit())?;
    for argv in &config.hooks.pre {
        log.note(format!("hook: {}", argv.join(" ")));
        let output = hook(tree, argv).await?;
        if output.0 != 0 {
            return Err(Failure::failed(
                Reason::Hook,
                format!("the hook {} ended with {}", argv[0], output.0),
            )
            .tail(&output.1, 8)
            .next("nothing was begun; mend what the hook says and run it again"));
        }
    }
    Ok(())
}

pub(super) async fn after(repo: &Repo, log: &GateLog<'_>, config: &Config, outcome: &Outcome) {
    let Some(tree) = repo.work_tree() else { return };
    for argv in &config.hooks.post {
        log.note(format!(
            "hook: {} ({})",
            argv.join(" "),
            outcome.record.as_deref().unwrap_or_default()
        ));
        match hook(tree, argv).await {
            Ok((0, _)) => {}
            Ok((status, text)) => {
                let last = crate::failure::last_lines(&text, 1).pop().unwrap_or_default();
                log.see(&Event::Warning {
                    text: format!("the hook {} ended with {status}: {last}", argv[0]),
                });
            }
            Err(failure) => log.see(&Event::Warning { text: failure.what }),
        }
    }
}

async fn hook(tree: &Path, argv: &[String]) -> Result<(i32, String), Failure> {
    // `env -C` is how coreutils runs a program elsewhere; the argv stays an argv.
    let words: Vec<String> = [
        "env".to_owned(),
        "-C".to_owned(),
        tree.to_string_lossy().into_owned(),
        "--".to_owned(),
    ]
    .into_iter()
    .chain(argv.iter().cloned())
    .collect();
    let output = LocalExec
        .exec(&words, &[], None, std::time::Duration::from_secs(3600))
        .await?;
    Ok((output.status, format!("{}{}", output.out(), output.err())))
}
