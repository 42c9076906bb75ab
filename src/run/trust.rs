//! Whether the records that a run goes by are signed by whom they have to be.

use crate::config;
use crate::failure::Failure;
use crate::git::{Repo, Signing, Trust};
use crate::record::{Defect, Ledger, Record, Target};

/// What is asked of signatures: by git's configuration here, and by the file of the commit of `before`, the record before
/// the newest. What a commit says of trust counts from the record after it, so that none can speak for itself.
///
/// # Errors
/// A signers file that cannot be used (exit 2).
pub fn of(repo: &Repo, target: &Target, before: Option<&Record>) -> Result<Trust, Failure> {
    let asked = before.and_then(|record| {
        let bytes = repo.read_file(&record.commit, config::FILE.as_ref()).ok()??;
        let (config, _) = config::parse_leniently(&String::from_utf8_lossy(&bytes));
        config.targets.get(target).cloned()
    });
    let (required, signers) = asked.map_or((false, String::new()), |s| (s.require_signed, s.signers));
    repo.trust(required, &signers)
}

fn before(ledger: &Ledger) -> Option<&Record> {
    ledger.records().iter().rev().nth(1)
}

/// The newest record must count, and the one whose closure is wanted. That one may be older than the demand for
/// signatures: the newest record's covers every byte before it.
///
/// # Errors
/// Exit 3: unsigned although signatures are required, signed by nobody who may, or about another tree than its commit's.
pub fn refuse_untrusted(repo: &Repo, ledger: &Ledger, source: &Record) -> Result<(), Failure> {
    let trust = of(repo, ledger.target(), before(ledger))?;
    let head = ledger.head();
    let other = (source.oid != head.oid).then(|| (source, trust.covered()));
    for (record, trust) in std::iter::once((head, trust)).chain(other) {
        refuse_false(repo, record)?;
        repo.signed(record, &trust)
            .map_err(|defect| untrusted(record, &defect))?;
    }
    Ok(())
}

/// What a record says of its commit must be so, where the commit is here: this needs neither host nor key.
///
/// # Errors
/// Exit 3: it names another tree than its commit's.
pub fn refuse_false(repo: &Repo, record: &Record) -> Result<(), Failure> {
    repo.on_its_tree(record)
        .map_err(|defect| untrusted(record, &defect))
}

fn untrusted(record: &Record, defect: &Defect) -> Failure {
    Failure::refused(format!("{} is not to be trusted", record.name))
        .why(defect.to_string())
        .next(format!("git nixgate verify {}", record.target()))
}

/// A record that will have to be signed can be.
///
/// # Errors
/// Exit 3 with what to configure.
pub fn refuse_unsigned(
    repo: &Repo,
    settings: &config::Settings,
    ledger: Option<&Ledger>,
) -> Result<(), Failure> {
    let wanted = settings.require_signed
        || match ledger {
            // The next record follows the newest.
            Some(ledger) => of(repo, ledger.target(), Some(ledger.head()))?.required,
            None => repo.trust(false, "")?.required,
        };
    match repo.signing()? {
        Signing::Off if wanted => Err(Failure::refused(
            "records must be signed, and tags are not signed here",
        )
        .why("require-signed is set")
        .next("git config tag.gpgSign true; git config gpg.format ssh; git config user.signingKey KEY")),
        _ => Ok(()),
    }
}
