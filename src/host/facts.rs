//! Everything read from a host in one round trip, as a value. The parser is pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Script;
use super::bootdefault::COMMON;
use super::state::{BootDefault, BootOnce, Where};
use super::system::{NoSwitch, Specialised};
use crate::failure::{Exit, Failure, Reason};

const FACTS: &str = include_str!("facts.sh");
/// Asks for a [`Login`]. Goes with what runs as [`super::Privilege::User`]: as root it would answer for root.
pub const LOGIN: &str = include_str!("login.sh");
/// Asks for [`Login::nix_trusted`] too; after [`LOGIN`]. Nix takes its time to answer.
pub const TRUST: &str = include_str!("trust.sh");

/// The tools that the supervisor takes from the running system's `sw/bin`.
pub const SUPERVISOR_TOOLS: &[&str] = &[
    "sh",
    "awk",
    "cat",
    "chmod",
    "cut",
    "date",
    "env",
    "flock",
    "grep",
    "head",
    "ln",
    "mkdir",
    "mkfifo",
    "mv",
    "nix-env",
    "readlink",
    "rm",
    "sed",
    "sleep",
    "sort",
    "stat",
    "systemctl",
    "systemd-run",
    "tail",
    "timeout",
    "tr",
];

/// A script that prints all facts, for whoever has to know where a host stands. Run it with
/// [`super::Privilege::RootIfPossible`]: `/boot` may be root's alone.
pub fn facts_script(target: &str) -> Script {
    script(target, "", "all")
}

/// What tells how a switched host fares: what it runs, its units, memory and load. Who may switch it, its disks, roots,
/// tools and record are not asked for, and are missing from the facts. In one round trip with probes, whose lines come
/// before the facts and are none.
pub fn how_it_fares(target: &str, probes: &str) -> Script {
    script(target, probes, "how")
}

fn script(target: &str, probes: &str, want: &str) -> Script {
    Script::new(format!("{probes}\n{COMMON}\n{FACTS}"))
        .arg(target)
        .arg(SUPERVISOR_TOOLS.join(" "))
        .arg(want)
}

impl Holder {
    /// For somebody else who wants `target`: who holds it, since when, for which commit (exit 6).
    pub fn failure(&self, target: &str) -> Failure {
        let commit: String = self.commit.chars().take(12).collect();
        let since = time::OffsetDateTime::from_unix_timestamp(i64::try_from(self.since).unwrap_or(0))
            .map(|t| crate::record::Utc::from(t).rfc3339())
            .unwrap_or_default();
        busy(target).why(format!(
            "{} since {since}, commit {commit} (run {})",
            self.who, self.run
        ))
    }
}

/// Somebody holds `target`, and there is no saying who.
pub fn busy(target: &str) -> Failure {
    Failure::new(
        Exit::Busy,
        Reason::Busy,
        format!("{target} is held by another run"),
    )
    .next("wait until it is done; a run whose operator is gone frees the host when its lease ends")
}

/// Who holds a target's lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    pub run: String,
    pub target: String,
    /// `release`, `rollback`, …; empty where its program did not say.
    pub verb: String,
    pub who: String,
    pub commit: String,
    /// Seconds since 1970, the target's clock.
    pub since: u64,
}

/// Blocks in KiB and inodes of one file system. A number that could not be read is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// `/`, `/nix` or `/boot`.
    pub path: String,
    /// Where the file system is mounted; two paths with the same mount share their space.
    pub mount: String,
    pub kib: Option<Space>,
    /// `None` also where the file system has no inodes to run out of (vfat, btrfs).
    pub inodes: Option<Space>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Space {
    pub total: u64,
    pub used: u64,
    pub free: u64,
}

impl Space {
    /// Used share as `df` shows it: rounded up, of what is not reserved.
    pub fn used_percent(self) -> u64 {
        let all = self.used + self.free;
        if all == 0 {
            100
        } else {
            (self.used * 100).div_ceil(all)
        }
    }
}

/// A record that a host carries, by its target's folder below `/var/lib/nixgate`. What is in it is the host's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Carried {
    pub target: String,
    /// Of its bytes, in hex; empty for the target that was asked about, whose record is [`Facts::record`].
    pub sha256: String,
    /// The name that it gives itself.
    pub tag: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    pub rss_kib: u64,
    pub pid: u32,
    pub name: String,
}

/// What one reading found. `None` and empty mean "could not be read" where a number or a word is expected.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Facts {
    pub uid: Option<u32>,
    /// Seconds since 1970, the host's clock.
    pub now: Option<u64>,
    /// `/etc/NIXOS` exists.
    pub nixos_marker: bool,
    /// `ID` of os-release.
    pub os_id: String,
    /// The id that the running system's switch-to-configuration was made for; empty where it does not say, and not read
    /// where there is `/etc/NIXOS`.
    pub distro_id: String,
    /// What runs has no switch-to-configuration: nothing could go back to it.
    pub no_switch: Option<NoSwitch>,
    /// `uname -m`.
    pub machine: String,
    pub kernel: String,
    pub systemd: String,
    #[serde(rename = "where")]
    pub here: Where,
    pub booted: Option<String>,
    /// The boot loader can boot one system once, and what boots by default after that.
    pub can_boot_once: bool,
    /// Of what runs and what boots, those that are specialisations.
    pub specialised: Vec<Specialised>,
    /// Boot id and PID 1's start: names this boot even in a container.
    pub boot: String,
    /// `lxc`, `systemd-nspawn`, `wsl`, …
    pub container: Option<String>,
    /// The word of `systemctl is-system-running`.
    pub system_state: String,
    /// While the host boots: the units whose jobs run, with the job's type (`slow.service start`).
    pub jobs: Vec<String>,
    /// The lists of units could be read at all.
    pub units_read: bool,
    pub failed_units: Vec<String>,
    pub active_units: Vec<String>,
    /// Services that restarted, with how often.
    pub restarts: BTreeMap<String, u64>,
    /// `nixos-upgrade` or a foreign switch at work now.
    pub switching: Vec<String>,
    /// When `nixos-upgrade.timer` fires next, host's clock.
    pub upgrade_at: Option<u64>,
    pub holder: Option<Holder>,
    pub init_interface: Option<String>,
    /// `switch-inhibitors` of the running system, JSON text.
    pub inhibitors: Option<String>,
    /// Of [`SUPERVISOR_TOOLS`].
    pub missing_tools: Vec<String>,
    pub disks: Vec<Disk>,
    pub memory_total_kib: Option<u64>,
    pub memory_available_kib: Option<u64>,
    pub swap_free_kib: Option<u64>,
    /// `some avg10` in percent: memory, cpu, io.
    pub pressure: BTreeMap<String, f64>,
    pub load1: Option<f64>,
    pub cpus: Option<u32>,
    pub top_memory: Vec<Process>,
    /// The largest units: KiB resident, name.
    pub top_units: Vec<(u64, String)>,
    /// Base64 of `/var/lib/nixgate/<target>/record`.
    pub record_base64: Option<String>,
    /// Every target's record on the host, the one that was put there last first; at most 32.
    pub carried: Vec<Carried>,
    /// The record's file system, by its name in stat(1): `ext2/ext3`, `tmpfs`, …
    pub record_on: String,
    /// Permanent and temporary roots: name below `gcroots/nixgate/` and where it leads.
    pub roots: BTreeMap<String, String>,
    pub dangling_roots: BTreeMap<String, String>,
    /// Supervisors' directories left or at work: run and phase word.
    pub runs: BTreeMap<String, String>,
    /// The script came to its end.
    pub complete: bool,
}

impl Facts {
    /// Parses the output of [`facts_script`]. Never fails: what is missing is missing.
    pub fn parse(text: &str) -> Self {
        let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for line in text.lines() {
            if let Some((key, value)) = line.split_once('=') {
                values.entry(key).or_default().push(value);
            }
        }
        let one = |key: &str| {
            values
                .get(key)
                .and_then(|all| all.first())
                .copied()
                .filter(|value| !value.is_empty())
        };
        let owned = |key: &str| one(key).unwrap_or_default().to_owned();
        let some = |key: &str| one(key).map(str::to_owned);
        let all = |key: &str| values.get(key).cloned().unwrap_or_default();
        let list = |key: &str| all(key).into_iter().map(str::to_owned).collect::<Vec<_>>();
        let pairs = |key: &str| {
            all(key)
                .into_iter()
                .filter_map(|value| value.split_once(' '))
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        Facts {
            uid: one("uid").and_then(|value| value.parse().ok()),
            now: one("now").and_then(|value| value.parse().ok()),
            nixos_marker: one("nixos_marker").is_some(),
            os_id: owned("os_id"),
            distro_id: owned("distro_id"),
            no_switch: one("no_switch").map(NoSwitch::parse),
            machine: owned("machine"),
            kernel: owned("kernel"),
            systemd: owned("systemd"),
            here: Where {
                running: some("running"),
                profile: some("profile"),
                generation: one("generation").and_then(|value| value.parse().ok()),
                boot_default: BootDefault::parse(one("boot_default").unwrap_or_default()),
                boot_loader: owned("boot_loader"),
                boot_once: one("boot_once").and_then(BootOnce::parse),
            },
            can_boot_once: one("can_boot_once").is_some(),
            booted: some("booted"),
            specialised: all("specialisation")
                .into_iter()
                .filter_map(Specialised::parse)
                .collect(),
            boot: owned("boot"),
            container: some("container"),
            system_state: owned("state"),
            jobs: list("job"),
            units_read: one("units_read").is_some(),
            failed_units: list("failed"),
            active_units: list("active"),
            restarts: all("restarts").into_iter().filter_map(restarts).collect(),
            switching: list("switching"),
            upgrade_at: one("upgrade_at").and_then(|value| value.parse().ok()),
            holder: one("holder_run").map(|run| Holder {
                run: run.to_owned(),
                target: owned("holder_target"),
                verb: owned("holder_verb"),
                who: owned("holder_who"),
                commit: owned("holder_commit"),
                since: one("holder_since")
                    .and_then(|value| value.parse().ok())
                    .unwrap_or(0),
            }),
            init_interface: some("init_interface"),
            inhibitors: some("inhibitors"),
            missing_tools: list("missing_tool"),
            disks: all("disk").into_iter().filter_map(disk).collect(),
            memory_total_kib: one("MemTotal").and_then(|value| value.parse().ok()),
            memory_available_kib: one("MemAvailable").and_then(|value| value.parse().ok()),
            swap_free_kib: one("SwapFree").and_then(|value| value.parse().ok()),
            pressure: ["memory", "cpu", "io"]
                .into_iter()
                .filter_map(|kind| Some((kind.to_owned(), one(&format!("psi_{kind}"))?.parse().ok()?)))
                .collect(),
            load1: one("load1").and_then(|value| value.parse().ok()),
            cpus: one("cpus").and_then(|value| value.parse().ok()),
            top_memory: all("top").into_iter().filter_map(process).collect(),
            top_units: all("unit")
                .into_iter()
                .filter_map(|value| value.split_once(' '))
                .filter_map(|(kib, unit)| Some((kib.parse().ok()?, unit.to_owned())))
                .collect(),
            record_base64: some("record"),
            carried: all("carried").into_iter().filter_map(carried).collect(),
            record_on: owned("record_on"),
            roots: pairs("root"),
            dangling_roots: pairs("dangling_root"),
            runs: pairs("run"),
            complete: one("complete").is_some(),
        }
    }

    /// Whether the host is still booting, as systemd's word has it (systemctl(1), `is-system-running`).
    pub fn is_booting(&self) -> bool {
        matches!(self.system_state.as_str(), "starting" | "initializing")
    }

    /// Whether the record that is kept on the target is gone after a boot: a root in memory.
    pub fn forgets_record(&self) -> bool {
        matches!(self.record_on.as_str(), "tmpfs" | "ramfs")
    }

    /// The bytes of the record kept on the target.
    pub fn record(&self) -> Option<Vec<u8>> {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD
            .decode(self.record_base64.as_ref()?)
            .ok()
    }

    /// `/` and the like by path.
    pub fn disk(&self, path: &str) -> Option<&Disk> {
        self.disks.iter().find(|disk| disk.path == path)
    }
}

/// Who the ssh user is to the host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Login {
    pub user: String,
    /// `nix store info --json`: the Nix daemon trusts the user. `None`: it does not say.
    pub nix_trusted: Option<bool>,
    /// What Nix said where its store could not be asked.
    pub nix_error: Vec<String>,
    /// `allowed-users` of nix.conf, where the daemon does not trust the user or does not answer.
    pub nix_allowed: Vec<String>,
    /// `require-sigs`, likewise: paths without a signature are refused from whoever is not trusted.
    pub nix_requires: Option<bool>,
    /// The user's groups, likewise.
    pub groups: Vec<String>,
}

impl Login {
    /// Parses the output of [`LOGIN`], also among other lines.
    pub fn parse(text: &str) -> Self {
        let all = |key: &'static str| text.lines().filter_map(move |line| line.strip_prefix(key));
        let words = |key: &'static str| {
            let text = all(key).next().unwrap_or_default();
            text.split_ascii_whitespace().map(str::to_owned).collect()
        };
        Login {
            user: all("user=").next().unwrap_or_default().to_owned(),
            nix_trusted: all("nix_store=").find_map(trusted),
            nix_error: all("nix_error=").map(str::to_owned).collect(),
            nix_allowed: words("nix_allowed-users ="),
            nix_requires: all("nix_require-sigs =").next().map(|word| word.trim() == "true"),
            groups: words("groups="),
        }
    }

    /// Whether `allowed-users` of nix.conf(5) names the user, a group of theirs (`@group`), or everybody. An empty list
    /// was not read.
    pub fn is_allowed(&self) -> bool {
        let names = |word: &String| match word.strip_prefix('@') {
            Some(group) => self.groups.iter().any(|own| own == group),
            None => word == "*" || *word == self.user,
        };
        self.user == "root" || self.nix_allowed.is_empty() || self.nix_allowed.iter().any(names)
    }
}

fn carried(value: &str) -> Option<Carried> {
    let mut words = value.splitn(3, ' ');
    let mut word = || words.next().map(crate::record::text::shown);
    Some(Carried {
        target: word()?,
        sha256: word()?,
        tag: word()?,
    })
}

fn restarts(value: &str) -> Option<(String, u64)> {
    let (count, unit) = value.split_once(' ')?;
    Some((unit.to_owned(), count.parse().ok()?))
}

fn disk(value: &str) -> Option<Disk> {
    let mut words = value.split(' ');
    let (path, mount) = (words.next()?.to_owned(), words.next()?.to_owned());
    let numbers: Vec<Option<u64>> = words.map(|word| word.parse().ok()).collect();
    let space = |at: usize| {
        let [total, used, free] = numbers.get(at..at + 3)? else {
            return None;
        };
        let space = Space {
            total: (*total)?,
            used: (*used)?,
            free: (*free)?,
        };
        (space.total > 0).then_some(space)
    };
    Some(Disk {
        path,
        mount,
        kib: space(0),
        inodes: space(3),
    })
}

fn process(value: &str) -> Option<Process> {
    let mut words = value.split_ascii_whitespace();
    let (rss, pid) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Process {
        rss_kib: rss,
        pid,
        name: words.collect::<Vec<_>>().join(" "),
    })
}

/// `trusted` is a boolean in Nix 2.26 and was 1 and 0 before.
fn trusted(json: &str) -> Option<bool> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    match value.get("trusted")? {
        serde_json::Value::Bool(trusted) => Some(*trusted),
        serde_json::Value::Number(number) => Some(number.as_u64() == Some(1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_and_what_is_missing_stays_missing() {
        let facts = Facts::parse(
            "uid=0\nnixos_marker=1\nmachine=x86_64\nrunning=/nix/store/a\nprofile=/nix/store/a\ngeneration=142\n\
             boot_loader=grub\nboot_default=not-verifiable\nstate=degraded\nunits_read=1\nfailed=a.service\n\
             failed=b.service\nrestarts=5 loop.service\nMemAvailable=2048\npsi_memory=0.50\nload1=0.45\ncpus=2\n\
             disk=/ / 1000 910 90 100 10 90\ndisk=/boot /boot 500 1 499 0 0 0\ndisk=/nix ? ? ? ? ? ? ?\n\
             top=2048 77 the hog\nholder_run=r1\nholder_who=Ann\nholder_since=7\nroot=cortex/x /nix/store/a\n\
             record=aGk=\ncarried=orion 0af3 release/orion/x\ncarried=cortex  release/cortex/y\ncarried=half\n",
        );
        let carried: Vec<[&str; 3]> = facts
            .carried
            .iter()
            .map(|c| [&*c.target, &*c.sha256, &*c.tag])
            .collect();
        assert_eq!(
            carried,
            [
                ["orion", "0af3", "release/orion/x"],
                ["cortex", "", "release/cortex/y"]
            ]
        );
        assert_eq!(facts.here.generation, Some(142));
        assert_eq!(facts.here.boot_default, BootDefault::NotVerifiable);
        assert_eq!(facts.failed_units, ["a.service", "b.service"]);
        assert_eq!(facts.restarts.get("loop.service"), Some(&5));
        assert_eq!(
            facts.disk("/").and_then(|disk| disk.kib).map(Space::used_percent),
            Some(91)
        );
        assert_eq!(facts.disk("/boot").map(|disk| disk.inodes), Some(None));
        assert_eq!(facts.disk("/nix").map(|disk| disk.kib), Some(None));
        assert_eq!(facts.top_memory[0].name, "the hog");
        assert_eq!(facts.holder.as_ref().map(|holder| holder.since), Some(7));
        assert_eq!(facts.record().as_deref(), Some(b"hi".as_slice()));
        assert_eq!((facts.booted.clone(), facts.memory_total_kib), (None, None));
        assert!(!facts.complete);
    }

    #[test]
    fn an_empty_answer_is_not_a_healthy_host() {
        let facts = Facts::parse("");
        assert!(!facts.complete && !facts.units_read && !facts.nixos_marker);
        assert_eq!((facts.uid, facts.load1), (None, None));
    }

    #[test]
    fn df_rounds_up_and_counts_only_what_users_get() {
        assert_eq!(
            Space {
                total: 100,
                used: 0,
                free: 90
            }
            .used_percent(),
            0
        );
        assert_eq!(
            Space {
                total: 1000,
                used: 896,
                free: 100
            }
            .used_percent(),
            90
        );
        assert_eq!(
            Space {
                total: 0,
                used: 0,
                free: 0
            }
            .used_percent(),
            100
        );
    }

    #[test]
    fn trust_is_a_boolean_or_a_number() {
        assert_eq!(trusted("{\"trusted\":true}"), Some(true));
        assert_eq!(trusted("{\"trusted\":0}"), Some(false));
        assert_eq!(trusted("{}"), None);
        assert_eq!(trusted("not json"), None);
    }
}
