//! The server's hooks against a real `git receive-pack` that is spoken to by hand: whatever is pushed, in whatever order,
//! what was verified stays, and nothing else becomes part of a ledger, a pointer or a record.
//!
//! `NIXGATE_SEQUENCES=10000 cargo test --test receive` runs so many sequences; `NIXGATE_SEED` begins elsewhere.

#[path = "../support/mod.rs"]
mod support;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::raw::{self, Answer, Raw, ZERO};
use world::{Hub, Piece, Refs, TARGETS, World};

/// Sequences in every test run, and pushes in each.
const SEQUENCES: usize = 200;
const PUSHES: usize = 3;
/// Sequences side by side: each waits for programs most of the time.
const WORKERS: usize = 4;

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % end
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

fn ledger(target: &str) -> String {
    format!("refs/nixgate/ledger/{target}")
}

fn pointer(target: &str) -> String {
    format!("refs/heads/release/{target}")
}

/// Names that are in the way of others, or lead to them, or are nobody's.
const STRANGE: [&str; 11] = [
    "refs/tags/release",
    "refs/heads/release",
    "refs/nixgate/ledger",
    "refs/nixgate",
    "refs/nixgate/ledger/cortex/x",
    "refs/heads/release/cortex/x",
    "refs/tags/release/cortex/junk",
    "refs/heads/release/-rf",
    "refs/heads/alias",
    "refs/heads/main",
    "refs/heads/other",
];

/// What the refs of a release come to, if each part is good: for each target its chain, newest first.
fn verified<'a>(world: &'a World, refs: &Refs) -> Result<BTreeMap<&'static str, Vec<&'a Piece>>, String> {
    let mut chains = BTreeMap::new();
    let mut allowed: BTreeMap<String, String> = BTreeMap::new();
    for target in TARGETS {
        let Some(head) = refs.get(&ledger(target)) else {
            continue;
        };
        let chain = world
            .chain(head)
            .ok_or_else(|| format!("the ledger of {target} holds {:?}", world.piece(head)))?;
        if let Some(other) = chain.iter().find(|piece| piece.target != target) {
            return Err(format!("the ledger of {target} holds {other:?}"));
        }
        for piece in &chain {
            if refs.get(&piece.tag) != Some(&piece.oid) {
                return Err(format!(
                    "{} is in the ledger, its tag is {:?}",
                    piece.what,
                    refs.get(&piece.tag)
                ));
            }
            allowed.insert(piece.tag.clone(), piece.oid.clone());
        }
        allowed.insert(ledger(target), head.clone());
        if let Some(at) = refs.get(&pointer(target))
            && chain.iter().any(|piece| piece.release && piece.commit == *at)
        {
            allowed.insert(pointer(target), at.clone());
        }
        chains.insert(target, chain);
    }
    let guarded = ["refs/tags/release", "refs/heads/release", "refs/nixgate"];
    for (name, oid) in refs {
        let is_guarded = guarded
            .iter()
            .any(|space| name == space || name.starts_with(&format!("{space}/")));
        if is_guarded && allowed.get(name) != Some(oid) {
            return Err(format!("{name} is {oid}: {:?}", world.piece(oid)));
        }
    }
    Ok(chains)
}

/// What was verified is verified still, and only went forward.
fn kept(world: &World, before: &Refs, after: &Refs) -> Result<(), String> {
    let now = verified(world, after)?;
    for (target, chain) in verified(world, before)? {
        let head = &chain[0].oid;
        if !now
            .get(target)
            .is_some_and(|now| now.iter().any(|piece| piece.oid == *head))
        {
            return Err(format!("the ledger of {target} lost {}", chain[0].what));
        }
        if let Some(old) = before.get(&pointer(target))
            && !after
                .get(&pointer(target))
                .is_some_and(|new| world.reaches(old, new))
        {
            return Err(format!(
                "the pointer of {target} went from {old} to {:?}",
                after.get(&pointer(target))
            ));
        }
    }
    Ok(())
}

/// The refs of a server whose newest record is this one.
fn refs_at(world: &World, head: &Piece, refs: &mut Refs) {
    let chain = world.chain(&head.oid).unwrap();
    for piece in &chain {
        refs.insert(piece.tag.clone(), piece.oid.clone());
    }
    refs.insert(ledger(head.target), head.oid.clone());
    if let Some(release) = chain.iter().find(|piece| piece.release) {
        refs.insert(pointer(head.target), release.commit.clone());
    }
}

/// The one push that brings a record: against what is there.
fn honest(refs: &Refs, piece: &Piece) -> Vec<Raw> {
    let now = |name: &str| refs.get(name).map_or(ZERO, String::as_str);
    let mut push = vec![
        Raw::new(now(&piece.tag), &piece.oid, &piece.tag),
        Raw::new(now(&ledger(piece.target)), &piece.oid, ledger(piece.target)),
    ];
    if piece.release {
        let name = pointer(piece.target);
        push.push(Raw::new(now(&name), &piece.commit, &name));
    }
    push.retain(|command| command.old != command.new);
    push
}

/// Any value of a small alphabet.
fn any(world: &World, refs: &Refs, name: &str, dice: &mut Dice) -> String {
    let commits: Vec<&String> = world.parents.keys().collect();
    match dice.below(6) {
        0 => ZERO.to_owned(),
        1 => refs.get(name).cloned().unwrap_or_else(|| ZERO.to_owned()),
        2 => commits[dice.below(commits.len())].clone(),
        _ => dice.of(&world.pieces).oid.clone(),
    }
}

/// A push that somebody makes who knows the format: a record as it should be pushed, with one thing or another changed;
/// or commands of which nothing fits.
fn push(world: &World, refs: &Refs, dice: &mut Dice) -> Vec<Raw> {
    let good: Vec<&Piece> = world
        .pieces
        .iter()
        .filter(|piece| piece.good && piece.before.as_ref() == refs.get(&ledger(piece.target)))
        .collect();
    let mut commands = match dice.below(8) {
        0 => Vec::new(),
        1..=4 if !good.is_empty() => honest(refs, good[dice.below(good.len())]),
        _ => honest(refs, dice.of(&world.pieces)),
    };
    if dice.chance(35) && !commands.is_empty() {
        return commands;
    }
    for command in &mut commands {
        match dice.below(9) {
            0 => command.old = any(world, refs, &command.name, dice),
            1 => command.new = any(world, refs, &command.name, dice),
            2 => command.old.clone_from(&command.new),
            _ => {}
        }
    }
    if dice.chance(25) && commands.len() > 1 {
        commands.remove(dice.below(commands.len()));
    }
    if dice.chance(10) && !commands.is_empty() {
        let twice = commands[dice.below(commands.len())].clone();
        commands.push(twice);
    }
    let more = if commands.is_empty() {
        1 + dice.below(4)
    } else {
        dice.below(3) / 2
    };
    for _ in 0..more {
        let piece = dice.of(&world.pieces);
        let name = match dice.below(5) {
            0 => ledger(TARGETS[dice.below(2)]),
            1 => pointer(TARGETS[dice.below(2)]),
            2 => STRANGE[dice.below(STRANGE.len())].to_owned(),
            _ => piece.tag.clone(),
        };
        let fits = name == piece.tag && dice.chance(50);
        let new = if fits {
            piece.oid.clone()
        } else {
            any(world, refs, &name, dice)
        };
        let old = match dice.below(4) {
            0 => any(world, refs, &name, dice),
            1 => new.clone(),
            _ => refs.get(&name).cloned().unwrap_or_else(|| ZERO.to_owned()),
        };
        commands.push(Raw { old, new, name });
    }
    let at = dice.below(commands.len());
    commands.rotate_left(at);
    commands
}

/// How often something happened: a run in which nothing ever lands proves nothing.
#[derive(Default)]
struct Count {
    pushes: AtomicUsize,
    landed: AtomicUsize,
    refused: AtomicUsize,
    at_once: AtomicUsize,
}

impl Count {
    fn add(&self, answer: &Answer) {
        self.pushes.fetch_add(1, Ordering::Relaxed);
        if answer.report.contains("ok refs/") {
            self.landed.fetch_add(1, Ordering::Relaxed);
        }
        if answer.said.contains("would break the record of a release") || answer.said.contains("(symbolic)") {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One sequence, from a server in any good state; what went wrong.
fn sequence(world: &World, hub: &Hub, seed: u64, count: &Count) -> Result<(), String> {
    let mut dice = Dice(seed);
    let good: Vec<&Piece> = world.pieces.iter().filter(|piece| piece.good).collect();
    let mut refs = Refs::new();
    for target in TARGETS {
        let heads: Vec<&&Piece> = good.iter().filter(|piece| piece.target == target).collect();
        if dice.chance(70) {
            refs_at(world, heads[dice.below(heads.len())], &mut refs);
        }
    }
    // What is there already is there whole; nothing is there where there is nothing yet.
    let (template, pack) = match refs.is_empty() {
        true => ("hub.git", &world.pack),
        false => ("full.git", &world.empty),
    };
    hub.reset(&world.lab.path(template), &refs, dice.chance(40));
    let mut before = hub.refs();
    let mut told = format!("seed {seed}, from {before:#?}\n");
    let mut check = |told: &mut String| {
        let after = hub.refs();
        kept(world, &before, &after).map_err(|why| format!("{why}\n{told}now {after:#?}"))?;
        before.clone_from(&after);
        Ok::<_, String>(after)
    };
    for _ in 0..PUSHES {
        let now = hub.refs();
        let many = if dice.chance(20) { 2 } else { 1 };
        let pushes: Vec<(Vec<Raw>, bool)> = (0..many)
            .map(|_| (push(world, &now, &mut dice), dice.chance(50)))
            .collect();
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let running: Vec<_> = pushes
                .iter()
                .map(|(commands, atomic)| {
                    scope.spawn(|| raw::receive(&hub.path, &world.path, commands, *atomic, pack))
                })
                .collect();
            running.into_iter().map(|one| one.join().unwrap()).collect()
        });
        count.at_once.fetch_add(pushes.len() - 1, Ordering::Relaxed);
        for ((commands, atomic), answer) in pushes.iter().zip(&answers) {
            count.add(answer);
            told.push_str(&format!(
                "atomic {atomic}: {commands:#?}\n{}{}\n",
                answer.report, answer.said
            ));
        }
        check(&mut told)?;
    }
    // What is right goes through at any time.
    let now = hub.refs();
    let behind = |piece: &&&Piece| piece.before.as_ref() == now.get(&ledger(piece.target));
    let next: Vec<&&Piece> = good.iter().filter(behind).collect();
    if !next.is_empty() {
        let piece = next[dice.below(next.len())];
        let commands = honest(&now, piece);
        let answer = raw::receive(&hub.path, &world.path, &commands, true, pack);
        let after = check(&mut told)?;
        if after.get(&ledger(piece.target)) != Some(&piece.oid) {
            return Err(format!(
                "{} did not land: {}{}\n{told}",
                piece.what, answer.report, answer.said
            ));
        }
    }
    Ok(())
}

/// All objects, and no ref to them.
fn unpack(hub: &Hub, pack: &[u8]) {
    let mut child = support::git_command(&hub.path)
        .args(["index-pack", "--stdin"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), pack).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn k1_k2_no_sequence_of_raw_pushes_takes_or_forges_anything() {
    let number = |name: &str, or: usize| std::env::var(name).map_or(or, |text| text.parse().unwrap());
    let (sequences, first) = (number("NIXGATE_SEQUENCES", SEQUENCES), number("NIXGATE_SEED", 1));
    let world = World::new();
    let full = world.hub("full.git");
    unpack(&full, &world.pack);
    let count = Count::default();
    let next = AtomicUsize::new(0);
    let work = |worker: usize| {
        let hub = world.hub(&format!("hub-{worker}.git"));
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= sequences {
                return None;
            }
            // Neighbours begin far from each other, and none at 0.
            let seed = ((first + n) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            if let Err(why) = sequence(&world, &hub, seed, &count) {
                next.store(sequences, Ordering::Relaxed);
                return Some(why);
            }
            if n % 500 == 499 {
                println!("{} sequences", n + 1);
            }
        }
    };
    let failed: Vec<String> = std::thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| scope.spawn(move || work(worker)))
            .collect();
        workers
            .into_iter()
            .filter_map(|worker| worker.join().unwrap())
            .collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    let [pushes, landed, refused, at_once] = [&count.pushes, &count.landed, &count.refused, &count.at_once]
        .map(|count| count.load(Ordering::Relaxed));
    println!(
        "{sequences} sequences, {pushes} pushes ({at_once} beside another): of {landed} something landed, {refused} were refused by the hooks"
    );
    // Both happen, or nothing was tried.
    assert!(
        landed * 20 > pushes && refused * 5 > pushes,
        "{landed} {refused} of {pushes}"
    );
}
