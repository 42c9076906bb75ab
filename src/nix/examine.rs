//! Is the store of a host what its database says? Every closure that must be whole is read in one command, and each
//! path that is not is named with the closures that need it.
//!
//! A path whose files are gone while the database calls it valid is skipped by every copy (NixOS/nix#16273), so nothing
//! else finds it before a program is missing.

use super::closure::{Closure, PathInfo, parse_dump_db};
use super::exec::Exec;
use super::path::StorePath;
use super::said;
use crate::failure::{Failure, Reason};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

const EXAMINE: &str = include_str!("examine.sh");

/// Something that keeps a closure: `running`, `booted`, `profile`, `record`, or a root's name below
/// `gcroots/nixgate/` (`cortex/before-first`, `+tmp/<run>`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Keeper {
    pub name: String,
    pub path: StorePath,
}

/// What the database itself is worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Database {
    /// Every row refers to something.
    Sound,
    /// So many rows refer to paths that it does not have: `nix-store --verify` and GC die of them.
    Violations(u64),
    /// It could not be looked at, and why.
    Unknown(String),
}

/// What [`examine`] read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    pub keepers: Vec<Keeper>,
    /// Keepers' paths that the database does not know.
    pub unregistered: BTreeSet<StorePath>,
    /// Registered, but not on the disk.
    pub gone: BTreeSet<StorePath>,
    /// On the disk, but not with the registered contents.
    pub changed: BTreeSet<StorePath>,
    pub database: Database,
    /// The union of the closures.
    pub entries: HashMap<StorePath, PathInfo>,
}

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Kept by a root, unknown to the database.
    Unregistered,
    /// Known to the database, not on the disk.
    Gone,
    /// Its contents are not those registered.
    Changed,
}

impl Fault {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Fault::Unregistered => "not registered",
            Fault::Gone => "files gone",
            Fault::Changed => "other contents",
        }
    }
}

/// A path that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    pub path: StorePath,
    pub fault: Fault,
    /// Names of the keepers whose closures need it.
    pub needed_by: Vec<String>,
}

/// What [`Examined`] comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreHealth {
    pub paths: usize,
    pub closures: usize,
    pub broken: Vec<Broken>,
    /// Closures whose registered hashes are not the recorded ones, or that are registered only in part.
    pub unlike: Vec<String>,
    /// Closures that are whole, of which the records do not say what the target had: worth a word, no fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub noted: Vec<String>,
    pub database: Database,
}

impl StoreHealth {
    /// Nothing is wrong that was looked at.
    pub fn is_whole(&self) -> bool {
        self.broken.is_empty() && self.unlike.is_empty() && !matches!(self.database, Database::Violations(_))
    }
}

/// How a closure that is registered whole compares with the records; each with what is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// As recorded, or nothing is recorded of it.
    Same,
    Noted(String),
    Unlike(String),
}

/// Reads it all where `exec` runs. `record`: the current record's toplevel. `contents` reads every file.
///
/// # Errors
/// The store cannot be read; an answer cut short is none.
pub async fn examine<E: Exec>(
    exec: &E,
    target: &str,
    record: Option<&StorePath>,
    contents: bool,
    deadline: Duration,
) -> Result<Examined, Failure> {
    let what = "cannot compare the store with its database";
    let record = record.map_or("", StorePath::as_str);
    let arguments = [target, if contents { "contents" } else { "" }, record];
    let output = super::script(exec, EXAMINE, &arguments, None, deadline).await?;
    if !output.ok() {
        return Err(said::failure(Reason::Store, what, &output));
    }
    parse(&output.out()).map_err(|why| Failure::failed(Reason::Store, what).why(why))
}

/// Parses the script's answer.
pub fn parse(text: &str) -> Result<Examined, String> {
    let body = text.strip_suffix("end\n").ok_or("the answer was cut short")?;
    let (head, dump) = body.split_once("\ndump\n").ok_or("the answer was cut short")?;
    let path = |text: &str| StorePath::new(text).map_err(|bad| bad.to_string());
    let mut found = Examined {
        keepers: Vec::new(),
        unregistered: BTreeSet::new(),
        gone: BTreeSet::new(),
        changed: BTreeSet::new(),
        database: Database::Unknown("it was not looked at".to_owned()),
        entries: HashMap::new(),
    };
    for line in head.lines() {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "root" => {
                let (name, at) = rest
                    .rsplit_once(' ')
                    .ok_or_else(|| format!("`{}`", line.escape_debug()))?;
                found.keepers.push(Keeper {
                    name: name.to_owned(),
                    path: path(at)?,
                });
            }
            "unregistered" => drop(found.unregistered.insert(path(rest)?)),
            "gone" => drop(found.gone.insert(path(rest)?)),
            "changed" => drop(found.changed.insert(path(rest)?)),
            "database" => {
                found.database = match (rest, rest.parse()) {
                    ("ok", _) => Database::Sound,
                    (_, Ok(rows)) => Database::Violations(rows),
                    (why, Err(_)) => Database::Unknown(why.to_owned()),
                }
            }
            _ => return Err(format!("`{}`", line.escape_debug())),
        }
    }
    for entry in parse_dump_db(dump)? {
        found.entries.insert(entry.path.clone(), entry);
    }
    Ok(found)
}

impl Examined {
    /// The closure of a path as far as it is registered, sorted; a reference that is not is left out.
    fn closure(&self, top: &StorePath) -> BTreeSet<&StorePath> {
        let mut seen = BTreeSet::new();
        let mut open = vec![top];
        while let Some(path) = open.pop() {
            if let Some((path, entry)) = self.entries.get_key_value(path)
                && seen.insert(path)
            {
                open.extend(&entry.references);
            }
        }
        seen
    }

    /// Judges it. `compare` holds a keeper's closure against the records.
    pub fn judge(&self, compare: impl Fn(&Keeper, &Closure) -> Comparison) -> StoreHealth {
        let mut needs: BTreeMap<&StorePath, (Fault, Vec<String>)> = BTreeMap::new();
        let mut need = |path, fault, name: &String| {
            let (_, names) = needs.entry(path).or_insert((fault, Vec::new()));
            if !names.contains(name) {
                names.push(name.clone());
            }
        };
        let (mut unlike, mut noted) = (Vec::new(), Vec::new());
        for keeper in &self.keepers {
            if self.unregistered.contains(&keeper.path) {
                // The candidate of a run whose copy is on its way.
                if keeper.name.starts_with("+tmp/") {
                    continue;
                }
                need(&keeper.path, Fault::Unregistered, &keeper.name);
                continue;
            }
            let closure = self.closure(&keeper.path);
            for path in &closure {
                if self.gone.contains(*path) {
                    need(*path, Fault::Gone, &keeper.name);
                } else if self.changed.contains(*path) {
                    need(*path, Fault::Changed, &keeper.name);
                }
            }
            let entries = closure.iter().map(|path| self.entries[*path].clone()).collect();
            match Closure::new(keeper.path.clone(), entries) {
                Err(why) => unlike.push(format!("{}: {why}", keeper.name)),
                Ok(closure) => match compare(keeper, &closure) {
                    Comparison::Same => {}
                    Comparison::Noted(text) => noted.push(format!("{}: {text}", keeper.name)),
                    Comparison::Unlike(text) => unlike.push(format!("{}: {text}", keeper.name)),
                },
            }
        }
        let broken = needs
            .into_iter()
            .map(|(path, (fault, needed_by))| Broken {
                path: path.clone(),
                fault,
                needed_by,
            })
            .collect();
        StoreHealth {
            paths: self.entries.len(),
            closures: self
                .keepers
                .iter()
                .map(|keeper| &keeper.path)
                .collect::<BTreeSet<_>>()
                .len(),
            broken,
            unlike,
            noted,
            database: self.database.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(n: char) -> StorePath {
        StorePath::new(&format!("/nix/store/{}-x", n.to_string().repeat(32))).expect("a store path")
    }

    fn same(_: &Keeper, _: &Closure) -> Comparison {
        Comparison::Same
    }

    /// One entry of a dump: path, references.
    fn entry(n: char, references: &[char]) -> String {
        let hash = "0".repeat(64);
        let mut text = format!("{}\n{hash}\n10\n\n{}\n", path(n), references.len());
        for reference in references {
            text.push_str(&format!("{}\n", path(*reference)));
        }
        text
    }

    fn answer(head: &str) -> String {
        let dump = entry('a', &['b', 'c']) + &entry('b', &['c']) + &entry('c', &[]) + &entry('d', &['c']);
        format!(
            "root running {}\nroot cortex/before-first {}\n{head}dump\n{dump}end\n",
            path('a'),
            path('d')
        )
    }

    #[test]
    fn s3_4_each_broken_path_is_named_with_every_closure_that_needs_it() {
        let text = answer(&format!(
            "gone {}\nchanged {}\ndatabase ok\n",
            path('c'),
            path('b')
        ));
        let health = parse(&text).unwrap().judge(same);
        let told: Vec<(&StorePath, Fault, Vec<&str>)> = health
            .broken
            .iter()
            .map(|b| (&b.path, b.fault, b.needed_by.iter().map(String::as_str).collect()))
            .collect();
        assert_eq!(
            told,
            [
                (&path('b'), Fault::Changed, vec!["running"]),
                (&path('c'), Fault::Gone, vec!["running", "cortex/before-first"]),
            ]
        );
        assert!(!health.is_whole());
    }

    #[test]
    fn a_whole_store_is_whole_and_a_root_without_a_registered_path_is_not() {
        let whole = parse(&answer("database ok\n")).unwrap();
        assert!(whole.judge(same).is_whole());
        let text = answer(&format!(
            "root +tmp/r {}\nroot cortex/r {}\nunregistered {}\n",
            path('f'),
            path('f'),
            path('f')
        ));
        let health = parse(&text).unwrap().judge(same);
        assert_eq!(health.broken[0].fault, Fault::Unregistered);
        assert_eq!(health.broken[0].needed_by, ["cortex/r"]);
    }

    #[test]
    fn a_closure_that_is_not_the_recorded_one_is_unlike_it() {
        let found = parse(&answer("database 3\n")).unwrap();
        let health = found.judge(|keeper, _| match keeper.name.as_str() {
            "running" => Comparison::Unlike("not the one recorded".to_owned()),
            _ => Comparison::Noted("other bytes".to_owned()),
        });
        assert_eq!(health.unlike, ["running: not the one recorded"]);
        assert_eq!(health.noted, ["cortex/before-first: other bytes"]);
        assert!(!health.is_whole());
        let noted = |_: &Keeper, _: &Closure| Comparison::Noted("other bytes".to_owned());
        assert!(parse(&answer("database ok\n")).unwrap().judge(noted).is_whole());
        assert_eq!(health.database, Database::Violations(3));
        let mut lost = found;
        lost.entries.remove(&path('c'));
        let unlike = lost.judge(same).unlike;
        assert!(unlike[0].contains("missing from the list"), "{unlike:?}");
    }

    #[test]
    fn an_answer_cut_short_is_none() {
        let text = answer("database ok\n");
        for cut in ["", "end\n", "root", &text[..text.len() - 1], &text[..40]] {
            assert!(parse(cut).is_err(), "{cut}");
        }
        assert!(parse("nonsense\ndump\nend\n").is_err());
    }
}
