//! The attacks.

use std::process::Command;

use git_nixgate::record::sha256_hex;

use crate::scene::{CONFIG, LEDGER, POINTER, Scene};
use crate::support::*;

/// What is done, and what is pushed then; nothing where the attack stays in the clone or is on the server.
pub type Attack = fn(&Scene) -> Vec<String>;

/// An evidence whose toplevel is another one, its digest put right.
fn other_closure(good: String) -> String {
    let line = good.lines().find(|l| l.starts_with('{')).unwrap().to_owned();
    let bad = line.replacen("-nixos-system-cortex", "-nixos-system-chosen", 1);
    assert_ne!(line, bad);
    good.replace(&line, &bad)
        .replace(&sha256_hex(line.as_bytes()), &sha256_hex(bad.as_bytes()))
        .replacen("-nixos-system-cortex", "-nixos-system-chosen", 1)
}

/// Without its signature.
fn bare(good: &str) -> &str {
    &good[..good.find("-----BEGIN SSH SIGNATURE-----").unwrap()]
}

pub const ATTACKS: &[(&str, Attack)] = &[
    ("tag moved", |s| {
        let tag = s.first.name.ref_name();
        s.set(&tag, &s.second.oid);
        vec![format!("+{tag}")]
    }),
    ("tag deleted", |s| {
        let tag = s.first.name.ref_name();
        s.drop(&tag);
        vec![format!(":{tag}")]
    }),
    ("tag recreated", |s| {
        let name = s.second.name.to_string();
        s.ada
            .git(&["tag", "-f", "-a", "-m", "the same name", &name, "HEAD"]);
        vec![format!("+{}", s.second.name.ref_name())]
    }),
    ("under another name", |s| {
        let tag = format!(
            "refs/tags/release/cortex/20301120T031402Z-{}",
            s.second.name.short()
        );
        s.set(&tag, &s.second.oid);
        vec![tag]
    }),
    ("under another target", |s| {
        let tag = format!("refs/tags/release/orion/{}", s.second.name.leaf());
        s.set(&tag, &s.second.oid);
        s.set("refs/nixgate/ledger/orion", &s.second.oid);
        vec![tag, "refs/nixgate/ledger/orion".into()]
    }),
    ("another target's record in the ledger", |s| {
        let other = s.ada.record(&target("orion"), What::Release(s.ada.oid("HEAD")));
        s.set(LEDGER, &other.oid);
        vec![format!("+{LEDGER}"), other.name.ref_name()]
    }),
    ("body edited", |s| {
        s.in_place(|good| good.replacen("\"paths\":2700", "\"paths\":2701", 1))
    }),
    ("body edited, digest put right", |s| s.in_place(other_closure)),
    ("the same, signature dropped", |s| {
        s.in_place(|good| other_closure(bare(&good).to_owned()))
    }),
    ("the first record edited", |s| {
        let good = String::from_utf8(s.first.raw.clone()).unwrap();
        let oid = s.tag(other_closure(good).as_bytes());
        s.set(&s.first.name.ref_name(), &oid);
        vec![format!("+{}", s.first.name.ref_name())]
    }),
    ("prose that says something else", |s| {
        s.in_place(|good| good.replacen("generation 141 -> 142", "generation 141 -> 999", 1))
    }),
    ("bytes behind the signature", |s| {
        s.in_place(|good| format!("{good}and one more thing\n"))
    }),
    ("two armor blocks", |s| {
        s.in_place(|good| {
            let armor = &good[bare(&good).len()..];
            format!("{good}{armor}")
        })
    }),
    ("an armor line in the prose", |s| {
        s.next(
            |_| {},
            |good| good.replacen("generation 141", "-----BEGIN PGP MESSAGE-----\n141", 1),
        )
    }),
    ("an armor line in the evidence", |s| {
        s.next(
            |_| {},
            |good| good.replacen("{\"_type\"", "-----BEGIN SSH SIGNATURE-----\n{\"_type\"", 1),
        )
    }),
    ("a trailer twice", |s| {
        s.next(
            |_| {},
            |good| good.replacen("Nixgate-Seq: 3\n", "Nixgate-Seq: 3\nNixgate-Seq: 3\n", 1),
        )
    }),
    ("trailers in another order", |s| {
        s.next(
            |_| {},
            |good| {
                good.replacen(
                    "Nixgate-Kind: release\nNixgate-Seq: 3\n",
                    "Nixgate-Seq: 3\nNixgate-Kind: release\n",
                    1,
                )
            },
        )
    }),
    ("a trailer of somebody else's", |s| {
        s.next(
            |_| {},
            |good| format!("{good}Signed-off-by: Eve <eve@example.org>\n"),
        )
    }),
    ("evidence digest forged", |s| {
        s.next(
            |_| {},
            |good| good.replacen("Nixgate-Evidence-SHA256: ", "Nixgate-Evidence-SHA256: 0", 1),
        )
    }),
    ("a sequence number left out", |s| {
        s.next(|d| d.seq = 4, |good| good)
    }),
    ("a rollback to what was never recorded", |s| {
        s.back(|d| {
            d.evidence.toplevel = d.evidence.toplevel.replace("-nixos-", "-chosen-");
        })
    }),
    ("a rollback to a closure of the same name", |s| {
        s.back(|d| d.evidence.nar_hash = format!("sha256:{}", sha256_hex(b"other")))
    }),
    ("a rollback of a release that never was", |s| {
        s.back(|d| {
            let name = d.withdraws[0].to_string().replace("20261120T", "20261119T");
            d.withdraws = vec![name.parse().unwrap()];
        })
    }),
    ("what ran before, on a later commit", |s| {
        let tree = s
            .ada
            .git(&["rev-parse", &format!("{}^{{tree}}", s.second.commit)]);
        s.back(|d| {
            d.restores = Some(git_nixgate::record::OnHost::BeforeFirst);
            d.withdraws = vec![s.first.name.clone(), s.second.name.clone()];
            d.commit = s.second.commit;
            d.evidence.commit = s.second.commit.to_string();
            d.evidence.tree.clone_from(&tree);
            d.evidence.toplevel = d.evidence.before.as_ref().unwrap().toplevel.clone();
        })
    }),
    ("evidence about another tree", |s| {
        s.next(|d| d.evidence.tree = "1".repeat(40), |good| good)
    }),
    ("a false rollback below a good release", |s| {
        let repo = s.ada.repo();
        let before = s.ada.ledger(&s.cortex);
        let mut back = draft(&repo, &s.cortex, before.as_ref(), What::Rollback(None));
        back.evidence.nar_hash = format!("sha256:{}", sha256_hex(b"other"));
        let below = s.tag(&back.payload());
        let mut third = s.third(|_| {});
        third.seq = 4;
        third.time = utc(NOON + 4);
        third.previous = Some(repo.record(&below, None).unwrap().link());
        let oid = s.tag(&third.payload());
        let names = [back.name().ref_name(), third.name().ref_name()];
        s.set(&names[0], &below);
        s.set(&names[1], &oid);
        s.set(LEDGER, &oid);
        s.set(POINTER, &third.commit);
        let [first, second] = names;
        vec![first, second, LEDGER.into(), POINTER.into()]
    }),
    ("a forked ledger", |s| {
        let link = s.ada.repo().record(&s.first.oid, None).unwrap().link();
        s.next(
            |d| {
                d.seq = 2;
                d.previous = Some(link.clone());
            },
            |good| good,
        )
    }),
    ("a ledger begun anew", |s| {
        s.next(
            |d| {
                d.seq = 1;
                d.previous = None;
            },
            |good| good,
        )
    }),
    ("the tail cut off", |s| {
        s.set(LEDGER, &s.first.oid);
        s.drop(&s.second.name.ref_name());
        vec![format!("+{LEDGER}"), format!(":{}", s.second.name.ref_name())]
    }),
    ("the pointer rewound", |s| {
        s.set(POINTER, &s.first.commit);
        vec![format!("+{POINTER}")]
    }),
    ("the pointer on what nobody released", |s| {
        let commit = s.ada.commit("three");
        s.set(POINTER, &commit);
        vec![POINTER.into()]
    }),
    ("the pointer deleted", |s| {
        s.drop(POINTER);
        vec![format!(":{POINTER}")]
    }),
    ("a record without its ledger", |s| {
        let third = s.third(|_| {});
        let oid = s.tag(&third.payload());
        let name = third.name().ref_name();
        s.set(&name, &oid);
        vec![name]
    }),
    ("a replaced tag", |s| {
        s.ada
            .git(&["replace", &s.second.oid.to_string(), &s.first.oid.to_string()]);
        vec![]
    }),
    ("a replaced commit", |s| {
        s.ada.git(&[
            "replace",
            &s.second.commit.to_string(),
            &s.first.commit.to_string(),
        ]);
        vec![]
    }),
    ("grafts", |s| {
        let line = format!("{}\n", s.second.commit);
        std::fs::write(s.ada.path.join(".git/info/grafts"), line).unwrap();
        s.set(POINTER, &s.first.commit);
        vec![format!("+{POINTER}")]
    }),
    ("escape sequences in the subject", |s| {
        s.next(|_| {}, |good| good.replacen("three", "\u{1b}[2Jthree", 1))
    }),
    ("text turned around in the subject", |s| {
        s.next(|_| {}, |good| good.replacen("three", "\u{202e}eerht", 1))
    }),
    ("text turned around in the prose", |s| {
        s.next(|_| {}, |good| good.replacen("built by ", "built by \u{2066}", 1))
    }),
    ("an invisible character in the tagger", |s| {
        s.next(
            |_| {},
            |good| good.replacen("tagger Ada", "tagger A\u{200b}da", 1),
        )
    }),
    ("an escape sequence in the mail", |s| {
        s.next(
            |_| {},
            |good| good.replacen("ops@example.org>", "ops\u{1b}[8m@example.org>", 1),
        )
    }),
    ("text turned around in the tag's own name", |s| {
        s.next(
            |_| {},
            |good| good.replacen("\ntag release/", "\ntag \u{200f}release/", 1),
        )
    }),
    ("an invisible character in a trailer", |s| {
        s.next(
            |_| {},
            |good| good.replacen("Nixgate-Kind: release", "Nixgate-Kind: rele\u{2060}ase", 1),
        )
    }),
    ("text turned around in the evidence", |s| {
        s.next(
            |_| {},
            |good| good.replacen("nginx 1.26.1", "\u{202e}1.62.1 xnign", 1),
        )
    }),
    ("a control character in the signature", |s| {
        s.in_place(|good| {
            let head = "-----BEGIN SSH SIGNATURE-----\n";
            good.replacen(head, &format!("{head}\u{7f}"), 1)
        })
    }),
    ("a target named like an option", |s| {
        let tag = format!("refs/tags/release/-rf/{}", s.second.name.leaf());
        s.set(&tag, &s.second.oid);
        vec![tag]
    }),
    ("a body of nine megabytes", |s| {
        s.next(
            |_| {},
            |good| good.replacen("built by", &"long ".repeat(1_800_000), 1),
        )
    }),
    ("too much evidence", |s| {
        s.next(
            |_| {},
            |good| {
                let line = good.lines().find(|l| l.starts_with('{')).unwrap().to_owned();
                let mut value: serde_json::Value = serde_json::from_str(&line).unwrap();
                value["predicate"]["warnings"] = vec!["long ".repeat(20_000)].into();
                let bad = git_nixgate::record::evidence::canonical(&value);
                good.replace(&line, &bad)
                    .replace(&sha256_hex(line.as_bytes()), &sha256_hex(bad.as_bytes()))
            },
        )
    }),
    ("a server that rewinds the branch", |s| {
        s.on_server(&["update-ref", POINTER, &s.first.commit.to_string()]);
        s.ada.git(&["fetch", "-q"]);
        vec![]
    }),
    ("a server that moves a tag", |s| {
        s.on_server(&["update-ref", &s.first.name.ref_name(), &s.second.oid.to_string()]);
        vec![]
    }),
    ("a server with an old ledger", |s| {
        s.on_server(&["update-ref", LEDGER, &s.first.oid.to_string()]);
        s.on_server(&["update-ref", "-d", &s.second.name.ref_name()]);
        vec![]
    }),
    ("a server with another ledger", |s| {
        let third = {
            let repo = s.ada.repo();
            let link = repo.record(&s.first.oid, None).unwrap().link();
            let mut other = draft(
                &repo,
                &s.cortex,
                s.ada.ledger(&s.cortex).as_ref(),
                What::Release(s.ada.oid("HEAD")),
            );
            (other.seq, other.previous) = (2, Some(link));
            other
        };
        let oid = s.tag(&third.payload());
        // Whoever has the server needs no hook's leave.
        let hooks = s.hub.path.join("hooks");
        let there = std::fs::rename(&hooks, s.lab.path("kept")).is_ok();
        let spec = format!("+{oid}:{LEDGER}");
        let tag = format!("{oid}:{}", third.name().ref_name());
        s.ada.git(&["push", "-q", "--no-verify", "origin", &spec, &tag]);
        if there {
            std::fs::rename(s.lab.path("kept"), &hooks).unwrap();
        }
        vec![]
    }),
    ("somebody else's repository", |s| {
        let given = Command::new("chown")
            .args(["-R", "12345"])
            .arg(&s.ada.path)
            .status();
        assert!(given.unwrap().success(), "only root can give a repository away");
        vec![]
    }),
    ("hostile configuration", |s| {
        let trap = format!("!touch {}", s.lab.path("trap").display());
        for (key, value) in [
            ("trailer.separators", "="),
            ("tag.gpgSign", "true"),
            ("gpg.ssh.program", "/nowhere"),
            ("push.followTags", "true"),
            ("fetch.pruneTags", "true"),
            ("fetch.prune", "true"),
            ("core.hooksPath", "/nowhere"),
            ("alias.verify-tag", &trap),
            ("alias.fetch", &trap),
            ("alias.update-ref", &trap),
            ("core.pager", &trap[1..]),
            ("core.fsmonitor", &trap[1..]),
            ("i18n.logOutputEncoding", "ISO-8859-1"),
            ("i18n.commitEncoding", "ISO-8859-1"),
        ] {
            s.ada.git(&["config", key, value]);
        }
        for variable in [
            ("LC_ALL", "C.UTF-8"),
            ("LANG", "tr_TR.UTF-8"),
            ("LANGUAGE", "de:tr"),
        ] {
            s.variables.lock().unwrap().push(variable);
        }
        s.set(POINTER, &s.first.commit);
        vec![format!("+{POINTER}")]
    }),
    ("a commit with a file of its own", |s| {
        let trap = s.lab.path("trap");
        let trap = trap.display();
        let hostile = format!(
            "{CONFIG}[hooks]\npre = [[\"touch\", \"{trap}\"]]\npost = [[\"touch\", \"{trap}\"]]\n\
             [[target.cortex.check]]\nrun = [\"touch\", \"{trap}\"]\nfrom = \"operator\"\n"
        );
        std::fs::write(s.ada.path.join(".nixgate.toml"), hostile).unwrap();
        s.ada.git(&["commit", "-qam", "pulled"]);
        vec![]
    }),
    ("a commit whose file runs a program for ssh", |s| {
        let trap = s.lab.path("trap");
        let hostile = CONFIG.replace("Port=1", &format!("ProxyCommand=touch {}", trap.display()));
        std::fs::write(s.ada.path.join(".nixgate.toml"), hostile).unwrap();
        s.ada.git(&["commit", "-qam", "pulled"]);
        vec![]
    }),
    ("a commit whose file names a program as a jump", |s| {
        let jump = format!(
            "ProxyJump=$(touch${{IFS}}{})@127.0.0.1:1",
            s.lab.path("trap").display()
        );
        std::fs::write(s.ada.path.join(".nixgate.toml"), CONFIG.replace("Port=1", &jump)).unwrap();
        s.ada.git(&["commit", "-qam", "pulled"]);
        vec![]
    }),
    ("a commit whose file names a program as a host", |s| {
        let trap = s.lab.path("trap");
        let name = format!("$(touch${{IFS}}{})", trap.display());
        let hostile = CONFIG
            .replace("127.0.0.1", &name)
            .replace("ssh-options", &format!("user = \"{name}\"\nssh-options"));
        let builder = format!("[builder]\nhost = \"{name}\"\nuser = \"{name}\"\n");
        std::fs::write(s.ada.path.join(".nixgate.toml"), hostile + &builder).unwrap();
        s.ada.git(&["commit", "-qam", "pulled"]);
        vec![]
    }),
];
