//! Step 4: the closure goes to the target, only what is missing, while the supervisor holds it.

use std::convert::Infallible;
use std::future::Future;
use std::time::{Duration, Instant};

use super::pressure::Demand;
use super::{Place, switch_test};
use crate::config::{CopyPath, Settings};
use crate::event::{Event, Watcher};
use crate::failure::{Failure, Reason, Weight};
use crate::host::state::Phase;
use crate::host::supervisor::{Held, SupervisorError};
use crate::host::{Endpoint, HostError, Privilege, RunDir, Session, trouble};
use crate::nix::{self, Closure, CopyError, CopyKind, CopyRequest, StorePath};

/// How long the target may take to say what it has.
const ASK: Duration = Duration::from_secs(60);

/// What the target lacks of a closure. What earlier copies whose link was cut left there is ended on the way: daemons
/// that hold the locks of their paths for ever.
///
/// # Errors
/// Its store cannot be asked.
pub async fn demand(target: &Session, closure: &Closure) -> Result<Demand, Failure> {
    let paths: Vec<StorePath> = closure.paths().cloned().collect();
    // A copy skips what is only believed to be there; the rehearsal names it.
    let there = nix::room_before_copy(&Place::Host(target), &paths, ASK).await?;
    let missing = nix::missing(closure, &there);
    Ok(Demand {
        paths: missing.paths.len(),
        bytes: missing.bytes,
    })
}

/// Before each further try of a copy whose trouble mostly passes by itself: a dropped link, 429, 5xx.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// Copies `toplevel` with its closure from where it was built to the target. What passes by itself is waited for and
/// tried again, twice; each try sends only the rest.
///
/// # Errors
/// Exit 1; what arrived stays there, so that the next run sends only the rest.
pub async fn copy(
    watcher: &dyn Watcher,
    settings: &Settings,
    builder: Place<'_>,
    target: &Session,
    toplevel: &StorePath,
) -> Result<&'static str, Failure> {
    tokio::select! {
        done = tries(watcher, settings, builder, target, toplevel) => done,
        never = clear(watcher, target) => match never {},
    }
}

/// How long a copy goes on before what earlier ones left is looked for again, and how often after that.
const CLEAR: Duration = Duration::from_secs(5);
const CLEAR_AGAIN: Duration = Duration::from_secs(15);

/// Ends what an earlier copy left on the target while this one goes on: its connection may have been cut long ago, and the
/// host notice only now. Until then it looks alive, and from then on the path that it had begun is locked for ever.
async fn clear(watcher: &dyn Watcher, target: &Session) -> Infallible {
    tokio::time::sleep(CLEAR).await;
    loop {
        let ended = nix::end_orphaned_copies(&Place::Host(target), ASK).await;
        if let Ok(1..) = ended {
            let text = format!("ended what an earlier copy to {} left there", target.name());
            watcher.see(&Event::Note { text });
        }
        tokio::time::sleep(CLEAR_AGAIN).await;
    }
}

async fn tries(
    watcher: &dyn Watcher,
    settings: &Settings,
    builder: Place<'_>,
    target: &Session,
    toplevel: &StorePath,
) -> Result<&'static str, Failure> {
    let began = Instant::now();
    for pause in PAUSES {
        match once(watcher, settings, builder, target, toplevel).await {
            Err(error) if error.weight == Weight::Passing => {
                let text = format!("{}: trying again in {} s", error.failure.what, pause.as_secs());
                watcher.see(&Event::Note { text });
                tokio::time::sleep(pause).await;
            }
            Ok(from) => return Ok(from),
            Err(error) => return Err(or_memory(error, builder, target, began.elapsed()).await.failure),
        }
    }
    match once(watcher, settings, builder, target, toplevel).await {
        Ok(from) => Ok(from),
        Err(error) => {
            let error = or_memory(error, builder, target, began.elapsed()).await;
            let tries = PAUSES.len() + 1;
            Err(error.failure.why(format!("tried {tries} times")))
        }
    }
}

/// How long a host may take to show its kernel's log.
const LOG: Duration = Duration::from_secs(4);

/// A copy that ended in the middle for no reason of its own may have been killed for want of memory, here or at its other
/// end: only the kernels know.
async fn or_memory(mut error: CopyError, builder: Place<'_>, target: &Session, ago: Duration) -> CopyError {
    if !error.kind.is_the_way() {
        return error;
    }
    let at_builder = async {
        match builder {
            // Nobody's password is asked for to explain a failure.
            Place::Host(session) => heard(trouble::killed(session, Privilege::User, ago, LOG)).await,
            Place::Here => Vec::new(),
        }
    };
    let here = async {
        let dir = RunDir::new().ok()?;
        let session = Session::open(&Endpoint::local(Place::Here.name()), &dir)
            .await
            .ok()?;
        Some(heard(trouble::killed(&session, Privilege::User, ago, LOG)).await)
    };
    let at_target = heard(trouble::killed(target, Privilege::RootIfPossible, ago, LOG));
    let (at_builder, here, at_target) = tokio::join!(at_builder, here, at_target);
    for (name, lines) in [
        (builder.name(), at_builder),
        (Place::Here.name(), here.unwrap_or_default()),
        (target.name(), at_target),
    ] {
        // Nix on either side, or the ssh between them.
        let ours = |line: &&String| ["(nix", "(ssh"].iter().any(|comm| line.contains(comm));
        for line in lines.iter().filter(ours) {
            error.failure.reason = Reason::Oom;
            error.failure.why.push(format!("{name}, kernel: {line}"));
        }
    }
    error
}

async fn once(
    watcher: &dyn Watcher,
    settings: &Settings,
    builder: Place<'_>,
    target: &Session,
    toplevel: &StorePath,
) -> Result<&'static str, CopyError> {
    let request = |from: Option<String>, to: String, ssh_options: String| CopyRequest {
        from,
        to: Some(to),
        paths: vec![toplevel.clone()],
        ssh_options,
        host_keys: Vec::new(),
        no_check_signatures: true,
        substitute_on_destination: false,
        deadline: settings.timeouts.copy,
    };
    let uri = target.nix_store_uri();
    match builder {
        Place::Here if target.is_local() => Ok("already here"),
        Place::Here => {
            nix::copy(&Place::Here, &request(None, uri, target.nix_ssh_opts())).await?;
            Ok("from this machine")
        }
        Place::Host(session) if std::ptr::eq(session, target) => Ok("built there"),
        Place::Host(session) => {
            // To this machine, and to what a name of this machine's own leads to, the builder has no way: its `auto` and
            // its localhost would be itself.
            let near = target.is_local() || target.is_loopback();
            if settings.builder.copy != CopyPath::Relay && !near {
                // By the target's name the builder may know another host.
                let direct = CopyRequest {
                    host_keys: target.host_keys().await,
                    ..request(None, uri.clone(), options_there(target))
                };
                let error = match nix::copy(&builder, &direct).await {
                    Err(error) => error,
                    Ok(()) if !direct.host_keys.is_empty() || arrived(target, toplevel).await => {
                        return Ok("from the builder");
                    }
                    Ok(()) => elsewhere(session, target),
                };
                nix::end_failed_copy(&builder, &Place::Host(target), ASK).await;
                // Whether the builder gets through to the target shows when it tries; what arrived stays there.
                if settings.builder.copy != CopyPath::Auto || !error.kind.is_the_way() {
                    return Err(error);
                }
                if error.kind == CopyKind::OtherHost {
                    let text = format!("{}: copying through this machine", error.failure.what);
                    watcher.see(&Event::Note { text });
                }
            }
            let from = session.nix_store_uri();
            let to = if target.is_local() { "auto".to_owned() } else { uri };
            let options = target.nix_ssh_opts_between(session).map_err(|error| CopyError {
                kind: CopyKind::Other,
                weight: Weight::Failed,
                failure: error.into(),
            })?;
            nix::copy(&Place::Here, &request(Some(from), to, options)).await?;
            Ok("from the builder through this machine")
        }
    }
}

/// The builder's own ssh, with its own keys; nothing of this machine's is lent to it. On another port there may be another
/// host.
fn options_there(target: &Session) -> String {
    let own = &target.endpoint().ssh_options;
    let mut options = "-T -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=3 \
                       -o ServerAliveInterval=5"
        .to_owned();
    if let Some(port) = own.iter().find(|option| option.starts_with("Port=")) {
        options += &format!(" -o {port}");
    }
    options
}

/// Whether the target's store has the toplevel.
async fn arrived(target: &Session, toplevel: &StorePath) -> bool {
    let asked = nix::room_before_copy(&Place::Host(target), std::slice::from_ref(toplevel), ASK).await;
    asked.is_ok_and(|there| there.contains(toplevel))
}

/// The copy went well, and not to the target.
fn elsewhere(builder: &Session, target: &Session) -> CopyError {
    let (builder, target) = (builder.name(), target.name());
    let what = format!("the copy reached another store: {builder} knows another host as {target}");
    CopyError {
        kind: CopyKind::OtherHost,
        weight: Weight::Failed,
        failure: Failure::failed(Reason::Copy, what)
            .next("[builder] copy = \"relay\": through this machine".to_owned()),
    }
}

/// A connection that is gone may take longer to say so than the host may take to answer.
async fn heard(asking: impl Future<Output = Result<Vec<String>, HostError>>) -> Vec<String> {
    let heard = tokio::time::timeout(LOG, asking).await;
    heard.ok().and_then(Result::ok).unwrap_or_default()
}

/// Does `work` while the lease of a held target is renewed, and ends it when the target has been let go: by silence, or
/// because somebody wanted that.
///
/// # Errors
/// Exit 1: the target was let go, by whom, and why.
pub async fn while_held<T>(
    held: &Held,
    session: &Session,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    let beat = (held.lease / 3).max(Duration::from_secs(1));
    let watch = async {
        loop {
            tokio::time::sleep(beat).await;
            match held.keep(&mut &*session).await {
                // One that has let go answers nobody any more: its state is its last word.
                Err(SupervisorError::Refused { state, .. } | SupervisorError::Silent { state })
                    if state.phase == Phase::Released =>
                {
                    let why = state.reasons.last().map_or("the lease ran out", String::as_str);
                    return switch_test::let_go(&held.target, why);
                }
                Err(SupervisorError::Gone) => {
                    let why = switch_test::taken(held, session).await;
                    let why = why
                        .as_deref()
                        .unwrap_or("its supervisor is gone; did the host reboot?");
                    return switch_test::let_go(&held.target, why);
                }
                // A renewal that fails shows in the next step, or in the next renewal.
                _ => {}
            }
        }
    };
    tokio::select! {
        done = work => Ok(done),
        lost = watch => Err(lost),
    }
}

/// Does `work` to its end while the lease of a held target is renewed.
pub async fn keeping<T>(held: &Held, session: &Session, work: impl Future<Output = T>) -> T {
    let beat = (held.lease / 3).max(Duration::from_secs(1));
    let renew = async {
        loop {
            tokio::time::sleep(beat).await;
            // A renewal that fails shows in the next step: the supervisor has let go by then.
            let _ = held.keep(&mut &*session).await;
        }
    };
    tokio::select! {
        done = work => done,
        never = renew => never,
    }
}
