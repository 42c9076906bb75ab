//! How a script travels: one compound command on a shell's stdin, answered between lines that carry a nonce.
//!
//! A shell parses a compound command whole before it runs any of it, so half of a text, cut by a lost link, does
//! nothing. What start-up files print comes before the first nonce and is dropped.

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::connect::{ConnectClass, ConnectError};
use super::script::{Greeting, HostError, NixDaemon, Output, Privilege, Script, SudoError};
use super::{Endpoint, Secret, Sudo};
use crate::failure::last_lines;

const PRELUDE: &str = include_str!("prelude.sh");
/// The operator waits this much longer than the host may take: `timeout` there kills after two seconds more.
const GRACE: Duration = Duration::from_secs(4);

/// What a login may print on either stream before its shell answers: more is no banner.
const BANNER: usize = 256 << 10;
/// What a script may print on either stream, so that a host cannot fill this machine's memory.
const ANSWER: usize = 1 << 30;

/// How long stderr may stay open after stdout ended: ssh closes both when it exits, a child of it may hold one.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The only text a login shell ever sees.
pub(super) const LOGIN: &str = "exec /bin/sh";

/// 128 random bits, so that nothing a script prints is taken for the frame.
pub(super) fn nonce() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut bytes = [0u8; 16];
    let random = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    if random.is_err() {
        // Uniqueness within this process is what correctness needs; randomness guards against hostile output.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let time = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        bytes[..8].copy_from_slice(&count.to_be_bytes());
        bytes[8..].copy_from_slice(&(time.as_nanos() as u64 ^ u64::from(std::process::id())).to_be_bytes());
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A script ready to be sent.
pub(super) struct Wire {
    /// For whoever has to tell scripts apart: where it goes, how it begins, and its short arguments.
    pub label: String,
    pub nonce: String,
    pub text: String,
    pub deadline: Duration,
    privilege: Privilege,
}

/// The text to send for `script` to a login shell.
///
/// # Errors
/// [`HostError::Unsendable`] for bytes that no shell takes.
pub(super) fn wire(
    endpoint: &Endpoint,
    script: &Script,
    privilege: Privilege,
    deadline: Duration,
) -> Result<Wire, HostError> {
    wire_to(Reader::Login, endpoint, script, privilege, deadline)
}

/// Which shell reads the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// The login user's: it asks `id` who that is.
    Login,
    /// Root's, by [`root_wire`].
    Root,
}

/// As [`wire`], for a known reader.
///
/// # Errors
/// As for [`wire`].
pub(super) fn wire_to(
    reader: Reader,
    endpoint: &Endpoint,
    script: &Script,
    privilege: Privilege,
    deadline: Duration,
) -> Result<Wire, HostError> {
    let nonce = nonce();
    let quote = |arg: &str| {
        shlex::try_quote(arg)
            .map(|quoted| quoted.into_owned())
            .map_err(|_| HostError::Unsendable("a NUL byte"))
    };
    let mut inner =
        format!("{{\nprintf '\\n%s begin\\n' {nonce}\nprintf '\\n%s begin\\n' {nonce} >&2\nset --");
    for arg in &script.args {
        inner.push(' ');
        inner.push_str(&quote(arg)?);
    }
    inner.push_str("\n{\n");
    inner.push_str(&script.text);
    match &script.input {
        None => inner.push_str("\n} </dev/null\nexit\n}\n"),
        Some(input) if input.contains('\0') => return Err(HostError::Unsendable("a NUL byte")),
        Some(input) => {
            inner.push_str(&format!("\n}} <<'{nonce}-in'\n{input}"));
            if !input.is_empty() && !input.ends_with('\n') {
                inner.push('\n');
            }
            inner.push_str(&format!("{nonce}-in\nexit\n}}\n"));
        }
    }
    let want = match privilege {
        Privilege::User => "user",
        Privilege::Root => "root",
        Privilege::RootIfPossible => "either",
    };
    let sudo = match endpoint.sudo {
        Sudo::Auto | Sudo::Nopasswd => "auto",
        Sudo::None => "none",
        Sudo::Ask => "ask",
    };
    let seconds = deadline.as_secs_f64().ceil().max(1.0) as u64;
    let reader = match reader {
        Reader::Login => "login",
        Reader::Root => "root",
    };
    let password = match (&endpoint.password, endpoint.sudo, privilege) {
        (_, _, Privilege::User) | (None, _, _) => String::new(),
        (Some(secret), Sudo::Ask, _) => password_lines(secret, &nonce)?,
        _ => String::new(),
    };
    let text = format!(
        "{{\nng_body() {{\ncat <<'{nonce}-body'\n{inner}{nonce}-body\n}}\n{password}\
         set -- {nonce} {want} {sudo} {seconds} {reader}\n{PRELUDE}\nunset ng_pw\n}}\n"
    );
    let title = script
        .text
        .lines()
        .find(|line| line.len() > 2)
        .unwrap_or_default();
    let words = script.args.iter().filter(|arg| arg.len() < 24 && !arg.is_empty());
    let label = format!(
        "{}: {} [{}]",
        endpoint.name,
        title.chars().take(60).collect::<String>(),
        words.map(String::as_str).take(9).collect::<Vec<_>>().join(" ")
    );
    Ok(Wire {
        label,
        nonce,
        text,
        deadline,
        privilege,
    })
}

/// What makes a shell root's: the prelude alone, which has sudo start another shell that reads in this one's place. The
/// answer is root's shell's own, `sudo`, or `user` where nothing changed.
///
/// # Errors
/// As for [`wire`].
pub(super) fn root_wire(endpoint: &Endpoint, deadline: Duration) -> Result<Wire, HostError> {
    let mut wire = wire(endpoint, &Script::new(":"), Privilege::Root, deadline)?;
    wire.text = format!("{{\nset -- {} keep auto 1 login\n{PRELUDE}\n}}\n", wire.nonce);
    wire.privilege = Privilege::RootIfPossible;
    wire.label = format!("{}: a shell of root's", endpoint.name);
    Ok(wire)
}

fn password_lines(secret: &Secret, nonce: &str) -> Result<String, HostError> {
    let text = secret.expose();
    if text.contains(['\n', '\0']) {
        return Err(HostError::Unsendable("a line break in the password"));
    }
    Ok(format!("IFS= read -r ng_pw <<'{nonce}-pw'\n{text}\n{nonce}-pw\n"))
}

/// Sends and waits. `hello` bounds the time until a shell answers at all; `authenticated` says that the login is known
/// to have succeeded, so that silence is the account's doing.
pub(super) async fn converse<W, O, E>(
    wire: &Wire,
    hello: Duration,
    authenticated: bool,
    (writer, stdout, stderr): (&mut W, &mut O, &mut E),
) -> Result<Output, HostError>
where
    W: AsyncWrite + Unpin,
    O: AsyncRead + Unpin,
    E: AsyncRead + Unpin,
{
    let started = Instant::now();
    let mut out = Vec::new();
    let mut err = Vec::new();
    let ended = {
        let write = async {
            // A broken pipe shows at the reading ends too, and there with the reason.
            let _ = writer.write_all(wire.text.as_bytes()).await;
            let _ = writer.flush().await;
            Ok::<(), Stop>(())
        };
        let read_out = read_to_end(stdout, &wire.nonce, &mut out, Some(hello));
        let read_err = read_to_end(stderr, &wire.nonce, &mut err, None);
        tokio::time::timeout(wire.deadline + GRACE, async {
            tokio::try_join!(write, read_out, read_err)
        })
        .await
    };
    if matches!(ended, Ok(Err(Stop::Eof))) {
        // The reason of a lost or refused connection may still be in the pipe when stdout ends.
        let _ = tokio::time::timeout(LAST_WORDS, stderr.read_to_end(&mut err)).await;
    }
    let stderr = String::from_utf8_lossy(&err).into_owned();
    match ended {
        Ok(Ok(_)) => parse(wire, &out, &stderr, started.elapsed()),
        Ok(Err(Stop::NoHello)) => Err(HostError::Connect(ConnectError::new(
            ConnectClass::Hang,
            last_lines(&stderr, 4),
        ))),
        Ok(Err(Stop::Noise)) => Err(HostError::Connect(ConnectError::new(
            ConnectClass::Noise,
            noise(if out.len() > BANNER { &out } else { &err }),
        ))),
        Ok(Err(Stop::Eof)) if find(&out, format!("\n{} hello\n", wire.nonce).as_bytes()).is_none() => {
            let all = format!("{}\n{stderr}", String::from_utf8_lossy(&out));
            let mut error = ConnectError::from_stderr(&all);
            if error.class == ConnectClass::Other && authenticated {
                error.class = ConnectClass::NoLogin;
            }
            Err(HostError::Connect(error))
        }
        Ok(Err(Stop::Eof)) => Err(HostError::Lost {
            lines: last_lines(after_hello(&stderr, &wire.nonce), 4),
        }),
        Err(_) => {
            let begin = format!("\n{} begin\n", wire.nonce);
            let from = find(&out, begin.as_bytes()).map_or(out.len(), |at| at + begin.len());
            Err(HostError::Timeout {
                after: wire.deadline,
                killed: false,
                stdout: out[from..].to_vec(),
                stderr: after_hello(&stderr, &wire.nonce).to_owned(),
            })
        }
    }
}

enum Stop {
    Eof,
    NoHello,
    /// More than [`BANNER`] before the greeting, or more than [`ANSWER`].
    Noise,
}

/// The first lines of what never ends.
fn noise(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 << 10)]);
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .take(3)
        .map(|line| line.chars().take(200).collect())
        .collect()
}

/// Reads until the line `<nonce> end <status>`.
async fn read_to_end<R: AsyncRead + Unpin>(
    reader: &mut R,
    nonce: &str,
    into: &mut Vec<u8>,
    hello: Option<Duration>,
) -> Result<(), Stop> {
    let end = format!("\n{nonce} end ");
    let hello_line = format!("\n{nonce} hello\n");
    let must_greet_by = hello.map(|after| tokio::time::Instant::now() + after);
    let mut greeted = false;
    let mut searched = 0;
    let mut buffer = vec![0u8; 16 * 1024];
    loop {
        let read = match must_greet_by {
            Some(at) if !greeted => match tokio::time::timeout_at(at, reader.read(&mut buffer)).await {
                Ok(read) => read,
                Err(_) => return Err(Stop::NoHello),
            },
            _ => reader.read(&mut buffer).await,
        };
        let count = read.unwrap_or(0);
        if count == 0 {
            // stderr may close first; only stdout's end is decisive.
            return if hello.is_some() { Err(Stop::Eof) } else { Ok(()) };
        }
        into.extend_from_slice(&buffer[..count]);
        greeted = greeted || find(&into[searched..], hello_line.as_bytes()).is_some();
        if into.len() > if greeted { ANSWER } else { BANNER } {
            return Err(Stop::Noise);
        }
        if let Some(at) = find(&into[searched..], end.as_bytes())
            && into[searched + at + end.len()..].contains(&b'\n')
        {
            return Ok(());
        }
        searched = into.len().saturating_sub(hello_line.len().max(end.len()) + 8);
    }
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

fn after_hello<'a>(text: &'a str, nonce: &str) -> &'a str {
    let hello = format!("\n{nonce} hello\n");
    text.find(&hello).map_or(text, |at| &text[at + hello.len()..])
}

/// Takes the frame apart.
fn parse(wire: &Wire, out: &[u8], err: &str, took: Duration) -> Result<Output, HostError> {
    let nonce = &wire.nonce;
    let begin = format!("\n{nonce} begin\n");
    let end = format!("\n{nonce} end ");
    let lost = || HostError::Lost {
        lines: last_lines(after_hello(err, nonce), 4),
    };
    let end_at = find(out, end.as_bytes()).ok_or_else(lost)?;
    let status = String::from_utf8_lossy(&out[end_at + end.len()..]);
    let status: i32 = status
        .lines()
        .next()
        .and_then(|line| line.trim().parse().ok())
        .ok_or_else(lost)?;
    let begin_at = find(out, begin.as_bytes()).filter(|at| *at < end_at);
    let preface = String::from_utf8_lossy(&out[..begin_at.unwrap_or(end_at)]).into_owned();
    let err_end = err.find(&end).unwrap_or(err.len());
    let err = &err[..err_end];
    let (said, stderr) = match err.find(&begin) {
        Some(at) => (after_hello(&err[..at], nonce), &err[at + begin.len()..]),
        None => (after_hello(err, nonce), ""),
    };
    let sudo = sudo_error(&preface, said, nonce);
    let Some(begin_at) = begin_at else {
        return Err(match sudo {
            Some(error) => HostError::Sudo(error),
            // sudo passed its probe and failed a moment later, or env or timeout is missing.
            None if wire.privilege == Privilege::Root && said.contains("sudo") => {
                HostError::Sudo(SudoError::Other {
                    user: String::new(),
                    lines: last_lines(said, 4),
                })
            }
            None if status == 124 || status == 137 => HostError::Timeout {
                after: wire.deadline,
                killed: true,
                stdout: Vec::new(),
                stderr: said.to_owned(),
            },
            None => HostError::Lost {
                lines: last_lines(said, 4),
            },
        });
    };
    // A frame line starts with a newline of its own; after an empty output the two frames share none.
    let stdout = out
        .get(begin_at + begin.len()..end_at)
        .unwrap_or_default()
        .to_vec();
    let stderr = stderr.to_owned();
    if matches!(status, 124 | 137) && took >= wire.deadline {
        return Err(HostError::Timeout {
            after: wire.deadline,
            killed: true,
            stdout,
            stderr,
        });
    }
    Ok(Output {
        status,
        stdout,
        stderr,
        sudo,
        greeting: match wire.privilege {
            Privilege::User => greeting(&preface, nonce),
            _ => Greeting::default(),
        },
    })
}

/// From what came before the frame, and the line `<nonce> nix-daemon <login|missing|path>`.
fn greeting(preface: &str, nonce: &str) -> Greeting {
    let hello = format!("\n{nonce} hello\n");
    let noise = preface.split_once(&hello).map_or("", |(noise, _)| noise);
    let mark = format!("{nonce} nix-daemon ");
    let found = preface.lines().find_map(|line| line.strip_prefix(&mark));
    Greeting {
        noise: noise.trim().chars().take(Greeting::NOISE).collect(),
        nix_daemon: match found {
            None => NixDaemon::Unknown,
            Some("login") => NixDaemon::OnPath,
            Some(path) if path.starts_with('/') => NixDaemon::At(path.to_owned()),
            Some(_) => NixDaemon::Missing,
        },
    }
}

/// From the line `<nonce> sudo <word> <user>`.
fn sudo_error(preface: &str, said: &str, nonce: &str) -> Option<SudoError> {
    let mark = format!("{nonce} sudo ");
    let line = preface.lines().find_map(|line| line.strip_prefix(&mark))?;
    let (word, user) = line.split_once(' ').unwrap_or((line, ""));
    let user = user.to_owned();
    let lines = last_lines(said, 4);
    Some(match word {
        "needs-password" => SudoError::NeedsPassword { user },
        "wrong-password" => SudoError::WrongPassword { user },
        "not-allowed" => SudoError::NotAllowed { user, lines },
        "needs-tty" => SudoError::NeedsTty { user, lines },
        "missing" => SudoError::Missing { user, lines },
        _ => SudoError::Other { user, lines },
    })
}

#[cfg(test)]
mod tests;
