//! JSON, written by hand: one flat object a line.

use std::fmt::Write as _;

/// One case as a line without its newline.
pub(super) fn line(name: &str, ok: bool, detail: &str, ms: u128) -> String {
    format!(r#"{{"case":{},"ok":{ok},"detail":{},"ms":{ms}}}"#, string(name), string(detail))
}

/// A text as JSON has it.
pub(super) fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            // DEL and the C1 controls are legal in JSON, and no friends of terminals.
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_file_is_called_stays_one_line() {
        assert_eq!(
            line("a.b", false, "x\"y\\z\n\u{1}\u{7f}ü", 3),
            r#"{"case":"a.b","ok":false,"detail":"x\"y\\z\n\u0001\u007fü","ms":3}"#
        );
    }
}
