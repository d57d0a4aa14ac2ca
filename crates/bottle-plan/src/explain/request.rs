//! A request at the outgoing doors.

use bottle_policy::conditions::Details;
use bottle_policy::forge_read::{ForgeReadJudge, ForgeReadRules, ForgeRefusal, ForgeRequest};
use bottle_policy::matcher::{Denied, Matcher, Missing, Target};
use bottle_policy::route::{Route, RoutesPolicy, Scheme};
use bottle_policy::supervise::{Approval, Request, RouteWords};
use bottle_types::host::{HostName, HostPattern};
use bottle_types::reason::Reason;

use super::url::{UrlError, UrlParts};
use super::{Explainer, Explanation, PhaseRoutes, Verdict};
use crate::manifest::{Part, flow};

/// A request that is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestAsked {
    method: String,
    url: UrlParts,
    headers: Vec<(String, String)>,
    setup: bool,
}

impl RequestAsked {
    /// A request by method, as it is sent, and URL.
    pub fn new(method: &str, url: &str) -> Result<Self, UrlError> {
        Ok(Self { method: method.to_owned(), url: UrlParts::parse(url)?, headers: vec![], setup: false })
    }

    /// With one header more.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// While the setup runs, not the agent.
    pub fn in_setup(mut self, setup: bool) -> Self {
        self.setup = setup;
        self
    }

    /// As one that becomes a WebSocket, whatever its scheme.
    pub fn websocket(mut self, websocket: bool) -> Self {
        self.url.websocket |= websocket;
        self
    }

    fn line(&self) -> String {
        let UrlParts { scheme, host, port, path, query, websocket } = &self.url;
        let name = if scheme.is_https() { "https" } else { "http" };
        let port = if *port == scheme.port() { String::new() } else { format!(":{port}") };
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        let socket = if *websocket { " (WebSocket)" } else { "" };
        let phase = if self.setup { ", while the setup runs" } else { "" };
        format!("{} {name}://{host}{port}{path}{query}{socket}{phase}", self.method)
    }
}

/// What is looked at in a run beyond the rules.
const THEN: &str = "what the request carries is scanned for secrets, the address of its host is judged, and limits and rates are counted";

impl Explainer {
    /// Says what the doors make of a request.
    pub fn request(&self, asked: &RequestAsked) -> Explanation {
        let mut told = Explanation::new(asked.line(), Verdict::Deny);
        let host = match HostName::parse(&asked.url.host) {
            Ok(host) => host,
            Err(error) => {
                told.reason = Some(Reason::BadHost.to_string());
                told.why.push(error.to_string());
                told.change.push("nothing in a manifest: the doors take hosts by their names alone".to_owned());
                return told;
            }
        };
        let phase = match (&self.setup, asked.setup) {
            (Some(setup), true) => setup,
            (None, true) => {
                told.why.push(format!("the bottle `{}` has no setup", self.bottle()));
                return told;
            }
            (_, false) => &self.agent,
        };
        if let Some(index) = self.passed_through(asked, &host) {
            told.verdict = Verdict::Allow;
            told.rule = Some(self.rule_of_bottle(&["pipelock", "passthrough", &index.to_string()], host.to_string()));
            told.why.push("the host's TLS is passed through, so nobody sees method and path".to_owned());
            told.change.push("take the host out of `pipelock.passthrough`: its routes then decide".to_owned());
            return told;
        }
        let headers: Vec<(&str, &[u8])> =
            asked.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let details = Details { query: &asked.url.query, headers: &headers, websocket: asked.url.websocket };
        let UrlParts { scheme, port, path, .. } = &asked.url;
        let target = Target { scheme: *scheme, host: &host, port: *port, method: &asked.method, path, details };
        match phase.matcher.decide(target) {
            Ok(index) => self.allowed(told, phase, index, target),
            Err(denied) => self.denied(told, phase, &denied, target),
        }
    }

    /// The entry of `passthrough` by which egress makes a tunnel: for TLS at its usual port alone.
    fn passed_through(&self, asked: &RequestAsked, host: &HostName) -> Option<usize> {
        let tls = asked.url.scheme == Scheme::Https && asked.url.port == Scheme::Https.port();
        self.plan.policies.routes.passes_through(host).filter(|_| tls)
    }

    fn allowed(&self, mut told: Explanation, phase: &PhaseRoutes, index: usize, target: Target<'_>) -> Explanation {
        let Some(route) = phase.routes.get(index) else {
            told.verdict = Verdict::Allow;
            let list = ["pipelock", "api_allowlist", &index.to_string()];
            told.rule = Some(self.rule_of_bottle(&list, target.host.to_string()));
            told.why.push("the bottle has no routes, so whole hosts are allowed: every method and path".to_owned());
            told.change.push("take the host out of `pipelock.api_allowlist`; routes would say which paths".to_owned());
            told.then.push(THEN.to_owned());
            return told;
        };
        told.rule = Some(self.rule_of_route(route));
        if let Some(base) = route.upstream.as_ref().filter(|base| phase.matcher.is_git_behind(base, target.path)) {
            told.reason = Some(Reason::GitUpstream.to_string());
            told.why
                .push(format!("the route sends it on to {base}, where it would be git's own traffic round the gate"));
            told.change.push("nothing in a manifest: git reaches a declared upstream through the gate".to_owned());
            return told;
        }
        if let Some(rules) = &route.forge
            && let Some(refusal) = refused_at_the_forge(rules, target)
        {
            told.reason = Some(Reason::Forge.to_string());
            told.why.push(format!("it is the route by which a forge is read, and {refusal} ({})", refusal.rule.word()));
            told.change.push("what `forge` names: `repositories`, `read`; writes are `outputs` of an agent".to_owned());
            return told;
        }
        told.verdict = Verdict::Allow;
        told.why.push("it is the first route that allows the request".to_owned());
        told.change.push(match self.without(phase, index, target) {
            Some(other) => format!("nothing alone: without that route, {} allows it", self.rule_of_route(other)),
            None => "take that route out or narrow it: no other allows the request".to_owned(),
        });
        if let Some(rules) = &route.mcp {
            told.then.push(format!("each message to the server {} is judged by its `tools`", rules.server));
        }
        if let Some(rules) = &route.forge {
            if rules.graphql_path().as_deref() == Some(target.path) {
                told.then.push("the query in its body is judged field by field, and written anew".to_owned());
            }
            told.then.push("of the answer, words of people whom `forge.trust` does not name are marked".to_owned());
        }
        told.then.push(THEN.to_owned());
        told
    }

    /// The route that would decide if this one were not there.
    fn without<'a>(&self, phase: &'a PhaseRoutes, index: usize, target: Target<'_>) -> Option<&'a Route> {
        let mut rest: Vec<&Route> = phase.routes.iter().collect();
        rest.remove(index);
        let found = self.matcher(rest.iter().map(|route| (*route).clone()).collect())?.decide(target).ok()?;
        rest.get(found).copied()
    }

    fn matcher(&self, routes: Vec<Route>) -> Option<Matcher> {
        let git_upstreams = self.plan.policies.routes.git_upstreams.clone();
        Matcher::new(&RoutesPolicy { version: 1, routes, git_upstreams, ..RoutesPolicy::default() }).ok()
    }

    fn denied(&self, mut told: Explanation, phase: &PhaseRoutes, denied: &Denied, target: Target<'_>) -> Explanation {
        told.reason = Some(denied.error.to_string());
        match denied.error {
            Reason::NoRoute => {}
            Reason::GitUpstream => {
                told.why.push(denied.message.clone());
                told.change.push("nothing in a manifest: no route is asked about a declared upstream".to_owned());
                return told;
            }
            _ => {
                told.why.push(denied.message.clone());
                told.change.push(self.for_an_odd_path(phase, target));
                return told;
            }
        }
        for route in &phase.routes {
            let lacks = self.lacks(route, target);
            if !lacks.is_empty() {
                told.why.push(format!("{} is about this host, but not about its {lacks}", self.rule_of_route(route)));
            }
        }
        if told.why.is_empty() {
            told.why.push(match phase.routes.is_empty() {
                true => format!("no rule of the bottle `{}` is about {}", self.bottle(), target.host),
                false if phase.routes.len() == 1 => format!("the only route is not about {}", target.host),
                false => format!("none of the {} routes is about {}", phase.routes.len(), target.host),
            });
        }
        let part = self.part(phase);
        if let Some(setup) = self.setup.as_ref().filter(|_| part == Part::Agent)
            && let Some(route) = setup.matcher.decide(target).ok().and_then(|index| setup.routes.get(index))
        {
            told.change
                .push(format!("none is needed while the setup runs: {} allows it then", self.rule_of_route(route)));
        }
        let route = denied.missing.as_ref().and_then(|missing| route_of(missing, target.details.websocket));
        if let Some(rule) = route.as_ref().and_then(|route| flow(route, "")) {
            told.change.push(match self.allows_hosts() {
                true => format!("add {} to bottles.{}.pipelock.api_allowlist", target.host, self.bottle()),
                false => format!("add to bottles.{}.{}.routes: - {rule}", self.bottle(), part.prefix()),
            });
            // Who asks for a route is the agent, and the setup has ended by then.
            if part == Part::Agent {
                told.change.extend(self.by_a_grant(denied.missing.as_ref(), target));
            }
        }
        told
    }

    /// What helps a path that can be read in more than one way: a route that names it, if it has no escape, which a manifest's can't have.
    fn for_an_odd_path(&self, phase: &PhaseRoutes, target: Target<'_>) -> String {
        let host = HostPattern::Exact(target.host.clone());
        let port = Some(target.port).filter(|port| *port != target.scheme.port());
        let route = Route { port, scheme: target.scheme, ..Route::plain(host, &[target.method], &[target.path]) };
        let allows = self.matcher(vec![route.clone()]).is_some_and(|matcher| matcher.decide(target).is_ok());
        match flow(&route, "").filter(|_| allows && !target.path.contains('%')) {
            Some(rule) => format!("add to bottles.{}.{}.routes: - {rule}", self.bottle(), self.part(phase).prefix()),
            None => "nothing in a manifest: the path can be asked for in its plain form".to_owned(),
        }
    }

    /// By which parts a route about the host does not allow the request; empty where it is not about the host.
    fn lacks(&self, route: &Route, target: Target<'_>) -> String {
        type Relax = fn(&mut Route, &str);
        let parts: [(&str, Relax); 4] = [
            ("method", |route, method| route.methods = vec![method.to_owned()]),
            ("path", |route, _| route.paths = vec!["/**".to_owned()]),
            ("query or headers", |route, _| (route.query, route.headers) = Default::default()),
            ("WebSocket", |route, _| (route.websocket, route.model) = (true, false)),
        ];
        let allows = |but: Option<usize>| {
            let mut route = route.clone();
            for (_, relax) in parts.iter().enumerate().filter(|(index, _)| Some(*index) != but).map(|(_, part)| part) {
                relax(&mut route, target.method);
            }
            self.matcher(vec![route]).is_some_and(|matcher| matcher.decide(target).is_ok())
        };
        let alone = self.matcher(vec![route.clone()]);
        if !alone.is_some_and(|matcher| matcher.knows(target.scheme, target.host, target.port)) {
            return String::new();
        }
        if !allows(None) {
            // Its path is one that only a glob with the same marks allows, or its method none that can be allowed.
            return "method or path".to_owned();
        }
        let lacks = parts.iter().enumerate().filter(|(index, _)| !allows(Some(*index)));
        lacks.map(|(_, (name, _))| *name).collect::<Vec<_>>().join(" and ")
    }

    /// Whose routes these are.
    fn part(&self, phase: &PhaseRoutes) -> Part {
        if std::ptr::eq(&self.agent, phase) { Part::Agent } else { Part::Setup }
    }

    /// Who would grant the missing rule to an agent that asks for it.
    fn by_a_grant(&self, missing: Option<&Missing>, target: Target<'_>) -> Option<String> {
        let missing = missing.filter(|_| !target.details.websocket)?;
        let words = RouteWords {
            host: &missing.host,
            port: missing.port,
            scheme: target.scheme,
            methods: &missing.methods,
            paths: &missing.paths,
            why: "to be explained",
            duration: None,
        };
        let request = Request::route(&words).ok()?;
        let supervise = &self.plan.policies.supervise;
        if let Some(index) = supervise.auto.iter().position(|rule| rule.grants(&request)) {
            let rule = &supervise.auto[index];
            let rule = self.rule_of_bottle(&["supervise", "auto", &index.to_string()], rule.to_string());
            return Some(format!("or the agent asks for it by request_route: {rule} grants it without a person"));
        }
        (supervise.approval != Approval::Deny)
            .then(|| "or the agent asks for it by request_route, and a person says yes".to_owned())
    }
}

/// Why the door to a forge refuses a request; of a query the method alone is judged here.
fn refused_at_the_forge(rules: &ForgeReadRules, target: Target<'_>) -> Option<ForgeRefusal> {
    let judge = ForgeReadJudge::new(rules).ok()?;
    let query = Some(target.details.query).filter(|query| !query.is_empty());
    let is_query = judge.is_graphql(target.path);
    let body: &[u8] = if is_query { br#"{"query":"{__typename}"}"# } else { b"" };
    judge.request(ForgeRequest { method: target.method, path: target.path, query, accept: None, body }).err()
}

/// What is missing for a request.
#[derive(Debug)]
pub(crate) enum Unrouted {
    /// Nothing.
    Allowed,
    /// The narrowest route that allows it.
    Route(Box<Route>),
    /// Its host, in a bottle that allows whole hosts.
    Host(HostPattern),
    /// No rule can allow it, for this reason.
    Never(String),
}

impl Explainer {
    /// Says what is missing for a request of the agent's, or of the setup where it can have ways out of its own.
    pub(crate) fn unrouted(&self, target: Target<'_>, in_setup: bool) -> Unrouted {
        let denied = match self.phase(in_setup).matcher.decide(target) {
            Ok(_) => return Unrouted::Allowed,
            Err(denied) => denied,
        };
        match denied.missing.as_ref().and_then(|missing| route_of(missing, false)) {
            Some(route) if self.allows_hosts() => Unrouted::Host(route.host),
            Some(route) => Unrouted::Route(Box::new(route)),
            None => Unrouted::Never(denied.message.clone()),
        }
    }

    /// Whether the bottle's setup can have ways out of its own: one of whole hosts has no routes at all.
    pub(crate) fn has_setup_routes(&self) -> bool {
        self.setup.is_some() && !self.allows_hosts()
    }

    /// Whether a route is about TLS to this host and port.
    pub(crate) fn knows_tls(&self, host: &HostName, port: u16, in_setup: bool) -> bool {
        self.phase(in_setup).matcher.knows(Scheme::Https, host, port)
    }

    /// The routes that are in force: the setup's where it can have some.
    fn phase(&self, in_setup: bool) -> &PhaseRoutes {
        self.setup.as_ref().filter(|_| in_setup && self.has_setup_routes()).unwrap_or(&self.agent)
    }

    /// Whether whole hosts are allowed, since the bottle has a list of them and no route.
    fn allows_hosts(&self) -> bool {
        self.plan.policies.pipelock.guest_proxy && !self.plan.policies.pipelock.api_allowlist.is_empty()
    }
}

/// The narrowest route that allows what is missing.
fn route_of(missing: &Missing, websocket: bool) -> Option<Route> {
    let scheme = if missing.scheme.is_some() { Scheme::Http } else { Scheme::Https };
    let host = HostPattern::parse(&missing.host).ok()?;
    let (methods, paths) = (missing.methods.clone(), missing.paths.clone());
    Some(Route { port: missing.port, scheme, methods, paths, websocket, ..Route::plain(host, &[], &[]) })
}
