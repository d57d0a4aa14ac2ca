//! The tools by which the agent hands in what people shall read: their parameters, and what of them is listed.

use bottle_policy::outputs::{LONGEST_BODY, Output, OutputKind, OutputRules, Remark};
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
    /// What is to be said about the change as a whole, as Markdown; may be left out where there are remarks.
    #[serde(default)]
    body: String,
    /// What is to be said about lines of the change.
    #[serde(default)]
    remarks: Vec<Remark>,
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
            read(arguments).map(|ReviewParameters { body, remarks }| Output::Review { body, remarks })
        }
    }
}

/// A tool as this run offers it; none where it is for an output that is not granted.
pub(super) fn offered(mut tool: Tool, rules: &OutputRules) -> Option<Tool> {
    let Some(kind) = OutputKind::ALL.into_iter().find(|kind| kind.tool() == tool.name) else { return Some(tool) };
    if !rules.grants(kind) {
        return None;
    }
    if let (Some(comment), OutputKind::Comment) = (&rules.comment, kind) {
        let most = format!(" At most {} in this run.", comment.max);
        tool.description = tool.description.map(|said| (said.into_owned() + &most).into());
    }
    if let Value::Object(schema) = schema(kind, rules) {
        tool.input_schema = schema.into();
    }
    Some(tool)
}

/// The parameters of a tool, with the limits of this run.
fn schema(kind: OutputKind, rules: &OutputRules) -> Value {
    match (kind, rules) {
        (OutputKind::Labels, OutputRules { labels: Some(labels), .. }) => {
            let mut schema = schemars::schema_for!(LabelParameters).to_value();
            let list = &mut schema["properties"]["labels"];
            list["items"]["enum"] = json!(labels.allowed);
            list["maxItems"] = json!(labels.max);
            list["minItems"] = json!(1);
            schema
        }
        (OutputKind::Review, OutputRules { review: Some(review), .. }) => {
            let mut schema = schemars::schema_for!(ReviewParameters).to_value();
            schema["properties"]["body"]["maxLength"] = json!(LONGEST_BODY);
            schema["properties"]["remarks"]["maxItems"] = json!(review.max);
            if !review.suggestions
                && let Some(fields) = schema["$defs"]["Remark"]["properties"].as_object_mut()
            {
                fields.remove("suggestion");
            }
            schema
        }
        _ => {
            let mut schema = schemars::schema_for!(CommentParameters).to_value();
            schema["properties"]["body"]["maxLength"] = json!(LONGEST_BODY);
            schema
        }
    }
}
