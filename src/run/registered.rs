//! The bytes that are proven: those which the target has registered for a closure, read there once its copy is whole and
//! before the switch. A store path names what was to be built; a package that does not build reproducibly has other bytes
//! under the same path where somebody else built it.

use super::deliver::Delivery;
use super::{Run, journal};
use crate::failure::{Failure, Reason};
use crate::gate::Place;
use crate::git::Repo;
use crate::nix::{Closure, Comparison, StorePath};
use crate::record::evidence::Registered;
use crate::record::{Choice, Kind, Ledger, OnHost, RecordName, Standing};

/// How many paths a sentence names.
const NAMED: usize = 5;

/// A recorded closure that is to go onto the target again, and what is known of its bytes.
pub(super) struct Recorded<'a> {
    pub ledger: &'a Ledger,
    pub choice: &'a Choice<'a>,
    /// Whether bytes that no record has may be taken.
    pub accepts: bool,
    /// The command that takes them.
    pub accepting: &'a str,
}

impl Recorded<'_> {
    fn standing(&self, closure: &Closure) -> Standing {
        self.ledger.standing(self.choice.toplevel(), &closure.digest())
    }

    /// Judges what the target has, all of it.
    ///
    /// # Errors
    /// Exit 3: what was proven on the target is recorded, and it was something else.
    pub fn refuse_on_target(&self, repo: &Repo, closure: &Closure) -> Result<(), Failure> {
        match self.standing(closure) {
            Standing::Other if !self.accepts => {
                let target = self.ledger.target();
                Err(self
                    .other(repo, target.as_str(), closure)
                    .next(format!("git nixgate store check {target} --contents")))
            }
            _ => Ok(()),
        }
    }

    /// Whether a record has these bytes.
    pub fn knows(&self, closure: &Closure) -> bool {
        !matches!(self.standing(closure), Standing::Other | Standing::Unsaid)
    }

    /// Judges what `place` has and the target lacks.
    ///
    /// # Errors
    /// Exit 3: no record has it, neither as built nor as proven.
    pub fn refuse_elsewhere(&self, repo: &Repo, place: &str, closure: &Closure) -> Result<(), Failure> {
        match self.knows(closure) || self.accepts {
            true => Ok(()),
            false => Err(self.other(repo, place, closure)),
        }
    }

    fn other(&self, repo: &Repo, place: &str, closure: &Closure) -> Failure {
        let restores = &self.choice.restores;
        let mut failure = Failure::refused(format!(
            "{place} has another build of {restores} than is recorded"
        ));
        failure.reason = Reason::Store;
        if let Some(paths) = self.unlike(repo, closure) {
            failure.why.push(format!("other bytes: {paths}"));
        }
        let recorded = &self.choice.source.evidence.closure_digest;
        failure
            .why(format!("recorded digest {recorded}"))
            .why(format!("found          {}", closure.digest()))
            .next(format!(
                "{}    # take it as it is: the gates prove it again, and the new record names its bytes",
                self.accepting
            ))
    }

    fn unlike(&self, repo: &Repo, closure: &Closure) -> Option<String> {
        unlike(repo, &self.choice.source.name, closure)
    }

    /// What has to be said of bytes that are taken although no record proves them.
    fn warning(&self, repo: &Repo, closure: &Closure) -> Option<String> {
        let (target, restores) = (self.ledger.target(), &self.choice.restores);
        let of = || {
            let paths = self.unlike(repo, closure);
            paths.map_or(String::new(), |paths| format!(" of {paths}"))
        };
        match self.standing(closure) {
            Standing::Proven | Standing::Unrecorded => None,
            Standing::Built => Some(format!(
                "{target} has {restores} as it was built, with other bytes{} than were proven there",
                of()
            )),
            Standing::Unsaid => Some(format!(
                "{restores} records what the builder had, and {target} has other bytes{}; its paths are valid there",
                of()
            )),
            Standing::Other => Some(format!(
                "{target} has other bytes{} of {restores} than any record, accepted by --accept-other-build",
                of()
            )),
        }
    }
}

/// Takes what the target has registered, `there`, into the evidence and the journal, and says where it is not what was
/// copied or recorded.
///
/// # Errors
/// As [`Recorded::refuse_on_target`].
pub(super) fn keep(run: &mut Run<'_>, delivery: &Delivery<'_>, there: &Closure) -> Result<(), Failure> {
    let repo = run.world.repo;
    let (restoring, evidence) = (delivery.recorded.as_ref(), &mut run.evidence);
    let own = registered(there);
    // A record of a release that goes on again names that release's digests: its chain is held against them.
    if !matches!(delivery.restores, Some(OnHost::Release(_))) {
        evidence.nar_hash = own.nar_hash.clone();
        evidence.closure_digest = own.closure_digest.clone();
    }
    evidence.paths = there.count() as u64;
    evidence.bytes = there.bytes();
    let source = delivery.closure;
    if let (Some(place), true) = (delivery.supply, source.digest() != own.closure_digest) {
        evidence.on_builder = Some(registered(source));
        let (target, paths) = (&run.target, named(&there.other_builds(source)));
        let place = match place {
            Place::Here => "this machine",
            Place::Host(_) => "the builder",
        };
        run.log.warn(format!(
            "{target} has another build than {place} of {paths}: the one on {target} is what is proven"
        ));
        if delivery.kind == Kind::Release {
            run.attach(journal::CLOSURE, there.list().into_bytes());
        }
    }
    run.evidence.on_target = Some(own);
    if let Some(recorded) = restoring {
        recorded.refuse_on_target(repo, there)?;
        if let Some(text) = recorded.warning(repo, there) {
            run.log.warn(text);
        }
    }
    Ok(())
}

/// Holds a closure that something keeps on the target, `record` or a root by its name, against the records.
pub(super) fn compare(repo: &Repo, ledger: &Ledger, keeper: &str, closure: &Closure) -> Comparison {
    let (target, toplevel) = (ledger.target(), closure.toplevel.as_str());
    let record = match keeper.strip_prefix(&format!("{target}/")) {
        Some(leaf) => RecordName::from_leaf(target, leaf)
            .ok()
            .and_then(|name| ledger.get(&name)),
        None if keeper == "record" => Some(ledger.head()),
        None => None,
    };
    let Some(record) = record.filter(|record| record.evidence.toplevel == toplevel) else {
        return Comparison::Same;
    };
    let of = || {
        let release = match &record.restores {
            Some(OnHost::Release(name)) => name,
            _ => &record.name,
        };
        let paths = unlike(repo, release, closure);
        paths.map_or(String::new(), |paths| format!(" of {paths}"))
    };
    match ledger.standing(toplevel, &closure.digest()) {
        Standing::Proven | Standing::Unrecorded => Comparison::Same,
        Standing::Built => Comparison::Noted(format!(
            "registered is the build{} that was made for it, not the one that was proven on {target}",
            of()
        )),
        Standing::Unsaid => Comparison::Noted(format!(
            "its record has the builder's digest, and {target} has another build{}",
            of()
        )),
        Standing::Other => {
            let evidence = &record.evidence;
            let there = evidence.on_target.as_ref();
            Comparison::Unlike(format!(
                "the closure registered is not the one recorded: other bytes{} (digest {}, recorded {})",
                of(),
                closure.digest(),
                there.map_or(&evidence.closure_digest, |there| &there.closure_digest)
            ))
        }
    }
}

/// The paths of which `closure` has other bytes than the journal of the run that made `record`, where that is here.
fn unlike(repo: &Repo, record: &RecordName, closure: &Closure) -> Option<String> {
    let recorded = journal::closure_of(repo, record, &closure.toplevel)?;
    let paths = closure.other_builds(&recorded);
    (!paths.is_empty()).then(|| named(&paths))
}

fn registered(closure: &Closure) -> Registered {
    Registered {
        nar_hash: format!("sha256:{}", closure.toplevel_hash()),
        closure_digest: closure.digest(),
    }
}

/// `2 paths (A, B)`, no more than a few of them by name.
fn named(paths: &[&StorePath]) -> String {
    let mut names: Vec<String> = paths.iter().take(NAMED).map(ToString::to_string).collect();
    if paths.len() > NAMED {
        names.push(format!("{} more", paths.len() - NAMED));
    }
    let count = match paths.len() {
        1 => "1 path".to_owned(),
        n => format!("{n} paths"),
    };
    format!("{count} ({})", names.join(", "))
}
