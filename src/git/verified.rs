//! What was verified before, so that it is not read again: a file for each target in the repository's own directory. A
//! chain is known by the id of its newest record's tag object, which covers every byte of all of them; what may change
//! beside it, the refs, is looked at each time.

use std::path::PathBuf;

use super::released::Demand;
use super::repo::Repo;
use super::trust::Trust;
use crate::record::{Kind, Ledger, Oid, RecordName, Signature, Target, parse, sha256_hex};

/// A chain that held, as far as `verify` has to know it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Oldest first.
    pub records: Vec<Link>,
    /// What its records put on the host, as a ledger says it.
    pub on_host: String,
    /// What its records ask of the newest one.
    pub demand: Demand,
}

/// One record of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub oid: Oid,
    pub name: RecordName,
    /// Of a release: its commit.
    pub released: Option<Oid>,
    /// What its signature said.
    pub signed: String,
}

impl Verified {
    /// Of a ledger that holds; `signed` says of each record, oldest first, what its signature said.
    pub fn of(ledger: &Ledger, signed: &[String], demand: Demand) -> Verified {
        let links = ledger.records().iter().zip(signed).map(|(record, signed)| Link {
            oid: record.oid,
            name: record.name.clone(),
            released: (record.kind == Kind::Release).then_some(record.commit),
            signed: signed.clone(),
        });
        Verified {
            records: links.collect(),
            on_host: ledger.on_host().to_string(),
            demand,
        }
    }

    fn to_text(&self, seal: &str) -> String {
        let Demand { required, signers } = &self.demand;
        let mut text = format!("{seal}\n{}\nsigned {required} {signers}\n", self.on_host);
        for link in &self.records {
            let released = link
                .released
                .map_or_else(|| "-".to_owned(), |oid| oid.to_string());
            text.push_str(&format!(
                "{} {} {released} {}\n",
                link.oid,
                link.name.leaf(),
                link.signed
            ));
        }
        text
    }

    /// With the seal that it was kept under.
    fn parse<'a>(text: &'a str, target: &Target) -> Option<(&'a str, Verified)> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let seal = lines.next()?;
        let on_host = lines.next()?.to_owned();
        let (required, signers) = lines.next()?.strip_prefix("signed ")?.split_once(' ')?;
        let demand = Demand {
            required: required.parse().ok()?,
            signers: signers.to_owned(),
        };
        let link = |line: &str| {
            let mut words = line.splitn(4, ' ');
            let (oid, leaf, released) = (words.next()?, words.next()?, words.next()?);
            Some(Link {
                oid: parse::oid(oid)?,
                name: RecordName::from_leaf(target, leaf).ok()?,
                released: match released {
                    "-" => None,
                    hex => Some(parse::oid(hex)?),
                },
                signed: words.next()?.to_owned(),
            })
        };
        let records: Option<Vec<Link>> = lines.map(link).collect();
        let records = records.filter(|records| !records.is_empty())?;
        let verified = Verified {
            records,
            on_host,
            demand,
        };
        Some((seal, verified))
    }
}

impl Repo {
    /// The chain that ends at `head`, if it was found to hold under the same demands, by this version.
    pub fn verified(&self, target: &Target, head: &Oid) -> Option<Verified> {
        let text = std::fs::read_to_string(self.verified_path(target)).ok()?;
        let (seal, found) = Verified::parse(&text, target)?;
        let trust = self.trust_by(&found.demand).ok()?;
        (found.records.last()?.oid == *head && seal == self.seal(head, &trust)?).then_some(found)
    }

    /// Keeps what was found to hold. Best effort: without it the chain is read again.
    #[expect(clippy::disallowed_methods, reason = "cache: replaced whole, made again")]
    pub fn set_verified(&self, ledger: &Ledger, verified: &Verified, trust: &Trust) {
        // A keyring may change without a trace here.
        if verified.demand.signers.contains('\n') {
            return;
        }
        let by_keyring = |signature| !matches!(signature, Signature::None | Signature::Ssh);
        if ledger.records().iter().any(|record| by_keyring(record.signature)) {
            return;
        }
        let Some(seal) = self.seal(&ledger.head().oid, trust) else {
            return;
        };
        let path = self.verified_path(ledger.target());
        let written = path.parent().map(|dir| {
            std::fs::create_dir_all(dir)?;
            let file = tempfile::NamedTempFile::new_in(dir)?;
            std::fs::write(file.path(), verified.to_text(&seal))?;
            file.persist(&path).map_err(|error| error.error)
        });
        drop(written);
    }

    fn verified_path(&self, target: &Target) -> PathBuf {
        self.common_dir().join("nixgate/verified").join(target.as_str())
    }

    /// The digest of a file that git's configuration names, found where git finds it. Inside: none is named. One that
    /// cannot be read is none that a finding may rest on.
    fn named_file(&self, key: &str) -> Option<Option<String>> {
        let config = self.config().ok()?;
        let Some(named) = config.get(key) else {
            return Some(None);
        };
        let path = self.named_path(key, named)?;
        Some(Some(sha256_hex(&std::fs::read(path).ok()?)))
    }

    /// What a finding is good for: this version, this chain, these demands.
    fn seal(&self, head: &Oid, trust: &Trust) -> Option<String> {
        let signers = self.named_file("gpg.ssh.allowedSignersFile")?;
        let revoked = self.named_file("gpg.ssh.revocationFile")?;
        let known = format!("{trust:?} {signers:?} {revoked:?}");
        Some(format!(
            "{} {head} {}",
            env!("CARGO_PKG_VERSION"),
            sha256_hex(known.as_bytes())
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_verified_reads_back_and_nothing_else_does() {
        let target: Target = "cortex".parse().expect("a target");
        let oid = |c: &str| Oid::from_hex(c.repeat(40).as_bytes()).expect("an id");
        let link = |c: &str, released| Link {
            oid: oid(c),
            name: RecordName::from_leaf(&target, "20261120T031402Z-0123456789ab").expect("a name"),
            released,
            signed: "signed by Ada <a@b> with a key".into(),
        };
        let verified = Verified {
            records: vec![link("1", Some(oid("3"))), link("2", None)],
            on_host: "before-first".into(),
            demand: Demand {
                required: true,
                signers: "/etc/nixgate/who may".into(),
            },
        };
        let text = verified.to_text("seal");
        assert_eq!(Verified::parse(&text, &target), Some(("seal", verified)));
        // Half of a file is no file.
        for cut in 0..text.len() {
            let found = Verified::parse(&text[..cut], &target);
            assert!(found.is_none_or(|(_, found)| found.records.len() == 1), "{cut}");
        }
    }
}
