//! Room and memory of a host at this moment, and who has it. Facts are read once, at preflight; a copy and a switch come
//! minutes later.

use std::time::Duration;

use super::facts::{Disk, Facts, Process};
use super::{HostError, Privilege, Script, Session};

const PRESSURE: &str = include_str!("pressure.sh");
const DEADLINE: Duration = Duration::from_secs(20);

/// What one reading found; `None` where it could not be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Pressure {
    /// The file system of `/nix/store`.
    pub store: Option<Disk>,
    pub memory_total_kib: Option<u64>,
    pub memory_available_kib: Option<u64>,
    pub swap_free_kib: Option<u64>,
    /// Percent of the last ten seconds in which some process waited for memory (`some avg10` of
    /// `/proc/pressure/memory`); `None` also on a kernel that does not count it.
    pub memory_stalled: Option<f64>,
    /// The five largest processes.
    pub processes: Vec<Process>,
    /// The three largest units: KiB resident, name.
    pub units: Vec<(u64, String)>,
    /// The reading came to its end.
    pub complete: bool,
}

impl Pressure {
    /// Parses the script's answer.
    pub fn parse(text: &str) -> Self {
        Pressure::of(&Facts::parse(text))
    }

    /// What facts have of it.
    pub fn of(facts: &Facts) -> Self {
        Pressure {
            store: facts.disk("/nix/store").cloned(),
            memory_total_kib: facts.memory_total_kib,
            memory_available_kib: facts.memory_available_kib,
            swap_free_kib: facts.swap_free_kib,
            memory_stalled: facts.pressure.get("memory").copied(),
            units: facts.top_units.clone(),
            complete: facts.complete,
            processes: facts.top_memory.clone(),
        }
    }

    /// Reads it all, and who has the memory. One command.
    ///
    /// # Errors
    /// [`HostError`].
    pub async fn read(session: &Session) -> Result<Self, HostError> {
        Self::ask(session, "who").await
    }

    /// Room and memory alone: who has it takes as long again, and is wanted only where there is too little.
    ///
    /// # Errors
    /// [`HostError`].
    pub async fn figures(session: &Session) -> Result<Self, HostError> {
        Self::ask(session, "figures").await
    }

    async fn ask(session: &Session, what: &str) -> Result<Self, HostError> {
        let script = Script::new(PRESSURE).arg(what);
        let output = session.run(&script, Privilege::RootIfPossible, DEADLINE).await?;
        Ok(Pressure::parse(&output.text()))
    }

    /// Who has the memory: totals, processes, units, one a line.
    pub fn hogs(&self) -> Vec<String> {
        let mib = |kib: Option<u64>| kib.map_or("?".to_owned(), |kib| format!("{} MiB", kib / 1024));
        let mut lines = vec![format!(
            "memory: {} in all, {} available, {} of swap free",
            mib(self.memory_total_kib),
            mib(self.memory_available_kib),
            mib(self.swap_free_kib)
        )];
        let processes = self.processes.iter();
        lines.extend(processes.map(|p| format!("{} MiB  {} (pid {})", p.rss_kib / 1024, p.name, p.pid)));
        let units = self.units.iter();
        lines.extend(units.map(|(kib, unit)| format!("{} MiB  {unit}", kib / 1024)));
        lines
    }
}
