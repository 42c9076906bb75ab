//! Making a store what its database says: from the host's own caches, from a store that has the very same bytes, and as
//! the last resort by changing the database.
//!
//! What moves a path that the destination's database calls valid? Measured with Nix 2.26: `nix copy`, `nix-store
//! --import` and `nix-copy-closure` all skip it and report success; `nix-store --delete` refuses it while anything refers
//! to it. `nix-store --repair-path` replaces it, from a substituter. So the bytes travel into a store of their own on the
//! host, whose database was told of everything that is whole (so that only the broken paths travel), and `--repair-path`
//! takes them from there.

use super::closure::PathInfo;
use super::exec::Exec;
use super::path::StorePath;
use super::said;
use crate::failure::{Failure, Reason};
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::time::Duration;

/// `$1` the store to take from, or nothing for the host's own caches; paths on stdin. Nothing is built there: another
/// build of a path is another path's bytes.
const REPAIR: &str = r#"[ -z "$1" ] || set -- --option substituters "$1" --option require-sigs false
[ -n "${1-}" ] || shift $#
while read -r path; do
    nix-store --option max-jobs 0 --option connect-timeout 5 --option download-attempts 1 "$@" --repair-path "$path" </dev/null >&2 ||
        printf 'failed %s\n' "$path"
done
echo end
"#;

/// Runs `nix-store --repair-path` for each path as root; says which could not be repaired, with Nix's words for the
/// last of them.
///
/// # Errors
/// Nix cannot be run there.
pub async fn repair_paths<E: Exec>(
    root: &E,
    paths: &[StorePath],
    from: Option<&str>,
    deadline: Duration,
) -> Result<(Vec<StorePath>, Vec<String>), Failure> {
    let output = super::script(
        root,
        REPAIR,
        &[from.unwrap_or_default()],
        Some(lines(paths)),
        deadline,
    )
    .await?;
    let what = "cannot repair paths";
    let text = output.out();
    let Some(body) = text.strip_suffix("end\n").filter(|_| output.ok()) else {
        return Err(said::failure(Reason::Store, what, &output));
    };
    let failed: Result<Vec<StorePath>, _> = body
        .lines()
        .filter_map(|line| line.strip_prefix("failed "))
        .map(StorePath::new)
        .collect();
    let failed = failed.map_err(|bad| Failure::failed(Reason::Store, what).why(bad.to_string()))?;
    let words = if failed.is_empty() {
        Vec::new()
    } else {
        said::telling(&said::plain(&output.err()))
    };
    Ok((failed, words))
}

/// Prints the database's entries of those paths on stdin that are registered and there.
const HAVE: &str = r#"set -e
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
cat >"$t/all"
xargs nix-store --check-validity --print-invalid <"$t/all" >"$t/invalid" 2>"$t/err" || [ -s "$t/invalid" ] || {
    cat "$t/err" >&2
    exit 1
}
grep -vxF -f "$t/invalid" "$t/all" | while read -r path; do
    if [ -e "$path" ] || [ -L "$path" ]; then printf '%s\n' "$path"; fi
done >"$t/there"
[ ! -s "$t/there" ] || xargs nix-store --dump-db <"$t/there"
echo end
"#;

/// What the store where `exec` runs has of `paths`.
///
/// # Errors
/// The store cannot be asked.
pub async fn have<E: Exec>(
    exec: &E,
    paths: &[StorePath],
    deadline: Duration,
) -> Result<Vec<PathInfo>, Failure> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let what = "cannot ask a store what it has";
    let output = super::script(exec, HAVE, &[], Some(lines(paths)), deadline).await?;
    let text = output.out();
    let Some(body) = text.strip_suffix("end\n").filter(|_| output.ok()) else {
        return Err(said::failure(Reason::Store, what, &output));
    };
    super::parse_dump_db(body).map_err(|why| Failure::failed(Reason::Store, what).why(why))
}

/// A store of its own on the host, as the ssh user, that believes what `known` says.
const SEED: &str = r#"set -e
umask 077
d=$(mktemp -d /var/tmp/nixgate-store-XXXXXXXX)
nix-store --store "$d" --load-db >&2 || {
    rm -rf "$d"
    exit 1
}
printf '%s\n' "$d"
"#;

/// Makes an empty store on the host whose database calls `known` valid; its folder. Copying into it with
/// `?remote-store=<folder>` sends only what is not in `known`.
///
/// # Errors
/// It cannot be made: no room, no Nix.
pub async fn seed<E: Exec>(user: &E, known: &[&PathInfo], deadline: Duration) -> Result<String, Failure> {
    let text = dump_db(known).into_bytes();
    let output = super::script(user, SEED, &[], Some(text), deadline).await?;
    let what = "cannot make a store beside the host's own";
    let text = output.out();
    let folder = text.trim_end();
    let fine = folder
        .strip_prefix("/var/tmp/nixgate-store-")
        .is_some_and(|end| !end.is_empty() && end.bytes().all(|b| b.is_ascii_alphanumeric()));
    if output.ok() && fine {
        return Ok(folder.to_owned());
    }
    Err(said::failure(Reason::Store, what, &output))
}

/// Removes a [`seed`]ed store.
///
/// # Errors
/// It is still there.
pub async fn drop_seed<E: Exec>(root: &E, folder: &str, deadline: Duration) -> Result<(), Failure> {
    let output = super::script(root, r#"rm -rf -- "$1""#, &[folder], None, deadline).await?;
    if output.ok() {
        return Ok(());
    }
    Err(said::failure(
        Reason::Store,
        format!("cannot remove {folder}"),
        &output,
    ))
}

/// `nix-store --dump-db`'s format, for `--load-db`.
fn dump_db(entries: &[&PathInfo]) -> String {
    let mut text = String::new();
    for entry in entries {
        let deriver = entry.deriver.as_ref().map_or("", StorePath::as_str);
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{}\n{}\n{}\n{deriver}\n{}",
            entry.path,
            entry.nar_hash,
            entry.nar_size,
            entry.references.len()
        );
        for reference in &entry.references {
            let _ = writeln!(text, "{reference}");
        }
    }
    text
}

/// What a seeded store may be told to have, so that of the closures of `wanted` little but `wanted` itself travels: whatever
/// they need whose own closure is registered and has none of `wanted` in it. (Nix registers no path before its references,
/// and reads a derivation that it registers.) Sorted by path.
pub fn seedable<'a>(
    entries: &'a HashMap<StorePath, PathInfo>,
    wanted: &BTreeSet<StorePath>,
) -> Vec<&'a PathInfo> {
    let mut fine: HashMap<&StorePath, bool> = HashMap::new();
    let mut open: Vec<&StorePath> = wanted
        .iter()
        .filter_map(|path| entries.get(path))
        .flat_map(|entry| &entry.references)
        .collect();
    // Depth first without recursion: a path is judged when its references are. Met again with some of them open, it is
    // part of a circle, which no sound database has.
    let mut met: BTreeSet<&StorePath> = BTreeSet::new();
    while let Some(path) = open.pop() {
        if fine.contains_key(path) {
            continue;
        }
        let Some(entry) = entries
            .get(path)
            .filter(|_| !wanted.contains(path) && !path.is_derivation())
        else {
            fine.insert(path, false);
            // Its own needs count when it travels.
            if wanted.contains(path)
                && let Some(entry) = entries.get(path)
            {
                open.extend(&entry.references);
            }
            continue;
        };
        let others = || entry.references.iter().filter(|other| **other != entry.path);
        let unknown: Vec<&StorePath> = others().filter(|other| !fine.contains_key(other)).collect();
        if unknown.is_empty() || !met.insert(&entry.path) {
            fine.insert(&entry.path, others().all(|other| fine.get(other) == Some(&true)));
        } else {
            open.push(path);
            open.extend(unknown);
        }
    }
    let mut known: Vec<&PathInfo> = fine
        .iter()
        .filter(|(_, fine)| **fine)
        .filter_map(|(path, _)| entries.get(*path))
        .collect();
    known.sort_by(|a, b| a.path.cmp(&b.path));
    known
}

const SURGERY: &str = include_str!("surgery.sh");

/// Changes the host's database with `sql` while its daemon is stopped; with a `backup`'s name, backs it up first to
/// `<folder>/<backup>`. The daemon is started again whatever happens.
///
/// # Errors
/// Nothing was changed (the whole text is one transaction), or the daemon does not start again; the host's words.
pub async fn surgery<E: Exec>(
    root: &E,
    unit: &str,
    folder: &str,
    backup: Option<&str>,
    sql: &str,
    deadline: Duration,
) -> Result<(), Failure> {
    let arguments = [unit, folder, backup.unwrap_or_default()];
    let output = super::script(root, SURGERY, &arguments, Some(sql.as_bytes().to_vec()), deadline).await?;
    let text = output.out();
    if output.ok() && text.lines().any(|line| line == "done") {
        return Ok(());
    }
    let mut failure = Failure::failed(Reason::Store, "the database was not changed");
    if output.status == 9 {
        failure.next.push(
            "put a sqlite3 there: nix copy --to ssh-ng://THE-HOST nixpkgs#sqlite.bin, or environment.systemPackages".into(),
        );
    }
    Err(failure.tail(&text, 6).tail(&output.err(), 6))
}

/// The paths as rows of `bad`. Store paths have no character that SQL would read.
fn bad(paths: &[StorePath]) -> String {
    let mut sql = String::from("CREATE TEMP TABLE bad (path TEXT PRIMARY KEY);\n");
    for path in paths {
        let _ = writeln!(sql, "INSERT INTO bad VALUES ('{path}');");
    }
    sql
}

/// Fails the transaction unless every row of the database refers to something.
const SOUND: &str = "CREATE TEMP TABLE sound (violations INTEGER CHECK (violations = 0));
INSERT INTO sound SELECT count(*) FROM pragma_foreign_key_check;
COMMIT;
";

/// Forgets `paths`, with their references in both directions, and every row that refers to nothing.
pub fn forget_sql(paths: &[StorePath]) -> String {
    format!(
        ".timeout 10000
PRAGMA foreign_keys = ON;
BEGIN IMMEDIATE;
{}DELETE FROM Refs WHERE referrer IN (SELECT id FROM ValidPaths WHERE path IN (SELECT path FROM bad))
    OR reference IN (SELECT id FROM ValidPaths WHERE path IN (SELECT path FROM bad));
DELETE FROM Refs WHERE referrer NOT IN (SELECT id FROM ValidPaths) OR reference NOT IN (SELECT id FROM ValidPaths);
DELETE FROM DerivationOutputs WHERE drv NOT IN (SELECT id FROM ValidPaths);
DELETE FROM ValidPaths WHERE path IN (SELECT path FROM bad);
{SOUND}",
        bad(paths)
    )
}

/// After [`forget_sql`], when the paths are there again: the references to them that the backup at `old` knows. (A path
/// that was only referred to keeps its signatures this way, which `--load-db` would drop.)
pub fn rejoin_sql(paths: &[StorePath], old: &str) -> String {
    format!(
        ".timeout 10000
ATTACH '{}' AS old;
PRAGMA foreign_keys = ON;
BEGIN IMMEDIATE;
{}INSERT OR IGNORE INTO main.Refs (referrer, reference)
    SELECT a.id, b.id FROM old.Refs r
    JOIN old.ValidPaths f ON f.id = r.referrer JOIN old.ValidPaths t ON t.id = r.reference
    JOIN main.ValidPaths a ON a.path = f.path JOIN main.ValidPaths b ON b.path = t.path
    WHERE t.path IN (SELECT path FROM bad) OR f.path IN (SELECT path FROM bad);
{SOUND}",
        old.replace('\'', "''"),
        bad(paths)
    )
}

fn lines(paths: &[StorePath]) -> Vec<u8> {
    let text: String = paths.iter().map(|path| format!("{path}\n")).collect();
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(n: char) -> StorePath {
        StorePath::new(&format!("/nix/store/{}-x", n.to_string().repeat(32))).expect("a store path")
    }

    fn store(list: &[(char, &[char])]) -> HashMap<StorePath, PathInfo> {
        let entry = |(n, references): &(char, &[char])| PathInfo {
            path: path(*n),
            nar_hash: "0".repeat(64),
            nar_size: 1,
            deriver: None,
            references: references.iter().map(|n| path(*n)).collect(),
        };
        list.iter().map(entry).map(|e| (e.path.clone(), e)).collect()
    }

    #[test]
    fn s3_5_only_what_is_whole_down_to_its_leaves_is_taken_as_known() {
        // a (wanted) → b, c · c → d (wanted) → i · b → i · i refers to itself · z is nobody's need
        let entries = store(&[
            ('a', &['b', 'c']),
            ('b', &['i']),
            ('c', &['d']),
            ('d', &['i']),
            ('i', &['i']),
            ('z', &[]),
        ]);
        let wanted = BTreeSet::from([path('a'), path('d')]);
        let known: Vec<&StorePath> = seedable(&entries, &wanted).iter().map(|e| &e.path).collect();
        assert_eq!(known, [&path('b'), &path('i')]);
    }

    #[test]
    fn a_dump_is_read_back_as_it_was() {
        let entries = store(&[('a', &['b']), ('b', &[])]);
        let mut sorted: Vec<&PathInfo> = entries.values().collect();
        sorted.sort_by(|a, b| a.path.cmp(&b.path));
        let read = super::super::parse_dump_db(&dump_db(&sorted)).expect("a dump");
        assert_eq!(read.iter().collect::<Vec<_>>(), sorted);
    }

    /// Runs SQL with the real program.
    fn sqlite(db: &std::path::Path, sql: &str) -> (bool, String) {
        use std::io::Write as _;
        let mut child = std::process::Command::new("sqlite3")
            .args(["-batch", "-bail"])
            .arg(db)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("sqlite3");
        child
            .stdin
            .take()
            .expect("stdin")
            .write_all(sql.as_bytes())
            .expect("written");
        let output = child.wait_with_output().expect("an end");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.success(), text)
    }

    /// Nix's schema (version 10), a → b → c, d → c, and a row that refers to nothing.
    fn database(dir: &std::path::Path) -> std::path::PathBuf {
        let db = dir.join("db.sqlite");
        let mut sql = String::from(
            "create table ValidPaths (id integer primary key autoincrement not null, path text unique not null,
                hash text not null, registrationTime integer not null, deriver text, narSize integer,
                ultimate integer, sigs text, ca text);
             create table Refs (referrer integer not null, reference integer not null,
                primary key (referrer, reference),
                foreign key (referrer) references ValidPaths(id) on delete cascade,
                foreign key (reference) references ValidPaths(id) on delete restrict);
             create trigger DeleteSelfRefs before delete on ValidPaths
                begin delete from Refs where referrer = old.id and reference = old.id; end;
             create table DerivationOutputs (drv integer not null, id text not null, path text not null,
                primary key (drv, id), foreign key (drv) references ValidPaths(id) on delete cascade);
             pragma foreign_keys = off;\n",
        );
        for (id, n) in ['a', 'b', 'c', 'd'].into_iter().enumerate() {
            let path = path(n);
            let _ = writeln!(
                sql,
                "insert into ValidPaths values ({}, '{path}', 'sha256:0', 0, null, 1, null, 'sig', null);",
                id + 1
            );
        }
        sql.push_str("insert into Refs values (1, 2), (2, 3), (3, 3), (4, 3), (99999, 3);\n");
        let (ok, text) = sqlite(&db, &sql);
        assert!(ok, "{text}");
        db
    }

    const PAIRS: &str = "select substr(a.path, 12, 1) || substr(b.path, 12, 1) from Refs
        join ValidPaths a on a.id = referrer join ValidPaths b on b.id = reference order by 1;";

    #[test]
    fn s3_5_forgetting_and_rejoining_leave_a_sound_database_with_every_reference() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = database(dir.path());
        let old = dir.path().join("o'ld.sqlite");
        std::fs::copy(&db, &old).expect("a copy");
        let (ok, text) = sqlite(
            &db,
            &format!("delete from ValidPaths where path = '{}';", path('c')),
        );
        assert!(ok, "without constraints anything goes: {text}");
        std::fs::copy(&old, &db).expect("a copy");
        let (ok, text) = sqlite(
            &db,
            &format!(
                "pragma foreign_keys = on; delete from ValidPaths where path = '{}';",
                path('c')
            ),
        );
        assert!(!ok && text.contains("FOREIGN KEY"), "{text}");
        let (ok, text) = sqlite(&db, &forget_sql(&[path('c')]));
        assert!(ok, "{text}");
        assert_eq!(sqlite(&db, "pragma foreign_key_check;"), (true, String::new()));
        assert_eq!(sqlite(&db, PAIRS).1, "ab\n");
        let again = format!(
            "insert into ValidPaths values (17, '{p}', 'sha256:0', 0, null, 1, null, null, null);
             insert into Refs values (17, 17);",
            p = path('c')
        );
        assert!(sqlite(&db, &again).0);
        let (ok, text) = sqlite(&db, &rejoin_sql(&[path('c')], old.to_str().expect("text")));
        assert!(ok, "{text}");
        assert_eq!(sqlite(&db, PAIRS).1, "ab\nbc\ncc\ndc\n");
        assert_eq!(sqlite(&db, "pragma foreign_key_check;"), (true, String::new()));
    }

    #[test]
    fn s3_5_a_database_that_would_not_be_sound_stays_as_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = database(dir.path());
        // A table that the surgery does not know.
        let strange = "pragma foreign_keys = off; create table Other (p integer references ValidPaths(id));
            insert into Other values (4242);";
        assert!(sqlite(&db, strange).0);
        let before = sqlite(&db, PAIRS).1;
        let (ok, text) = sqlite(&db, &forget_sql(&[path('c')]));
        assert!(!ok && text.contains("CHECK constraint"), "{text}");
        assert_eq!(sqlite(&db, PAIRS).1, before);
    }
}
