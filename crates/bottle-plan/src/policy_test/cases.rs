//! The file's types and its reading.

use std::collections::BTreeMap;

use bottle_policy::gate::RepoName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::explain::{RequestAsked, Verdict};
use crate::manifest::{self, LineColumn, ManifestError, Positions, dotted};
use crate::name::Name;

/// The file that is looked for beside the manifest.
pub const FILE_NAME: &str = "claude-bottle.test.yml";

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyTests {
    /// Format version: 1.
    pub version: u32,
    /// The cases.
    pub cases: Vec<CaseEntry>,
    /// Where everything stands; not a key.
    #[serde(skip)]
    file: TestFile,
}

/// Where the cases were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct TestFile {
    name: String,
    text: String,
}

/// One case: one of `request`, `push` and `event`, and what shall come of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Case")]
pub struct CaseEntry {
    /// What it is about, for the report; made from the rest where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The agent in whose bottle it is asked; the manifest's own choice where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Name>,
    /// A request of the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestCase>,
    /// A push of the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<PushCase>,
    /// An event of the forge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventCase>,
    /// What shall come of it: for a request `allow` or `deny`; for a push these or `hold`; for an event `start`, `command`, `unclear`,
    /// `nothing` or `refuse`.
    pub verdict: Verdict,
    /// The rule that shall decide, by its keys: `egress.routes[0]`, with or without `bottles.NAME` before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestCase {
    /// The URL; `wss://` for a WebSocket.
    pub url: String,
    /// The method; `GET` where none is given.
    #[serde(default = "get")]
    pub method: String,
    /// Headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Whether it is sent while the setup runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub setup: bool,
}

/// A push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushCase {
    /// The ref, as `git push` takes it: `refs/heads/x`, a branch's name, or `:x` for a deletion.
    pub r#ref: String,
    /// The repository's name at the gate; the one that the agent works in where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<RepoName>,
    /// Paths of files that the new commits touch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// The message of a new commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Its author and committer, as `NAME <ADDRESS>`; the run's own identity where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventCase {
    /// The file with the payload as the forge sent it; a path below the directory of this file.
    pub file: String,
    /// The event's name, such as `issues`; told from the payload where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

fn get() -> String {
    "GET".to_owned()
}

/// The JSON Schema of the file.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(PolicyTests).to_value()
}

impl PolicyTests {
    /// Reads and checks the file, `name` in messages.
    pub fn parse(text: &str, name: &str) -> Result<Self, ManifestError> {
        let mut tests: Self = manifest::read(text, name)?;
        tests.file = TestFile { name: name.to_owned(), text: text.to_owned() };
        if tests.version != 1 {
            let problem = format!("version {} is not known", tests.version);
            return Err(tests.wrong(&["version"], &problem, "this program reads version 1"));
        }
        if tests.cases.is_empty() {
            return Err(tests.wrong(
                &["cases"],
                "there is no case",
                "docs/reference/policy-tests.md has some to begin with",
            ));
        }
        for index in 0..tests.cases.len() {
            tests.check(index)?;
        }
        Ok(tests)
    }

    /// Where a case stands: the line and the column of its first key.
    pub fn place(&self, index: usize) -> Option<LineColumn> {
        Positions::new(&self.file.text).of(&["cases", &index.to_string()])
    }

    /// The error that a value of a case is wrong.
    pub fn wrong_in_case(&self, index: usize, keys: &[&str], problem: &str, hint: &str) -> ManifestError {
        let index = index.to_string();
        self.wrong(&[&["cases", index.as_str()], keys].concat(), problem, hint)
    }

    /// An error at a path of keys, or at the nearest value above it that is written.
    fn wrong(&self, path: &[&str], problem: &str, hint: &str) -> ManifestError {
        let positions = Positions::new(&self.file.text);
        let at = (1..=path.len()).rev().find_map(|length| positions.of(&path[..length]));
        let problem = format!("{}: {problem}", dotted(path));
        ManifestError::new(&self.file.name, at, problem, Some(hint.to_owned()))
    }

    fn check(&self, index: usize) -> Result<(), ManifestError> {
        let case = &self.cases[index];
        let wrong = |keys: &[&str], problem: &str, hint: &str| Err(self.wrong_in_case(index, keys, problem, hint));
        let asked = [case.request.is_some(), case.push.is_some(), case.event.is_some()];
        if asked.iter().filter(|asked| **asked).count() != 1 {
            return wrong(&[], "a case is about one thing", "give it one of `request`, `push` and `event`");
        }
        let (kind, verdicts): (_, &[Verdict]) = match case {
            CaseEntry { request: Some(_), .. } => ("request", &[Verdict::Allow, Verdict::Deny]),
            CaseEntry { push: Some(_), .. } => ("push", &[Verdict::Allow, Verdict::Deny, Verdict::Hold]),
            _ => ("event", &[Verdict::Start, Verdict::Command, Verdict::Unclear, Verdict::Nothing, Verdict::Refuse]),
        };
        if !verdicts.contains(&case.verdict) {
            let words: Vec<&str> = verdicts.iter().map(|verdict| verdict.word()).collect();
            let problem = format!("`{}` is no verdict about a {kind}", case.verdict.word());
            return wrong(&["verdict"], &problem, &format!("it is one of {}", words.join(", ")));
        }
        if let Some(request) = &case.request {
            if let Err(error) = request.asked() {
                return wrong(&["request", "url"], &error.to_string(), "such as https://registry.example.org/pkg");
            }
            if request.method.is_empty() || !request.method.bytes().all(|byte| byte.is_ascii_graphic()) {
                return wrong(&["request", "method"], "not a method", "methods are written as GET or POST");
            }
        }
        if case.push.as_ref().is_some_and(|push| push.r#ref.is_empty()) {
            return wrong(&["push", "ref"], "no ref is named", "such as refs/heads/bottle/x");
        }
        if let Some(event) = &case.event {
            let inside = !event.file.is_empty()
                && !event.file.contains('\0')
                && event.file.split('/').all(|part| !matches!(part, "" | "." | ".."));
            if !inside {
                let hint = "it is relative to this file's directory, without `..`";
                return wrong(
                    &["event", "file"],
                    &format!("`{}` is not a path below this file's directory", event.file),
                    hint,
                );
            }
        }
        Ok(())
    }
}

impl RequestCase {
    /// The request in the words of [`crate::explain`].
    pub(super) fn asked(&self) -> Result<RequestAsked, crate::explain::UrlError> {
        let asked = RequestAsked::new(&self.method, &self.url)?.in_setup(self.setup);
        Ok(self.headers.iter().fold(asked, |asked, (name, value)| asked.header(name, value)))
    }
}
