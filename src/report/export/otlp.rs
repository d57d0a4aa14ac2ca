//! A run as one trace: run → phases → turns → tools → requests, with the pushes and the waits for people.
//!
//! Names and attributes are those of OpenTelemetry's semantic conventions 1.41, those for generative AI among them; what they have no
//! name for begins with `claude_bottle.`. A span's id is made of the run's name and of what the record calls it: a run that goes on has the
//! ids that its record will have, whatever comes in between.

use std::collections::HashMap;

use bottle_plan::manifest::Provider;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, SpanFlags, Status};
use sha2::{Digest as _, Sha256};

use crate::report::model::data::{Call, Request};
use crate::report::model::transcript::{Block, Tool, Turn};
use crate::report::model::visible::visible;
use crate::report::show::{RunView, has_passed, word};
use crate::report::{RunEvent, outcome};

const SCHEMA: &str = "https://opentelemetry.io/schemas/1.41.0";

impl RunView {
    /// The run as a trace. `resource` has more attributes of who exports it, which go before our own.
    pub(crate) fn trace(&self, resource: &[(String, String)]) -> ExportTraceServiceRequest {
        self.trace_of(resource, None)
    }

    /// What of the trace of a run that goes on was over at this time, in milliseconds of Unix time, and will change no more.
    pub(crate) fn trace_until(&self, resource: &[(String, String)], until: i64) -> ExportTraceServiceRequest {
        self.trace_of(resource, Some(until))
    }

    fn trace_of(&self, resource: &[(String, String)], until: Option<i64>) -> ExportTraceServiceRequest {
        let mut trace = Trace::new(self, until);
        trace.run();
        trace.phases();
        trace.turns();
        trace.requests();
        trace.pushes();
        trace.proposals();
        let own = [("service.name", "bottle-runner"), ("service.version", env!("CARGO_PKG_VERSION"))];
        let own = own.into_iter().filter(|(name, _)| resource.iter().all(|(other, _)| other != name));
        let attributes =
            resource.iter().map(|(name, value)| text(name, value)).chain(own.map(|(name, value)| text(name, value)));
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let spans = ScopeSpans { scope: Some(scope), spans: trace.spans, schema_url: SCHEMA.to_owned() };
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource { attributes: attributes.collect(), ..Resource::default() }),
                scope_spans: vec![spans],
                schema_url: SCHEMA.to_owned(),
            }],
        }
    }
}

/// A stretch of time with a span's id, under which other spans are put.
#[derive(Debug, Clone)]
struct Stretch {
    id: Vec<u8>,
    from: i64,
    to: i64,
}

/// The trace as it grows.
struct Trace<'a> {
    view: &'a RunView,
    slug: &'a str,
    seed: String,
    /// None: the whole trace is wanted.
    until: Option<i64>,
    /// How often a key was used: what the guest writes may call two things alike.
    keys: HashMap<String, usize>,
    trace_id: Vec<u8>,
    /// The span of whoever started the run.
    parent: Option<Vec<u8>>,
    spans: Vec<Span>,
    run: Stretch,
    phases: Vec<Stretch>,
    /// By the place of the turn.
    turns: HashMap<usize, Stretch>,
    tools: Vec<Stretch>,
    /// The turn of a paid request, by its id.
    paid: HashMap<&'a str, usize>,
    /// The name that the conventions have for whose API it is.
    provider: &'static str,
}

impl<'a> Trace<'a> {
    fn new(view: &'a RunView, until: Option<i64>) -> Self {
        let started = view.events.iter().find_map(|(_, event)| match event {
            RunEvent::Started { slug, traceparent, .. } => Some((slug.as_str(), traceparent.as_deref())),
            _ => None,
        });
        let (slug, traceparent) = started.unwrap_or_default();
        let seed = format!("claude-bottle {slug} {}", view.data.from);
        let part = |at: usize, bytes: usize| {
            let id = hex::decode(traceparent?.split('-').nth(at)?).ok()?;
            (id.len() == bytes).then_some(id)
        };
        let trace_id = part(1, 16).unwrap_or_else(|| Sha256::digest(&seed)[..16].to_vec());
        let parent = part(2, 8);
        let run = Stretch { id: id(&seed, "run"), from: view.data.from, to: view.data.to };
        let provider = match view.plan.as_ref().and_then(|plan| plan.model.as_ref()).map(|model| model.provider) {
            None | Some(Provider::Anthropic) => "anthropic",
            Some(Provider::Bedrock) => "aws.bedrock",
            Some(Provider::Vertex) => "gcp.vertex_ai",
            Some(Provider::Foundry) => "azure.ai.inference",
        };
        let paid = view.data.calls.iter().filter_map(|call| Some((call.id.as_str(), call.turn?))).collect();
        Self {
            view,
            slug,
            seed,
            until,
            keys: HashMap::new(),
            trace_id,
            parent,
            spans: vec![],
            run,
            phases: vec![],
            turns: HashMap::new(),
            tools: vec![],
            paid,
            provider,
        }
    }

    /// True if what ended at this time is in the trace.
    fn is_over(&self, to: Option<i64>) -> bool {
        self.until.is_none_or(|until| to.is_some_and(|to| to <= until))
    }

    /// Adds a span below another, if it is over. Gives its stretch of time, which has no end yet where it is not.
    fn add(&mut self, key: String, parent: &[u8], (from, to): (i64, i64), is_over: bool, span: Span) -> Stretch {
        let times = self.keys.entry(key.clone()).or_default();
        *times += 1;
        let id = match times {
            1 => id(&self.seed, &key),
            // No key begins with a number.
            times => id(&self.seed, &format!("{times} {key}")),
        };
        if is_over {
            let (trace_id, span_id) = (self.trace_id.clone(), id.clone());
            self.spans.push(Span { trace_id, span_id, parent_span_id: parent.to_vec(), ..span });
        }
        Stretch { id, from, to: if is_over { to } else { i64::MAX } }
    }

    fn run(&mut self) {
        let view = self.view;
        let outcome = outcome(view.events.iter().map(|(_, event)| event));
        let mut attributes = vec![text("claude_bottle.run", self.slug), text("gen_ai.provider.name", self.provider)];
        if let Some(plan) = &view.plan {
            attributes.push(text("gen_ai.agent.name", plan.agent.name.as_str()));
            attributes.push(text("claude_bottle.backend", plan.backend.name()));
        }
        if let Some(outcome) = outcome {
            attributes.push(number("process.exit.code", u64::from(u8::from(outcome.code))));
            attributes.extend(outcome.session_id.as_deref().map(|id| text("gen_ai.conversation.id", id)));
            attributes.extend(outcome.branch.as_deref().map(|name| text("vcs.ref.head.name", name)));
            attributes.extend(outcome.commit.as_ref().map(|id| text("vcs.ref.head.revision", &id.to_string())));
        }
        let is_good = outcome.is_some_and(|outcome| u8::from(outcome.code) == 0);
        let flags = if self.parent.is_some() {
            SpanFlags::ContextHasIsRemoteMask as u32 | SpanFlags::ContextIsRemoteMask as u32
        } else {
            0
        };
        let (from, to) = (self.run.from, self.run.to);
        let span = Span { flags, attributes, ..span("run", SpanKind::Internal, from, to, is_good) };
        let parent = self.parent.take().unwrap_or_default();
        let is_over = self.until.is_none();
        self.add("run".to_owned(), &parent, (from, to), is_over, span);
    }

    fn phases(&mut self) {
        let run = self.run.id.clone();
        let last = self.view.data.phases.len().saturating_sub(1);
        for (at, phase) in self.view.data.phases.iter().enumerate() {
            let span = Span {
                attributes: vec![text("claude_bottle.phase", phase.name)],
                ..span(&format!("phase {}", phase.name), SpanKind::Internal, phase.from, phase.to, true)
            };
            let is_over = self.is_over((at < last).then_some(phase.to));
            let key = format!("phase {} {}", phase.name, phase.from);
            let stretch = self.add(key, &run, (phase.from, phase.to), is_over, span);
            self.phases.push(stretch);
        }
    }

    /// The phase at this time, or the run.
    fn phase_at(&self, at: i64) -> Vec<u8> {
        containing(self.phases.iter(), at).map_or_else(|| self.run.id.clone(), |phase| phase.id.clone())
    }

    /// A span for each turn of the model's with the tokens of its calls, and one for each call that is of no turn.
    fn turns(&mut self) {
        let view = self.view;
        let mut calls: HashMap<usize, Vec<&Call>> = HashMap::new();
        for call in &view.data.calls {
            match call.turn {
                Some(turn) => calls.entry(turn).or_default().push(call),
                None => self.call_of_no_turn(call),
            }
        }
        let last = view.data.turns.iter().rposition(Turn::is_the_models);
        for (at, turn) in view.data.turns.iter().enumerate().filter(|(_, turn)| turn.is_the_models()) {
            let calls = calls.remove(&at).unwrap_or_default();
            let first = calls.iter().filter_map(|call| call.at).min();
            let from = turn.from.or(first).unwrap_or(self.run.from);
            let from = first.map_or(from, |first| first.min(from));
            let to = turn.to.unwrap_or(from).max(from);
            let span = Span {
                attributes: self.chat(&turn.model, &calls),
                ..span(&format!("chat {}", turn.model), SpanKind::Client, from, to, true)
            };
            let parent = self.phase_at(from);
            let is_over = self.is_over((Some(at) < last && self.is_whole(turn, &calls)).then_some(to));
            let key = match turn.id.as_str() {
                "" => format!("turn at {:?}", turn.from),
                id => format!("turn {id}"),
            };
            let stretch = self.add(key, &parent, (from, to), is_over, span);
            for tool in &turn.blocks {
                if let Block::Tool(tool) = tool {
                    self.tool(tool, &stretch.id, (from, to));
                }
            }
            self.turns.insert(at, stretch);
        }
        // Of a turn that the page has no room for.
        let mut left: Vec<(usize, Vec<&Call>)> = calls.into_iter().collect();
        left.sort_by_key(|(turn, _)| *turn);
        for call in left.into_iter().flat_map(|(_, calls)| calls) {
            self.call_of_no_turn(call);
        }
    }

    /// True if nothing more is to come of a turn: its tools have ended, and its calls are counted. The name of a call's model is the guest's
    /// word, and has not been masked before the record has it: another one than the transcript's waits for that.
    fn is_whole(&self, turn: &Turn, calls: &[&Call]) -> bool {
        let has_ended = |block: &Block| !matches!(block, Block::Tool(tool) if tool.to.is_none());
        let asked = self.view.plan.as_ref().and_then(|plan| plan.agent.model.as_deref());
        let is_known = |call: &&Call| call.model == turn.model || Some(call.model.as_str()) == asked;
        turn.blocks.iter().all(has_ended) && !calls.is_empty() && calls.iter().all(is_known)
    }

    fn call_of_no_turn(&mut self, call: &Call) {
        let from = call.at.unwrap_or(self.run.from);
        let attributes = self.chat(&call.model, &[call]);
        let span = Span { attributes, ..span(&format!("chat {}", call.model), SpanKind::Client, from, from, true) };
        let parent = self.phase_at(from);
        // Its turn may be to come.
        let is_over = self.until.is_none();
        self.add(format!("call {}", call.id), &parent, (from, from), is_over, span);
    }

    /// A call to the model. By the conventions, the input has what came out of the cache and went into it.
    fn chat(&self, model: &str, calls: &[&Call]) -> Vec<KeyValue> {
        let sum = |count: &dyn Fn(&Call) -> u64| calls.iter().map(|call| count(call)).fold(0, u64::saturating_add);
        let input = |call: &Call| call.input.saturating_add(call.cache_write).saturating_add(call.cache_read);
        let mut attributes = vec![
            text("gen_ai.operation.name", "chat"),
            text("gen_ai.provider.name", self.provider),
            text("gen_ai.response.model", model),
        ];
        if let Some(call) = calls.first() {
            attributes.extend([
                text("gen_ai.request.model", &call.model),
                number("gen_ai.usage.input_tokens", sum(&input)),
                number("gen_ai.usage.cache_creation.input_tokens", sum(&|call| call.cache_write)),
                number("gen_ai.usage.cache_read.input_tokens", sum(&|call| call.cache_read)),
                number("gen_ai.usage.output_tokens", sum(&|call| call.output)),
                double("claude_bottle.cost_usd", calls.iter().filter_map(|call| call.cost).sum()),
            ]);
        }
        attributes
    }

    fn tool(&mut self, tool: &Tool, parent: &[u8], (first, last): (i64, i64)) {
        let from = tool.from.unwrap_or(first);
        let to = tool.to.unwrap_or(last).max(from);
        let attributes = vec![
            text("gen_ai.operation.name", "execute_tool"),
            text("gen_ai.tool.name", &tool.name),
            text("gen_ai.tool.type", "function"),
        ];
        let is_good = !tool.failed;
        let span =
            Span { attributes, ..span(&format!("execute_tool {}", tool.name), SpanKind::Internal, from, to, is_good) };
        let is_over = self.is_over(tool.to.and(Some(to)));
        let key = match tool.id.as_str() {
            "" => format!("tool {} at {from}", tool.name),
            id => format!("tool {id}"),
        };
        let stretch = self.add(key, parent, (from, to), is_over, span);
        self.tools.push(stretch);
    }

    /// Each request below what had it sent: the model's below its turn, others below the tool that ran, or the turn, or the phase.
    fn requests(&mut self) {
        let view = self.view;
        for request in view.requests() {
            let from = request.at.unwrap_or(self.run.from);
            let parent = self.paid.get(request.id.as_str()).and_then(|turn| self.turns.get(turn));
            let parent = parent
                .or_else(|| containing(self.tools.iter(), from))
                .or_else(|| containing(self.turns.values(), from))
                .map_or_else(|| self.phase_at(from), |stretch| stretch.id.clone());
            let to = from.saturating_add(i64::try_from(request.ms).unwrap_or(0));
            let is_good = has_passed(request.verdict);
            let attributes = http(request);
            let span = Span { attributes, ..span(&request.method, SpanKind::Client, from, to, is_good) };
            let key = match request.id.as_str() {
                "" => format!("request {} {}{} at {from}", request.method, request.host, request.path),
                id => format!("request {id}"),
            };
            let is_over = self.is_over(Some(to));
            self.add(key, &parent, (from, to), is_over, span);
        }
    }

    fn pushes(&mut self) {
        let view = self.view;
        for push in &view.data.pushes {
            let to = push.to.or(push.from).unwrap_or(self.run.to);
            let from = push.from.unwrap_or(to);
            let verdict = serde_json::to_value(push.verdict).ok();
            let verdict = verdict.as_ref().and_then(|verdict| verdict.as_str()).unwrap_or_default();
            let attributes = vec![
                text("vcs.ref.head.name", &push.r#ref),
                text("vcs.ref.head.revision", &push.new),
                text("vcs.repository.name", &push.repo),
                text("claude_bottle.verdict", verdict),
                number("claude_bottle.push.findings", push.findings.len() as u64),
            ];
            let is_good = push.verdict.has_passed();
            let span = Span { attributes, ..span("git push", SpanKind::Client, from, to, is_good) };
            let parent = self.phase_at(from);
            let is_over = self.is_over(push.to);
            let key = format!("push {} {} {} at {to}", push.repo, push.r#ref, push.new);
            self.add(key, &parent, (from, to), is_over, span);
        }
    }

    fn proposals(&mut self) {
        let view = self.view;
        for proposal in &view.data.proposals {
            let status = serde_json::to_value(proposal.status).ok();
            let status = status.as_ref().and_then(|status| status.as_str()).unwrap_or_default();
            let attributes =
                vec![text("claude_bottle.proposal", &proposal.id), text("claude_bottle.proposal.status", status)];
            let (from, to) = (proposal.from, proposal.to.unwrap_or(self.run.to));
            let name = format!("proposal {}", proposal.id);
            let span = Span { attributes, ..span(&name, SpanKind::Internal, from, to, true) };
            let parent = self.phase_at(from);
            let is_over = self.is_over(proposal.to);
            self.add(format!("proposal {}", proposal.id), &parent, (from, to), is_over, span);
        }
    }
}

/// The stretch at this time that began last.
fn containing<'s>(stretches: impl Iterator<Item = &'s Stretch>, at: i64) -> Option<&'s Stretch> {
    stretches
        .filter(|stretch| (stretch.from..=stretch.to).contains(&at))
        .max_by_key(|stretch| (stretch.from, &stretch.id))
}

/// The id of a span: of the run and the span's key alone.
fn id(seed: &str, key: &str) -> Vec<u8> {
    Sha256::digest(format!("{seed} {key}"))[..8].to_vec()
}

fn span(name: &str, kind: SpanKind, from: i64, to: i64, is_good: bool) -> Span {
    let nanos = |millis: i64| u64::try_from(millis).unwrap_or(0).saturating_mul(1_000_000);
    let status = (!is_good).then(|| Status { code: StatusCode::Error as i32, message: String::new() });
    Span {
        name: name.to_owned(),
        kind: kind as i32,
        start_time_unix_nano: nanos(from),
        end_time_unix_nano: nanos(to.max(from)),
        status,
        ..Span::default()
    }
}

fn http(request: &Request) -> Vec<KeyValue> {
    let mut attributes = vec![
        text("http.request.method", &request.method),
        text("server.address", &request.host),
        number("server.port", u64::from(request.port)),
        text("url.path", &request.path),
        number("http.request.body.size", request.sent),
        number("http.response.body.size", request.received),
        text("claude_bottle.verdict", word(request.verdict)),
        text("claude_bottle.door", &request.door),
    ];
    if request.status > 0 {
        attributes.push(number("http.response.status_code", u64::from(request.status)));
    }
    attributes.extend(request.route.map(|route| number("claude_bottle.route", route as u64)));
    let texts = [
        ("error.type", &request.reason),
        ("claude_bottle.finding", &request.finding),
        ("claude_bottle.proposal", &request.proposal),
        ("claude_bottle.credential", &request.credential),
    ];
    attributes.extend(texts.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| text(name, value)));
    attributes
}

fn attribute(name: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(name: &str, value: &str) -> KeyValue {
    attribute(name, any_value::Value::StringValue(visible(value).into_owned()))
}

fn number(name: &str, value: u64) -> KeyValue {
    attribute(name, any_value::Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

fn double(name: &str, value: f64) -> KeyValue {
    attribute(name, any_value::Value::DoubleValue(value))
}
