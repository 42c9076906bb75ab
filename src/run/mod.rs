//! Runs: sequences of gates on one target, with a journal that another process can finish from.

mod back;
pub mod cancel;
mod carried;
mod compare;
mod deliver;
mod derivations;
mod early;
mod explain;
mod finish;
mod hold;
mod hooks;
pub mod journal;
mod live;
mod logs;
mod mark;
mod plan;
mod prepare;
mod product;
mod prune;
mod publish;
mod reach;
mod reboot;
mod rebuild;
mod refusals;
mod registered;
mod rehearse;
mod release;
mod resolve;
mod restore;
mod resume;
mod retire;
mod running;
mod secrets;
mod stale;
mod stop;
pub mod store;
mod supersede;
mod trust;
mod unboot;

use std::io::Read;
use std::sync::Arc;
use std::thread::JoinHandle;

use time::OffsetDateTime;

use crate::event::{Event, Gate, Watcher};
use crate::failure::{Exit, Failure, Reason};
use crate::gate::GateLog;
use crate::git::Repo;
use crate::record::{Evidence, Secrets, Target, Utc};

use journal::{Ending, State, Step, Verb};

pub use cancel::cancel;
pub use compare::{CompareOptions, Compared, Side, compare};
pub use deliver::Outcome;
pub use live::{Live, look_live};
pub use logs::{LogsOptions, logs};
pub use plan::{PlanOptions, Planned, plan};
pub use prune::{PruneOptions, Pruned, prune};
pub use publish::{publish, recorded_remote, take_theirs};
pub use reach::{endpoint, health, live};
pub use release::{CheckOptions, ReleaseOptions, check, release};
pub use resolve::{at_commit, ledger, settings_of, trusted};
pub use restore::{Mode, RestoreOptions, deploy, rollback};
pub use resume::resume;
pub use retire::{Renamed, RetireOptions, Retired, rename, retire};
pub use secrets::{known_secrets, secrets, secrets_of};
pub use stop::{Fate, Stop};

/// Somebody who can be asked.
pub trait Asker {
    /// One line; `None` where nobody answers.
    fn ask(&self, question: &str) -> Option<String>;
    /// A line that is not shown while it is typed.
    fn secret(&self, question: &str) -> Option<String>;
}

/// What every run works with.
#[derive(Clone, Copy)]
pub struct World<'a> {
    pub repo: &'a Repo,
    pub watcher: &'a dyn Watcher,
    pub asker: &'a Arc<dyn Asker + Send + Sync>,
    pub stop: &'a Stop,
}

/// A journal is no place for more than this.
const BIG: usize = 16 << 20;

/// One run's own state: gates, evidence, journal.
pub(crate) struct Run<'a> {
    pub world: World<'a>,
    pub target: Target,
    pub log: GateLog<'a>,
    pub evidence: Evidence,
    pub state: State,
    /// What `switch-to-configuration` printed.
    pub switch_log: String,
    /// Files for the journal's next state.
    attached: Vec<(&'static str, Vec<u8>)>,
    /// A file that is being made, for a journal whose run comes to its commit.
    made: Option<(&'static str, JoinHandle<Vec<u8>>)>,
    /// `check` leaves no journal.
    keeps_journal: bool,
    /// What the journal must not hold, once it was gathered.
    secrets: std::cell::OnceCell<Secrets>,
    /// Says where to find this run, while it lives.
    _running: Option<running::Running>,
}

impl<'a> Run<'a> {
    pub fn new(world: World<'a>, target: &Target, verb: Verb, commit: &str, by: String) -> Self {
        let now = OffsetDateTime::now_utc();
        let id = run_id(now);
        let state = State {
            schema: journal::SCHEMA,
            run: id,
            verb,
            target: target.to_string(),
            commit: commit.to_owned(),
            started: Utc::new(now).rfc3339(),
            by: by.clone(),
            step: Step::Begun,
            candidate: None,
            previous: None,
            restores: None,
            withdraws: Vec::new(),
            booted: None,
            named: None,
            rehearsal: false,
            unvalidated: false,
            ending: None,
        };
        let running = running::Running::begin(world.repo, target, &state);
        let run = Run {
            world,
            target: target.clone(),
            log: GateLog::new(world.watcher),
            evidence: Evidence {
                target: target.to_string(),
                by,
                ..Evidence::default()
            },
            state,
            switch_log: String::new(),
            attached: Vec::new(),
            made: None,
            keeps_journal: verb != Verb::Check,
            secrets: std::cell::OnceCell::new(),
            _running: running,
        };
        run.log.see(&Event::RunStarted {
            run: run.state.run.clone(),
            target: target.to_string(),
            verb: verb.name().to_owned(),
            commit: commit.to_owned(),
        });
        run
    }

    /// Continues a run that another process began.
    pub fn continued(world: World<'a>, target: &Target, state: State, evidence: Evidence) -> Self {
        let running = running::Running::begin(world.repo, target, &state);
        let log = GateLog::resume(world.watcher, evidence.gates.clone(), evidence.warnings.clone());
        Run {
            world,
            target: target.clone(),
            log,
            evidence,
            state,
            switch_log: String::new(),
            attached: Vec::new(),
            made: None,
            keeps_journal: true,
            secrets: std::cell::OnceCell::new(),
            _running: running,
        }
    }

    pub fn id(&self) -> &str {
        &self.state.run
    }

    /// Notes in the journal that a step is about to begin.
    ///
    /// # Errors
    /// The journal cannot be written: then the step must not begin.
    pub fn step(&mut self, step: Step) -> Result<(), Failure> {
        self.state.step = step;
        if let Some(fate) = fate(&self.target, step) {
            self.world.stop.set_fate(fate);
        }
        self.write()
    }

    /// The same where there is no way back: a journal that cannot be written must not stop what goes on on the host.
    pub fn try_step(&mut self, step: Step) {
        if let Err(failure) = self.step(step) {
            self.log.note(format!(
                "the journal of this run cannot be written: {}",
                failure.what
            ));
        }
    }

    /// Keeps a file in the journal with its next state.
    pub fn attach(&mut self, name: &'static str, bytes: Vec<u8>) {
        self.attached.push((name, bytes));
    }

    /// The same for one that takes a while to be made, and is of use only if the run comes to its commit. It is given the
    /// tokens and passwords known here; an empty file is one that holds such a value, and is not kept.
    pub fn make(&mut self, name: &'static str, file: impl FnOnce(&Secrets) -> Vec<u8> + Send + 'static) {
        if self.keeps_journal {
            let keys = self.secrets.get_or_init(|| secrets(self.world.repo)).keys();
            self.made = Some((name, std::thread::spawn(move || file(&keys))));
        }
    }

    fn write(&mut self) -> Result<(), Failure> {
        if !self.keeps_journal {
            return Ok(());
        }
        let comes = matches!(
            self.state.step,
            Step::Committing | Step::NeedsReboot | Step::Marking
        );
        if let Some((name, file)) = self.made.take_if(|_| comes)
            && let Ok(bytes) = file.join()
        {
            match bytes.len() {
                0 => self.log.note(format!(
                    "{name}: not kept in the journal, for there is a secret in it"
                )),
                1..=BIG => self.attached.push((name, bytes)),
                more => self
                    .log
                    .note(format!("{name}: {more} bytes are not kept in the journal")),
            }
        }
        self.evidence.gates = self.log.gates().to_vec();
        self.evidence.warnings = self.log.warnings().to_vec();
        let secrets = self.secrets.get_or_init(|| secrets(self.world.repo));
        let mut evidence = self.evidence.clone();
        evidence.redact(secrets);
        let mut files = vec![
            (journal::STATE, self.state.redacted(secrets).to_bytes()),
            (
                journal::EVIDENCE,
                serde_json::to_vec(&evidence).map_err(anyhow::Error::from)?,
            ),
        ];
        if !self.switch_log.is_empty() {
            files.push((journal::SWITCH_LOG, secrets.redact(&self.switch_log).into_bytes()));
        }
        files.extend(self.attached.iter().map(|(name, bytes)| match *name {
            journal::HOST_LOG => (
                *name,
                secrets.redact(&String::from_utf8_lossy(bytes)).into_bytes(),
            ),
            // Paths and sums, or packed.
            _ => (*name, bytes.clone()),
        }));
        let now = Utc::new(OffsetDateTime::now_utc());
        self.world
            .repo
            .journal_write(&self.target, &self.state.run, now, &files)?;
        // A journal's next state keeps the files of the one before.
        self.attached.clear();
        Ok(())
    }

    /// The run failed: its gate, its journal. The failure goes on to whoever asked.
    pub fn failed(&mut self, mut failure: Failure) -> Failure {
        let gate = self.log.open_gate();
        if failure.next.is_empty() {
            // What its words name is to be mended; what then is typed is the same again.
            let target = &self.target;
            let again = match self.state.verb {
                Verb::Release | Verb::Check => format!("git nixgate check {target}"),
                Verb::Rollback => format!("git nixgate rollback {target} --check"),
                Verb::Deploy => format!("git nixgate status {target} --live"),
            };
            failure.next.push(format!("{again}    # once that is mended"));
        }
        if self.keeps_journal && !self.switch_log.trim().is_empty() {
            let line = format!("git nixgate show {}    # what the switch printed", self.state.run);
            if !failure.next.contains(&line) {
                failure.next.push(line);
            }
        }
        self.log.fail(&failure);
        let unheard = match failure.exit {
            Exit::Unpublished => true,
            Exit::NeedsPerson => failure.reason == Reason::Link,
            _ => false,
        };
        if gate == Some(Gate::Commit) && unheard {
            self.log.leave_open();
        }
        // Nothing was begun on the host: such a run is worth no journal, except that people look for what failed.
        self.end(Ending::of(&failure, gate));
        failure
    }

    /// The run is over.
    pub fn end(&mut self, ending: Ending) {
        self.state.step = match ending.exit {
            // These are finished by `resume` or `publish`.
            code if code == Exit::NeedsReboot.code() => Step::NeedsReboot,
            code if code == Exit::Unpublished.code() && ending.record.is_none() => Step::Marking,
            code if code == Exit::NeedsPerson.code() => self.state.step,
            _ => Step::Ended,
        };
        self.state.ending = Some(ending);
        if let Err(failure) = self.write() {
            self.log.note(format!(
                "the journal of this run cannot be written: {}",
                failure.what
            ));
        }
    }
}

/// What becomes of a host whose operator leaves in this step: docs/runs.md, "When the operator's machine dies".
fn fate(target: &Target, step: Step) -> Option<Fate> {
    let (exit, text, next) = match step {
        Step::Begun | Step::Ended => return None,
        Step::Holding => (
            Exit::Failed,
            format!("{target} is untouched; the hold on it ends by itself with its lease"),
            "nothing has to be done".to_owned(),
        ),
        Step::Switching => (
            Exit::NeedsPerson,
            format!("{target} finishes its switch and goes back by itself, for lack of a word from here"),
            format!("git nixgate resume {target}    # how it ended"),
        ),
        Step::Committing => (
            Exit::NeedsPerson,
            format!("{target} finishes its commit, or goes back, by itself"),
            format!("git nixgate resume {target}    # how it ended"),
        ),
        Step::NeedsReboot => (
            Exit::NeedsReboot,
            format!("{target} waits for its reboot"),
            format!("git nixgate resume {target}    # after the reboot"),
        ),
        Step::Marking => (
            Exit::Unpublished,
            format!("{target} is on the proven closure; its record may be missing"),
            format!("git nixgate resume {target}"),
        ),
    };
    Some(Fate { exit, text, next })
}

/// A run's id: its time and six hex digits, fit for refs, paths and unit names. Four of them are the second's fraction, so
/// that ids of one clone stand in the order in which their runs began; two are random.
fn run_id(now: OffsetDateTime) -> String {
    let fraction = (u64::from(now.nanosecond()) << 16) / 1_000_000_000;
    let mut byte = [0u8; 1];
    let random = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut byte));
    if random.is_err() {
        byte[0] = std::process::id().to_be_bytes()[3];
    }
    format!("{}-{fraction:04x}{:02x}", Utc::new(now), byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_second_stand_in_the_order_of_time() {
        let at = |nanos: i64| {
            let second = OffsetDateTime::from_unix_timestamp(1_795_500_000).expect("a time");
            run_id(second + time::Duration::nanoseconds(nanos))
        };
        let ids: Vec<String> = [0, 20_000, 40_000, 500_000_000, 999_999_999, 1_000_000_000]
            .map(at)
            .to_vec();
        assert!(
            ids.is_sorted() && ids.iter().all(|id| id.len() == ids[0].len()),
            "{ids:?}"
        );
        assert!(ids[4].contains("-ffff"), "{ids:?}");
    }
}
