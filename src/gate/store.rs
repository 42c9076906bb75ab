//! Paths for a store that lacks them although its database says otherwise: which store has them, and the way there.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{As, Place};
use crate::config::{CopyPath, Settings};
use crate::failure::Failure;
use crate::host::{Privilege, Session};
use crate::nix::{self, CopyRequest, Examined, StorePath};

/// The builder's own ssh, with its own keys; nothing of this machine's is lent to it.
const BUILDERS_OWN: &str = "-T -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=3 \
                            -o ServerAliveInterval=5";
/// How long a question to a store may take.
const ASK: Duration = Duration::from_secs(60);

/// What one source could give.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// Repaired, byte for byte what was registered.
    pub repaired: Vec<StorePath>,
    /// The source has another build of these.
    pub other_builds: Vec<StorePath>,
}

/// Repairs from `source` what it has with the very hash that the target's database has registered.
///
/// # Errors
/// The source cannot be asked, the bytes did not get through, or the target could not take them.
pub async fn repair_from(
    source: Place<'_>,
    target: &Session,
    settings: &Settings,
    examined: &Examined,
    wanted: &[StorePath],
) -> Result<Given, Failure> {
    let mut given = Given::default();
    let mut same = Vec::new();
    for entry in nix::have(&source, wanted, ASK).await? {
        match examined.entries.get(&entry.path) {
            Some(registered) if registered.nar_hash != entry.nar_hash => given.other_builds.push(entry.path),
            _ => same.push(entry.path),
        }
    }
    if same.is_empty() {
        return Ok(given);
    }
    let known = nix::seedable(&examined.entries, &same.iter().cloned().collect::<BTreeSet<_>>());
    let folder = nix::seed(&As(Privilege::User, target), &known, ASK).await?;
    let root = As(Privilege::Root, target);
    let repaired = async {
        let to = match target.is_local() {
            true => folder.clone(),
            false => format!("{}?remote-store={folder}", target.nix_store_uri()),
        };
        send(settings, source, target, &to, &same).await?;
        nix::repair_paths(&root, &same, Some(&folder), settings.timeouts.copy).await
    }
    .await;
    // Left behind it only takes room; the reason why the repair failed is worth more.
    let dropped = nix::drop_seed(&root, &folder, ASK).await;
    let (failed, _) = repaired?;
    dropped?;
    same.retain(|path| !failed.contains(path));
    given.repaired = same;
    Ok(given)
}

/// Copies those of `paths` that `source` has into the target's own store, whose database does not call them valid; says
/// which.
///
/// # Errors
/// The source cannot be asked, or they did not get through.
pub async fn send_missing(
    source: Place<'_>,
    target: &Session,
    settings: &Settings,
    paths: &[StorePath],
) -> Result<Vec<StorePath>, Failure> {
    let has = nix::have(&source, paths, ASK).await?;
    let sent: Vec<StorePath> = has.into_iter().map(|entry| entry.path).collect();
    if !sent.is_empty() {
        send(settings, source, target, &target.nix_store_uri(), &sent).await?;
    }
    Ok(sent)
}

/// From `source` to the store `to` on the target: straight from a builder that gets through, else through this machine.
async fn send(
    settings: &Settings,
    source: Place<'_>,
    target: &Session,
    to: &str,
    paths: &[StorePath],
) -> Result<(), Failure> {
    let request = |from: Option<String>, ssh_options: String| CopyRequest {
        from,
        to: Some(to.to_owned()),
        paths: paths.to_vec(),
        ssh_options,
        host_keys: Vec::new(),
        no_check_signatures: true,
        substitute_on_destination: false,
        deadline: settings.timeouts.copy,
    };
    let Place::Host(builder) = source else {
        let options = if target.is_local() {
            String::new()
        } else {
            target.nix_ssh_opts()
        };
        return Ok(nix::copy(&Place::Here, &request(None, options)).await?);
    };
    if settings.builder.copy != CopyPath::Relay && !target.is_local() {
        match nix::copy(&source, &request(None, BUILDERS_OWN.to_owned())).await {
            Ok(()) => return Ok(()),
            Err(error) if settings.builder.copy == CopyPath::Auto && error.kind.is_the_way() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let options = target
        .nix_ssh_opts_between(builder)
        .map_err(anyhow::Error::from)?;
    Ok(nix::copy(&Place::Here, &request(Some(builder.nix_store_uri()), options)).await?)
}
