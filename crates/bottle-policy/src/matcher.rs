//! Which route a request takes, or which rule is missing. First match wins; no match is a refusal.
//!
//! Both doors decide with this, each for itself. A path is matched in its normal form ([`NormalPath`]), or, by rules that
//! name its encoded or doubled slashes, with those kept ([`MarkedPath`]); git smart HTTP
//! to a declared upstream is refused before any route is looked at.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use bottle_types::host::{HostName, HostPattern};
use bottle_types::path::{MarkedPath, NormalPath, PathError};
use bottle_types::reason::Reason;
use globset::{Glob, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};
use serde::Serialize;

use crate::conditions::{Conditions, Details};
use crate::route::{BaseUrl, GitUpstream, Injection, Route, RoutesPolicy, Scheme};

/// What a rule without methods allows: IANA's registry of HTTP methods, without `CONNECT`, `TRACE` and `PRI`. A name that a
/// guest could make up would be a way out that no scan looks at.
const METHODS: [&str; 37] = [
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// A routes policy that can't be obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatcherError {
    /// A format that this program does not know.
    #[error("version {0} is not known: 1 is")]
    Version(u32),
    /// One route is wrong.
    #[error("route {} ({host}): {reason}", index + 1)]
    Route {
        /// Which one, from 0, in the order of the file.
        index: usize,
        /// Its host, as it is written.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a request asks for, as far as rules look at it.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// In the clear or over TLS.
    pub scheme: Scheme,
    /// The host.
    pub host: &'a HostName,
    /// The port.
    pub port: u16,
    /// The method, as sent.
    pub method: &'a str,
    /// The path as sent, without query.
    pub path: &'a str,
    /// Query and headers.
    pub details: Details<'a>,
}

/// Why a request is refused, in the form the guest gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Denied {
    /// The reason.
    pub error: Reason,
    /// For a person or an agent: what is missing, and how to ask.
    pub message: String,
    /// The rule that would allow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
}

/// A rule that is not there, in the manifest's own keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Its host.
    pub host: String,
    /// Its port, where it is not the scheme's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `http` where it is not https.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<&'static str>,
    /// Its methods.
    pub methods: Vec<String>,
    /// Its path globs.
    pub paths: Vec<String>,
}

/// The routes, ready to be matched.
#[derive(Debug, Clone)]
pub struct Matcher {
    rules: Vec<Rule>,
    git_upstreams: Vec<GitUpstream>,
}

#[derive(Debug, Clone)]
struct Rule {
    host: HostPattern,
    port: u16,
    scheme: Scheme,
    /// None: any of [`METHODS`].
    methods: Option<Vec<String>>,
    paths: Arc<PathGlobs>,
    conditions: Conditions,
    websocket: bool,
}

impl Matcher {
    /// Prepares the routes of a policy.
    pub fn new(policy: &RoutesPolicy) -> Result<Self, MatcherError> {
        if policy.version != 1 {
            return Err(MatcherError::Version(policy.version));
        }
        // Many routes have the same paths; most of a rule's cost is its globs'.
        let mut made = HashMap::new();
        let rules = policy.routes.iter().enumerate().map(|(index, route)| {
            Rule::new(route, &mut made).map_err(|reason| MatcherError::Route {
                index,
                host: route.host.to_string(),
                reason,
            })
        });
        Ok(Self { rules: rules.collect::<Result<_, _>>()?, git_upstreams: policy.git_upstreams.clone() })
    }

    /// Rules for a bottle without routes: these hosts over https, any method and path.
    pub fn for_hosts(hosts: &[HostPattern], git_upstreams: &[GitUpstream]) -> Result<Self, MatcherError> {
        let paths = globs(&["/**".to_owned()]).map_err(|reason| MatcherError::Route {
            index: 0,
            host: "*".to_owned(),
            reason,
        })?;
        let paths = Arc::new(paths);
        let rules = hosts.iter().map(|host| Rule {
            host: host.clone(),
            port: 443,
            scheme: Scheme::Https,
            methods: None,
            paths: Arc::clone(&paths),
            conditions: Conditions::default(),
            websocket: true,
        });
        Ok(Self { rules: rules.collect(), git_upstreams: git_upstreams.to_vec() })
    }

    /// Whether some route is about this host at this port.
    pub fn knows(&self, scheme: Scheme, host: &HostName, port: u16) -> bool {
        self.rules.iter().any(|rule| rule.scheme == scheme && rule.port == port && rule.host.matches(host))
    }

    /// Whether this is git's own traffic with a declared upstream: for requests whose route sends them elsewhere.
    pub fn is_git(&self, host: &HostName, path: &str) -> bool {
        let Ok(path) = RequestPath::parse(path) else { return true };
        self.git_upstreams.iter().any(|upstream| is_git(upstream, host, &path.with_slashes()))
    }

    /// Whether a request that its route sends on to `base` would there be git's own traffic with a declared upstream.
    pub fn is_git_behind(&self, base: &BaseUrl, path: &str) -> bool {
        self.is_git(&base.host, &format!("{}{path}", base.path))
    }

    /// The index of the first route that allows the request, or what is missing.
    pub fn decide(&self, target: Target<'_>) -> Result<usize, Box<Denied>> {
        let path = RequestPath::parse(target.path).map_err(|error| bad_path(target, error, ""))?;
        let slashes = path.with_slashes();
        if let Some(upstream) = self.git_upstreams.iter().find(|upstream| is_git(upstream, target.host, &slashes)) {
            return Err(Box::new(Denied {
                error: Reason::GitUpstream,
                message: format!(
                    "git over https to {}/{} would go round the gate: this repository is fetched and pushed through \
                     git://git-gate:9418/, which git in the bottle does by itself for its https and ssh URLs",
                    upstream.host, upstream.path
                ),
                missing: None,
            }));
        }
        let found = self.rules.iter().position(|rule| rule.allows(target, &path));
        found.ok_or_else(|| match &path {
            RequestPath::Normal(path) => Box::new(no_route(target, path)),
            RequestPath::Marked(error, _) => {
                bad_path(target, *error, "; only a route that has it in its `paths`, written as here, allows it")
            }
        })
    }
}

/// The path of a request, as rules look at it.
enum RequestPath {
    /// For any rule.
    Normal(NormalPath),
    /// For rules alone that name its encoded or doubled slashes; and why it is not for others.
    Marked(PathError, MarkedPath),
}

impl RequestPath {
    fn parse(raw: &str) -> Result<Self, PathError> {
        match NormalPath::parse(raw) {
            Ok(path) => Ok(Self::Normal(path)),
            Err(error) => MarkedPath::parse(raw).map(|path| Self::Marked(error, path)).map_err(|_| error),
        }
    }

    /// As the server reads it that makes the most of it.
    fn with_slashes(&self) -> String {
        match self {
            Self::Normal(path) => path.as_str().to_owned(),
            Self::Marked(_, path) => path.with_slashes(),
        }
    }
}

/// Globs over paths.
#[derive(Debug, Clone)]
struct PathGlobs {
    normal: GlobSet,
    /// With marks, and so many; as none of a path's may be left to a wildcard, it has as many.
    marked: Vec<(GlobMatcher, usize)>,
}

impl PathGlobs {
    fn matches(&self, path: &RequestPath) -> bool {
        match path {
            RequestPath::Normal(path) => self.normal.is_match(path.as_str()),
            RequestPath::Marked(_, path) => {
                self.marked.iter().any(|(glob, marks)| *marks == path.marks() && glob.is_match(path.as_str()))
            }
        }
    }
}

fn bad_path(target: Target<'_>, error: PathError, besides: &str) -> Box<Denied> {
    let message = format!("the path of {} {} is refused: {error}{besides}", target.method, url(target));
    Box::new(Denied { error: Reason::BadPath, message, missing: None })
}

impl Rule {
    /// Prepares a route; `made` has the globs that were made before, by their paths.
    fn new<'a>(route: &'a Route, made: &mut HashMap<&'a [String], Arc<PathGlobs>>) -> Result<Self, String> {
        for method in &route.methods {
            let token = !method.is_empty() && method.bytes().all(|b| b.is_ascii_uppercase() || b"-_".contains(&b));
            if !token || matches!(method.as_str(), "CONNECT" | "TRACE") {
                return Err(format!("`{method}` is not a method that can be allowed (upper case, such as GET)"));
            }
        }
        if let Some(auth) = &route.auth {
            match auth.injection().map_err(str::to_owned)? {
                Injection::Header { name, .. } => {
                    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) || name.is_empty() {
                        return Err(format!("`{name}` is not the name of a header"));
                    }
                }
                Injection::Aws(..) if route.websocket => {
                    return Err(
                        "a WebSocket can't be signed for AWS: `auth.aws` and `websocket` don't go together".to_owned()
                    );
                }
                Injection::Aws(..) if route.scheme == Scheme::Http => {
                    return Err("a body would go to AWS over http, where anybody could change it".to_owned());
                }
                Injection::Aws(..) => {}
            }
        }
        if route.upstream.as_ref().is_some_and(|upstream| upstream.scheme == Scheme::Http) && route.auth.is_some() {
            return Err("a credential would go to `upstream` over http, readable on the way".to_owned());
        }
        let paths = match made.entry(&route.paths) {
            Entry::Occupied(made) => Arc::clone(made.get()),
            Entry::Vacant(none) => Arc::clone(none.insert(Arc::new(globs(&route.paths)?))),
        };
        Ok(Self {
            host: route.host.clone(),
            port: route.port(),
            scheme: route.scheme,
            methods: Some(route.methods.clone()),
            paths,
            conditions: Conditions::new(&route.query, &route.headers)?,
            websocket: route.websocket && !route.model,
        })
    }

    fn allows(&self, target: Target<'_>, path: &RequestPath) -> bool {
        self.scheme == target.scheme
            && self.port == target.port
            && self.host.matches(target.host)
            && match &self.methods {
                Some(methods) => methods.iter().any(|method| method == target.method),
                None => METHODS.contains(&target.method),
            }
            && self.paths.matches(path)
            && (self.websocket || !target.details.websocket)
            && self.conditions.hold(target.details)
    }
}

fn globs(paths: &[String]) -> Result<PathGlobs, String> {
    let mut set = GlobSetBuilder::new();
    let mut marked = vec![];
    for path in paths {
        if !path.starts_with('/') {
            return Err(format!("the path `{path}` does not begin with a slash"));
        }
        let compile = |text: &str| glob(text).map_err(|error| format!("the path `{path}`: {}", error.kind()));
        match MarkedPath::marks_of(path) {
            (_, 0) => drop(set.add(compile(path)?)),
            // Of two alternatives, one could leave its mark to a wildcard.
            _ if path.contains('{') => {
                return Err(format!("the path `{path}` has `//` or `%2F` in it, so it can't have `{{`"));
            }
            (text, marks) => marked.push((compile(&text)?.compile_matcher(), marks)),
        }
    }
    Ok(PathGlobs { normal: set.build().map_err(|error| error.to_string())?, marked })
}

/// The glob of a route's path.
pub(crate) fn glob(path: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(path).literal_separator(true).backslash_escape(true).build()
}

/// Whether this is a request of git's (or of git-lfs) to the repository. Forges don't tell `Team/App` from `team/app`.
fn is_git(upstream: &GitUpstream, host: &HostName, path: &str) -> bool {
    if upstream.host != *host {
        return false;
    }
    let path = path.to_lowercase();
    let repository = upstream.path.trim_matches('/').to_lowercase();
    let Some(rest) = path.strip_prefix('/').and_then(|path| path.strip_prefix(repository.as_str())) else {
        return false;
    };
    let rest = rest.strip_prefix(".git").unwrap_or(rest);
    matches!(rest.trim_end_matches('/'), "/info/refs" | "/git-upload-pack" | "/git-receive-pack" | "/info/lfs")
        || rest.starts_with("/info/lfs/")
}

fn url(target: Target<'_>) -> String {
    let (scheme, own) = match target.scheme {
        Scheme::Https => ("https", 443),
        Scheme::Http => ("http", 80),
    };
    let port = if target.port == own { String::new() } else { format!(":{}", target.port) };
    format!("{scheme}://{}{port}{}", target.host, target.path)
}

fn no_route(target: Target<'_>, path: &NormalPath) -> Denied {
    let own = if target.scheme == Scheme::Https { 443 } else { 80 };
    let missing = Missing {
        host: target.host.to_string(),
        port: (target.port != own).then_some(target.port),
        scheme: (target.scheme == Scheme::Http).then_some("http"),
        methods: vec![target.method.to_owned()],
        paths: vec![globset::escape(path.as_str())],
    };
    let mut rule = format!("- {{ host: {}, ", missing.host);
    if let Some(port) = missing.port {
        rule.push_str(&format!("port: {port}, "));
    }
    if let Some(scheme) = missing.scheme {
        rule.push_str(&format!("scheme: {scheme}, "));
    }
    let path = missing.paths[0].as_str();
    // JSON's strings are YAML's, too.
    let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
    let path = if plain { path.to_owned() } else { serde_json::Value::from(path).to_string() };
    rule.push_str(&format!("methods: [{}], paths: [{path}]", target.method));
    rule.push_str(if target.details.websocket { ", websocket: true }" } else { " }" });
    let git = if missing.paths[0].ends_with("/info/refs") {
        "; a git repository is rather declared under `git` in claude-bottle.yml, and git then reaches it through the gate"
    } else {
        ""
    };
    Denied {
        error: Reason::NoRoute,
        message: if target.details.websocket {
            // The tool asks for requests, and a yes to those is none to a way that stays open.
            format!(
                "no route allows a WebSocket to {}: have this rule added under egress.routes in claude-bottle.yml: {rule}",
                url(target)
            )
        } else {
            format!(
                "no route allows {} {}: ask for it with the supervise tool request_route, or have this rule added under \
                 egress.routes in claude-bottle.yml: {rule}{git}",
                target.method,
                url(target)
            )
        },
        missing: Some(missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = r#"
version: 1
routes:
  - { host: api.example.com, methods: [POST], paths: [/v1/messages, "/v1/*/files"], model: true }
  - { host: api.example.com, methods: [GET, POST], paths: ["/v1/**"] }
  - { host: "*.docs.example.org" }
  - { host: plain.example.org, scheme: http }
  - { host: odd.example.org, port: 8443 }
git_upstreams:
  - { host: docs.docs.example.org, path: team/app }
"#;

    fn decide(method: &str, text: &str) -> Result<usize, Box<Denied>> {
        let policy: RoutesPolicy = bottle_types::yaml::from_str(ROUTES).expect("a policy");
        let matcher = Matcher::new(&policy).expect("routes");
        let (scheme, rest) = text.split_once("://").expect("a URL");
        let scheme = if scheme == "http" { Scheme::Http } else { Scheme::Https };
        let (authority, path) = rest.split_at(rest.find('/').expect("a path"));
        let own = if scheme == Scheme::Http { 80 } else { 443 };
        let (host, port) = authority.split_once(':').map_or((authority, own), |(h, p)| (h, p.parse().expect("a port")));
        let host = HostName::parse(host).expect("a host");
        matcher.decide(Target { scheme, host: &host, port, method, path, details: Details::default() })
    }

    #[test]
    fn the_first_route_that_matches_decides() {
        for (method, url, route) in [
            ("POST", "https://api.example.com/v1/messages", 0),
            ("POST", "https://api.example.com/v1/a/files", 0),
            ("POST", "https://api.example.com/v1/a/b/files", 1),
            ("GET", "https://api.example.com/v1/messages", 1),
            ("GET", "https://a.docs.example.org/", 2),
            ("HEAD", "https://a.b.docs.example.org/x/y", 2),
            ("GET", "http://plain.example.org/", 3),
            ("GET", "https://odd.example.org:8443/", 4),
            ("GET", "https://docs.docs.example.org/team/app/info/refsx", 2),
            ("GET", "https://docs.docs.example.org/team/application/info/refs", 2),
        ] {
            assert_eq!(decide(method, url), Ok(route), "{method} {url}");
        }
    }

    /// The route of a path by these globs.
    fn by_globs(globs: &[&str], path: &str) -> Result<usize, Box<Denied>> {
        let host = HostPattern::parse("git.example").expect("a host");
        let route = Route::plain(host, &["GET"], globs);
        let upstream: GitUpstream =
            bottle_types::yaml::from_str("{ host: git.example, path: team/app }").expect("an upstream");
        let policy =
            RoutesPolicy { version: 1, routes: vec![route], git_upstreams: vec![upstream], ..RoutesPolicy::default() };
        let host = HostName::parse("git.example").expect("a host");
        let (scheme, method, details) = (Scheme::Https, "GET", Details::default());
        Matcher::new(&policy).expect("routes").decide(Target { scheme, host: &host, port: 443, method, path, details })
    }

    #[test]
    fn a_route_can_name_encoded_and_doubled_slashes() {
        for (glob, path, error) in [
            ("/api/projects/team%2Flib/**", "/api/projects/team%2Flib/files", None),
            ("/api/projects/team%2flib/**", "/api/projects/team%2Flib/files", None),
            ("/api/projects/*%2F*", "/api/projects/team%2Flib", None),
            ("/web/*/https://*/**", "/web/2020/https://x.example/a", None),
            ("//**", "//x", None),
            // A wildcard stands for no encoded or doubled slash.
            ("/**", "/api/projects/team%2Flib", Some(Reason::BadPath)),
            ("/api/*/**", "/api//x", Some(Reason::BadPath)),
            ("/api/projects/*%2F*", "/api/projects/team%2Flib%2Fx", Some(Reason::BadPath)),
            ("/api/projects/team%2Flib/**", "/api/projects/team%2Flib/a%2Fb", Some(Reason::BadPath)),
            ("/api/projects/team%2Flib/**", "/api/projects/team%2Flib//b", Some(Reason::BadPath)),
            ("/api/projects/team%2Flib/**", "/api/projects/team/lib/b", Some(Reason::NoRoute)),
            ("/api/a//b", "/api/a%2Fb", Some(Reason::BadPath)),
            ("/api/*%2F**", "/api/x%2F..%2Fy", Some(Reason::BadPath)),
            ("/api/*%2F**", "/api/x%252Fy", Some(Reason::BadPath)),
            // However git's own traffic is written.
            ("/team%2F**", "/team%2Fapp.git/info/refs", Some(Reason::GitUpstream)),
            ("//**", "//team/app.git/info/refs", Some(Reason::GitUpstream)),
            ("/team//**", "/team//app/info/lfs/objects", Some(Reason::GitUpstream)),
        ] {
            assert_eq!(by_globs(&[glob], path).err().map(|denied| denied.error), error, "{path} by {glob}");
        }
        let denied = by_globs(&["/**"], "/a%2Fb").expect_err("no such route");
        assert!(
            denied.message.ends_with("only a route that has it in its `paths`, written as here, allows it"),
            "{}",
            denied.message
        );
        assert!(globs(&["/a%2F{b,c}".to_owned()]).is_err());
    }

    #[test]
    fn what_no_route_names_is_denied() {
        for (method, url, error) in [
            ("PUT", "https://api.example.com/v1/messages", "no_route"),
            ("get", "https://api.example.com/v1/messages", "no_route"),
            ("POST", "https://api.example.com/v2/messages", "no_route"),
            ("POST", "https://api.example.com/V1/messages", "no_route"),
            ("POST", "http://api.example.com/v1/messages", "no_route"),
            ("POST", "https://api.example.com:8443/v1/messages", "no_route"),
            ("POST", "https://api.example.com/v1/../v1/messages", "bad_path"),
            ("POST", "https://api.example.com/v2/..%2fv1/messages", "bad_path"),
            ("GET", "https://docs.example.org/", "no_route"),
            ("POST", "https://a.docs.example.org/", "no_route"),
            ("GET", "https://plain.example.org/", "no_route"),
            ("GET", "https://odd.example.org/", "no_route"),
            ("GET", "https://example.com/", "no_route"),
            ("GET", "https://docs.docs.example.org/team/app/info/refs", "git_upstream"),
            ("GET", "https://docs.docs.example.org/Team/App.git/info/refs", "git_upstream"),
            ("POST", "https://docs.docs.example.org/team/app/git-upload-pack", "git_upstream"),
            ("POST", "https://docs.docs.example.org/team/app.git/git-receive-pack/", "git_upstream"),
            ("POST", "https://docs.docs.example.org/team/app.git/git%2dreceive%2dpack", "git_upstream"),
            ("POST", "https://docs.docs.example.org/team/app.git/info/lfs/objects/batch", "git_upstream"),
        ] {
            assert_eq!(decide(method, url).expect_err(url).error.as_str(), error, "{method} {url}");
        }
    }

    #[test]
    fn a_host_that_is_allowed_whole_takes_no_made_up_method() {
        let host = HostName::parse("a.example").expect("a host");
        let matcher = Matcher::for_hosts(&[HostPattern::Exact(host.clone())], &[]).expect("hosts");
        let allowed = |method: &str| {
            let details = Details::default();
            matcher.decide(Target { scheme: Scheme::Https, host: &host, port: 443, method, path: "/", details }).is_ok()
        };
        for method in ["GET", "PATCH", "PROPFIND", "VERSION-CONTROL"] {
            assert!(allowed(method), "{method}");
        }
        for method in ["CONNECT", "TRACE", "PRI", "get", "sk-test-0123456789-abcdefghij", "G-H-P", ""] {
            assert!(!allowed(method), "{method}");
        }
    }

    #[test]
    fn a_websocket_needs_a_rule_that_says_so() {
        let text =
            "version: 1\nroutes:\n  - { host: a.example, paths: [/plain] }\n  - { host: a.example, websocket: true }\n";
        let matcher = Matcher::new(&bottle_types::yaml::from_str(text).expect("a policy")).expect("routes");
        let host = HostName::parse("a.example").expect("a host");
        let details = Details { websocket: true, ..Details::default() };
        let target = Target { scheme: Scheme::Https, host: &host, port: 443, method: "GET", path: "/plain", details };
        assert_eq!(matcher.decide(target), Ok(1));
        let plain = Matcher::new(&RoutesPolicy {
            version: 1,
            routes: vec![Route::plain(HostPattern::Exact(host.clone()), &["GET"], &["/**"])],
            ..RoutesPolicy::default()
        });
        let denied = plain.expect("routes").decide(target).expect_err("no route");
        assert!(denied.message.ends_with("paths: [/plain], websocket: true }"), "{}", denied.message);
    }

    #[test]
    fn a_refusal_names_the_rule_and_the_way_to_ask() {
        let denied = decide("GET", "https://example.com/a%20[b]").expect_err("no route");
        insta::assert_snapshot!(denied.message, @r#"no route allows GET https://example.com/a%20[b]: ask for it with the supervise tool request_route, or have this rule added under egress.routes in claude-bottle.yml: - { host: example.com, methods: [GET], paths: ["/a [[]b[]]"] }"#);
        let rule = denied.message.split(": - ").nth(1).expect("a rule");
        let route: Route = bottle_types::yaml::from_str(rule).expect("a route");
        let policy = RoutesPolicy { version: 1, routes: vec![route], ..RoutesPolicy::default() };
        let host = HostName::parse("example.com").expect("a host");
        let target = Target {
            scheme: Scheme::Https,
            host: &host,
            port: 443,
            method: "GET",
            path: "/a%20[b]",
            details: Details::default(),
        };
        assert_eq!(Matcher::new(&policy).expect("routes").decide(target), Ok(0));
    }

    #[test]
    fn wrong_routes_are_refused_whole() {
        for (route, reason) in [
            ("{ host: a.example, methods: [get] }", "is not a method"),
            ("{ host: a.example, methods: [CONNECT] }", "is not a method"),
            ("{ host: a.example, paths: [v1] }", "does not begin with a slash"),
            ("{ host: a.example, paths: ['/[a'] }", "the path `/[a`"),
            ("{ host: a.example, auth: { header: x } }", "needs `auth.from`"),
            ("{ host: a.example, auth: { header: 'a b', from: T } }", "not the name of a header"),
            ("{ host: a.example, auth: { aws: { service: S3, region: a, from: T } } }", "`auth.aws.service`"),
            ("{ host: a.example, auth: { aws: { service: s3, region: 'a/b', from: T } } }", "`auth.aws.region`"),
            ("{ host: a.example, auth: { aws: { service: s3, region: a } } }", "needs `from`"),
            ("{ host: a.example, auth: { aws: { service: s3, region: a, access_key_id: T } } }", "needs `from`"),
            ("{ host: a.example, auth: { aws: { service: s3, region: a, from: T, session_token: U } } }", "not both"),
            ("{ host: a.example, auth: { bearer: T, aws: { service: s3, region: a, from: T } } }", "one of them"),
            ("{ host: a.example, websocket: true, auth: { aws: { service: s3, region: a, from: T } } }", "WebSocket"),
            ("{ host: a.example, scheme: http, auth: { aws: { service: s3, region: a, from: T } } }", "over http"),
            ("{ host: a.example, headers: { host: b } }", "no rule can be about the header `host`"),
            ("{ host: a.example, query: { a: '[b' } }", "the value `[b` of `a`"),
            ("{ host: a.example, auth: { bearer: T }, upstream: 'http://b.example' }", "over http"),
        ] {
            let policy =
                bottle_types::yaml::from_str(&format!("version: 1\nroutes:\n  - {route}\n")).expect("a policy");
            let error = Matcher::new(&policy).expect_err(route).to_string();
            assert!(error.starts_with("route 1 (a.example): ") && error.contains(reason), "{error}");
        }
    }
}
