//! One file per command: from parsed arguments to a run or an answer.

mod config;
pub mod hook;
mod init;
mod logs;
mod records;
mod ruleset;
mod runs;
mod signals;
mod store;
mod verify;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use signals::{Signal, Signals};

use crate::cli::{self, Command};
use crate::failure::{Exit, Failure, Reason};
use crate::git::Repo;
use crate::record::Target;
use crate::run::{self, Asker, Stop, World};
use crate::ui::{Outcome, Ui};

/// Runs one command.
pub fn run(command: Command, ui: &Ui) -> Outcome {
    match command {
        Command::Init(args) => init::init(&args, ui),
        Command::Plan(args) => runs::plan(args, ui),
        Command::Check(args) => runs::check(args, ui),
        Command::Release(args) => runs::release(args, ui),
        Command::Rollback(args) => runs::rollback(args, ui),
        Command::Deploy(args) => runs::deploy(args, ui),
        Command::Health(args) => runs::health(args, ui),
        Command::Resume(args) => runs::resume(args, ui),
        Command::Cancel(args) => runs::cancel(args, ui),
        Command::Publish(args) => runs::publish(args, ui),
        Command::Status(args) => records::status(args, ui),
        Command::Log(args) => records::log(args, ui),
        Command::Show(args) => records::show(&args, ui),
        Command::Logs(args) => logs::logs(args, ui),
        Command::Verify(args) => verify::verify(&args, ui),
        Command::Prune(args) => store::prune(args, ui),
        Command::Rename(args) => store::rename(args, ui),
        Command::Retire(args) => store::retire(args, ui),
        Command::Diff(args) => runs::diff(args, ui),
        Command::Store(args) => store::store(args, ui),
        Command::Hook(args) => hooks(args, ui),
        Command::Config(args) => config::config(args, ui),
        Command::Man { folder } => man(folder.as_deref()),
        Command::Completions { shell } => {
            let mut command = <cli::Cli as clap::CommandFactory>::command();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "git-nixgate", &mut script);
            ui.answer(
                &String::from_utf8_lossy(&script),
                serde_json::json!({ "script": String::from_utf8_lossy(&script) }),
            );
            Ok(Exit::Done)
        }
    }
}

/// The repository around the current folder.
fn repository() -> Result<Repo, Failure> {
    Repo::open(Path::new("."))
}

fn target(name: &str) -> Result<Target, Failure> {
    name.parse().map_err(Failure::usage)
}

/// Whoever sits at the terminal.
struct Person {
    can_ask: bool,
}

impl Asker for Person {
    fn ask(&self, question: &str) -> Option<String> {
        if !self.can_ask {
            return None;
        }
        crate::ui::say(&format!("{question} "));
        let mut line = String::new();
        match std::io::stdin().read_line(&mut line) {
            Ok(n) if n > 0 => Some(line.trim().to_owned()),
            _ => None,
        }
    }

    fn secret(&self, question: &str) -> Option<String> {
        self.can_ask
            .then(|| rpassword::prompt_password(format!("{question} ")).ok())
            .flatten()
    }
}

fn person(ui: &Ui) -> Arc<dyn Asker + Send + Sync> {
    Arc::new(Person {
        can_ask: ui.can_ask(),
    })
}

/// Runs work that waits for the network.
fn wait<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// Signals closer together than this are one wish.
const SAME: Duration = Duration::from_millis(700);

/// The same for a run: the first SIGINT, SIGHUP or SIGTERM asks it to end at its next safe boundary, the second leaves
/// at once. What becomes of the host then is said.
fn wait_for<T>(ui: &Ui, stop: &Stop, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    wait(async {
        let mut signals = Signals::new()?;
        let heard = async {
            if signals.recv().await == Signal::Terminate && stop.switching_here() {
                // The switch may wait for our end: it is no wish to undo it. The host goes on, and `resume` too.
                return;
            }
            let after = match stop.fate() {
                None => String::new(),
                Some(fate) => format!("; if this is cut off now, {}", fate.text),
            };
            ui.note(&format!(
                "stopping at the next safe boundary{after}. Once more leaves at once"
            ));
            stop.ask();
            // One keypress may come twice: from the terminal, and from `git`, which hands it on.
            let heard = Instant::now();
            while heard.elapsed() < SAME {
                signals.recv().await;
            }
        };
        tokio::select! {
            done = work => done,
            () = heard => Err(left(stop)),
        }
    })
}

fn left(stop: &Stop) -> Failure {
    let Some(fate) = stop.fate() else {
        return Failure::new(Exit::Failed, Reason::Cancelled, "left: no host was touched");
    };
    Failure::new(fate.exit, Reason::Cancelled, format!("left: {}", fate.text)).next(fate.next)
}

fn world<'a>(
    repo: &'a Repo,
    ui: &'a Ui,
    asker: &'a Arc<dyn Asker + Send + Sync>,
    stop: &'a Stop,
) -> World<'a> {
    World {
        repo,
        watcher: ui,
        asker,
        stop,
    }
}

fn hooks(args: cli::Hook, ui: &Ui) -> Outcome {
    match args {
        cli::Hook::Install { server } => {
            let installed = hook::install(&repository()?, server)?;
            let (text, value) = init::installed(&installed);
            ui.answer(&text, value);
            let foreign = |one: &hook::Installed| matches!(one, hook::Installed::Foreign { .. });
            Ok(if installed.iter().any(foreign) {
                Exit::Refused
            } else {
                Exit::Done
            })
        }
        cli::Hook::Ruleset(forge) => {
            let found = ruleset::of(&forge);
            for line in found.words.lines() {
                ui.note(line);
            }
            let text = serde_json::to_string_pretty(&found.rules).unwrap_or_default();
            ui.answer(
                &text,
                serde_json::json!({ "rules": found.rules, "words": found.words }),
            );
            Ok(Exit::Done)
        }
        cli::Hook::PrePush { remote, url } => {
            for warning in hook::pre_push(Path::new("."), remote, url, &stdin()?, run::known_secrets)? {
                ui.note(&format!("warning: {warning}"));
            }
            Ok(Exit::Done)
        }
        cli::Hook::ReferenceTransaction { state } => {
            hook::reference_transaction(Path::new("."), &state, &stdin()?, run::known_secrets)?;
            Ok(Exit::Done)
        }
        cli::Hook::PreReceive => {
            for warning in hook::pre_receive(Path::new("."), &stdin()?, run::known_secrets)? {
                ui.note(&format!("warning: {warning}"));
            }
            Ok(Exit::Done)
        }
    }
}

fn stdin() -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[expect(clippy::disallowed_methods, reason = "no run: writes the manual")]
fn man(folder: Option<&Path>) -> Outcome {
    let pages = cli::man_pages()?;
    match folder {
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            for (name, page) in pages {
                std::fs::write(folder.join(name), page)?;
            }
        }
        None => {
            use std::io::Write;
            std::io::stdout().write_all(&pages[0].1)?;
        }
    }
    Ok(Exit::Done)
}
