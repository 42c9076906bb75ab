//! Text from elsewhere, made safe to show: no escape sequence, no line that breaks out, no reversed reading order.

/// Replaces control bytes, bidirectional overrides (Unicode TR36 §2.1) and what is not seen by `\x1b`-like escapes; keeps
/// line feeds.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(c),
            '\t' => out.push(' '),
            c if c.is_control() && (c as u32) < 0x100 => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if !crate::record::text::plain(c) => out.push_str(&format!("\\u{{{:04x}}}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// Like [`shown`], and one line: line feeds are escaped too.
pub fn one_line(text: &str) -> String {
    shown(text).replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_a_terminal_would_obey() {
        assert_eq!(
            shown("a\x1b[31mb\r\u{9b}\u{202e}c\n"),
            "a\\x1b[31mb\\x0d\\x9b\\u{202e}c\n"
        );
        assert_eq!(one_line("a\nb"), "a\\nb");
        assert_eq!(shown("grüße ✅"), "grüße ✅");
    }
}
