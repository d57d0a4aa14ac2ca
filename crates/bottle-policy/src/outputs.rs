//! `outputs:` of an agent: what may be written at the forge in its name, and what it asks to have written.
//!
//! Map: `rules` (what an agent is granted, and the limits), `answer` (the schema of its answer), `file` (what a file may be), `sarif`
//! (findings about the code), `changed` (the lines of a pull request's change that a comment can be about), `threads` (what earlier
//! reviews have said there), `judge` (whether an output may go out), `text` (whether a text may). The door collects outputs as intents;
//! the runner judges them again and performs them when the agent is gone.
//!
//! Always: an output names no target, since that is the thread of its run, or its commit; what no rule grants is refused; the
//! words of an output hold nothing that acts, that nobody sees, or that looks like a secret.

mod answer;
pub mod changed;
pub(crate) mod file;
mod judge;
mod rules;
mod sarif;
mod text;
mod threads;

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use answer::{ANSWER_TRIES, AnswerSchema, LONGEST_ANSWER, LONGEST_SCHEMA, SchemaError, answer_text};
pub use file::is_inside;
pub use judge::{OutputJudge, OutputPolicy, OutputRefusal};
pub use rules::{
    BranchRules, CheckRules, CloseRules, CommentRules, FileRules, IssueRules, LONGEST_TITLE, LabelRules, OutputRules,
    ReviewRules, SarifRules,
};
pub use sarif::{CodeFinding, FindingLevel, LONGEST_MESSAGE, LONGEST_RULE, SarifReport, SarifResult, SarifRule, sarif};
pub use text::{LONGEST_BODY, LONGEST_REMARK, LONGEST_SUMMARY};
pub use threads::{OwnThread, ThreadUpdate, marked_remark, remark_mark, remark_words};

/// A kind of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// A comment on the thread.
    Comment,
    /// Labels of the thread.
    Labels,
    /// A review of the pull request.
    Review,
    /// A new issue.
    Issue,
    /// The end of the thread.
    Close,
    /// A check of the commit that the run works on.
    Check,
    /// The answer, as JSON.
    Json,
    /// A file of the workspace.
    File,
    /// Findings about the code, as SARIF.
    Sarif,
}

impl OutputKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Comment,
        Self::Labels,
        Self::Review,
        Self::Issue,
        Self::Close,
        Self::Check,
        Self::Json,
        Self::File,
        Self::Sarif,
    ];

    /// Its key in `outputs:`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Comment => "comment",
            Self::Labels => "labels",
            Self::Review => "review",
            Self::Issue => "issue",
            Self::Close => "close",
            Self::Check => "check",
            Self::Json => "json",
            Self::File => "file",
            Self::Sarif => "sarif",
        }
    }

    /// The tool through which the agent asks for it.
    pub fn tool(self) -> &'static str {
        match self {
            Self::Comment => "write_comment",
            Self::Labels => "add_labels",
            Self::Review => "write_review",
            Self::Issue => "open_issue",
            Self::Close => "close_thread",
            Self::Check => "report_check",
            Self::Json => "give_answer",
            Self::File => "hand_in_file",
            Self::Sarif => "report_findings",
        }
    }
}

impl fmt::Display for OutputKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that the agent asks to have written. The target is the thread of the run, or the commit that it works on; an answer's
/// is the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Output {
    /// A comment.
    Comment {
        /// Markdown.
        body: String,
    },
    /// Labels, in addition to those that are there.
    Labels {
        /// Their names.
        labels: Vec<String>,
    },
    /// A review.
    Review {
        /// What it says of the whole.
        #[serde(default, skip_serializing_if = "ReviewVerdict::is_comment")]
        verdict: ReviewVerdict,
        /// Markdown; may be empty where there are remarks or updates of threads.
        body: String,
        /// What is said about lines.
        remarks: Vec<Remark>,
        /// What is said about files as a whole.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files: Vec<FileRemark>,
        /// What becomes of threads that earlier reviews have begun.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        threads: Vec<ThreadUpdate>,
    },
    /// A new issue.
    Issue {
        /// One line.
        title: String,
        /// Markdown.
        body: String,
        /// Names of its labels.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        labels: Vec<String>,
    },
    /// The thread is closed.
    Close {
        /// Why, where the forge keeps that.
        #[serde(default)]
        reason: CloseReason,
        /// Markdown that is said below it first; empty: nothing is said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        comment: String,
    },
    /// A check run or a commit status.
    Check {
        /// Its name; a commit status calls it context.
        name: String,
        /// How it ended.
        conclusion: CheckConclusion,
        /// One line.
        summary: String,
    },
    /// The answer, for the job's next steps.
    Json {
        /// JSON that fits the manifest's schema.
        answer: Value,
    },
    /// A file, as it is when the agent has ended.
    File {
        /// Its path in the workspace.
        path: String,
    },
    /// Findings about the code; none: nothing was found.
    Sarif {
        /// Each of them.
        findings: Vec<CodeFinding>,
    },
}

/// Why a thread is closed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// It is done.
    #[default]
    Completed,
    /// It will not be done.
    NotPlanned,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckConclusion {
    /// It holds.
    Success,
    /// It does not hold.
    Failure,
}

impl CheckConclusion {
    /// Its name at every forge.
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

impl Output {
    /// Its kind.
    pub fn kind(&self) -> OutputKind {
        match self {
            Self::Comment { .. } => OutputKind::Comment,
            Self::Labels { .. } => OutputKind::Labels,
            Self::Review { .. } => OutputKind::Review,
            Self::Issue { .. } => OutputKind::Issue,
            Self::Close { .. } => OutputKind::Close,
            Self::Check { .. } => OutputKind::Check,
            Self::Json { .. } => OutputKind::Json,
            Self::File { .. } => OutputKind::File,
            Self::Sarif { .. } => OutputKind::Sarif,
        }
    }

    /// Every text in it that would leave.
    fn texts(&self) -> Vec<Cow<'_, str>> {
        let texts = match self {
            Self::Comment { body } => vec![body.as_str()],
            Self::Labels { labels } => labels.iter().map(String::as_str).collect(),
            Self::Review { body, remarks, files, threads, .. } => {
                let mut texts = vec![body.as_str()];
                texts.extend(files.iter().flat_map(|file| [file.path.as_str(), &file.body]));
                texts.extend(threads.iter().map(|update| update.body.as_str()));
                for remark in remarks {
                    texts.extend([remark.path.as_str(), remark.body.as_str()]);
                    texts.extend(remark.suggestion.as_deref());
                }
                texts
            }
            Self::Issue { title, body, labels } => {
                let labels = labels.iter().map(String::as_str);
                [title.as_str(), body.as_str()].into_iter().chain(labels).collect()
            }
            Self::Close { comment, .. } => vec![comment.as_str()],
            Self::Check { name, summary, .. } => vec![name.as_str(), summary.as_str()],
            Self::Json { answer } => return answer::texts(answer),
            Self::File { path } => vec![path.as_str()],
            Self::Sarif { findings } => {
                findings.iter().flat_map(|one| [one.rule.as_str(), &one.message, &one.path]).collect()
            }
        };
        texts.into_iter().map(Cow::Borrowed).collect()
    }
}

/// What a review says of a change as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReviewVerdict {
    /// Nothing.
    #[default]
    Comment,
    /// It can't go on as it is.
    RequestChanges,
    /// It can go on.
    Approve,
}

impl ReviewVerdict {
    /// Whether it is none.
    pub fn is_comment(&self) -> bool {
        *self == Self::Comment
    }

    /// Its name in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Comment => "comment",
            Self::RequestChanges => "request_changes",
            Self::Approve => "approve",
        }
    }
}

/// What a review says about a file as a whole; it stands in the review's own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRemark {
    /// The file's path in the repository, as it is after the change.
    pub path: String,
    /// Markdown.
    pub body: String,
}

impl FileRemark {
    /// As Markdown; a path that is judged has no backtick.
    pub fn markdown(&self) -> String {
        format!("**On `{}`**\n\n{}", self.path, self.body)
    }
}

/// The side of a change that a line is on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiffSide {
    /// The file before the change: removed lines, and those around them.
    Before,
    /// The file after the change: added lines, and those around them.
    #[default]
    After,
}

/// What a review says about a line, or several lines, of the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Remark {
    /// The file's path in the repository, as it is after the change.
    pub path: String,
    /// The line, or the last of several; counted from 1 in the file on the given side.
    pub line: u64,
    /// The first of several lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_line: Option<u64>,
    /// `after` (the default) or `before` the change.
    #[serde(default)]
    pub side: DiffSide,
    /// Markdown.
    pub body: String,
    /// Text that the lines should be replaced with, without Markdown around it; empty to remove them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl Remark {
    /// The first of its lines.
    pub fn first(&self) -> u64 {
        self.first_line.unwrap_or(self.line)
    }

    /// Body and suggestion as Markdown. The fence is longer than any in the suggestion.
    pub fn markdown(&self) -> String {
        let Some(suggestion) = &self.suggestion else { return self.body.clone() };
        let mut longest = 2;
        for run in suggestion.split(|c| c != '`') {
            longest = longest.max(run.len());
        }
        let fence = "`".repeat(longest + 1);
        let end = if suggestion.is_empty() { "" } else { "\n" };
        format!("{}\n\n{fence}suggestion\n{suggestion}{end}{fence}", self.body)
    }
}
