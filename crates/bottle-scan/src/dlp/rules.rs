//! Token formats: read from the rules files and from a project's own, and tried where a keyword stands.

use std::collections::BTreeSet;
use std::ops::Range;

use bottle_types::rule::Rule;
use serde::Deserialize;

use super::check::Check;
use super::checksum::Checksum;
use super::coded::Coded;
use super::keywords::{self, Short};
use super::kinds::DataKind;
use super::noise;
use super::own::TokenPattern;
use super::pattern::Pattern;
use super::phrases;
use super::runs::Digits;
use super::{Finding, LONGEST, short_cuts};

/// How many bytes before a keyword are looked at, to see whether a token begins there.
const CONTEXT: usize = 6;

pub(super) const BUILTIN: &str = include_str!("../dlp_rules.toml");
pub(super) const DETECT: &str = include_str!("../detect_rules.toml");
pub(super) const ANSWERS: &str = include_str!("../answer_rules.toml");

/// Rules that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// Not TOML, or not of this shape.
    #[error("{0}")]
    Toml(String),
    /// One rule is wrong.
    #[error("rule {id}: {reason}")]
    Rule {
        /// Its id.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) rule: Vec<RuleEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleEntry {
    pub(super) id: String,
    pub(super) description: String,
    pub(super) keywords: Vec<String>,
    #[serde(default)]
    pub(super) any_case: bool,
    pub(super) regex: String,
    #[serde(default)]
    pub(super) entropy: f64,
    pub(super) allow: Option<String>,
    #[serde(default)]
    pub(super) anywhere: bool,
    #[serde(default)]
    pub(super) short: bool,
    pub(super) checksum: Option<Checksum>,
    pub(super) kind: Option<DataKind>,
    pub(super) check: Option<Check>,
    #[serde(default)]
    pub(super) phrase: bool,
    pub(super) model: bool,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests make fakes from it"))]
    pub(super) sample: String,
}

fn read(text: &str) -> Result<Vec<RuleEntry>, RulesError> {
    toml::from_str::<File>(text).map(|file| file.rule).map_err(|error| RulesError::Toml(error.to_string()))
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
pub struct Format {
    /// Names the finding.
    pub id: String,
    /// What was found, for people.
    pub description: String,
    /// The kind of data that it finds; none: a token.
    pub kind: Option<DataKind>,
    regex: Pattern,
    entropy: f64,
    allow: Option<Pattern>,
    anywhere: bool,
    short: bool,
    checksum: Option<Checksum>,
    check: Option<Check>,
    model: bool,
}

/// All token formats, ready to search.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Format>,
    keywords: Short,
    coded: Coded,
    /// The rule that is tried where words follow each other, if it is there.
    phrase: Option<usize>,
    /// Some rule has no beginning that shows in base64 and hex: what those say has to be decoded.
    decodes: bool,
}

impl Rules {
    /// The rules that come with the program.
    pub fn builtin() -> Result<Self, RulesError> {
        Self::with(&[], &BTreeSet::new(), &[])
    }

    /// The rules that come with the program, those of some kinds of data and a project's own, without those of some ids.
    pub fn with(own: &[TokenPattern], kinds: &BTreeSet<DataKind>, without: &[String]) -> Result<Self, RulesError> {
        let mut entries = read(BUILTIN)?;
        if !kinds.is_empty() {
            entries
                .extend(read(DETECT)?.into_iter().filter(|entry| entry.kind.is_some_and(|kind| kinds.contains(&kind))));
        }
        Self::made(entries, own, without)
    }

    /// All of them but those of kinds of data, and words in answers that talk an agent into something.
    pub fn for_answers(own: &[TokenPattern]) -> Result<Self, RulesError> {
        let mut entries = read(BUILTIN)?;
        entries.extend(read(ANSWERS)?);
        Self::made(entries, own, &[])
    }

    /// Words alone that talk an agent into something.
    pub fn for_notes() -> Result<Self, RulesError> {
        Self::parse(ANSWERS)
    }

    /// Whether a rule with this id comes with the program, also one of a kind of data.
    pub fn has_builtin(id: &str) -> bool {
        let line = format!("id = \"{id}\"");
        BUILTIN.lines().chain(DETECT.lines()).any(|other| other == line)
    }

    /// Reads a rules file, whose regular expressions a test has compiled.
    pub fn parse(text: &str) -> Result<Self, RulesError> {
        Self::made(read(text)?, &[], &[])
    }

    fn made(entries: Vec<RuleEntry>, own: &[TokenPattern], without: &[String]) -> Result<Self, RulesError> {
        let mut made = Parts::default();
        for entry in entries.into_iter().filter(|entry| !without.contains(&entry.id)) {
            made.entry(entry)?;
        }
        for pattern in own.iter().filter(|pattern| !without.contains(&pattern.name)) {
            made.own(pattern)?;
        }
        let keywords = Short::new(made.keywords).map_err(RulesError::Toml)?;
        let coded = Coded::new(made.beginnings.iter().map(|(literal, owner)| (literal.as_slice(), *owner)));
        let decodes = made.rules.iter().any(|rule| rule.check.is_some());
        Ok(Self { rules: made.rules, keywords, coded, phrase: made.phrase, decodes })
    }

    /// The rules, in the order of the file.
    pub fn rules(&self) -> &[Format] {
        &self.rules
    }

    /// The first finding in bytes that are all there.
    pub fn find(&self, bytes: &[u8], scope: Scope) -> Option<Finding> {
        self.find_in(bytes, 0, bytes.len(), scope)
            .map(|(rule, at)| Finding { rule: Rule::format(&self.rules[rule].id), offset: at as u64 })
    }

    /// Every match in bytes that are all there, overlapping ones too: the rule's id, and where the secret itself is. No more
    /// than `most` are told.
    pub fn find_all(&self, bytes: &[u8], scope: Scope, most: usize) -> Vec<(&str, Range<usize>)> {
        let mut found = vec![];
        let mut take = |at: usize, index: usize| {
            if let Some(secret) = self.at(bytes, at, index, scope) {
                found.push((self.rules[index].id.as_str(), at + secret.start..at + secret.end));
            }
            (found.len() >= most).then_some(())
        };
        let whole = self.keywords.scan(bytes, 0, &mut take);
        if let (None, Some(phrase)) = (whole, self.phrase) {
            let _ = phrases::scan(bytes, 0, bytes.len(), |at| take(at, phrase));
        }
        found
    }

    /// The first rule that matches with its keyword in `from..to`.
    pub(super) fn find_in(&self, bytes: &[u8], from: usize, to: usize, scope: Scope) -> Option<(usize, usize)> {
        let found = self.keywords.scan(bytes, from, |at, index| {
            if at >= to {
                return Some(None);
            }
            self.at(bytes, at, index, scope).map(|_| Some((index, at)))
        });
        let found = found.flatten();
        let phrase = self.phrase.filter(|phrase| self.rules[*phrase].applies(scope)).and_then(|phrase| {
            let to = found.map_or(to, |(_, at)| at);
            phrases::scan(bytes, from, to, |at| self.at(bytes, at, phrase, scope).map(|_| (phrase, at)))
        });
        phrase.or(found)
    }

    /// Where the secret of this rule is in the bytes from here on, if one begins here.
    fn at(&self, bytes: &[u8], at: usize, index: usize, scope: Scope) -> Option<Range<usize>> {
        let rule = &self.rules[index];
        if !rule.applies(scope) || !rule.begins(&bytes[..at]) {
            return None;
        }
        let (end, secret) = rule.found(&bytes[at..], scope)?;
        // The number that is checked may stand behind a word.
        let may_follow = rule.check.is_none_or(|check| check.may_follow(&bytes[..at + secret.start]));
        (may_follow && !(rule.short && noise::goes_on(bytes, at, at + end))).then_some(secret)
    }

    /// Whether what base64 and hex say has to be decoded to be looked through.
    pub(super) fn decodes(&self) -> bool {
        self.decodes
    }

    /// Whether a finding is possible in these bytes, or in any part of them: without a keyword, or words, there is none.
    pub(super) fn may_find(&self, bytes: &[u8]) -> bool {
        self.phrase.is_some() || short_cuts::are_off() || self.keywords.scan(bytes, 0, |_, _| Some(())).is_some()
    }

    /// Whether these bytes begin with a keyword.
    pub(super) fn begins(&self, bytes: &[u8]) -> bool {
        self.keywords.begins(bytes)
    }

    /// The first rule that matches what the digits say; of digits that go on, only if the match does not end with them.
    pub(super) fn find_coded(&self, digits: &Digits, last: bool, scope: Scope) -> Option<(usize, usize)> {
        self.coded.scan_with(digits, LONGEST, |text, before, index, at| {
            let rule = &self.rules[index];
            let end = if rule.applies(scope) { rule.matches(text, scope)? } else { return None };
            let chance = rule.short && noise::is_noise(before) && noise::follows(&text[end..]);
            (!chance && (last || end < text.len())).then_some((index, at))
        })
    }
}

/// Rules that are being read.
#[derive(Default)]
struct Parts {
    rules: Vec<Format>,
    keywords: Vec<(Vec<keywords::ByteClass>, usize)>,
    beginnings: Vec<(Vec<u8>, usize)>,
    phrase: Option<usize>,
}

impl Parts {
    fn entry(&mut self, entry: RuleEntry) -> Result<(), RulesError> {
        let wrong = |reason: String| RulesError::Rule { id: entry.id.clone(), reason };
        if entry.keywords.is_empty() != entry.phrase {
            return Err(wrong("it has no keyword, or is a phrase and has some".to_owned()));
        }
        if entry.phrase {
            self.phrase = Some(self.rules.len());
        }
        for keyword in &entry.keywords {
            let classes = keywords::parse(keyword, entry.any_case).map_err(wrong)?;
            self.keyword(classes);
        }
        self.rules.push(Format {
            regex: Pattern::builtin(&Format::anchored(&entry.regex)),
            allow: entry.allow.as_deref().map(Pattern::builtin),
            description: entry.description,
            kind: entry.kind,
            entropy: entry.entropy,
            anywhere: entry.anywhere,
            short: entry.short,
            checksum: entry.checksum,
            check: entry.check,
            model: entry.model,
            id: entry.id,
        });
        Ok(())
    }

    fn own(&mut self, pattern: &TokenPattern) -> Result<(), RulesError> {
        let wrong = |reason: String| RulesError::Rule { id: pattern.name.clone(), reason };
        pattern.check().map_err(|(key, reason)| wrong(format!("`{key}`: {reason}")))?;
        if self.rules.iter().any(|rule| rule.id == pattern.name) {
            return Err(wrong("it is there twice".to_owned()));
        }
        for keyword in pattern.keywords().map_err(wrong)? {
            self.keyword(keywords::literal(&keyword));
        }
        self.rules.push(Format {
            regex: Pattern::new(&Format::anchored(&pattern.regex)).map_err(wrong)?,
            allow: None,
            description: "a token format of this project".to_owned(),
            kind: None,
            entropy: 0.0,
            anywhere: false,
            short: false,
            checksum: None,
            check: None,
            model: pattern.model,
            id: pattern.name.clone(),
        });
        Ok(())
    }

    /// A keyword of the rule that is added next.
    fn keyword(&mut self, classes: Vec<keywords::ByteClass>) {
        let owner = self.rules.len();
        self.beginnings.extend(keywords::literals(&classes).into_iter().map(|literal| (literal, owner)));
        self.keywords.push((classes, owner));
    }
}

impl Format {
    /// A regular expression that matches at the beginning alone.
    pub(super) fn anchored(regex: &str) -> String {
        format!(r"\A(?:{regex})")
    }

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
    pub(super) fn secret(&self, bytes: &[u8], scope: Scope) -> Option<Range<usize>> {
        self.found(bytes, scope).map(|(_, secret)| secret)
    }

    fn found(&self, bytes: &[u8], scope: Scope) -> Option<(usize, Range<usize>)> {
        let window = &bytes[..bytes.len().min(LONGEST)];
        let found = self.regex.compiled().captures(window)?;
        let whole = found.get(0)?;
        let mut part = found.get(1).unwrap_or(whole).range();
        if let Some(check) = self.check {
            part.end = part.start + check.length(&window[part.start..])?;
        }
        let secret = &window[part.clone()];
        let real = entropy(secret) >= self.entropy
            && !self.allow.as_ref().is_some_and(|allow| allow.compiled().is_match(secret))
            // Elsewhere a wrong checksum is no excuse: whoever reads the token can put it right.
            && (scope == Scope::All || self.checksum.is_none_or(|checksum| checksum.holds(secret)));
        real.then(|| (whole.end().max(part.end), part))
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
pub fn entropy(bytes: &[u8]) -> f64 {
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
