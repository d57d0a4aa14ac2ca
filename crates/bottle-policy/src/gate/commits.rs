//! Rules about commits: whose they are, what their messages say, and which trailers they have.
//!
//! A commit is judged by its own bytes, as git has it raw: neither a `.mailmap`, nor a replacement, nor an encoding says otherwise. Which
//! commits are judged (those that a push brings, and that were not there before the run) is the gate's to say.

use std::fmt;

use globset::GlobMatcher;
use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::signing::{GitIdentity, Lines, dated};
use super::trailers::trailers;
use super::{GateError, refs};

/// The longest pattern of `message`, in bytes.
pub const MAX_PATTERN_BYTES: usize = 500;
/// The largest compiled pattern.
const MAX_COMPILED_BYTES: usize = 1 << 20;
/// The word in place of a pattern for the headers of Conventional Commits.
const CONVENTIONAL: &str = "conventional";
/// A header by Conventional Commits 1.0.0: a type, perhaps a scope and a `!`, and a description.
const CONVENTIONAL_HEADER: &str = r"[A-Za-z][A-Za-z0-9-]*(\([^()\s][^()]*\))?!?: \S.*";
/// Headers behind the committer's that git writes and that change neither who it is nor what the message says.
const OTHER_HEADERS: [&str; 3] = ["gpgsig ", "gpgsig-sha256 ", "mergetag "];

/// What each new commit of a push has to be like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CommitRules {
    /// Who may be author, committer and a tag's tagger, besides `own`: globs of e-mail addresses. With neither: anybody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authors: Vec<String>,
    /// This run's identity, where it may be all of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own: Option<GitIdentity>,
    /// `conventional`, or a regular expression that all of a message's first line has to match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether the committer has to sign off: `Signed-off-by: NAME <ADDRESS>`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sign_off: bool,
    /// Who has to stand in a trailer `Co-authored-by`: whoever asked for the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub co_authored_by: Option<GitIdentity>,
    /// The run that the one trailer `Run` has to name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

impl CommitRules {
    /// Whether there is no rule.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The trailers that the runner's hook adds, and each new commit needs: key and value.
    pub fn trailers(&self) -> Vec<(&'static str, String)> {
        let co_author = self.co_authored_by.as_ref().map(|asker| ("Co-authored-by", asker.to_string()));
        co_author.into_iter().chain(self.run.clone().map(|run| ("Run", run))).collect()
    }

    /// The rules in words, each behind its key below `push.commits`.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![];
        if let Some(who) = self.who() {
            lines.push(("authors", format!("author, committer and tagger are {who}")));
        }
        match self.message.as_deref() {
            None => {}
            Some(CONVENTIONAL) => {
                lines.push((
                    "message",
                    "the first line is `type(scope): description` (Conventional Commits)".to_owned(),
                ));
            }
            Some(pattern) => lines.push(("message", format!("all of the first line matches `{pattern}`"))),
        }
        if self.sign_off {
            lines.push(("sign_off", "the committer signs off: `git commit --signoff`".to_owned()));
        }
        let needed =
            self.trailers().into_iter().map(|(key, value)| ("trailers", format!("a trailer `{key}: {value}`")));
        lines.extend(needed);
        lines
    }

    /// A message of the runner's own that keeps the rules, as far as a rule says how: a pattern does not.
    pub fn own_message(&self, subject: &str, committer: &GitIdentity) -> String {
        let conventional = self.message.as_deref() == Some(CONVENTIONAL);
        let mut message = if conventional { format!("chore: {subject}") } else { subject.to_owned() };
        let sign_off = self.sign_off.then(|| ("Signed-off-by", committer.to_string()));
        for (at, (key, value)) in sign_off.into_iter().chain(self.trailers()).enumerate() {
            let gap = if at == 0 { "\n\n" } else { "\n" };
            message.push_str(&format!("{gap}{key}: {value}"));
        }
        message
    }

    fn who(&self) -> Option<String> {
        let who: Vec<String> = self.own.iter().map(ToString::to_string).chain(self.authors.iter().cloned()).collect();
        (!who.is_empty()).then(|| who.join(" or "))
    }
}

/// The judge of commits to one upstream.
#[derive(Debug, Clone)]
pub struct CommitJudge<'a> {
    rules: &'a CommitRules,
    authors: Vec<GlobMatcher>,
    message: Option<Regex>,
    /// Who may write, in words.
    who: Option<String>,
    /// This run's identity, as a commit has it.
    own: Option<String>,
    /// The trailers that each commit needs.
    needed: Vec<Needed>,
}

/// A trailer that each commit needs.
#[derive(Debug, Clone)]
struct Needed {
    key: &'static str,
    /// All of it.
    line: String,
}

impl<'a> CommitJudge<'a> {
    /// Compiles the rules.
    pub fn new(rules: &'a CommitRules) -> Result<Self, GateError> {
        let authors = rules.authors.iter().map(|text| refs::glob(text, true)).collect::<Result<_, _>>()?;
        let message = rules.message.as_deref().map(first_line).transpose()?;
        let needed = rules.trailers().into_iter().map(|(key, value)| Needed { key, line: format!("{key}: {value}") });
        let own = rules.own.as_ref().map(ToString::to_string);
        Ok(Self { rules, authors, message, who: rules.who(), own, needed: needed.collect() })
    }

    /// Whether commits have to be read.
    pub fn has_rules(&self) -> bool {
        !self.rules.is_none()
    }

    /// The rules that a commit breaks, as git has it raw. `id` is how it is called.
    pub fn commit(&self, id: &str, raw: &[u8]) -> Vec<BrokenRule> {
        let commit = match Commit::read(raw) {
            Ok(commit) => commit,
            Err(what) => {
                let why = format!("commit {id} {what} (`push.commits`): make it again with `git commit`");
                return vec![BrokenRule { rule: None, why }];
            }
        };
        let mut wrong = Broken { id, all: vec![] };
        self.people(&commit, &mut wrong);
        self.message(&commit, &mut wrong);
        let committer = self.rules.sign_off.then(|| format!("Signed-off-by: {}", commit.committer));
        let committer = committer.as_deref().map(|line| ("sign_off", "Signed-off-by", line));
        let trailers = self.needed.iter().map(|needed| ("trailers", needed.key, needed.line.as_str()));
        self.trailers(&commit, committer.into_iter().chain(trailers), &mut wrong);
        wrong.all
    }

    /// What is wrong with an annotated tag.
    pub fn tag(&self, id: &str, raw: &[u8]) -> Option<String> {
        let who = self.who.as_ref()?;
        let mut lines = Lines { bytes: raw };
        let tagger = ["object ", "type ", "tag "].into_iter().all(|start| lines.next(start).is_some());
        let tagger = tagger.then(|| lines.next("tagger ")).flatten().and_then(dated).map(|(who, _)| who);
        if tagger.is_some_and(|tagger| self.may_write(tagger)) {
            return None;
        }
        Some(format!(
            "tag {id} has no tagger who is {who} (`push.commits.authors`): make it again with `git tag -f -a`"
        ))
    }

    fn people(&self, commit: &Commit<'_>, wrong: &mut Broken<'_>) {
        let Some(who) = &self.who else { return };
        let reset = "git commit --amend --no-edit --reset-author";
        if !self.may_write(commit.author) {
            wrong.by("authors", &format!("has an author who is not {who}"), reset);
        }
        if !self.may_write(commit.committer) {
            wrong.by("authors", &format!("has a committer who is not {who}"), "git commit --amend --no-edit");
        }
    }

    /// Whether someone may write: this run, or an address that a glob names. A glob stands for plain addresses, and one that is written out
    /// for any.
    fn may_write(&self, who: &str) -> bool {
        let email = who.strip_suffix('>').and_then(|who| who.rsplit_once('<')).map_or("", |(_, email)| email);
        let is_plain = !email.is_empty() && email.bytes().all(|byte| byte.is_ascii_graphic());
        self.own.as_deref() == Some(who)
            || self.rules.authors.iter().any(|author| author == email)
            || (is_plain && self.authors.iter().any(|glob| glob.is_match(email)))
    }

    fn message(&self, commit: &Commit<'_>, wrong: &mut Broken<'_>) {
        let (Some(pattern), Some(asked)) = (&self.message, &self.rules.message) else { return };
        let (first, rest) = commit.message.split_once('\n').unwrap_or((commit.message, ""));
        let amend = "git commit --amend -m '…'";
        if !pattern.is_match(first) || first.contains(char::is_control) {
            let what = match asked.as_str() {
                CONVENTIONAL => {
                    "has a first line that is not `type(scope): description`, such as `fix: read sizes in KiB`"
                        .to_owned()
                }
                pattern => format!("has a first line that does not match `{pattern}`"),
            };
            wrong.by("message", &what, amend);
        } else if !rest.is_empty() && !rest.starts_with('\n') {
            wrong.by("message", "has no empty line behind its first line", amend);
        }
    }

    fn trailers<'b>(
        &self,
        commit: &Commit<'_>,
        needed: impl Iterator<Item = (&'static str, &'static str, &'b str)>,
        wrong: &mut Broken<'_>,
    ) {
        let found = trailers(commit.message);
        for (rule, key, line) in needed {
            let has = found.iter().any(|trailer| trailer.text == line);
            let other = found.iter().find(|trailer| trailer.text != line && trailer.key.eq_ignore_ascii_case(key));
            if key == "Run" && other.is_some() {
                let what = format!("has another `Run` trailer than `{line}`");
                wrong.by(rule, &what, "git commit --amend -m '…'");
            } else if !has {
                let what = format!("has no line `{line}` in its last paragraph, as git reads trailers");
                let amend = match rule {
                    "sign_off" => "git commit --amend --no-edit --signoff".to_owned(),
                    _ => format!("git commit --amend --no-edit --trailer '{line}'"),
                };
                wrong.by(rule, &what, &amend);
            }
        }
    }
}

/// A rule that a commit breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenRule {
    /// Its key below `push.commits`; none: the commit is not in git's own form, and all of them are.
    pub rule: Option<&'static str>,
    /// What is wrong, which rule says so, and what to do.
    pub why: String,
}

/// All that a commit breaks.
struct Broken<'a> {
    id: &'a str,
    all: Vec<BrokenRule>,
}

impl Broken<'_> {
    /// Says which, what is wrong, and the command that mends it.
    fn by(&mut self, rule: &'static str, what: &str, amend: &str) {
        let id = self.id;
        // `-i` would need an editor. A message is another for each commit; the rest is the same for all of them.
        let earlier = match amend.contains('…') {
            true => format!("GIT_SEQUENCE_EDITOR=\"sed -i '1s/pick/edit/'\" git rebase -i {id}^"),
            false => format!("git rebase --exec \"{amend}\" {id}^"),
        };
        let why = format!("commit {id} {what} (`push.commits.{rule}`): `{amend}`; if it is not the last: `{earlier}`");
        self.all.push(BrokenRule { rule: Some(rule), why });
    }
}

/// Compiles what the first line of a message has to match.
fn first_line(asked: &str) -> Result<Regex, GateError> {
    let refuse = |reason: String| GateError::Commits { key: "message", reason };
    if asked.is_empty() || asked.len() > MAX_PATTERN_BYTES {
        return Err(refuse(format!("a pattern has 1 to {MAX_PATTERN_BYTES} bytes")));
    }
    let pattern = if asked == CONVENTIONAL { CONVENTIONAL_HEADER } else { asked };
    // By itself first: with a `)` too many it would be another one in parentheses.
    let compile = |pattern: &str| RegexBuilder::new(pattern).size_limit(MAX_COMPILED_BYTES).build();
    let compiled = compile(pattern).and_then(|_| compile(&format!(r"\A(?:{pattern})\z")));
    compiled.map_err(|error| refuse(format!("`{asked}` is no regular expression: {}", last_line(&error))))
}

fn last_line(error: &dyn fmt::Display) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// What is judged of a commit.
struct Commit<'a> {
    author: &'a str,
    committer: &'a str,
    message: &'a str,
}

impl<'a> Commit<'a> {
    /// Reads a commit in git's own form; says why it is none.
    fn read(raw: &'a [u8]) -> Result<Self, &'static str> {
        if raw.contains(&0) {
            return Err("has a NUL in it");
        }
        let mut lines = Lines { bytes: raw };
        let head = "has no head as git writes it";
        lines.next("tree ").ok_or(head)?;
        while lines.next("parent ").is_some() {}
        let author = lines.next("author ").and_then(dated).ok_or("has no author as git writes it")?.0;
        let committer = lines.next("committer ").and_then(dated).ok_or("has no committer as git writes it")?.0;
        let mut is_behind_one = false;
        let message = loop {
            if let Some(message) = lines.bytes.strip_prefix(b"\n") {
                break message;
            }
            let another = OTHER_HEADERS.into_iter().any(|start| lines.next(start).is_some());
            let goes_on = another || (is_behind_one && lines.next(" ").is_some());
            if !goes_on {
                return Err("has a header that changes how it is read, such as `encoding`");
            }
            is_behind_one = true;
        };
        let message = std::str::from_utf8(message).map_err(|_| "has a message that is not UTF-8")?;
        Ok(Self { author, committer, message })
    }
}

#[cfg(test)]
mod tests;
