//! `git receive-pack` spoken to by hand (gitprotocol-pack(5)): any old value, any new one, any ref, in any order.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::git_command;

pub const ZERO: &str = "0000000000000000000000000000000000000000";

/// One command of a push: what the client says is there, what should be, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    pub old: String,
    pub new: String,
    pub name: String,
}

impl Raw {
    pub fn new(old: impl ToString, new: impl ToString, name: impl Into<String>) -> Raw {
        Raw {
            old: old.to_string(),
            new: new.to_string(),
            name: name.into(),
        }
    }
}

/// What came back: git's report on each ref, and what it and the hooks said.
pub struct Answer {
    pub report: String,
    pub said: String,
}

/// A pack with these objects and all that they need.
pub fn pack(dir: &Path, objects: &[String]) -> Vec<u8> {
    let mut child = git_command(dir)
        .args(["pack-objects", "--stdout", "--revs", "-q"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let list: String = objects.iter().map(|oid| format!("{oid}\n")).collect();
    child.stdin.take().unwrap().write_all(list.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// `path` is the PATH that the server's hooks run with.
pub fn receive(hub: &Path, path: &str, commands: &[Raw], atomic: bool, pack: &[u8]) -> Answer {
    receive_with(&mut server(hub, path), commands, atomic, pack)
}

/// The server's side, not started.
pub fn server(hub: &Path, path: &str) -> Command {
    let mut server = git_command(hub.parent().unwrap());
    server.env("PATH", path).arg("receive-pack").arg(hub);
    server
}

pub fn receive_with(server: &mut Command, commands: &[Raw], atomic: bool, pack: &[u8]) -> Answer {
    let mut child = server
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut request = String::new();
    for (n, command) in commands.iter().enumerate() {
        let mut line = format!("{} {} {}", command.old, command.new, command.name);
        if n == 0 {
            line.push_str("\0 report-status delete-refs");
            line.push_str(if atomic { " atomic" } else { "" });
        }
        write!(request, "{:04x}{line}", line.len() + 4).unwrap();
    }
    request.push_str("0000");
    let mut request = request.into_bytes();
    if commands.iter().any(|command| command.new != ZERO) {
        request.extend_from_slice(pack);
    }
    // Where it has heard enough it hangs up.
    let _ = child.stdin.take().unwrap().write_all(&request);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = text.rsplit_once("unpack ok").map_or("", |(_, report)| report);
    Answer {
        report: report.to_owned(),
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
