//! The tools of the MCP server, their parameters, and answers in words.

use std::sync::Arc;
use std::time::Duration;

use bottle_policy::outputs::OutputKind;
use bottle_policy::route::Scheme;
use bottle_policy::supervise::{Request, RequestError, RouteWords};
use bottle_scan::known::KnownSecrets;
use bottle_types::rule::Rule;
use bottle_wire::proposal::ProposalId;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::tool::ToolCallContext;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, JsonObject,
    ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ProtocolVersion, ResultType,
    ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, schemars, tool, tool_handler, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{Instant, sleep, sleep_until};

use super::broker::{BrokerAnswer, BrokerHandle, Pending};
use super::output_tools::{self, OfferedOutputs};
use super::words::StatusText;

/// How often a client that waits hears that it still does. Claude Code gives up after 60 s of nothing at first, and after 300 s
/// later.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoParameters {}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RouteParameters {
    /// The host name, or `*.` and a name for every host below it. No address, no URL.
    host: String,
    /// The port, if it is not the usual one.
    #[serde(default)]
    port: Option<u16>,
    /// `https` (the default) or `http`.
    #[serde(default)]
    scheme: Scheme,
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
    /// Wait for the decision (the default); false returns at once with an id for `wait`.
    #[serde(default)]
    wait: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExemptionParameters {
    /// The host that the refused request was for; none for a push.
    #[serde(default)]
    host: Option<String>,
    /// The rule that the refusal named, such as github-pat. A secret of the bottle's own (known-secret:NAME) is never let
    /// out.
    rule: String,
    /// For a push: the path of the file, as the gate's refusal names it.
    #[serde(default)]
    path: Option<String>,
    /// For a push: the sha256 that the gate's refusal shows.
    #[serde(default)]
    sha256: Option<String>,
    /// Why this is no secret, or why it has to go there: a person decides by this.
    why: String,
    /// For how long, such as 30m; the rest of the run if not given.
    #[serde(default)]
    duration: Option<String>,
    /// Wait for the decision (the default); false returns at once with an id for `wait`.
    #[serde(default)]
    wait: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CapabilityParameters {
    /// Lines to add to the image's Dockerfile, such as `RUN apt-get update && apt-get install -y jq`: RUN, ENV, ARG, USER,
    /// WORKDIR and SHELL, as root, without here-documents.
    dockerfile: String,
    /// Why the task needs it: a person decides by this.
    why: String,
    /// Wait for the decision (the default); false returns at once with an id for `wait`.
    #[serde(default)]
    wait: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PushParameters {
    /// The full name of the branch or tag, such as refs/heads/release.
    r#ref: String,
    /// The repository's name at the gate, such as origin; needed only where there are several.
    #[serde(default)]
    upstream: Option<String>,
    /// Why the task needs it: a person decides by this.
    why: String,
    /// For how long, such as 30m; the rest of the run if not given.
    #[serde(default)]
    duration: Option<String>,
    /// Wait for the decision (the default); false returns at once with an id for `wait`.
    #[serde(default)]
    wait: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BudgetParameters {
    /// So many tokens more.
    #[serde(default)]
    tokens: Option<u64>,
    /// So many requests to the model more.
    #[serde(default)]
    requests: Option<u64>,
    /// So much time more, such as 30m.
    #[serde(default)]
    time: Option<String>,
    /// So many US dollars more.
    #[serde(default)]
    cost_usd: Option<f64>,
    /// The work that is left, and why it takes more: a person decides by this.
    why: String,
    /// Wait for the decision (the default); false returns at once with an id for `wait`.
    #[serde(default)]
    wait: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AskParameters {
    /// The question, with all that is needed to answer it.
    question: String,
    /// Wait for the answer (the default); false returns at once with an id for `wait`.
    #[serde(default)]
    wait: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProgressParameters {
    /// One short line.
    line: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct IdParameters {
    /// The proposal's id, such as P1.
    id: String,
}

/// One for each HTTP request; all share the desk.
#[derive(Debug, Clone)]
pub(super) struct Server {
    broker: BrokerHandle,
    /// What of the forge is granted.
    outputs: Arc<OfferedOutputs>,
    /// What no call may have in it.
    known: Arc<KnownSecrets>,
    tool_router: ToolRouter<Self>,
}

type Context = RequestContext<RoleServer>;

/// The names of all tools, whatever a run offers of them.
pub(super) fn names() -> Vec<String> {
    Server::tool_router().list_all().into_iter().map(|tool| tool.name.into_owned()).collect()
}

#[tool_router]
impl Server {
    pub(super) fn new(broker: BrokerHandle, outputs: Arc<OfferedOutputs>, known: Arc<KnownSecrets>) -> Self {
        Self { broker, outputs, known, tool_router: Self::tool_router() }
    }

    #[tool(
        description = "What is allowed now, as JSON: HTTP routes, DLP exemptions, push rules, what is left of the budget, and \
                       who decides on requests for more. Call it before you ask for something.",
        annotations(read_only_hint = true)
    )]
    async fn policy(&self, _: Parameters<NoParameters>) -> CallToolResult {
        match self.broker.view().await.map(|view| serde_json::to_string_pretty(&view)) {
            Some(Ok(json)) => CallToolResult::success(vec![ContentBlock::text(json)]),
            _ => gone(),
        }
    }

    #[tool(
        description = "Ask for HTTP access to a host that the policy refuses. Ask for as little as the task needs. The call \
                       waits for a person's decision; what is granted works at once, so try the same request again."
    )]
    async fn request_route(&self, Parameters(asked): Parameters<RouteParameters>, context: Context) -> CallToolResult {
        let request = Request::route(&RouteWords {
            host: &asked.host,
            port: asked.port,
            scheme: asked.scheme,
            methods: &asked.methods,
            paths: &asked.paths,
            why: &asked.why,
            duration: asked.duration.as_deref(),
        });
        self.decide(request, asked.wait, context).await
    }

    #[tool(
        description = "Ask a person to say that what a rule found is no secret. After a request was refused as `dlp`: give `host`, \
                       and the rule is not looked for in what goes there. After a push was refused by the gate: give `path` and \
                       `sha256` as the refusal shows them, and push again after a yes, which is for those bytes alone. First try to \
                       do without the text that was found."
    )]
    async fn request_exemption(
        &self,
        Parameters(asked): Parameters<ExemptionParameters>,
        context: Context,
    ) -> CallToolResult {
        let ExemptionParameters { host, rule, path, sha256, why, duration, .. } = &asked;
        let request = match (host, path, sha256) {
            (Some(host), None, None) => Request::exemption(host, rule, why, duration.as_deref()),
            (None, Some(path), Some(sha256)) => Request::finding(rule, path, sha256, why, duration.as_deref()),
            _ => Err(RequestError::Bad {
                field: "host",
                reason: "give a `host`, or of a push both `path` and `sha256`".to_owned(),
            }),
        };
        self.decide(request, asked.wait, context).await
    }

    #[tool(
        description = "Ask for tools that the image does not have, as lines for its Dockerfile. Nothing changes in this run: \
                       a run that resumes this one has them."
    )]
    async fn request_capability(
        &self,
        Parameters(asked): Parameters<CapabilityParameters>,
        context: Context,
    ) -> CallToolResult {
        self.decide(Request::capability(&asked.dockerfile, &asked.why), asked.wait, context).await
    }

    #[tool(
        description = "Ask to push to a branch or tag that the push rules refuse. Secrets that were found in a push are never \
                       allowed: remove them instead."
    )]
    async fn request_push(&self, Parameters(asked): Parameters<PushParameters>, context: Context) -> CallToolResult {
        let request = Request::push(asked.upstream.as_deref(), &asked.r#ref, &asked.why, asked.duration.as_deref());
        self.decide(request, asked.wait, context).await
    }

    #[tool(
        description = "Ask for more to spend on the model, on top of the limits that `policy` shows. Ask before all is spent: \
                       afterwards no call can be made any more."
    )]
    async fn request_budget(
        &self,
        Parameters(asked): Parameters<BudgetParameters>,
        context: Context,
    ) -> CallToolResult {
        let BudgetParameters { tokens, requests, time, cost_usd, why, wait } = asked;
        self.decide(Request::budget(tokens, requests, time.as_deref(), cost_usd, &why), wait, context).await
    }

    #[tool(description = "Ask a person a question that the task can't be done without. There may be nobody to answer.")]
    async fn ask(&self, Parameters(asked): Parameters<AskParameters>, context: Context) -> CallToolResult {
        self.decide(Request::ask(&asked.question), asked.wait, context).await
    }

    #[tool(description = "Tell how far the work is, in one line, for the people who wait for it. It needs no answer.")]
    async fn progress(&self, Parameters(asked): Parameters<ProgressParameters>, context: Context) -> CallToolResult {
        self.decide(Request::progress(&asked.line), Some(false), context).await
    }

    #[tool(description = "Write a comment on the issue or pull request of this run. It is posted when you have ended.")]
    async fn write_comment(&self, Parameters(arguments): Parameters<JsonObject>) -> CallToolResult {
        self.output(OutputKind::Comment, arguments).await
    }

    #[tool(description = "Add labels to the issue or pull request of this run. They are added when you have ended.")]
    async fn add_labels(&self, Parameters(arguments): Parameters<JsonObject>) -> CallToolResult {
        self.output(OutputKind::Labels, arguments).await
    }

    #[tool(
        description = "Review the pull request of this run: once, with remarks at lines of its diff. A line is counted from 1 in the                        file after the change, or with `side: before` in the file before it, and must be in the diff. It is                        posted when you have ended."
    )]
    async fn write_review(&self, Parameters(arguments): Parameters<JsonObject>) -> CallToolResult {
        self.output(OutputKind::Review, arguments).await
    }

    #[tool(description = "Open an issue in the repository of this run. It is opened when you have ended.")]
    async fn open_issue(&self, Parameters(arguments): Parameters<JsonObject>) -> CallToolResult {
        self.output(OutputKind::Issue, arguments).await
    }

    #[tool(
        description = "Close the issue or pull request of this run, and say why. It is closed when you have ended, and stays open if \
                       a pull request has new commits by then."
    )]
    async fn close_thread(&self, Parameters(arguments): Parameters<JsonObject>) -> CallToolResult {
        self.output(OutputKind::Close, arguments).await
    }

    #[tool(
        description = "Report how a check of the commit that this run works on has ended, each check once. It is reported when you \
                       have ended."
    )]
    async fn report_check(&self, Parameters(arguments): Parameters<JsonObject>) -> CallToolResult {
        self.output(OutputKind::Check, arguments).await
    }

    #[tool(
        description = "Give the answer of this run, once and as your last act: the whole of it, as JSON that fits the schema of \
                       `answer`. A refusal says what does not fit; after three of them no answer is taken."
    )]
    async fn give_answer(&self, Parameters(arguments): Parameters<JsonObject>) -> CallToolResult {
        self.output(OutputKind::Json, arguments).await
    }

    #[tool(
        description = "Hand in a file of the workspace: a regular file, no link. It is taken as it is when you have ended."
    )]
    async fn hand_in_file(&self, Parameters(arguments): Parameters<JsonObject>) -> CallToolResult {
        self.output(OutputKind::File, arguments).await
    }

    #[tool(
        description = "Report what you found in the code: once, with file and lines of each finding. It is shown as alerts when you have \
                       ended."
    )]
    async fn report_findings(&self, Parameters(arguments): Parameters<JsonObject>) -> CallToolResult {
        self.output(OutputKind::Sarif, arguments).await
    }

    #[tool(
        description = "What has become of an earlier request, by its id; it does not wait.",
        annotations(read_only_hint = true)
    )]
    async fn status(&self, Parameters(asked): Parameters<IdParameters>) -> CallToolResult {
        match self.find(&asked.id).await {
            Ok(answer) => result(answer),
            Err(result) => result,
        }
    }

    #[tool(description = "Wait for the decision on an earlier request, by its id.", annotations(read_only_hint = true))]
    async fn wait(&self, Parameters(asked): Parameters<IdParameters>, context: Context) -> CallToolResult {
        match self.find(&asked.id).await {
            Ok(answer) => finish(answer, true, context).await,
            Err(result) => result,
        }
    }
}

impl Server {
    async fn decide(
        &self,
        request: Result<Request, RequestError>,
        wait: Option<bool>,
        context: Context,
    ) -> CallToolResult {
        let request = match request {
            Ok(request) => request,
            Err(error) => return mistake(format!("refused: {error}; it is not noted")),
        };
        match self.broker.ask(request).await {
            Some(answer) => finish(answer, wait.unwrap_or(true), context).await,
            None => gone(),
        }
    }

    /// Hands in what people shall read. What is not granted is refused and written down, although it is not listed.
    async fn output(&self, kind: OutputKind, arguments: JsonObject) -> CallToolResult {
        match self.broker.output(kind, output_tools::output(kind, arguments)).await {
            Some(answer) => result(answer),
            None => gone(),
        }
    }

    /// The refusal of a call with a known secret in it, which nobody else gets to see.
    async fn secret_in(&self, call: &CallToolRequestParams) -> Option<CallToolResult> {
        let text = match serde_json::to_vec(&(&call.name, &call.arguments)) {
            Ok(text) => text,
            Err(error) => return Some(mistake(format!("refused: the call can't be looked into: {error}"))),
        };
        let (name, _) = self.known.find(&text)?;
        let rule = Rule::known_secret(name);
        let said = format!("refused: the value of {name} was found in the call ({rule}); leave it out");
        match self.broker.secret(call.name.to_string(), rule).await {
            Some(()) => Some(mistake(said)),
            None => Some(gone()),
        }
    }

    async fn find(&self, id: &str) -> Result<BrokerAnswer, CallToolResult> {
        let id = ProposalId::parse(id.trim()).map_err(|error| mistake(error.to_string()))?;
        self.broker.status(id).await.ok_or_else(gone)
    }
}

/// The answer at once, or when it is decided.
async fn finish(mut answer: BrokerAnswer, wait: bool, context: Context) -> CallToolResult {
    if wait && let Some(pending) = answer.pending.take() {
        answer.text = waited(pending, &context).await;
    }
    result(answer)
}

/// Waits for the last words, and tells the client meanwhile that it still does. Who has gone ends this by itself.
async fn waited(mut pending: Pending, context: &Context) -> String {
    let token = context.meta.get_progress_token();
    let start = Instant::now();
    // The desk ends it in time; this is for a desk that can't.
    let deadline = start + pending.most + Duration::from_secs(90);
    loop {
        let StatusText { text, is_final } = pending.status_text.borrow_and_update().clone();
        if is_final {
            return text;
        }
        if let Some(token) = &token {
            let sign = ProgressNotificationParam::new(token.clone(), start.elapsed().as_secs_f64())
                .with_total(pending.most.as_secs_f64())
                .with_message(text.clone());
            if context.peer.notify_progress(sign).await.is_err() {
                return text;
            }
        }
        tokio::select! {
            changed = pending.status_text.changed() => if changed.is_err() && !pending.status_text.borrow().is_final {
                return format!("{text} (the door is ending)");
            },
            () = sleep(PROGRESS_INTERVAL) => {}
            () = context.ct.cancelled() => return text,
            () = sleep_until(deadline) => return text,
        }
    }
}

/// A refusal is a decision, and so no error: clients show errors as calls to be made again.
fn result(answer: BrokerAnswer) -> CallToolResult {
    if answer.mistake { mistake(answer.text) } else { CallToolResult::success(vec![ContentBlock::text(answer.text)]) }
}

fn mistake(text: String) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}

fn gone() -> CallToolResult {
    mistake("refused: nobody is there to decide".to_owned())
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Server {
    /// Calls a tool, unless there is a secret in the call.
    async fn call_tool(&self, request: CallToolRequestParams, context: Context) -> Result<CallToolResponse, ErrorData> {
        if let Some(refusal) = self.secret_in(&request).await {
            return Ok(refusal.into());
        }
        self.tool_router.call(ToolCallContext::new(self, request, context)).await
    }

    /// Lists what this run offers: a tool for an output that is not granted is none of it.
    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        context: Context,
    ) -> Result<ListToolsResult, ErrorData> {
        let hints = context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
        let tools = self.tool_router.list_all().into_iter();
        Ok(ListToolsResult {
            result_type: Some(ResultType::COMPLETE),
            tools: tools
                .filter_map(|tool| output_tools::offered(tool, &self.outputs))
                .map(output_tools::without_the_obvious)
                .collect(),
            meta: None,
            next_cursor: None,
            ttl_ms: hints.then_some(0),
            cache_scope: hints.then_some(CacheScope::Public),
        })
    }

    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("supervise", env!("CARGO_PKG_VERSION")))
            .with_instructions(
                "You work in a bottle: HTTP goes only to listed hosts, pushes only to listed refs. When something is refused \
                 that the task needs, call `policy` to see what is allowed, then ask with `request_route`, `request_push` \
                 or another of these tools, and say why. A person decides while you wait; what is granted is in force at \
                 once. A refusal is final: go on without it.",
            )
    }
}
