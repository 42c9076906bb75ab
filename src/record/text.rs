//! Text that came from elsewhere, made safe to store and to show: control bytes and bidi overrides become visible
//! escapes, so that no record can move the cursor, hide a line or turn its reading order around.

/// Whether a character may stand as it is in a line of text.
pub(crate) fn plain(c: char) -> bool {
    let bidi = matches!(
        c,
        '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    !(c.is_control() || bidi)
}

/// One line, with everything that could act on a terminal escaped (`\u{1b}` and so on). Line breaks are escaped too.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if plain(c) {
            out.push(c);
        } else {
            out.extend(c.escape_unicode());
        }
    }
    out
}

/// [`shown`], keeping line breaks and tabs: for whole bodies.
pub fn shown_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if plain(c) || c == '\n' || c == '\t' {
            out.push(c);
        } else {
            out.extend(c.escape_unicode());
        }
    }
    out
}

/// The most bytes that one line of a record's prose has.
const LINE: usize = 400;

/// A line of prose for a record's body: escaped, cut, and never the head of an armor or of a trailer block, at which
/// git would cut the body.
pub fn prose(text: &str) -> String {
    let mut line = cut(shown(text).trim_end(), LINE);
    if line.trim_start().starts_with("---") {
        line.insert_str(0, "| ");
    }
    line
}

/// At most `most` bytes of `text`, ending at a character's end; `…` marks a cut.
pub fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_act_on_a_terminal_becomes_visible() {
        assert_eq!(
            shown("a\u{1b}[2Jb\rc\u{202e}d\u{9b}e\n"),
            "a\\u{1b}[2Jb\\u{d}c\\u{202e}d\\u{9b}e\\u{a}"
        );
        assert_eq!(shown_lines("a\n\tb\u{7}"), "a\n\tb\\u{7}");
        assert_eq!(shown("Grüße, 世界"), "Grüße, 世界");
    }

    #[test]
    fn prose_is_never_an_armor_head() {
        assert_eq!(
            prose("-----BEGIN SSH SIGNATURE-----"),
            "| -----BEGIN SSH SIGNATURE-----"
        );
        assert_eq!(prose("--- a/file"), "| --- a/file");
        assert!(prose(&"ü".repeat(1000)).len() <= LINE);
    }
}
