//! Data loss prevention: token formats, and the secrets that the bottle knows, in bytes that leave it.
//!
//! The rules are one data file, `dlp_rules.toml`, used by pipelock and by the git gate. A rule is tried where one of its
//! keywords stands, over at most [`LONGEST`] bytes from there. [`Rules::find`] looks at bytes as they are; [`Search`] also
//! at what they say in other forms.
//!
//! Map: `rules` and a project's `own`, `keywords` (where a rule is tried), `pattern`, `checksum`, `coded` (base64 and hex) and their `alphabet`, `runs` (of their digits) and long ones as `digits`, `plain`
//! (escapes, look-alikes), `numbers` (lists and dumps of bytes), `pieces` (a known secret cut apart), `packed` (compression) and where it may `begin`, `stream` (a
//! body on its way), `head` (a request's head).

mod alphabet;
mod begin;
mod checksum;
pub(crate) mod coded;
mod digits;
mod head;
pub(crate) mod keywords;
pub(crate) mod numbers;
mod own;
pub(crate) mod packed;
mod pattern;
pub(crate) mod pieces;
mod plain;
mod rules;
pub(crate) mod runs;
mod stream;

pub use head::{Head, head};
pub use own::TokenPattern;
pub use packed::Packing;
pub use rules::{Rule, Rules, RulesError, Scope, entropy};
pub use stream::{Mode, Stream};

use crate::known::KnownSecrets;
use runs::Digits;

/// How many bytes from its keyword a rule sees.
pub const LONGEST: usize = 512;
/// How deep forms inside forms are looked for: escapes in escapes, archives in archives. Deeper archives are refused.
const DEEPEST: Depth = 5;

/// How many forms are undone.
type Depth = u8;

/// What was found, without the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule's id, `known-secret:NAME`, or `unreadable:WHY`.
    pub rule: String,
    /// Whether it is a secret that the bottle knows, or something that can't be looked into: blocked whatever the policy
    /// says.
    pub known: bool,
    /// Where it begins.
    pub offset: u64,
}

/// What a body is searched for.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// The bottle's own secrets; always.
    pub known: &'a KnownSecrets,
    /// Token formats and where they apply; none: not looked for.
    pub rules: Option<(&'a Rules, Scope)>,
}

/// Which secret or rule was found, and where.
type Place = (usize, usize);

/// What a look at some bytes has found.
#[derive(Debug, Default)]
struct Looked {
    known: Option<Finding>,
    rule: Option<Finding>,
}

/// Buffers that are used again.
#[derive(Debug, Default)]
struct Scratch {
    digits: Digits,
    letters: Vec<u8>,
    marks: Vec<u8>,
}

impl Search<'_> {
    /// The first finding in bytes that are all there, in any form; a known secret before all else.
    pub fn find(&self, bytes: &[u8]) -> Option<Finding> {
        let mut stream = Stream::default();
        stream.push(*self, bytes, Mode::Block).and_then(|_| stream.finish(*self, Mode::Block)).err()
    }

    /// Overwrites what rules find in a window as it is, and tells which and where; see [`Self::look`].
    fn redact(&self, bytes: &mut [u8], fresh: usize, last: bool) -> Vec<(String, std::ops::Range<usize>)> {
        let Some((rules, scope)) = self.rules else { return vec![] };
        let to = if last { bytes.len() } else { bytes.len().saturating_sub(LONGEST) };
        let (mut from, mut found) = (fresh.saturating_sub(LONGEST), vec![]);
        while let Some((index, at)) = rules.find_in(bytes, from, to, scope) {
            let rule = &rules.rules()[index];
            let Some(secret) = rule.secret(&bytes[at..], scope) else { break };
            let range = at + secret.start..at + secret.end;
            bytes[range.clone()].fill(b'*');
            from = range.end.max(at + 1);
            found.push((rule.id.clone(), range));
        }
        found
    }

    /// The same for a short text, without what is packed in it.
    fn find_small(&self, bytes: &[u8], scratch: &mut Scratch) -> Option<Finding> {
        let found = self.look(bytes, 0, true, 0, scratch);
        found.known.or(found.rule)
    }

    /// Looks at a window of a stream, in which everything before `fresh` was looked at before; more follows it unless it
    /// is the `last` one. Findings are counted from the window's beginning.
    fn look(&self, bytes: &[u8], fresh: usize, last: bool, depth: Depth, scratch: &mut Scratch) -> Looked {
        let (known_at, rule_at) = self.look_as_it_is(bytes, fresh, last, scratch);
        let mut found = Looked {
            known: known_at.map(|(owner, at)| Finding {
                rule: format!("known-secret:{}", self.known.name(owner)),
                known: true,
                offset: at as u64,
            }),
            rule: rule_at.zip(self.rules).map(|((index, at), (rules, _))| Finding {
                rule: rules.rules()[index].id.clone(),
                known: false,
                offset: at as u64,
            }),
        };
        if found.known.is_some() || depth >= DEEPEST {
            return found;
        }
        // What is behind a list, or behind the window, is looked at with the next one.
        let numbers = numbers::lists(bytes, &mut scratch.marks).into_iter();
        let numbers = numbers.map(|(from, said)| (from, true, said));
        let plain = plain::plain(bytes).into_iter();
        let plain = plain.map(|(from, to, said)| (from, last && to == bytes.len(), said));
        for (from, last, said) in plain.chain(numbers) {
            let inner = self.look(&said, 0, last, depth + 1, scratch);
            let somewhere = |finding: Finding| Finding { offset: from as u64, ..finding };
            found.rule = found.rule.or(inner.rule.map(somewhere));
            found.known = inner.known.map(somewhere);
            if found.known.is_some() {
                break;
            }
        }
        found
    }

    /// The known secret and the rule that are found in bytes as they are, in base64, in hex, and in pieces; with a secret, no
    /// rule counts.
    fn look_as_it_is(
        &self,
        bytes: &[u8],
        fresh: usize,
        last: bool,
        scratch: &mut Scratch,
    ) -> (Option<Place>, Option<Place>) {
        if let Some(known) = self.known.find_raw(bytes) {
            return (Some(known), None);
        }
        let mut rule_at = None;
        let known_at = runs::runs(bytes, &mut scratch.digits, |run, start, open| {
            if let Some((owner, digit)) = self.known.find_coded(run) {
                return Some((owner, runs::position(bytes, start, digit)));
            }
            if rule_at.is_none()
                && let Some((rules, scope)) = self.rules
                && let Some((index, digit)) = rules.find_coded(run, last || !open, scope)
            {
                rule_at = Some((index, runs::position(bytes, start, digit)));
            }
            None
        });
        let known_at = known_at.or_else(|| self.known.find_pieces(bytes, &mut scratch.letters));
        if known_at.is_some() {
            return (known_at, None);
        }
        let plain = self.rules.and_then(|(rules, scope)| {
            // A keyword whose token may go on behind the window is tried with the next one.
            let to = if last { bytes.len() } else { bytes.len().saturating_sub(LONGEST) };
            rules.find_in(bytes, fresh.saturating_sub(LONGEST), to, scope)
        });
        (None, plain.or(rule_at))
    }
}

#[cfg(test)]
#[path = "dlp_tests.rs"]
mod tests;
