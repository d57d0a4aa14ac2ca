//! Whether an output may go out: at the door when the agent asks for it, and once more before it is performed.

use std::borrow::Cow;
use std::collections::BTreeSet;

use bottle_scan::dlp::{DataKind, Rules, Scope, Search, TokenPattern};
use bottle_scan::known::KnownSecrets;
use bottle_types::rule::Rule;
use globset::GlobMatcher;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::{ANSWER_TRIES, AnswerSchema, CompiledSchema, LONGEST_ANSWER};
use super::changed::{ChangedLines, NoPlace};
use super::text::{LONGEST_BODY, LONGEST_REMARK, LONGEST_SUMMARY, code, has_address, line, suggests, words};
use super::{
    CheckRules, DiffSide, FileRemark, IssueRules, LONGEST_RULE, LONGEST_TITLE, Output, OutputKind, OutputRules,
    OwnThread, Remark, ReviewVerdict, file, sarif, threads,
};
use crate::gate::paths::ProtectedPaths;
use crate::gate::{GateError, PushRules, refs};
use crate::prose::{self, Removed};

/// The longest name in a message.
const LONGEST_NAME: usize = 100;

/// What the door and the runner judge by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputPolicy {
    /// What is granted, as far as the run has a place for it.
    pub rules: OutputRules,
    /// The lines of the pull request's change.
    #[serde(default, skip_serializing_if = "ChangedLines::is_empty")]
    pub changed: ChangedLines,
    /// The threads that earlier reviews of this agent have begun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub threads: Vec<OwnThread>,
    /// Globs of paths for which nothing may be suggested: those that no push may touch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protect_paths: Vec<String>,
    /// Token formats of this project's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<TokenPattern>,
    /// Kinds of data that are no token and are looked for all the same.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub detect: BTreeSet<DataKind>,
}

/// Why an output may not go out. The messages hold nothing that was judged to be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputRefusal {
    /// No rule grants it.
    #[error("`outputs` of this agent does not grant `{0}`, or this run has no place for it; go on without it")]
    NotGranted(OutputKind),
    /// The run has had as many as it may.
    #[error("`outputs.{kind}` grants {max} in a run, and this would be more; leave out what matters least")]
    TooMany {
        /// Of what.
        kind: OutputKind,
        /// So many are granted.
        max: u32,
    },
    /// There is one of it in a run.
    #[error("this run has its {0} already; there is one in a run")]
    Second(String),
    /// The label is not one of the rule's.
    #[error("the label `{label}` is not in `outputs.{key}`; take one that the tool lists")]
    Label {
        /// The label.
        label: String,
        /// The rule's key.
        key: &'static str,
    },
    /// The title does not begin as it must.
    #[error("the title does not begin with `{0}` and go on behind it, as `outputs.issue.title_prefix` wants")]
    Prefix(String),
    /// A word of the title could start a run.
    #[error(
        "a word of the title begins with `/` or `@`, as a command does; leave that out, or put it between backticks"
    )]
    Command,
    /// The check is not one of the rule's.
    #[error("the check `{0}` is not in `outputs.check.names`; take one that the tool lists")]
    CheckName(String),
    /// The reason is not one of the rule's.
    #[error("this reason is not in `outputs.close.reasons`; take one that the tool lists")]
    Reason,
    /// The text is more than a line.
    #[error("the {0} has a line end or another control character; write one line")]
    NotOneLine(&'static str),
    /// There is an address in it.
    #[error("the {0} has an address in it; say it in words")]
    Address(&'static str),
    /// The answer does not fit its schema.
    #[error("the answer does not fit the schema of `outputs.json`: {0}; give the whole answer again")]
    Answer(String),
    /// Enough answers did not fit.
    #[error("{ANSWER_TRIES} answers did not fit, and no other is taken")]
    AnswerTries,
    /// The path leads to no file of the workspace.
    #[error("{0} is not the path of a file in the workspace, from its top and without `..`")]
    NoFilePath(String),
    /// No file may be handed in from there.
    #[error("{0} is not in `outputs.file.paths`; hand in a file that is")]
    FilePath(String),
    /// The name of a finding's rule is none.
    #[error("`{0}` is not a rule's name; take at most {LONGEST_RULE} letters, digits, `-`, `_`, `.` and `/`")]
    RuleName(String),
    /// No finding may be about this path.
    #[error("{0} is not in `outputs.sarif.paths`; say nothing about it")]
    FindingPath(String),
    /// The content can't be searched for secrets.
    #[error("the file can't be looked through: {0}; hand it in unpacked")]
    Unreadable(String),
    /// There is no text.
    #[error("the {0} is empty; write what people shall read")]
    Empty(&'static str),
    /// The text is too long.
    #[error("the {what} is longer than {most} bytes; make it shorter")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// The most.
        most: usize,
    },
    /// The text would act at the forge, or hides something.
    #[error(
        "the {what} has {removed}, and nothing that is posted may act at the forge or hide anything; take it out, or put it \
         between backticks where it is code"
    )]
    Acts {
        /// Which text.
        what: &'static str,
        /// What is in it.
        removed: Removed,
    },
    /// Something in it is a secret, or looks like one.
    #[error("the rule {0} found a secret in it; take it out")]
    Secret(Rule),
    /// The line is in no piece of the change.
    #[error("{path}, line {line}: {reason}")]
    NoPlace {
        /// The file.
        path: String,
        /// The line.
        line: u64,
        /// Why.
        reason: &'static str,
    },
    /// The verdict is not one of the rule's.
    #[error("the verdict `{}` is not in `outputs.review.verdicts`; leave it out, and say it in words", .0.name())]
    Verdict(ReviewVerdict),
    /// Nothing can be said about the file.
    #[error("{path}: {reason}")]
    NoFile {
        /// The file.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// Nothing can be done with the thread.
    #[error("the thread {number} {reason}; take one that is open among what you were given")]
    Thread {
        /// The number that was given.
        number: u64,
        /// Why.
        reason: &'static str,
    },
    /// The remark says again what an earlier one says.
    #[error("{path}, line {line}: your thread {thread} {reason}")]
    Repeated {
        /// The file.
        path: String,
        /// The line.
        line: u64,
        /// The earlier one.
        thread: u64,
        /// Why it is the same, and what to do.
        reason: &'static str,
    },
    /// No remark may be about this path.
    #[error("{0} is not in `outputs.review.paths`; say nothing about it")]
    Path(String),
    /// No change may be suggested for this path.
    #[error("{0} is a protected path, for which nothing may be suggested; say it in words")]
    Protected(String),
    /// The suggestion can't be made.
    #[error("a suggestion can't be made here: {0}")]
    Suggestion(&'static str),
}

/// The judge of one run's outputs.
#[derive(Debug)]
pub struct OutputJudge {
    policy: OutputPolicy,
    protected: ProtectedPaths,
    paths: Vec<GlobMatcher>,
    rules: Rules,
    answer: Option<CompiledSchema>,
    files: Vec<GlobMatcher>,
    code: Vec<GlobMatcher>,
}

impl OutputJudge {
    /// Compiles a policy; why it can't be used is the error.
    pub fn new(policy: OutputPolicy) -> Result<Self, String> {
        let words = |error: GateError| error.to_string();
        let push = PushRules { protect_paths: policy.protect_paths.clone(), ..PushRules::default() };
        let paths = policy.rules.review.iter().flat_map(|review| &review.paths);
        let paths = paths.map(|glob| refs::glob(glob, true)).collect::<Result<_, _>>().map_err(words)?;
        let rules = Rules::with(&policy.patterns, &policy.detect, &[]).map_err(|error| error.to_string())?;
        let files = policy.rules.file.iter().flat_map(|file| &file.paths);
        let files = files.map(|glob| refs::glob(glob, true)).collect::<Result<_, _>>().map_err(words)?;
        let code = policy.rules.sarif.iter().flat_map(|sarif| &sarif.paths);
        let code = code.map(|glob| refs::glob(glob, true)).collect::<Result<_, _>>().map_err(words)?;
        let answer = policy.rules.json.as_ref().map(AnswerSchema::compile).transpose();
        let answer = answer.map_err(|error| format!("outputs.json: {error}"))?;
        Ok(Self { protected: ProtectedPaths::new(&push).map_err(words)?, paths, rules, answer, files, code, policy })
    }

    /// Whether there is a thread that a review may do something with.
    pub fn has_open_threads(&self) -> bool {
        self.policy.threads.iter().any(|thread| !thread.resolved)
    }

    /// What is granted.
    pub fn rules(&self) -> &OutputRules {
        &self.policy.rules
    }

    /// Gives an output as it may go out, behind those that came before it; or says why it may not.
    pub fn judge(&self, known: &KnownSecrets, before: &[Output], output: &Output) -> Result<Output, OutputRefusal> {
        // First of all, so that no other message has a secret in it. What is cut in two is one text again.
        let texts: Vec<Cow<'_, str>> = before.iter().chain([output]).flat_map(Output::texts).collect();
        for joint in ["\n", ""] {
            self.no_secret(known, &texts.join(joint))?;
        }
        match (output, &self.policy.rules) {
            (Output::Comment { body }, OutputRules { comment: Some(rules), .. }) => {
                more(before, OutputKind::Comment, 1, rules.max)?;
                Ok(Output::Comment { body: words("comment", body, LONGEST_BODY)? })
            }
            (Output::Labels { labels }, OutputRules { labels: Some(rules), .. }) => {
                let labels = allowed_labels(labels, &rules.allowed, "labels.allowed")?;
                if labels.is_empty() {
                    return Err(OutputRefusal::Empty("list of labels"));
                }
                more(before, OutputKind::Labels, labels.len(), rules.max)?;
                Ok(Output::Labels { labels })
            }
            (Output::Review { verdict, body, remarks, files, threads }, OutputRules { review: Some(rules), .. }) => {
                if before.iter().any(|other| other.kind() == OutputKind::Review) {
                    return Err(OutputRefusal::Second("review".to_owned()));
                }
                if !verdict.is_comment() && !rules.verdicts.contains(verdict) {
                    return Err(OutputRefusal::Verdict(*verdict));
                }
                if remarks.len() + files.len() > rules.max as usize {
                    return Err(OutputRefusal::TooMany { kind: OutputKind::Review, max: rules.max });
                }
                let says_more =
                    !verdict.is_comment() || !remarks.is_empty() || !files.is_empty() || !threads.is_empty();
                let body = match body.trim().is_empty() && says_more {
                    true => String::new(),
                    false => words("review", body, LONGEST_BODY)?,
                };
                let remarks = remarks.iter().map(|remark| self.remark(remark, rules.suggestions));
                let remarks = remarks.collect::<Result<_, _>>()?;
                let files = files.iter().map(|file| self.file_remark(file)).collect::<Result<Vec<_>, _>>()?;
                let size = body.len() + files.iter().map(|file| file.path.len() + file.body.len()).sum::<usize>();
                if size > LONGEST_BODY {
                    return Err(OutputRefusal::TooLong { what: "review", most: LONGEST_BODY });
                }
                let threads = threads::judged(threads, &self.policy.threads)?;
                Ok(Output::Review { verdict: *verdict, body, remarks, files, threads })
            }
            (Output::Issue { title, body, labels }, OutputRules { issue: Some(rules), .. }) => {
                more(before, OutputKind::Issue, 1, rules.max)?;
                issue(title, body, labels, rules)
            }
            (Output::Close { reason, comment }, OutputRules { close: Some(rules), .. }) => {
                if before.iter().any(|other| other.kind() == OutputKind::Close) {
                    return Err(OutputRefusal::Second("close".to_owned()));
                }
                if !rules.reasons.contains(reason) {
                    return Err(OutputRefusal::Reason);
                }
                let comment = match comment.is_empty() {
                    true => String::new(),
                    false => words("comment", comment, LONGEST_BODY)?,
                };
                Ok(Output::Close { reason: *reason, comment })
            }
            (Output::Check { name, conclusion, summary }, OutputRules { check: Some(rules), .. }) => {
                let summary = check(before, name, summary, rules)?;
                Ok(Output::Check { name: name.clone(), conclusion: *conclusion, summary })
            }
            (Output::Json { answer }, OutputRules { json: Some(_), .. }) => {
                self.answer(before, answer)?;
                Ok(output.clone())
            }
            (Output::File { path }, OutputRules { file: Some(rules), .. }) => {
                more(before, OutputKind::File, 1, rules.max)?;
                file::path(before, path, &self.files)?;
                Ok(output.clone())
            }
            (Output::Sarif { findings }, OutputRules { sarif: Some(rules), .. }) => {
                if before.iter().any(|other| other.kind() == OutputKind::Sarif) {
                    return Err(OutputRefusal::Second("report of findings".to_owned()));
                }
                if findings.len() > rules.max as usize {
                    return Err(OutputRefusal::TooMany { kind: OutputKind::Sarif, max: rules.max });
                }
                let findings = findings.iter().map(|finding| sarif::finding(finding, &self.code));
                Ok(Output::Sarif { findings: findings.collect::<Result<_, _>>()? })
            }
            (output, _) => Err(OutputRefusal::NotGranted(output.kind())),
        }
    }

    /// Refuses a text with a secret in it, such as a message about a call that could not be read.
    pub fn no_secret(&self, known: &KnownSecrets, text: &str) -> Result<(), OutputRefusal> {
        let search = Search { known, rules: Some((&self.rules, Scope::All)) };
        search.find(text.as_bytes()).map_or(Ok(()), |found| Err(OutputRefusal::Secret(found.rule)))
    }

    /// Tells whether a file may go out with this content.
    pub fn judge_content(&self, known: &KnownSecrets, bytes: &[u8]) -> Result<(), OutputRefusal> {
        file::content(known, &self.rules, bytes)
    }

    fn answer(&self, before: &[Output], answer: &Value) -> Result<(), OutputRefusal> {
        if before.iter().any(|other| other.kind() == OutputKind::Json) {
            return Err(OutputRefusal::Second("answer".to_owned()));
        }
        if answer.to_string().len() > LONGEST_ANSWER {
            return Err(OutputRefusal::TooLong { what: "answer", most: LONGEST_ANSWER });
        }
        let Some(schema) = &self.answer else { return Err(OutputRefusal::NotGranted(OutputKind::Json)) };
        schema.faults(answer).map_or(Ok(()), |faults| Err(OutputRefusal::Answer(faults)))
    }

    fn file_remark(&self, remark: &FileRemark) -> Result<FileRemark, OutputRefusal> {
        let path = prose::name(&remark.path, LONGEST_NAME);
        if !self.policy.changed.has_file(&remark.path) {
            let reason = "the change does not have this file; take a path as `git diff` names it after the change";
            return Err(OutputRefusal::NoFile { path, reason });
        }
        // Such a name would end the code that it is shown as.
        let clean = prose::line_for_posting(&format!("`{}`", remark.path));
        if remark.path.contains('`') || !clean.removed.is_empty() || clean.text != format!("`{}`", remark.path) {
            let reason = "this file's name can't be posted; say it in the review's own words";
            return Err(OutputRefusal::NoFile { path, reason });
        }
        if !self.paths.is_empty() && !self.paths.iter().any(|glob| glob.is_match(&remark.path)) {
            return Err(OutputRefusal::Path(path));
        }
        let body = words("remark", &remark.body, LONGEST_REMARK)?;
        if suggests(&body) {
            return Err(OutputRefusal::Suggestion("only a remark about lines can have one"));
        }
        Ok(FileRemark { body, ..remark.clone() })
    }

    fn remark(&self, remark: &Remark, suggestions: bool) -> Result<Remark, OutputRefusal> {
        let path = prose::name(&remark.path, LONGEST_NAME);
        let no_place = |reason| OutputRefusal::NoPlace { path: path.clone(), line: remark.line, reason };
        self.policy.changed.place(remark).map_err(|why| {
            no_place(match why {
                NoPlace::File => {
                    "the change has no lines of this file; take a path as `git diff` names it after the change"
                }
                NoPlace::Line => "the line is not in the diff; take one that is, and look at the side",
                NoPlace::Lines => "the lines from `first_line` to `line` are not in one piece of the diff",
            })
        })?;
        if !self.paths.is_empty() && !self.paths.iter().any(|glob| glob.is_match(&remark.path)) {
            return Err(OutputRefusal::Path(path));
        }
        let body = words("remark", &remark.body, LONGEST_REMARK)?;
        let repeated = self.policy.threads.iter().find_map(|own| Some((own.thread, own.repeated_by(remark)?)));
        if let Some((thread, reason)) = repeated {
            return Err(OutputRefusal::Repeated { path, line: remark.line, thread, reason });
        }
        // Only the field for it is judged as a suggestion.
        if suggests(&body) {
            return Err(OutputRefusal::Suggestion("give it in the field `suggestion`, not in the body"));
        }
        let suggestion = match &remark.suggestion {
            Some(_) if !suggestions => return Err(OutputRefusal::Suggestion("`outputs.review.suggestions` is false")),
            Some(_) if remark.side == DiffSide::Before => {
                return Err(OutputRefusal::Suggestion("the line is not there any more after the change"));
            }
            Some(_) if self.protected.protects(&remark.path).is_some() => return Err(OutputRefusal::Protected(path)),
            Some(text) => Some(code(text)?),
            None => None,
        };
        let first_line = remark.first_line.filter(|first| *first != remark.line);
        Ok(Remark { first_line, body, suggestion, ..remark.clone() })
    }
}

/// The labels, each once, if all of them are allowed.
fn allowed_labels(labels: &[String], allowed: &[String], key: &'static str) -> Result<Vec<String>, OutputRefusal> {
    let mut kept: Vec<String> = vec![];
    for label in labels {
        if !allowed.contains(label) {
            return Err(OutputRefusal::Label { label: prose::name(label, LONGEST_NAME), key });
        }
        if !kept.contains(label) {
            kept.push(label.clone());
        }
    }
    Ok(kept)
}

fn issue(title: &str, body: &str, labels: &[String], rules: &IssueRules) -> Result<Output, OutputRefusal> {
    let title = line("title", title, LONGEST_TITLE)?;
    let prefix = &rules.title_prefix;
    if title.strip_prefix(prefix.as_str()).is_none_or(|rest| rest.trim().is_empty()) {
        return Err(OutputRefusal::Prefix(prefix.clone()));
    }
    // A new issue starts a run where the mention, which begins with one of these, is any word of its title.
    if title.split_whitespace().any(|word| word.starts_with(['/', '@'])) {
        return Err(OutputRefusal::Command);
    }
    let labels = allowed_labels(labels, &rules.labels, "issue.labels")?;
    Ok(Output::Issue { title, body: words("issue", body, LONGEST_BODY)?, labels })
}

/// The summary of a check, if it may be reported.
fn check(before: &[Output], name: &String, summary: &str, rules: &CheckRules) -> Result<String, OutputRefusal> {
    if !rules.names.contains(name) {
        return Err(OutputRefusal::CheckName(prose::name(name, LONGEST_NAME)));
    }
    if before.iter().any(|other| matches!(other, Output::Check { name: had, .. } if had == name)) {
        return Err(OutputRefusal::Second(format!("check `{name}`")));
    }
    let summary = line("summary", summary, LONGEST_SUMMARY)?;
    if has_address(&summary) {
        return Err(OutputRefusal::Address("summary"));
    }
    Ok(summary)
}

/// Whether so many more are within the limit; labels are counted one by one.
fn more(before: &[Output], kind: OutputKind, new: usize, max: u32) -> Result<(), OutputRefusal> {
    let count = |output: &Output| match output {
        Output::Labels { labels } => labels.len(),
        _ => 1,
    };
    let had: usize = before.iter().filter(|output| output.kind() == kind).map(count).sum();
    if had + new > max as usize { Err(OutputRefusal::TooMany { kind, max }) } else { Ok(()) }
}
