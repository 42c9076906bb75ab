//! A host's journal, line by line, for as long as somebody reads it.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use super::connect::ConnectError;
use super::session::{count_command, count_script, local_shell};
use super::shell::own_connection;
use super::wire::wire;
use super::{Endpoint, HostError, Privilege, Script};
use crate::failure::last_lines;

const FOLLOW: &str = include_str!("follow.sh");
/// No remote command goes on for ever.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long what is left of stderr is waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How a journal ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEnd {
    /// journalctl's exit status.
    pub status: i32,
    /// Its last words.
    pub stderr: Vec<String>,
}

/// Hands every line of `journalctl ARGUMENTS` on the host to `line`, as root where that can be; with `follow` until the
/// caller drops this or `line` says `false`. A connection of its own, which ends with it, and with it the program there.
///
/// # Errors
/// [`HostError`] of the connection. That journalctl fails is none: see the status.
pub async fn journal(
    endpoint: &Endpoint,
    arguments: &[String],
    follow: bool,
    mut line: impl FnMut(&str) -> bool,
) -> Result<JournalEnd, HostError> {
    let script = Script::new(FOLLOW)
        .arg(if follow { "follow" } else { "once" })
        .args(arguments.iter().cloned());
    let wire = wire(endpoint, &script, Privilege::RootIfPossible, LONGEST)?;
    let mut child = if endpoint.is_local() {
        local_shell().map_err(|error| HostError::Spawn(format!("sh: {error}")))?
    } else {
        own_connection(endpoint).map_err(|error| HostError::Spawn(format!("cannot run ssh: {error}")))?
    };
    count_command();
    count_script();
    let (Some(mut stdin), Some(stdout), Some(mut stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(HostError::Spawn("ssh: no pipes".into()));
    };
    let mut said = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
            // A line every two seconds is nobody's; what counts is at the end.
            said.extend(buffer[..count].iter().filter(|byte| **byte != b'\r'));
            let surplus = said.len().saturating_sub(16 << 10);
            said.drain(..surplus);
        }
    };
    let talking = async {
        // A broken pipe shows at the reading end too.
        let _ = stdin.write_all(wire.text.as_bytes()).await;
        let _ = stdin.flush().await;
        let mut frame = Frame::new(&wire.nonce);
        let mut lines = BufReader::new(stdout);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            match lines.read_until(b'\n', &mut bytes).await {
                Ok(1..) => {}
                _ => return Ended::Cut(frame.begun),
            }
            let text = String::from_utf8_lossy(&bytes);
            match frame.take(text.trim_end_matches(['\n', '\r']), &mut line) {
                Took::More => {}
                Took::Enough => return Ended::With(0),
                Took::End(status) => return Ended::With(status),
            }
        }
    };
    let ended = {
        let (mut reading, mut talking) = (std::pin::pin!(reading), std::pin::pin!(talking));
        let mut silent = false;
        // stderr may end first; stdout decides.
        let ended = loop {
            tokio::select! {
                ended = &mut talking => break ended,
                () = &mut reading, if !silent => silent = true,
            }
        };
        if !silent {
            let _ = tokio::time::timeout(LAST_WORDS, reading).await;
        }
        ended
    };
    let said = String::from_utf8_lossy(&said).into_owned();
    let own = said.lines().filter(|line| !line.contains(wire.nonce.as_str()));
    let own: Vec<&str> = own.collect();
    match ended {
        Ended::With(status) => Ok(JournalEnd {
            status,
            stderr: last_lines(&own.join("\n"), 4),
        }),
        Ended::Cut(true) => Err(HostError::Lost {
            lines: last_lines(&own.join("\n"), 4),
        }),
        Ended::Cut(false) => Err(HostError::Connect(ConnectError::from_stderr(&own.join("\n")))),
    }
}

enum Ended {
    With(i32),
    /// Before its end; whether it had begun.
    Cut(bool),
}

enum Took {
    More,
    Enough,
    End(i32),
}

/// Takes the lines between the frame's own; see wire.rs.
struct Frame {
    begin: String,
    end: String,
    begun: bool,
    /// An empty line that may belong to the frame's end.
    held: bool,
}

impl Frame {
    fn new(nonce: &str) -> Self {
        Frame {
            begin: format!("{nonce} begin"),
            end: format!("{nonce} end "),
            begun: false,
            held: false,
        }
    }

    fn take(&mut self, text: &str, line: &mut impl FnMut(&str) -> bool) -> Took {
        if let Some(status) = text.strip_prefix(self.end.as_str()) {
            return Took::End(status.trim().parse().unwrap_or(-1));
        }
        if !self.begun {
            self.begun = text == self.begin;
            return Took::More;
        }
        if std::mem::take(&mut self.held) && !line("") {
            return Took::Enough;
        }
        if text.is_empty() {
            self.held = true;
        } else if !line(text) {
            return Took::Enough;
        }
        Took::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s4_45_only_what_stands_between_the_frames_lines_is_the_journals() {
        let mut frame = Frame::new("n1");
        let mut seen = Vec::new();
        let mut line = |text: &str| {
            seen.push(text.to_owned());
            true
        };
        for text in ["motd", "", "n1 hello", "", "n1 begin", "one", "", "two", ""] {
            assert!(matches!(frame.take(text, &mut line), Took::More), "{text}");
        }
        assert!(matches!(frame.take("n1 end 3", &mut line), Took::End(3)));
        assert_eq!(seen, ["one", "", "two"]);
    }

    #[test]
    fn s4_45_a_reader_who_has_enough_ends_it() {
        let mut frame = Frame::new("n1");
        frame.take("n1 begin", &mut |_: &str| true);
        assert!(matches!(frame.take("one", &mut |_: &str| false), Took::Enough));
    }
}
