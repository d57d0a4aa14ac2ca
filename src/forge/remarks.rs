//! Threads at lines of a pull request's change that begin with a remark of ours: found, and resolved.
//!
//! GitHub knows threads in GraphQL alone, and says there which remarks are ours. Gitea has no threads in its API: a remark says who has
//! resolved it. Forgejo can't resolve one by its API.

use bottle_plan::facts::RemarkFacts;
use bottle_policy::outputs::{DiffSide, remark_words};
use bottle_types::git::ObjectId;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::http::{ApiCall, ForgeError, Http};
use super::wire::WireComment;
use super::{Author, Comment, Operation, RemarkThread, graphql};

const READ: Operation = Operation { what: "look for earlier remarks", needs: "to read the repository" };
/// GitHub asks for more than its documentation says: "Resource not accessible by integration" without `contents`.
const RESOLVE: Operation = Operation {
    what: "resolve the thread",
    needs: "to write the repository: at GitHub `permissions: contents: write` and `pull-requests: write`, at Gitea write:repository",
};
/// Of more pages of a hundred threads the rest are left as they are.
const MAX_PAGES: usize = 10;
const THREADS: &str = "query($owner: String!, $name: String!, $number: Int!, $after: String) {
  repository(owner: $owner, name: $name) {
    pullRequest(number: $number) {
      reviewThreads(first: 100, after: $after) {
        pageInfo { hasNextPage endCursor }
        nodes { id isResolved isOutdated path line diffSide comments(first: 1) { nodes { databaseId viewerDidAuthor body } } }
      }
    }
  }
}";
const RESOLVED: &str = "mutation($id: ID!) { resolveReviewThread(input: {threadId: $id}) { thread { isResolved } } }";

#[derive(Debug, Deserialize)]
struct WireRepository {
    repository: WirePulls,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePulls {
    pull_request: WireThreads,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireThreads {
    review_threads: WirePage,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePage {
    page_info: WirePageInfo,
    nodes: Vec<WireThread>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireThread {
    id: String,
    is_resolved: bool,
    is_outdated: bool,
    path: String,
    line: Option<u64>,
    diff_side: WireSide,
    comments: WireFirst,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum WireSide {
    Left,
    Right,
}

#[derive(Debug, Deserialize)]
struct WireFirst {
    nodes: Vec<WireRemark>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireRemark {
    database_id: Option<u64>,
    viewer_did_author: bool,
    body: String,
}

impl WireThread {
    /// None where it does not begin with a remark of ours.
    fn ours(self) -> Option<RemarkThread> {
        let first = self.comments.nodes.into_iter().next()?;
        let id = first.database_id.filter(|_| first.viewer_did_author && remark_words(&first.body).is_some())?;
        let side = match self.diff_side {
            WireSide::Left => DiffSide::Before,
            WireSide::Right => DiffSide::After,
        };
        Some(RemarkThread {
            node: Some(self.id),
            remark: RemarkFacts {
                id,
                text: first.body,
                path: self.path,
                line: self.line.filter(|_| !self.is_outdated),
                side,
                resolved: self.is_resolved,
            },
        })
    }
}

/// Those of a pull request at GitHub.
pub(super) async fn at_github(
    http: &Http,
    (owner, name): (&str, &str),
    number: u64,
) -> Result<Vec<RemarkThread>, ForgeError> {
    let (mut ours, mut after) = (vec![], None);
    for _ in 0..MAX_PAGES {
        let variables = json!({"owner": owner, "name": name, "number": number, "after": after});
        let data = graphql::ask_with(http, READ, THREADS, &variables).await?;
        let data: WireRepository = graphql::read(READ, data)?;
        let page = data.repository.pull_request.review_threads;
        ours.extend(page.nodes.into_iter().filter_map(WireThread::ours));
        after = page.page_info.end_cursor.filter(|_| page.page_info.has_next_page);
        if after.is_none() {
            break;
        }
    }
    Ok(ours)
}

/// Resolves a thread at GitHub; false: not with this token.
pub(super) async fn resolve_at_github(http: &Http, thread: &RemarkThread) -> Result<bool, ForgeError> {
    match graphql::ask(http, RESOLVE, RESOLVED, Some(thread.node.as_deref().unwrap_or_default())).await {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.status(), Some(403 | 404)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The threads of a review's remarks at Gitea, whose review is of `reviewed`; their lines count where that is `commit`.
pub(super) fn at_gitea(
    remarks: Vec<WireComment>,
    me: &Author,
    (reviewed, commit): (Option<&str>, &ObjectId),
) -> Vec<RemarkThread> {
    let ours = |remark: WireComment| {
        let resolved = remark.is_resolved();
        let comment = Comment::from(remark);
        let place = comment.place.filter(|_| comment.author.is(me) && remark_words(&comment.body).is_some())?;
        Some(RemarkThread {
            node: None,
            remark: RemarkFacts {
                id: comment.id,
                text: comment.body,
                path: place.path,
                line: place.line.filter(|_| reviewed == Some(commit.as_str())),
                side: if place.before { DiffSide::Before } else { DiffSide::After },
                resolved,
            },
        })
    };
    remarks.into_iter().filter_map(ours).collect()
}

/// Resolves a thread at Gitea; false: not with this token, or this server has no call for it.
pub(super) async fn resolve_at_gitea(http: &Http, path: Vec<&str>) -> Result<bool, ForgeError> {
    // It takes no body.
    match http.send_for_text(ApiCall { method: Method::POST, ..ApiCall::get(RESOLVE, path) }).await {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.status(), Some(403 | 404)) => Ok(false),
        Err(error) => Err(error),
    }
}
