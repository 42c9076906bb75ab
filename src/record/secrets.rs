//! Values that no record may hold, and how they are found in text. Values and no patterns: a version looks like an
//! address, and a user's name like a word. Pure: who knows the values gives them.

use std::net::IpAddr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands where a value stood.
pub const REDACTED: &str = "[redacted]";
/// Shorter words would blank half of every text.
const SHORTEST_WORD: usize = 2;
/// Shorter keys are looked for as words.
const SHORTEST_KEY: usize = 8;
/// No address is longer, in any spelling.
const LONGEST_ADDRESS: usize = 45;
/// What needs no escape in a URL (RFC 3986 §2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Values that are not to leave the operator.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    words: Vec<String>,
    addresses: Vec<IpAddr>,
    keys: Vec<String>,
}

/// Tells how many there are, and none of them.
impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.len())
    }
}

impl Secrets {
    /// A user, a host or a folder: found where it is a word of its own, in a URL's spelling too. An address is found in
    /// each of its spellings.
    pub fn word(&mut self, value: &str) {
        let value = match value.trim() {
            // `/home/op/` is in `/home/op/infra` no word of its own.
            path if path.starts_with('/') => path.trim_end_matches('/'),
            other => other,
        };
        if let Some(address) = address(value) {
            self.addresses.push(address.to_canonical());
        } else if value.len() >= SHORTEST_WORD {
            both(&mut self.words, value);
        }
    }

    /// A token or a password: found wherever it stands, in a URL's spelling too. A short one is a word.
    pub fn key(&mut self, value: &str) {
        let value = value.trim();
        if value.len() < SHORTEST_KEY {
            self.word(value);
        } else {
            both(&mut self.keys, value);
        }
    }

    /// Takes over what another one knows.
    pub fn extend(&mut self, other: Secrets) {
        self.words.extend(other.words);
        self.addresses.extend(other.addresses);
        self.keys.extend(other.keys);
    }

    /// Words that may be said after all, because they stand in every record.
    pub fn allow(&mut self, said: impl Fn(&str) -> bool) {
        self.words.retain(|word| !said(word));
    }

    /// All but the words: a user's or a host's name may be a word of any sentence.
    #[must_use]
    pub fn without_words(&self) -> Secrets {
        Secrets {
            words: Vec::new(),
            ..self.clone()
        }
    }

    /// Tokens and passwords alone.
    #[must_use]
    pub fn keys(&self) -> Secrets {
        Secrets {
            keys: self.keys.clone(),
            ..Secrets::default()
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.words.len() + self.addresses.len() + self.keys.len()
    }

    /// The text with `[redacted]` where a value stood.
    pub fn redact(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut from = 0;
        for (start, end) in self.places(text) {
            out.push_str(&text[from..start]);
            out.push_str(REDACTED);
            from = end;
        }
        out.push_str(&text[from..]);
        out
    }

    /// How many places of a text hold a value.
    pub fn count(&self, text: &str) -> usize {
        // Somebody may be called like the mark.
        self.places(&text.replace(REDACTED, "[]")).len()
    }

    /// Where values stand, in order; what overlaps is one place.
    fn places(&self, text: &str) -> Vec<(usize, usize)> {
        let mut found: Vec<(usize, usize)> = Vec::new();
        for key in &self.keys {
            found.extend(
                text.match_indices(key.as_str())
                    .map(|(at, _)| (at, at + key.len())),
            );
        }
        for word in &self.words {
            let hits = text
                .match_indices(word.as_str())
                .map(|(at, _)| (at, at + word.len()));
            found.extend(hits.filter(|(start, end)| is_whole(text, *start, *end)));
        }
        if !self.addresses.is_empty() {
            found.extend(addresses(text).filter_map(|(start, end, address)| {
                self.addresses
                    .contains(&address.to_canonical())
                    .then_some((start, end))
            }));
        }
        found.sort_unstable();
        let mut places: Vec<(usize, usize)> = Vec::new();
        for (start, end) in found {
            match places.last_mut() {
                Some(last) if start < last.1 => last.1 = last.1.max(end),
                _ => places.push((start, end)),
            }
        }
        places
    }
}

/// A value, and what it is in a URL where that differs.
fn both(list: &mut Vec<String>, value: &str) {
    for spelling in [
        value.to_owned(),
        utf8_percent_encode(value, UNRESERVED)
            .to_string()
            .replace("%2F", "/"),
        utf8_percent_encode(value, UNRESERVED).to_string(),
    ] {
        if !list.contains(&spelling) {
            list.push(spelling);
        }
    }
}

/// An address as a configuration may write it: in brackets, with a zone.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let bare = bare.unwrap_or(text);
    bare.split('%').next().unwrap_or(bare).parse().ok()
}

/// Every address that a text may be read to hold, and where: at each place the longest that ends there as a word.
fn addresses(text: &str) -> impl Iterator<Item = (usize, usize, IpAddr)> + '_ {
    let bytes = text.as_bytes();
    let part = |b: u8| b.is_ascii_hexdigit() || b == b'.' || b == b':';
    let begins =
        move |at: usize| (bytes[at].is_ascii_hexdigit() || bytes[at] == b':') && !is_joined_before(text, at);
    (0..bytes.len())
        .filter(move |at| begins(*at))
        .filter_map(move |start| {
            let run = bytes[start..]
                .iter()
                .take(LONGEST_ADDRESS)
                .take_while(|b| part(**b));
            let most = start + run.count();
            // Most words are no address: one has a colon or three dots.
            let run = &text[start..most];
            if !run.contains(':') && run.matches('.').count() < 3 {
                return None;
            }
            (start + 2..=most).rev().find_map(|end| {
                if is_joined_after(text, end) {
                    return None;
                }
                let found = text[start..end].parse().ok()?;
                Some((start, end, found))
            })
        })
}

/// Whether what stands there is a word of its own: a user named `nixos` is not every `nixos-system-…`, and 10.0.0.2 is
/// not 10.0.0.20. Where the value itself begins or ends with a sign, whatever stands beside it does not join it.
fn is_whole(text: &str, start: usize, end: usize) -> bool {
    let value = &text[start..end];
    let joins = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    !(joins(value.chars().next()) && is_joined_before(text, start)
        || joins(value.chars().next_back()) && is_joined_after(text, end))
}

fn is_joined_before(text: &str, at: usize) -> bool {
    is_joined(text[..at].chars().rev())
}

fn is_joined_after(text: &str, at: usize) -> bool {
    is_joined(text[at..].chars())
}

fn is_joined(mut beside: impl Iterator<Item = char>) -> bool {
    match beside.next() {
        // A full stop ends a sentence or goes on with a name.
        Some('.') => beside.next().is_some_and(char::is_alphanumeric),
        Some(c) => c.is_alphanumeric() || c == '-' || c == '_',
        None => false,
    }
}

/// The users and passwords of the URLs in a text (RFC 3986 §3.2.1), as they are written and as they are meant.
pub fn userinfo(text: &str) -> impl Iterator<Item = (String, Option<String>)> + '_ {
    let rests = text.match_indices("://").map(|(at, _)| &text[at + 3..]);
    rests.filter_map(|rest| {
        let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '<' | '>');
        let authority = rest.split(ends).next()?;
        let (who, _) = authority.rsplit_once('@')?;
        let meant = |part: &str| {
            percent_encoding::percent_decode_str(part)
                .decode_utf8_lossy()
                .into_owned()
        };
        let (user, password) = match who.split_once(':') {
            Some((user, password)) => (user, Some(meant(password))),
            None => (who, None),
        };
        Some((meant(user), password))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str], keys: &[&str]) -> Secrets {
        let mut secrets = Secrets::default();
        words.iter().for_each(|word| secrets.word(word));
        keys.iter().for_each(|key| secrets.key(key));
        secrets
    }

    #[test]
    fn words_are_words_and_what_looks_like_them_stays() {
        let secrets = of(&["nixos", "10.0.0.2", "/home/op", "cortex.lan"], &[]);
        for (text, safe) in [
            ("nixos@cortex", "[redacted]@cortex"),
            ("as nixos.", "as [redacted]."),
            ("/nix/store/x-nixos-system-cortex", ""),
            (
                "10.0.0.2:22, not 10.0.0.20 nor 110.0.0.2",
                "[redacted]:22, not 10.0.0.20 nor 110.0.0.2",
            ),
            ("nginx 1.10.0.0.2, 10.0.0.2-r1, x-10.0.0.2", ""),
            ("in /home/op/infra", "in [redacted]/infra"),
            ("-I/home/op/include", "-I[redacted]/include"),
            ("/home/opera /home/op-x", ""),
            ("ssh://10.0.0.2/", "ssh://[redacted]/"),
            ("10.0.0.2.", "[redacted]."),
            (
                "at cortex.lan. cortex.lan.example",
                "at [redacted]. cortex.lan.example",
            ),
            ("file:///home/nixos/x", "file:///home/[redacted]/x"),
        ] {
            let safe = if safe.is_empty() { text } else { safe };
            assert_eq!(secrets.redact(text), safe);
            assert_eq!(secrets.count(text), safe.matches(REDACTED).count(), "{text}");
            assert_eq!(secrets.count(safe), 0, "{safe}");
        }
        assert_eq!(of(&["abc", "abcab"], &[]).redact("abcab"), REDACTED);
        assert!(of(&["", "x", " "], &["", "y"]).is_empty());
        // A home with a slash at its end, and a user who is called like the mark.
        assert_eq!(of(&["/home/op/"], &[]).redact("/home/op/x"), "[redacted]/x");
        assert_eq!(of(&["redacted"], &[]).count("by [redacted]"), 0);
    }

    #[test]
    fn an_address_is_found_however_it_is_spelled() {
        let secrets = of(&["FD00:0::7", "[fe80::1%eth0]", "192.0.2.7"], &[]);
        for text in [
            "fd00::7",
            "FD00::7",
            "[fd00::7]:22",
            "fd00:0:0:0:0:0:0:7",
            "fd00:0000:0000:0000:0000:0000:0000:0007",
            "ssh://root@[fd00::0007]/nix",
            "host:fd00::7: refused",
            "fe80::1%eth1",
            "192.0.2.7",
            "::ffff:192.0.2.7",
            "::ffff:c000:207",
            "192.0.2.7:443",
            "(192.0.2.7)",
        ] {
            assert_eq!(secrets.count(text), 1, "{text}: {}", secrets.redact(text));
            assert_eq!(secrets.count(&secrets.redact(text)), 0, "{text}");
        }
        for text in [
            "fd00::8",
            "12:30:07",
            "192.0.2.70",
            "192.0.2.7.1",
            "go 1.192.0.2.7",
            "sha256:fd00",
            "::",
            "1::é",
        ] {
            assert_eq!(secrets.redact(text), text);
        }
    }

    #[test]
    fn a_key_is_found_wherever_it_stands_and_as_a_url_has_it() {
        let secrets = of(&[], &["p@ss/wörd1", "tok-en-123", "short"]);
        for (text, safe) in [
            ("xtok-en-123y", "x[redacted]y"),
            ("Bearer_tok-en-123.", "Bearer_[redacted]."),
            ("https://u:p@ss/wörd1@h", "https://u:[redacted]@h"),
            ("https://u:p%40ss%2Fw%C3%B6rd1@h", "https://u:[redacted]@h"),
            ("https://u:p%40ss/w%C3%B6rd1@h", "https://u:[redacted]@h"),
            ("in short, shortly", "in [redacted], shortly"),
        ] {
            assert_eq!(secrets.redact(text), safe);
        }
        assert_eq!(format!("{secrets:?}").matches("123").count(), 0);
        assert_eq!(
            secrets.keys().redact("in short: tok-en-123"),
            "in short: [redacted]"
        );
    }

    #[test]
    fn a_url_tells_who_asks() {
        let text = "warning: 'https://op:p%40ss@cache.example.org/x?y@z', git+ssh://git@host/x, \
                    https://h/a@b ssh://[fd00::7]:22/ https://tok@h";
        let found: Vec<_> = userinfo(text).collect();
        assert_eq!(
            found,
            [
                ("op".to_owned(), Some("p@ss".to_owned())),
                ("git".to_owned(), None),
                ("tok".to_owned(), None)
            ]
        );
    }
}
