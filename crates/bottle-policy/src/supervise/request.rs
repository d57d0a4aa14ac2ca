//! What an agent may ask, checked and normalised as the manifest is.

use bottle_types::git::RefName;
use bottle_types::host::HostPattern;
use bottle_types::rule::Rule;
use bottle_types::units::Seconds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Held, HeldPush};
use crate::gate::RepoName;
use crate::gate::exemptions::FindingExemption;
use crate::route::Scheme;

/// Why a request is not one that a person could decide on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nothing where something is needed.
    #[error("`{0}` is empty")]
    Empty(&'static str),
    /// More than a person would read.
    #[error("`{field}` is too long or has too many entries: at most {most}")]
    TooMuch {
        /// The field's name.
        field: &'static str,
        /// Characters, or entries.
        most: usize,
    },
    /// A value that the manifest would refuse as well.
    #[error("`{field}`: {reason}")]
    Bad {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// The longest reason, question or line of progress, in characters.
pub const LONGEST_TEXT: usize = 2000;
const MOST_METHODS: usize = 16;
const MOST_PATHS: usize = 32;
const LONGEST_PATH: usize = 512;
const LONGEST_REF: usize = 255;
/// The longest change of a Dockerfile, in characters.
const LONGEST_DOCKERFILE: usize = 8000;

/// What an agent asks for, normalised; named as the tool that takes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// A route more.
    RequestRoute {
        /// Where to.
        host: HostPattern,
        /// The port, where it is not the scheme's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
        /// `https` unless it says `http`.
        #[serde(default, skip_serializing_if = "Scheme::is_https")]
        scheme: Scheme,
        /// Upper case, sorted.
        methods: Vec<String>,
        /// Globs, sorted.
        paths: Vec<String>,
        /// Why the agent says it needs it.
        why: String,
        /// For how long; none: the rest of the run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration: Option<Seconds>,
    },
    /// One DLP rule that is not to be looked for in what goes to a host.
    RequestExemption {
        /// Where to.
        host: HostPattern,
        /// The rule that a refusal named, such as `github-pat`.
        #[schemars(with = "String")]
        rule: Rule,
        /// Why the agent says it needs it.
        why: String,
        /// For how long; none: the rest of the run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration: Option<Seconds>,
    },
    /// A finding of the gate's that is none: by one rule, at one path, these bytes alone.
    FindingExemption {
        /// The rule that a refusal named.
        #[schemars(with = "String")]
        rule: Rule,
        /// The path of the file.
        path: String,
        /// The SHA-256 of the bytes, in hex.
        sha256: String,
        /// Why the agent says that it is no secret.
        why: String,
        /// For how long; none: the rest of the run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration: Option<Seconds>,
    },
    /// Tools that the image does not have; for a run that resumes this one.
    RequestCapability {
        /// Lines to add to the image's Dockerfile.
        dockerfile: String,
        /// Why the agent says it needs it.
        why: String,
    },
    /// A ref more that may be pushed.
    RequestPush {
        /// Where to: the repository's name at the gate; none: the only one, or `origin`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        upstream: Option<RepoName>,
        /// Its full name, such as `refs/heads/main`.
        #[schemars(with = "String")]
        r#ref: RefName,
        /// Why the agent says it needs it.
        why: String,
        /// For how long; none: the rest of the run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration: Option<Seconds>,
    },
    /// More to spend on the model, on top of what the run has.
    RequestBudget {
        /// Tokens.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tokens: Option<u64>,
        /// Requests to the model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        requests: Option<u64>,
        /// Time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time: Option<Seconds>,
        /// US dollars.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost_usd: Option<f64>,
        /// Why the agent says it needs it.
        why: String,
    },
    /// A request that pipelock holds, because a rule found something in it. pipelock asks this, the agent can't.
    HeldRequest(Held),
    /// A push that the gate holds, because of what it brings. The gate asks this, the agent can't.
    HeldPush(HeldPush),
    /// A question for a person.
    Ask {
        /// The question.
        question: String,
    },
    /// A line that tells how far the work is.
    Progress {
        /// The line.
        line: String,
    },
}

impl Request {
    /// The tool that it came by.
    pub fn tool(&self) -> &'static str {
        match self {
            Self::RequestRoute { .. } => "request_route",
            Self::RequestExemption { .. } | Self::FindingExemption { .. } => "request_exemption",
            Self::RequestCapability { .. } => "request_capability",
            Self::RequestPush { .. } => "request_push",
            Self::RequestBudget { .. } => "request_budget",
            Self::HeldRequest(_) => "held_request",
            Self::HeldPush(_) => "held_push",
            Self::Ask { .. } => "ask",
            Self::Progress { .. } => "progress",
        }
    }

    /// Why the agent says it needs it: its own words, for people; of a question, the question; of what it has not asked
    /// for itself, nothing.
    pub fn why(&self) -> &str {
        match self {
            Self::RequestRoute { why, .. }
            | Self::RequestExemption { why, .. }
            | Self::FindingExemption { why, .. }
            | Self::RequestCapability { why, .. }
            | Self::RequestPush { why, .. }
            | Self::RequestBudget { why, .. } => why,
            Self::Ask { question } => question,
            Self::Progress { line } => line,
            Self::HeldRequest(_) | Self::HeldPush(_) => "",
        }
    }

    /// For how long it is asked; none: for the rest of the run.
    pub fn duration(&self) -> Option<Seconds> {
        match self {
            Self::RequestRoute { duration, .. }
            | Self::RequestExemption { duration, .. }
            | Self::FindingExemption { duration, .. }
            | Self::RequestPush { duration, .. } => *duration,
            _ => None,
        }
    }

    /// Whether two requests are for the same, whatever they give as their reason.
    pub fn is_like(&self, other: &Self) -> bool {
        let bare = |request: &Self| {
            let mut request = request.clone();
            if let Self::RequestRoute { why, .. }
            | Self::RequestExemption { why, .. }
            | Self::FindingExemption { why, .. }
            | Self::RequestCapability { why, .. }
            | Self::RequestPush { why, .. }
            | Self::RequestBudget { why, .. } = &mut request
            {
                why.clear();
            }
            request
        };
        bare(self) == bare(other)
    }

    /// A route; no methods means `GET` and `HEAD`, no paths means all, as in the manifest.
    pub fn route(asked: &RouteWords<'_>) -> Result<Self, RequestError> {
        let methods = list("methods", asked.methods, MOST_METHODS, 20, &["GET", "HEAD"], |method| {
            let upper = method.to_ascii_uppercase();
            let good = !method.is_empty()
                && method.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-')
                && !matches!(upper.as_str(), "CONNECT" | "TRACE");
            good.then_some(upper).ok_or_else(|| format!("`{method}` is not a method that can be allowed"))
        })?;
        let paths = list("paths", asked.paths, MOST_PATHS, LONGEST_PATH, &["/**"], |path| {
            let good = path.starts_with('/')
                && path.bytes().all(|b| b.is_ascii_graphic())
                && !path.contains(['?', '#', '\\', '%'])
                && !path.split('/').any(|part| matches!(part, "." | ".."));
            good.then(|| path.to_owned()).ok_or_else(|| {
                format!("`{path}` is not a path's glob: it begins with `/` and has no query, `..`, %-codes or spaces")
            })
        })?;
        let own = if asked.scheme.is_https() { 443 } else { 80 };
        if asked.port == Some(0) {
            return Err(RequestError::Bad { field: "port", reason: "0 is not a port".to_owned() });
        }
        Ok(Self::RequestRoute {
            host: host(asked.host)?,
            port: asked.port.filter(|port| *port != own),
            scheme: asked.scheme,
            methods,
            paths,
            why: text("why", asked.why, LONGEST_TEXT)?,
            duration: duration(asked.duration)?,
        })
    }

    /// A DLP rule that is not looked for at a host.
    pub fn exemption(at: &str, rule: &str, why: &str, time: Option<&str>) -> Result<Self, RequestError> {
        let rule = rule.trim();
        let good = !rule.is_empty() && rule.len() <= 64 && rule.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !good {
            let reason = "it is the id of a DLP rule, as the refusal names it".to_owned();
            return Err(RequestError::Bad { field: "rule", reason });
        }
        Ok(Self::RequestExemption {
            host: host(at)?,
            rule: Rule::format(rule),
            why: text("why", why, LONGEST_TEXT)?,
            duration: duration(time)?,
        })
    }

    /// A finding of the gate's that is none. Whether the gate has found it is not told by its words.
    pub fn finding(rule: &str, path: &str, sha256: &str, why: &str, time: Option<&str>) -> Result<Self, RequestError> {
        let (rule, sha256) = (rule.trim(), sha256.trim().to_owned());
        if rule.len() > 100 || path.len() > LONGEST_PATH {
            return Err(RequestError::TooMuch { field: "path", most: LONGEST_PATH });
        }
        // A backslash would mean something in a glob.
        if path.contains('\\') || path.chars().any(char::is_control) {
            let reason = "a path with such characters can't be exempted here; a person can, in the manifest".to_owned();
            return Err(RequestError::Bad { field: "path", reason });
        }
        let (why, duration) = (text("why", why, LONGEST_TEXT)?, duration(time)?);
        let request = Self::FindingExemption { rule: rule.into(), path: path.to_owned(), sha256, why, duration };
        let exemption = request.exempts().ok_or(RequestError::Empty("sha256"))?;
        exemption.check().map_err(|(field, reason)| RequestError::Bad { field, reason })?;
        Ok(request)
    }

    /// What a yes to a finding's exemption puts into the gate's policy.
    pub fn exempts(&self) -> Option<FindingExemption> {
        let Self::FindingExemption { rule, path, sha256, why, .. } = self else { return None };
        Some(FindingExemption {
            rule: rule.clone(),
            path: globset::escape(path),
            sha256: Some(sha256.clone()),
            reason: why.clone(),
        })
    }

    /// Whether a person can let it through as it is or not at all: it is about certain bytes.
    pub fn is_as_it_is(&self) -> bool {
        matches!(self, Self::HeldRequest(_) | Self::HeldPush(_) | Self::FindingExemption { .. })
    }

    /// Tools for the image.
    pub fn capability(dockerfile: &str, why: &str) -> Result<Self, RequestError> {
        let dockerfile = text("dockerfile", dockerfile, LONGEST_DOCKERFILE)?;
        super::dockerfile::check(&dockerfile).map_err(|reason| RequestError::Bad { field: "dockerfile", reason })?;
        Ok(Self::RequestCapability { dockerfile, why: text("why", why, LONGEST_TEXT)? })
    }

    /// A ref to push to.
    pub fn push(at: Option<&str>, name: &str, why: &str, time: Option<&str>) -> Result<Self, RequestError> {
        let name = name.trim();
        if name.len() > LONGEST_REF {
            return Err(RequestError::TooMuch { field: "ref", most: LONGEST_REF });
        }
        let r#ref = full_ref(name).ok_or_else(|| {
            let reason = format!("`{name}` is not the full name of a branch or tag, such as `refs/heads/fix`");
            RequestError::Bad { field: "ref", reason }
        })?;
        let upstream = match at {
            Some(at) if at.len() > LONGEST_REF => {
                return Err(RequestError::TooMuch { field: "upstream", most: LONGEST_REF });
            }
            Some(at) => Some(
                RepoName::parse(at.trim())
                    .map_err(|error| RequestError::Bad { field: "upstream", reason: error.to_string() })?,
            ),
            None => None,
        };
        let why = text("why", why, LONGEST_TEXT)?;
        Ok(Self::RequestPush { upstream, r#ref, why, duration: duration(time)? })
    }

    /// More to spend.
    pub fn budget(
        tokens: Option<u64>,
        requests: Option<u64>,
        time: Option<&str>,
        cost_usd: Option<f64>,
        why: &str,
    ) -> Result<Self, RequestError> {
        let bad = |field, reason: &str| Err(RequestError::Bad { field, reason: reason.to_owned() });
        let time = duration(time)?;
        if tokens.is_none() && requests.is_none() && time.is_none() && cost_usd.is_none() {
            return bad("tokens", "say how much more is needed: `tokens`, `requests`, `time` or `cost_usd`");
        }
        if tokens == Some(0) || requests == Some(0) {
            return bad("tokens", "nothing more is nothing to ask for");
        }
        if cost_usd.is_some_and(|dollars| !(dollars.is_finite() && dollars > 0.0 && dollars <= 1e6)) {
            return bad("cost_usd", "it is a number of dollars, above nothing and at most a million");
        }
        Ok(Self::RequestBudget { tokens, requests, time, cost_usd, why: text("why", why, LONGEST_TEXT)? })
    }

    /// A question.
    pub fn ask(question: &str) -> Result<Self, RequestError> {
        Ok(Self::Ask { question: text("question", question, LONGEST_TEXT)? })
    }

    /// A line of progress.
    pub fn progress(line: &str) -> Result<Self, RequestError> {
        let line = text("line", line, LONGEST_TEXT)?;
        Ok(Self::Progress { line: line.split_whitespace().collect::<Vec<_>>().join(" ") })
    }

    /// Whether one that was read, and not made here, is as it would have been made.
    pub fn check(&self) -> Result<(), RequestError> {
        let time = |time: &Option<Seconds>| time.map(|time| time.to_string());
        let made = match self {
            Self::RequestRoute { host, port, scheme, methods, paths, why, duration } => Self::route(&RouteWords {
                host: &host.to_string(),
                port: *port,
                scheme: *scheme,
                methods,
                paths,
                why,
                duration: time(duration).as_deref(),
            }),
            Self::RequestExemption { host, rule, why, duration } => {
                Self::exemption(&host.to_string(), &rule.to_string(), why, time(duration).as_deref())
            }
            Self::FindingExemption { rule, path, sha256, why, duration } => {
                Self::finding(&rule.to_string(), path, sha256, why, time(duration).as_deref())
            }
            Self::RequestCapability { dockerfile, why } => Self::capability(dockerfile, why),
            Self::RequestPush { upstream, r#ref, why, duration } => {
                Self::push(upstream.as_ref().map(RepoName::as_str), r#ref.as_str(), why, time(duration).as_deref())
            }
            Self::RequestBudget { tokens, requests, time: more, cost_usd, why } => {
                Self::budget(*tokens, *requests, time(more).as_deref(), *cost_usd, why)
            }
            Self::HeldRequest(held) => Held::new(held.clone()).map(Self::HeldRequest),
            Self::HeldPush(held) => HeldPush::new(held.clone()).map(Self::HeldPush),
            Self::Ask { question } => Self::ask(question),
            Self::Progress { line } => Self::progress(line),
        }?;
        if made == *self {
            Ok(())
        } else {
            Err(RequestError::Bad { field: "request", reason: "it is not in its normal form".to_owned() })
        }
    }
}

/// A route as it was asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct RouteWords<'a> {
    /// A name, or `*.name`.
    pub host: &'a str,
    /// The scheme's own where there is none.
    pub port: Option<u16>,
    /// With TLS or without.
    pub scheme: Scheme,
    /// In any case and order.
    pub methods: &'a [String],
    /// Globs in any order.
    pub paths: &'a [String],
    /// The reason.
    pub why: &'a str,
    /// Such as `30m`.
    pub duration: Option<&'a str>,
}

fn host(given: &str) -> Result<HostPattern, RequestError> {
    // The error repeats the text, which may be long.
    if given.len() > LONGEST_REF {
        return Err(RequestError::TooMuch { field: "host", most: LONGEST_REF });
    }
    HostPattern::parse(given.trim()).map_err(|error| RequestError::Bad { field: "host", reason: error.to_string() })
}

fn duration(given: Option<&str>) -> Result<Option<Seconds>, RequestError> {
    let bad = |reason| RequestError::Bad { field: "duration", reason };
    let Some(given) = given else { return Ok(None) };
    if given.len() > 20 {
        return Err(RequestError::TooMuch { field: "duration", most: 20 });
    }
    match Seconds::parse(given.trim()) {
        Ok(Seconds(0)) => Err(bad("no time is no use".to_owned())),
        // A year is more than any run lasts, and small enough to be added to any date.
        Ok(Seconds(time)) if time > 366 * 86_400 => Err(bad("it is longer than a year".to_owned())),
        Ok(time) => Ok(Some(time)),
        Err(error) => Err(bad(error.to_string())),
    }
}

/// Text for people: trimmed, not empty, not too long, without characters that would do something to a terminal.
fn text(field: &'static str, given: &str, most: usize) -> Result<String, RequestError> {
    let clean: String = given.trim().chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    match clean.chars().count() {
        0 => Err(RequestError::Empty(field)),
        count if count > most => Err(RequestError::TooMuch { field, most }),
        _ => Ok(clean),
    }
}

fn list(
    field: &'static str,
    given: &[String],
    most: usize,
    longest: usize,
    default: &[&str],
    parse: impl Fn(&str) -> Result<String, String>,
) -> Result<Vec<String>, RequestError> {
    if given.len() > most {
        return Err(RequestError::TooMuch { field, most });
    }
    if given.iter().any(|item| item.len() > longest) {
        return Err(RequestError::TooMuch { field, most: longest });
    }
    if given.is_empty() {
        return Ok(default.iter().map(|&item| item.to_owned()).collect());
    }
    let mut items: Vec<String> = given
        .iter()
        .map(|item| parse(item.trim()).map_err(|reason| RequestError::Bad { field, reason }))
        .collect::<Result<_, _>>()?;
    items.sort_unstable();
    items.dedup();
    Ok(items)
}

/// A branch or a tag, none of whose parts a command would take for an option.
fn full_ref(name: &str) -> Option<RefName> {
    let parsed = RefName::parse(name).ok()?;
    let rest = parsed.branch().or_else(|| parsed.tag())?;
    let is_plain = rest.split('/').all(|part| !part.starts_with('-'))
        && rest.chars().all(|c| !c.is_control() && !c.is_whitespace());
    is_plain.then_some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: RouteWords<'_> = RouteWords {
        host: "a.example",
        port: None,
        scheme: Scheme::Https,
        methods: &[],
        paths: &[],
        why: "x",
        duration: None,
    };

    fn strings(items: &[&str]) -> Vec<String> {
        items.iter().map(|&item| item.to_owned()).collect()
    }

    #[test]
    fn a_route_is_normalised() {
        let (methods, paths) = (strings(&["post", "GET", "Post"]), strings(&["/b/**", "/a"]));
        let words = RouteWords { methods: &methods, paths: &paths, duration: Some("30m"), ..WORDS };
        let request = Request::route(&RouteWords {
            host: "API.Example.com.",
            why: " need it\u{1b}[2J ",
            port: Some(443),
            ..words
        });
        assert_eq!(
            serde_json::to_string(&request.expect("a request")).expect("JSON"),
            r#"{"request_route":{"host":"api.example.com","methods":["GET","POST"],"paths":["/a","/b/**"],"why":"need it[2J","duration":"30m"}}"#
        );
        let Ok(Request::RequestRoute { methods, paths, duration: None, .. }) =
            Request::route(&RouteWords { host: "*.example.com", ..WORDS })
        else {
            panic!("the defaults are good");
        };
        assert_eq!((methods, paths), (strings(&["GET", "HEAD"]), strings(&["/**"])));
    }

    #[test]
    fn what_a_manifest_would_refuse_is_refused() {
        let many = vec!["GET".to_owned(); 17];
        for (host, methods, paths, why, duration) in [
            ("127.0.0.1", strings(&[]), strings(&[]), "x", None),
            ("a b", strings(&[]), strings(&[]), "x", None),
            ("*", strings(&[]), strings(&[]), "x", None),
            ("a.example", strings(&["GET /"]), strings(&[]), "x", None),
            ("a.example", many, strings(&[]), "x", None),
            ("a.example", strings(&[]), strings(&["a"]), "x", None),
            ("a.example", strings(&[]), strings(&["/a?b"]), "x", None),
            ("a.example", strings(&[]), strings(&[]), " \u{7} ", None),
            ("a.example", strings(&[]), strings(&[]), "x", Some("30")),
            ("a.example", strings(&[]), strings(&[]), "x", Some("0s")),
            ("a.example", strings(&["connect"]), strings(&[]), "x", None),
        ] {
            let (methods, paths) = (methods.as_slice(), paths.as_slice());
            let request = Request::route(&RouteWords { host, methods, paths, why, duration, ..WORDS });
            assert!(request.is_err(), "{host} {methods:?} {paths:?} {why:?} {duration:?}");
        }
        assert!(Request::ask(&"x".repeat(LONGEST_TEXT + 1)).is_err());
    }

    #[test]
    fn a_finding_is_named_by_its_rule_its_path_and_its_hash() {
        let hash = "0123456789abcdef".repeat(4);
        let made = |rule: &str, path: &str, hash: &str, why: &str| Request::finding(rule, path, hash, why, None);
        let request = made("jwt", "a[1].py", &hash, "a sample").expect("a request");
        assert!(request.check().is_ok());
        let exemption = request.exempts().expect("an exemption");
        assert_eq!((exemption.path.as_str(), exemption.sha256.as_deref()), ("a[[]1[]].py", Some(&*hash)));
        for (rule, path, hash, why) in [
            ("known-secret:TOKEN", "a", &*hash, "x"),
            ("", "a", &hash, "x"),
            ("jwt", "", &hash, "x"),
            ("jwt", "a\\*", &hash, "x"),
            ("jwt", "a\nb", &hash, "x"),
            ("jwt", "a", "abc", "x"),
            ("jwt", "a", "", "x"),
            ("jwt", "a", &hash, " "),
        ] {
            assert!(made(rule, path, hash, why).is_err(), "{rule} {path} {hash} {why}");
        }
    }

    #[test]
    fn refs_are_named_in_full() {
        assert!(Request::push(None, "refs/heads/bottle/fix-1", "x", None).is_ok());
        for name in [
            "main",
            "refs/heads/",
            "refs/heads/-x",
            "refs/heads/a..b",
            "refs/heads/a b",
            "refs/heads/a.lock",
            "refs/heads/*",
            "refs/replace/x",
            "refs/heads/a/",
            "refs/heads/.a",
            "refs/heads/a@{1}",
        ] {
            assert!(Request::push(None, name, "x", None).is_err(), "{name}");
        }
    }
}
