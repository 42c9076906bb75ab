//! Whose records count in this repository. Git's own configuration says so, on the machine that judges; what a commit's
//! `.nixgate.toml` asks for can only be stricter. Nothing of it is ever read from the commit under judgement.

use std::path::PathBuf;

use super::repo::Repo;
use super::sign::home;
use crate::failure::Failure;
use crate::record::{Defect, Oid, Record, Signature, text};

/// What is asked of signatures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// A record without a good signature counts for nothing.
    pub required: bool,
    /// Who may sign; `None`: whom git itself trusts.
    pub signers: Option<Signers>,
}

/// An allowed-signers file (ssh-keygen(1)), which may also hold lines `openpgp FINGERPRINT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signers {
    path: PathBuf,
    /// Upper-case fingerprints of primary keys.
    openpgp: Vec<String>,
    /// The lines for ssh-keygen.
    ssh: String,
}

/// What a record's signature says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signed {
    /// Nobody signed it.
    Unsigned,
    /// A good signature, and whose.
    By(String),
    /// A signature that cannot be judged here, and why: a key that is not known.
    Unchecked(String),
}

impl std::fmt::Display for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Signed::Unsigned => f.write_str("unsigned"),
            Signed::By(who) => write!(f, "signed by {who}"),
            Signed::Unchecked(why) => write!(f, "signed, not checked: {why}"),
        }
    }
}

impl Trust {
    /// What is asked of a record behind one that counts, whose signature covers it.
    #[must_use]
    pub fn covered(&self) -> Trust {
        Trust {
            required: false,
            signers: self.signers.clone(),
        }
    }
}

impl Signers {
    /// Reads the file, which must lie outside of every work tree: what is pulled names nobody.
    ///
    /// # Errors
    /// It cannot be read, is no absolute path, or lies in a work tree of this repository (exit 2).
    pub fn read(repo: &Repo, path: &str) -> Result<Signers, Failure> {
        let path = PathBuf::from(home(path));
        let shown = path.display();
        let next = "git config nixgate.signers /etc/nixgate/signers";
        if !path.is_absolute() {
            return Err(Failure::config(format!("signers {shown} is no absolute path"))
                .why("who may release is not for the repository to say")
                .next(next));
        }
        let real = path.canonicalize().map_err(|error| {
            Failure::config(format!("the signers file {shown} cannot be read"))
                .why(error.to_string())
                .next(next)
        })?;
        if repo.leads_into_a_work_tree(&path) {
            return Err(
                Failure::config(format!("the signers file {shown} lies in a work tree"))
                    .why("who may release is not for the repository to say")
                    .next(next),
            );
        }
        let text = std::fs::read_to_string(&real).map_err(|error| {
            Failure::config(format!("the signers file {shown} cannot be read"))
                .why(error.to_string())
                .next(next)
        })?;
        Ok(Signers::parse(path, &text))
    }

    /// The lines for ssh-keygen.
    pub(super) fn ssh_lines(&self) -> &str {
        &self.ssh
    }

    fn parse(path: PathBuf, text: &str) -> Signers {
        let mut signers = Signers {
            path,
            openpgp: Vec::new(),
            ssh: String::new(),
        };
        for line in text.lines() {
            match line.trim().strip_prefix("openpgp ") {
                Some(print) => {
                    let digits = print.chars().filter(|c| !c.is_whitespace());
                    signers.openpgp.push(digits.collect::<String>().to_uppercase());
                }
                None => {
                    signers.ssh.push_str(line);
                    signers.ssh.push('\n');
                }
            }
        }
        signers
    }
}

impl Repo {
    /// What git's configuration here asks of signatures (`nixgate.requireSigned`, `nixgate.signers`), and beside it what
    /// a commit that was released already asks: `required` adds to it, `signers` stands in where git's configuration
    /// names none.
    ///
    /// # Errors
    /// A signers file that cannot be used (exit 2).
    pub fn trust(&self, required: bool, signers: &str) -> Result<Trust, Failure> {
        let config = self.config()?;
        let own = config.get("nixgate.signers").unwrap_or_default();
        let path = if own.is_empty() { signers } else { own };
        Ok(Trust {
            required: required || config.bool("nixgate.requireSigned").unwrap_or(false),
            signers: match path {
                "" => None,
                path => Some(Signers::read(self, path)?),
            },
        })
    }

    /// The evidence names its commit's tree. Where the commit is not here, nobody can tell.
    ///
    /// # Errors
    /// The defect `commit`.
    pub fn on_its_tree(&self, record: &Record) -> Result<(), Defect> {
        let Some(tree) = self.tree_of(&record.commit) else {
            return Ok(());
        };
        match tree == record.evidence.tree {
            true => Ok(()),
            false => Err(Defect::new(
                "commit",
                format!(
                    "the evidence of {} is about the tree {}, its commit has {tree}",
                    record.name, record.evidence.tree
                ),
            )),
        }
    }

    /// As the commit's first line says it; in a hook that receives it too.
    fn tree_of(&self, commit: &Oid) -> Option<String> {
        let (kind, data) = self.object(commit).ok()??;
        let line = data
            .strip_prefix(b"tree ")
            .filter(|_| kind == gix::objs::Kind::Commit)?;
        let tree = line.split(|b| *b == b'\n').next()?;
        Some(String::from_utf8_lossy(tree).into_owned())
    }

    /// Judges a record's signature: who made it, in a few words.
    ///
    /// # Errors
    /// The defects `unsigned` and `signature`.
    pub fn signed(&self, record: &Record, trust: &Trust) -> Result<Signed, Defect> {
        let bad = |why: String| {
            Err(Defect::new(
                "signature",
                format!("the signature of {} does not count: {why}", record.name),
            ))
        };
        if record.signature == Signature::None {
            return match trust.required {
                true => Err(Defect::new("unsigned", format!("{} is not signed", record.name))),
                false => Ok(Signed::Unsigned),
            };
        }
        match self.verify_tag(record, trust.signers.as_ref()) {
            Ok(Signed::Unchecked(why)) if trust.required || trust.signers.is_some() => bad(why),
            Ok(signed) => Ok(signed),
            Err(why) => bad(why),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "private: the signers, for one call of git"
    )]
    fn verify_tag(&self, record: &Record, signers: Option<&Signers>) -> Result<Signed, String> {
        // A revoked key must stay revoked, and a program is run.
        let keys: &[&str] = match record.signature {
            Signature::Ssh => &["gpg.ssh.revocationFile", "gpg.ssh.program"],
            _ => &["gpg.program", "gpg.openpgp.program", "gpg.x509.program"],
        };
        if let Some(why) = keys.iter().find_map(|key| self.pulled(key)) {
            return Err(why);
        }
        let pulled = match (record.signature, signers) {
            (Signature::Ssh, None) => self.pulled("gpg.ssh.allowedSignersFile"),
            _ => None,
        };
        // Whoever a pulled file names is nobody.
        let listed = match &pulled {
            Some(_) => Some(""),
            None => signers.map(|signers| signers.ssh.as_str()),
        };
        let mut args: Vec<std::ffi::OsString> = Vec::new();
        // Lives until git has ended.
        let _file;
        if let Some(listed) = listed {
            let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
            std::fs::write(file.path(), listed).map_err(|error| error.to_string())?;
            let mut pair = std::ffi::OsString::from("gpg.ssh.allowedSignersFile=");
            pair.push(file.path());
            args.extend(["-c".into(), pair]);
            _file = file;
        }
        args.extend(["verify-tag".into(), "--raw".into(), record.oid.to_string().into()]);
        let output = self
            .program
            .run(&args, b"")
            .map_err(|broken| broken.failure("git verify-tag").what)?;
        let said = output.error_text();
        let status = |word: &str| {
            said.lines().find_map(|line| {
                line.strip_prefix("[GNUPG:] ")?
                    .strip_prefix(word)?
                    .strip_prefix(' ')
            })
        };
        if !output.ok() {
            // ssh-keygen and gpg in the one language that they were asked for.
            let unknown = [
                "No principal matched",
                "allowedSignersFile needs to be configured",
                "NO_PUBKEY",
            ];
            let lines = output.lines();
            let told = |line: &&String| !line.starts_with("[GNUPG:]") && !line.starts_with("Good ");
            let last = lines.iter().rfind(told).cloned();
            return match unknown.iter().find(|words| said.contains(**words)) {
                Some(_) if pulled.is_some() => Ok(Signed::Unchecked(pulled.unwrap_or_default())),
                Some(&"NO_PUBKEY") => Ok(Signed::Unchecked("gpg does not know the key".into())),
                Some(&"No principal matched") => {
                    Ok(Signed::Unchecked("nobody who is listed has that key".into()))
                }
                Some(_) => Ok(Signed::Unchecked(
                    "no allowed-signers file says whose key it is".into(),
                )),
                None => Err(last.unwrap_or_else(|| "git verify-tag refuses it".into())),
            };
        }
        if record.signature == Signature::Ssh {
            let line = said
                .lines()
                .find_map(|line| line.strip_prefix("Good \"git\" signature for "));
            let line = line.ok_or("ssh-keygen does not say who signed")?;
            return Ok(Signed::By(text::shown(line.trim())));
        }
        let print = status("VALIDSIG").and_then(|rest| rest.split(' ').next_back());
        let who = status("GOODSIG")
            .and_then(|rest| rest.split_once(' '))
            .map(|(_, who)| who);
        let (Some(print), Some(who)) = (print, who) else {
            return Err("gpg does not say whose key it is".into());
        };
        match signers {
            Some(signers) if !signers.openpgp.iter().any(|known| known == print) => Ok(Signed::Unchecked(
                format!("{} does not list the key {print}", signers.path.display()),
            )),
            _ => Ok(Signed::By(text::shown(&format!(
                "{who} with OpenPGP key {print}"
            )))),
        }
    }
}
