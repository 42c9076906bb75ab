//! Whether who signed a record may still sign. Git asks whether a key was good at the time that a tag names
//! (`verify-time`, since 2.35), and that time is the signer's own word: a hook that takes a new record asks for now too.
//! OpenPGP and X.509 need nothing here: gpg and gpgsm refuse a key that has expired or was revoked, whatever the date.

use std::process::Command;

use super::program::{self, LOCAL};
use super::repo::Repo;
use super::sign::home;
use super::trust::{Signed, Trust};
use crate::record::{Defect, Record, Signature};

const ARMOR: &[u8] = b"-----BEGIN SSH SIGNATURE-----";

impl Repo {
    /// Where signers are asked for, the signer of a good ssh signature is one at this moment.
    ///
    /// # Errors
    /// The defect `signature`.
    pub(super) fn signed_by_now(
        &self,
        record: &Record,
        signed: &Signed,
        trust: &Trust,
    ) -> Result<(), Defect> {
        let asked = trust.required || trust.signers.is_some();
        if !asked || record.signature != Signature::Ssh || !matches!(signed, Signed::By(_)) {
            return Ok(());
        }
        match self.ssh_signer_now(record, trust) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Defect::new(
                "signature",
                format!(
                    "who signed {} may not sign any more: it counts only from before",
                    record.name
                ),
            )),
            Err(why) => Err(Defect::new(
                "signature",
                format!(
                    "whether who signed {} may still sign cannot be told: {why}",
                    record.name
                ),
            )),
        }
    }

    /// As git does it (`verify_ssh_signed_buffer` in its `gpg-interface.c`), without a time: ssh-keygen takes its own.
    #[expect(
        clippy::disallowed_methods,
        reason = "private: a signature and its signers, for ssh-keygen, which reads"
    )]
    fn ssh_signer_now(&self, record: &Record, trust: &Trust) -> Result<bool, String> {
        let said = |error: std::io::Error| error.to_string();
        let raw = self.tag(&record.oid).map_err(|failure| failure.to_string())?;
        let raw = raw.ok_or("it is not here")?;
        let at = raw.windows(ARMOR.len()).position(|part| part == ARMOR);
        let (payload, armor) = raw.split_at(at.ok_or("it has no ssh signature")?);
        let dir = tempfile::Builder::new()
            .prefix("nixgate-signed")
            .tempdir()
            .map_err(said)?;
        let signature = dir.path().join("signature");
        std::fs::write(&signature, armor).map_err(said)?;
        let config = self.config().map_err(|failure| failure.to_string())?;
        // Inside: none is named.
        let named = |key: &str| match config.get(key) {
            None => Some(None),
            Some(named) => self.named_path(key, named).map(Some),
        };
        let signers = match &trust.signers {
            Some(signers) => {
                let path = dir.path().join("signers");
                std::fs::write(&path, signers.ssh_lines()).map_err(said)?;
                path
            }
            None => named("gpg.ssh.allowedSignersFile")
                .flatten()
                .ok_or("no allowed-signers file is named")?,
        };
        let revoked = named("gpg.ssh.revocationFile").ok_or("the revocation file cannot be found")?;
        let keygen = home(config.get("gpg.ssh.program").unwrap_or("ssh-keygen"));
        let ask = |words: &[&str], stdin: &[u8]| {
            let mut command = Command::new(&keygen);
            command.arg("-Y").args(words).arg("-f").arg(&signers);
            command.arg("-s").arg(&signature);
            if let Some(revoked) = revoked.as_ref().filter(|_| words[0] == "verify") {
                command.arg("-r").arg(revoked);
            }
            program::run(command, stdin, LOCAL).map_err(|broken| broken.failure(&keygen).what)
        };
        let found = ask(&["find-principals"], b"")?.text();
        for principal in found.lines().filter(|line| !line.is_empty()) {
            if ask(&["verify", "-n", "git", "-I", principal], payload)?.ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
