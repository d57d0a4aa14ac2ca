//! Which label an event of Gitea's tells of. The event says only which labels there are afterwards; the timeline has what
//! was given and taken away, by whom and when.

use serde_json::{Value, json};

use super::payload::starts_by_label;
use crate::manifest::Triggers;
use crate::moment::Moment;

/// What the timeline says about a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelAct {
    /// The label's number; none where the label is gone.
    pub label_id: Option<i64>,
    /// Its name.
    pub name: String,
    /// Whether it was given; else it was taken away.
    pub given: bool,
    /// The number of the user who did it.
    pub user_id: Option<i64>,
    /// When, RFC 3339.
    pub at: String,
}

/// The times of the event and of the timeline may fall on two sides of a second, and many labels take a while; seconds.
const BEFORE: i64 = 2;
const AFTER: i64 = 1;

/// What a timeline has to be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsaidLabel {
    /// The issue or pull request.
    pub number: u64,
    /// From when on, RFC 3339.
    pub since: String,
}

/// What has to be asked to know which label the event tells of; none where the event says it itself, is about something else,
/// or is of an issue without a label that starts a run.
pub fn label_unsaid(payload: &Value, triggers: &Triggers) -> Option<UnsaidLabel> {
    let is_said = payload["label"].is_object() || payload["changes"]["added_labels"].is_array();
    let thread = about(payload);
    let starts =
        labels(thread).any(|label| label["name"].as_str().is_some_and(|name| triggers.agent_of(name).is_some()));
    if !payload["action"].as_str().is_some_and(starts_by_label) || is_said || !starts {
        return None;
    }
    let since = Moment::parse(thread["updated_at"].as_str()?)?.plus(-BEFORE);
    Some(UnsaidLabel { number: thread["number"].as_u64()?, since: since.to_string() })
}

/// Puts into the event which labels it tells of, as later versions do.
///
/// The sender's acts of that moment count, the last one first. One that does not fit the event's own labels came after it. If
/// the last act took a label away, the event tells of that: what was given before had its own event.
pub fn say_labels(payload: &mut Value, acts: &[LabelAct]) {
    let thread = about(payload);
    let there: Vec<i64> = labels(thread).filter_map(|label| label["id"].as_i64()).collect();
    let (moment, sender) = (thread["updated_at"].as_str().and_then(Moment::parse), payload["sender"]["id"].as_i64());
    let is_of_then = |act: &&LabelAct| {
        let (Some(moment), Some(at)) = (moment, Moment::parse(&act.at)) else { return false };
        let near = moment.plus(-BEFORE) <= at && at <= moment.plus(AFTER);
        near && sender.is_some() && act.user_id == sender
    };
    let fits = |act: &&LabelAct| act.label_id.is_some_and(|id| there.contains(&id) == act.given);
    let acts: Vec<&LabelAct> = acts.iter().rev().filter(is_of_then).filter(fits).collect();
    let named = |acts: &[&LabelAct]| -> Vec<Value> { acts.iter().map(|act| json!({"name": act.name})).collect() };
    let given = acts.iter().position(|act| !act.given).unwrap_or(acts.len());
    let taken = if given == 0 { named(acts.get(..1).unwrap_or_default()) } else { vec![] };
    payload["changes"] = json!({"added_labels": named(&acts[..given]), "removed_labels": taken});
}

fn about(payload: &Value) -> &Value {
    if payload["issue"].is_object() { &payload["issue"] } else { &payload["pull_request"] }
}

fn labels(thread: &Value) -> impl Iterator<Item = &Value> {
    thread["labels"].as_array().into_iter().flatten()
}
