//! `config show` and `config check`.

use serde_json::json;

use super::repository;
use crate::cli::{self, ConfigOf};
use crate::config::{self, Config, FILE};
use crate::failure::{Exit, Failure};
use crate::run::at_commit;
use crate::ui::{Outcome, Ui};

pub(super) fn config(args: cli::Config, ui: &Ui) -> Outcome {
    match args {
        cli::Config::Show(of) => {
            let config = read(&of)?;
            ui.answer(&config::to_toml(&config), &config);
        }
        cli::Config::Check(of) => {
            let config = read(&of)?;
            let names: Vec<String> = config.targets.keys().map(ToString::to_string).collect();
            let file = of
                .file
                .as_ref()
                .map_or(FILE.to_owned(), |path| path.display().to_string());
            let warnings: Vec<String> = config::shared_hosts(&config)
                .into_iter()
                .map(|(one, other)| {
                    format!(
                        "{one} and {other} are one host: a release of one replaces the system of the other"
                    )
                })
                .collect();
            for warning in &warnings {
                ui.note(&format!("warning: {warning}"));
            }
            let text = format!("{file} is right; targets: {}\n", names.join(", "));
            ui.answer(
                &text,
                json!({ "ok": true, "targets": names, "warnings": warnings }),
            );
        }
    }
    Ok(Exit::Done)
}

fn read(of: &ConfigOf) -> Result<Config, Failure> {
    let Some(path) = &of.file else {
        let repo = repository()?;
        return at_commit(&repo, &repo.resolve(of.rev.as_deref().unwrap_or("HEAD"))?);
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::config(format!("{} cannot be read: {error}", path.display())))?;
    config::parse(&text).map_err(|problems| {
        let count = problems.len();
        let plural = if count == 1 { "" } else { "s" };
        let mut failure = Failure::config(format!("{} has {count} problem{plural}", path.display()));
        failure.why = problems.iter().map(ToString::to_string).collect();
        failure
    })
}
