//! What an agent is granted, as the manifest says it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::OutputKind;
use crate::gate::refs;

/// The most comments, labels or remarks that a rule may grant.
const MOST: u32 = 100;
const LONGEST_LABEL: usize = 50;

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
}

impl Default for ReviewRules {
    fn default() -> Self {
        Self { max: 20, paths: vec![], suggestions: true }
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
        }
    }

    /// Whether something is granted for which there is a tool.
    pub fn has_tools(&self) -> bool {
        OutputKind::ALL.into_iter().any(|kind| self.grants(kind))
    }

    /// Whether the rules can be kept; if not, the keys that are wrong and why.
    pub fn check(&self) -> Result<(), (Vec<String>, String)> {
        let path = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        if self.is_none() {
            return Err((vec![], "nothing is granted".to_owned()));
        }
        for (kind, max) in [
            (OutputKind::Comment, self.comment.as_ref().map(|rules| rules.max)),
            (OutputKind::Labels, self.labels.as_ref().map(|rules| rules.max)),
            (OutputKind::Review, self.review.as_ref().map(|rules| rules.max)),
        ] {
            if max.is_some_and(|max| !(1..=MOST).contains(&max)) {
                return Err((path(&[kind.name(), "max"]), format!("expected between 1 and {MOST}")));
            }
        }
        if let Some(labels) = &self.labels {
            if labels.allowed.is_empty() {
                return Err((path(&["labels", "allowed"]), "no label is named, so none may be added".to_owned()));
            }
            for (index, label) in labels.allowed.iter().enumerate() {
                if !is_label(label) {
                    let problem = format!("expected a label's name, at most {LONGEST_LABEL} bytes");
                    return Err((path(&["labels", "allowed", &index.to_string()]), problem));
                }
            }
        }
        for (index, glob) in self.review.iter().flat_map(|review| &review.paths).enumerate() {
            if let Err(error) = refs::glob(glob, true) {
                return Err((path(&["review", "paths", &index.to_string()]), error.to_string()));
            }
        }
        Ok(())
    }
}

/// Tells whether a text can be the name of a label.
pub(super) fn is_label(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= LONGEST_LABEL && !text.contains(|c: char| c.is_control() || c == ',')
}
