//! The tools by which the agent hands in what people shall read: their parameters, and what of them is listed.

use std::collections::BTreeSet;

use bottle_policy::outputs::{
    AnswerSchema, CheckConclusion, CloseReason, CodeFinding, FileRemark, LONGEST_BODY, LONGEST_MESSAGE, LONGEST_RULE,
    LONGEST_SUMMARY, LONGEST_TITLE, Output, OutputJudge, OutputKind, OutputRules, Remark, ReviewVerdict, ThreadUpdate,
};
use rmcp::model::{JsonObject, Tool};
use rmcp::schemars;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CommentParameters {
    /// What people shall read, as Markdown. No mentions, no HTML, nothing that closes an issue.
    body: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LabelParameters {
    /// The names of the labels.
    labels: Vec<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReviewParameters {
    /// What you say of the change as a whole; `comment` (the default) says nothing of it.
    #[serde(default)]
    verdict: ReviewVerdict,
    /// What is to be said about the change as a whole, as Markdown; may be left out where there are remarks.
    #[serde(default)]
    body: String,
    /// What is to be said about lines of the change.
    #[serde(default)]
    remarks: Vec<Remark>,
    /// What is to be said about files as a whole.
    #[serde(default)]
    files: Vec<FileRemark>,
    /// What becomes of open threads of your earlier reviews. Don't say again what one says.
    #[serde(default)]
    threads: Vec<ThreadUpdate>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct IssueParameters {
    /// One line, without mentions.
    title: String,
    /// What people shall read, as Markdown. No mentions, no HTML, nothing that closes an issue.
    body: String,
    /// The names of its labels.
    #[serde(default)]
    labels: Vec<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CloseParameters {
    /// Why; `completed` (the default) where it is done.
    #[serde(default)]
    reason: CloseReason,
    /// What people shall read about it, as Markdown; may be left out.
    #[serde(default)]
    comment: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CheckParameters {
    /// The name of the check.
    name: String,
    /// How it ended.
    conclusion: CheckConclusion,
    /// Why, in one line without an address.
    summary: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AnswerParameters {
    /// The whole answer, as JSON.
    answer: Value,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FileParameters {
    /// The file's path from the top of the workspace.
    path: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FindingsParameters {
    /// All that was found; an empty list where nothing was.
    findings: Vec<CodeFinding>,
}

/// What a run's tools are for.
#[derive(Debug, Default)]
pub(super) struct OfferedOutputs {
    pub(super) rules: OutputRules,
    /// Whether there is a thread of an earlier review that is open.
    has_threads: bool,
}

impl OfferedOutputs {
    pub(super) fn of(judge: &OutputJudge) -> Self {
        Self { rules: judge.rules().clone(), has_threads: judge.has_open_threads() }
    }
}

/// Reads the arguments of a call; what is wrong with them is the error.
pub(super) fn output(kind: OutputKind, arguments: JsonObject) -> Result<Output, String> {
    fn read<T: for<'de> Deserialize<'de>>(arguments: JsonObject) -> Result<T, String> {
        serde_json::from_value(Value::Object(arguments)).map_err(|error| error.to_string())
    }
    match kind {
        OutputKind::Comment => read(arguments).map(|CommentParameters { body }| Output::Comment { body }),
        OutputKind::Labels => read(arguments).map(|LabelParameters { labels }| Output::Labels { labels }),
        OutputKind::Review => {
            let review = |ReviewParameters { verdict, body, remarks, files, threads }| Output::Review {
                verdict,
                body,
                remarks,
                files,
                threads,
            };
            read(arguments).map(review)
        }
        OutputKind::Issue => {
            read(arguments).map(|IssueParameters { title, body, labels }| Output::Issue { title, body, labels })
        }
        OutputKind::Close => {
            read(arguments).map(|CloseParameters { reason, comment }| Output::Close { reason, comment })
        }
        OutputKind::Check => read(arguments).map(|CheckParameters { name, conclusion, summary }| Output::Check {
            name,
            conclusion,
            summary,
        }),
        OutputKind::Json => read(arguments).map(|AnswerParameters { answer }| Output::Json { answer }),
        OutputKind::Sarif => read(arguments).map(|FindingsParameters { findings }| Output::Sarif { findings }),
        OutputKind::File => read(arguments).map(|FileParameters { path }| Output::File { path }),
    }
}

/// A tool as this run offers it; none where it is for an output that is not granted.
pub(super) fn offered(mut tool: Tool, outputs: &OfferedOutputs) -> Option<Tool> {
    let rules = &outputs.rules;
    let Some(kind) = OutputKind::ALL.into_iter().find(|kind| kind.tool() == tool.name) else { return Some(tool) };
    if !rules.grants(kind) {
        return None;
    }
    let most = match kind {
        OutputKind::Comment => rules.comment.as_ref().map(|comment| comment.max),
        OutputKind::Issue => rules.issue.as_ref().map(|issue| issue.max),
        OutputKind::File => rules.file.as_ref().map(|file| file.max),
        OutputKind::Labels
        | OutputKind::Review
        | OutputKind::Close
        | OutputKind::Check
        | OutputKind::Json
        | OutputKind::Sarif => None,
    };
    if let Some(most) = most {
        let most = format!(" At most {most} in this run.");
        tool.description = tool.description.map(|said| (said.into_owned() + &most).into());
    }
    if let Value::Object(schema) = schema(kind, outputs) {
        tool.input_schema = schema.into();
    }
    Some(tool)
}

/// A tool without what every reader takes for granted: the dialect that MCP names itself, and that what is not given is null. The model
/// pays for each byte in every request.
pub(super) fn without_the_obvious(mut tool: Tool) -> Tool {
    let mut schema = tool.input_schema.as_ref().clone();
    schema.remove("$schema");
    let parameters = schema.get_mut("properties").and_then(Value::as_object_mut);
    for parameter in parameters.into_iter().flat_map(|all| all.values_mut()).filter_map(Value::as_object_mut) {
        if parameter.get("default").is_some_and(Value::is_null) {
            parameter.remove("default");
        }
    }
    tool.input_schema = schema.into();
    tool
}

/// The parameters of a tool, with the limits of this run.
fn schema(kind: OutputKind, OfferedOutputs { rules, has_threads }: &OfferedOutputs) -> Value {
    let mut schema = match kind {
        OutputKind::Comment => schemars::schema_for!(CommentParameters),
        OutputKind::Labels => schemars::schema_for!(LabelParameters),
        OutputKind::Review => schemars::schema_for!(ReviewParameters),
        OutputKind::Issue => schemars::schema_for!(IssueParameters),
        OutputKind::Close => schemars::schema_for!(CloseParameters),
        OutputKind::Check => schemars::schema_for!(CheckParameters),
        OutputKind::Json => schemars::schema_for!(AnswerParameters),
        OutputKind::File => schemars::schema_for!(FileParameters),
        OutputKind::Sarif => schemars::schema_for!(FindingsParameters),
    }
    .to_value();
    let fields = &mut schema["properties"];
    match (kind, rules) {
        (OutputKind::Comment, _) => fields["body"]["maxLength"] = json!(LONGEST_BODY),
        (OutputKind::Labels, OutputRules { labels: Some(labels), .. }) => {
            let list = &mut fields["labels"];
            list["items"]["enum"] = json!(labels.allowed);
            list["maxItems"] = json!(labels.max);
            list["minItems"] = json!(1);
        }
        (OutputKind::Review, OutputRules { review: Some(review), .. }) => {
            fields["body"]["maxLength"] = json!(LONGEST_BODY);
            fields["remarks"]["maxItems"] = json!(review.max);
            fields["files"]["maxItems"] = json!(review.max);
            if !review.verdicts.is_empty() {
                let all = review.verdicts.iter().copied().chain([ReviewVerdict::Comment]).collect::<BTreeSet<_>>();
                fields["verdict"] =
                    json!({"description": "What you say of the change as a whole.", "enum": all, "default": "comment"});
                without(&mut schema, "", "ReviewVerdict");
            } else {
                without(&mut schema, "verdict", "ReviewVerdict");
            }
            if !has_threads {
                without(&mut schema, "threads", "ThreadUpdate");
            }
            if !review.suggestions
                && let Some(fields) = schema["$defs"]["Remark"]["properties"].as_object_mut()
            {
                fields.remove("suggestion");
            }
        }
        (OutputKind::Issue, OutputRules { issue: Some(issue), .. }) => {
            fields["title"]["maxLength"] = json!(LONGEST_TITLE);
            if !issue.title_prefix.is_empty() {
                fields["title"]["pattern"] = json!(format!("^{}", escaped(&issue.title_prefix)));
            }
            fields["body"]["maxLength"] = json!(LONGEST_BODY);
            match (issue.labels.is_empty(), fields.as_object_mut()) {
                (true, Some(fields)) => drop(fields.remove("labels")),
                _ => fields["labels"]["items"]["enum"] = json!(issue.labels),
            }
        }
        (OutputKind::Close, OutputRules { close: Some(close), .. }) => {
            fields["comment"]["maxLength"] = json!(LONGEST_BODY);
            fields["reason"] = json!({"description": "Why.", "type": "string", "enum": close.reasons});
            if close.reasons.contains(&CloseReason::default()) {
                fields["reason"]["default"] = json!(CloseReason::default());
            } else {
                schema["required"] = json!(["reason"]);
            }
        }
        (OutputKind::Check, OutputRules { check: Some(check), .. }) => {
            fields["name"]["enum"] = json!(check.names);
            fields["summary"]["maxLength"] = json!(LONGEST_SUMMARY);
        }
        (OutputKind::Json, OutputRules { json: Some(AnswerSchema::Inline(answer)), .. }) => {
            // References are to definitions at the top, which is now the tool's.
            let mut answer = answer.clone();
            answer.remove("$schema");
            for key in ["$defs", "definitions"] {
                if let Some(definitions) = answer.remove(key) {
                    schema[key] = definitions;
                }
            }
            schema["properties"]["answer"] = Value::Object(answer);
        }
        (OutputKind::File, OutputRules { file: Some(file), .. }) => {
            let files = format!(
                "The file's path from the top of the workspace; it must match one of {}. All files have at most {} together.",
                file.paths.join(", "),
                file.max_bytes
            );
            fields["path"]["description"] = json!(files);
        }
        (OutputKind::Sarif, OutputRules { sarif: Some(sarif), .. }) => {
            fields["findings"]["maxItems"] = json!(sarif.max);
            let finding = &mut schema["$defs"]["CodeFinding"]["properties"];
            if !sarif.paths.is_empty() {
                let path =
                    format!("The file's path in the repository; it must match one of {}.", sarif.paths.join(", "));
                finding["path"]["description"] = json!(path);
            }
            finding["rule"]["maxLength"] = json!(LONGEST_RULE);
            finding["message"]["maxLength"] = json!(LONGEST_MESSAGE);
        }
        // What is not granted is not listed.
        _ => {}
    }
    schema
}

/// Takes a parameter and the type that it alone needs out of a schema.
fn without(schema: &mut Value, parameter: &str, definition: &str) {
    for (place, name) in [("properties", parameter), ("$defs", definition)] {
        if let Some(all) = schema[place].as_object_mut() {
            all.remove(name);
        }
    }
}

/// A text as a part of a pattern of JSON Schema, which has the regular expressions of ECMAScript.
fn escaped(text: &str) -> String {
    let mut pattern = String::new();
    for c in text.chars() {
        if r"^$\.*+?()[]{}|/".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}
