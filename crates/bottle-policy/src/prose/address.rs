//! Addresses of links and images.

use super::points;

/// An address as it may stand in a link: http, https, or relative; none for any other.
pub(super) fn address(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|c| !points::invisible(*c) && !matches!(c, '\n' | '\t')).collect();
    let text = text.trim();
    if let Some((scheme, _)) = text.split_once(':')
        && !scheme.contains(['/', '?', '#'])
        && !["http", "https"].iter().any(|good| scheme.eq_ignore_ascii_case(good))
    {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' ' | '(' | ')' | '<' | '>' | '"' | '\'' | '\\' | '`' | '|' | '[' | ']' => {
                out.push_str(&format!("%{:02X}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    Some(out)
}
