//! The path of a request, in the one form that rules are matched against.
//!
//! Escapes are decoded once. What two programs could read differently is refused instead of repaired: encoded or
//! doubled slashes, backslashes, dot segments in any spelling, control characters, escapes of escapes. One encoded slash is
//! read as a slash: that of a package's name with a scope, `@scope%2fname`, which npm writes so.

use percent_encoding::percent_decode_str;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("it does not begin with a slash")]
    NotAbsolute,
    /// `%` without two hex digits, or an escape that decodes to an escape.
    #[error("it has a broken or doubled percent escape")]
    Escape,
    /// `%2f`, `\`, `%5c`.
    #[error("it has an encoded slash or a backslash")]
    Separator,
    /// `//`.
    #[error("it has an empty segment")]
    Empty,
    /// `.` and `..`, also encoded or followed by `;`.
    #[error("it has a dot segment")]
    Dots,
    /// NUL, control characters, raw spaces, bytes that are not UTF-8.
    #[error("it has a control character, a space or bytes that are not UTF-8")]
    Character,
}

/// A decoded absolute path without anything ambiguous in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalPath(String);

impl NormalPath {
    /// Reads the path of a request target, without query.
    pub fn parse(raw: &str) -> Result<Self, PathError> {
        let rest = raw.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
        if raw.bytes().any(|b| !b.is_ascii_graphic() || matches!(b, b'?' | b'#')) {
            return Err(PathError::Character);
        }
        let mut decoded = String::with_capacity(raw.len());
        let segments = rest.split('/').count();
        for (index, segment) in rest.split('/').enumerate() {
            // The last one is empty where the path ends with a slash, which is not doubled.
            if segment.is_empty() && index + 1 < segments {
                return Err(PathError::Empty);
            }
            decoded.push('/');
            decoded.push_str(&decode(segment)?);
        }
        Ok(Self(decoded))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A path in which encoded and doubled slashes stand as marks, for rules that name them: a mark is what a rule's own mark
/// matches, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkedPath(String);

impl MarkedPath {
    /// Stand for what no path has, decoded: an encoded slash, and nothing between two slashes.
    const ENCODED: char = '\u{1}';
    const EMPTY: char = '\u{2}';

    /// Reads the path of a request target. What else could be read in two ways is refused as in [`NormalPath`].
    pub fn parse(raw: &str) -> Result<Self, PathError> {
        let pieces: Vec<&str> = raw.split("%2f").flat_map(|piece| piece.split("%2F")).collect();
        let mut marked = String::with_capacity(raw.len());
        for (index, piece) in pieces.iter().enumerate() {
            if index > 0 {
                marked.push(Self::ENCODED);
            }
            let segments: Vec<&str> = piece.split('/').collect();
            for (at, segment) in segments.iter().enumerate() {
                if at > 0 {
                    marked.push('/');
                }
                // Between two slashes of this piece, nothing.
                if segment.is_empty() && at > 0 && at + 1 < segments.len() {
                    marked.push(Self::EMPTY);
                }
                marked.push_str(&decode(segment)?);
            }
        }
        if raw.bytes().any(|b| !b.is_ascii_graphic() || matches!(b, b'?' | b'#')) {
            return Err(PathError::Character);
        }
        if marked.starts_with('/') { Ok(Self(marked)) } else { Err(PathError::NotAbsolute) }
    }

    /// A rule's text with marks in place of its `%2F` and `//`, and how many there are.
    pub fn marks_of(rule: &str) -> (String, usize) {
        let mut marked = rule.replace("%2f", "%2F").replace("%2F", &Self::ENCODED.to_string());
        while marked.contains("//") {
            marked = marked.replacen("//", &format!("/{}/", Self::EMPTY), 1);
        }
        let marks = count_marks(&marked);
        (marked, marks)
    }

    /// The path as text with marks.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How many marks there are.
    pub fn marks(&self) -> usize {
        count_marks(&self.0)
    }

    /// The path as a server reads it to which every mark is a slash.
    pub fn with_slashes(&self) -> String {
        let slashes = self.0.replace(Self::ENCODED, "/").replace(Self::EMPTY, "");
        let segments: Vec<&str> = slashes.split('/').filter(|segment| !segment.is_empty()).collect();
        format!("/{}", segments.join("/"))
    }
}

fn count_marks(text: &str) -> usize {
    text.matches([MarkedPath::ENCODED, MarkedPath::EMPTY]).count()
}

fn decode(segment: &str) -> Result<String, PathError> {
    if let Some(name) = scoped(segment) {
        return Ok(name);
    }
    let text = if segment.contains('%') {
        if !escapes_are_whole(segment) {
            return Err(PathError::Escape);
        }
        percent_decode_str(segment).decode_utf8().map_err(|_| PathError::Character)?.into_owned()
    } else {
        segment.to_owned()
    };
    if text.contains(['/', '\\']) {
        return Err(PathError::Separator);
    }
    if text.contains('%') && has_escape(&text) {
        return Err(PathError::Escape);
    }
    if text.chars().any(char::is_control) {
        return Err(PathError::Character);
    }
    // Some servers cut a segment at `;` before they resolve dots.
    if matches!(text.split(';').next(), Some("." | "..")) {
        return Err(PathError::Dots);
    }
    Ok(text)
}

/// `@scope/name` of `@scope%2fname`, where both are plain words.
fn scoped(segment: &str) -> Option<String> {
    let at = segment.find("%2f").or_else(|| segment.find("%2F"))?;
    let (scope, name) = (segment[..at].strip_prefix('@')?, &segment[at + 3..]);
    let plain = |word: &str| {
        let inside = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        word.starts_with(|c: char| c.is_ascii_alphanumeric()) && word.bytes().all(inside)
    };
    (plain(scope) && plain(name)).then(|| format!("@{scope}/{name}"))
}

fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(begins_with_hex)
}

fn has_escape(text: &str) -> bool {
    text.split('%').skip(1).any(begins_with_hex)
}

fn begins_with_hex(text: &str) -> bool {
    text.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn honest_paths_are_decoded_once() {
        for (raw, normal) in [
            ("/", "/"),
            ("/v1/messages", "/v1/messages"),
            ("/a/", "/a/"),
            ("/a%20b", "/a b"),
            ("/b%C3%BCcher", "/bücher"),
            ("/100%25", "/100%"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a..b/...", "/a..b/..."),
            ("/@scope/pkg", "/@scope/pkg"),
            ("/npm/@scope%2fpkg", "/npm/@scope/pkg"),
            ("/@scope%2Fpkg.js/-/pkg-1.tgz", "/@scope/pkg.js/-/pkg-1.tgz"),
        ] {
            assert_eq!(NormalPath::parse(raw).as_ref().map(NormalPath::as_str), Ok(normal), "{raw}");
        }
    }

    #[test]
    fn a_marked_path_keeps_its_slashes_apart() {
        for (raw, marked, slashes) in [
            ("/a%2Fb", "/a\u{1}b", "/a/b"),
            ("/a%2fb/c", "/a\u{1}b/c", "/a/b/c"),
            ("/web//x", "/web/\u{2}/x", "/web/x"),
            ("//x", "/\u{2}/x", "/x"),
            ("/x///", "/x/\u{2}/\u{2}/", "/x"),
            ("/a/%2Fb", "/a/\u{1}b", "/a/b"),
            ("/a%2F%2Fb%20c", "/a\u{1}\u{1}b c", "/a/b c"),
        ] {
            let path = MarkedPath::parse(raw).expect(raw);
            assert_eq!((path.as_str(), path.with_slashes().as_str()), (marked, slashes), "{raw}");
            assert_eq!(MarkedPath::marks_of(&raw.replace("%20", " ")), (marked.to_owned(), path.marks()), "{raw}");
        }
        for (raw, error) in [
            ("%2Fa", PathError::NotAbsolute),
            ("/a%2F..%2Fb", PathError::Dots),
            ("/a%2F../b", PathError::Dots),
            ("/a/..%2fb", PathError::Dots),
            ("/a%252Fb", PathError::Escape),
            ("/a%5cb", PathError::Separator),
            ("/a%2", PathError::Escape),
            ("/a%01%2Fb", PathError::Character),
        ] {
            assert_eq!(MarkedPath::parse(raw), Err(error), "{raw}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (raw, error) in [
            ("", PathError::NotAbsolute),
            ("*", PathError::NotAbsolute),
            ("//evil", PathError::Empty),
            ("/a//b", PathError::Empty),
            ("/a/../b", PathError::Dots),
            ("/a/..", PathError::Dots),
            ("/./a", PathError::Dots),
            ("/a/%2e%2E/b", PathError::Dots),
            ("/a/.%2e", PathError::Dots),
            ("/a/..;x=1/b", PathError::Dots),
            ("/a%2fb", PathError::Separator),
            ("/a%2Fb", PathError::Separator),
            ("/scope%2fpkg", PathError::Separator),
            ("/@%2fpkg", PathError::Separator),
            ("/@scope%2f", PathError::Separator),
            ("/@scope%2f..", PathError::Separator),
            ("/@..%2fpkg", PathError::Separator),
            ("/@scope%2f.git", PathError::Separator),
            ("/@scope%2fa%2fb", PathError::Separator),
            ("/@scope%2fa%20b", PathError::Separator),
            ("/@scope%252fpkg", PathError::Escape),
            ("/a\\b", PathError::Separator),
            ("/a%5cb", PathError::Separator),
            ("/a%00", PathError::Character),
            ("/a%0d%0ab", PathError::Character),
            ("/a%c0%af", PathError::Character),
            ("/a b", PathError::Character),
            ("/ä", PathError::Character),
            ("/a%", PathError::Escape),
            ("/a%4", PathError::Escape),
            ("/a%zz", PathError::Escape),
            ("/a%252e%252e/b", PathError::Escape),
        ] {
            assert_eq!(NormalPath::parse(raw), Err(error), "{raw:?}");
        }
    }
}
