//! Comparing two texts of derivations but for the hashes of store paths: what differs beyond them was changed by
//! somebody, what differs in them only was rebuilt.

use memchr::memmem::Finder;
use std::collections::HashMap;
use std::sync::LazyLock;

const STORE: &[u8] = b"/nix/store/";
const HASH: usize = 32;
static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(STORE));

/// A store path in a text: where it begins, and where its hash does.
fn next_path(text: &[u8], from: usize) -> Option<(usize, usize)> {
    let mut at = from;
    loop {
        let found = at + FINDER.find(text.get(at..)?)?;
        let hash = found + STORE.len();
        let is_hash = |part: &[u8]| part.iter().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
        if text.get(hash..hash + HASH).is_some_and(is_hash) && text.get(hash + HASH) == Some(&b'-') {
            return Some((found, hash));
        }
        at = hash;
    }
}

/// Whether nothing differs but the hashes of store paths.
pub fn same_but_for_hashes(old: &[u8], new: &[u8]) -> bool {
    let (mut a, mut b) = (0, 0);
    loop {
        match (next_path(old, a), next_path(new, b)) {
            (None, None) => return old[a..] == new[b..],
            (Some((_, x)), Some((_, y))) => {
                if old[a..x] != new[b..y] {
                    return false;
                }
                (a, b) = (x + HASH, y + HASH);
            }
            _ => return false,
        }
    }
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
pub type Tokens<'a> = HashMap<&'a [u8], Token<'a>>;

/// The 32 digits of a full store path.
pub fn hash_of(path: &str) -> Option<&[u8]> {
    path.as_bytes().get(STORE.len()..STORE.len() + HASH)
}

/// A text as it compares with another side's: each store path replaced by what it stands for.
pub fn canonical(text: &[u8], tokens: &Tokens<'_>) -> Vec<u8> {
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
                out.extend_from_slice(format!("\0{number}.{output}\0").as_bytes());
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
        let tokens = |path: &'static str| Tokens::from([(hash_of(path).unwrap(), Token::Paired(3, "dev"))]);
        let (old, new): (&'static str, &'static str) = (old.leak(), new.leak());
        let a = canonical(format!("-I{old}/include").as_bytes(), &tokens(old));
        let b = canonical(format!("-I{new}/include").as_bytes(), &tokens(new));
        assert_eq!(a, b);
        assert_eq!(a, b"-I\x003.dev\x00/include");
    }

    #[test]
    fn a_word_that_only_one_side_has_is_left_out_of_its_list_and_of_nothing_else() {
        let alone: &'static str = path('a', "x").leak();
        let tokens = Tokens::from([(hash_of(alone).unwrap(), Token::Alone)]);
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

    proptest! {
        #[test]
        fn nothing_panics(text in "(/nix/store/|[a-z0-9]{32}-|[ \\\\\"n=a]){0,12}") {
            let tokens = Tokens::new();
            let _ = canonical(text.as_bytes(), &tokens);
            prop_assert!(same_but_for_hashes(text.as_bytes(), text.as_bytes()));
        }
    }
}
