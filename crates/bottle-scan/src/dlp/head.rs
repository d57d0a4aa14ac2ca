//! A request's head in search of secrets: each part by itself, and what the parts say one after the other.

use bottle_types::place::Where;

use super::digits::SHORT;
use super::{Finding, Scratch, Search};

/// What of a head goes to others.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Path and query, as sent.
    pub target: &'a str,
    /// The host it is for.
    pub host: &'a str,
    /// Names and values.
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// Of that many parts in a row a secret may be made.
const PARTS: usize = 128;

/// The first finding and where it is; several parts may make it together.
pub fn head(search: Search<'_>, head: Head<'_>) -> Option<(Finding, Where)> {
    let mut scratch = Scratch::default();
    let mut in_order = |parts: &[(&[u8], &dyn Fn() -> Where)]| {
        parts.iter().find_map(|(text, at)| {
            // Something packed needs some room.
            let found = if text.len() < SHORT {
                search.find_small(text, &mut scratch)
            } else {
                search.find_with(text, &mut scratch)
            };
            Some((found?, at()))
        })
    };
    if let Some(found) = in_order(&[(head.target.as_bytes(), &|| Where::Url), (head.host.as_bytes(), &|| Where::Host)])
    {
        return Some(found);
    }
    for (name, value) in head.headers {
        let in_value = || Where::header(name);
        if let Some(found) = in_order(&[(name.as_bytes(), &|| Where::HeaderName), (value, &in_value)]) {
            return Some(found);
        }
    }
    let (path, query) = head.target.split_once('?').unwrap_or((head.target, ""));
    let pairs: Vec<(&str, &str)> = query
        .split(['&', ';'])
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or(("", pair)))
        .collect();
    let labels: Vec<&[u8]> = head.host.split('.').map(str::as_bytes).collect();
    let segments: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
    let (keys, values): (Vec<&[u8]>, Vec<&[u8]>) =
        pairs.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())).unzip();
    for (parts, at) in [(&values, Where::Url), (&keys, Where::Url), (&segments, Where::Url), (&labels, Where::Host)] {
        if let Some(finding) = joined(search, parts, &mut scratch) {
            return Some((finding, at));
        }
    }
    let (names, values): (Vec<&[u8]>, Vec<&[u8]>) =
        head.headers.iter().map(|(name, value)| (name.as_bytes(), *value)).unzip();
    for parts in [&values, &names] {
        if let Some(finding) = joined(search, parts, &mut scratch) {
            return Some((finding, Where::Headers));
        }
    }
    // Pieces over all of it.
    let mut all = vec![head.host.as_bytes(), b"\n", head.target.as_bytes()];
    all.extend(head.headers.iter().flat_map(|(name, value)| [&b"\n"[..], name.as_bytes(), b"=", value]));
    search.find_small(&all.concat(), &mut scratch).map(|finding| (finding, Where::Headers))
}

/// A finding in these parts one after the other, whichever begins it.
fn joined(search: Search<'_>, parts: &[&[u8]], scratch: &mut Scratch) -> Option<Finding> {
    if parts.len() < 2 {
        return None;
    }
    let whole = parts.concat();
    // A known secret is found anywhere in the whole; a token only where it begins.
    search.find_small(&whole, scratch).or_else(|| {
        let (rules, scope) = search.rules.filter(|(rules, _)| rules.may_find(&whole))?;
        let mut begin = 0;
        (1..parts.len().min(PARTS)).find_map(|start| {
            begin += parts[start - 1].len();
            rules.find(&whole[begin..whole.len().min(begin + super::LONGEST)], scope)
        })
    })
}
