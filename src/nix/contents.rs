//! The files of store paths, read where they are, in one command.

use super::exec::Exec;
use super::said;
use crate::diff::{Files, Node};
use crate::failure::{Failure, Reason};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// The script that packs them; a body without a first line of its own.
const SCRIPT: &str = include_str!("contents.sh");
/// More than this is not unpacked.
const MOST: u64 = 256 << 20;
/// How gzip's files begin (RFC 1952 §2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Reads all files of those of the store paths that are there: a path that is not has no entry in the answer.
///
/// # Errors
/// They cannot be read.
pub async fn contents<E: Exec>(exec: &E, paths: &[&str], deadline: Duration) -> Result<Files, Failure> {
    let what = "files of the store cannot be read";
    if paths.is_empty() {
        return Ok(Files::new());
    }
    if exec.is_here() {
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        let read = tokio::task::spawn_blocking(move || {
            let mut files = Files::new();
            paths
                .iter()
                .try_for_each(|path| here(path, &mut files))
                .map(|()| files)
        });
        let read = read.await.map_err(|error| error.to_string());
        let read = read.and_then(|read| read.map_err(|error| error.to_string()));
        return read.map_err(|why| Failure::failed(Reason::Store, what).why(why));
    }
    let list: String = paths.iter().map(|path| format!("{path}\n")).collect();
    let output = super::script(exec, SCRIPT, &[], Some(list.into_bytes()), deadline).await?;
    if !output.ok() {
        return Err(said::failure(Reason::Store, what, &output));
    }
    unpacked(&output.stdout).map_err(|error| Failure::failed(Reason::Store, what).why(error.to_string()))
}

/// One path of this machine's store, without following links.
fn here(path: &str, files: &mut Files) -> std::io::Result<()> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(known) => known.file_type(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let node = if kind.is_symlink() {
        Node::Link(std::fs::read_link(path)?.to_string_lossy().into_owned())
    } else if kind.is_dir() {
        for entry in std::fs::read_dir(path)? {
            here(&entry?.path().to_string_lossy(), files)?;
        }
        Node::Directory
    } else {
        Node::File(std::fs::read(path)?)
    };
    files.insert(path.to_owned(), node);
    Ok(())
}

fn unpacked(packed: &[u8]) -> std::io::Result<Files> {
    let plain: Box<dyn Read + '_> = match packed.starts_with(&GZIP) {
        true => Box::new(flate2::read::MultiGzDecoder::new(packed)),
        false => Box::new(packed),
    };
    let mut archive = tar::Archive::new(plain.take(MOST));
    let mut files = Files::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let absolute = |path: &Path| format!("/{}", path.to_string_lossy().trim_matches('/'));
        let path = absolute(&entry.path()?);
        let link = entry.link_name()?;
        let node = match (entry.header().entry_type(), link) {
            (tar::EntryType::Symlink, Some(target)) => Node::Link(target.to_string_lossy().into_owned()),
            // One file under two names, as an optimised store has them.
            (tar::EntryType::Link, Some(target)) => match files.get(&absolute(&target)) {
                Some(node) => node.clone(),
                None => continue,
            },
            (tar::EntryType::Directory, _) => Node::Directory,
            (tar::EntryType::Regular, _) => {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                Node::File(bytes)
            }
            _ => continue,
        };
        files.insert(path, node);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// Runs the script over these paths.
    fn packed(paths: &[String], tools: &str) -> Vec<u8> {
        let list = tempfile::NamedTempFile::new().unwrap();
        let lines: String = paths.iter().map(|path| format!("{path}\n")).collect();
        std::fs::write(list.path(), lines).unwrap();
        let output = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::from(std::fs::File::open(list.path()).unwrap()))
            .env("PATH", tools)
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        output.stdout
    }

    #[test]
    fn the_script_packs_what_is_read_on_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| format!("{}/{name}", dir.path().display());
        std::fs::create_dir_all(at("unit/sub")).unwrap();
        std::fs::write(at("unit/a.service"), "[Unit]\n").unwrap();
        std::fs::hard_link(at("unit/a.service"), at("unit/sub/b.service")).unwrap();
        std::os::unix::fs::symlink("../nowhere", at("unit/link")).unwrap();
        std::fs::write(at("conf"), [0, 255, b'\n']).unwrap();
        let paths = [at("unit"), at("missing"), at("conf")];
        let mut files = Files::new();
        paths.iter().for_each(|path| here(path, &mut files).unwrap());
        assert_eq!(files.len(), 6);
        assert_eq!(files[&at("unit/sub/b.service")], Node::File(b"[Unit]\n".to_vec()));
        assert_eq!(files[&at("unit/link")], Node::Link("../nowhere".into()));

        let everything = std::env::var("PATH").unwrap();
        let gzip = packed(&paths, &everything);
        assert!(gzip.starts_with(&GZIP));
        assert_eq!(unpacked(&gzip).unwrap(), files);
        // A host without gzip.
        let tools = tempfile::tempdir().unwrap();
        for tool in ["tar", "cat"] {
            let found = everything.split(':').map(|dir| format!("{dir}/{tool}"));
            let found = found.into_iter().find(|path| Path::new(path).exists()).unwrap();
            std::os::unix::fs::symlink(found, tools.path().join(tool)).unwrap();
        }
        std::os::unix::fs::symlink("/bin/sh", tools.path().join("sh")).unwrap();
        let plain = packed(&paths, &format!("{}:/nowhere", tools.path().display()));
        assert!(!plain.starts_with(&GZIP));
        assert_eq!(unpacked(&plain).unwrap(), files);
        // Nothing is there.
        assert_eq!(
            unpacked(&packed(&paths[1..2], &everything)).unwrap(),
            Files::new()
        );
        // What breaks off is no answer.
        assert!(unpacked(&gzip[..gzip.len() / 2]).is_err());
    }
}
