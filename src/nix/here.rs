//! The store of this machine, its database read in process. A shortcut: whoever takes it has the programs to fall back
//! on, and both say the same (`tests/nix_live.rs`).

use super::closure::{Closure, PathInfo};
use super::path::{StorePath, sha256_hex};
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use rustc_hash::FxHashMap;

/// The database (Nix, `src/libstore/schema.sql`). It is in WAL mode: a reader that may not write needs somebody else's
/// `-shm` beside it, and fails without. It is never opened as immutable, which would show stale rows while Nix writes.
const DATABASE: &str = "/nix/var/nix/db/db.sqlite";

/// The version of its tables (Nix, `src/libstore/local-store.cc`, `nixSchemaVersion`): the one that is known here.
const SCHEMA: (&str, &str) = ("/nix/var/nix/db/schema", "10");

/// The closure of `toplevel` by the database; `None` where it cannot be read or does not have it.
pub(super) fn closure(toplevel: &StorePath) -> Option<Closure> {
    let schema = std::fs::read_to_string(SCHEMA.0).ok()?;
    if schema.trim() != SCHEMA.1 {
        return None;
    }
    closure_in(DATABASE, toplevel).ok().flatten()
}

fn closure_in(database: &str, toplevel: &StorePath) -> rusqlite::Result<Option<Closure>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(database, flags)?;
    // All questions see the same state.
    let reading = connection.transaction()?;
    let mut ask = reading.prepare("SELECT id FROM ValidPaths WHERE path = ?1")?;
    let Some(top) = ask.query_row([toplevel.as_str()], |row| row.get(0)).optional()? else {
        return Ok(None);
    };
    // From path to path: a recursive query keeps every reference in a table of its own, this every path in a map.
    let mut ask = reading.prepare("SELECT reference FROM Refs WHERE referrer = ?1")?;
    let mut ids: Vec<i64> = vec![top];
    let mut places: FxHashMap<i64, usize> = FxHashMap::from_iter([(top, 0)]);
    let mut references: Vec<Vec<usize>> = Vec::new();
    while let Some(id) = ids.get(references.len()) {
        let mut of_this = Vec::new();
        let mut rows = ask.query([*id])?;
        while let Some(row) = rows.next()? {
            let reference: i64 = row.get(0)?;
            let place = *places.entry(reference).or_insert(ids.len());
            if place == ids.len() {
                ids.push(reference);
            }
            of_this.push(place);
        }
        references.push(of_this);
    }
    let mut ask = reading.prepare("SELECT path, hash, narSize, deriver FROM ValidPaths WHERE id = ?1")?;
    let mut entries: Vec<PathInfo> = Vec::with_capacity(ids.len());
    for id in &ids {
        let mut rows = ask.query([id])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let (path, hash) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
        let (Ok(path), Some(nar_hash)) = (StorePath::new(path), sha256_hex(hash)) else {
            return Ok(None);
        };
        let size: Option<i64> = row.get(2)?;
        let deriver = row.get_ref(3)?.as_str_or_null()?;
        entries.push(PathInfo {
            path,
            nar_hash,
            nar_size: size.and_then(|size| size.try_into().ok()).unwrap_or(0),
            deriver: deriver.and_then(|deriver| StorePath::new(deriver).ok()),
            references: Vec::new(),
        });
    }
    Ok(Some(Closure {
        toplevel: toplevel.clone(),
        entries: linked(entries, &references),
    }))
}

/// Puts the entries in order, each with its references, which are given by their places.
fn linked(entries: Vec<PathInfo>, references: &[Vec<usize>]) -> Vec<PathInfo> {
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_unstable_by(|a, b| entries[*a].path.cmp(&entries[*b].path));
    let mut ranks = vec![0; entries.len()];
    for (rank, place) in order.iter().enumerate() {
        ranks[*place] = rank;
    }
    let paths: Vec<StorePath> = order.iter().map(|place| entries[*place].path.clone()).collect();
    let mut entries: Vec<Option<PathInfo>> = entries.into_iter().map(Some).collect();
    let linked = order.into_iter().filter_map(|place| {
        let mut entry = entries[place].take()?;
        let mut ordered: Vec<usize> = references[place].iter().map(|place| ranks[*place]).collect();
        ordered.sort_unstable();
        entry.references = ordered.into_iter().map(|rank| paths[rank].clone()).collect();
        Some(entry)
    });
    linked.collect()
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
