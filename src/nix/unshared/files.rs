//! The derivations that two toplevels do not share, read from this machine's own files: the walk of `unshared.sh`, on two
//! threads, one for each side.

use crate::diff::drv;
use crate::nix::path::StorePath;
use rustc_hash::FxHashSet;
use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::read;
use std::hash::{Hash, Hasher};
use std::os::fd::OwnedFd;

/// Derivations: their texts one behind the other, in pieces, and where in them each path and its text is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Texts {
    pub pieces: Vec<Vec<u8>>,
    pub parts: Vec<(Place, Place)>,
}

/// Where something stands in texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub piece: usize,
    pub from: usize,
    pub to: usize,
}

impl Texts {
    pub fn at(&self, place: Place) -> &[u8] {
        &self.pieces[place.piece][place.from..place.to]
    }
}

/// Fewer files than this are not worth a thread.
const FEW: usize = 32;
/// How much is read at once: hardly a derivation is larger.
const BLOCK: usize = 32 << 10;
/// The size of a piece; it does not grow, so that nothing is moved.
const PIECE: usize = 1 << 20;
const STORE: &str = "/nix/store/";

/// The 32 digits that make a store path unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Digits([u8; 32]);

impl Digits {
    fn of(path: &str) -> Option<Digits> {
        let digits = path.strip_prefix(STORE)?.as_bytes();
        digits.first_chunk().copied().map(Digits)
    }
}

impl Hash for Digits {
    /// They are a hash themselves: a part of them tells them apart.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

type Set = FxHashSet<Digits>;

/// One side of the walk.
#[derive(Default)]
struct Side {
    texts: Texts,
    /// Paths to be looked at next.
    ahead: Vec<Place>,
    /// Of what was read last, the first output and the inputs that are new here.
    last: Vec<(Option<Digits>, Vec<Place>)>,
}

/// The derivations that `old` and `new` do not share, of each side, in a file system that begins at `root`. `None`: one
/// cannot be read.
pub(super) fn read_all(root: &str, old: &StorePath, new: &StorePath) -> Option<[Texts; 2]> {
    // From here on files have short names: the kernel looks up each part of a path.
    let store = openat(
        CWD,
        format!("{root}{STORE}"),
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let store = store.ok()?;
    let mut sides = [old, new].map(|top| Side {
        texts: Texts {
            pieces: vec![top.as_str().as_bytes().to_vec()],
            parts: Vec::new(),
        },
        ahead: vec![Place {
            piece: 0,
            from: 0,
            to: top.as_str().len(),
        }],
        ..Side::default()
    });
    let mut seen = [Set::default(), Set::default()];
    for (seen, top) in seen.iter_mut().zip([old, new]) {
        seen.insert(Digits::of(top.as_str())?);
    }
    let mut made = [Set::default(), Set::default()];
    while sides.iter().any(|side| !side.ahead.is_empty()) {
        // Each side one level further, then what lies behind those whose outputs the other side does not make.
        let few = sides.iter().any(|side| side.ahead.len() < FEW);
        let ([a, b], [mine, theirs]) = (&mut sides, &mut made);
        let (visited, others) = both(
            few,
            || a.visit(&store, mine, [&seen[0], &seen[1]]),
            || b.visit(&store, theirs, [&seen[1], &seen[0]]),
        );
        visited.and(others)?;
        let ([a, b], [mine, theirs]) = (&mut sides, &mut seen);
        both(few, || a.go_on(mine, &made[1]), || b.go_on(theirs, &made[0]));
    }
    Some(sides.map(|side| side.texts))
}

/// Does two things, at once where that pays.
fn both<R: Send>(few: bool, one: impl FnOnce() -> R, two: impl FnOnce() -> R + Send) -> (R, R) {
    if few {
        return (one(), two());
    }
    std::thread::scope(|scope| {
        let two = scope.spawn(two);
        let one = one();
        match two.join() {
            Ok(two) => (one, two),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

impl Side {
    /// Reads what is ahead and the other side has not met.
    fn visit(&mut self, store: &OwnedFd, made: &mut Set, [seen, others]: [&Set; 2]) -> Option<()> {
        self.last.clear();
        let mut name = String::new();
        for at in std::mem::take(&mut self.ahead) {
            let path = std::str::from_utf8(self.texts.at(at)).ok()?;
            if others.contains(&Digits::of(path)?) {
                continue;
            }
            name.clear();
            name.push_str(path.strip_prefix(STORE)?);
            let place = self.texts.append(store, &name).ok()?;
            let text = self.texts.at(place);
            let (mut first, mut behind, mut bad) = (None, Vec::new(), false);
            let output = |output: drv::Output<'_>| {
                let digits = Digits::of(output.path);
                first = first.or(digits);
                made.extend(digits);
            };
            let input = |path: &str| match Digits::of(path) {
                // Most inputs were met before.
                Some(digits) if seen.contains(&digits) => {}
                Some(_) => {
                    let from = place.from + (path.as_ptr().addr() - text.as_ptr().addr());
                    let to = from + path.len();
                    behind.push(Place { from, to, ..place });
                }
                None => bad = true,
            };
            drv::head(text, output, input).ok()?;
            if bad {
                return None;
            }
            self.last.push((first, behind));
            self.texts.parts.push((at, place));
        }
        Some(())
    }

    /// What lies behind those that were read, but for those whose outputs the other side makes too.
    fn go_on(&mut self, seen: &mut Set, others: &Set) {
        for (first, behind) in std::mem::take(&mut self.last) {
            if first.is_some_and(|first| others.contains(&first)) {
                continue;
            }
            for at in behind {
                let path = std::str::from_utf8(self.texts.at(at)).ok();
                if path
                    .and_then(Digits::of)
                    .is_some_and(|digits| seen.insert(digits))
                {
                    self.ahead.push(at);
                }
            }
        }
    }
}

impl Texts {
    /// Reads a derivation behind what is there; `name` is its path in the store.
    fn append(&mut self, store: &OwnedFd, name: &str) -> rustix::io::Result<Place> {
        let file = openat(store, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let is_full = |piece: &Vec<u8>| piece.capacity() - piece.len() < BLOCK;
        if self.pieces.last().is_none_or(is_full) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        let piece = self.pieces.len() - 1;
        let text = &mut self.pieces[piece];
        let from = text.len();
        loop {
            let count = read(&file, spare_capacity(text))?;
            // Less than there is room for is mostly the end: derivations have one of their own.
            let room = text.capacity() > text.len();
            if count == 0 || (room && drv::is_whole(text)) {
                let to = text.len();
                return Ok(Place { piece, from, to });
            }
            text.reserve(BLOCK);
        }
    }
}
