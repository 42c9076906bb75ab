//! Asking a remote what it has, and fetching a target's records from it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::time::Duration;

use super::ledger::{Relation, tracking_ref};
use super::program::{Broken, Output};
use super::repo::Repo;
use super::said;
use crate::failure::{Failure, Reason, Weight};
use crate::record::{Oid, RecordName, Target, parse, rules};

/// A target's refs on a remote, as one connection saw them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteRefs {
    /// `refs/heads/release/<target>`.
    pub pointer: Option<Oid>,
    /// `refs/nixgate/ledger/<target>`.
    pub ledger: Option<Oid>,
    /// The target's record tags.
    pub records: BTreeMap<RecordName, Oid>,
    /// Refs that stand where the target's refs have to go: a branch `release`, a branch below the pointer.
    pub blocking: Vec<String>,
    /// Tags beside its records that are none. They are in nobody's way.
    pub strange: Vec<String>,
}

/// What a fetch found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub refs: RemoteRefs,
    pub relation: Relation,
}

/// A failure to reach the remote, or to be let in.
pub(super) fn unreachable(remote: &str, lines: Vec<String>) -> Failure {
    let (weight, reason) = said::judge(&lines.join("\n"));
    let mut failure = Failure::failed(reason, format!("the remote {remote} cannot be reached"));
    failure.why = lines;
    if weight == Weight::Passing {
        failure
            .next
            .push("run it again: this mostly passes by itself".to_owned());
    }
    failure.next(format!("git ls-remote {remote}"))
}

impl Repo {
    /// Whether the repository has any remote at all.
    pub fn has_remotes(&self) -> Result<bool, Failure> {
        Ok(self.config()?.has_remotes())
    }

    /// The one URL that pushes to this remote go to; a failure if there are several: half a release published is none.
    pub fn push_url(&self, remote: &str) -> Result<String, Failure> {
        if remote.is_empty() || remote.starts_with('-') {
            return Err(Failure::config(format!("{remote:?} is no name of a remote")));
        }
        let mut known = self
            .push_urls
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(url) = known.get(remote) {
            return Ok(url.clone());
        }
        if let Some(url) = self.config()?.plain_url(remote) {
            known.insert(remote.to_owned(), url.to_owned());
            return Ok(url.to_owned());
        }
        let what = format!("there is no remote {remote}");
        let args = ["remote", "get-url", "--push", "--all", remote];
        let output = self.program.run(&args, b"").map_err(|b| b.failure(&what))?;
        if !output.ok() {
            return Err(Failure {
                why: output.lines(),
                ..Failure::config(what)
            }
            .next(format!("git remote add {remote} URL"))
            .next("remote = \"\" in .nixgate.toml, to never push"));
        }
        let text = output.text();
        match text.lines().collect::<Vec<_>>()[..] {
            [url] => {
                known.insert(remote.to_owned(), url.to_owned());
                Ok(url.to_owned())
            }
            _ => Err(Failure::config(format!("{remote} pushes to several URLs"))
                .why("a release is published to one place, in one atomic push")
                .next("name a remote with one push URL as remote in .nixgate.toml")),
        }
    }

    /// What reading asks: the place that pushes go to.
    fn read_place(&self, remote: &str) -> Result<String, Failure> {
        let push = self.push_url(remote)?;
        if self.config()?.plain_url(remote).is_some() {
            return Ok(remote.to_owned());
        }
        let fetch = self.program.need(
            &format!("there is no remote {remote}"),
            &["remote", "get-url", remote],
            b"",
        )?;
        Ok(if fetch.text().trim_end() == push {
            remote.to_owned()
        } else {
            push
        })
    }

    pub(super) async fn talk(&self, remote: &str, args: &[&str], limit: Duration) -> Result<Output, Failure> {
        match self.program.talk(args, None, limit).await {
            Ok(output) => Ok(output),
            Err(Broken::Late(after)) => {
                let line = format!("no answer within {} s", after.as_secs());
                Err(Failure {
                    reason: Reason::Timeout,
                    ..unreachable(remote, vec![line])
                })
            }
            Err(broken) => Err(broken.failure(&format!("the remote {remote} cannot be asked"))),
        }
    }

    /// The target's refs on the remote, in one connection.
    pub async fn remote_state(&self, remote: &str, target: &Target) -> Result<RemoteRefs, Failure> {
        let place = self.read_place(remote)?;
        let (pointer, ledger) = (rules::pointer_ref(target), rules::ledger_ref(target));
        let (below, beneath) = (format!("{pointer}/*"), format!("{ledger}/*"));
        let tags = format!("refs/tags/release/{target}/*");
        let bare = super::refs::bare(target);
        let mut args = vec!["ls-remote", "--refs", "--quiet", &place];
        args.extend(bare.iter().map(String::as_str));
        args.extend([&pointer, &below, &tags, &ledger, &beneath].map(String::as_str));
        let output = self.talk(remote, &args, self.network).await?;
        if !output.ok() {
            return Err(unreachable(remote, output.lines()));
        }
        Ok(read_refs(&output.text(), target))
    }

    /// The target's record tags at a URL; `None`: it does not say.
    pub(super) fn tags_at(&self, url: &OsStr, target: &Target) -> Option<BTreeMap<RecordName, Oid>> {
        let tags = format!("refs/tags/release/{target}/*");
        let words = ["ls-remote", "--refs", "--quiet", "--"].map(OsStr::new);
        let args: Vec<&OsStr> = words.into_iter().chain([url, OsStr::new(&tags)]).collect();
        let output = self.program.ask(&args, self.network).ok()?;
        output.ok().then(|| read_refs(&output.text(), target).records)
    }

    /// Brings the target's records and the remote's ledger, and says how that stands to ours. Where nothing is new it
    /// costs one connection.
    pub async fn fetch(&self, remote: &str, target: &Target) -> Result<Fetched, Failure> {
        let refs = self.remote_state(remote, target).await?;
        let tracking = tracking_ref(remote, target);
        let here: BTreeMap<RecordName, Oid> = self.record_tags(target)?.into_iter().collect();
        if let Some((name, _)) = refs
            .records
            .iter()
            .find(|(name, oid)| here.get(name).is_some_and(|own| own != *oid))
        {
            return Err(Failure::refused(format!(
                "the record {name} has another content on {remote} than here"
            ))
            .why("a record never moves: one of the two was tampered with (record-moved)")
            .next(format!("git nixgate verify {target}")));
        }
        let whole = refs.records.keys().all(|name| here.contains_key(name));
        if !whole || self.reference(&tracking)? != refs.ledger {
            let place = self.read_place(remote)?;
            let ledger = format!("+{}:{tracking}", rules::ledger_ref(target));
            // A strange tag beside them may be another here, and would keep the records from coming.
            let tags: Vec<String> = match refs.strange.is_empty() {
                true => vec![format!(
                    "refs/tags/release/{target}/*:refs/tags/release/{target}/*"
                )],
                false => {
                    let new = refs.records.keys().filter(|name| !here.contains_key(name));
                    new.map(|name| format!("{0}:{0}", name.ref_name())).collect()
                }
            };
            let mut args = vec![
                "fetch",
                "--quiet",
                "--no-tags",
                "--no-prune",
                "--no-prune-tags",
                "--no-recurse-submodules",
                "--no-write-fetch-head",
                "--no-auto-maintenance",
                "--refmap=",
                &place,
            ];
            args.extend(tags.iter().map(String::as_str));
            if refs.ledger.is_some() {
                args.push(&ledger);
            }
            // With nothing named, git would fetch what its configuration names.
            if !tags.is_empty() || refs.ledger.is_some() {
                let output = self.talk(remote, &args, self.network).await?;
                if !output.ok() {
                    return Err(unreachable(remote, output.lines()));
                }
            }
            if refs.ledger.is_none()
                && let Some(old) = self.reference(&tracking)?
            {
                self.transaction(
                    "the remote's ledger cannot be forgotten",
                    &[super::refs::change(&tracking, None, Some(old), self.zero())],
                )?;
            }
        }
        let relation = self.relation(target, remote)?;
        Ok(Fetched { refs, relation })
    }

    /// Whether a push would be let in: a dry run, which opens the receiving end and changes nothing.
    pub async fn push_probe(&self, remote: &str, target: &Target, commit: &Oid) -> Result<(), Failure> {
        self.push_url(remote)?;
        let spec = format!("{commit}:refs/nixgate/probe/{target}");
        let plain = not_a_mirror(remote);
        let args = [
            "-c",
            &plain,
            "push",
            "--dry-run",
            "--porcelain",
            "--atomic",
            "--no-verify",
            "--no-follow-tags",
            "--no-signed",
            "--recurse-submodules=no",
            remote,
            &spec,
        ];
        let output = self.talk(remote, &args, self.network).await?;
        if output.ok() {
            return Ok(());
        }
        let mut failure = unreachable(remote, output.lines());
        failure.what = format!("{remote} would not take a push");
        Err(failure)
    }

    /// Sends a commit to a bare repository on another host, under a ref of its own: for a builder that evaluates there.
    /// `receive` is the command that takes it there, in place of `git-receive-pack`. The operator's own hooks do not
    /// run.
    pub async fn send_commit(
        &self,
        url: &str,
        ssh: &str,
        receive: &str,
        refspec: &str,
        limit: Duration,
    ) -> Result<(), Failure> {
        let receive = format!("--receive-pack={receive}");
        let args = [
            "push",
            "--quiet",
            "--no-verify",
            "--no-follow-tags",
            "--no-signed",
            "--recurse-submodules=no",
            &receive,
            "--",
            url,
            refspec,
        ];
        let what = "the commit could not be sent to the builder";
        match self.program.talk(&args, Some(ssh), limit).await {
            Ok(output) if output.ok() => Ok(()),
            Ok(output) => {
                let failure = Failure {
                    why: output.lines(),
                    ..Failure::failed(Reason::Link, what)
                };
                Err(if self.is_shallow() {
                    failure.next("git fetch --unshallow")
                } else {
                    failure
                })
            }
            Err(broken) => Err(broken.failure(what)),
        }
    }

    /// Adds the refspecs with which a plain `git fetch` brings the remote's ledgers (the records are tags on commits that
    /// it fetches anyway). Returns what was added; nothing the second time.
    pub fn init_refspecs(&self, remote: &str) -> Result<Vec<String>, Failure> {
        self.push_url(remote)?;
        let config = self.config()?;
        let key = format!("remote.{remote}.fetch");
        let mut wanted = vec![format!(
            "+refs/nixgate/ledger/*:refs/nixgate/remotes/{remote}/ledger/*"
        )];
        // An explicit refspec for tags would let `fetch.prune` delete records that are not published yet, so it is only
        // added where tags would not come by themselves.
        if config.get(&format!("remote.{remote}.tagOpt")) == Some("--no-tags") {
            wanted.push("refs/tags/release/*:refs/tags/release/*".to_owned());
        }
        let there = config.all(&key);
        wanted.retain(|spec| !there.contains(&spec.as_str()));
        for spec in &wanted {
            self.program.need(
                "the refspec cannot be added",
                &["config", "--local", "--add", &key, spec],
                b"",
            )?;
        }
        Ok(wanted)
    }
}

/// A remote that is configured as a mirror takes no refspecs.
pub(super) fn not_a_mirror(remote: &str) -> String {
    format!("remote.{remote}.mirror=false")
}

/// Reads `git ls-remote`.
fn read_refs(text: &str, target: &Target) -> RemoteRefs {
    let mut refs = RemoteRefs::default();
    let (pointer, ledger) = (rules::pointer_ref(target), rules::ledger_ref(target));
    let (below, beneath) = (format!("{pointer}/"), format!("{ledger}/"));
    let (tags, bare) = (format!("refs/tags/release/{target}/"), super::refs::bare(target));
    for (oid, name) in text.lines().filter_map(|line| line.split_once('\t')) {
        let Some(oid) = parse::oid(oid) else { continue };
        if name == pointer {
            refs.pointer = Some(oid);
        } else if name == ledger {
            refs.ledger = Some(oid);
        } else if name.starts_with(&tags) {
            match name.trim_start_matches("refs/tags/").parse() {
                Ok(record) => {
                    refs.records.insert(record, oid);
                }
                Err(_) => refs.strange.push(name.to_owned()),
            }
        } else if name.starts_with(&below)
            || name.starts_with(&beneath)
            || bare.iter().any(|bare| bare == name)
        {
            refs.blocking.push(name.to_owned());
        }
    }
    refs
}
