//! The derivations that two toplevels do not share, read where they were instantiated, in one command.

mod files;

use super::exec::{Exec, ExecOutput};
use super::path::StorePath;
use super::said;
use crate::failure::{Failure, Reason};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::time::Duration;

use files::{Place, Texts};

/// The script that prints them; a body without a first line of its own.
pub(super) const SCRIPT: &str = include_str!("unshared.sh");
/// More text than this is not unpacked: real systems have a twentieth of it.
const MOST: u64 = 2 << 30;
/// Two store paths are shorter than this (211 bytes behind the store's directory are the most, Nix, `src/libstore/path.hh`).
const HEAD: u64 = 1 << 10;
/// How hard they are packed for keeping: beyond this it takes twice the time for a tenth of the bytes.
const PACKED: u32 = 6;

/// Derivations of two toplevels, those that both have left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unshared {
    pub old: StorePath,
    pub new: StorePath,
    texts: Vec<Texts>,
}

impl Unshared {
    /// Each derivation's path with its text.
    pub fn texts(&self) -> Vec<(&str, &[u8])> {
        let all = self.texts.iter().flat_map(|texts| {
            let parts = texts.parts.iter();
            parts.map(|(path, content)| (texts.at(*path), texts.at(*content)))
        });
        all.filter_map(|(path, content)| Some((std::str::from_utf8(path).ok()?, content)))
            .collect()
    }

    /// Derivations of two systems, by path and text.
    pub fn new<'a>(
        old: StorePath,
        new: StorePath,
        texts: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Unshared {
        let lines = texts.into_iter().flat_map(|(path, text)| [path.as_bytes(), text]);
        let text = lines.flat_map(|line| [line, b"\n"]).collect::<Vec<_>>().concat();
        Unshared::of_lines(old, new, text)
    }

    /// From a text that has in turn a derivation's path and its text, one line each.
    fn of_lines(old: StorePath, new: StorePath, text: Vec<u8>) -> Unshared {
        let mut parts = Vec::new();
        let mut ends = memchr::memchr_iter(b'\n', &text);
        let mut from = 0;
        let place = |from, to| Place { piece: 0, from, to };
        while let (Some(path), Some(end)) = (ends.next(), ends.next()) {
            parts.push((place(from, path), place(path + 1, end)));
            from = end + 1;
        }
        let pieces = vec![text];
        let texts = vec![Texts { pieces, parts }];
        Unshared { old, new, texts }
    }

    /// Both systems' derivations where they were read in several steps: `old` to something in between, and so on to `new`.
    pub fn joined(old: StorePath, new: StorePath, steps: &[Unshared]) -> Unshared {
        let all: BTreeMap<&str, &[u8]> = steps.iter().flat_map(Unshared::texts).collect();
        Unshared::new(old, new, all)
    }

    /// For keeping: gzip of a line `old new`, then in turn a path and its text, those of one name side by side, so that what
    /// became of a derivation packs well beside it. [`Unshared::kept`] reads it.
    pub fn packed(&self) -> Vec<u8> {
        let mut texts = self.texts();
        let name = |path: &str| path.get("/nix/store/".len() + 33..).unwrap_or(path).to_owned();
        texts.sort_by_cached_key(|(path, _)| (name(path), (*path).to_owned()));
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(PACKED));
        let head = format!("{} {}", self.old, self.new);
        let lines = texts.iter().flat_map(|(path, text)| [path.as_bytes(), *text]);
        for line in std::iter::once(head.as_bytes()).chain(lines) {
            // Memory takes whatever is written to it.
            let _ = writer.write_all(line).and_then(|()| writer.write_all(b"\n"));
        }
        writer.finish().unwrap_or_default()
    }

    /// Reads what [`Unshared::packed`] made; `None`: it is something else.
    pub fn kept(packed: &[u8]) -> Option<Unshared> {
        let text = unpacked(packed).ok()?;
        let end = text.iter().position(|byte| *byte == b'\n')?;
        let (old, new) = sides(&text[..end])?;
        Some(Unshared::of_lines(old, new, text[end + 1..].to_vec()))
    }

    /// Reads of what [`Unshared::packed`] made no more than which two derivations it is about: the old one, the new one.
    pub fn kept_sides(packed: &[u8]) -> Option<(StorePath, StorePath)> {
        let mut head = Vec::new();
        let mut reader = BufReader::new(flate2::bufread::GzDecoder::new(packed)).take(HEAD);
        reader.read_until(b'\n', &mut head).ok()?;
        sides(head.strip_suffix(b"\n")?)
    }

    /// Reads what the script printed; `None`: neither side's derivations are there any more.
    ///
    /// # Errors
    /// What was read is not whole.
    pub(super) fn parse(output: &[u8]) -> Result<Option<Unshared>, String> {
        let end = output.iter().position(|byte| *byte == b'\n');
        let (head, body) = output.split_at(end.ok_or("there is no answer")? + 1);
        let head = String::from_utf8_lossy(head);
        let words: Vec<&str> = head.split_whitespace().collect();
        let (how, old, new) = match words.as_slice() {
            ["gone"] => return Ok(None),
            [how, old, new] => (*how, StorePath::new(old), StorePath::new(new)),
            _ => return Err("the answer has no head".into()),
        };
        let (old, new) = (old.map_err(|e| e.to_string())?, new.map_err(|e| e.to_string())?);
        let mut text = match how {
            "plain" => body.to_vec(),
            "gzip" => unpacked(body)?,
            other => return Err(format!("`{}` is no way to pack", other.escape_debug())),
        };
        // The last line says that it is the last one.
        match text.strip_suffix(b"complete\n").map(<[u8]>::len) {
            Some(length) => text.truncate(length),
            None if text.ends_with(b"unreadable\n") => return Ok(None),
            None if old == new => text.clear(),
            None => return Err("the answer breaks off".into()),
        }
        Ok(Some(Unshared::of_lines(old, new, text)))
    }
}

/// The first line of what is kept.
fn sides(head: &[u8]) -> Option<(StorePath, StorePath)> {
    let (old, new) = std::str::from_utf8(head).ok()?.split_once(' ')?;
    Some((StorePath::new(old).ok()?, StorePath::new(new).ok()?))
}

fn unpacked(packed: &[u8]) -> Result<Vec<u8>, String> {
    // The last four bytes are the length, modulo 2^32 (RFC 1952 §2.3.1): a hint for the allocation, no more.
    let hint = packed.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let mut text = Vec::with_capacity(usize::try_from(hint).unwrap_or(0).min(packed.len() * 40));
    let mut reader = flate2::read::MultiGzDecoder::new(packed).take(MOST);
    reader.read_to_end(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// Reads the derivations of `new` and of the first of `olds` that is there, those that both have left out. `None`: one
/// side has been collected.
///
/// # Errors
/// They cannot be read.
pub async fn unshared<E: Exec>(
    exec: &E,
    new: &StorePath,
    olds: &[StorePath],
    deadline: Duration,
) -> Result<Option<Unshared>, Failure> {
    if exec.is_here()
        && let Some(old) = olds
            .iter()
            .find(|old| std::path::Path::new(old.as_str()).exists())
    {
        let (old, new) = (old.clone(), new.clone());
        let read = tokio::task::spawn_blocking(move || {
            let texts = files::read_all("", &old, &new)?.into();
            Some(Unshared { old, new, texts })
        });
        return Ok(read.await.ok().flatten());
    }
    let arguments: Vec<&str> = std::iter::once(new).chain(olds).map(StorePath::as_str).collect();
    let output = super::script(exec, SCRIPT, &arguments, None, deadline).await?;
    unshared_of(&output)
}

fn unshared_of(output: &ExecOutput) -> Result<Option<Unshared>, Failure> {
    let what = "the derivations cannot be read";
    if !output.ok() {
        return Err(said::failure(Reason::Store, what, output));
    }
    Unshared::parse(&output.stdout).map_err(|why| Failure::failed(Reason::Store, what).why(why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::process::Command;

    const OLD: &str = "/nix/store/00000000000000000000000000000000-top.drv";
    const NEW: &str = "/nix/store/11111111111111111111111111111111-top.drv";

    /// A store in a directory of its own.
    fn store(drvs: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| format!("{}{path}", dir.path().display());
        std::fs::create_dir_all(at("/nix/store")).unwrap();
        for (path, text) in drvs {
            std::fs::write(at(path), text).unwrap();
        }
        dir
    }

    /// Runs the script over a store.
    fn run(drvs: &[(&str, &str)], arguments: &[&str], path: &str) -> Vec<u8> {
        let dir = store(drvs);
        // The same script, but for where files are.
        let script = SCRIPT
            .replace("[ ! -r \"$d\" ]", "[ ! -r \"$root$d\" ]")
            .replace("[ ! -r \"$new\" ]", "[ ! -r \"$root$new\" ]")
            .replace("(getline text < path)", "(getline text < (root path))")
            .replace("awk -v old", "awk -v root=\"$root\" -v old");
        assert_eq!(script.matches("root").count(), 5);
        let output = Command::new("sh")
            .args(["-c", &format!("root={}\n{script}", dir.path().display()), "x"])
            .args(arguments)
            .env("PATH", path)
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.stderr, b"");
        output.stdout
    }

    fn drv(out: &str, inputs: &[&str]) -> String {
        let inputs: Vec<String> = inputs
            .iter()
            .map(|path| format!("(\"{path}\",[\"out\"])"))
            .collect();
        let out = format!("{out:0<32}-x");
        format!(
            "Derive([(\"dev\",\"/nix/store/{out}-dev\",\"\",\"\"),(\"out\",\"/nix/store/{out}\",\"\",\"\")],[{}],[],\"s\",\"b\",[\"])],[ \\\" x.drv\"],[(\"a\",\"ü\\n\")])",
            inputs.join(",")
        )
    }

    fn named(digit: char, name: &str) -> String {
        format!("/nix/store/{}-{name}.drv", digit.to_string().repeat(32))
    }

    #[test]
    fn what_both_have_is_left_out_and_so_is_what_makes_the_same() {
        let (shared, below) = (named('s', "shared"), named('z', "below"));
        let (a, b) = (named('a', "lib"), named('b', "lib"));
        let (f, g, deep) = (named('f', "src"), named('g', "src"), named('d', "fetcher"));
        let drvs = [
            (OLD, drv("old", &[&shared, &a, &f])),
            (NEW, drv("new", &[&shared, &b, &g])),
            (&a, drv("a", &[])),
            (&b, drv("b", &[])),
            (&f, drv("same", &[])),
            (&g, drv("same", &[&deep])),
            (&deep, drv("deep", &[])),
            (&shared, drv("shared", &[&below])),
            (&below, drv("below", &[])),
        ];
        let drvs: Vec<(&str, &str)> = drvs.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let everything = std::env::var("PATH").unwrap();
        let gone = named('9', "gone");
        let printed = run(&drvs, &[NEW, &gone, OLD], &everything);
        assert!(printed.starts_with(b"gzip "));
        let read = Unshared::parse(&printed).unwrap().unwrap();
        assert_eq!((read.old.as_str(), read.new.as_str()), (OLD, NEW));
        let paths: BTreeSet<&str> = read.texts().iter().map(|(path, _)| *path).collect();
        assert_eq!(paths, BTreeSet::from([OLD, NEW, &*a, &*b, &*f, &*g]));
        for (path, text) in read.texts() {
            let wanted = drvs.iter().find(|(known, _)| *known == path).unwrap().1;
            assert_eq!(text, wanted.as_bytes(), "{path}");
            assert!(crate::diff::drv::Derivation::parse(text).is_ok());
        }
        // On this machine files are read without it, and come to the same.
        let root = store(&drvs);
        let texts = files::read_all(&root.path().display().to_string(), &read.old, &read.new).unwrap();
        let (old, new) = (read.old.clone(), read.new.clone());
        let in_files = Unshared {
            old,
            new,
            texts: texts.into(),
        };
        let sorted = |unshared: &Unshared| -> BTreeSet<(String, Vec<u8>)> {
            let texts = unshared.texts().into_iter();
            texts
                .map(|(path, text)| (path.to_owned(), text.to_vec()))
                .collect()
        };
        assert_eq!(sorted(&in_files), sorted(&read));
        // The same derivation on both sides needs no text.
        let read = Unshared::parse(&run(&drvs, &[NEW, NEW], &everything))
            .unwrap()
            .unwrap();
        assert_eq!(read.texts(), []);
        // A builder without gzip.
        let tools = tempfile::tempdir().unwrap();
        for tool in ["awk", "cat"] {
            let found = everything.split(':').map(|dir| format!("{dir}/{tool}"));
            let found = found
                .into_iter()
                .find(|path| std::path::Path::new(path).exists())
                .unwrap();
            std::os::unix::fs::symlink(found, tools.path().join(tool)).unwrap();
        }
        let shell = format!("{}:/nowhere", tools.path().display());
        std::os::unix::fs::symlink("/bin/sh", tools.path().join("sh")).unwrap();
        let plain = run(&drvs, &[NEW, OLD], &shell);
        assert!(plain.starts_with(b"plain "));
        assert_eq!(Unshared::parse(&plain).unwrap().unwrap().texts().len(), 6);
    }

    #[test]
    fn what_is_gone_is_no_error_and_what_breaks_off_is_one() {
        let path = std::env::var("PATH").unwrap();
        let top = drv("new", &[&named('a', "lib")]);
        assert_eq!(
            Unshared::parse(&run(&[(NEW, &top)], &[NEW, OLD], &path)),
            Ok(None)
        );
        assert_eq!(
            Unshared::parse(&run(&[(OLD, &top)], &[NEW, OLD], &path)),
            Ok(None)
        );
        // The toplevel is there, what it is made of is not.
        let two = [(OLD, &*top), (NEW, &*drv("old", &[]))];
        assert_eq!(Unshared::parse(&run(&two, &[NEW, OLD], &path)), Ok(None));
        let head = format!("plain {OLD} {NEW}\n");
        for (bytes, why) in [
            (String::new(), "no answer"),
            ("x\n".into(), "no head"),
            (format!("{head}{OLD}\nDer"), "breaks off"),
            (
                format!("gzip {OLD} {NEW}\nthis is no gzip at all"),
                "invalid gzip",
            ),
            (format!("zip {OLD} {NEW}\n"), "no way to pack"),
        ] {
            let error = Unshared::parse(bytes.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
