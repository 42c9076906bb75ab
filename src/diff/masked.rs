//! Comparing two texts of derivations but for the hashes of store paths: what differs beyond them was changed by
//! somebody, what differs in them only was rebuilt.

use memchr::memmem::Finder;
use rustc_hash::FxHashMap;
use std::io::Write;
use std::sync::LazyLock;

const STORE: &[u8] = b"/nix/store/";
const HASH: usize = 32;
static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(STORE));

fn is_digit(byte: &u8) -> bool {
    byte.is_ascii_digit() || byte.is_ascii_lowercase()
}

/// A store path in a text: where it begins, and where its hash does.
fn next_path(text: &[u8], from: usize) -> Option<(usize, usize)> {
    let mut at = from;
    loop {
        let found = at + FINDER.find(text.get(at..)?)?;
        let hash = found + STORE.len();
        let is_hash = |part: &[u8]| part.iter().all(is_digit);
        if text.get(hash..hash + HASH).is_some_and(is_hash) && text.get(hash + HASH) == Some(&b'-') {
            return Some((found, hash));
        }
        at = hash;
    }
}

/// Whether nothing differs but the hashes of store paths.
pub fn same_but_for_hashes(old: &[u8], new: &[u8]) -> bool {
    if old.len() != new.len() {
        return false;
    }
    let mut at = 0;
    // Most of both texts is equal: only where it is not, is looked for a path.
    while let Some(ahead) = mismatch(&old[at..], &new[at..]) {
        at += ahead;
        match (hash_around(old, at), hash_around(new, at)) {
            (Some(end), Some(other)) if end == other => at = end,
            _ => return false,
        }
    }
    true
}

/// Where two texts of one length begin to differ.
fn mismatch(a: &[u8], b: &[u8]) -> Option<usize> {
    const STEP: usize = 16;
    let steps = a.chunks_exact(STEP).zip(b.chunks_exact(STEP));
    let at = STEP * steps.take_while(|(x, y)| x == y).count();
    let rest = a[at..].iter().zip(&b[at..]).position(|(x, y)| x != y);
    rest.map(|ahead| at + ahead)
}

/// The end of a store path's hash that the byte `at` is part of.
fn hash_around(text: &[u8], at: usize) -> Option<usize> {
    let before = &text[..at];
    let inside = before.iter().rev().take(HASH).take_while(|b| is_digit(b)).count();
    let (begin, end) = (at - inside, at - inside + HASH);
    let is_path = inside < HASH
        && text[..begin].ends_with(STORE)
        && text.get(end) == Some(&b'-')
        && text[at..end].iter().all(is_digit);
    is_path.then_some(end)
}

/// What a store path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    /// An output of the nth input that both sides have, whatever it is called.
    Paired(usize, &'a str),
    /// Something that only this side has. As a word of a list it is left out: that it came or went is told by itself.
    Alone,
}

/// What the hashes in a text stand for, by hash.
pub type Tokens<'a> = FxHashMap<&'a [u8], Token<'a>>;

/// The 32 digits of a full store path.
pub fn hash_of(path: &str) -> Option<&[u8]> {
    path.as_bytes().get(STORE.len()..STORE.len() + HASH)
}

/// Whether two texts are equal once each store path is replaced by what it stands for.
pub fn same_but_for_tokens(old: (&[u8], &Tokens<'_>), new: (&[u8], &Tokens<'_>)) -> bool {
    in_step(old, new) || canonical(old.0, old.1) == canonical(new.0, new.1)
}

/// The same where nothing stands on one side alone, found without a copy. True of a whole, it is true of each part of it.
pub fn in_step((old, before): (&[u8], &Tokens<'_>), (new, after): (&[u8], &Tokens<'_>)) -> bool {
    let (mut a, mut b) = (0, 0);
    loop {
        match (next_path(old, a), next_path(new, b)) {
            (None, None) => return old[a..] == new[b..],
            (Some((begin, x)), Some((other, y))) if old[a..begin] == new[b..other] => {
                let (name, renamed) = (x + HASH, y + HASH);
                match (before.get(&old[x..name]), after.get(&new[y..renamed])) {
                    (None, None) => (a, b) = (name, renamed),
                    (Some(this @ Token::Paired(..)), Some(that)) if this == that => {
                        a = name + name_length(&old[name..]);
                        b = renamed + name_length(&new[renamed..]);
                    }
                    _ => return false,
                }
            }
            _ => return false,
        }
    }
}

/// A text as it compares with another side's: each store path replaced by what it stands for.
fn canonical(text: &[u8], tokens: &Tokens<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some((begin, hash)) = next_path(text, at) {
        out.extend_from_slice(&text[at..begin]);
        let name = hash + HASH;
        let end = name + name_length(&text[name..]);
        match tokens.get(&text[hash..name]) {
            None => {
                out.extend_from_slice(STORE);
                out.push(b'*');
                at = name;
            }
            Some(Token::Paired(number, output)) => {
                // Writing to memory cannot fail.
                let _ = write!(out, "\0{number}.{output}\0");
                at = end;
            }
            Some(Token::Alone) => match word(text, begin, end) {
                Some(word) => {
                    out.truncate(out.len().saturating_sub(word.quote));
                    if word.is_last {
                        for gap in [&b" "[..], b"\\n", b","] {
                            if out.ends_with(gap) {
                                out.truncate(out.len() - gap.len());
                                break;
                            }
                        }
                    }
                    at = word.next;
                }
                None => {
                    out.extend_from_slice(&text[begin..end]);
                    at = end;
                }
            },
        }
    }
    out.extend_from_slice(&text[at..]);
    out
}

fn name_length(text: &[u8]) -> usize {
    text.iter()
        .position(|b| !(b.is_ascii_alphanumeric() || b"+-._?=".contains(b)))
        .unwrap_or(text.len())
}

/// A word of a list.
struct Word {
    /// Where the text goes on behind it and the gap that follows.
    next: usize,
    is_last: bool,
    /// The length of the quote before it.
    quote: usize,
}

/// The word from `begin` on, if the path ending at `end` begins a word of a list: words with blanks or line feeds between
/// them, or strings of JSON.
fn word(text: &[u8], begin: usize, end: usize) -> Option<Word> {
    let (before, after) = (&text[..begin], &text[end..]);
    // Quotes and line feeds are escaped in a derivation.
    if before.ends_with(b"\\\"") {
        let rest = after.strip_prefix(b"\\\"")?;
        let more = rest.first() == Some(&b',');
        return Some(Word {
            next: end + 2 + usize::from(more),
            is_last: !more,
            quote: 2,
        });
    }
    if !(before.is_empty() || before.ends_with(b" ") || before.ends_with(b"\\n")) {
        return None;
    }
    let length = after
        .iter()
        .position(|b| *b == b' ' || *b == b'\\')
        .unwrap_or(after.len());
    let gap = match &after[length..] {
        [] => 0,
        [b' ', ..] => 1,
        [b'\\', b'n', ..] => 2,
        _ => return None,
    };
    Some(Word {
        next: end + length + gap,
        is_last: gap == 0,
        quote: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(digit: char, name: &str) -> String {
        format!("/nix/store/{}-{name}", digit.to_string().repeat(32))
    }

    #[test]
    fn hashes_do_not_count_and_names_do() {
        let text = |a, b| format!("PATH={}/bin:{}", path(a, "x-1"), path(b, "y"));
        assert!(same_but_for_hashes(
            text('a', 'b').as_bytes(),
            text('c', 'd').as_bytes()
        ));
        for (old, new) in [
            (path('a', "x-1"), path('a', "x-2")),
            (path('a', "x"), "x".into()),
            (path('a', "x"), format!("{} ", path('a', "x"))),
            ("/nix/store/short-x".into(), "/nix/store/shirt-x".into()),
        ] {
            assert!(
                !same_but_for_hashes(old.as_bytes(), new.as_bytes()),
                "{old} {new}"
            );
        }
    }

    #[test]
    fn what_an_input_is_called_does_not_count_where_it_is_paired() {
        let (old, new) = (path('a', "x-1-dev"), path('b', "x-2-dev"));
        let tokens =
            |path: &'static str| Tokens::from_iter([(hash_of(path).unwrap(), Token::Paired(3, "dev"))]);
        let (old, new): (&'static str, &'static str) = (old.leak(), new.leak());
        let texts = [old, new].map(|path| format!("-I{path}/include"));
        let [a, b] = [(&texts[0], tokens(old)), (&texts[1], tokens(new))];
        for side in [&a, &b] {
            assert_eq!(canonical(side.0.as_bytes(), &side.1), b"-I\x003.dev\x00/include");
        }
        assert!(same_but_for_tokens(
            (a.0.as_bytes(), &a.1),
            (b.0.as_bytes(), &b.1)
        ));
    }

    #[test]
    fn a_word_that_only_one_side_has_is_left_out_of_its_list_and_of_nothing_else() {
        let alone: &'static str = path('a', "x").leak();
        let tokens = Tokens::from_iter([(hash_of(alone).unwrap(), Token::Alone)]);
        let out = |text: &str| String::from_utf8(canonical(text.as_bytes(), &tokens)).unwrap();
        assert_eq!(out(alone), "");
        assert_eq!(out(&format!("a {alone} b")), "a b");
        assert_eq!(out(&format!("{alone}/bin b")), "b");
        assert_eq!(out(&format!("a {alone}")), "a");
        assert_eq!(out(&format!("a\\n{alone}\\nb")), "a\\nb");
        assert_eq!(out(&format!("[\\\"{alone}\\\",\\\"b\\\"]")), "[\\\"b\\\"]");
        assert_eq!(out(&format!("[\\\"b\\\",\\\"{alone}\\\"]")), "[\\\"b\\\"]");
        assert_eq!(out(&format!("x={alone} b")), format!("x={alone} b"));
    }

    /// What the quick ways must agree with: every hash blanked.
    fn blanked(text: &[u8]) -> Vec<u8> {
        let mut out = text.to_vec();
        let mut at = 0;
        while let Some((_, hash)) = next_path(text, at) {
            out[hash..hash + HASH].fill(b'*');
            at = hash + HASH;
        }
        out
    }

    proptest! {
        #[test]
        fn nothing_panics_and_the_quick_ways_say_the_same(
            parts in proptest::collection::vec(("(/nix/store/)?", "[ab]{31,33}|[aB]{32}|", "-?[ \\\\\"n=a]?"), 0..8),
            other in proptest::collection::vec("[ab]{31,33}|[aB]{32}|", 8),
            known in 0..4usize,
        ) {
            let text = |hashes: &dyn Fn(usize) -> String| -> String {
                let parts = parts.iter().enumerate();
                parts.map(|(at, (store, _, rest))| format!("{store}{}{rest}", hashes(at))).collect()
            };
            let old = text(&|at| parts[at].1.clone());
            let new = text(&|at| if at % 2 == 0 { other[at].clone() } else { parts[at].1.clone() });
            let (old, new) = (old.as_bytes(), new.as_bytes());
            prop_assert_eq!(same_but_for_hashes(old, new), blanked(old) == blanked(new));
            prop_assert!(same_but_for_hashes(old, old));
            // Some of the paths are known.
            let tokens = |text: &'_ [u8]| -> Vec<(Vec<u8>, Token<'static>)> {
                let mut tokens = Vec::new();
                let mut at = 0;
                while let Some((_, hash)) = next_path(text, at) {
                    let token = match tokens.len() {
                        n if n == known => Token::Alone,
                        n => Token::Paired(n % 2, "out"),
                    };
                    tokens.push((text[hash..hash + HASH].to_vec(), token));
                    at = hash + HASH;
                }
                tokens.truncate(known + 1);
                tokens
            };
            let (before, after) = (tokens(old), tokens(new));
            let before: Tokens<'_> = before.iter().map(|(hash, token)| (hash.as_slice(), *token)).collect();
            let after: Tokens<'_> = after.iter().map(|(hash, token)| (hash.as_slice(), *token)).collect();
            prop_assert_eq!(
                same_but_for_tokens((old, &before), (new, &after)),
                canonical(old, &before) == canonical(new, &after)
            );
        }
    }
}
