//! Findings about the code: what one may say, and the SARIF 2.1.0 that is built of them. Nothing of the agent's becomes a key, an address
//! or a tool's name.

use globset::GlobMatcher;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::text::{has_address, words};
use super::{OutputRefusal, file};
use crate::prose;

/// The longest message, in bytes.
pub const LONGEST_MESSAGE: usize = 1000;
/// The longest name of a rule, in bytes.
pub const LONGEST_RULE: usize = 80;
/// No file has more lines.
const LAST_LINE: u64 = 100_000_000;
/// The longest path in a message.
const LONGEST_NAME: usize = 100;
/// The characters of a path that an address has in another form.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// How much a finding matters; SARIF's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FindingLevel {
    /// To be known.
    Note,
    /// To be looked at.
    #[default]
    Warning,
    /// To be mended.
    Error,
}

/// Something that an agent found in the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CodeFinding {
    /// The kind of the finding, such as `sql-injection`: letters, digits, `-`, `_`, `.` and `/`.
    pub rule: String,
    /// `note`, `warning` (the default) or `error`.
    #[serde(default)]
    pub level: FindingLevel,
    /// What is wrong, as plain text without an address.
    pub message: String,
    /// The file's path in the repository.
    pub path: String,
    /// The line, or the first of several, from 1.
    pub line: u64,
    /// The last of several lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_line: Option<u64>,
}

/// Gives a finding as it may go out.
pub(super) fn finding(finding: &CodeFinding, allowed: &[GlobMatcher]) -> Result<CodeFinding, OutputRefusal> {
    let path = || prose::name(&finding.path, LONGEST_NAME);
    if !is_rule(&finding.rule) {
        return Err(OutputRefusal::RuleName(prose::name(&finding.rule, LONGEST_NAME)));
    }
    if !file::is_inside(&finding.path) {
        return Err(OutputRefusal::NoFilePath(path()));
    }
    if !allowed.is_empty() && !allowed.iter().any(|glob| glob.is_match(&finding.path)) {
        return Err(OutputRefusal::FindingPath(path()));
    }
    let last = finding.last_line.unwrap_or(finding.line);
    if finding.line == 0 || last < finding.line || last > LAST_LINE {
        let reason = "lines are counted from 1, and `last_line` is not before `line`";
        return Err(OutputRefusal::NoPlace { path: path(), line: finding.line, reason });
    }
    let message = words("message", &finding.message, LONGEST_MESSAGE)?;
    // A link of SARIF's own is one in plain text, too, and leads to an address or into the repository.
    if has_address(&message) || message.contains("](") {
        return Err(OutputRefusal::Address("message"));
    }
    Ok(CodeFinding { message, last_line: finding.last_line.filter(|last| *last != finding.line), ..finding.clone() })
}

fn is_rule(rule: &str) -> bool {
    rule.len() <= LONGEST_RULE
        && rule.starts_with(|c: char| c.is_ascii_alphanumeric())
        && rule.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
}

/// The findings of an agent as a SARIF file of this program in a version.
pub fn sarif(agent: &str, version: &str, findings: &[CodeFinding]) -> Value {
    let mut rules: Vec<&str> = vec![];
    let mut results = vec![];
    for (at, finding) in findings.iter().enumerate() {
        let rule = rules.iter().position(|rule| *rule == finding.rule).unwrap_or_else(|| {
            rules.push(&finding.rule);
            rules.len() - 1
        });
        // The same finding in another commit is the same alert, wherever its line has gone.
        let same = |other: &&CodeFinding| other.rule == finding.rule && other.path == finding.path;
        let nth = findings[..at].iter().filter(same).count() + 1;
        let hash = hex::encode(Sha256::digest(format!("{}\0{}", finding.rule, finding.path)));
        let last = finding.last_line.unwrap_or(finding.line);
        results.push(json!({
            "ruleId": finding.rule,
            "ruleIndex": rule,
            "level": finding.level,
            "message": {"text": finding.message},
            "locations": [{"physicalLocation": {
                "artifactLocation": {"uri": utf8_percent_encode(&finding.path, PATH).to_string()},
                "region": {"startLine": finding.line, "endLine": last},
            }}],
            "partialFingerprints": {"primaryLocationLineHash": format!("{}:{nth}", &hash[..16])},
        }));
    }
    let rule = |id: &str| {
        json!({
            "id": id,
            "shortDescription": {"text": id},
            "fullDescription": {"text": format!("What the agent {agent} calls {id}.")},
            "help": {"text": "An agent has written this. Look at the code before you act on it."},
        })
    };
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "claude-bottle",
                "semanticVersion": version,
                "rules": rules.into_iter().map(rule).collect::<Vec<_>>(),
            }},
            // Another agent's findings stand beside these.
            "automationDetails": {"id": format!("claude-bottle/{agent}/")},
            "results": results,
        }],
    })
}
