//! Open issues with a label, the oldest first, and who gave an issue its label. Nothing of this is in an event: the forge is asked.
//!
//! Always: the answer's own labels count. Gitea leaves out of the question a label that it does not know, and answers with all issues.

use bottle_plan::moment::Moment;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{ApiCall, ForgeError, Http};
use super::wire::{WireIssue, WireTimelineEntry};
use super::{Author, Issue, MAX_ISSUE_PAGES, Operation, graphql};

/// The most issues that are listed.
const MAX_LISTED: usize = 100;
/// The header with the number of all rows, of which a page is a part; Gitea.
const TOTAL: &str = "x-total-count";
/// An issue with its label's history. `timelineItems` are the newest; what is older than a hundred acts is not looked at.
const ISSUE: &str = "query($owner: String!, $name: String!, $number: Int!) {
  repository(owner: $owner, name: $name) {
    issue(number: $number) {
      number title body url state lastEditedAt
      author { ...who }
      labels(first: 100) { nodes { name } }
      timelineItems(last: 100, itemTypes: [LABELED_EVENT, UNLABELED_EVENT, RENAMED_TITLE_EVENT, TRANSFERRED_EVENT]) {
        nodes {
          __typename
          ... on LabeledEvent { createdAt label { name } actor { ...who } }
          ... on UnlabeledEvent { createdAt label { name } }
          ... on RenamedTitleEvent { createdAt }
          ... on TransferredEvent { createdAt }
        }
      }
    }
  }
}
fragment who on Actor { __typename login ... on User { databaseId } ... on Bot { databaseId } }";

/// The open issues with a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OldestIssues {
    /// Their numbers, the least first.
    pub(crate) numbers: Vec<u64>,
    /// True if there are newer ones that are not listed, or may be.
    pub(crate) more: bool,
}

/// An issue as it is now, and what is known of its label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LabelledIssue {
    pub(crate) issue: Issue,
    pub(crate) has_label: bool,
    /// None: who gave it can't be told.
    pub(crate) given: Option<LabelGiven>,
    /// When title and text were changed, RFC 3339; none: the forge does not say when.
    changed: Option<Vec<String>>,
}

/// The last time that a label was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LabelGiven {
    pub(crate) by: Author,
    /// RFC 3339, as the forge wrote it.
    pub(crate) at: String,
}

impl LabelledIssue {
    /// True if title and text are surely as they were when the label was given. Forges say the second: a change in the same one may
    /// have come after the label.
    pub(crate) fn is_as_it_was(&self) -> bool {
        let given = self.given.as_ref().and_then(|given| Moment::parse(&given.at));
        let (Some(given), Some(changed)) = (given, &self.changed) else { return false };
        changed.iter().all(|changed| Moment::parse(changed).is_some_and(|changed| changed < given))
    }
}

/// A label, given or taken away.
struct LabelChange {
    name: String,
    given: bool,
    by: Option<Author>,
    at: String,
}

/// The last act with this label, if it was given then; acts are oldest first.
fn last_given(acts: Vec<LabelChange>, label: &str) -> Option<LabelGiven> {
    let last = acts.into_iter().rev().find(|act| is_same(&act.name, label)).filter(|act| act.given)?;
    Some(LabelGiven { by: last.by?, at: last.at })
}

/// True if two names are one label's: forges compare labels without case.
fn is_same(one: &str, other: &str) -> bool {
    one == other || one.to_lowercase() == other.to_lowercase()
}

/// The numbers of those that are open issues with the label.
fn numbers(wires: Vec<WireIssue>, label: &str) -> impl Iterator<Item = u64> {
    let has_label = |wire: &WireIssue| wire.labels().any(|name| is_same(name, label));
    wires
        .into_iter()
        .filter(has_label)
        .map(Issue::from)
        .filter(|issue| issue.is_open && !issue.is_pull_request)
        .map(|issue| issue.number)
}

/// The list with what was found; a page may give again what the one before had.
fn listed(mut numbers: Vec<u64>, more: bool) -> OldestIssues {
    numbers.sort_unstable();
    numbers.dedup();
    let more = more || numbers.len() > MAX_LISTED;
    numbers.truncate(MAX_LISTED);
    OldestIssues { numbers, more }
}

/// GitHub's list, which comes in the order that is asked for. Pull requests are in it.
pub(super) async fn oldest_at_github<'a>(
    http: &Http,
    call: impl Fn() -> ApiCall<'a> + Send + Sync,
    label: &str,
    a_page: usize,
) -> Result<OldestIssues, ForgeError> {
    let (mut found, mut more) = (vec![], true);
    for page in 1..=MAX_ISSUE_PAGES {
        let call = call().query("labels", label).query("sort", "created").query("direction", "asc");
        let wires: Vec<WireIssue> = http.send(call.query("page", page)).await?;
        more = wires.len() == a_page;
        found.extend(numbers(wires, label));
        if !more || found.len() > MAX_LISTED {
            break;
        }
    }
    Ok(listed(found, more))
}

/// Gitea's list, which begins with the newest and has no other order in versions that are in use: it is read from its end.
pub(super) async fn oldest_at_gitea<'a>(
    http: &Http,
    call: impl Fn() -> ApiCall<'a> + Send + Sync,
    label: &str,
) -> Result<OldestIssues, ForgeError> {
    let page = async |page: usize| {
        let call = call().query("labels", label).query("type", "issues").query("page", page);
        let (headers, wires): (HeaderMap, Option<Vec<WireIssue>>) = http.send_for_headers(call).await?;
        Ok::<_, ForgeError>((headers, wires.unwrap_or_default()))
    };
    let (headers, first) = page(1).await?;
    if first.is_empty() {
        return Ok(listed(vec![], false));
    }
    // A server may give shorter pages than were asked for: the first one shows how long they are.
    let total = headers.get(TOTAL).and_then(|total| total.to_str().ok()?.parse::<usize>().ok());
    let Some(pages) = total.map(|total| total.div_ceil(first.len())) else {
        let operation = call().operation;
        let problem = format!("it lacks `{TOTAL}`, without which the oldest can't be found");
        return Err(ForgeError::Nonsense { operation, place: "GET issues".to_owned(), problem });
    };
    let (mut found, mut unread) = (vec![], pages);
    for at in (2..=pages).rev().take(MAX_ISSUE_PAGES - 1) {
        found.extend(numbers(page(at).await?.1, label));
        unread = at - 1;
        if found.len() > MAX_LISTED {
            break;
        }
    }
    if unread <= 1 {
        found.extend(numbers(first, label));
        unread = 0;
    }
    Ok(listed(found, unread > 0))
}

#[derive(Debug, Deserialize)]
struct Root {
    repository: Option<GraphRepository>,
}

#[derive(Debug, Deserialize)]
struct GraphRepository {
    issue: Option<GraphIssue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GraphIssue {
    number: u64,
    title: String,
    body: String,
    url: String,
    state: String,
    last_edited_at: Option<String>,
    author: Option<GraphActor>,
    labels: Option<Nodes<GraphLabel>>,
    timeline_items: Nodes<GraphItem>,
}

#[derive(Debug, Deserialize)]
struct Nodes<T> {
    nodes: Vec<T>,
}

#[derive(Debug, Deserialize)]
struct GraphLabel {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GraphActor {
    #[serde(rename = "__typename")]
    kind: String,
    login: String,
    database_id: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GraphItem {
    #[serde(rename = "__typename")]
    kind: String,
    created_at: String,
    label: Option<GraphLabel>,
    actor: Option<GraphActor>,
}

impl From<GraphActor> for Author {
    fn from(actor: GraphActor) -> Self {
        let GraphActor { kind, login, database_id } = actor;
        // One without a number is no user: an organisation, or who was imported.
        let id = database_id.unwrap_or_default();
        Self { id, is_bot: id <= 0 || kind != "User" || login.ends_with("[bot]"), login }
    }
}

impl GraphIssue {
    fn labelled(self, label: &str) -> LabelledIssue {
        let (mut acts, mut changed) = (vec![], vec![]);
        for item in self.timeline_items.nodes {
            match (item.kind.as_str(), item.label) {
                (kind @ ("LabeledEvent" | "UnlabeledEvent"), Some(GraphLabel { name })) => {
                    let given = kind == "LabeledEvent";
                    acts.push(LabelChange { name, given, by: item.actor.map(Author::from), at: item.created_at });
                }
                _ => changed.push(item.created_at),
            }
        }
        changed.extend(self.last_edited_at);
        let nobody = Author { id: 0, login: String::new(), is_bot: true };
        LabelledIssue {
            has_label: self.labels.is_some_and(|labels| labels.nodes.iter().any(|one| is_same(&one.name, label))),
            given: last_given(acts, label),
            changed: Some(changed),
            issue: Issue {
                number: self.number,
                title: self.title,
                body: self.body,
                url: self.url,
                author: self.author.map_or(nobody, Author::from),
                is_open: self.state == "OPEN",
                is_pull_request: false,
            },
        }
    }
}

/// An issue at GitHub with its label's history, in one answer: the text is that of the history.
pub(super) async fn at_github(
    http: &Http,
    operation: Operation,
    (owner, name): (&str, &str),
    number: u64,
    label: &str,
) -> Result<LabelledIssue, ForgeError> {
    let variables = json!({"owner": owner, "name": name, "number": number});
    let data: Value = graphql::ask_with(http, operation, ISSUE, &variables).await?;
    let nonsense = |problem: String| ForgeError::Nonsense { operation, place: "POST graphql".to_owned(), problem };
    let root: Root = serde_json::from_value(data).map_err(|error| nonsense(error.to_string()))?;
    let issue = root.repository.and_then(|repository| repository.issue);
    issue.map(|issue| issue.labelled(label)).ok_or_else(|| nonsense("it has no issue".to_owned()))
}

/// An issue at Gitea with its timeline, oldest first; none: there is more of it than is read.
pub(super) fn at_gitea(wire: WireIssue, timeline: Option<Vec<WireTimelineEntry>>, label: &str) -> LabelledIssue {
    let (has_label, was_edited) = (wire.labels().any(|name| is_same(name, label)), wire.was_edited());
    let (mut acts, mut changed) = (vec![], vec![]);
    let is_whole = timeline.is_some();
    for entry in timeline.into_iter().flatten() {
        match entry.kind() {
            "label" => {
                let (name, given, by, at) = entry.about_label();
                acts.push(LabelChange { name, given, by, at });
            }
            "change_title" => changed.push(entry.about_label().3),
            _ => {}
        }
    }
    let given = last_given(acts, label).filter(|_| is_whole);
    // No entry of the timeline says that the text was changed.
    LabelledIssue { issue: wire.into(), has_label, given, changed: (!was_edited).then_some(changed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(name: &str, given: bool, by: i64, at: &str) -> LabelChange {
        let by = Author { id: by, login: format!("user{by}"), is_bot: false };
        LabelChange { name: name.to_owned(), given, by: Some(by), at: at.to_owned() }
    }

    #[test]
    fn the_last_act_with_a_label_says_who_gave_it() {
        let given = |acts| last_given(acts, "claude").map(|given| given.by.id);
        assert_eq!(given(vec![]), None);
        assert_eq!(given(vec![act("bug", true, 1, "")]), None);
        assert_eq!(given(vec![act("Claude", true, 1, ""), act("bug", true, 2, "")]), Some(1));
        assert_eq!(given(vec![act("claude", true, 1, ""), act("claude", false, 1, "")]), None);
        let again = vec![act("claude", true, 1, ""), act("claude", false, 1, ""), act("claude", true, 3, "")];
        assert_eq!(given(again), Some(3));
        assert_eq!(
            given(vec![act("claude", true, 1, ""), LabelChange { by: None, ..act("claude", true, 2, "") }]),
            None
        );
    }

    #[test]
    fn a_text_that_may_be_another_one_is_not_as_it_was() {
        let issue = |at: &str, changed: Option<&[&str]>| {
            let author = Author { id: 1, login: "mona".to_owned(), is_bot: false };
            let given = Some(LabelGiven { by: author.clone(), at: at.to_owned() });
            let changed = changed.map(|times| times.iter().map(|&time| time.to_owned()).collect());
            let (title, body, url) = (String::new(), String::new(), String::new());
            let issue = Issue { number: 7, title, body, url, author, is_open: true, is_pull_request: false };
            LabelledIssue { issue, has_label: true, given, changed }
        };
        for (at, changed, same) in [
            ("2026-03-02T09:20:00Z", Some(&[][..]), true),
            ("2026-03-02T09:20:00Z", Some(&["2026-03-02T09:19:59Z"]), true),
            ("2026-03-02T09:20:00Z", Some(&["2026-03-02T10:19:59+01:00"]), true),
            ("2026-03-02T09:20:00Z", Some(&["2026-03-02T09:20:00Z"]), false),
            ("2026-03-02T09:20:00Z", Some(&["2026-03-02T10:20:00+01:00"]), false),
            ("2026-03-02T09:20:00Z", Some(&["2026-03-02T09:20:01Z"]), false),
            ("2026-03-02T09:20:00Z", Some(&["2026-03-02T09:00:00Z", "2026-03-02T09:21:00Z"]), false),
            ("2026-03-02T09:20:00Z", Some(&[""]), false),
            ("2026-03-02T09:20:00Z", None, false),
            ("yesterday", Some(&[]), false),
        ] {
            assert_eq!(issue(at, changed).is_as_it_was(), same, "{at} {changed:?}");
        }
        assert!(!LabelledIssue { given: None, ..issue("2026-03-02T09:20:00Z", Some(&[])) }.is_as_it_was());
    }
}
