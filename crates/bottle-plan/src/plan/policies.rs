//! The rules of the two outgoing doors and of supervise, from the manifest's words.

use std::collections::BTreeSet;

use bottle_policy::outputs::OutputPolicy;
use bottle_policy::pipelock::{Answers, BodyScanning, Dlp, PipelockPolicy, Ssrf, TlsInterception};
use bottle_policy::route::{Injection, Route, RoutesPolicy};
use bottle_policy::supervise::{Approval, SupervisePolicy};
use bottle_types::host::{HostName, HostPattern};
use bottle_types::secret::SecretName;

use super::error::PlanError;
use super::secrets::SecretSources;
use super::types::{Options, SecretPlan};
use super::upstreams::Upstreams;
use crate::manifest::{AgentLimits, BottleEntry, ModelEndpoint, Supervise};
use crate::name::Slug;

/// Where the model is, unless a route says `model: true` about another host.
pub const MODEL_HOST: &str = "api.anthropic.com";

/// What the outgoing doors obey, and what follows from it.
pub(super) struct DoorRules {
    pub(super) routes: RoutesPolicy,
    pub(super) pipelock: PipelockPolicy,
    pub(super) secrets: Vec<SecretPlan>,
    /// Variables that hold a placeholder in the guest.
    pub(super) placeholders: BTreeSet<String>,
}

/// The variables by which AWS's clients know their keys.
const AWS_VARIABLES: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];

impl DoorRules {
    pub(super) fn of(
        (bottle, model): (&BottleEntry, Option<&ModelEndpoint>),
        mut routes: Vec<Route>,
        limits: &AgentLimits,
        upstreams: &Upstreams,
        sources: SecretSources<'_>,
        options: &Options,
        notes: &mut Vec<String>,
    ) -> Result<Self, PlanError> {
        let model_host = HostName::parse(MODEL_HOST).map_err(|error| PlanError::Facts(error.to_string()))?;
        let replay = options.replay.is_some();
        // The manifest's own for the model goes first: no other takes what it is about.
        routes.splice(0..0, model.map(|model| model.route.clone()));
        for route in &mut routes {
            route.model |= route.host.matches(&model_host);
            route.model |= model.is_some_and(|model| route.host.matches(&model.base.host));
        }
        if replay && !routes.iter().any(|route| route.model) {
            routes.push(model_route(model_host));
        }
        let mut placeholders = BTreeSet::new();
        let mut secrets: Vec<SecretPlan> = vec![];
        for (index, route) in routes.iter_mut().enumerate() {
            let injection = match &route.auth {
                Some(auth) => Some(auth.injection().map_err(|problem| PlanError::Facts(problem.to_owned()))?),
                None => None,
            };
            match model.filter(|_| index == 0) {
                // Claude Code is told where it is, and wants no other.
                Some(model) => placeholders.extend(model.placeholder.map(str::to_owned)),
                None => placeholders.extend(placeholders_for(route.model, injection.as_ref())),
            }
            let Some(injection) = injection else { continue };
            let names: Vec<SecretName> = injection.secrets().into_iter().cloned().collect();
            if route.model && replay {
                // The cassette answers: no key is needed, and none is taken along.
                route.auth = None;
                continue;
            }
            for name in &names {
                sources.add(&mut secrets, name, &format!("route {}", route.host));
            }
        }
        if !replay && options.publish.is_none() && !routes.iter().any(|route| route.model) {
            notes.push(format!("no route leads to the model: Claude can't answer (declare {MODEL_HOST})"));
        }
        let pipelock = pipelock(bottle, routes.is_empty());
        let routes = RoutesPolicy {
            version: 1,
            routes,
            git_upstreams: upstreams.closed_to_https(),
            replay,
            passthrough: bottle.pipelock.passthrough.clone(),
            budget: limits.budget(),
        };
        Ok(Self { routes, pipelock, secrets, placeholders })
    }
}

/// The variables that a route's clients want to have a credential in.
fn placeholders_for(is_model: bool, injection: Option<&Injection<'_>>) -> Vec<String> {
    let mut names = vec![];
    if is_model {
        // Which variable makes Claude Code use which header.
        let bearer = matches!(injection, Some(Injection::Header { name, .. }) if name == "authorization");
        names.push(if bearer { "CLAUDE_CODE_OAUTH_TOKEN" } else { "ANTHROPIC_API_KEY" }.to_owned());
    }
    match injection {
        Some(Injection::Header { from, .. }) => names.push(from.to_string()),
        // AWS's clients sign with these, and the door signs again.
        Some(Injection::Aws(..)) => names.extend(AWS_VARIABLES.map(str::to_owned)),
        None => {}
    }
    names
}

/// pipelock's rules. Without a route there is no egress, and the guest talks to pipelock itself.
fn pipelock(bottle: &BottleEntry, no_routes: bool) -> PipelockPolicy {
    PipelockPolicy {
        version: 1,
        guest_proxy: no_routes,
        api_allowlist: bottle.pipelock.api_allowlist.clone(),
        dlp: Dlp {
            action: bottle.pipelock.dlp,
            patterns: bottle.pipelock.patterns.clone(),
            detect: bottle.pipelock.detect.clone(),
            exemptions: bottle.pipelock.exemptions.clone(),
        },
        internal: bottle.pipelock.internal.clone(),
        ssrf: Ssrf { ip_allowlist: bottle.pipelock.allow_private.clone() },
        tls_interception: TlsInterception { passthrough_domains: bottle.pipelock.passthrough.clone() },
        request_body_scanning: BodyScanning { max_body_bytes: bottle.pipelock.max_request_bytes },
        response_scanning: Answers {
            action: bottle.pipelock.responses,
            max_body_bytes: bottle.pipelock.max_response_bytes,
        },
        limits: bottle.pipelock.limits.clone(),
        proxy: None,
        secrets: vec![],
    }
}

/// The model's API as Claude Code uses it.
fn model_route(host: HostName) -> Route {
    let paths = ["/v1/messages", "/v1/messages/count_tokens"];
    Route { model: true, ..Route::plain(HostPattern::Exact(host), &["POST"], &paths) }
}

pub(super) fn supervise(
    slug: &Slug,
    bottle: &BottleEntry,
    approval: Approval,
    outputs: Option<OutputPolicy>,
) -> SupervisePolicy {
    let Supervise { approval: _, timeout, auto } = &bottle.supervise;
    let (run, timeout, auto) = (slug.to_string(), *timeout, auto.clone());
    SupervisePolicy { version: 1, run, approval, timeout, auto, secrets: vec![], outputs }
}
