//! The closure of a path: what it consists of, in one command and in a format that no version of Nix has changed.

use super::exec::{Exec, ExecOutput};
use super::path::{StorePath, hex, sha256_hex};
use super::said;
use super::unshared::Unshared;
use crate::diff::PathSize;
use crate::failure::{Failure, Reason};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// What a store knows about one path.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PathInfo {
    pub path: StorePath,
    /// SHA-256 of the path's NAR, 64 lower-case hex digits.
    pub nar_hash: String,
    pub nar_size: u64,
    pub deriver: Option<StorePath>,
    pub references: Vec<StorePath>,
}

/// A path with everything it refers to, sorted by path.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Closure {
    pub toplevel: StorePath,
    pub entries: Vec<PathInfo>,
}

impl Closure {
    /// Sorts the entries and checks that they are a closure: each path once, the toplevel among them, and no reference
    /// that leads out. A list cut short is thereby found.
    pub fn new(toplevel: StorePath, mut entries: Vec<PathInfo>) -> Result<Self, String> {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries.dedup();
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(format!(
                "{} is listed twice, with different contents",
                pair[0].path
            ));
        }
        let known: HashSet<&StorePath> = entries.iter().map(|entry| &entry.path).collect();
        if !known.contains(&toplevel) {
            return Err(format!("{toplevel} itself is missing from the list"));
        }
        for entry in &entries {
            if let Some(lost) = entry.references.iter().find(|path| !known.contains(path)) {
                return Err(format!(
                    "{} refers to {lost}, which is missing from the list",
                    entry.path
                ));
            }
        }
        Ok(Closure { toplevel, entries })
    }

    /// SHA-256 over the lines `path NUL sha256:<64 hex> LF`, sorted bytewise by path.
    pub fn digest(&self) -> String {
        let mut sum = Sha256::new();
        for entry in &self.entries {
            sum.update(format!("{}\0sha256:{}\n", entry.path, entry.nar_hash));
        }
        hex(&sum.finalize())
    }

    /// How many paths.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// The sum of the NAR sizes.
    pub fn bytes(&self) -> u64 {
        self.entries
            .iter()
            .fold(0, |sum, entry| sum.saturating_add(entry.nar_size))
    }

    pub fn paths(&self) -> impl Iterator<Item = &StorePath> {
        self.entries.iter().map(|entry| &entry.path)
    }

    pub fn get(&self, path: &StorePath) -> Option<&PathInfo> {
        let index = self.entries.binary_search_by(|entry| entry.path.cmp(path)).ok()?;
        self.entries.get(index)
    }

    /// The derivation of the toplevel, where the store knows it.
    pub fn deriver(&self) -> Option<&StorePath> {
        self.get(&self.toplevel)?.deriver.as_ref()
    }

    /// The NAR hash of the toplevel.
    pub fn toplevel_hash(&self) -> &str {
        self.get(&self.toplevel).map_or("", |entry| &entry.nar_hash)
    }

    /// Its list: a line `path sha256:hash size deriver` for each path, `-` where no deriver is known, sorted by path. Which
    /// path refers to which is not in it.
    pub fn list(&self) -> String {
        let line = |entry: &PathInfo| {
            let deriver = entry.deriver.as_ref().map_or("-", |path| path.as_str());
            format!(
                "{} sha256:{} {} {deriver}\n",
                entry.path, entry.nar_hash, entry.nar_size
            )
        };
        self.entries.iter().map(line).collect()
    }

    /// The closure that such a list is of, without references. `None`: it is no such list.
    pub fn listed(toplevel: &StorePath, text: &str) -> Option<Closure> {
        let entry = |line: &str| {
            let mut words = line.split(' ');
            let path = StorePath::new(words.next()?).ok()?;
            let nar_hash = sha256_hex(words.next()?)?;
            let nar_size = words.next()?.parse().ok()?;
            let deriver = match words.next()? {
                "-" => None,
                path => Some(StorePath::new(path).ok()?),
            };
            Some(PathInfo {
                path,
                nar_hash,
                nar_size,
                deriver,
                references: Vec::new(),
            })
        };
        let entries: Option<Vec<PathInfo>> = text.lines().map(entry).collect();
        Closure::new(toplevel.clone(), entries?).ok()
    }

    /// The paths of which this closure has another build than `other`; where both have the same of all that they share,
    /// those that only one of them has (a build that was registered with other references).
    pub fn other_builds<'a>(&'a self, other: &'a Closure) -> Vec<&'a StorePath> {
        let differs = |entry: &&PathInfo| {
            let theirs = other.get(&entry.path);
            theirs.is_some_and(|theirs| theirs.nar_hash != entry.nar_hash)
        };
        let rebuilt: Vec<&StorePath> = self.entries.iter().filter(differs).map(|e| &e.path).collect();
        if !rebuilt.is_empty() {
            return rebuilt;
        }
        let ours = self.paths().filter(|path| other.get(path).is_none());
        ours.chain(other.paths().filter(|path| self.get(path).is_none()))
            .collect()
    }

    /// What it comes to in a store that has `there`: a copy leaves alone what is there, also where that is another build
    /// with other references.
    #[must_use]
    pub fn copied_beside(&self, there: &Closure) -> Closure {
        let mut found: HashMap<&StorePath, &PathInfo> = HashMap::new();
        let mut open = vec![&self.toplevel];
        while let Some(path) = open.pop() {
            if found.contains_key(path) {
                continue;
            }
            let Some(entry) = there.get(path).or_else(|| self.get(path)) else {
                return self.clone();
            };
            found.insert(path, entry);
            open.extend(&entry.references);
        }
        let entries = found.into_values().cloned().collect();
        Closure::new(self.toplevel.clone(), entries).unwrap_or_else(|_| self.clone())
    }

    /// With the derivers that `builder` knows, which are those whose derivations are kept.
    #[must_use]
    pub fn with_derivers_of(mut self, builder: &Closure) -> Closure {
        for entry in &mut self.entries {
            if let Some(known) = builder.get(&entry.path).and_then(|built| built.deriver.as_ref()) {
                entry.deriver = Some(known.clone());
            }
        }
        self
    }

    /// What the package diff needs to know of it.
    pub fn sizes(&self) -> impl Iterator<Item = PathSize<'_>> {
        self.entries.iter().map(|entry| PathSize {
            path: entry.path.as_str(),
            bytes: entry.nar_size,
            deriver: entry.deriver.as_ref().map(StorePath::as_str),
        })
    }
}

/// Reads the closures of all of `$@`. One program where Nix prints what we can read, else two: the list is complete before
/// anything is dumped, because an empty list would make `--dump-db` print the whole database.
macro_rules! read {
    ($before:literal) => {
        concat!(
            "set -e\n",
            $before,
            r#"
nix --extra-experimental-features nix-command path-info --json --recursive -- "$@" 2>/dev/null && exit
paths=$(nix-store -qR -- "$@")
[ -n "$paths" ]
printf '%s\n' "$paths" | xargs nix-store --dump-db
"#
        )
    };
}

const READ: &str = read!("");
/// With what the link `$1` leads to instead of the link, and before it named.
const READ_LINK: &str = read!(
    r#"top=$(readlink -f -- "$1")
printf '%s\n' "$top"
set -- "$top""#
);
/// With what the link `$2` leads to instead of the link, and before all named.
const READ_LINKED: &str = read!(
    r#"other=$(readlink -f -- "$2")
printf '%s\n' "$other"
set -- "$1" "$other""#
);
/// As READ, in the format that no version of Nix has changed.
const DUMP: &str = r#"set -e
paths=$(nix-store -qR -- "$@")
[ -n "$paths" ]
printf '%s\n' "$paths" | xargs nix-store --dump-db
"#;

/// Reads the closure of `toplevel` from the store where `exec` runs.
///
/// # Errors
/// It is not there, or not whole.
pub async fn closure<E: Exec>(
    exec: &E,
    toplevel: &StorePath,
    deadline: Duration,
) -> Result<Closure, Failure> {
    if exec.is_here()
        && let Some(closure) = in_process(toplevel.clone()).await
    {
        return Ok(closure);
    }
    let output = super::script(exec, READ, &[toplevel.as_str()], None, deadline).await?;
    match closure_of(toplevel, &output) {
        Ok(closure) => Ok(closure),
        // A Nix that shapes its JSON in a way nobody knows yet.
        Err(_) if output.ok() => {
            let output = super::script(exec, DUMP, &[toplevel.as_str()], None, deadline).await?;
            closure_of(toplevel, &output)
        }
        Err(failure) => Err(failure),
    }
}

/// What a build came to, with everything that is asked about it.
#[derive(Debug)]
pub struct Product {
    pub closure: Closure,
    /// What it was built for by its own `system` file (nixpkgs, `nixos/modules/system/activation/top-level.nix`).
    pub system: Option<String>,
    /// Its derivations beside those of what ran before; `None` where those are not there, or cannot be read.
    pub unshared: Option<Unshared>,
}

/// The toplevel's own `system` file, empty where there is none, the closure, and the derivations, which are read meanwhile:
/// `$2` is the new derivation, what follows it candidates for the old one.
const PRODUCT: &str = r#"set -e
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
top=$1
shift
[ $# -lt 2 ] || unshared "$@" >"$dir/unshared" 2>/dev/null &
printf '%s\n' "$(cat -- "$top/system" 2>/dev/null)"
read_closure "$top"
wait
[ ! -e "$dir/unshared" ] || { printf '\n%s\n' derivations && cat "$dir/unshared"; }
"#;

/// Reads the closure of `toplevel`, which `drv` made, and the derivations that it does not share with the first of `olds`
/// that is there.
///
/// # Errors
/// As [`closure`].
pub async fn product<E: Exec>(
    exec: &E,
    toplevel: &StorePath,
    drv: &str,
    olds: &[StorePath],
    deadline: Duration,
) -> Result<Product, Failure> {
    let derivations = async || match StorePath::new(drv) {
        Ok(drv) if !olds.is_empty() => super::unshared(exec, &drv, olds, deadline).await.ok().flatten(),
        _ => None,
    };
    if exec.is_here()
        && let (Some(closure), unshared) = tokio::join!(in_process(toplevel.clone()), derivations())
    {
        let system = std::fs::read_to_string(format!("{toplevel}/system")).ok();
        return Ok(Product {
            closure,
            system: system
                .map(|system| system.trim().to_owned())
                .filter(|system| !system.is_empty()),
            unshared,
        });
    }
    let text = format!(
        "unshared() (\n{}\n)\nread_closure() (\n{READ}\n)\n{PRODUCT}",
        super::unshared::SCRIPT
    );
    let mut arguments = vec![toplevel.as_str(), drv];
    arguments.extend(olds.iter().map(StorePath::as_str));
    let mut output = super::script(exec, &text, &arguments, None, deadline).await?;
    let (head, derivations) = split(std::mem::take(&mut output.stdout));
    let text = String::from_utf8_lossy(&head);
    let (system, rest) = text.split_once('\n').unwrap_or_default();
    output.stdout = rest.as_bytes().to_vec();
    let closure = match closure_of(toplevel, &output) {
        Err(_) if output.ok() => closure(exec, toplevel, deadline).await?,
        result => result?,
    };
    let system = system.trim();
    Ok(Product {
        closure,
        system: (!system.is_empty()).then(|| system.to_owned()),
        unshared: Unshared::parse(&derivations).ok().flatten(),
    })
}

/// The closure as this machine's own database has it.
async fn in_process(toplevel: StorePath) -> Option<Closure> {
    tokio::task::spawn_blocking(move || super::here::closure(&toplevel))
        .await
        .ok()?
}

/// What comes before the line `derivations`, and what after it.
fn split(mut printed: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    const MARK: &[u8] = b"\nderivations\n";
    match memchr::memmem::find(&printed, MARK) {
        Some(at) => {
            let rest = printed.split_off(at + MARK.len());
            printed.truncate(at);
            (printed, rest)
        }
        None => (printed, Vec::new()),
    }
}

/// Reads the closure of what `link` leads to.
///
/// # Errors
/// As [`closure`].
pub async fn closure_linked<E: Exec>(exec: &E, link: &str, deadline: Duration) -> Result<Closure, Failure> {
    let output = super::script(exec, READ_LINK, &[link], None, deadline).await?;
    let what = format!("cannot read the closure of {link}");
    if !output.ok() {
        return Err(said::failure(Reason::Store, what, &output));
    }
    let text = output.out();
    let (top, rest) = text.split_once('\n').unwrap_or_default();
    let top =
        StorePath::new(top).map_err(|error| Failure::failed(Reason::Store, what).why(error.to_string()))?;
    match parse(rest).and_then(|entries| Closure::new(top.clone(), entries)) {
        Ok(closure) => Ok(closure),
        Err(_) => closure(exec, &top, deadline).await,
    }
}

/// Reads the closure of `toplevel` and that of what `link` leads to, which share most of their paths, in one command.
///
/// # Errors
/// One of them is not there, or not whole: [`closure`] tells which.
pub async fn closure_and_linked<E: Exec>(
    exec: &E,
    toplevel: &StorePath,
    link: &str,
    deadline: Duration,
) -> Result<(Closure, Closure), Failure> {
    let output = super::script(exec, READ_LINKED, &[toplevel.as_str(), link], None, deadline).await?;
    let what = format!("cannot read the closures of {toplevel} and {link}");
    if !output.ok() {
        return Err(said::failure(Reason::Store, what, &output));
    }
    two(toplevel, &output.out()).map_err(|why| Failure::failed(Reason::Store, what).why(why))
}

fn two(toplevel: &StorePath, text: &str) -> Result<(Closure, Closure), String> {
    let (other, dump) = text.split_once('\n').unwrap_or((text, ""));
    let other = StorePath::new(other).map_err(|error| error.to_string())?;
    let entries = parse(dump)?;
    Ok((within(&entries, toplevel)?, within(&entries, &other)?))
}

/// The closure of `toplevel` out of a list that may hold more.
fn within(entries: &[PathInfo], toplevel: &StorePath) -> Result<Closure, String> {
    let known: HashMap<&StorePath, &PathInfo> = entries.iter().map(|entry| (&entry.path, entry)).collect();
    let mut found: HashMap<&StorePath, &PathInfo> = HashMap::new();
    let mut open = vec![toplevel];
    while let Some(path) = open.pop() {
        if found.contains_key(path) {
            continue;
        }
        // What is missing is named by Closure::new.
        let Some(entry) = known.get(path) else { continue };
        found.insert(path, entry);
        open.extend(&entry.references);
    }
    Closure::new(toplevel.clone(), found.into_values().cloned().collect())
}

/// Judges what [`closure`]'s command printed.
pub fn closure_of(toplevel: &StorePath, output: &ExecOutput) -> Result<Closure, Failure> {
    let what = format!("cannot read the closure of {toplevel}");
    if !output.ok() {
        return Err(said::failure(Reason::Store, what, output));
    }
    parse(&output.out())
        .and_then(|entries| Closure::new(toplevel.clone(), entries))
        .map_err(|why| Failure::failed(Reason::Store, what).why(why))
}

/// JSON or a dump, by its first character.
fn parse(text: &str) -> Result<Vec<PathInfo>, String> {
    if !text.starts_with(['{', '[']) {
        return parse_dump_db(text);
    }
    let all = super::json::parse_path_info(text)?;
    let all = all.into_iter();
    all.map(|(path, info)| info.ok_or_else(|| format!("{path} is not valid")))
        .collect()
}

/// Parses `nix-store --dump-db`: per path its name, hash, size, deriver (or an empty line), the number of references,
/// and those.
pub fn parse_dump_db(text: &str) -> Result<Vec<PathInfo>, String> {
    let mut lines = text.lines();
    let mut entries = Vec::new();
    while let Some(first) = lines.next() {
        let path = StorePath::new(first).map_err(|e| e.to_string())?;
        let mut line = |what: &str| {
            lines
                .next()
                .ok_or_else(|| format!("{path}: the list ends before its {what}"))
        };
        let hash = line("hash")?;
        let nar_hash =
            sha256_hex(hash).ok_or_else(|| format!("{path}: `{}` is no SHA-256", hash.escape_debug()))?;
        let size = line("size")?;
        let nar_size = size
            .parse()
            .map_err(|_| format!("{path}: `{}` is no size", size.escape_debug()))?;
        let deriver = match line("deriver")? {
            "" => None,
            text => Some(StorePath::new(text).map_err(|e| format!("{path}: {e}"))?),
        };
        let count = line("references")?;
        let count: u32 = count
            .parse()
            .map_err(|_| format!("{path}: `{}` is no number", count.escape_debug()))?;
        let mut references = Vec::new();
        for _ in 0..count {
            references.push(StorePath::new(line("references")?).map_err(|e| format!("{path}: {e}"))?);
        }
        references.sort();
        entries.push(PathInfo {
            path,
            nar_hash,
            nar_size,
            deriver,
            references,
        });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests;
