//! Packages that do not build reproducibly: the same store path with other bytes on builder and target. What a record
//! proves is what is registered on the target.

use serde_json::Value;

use crate::broken::{must, says};
use crate::hand::{desk, evidence, name_in, root};
use crate::infra::{expect, release, usual};
use crate::lab::Lab;

/// The closure of a path as the host has it registered: `path NUL sha256:hex LF`, its digest; how many paths; their bytes.
#[derive(Debug, PartialEq, Eq)]
struct Registered {
    digest: String,
    paths: u64,
    bytes: u64,
}

#[track_caller]
fn registered(lab: &Lab, host: &str, toplevel: &str) -> Registered {
    let text = root(
        lab,
        host,
        &format!(
            "nix-store -qR {toplevel} | LC_ALL=C sort >/tmp/closure; n=0 b=0; while read -r p; do \
             h=$(nix-store -q --hash $p); n=$((n + 1)) b=$((b + $(nix-store -q --size $p))); \
             printf '%s\\0sha256:%s\\n' $p $(nix-hash --type sha256 --to-base16 ${{h#sha256:}}) >&3; \
             done </tmp/closure 3>/tmp/lines; echo $(sha256sum </tmp/lines | cut -d' ' -f1) $n $b"
        ),
    );
    let words: Vec<&str> = text.split(' ').collect();
    Registered {
        digest: words[0].to_owned(),
        paths: words[1].parse().expect("a count"),
        bytes: words[2].parse().expect("bytes"),
    }
}

/// Both build the package: the builder for `plan`, the target by hand. Its path.
#[track_caller]
fn built_on_both(lab: &Lab) -> String {
    lab.variant("cortex", "Brandom");
    expect(lab, 0, &["plan", "cortex"]);
    let stamp = root(lab, "forge", "echo /nix/store/*-stamp-1.0");
    assert!(stamp.ends_with("-stamp-1.0") && !stamp.contains(' '), "{stamp}");
    let drv = root(lab, "forge", &format!("nix-store -q --deriver {stamp}"));
    must(
        lab,
        "forge",
        "build",
        &format!("nix copy --no-check-sigs --derivation --to ssh-ng://jarvis@cortex {drv}"),
    );
    let realised = root(lab, "cortex", &format!("nix-store --realise {drv} 2>/dev/null"));
    assert_eq!(realised, stamp);
    let hash = |host: &str| root(lab, host, &format!("nix-store -q --hash {stamp}"));
    assert_ne!(hash("forge"), hash("cortex"), "it built reproducibly");
    stamp
}

fn text(evidence: &Value, pointer: &str) -> String {
    let value = evidence.pointer(&format!("/predicate/{pointer}"));
    value
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no {pointer}: {evidence}"))
        .to_owned()
}

/// Two releases, both with the package. Their records and closures.
#[track_caller]
fn two(lab: &Lab) -> [(String, String); 2] {
    let first = (release(lab, "cortex"), lab.running_system("cortex"));
    lab.variant_with("cortex", "Brandom", &["number=2"]);
    [first, (release(lab, "cortex"), lab.running_system("cortex"))]
}

/// A path gets other bytes, and they are registered.
#[track_caller]
fn replace(lab: &Lab, host: &str, path: &str) {
    let script = format!(
        "set -e; p={path}; chmod -R u+w $p; f=$(find $p -type f | sed -n 1p); echo another >>$f
         d=$(nix-store --dump-db $p | sed -n '4,$p')
         {{ echo $p; nix-hash --type sha256 $p; nix-store --dump $p | wc -c; printf '%s\\n' \"$d\"; }} >/tmp/db
         nix-store --load-db </tmp/db; nix-store --verify-path $p"
    );
    root(lab, host, &script);
}

/// The host is set up anew: it runs its first generation, and nothing of ours is left.
#[track_caller]
fn set_up_anew(lab: &Lab) {
    root(
        lab,
        "cortex",
        "rm -rf /nix/var/nix/gcroots/nixgate /var/lib/nixgate && cd /nix/var/nix/profiles && \
         ln -sfn $(readlink -f system-1-link) system && $(readlink -f system)/bin/switch-to-configuration switch && \
         for n in system-*-link; do [ $n = system-1-link ] || rm $n; done; nix-collect-garbage",
    );
}

#[test]
fn r1_a_release_records_what_is_registered_on_the_target_and_goes_back_to_it() {
    let lab = usual("r1");
    let stamp = built_on_both(&lab);
    let out = expect(&lab, 0, &["check", "cortex"]);
    says(
        &out,
        &["cortex has another build than the builder of 1 path", &stamp],
    );
    let out = expect(&lab, 0, &["release", "cortex"]);
    says(
        &out,
        &["cortex has another build than the builder of 1 path", &stamp],
    );
    let first = name_in(&out);
    let one = lab.running_system("cortex");
    let here = registered(&lab, "cortex", &one);
    let built = registered(&lab, "forge", &one);
    assert_ne!(here.digest, built.digest);
    assert_eq!(
        here.paths,
        built.paths + 1,
        "what only the target's build refers to"
    );
    let told = evidence(&lab, &first);
    assert_eq!(text(&told, "closure_digest"), here.digest, "{told}");
    assert_eq!(text(&told, "on_target/closure_digest"), here.digest, "{told}");
    assert_eq!(text(&told, "on_builder/closure_digest"), built.digest, "{told}");
    assert_eq!(told["predicate"]["paths"], here.paths);
    assert_eq!(told["predicate"]["bytes"], here.bytes);
    assert!(text(&told, "warnings/0").contains(&stamp), "{told}");
    // The list that the journal keeps is the target's too.
    let run = desk(
        &lab,
        "git for-each-ref --format='%(refname)' refs/nixgate/runs/cortex | tail -n 1",
    );
    let hash = root(
        &lab,
        "cortex",
        &format!(
            "nix-store -q --hash {stamp} | sed 's/^sha256://' | xargs nix-hash --type sha256 --to-base16"
        ),
    );
    let listed = desk(&lab, &format!("git show {run}:closure"));
    assert_eq!(listed.lines().count() as u64, here.paths);
    assert!(listed.contains(&format!("{stamp} sha256:{hash} ")), "{listed}");

    lab.variant_with("cortex", "Brandom", &["number=2"]);
    let second = release(&lab, "cortex");
    let two = lab.running_system("cortex");
    let agree = || {
        expect(&lab, 0, &["verify", "cortex", "--live"]);
        says(
            &expect(&lab, 0, &["store", "check", "cortex", "--contents"]),
            &["all whole"],
        );
        expect(&lab, 0, &["status", "cortex", "--live"]);
    };
    agree();
    expect(&lab, 0, &["rollback", "cortex", "--check"]);
    let out = expect(&lab, 0, &["rollback", "cortex"]);
    assert!(!out.stderr.contains("other bytes"), "{out}");
    let back = evidence(&lab, &name_in(&out));
    assert_eq!(lab.running_system("cortex"), one);
    assert_eq!(text(&back, "closure_digest"), here.digest);
    assert_eq!(text(&back, "on_target/closure_digest"), here.digest);
    agree();
    expect(&lab, 0, &["deploy", "cortex", "--to", &second]);
    assert_eq!(lab.running_system("cortex"), two);
    agree();

    // From a clone that has seen nothing of it, and with the builder gone.
    lab.cut("forge");
    desk(
        &lab,
        "git clone -q git@git:/srv/git/infra.git ~/fresh && cp .git/config ~/fresh/.git/config",
    );
    let fresh = |args: &str| {
        let out = lab.sh("desk", "op", &format!("cd ~/fresh && git nixgate {args}"));
        assert!(out.ok(), "{args}: {out}");
    };
    fresh("rollback cortex --check");
    fresh("rollback cortex");
    assert_eq!(lab.running_system("cortex"), one);
    fresh(&format!("deploy cortex --to {second}"));
    assert_eq!(lab.running_system("cortex"), two);
    fresh("verify cortex --live");
    fresh("verify cortex --full");
    fresh("store check cortex");
}

#[test]
fn r1_bytes_that_no_record_has_go_onto_a_host_only_when_a_person_says_so() {
    let lab = usual("r1-other");
    let stamp = built_on_both(&lab);
    let [(first, one), (second, two)] = two(&lab);
    // Somebody replaces a path of both on the target: the files are what is registered, and not what was proven.
    replace(&lab, "cortex", &stamp);
    let out = expect(&lab, 1, &["verify", "cortex", "--live"]);
    says(&out, &["(closure)", "not the one recorded", &stamp]);
    let out = expect(&lab, 1, &["store", "check", "cortex"]);
    says(&out, &["not the one recorded", &stamp]);
    let out = expect(&lab, 1, &["store", "repair", "cortex", "--yes", "--surgery"]);
    assert!(!out.stderr.contains("replace 0 paths"), "{out}");
    let hash = |host: &str| root(&lab, host, &format!("nix-store -q --hash {stamp}"));
    let replaced = hash("cortex");
    for args in [
        &["rollback", "cortex", "--check"][..],
        &["rollback", "cortex"],
        &["rollback", "cortex", "--rehearse"],
        &["rollback", "cortex", "--to", &first],
    ] {
        let out = expect(&lab, 3, args);
        says(
            &out,
            &[
                &format!("another build of {first} than is recorded"),
                &stamp,
                &format!("git nixgate {} ", args[0]),
                "--accept-other-build",
            ],
        );
        assert_eq!(lab.running_system("cortex"), two);
    }
    assert_eq!(hash("cortex"), replaced, "repaired into nobody's build");
    let out = expect(&lab, 0, &["rollback", "cortex", "--accept-other-build"]);
    says(&out, &["accepted by --accept-other-build", &stamp]);
    assert_eq!(lab.running_system("cortex"), one);
    let back = evidence(&lab, &name_in(&out));
    let now = registered(&lab, "cortex", &one);
    assert_eq!(text(&back, "on_target/closure_digest"), now.digest);
    // The chain is held against the release's own digest, by old readers too.
    assert_eq!(
        text(&back, "closure_digest"),
        text(&evidence(&lab, &first), "closure_digest")
    );
    expect(&lab, 0, &["verify", "cortex", "--full"]);
    // Of what was proven again nothing is said any more; of the other release it is.
    let out = expect(&lab, 1, &["verify", "cortex", "--live"]);
    let leaf = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    assert!(
        !out.stdout.contains(&leaf(&first)) && out.stdout.contains(&leaf(&second)),
        "{out}"
    );

    // A host that was set up anew has nothing; the builder has what it built for the release: that is said, and goes.
    expect(
        &lab,
        0,
        &["deploy", "cortex", "--to", &second, "--accept-other-build"],
    );
    set_up_anew(&lab);
    root(&lab, "cortex", &format!("test ! -e {stamp}"));
    let out = expect(&lab, 0, &["deploy", "cortex", "--to", &second]);
    says(&out, &["as it was built, with other bytes", &stamp]);
    let deployed = evidence(&lab, &name_in(&out));
    assert_eq!(
        text(&deployed, "on_target/closure_digest"),
        registered(&lab, "forge", &two).digest
    );
    assert_eq!(hash("cortex"), hash("forge"));
    expect(&lab, 0, &["rollback", "cortex", "--to", &first]);
    expect(&lab, 0, &["verify", "cortex", "--live"]);
    expect(&lab, 0, &["store", "check", "cortex"]);

    // The same from a builder that has built it anew since: no record has these bytes.
    replace(&lab, "forge", &stamp);
    set_up_anew(&lab);
    let out = expect(&lab, 3, &["deploy", "cortex", "--to", &second]);
    says(&out, &["forge has another build of", "--accept-other-build"]);
    root(&lab, "cortex", &format!("test ! -e {stamp}"));
    expect(
        &lab,
        0,
        &["deploy", "cortex", "--to", &second, "--accept-other-build"],
    );
    assert_eq!(hash("cortex"), hash("forge"));

    // Lost everywhere, and built again: the path is the recorded one, its bytes nobody's.
    set_up_anew(&lab);
    root(
        &lab,
        "forge",
        "rm -r ~build/.local/state/nixgate/roots && nix-collect-garbage",
    );
    let gone = format!("test ! -e {stamp}");
    assert!(lab.sh("forge", "root", &gone).ok() && lab.sh("cortex", "root", &gone).ok());
    let again = ["deploy", "cortex", "--to", &second, "--rebuild"];
    let out = expect(&lab, 3, &again);
    says(
        &out,
        &[
            "the builder has another build of",
            "--rebuild --accept-other-build",
        ],
    );
    // What was refused is still there until the builder collects its garbage.
    root(&lab, "forge", "nix-collect-garbage");
    let out = expect(&lab, 0, &[&again[..], &["--accept-other-build"]].concat());
    says(
        &out,
        &[
            "the recorded path, with other bytes",
            "accepted by --accept-other-build",
        ],
    );
    assert_eq!(lab.running_system("cortex"), two);
    expect(&lab, 0, &["verify", "cortex", "--live"]);
}

#[test]
fn r1_a_run_that_another_process_finishes_records_the_same_bytes() {
    let lab = usual("r1-resume");
    built_on_both(&lab);
    for (number, boundary) in [(1, "before * commit]"), (2, "after * commit]")] {
        lab.variant_with("cortex", "Brandom", &[&format!("number={number}")]);
        lab.sh(
            "desk",
            "op",
            &format!("cd ~/infra && NIXGATE_BOUNDARY='kill:{boundary}:/tmp/crossed' git nixgate release cortex; pkill -KILL -x ssh"),
        );
        let record = name_in(&expect(&lab, 0, &["resume", "cortex"]));
        let runs = lab.running_system("cortex");
        let told = evidence(&lab, &record);
        let here = registered(&lab, "cortex", &runs);
        assert_eq!(text(&told, "toplevel"), runs);
        assert_eq!(text(&told, "closure_digest"), here.digest, "{told}");
        assert_eq!(text(&told, "on_target/closure_digest"), here.digest, "{told}");
        assert_eq!(
            text(&told, "on_builder/closure_digest"),
            registered(&lab, "forge", &runs).digest
        );
        assert_eq!(told["predicate"]["paths"], here.paths);
        assert!(
            text(&told, "warnings/0").contains("another build than the builder"),
            "{told}"
        );
    }
    expect(&lab, 0, &["verify", "cortex", "--live"]);
    expect(&lab, 0, &["rollback", "cortex"]);
}

/// Makes the records what earlier versions made: nothing of the target's bytes, and the builder's digest. Everywhere.
#[track_caller]
fn as_before(lab: &Lab, records: &[(String, String)]) {
    let mut previous: Option<(String, String)> = None;
    for (name, toplevel) in records {
        let mut whole = evidence(lab, name);
        let predicate = whole["predicate"].as_object_mut().expect("an object");
        predicate.remove("on_target");
        predicate.remove("on_builder");
        let digest = registered(lab, "forge", toplevel).digest;
        predicate.insert("closure_digest".to_owned(), digest.into());
        let line = git_nixgate::record::evidence::canonical(&whole);
        let raw = desk(lab, &format!("git cat-file tag refs/tags/{name}"));
        let sha256 = |bytes: &[u8]| git_nixgate::record::sha256_hex(bytes);
        let mut lines: Vec<String> = Vec::new();
        for old in raw.lines() {
            lines.push(match (old.split_once(": "), &previous) {
                _ if old.starts_with('{') => line.clone(),
                (Some(("Nixgate-Evidence-SHA256", _)), _) => {
                    format!("Nixgate-Evidence-SHA256: {}", sha256(line.as_bytes()))
                }
                (Some(("Nixgate-Previous", _)), Some((oid, _))) => format!("Nixgate-Previous: {oid}"),
                (Some(("Nixgate-Previous-SHA256", _)), Some((_, sum))) => {
                    format!("Nixgate-Previous-SHA256: {sum}")
                }
                _ => old.to_owned(),
            });
        }
        let raw = lines.join("\n") + "\n";
        let file = std::env::temp_dir().join(format!("{}-record", lab.instance()));
        std::fs::write(&file, &raw).expect("written");
        lab.put("desk", &file, "/tmp/record");
        lab.put("cortex", &file, "/var/lib/nixgate/cortex/record");
        let _ = std::fs::remove_file(file);
        let oid = desk(lab, "git hash-object -t tag -w /tmp/record");
        desk(lab, &format!("git update-ref refs/tags/{name} {oid}"));
        previous = Some((oid, sha256(raw.as_bytes())));
    }
    let newest = previous.expect("a record").0;
    desk(
        lab,
        &format!(
            "git update-ref refs/nixgate/ledger/cortex {newest} && git update-ref refs/nixgate/remotes/origin/ledger/cortex {newest} && \
             git push -q -f --no-verify origin 'refs/tags/release/cortex/*' refs/nixgate/ledger/cortex && \
             git for-each-ref --format='delete %(refname)' refs/nixgate/runs | git update-ref --stdin"
        ),
    );
}

#[test]
fn r1_records_that_have_the_builders_digest_hold_and_go_back() {
    let lab = usual("r1-before");
    let stamp = built_on_both(&lab);
    let records = two(&lab);
    as_before(&lab, &records);
    let [(first, one), (second, two)] = records;
    let out = expect(&lab, 0, &["verify", "cortex", "--live", "--full"]);
    says(
        &out,
        &["2 records verified", "note: on cortex", "the builder's digest"],
    );
    let out = expect(&lab, 0, &["store", "check", "cortex"]);
    says(&out, &["all whole", "note: ", "the builder's digest"]);
    expect(&lab, 0, &["store", "repair", "cortex"]);
    let out = expect(&lab, 0, &["rollback", "cortex", "--check"]);
    says(&out, &["records what the builder had"]);
    let out = expect(&lab, 0, &["rollback", "cortex"]);
    says(&out, &["records what the builder had"]);
    assert_eq!(lab.running_system("cortex"), one);
    let back = evidence(&lab, &name_in(&out));
    assert_eq!(
        text(&back, "on_target/closure_digest"),
        registered(&lab, "cortex", &one).digest
    );
    assert_eq!(
        text(&back, "closure_digest"),
        text(&evidence(&lab, &first), "closure_digest")
    );
    expect(&lab, 0, &["verify", "cortex", "--full"]);
    expect(&lab, 0, &["deploy", "cortex", "--to", &second]);
    assert_eq!(lab.running_system("cortex"), two);
    // From here on it is known what the target has.
    assert!(
        !expect(&lab, 0, &["verify", "cortex", "--live"])
            .stdout
            .contains("note: ")
    );
    replace(&lab, "cortex", &stamp);
    expect(&lab, 1, &["verify", "cortex", "--live"]);
    expect(&lab, 3, &["rollback", "cortex"]);
    assert_eq!(lab.running_system("cortex"), two);
}
