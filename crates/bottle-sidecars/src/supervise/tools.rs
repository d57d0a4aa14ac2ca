//! What an MCP client sees: the tools, their parameters, and answers in words.

use bottle_policy::proposal::ProposalId;
use bottle_policy::supervise::{Request, RequestError};
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ContentBlock, Implementation, ServerCapabilities, ServerConfig};
use rmcp::{ServerHandler, schemars, tool, tool_handler, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;

use super::desk::{Answer, Desk};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RouteParameters {
    /// The host name, or `*.` and a name for every host below it. No address, no port, no URL.
    host: String,
    /// HTTP methods, such as GET; GET and HEAD if none are given.
    #[serde(default)]
    methods: Vec<String>,
    /// Globs of paths, such as /v1/**; every path if none are given.
    #[serde(default)]
    paths: Vec<String>,
    /// Why the task needs it: a person decides by this.
    why: String,
    /// For how long, such as 30m; the rest of the run if not given.
    #[serde(default)]
    duration: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PushParameters {
    /// The full name of the branch or tag, such as refs/heads/release.
    r#ref: String,
    /// Why the task needs it: a person decides by this.
    why: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AskParameters {
    /// The question, with all that is needed to answer it.
    question: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProgressParameters {
    /// One short line.
    line: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StatusParameters {
    /// The proposal's id, such as P1.
    id: String,
}

/// The server, one for each request.
#[derive(Debug, Clone)]
pub(super) struct Server {
    desk: Desk,
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl Server {
    pub(super) fn new(desk: Desk) -> Self {
        Self { desk, tool_router: Self::tool_router() }
    }

    #[tool(
        description = "What this bottle may do now: hosts, methods and paths that HTTP requests may go to, refs that \
                          may be pushed, and who decides when you ask for more. Call it after a refusal (HTTP 403, a \
                          rejected push), before you ask for anything."
    )]
    async fn policy(&self) -> CallToolResult {
        match self.desk.view().await.map(|view| serde_json::to_string_pretty(&view)) {
            Some(Ok(json)) => CallToolResult::success(vec![ContentBlock::text(json)]),
            _ => gone(),
        }
    }

    #[tool(
        description = "Ask for HTTP access to a host that the policy refuses. Ask for as little as the task needs. \
                          The answer says what was decided; a refusal is final, so go on without it."
    )]
    async fn request_route(&self, Parameters(asked): Parameters<RouteParameters>) -> CallToolResult {
        let RouteParameters { host, methods, paths, why, duration } = asked;
        self.decide(Request::route(&host, &methods, &paths, &why, duration.as_deref())).await
    }

    #[tool(
        description = "Ask to push to a branch or tag that the push rules refuse. Secrets that were found in a push \
                          are never allowed: remove them instead."
    )]
    async fn request_push(&self, Parameters(asked): Parameters<PushParameters>) -> CallToolResult {
        self.decide(Request::push(&asked.r#ref, &asked.why)).await
    }

    #[tool(description = "Ask a person a question that the task can't be done without. There may be nobody to answer.")]
    async fn ask(&self, Parameters(asked): Parameters<AskParameters>) -> CallToolResult {
        self.decide(Request::ask(&asked.question)).await
    }

    #[tool(description = "Tell how far the work is, in one line, for the people who wait for it. It needs no answer.")]
    async fn progress(&self, Parameters(asked): Parameters<ProgressParameters>) -> CallToolResult {
        self.decide(Request::progress(&asked.line)).await
    }

    #[tool(description = "What became of an earlier request, by the id that it was given.")]
    async fn status(&self, Parameters(asked): Parameters<StatusParameters>) -> CallToolResult {
        match ProposalId::parse(asked.id.trim()) {
            Ok(id) => self.desk.status(id).await.map_or_else(gone, answer),
            Err(error) => CallToolResult::error(vec![ContentBlock::text(error.to_string())]),
        }
    }
}

impl Server {
    async fn decide(&self, request: Result<Request, RequestError>) -> CallToolResult {
        match request {
            Ok(request) => self.desk.ask(request).await.map_or_else(gone, answer),
            Err(error) => CallToolResult::error(vec![ContentBlock::text(format!("refused: {error}; it is not noted"))]),
        }
    }
}

/// A refusal is a decision, and so no error: clients show errors as calls to be made again.
fn answer(answer: Answer) -> CallToolResult {
    let content = vec![ContentBlock::text(answer.text)];
    if answer.mistake { CallToolResult::error(content) } else { CallToolResult::success(content) }
}

fn gone() -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text("refused: nobody is there to decide")])
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("supervise", env!("CARGO_PKG_VERSION")))
            .with_instructions(
                "You work in a bottle: HTTP goes only to listed hosts, pushes only to listed refs. When something is \
                 refused, call `policy` to see what is allowed, then ask with `request_route` or `request_push`.",
            )
    }
}
