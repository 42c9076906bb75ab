//! Who makes a record, and the signature on it: made by the same programs, called the same way, as git signs a tag.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use super::config::Config;
use super::program::{self, Broken, LOCAL, Output};
use super::repo::Repo;
use crate::failure::{Failure, Reason};

/// Git's committer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    pub mail: String,
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} <{}>", self.name, self.mail)
    }
}

/// `gpg.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    OpenPgp,
    X509,
    Ssh,
}

/// How tags are signed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signing {
    Off,
    On {
        format: Format,
        program: String,
        key: String,
    },
}

impl Repo {
    /// The committer; a failure that says what to configure if there is none.
    pub fn committer(&self) -> Result<Identity, Failure> {
        if let Some(known) = self.who.get() {
            return Ok(known.clone());
        }
        let what = "git knows no committer: who makes the record is part of it";
        let next = |f: Failure| {
            f.next("git config --global user.name NAME")
                .next("git config --global user.email MAIL")
        };
        let output = self
            .program
            .need(what, &["var", "GIT_COMMITTER_IDENT"], b"")
            .map_err(next)?;
        let text = output.text();
        let parsed = text
            .trim_end()
            .rsplit_once("> ")
            .and_then(|(who, _)| who.split_once(" <"));
        let (name, mail) = parsed.ok_or_else(|| next(Failure::failed(Reason::Config, what)))?;
        let identity = Identity {
            name: name.to_owned(),
            mail: mail.to_owned(),
        };
        Ok(self.who.get_or_init(|| identity).clone())
    }

    /// Whether, and with what, the user's configuration signs tags.
    pub fn signing(&self) -> Result<Signing, Failure> {
        let config = self.config()?;
        let on = config.bool("tag.gpgSign").unwrap_or(false)
            || config.bool("tag.forceSignAnnotated").unwrap_or(false);
        if !on {
            return Ok(Signing::Off);
        }
        let (format, program) = match config.get("gpg.format").unwrap_or("openpgp") {
            "openpgp" => (
                Format::OpenPgp,
                config
                    .get("gpg.openpgp.program")
                    .or_else(|| config.get("gpg.program"))
                    .unwrap_or("gpg"),
            ),
            "x509" => (Format::X509, config.get("gpg.x509.program").unwrap_or("gpgsm")),
            "ssh" => (Format::Ssh, config.get("gpg.ssh.program").unwrap_or("ssh-keygen")),
            other => {
                return Err(Failure::config(format!("gpg.format is {other:?}"))
                    .why("git knows openpgp, x509 and ssh")
                    .next("git config gpg.format ssh"));
            }
        };
        let keys: &[&str] = match format {
            Format::OpenPgp => &["gpg.openpgp.program", "gpg.program"],
            Format::X509 => &["gpg.x509.program"],
            Format::Ssh => &["gpg.ssh.program"],
        };
        if let Some(why) = keys.iter().find_map(|key| self.pulled(key)) {
            return Err(
                Failure::config("the program that signs tags can be changed by a pulled commit").why(why),
            );
        }
        let key = match config.get("user.signingKey").filter(|key| !key.is_empty()) {
            Some(key) => key.to_owned(),
            None if format == Format::Ssh => self.default_ssh_key(&config)?,
            None => self.committer()?.to_string(),
        };
        Ok(Signing::On {
            format,
            program: home(program),
            key,
        })
    }

    /// `gpg.ssh.defaultKeyCommand` prints keys; git takes the first.
    #[expect(clippy::disallowed_methods, reason = "reads: a program that prints keys")]
    fn default_ssh_key(&self, config: &Config) -> Result<String, Failure> {
        let missing = || {
            Failure::config("tags are to be signed by ssh, and user.signingKey is not set")
                .next("git config --global user.signingKey ~/.ssh/id_ed25519.pub")
        };
        let command = config.get("gpg.ssh.defaultKeyCommand").ok_or_else(missing)?;
        let words = shlex::split(command)
            .filter(|words| !words.is_empty())
            .ok_or_else(missing)?;
        let mut command = Command::new(home(&words[0]));
        command.args(&words[1..]);
        let output = program::run(command, b"", LOCAL).map_err(|b| b.failure("gpg.ssh.defaultKeyCommand"))?;
        let text = output.text();
        let key = text
            .lines()
            .find(|line| line.starts_with("ssh-") || line.starts_with("key::"));
        key.map(ToOwned::to_owned).ok_or_else(missing)
    }

    /// The whole tag object: the payload, with its signature behind it if the user's configuration signs tags.
    pub fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, Failure> {
        let Signing::On { format, program, key } = self.signing()? else {
            return Ok(payload.to_vec());
        };
        let armor = match format {
            Format::Ssh => sign_ssh(&program, &key, payload)?,
            Format::OpenPgp | Format::X509 => sign_gpg(&program, &key, payload)?,
        };
        let mut whole = payload.to_vec();
        // gpgsm and gpg on Windows end lines with CR LF; git drops the CR too.
        whole.extend(armor.into_iter().filter(|b| *b != b'\r'));
        Ok(whole)
    }

    /// Makes and drops a signature, so that a key which cannot sign is found before anything is switched.
    pub fn try_sign(&self) -> Result<Signing, Failure> {
        self.sign(b"git-nixgate tries the signing key\n")?;
        self.signing()
    }
}

fn refused(program: &str, key: &str, output: &Output) -> Failure {
    let mut failure = Failure::failed(Reason::Record, format!("{program} made no signature with {key}"));
    // What gpg says to programs means nothing to people.
    failure.why = output.lines();
    failure.why.retain(|line| !line.starts_with("[GNUPG:]"));
    failure.next("git config user.signingKey, gpg.format; git config tag.gpgSign false to do without")
}

fn not_run(program: &str, broken: &Broken) -> Failure {
    match broken {
        Broken::Start(why) => Failure::config(format!("{program}, which signs tags, could not be started"))
            .why(why.clone())
            .next("install it, or name another: git config gpg.program, gpg.ssh.program"),
        late => late.failure(program),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "private: what is signed, in a folder of this process"
)]
fn sign_ssh(program: &str, key: &str, payload: &[u8]) -> Result<Vec<u8>, Failure> {
    let dir = tempfile::Builder::new().prefix("nixgate-sign").tempdir()?;
    let buffer = dir.path().join("payload");
    std::fs::write(&buffer, payload)?;
    let literal = key
        .strip_prefix("key::")
        .or_else(|| key.starts_with("ssh-").then_some(key));
    let mut command = Command::new(program);
    command.args(["-Y", "sign", "-n", "git", "-f"]);
    match literal {
        Some(literal) => {
            let file = dir.path().join("key");
            std::fs::File::create(&file)?.write_all(format!("{literal}\n").as_bytes())?;
            command.arg(file).arg("-U");
        }
        None => {
            command.arg(home(key));
        }
    }
    command.arg(&buffer);
    let output = program::run(command, b"", LOCAL).map_err(|b| not_run(program, &b))?;
    if !output.ok() {
        return Err(refused(program, key, &output));
    }
    std::fs::read(buffer.with_extension("sig")).map_err(|_| refused(program, key, &output))
}

#[expect(clippy::disallowed_methods, reason = "reads: prints a signature")]
fn sign_gpg(program: &str, key: &str, payload: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut command = Command::new(program);
    command.args(["--status-fd=2", "-bsau", key]);
    let output = program::run(command, payload, LOCAL).map_err(|b| not_run(program, &b))?;
    let created = output
        .error_text()
        .lines()
        .any(|line| line.starts_with("[GNUPG:] SIG_CREATED "));
    if output.ok() && created {
        Ok(output.stdout)
    } else {
        Err(refused(program, key, &output))
    }
}

/// `~/` as git's own path values have it.
pub(super) fn home(path: &str) -> String {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest).to_string_lossy().into_owned(),
        _ => path.to_owned(),
    }
}
