//! `supervise.yaml`: who decides what the agent asks for; and what it may ask, checked and normalised as the manifest is.
//!
//! What becomes of it is in [`crate::proposal`].

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::HostPattern;
use crate::units::Seconds;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SupervisePolicy {
    /// Format version, 1.
    pub version: u32,
    /// The run's slug: a proposal of another run means nothing here.
    pub run: String,
    /// Who decides.
    #[serde(default)]
    pub approval: Approval,
    /// How long a proposal waits.
    #[serde(default = "SupervisePolicy::default_timeout")]
    pub timeout: Seconds,
}

impl SupervisePolicy {
    /// Fifteen minutes.
    pub fn default_timeout() -> Seconds {
        Seconds(900)
    }
}

/// Who decides on a proposal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// A person with write permission, by a comment on the issue or pull request.
    Comment,
    /// The person at this machine, by `bottle-runner proposals`.
    Local,
    /// Nobody: everything is refused and collected for the report.
    #[default]
    Deny,
}

impl fmt::Display for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Comment => "comment",
            Self::Local => "local",
            Self::Deny => "deny",
        })
    }
}

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

/// What an agent asks for, normalised; named as the tool that takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// A route more.
    RequestRoute {
        /// Where to.
        host: HostPattern,
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
    /// A ref more that may be pushed.
    RequestPush {
        /// Its full name, such as `refs/heads/main`.
        r#ref: String,
        /// Why the agent says it needs it.
        why: String,
    },
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
            Self::RequestPush { .. } => "request_push",
            Self::Ask { .. } => "ask",
            Self::Progress { .. } => "progress",
        }
    }

    /// A route; no methods means `GET` and `HEAD`, no paths means all, as in the manifest.
    pub fn route(
        host: &str,
        methods: &[String],
        paths: &[String],
        why: &str,
        duration: Option<&str>,
    ) -> Result<Self, RequestError> {
        let bad = |field| move |reason: String| RequestError::Bad { field, reason };
        // The error repeats the text, which may be long.
        if host.len() > LONGEST_REF {
            return Err(RequestError::TooMuch { field: "host", most: LONGEST_REF });
        }
        let host = HostPattern::parse(host.trim()).map_err(|error| bad("host")(error.to_string()))?;
        let duration = match duration {
            Some(text) if text.len() > 20 => return Err(RequestError::TooMuch { field: "duration", most: 20 }),
            Some(text) => Some(Seconds::parse(text.trim()).map_err(|error| bad("duration")(error.to_string()))?),
            None => None,
        };
        let methods = list("methods", methods, MOST_METHODS, 20, &["GET", "HEAD"], |method| {
            let good = !method.is_empty() && method.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-');
            good.then(|| method.to_ascii_uppercase()).ok_or_else(|| format!("`{method}` is not a method"))
        })?;
        let paths = list("paths", paths, MOST_PATHS, LONGEST_PATH, &["/**"], |path| {
            let good =
                path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()) && !path.contains(['?', '#']);
            good.then(|| path.to_owned())
                .ok_or_else(|| format!("`{path}` is not a path: it begins with `/` and has no `?`, `#` or spaces"))
        })?;
        Ok(Self::RequestRoute { host, methods, paths, why: text("why", why)?, duration })
    }

    /// A ref to push to.
    pub fn push(name: &str, why: &str) -> Result<Self, RequestError> {
        let name = name.trim();
        if name.len() > LONGEST_REF {
            return Err(RequestError::TooMuch { field: "ref", most: LONGEST_REF });
        }
        if !is_full_ref(name) {
            let reason = format!("`{name}` is not the full name of a branch or tag, such as `refs/heads/fix`");
            return Err(RequestError::Bad { field: "ref", reason });
        }
        Ok(Self::RequestPush { r#ref: name.to_owned(), why: text("why", why)? })
    }

    /// A question.
    pub fn ask(question: &str) -> Result<Self, RequestError> {
        Ok(Self::Ask { question: text("question", question)? })
    }

    /// A line of progress.
    pub fn progress(line: &str) -> Result<Self, RequestError> {
        let line = text("line", line)?;
        Ok(Self::Progress { line: line.split_whitespace().collect::<Vec<_>>().join(" ") })
    }
}

/// Text for people: trimmed, not empty, not too long, without characters that would do something to a terminal.
fn text(field: &'static str, given: &str) -> Result<String, RequestError> {
    let clean: String = given.trim().chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    match clean.chars().count() {
        0 => Err(RequestError::Empty(field)),
        count if count > LONGEST_TEXT => Err(RequestError::TooMuch { field, most: LONGEST_TEXT }),
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

/// The rules of `git check-ref-format`, for branches and tags.
fn is_full_ref(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/tags/")) else { return false };
    let parts_are_good =
        rest.split('/').all(|part| !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with(".lock"));
    parts_are_good
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && name.chars().all(|c| !c.is_control() && !c.is_whitespace() && !"~^:?*[\\".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(items: &[&str]) -> Vec<String> {
        items.iter().map(|&item| item.to_owned()).collect()
    }

    #[test]
    fn a_route_is_normalised() {
        let (methods, paths) = (strings(&["post", "GET", "Post"]), strings(&["/b/**", "/a"]));
        let request = Request::route("API.Example.com.", &methods, &paths, " need it\u{1b}[2J ", Some("30m"));
        assert_eq!(
            serde_json::to_string(&request.expect("a request")).expect("JSON"),
            r#"{"request_route":{"host":"api.example.com","methods":["GET","POST"],"paths":["/a","/b/**"],"why":"need it[2J","duration":"30m"}}"#
        );
        let Ok(Request::RequestRoute { methods, paths, duration: None, .. }) =
            Request::route("*.example.com", &[], &[], "x", None)
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
        ] {
            let request = Request::route(host, &methods, &paths, why, duration);
            assert!(request.is_err(), "{host} {methods:?} {paths:?} {why:?} {duration:?}");
        }
        assert!(Request::ask(&"x".repeat(LONGEST_TEXT + 1)).is_err());
    }

    #[test]
    fn refs_are_named_in_full() {
        assert!(Request::push("refs/heads/bottle/fix-1", "x").is_ok());
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
            assert!(Request::push(name, "x").is_err(), "{name}");
        }
    }
}
