//! The text of a search: it must name its repositories, and nothing in it may lead out of them.

use super::{ForgeReadRules, ForgeRefusal, ForgeRule};

/// More is no search of a person's.
const MAX_BYTES: usize = 1000;
/// Qualifiers by which a search finds other repositories than those that `repo:` names.
const ELSEWHERE: [&str; 6] = ["repo", "repository", "user", "org", "owner", "enterprise"];

/// Judges a search's text, and writes it anew. A search is joined by AND as long as no word says otherwise, so that one that names a
/// repository stays in it; with several `repo:` it is in all of these.
pub(super) fn judge(rules: &ForgeReadRules, text: &str) -> Result<String, ForgeRefusal> {
    let refuse = |message: &str| Err(ForgeRefusal::new(ForgeRule::Search, message));
    if text.len() > MAX_BYTES {
        return refuse("a search of more than 1,000 bytes");
    }
    if text.chars().any(|c| c.is_control() || c == '\\' || crate::prose::invisible(c)) {
        return refuse("a search has no backslash, control character or invisible character");
    }
    let mut written: Vec<String> = vec![];
    let mut names_one = false;
    for word in words(text) {
        let Some(Word { name, value }) = Word::parse(&word) else {
            return refuse("a quote stands before and behind a whole value: `label:\"good first issue\"`");
        };
        let is_joined = matches!(word.to_ascii_uppercase().as_str(), "OR" | "AND" | "NOT");
        if is_joined || word.split('"').step_by(2).any(|part| part.contains(['(', ')', '|', '&', '!'])) {
            return refuse("a search has no OR, AND, NOT and no parentheses: all its words are looked for");
        }
        let plain = name.trim_start_matches(['-', '+']).to_ascii_lowercase();
        let in_a_phrase = name.is_empty() && ELSEWHERE.iter().any(|name| value.contains(&format!("{name}:")));
        if in_a_phrase || (ELSEWHERE.contains(&plain.as_str()) && name != "repo") {
            return refuse(
                "a search names its repository by `repo:OWNER/NAME`, and has no `user:`, `org:` or the like",
            );
        }
        if name == "repo" {
            let known = rules.repository_of(value).ok_or_else(|| rules.not_named(value))?;
            names_one = true;
            written.push(format!("repo:{known}"));
        } else {
            written.push(word);
        }
    }
    if !names_one {
        return refuse("a search names its repository by `repo:OWNER/NAME`");
    }
    Ok(written.join(" "))
}

/// The words, split at spaces outside of quotes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (vec![], String::new(), false);
    for c in text.chars() {
        is_quoted ^= c == '"';
        if c.is_whitespace() && !is_quoted {
            words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
        } else {
            word.push(c);
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

/// `name:value`, `name:"value"`, `value` or `"value"`.
struct Word<'a> {
    name: &'a str,
    value: &'a str,
}

impl<'a> Word<'a> {
    fn parse(word: &'a str) -> Option<Self> {
        let (name, value) = match word.split_once(':') {
            Some((name, value)) if !name.contains('"') => (name, value),
            _ => ("", word),
        };
        let value = match value.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"')?,
            None => value,
        };
        (!value.contains('"')).then_some(Self { name, value })
    }
}
