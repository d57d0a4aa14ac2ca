//! Threads at lines of a change that earlier reviews of the same agent have begun: what a later review may do with them, and what it
//! need not say again.
//!
//! A remark bears a mark that names its agent and tells its words from others, so that a later run finds it whatever the forge has
//! put around it.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::text::{LONGEST_REMARK, suggests, words};
use super::{DiffSide, OutputRefusal, Remark};

const MARK: &str = "<!-- claude-bottle: remark ";
const MARK_END: &str = " -->";
/// Hex digits by which words are told apart.
const DIGITS: usize = 16;

/// A thread that an earlier review of this agent has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnThread {
    /// The number of its first comment at the forge.
    pub thread: u64,
    /// The file's path.
    pub path: String,
    /// The line that it is at, or the last of several, in the change as it is reviewed now; none where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The side that the line is on.
    #[serde(default)]
    pub side: DiffSide,
    /// What tells its words from others, as its mark has it.
    pub words: String,
    /// Whether it is resolved.
    #[serde(default)]
    pub resolved: bool,
}

impl OwnThread {
    fn is_at(&self, remark: &Remark) -> bool {
        self.path == remark.path && self.side == remark.side && self.line == Some(remark.line)
    }

    /// Why a remark says again what stands here; none: it does not.
    pub(super) fn repeated_by(&self, remark: &Remark) -> Option<&'static str> {
        if self.is_at(remark) && !self.resolved {
            return Some("is open at this line; give it new words in `threads`, or leave the remark out");
        }
        // Where it is now is not always known.
        let may_be_here = self.path == remark.path && (self.line.is_none() || self.is_at(remark));
        (may_be_here && self.words == fingerprint(&remark.body))
            .then_some("says the same; leave the remark out, or say what is new")
    }
}

/// What a review does with a thread of an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ThreadUpdate {
    /// The thread's number.
    pub thread: u64,
    /// Whether it is done.
    #[serde(default)]
    pub resolved: bool,
    /// Words that take the place of those that are there, as Markdown; may be left out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
}

/// The updates of threads, as they may be made.
pub(super) fn judged(updates: &[ThreadUpdate], own: &[OwnThread]) -> Result<Vec<ThreadUpdate>, OutputRefusal> {
    let mut seen = BTreeSet::new();
    let mut judged = vec![];
    for update in updates {
        let number = update.thread;
        if !seen.insert(number) {
            return Err(OutputRefusal::Second(format!("update of the thread {number}")));
        }
        match own.iter().find(|thread| thread.thread == number) {
            None => return Err(OutputRefusal::Thread { number, reason: "is no thread of an earlier review of yours" }),
            Some(thread) if thread.resolved => {
                return Err(OutputRefusal::Thread { number, reason: "is resolved, and stays as it is" });
            }
            Some(_) => {}
        }
        let body = match update.body.trim().is_empty() {
            true if update.resolved => String::new(),
            _ => words("update of a thread", &update.body, LONGEST_REMARK)?,
        };
        if suggests(&body) {
            return Err(OutputRefusal::Suggestion("only a new remark can have one"));
        }
        judged.push(ThreadUpdate { body, ..update.clone() });
    }
    Ok(judged)
}

/// The first line of a remark of this agent with these words.
pub fn remark_mark(agent: &str, body: &str) -> String {
    format!("{MARK}{agent} {}{MARK_END}", fingerprint(body))
}

/// Reads what tells the words of a remark from others; none that is not of this agent.
pub fn marked_remark<'t>(agent: &str, text: &'t str) -> Option<&'t str> {
    let (line, _) = text.split_once('\n')?;
    let of_agent = line.trim_end().strip_prefix(MARK)?.strip_suffix(MARK_END)?.strip_prefix(agent)?;
    let words = of_agent.strip_prefix(' ')?;
    let is_hex = words.len() == DIGITS && words.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then_some(words)
}

/// The words of a remark of any agent; none: it bears no mark.
pub fn remark_words(text: &str) -> Option<&str> {
    let (line, words) = text.split_once('\n')?;
    let is_mark = line.trim_end().strip_prefix(MARK).is_some_and(|rest| rest.ends_with(MARK_END));
    is_mark.then(|| words.trim_start_matches(['\n', '\r']))
}

/// Words that differ in nothing but case, blanks and signs have the same.
fn fingerprint(body: &str) -> String {
    let letters: String = body.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let told_by = if letters.is_empty() { body.trim() } else { &letters };
    let mut hex = hex::encode(Sha256::digest(told_by));
    hex.truncate(DIGITS);
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_by_its_agent_alone() {
        let text = format!("{}\nOff by one.\n", remark_mark("reviewer", "Off by one."));
        assert_eq!(marked_remark("reviewer", &text), Some(fingerprint("off  by ONE!").as_str()));
        assert_eq!(remark_words(&text), Some("Off by one.\n"));
        for other in ["review", "reviewer2", ""] {
            assert_eq!(marked_remark(other, &text), None, "{other}");
        }
        for text in [
            "",
            "Off by one.",
            "<!-- claude-bottle: remark reviewer -->\nx",
            "x\n<!-- claude-bottle: remark reviewer 0 -->\n",
        ] {
            assert_eq!(marked_remark("reviewer", text), None, "{text}");
        }
        assert_ne!(fingerprint("?"), fingerprint("!"), "signs alone are words, too");
    }
}
