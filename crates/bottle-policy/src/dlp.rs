//! Data loss prevention: token formats, and the secrets that the bottle knows, in bytes that leave it.
//!
//! The rules are one data file, `dlp_rules.toml`, used by pipelock and by the git gate. A rule is tried where one of its
//! keywords stands, over at most [`LONGEST`] bytes from there: a finding depends on those bytes alone, so a stream
//! gives the same verdict however it is cut. [`Stream`] holds back what it has not judged yet.

use aho_corasick::AhoCorasick;
use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

use crate::known::KnownSecrets;

/// How many bytes from its keyword a rule sees.
pub const LONGEST: usize = 512;
/// How many bytes before a keyword are looked at, to see whether a token begins there.
const CONTEXT: usize = 6;

const BUILTIN: &str = include_str!("dlp_rules.toml");

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
    regex: String,
    #[serde(default)]
    entropy: f64,
    allow: Option<String>,
    #[serde(default)]
    anywhere: bool,
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
    regex: Regex,
    entropy: f64,
    allow: Option<Regex>,
    anywhere: bool,
    model: bool,
}

/// All token formats, ready to search.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    keywords: AhoCorasick,
    /// For each keyword, the index of its rule.
    owners: Vec<usize>,
}

/// What was found, without the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule's id, or `known-secret:NAME`.
    pub rule: String,
    /// Whether it is a secret that the bottle knows: blocked whatever the policy says.
    pub known: bool,
    /// Where it begins.
    pub offset: u64,
}

impl Rules {
    /// The rules that come with the program.
    pub fn builtin() -> Result<Self, RulesError> {
        Self::parse(BUILTIN)
    }

    /// Reads a rules file.
    pub fn parse(text: &str) -> Result<Self, RulesError> {
        let file: File = toml::from_str(text).map_err(|error| RulesError::Toml(error.to_string()))?;
        let mut rules = vec![];
        let mut keywords = vec![];
        let mut owners = vec![];
        for entry in file.rule {
            let wrong = |reason: String| RulesError::Rule { id: entry.id.clone(), reason };
            if entry.keywords.iter().any(String::is_empty) || entry.keywords.is_empty() {
                return Err(wrong("it has no keyword".to_owned()));
            }
            let regex = |pattern: &str| {
                RegexBuilder::new(pattern).unicode(false).build().map_err(|error| wrong(error.to_string()))
            };
            let rule = Rule {
                regex: regex(&format!(r"\A(?:{})", entry.regex))?,
                allow: entry.allow.as_deref().map(regex).transpose()?,
                description: entry.description,
                entropy: entry.entropy,
                anywhere: entry.anywhere,
                model: entry.model,
                id: entry.id.clone(),
            };
            owners.extend(entry.keywords.iter().map(|_| rules.len()));
            keywords.extend(entry.keywords);
            rules.push(rule);
        }
        let keywords = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(&keywords)
            .map_err(|error| RulesError::Toml(error.to_string()))?;
        Ok(Self { rules, keywords, owners })
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
        for found in self.keywords.find_overlapping_iter(&bytes[from..]) {
            let at = from + found.start();
            if at >= to {
                // Matches come in the order of their ends; a longer keyword that begins earlier may still come.
                continue;
            }
            let index = self.owners[found.pattern().as_usize()];
            let rule = &self.rules[index];
            if (scope == Scope::All || rule.model) && rule.matches(bytes, at) {
                return Some((index, at));
            }
        }
        None
    }
}

impl Rule {
    fn matches(&self, bytes: &[u8], at: usize) -> bool {
        if !self.anywhere && !begins_token(&bytes[..at]) {
            return false;
        }
        let window = &bytes[at..bytes.len().min(at + LONGEST)];
        let Some(found) = self.regex.captures(window) else { return false };
        let Some(secret) = found.get(1).or_else(|| found.get(0)) else { return false };
        let secret = secret.as_bytes();
        entropy(secret) >= self.entropy && !self.allow.as_ref().is_some_and(|allow| allow.is_match(secret))
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
fn entropy(bytes: &[u8]) -> f64 {
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

impl Search<'_> {
    /// The first finding in bytes that are all there; a known secret before all else.
    pub fn find(&self, bytes: &[u8]) -> Option<Finding> {
        self.find_known(bytes, 0).or_else(|| self.rules.and_then(|(rules, scope)| rules.find(bytes, scope)))
    }

    fn find_known(&self, bytes: &[u8], base: u64) -> Option<Finding> {
        let (name, range) = self.known.find(bytes)?;
        Some(Finding { rule: format!("known-secret:{name}"), known: true, offset: base + range.start as u64 })
    }

    /// How many bytes at the end of what is there can't be judged yet.
    fn hold(&self) -> usize {
        self.known.longest().max(LONGEST)
    }
}

/// A body on its way through a search: what goes in comes out again, later by what has to be held back.
#[derive(Debug, Default)]
pub struct Stream {
    /// Up to [`CONTEXT`] bytes that are out already, then those that are not.
    buffer: Vec<u8>,
    out: usize,
    /// How many bytes of the body are out.
    offset: u64,
    /// The first finding that was let pass, because the policy warns only.
    pub warned: Option<Finding>,
}

impl Stream {
    /// Takes the next bytes and gives those that may go. With `warn`, findings of rules are kept in `warned` and pass.
    pub fn push(&mut self, search: Search<'_>, bytes: &[u8], warn: bool) -> Result<Vec<u8>, Finding> {
        self.buffer.extend_from_slice(bytes);
        let judged = self.buffer.len().saturating_sub(search.hold());
        self.judge(search, judged, warn)
    }

    /// No more bytes come: gives the rest.
    pub fn finish(&mut self, search: Search<'_>, warn: bool) -> Result<Vec<u8>, Finding> {
        self.judge(search, self.buffer.len(), warn)
    }

    fn judge(&mut self, search: Search<'_>, to: usize, warn: bool) -> Result<Vec<u8>, Finding> {
        let base = self.offset - self.out as u64;
        // The bytes that are out already can't be part of a known secret that ends in those held back.
        if let Some(finding) = search.find_known(&self.buffer[self.out..], self.offset) {
            return Err(finding);
        }
        if to <= self.out {
            return Ok(vec![]);
        }
        if let Some((rules, scope)) = search.rules
            && let Some((rule, at)) = rules.find_in(&self.buffer, self.out, to, scope)
        {
            let finding = Finding { rule: rules.rules[rule].id.clone(), known: false, offset: base + at as u64 };
            if !warn {
                return Err(finding);
            }
            self.warned.get_or_insert(finding);
        }
        let passed = self.buffer[self.out..to].to_vec();
        self.offset += passed.len() as u64;
        let keep = to.saturating_sub(CONTEXT);
        self.buffer.drain(..keep);
        self.out = to - keep;
        Ok(passed)
    }
}

#[cfg(test)]
#[path = "dlp_tests.rs"]
mod tests;
