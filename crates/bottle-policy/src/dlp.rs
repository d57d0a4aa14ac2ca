//! Data loss prevention: token formats, and the secrets that the bottle knows, in bytes that leave it.
//!
//! The rules are one data file, `dlp_rules.toml`, used by pipelock and by the git gate. A rule is tried where one of its
//! keywords stands, over at most [`LONGEST`] bytes from there. [`Rules::find`] looks at bytes as they are; [`Search`] also
//! at what they say in other forms.
//!
//! Map: `keywords` (where a rule is tried), `pattern`, `checksum`, `coded` (base64 and hex), `runs` (of their digits), `plain`
//! (escapes, look-alikes), `pieces` (a known secret cut apart), `packed` (compression) and where it may `begin`, `stream` (a
//! body on its way), `head` (a request's head).

mod begin;
mod checksum;
pub(crate) mod coded;
mod head;
pub(crate) mod keywords;
mod packed;
mod pattern;
pub(crate) mod pieces;
mod plain;
pub(crate) mod runs;
mod stream;

use serde::Deserialize;

pub use head::{Head, head};
pub use packed::Packing;
pub use stream::{Mode, Stream};

use crate::known::KnownSecrets;
use checksum::Checksum;
use coded::Coded;
use keywords::Short;
use pattern::Pattern;
use runs::Digits;

/// How many bytes from its keyword a rule sees.
pub const LONGEST: usize = 512;
/// How many bytes before a keyword are looked at, to see whether a token begins there.
const CONTEXT: usize = 6;
/// How deep forms inside forms are looked for: escapes in escapes, archives in archives. Deeper archives are refused.
const DEEPEST: Depth = 5;

/// How many forms are undone.
type Depth = u8;

const BUILTIN: &str = include_str!("dlp_rules.toml");
const ANSWERS: &str = include_str!("answer_rules.toml");

/// Rules that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// Not TOML, or not of this shape.
    #[error("{0}")]
    Toml(String),
    /// One rule is wrong.
    #[error("rule {id}: {reason}")]
    Rule { id: String, reason: String },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rule: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    description: String,
    keywords: Vec<String>,
    #[serde(default)]
    any_case: bool,
    regex: String,
    #[serde(default)]
    entropy: f64,
    allow: Option<String>,
    #[serde(default)]
    anywhere: bool,
    checksum: Option<Checksum>,
    model: bool,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests make fakes from it"))]
    sample: String,
}

/// Where rules are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every rule.
    All,
    /// The model's own route: only formats that can't be mistaken.
    Model,
}

/// One token format.
#[derive(Debug)]
pub struct Rule {
    /// Names the finding.
    pub id: String,
    /// What was found, for people.
    pub description: String,
    regex: Pattern,
    entropy: f64,
    allow: Option<Pattern>,
    anywhere: bool,
    checksum: Option<Checksum>,
    model: bool,
}

/// All token formats, ready to search.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    keywords: Short,
    coded: Coded,
}

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

impl Rules {
    /// The rules that come with the program.
    pub fn builtin() -> Result<Self, RulesError> {
        Self::parse(BUILTIN)
    }

    /// The same, and words in answers that talk an agent into something.
    pub fn for_answers() -> Result<Self, RulesError> {
        Self::parse(&format!("{BUILTIN}\n{ANSWERS}"))
    }

    /// The same without the rules of these ids.
    pub fn builtin_without(ids: &[String]) -> Result<Self, RulesError> {
        Self::made(BUILTIN, ids)
    }

    /// Whether a rule with this id comes with the program.
    pub fn has_builtin(id: &str) -> bool {
        let line = format!("id = \"{id}\"");
        BUILTIN.lines().any(|other| other == line)
    }

    /// Reads a rules file.
    pub fn parse(text: &str) -> Result<Self, RulesError> {
        Self::made(text, &[])
    }

    fn made(text: &str, without: &[String]) -> Result<Self, RulesError> {
        let file: File = toml::from_str(text).map_err(|error| RulesError::Toml(error.to_string()))?;
        let mut rules = vec![];
        let mut keywords = vec![];
        let mut beginnings = vec![];
        for entry in file.rule.into_iter().filter(|entry| !without.contains(&entry.id)) {
            let wrong = |reason: String| RulesError::Rule { id: entry.id.clone(), reason };
            if entry.keywords.is_empty() {
                return Err(wrong("it has no keyword".to_owned()));
            }
            let regex = |pattern: &str| Pattern::new(pattern).map_err(wrong);
            let rule = Rule {
                regex: regex(&format!(r"\A(?:{})", entry.regex))?,
                allow: entry.allow.as_deref().map(regex).transpose()?,
                description: entry.description,
                entropy: entry.entropy,
                anywhere: entry.anywhere,
                checksum: entry.checksum,
                model: entry.model,
                id: entry.id.clone(),
            };
            for keyword in &entry.keywords {
                let classes = keywords::parse(keyword, entry.any_case).map_err(wrong)?;
                beginnings.extend(keywords::literals(&classes).into_iter().map(|literal| (literal, rules.len())));
                keywords.push((classes, rules.len()));
            }
            rules.push(rule);
        }
        let keywords = Short::new(keywords).map_err(RulesError::Toml)?;
        let coded = Coded::new(beginnings.iter().map(|(literal, owner)| (literal.as_slice(), *owner)));
        Ok(Self { rules, keywords, coded })
    }

    /// The rules, in the order of the file.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The first finding in bytes that are all there.
    pub fn find(&self, bytes: &[u8], scope: Scope) -> Option<Finding> {
        self.find_in(bytes, 0, bytes.len(), scope).map(|(rule, at)| Finding {
            rule: self.rules[rule].id.clone(),
            known: false,
            offset: at as u64,
        })
    }

    /// The first rule that matches with its keyword in `from..to`.
    fn find_in(&self, bytes: &[u8], from: usize, to: usize, scope: Scope) -> Option<(usize, usize)> {
        let found = self.keywords.scan(bytes, from, |at, index| {
            if at >= to {
                return Some(None);
            }
            let rule = &self.rules[index];
            let found = rule.applies(scope) && rule.begins(&bytes[..at]) && rule.matches(&bytes[at..], scope).is_some();
            found.then_some(Some((index, at)))
        });
        found.flatten()
    }

    /// The first rule that matches what the digits say; of digits that go on, only if the match does not end with them.
    fn find_coded(&self, digits: &Digits, last: bool, scope: Scope) -> Option<(usize, usize)> {
        self.coded.scan(digits, LONGEST, |text, index, at| {
            let rule = &self.rules[index];
            let end = if rule.applies(scope) { rule.matches(text, scope)? } else { return None };
            (last || end < text.len()).then_some((index, at))
        })
    }
}

impl Rule {
    fn applies(&self, scope: Scope) -> bool {
        scope == Scope::All || self.model
    }

    fn begins(&self, before: &[u8]) -> bool {
        self.anywhere || begins_token(before)
    }

    /// The match's end, if these bytes begin with a secret.
    fn matches(&self, bytes: &[u8], scope: Scope) -> Option<usize> {
        self.found(bytes, scope).map(|(end, _)| end)
    }

    /// Where the secret itself is in bytes that begin with one.
    fn secret(&self, bytes: &[u8], scope: Scope) -> Option<std::ops::Range<usize>> {
        self.found(bytes, scope).map(|(_, secret)| secret)
    }

    fn found(&self, bytes: &[u8], scope: Scope) -> Option<(usize, std::ops::Range<usize>)> {
        let window = &bytes[..bytes.len().min(LONGEST)];
        let found = self.regex.compiled().captures(window)?;
        let whole = found.get(0)?;
        let part = found.get(1).unwrap_or(whole);
        let secret = part.as_bytes();
        let real = entropy(secret) >= self.entropy
            && !self.allow.as_ref().is_some_and(|allow| allow.compiled().is_match(secret))
            // Elsewhere a wrong checksum is no excuse: whoever reads the token can put it right.
            && (scope == Scope::All || self.checksum.is_none_or(|checksum| checksum.holds(secret)));
        real.then_some((whole.end(), part.range()))
    }
}

/// Whether a token may begin after these bytes: not in the middle of a word, unless what looks like one is the end of
/// an escape (`\n` in JSON, `\u003d`, `%3D`).
fn begins_token(before: &[u8]) -> bool {
    let before = &before[before.len().saturating_sub(CONTEXT)..];
    match before {
        [.., b'\\', b'n' | b'r' | b't' | b'f' | b'b'] => true,
        [.., b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => true,
        [b'\\', b'u', digits @ ..] if digits.len() == 4 && digits.iter().all(u8::is_ascii_hexdigit) => true,
        [.., last] => !(last.is_ascii_alphanumeric() || *last == b'_'),
        [] => true,
    }
}

/// Shannon entropy in bits per byte.
pub(crate) fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let total = bytes.len() as f64;
    counts.iter().filter(|count| **count > 0).fold(0.0, |sum, count| {
        let share = f64::from(*count) / total;
        sum - share * share.log2()
    })
}

/// What a body is searched for.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// The bottle's own secrets; always.
    pub known: &'a KnownSecrets,
    /// Token formats and where they apply; none: not looked for.
    pub rules: Option<(&'a Rules, Scope)>,
}

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
            let rule = &rules.rules[index];
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
        let mut found = Looked::default();
        let known = |owner: usize, at: usize| Finding {
            rule: format!("known-secret:{}", self.known.name(owner)),
            known: true,
            offset: at as u64,
        };
        if let Some((owner, at)) = self.known.find_raw(bytes) {
            found.known = Some(known(owner, at));
            return found;
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
        if let Some((owner, at)) = known_at {
            found.known = Some(known(owner, at));
            return found;
        }
        if let Some((owner, at)) = self.known.find_pieces(bytes, &mut scratch.letters) {
            found.known = Some(known(owner, at));
            return found;
        }
        if let Some((rules, scope)) = self.rules {
            let rule = |index: usize, at: usize| Finding {
                rule: rules.rules[index].id.clone(),
                known: false,
                offset: at as u64,
            };
            // A keyword whose token may go on behind the window is tried with the next one.
            let to = if last { bytes.len() } else { bytes.len().saturating_sub(LONGEST) };
            let plain = rules.find_in(bytes, fresh.saturating_sub(LONGEST), to, scope);
            found.rule = plain.or(rule_at).map(|(index, at)| rule(index, at));
        }
        if depth < DEEPEST {
            for (from, to, plain) in plain::plain(bytes) {
                let inner = self.look(&plain, 0, last && to == bytes.len(), depth + 1, scratch);
                let somewhere = |finding: Finding| Finding { offset: from as u64, ..finding };
                found.rule = found.rule.or(inner.rule.map(somewhere));
                found.known = inner.known.map(somewhere);
                if found.known.is_some() {
                    break;
                }
            }
        }
        found
    }
}

#[cfg(test)]
#[path = "dlp_tests.rs"]
mod tests;
