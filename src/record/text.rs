//! Text that came from elsewhere, made safe to store and to show: control bytes and bidi overrides become visible
//! escapes, so that no record can move the cursor, hide a line or turn its reading order around.

/// Whether a character may stand as it is in a line of text: no control character (Cc), nothing that formats (Cf) or
/// separates lines (Zl, Zp), and nothing that is not seen. The last are the code points with the property
/// `Default_Ignorable_Code_Point` of Unicode 16.0 (`DerivedCoreProperties.txt`), Cf is of the same version
/// (`extracted/DerivedGeneralCategory.txt`).
pub(crate) fn plain(c: char) -> bool {
    let ignorable = matches!(c,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}');
    let formats = matches!(c,
        '\u{0600}'..='\u{0605}' | '\u{06dd}' | '\u{070f}' | '\u{0890}'..='\u{0891}' | '\u{08e2}'
        | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}');
    !(c.is_control() || matches!(c, '\u{2028}'..='\u{2029}') || ignorable || formats)
}

/// What was taken for plain when the first records were made. Records that hold the rest are read, and escaped when they
/// are shown; no new one is taken.
pub(crate) fn plain_at_first(c: char) -> bool {
    let bidi = matches!(
        c,
        '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    !(c.is_control() || bidi)
}

/// One line, with everything that could act on a terminal or is not seen escaped (`\u{1b}` and so on). Line breaks are
/// escaped too.
pub fn shown(text: &str) -> String {
    escaped(text, plain)
}

/// [`shown`], as it was when the first records were made.
pub(crate) fn shown_at_first(text: &str) -> String {
    escaped(text, plain_at_first)
}

fn escaped(text: &str, plain: fn(char) -> bool) -> String {
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
    prose_as(text, shown)
}

/// [`prose`], escaped by `shown`.
pub(crate) fn prose_as(text: &str, shown: fn(&str) -> String) -> String {
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
    fn k11_what_is_not_seen_or_formats_becomes_visible() {
        // One of each: soft hyphen, combining grapheme joiner, Hangul and Khmer fillers, Mongolian vowel separator and
        // variation selector, variation selectors, interlinear annotation, shorthand format, musical beam, tags.
        for c in "\u{ad}\u{34f}\u{115f}\u{1160}\u{17b4}\u{180e}\u{180b}\u{3164}\u{ffa0}\u{fe0f}\u{fff9}\u{fff0}\u{600}\u{6dd}\u{70f}\u{890}\u{8e2}\u{110bd}\u{13430}\u{1bca0}\u{1d173}\u{e0001}\u{e0041}\u{e0100}\u{200b}\u{2028}\u{2066}\u{feff}\u{206a}".chars() {
            assert_eq!(shown(&format!("a{c}b")), format!("a{}b", c.escape_unicode()), "{c:?}");
            assert!(!plain(c));
        }
        // What people write stays.
        let written = "é e\u{301} 世界 한글 नमस्ते עברית العربية ไทย 👩 ✅ – … “x”\u{a0}\u{2003}";
        assert_eq!(shown(written), written);
        // What was escaped before is escaped.
        for c in ('\u{0}'..=char::MAX).filter(|c| !plain_at_first(*c)) {
            assert!(!plain(c), "{c:?}");
        }
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
