//! The derivations that two toplevels do not share, read from this machine's own files: the walk of `unshared.sh`, on two
//! threads, one for each side.

use crate::diff::drv;
use crate::nix::path::StorePath;
use rustc_hash::FxHashSet;
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::ops::Range;

/// The derivations of one side: their texts one behind the other, and where in them each path and its text is.
pub(super) type Texts = (Vec<u8>, Vec<(Range<usize>, Range<usize>)>);

/// Fewer files than this are not worth a thread.
const FEW: usize = 32;
/// Hardly a derivation is larger.
const BLOCK: usize = 32 << 10;
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
    /// Paths and texts.
    text: Vec<u8>,
    read: Vec<(Range<usize>, Range<usize>)>,
    /// Paths to be looked at next, by where they stand in `text`.
    ahead: Vec<Range<usize>>,
    /// Of what was read last, the first output and the inputs that are new here.
    last: Vec<(Option<Digits>, Vec<Range<usize>>)>,
}

/// The derivations that `old` and `new` do not share, of each side, in a file system that begins at `root`. `None`: one
/// cannot be read.
pub(super) fn read(root: &str, old: &StorePath, new: &StorePath) -> Option<[Texts; 2]> {
    let mut sides = [old, new].map(|top| Side {
        text: top.as_str().as_bytes().to_vec(),
        ahead: std::iter::once(0..top.as_str().len()).collect(),
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
            || a.visit(root, mine, [&seen[0], &seen[1]]),
            || b.visit(root, theirs, [&seen[1], &seen[0]]),
        );
        visited?;
        others?;
        let ([a, b], [mine, theirs]) = (&mut sides, &mut seen);
        both(few, || a.go_on(mine, &made[1]), || b.go_on(theirs, &made[0]));
    }
    Some(sides.map(|side| (side.text, side.read)))
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
    fn visit(&mut self, root: &str, made: &mut Set, [seen, others]: [&Set; 2]) -> Option<()> {
        self.last.clear();
        let mut file = String::new();
        let mut block = vec![0; BLOCK];
        for at in std::mem::take(&mut self.ahead) {
            let path = std::str::from_utf8(&self.text[at.clone()]).ok()?;
            if others.contains(&Digits::of(path)?) {
                continue;
            }
            file.clear();
            file.push_str(root);
            file.push_str(path);
            let from = self.text.len();
            append(&file, &mut block, &mut self.text).ok()?;
            let text = &self.text[from..];
            // One that breaks off has lost its end.
            if text.last() != Some(&b')') {
                return None;
            }
            let (outputs, inputs) = drv::head(text).ok()?;
            made.extend(outputs.iter().filter_map(|output| Digits::of(output.path)));
            let first = outputs.first().and_then(|output| Digits::of(output.path));
            let mut behind = Vec::new();
            for (path, _) in inputs {
                // Most inputs were met before.
                if !seen.contains(&Digits::of(path)?) {
                    let begin = from + (path.as_ptr().addr() - text.as_ptr().addr());
                    behind.push(begin..begin + path.len());
                }
            }
            self.last.push((first, behind));
            self.read.push((at, from..self.text.len()));
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
                let path = std::str::from_utf8(&self.text[at.clone()]).ok();
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

/// Reads a file to the end of `text`, by way of `block`.
fn append(path: &str, block: &mut [u8], text: &mut Vec<u8>) -> std::io::Result<()> {
    let mut file = std::fs::File::open(path)?;
    loop {
        match file.read(block)? {
            0 => return Ok(()),
            count => text.extend_from_slice(&block[..count]),
        }
    }
}
