//! Gate 2: evaluate and build the commit, on the builder and nowhere else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Place, preflight};
use crate::config::{Evaluate, Settings};
use crate::failure::{Failure, Reason, Weight};
use crate::git::{Commit, Repo};
use crate::host::facts::{LOGIN, TRUST};
use crate::host::{Address, Login};
use crate::nix::{
    self, BuildError, BuildKind, BuildRequest, FlakeSource, Flakeref, NixVersion, RemoteBuild, Systems,
};

/// What a run builds from.
pub struct Source<'a> {
    pub repo: &'a Repo,
    pub commit: &'a Commit,
    pub settings: &'a Settings,
    /// It is evaluated impurely.
    pub impure: bool,
    pub run: &'a str,
    pub target: &'a str,
}

/// What was built and by whom.
#[derive(Debug, Clone)]
pub struct Built {
    pub drv: String,
    pub toplevel: nix::StorePath,
    pub nix_version: String,
    pub system: String,
    /// What Nix got over on the way, for the record: caches that it passed over.
    pub warnings: Vec<String>,
}

/// Where the builder keeps what a run needs. See [`prepare`].
#[derive(Debug, Clone)]
pub struct Desk {
    /// Its state directory.
    dir: PathBuf,
    nix_version: String,
    system: String,
}

/// One command that prepares a builder: its state directory, and what its Nix is. What runs left whose operator died
/// goes after a day: by then none is at work any more.
const PREPARE: &str = r#"dir=${XDG_STATE_HOME:-$HOME/.local/state}/nixgate
mkdir -p "$dir/roots/$1" || exit 1
find "$dir/roots/$1" "/nix/var/nix/gcroots/nixgate/$1" -maxdepth 1 -name 'run-*' -mtime +0 2>/dev/null |
	while IFS= read -r link; do
		rm -f "$link"
		[ ! -d "$dir/src.git" ] || git -C "$dir/src.git" update-ref -d "refs/nixgate/src/${link##*/run-}"
	done
printf 'dir=%s\n' "$dir"
printf 'machine=%s\n' "$(uname -m)"
for program in nix git; do
	command -v "$program" >/dev/null || printf 'missing=%s\n' "$program"
done
printf 'nix=%s\n' "$(nix --version)"
wait
"#;

/// What takes the commit on a builder: a bare repository in its state directory, made when there is none. Any login shell
/// reads this one word, and git adds a path to it, which nobody needs.
const RECEIVE: &str = r#"sh -c 'PATH=$PATH:/run/current-system/sw/bin:/nix/var/nix/profiles/default/bin:$HOME/.nix-profile/bin:$HOME/.local/state/nix/profile/bin:/usr/local/bin:/usr/bin:/bin; export PATH; dir=$HOME/.local/state/nixgate; [ -e "$dir/src.git/HEAD" ] || { mkdir -p "$dir" && git init -q --bare "$dir/src.git"; } >&2 || exit 1; exec git receive-pack "$dir/src.git"' nixgate"#;

/// The attribute of a host's system in a flake.
pub fn attribute(attr: &str) -> String {
    format!(
        "nixosConfigurations.\"{}\".config.system.build.toplevel",
        attr.replace(['"', '\\', '$'], "")
    )
}

/// The commit as a flake of the repository it is in.
pub fn local_flake(repo: &Repo, commit: &Commit, settings: &Settings) -> Result<Flakeref, Failure> {
    taken_by_nix(repo)?;
    // Where the work tree and `.git` are apart (`git --git-dir … --work-tree …`), only the latter is a repository to Nix.
    let tree = repo.work_tree().filter(|tree| tree.join(".git").exists());
    let path = tree.unwrap_or_else(|| repo.git_dir());
    let submodules = repo.read_file(&commit.id, Path::new(".gitmodules"))?.is_some();
    Ok(nix::flake_url(
        FlakeSource::WorkTree(path),
        &commit.id.to_string(),
        &settings.flake,
        submodules,
    ))
}

/// What is asked of Nix, and where.
fn request<'a>(
    source: &Source<'_>,
    place: Place<'a>,
    flake: &Flakeref,
    out_link: Option<PathBuf>,
) -> (Place<'a>, BuildRequest) {
    let settings = source.settings;
    let remote = matches!(place, Place::Host(_));
    let mut request = BuildRequest {
        flake: flake.clone(),
        attribute: attribute(&settings.attr),
        out_link,
        impure: source.impure,
        // On this machine nix.conf may say 0, and then nothing is built here.
        jobs: settings.builder.jobs.unwrap_or(if remote { 4 } else { 0 }),
        remote: None,
        overrides: Vec::new(),
        deadline: settings.timeouts.build,
    };
    match place {
        Place::Host(session) if settings.builder.evaluate == Evaluate::Operator => {
            request.out_link = None;
            request.remote = Some(RemoteBuild {
                store: session.nix_store_uri(),
                ssh_options: session.nix_ssh_opts(),
            });
            (Place::Here, request)
        }
        _ => (place, request),
    }
}

/// Builds the commit, which [`send`] has sent; `place` is the builder, with its session where it is another host.
///
/// # Errors
/// Exit 1, with Nix's own last lines: evaluation, build, a missing attribute, a builder that cannot be used.
pub async fn build(source: &Source<'_>, place: Place<'_>, desk: &Desk, link: &str) -> Result<Built, Failure> {
    let settings = source.settings;
    let out_link = desk.dir.join("roots").join(source.target).join(link);
    let (at, request) = request(source, place, &flake(source, place, desk)?, Some(out_link));
    let built = match place {
        Place::Here => nix::build(&at, &request).await?,
        Place::Host(_) if request.remote.is_some() => {
            let built = nix::build(&at, &request).await?;
            nix::add_root(&place, source.target, link, (&built.toplevel, None), ROOT).await?;
            built
        }
        Place::Host(session) => {
            match nix::build(&at, &request).await {
                Err(error) if error.kind == BuildKind::Fetch => {
                    // The builder cannot fetch an input: it gets them from here, and the derivation stays the same.
                    let (uri, options) = (session.nix_store_uri(), session.nix_ssh_opts());
                    let local = local_flake(source.repo, source.commit, settings)?;
                    nix::archive_inputs(&Place::Here, &local, &uri, &options, settings.timeouts.copy)
                        .await
                        .map_err(|archive| error.failure.clone().why(archive.what))?;
                    nix::build(&at, &request).await?
                }
                other => other?,
            }
        }
    };
    let expected = built.complaints.into_iter();
    let expected = expected.filter(|complaint| complaint.weight == Weight::Expected);
    Ok(Built {
        drv: built.drv.to_string(),
        toplevel: built.toplevel,
        warnings: expected
            .map(|complaint| format!("passed over while building: {}", complaint.line))
            .collect(),
        nix_version: desk.nix_version.clone(),
        system: desk.system.clone(),
    })
}

/// Whether the builder can build what a target of this kind (`aarch64`, as `uname -m` says) is to run. Nix itself finds
/// out when it comes to the first derivation for another system: after everything before it was fetched and built.
/// Where the builder is such a machine itself, this asks nothing. `Some`, with exit 1: neither its system, nor its extra
/// platforms, nor its own builders are for the target, and the closure is not cross-compiled.
///
/// # Errors
/// It cannot be told: the builder does not answer, or nothing evaluates.
pub async fn suited(
    source: &Source<'_>,
    place: Place<'_>,
    desk: &Desk,
    machine: &str,
    sent: impl AsyncFnOnce() -> Result<(), Failure>,
) -> Result<Option<Failure>, Failure> {
    let wanted = format!("{machine}-linux");
    if machine.is_empty() || desk.system == wanted {
        return Ok(None);
    }
    let systems = nix::systems(&place, Duration::from_secs(30)).await?;
    if systems.builds(&wanted) {
        return Ok(None);
    }
    // A closure may be compiled here for there: then its derivations are for this system.
    sent().await?;
    let (at, request) = request(source, place, &flake(source, place, desk)?, None);
    let evaluated = nix::evaluate(&at, &request).await?;
    let drvs = nix::derivations(&at, &[evaluated.drv], request.deadline).await?;
    let foreign = drvs.first().filter(|drv| !systems.builds(&drv.system));
    Ok(foreign.map(|drv| unsuited(source.target, &drv.system, &wanted, place.name(), &systems)))
}

/// Evaluates the commit, which [`send`] has sent, with some of its flake inputs taken from elsewhere; builds nothing.
///
/// # Errors
/// It does not evaluate like that.
pub async fn evaluate_with(
    source: &Source<'_>,
    place: Place<'_>,
    desk: &Desk,
    overrides: Vec<(String, String)>,
) -> Result<nix::StorePath, BuildError> {
    let (at, mut request) = request(source, place, &flake(source, place, desk)?, None);
    request.overrides = overrides;
    Ok(nix::evaluate(&at, &request).await?.drv)
}

/// The refusal of a builder that builds nothing for `system`; `wanted` is what the target calls itself.
pub fn unsuited(target: &str, system: &str, wanted: &str, builder: &str, systems: &Systems) -> Failure {
    let mut all = vec![systems.system.as_str()];
    all.extend(systems.extra_platforms.iter().map(String::as_str));
    let own = match systems.remote.as_slice() {
        [] => "it has no builders of its own".to_owned(),
        remote => format!("its own builders: for {}", remote.join(", ")),
    };
    Failure::failed(
        Reason::Build,
        format!("{builder} cannot build for {system}, and {target} is {wanted}"),
    )
    .why(format!("{builder} builds for {}; {own}", all.join(", ")))
    .next(format!("[target.{target}.builder] host = \"…\", a machine that is {system}; or \"target\""))
    .next(format!(
        "or on {builder}: nix.buildMachines with one, or boot.binfmt.emulatedSystems = [ \"{system}\" ] (slow)"
    ))
}

/// How long making a root may take.
pub const ROOT: Duration = Duration::from_secs(60);

/// Asks a builder what it is, and has it make room for a run of `target`.
///
/// # Errors
/// Exit 1: Nix or git does not run there.
pub async fn prepare(place: Place<'_>, target: &str) -> Result<Desk, Failure> {
    use crate::nix::Exec as _;
    // Whether its store answers is asked beside the rest.
    let script = format!("{LOGIN}{{\n{TRUST}}} &\n{PREPARE}");
    let argv = ["sh", "-c", &script, "nixgate", target].map(str::to_owned);
    let output = place.exec(&argv, &[], None, Duration::from_secs(30)).await?;
    let text = output.out();
    let missing: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("missing="))
        .collect();
    if !missing.is_empty() {
        return Err(preflight::lacks(place.name(), &missing));
    }
    let login = Login::parse(&text);
    if let Some(failure) = preflight::unanswered(place.name(), &login) {
        return Err(failure);
    }
    if let Place::Host(session) = place
        && let Some(failure) = preflight::noisy(place.name(), &login.user, &session.greeting())
    {
        return Err(failure);
    }
    let one = |key: &str| {
        text.lines()
            .find_map(|l| l.strip_prefix(key)?.strip_prefix('='))
            .unwrap_or_default()
            .to_owned()
    };
    let Some(nix_version) = NixVersion::parse(&one("nix")).filter(|_| output.ok()) else {
        let what = format!("{} cannot build: Nix or git does not run there", place.name());
        return Err(Failure::failed(Reason::Build, what).tail(&output.err(), 6));
    };
    let machine = one("machine");
    Ok(Desk {
        dir: PathBuf::from(one("dir")),
        nix_version: nix_version.to_string(),
        system: format!("{machine}-linux"),
    })
}

/// Sends the commit to a builder of its own that evaluates, by git over the run's own ssh.
///
/// # Errors
/// Exit 1: it cannot be sent; exit 3: Nix does not take this repository.
pub async fn send(source: &Source<'_>, place: Place<'_>) -> Result<(), Failure> {
    let Place::Host(session) = place else {
        return Ok(());
    };
    let Address::Ssh(host) = &session.endpoint().host else {
        return Ok(());
    };
    if source.settings.builder.evaluate == Evaluate::Operator {
        return Ok(());
    }
    taken_by_nix(source.repo)?;
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.clone()
    };
    let url = format!("{host}:nixgate");
    let spec = format!("{}:{}", source.commit.id, source_ref(source.run));
    let limit = source.settings.timeouts.copy;
    source
        .repo
        .send_commit(&url, &session.ssh_command(), RECEIVE, &spec, limit)
        .await
}

/// Whether Nix takes this repository as a flake; asked before any work.
///
/// # Errors
/// Exit 3: its object ids are SHA-256.
pub fn taken_by_nix(repo: &Repo) -> Result<(), Failure> {
    match repo.object_format() {
        crate::git::ObjectFormat::Sha1 => Ok(()),
        crate::git::ObjectFormat::Sha256 => Err(Failure::refused(
            "this repository has SHA-256 object ids, which Nix does not take as a flake",
        )
        .why("its records can be read, published and put on hosts; nothing can be evaluated or built from it")
        .next("keep the flake in a SHA-1 repository: git init --object-format=sha1")),
    }
}

/// The commit as a flake of where it is evaluated.
fn flake(source: &Source<'_>, place: Place<'_>, desk: &Desk) -> Result<Flakeref, Failure> {
    let sent = match place {
        Place::Host(session) => !session.is_local() && source.settings.builder.evaluate == Evaluate::Builder,
        Place::Here => false,
    };
    if !sent {
        return local_flake(source.repo, source.commit, source.settings);
    }
    let submodules = source
        .repo
        .read_file(&source.commit.id, Path::new(".gitmodules"))?
        .is_some();
    Ok(nix::flake_url(
        FlakeSource::Bare {
            repository: &desk.dir.join("src.git"),
            run: source.run,
        },
        &source.commit.id.to_string(),
        &source.settings.flake,
        submodules,
    ))
}

fn source_ref(run: &str) -> String {
    format!("refs/nixgate/src/{run}")
}

/// Ends the build of a run, known by its link: a program on another host does not end with the connection. Best effort.
pub async fn abandon(place: Place<'_>, link: &str) {
    use crate::nix::Exec as _;
    const ABANDON: &str = r#"for process in /proc/[0-9]*; do
	[ -O "$process" ] && [ "${process#/proc/}" != $$ ] || continue
	case $(tr '\0' ' ' 2>/dev/null <"$process/cmdline") in
	*nix\ *build\ *--out-link\ */"$1"\ *) kill -INT "${process#/proc/}" ;;
	esac
done
:"#;
    let argv = ["sh", "-c", ABANDON, "nixgate", link].map(str::to_owned);
    let _ = place.exec(&argv, &[], None, Duration::from_secs(20)).await;
}

/// Drops what a run left on the builder: the commit's ref and the run's own root. Best effort; the next garbage
/// collection there is all that waits for it.
pub async fn tidy(place: Place<'_>, target: &str, run: &str, link: &str) {
    use crate::nix::Exec as _;
    const TIDY: &str = r#"dir=${XDG_STATE_HOME:-$HOME/.local/state}/nixgate
rm -f "$dir/roots/$1/$3" "/nix/var/nix/gcroots/nixgate/$1/$3" 2>/dev/null
[ ! -d "$dir/src.git" ] || git -C "$dir/src.git" update-ref -d "refs/nixgate/src/$2"
:"#;
    let argv = ["sh", "-c", TIDY, "nixgate", target, run, link].map(str::to_owned);
    let _ = place.exec(&argv, &[], None, Duration::from_secs(20)).await;
}
