//! Pushes that no git makes: commands written by hand, for the server's hooks alone and together.

use crate::scene::{LEDGER, POINTER, Scene, refusal};
use crate::support::raw::{self, Raw, ZERO};

/// The commands; what is there is the first and the second release of cortex.
type Attack = fn(&Scene) -> Vec<Raw>;

/// A third record as `change` has it, pushed as it should be: record, ledger, pointer.
fn third(s: &Scene, sign: bool, change: impl Fn(String) -> String) -> Vec<Raw> {
    let draft = s.third(|_| {});
    let payload = change(String::from_utf8(draft.payload()).unwrap());
    let raw = if sign {
        s.ada.repo().sign(payload.as_bytes()).unwrap()
    } else {
        payload.into_bytes()
    };
    let oid = s.tag(&raw);
    vec![
        Raw::new(ZERO, oid, draft.name().ref_name()),
        Raw::new(s.second.oid, oid, LEDGER),
        Raw::new(s.second.commit, draft.commit, POINTER),
    ]
}

fn same(text: String) -> String {
    text
}

/// One commit under this name.
fn made(s: &Scene, name: &str) -> Vec<Raw> {
    vec![Raw::new(ZERO, s.first.commit, name)]
}

const ATTACKS: &[(&str, Attack)] = &[
    ("a ledger deleted that was not there", |_| {
        vec![Raw::new(ZERO, ZERO, LEDGER)]
    }),
    ("a pointer deleted that was not there", |_| {
        vec![Raw::new(ZERO, ZERO, POINTER)]
    }),
    ("a record deleted that was not there", |s| {
        vec![Raw::new(ZERO, ZERO, s.first.name.ref_name())]
    }),
    ("a ledger deleted by its right value", |s| {
        vec![Raw::new(s.second.oid, ZERO, LEDGER)]
    }),
    ("an unsigned record that stays as it is", |s| {
        let mut push = third(s, false, same);
        push[0].old = push[0].new.clone();
        push
    }),
    ("an unsigned record with a false old value", |s| {
        let mut push = third(s, false, same);
        push[0].old = s.first.oid.to_string();
        push
    }),
    ("an unsigned record that git will not take", |s| {
        s.hub.git(&["config", "receive.hideRefs", "refs/tags"]);
        third(s, false, same)
    }),
    ("a signed record that git will not take", |s| {
        s.hub.git(&["config", "receive.hideRefs", "refs/tags"]);
        third(s, true, same)
    }),
    ("a ledger rewound with a false old value", |s| {
        vec![Raw::new(s.first.oid, s.first.oid, LEDGER)]
    }),
    ("a pointer rewound with a false old value", |s| {
        vec![Raw::new(ZERO, s.first.commit, POINTER)]
    }),
    ("a ledger named twice", |s| {
        let mut push = third(s, true, same);
        push.push(Raw::new(s.second.oid, s.first.oid, LEDGER));
        push
    }),
    ("a pointer by another name", |s| {
        s.on_server(&["symbolic-ref", "refs/heads/alias", POINTER]);
        vec![Raw::new(s.second.commit, s.first.commit, "refs/heads/alias")]
    }),
    ("a pointer that leads elsewhere", |s| {
        s.on_server(&["update-ref", "-d", POINTER]);
        s.on_server(&["symbolic-ref", POINTER, "refs/heads/main"]);
        let main = s.hub.oid("refs/heads/main");
        vec![Raw::new(main, s.first.commit, POINTER)]
    }),
    ("refs/tags/release", |s| made(s, "refs/tags/release")),
    ("refs/heads/release", |s| made(s, "refs/heads/release")),
    ("refs/nixgate/ledger", |s| made(s, "refs/nixgate/ledger")),
    ("refs/nixgate", |s| made(s, "refs/nixgate")),
    ("refs/nixgate/ledger/cortex/x", |s| {
        made(s, "refs/nixgate/ledger/cortex/x")
    }),
    ("refs/heads/release/orion/x", |s| {
        made(s, "refs/heads/release/orion/x")
    }),
    ("refs/tags/release/orion/junk", |s| {
        made(s, "refs/tags/release/orion/junk")
    }),
    ("a new record whose prose lies", |s| {
        third(s, true, |good| {
            good.replacen("generation 141 -> 142", "generation 141 -> 999", 1)
        })
    }),
    ("a soft hyphen in a new record", |s| {
        third(s, true, |good| good.replacen(": three", ": thr\u{ad}ee", 1))
    }),
    ("letters of the tags block in a new record", |s| {
        third(s, true, |good| good.replacen(": three", ": three\u{e0041}", 1))
    }),
    ("a megabyte of prose", |s| {
        third(s, true, |good| {
            good.replacen("built by", &"long ".repeat(180_000), 1)
        })
    }),
    ("a sequence number at its end", |s| {
        third(s, true, |good| {
            good.replacen("Nixgate-Seq: 3", &format!("Nixgate-Seq: {}", u64::MAX), 1)
        })
    }),
    ("gates of more milliseconds than there are", |s| {
        let mut third_draft = s.third(|_| {});
        for gate in &mut third_draft.evidence.gates {
            gate.millis = u64::MAX;
        }
        // Whatever is added up, a record says it the same way; only its signer is nobody's.
        let oid = s.tag(&third_draft.payload());
        vec![
            Raw::new(ZERO, oid, third_draft.name().ref_name()),
            Raw::new(s.second.oid, oid, LEDGER),
        ]
    }),
    ("a record of the year 9999", |s| {
        let draft = s.third(|draft| draft.time = "99991231T235959Z".parse().unwrap());
        let oid = s.tag(&s.ada.repo().sign(&draft.payload()).unwrap());
        vec![
            Raw::new(ZERO, oid, draft.name().ref_name()),
            Raw::new(s.second.oid, oid, LEDGER),
            Raw::new(s.second.commit, draft.commit, POINTER),
        ]
    }),
    ("a good record, ref by ref", |s| third(s, true, same)),
];

/// Each attack against each hook alone, and against both: in one transaction, and ref by ref.
pub fn table(whole: &Scene) -> String {
    let head = [
        "raw push",
        "both",
        "both, atomic",
        "pre-receive",
        "reference-transaction",
    ];
    let threads = 3;
    let mut rows: Vec<(usize, String)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let mine = ATTACKS.iter().enumerate().skip(worker).step_by(threads);
                scope.spawn(move || -> Vec<(usize, String)> {
                    mine.map(|(n, (name, attack))| (n, tried(whole, n, name, *attack)))
                        .collect()
                })
            })
            .collect();
        workers.into_iter().flat_map(|w| w.join().unwrap()).collect()
    });
    rows.sort();
    let rows = rows.into_iter().map(|(_, row)| row);
    [row(head.map(ToOwned::to_owned))]
        .into_iter()
        .chain(rows)
        .collect()
}

fn tried(whole: &Scene, n: usize, name: &str, attack: Attack) -> String {
    let both = ["pre-receive", "reference-transaction"];
    let said = |hooks: &[&str], atomic: bool| {
        let scene = whole.copy(100 + n);
        let signers = scene.lab.path("signers");
        let key = std::fs::read_to_string(scene.lab.path("key.pub")).unwrap();
        std::fs::write(&signers, format!("ops@example.org {key}")).unwrap();
        scene.hub.git(&["config", "nixgate.requireSigned", "true"]);
        scene
            .hub
            .git(&["config", "nixgate.signers", signers.to_str().unwrap()]);
        let commands = attack(&scene);
        for hook in both.iter().filter(|hook| !hooks.contains(hook)) {
            std::fs::remove_file(scene.hub.path.join("hooks").join(hook)).unwrap();
        }
        pushed(&scene, &commands, atomic, name)
    };
    let (apart, together) = (said(&both, false), said(&both, true));
    assert!(!apart.starts_with("lands"), "{name}: {apart}");
    assert_eq!(
        together == "lands",
        name == "a good record, ref by ref",
        "{name}: {together}"
    );
    row([
        name.to_owned(),
        apart,
        together,
        said(&both[..1], false),
        said(&both[1..], false),
    ])
}

/// What the server says; or what of it is there then.
fn pushed(scene: &Scene, commands: &[Raw], atomic: bool, name: &str) -> String {
    let new: Vec<String> = commands
        .iter()
        .map(|command| command.new.clone())
        .filter(|new| new != ZERO)
        .collect();
    let pack = raw::pack(&scene.ada.path, &new);
    let refs = || scene.hub.git(&["for-each-ref"]);
    let before = refs();
    let answer = raw::receive(&scene.hub.path, &scene.lab.program().1, commands, atomic, &pack);
    if refs() != before {
        let refused = answer.said.contains("would break the record of a release");
        return if refused || answer.report.contains("ng ") {
            "lands in part"
        } else {
            "lands"
        }
        .to_owned();
    }
    match refusal(Some(3), &answer.said).as_str() {
        // Without pre-receive some come to nothing by themselves: another ref is in the way, or another value.
        "exit 3" => {
            assert!(
                answer.report.contains("ng "),
                "{name}: {}{}",
                answer.report,
                answer.said
            );
            "no, by git".to_owned()
        }
        rule => rule.to_owned(),
    }
}

fn row([attack, apart, together, receive, transaction]: [String; 5]) -> String {
    format!("{attack:<44} {apart:<20} {together:<20} {receive:<20} {transaction}")
        .trim_end()
        .to_owned()
        + "\n"
}
