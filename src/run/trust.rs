//! Whether a record that has to be signed can be.

use crate::config;
use crate::failure::Failure;
use crate::git::{Repo, Signing};
use crate::record::Ledger;

/// A record that will have to be signed can be.
///
/// # Errors
/// Exit 3 with what to configure.
pub fn refuse_unsigned(
    repo: &Repo,
    settings: &config::Settings,
    ledger: Option<&Ledger>,
) -> Result<(), Failure> {
    let records = ledger.map_or(&[][..], Ledger::records);
    // The next record follows the newest.
    let demand = repo.demand_behind(records, records.len())?;
    let wanted = settings.require_signed || repo.trust_by(&demand)?.required;
    match repo.signing()? {
        Signing::Off if wanted => Err(Failure::refused(
            "records must be signed, and tags are not signed here",
        )
        .why("require-signed is set")
        .next("git config tag.gpgSign true; git config gpg.format ssh; git config user.signingKey KEY")),
        _ => Ok(()),
    }
}
