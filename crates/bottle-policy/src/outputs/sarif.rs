//! Findings about the code: what one may say, and the SARIF 2.1.0 that is built of them, and of what the doors refused. Nothing of the
//! agent's becomes a key, an address or a tool's name.

use std::collections::HashMap;

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
    let result = |finding: &CodeFinding| SarifResult {
        rule: finding.rule.clone(),
        level: finding.level,
        message: finding.message.clone(),
        path: finding.path.clone(),
        lines: Some((finding.line, finding.last_line.unwrap_or(finding.line))),
        about: None,
    };
    let report = SarifReport {
        // Another agent's findings stand beside these.
        category: format!("claude-bottle/{agent}/"),
        results: findings.iter().map(result).collect(),
        left_out: vec![],
    };
    report.to_json(version, |id| SarifRule {
        description: format!("What the agent {agent} calls {id}."),
        help: "An agent has written this. Look at the code before you act on it.".to_owned(),
        is_security: false,
    })
}

/// A SARIF file of this program, before it is JSON.
#[derive(Debug)]
pub struct SarifReport {
    /// What the forge tells this file by from others of this program, with a `/` at its end.
    pub category: String,
    /// The results, in their order.
    pub results: Vec<SarifResult>,
    /// What is not among them, a sentence each.
    pub left_out: Vec<String>,
}

/// A result of a SARIF file.
#[derive(Debug)]
pub struct SarifResult {
    /// The kind of the result.
    pub rule: String,
    /// How much it matters.
    pub level: FindingLevel,
    /// What it is, as plain text.
    pub message: String,
    /// The file's path in the repository.
    pub path: String,
    /// The first and the last of its lines, from 1.
    pub lines: Option<(u64, u64)>,
    /// What it is about, where that is not the file, such as an address.
    pub about: Option<String>,
}

/// What a SARIF file says of a rule.
#[derive(Debug)]
pub struct SarifRule {
    /// What the rule is, in a sentence.
    pub description: String,
    /// What to do about its results.
    pub help: String,
    /// True if a forge is to show its results among those about security.
    pub is_security: bool,
}

impl SarifReport {
    /// The file's value; `rule` says of each rule's id what it is.
    pub fn to_json(&self, version: &str, rule: impl Fn(&str) -> SarifRule) -> Value {
        let mut rules: Vec<&str> = vec![];
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut results = vec![];
        for result in &self.results {
            let index = rules.iter().position(|rule| *rule == result.rule).unwrap_or_else(|| {
                rules.push(&result.rule);
                rules.len() - 1
            });
            results.push(result.to_json(index, &mut seen));
        }
        let rule = |id: &&str| {
            let SarifRule { description, help, is_security } = rule(id);
            let mut value = json!({
                "id": id,
                "shortDescription": {"text": id},
                "fullDescription": {"text": description},
                "help": {"text": help},
            });
            if is_security {
                value["properties"] = json!({"tags": ["security"]});
            }
            value
        };
        let mut run = json!({
            "tool": {"driver": {
                "name": "claude-bottle",
                "semanticVersion": version,
                "rules": rules.iter().map(rule).collect::<Vec<_>>(),
            }},
            "automationDetails": {"id": self.category},
            "results": results,
        });
        if !self.left_out.is_empty() {
            let note = |text: &String| json!({"level": "warning", "message": {"text": text}});
            let notes: Vec<Value> = self.left_out.iter().map(note).collect();
            run["invocations"] = json!([{"executionSuccessful": true, "toolExecutionNotifications": notes}]);
        }
        json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [run],
        })
    }
}

impl SarifResult {
    /// Its value. `seen` counts the results before it that are alike.
    fn to_json(&self, rule: usize, seen: &mut HashMap<String, usize>) -> Value {
        let mut key = format!("{}\0{}", self.rule, self.path);
        if let Some(about) = &self.about {
            key = format!("{key}\0{about}");
        }
        // The same finding in another commit is the same alert, wherever its line has gone.
        let hash = hex::encode(Sha256::digest(&key));
        let nth = seen.entry(key).and_modify(|nth| *nth += 1).or_insert(1);
        let mut physical = json!({"artifactLocation": {"uri": utf8_percent_encode(&self.path, PATH).to_string()}});
        if let Some((first, last)) = self.lines {
            physical["region"] = json!({"startLine": first, "endLine": last});
        }
        let mut location = json!({"physicalLocation": physical});
        if let Some(about) = &self.about {
            location["logicalLocations"] = json!([{"fullyQualifiedName": about}]);
        }
        json!({
            "ruleId": self.rule,
            "ruleIndex": rule,
            "level": self.level,
            "message": {"text": self.message},
            "locations": [location],
            "partialFingerprints": {"primaryLocationLineHash": format!("{}:{nth}", &hash[..16])},
        })
    }
}
