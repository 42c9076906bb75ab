//! The store of this machine, read in process: its database and its derivations. Everything here is a shortcut; whoever
//! takes it has the programs to fall back on.

use super::closure::{Closure, PathInfo};
use super::path::{StorePath, sha256_hex};
use crate::diff::drv;
use rusqlite::{Connection, OpenFlags};
use std::collections::{HashMap, HashSet};

/// The database (Nix, `src/libstore/schema.sql`). It is in WAL mode: a reader that may not write needs somebody else's
/// `-shm` beside it, and fails without. It is never opened as immutable, which would show stale rows while Nix writes.
const DATABASE: &str = "/nix/var/nix/db/db.sqlite";

/// The ids of a closure's paths, found once for both questions.
const CLOSURE: &str = "
    CREATE TEMP TABLE Part AS WITH RECURSIVE part(id) AS (
        SELECT id FROM ValidPaths WHERE path = ?1
        UNION
        SELECT reference FROM part JOIN Refs ON referrer = part.id
    ) SELECT id FROM part";

/// The closure of `toplevel` by the database; `None` where it cannot be read or does not have it.
pub(super) fn closure(toplevel: &StorePath) -> Option<Closure> {
    closure_in(DATABASE, toplevel).ok().flatten()
}

fn closure_in(database: &str, toplevel: &StorePath) -> rusqlite::Result<Option<Closure>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(database, flags)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    // All questions see the same state.
    let reading = connection.transaction()?;
    let mut paths: HashMap<i64, StorePath> = HashMap::new();
    let mut entries: HashMap<i64, PathInfo> = HashMap::new();
    reading.execute(CLOSURE, [toplevel.as_str()])?;
    let ask = "SELECT ValidPaths.id, path, hash, narSize, deriver FROM Part JOIN ValidPaths USING (id)";
    let mut statement = reading.prepare(ask)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let (path, hash): (String, String) = (row.get(1)?, row.get(2)?);
        let (size, deriver): (Option<i64>, Option<String>) = (row.get(3)?, row.get(4)?);
        let known = (StorePath::new(&path), sha256_hex(&hash));
        let (Ok(path), Some(nar_hash)) = known else {
            return Ok(None);
        };
        paths.insert(id, path.clone());
        let entry = PathInfo {
            path,
            nar_hash,
            nar_size: size.and_then(|size| size.try_into().ok()).unwrap_or(0),
            deriver: deriver.and_then(|deriver| StorePath::new(&deriver).ok()),
            references: Vec::new(),
        };
        entries.insert(id, entry);
    }
    let ask = "SELECT referrer, reference FROM Part JOIN Refs ON referrer = Part.id";
    let mut statement = reading.prepare(ask)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (referrer, reference): (i64, i64) = (row.get(0)?, row.get(1)?);
        if let (Some(entry), Some(path)) = (entries.get_mut(&referrer), paths.get(&reference)) {
            entry.references.push(path.clone());
        }
    }
    let mut entries: Vec<PathInfo> = entries.into_values().collect();
    entries.iter_mut().for_each(|entry| entry.references.sort());
    Ok(Closure::new(toplevel.clone(), entries).ok())
}

/// The derivations that `old` and `new` do not share, as `unshared.sh` prints them: in turn a path and its text. `None`: one
/// cannot be read.
pub(super) fn unshared(old: &StorePath, new: &StorePath) -> Option<Vec<u8>> {
    unshared_in("", old, new)
}

/// The same in a file system that begins at `root`.
pub(super) fn unshared_in(root: &str, old: &StorePath, new: &StorePath) -> Option<Vec<u8>> {
    let mut printed = Vec::new();
    let mut seen = [HashSet::from([old.to_string()]), HashSet::from([new.to_string()])];
    let mut made: [HashSet<String>; 2] = Default::default();
    let mut ahead = [vec![old.to_string()], vec![new.to_string()]];
    let mut written = HashSet::new();
    while ahead.iter().any(|side| !side.is_empty()) {
        // Each side one level further, then what lies behind those whose outputs the other side does not make.
        let mut visited: [Vec<(String, Vec<String>)>; 2] = Default::default();
        for side in [0, 1] {
            for path in std::mem::take(&mut ahead[side]) {
                if seen[1 - side].contains(&path) {
                    continue;
                }
                let text = std::fs::read(format!("{root}{path}")).ok()?;
                let (outputs, inputs) = drv::head(&text).ok()?;
                let first = outputs.first().map_or("", |output| output.path);
                // Most inputs were met before.
                let met = &seen[side];
                let inputs = inputs
                    .iter()
                    .map(|(path, _)| *path)
                    .filter(|path| !met.contains(*path));
                let behind = (first.to_owned(), inputs.map(str::to_owned).collect());
                made[side].extend(outputs.iter().map(|output| output.path.to_owned()));
                visited[side].push(behind);
                if written.insert(path.clone()) {
                    printed.extend_from_slice(path.as_bytes());
                    printed.push(b'\n');
                    printed.extend_from_slice(&text);
                    printed.push(b'\n');
                }
            }
        }
        for (side, visited) in visited.into_iter().enumerate() {
            for (output, inputs) in visited {
                if !output.is_empty() && made[1 - side].contains(&output) {
                    continue;
                }
                for input in inputs {
                    if seen[side].insert(input.clone()) {
                        ahead[side].push(input);
                    }
                }
            }
        }
    }
    Some(printed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(digit: char, name: &str) -> String {
        format!("/nix/store/{}-{name}", digit.to_string().repeat(32))
    }

    /// A database with Nix's own tables.
    fn database(dir: &std::path::Path) -> String {
        let file = dir.join("db.sqlite").display().to_string();
        let connection = Connection::open(&file).unwrap();
        let tables = "
            PRAGMA journal_mode = wal;
            CREATE TABLE ValidPaths (id integer primary key autoincrement not null, path text unique not null,
                hash text not null, registrationTime integer not null, deriver text, narSize integer,
                ultimate integer, sigs text, ca text);
            CREATE TABLE Refs (referrer integer not null, reference integer not null, primary key (referrer, reference));
            CREATE INDEX IndexReferrer ON Refs(referrer);
            CREATE INDEX IndexReference ON Refs(reference);";
        connection.execute_batch(tables).unwrap();
        let hash = format!("sha256:{}", "0".repeat(64));
        for (id, (digit, name, deriver)) in [
            ('a', "top", Some("top.drv")),
            ('b', "lib", None),
            ('c', "other", None),
        ]
        .into_iter()
        .enumerate()
        {
            let deriver = deriver.map(|name| path(digit, name));
            let row = (id as i64 + 1, path(digit, name), &hash, deriver);
            let add = "INSERT INTO ValidPaths (id, path, hash, registrationTime, deriver, narSize) VALUES (?1, ?2, ?3, 0, ?4, 120)";
            connection.execute(add, row).unwrap();
        }
        connection
            .execute("INSERT INTO Refs VALUES (1, 1), (1, 2), (3, 2)", [])
            .unwrap();
        file
    }

    #[test]
    fn a_closure_is_what_the_database_says() {
        let dir = tempfile::tempdir().unwrap();
        let file = database(dir.path());
        let top = StorePath::new(&path('a', "top")).unwrap();
        let closure = closure_in(&file, &top).unwrap().unwrap();
        let names: Vec<&str> = closure.paths().map(StorePath::name).collect();
        assert_eq!(names, ["top", "lib"]);
        assert_eq!(closure.bytes(), 240);
        assert_eq!(closure.entries[0].references.len(), 2);
        assert_eq!(closure.deriver().map(StorePath::name), Some("top.drv"));
        let missing = StorePath::new(&path('d', "missing")).unwrap();
        assert_eq!(closure_in(&file, &missing), Ok(None));
        assert!(closure_in("/nowhere/db.sqlite", &top).is_err());
    }
}
