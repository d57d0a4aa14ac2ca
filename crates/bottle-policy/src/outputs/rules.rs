//! What an agent is granted, as the manifest says it.

use bottle_types::units::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AnswerSchema, CloseReason, OutputKind, ReviewVerdict};
use crate::gate::refs;
use crate::prose;

/// The most comments, labels or remarks that a rule may grant.
const MOST: u32 = 100;
/// The most bytes of files that a rule may grant; the runner has them in memory.
const MOST_FILE_BYTES: u64 = 100 << 20;
const LONGEST_LABEL: usize = 50;
/// The longest title of an issue, in bytes; forges take 255 characters.
pub const LONGEST_TITLE: usize = 200;
/// The longest prefix of a title and the longest name of a check, in bytes.
const LONGEST_NAME: usize = 80;

/// What may come of an agent's run. What is not named can't be written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutputRules {
    /// A branch with a change, and its pull request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<BranchRules>,
    /// Comments on the issue or pull request of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<CommentRules>,
    /// Labels for the issue or pull request of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelRules>,
    /// A review of the pull request of the run, with remarks at lines of its change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub review: Option<ReviewRules>,
    /// New issues in the repository of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issue: Option<IssueRules>,
    /// Closing the issue or pull request of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close: Option<CloseRules>,
    /// Checks of the commit that the run works on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckRules>,
    /// The answer, as JSON for the job's next steps; a run without it has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<AnswerSchema>,
    /// Files of the workspace, for the run record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileRules>,
    /// Findings about the code, as SARIF for the record and for GitHub's code scanning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sarif: Option<SarifRules>,
}

/// A branch with a change; what may be pushed is in the bottle's `git`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BranchRules {}

/// Comments on the issue or pull request of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CommentRules {
    /// So many in one run.
    pub max: u32,
}

impl Default for CommentRules {
    fn default() -> Self {
        Self { max: 1 }
    }
}

/// Labels for the issue or pull request of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelRules {
    /// Names of labels that may be added; none of them may be one that starts a run.
    pub allowed: Vec<String>,
    /// So many in one run.
    #[serde(default = "LabelRules::default_max")]
    pub max: u32,
}

impl LabelRules {
    fn default_max() -> u32 {
        3
    }
}

/// A review of the pull request of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReviewRules {
    /// So many remarks at lines.
    pub max: u32,
    /// Globs of the paths that remarks may be about; none: every path of the change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Whether remarks may suggest other lines.
    pub suggestions: bool,
    /// Verdicts that may be given; none: a review has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<ReviewVerdict>,
}

impl Default for ReviewRules {
    fn default() -> Self {
        Self { max: 20, paths: vec![], suggestions: true, verdicts: vec![] }
    }
}

/// New issues in the repository of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IssueRules {
    /// So many in one run.
    pub max: u32,
    /// What each title begins with.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub title_prefix: String,
    /// Names of labels that they may have; none of them may be one that starts a run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

impl Default for IssueRules {
    fn default() -> Self {
        Self { max: 1, title_prefix: String::new(), labels: vec![] }
    }
}

/// Closing the issue or pull request of the run; no other can be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CloseRules {
    /// Reasons that may be given.
    pub reasons: Vec<CloseReason>,
}

impl Default for CloseRules {
    fn default() -> Self {
        Self { reasons: vec![CloseReason::Completed, CloseReason::NotPlanned] }
    }
}

/// Checks of the commit that the run works on: a check run or a commit status each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckRules {
    /// Names that a check may have; each is reported once in a run.
    pub names: Vec<String>,
}

/// Files of the workspace, for the run record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRules {
    /// Globs of the paths, from the top of the workspace.
    pub paths: Vec<String>,
    /// So many in one run.
    #[serde(default = "FileRules::default_max")]
    pub max: u32,
    /// The size of all together.
    #[serde(default = "FileRules::default_max_bytes")]
    pub max_bytes: ByteSize,
}

impl FileRules {
    fn default_max() -> u32 {
        5
    }

    fn default_max_bytes() -> ByteSize {
        ByteSize(10 << 20)
    }

    fn check(&self) -> Result<(), (Vec<String>, String)> {
        if self.paths.is_empty() {
            return Err((keys(&["file", "paths"]), "no path is named, so no file may be handed in".to_owned()));
        }
        for (index, glob) in self.paths.iter().enumerate() {
            if let Err(error) = refs::glob(glob, true) {
                return Err((key(&["file", "paths"], index), error.to_string()));
            }
        }
        if !(1..=MOST_FILE_BYTES).contains(&self.max_bytes.0) {
            let most = ByteSize(MOST_FILE_BYTES);
            return Err((keys(&["file", "max_bytes"]), format!("expected between 1 and {most}")));
        }
        Ok(())
    }
}

/// Findings about the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SarifRules {
    /// So many findings.
    pub max: u32,
    /// Globs of the paths that findings may be about; none: every path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

impl Default for SarifRules {
    fn default() -> Self {
        Self { max: 50, paths: vec![] }
    }
}

impl OutputRules {
    /// Whether nothing is granted at all.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an output of this kind is granted.
    pub fn grants(&self, kind: OutputKind) -> bool {
        match kind {
            OutputKind::Comment => self.comment.is_some(),
            OutputKind::Labels => self.labels.is_some(),
            OutputKind::Review => self.review.is_some(),
            OutputKind::Issue => self.issue.is_some(),
            OutputKind::Close => self.close.is_some(),
            OutputKind::Check => self.check.is_some(),
            OutputKind::Json => self.json.is_some(),
            OutputKind::File => self.file.is_some(),
            OutputKind::Sarif => self.sarif.is_some(),
        }
    }

    /// Whether something is granted for which there is a tool.
    pub fn has_tools(&self) -> bool {
        OutputKind::ALL.into_iter().any(|kind| self.grants(kind))
    }

    /// Takes back an output of a kind.
    pub fn revoke(&mut self, kind: OutputKind) {
        match kind {
            OutputKind::Comment => self.comment = None,
            OutputKind::Labels => self.labels = None,
            OutputKind::Review => self.review = None,
            OutputKind::Issue => self.issue = None,
            OutputKind::Close => self.close = None,
            OutputKind::Check => self.check = None,
            OutputKind::Json => self.json = None,
            OutputKind::File => self.file = None,
            OutputKind::Sarif => self.sarif = None,
        }
    }

    /// Names of labels that the agent may give to something, each with its key.
    pub fn allowed_labels(&self) -> impl Iterator<Item = (Vec<String>, &str)> {
        let of_thread = self.labels.iter().flat_map(|labels| &labels.allowed).enumerate();
        let of_issue = self.issue.iter().flat_map(|issue| &issue.labels).enumerate();
        let of_thread = of_thread.map(|(index, label)| (key(&["labels", "allowed"], index), label.as_str()));
        of_thread.chain(of_issue.map(|(index, label)| (key(&["issue", "labels"], index), label.as_str())))
    }

    /// Whether the rules can be kept; if not, the keys that are wrong and why.
    pub fn check(&self) -> Result<(), (Vec<String>, String)> {
        if self.is_none() {
            return Err((vec![], "nothing is granted".to_owned()));
        }
        for (kind, max) in [
            (OutputKind::Comment, self.comment.as_ref().map(|rules| rules.max)),
            (OutputKind::Labels, self.labels.as_ref().map(|rules| rules.max)),
            (OutputKind::Review, self.review.as_ref().map(|rules| rules.max)),
            (OutputKind::Issue, self.issue.as_ref().map(|rules| rules.max)),
            (OutputKind::File, self.file.as_ref().map(|rules| rules.max)),
            (OutputKind::Sarif, self.sarif.as_ref().map(|rules| rules.max)),
        ] {
            if max.is_some_and(|max| !(1..=MOST).contains(&max)) {
                return Err((keys(&[kind.name(), "max"]), format!("expected between 1 and {MOST}")));
            }
        }
        if self.labels.as_ref().is_some_and(|labels| labels.allowed.is_empty()) {
            return Err((keys(&["labels", "allowed"]), "no label is named, so none may be added".to_owned()));
        }
        if let Some((key, _)) = self.allowed_labels().find(|(_, label)| !is_label(label)) {
            return Err((key, format!("expected a label's name, at most {LONGEST_LABEL} bytes")));
        }
        let of_review = self.review.iter().flat_map(|review| &review.paths).enumerate();
        let of_sarif = self.sarif.iter().flat_map(|sarif| &sarif.paths).enumerate();
        for (kind, (index, glob)) in of_review.map(|at| ("review", at)).chain(of_sarif.map(|at| ("sarif", at))) {
            if let Err(error) = refs::glob(glob, true) {
                return Err((key(&[kind, "paths"], index), error.to_string()));
            }
        }
        // A title is trimmed, and has one blank between words.
        let prefix = self.issue.as_ref().map(|issue| issue.title_prefix.as_str()).unwrap_or_default();
        if !prefix.is_empty() && !is_line(prefix.strip_suffix(' ').unwrap_or(prefix)) {
            let problem = format!("expected one line that can begin a title, at most {LONGEST_NAME} bytes");
            return Err((keys(&["issue", "title_prefix"]), problem));
        }
        if self.close.as_ref().is_some_and(|close| close.reasons.is_empty()) {
            return Err((keys(&["close", "reasons"]), "no reason is named, so none may be given".to_owned()));
        }
        self.check_names()?;
        self.file.as_ref().map_or(Ok(()), FileRules::check)?;
        self.json.as_ref().map_or(Ok(()), AnswerSchema::check).map_err(|error| {
            let mut path = keys(&["json"]);
            path.extend(error.keys);
            (path, error.problem)
        })
    }

    fn check_names(&self) -> Result<(), (Vec<String>, String)> {
        let Some(CheckRules { names }) = &self.check else { return Ok(()) };
        if names.is_empty() || names.len() > MOST as usize {
            let problem = format!("expected between 1 and {MOST} names of checks");
            return Err((keys(&["check", "names"]), problem));
        }
        for (index, name) in names.iter().enumerate() {
            let at = key(&["check", "names"], index);
            if !is_line(name) {
                return Err((at, format!("expected a check's name in one line, at most {LONGEST_NAME} bytes")));
            }
            if names[..index].contains(name) {
                return Err((at, "this name is there already".to_owned()));
            }
        }
        Ok(())
    }
}

fn keys(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

fn key(list: &[&str], index: usize) -> Vec<String> {
    let mut path = keys(list);
    path.push(index.to_string());
    path
}

/// Tells whether a text is one short line in which nothing acts or hides.
fn is_line(text: &str) -> bool {
    let clean = prose::line_for_posting(text);
    !text.is_empty() && text.len() <= LONGEST_NAME && clean.removed.is_empty() && clean.text == text
}

/// Tells whether a text can be the name of a label.
pub(super) fn is_label(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= LONGEST_LABEL && !text.contains(|c: char| c.is_control() || c == ',')
}
